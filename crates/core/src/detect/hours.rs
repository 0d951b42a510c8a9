//! How a rare thing is spread over the hours of a week: whether it comes evenly or in heaps, and at which hours more of it
//! is usual. Bounded: the last three counts of each of the week's 168 hours.
//!
//! Not for: the rate itself (`scan`).

use super::fixed;
use serde::{Deserialize, Serialize};

/// Hours of a week.
const WEEK: usize = 168;
/// Weeks that are remembered of each hour.
const WEEKS: usize = 3;
const TICKS_PER_HOUR: u32 = 360;
/// An hour of which less was seen is not counted.
const TICKS_MIN: u32 = 324;
/// Before so many hours are known, counts are taken to come evenly.
const SPREAD_HOURS_MIN: usize = 12;
/// Before so many hours are known, all hours of the week are taken to be alike.
const SHAPE_HOURS_MIN: u32 = 14 * 24;
/// Of so many hours, one with an alarm is left out: an incident says nothing of what is usual. Where there are more, that is
/// how this series is.
const ALARMED_ONE_IN: usize = 4;
/// As many independent events speak for an hour being like the others.
const SHRINK_EVENTS: f64 = 10.0;
const FACTOR_MAX: f64 = 30.0;

/// Counts per hour of the week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hours {
    /// The newest count first. An hour with more than 65,535 is nothing rare.
    #[serde(with = "fixed")]
    counts: [[u16; WEEKS]; WEEK],
    /// How many of these are known.
    #[serde(with = "fixed")]
    known: [u8; WEEK],
    /// One bit for each of these: it had an alarm. The newest is the lowest.
    #[serde(with = "fixed")]
    alarmed: [u8; WEEK],
    /// Hours ever counted.
    total: u32,
    open: Option<Open>,
    spread: f64,
    factor: f64,
    factor_before: f64,
}

/// The hour that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    hour: u64,
    ticks: u32,
    count: u32,
    alarmed: bool,
}

impl Default for Hours {
    fn default() -> Self {
        Self {
            counts: [[0; WEEKS]; WEEK],
            known: [0; WEEK],
            alarmed: [0; WEEK],
            total: 0,
            open: None,
            spread: 1.0,
            factor: 1.0,
            factor_before: 1.0,
        }
    }
}

impl Hours {
    /// Counts what has happened in the `ticks` up to `now_s`.
    pub(super) fn count(&mut self, count: u32, ticks: u32, now_s: u64) {
        let hour = now_s / 3600;
        if self.open.as_ref().is_none_or(|open| open.hour != hour) {
            self.turn(hour);
        }
        if let Some(open) = &mut self.open {
            open.ticks = open.ticks.saturating_add(ticks);
            open.count = open.count.saturating_add(count);
        }
    }

    /// Marks the hour that goes on as one with an alarm.
    pub(super) fn alarm(&mut self) {
        if let Some(open) = &mut self.open {
            open.alarmed = true;
        }
    }

    /// Gives up the hour that goes on: a part of it was not seen.
    pub(super) fn lose(&mut self) {
        self.open = None;
    }

    /// How many times more than Poisson's the counts of whole hours vary: 1 where they come evenly.
    pub(super) fn spread(&self) -> f64 {
        if self.spread.is_finite() { self.spread.max(1.0) } else { 1.0 }
    }

    /// How many events are expected in the last `ticks`, in ticks of an average hour; there may be one turn of an hour
    /// among them.
    pub(super) fn weight(&self, ticks: u32, now_s: u64) -> f64 {
        let into = (now_s / super::TICK_S % u64::from(TICKS_PER_HOUR)) as u32 + 1;
        let now = ticks.min(into);
        f64::from(now) * bounded(self.factor) + f64::from(ticks - now) * bounded(self.factor_before)
    }

    fn turn(&mut self, hour: u64) {
        if let Some(open) = self.open.take().filter(|open| open.ticks >= TICKS_MIN) {
            self.keep(&open);
            self.spread = self.measured_spread();
        }
        self.factor_before = self.factor;
        self.factor = self.factor((hour % WEEK as u64) as usize);
        self.open = Some(Open { hour, ticks: 0, count: 0, alarmed: false });
    }

