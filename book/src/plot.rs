//! A measurement as a picture: bars with whiskers, drawn as SVG in the page, in the colours of its theme.

use crate::data::Data;
use std::fmt::Write;

/// The width of the picture, which is about that of a phone's page: there the text is as large as it is written.
const WIDTH: f64 = 340.0;
/// From one bar to the next, and what a heading takes.
const STEP: f64 = 38.0;
const HEADING: f64 = 26.0;

/// Bars below each other: over each its name and its number, on each the middle half of its rounds. What is ours
/// has the first colour.
pub(crate) fn bars(data: &Data) -> String {
    let end = |row: &crate::data::Row| row.quartiles.map_or(row.value, |[_, high]| high);
    let longest = data.rows.iter().map(end).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| 2.0 + value / longest * (WIDTH - 4.0);
    let (mut drawn, mut said, mut y, mut group) = (String::new(), Vec::new(), 0.0, "");
    for row in &data.rows {
        if row.group != group {
            group = &row.group;
            y += HEADING;
            let _ = writeln!(
                drawn,
                "<text class=\"group\" x=\"2\" y=\"{:.0}\">{}</text>",
                y - 6.0,
                escape(group)
            );
        }
        let (name, number) = (escape(&row.name), data.shown(row.value));
        let heading = if group.is_empty() { String::new() } else { format!("{group}, ") };
        said.push(format!("{heading}{}: {number}", row.name));
        let width = (x(row.value) - 2.0).max(1.5);
        let colour = if row.ours { "sea" } else { "box" };
        let _ = writeln!(
            drawn,
            "<text x=\"2\" y=\"{base:.0}\">{name}</text>\n\
             <text class=\"number\" x=\"{right:.0}\" y=\"{base:.0}\">{number}</text>\n\
             <rect class=\"{colour}\" x=\"2\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"12\"/>",
            base = y + 14.0,
            right = WIDTH - 2.0,
            top = y + 20.0,
        );
        if let Some([low, high]) = row.quartiles {
            let (low, high, top, middle, bottom) = (x(low), x(high), y + 22.0, y + 26.0, y + 30.0);
            let _ = writeln!(
                drawn,
                "<path class=\"line\" d=\"M{low:.1} {middle}H{high:.1}M{low:.1} {top}V{bottom}M{high:.1} {top}V{bottom}\"/>"
            );
        }
        y += STEP;
    }
    let label = escape(&format!("{}. {}", data.title, said.join("; ")));
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {y}\" role=\"img\" aria-label=\"{label}\" xmlns=\"http://www.w3.org/2000/svg\">\n{drawn}</svg>\n"
    )
}

/// What stands below: what the bars are, and where the numbers come from.
pub(crate) fn origin(data: &Data, name: &str) -> String {
    let Data { date, machine, with, rounds, .. } = data;
    let rounds = rounds.map_or(String::new(), |rounds| {
        format!("The bar is the median of {rounds} rounds, the whisker their middle half. ")
    });
    let with = if with.is_empty() { String::new() } else { format!(", with {}", with.join(", ")) };
    format!("{rounds}Measured on {date}, {machine}{with}: <code>cargo book measure {name}</code>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Row;

    #[test]
    fn the_longest_whisker_ends_at_the_edge_and_who_cannot_see_hears_the_numbers() {
        let row = |key: &str, value, quartiles| Row {
            key: key.into(),
            name: format!("{key} & co"),
            group: "all".into(),
            ours: key == "teu",
            value,
            quartiles: Some(quartiles),
        };
        let data = Data {
            title: "A race".into(),
            unit: "ms".into(),
            date: "2026-01-01".into(),
            machine: "1 × a processor, Linux 6".into(),
            with: vec!["other 1.2".into()],
            rounds: Some(5),
            rows: vec![row("teu", 50.0, [40.0, 60.0]), row("other", 1900.0, [1800.0, 2000.0])],
        };
        let svg = bars(&data);
        assert!(svg.contains("H338.0M"), "{svg}");
        assert!(
            svg.contains("aria-label=\"A race. all, teu &amp; co: 50 ms; all, other &amp; co: 1.9 s\""),
            "{svg}"
        );
        assert_eq!((svg.matches("class=\"sea\"").count(), svg.matches("class=\"group\"").count()), (1, 1));
        assert!(!svg.contains("\n\n"), "an empty line would end the HTML for the Markdown parser");
        assert!(
            origin(&data, "race").contains("5 rounds") && origin(&data, "race").contains("with other 1.2:")
        );
    }
}
