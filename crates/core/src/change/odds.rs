//! How sure it is that something happens more often in one population than in another: shares as Beta distributions, and the
//! probability that one is more than twice the other. Not for: which populations are worth comparing.

use crate::detect::beta;

/// How many times as often counts as more often.
const RATIO: f64 = 2.0;
/// Steps of the integral, and how many standard deviations it reaches.
const STEPS: u32 = 400;
const REACH: f64 = 10.0;
/// Jeffreys's prior of a share.
const PRIOR: f64 = 0.5;

/// Requests, and those of them that were slow or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub all: u64,
    /// The slow and the lost.
    pub bad: u64,
}

impl Counts {
    /// Returns the share of the slow and lost.
    pub fn share(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.bad as f64 / self.all as f64 }
    }

    fn shape(self) -> (f64, f64) {
        (self.bad as f64 + PRIOR, self.all.saturating_sub(self.bad) as f64 + PRIOR)
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { all: self.all.saturating_add(other.all), bad: self.bad.saturating_add(other.bad) }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.bad, self.all)
    }
}

/// Returns the probability that the share of the slow and lost is more than twice as large in `new` as in `old`, each known as well
/// as its numbers allow (Beta-Binomial, with Jeffreys's prior).
pub fn more_often(new: Counts, old: Counts) -> f64 {
    let ((a, b), (c, d)) = (new.shape(), old.shape());
    // The integral over the old share, where that is likely to be.
    let mean = c / (c + d);
    let deviation = (mean * (1.0 - mean) / (c + d + 1.0)).sqrt();
    let (from, to) = ((mean - REACH * deviation).max(0.0), (mean + REACH * deviation).min(1.0));
    let width = (to - from) / f64::from(STEPS);
    let mut before = beta(c, d, from);
    let mut sum = 0.0;
    for step in 1..=STEPS {
        let share = from + width * f64::from(step);
        let until = beta(c, d, share);
        let middle = share - width / 2.0;
        sum += (until - before) * (1.0 - beta(a, b, (RATIO * middle).min(1.0)));
        before = until;
    }
    sum.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p(new: (u64, u64), old: (u64, u64)) -> f64 {
        let counts = |(bad, all): (u64, u64)| Counts { all, bad };
        more_often(counts(new), counts(old))
    }

    #[test]
    fn what_is_plain_is_sure_and_what_is_little_is_not() {
        assert!(p((11, 14), (0, 96)) > 0.999, "{}", p((11, 14), (0, 96)));
        assert!(p((0, 96), (11, 14)) < 1e-6);
        assert!(p((50, 100), (50, 100)) < 0.001);
        // One of two against none of three says little.
        assert!((0.5..0.95).contains(&p((1, 2), (0, 3))), "{}", p((1, 2), (0, 3)));
        // Nothing is known: it is as likely as not to be anything.
        assert!((0.2..0.45).contains(&p((0, 0), (0, 0))), "{}", p((0, 0), (0, 0)));
        // Twice as often is the border.
        assert!((0.4..0.6).contains(&p((2000, 10_000), (1000, 10_000))));
    }

    #[test]
    fn it_agrees_with_a_sum_over_chances() {
        // Drawn by inverting each distribution at the middles of 400 equal parts.
        let quantile = |a: f64, b: f64, at: f64| {
            let (mut low, mut high) = (0.0, 1.0);
            for _ in 0..60 {
                let middle = (low + high) / 2.0;
                if beta(a, b, middle) < at { low = middle } else { high = middle }
            }
            (low + high) / 2.0
        };
        for ((k, n), (l, m)) in [((3, 10), (1, 40)), ((1, 5), (2, 60)), ((9, 80), (5, 90))] {
            let (new, old) = (Counts { all: n, bad: k }.shape(), Counts { all: m, bad: l }.shape());
            let parts = 400;
            let draw = |(a, b): (f64, f64)| -> Vec<f64> {
                (0..parts).map(|part| quantile(a, b, (f64::from(part) + 0.5) / f64::from(parts))).collect()
            };
            let (new, old) = (draw(new), draw(old));
            let above =
                new.iter().map(|new| old.iter().filter(|old| *new > 2.0 * **old).count()).sum::<usize>();
            let expected = above as f64 / f64::from(parts * parts);
            let found = p((k, n), (l, m));
            assert!((found - expected).abs() < 0.005, "{found} {expected}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_probability(bad in 0u64..5000, more in 0u64..5000, other in 0u64..5000, rest in 0u64..1_000_000) {
            let p = more_often(Counts { all: bad + more, bad }, Counts { all: other + rest, bad: other });
            prop_assert!((0.0..=1.0).contains(&p));
        }
    }
}