    fn keep(&mut self, open: &Open) {
        let at = (open.hour % WEEK as u64) as usize;
        let [newest, middle, _] = self.counts[at];
        self.counts[at] = [u16::try_from(open.count).unwrap_or(u16::MAX), newest, middle];
        self.known[at] = self.known[at].saturating_add(1).min(WEEKS as u8);
        self.alarmed[at] = self.alarmed[at] << 1 | u8::from(open.alarmed);
        self.total = self.total.saturating_add(1);
    }

    /// The variance of the counts of whole hours in units of their mean.
    fn measured_spread(&self) -> f64 {
        if self.seen().count() < SPREAD_HOURS_MIN {
            return 1.0;
        }
        let week = self.week();
        let bits = self.bits_left_out(1);
        let counts = self.seen().filter(|at| self.alarmed[*at] & bits == 0);
        let counts: Vec<f64> =
            counts.map(|at| f64::from(self.counts[at][0]) / self.factor_in(at, &week)).collect();
        let (mean, squares) = moments(&counts);
        if mean > 0.0 && counts.len() > 1 {
            (squares / (counts.len() - 1) as f64 / mean).max(1.0)
        } else {
            1.0
        }
    }

    fn factor(&self, at: usize) -> f64 {
        self.factor_in(at, &self.week())
    }

    /// How many times the average of all hours is usual in this one. Where few events are known, or they come in heaps, a
    /// difference between hours says little, and the factor stays near 1.
    fn factor_in(&self, at: usize, week: &Option<Week>) -> f64 {
        match week {
            Some(week) if self.known[at] > 1 => {
                let weight = f64::from(self.known[at]) / week.noise;
                let usual = f64::from(self.usual(at));
                bounded((usual * weight + SHRINK_EVENTS) / (week.level * weight + SHRINK_EVENTS))
            }
            _ => 1.0,
        }
    }

    fn week(&self) -> Option<Week> {
        if self.total < SHAPE_HOURS_MIN {
            return None;
        }
        let bits = self.bits_left_out((1 << WEEKS) - 1);
        let (mut hours, mut levels, mut means, mut squares, mut freedoms) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for at in self.seen().filter(|at| self.known[*at] > 1) {
            hours += 1.0;
            levels += f64::from(self.usual(at));
            if self.alarmed[at] & bits == 0 {
                let counts: Vec<f64> = self.known(at).iter().map(|count| f64::from(*count)).collect();
                let (mean, square) = moments(&counts);
                means += mean * (counts.len() - 1) as f64;
                squares += square;
                freedoms += (counts.len() - 1) as f64;
            }
        }
        let noise = if means > 0.0 && freedoms > 0.0 { (squares / means).max(1.0) } else { 1.0 };
        (hours > 0.0).then(|| Week { level: levels / hours, noise })
    }

    /// The middle one of the counts of this hour in the last weeks, so that what happened in a single one does not count;
    /// of two, the smaller.
    fn usual(&self, at: usize) -> u16 {
        let mut counts = self.known(at).to_vec();
        counts.sort_unstable();
        counts.get(counts.len().saturating_sub(1) / 2).copied().unwrap_or(0)
    }

    fn known(&self, at: usize) -> &[u16] {
        &self.counts[at][..usize::from(self.known[at]).min(WEEKS)]
    }

    fn seen(&self) -> impl Iterator<Item = usize> {
        (0..WEEK).filter(|at| self.known[*at] > 0)
    }

    /// Which of `bits` mean that an hour is left out: all of them, or none, where alarms are too common.
    fn bits_left_out(&self, bits: u8) -> u8 {
        let alarmed = self.seen().filter(|at| self.alarmed[*at] & bits != 0).count();
        if alarmed * ALARMED_ONE_IN <= self.seen().count() { bits } else { 0 }
    }
}

/// What is known of a week.
struct Week {
    /// The usual count of an average hour.
    level: f64,
    /// How many times more than Poisson's the same hour of different weeks varies.
    noise: f64,
}

