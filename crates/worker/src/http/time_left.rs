//! The field by which a caller says for how many milliseconds it still waits, as Envoy writes it
//! (`x-envoy-expected-rq-timeout-ms: 15000`).
//!
//! Not for: its name, which is a setting, and whom to believe.

/// Most digits: more than a hundred days, which no deadline reaches.
const DIGITS_MAX: usize = 10;

/// Reads the field; nanoseconds. Zero stands for no limit, as in other settings and in Envoy, and says nothing.
pub fn parse(value: &[u8]) -> Option<u64> {
    if value.len() > DIGITS_MAX || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let milliseconds = value.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    (milliseconds > 0).then_some(milliseconds * 1_000_000)
}

/// Returns the shorter of two times, 0 being none.
pub fn shorter(one_ns: u64, other_ns: u64) -> u64 {
    if one_ns == 0 || other_ns == 0 { one_ns.max(other_ns) } else { one_ns.min(other_ns) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn milliseconds_are_read() {
        let table: &[(&str, Option<u64>)] = &[
            ("15000", Some(15_000_000_000)),
            ("1", Some(1_000_000)),
            ("0007", Some(7_000_000)),
            ("9999999999", Some(9_999_999_999_000_000)),
            ("99999999999", None),
            ("0", None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("15 ", None),
            ("15000ms", None),
            ("15, 16", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text.as_bytes()), *expected, "{text:?}");
        }
    }

    #[test]
    fn none_is_not_short() {
        let table = [(0, 0, 0), (0, 5, 5), (5, 0, 5), (5, 3, 3), (3, 5, 3)];
        for (one, other, expected) in table {
            assert_eq!(shorter(one, other), expected, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(ms in 1u64..9_999_999_999) {
            prop_assert_eq!(parse(ms.to_string().as_bytes()), Some(ms * 1_000_000));
        }
    }
}
