//! Splits `GUNICORN_CMD_ARGS` into words as a POSIX shell would. Not for: expansion of variables or patterns.

/// A text whose quotes do not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuoting {
    /// A quote is opened and never closed.
    #[error("No closing quotation")]
    Open,
    /// The text ends with a backslash.
    #[error("No escaped character")]
    Escape,
}

/// Splits a text into words: blanks separate, quotes and backslashes keep together.
///
/// # Errors
/// When a quote is not closed, or nothing follows a backslash.
pub fn split_words(text: &str) -> Result<Vec<String>, BadQuoting> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(characters.next().ok_or(BadQuoting::Escape)?),
            '\'' | '"' => quotation(character, &mut characters, word.get_or_insert_default())?,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to the closing quote. Between double quotes, a backslash escapes the quote and itself.
fn quotation(quote: char, characters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), BadQuoting> {
    loop {
        match characters.next().ok_or(BadQuoting::Open)? {
            character if character == quote => return Ok(()),
            '\\' if quote == '"' => match characters.next().ok_or(BadQuoting::Escape)? {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_as_a_shell_splits_them() {
        let table: [(&str, &[&str]); 9] = [
            ("", &[]),
            ("  ", &[]),
            ("-w 3  --timeout=7", &["-w", "3", "--timeout=7"]),
            ("--bind 'unix:/a b'", &["--bind", "unix:/a b"]),
            (r#"-e "A=x \"y\" \n""#, &["-e", r#"A=x "y" \n"#]),
            (r"a\ b c", &["a b", "c"]),
            ("'' x", &["", "x"]),
            ("-e'A=1'\"2\"", &["-eA=12"]),
            ("'a\\'", &["a\\"]),
        ];
        for (text, words) in table {
            assert_eq!(split_words(text).expect(text), words, "{text}");
        }
        let bad = [("'a", BadQuoting::Open), ("\"a", BadQuoting::Open), ("a\\", BadQuoting::Escape)];
        for (text, error) in bad {
            assert_eq!(split_words(text), Err(error), "{text}");
        }
    }
}
