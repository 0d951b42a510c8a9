//! Values of settings, and how Python would show them. Not for: deciding which values are right ([`crate::check()`]).

use std::fmt::Write;

/// A value of a setting, in any form that a configuration file or a command line gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Str(String),
    /// A list or tuple of texts.
    List(Vec<String>),
    /// A dictionary from text to text, in its order.
    Map(Vec<(String, String)>),
    /// Any other Python object, which the caller keeps. The text is the qualified name of a callable or class, and the
    /// `repr` of anything else.
    Object(String),
}

impl Value {
    /// Returns the value as Python's `str` shows it.
    pub fn shown(&self) -> String {
        match self {
            Value::None => "None".to_owned(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            Value::Int(number) => number.to_string(),
            Value::Str(text) | Value::Object(text) => text.clone(),
            Value::List(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                format!("[{}]", texts.join(", "))
            }
            Value::Map(pairs) => {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)))
                    .collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }

    /// Returns the value as Python source would have it.
    pub fn repr(&self) -> String {
        match self {
            Value::Str(text) => quoted(text),
            other => other.shown(),
        }
    }

    /// Tells whether Python would take the value for true.
    pub fn is_truthy(&self) -> bool {
        match self {
            Value::None => false,
            Value::Bool(flag) => *flag,
            Value::Int(number) => *number != 0,
            Value::Str(text) => !text.is_empty(),
            Value::List(texts) => !texts.is_empty(),
            Value::Map(pairs) => !pairs.is_empty(),
            Value::Object(_) => true,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Str(text.to_owned())
    }
}

/// Returns the text in quotes, as Python's `repr` does.
pub(crate) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                write!(out, "\\x{:02x}", u32::from(c)).expect("writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_python_shows_them() {
        let list = |texts: &[&str]| Value::List(texts.iter().map(|text| (*text).to_owned()).collect());
        let table = [
            (Value::None, "None"),
            (Value::Bool(true), "True"),
            (Value::Int(-7), "-7"),
            (Value::from("a 'b'"), "a 'b'"),
            (list(&[]), "[]"),
            (
                list(&["a", "it's", "both ' and \"", "back\\slash\n\u{1}"]),
                "['a', \"it's\", 'both \\' and \"', 'back\\\\slash\\n\\x01']",
            ),
            (Value::Map(vec![("A".to_owned(), "ssl".to_owned())]), "{'A': 'ssl'}"),
            (Value::Object("conf.hook".to_owned()), "conf.hook"),
        ];
        for (value, text) in table {
            assert_eq!(value.shown(), text);
        }
    }
}
