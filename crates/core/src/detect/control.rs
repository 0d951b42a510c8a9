//! Many series at once: with hundreds of routes, something unlikely happens to one of them all the time. Benjamini and
//! Hochberg's rule (1995) lets through those alarms of one tick of which at most the share [`ALPHA`] is expected to be
//! chance: a single one has to be as unlikely as if it were alone among all that were looked at, many at once vouch for
//! each other.
//!
//! Not for: one series with itself from tick to tick, whose alarms are merged ([`super::MERGE_S`]).

use super::ALPHA;

/// Keeps those of one tick's alarms that stand although so many series were `tested`; `p` says how likely each is by chance.
pub fn control<T>(alarms: &mut Vec<T>, tested: usize, p: impl Fn(&T) -> f64) {
    let chances: Vec<f64> = alarms.iter().map(&p).collect();
    let limit = limit(&chances, tested, ALPHA);
    alarms.retain(|alarm| p(alarm) <= limit);
}

/// Returns the largest of the values `p` that may stand if at most the share `alpha` of what stands is to be chance; below
/// zero if none may. `p` may leave out those of the `tested` series that are no alarms anyway: that never lets more through.
pub fn limit(p: &[f64], tested: usize, alpha: f64) -> f64 {
    let tested = tested.max(p.len()) as f64;
    let mut sorted: Vec<f64> = p.iter().copied().filter(|p| !p.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let mut from_the_worst = sorted.iter().enumerate().rev();
    let stands = from_the_worst.find(|(before, p)| **p <= alpha * (before + 1) as f64 / tested);
    stands.map_or(-1.0, |(_, p)| *p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn many_vouch_for_each_other() {
        let cases: [(&[f64], usize, f64); 8] = [
            (&[], 100, -1.0),
            (&[0.9e-4], 1, 0.9e-4),
            (&[0.9e-4], 2, -1.0),
            (&[1e-7], 512, 1e-7),
            // The second is too likely for one among four, and not for the second of them.
            (&[4e-5, 1e-5], 4, 4e-5),
            // The worst carries all, as the rule has it: there are enough of them.
            (&[0.9e-4, 0.9e-4, 0.9e-4, 0.9e-4], 4, 0.9e-4),
            (&[f64::NAN, 1e-5], 2, 1e-5),
            // More alarms than tests is a caller's mistake that must not let more through.
            (&[0.9e-4, 0.9e-1], 0, -1.0),
        ];
        for (p, tested, expected) in cases {
            assert_eq!(limit(p, tested, ALPHA), expected, "{p:?} of {tested}");
        }
    }

    #[test]
    fn what_is_kept_keeps_its_order() {
        let mut alarms = vec![("/a", 1e-9), ("/b", 0.5e-4), ("/c", 1e-8), ("/d", f64::NAN)];
        control(&mut alarms, 100, |alarm| alarm.1);
        assert_eq!(alarms.iter().map(|alarm| alarm.0).collect::<Vec<_>>(), ["/a", "/c"]);
    }

    proptest! {
        #[test]
        fn what_stands_alone_stands_among_others(
            mut p in proptest::collection::vec(0.0..1e-3f64, 0..40), more in 0usize..500,
        ) {
            let tested = p.len() + more;
            let kept = limit(&p, tested, ALPHA);
            prop_assert!(p.iter().filter(|p| **p <= ALPHA / tested.max(1) as f64).all(|p| *p <= kept));
            // Leaving out what is no alarm anyway never lets more through.
            p.retain(|p| *p < ALPHA);
            prop_assert!(limit(&p, tested, ALPHA) <= kept);
        }
    }
}