/// The mean, and the sum of the squares of what differs from it.
fn moments(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum())
}

fn bounded(factor: f64) -> f64 {
    if factor.is_nan() { 1.0 } else { factor.clamp(1.0 / FACTOR_MAX, FACTOR_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets whole hours pass with these counts, from the `from`th on.
    fn live(hours: &mut Hours, from: u64, counts: impl IntoIterator<Item = u32>) -> u64 {
        let mut hour = from;
        for count in counts {
            hours.count(count, TICKS_PER_HOUR, hour * 3600);
            hour += 1;
        }
        hours.count(0, 1, hour * 3600);
        hour
    }

    fn spread_of(counts: &[u32]) -> f64 {
        let mut hours = Hours::default();
        live(&mut hours, 0, counts.iter().copied());
        hours.spread()
    }

    #[test]
    fn spread_is_variance_by_mean() {
        assert_eq!(spread_of(&[0, 20, 0, 20, 0, 20, 0, 20, 0, 20, 0]), 1.0, "eleven hours say nothing");
        let heaps = spread_of(&[0, 20, 0, 20, 0, 20, 0, 20, 0, 20, 0, 20]);
        assert!((heaps - 120.0 / 11.0).abs() < 1e-9, "{heaps}");
        assert_eq!(spread_of(&[5; 50]), 1.0, "more even than chance is even");
        assert_eq!(spread_of(&[0; 50]), 1.0);
    }

    #[test]
    fn an_hour_with_an_alarm_is_left_out_unless_they_are_common() {
        let with = |alarms: u64| {
            let mut hours = Hours::default();
            for hour in 0..100 {
                let alarmed = hour % 10 == 0 && hour < alarms * 10;
                hours.count(if alarmed { 500 } else { 1 }, TICKS_PER_HOUR, hour * 3600);
                if alarmed {
                    hours.alarm();
                }
            }
            hours.count(0, 1, 100 * 3600);
            hours.spread()
        };
        assert_eq!((with(0), with(1), with(9)), (1.0, 1.0, 1.0));
        let mut hours = Hours::default();
        for hour in 0..40 {
            hours.count(if hour % 3 == 0 { 500 } else { 1 }, TICKS_PER_HOUR, hour * 3600);
            if hour % 3 == 0 {
                hours.alarm();
            }
        }
        live(&mut hours, 40, []);
        assert!(hours.spread() > 100.0, "{}", hours.spread());
    }

    #[test]
    fn an_hour_that_was_not_seen_whole_is_not_counted() {
        let mut hours = Hours::default();
        for hour in 0..50 {
            hours.count(hour as u32 * 10, TICKS_MIN - 1, hour * 3600);
        }
        live(&mut hours, 50, []);
        assert_eq!((hours.spread(), hours.total), (1.0, 0));
    }

    #[test]
    fn after_two_weeks_a_nightly_heap_is_usual_at_its_hour() {
        let nightly = |hour: u64| if hour % 24 == 3 { 40 } else { 1 };
        let mut hours = Hours::default();
        let hour = live(&mut hours, 0, (0..14 * 24 - 1).map(nightly));
        assert_eq!(hours.weight(6, hour * 3600 + 1800), 6.0, "not before");
        let hour = live(&mut hours, hour, (hour..21 * 24 + 3).map(nightly));
        let night = hours.weight(6, hour * 3600 + 1800);
        assert!(night > 20.0, "{night}");
        // A window that began in the hour before has a part of each.
        let both = hours.weight(6, hour * 3600 + 20);
        assert!(both > night / 2.0 && both < night, "{both}");
        // Once it is explained by the hour, it is no spread.
        assert!(hours.spread() < 3.0, "{}", hours.spread());
        // In one week of three: it does not count.
        let mut once = Hours::default();
        let hour = live(&mut once, 0, (0..21 * 24 + 3).map(|hour| if hour == 7 * 24 + 3 { 40 } else { 1 }));
        let weight = once.weight(6, hour * 3600 + 1800);
        assert!((weight - 6.0).abs() < 0.1, "{weight}");
    }
}
