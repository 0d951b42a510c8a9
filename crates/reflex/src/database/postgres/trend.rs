//! Which statements take longer than before, from the counters of `pg_stat_statements`, and which waits there are more of.
//! A memory of fixed size; the newest minute is compared with what was before, of which old minutes count less and less.
//!
//! Not for: reading counters, and no clock: who calls says what is a minute.

use ferricorn_core::evidence::{Activity, Overall};
use std::collections::{BTreeMap, VecDeque};

/// Most statements that are followed: those that took the most time.
pub(super) const STATEMENTS_MAX: usize = 1000;
/// Most statements that are told.
const TOLD_MAX: usize = 5;
/// What a minute before counts, against one after it.
const DECAY: f64 = 0.9;
/// From so many times the mean before on, a statement counts as slower.
const RATIO: f64 = 2.0;
/// Fewer calls say little.
const CALLS_MIN: u64 = 5;
/// Shorter ones do no harm, milliseconds.
const MEAN_MIN_MS: f64 = 5.0;
/// Of times that are shorter than this, milliseconds, nobody asks how many times as long they are.
const MEAN_FLOOR_MS: f64 = 0.2;
/// Statements that have to be compared before anything is said of all of them.
const OVERALL_MIN: usize = 4;
/// From here on a statement that was never seen before is told, milliseconds.
const NEW_MIN_MS: f64 = 100.0;
/// Minutes after which "never seen before" means something.
const WARM: u32 = 3;
/// Samples of waits that are kept: ten minutes of them.
const SAMPLES_MAX: usize = 40;
/// Most waits that are told.
const WAITS_MAX: usize = 8;

/// A statement: the database's number and its own.
pub(super) type Key = (u32, i64);

/// Counters of a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count {
    pub calls: u64,
    pub ms: f64,
}

/// What has been seen of statements.
#[derive(Debug, Default)]
pub(super) struct Trend {
    minutes: u32,
    last: BTreeMap<Key, Count>,
    /// The last whole minute.
    recent: BTreeMap<Key, Count>,
    /// Calls and milliseconds before that, faded.
    before: BTreeMap<Key, (f64, f64)>,
    /// Minutes one after the other in which most statements were slower.
    slower_minutes: u32,
}

/// The mean times of a statement.
struct Means {
    calls: u64,
    mean_ms: f64,
    before_calls: f64,
    before_ms: f64,
}

/// A statement that takes longer than before.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Risen {
    pub key: Key,
    pub calls: u64,
    pub mean_ms: f64,
    /// 0 if it was not there before.
    pub before_ms: f64,
}

impl Trend {
    /// A minute is over, and these are the counters.
    pub(super) fn minute(&mut self, now: &BTreeMap<Key, Count>) {
        let first = self.minutes == 0;
        self.minutes += 1;
        if !first {
            for (calls, ms) in self.before.values_mut() {
                (*calls, *ms) = (*calls * DECAY, *ms * DECAY);
            }
            for (key, count) in &self.recent {
                let (calls, ms) = self.before.entry(*key).or_default();
                (*calls, *ms) = (*calls + count.calls as f64, *ms + count.ms);
            }
            // Against what was before it, this minute joins that only after the next.
            self.recent = BTreeMap::new();
            let minute = self.since_last(now);
            let is_slower = self.all(&minute).is_some_and(|all| all.is_slower());
            self.slower_minutes = if is_slower { self.slower_minutes.saturating_add(1) } else { 0 };
            self.recent = minute;
        }
        self.last.clone_from(now);
        // What is not called any more fades away, and so the table stays small.
        self.before.retain(|key, (calls, _)| *calls >= 0.5 || now.contains_key(key));
        while self.before.len() > 2 * STATEMENTS_MAX {
            self.before.pop_first();
        }
    }

