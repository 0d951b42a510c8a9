//! A report for a terminal or a mail: headings in a column of their own, long sentences broken, everything that is copied
//! left as it is. Not for: colours.

use super::page::{Line, Page, Section};
use crate::units::printable;
use std::fmt::Write;

/// Where a section's lines begin.
const INDENT: usize = 13;
/// Where a sentence is broken.
const WIDTH: usize = 100;

/// Returns a page as text.
pub(super) fn written(page: &Page) -> String {
    let mut out = String::new();
    for line in [&page.title].into_iter().filter(|title| !title.is_empty()).chain(&page.below) {
        push(&mut out, &printable(line));
    }
    for section in &page.sections {
        if !out.is_empty() {
            out.push('\n');
        }
        write_section(&mut out, section);
    }
    out
}

fn write_section(out: &mut String, section: &Section) {
    let mut heading = section.name.to_uppercase();
    let words = section.lines.iter().filter_map(|line| match line {
        Line::Item(word, _) => Some(printable(word).chars().count()),
        Line::Step(word, _) => Some(word.chars().count()),
        _ => None,
    });
    let column = words.max().map_or(0, |longest| longest + 2);
    for line in &section.lines {
        let (word, text, breaks) = match line {
            Line::Says(text) => (String::new(), printable(text), true),
            Line::Item(word, text) => (format!("{:column$}", printable(word)), printable(text), true),
            Line::Step(word, text) => (format!("{word:column$}"), printable(text), false),
            Line::Call { application, text } => {
                let mark = if *application { ">> " } else { "   " };
                (mark.to_owned(), printable(text), false)
            }
            Line::Of(text) => (" ".repeat(7), printable(text), false),
        };
        let hanging = INDENT + word.chars().count();
        let mut rows =
            if breaks { broken(&text, WIDTH.saturating_sub(hanging)) } else { vec![text] }.into_iter();
        push(out, &format!("{heading:INDENT$}{word}{}", rows.next().unwrap_or_default()));
        heading.clear();
        rows.for_each(|row| push(out, &format!("{:hanging$}{row}", "")));
    }
}

/// Adds a line without blanks at its end.
fn push(out: &mut String, line: &str) {
    let _ = writeln!(out, "{}", line.trim_end());
}

/// Breaks a sentence between words; a longer word stays whole.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut length = 0;
    for word in text.split(' ') {
        let more = word.chars().count();
        let row = rows.last_mut().expect("there is always one");
        if length > 0 && length + 1 + more > width {
            rows.push(word.to_owned());
            length = more;
            continue;
        }
        if length > 0 {
            row.push(' ');
            length += 1;
        }
        row.push_str(word);
        length += more;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::broken;

    #[test]
    fn sentences_are_broken_between_words() {
        let table: [(&str, &[&str]); 5] = [
            ("", &[""]),
            ("one two", &["one two"]),
            ("one two three", &["one two", "three"]),
            ("é é é é é", &["é é é é", "é"]),
            ("a averylongword b", &["a", "averylongword", "b"]),
        ];
        for (text, rows) in table {
            assert_eq!(broken(text, 7), rows, "{text}");
        }
    }
}
