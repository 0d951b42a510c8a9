//! A scan for heaps of rare events: lost requests, deaths of workers, boots that fail. In four windows from ten seconds
//! to a quarter of an hour, it asks how likely so many events are, given the rate that this series has had (Gamma prior,
//! Poisson counts, forgotten with a half-life of a day) and how unevenly they have come (negative binomial).
//!
//! What it learns is a quarter of an hour late, so that an incident does not become usual while it is found. A lasting
//! change becomes usual within about a day.
//!
//! Not for: restarts that were asked for (`HUP`, `max_requests`), which are not to be counted; nor for one event alone,
//! which is worth a note but never an alarm.

use super::alarm::{ALPHA, Alarm, EVENTS_MIN, Episode};
use super::hours::Hours;
use super::ticks::{Step, TICK_S, Ticks};
use super::{fixed, tail};
use serde::{Deserialize, Serialize};

/// In ticks.
const WINDOWS: [u32; 4] = [1, 6, 30, 90];
const LONGEST: usize = 90;
/// What is believed of a rate before anything was seen: half an event in six hours.
const PRIOR_EVENTS: f64 = 0.5;
const PRIOR_S: f64 = 6.0 * 3600.0;
const HALF_LIFE_S: f64 = 24.0 * 3600.0;
const TICKS_PER_HOUR: f64 = 360.0;

/// The scan of one series. 1.8 KB; at most 6 KB as JSON, 1.5 KB where there is little to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    ticks: Ticks,
    /// Counts of the last ticks; the newest lies before `next`.
    #[serde(with = "fixed")]
    recent: [u32; LONGEST],
    next: usize,
    /// How many of these were lived.
    lived: u32,
    /// What was learned: events, and seconds of an average hour in which they came.
    events: f64,
    seconds: f64,
    hours: Hours,
    episode: Episode,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            ticks: Ticks::default(),
            recent: [0; LONGEST],
            next: 0,
            lived: 0,
            events: 0.0,
            seconds: 0.0,
            hours: Hours::default(),
            episode: Episode::default(),
        }
    }
}

impl Scan {
    /// Takes what has happened since the last call, every ten seconds, and says whether that is too much. Returns an
    /// alarm as long as it holds; those that belong together have the same `began_s`.
    ///
    /// A call that comes late loses nothing: its events are shared out over the time. In the first call, after more than
    /// a quarter of an hour, and when the clock was set back, nobody knows when the events were; they are not counted.
    pub fn tick(&mut self, count: u64, now_s: u64) -> Option<Alarm> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.ticks.step(now_s, LONGEST as u32) {
            Step::Same => self.add(count, now_s),
            Step::On(ticks) => self.pass(count, ticks, now_s),
            Step::Lost => {
                self.lose();
                return None;
            }
        }
        // Nothing but an event raises an alarm.
        if count == 0 && !self.episode.goes_on() {
            return None;
        }
        let mut alarm = self.look(now_s)?;
        self.hours.alarm();
        alarm.began_s = self.episode.alarm(now_s);
        Some(alarm)
    }

    /// Returns how many events are expected in an average hour.
    pub fn per_hour(&self) -> f64 {
        let (shape, seconds) = self.rate();
        shape / seconds * 3600.0
    }

    fn add(&mut self, count: u32, now_s: u64) {
        let newest = &mut self.recent[(self.next % LONGEST + LONGEST - 1) % LONGEST];
        *newest = newest.saturating_add(count);
        self.hours.count(count, 0, now_s);
    }

    fn pass(&mut self, count: u32, ticks: u32, now_s: u64) {
        self.episode.pass(ticks);
        self.hours.count(count, ticks, now_s);
        let (share, rest) = (count / ticks, count % ticks);
        for tick in 0..ticks {
            let oldest =
                std::mem::replace(&mut self.recent[self.next % LONGEST], share + u32::from(tick < rest));
            self.next = (self.next % LONGEST + 1) % LONGEST;
            if self.lived < LONGEST as u32 {
                self.lived += 1;
            } else {
                self.learn(oldest, now_s);
            }
        }
    }

    fn learn(&mut self, count: u32, now_s: u64) {
        let kept = (-(TICK_S as f64) / HALF_LIFE_S).exp2();
        // What the tick that has just left the longest window weighed.
        let weight = self.hours.weight(LONGEST as u32 + 1, now_s) - self.hours.weight(LONGEST as u32, now_s);
        self.events = self.events * kept + f64::from(count);
        self.seconds = self.seconds * kept + weight * TICK_S as f64;
    }

    fn lose(&mut self) {
        self.recent = [0; LONGEST];
        self.lived = 0;
        self.hours.lose();
        self.episode.pass(u32::MAX);
    }

    /// The rate as a gamma distribution: events, and seconds in which they came.
    fn rate(&self) -> (f64, f64) {
        let known = |value: f64| if value.is_finite() { value.max(0.0) } else { 0.0 };
        (PRIOR_EVENTS + known(self.events), PRIOR_S + known(self.seconds))
    }

    /// The window that chance explains least.
    fn look(&self, now_s: u64) -> Option<Alarm> {
        let (shape, seconds) = self.rate();
        let shape = self.with_spread(shape, shape / seconds * 3600.0);
        let (mut counted, mut count) = (0, 0u64);
        let mut alarms = Vec::new();
        for window in WINDOWS {
            count += (counted..window).map(|ago| u64::from(self.ago(ago))).sum::<u64>();
            counted = window;
            let expected = self.per_hour() / TICKS_PER_HOUR * self.hours.weight(window, now_s);
            if count < EVENTS_MIN || count as f64 <= expected {
                continue;
            }
            let p = tail::negative_binomial(count, expected, shape) * WINDOWS.len() as f64;
            if p < ALPHA {
                let window_s = u64::from(window) * TICK_S;
                alarms.push(Alarm { window_s, count, expected, p, began_s: now_s });
            }
        }
        alarms.into_iter().min_by(|one, other| one.p.total_cmp(&other.p))
    }

    /// The shape of the distribution of counts: what is unsure of the rate, and how it varies. The spread of whole hours is
    /// taken to be that of a rate which hardly changes within an hour, so that shorter windows have a share of it in
    /// proportion; the shape is then the same for all.
    fn with_spread(&self, shape: f64, per_hour: f64) -> f64 {
        1.0 / (1.0 / shape + (self.hours.spread() - 1.0) / per_hour)
    }

    fn ago(&self, ticks: u32) -> u32 {
        self.recent[(self.next % LONGEST + LONGEST - 1 - ticks as usize) % LONGEST]
    }
}
