//! Two groups of requests that differ in one thing, and whether it is that which makes more of the one go bad: no change is blamed
//! without such a comparison. Not for: which groups ([`crate::policy`] asks for those of a reload), and not for when things began.

/// A group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Requests.
    pub all: u64,
    /// Those that went bad.
    pub bad: u64,
}

/// How sure it is that the difference makes the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As good as certain.
    Caused,
    /// More likely than not by far.
    Likely,
    /// Nothing says so.
    None,
}

impl Verdict {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Caused => "caused",
            Self::Likely => "likely",
            Self::None => "none",
        }
    }
}

/// A share that is worse by less is not worth a reload.
const RATIO: f64 = 2.0;
/// Fewer requests, or fewer bad ones, are an accident.
const ALL_MIN: u64 = 10;
const BAD_MIN: u64 = 3;

/// Tells whether the share of bad requests in the new group is more than twice that in the old.
pub fn judge(new: Group, old: Group) -> Verdict {
    if new.all < ALL_MIN || old.all < ALL_MIN || new.bad < BAD_MIN {
        return Verdict::None;
    }
    match chance(new, old) {
        0.99.. => Verdict::Caused,
        0.9.. => Verdict::Likely,
        _ => Verdict::None,
    }
}

/// The probability that the new share is more than [`RATIO`] times the old one: both with Jeffreys' prior, the logarithm of
/// their ratio taken as normal.
fn chance(new: Group, old: Group) -> f64 {
    let of = |group: Group| {
        let (bad, all) = (group.bad as f64 + 0.5, group.all as f64 + 1.0);
        (bad / all, 1.0 / bad - 1.0 / all)
    };
    let ((share, spread), (usual, usual_spread)) = (of(new), of(old));
    let distance = (share / (RATIO * usual)).ln() / (spread + usual_spread).max(f64::MIN_POSITIVE).sqrt();
    normal(distance)
}

/// The share of a normal distribution that lies below (Abramowitz and Stegun 26.2.17; to 1e-7).
fn normal(x: f64) -> f64 {
    const B: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let tail = B.iter().rev().fold(0.0, |sum, b| (sum + b) * t);
    let above = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * tail;
    if x >= 0.0 { 1.0 - above } else { above }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worse_is_told_from_what_may_be_chance() {
        let table = [
            ((100, 30), (1000, 0), Verdict::Caused),
            ((20, 10), (80, 0), Verdict::Caused),
            ((100, 12), (1000, 20), Verdict::Caused),
            ((10, 4), (200, 6), Verdict::Caused),
            ((100, 7), (400, 8), Verdict::None),
            ((100, 9), (400, 10), Verdict::Likely),
            ((60, 6), (400, 10), Verdict::Likely),
            // The database is slow: both suffer.
            ((100, 30), (300, 90), Verdict::None),
            ((100, 2), (1000, 0), Verdict::None),
            ((9, 9), (1000, 0), Verdict::None),
            ((100, 30), (5, 0), Verdict::None),
            ((0, 0), (0, 0), Verdict::None),
        ];
        for ((all, bad), (old_all, old_bad), expected) in table {
            let (new, old) = (Group { all, bad }, Group { all: old_all, bad: old_bad });
            assert_eq!(judge(new, old), expected, "{new:?} {old:?}: {}", chance(new, old));
        }
    }

    #[test]
    fn benign_reloads_are_blamed_less_than_once_in_a_thousand() {
        // The same bad luck for both, by a generator with a seed.
        let mut state = 7_u64;
        let mut dice = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let mut blamed = 0;
        for _ in 0..20_000 {
            let share = dice() * 0.2;
            let mut group = |all: u64| Group { all, bad: (0..all).filter(|_| dice() < share).count() as u64 };
            let (new, old) = (group(40), group(120));
            blamed += usize::from(judge(new, old) == Verdict::Caused);
        }
        assert!(blamed <= 20, "{blamed} of 20,000");
    }

    #[test]
    fn the_normal_distribution() {
        for (x, expected) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (6.0, 1.0)] {
            assert!((normal(x) - expected).abs() < 1e-6, "{x}: {}", normal(x));
        }
    }
}
