//! A measurement as a picture: bars, drawn as SVG in the page, in the colours of its theme.

use crate::data::{Data, plain};
use std::fmt::Write;

/// The width of the picture, and of the longest bar. A phone shows it nearly as wide.
const WIDTH: f64 = 380.0;
const BAR: f64 = 290.0;
const STEP: f64 = 44.0;

/// Bars side by side: above each its name, behind it its number. What is ours has the first colour.
pub(crate) fn bars(data: &Data) -> String {
    let longest = data.rows.iter().map(|row| row.value).fold(f64::MIN_POSITIVE, f64::max);
    let height = STEP * data.rows.len() as f64 + 4.0;
    let said: Vec<String> =
        data.rows.iter().map(|row| format!("{} {} {}", row.name, plain(row.value), data.unit)).collect();
    let label = escape(&format!("{}: {}", data.title, said.join("; ")));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\" xmlns=\"http://www.w3.org/2000/svg\">\n"
    );
    for (at, row) in data.rows.iter().enumerate() {
        let y = at as f64 * STEP;
        let width = (row.value / longest * BAR).max(1.5);
        let colour = if row.name.starts_with("teu") || at == 0 { "sea" } else { "box" };
        let (name, number) = (escape(&row.name), plain(row.value));
        let _ = writeln!(
            svg,
            "<text class=\"small\" x=\"2\" y=\"{:.0}\">{name}</text>\n\
             <rect class=\"{colour}\" x=\"2\" y=\"{:.0}\" width=\"{width:.1}\" height=\"16\"/>\n\
             <text class=\"small strong\" x=\"{:.1}\" y=\"{:.0}\">{number} {}</text>",
            y + 14.0,
            y + 20.0,
            width + 8.0,
            y + 33.0,
            escape(&data.unit)
        );
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