    /// Returns the statements that take longer than before, those first that cost the most; these are the counters now.
    pub(super) fn risen(&self, now: &BTreeMap<Key, Count>) -> Vec<Risen> {
        if self.minutes == 0 {
            return Vec::new();
        }
        let newest = self.since_last(now);
        let keys = newest.keys().chain(self.recent.keys().filter(|key| !newest.contains_key(key)));
        let mut risen: Vec<Risen> = keys.filter_map(|key| self.compare(*key, newest.get(key))).collect();
        let cost = |risen: &Risen| (risen.mean_ms - risen.before_ms) * risen.calls as f64;
        risen.sort_by(|one, other| cost(other).total_cmp(&cost(one)));
        risen.truncate(TOLD_MAX);
        risen
    }

    /// Returns how all statements do against before; none if too few can be compared. These are the counters now.
    pub(super) fn overall(&self, now: &BTreeMap<Key, Count>) -> Option<Overall> {
        self.all(&self.since_last(now))
    }

    fn all(&self, newest: &BTreeMap<Key, Count>) -> Option<Overall> {
        let keys = newest.keys().chain(self.recent.keys().filter(|key| !newest.contains_key(key)));
        let ratio = |key: &Key| {
            let Means { calls, mean_ms, before_calls, before_ms } = self.means(*key, newest.get(key));
            let known = calls >= CALLS_MIN && before_calls >= CALLS_MIN as f64;
            known.then(|| mean_ms.max(MEAN_FLOOR_MS) / before_ms.max(MEAN_FLOOR_MS))
        };
        let mut ratios: Vec<f64> = keys.filter_map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.get(ratios.len() / 2).copied().filter(|_| ratios.len() >= OVERALL_MIN)?;
        Some(Overall {
            statements: ratios.len() as u32,
            slower: ratios.iter().filter(|ratio| **ratio >= RATIO).count() as u32,
            ratio: middle,
            minutes: self.slower_minutes,
        })
    }

    fn compare(&self, key: Key, newest: Option<&Count>) -> Option<Risen> {
        let Means { calls, mean_ms, before_calls, before_ms } = self.means(key, newest);
        if calls < CALLS_MIN {
            return None;
        }
        let is_new = before_calls < 0.5;
        let before_ms = if is_new { 0.0 } else { before_ms };
        let told = if is_new {
            self.minutes >= WARM && mean_ms >= NEW_MIN_MS
        } else {
            mean_ms >= MEAN_MIN_MS && mean_ms >= RATIO * before_ms
        };
        told.then_some(Risen { key, calls, mean_ms, before_ms })
    }

    /// Returns the mean times of a statement now and before.
    fn means(&self, key: Key, newest: Option<&Count>) -> Means {
        let (newest, recent) = (newest.copied().unwrap_or_default(), self.recent.get(&key).copied());
        let recent = recent.unwrap_or_default();
        // What has begun is rather too short to say much.
        let (calls, ms) = if newest.calls >= CALLS_MIN {
            (newest.calls, newest.ms)
        } else {
            (newest.calls + recent.calls, newest.ms + recent.ms)
        };
        let (before_calls, before_all_ms) = match self.before.get(&key) {
            Some((calls, ms)) => (*calls, *ms),
            None => (0.0, 0.0),
        };
        // The last minute is "before" where it is not a part of "now".
        let (before_calls, before_all_ms) = if newest.calls >= CALLS_MIN {
            (before_calls + recent.calls as f64, before_all_ms + recent.ms)
        } else {
            (before_calls, before_all_ms)
        };
        Means {
            calls,
            mean_ms: ms / (calls as f64).max(1.0),
            before_calls,
            before_ms: before_all_ms / before_calls.max(f64::MIN_POSITIVE),
        }
    }

