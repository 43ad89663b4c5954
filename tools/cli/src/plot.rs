//! A plot of points as SVG.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use quipu_formats::gguf::OutputFile;

/// A point and what is written beside it.
pub struct Point {
    pub x: f64,
    /// More than 0.
    pub y: f64,
    pub label: String,
}

const SIZE: (u32, u32) = (900, 600);

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
    // Room on the right for the last label; below and above a whole power of ten, between which the axis can be read.
    let margin = 0.1 * (x.1 - x.0).max(0.2 * x.1);
    let (bottom, top) = (10f64.powf(y.0.log10().floor()), 10f64.powf((1.01 * y.1).log10().ceil()));
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d((x.0 - margin)..(x.1 + 2.0 * margin), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .label_style(("sans-serif", 16))
        .x_desc(x_label)
        .y_desc(y_label)
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    chart.draw_series(points.iter().map(|p| {
        EmptyElement::at((p.x, p.y))
            + Circle::new((0, 0), 4, BLUE.filled())
            + Text::new(p.label.clone(), (8, -8), ("sans-serif", 16))
    }))?;
    root.present()?;
    Ok(())
}

/// Writes `text` to `path`, where it appears when it is complete.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = OutputFile::create(path)?;
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
        assert!(text.contains("a&lt;b.gguf") && text.contains("c.gguf"), "{text}");
    }

    #[test]
    fn one_point_is_a_plot_too() {
        for (x, y) in [(1e4, 1.0), (0.001, 1e-9), (5.0, 123.0)] {
            let text = svg(&[Point { x, y, label: "a".into() }], "", "", "").unwrap();
            assert_eq!(text.matches("<circle ").count(), 1, "{text}");
        }
    }
}
