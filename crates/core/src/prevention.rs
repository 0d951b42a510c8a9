//! How long a call of the application may take so that its request can still be answered. The rules are written down for users
//! in docs/prevention.md.
//!
//! Not for: handing these times to drivers and libraries (`python/ferricorn/`), nor what happens at a deadline
//! ([`crate::deadline`]).

/// The share of a deadline that a statement may take.
const SHARE: f64 = 0.95;
/// A statement ends at least so long before the deadline, seconds.
const EARLIER_S: f64 = 0.25;
/// Of a deadline that is so short that this would be most of it, a statement has this share.
const SHARE_MIN: f64 = 0.5;

/// Returns the longest deadline that any request can have, seconds; none if some request has none. `routes_s` take the place
/// of `timeout_s` for some requests, and `request_s` limits all; 0 stands for none.
pub fn longest_deadline_s(
    timeout_s: f64,
    routes_s: impl IntoIterator<Item = f64>,
    request_s: f64,
) -> Option<f64> {
    let longest_s = routes_s.into_iter().chain([timeout_s]).fold(0.0, |longest_s, seconds| {
        let is_limit = seconds > 0.0;
        if is_limit { f64::max(longest_s, seconds) } else { f64::INFINITY }
    });
    let whole_s = if request_s > 0.0 { request_s } else { f64::INFINITY };
    Some(longest_s.min(whole_s)).filter(|seconds| seconds.is_finite())
}

/// Returns after how many milliseconds a statement is to end whose request has this deadline.
pub fn statement_timeout_ms(deadline_s: f64) -> u64 {
    let seconds = (deadline_s * SHARE).min(deadline_s - EARLIER_S).max(deadline_s * SHARE_MIN);
    // PostgreSQL reads 0 as none.
    ((seconds * 1000.0) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_deadline_counts() {
        let table: [(f64, &[f64], f64, Option<f64>); 7] = [
            (30.0, &[], 0.0, Some(30.0)),
            (30.0, &[120.0, 2.0], 0.0, Some(120.0)),
            (30.0, &[0.0, 40.0], 0.0, None),
            (0.0, &[5.0], 0.0, None),
            (0.0, &[5.0], 60.0, Some(60.0)),
            (30.0, &[120.0], 45.0, Some(45.0)),
            (30.0, &[], 45.0, Some(30.0)),
        ];
        for (timeout_s, routes_s, request_s, wanted) in table {
            let found = longest_deadline_s(timeout_s, routes_s.iter().copied(), request_s);
            assert_eq!(found, wanted, "{timeout_s} {routes_s:?} {request_s}");
        }
    }

    #[test]
    fn a_statement_ends_a_little_before_its_request() {
        let table =
            [(30.0, 28_500), (120.0, 114_000), (5.0, 4750), (4.0, 3750), (1.0, 750), (0.4, 200), (0.001, 1)];
        for (deadline_s, wanted) in table {
            assert_eq!(statement_timeout_ms(deadline_s), wanted, "{deadline_s}");
        }
    }
}
