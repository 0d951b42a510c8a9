//! Numbers as people read them: durations, counts, bytes, and text from the network made safe for a terminal.
//! Not for: JSON, which carries plain numbers.

/// Returns bytes in hexadecimal, two letters for each.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Returns a duration in the two units that matter at its size.
pub fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match whole {
        0 => format!("{}ms", (seconds * 1000.0) as u64),
        1..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{minutes}m {:02}s", whole % 60),
        3600..86_400 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

/// Returns microseconds as milliseconds with three significant digits, or `-` where nothing was measured.
pub fn millis(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us @ 0..10_000) => format!("{:.2}", us as f64 / 1e3),
        Some(us @ 10_000..100_000) => format!("{:.1}", us as f64 / 1e3),
        Some(us) => count(us / 1000),
    }
}

/// Returns a number with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a rate: whole from ten on, with one digit behind the point below.
pub fn rate(per_second: f64) -> String {
    if per_second < 9.95 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}

/// Returns bytes in the largest unit that leaves at least one.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64;
    let mut unit = "";
    for name in UNITS {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = name;
    }
    format!("{value:.1} {unit}")
}

/// Returns text with control characters escaped, and those that turn the direction of writing: what a client sends must not
/// steer the operator's terminal.
pub fn printable(text: &str) -> String {
    let turns = |character| matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || turns(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Returns the beginning of a text, at most so many bytes of it, up to where a character ends.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_two_units() {
        let table = [
            (0.0, "0ms"),
            (0.9996, "999ms"),
            (1.0, "1.0s"),
            (59.94, "59.9s"),
            (60.0, "1m 00s"),
            (3599.9, "59m 59s"),
            (3600.0, "1h 00m"),
            (86_399.0, "23h 59m"),
            (90_000.0, "1d 01h"),
        ];
        for (seconds, text) in table {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn milliseconds_keep_three_digits() {
        let table = [
            (None, "-"),
            (Some(0), "0.00"),
            (Some(832), "0.83"),
            (Some(12_345), "12.3"),
            (Some(123_456), "123"),
            (Some(61_000_000), "61,000"),
        ];
        for (us, text) in table {
            assert_eq!(millis(us), text, "{us:?}");
        }
    }

    #[test]
    fn counts_rates_and_bytes() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [(0.0, "0.0"), (9.94, "9.9"), (9.96, "10"), (2100.4, "2,100")] {
            assert_eq!(rate(number), text);
        }
        for (number, text) in [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (52_428_800, "52.4 MB")] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn a_text_is_cut_where_a_character_ends() {
        for (text, max, expected) in
            [("abc", 5, "abc"), ("abc", 2, "ab"), ("éé", 3, "é"), ("é", 1, ""), ("", 0, "")]
        {
            assert_eq!(cut(text, max), expected, "{text} {max}");
        }
    }

    #[test]
    fn a_client_cannot_move_the_cursor() {
        assert_eq!(printable("/a\u{1b}[2J\n/é"), "/a\\u{1b}[2J\\n/é");
        assert_eq!(printable("/b\u{9b}1m"), "/b\\u{9b}1m");
        assert_eq!(printable("/c\u{202e}gpj.exe"), "/c\\u{202e}gpj.exe");
    }
}
