//! A plot of points as SVG. Places are pixels, counted from the upper left corner.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use quipu_formats::output::{Inputs, OutputFile};

/// A point and what is written beside it.
pub struct Point {
    pub x: f64,
    /// More than 0.
    pub y: f64,
    pub label: String,
}

const SIZE: (i32, i32) = (900, 600);
/// What lies between the axes; on the left and below is room for numbers and names, above for the title.
const COLUMNS: Range<i32> = 90..884;
const LINES: Range<i32> = 46..536;
const RADIUS: i32 = 4;

/// An SVG of `points`, y on a logarithmic scale.
pub fn svg(points: &[Point], title: &str, x_label: &str, y_label: &str) -> String {
    let (axes, mut svg) = (Axes::around(points), Svg::new());
    let middle = ((COLUMNS.start + COLUMNS.end) / 2, (LINES.start + LINES.end) / 2);
    svg.text((middle.0, 24), "middle", "font-size='20'", title);
    svg.text((middle.0, SIZE.1 - 14), "middle", "", x_label);
    svg.text((20, middle.1), "middle", &format!("transform='rotate(-90 20 {})'", middle.1), y_label);
    for (value, number) in axes.columns() {
        let x = axes.column(value);
        svg.line((x, LINES.start), (x, LINES.end), "#ddd");
        svg.text((x, LINES.end + 18), "middle", "", &number);
    }
    for (power, number) in axes.lines() {
        for digit in 1..10 {
            let y = axes.line(power + f64::from(digit).log10());
            if LINES.contains(&y) {
                svg.line((COLUMNS.start, y), (COLUMNS.end, y), if digit == 1 { "#ccc" } else { "#eee" });
            }
        }
        svg.text((COLUMNS.start - 8, axes.line(power)), "end", "", &number);
    }
    svg.line((COLUMNS.start, LINES.start), (COLUMNS.start, LINES.end), "black");
    svg.line((COLUMNS.start, LINES.end), (COLUMNS.end, LINES.end), "black");
    let at: Vec<(i32, i32)> = points.iter().map(|p| (axes.column(p.x), axes.line(p.y.log10()))).collect();
    let labels: Vec<&str> = points.iter().map(|p| p.label.as_str()).collect();
    for ((&at, label), text) in at.iter().zip(place(&at, &labels, (COLUMNS, LINES))).zip(labels) {
        svg.circle(at, RADIUS);
        let (end, anchor) = if label.left > at.0 { (label.left, "start") } else { (label.right, "end") };
        let end = (end, label.middle());
        if (end.1 - at.1).abs() > Area::HEIGHT {
            svg.line(at, end, "#999");
        }
        svg.text(end, anchor, "", text);
    }
    svg.end()
}

/// Which values stand between the axes.
struct Axes {
    x: Range<f64>,
    /// Powers of ten.
    y: Range<f64>,
}

impl Axes {
    /// With all of `points` between them, room on the right for labels, and y from one whole power of ten to another,
    /// so that it can be read.
    fn around(points: &[Point]) -> Axes {
        let range = |value: fn(&Point) -> f64| {
            let values = points.iter().map(value);
            values.fold((f64::INFINITY, 0.0_f64), |(least, most), v| (least.min(v), most.max(v)))
        };
        let (x, y) = (range(|p| p.x), range(|p| p.y));
        let margin = 0.1 * (x.1 - x.0).max(0.2 * x.1);
        let bottom = y.0.log10().floor();
        Axes { x: x.0 - margin..x.1 + 2.0 * margin, y: bottom..(1.01 * y.1).log10().ceil().max(bottom + 1.0) }
    }

    fn column(&self, x: f64) -> i32 {
        let share = (x - self.x.start) / (self.x.end - self.x.start);
        COLUMNS.start + (share * f64::from(COLUMNS.end - COLUMNS.start)).round() as i32
    }

    fn line(&self, power: f64) -> i32 {
        let share = (power - self.y.start) / (self.y.end - self.y.start);
        LINES.end - (share * f64::from(LINES.end - LINES.start)).round() as i32
    }

    /// Round values of x, and how they are written: 1, 2 or 5 times a power of ten apart, at most nine of them.
    fn columns(&self) -> Vec<(f64, String)> {
        let least = (self.x.end - self.x.start) / 8.0;
        let power = least.log10().floor();
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * 10f64.powf(power)).into_iter().find(|&step| step >= least);
        let (step, decimals) = (step.unwrap_or(least), (-power).max(0.0) as usize);
        let (first, last) = ((self.x.start / step).ceil() as i64, (self.x.end / step).floor() as i64);
        (first..=last).map(|i| i as f64 * step).map(|x| (x, format!("{x:.decimals$}"))).collect()
    }

    /// Whole powers of ten of y, and how these are written.
    fn lines(&self) -> Vec<(f64, String)> {
        let power = |power: i32| match power {
            0.. => (power.into(), format!("1{:0<1$}", "", power as usize)),
            _ => (power.into(), format!("0.{:0<1$}1", "", -power as usize - 1)),
        };
        (self.y.start as i32..=self.y.end as i32).map(power).collect()
    }
}

/// A drawing as text.
struct Svg(String);

impl Svg {
    fn new() -> Svg {
        let (width, height) = SIZE;
        Svg(format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' \
             font-family='sans-serif' font-size='16'>\n<rect width='100%' height='100%' fill='white'/>\n"
        ))
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("a string takes what it is given");
    }

    fn line(&mut self, from: (i32, i32), to: (i32, i32), colour: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!("<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{colour}'/>"));
    }

    fn circle(&mut self, (x, y): (i32, i32), radius: i32) {
        self.add(format_args!("<circle cx='{x}' cy='{y}' r='{radius}' fill='blue'/>"));
    }

    /// Words whose start, middle or end is at `(x, y)`, at half of their height.
    fn text(&mut self, (x, y): (i32, i32), anchor: &str, more: &str, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        // XML has no way to write other control characters.
        let words = words.replace(|c: char| c.is_control(), "\u{fffd}");
        self.add(format_args!("<text x='{x}' y='{y}' dy='0.35em' text-anchor='{anchor}' {more}>{words}</text>"));
    }

    fn end(self) -> String {
        self.0 + "</svg>\n"
    }
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
        let text = svg(&[point(1.0, 0.5, "a<b.gguf"), point(3.0, 0.002, "c.gguf")], "KL", "MB", "nats");
        assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"), "{text}");
        assert_eq!(text.matches("<circle ").count(), 2);
        assert!(text.contains(">0.001</text>") && text.contains(">1</text>"), "the axis has its ends: {text}");
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
            let text = svg(&[Point { x, y, label: "a".into() }], "", "", "");
            assert_eq!(text.matches("<circle ").count(), 1, "{text}");
        }
    }
}
