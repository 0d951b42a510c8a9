//! `X-Request-Start`: when a proxy got the request, as nginx (`t=1700000000.123`), Heroku (milliseconds) and Apache
//! (`t=` and microseconds) write it.
//!
//! Not for: clocks, and whom to believe.

/// A request that was sent longer ago is taken for one of a clock that is wrong.
const AGE_MAX_NS: u64 = 3_600_000_000_000;

/// Reads the field; nanoseconds since 1970. The number of digits before the point tells the unit: seconds have ten of
/// them until 2286.
pub fn parse(value: &[u8]) -> Option<u64> {
    let value = value.strip_prefix(b"t=").unwrap_or(value);
    let point = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let (whole, fraction) = value.split_at(point);
    let mut unit_ns = match whole.len() {
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => return None,
    };
    let mut sum = digits(whole)?.checked_mul(unit_ns)?;
    for byte in fraction.iter().skip(1) {
        unit_ns /= 10;
        sum = sum.checked_add(digits(&[*byte])? * unit_ns)?;
    }
    (sum > 0).then_some(sum)
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Returns how long ago a moment was; `None` for one in the future or long ago, which no clock of ours has seen.
pub fn age_ns(sent_ns: u64, wall_ns: u64) -> Option<u64> {
    wall_ns.checked_sub(sent_ns).filter(|age_ns| *age_ns <= AGE_MAX_NS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_proxies_send() {
        let ms = Some(1_700_000_000_123_000_000);
        let cases: &[(&str, Option<u64>)] = &[
            ("t=1700000000.123", ms),
            ("1700000000.123", ms),
            ("1700000000123", ms),
            ("t=1700000000123000", ms),
            ("1700000000123000000", ms),
            ("1700000000123.0", ms),
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000.", Some(1_700_000_000_000_000_000)),
            ("1700000000.1234567890123", Some(1_700_000_000_123_456_789)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("0000000000", None),
            ("", None),
            ("t=", None),
            (".5", None),
            ("170000000", None),
            ("17000000000", None),
            ("-700000000", None),
            ("1700000000.1x", None),
            ("1700000000.1.2", None),
            ("t=t=1700000000", None),
            ("1700000000, 1700000001", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), *expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_clock_is_not_believed() {
        assert_eq!(age_ns(5, 7), Some(2));
        assert_eq!(age_ns(7, 7), Some(0));
        assert_eq!(age_ns(8, 7), None);
        assert_eq!(age_ns(1, 1 + AGE_MAX_NS), Some(AGE_MAX_NS));
        assert_eq!(age_ns(1, 2 + AGE_MAX_NS), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), clock in any::<u64>()) {
            if let Some(sent_ns) = parse(&bytes) {
                age_ns(sent_ns, clock);
            }
        }

        #[test]
        fn digits_are_never_too_many(text in "(t=)?[0-9]{0,24}(\\.[0-9]{0,24})?") {
            let whole = text.trim_start_matches("t=").split('.').next().map_or(0, str::len);
            prop_assert!(parse(text.as_bytes()).is_none() || [10, 13, 16, 19].contains(&whole));
        }

        #[test]
        fn every_form_tells_the_same(ms in 1_000_000_000_000u64..9_999_999_999_999) {
            let forms = [
                format!("t={}.{:03}", ms / 1000, ms % 1000),
                format!("{ms}"),
                format!("t={ms}000"),
            ];
            for form in forms {
                prop_assert_eq!(parse(form.as_bytes()), Some(ms * 1_000_000));
            }
        }
    }
}
