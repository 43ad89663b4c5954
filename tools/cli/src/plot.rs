//! A plot of points as SVG.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use quipu_formats::output::{Inputs, OutputFile};

/// A point and what is written beside it.
pub struct Point {
    pub x: f64,
    /// More than 0.
    pub y: f64,
    pub label: String,
}

const SIZE: (u32, u32) = (900, 600);
const FONT: (&str, i32) = ("sans-serif", 16);
const RADIUS: i32 = 4;

/// An SVG of `points`, y on a logarithmic scale.
pub fn svg(points: &[Point], title: &str, x_label: &str, y_label: &str) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, points, title, x_label, y_label).map_err(|e| anyhow!("cannot draw the plot: {e}"))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    points: &[Point],
    title: &str,
    x_label: &str,
    y_label: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let range = |value: fn(&Point) -> f64| {
        let values = points.iter().map(value);
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), v| (least.min(v), most.max(v)))
    };
    let (x, y) = (range(|p| p.x), range(|p| p.y));
    // Room on the right for labels. The y axis goes from one whole power of ten to another, so that it can be read; it
    // begins a little below the first, which would have no label otherwise.
    let margin = 0.1 * (x.1 - x.0).max(0.2 * x.1);
    let (bottom, top) = (0.999 * 10f64.powf(y.0.log10().floor()), 10f64.powf((1.01 * y.1).log10().ceil()));
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d((x.0 - margin)..(x.1 + 2.0 * margin), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .label_style(FONT)
        .x_desc(x_label)
        .y_desc(y_label)
        // Thousandths hide what is left of the steps' binary fractions.
        .x_label_formatter(&|x| format!("{}", (x * 1e3).round() / 1e3))
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    let at: Vec<(i32, i32)> = points.iter().map(|p| chart.backend_coord(&(p.x, p.y))).collect();
    let labels: Vec<&str> = points.iter().map(|p| p.label.as_str()).collect();
    for ((&at, label), text) in at.iter().zip(place(&at, &labels, chart.plotting_area().get_pixel_range())).zip(labels)
    {
        root.draw(&Circle::new(at, RADIUS, BLUE.filled()))?;
        let (end, side) = if label.left > at.0 { (label.left, HPos::Left) } else { (label.right, HPos::Right) };
        let end = (end, label.middle());
        if (end.1 - at.1).abs() > Area::HEIGHT {
            root.draw(&PathElement::new([at, end], BLACK.mix(0.4)))?;
        }
        let style = FONT.into_text_style(&root).pos(Pos::new(side, VPos::Center));
        root.draw(&Text::new(text, end, style))?;
    }
    root.present()?;
    Ok(())
}

/// The room that a label takes, in pixels.
#[derive(Clone, Copy, Debug)]
struct Area {
    left: i32,
    top: i32,
    right: i32,
}

impl Area {
    const HEIGHT: i32 = 16;

    fn overlaps(&self, other: &Area) -> bool {
        self.left < other.right && other.left < self.right && (self.top - other.top).abs() < Area::HEIGHT
    }

    fn middle(&self) -> i32 {
        self.top + Area::HEIGHT / 2
    }
}

/// Room for the label of each point between these pixels: beside it, on the right or on the left, where it covers no
/// point and no other label; a few lines higher or lower if need be.
fn place(points: &[(i32, i32)], labels: &[&str], (columns, lines): (Range<i32>, Range<i32>)) -> Vec<Area> {
    /// What a character takes on average in a wide font, in tenths of a pixel.
    const WIDTH: i32 = 75;
    const GAP: i32 = 2 * RADIUS;
    let marks = points.iter().map(|&(x, y)| Area { left: x - RADIUS, top: y - Area::HEIGHT / 2, right: x + RADIUS });
    let mut taken: Vec<Area> = marks.collect();
    let mut areas = Vec::new();
    for (&(x, y), label) in points.iter().zip(labels) {
        let width = label.chars().count() as i32 * WIDTH / 10;
        let shifts = (0..40).map(|i| (i + 1) / 2 * if i % 2 == 0 { 1 } else { -1 });
        let candidates = shifts.flat_map(|shift| {
            let top = y - Area::HEIGHT / 2 + shift * Area::HEIGHT;
            [x + GAP, x - GAP - width].map(|left| Area { left, top, right: left + width })
        });
        let inside = |a: &Area| columns.start <= a.left && a.right <= columns.end && lines.contains(&a.middle());
        let fits = |a: &Area| inside(a) && !taken.iter().any(|other| a.overlaps(other));
        // Where there are too many, or a name is too long, they have to cover each other.
        let area = candidates.clone().find(fits).or_else(|| candidates.clone().next());
        taken.extend(area);
        areas.extend(area);
    }
    areas
}

/// Writes `text` to `path`, where it appears when it is complete, and which is none of `inputs`.
pub fn write(path: &Path, inputs: &Inputs, text: &str) -> Result<()> {
    let mut file = OutputFile::create(path, inputs)?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())?;
    Ok(file.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_there_with_its_label() {
        let point = |x, y, label: &str| Point { x, y, label: label.into() };
        let text = svg(&[point(1.0, 0.5, "a<b.gguf"), point(3.0, 0.002, "c.gguf")], "KL", "MB", "nats").unwrap();
        assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"), "{text}");
        assert_eq!(text.matches("<circle ").count(), 2);
        assert!(text.contains("\n0.001\n") && text.contains("\n1\n"), "the axis has its ends: {text}");
        assert!(text.contains("a&lt;b.gguf") && text.contains("c.gguf"), "{text}");
    }

    #[test]
    fn labels_cover_nothing() {
        // Twelve files of the same size and divergence, one near them, and one at the right edge with a long name.
        let mut points = vec![(400, 300); 12];
        points.extend([(420, 310), (870, 20)]);
        let labels: Vec<String> = (0..points.len()).map(|i| format!("Llama-3.2-1B-Instruct-{i}-Q4_K_M.gguf")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let areas = place(&points, &labels, (80..900, 10..500));
        for (i, area) in areas.iter().enumerate() {
            assert!(area.left >= 80 && area.right <= 900 && area.top >= 0 && area.top < 500, "{i}: {area:?}");
            assert!(areas[..i].iter().all(|other| !area.overlaps(other)), "{i}: {area:?}");
            let covers =
                |&(x, y): &(i32, i32)| (area.left..area.right).contains(&x) && (area.top..area.top + 16).contains(&y);
            assert!(!points.iter().any(covers), "{i}: {area:?}");
        }
        // A name that fits nowhere stands somewhere.
        assert_eq!(place(&points[..1], &[&"x".repeat(1000)], (80..900, 10..500)).len(), 1);
    }

    #[test]
    fn one_point_is_a_plot_too() {
        for (x, y) in [(1e4, 1.0), (0.001, 1e-9), (5.0, 123.0)] {
            let text = svg(&[Point { x, y, label: "a".into() }], "", "", "").unwrap();
            assert_eq!(text.matches("<circle ").count(), 1, "{text}");
        }
    }
}
