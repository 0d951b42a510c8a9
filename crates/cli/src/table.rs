//! A table on a terminal or in a pipe: aligned columns, colour where somebody looks.
//! Not for: deciding what stands in it. Colour is never the only carrier of a fact.

use std::io::{self, Write};

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// How a cell is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Not at all.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }

    /// Returns a text in this colour.
    pub(crate) fn paint(self, text: &str, colours: bool) -> String {
        if colours && self != Self::Plain { format!("{}{text}{RESET}", self.code()) } else { text.to_owned() }
    }
}

const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";
const GAP: &str = "  ";

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    ink: Ink,
}

impl Cell {
    /// Returns a cell in a colour.
    pub(crate) fn inked(text: impl Into<String>, ink: Ink) -> Self {
        Self { text: text.into(), ink }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::inked(text, Ink::Plain)
    }
}

/// Writes a table with its header.
pub(crate) fn write<const N: usize>(
    out: &mut dyn Write,
    columns: [(&str, Align); N],
    rows: &[[Cell; N]],
    colours: bool,
) -> io::Result<()> {
    let width = |index: usize| {
        let texts = rows.iter().map(|row| row[index].text.chars().count());
        texts.max().unwrap_or(0).max(columns[index].0.chars().count())
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let aligns = columns.map(|(_, align)| align);
    let header = columns.map(|(name, _)| (name, BOLD));
    line(out, &header, &widths, &aligns, colours)?;
    for row in rows {
        let cells: [(&str, &str); N] =
            std::array::from_fn(|index| (&*row[index].text, row[index].ink.code()));
        line(out, &cells, &widths, &aligns, colours)?;
    }
    Ok(())
}

fn line(
    out: &mut dyn Write,
    cells: &[(&str, &str)],
    widths: &[usize],
    aligns: &[Align],
    colours: bool,
) -> io::Result<()> {
    for (index, ((text, code), (&width, &align))) in cells.iter().zip(widths.iter().zip(aligns)).enumerate() {
        let padding = width.saturating_sub(text.chars().count());
        let last = index + 1 == cells.len();
        let (before, after) = match align {
            Align::Right => (padding, 0),
            // Trailing blanks wrap lines on a narrow terminal.
            Align::Left => (0, if last { 0 } else { padding }),
        };
        let gap = if index == 0 { "" } else { GAP };
        let (start, end) = if colours && !code.is_empty() { (*code, RESET) } else { ("", "") };
        write!(out, "{gap}{:before$}{start}{text}{end}{:after$}", "", "")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(colours: bool) -> String {
        let mut out = Vec::new();
        let columns = [("NAME", Align::Left), ("N", Align::Right), ("NOTE", Align::Left)];
        let rows = [
            ["é".into(), "7".into(), "first".into()],
            ["long".into(), "123".into(), Cell::inked("x", Ink::Bad)],
        ];
        write(&mut out, columns, &rows, colours).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn columns_line_up_and_end_without_blanks() {
        assert_eq!(render(false), "NAME    N  NOTE\né       7  first\nlong  123  x\n");
    }

    #[test]
    fn colours_surround_the_text_and_not_the_padding() {
        let coloured = render(true);
        assert!(coloured.contains("\x1b[31mx\x1b[0m"), "{coloured:?}");
        assert!(coloured.starts_with("\x1b[1mNAME\x1b[0m  "), "{coloured:?}");
        let plain =
            ["\x1b[31m", "\x1b[1m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, render(false));
    }
}
