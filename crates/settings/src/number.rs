//! Whole numbers as Python reads them from text. Not for: bounds ([`crate::check()`]).

/// Reads a number as `int(text)` does: decimal, with a sign, spaces around it and single underscores inside.
pub(crate) fn decimal(text: &str) -> Option<i64> {
    let (negative, digits) = signed(text);
    parse(negative, digits, 10)
}

/// Reads a number as `int(text, 0)` does: also `0x1f`, `0o17` and `0b11`, and no leading zero.
pub(crate) fn source(text: &str) -> Option<i64> {
    let (negative, digits) = signed(text);
    let bytes = digits.as_bytes();
    let radix = match bytes {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        // `010` is an error in Python source, for it was octal once; `00` is not.
        [b'0', ..] if bytes.iter().any(|byte| !matches!(byte, b'0' | b'_')) => return None,
        _ => return parse(negative, digits, 10),
    };
    // One underscore may follow the prefix.
    let rest = &digits[2..];
    parse(negative, rest.strip_prefix('_').unwrap_or(rest), radix)
}

/// Reads a file mode: as in Python source, and `022` counts as octal.
pub(crate) fn mode(text: &str) -> Option<i64> {
    match text.as_bytes() {
        [b'0', b'0'..=b'9', ..] => source(&format!("0o{}", &text[1..])),
        _ => source(text),
    }
}

fn signed(text: &str) -> (bool, &str) {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn parse(negative: bool, digits: &str, radix: u32) -> Option<i64> {
    let underscores = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if underscores || digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from_str_radix(&digits.replace('_', ""), radix).ok()?;
    i64::try_from(if negative { -number } else { number }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        // text, int(text), int(text, 0), as a file mode; checked against CPython.
        let table = [
            ("30", Some(30), Some(30), Some(30)),
            (" 30 ", Some(30), Some(30), Some(30)),
            ("+5", Some(5), Some(5), Some(5)),
            ("-3", Some(-3), Some(-3), Some(-3)),
            ("1_000", Some(1000), Some(1000), Some(1000)),
            ("1__0", None, None, None),
            ("_1", None, None, None),
            ("0", Some(0), Some(0), Some(0)),
            ("00", Some(0), Some(0), Some(0)),
            ("022", Some(22), None, Some(18)),
            ("0x10", None, Some(16), Some(16)),
            ("0X1F", None, Some(31), Some(31)),
            ("0o17", None, Some(15), Some(15)),
            ("0b101", None, Some(5), Some(5)),
            ("0x_f", None, Some(15), Some(15)),
            ("0x", None, None, None),
            ("-0x10", None, Some(-16), Some(-16)),
            ("089", Some(89), None, None),
            ("--3", None, None, None),
            ("3.5", None, None, None),
            ("abc", None, None, None),
            ("", None, None, None),
            ("9223372036854775807", Some(i64::MAX), Some(i64::MAX), Some(i64::MAX)),
            ("9223372036854775808", None, None, None),
        ];
        for (text, plain, in_source, as_mode) in table {
            assert_eq!(decimal(text), plain, "int({text:?})");
            assert_eq!(source(text), in_source, "int({text:?}, 0)");
            assert_eq!(mode(text), as_mode, "mode {text:?}");
        }
    }
}
