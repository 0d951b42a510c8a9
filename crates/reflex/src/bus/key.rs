//! Names as parts of keys and subjects. Not for: which keys there are.

use std::fmt::Write as _;

/// Returns a name as one part of a key: what may not stand there is written as `=XX`, and nothing is the same as anything else.
pub(super) fn part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => part.push(char::from(byte)),
            _ => drop(write!(part, "={byte:02X}")),
        }
    }
    if part.is_empty() { "=".to_owned() } else { part }
}

#[cfg(test)]
mod tests {
    use super::part;
    use proptest::prelude::*;

    #[test]
    fn what_may_not_stand_in_a_key_is_written_otherwise() {
        assert_eq!(
            [part("web-1"), part("shop.wsgi:app"), part("a b*>"), part("")],
            ["web-1", "shop=2Ewsgi=3Aapp", "a=20b=2A=3E", "="]
        );
    }

    proptest! {
        #[test]
        fn any_two_names_have_two_keys(one in ".*", other in ".*") {
            prop_assert_eq!(part(&one) == part(&other), one == other);
            prop_assert!(part(&one).bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)));
        }
    }
}
