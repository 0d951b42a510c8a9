//! What is usual for a route: the distribution of its durations over about a day, in bounded memory, and late enough that an
//! incident does not become usual while it is found.
//!
//! Requests are collected in blocks of a quarter of an hour, which are learned when they are one block old, unless an alarm
//! has fallen into them. What is learned is forgotten exponentially; all of it together weighs as much as a day.
//!
//! Not for: deciding that something is not usual (`slow`).

use super::fixed;
use crate::histogram::{BUCKETS, Distribution, bucket_floor};
use serde::{Deserialize, Serialize};

/// Of one block, in ticks.
const BLOCK: u32 = 90;
const BLOCKS_PER_DAY: f64 = 96.0;
/// Before so many requests are known, nothing is said of what is usual: a hundredth of fewer is nothing.
pub(super) const REQUESTS_MIN: f64 = 1000.0;
/// Above this share of all durations lie the slow ones.
pub(super) const QUANTILE: f64 = 0.99;
/// What is believed to have been slow besides what was: nothing is never.
const PRIOR_SLOW: f64 = 0.5;

/// The usual durations of a route. 2.9 KB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// Requests per bucket, those of long ago in part.
    #[serde(with = "fixed")]
    weights: [f32; BUCKETS],
    lost: f32,
    /// The block that goes on, and the one before.
    now: Block,
    before: Block,
    ticks: u32,
    usual: Option<Usual>,
}

/// What counts as slow, and how much of it there usually is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    /// Durations from here on are slow: the 99th percentile.
    pub(super) slow_us: u64,
    /// The share of requests that are slow or lost.
    pub(super) share: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Block {
    #[serde(with = "fixed")]
    counts: [u32; BUCKETS],
    lost: u32,
    /// An alarm has fallen into it.
    alarmed: bool,
}

impl Default for Block {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], lost: 0, alarmed: false }
    }
}

impl Default for Baseline {
    fn default() -> Self {
        let block = Block::default;
        Self { weights: [0.0; BUCKETS], lost: 0.0, now: block(), before: block(), ticks: 0, usual: None }
    }
}

impl Baseline {
    /// Takes requests of the last `ticks`.
    pub(super) fn take(&mut self, answered: &Distribution, lost: u64, ticks: u32) {
        let blocks = self.ticks.saturating_add(ticks) / BLOCK;
        self.ticks = self.ticks.saturating_add(ticks) % BLOCK;
        // After two, both blocks are learned.
        (0..blocks.min(2)).for_each(|_| self.turn());
        for (count, more) in self.now.counts.iter_mut().zip(&answered.buckets) {
            *count = count.saturating_add(saturated(*more));
        }
        self.now.lost = self.now.lost.saturating_add(saturated(lost));
    }

    /// Marks the newest blocks as not usual.
    pub(super) fn alarm(&mut self) {
        self.now.alarmed = true;
        self.before.alarmed = true;
    }

    /// Returns what is usual, once enough is known.
    pub(super) fn usual(&self) -> Option<Usual> {
        self.usual
    }

    /// Returns the upper edge of the bucket that holds a quantile of the usual durations.
    pub(super) fn quantile_us(&self, q: f64) -> Option<u64> {
        self.bucket_of(q).map(|bucket| bucket_floor(bucket + 1))
    }

    fn turn(&mut self) {
        let now = std::mem::take(&mut self.now);
        let before = std::mem::replace(&mut self.before, now);
        if before.alarmed {
            return;
        }
        let kept = (-1.0 / BLOCKS_PER_DAY).exp() as f32;
        for (weight, count) in self.weights.iter_mut().zip(before.counts) {
            *weight = *weight * kept + count as f32;
        }
        self.lost = self.lost * kept + before.lost as f32;
        self.usual = self.measured();
    }

    fn measured(&self) -> Option<Usual> {
        let answered: f64 = self.answered();
        let all = answered + known(self.lost);
        let bucket = self.bucket_of(QUANTILE).filter(|_| all >= REQUESTS_MIN)?;
        let above: f64 = self.weights.iter().skip(bucket + 1).map(|weight| known(*weight)).sum();
        let share = (above + known(self.lost) + PRIOR_SLOW) / (all + PRIOR_SLOW);
        Some(Usual { slow_us: bucket_floor(bucket + 1), share })
    }

    fn answered(&self) -> f64 {
        self.weights.iter().map(|weight| known(*weight)).sum()
    }

    fn bucket_of(&self, q: f64) -> Option<usize> {
        let all = self.answered();
        let mut seen = 0.0;
        let reaches = |weight: &f32| {
            seen += known(*weight);
            seen > 0.0 && seen >= all * q
        };
        self.weights.iter().position(reaches)
    }
}

/// A weight as it may be read from a file.
fn known(weight: f32) -> f64 {
    if weight.is_finite() { f64::from(weight.max(0.0)) } else { 0.0 }
}

fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(of: &[(u64, u64)]) -> Distribution {
        let mut answered = Distribution::default();
        for (count, us) in of {
            (0..*count).for_each(|_| answered.add(*us));
        }
        answered
    }

    #[test]
    fn what_is_usual_is_known_one_block_late() {
        let mut baseline = Baseline::default();
        let (usual, later) =
            (requests(&[(980, 1000), (15, 5000), (5, 100_000)]), requests(&[(1000, 80_000)]));
        baseline.take(&usual, 5, 1);
        baseline.take(&later, 0, BLOCK - 1);
        baseline.take(&later, 0, BLOCK - 1);
        assert_eq!(baseline.usual(), None);
        baseline.take(&later, 0, 1);
        let known = baseline.usual().expect("known");
        // The 99th percentile of the answered is among the 15; above it are 5 and the 5 lost.
        assert_eq!((known.slow_us, baseline.quantile_us(0.5)), (5120, Some(1024)));
        assert!((known.share - 10.5 / 1005.5).abs() < 1e-6, "{}", known.share);
    }

    #[test]
    fn what_was_an_alarm_is_not_learned_and_what_is_old_is_forgotten() {
        let mut baseline = Baseline::default();
        let usual = requests(&[(100, 1000)]);
        (0..96 * 4).for_each(|_| baseline.take(&usual, 0, BLOCK));
        // A day's worth, however long it has been so.
        assert!((9000.0..9900.0).contains(&baseline.answered()), "{}", baseline.answered());
        baseline.take(&requests(&[(10_000, 900_000)]), 0, BLOCK);
        baseline.alarm();
        (0..3).for_each(|_| baseline.take(&usual, 0, BLOCK));
        assert_eq!(baseline.quantile_us(1.0), Some(1024));
        baseline.take(&requests(&[(10_000, 900_000)]), 0, BLOCK);
        (0..3).for_each(|_| baseline.take(&usual, 0, BLOCK));
        assert_eq!(baseline.quantile_us(0.5), Some(917_504));
    }

    #[test]
    fn fewer_than_a_thousand_say_nothing() {
        for (count, known) in [(999, false), (1000, true)] {
            let mut baseline = Baseline::default();
            baseline.take(&requests(&[(count, 1000)]), 0, BLOCK);
            baseline.take(&Distribution::default(), 0, 2 * BLOCK);
            assert_eq!(baseline.usual().is_some(), known, "{count}");
        }
    }
}
