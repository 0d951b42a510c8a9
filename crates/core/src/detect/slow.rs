//! Requests of a route that take longer than they did: the share of those above the route's own 99th percentile of about a
//! day, against three times what is usual. A lost request counts as slow, whenever it was given up. Turning durations into
//! counts needs no assumption about their distribution, and counts have an exact test (binomial).
//!
//! A mean, or a percentile of one minute, will not do: on a quiet route these jump by themselves, and a hiccup of some
//! seconds, which every server has a few times a day, moves them. So slow requests have to come in three different
//! ticks, each of which is bad by itself. Nor is it enough to be just above the percentile, as a route that always takes
//! the same time is with every drift of the day: a hundredth of all have to be far above it.
//!
//! It speaks once 1,000 requests are known that are a quarter of an hour old. Below about half a request per second it finds
//! little: pool such routes. Not for: requests that are stuck now, of which one is evidence by itself.

use super::alarm::{ALPHA, Alarm, Among, Episode};
use super::baseline::{Baseline, QUANTILE, Usual};
use super::fixed;
use super::tail;
use super::ticks::{Step, TICK_S, Ticks};
use crate::histogram::{Distribution, bucket};
use serde::{Deserialize, Serialize};

/// In ticks: one, three, ten minutes.
const WINDOWS: [u32; 3] = [6, 18, 60];
const LONGEST: usize = 60;
/// So many times the usual share of slow requests is still nothing to speak of.
const TIMES: f64 = 3.0;
/// A tick is bad if chance makes so many of its requests slow less often than this.
const BAD: f64 = 0.05;
/// A window needs so many bad ticks.
const BAD_TICKS_MIN: u32 = 3;
/// Buckets from slow to far above: a quarter longer.
const FAR_BUCKETS: usize = 2;
/// After so long an alarm, six hours, what is seen becomes usual.
const ALARM_MAX: u32 = 6 * 360;

/// The detector of one route. 4 KB; at most 16 KB as JSON, mostly 3 to 5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    ticks: Ticks,
    baseline: Baseline,
    /// The last ticks; the newest lies before `next`.
    #[serde(with = "fixed")]
    recent: [Tick; LONGEST],
    next: usize,
    episode: Episode,
}

/// The requests of one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32, bool)", into = "(u32, u32, u32, bool)")]
struct Tick {
    all: u32,
    slow: u32,
    /// Of the slow, those that are far above the percentile.
    far: u32,
    bad: bool,
}

/// More slow requests than usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slowdown {
    /// Slow requests; `p` is how likely so many are if three times the usual share is slow.
    pub alarm: Alarm,
    /// All requests in its window.
    pub requests: u64,
    /// What took longer than this is slow.
    pub slow_us: u64,
    /// The share of slow requests that is usual.
    pub usual_share: f64,
}

impl Default for Slow {
    fn default() -> Self {
        let baseline = Baseline::default();
        Self {
            ticks: Ticks::default(),
            baseline,
            recent: [Tick::default(); LONGEST],
            next: 0,
            episode: Episode::default(),
        }
    }
}

impl Slow {
    /// Takes what a route has answered since the last call, and how many of its requests were lost (these are not among
    /// the answered), every ten seconds or whenever there was one; says whether too many were slow. Returns an alarm as
    /// long as it holds; those that belong together have the same `began_s`.
    pub fn tick(&mut self, answered: &Distribution, lost: u64, now_s: u64) -> Option<Slowdown> {
        let usual = self.baseline.usual();
        let ticks = match self.ticks.step(now_s, LONGEST as u32) {
            Step::Same => 0,
            Step::On(ticks) => ticks,
            Step::Lost => u32::MAX,
        };
        self.episode.pass(ticks);
        (0..ticks.min(LONGEST as u32)).for_each(|_| self.push());
        self.baseline.take(answered, lost, ticks.min(LONGEST as u32));
        let usual = usual?;
        let newest = &mut self.recent[(self.next % LONGEST + LONGEST - 1) % LONGEST];
        let slow_before = newest.slow;
        newest.add(answered, lost, usual);
        // Nothing but a slow request raises an alarm.
        if newest.slow == slow_before && !self.episode.goes_on() {
            return None;
        }
        let mut slowdown = self.look(usual, now_s)?;
        slowdown.alarm.began_s = self.episode.alarm(now_s);
        if self.episode.age() < ALARM_MAX {
            self.baseline.alarm();
        }
        Some(slowdown)
    }

    /// Returns the upper edge of the bucket that holds a quantile of the durations of about the last day, without the last
    /// quarter of an hour and without alarms; `None` where nothing is known.
    pub fn usual_us(&self, q: f64) -> Option<u64> {
        self.baseline.quantile_us(q)
    }

    fn push(&mut self) {
        self.recent[self.next % LONGEST] = Tick::default();
        self.next = (self.next % LONGEST + 1) % LONGEST;
    }

    /// The window that chance explains least.
    fn look(&self, usual: Usual, now_s: u64) -> Option<Slowdown> {
        let (mut counted, mut all, mut slow, mut far, mut bad) = (0, 0u64, 0u64, 0u64, 0);
        let mut found: Option<Slowdown> = None;
        for window in WINDOWS {
            for tick in (counted..window).map(|ago| self.ago(ago)) {
                all += u64::from(tick.all);
                slow += u64::from(tick.slow);
                far += u64::from(tick.far);
                bad += u32::from(tick.bad);
            }
            counted = window;
            if bad < BAD_TICKS_MIN || !Among::Requests(all).enough(far) {
                continue;
            }
            let p = tail::binomial(slow, all, bearable(usual)) * WINDOWS.len() as f64;
            if p < found.as_ref().map_or(ALPHA, |found| found.alarm.p) {
                let (window_s, expected) = (u64::from(window) * TICK_S, usual.share * all as f64);
                let alarm = Alarm { window_s, count: slow, expected, p, began_s: now_s };
                let (slow_us, usual_share) = (usual.slow_us, usual.share);
                found = Some(Slowdown { alarm, requests: all, slow_us, usual_share });
            }
        }
        found
    }

    fn ago(&self, ticks: u32) -> Tick {
        self.recent[(self.next % LONGEST + LONGEST - 1 - ticks as usize) % LONGEST]
    }
}

impl Tick {
    fn add(&mut self, answered: &Distribution, lost: u64, usual: Usual) {
        let from = bucket(usual.slow_us);
        let sum = |buckets: &[u64]| buckets.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let upwards = |from: usize| answered.buckets.get(from..).map_or(0, sum).saturating_add(lost);
        let add = |to: &mut u32, more: u64| *to = to.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        add(&mut self.all, upwards(0));
        add(&mut self.slow, upwards(from));
        add(&mut self.far, upwards(from + FAR_BUCKETS));
        let chance = tail::binomial(u64::from(self.slow), u64::from(self.all), bearable(usual));
        self.bad = chance < BAD;
    }
}

impl From<(u32, u32, u32, bool)> for Tick {
    fn from((all, slow, far, bad): (u32, u32, u32, bool)) -> Self {
        Self { all, slow, far, bad }
    }
}

impl From<Tick> for (u32, u32, u32, bool) {
    fn from(tick: Tick) -> Self {
        (tick.all, tick.slow, tick.far, tick.bad)
    }
}

/// The share of slow requests that is nothing to speak of. Above a percentile lies its share by definition; that less was
/// measured is due to the width of the buckets, or to chance.
fn bearable(usual: Usual) -> f64 {
    (TIMES * usual.share.max(1.0 - QUANTILE)).min(1.0)
}