    /// What was added since the last minute. Counters that were set back, and statements that were forgotten meanwhile,
    /// say nothing.
    fn since_last(&self, now: &BTreeMap<Key, Count>) -> BTreeMap<Key, Count> {
        let is_whole = self.last.len() < STATEMENTS_MAX;
        let grown = now.iter().filter_map(|(key, count)| {
            let last = match self.last.get(key) {
                Some(last) => *last,
                // In a list that is cut, it may have been there all the time.
                None if is_whole => Count::default(),
                None => return None,
            };
            let calls = count.calls.checked_sub(last.calls).filter(|calls| *calls > 0)?;
            Some((*key, Count { calls, ms: (count.ms - last.ms).max(0.0) }))
        });
        grown.collect()
    }
}

/// What sessions at work have waited for.
#[derive(Debug, Default)]
pub(super) struct Waits {
    samples: VecDeque<BTreeMap<String, u32>>,
}

impl Waits {
    /// Keeps a sample.
    pub(super) fn keep(&mut self, sample: BTreeMap<String, u32>) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Compares with what was before.
    pub(super) fn compare(&self, now: &BTreeMap<String, u32>) -> Vec<Activity> {
        let before = |wait: &str| {
            let all: u32 = self.samples.iter().filter_map(|sample| sample.get(wait)).sum();
            f64::from(all) / self.samples.len().max(1) as f64
        };
        let mut told: Vec<Activity> = now
            .iter()
            .map(|(wait, sessions)| Activity {
                wait: wait.clone(),
                sessions: *sessions,
                before: before(wait),
            })
            .collect();
        told.sort_by(|one, other| other.sessions.cmp(&one.sessions).then_with(|| one.wait.cmp(&other.wait)));
        told.truncate(WAITS_MAX);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(i64, u64, f64)]) -> BTreeMap<Key, Count> {
        rows.iter().map(|(query, calls, ms)| ((1, *query), Count { calls: *calls, ms: *ms })).collect()
    }

    #[test]
    fn statements_that_got_slower_are_told_the_costliest_first() {
        let mut trend = Trend::default();
        assert_eq!(trend.risen(&counts(&[(1, 9, 9000.0)])), [], "nothing to compare with");
        for minute in 0..5 {
            // A mean of 10 ms, 1 ms, 20 ms.
            trend.minute(&counts(&[
                (1, 100 * minute, 1000.0 * minute as f64),
                (2, 100 * minute, 100.0 * minute as f64),
                (3, 100 * minute, 2000.0 * minute as f64),
            ]));
        }
        let now = counts(&[
            (1, 410, 4000.0 + 250.0), // 25 ms
            (2, 410, 400.0 + 40.0),   // 4 ms: does no harm
            (3, 410, 8000.0 + 380.0), // 38 ms: not twice as much
            (4, 10, 2000.0),          // 200 ms, new
            (5, 10, 900.0),           // 90 ms, new
            (6, 4, 9000.0),           // too few calls
        ]);
        let risen = trend.risen(&now);
        assert_eq!(risen.iter().map(|risen| risen.key.1).collect::<Vec<_>>(), [4, 1]);
        assert_eq!((risen[0].calls, risen[0].mean_ms, risen[0].before_ms), (10, 200.0, 0.0));
        assert_eq!((risen[1].calls, risen[1].mean_ms), (10, 25.0));
        assert!((risen[1].before_ms - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_slowdown_stays_visible_while_it_lasts_and_becomes_the_past() {
        let mut trend = Trend::default();
        let (mut calls, mut ms) = (0, 0.0);
        let mut minute = |trend: &mut Trend, mean: f64| {
            (calls, ms) = (calls + 10, ms + 10.0 * mean);
            trend.minute(&counts(&[(1, calls, ms)]));
            trend.risen(&counts(&[(1, calls, ms)])).len()
        };
        for _ in 0..10 {
            assert_eq!(minute(&mut trend, 10.0), 0);
        }
        assert_eq!(minute(&mut trend, 50.0), 1);
        assert_eq!(minute(&mut trend, 50.0), 1);
        let told: usize = (0..30).map(|_| minute(&mut trend, 50.0)).sum();
        assert!(told < 10, "after some minutes it is what it always was: {told}");
    }

    #[test]
    fn a_database_that_is_slower_as_a_whole_is_told_from_one_slow_statement() {
        let steady = |trend: &mut Trend, minutes: std::ops::Range<u64>| {
            for minute in minutes {
                let rows: Vec<_> =
                    (0..6).map(|query| (query, 100 * minute, 1000.0 * minute as f64)).collect();
                trend.minute(&counts(&rows));
            }
        };
        let mut trend = Trend::default();
        steady(&mut trend, 0..6);
        let after = |means: [f64; 6]| {
            counts(&(0..6).map(|at| (at as i64, 510, 5000.0 + 10.0 * means[at])).collect::<Vec<_>>())
        };
        let one = trend.overall(&after([90.0, 10.0, 10.0, 11.0, 9.0, 10.0])).expect("compared");
        assert_eq!((one.statements, one.slower, one.is_slower(), one.minutes), (6, 1, false, 0));
        let all = trend.overall(&after([40.0, 30.0, 35.0, 30.0, 11.0, 50.0])).expect("compared");
        assert_eq!((all.slower, all.is_slower()), (5, true));
        assert!((3.0..3.6).contains(&all.ratio), "{all:?}");
        assert_eq!(Trend::default().overall(&after([1.0; 6])), None);
        // It is dated by the minute.
        trend.minute(&after([40.0; 6]));
        assert_eq!(trend.overall(&after([40.0; 6])).map(|all| all.minutes), Some(1));
    }

    #[test]
    fn counters_that_were_set_back_say_nothing() {
        let mut trend = Trend::default();
        for minute in 1..5 {
            trend.minute(&counts(&[(1, 100 * minute, 1000.0 * minute as f64)]));
        }
        assert_eq!(trend.risen(&counts(&[(1, 20, 9000.0)])), []);
        trend.minute(&counts(&[(1, 20, 200.0)]));
        let risen = trend.risen(&counts(&[(1, 30, 900.0)]));
        assert_eq!(risen.len(), 1, "and then they count again");
    }

    #[test]
    fn the_memory_has_a_limit() {
        let mut trend = Trend::default();
        for minute in 0..20 {
            let rows: Vec<_> = (0..STATEMENTS_MAX as i64)
                .map(|at| (minute * STATEMENTS_MAX as i64 + at, 10, 10.0))
                .collect();
            trend.minute(&counts(&rows));
            trend.minute(&counts(&rows));
        }
        assert!(trend.before.len() <= 2 * STATEMENTS_MAX);
        // In a list that is cut, who comes in is not new.
        assert_eq!(trend.risen(&counts(&[(-1, 50, 90_000.0)])), []);
    }

    #[test]
    fn waits_are_compared_with_those_of_the_last_minutes() {
        let sample = |rows: &[(&str, u32)]| rows.iter().map(|(wait, n)| ((*wait).to_owned(), *n)).collect();
        let mut waits = Waits::default();
        assert_eq!(waits.compare(&sample(&[("CPU", 2)]))[0].before, 0.0);
        for _ in 0..SAMPLES_MAX {
            waits.keep(sample(&[("CPU", 9)]));
        }
        for _ in 0..SAMPLES_MAX / 2 {
            waits.keep(sample(&[("CPU", 1), ("IO/DataFileRead", 2)]));
        }
        assert_eq!(waits.samples.len(), SAMPLES_MAX);
        let told = waits.compare(&sample(&[("IO/DataFileRead", 8), ("CPU", 2), ("Lock/tuple", 8)]));
        let lines: Vec<String> =
            told.iter().map(|a| format!("{} {} {}", a.wait, a.sessions, a.before)).collect();
        assert_eq!(lines, ["IO/DataFileRead 8 1", "Lock/tuple 8 0", "CPU 2 5"]);
    }
}
