//! Folds our log-linear buckets into those of others: Prometheus's classic ones, exactly, and the exponential ones of Prometheus's
//! native histograms and OpenTelemetry. Count and sum are exact in both.
//!
//! Not for: writing any of it down.

use ferricorn_core::histogram::{BUCKETS, Distribution, bucket_floor};
use std::sync::LazyLock;

/// The classic upper bounds are these powers of two of a microsecond: 1.024 ms to 67.1 s. They are edges of our own buckets, so
/// that no count has to be divided; a factor of two between them keeps a family below 20 lines, and who wants more has native
/// histograms.
const BOUNDS: std::ops::RangeInclusive<u32> = 10..=26;
/// Number of classic bounds.
pub(crate) const CLASSIC: usize = 17;

/// Each power of two is cut into 2^SCALE exponential buckets. Ours are 6.7 to 12.5 % wide, theirs 4.4 %: fewer would lose what we
/// know, more would show what we do not.
pub(crate) const SCALE: i32 = 4;
/// What is shorter, in seconds, counts as zero: the clock of these durations is cut to microseconds.
pub(crate) const ZERO_THRESHOLD: f64 = 1e-6;

/// Returns upper bounds in seconds and how many durations are below each.
pub(crate) fn classic(distribution: &Distribution) -> [(f64, u64); CLASSIC] {
    let mut bounds = BOUNDS;
    let (mut seen, mut at) = (0, 0);
    std::array::from_fn(|_| {
        let bound_us = 1_u64 << bounds.next().unwrap_or_default();
        while at < BUCKETS && bucket_floor(at + 1) <= bound_us {
            seen += distribution.buckets.get(at).copied().unwrap_or_default();
            at += 1;
        }
        (super::family::seconds(bound_us), seen)
    })
}

/// Exponential buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exponential {
    /// Durations that count as zero.
    pub zero: u64,
    /// Index of the first bucket, as OpenTelemetry counts: bucket `i` reaches from above `base^i` to `base^(i+1)`.
    pub offset: i32,
    /// Counts of that bucket and those that follow; neither the first nor the last is zero.
    pub counts: Vec<u64>,
}

/// Folds into exponential buckets of [`SCALE`]. Each of our buckets goes whole into the one that holds its middle (geometric): edges
/// of powers of two of a microsecond are none of a second, so that few coincide. A duration of 8 µs and more is
/// therefore shown at most a factor of 1.11 beside what it was: half of our bucket (1.061) and one of theirs (1.045).
pub(crate) fn exponential(distribution: &Distribution) -> Exponential {
    let filled = || distribution.buckets.iter().zip(INDICES.iter()).skip(1).filter(|(count, _)| **count > 0);
    let zero = distribution.buckets.first().copied().unwrap_or_default();
    let (Some((_, first)), Some((_, last))) = (filled().next(), filled().next_back()) else {
        return Exponential { zero, ..Exponential::default() };
    };
    let mut counts = vec![0; (last - first + 1).unsigned_abs() as usize];
    for (count, index) in filled() {
        if let Some(place) = counts.get_mut((index - first).unsigned_abs() as usize) {
            *place += count;
        }
    }
    Exponential { zero, offset: *first, counts }
}

/// The exponential bucket of each of ours.
static INDICES: LazyLock<[i32; BUCKETS]> = LazyLock::new(|| {
    std::array::from_fn(|at| {
        let (low, high) = (bucket_floor(at).max(1) as f64, bucket_floor(at + 1) as f64);
        let middle_s = (low * high).sqrt() / 1e6;
        (middle_s.log2() * f64::from(1 << SCALE)).ceil() as i32 - 1
    })
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn distribution(values: &[u64]) -> Distribution {
        let mut all = Distribution::default();
        values.iter().for_each(|us| all.add(*us));
        all
    }

    fn base() -> f64 {
        2_f64.powf(1.0 / f64::from(1 << SCALE))
    }

    #[test]
    fn bounds_are_edges_of_our_buckets() {
        let bounds = classic(&Distribution::default()).map(|(bound, _)| bound);
        assert_eq!((bounds[0], bounds[CLASSIC - 1]), (0.001_024, 67.108_864));
        assert!(bounds.is_sorted());
        for bound in bounds {
            let us = (bound * 1e6).round() as u64;
            assert!((0..BUCKETS).any(|at| bucket_floor(at) == us), "{us}");
        }
    }

    #[test]
    fn nothing_folds_to_nothing() {
        assert_eq!(exponential(&Distribution::default()), Exponential::default());
        assert_eq!(exponential(&distribution(&[0, 0])).zero, 2);
        assert!(classic(&Distribution::default()).iter().all(|(_, count)| *count == 0));
        // A document of others may have fewer buckets.
        let short = Distribution { count: 1, sum_us: 1, buckets: vec![0, 1] };
        assert_eq!(classic(&short)[0].1, 1);
        assert_eq!(exponential(&short).counts, [1]);
        let none = Distribution { count: 0, sum_us: 0, buckets: Vec::new() };
        assert_eq!((classic(&none)[CLASSIC - 1].1, exponential(&none).zero), (0, 0));
    }

    proptest! {
        #[test]
        fn classic_counts_are_exact(values in proptest::collection::vec(0_u64..1 << 33, 0..200)) {
            let folded = classic(&distribution(&values));
            for (bound, count) in folded {
                let below = values.iter().filter(|us| (**us as f64) < (bound * 1e6).round()).count();
                prop_assert_eq!(count, below as u64, "{}", bound);
            }
        }

        #[test]
        fn exponential_buckets_lose_nobody(values in proptest::collection::vec(0_u64..1 << 40, 0..200)) {
            let folded = exponential(&distribution(&values));
            prop_assert_eq!(folded.zero + folded.counts.iter().sum::<u64>(), values.len() as u64);
            if !folded.counts.is_empty() {
                prop_assert!(folded.counts[0] > 0 && folded.counts[folded.counts.len() - 1] > 0);
            }
        }

        #[test]
        fn a_duration_is_shown_near_what_it_was(us in 8_u64..1 << 32) {
            let folded = exponential(&distribution(&[us]));
            let (low, high) = (base().powi(folded.offset), base().powi(folded.offset + 1));
            let seconds = us as f64 / 1e6;
            prop_assert!(seconds <= high * 1.061 && seconds * 1.061 >= low, "{} in {}..{}", seconds, low, high);
            prop_assert!(seconds / low < 1.11 && high / seconds < 1.11, "{} in {}..{}", seconds, low, high);
        }
    }
}
