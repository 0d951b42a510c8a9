//! A report in Markdown (CommonMark 0.31), for where people talk. What comes from the network or the application stays text: it
//! cannot make a heading, a link, HTML, or end a block.
//!
//! Not for: dialects of one product.

use super::page::{Line, Page, Section};
use crate::units::printable;
use std::fmt::Write;

/// Returns a page as Markdown.
pub(super) fn written(page: &Page) -> String {
    let mut out = format!("# {}\n", plain(&page.title));
    for line in &page.below {
        let _ = write!(out, "\n{}\n", plain(line));
    }
    for section in &page.sections {
        let _ = write!(out, "\n## {}\n\n", section.name);
        write_section(&mut out, section);
    }
    out
}

fn write_section(out: &mut String, section: &Section) {
    let sentences = section.lines.iter().filter(|line| matches!(line, Line::Says(_))).count();
    let fence = "`".repeat(longest_fence(section).max(2) + 1);
    let mut before: Option<&Line> = None;
    for line in &section.lines {
        // What stands beside each other is of one kind; between kinds is a blank line.
        if before.is_some_and(|before| kind(before, sentences) != kind(line, sentences)) {
            let _ = if before.is_some_and(is_call) { write!(out, "{fence}\n\n") } else { writeln!(out) };
        }
        if is_call(line) && !before.is_some_and(is_call) {
            let _ = writeln!(out, "{fence}text");
        }
        let _ = match line {
            Line::Says(text) if sentences == 1 => writeln!(out, "{}", plain(text)),
            Line::Says(text) => writeln!(out, "- {}", plain(text)),
            Line::Item(word, text) => writeln!(out, "- **{}** {}", plain(&unpadded(word)), plain(text)),
            Line::Step(word, text) => writeln!(out, "- **{word}** {}", plain(text)),
            Line::Call { application: true, text } => writeln!(out, ">> {}", printable(text)),
            Line::Call { application: false, text } => writeln!(out, "   {}", printable(text)),
            Line::Of(text) => writeln!(out, "       {}", printable(text)),
        };
        before = Some(line);
    }
    if before.is_some_and(is_call) {
        let _ = writeln!(out, "{fence}");
    }
}

/// Blanks that line up in a column of text.
fn unpadded(word: &str) -> String {
    word.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_call(line: &Line) -> bool {
    matches!(line, Line::Call { .. } | Line::Of(_))
}

/// Paragraphs, lists, and stacks are told apart.
fn kind(line: &Line, sentences: usize) -> u8 {
    match line {
        Line::Says(_) if sentences == 1 => 0,
        Line::Call { .. } | Line::Of(_) => 2,
        _ => 1,
    }
}

/// Returns the longest run of backticks in the stacks of a section: its fence must be longer.
fn longest_fence(section: &Section) -> usize {
    let texts = section.lines.iter().filter_map(|line| match line {
        Line::Call { text, .. } | Line::Of(text) => Some(text),
        _ => None,
    });
    let runs = texts.flat_map(|text| text.split(|character| character != '`')).map(str::len);
    runs.max().unwrap_or(0)
}

/// Returns text in which nothing means anything to Markdown.
fn plain(text: &str) -> String {
    let text = printable(text);
    let mut safe = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let next = rest.peek().copied();
        let begins = safe.is_empty();
        let within_word = before.is_alphanumeric() && next.is_some_and(char::is_alphanumeric);
        let means = match character {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '&' | '|' | '~' => true,
            // Within a word it means nothing, and names are full of them.
            '_' => !within_word,
            '#' | '+' | '-' | '=' => begins,
            // `1.` would begin a list.
            '.' | ')' => {
                let number = !begins && safe.len() <= 9 && safe.bytes().all(|byte| byte.is_ascii_digit());
                number && next.is_none_or(char::is_whitespace)
            }
            // A bare address would become a link.
            ':' => next == Some('/'),
            _ => false,
        };
        if means {
            safe.push('\\');
        }
        safe.push(character);
        before = character;
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_means_anything() {
        let table = [
            ("plain words, 0.96 (that is so)", "plain words, 0.96 (that is so)"),
            ("report_rows of db.slow_query", "report_rows of db.slow_query"),
            ("_emphasis_ *strong* `code`", "\\_emphasis\\_ \\*strong\\* \\`code\\`"),
            ("<script>&lt;", "\\<script\\>\\&lt;"),
            ("[x](javascript:y) http://a", "\\[x\\](javascript:y) http\\://a"),
            ("# heading", "\\# heading"),
            ("- item", "\\- item"),
            ("1. item", "1\\. item"),
            ("12) item", "12\\) item"),
            ("30.1s of 30.0s", "30.1s of 30.0s"),
            ("a\n\n# b", "a\\\\n\\\\n# b"),
            ("| a | b |", "\\| a \\| b \\|"),
        ];
        for (text, expected) in table {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn a_stack_cannot_end_its_block() {
        let call = |text: &str| Line::Call { application: false, text: text.into() };
        let section = Section { name: "Where it was", lines: vec![call("a"), call("```` <b>")] };
        let mut out = String::new();
        write_section(&mut out, &section);
        assert_eq!(out, "`````text\n   a\n   ```` <b>\n`````\n");
    }
}
