//! The first new workers of a reload beside the old ones: whether new code makes more of the same traffic go bad. Not for: changes that
//! are over when somebody asks (`correlate`).

use super::Verdict;
use super::odds::{Counts, more_often};

/// Fewer requests, or fewer bad ones, are an accident.
const ALL_MIN: u64 = 10;
const BAD_MIN: u64 = 3;

/// Tells whether the new code is worse: the share of bad requests more than twice as large, on the same traffic at the same time.
pub fn judge(new: Counts, old: Counts) -> Verdict {
    if new.all < ALL_MIN || old.all < ALL_MIN || new.bad < BAD_MIN {
        return Verdict::None;
    }
    match more_often(new, old) {
        0.99.. => Verdict::Caused,
        0.9.. => Verdict::Likely,
        _ => Verdict::None,
    }
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
            let (new, old) = (Counts { all, bad }, Counts { all: old_all, bad: old_bad });
            assert_eq!(judge(new, old), expected, "{new:?} {old:?}: {}", more_often(new, old));
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
            let mut group =
                |all: u64| Counts { all, bad: (0..all).filter(|_| dice() < share).count() as u64 };
            let (new, old) = (group(40), group(120));
            blamed += usize::from(judge(new, old) == Verdict::Caused);
        }
        assert!(blamed <= 20, "{blamed} of 20,000");
    }
}
