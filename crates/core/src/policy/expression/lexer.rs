//! Words of a condition. Not for: what they mean together.

use super::Wrong;

/// Most bytes of a condition.
const TEXT_MAX: usize = 4096;
/// Units of numbers, longest first where one begins like another.
const UNITS: [(&str, f64); 12] = [
    ("ms", 1e-3),
    ("min", 60.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("B", 1.0),
    ("%", 0.01),
];
const SIGNS: [&str; 18] =
    ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "~", "(", ")", "[", "]", ",", "+", "-", "*"];

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// With its unit, in seconds, bytes, or a share.
    Number(f64),
    /// Without its quotes.
    Text(String),
    /// A name, `in`, `true`, `false`.
    Word(String),
    /// Anything else.
    Sign(&'static str),
}

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spot {
    pub token: Token,
    pub from: usize,
    pub to: usize,
}

/// Reads the words of a condition.
pub(super) fn words(text: &str) -> Result<Vec<Spot>, Wrong> {
    if text.len() > TEXT_MAX {
        return Err(Wrong { at: TEXT_MAX, text: format!("a condition has at most {TEXT_MAX} bytes") });
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = match first {
            '0'..='9' => number(&text[at..], at)?,
            '"' | '\'' => quoted(&text[at..], first, at)?,
            first if first.is_alphabetic() || first == '_' => {
                let inside = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
                let length = text[at..].find(|c| !inside(c)).unwrap_or(text.len() - at);
                (Token::Word(text[at..at + length].to_owned()), length)
            }
            first => match SIGNS.iter().find(|sign| text[at..].starts_with(**sign)) {
                Some(sign) => (Token::Sign(sign), sign.len()),
                None => return Err(Wrong { at, text: format!("`{first}` means nothing here") }),
            },
        };
        found.push(Spot { token, from: at, to: at + length });
        at += length;
    }
    Ok(found)
}

fn number(text: &str, at: usize) -> Result<(Token, usize), Wrong> {
    let length = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let wrong = |why: String| Wrong { at, text: why };
    let number: f64 =
        text[..length].parse().map_err(|_| wrong(format!("`{}` is no number", &text[..length])))?;
    let rest = &text[length..];
    let word = rest.find(|c: char| !c.is_alphabetic() && c != '%').unwrap_or(rest.len());
    if word == 0 {
        return Ok((Token::Number(number), length));
    }
    let unit = UNITS.iter().find(|(name, _)| *name == &rest[..word]);
    let (_, factor) = unit.ok_or_else(|| {
        let known: Vec<&str> = UNITS.iter().map(|(name, _)| *name).collect();
        wrong(format!("`{}` is no unit: there are {}", &rest[..word], known.join(", ")))
    })?;
    Ok((Token::Number(number * factor), length + word))
}

fn quoted(text: &str, quote: char, at: usize) -> Result<(Token, usize), Wrong> {
    match text[1..].find(quote) {
        Some(length) => Ok((Token::Text(text[1..=length].to_owned()), length + 2)),
        None => Err(Wrong { at, text: format!("a text begins here and has no closing {quote}") }),
    }
}
