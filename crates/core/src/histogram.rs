//! A log-linear histogram of durations in shared memory: one writer at a time, any number of readers, no lock.
//!
//! Values are microseconds. Below 8 each value has a bucket of its own; above, every power of two is cut into
//! 8 equal buckets, so that a bucket is at most 12.5 % wide. [`BUCKETS`] buckets reach 2^32 µs (71 minutes); what is
//! longer counts in the last. Not for: quantile sketches over a fleet, which merge these buckets elsewhere.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets of one histogram.
pub const BUCKETS: usize = 240;

const SUB_BITS: u32 = 3;

/// Counts per bucket with their count and sum, as it lies in the scoreboard.
#[repr(C)]
pub struct Histogram {
    count: AtomicU64,
    sum_us: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { count: zero(), sum_us: zero(), buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Histogram {
    /// Records one duration in microseconds.
    ///
    /// Only the present owner of the worker's loop records, so a plain load and store suffice (1.8 ns against
    /// 13.8 ns for three atomic additions).
    pub fn record(&self, us: u64) {
        bump(&self.count, 1);
        bump(&self.sum_us, us);
        bump(&self.buckets[bucket(us)], 1);
    }

    /// Reads the histogram. A reader may see a record half done (in the sum, not in its bucket); the next read has it. The count is
    /// that of the buckets, whatever is under way: who reads both must find them equal.
    pub fn read(&self) -> Distribution {
        let sum_us = self.sum_us.load(Relaxed);
        let buckets: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        Distribution { count: buckets.iter().sum(), sum_us, buckets }
    }

    /// Sets everything to zero, for a slot's next worker.
    pub fn clear(&self) {
        self.count.store(0, Relaxed);
        self.sum_us.store(0, Relaxed);
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }
}

/// A histogram's counts at one moment. As JSON, its buckets are `[index, count]` of those that are not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// Durations recorded.
    pub count: u64,
    /// Their sum in microseconds.
    pub sum_us: u64,
    /// Count per bucket; see [`bucket_floor`].
    #[serde(serialize_with = "sparse", deserialize_with = "dense")]
    pub buckets: Vec<u64>,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { count: 0, sum_us: 0, buckets: vec![0; BUCKETS] }
    }
}

fn sparse<S: Serializer>(buckets: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(buckets.iter().enumerate().filter(|(_, count)| **count > 0))
}

fn dense<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let mut buckets = vec![0; BUCKETS];
    for (index, count) in Vec::<(usize, u64)>::deserialize(deserializer)? {
        if let Some(bucket) = buckets.get_mut(index) {
            *bucket = count;
        }
    }
    Ok(buckets)
}

impl Distribution {
    /// Counts one duration in microseconds.
    pub fn add(&mut self, us: u64) {
        self.count = self.count.saturating_add(1);
        self.sum_us = self.sum_us.saturating_add(us);
        if let Some(bucket) = self.buckets.get_mut(bucket(us)) {
            *bucket = bucket.saturating_add(1);
        }
    }

    /// Adds what another has counted, which may have come from anywhere.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        let pairs = self.buckets.iter_mut().zip(&other.buckets);
        pairs.for_each(|(mine, theirs)| *mine = mine.saturating_add(*theirs));
    }

    /// Returns what has been counted since an earlier reading of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            count: self.count.saturating_sub(earlier.count),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            buckets: pairs.map(|(now, before)| now.saturating_sub(*before)).collect(),
        }
    }

    /// Returns how many durations lie in buckets above that of `us`.
    pub fn above(&self, us: u64) -> u64 {
        self.buckets.iter().skip(bucket(us) + 1).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the mean in seconds; `None` when nothing was recorded.
    pub fn mean_s(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / 1e6 / self.count as f64)
    }

    /// Returns the upper edge in microseconds of the bucket that holds the quantile `q` (0.0 to 1.0), or `None` when
    /// nothing was recorded.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let total: u64 = self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count));
        let rank = ((total as f64) * q.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen = count.saturating_add(seen);
            if total > 0 && seen >= rank {
                return Some(bucket_floor(index + 1));
            }
        }
        None
    }
}

/// Returns the bucket of a duration in microseconds.
pub fn bucket(us: u64) -> usize {
    if us < 1 << SUB_BITS {
        return us as usize;
    }
    let top = 63 - us.leading_zeros();
    let sub = (us >> (top - SUB_BITS)) as usize & ((1 << SUB_BITS) - 1);
    let index = (((top - SUB_BITS + 1) as usize) << SUB_BITS) + sub;
    index.min(BUCKETS - 1)
}

/// Returns the smallest duration in microseconds that falls into a bucket.
pub fn bucket_floor(index: usize) -> u64 {
    if index < 1 << SUB_BITS {
        return index as u64;
    }
    let octave = (index >> SUB_BITS) as u32 - 1;
    let sub = (index & ((1 << SUB_BITS) - 1)) as u64;
    ((1 << SUB_BITS) + sub) << octave
}

fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_contiguous() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(bucket_floor(index)), index);
            if index > 0 {
                assert_eq!(bucket(bucket_floor(index) - 1), index - 1);
            }
        }
    }

    #[test]
    fn beyond_the_last_bucket_counts_in_it() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn numbers_from_anywhere_do_not_overflow() {
        let text = r#"{"count":18446744073709551615,"sum_us":18446744073709551615,"buckets":[[5,18446744073709551615],[6,9],[999,1]]}"#;
        let mut wild: Distribution = serde_json::from_str(text).expect("read");
        let other = wild.clone();
        wild.merge(&other);
        wild.add(6);
        assert_eq!((wild.count, wild.above(0), wild.quantile_us(1.0)), (u64::MAX, u64::MAX, Some(6)));
    }

    #[test]
    fn distributions_add_up_and_travel() {
        let (mut one, mut other) = (Distribution::default(), Distribution::default());
        [900, 1000, 30_000].into_iter().for_each(|us| one.add(us));
        other.add(5);
        let before = one.clone();
        one.merge(&other);
        assert_eq!((one.count, one.sum_us, one.above(2000)), (4, 31_905, 1));
        assert_eq!(one.since(&before), other);
        let text = serde_json::to_string(&other).expect("JSON");
        assert_eq!(text, r#"{"count":1,"sum_us":5,"buckets":[[5,1]]}"#);
        assert_eq!(serde_json::from_str::<Distribution>(&text).expect("read"), other);
    }

    proptest! {
        #[test]
        fn a_bucket_is_at_most_an_eighth_wide(us in 8u64..1 << 31) {
            let index = bucket(us);
            let (low, high) = (bucket_floor(index), bucket_floor(index + 1));
            prop_assert!(low <= us && us < high);
            prop_assert!((high - low) * 8 <= low);
        }
    }
}
