//! Columns for people: aligned, and coloured where a terminal shows colours.

use std::io::IsTerminal;

/// A terminal's colours, as console_codes(4) numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// As everything else.
    Plain = 0,
    /// A heading.
    Bold = 1,
    /// What can be passed by.
    Dim = 2,
    /// What has gone wrong, or nearly.
    Red = 31,
    /// What matters.
    Green = 32,
    /// A name.
    Cyan = 36,
}

/// One cell: its text, and its colour.
#[derive(Clone, Debug)]
pub struct Cell(pub String, pub Colour);

impl Cell {
    /// A cell.
    pub fn new(text: impl ToString, colour: Colour) -> Cell {
        Cell(text.to_string(), colour)
    }
}

/// Whether colours may be used on a stream: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The rows as lines, two spaces between the columns. A row of one cell is a line by itself, however long it is.
pub fn align(rows: &[Vec<Cell>], coloured: bool) -> String {
    let length = |cell: &Cell| cell.0.chars().count();
    let mut widths: Vec<usize> = Vec::new();
    for row in rows.iter().filter(|row| row.len() > 1) {
        widths.resize(widths.len().max(row.len()), 0);
        for (cell, width) in row.iter().zip(&mut widths) {
            *width = (*width).max(length(cell));
        }
    }
    let mut text = String::new();
    for row in rows {
        // Spaces are owed until something comes after them: no line ends in one.
        let mut owed = 0;
        for (column, cell) in row.iter().enumerate() {
            if !cell.0.is_empty() {
                text.extend(std::iter::repeat_n(' ', std::mem::take(&mut owed)));
                text += &paint(cell, coloured);
            }
            owed += widths.get(column).map_or(0, |width| width + 2).saturating_sub(length(cell));
        }
        text.push('\n');
    }
    text
}

fn paint(Cell(text, colour): &Cell, coloured: bool) -> String {
    match coloured && *colour != Colour::Plain {
        true => format!("\x1b[{}m{text}\x1b[0m", *colour as u8),
        false => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<Cell> {
        cells.iter().map(|text| Cell::new(text, Colour::Cyan)).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_and_no_line_ends_in_a_space() {
        let rows =
            [row(&["A", "B", "C"]), row(&["a line by itself, longer than all"]), row(&["aaa", "", "c"])];
        assert_eq!(align(&rows, false), "A    B  C\na line by itself, longer than all\naaa     c\n");
        assert_eq!(align(&[row(&["µs", "", ""])], false), "µs\n");
    }

    #[test]
    fn colours_add_no_width() {
        let shown = align(&[row(&["a", "b"]), row(&["aa", ""])], true);
        assert_eq!(shown, "\x1b[36ma\x1b[0m   \x1b[36mb\x1b[0m\n\x1b[36maa\x1b[0m\n");
        assert_eq!(align(&[vec![Cell::new("a", Colour::Plain)]], true), "a\n");
    }
}
