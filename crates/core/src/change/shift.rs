//! Series of numbers of a service and of what it depends on, and which of them have shifted, in which direction, since when: the
//! newest values against median and median absolute deviation of those before, with a floor for each kind of number, since a
//! series that never moved has no deviation. After BARO's robust scorer (FSE 2024), in both directions.
//!
//! Not for: raising an alarm: that is `detect`'s; here contributing factors of what is known to be wrong are put in order.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Values that are kept of a series: an hour of ten seconds each.
const VALUES_MAX: usize = 360;
/// Series that are kept.
const SERIES_MAX: usize = 64;
/// Fewer values before say nothing.
const BEFORE_MIN: usize = 6;
/// So many deviations are a shift; and so many a part of one that has begun.
const SHIFTED: f64 = 6.0;
const MOVED: f64 = 3.0;
/// A shift is by such a factor at least, up or down.
const FACTOR: f64 = 2.0;
/// MAD to standard deviation, for what is distributed normally.
const NORMAL: f64 = 1.4826;
/// Values that are the newest.
const NEWEST: usize = 3;
/// Most shifts that are told.
const TOLD_MAX: usize = 5;

/// What kind of number a series is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests a second.
    #[default]
    Rate,
    /// Milliseconds.
    Milliseconds,
    /// A share, 0 to 1.
    Share,
    /// How many there are: connections, sessions that wait.
    Count,
    /// How many times as long as before.
    Ratio,
}

impl Metric {
    /// Returns the least deviation: below that nobody would speak of a shift.
    fn floor(self, median: f64) -> f64 {
        let (least, share) = match self {
            Self::Rate => (0.5, 0.1),
            Self::Milliseconds => (1.0, 0.1),
            Self::Share => (0.02, 0.05),
            Self::Count => (0.5, 0.1),
            Self::Ratio => (0.1, 0.1),
        };
        f64::max(least, share * median.abs())
    }

    fn said(self, value: f64) -> String {
        match self {
            Self::Rate => format!("{value:.1}/s"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Share => format!("{:.0} %", value * 100.0),
            Self::Count => format!("{value:.0}"),
            Self::Ratio => format!("×{value:.1}"),
        }
    }
}

/// A series that has shifted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shift {
    /// What is counted: `statements of shop on 127.0.0.1:5432`.
    pub name: String,
    /// What kind of number it is.
    pub metric: Metric,
    /// It belongs to what the service depends on, and not to the service itself.
    pub dependency: bool,
    /// The middle of what was before.
    pub before: f64,
    /// The middle of the newest.
    pub now: f64,
    /// How many deviations that is away; negative for less.
    pub score: f64,
    /// Since when, seconds since 1970.
    pub since: f64,
    /// In a sentence.
    pub text: String,
}

/// All series. As JSON they have about half a megabyte at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shifts {
    series: BTreeMap<String, Series>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Series {
    metric: Metric,
    dependency: bool,
    values: VecDeque<(f64, f64)>,
}

impl Shifts {
    /// Takes a value of a series.
    pub fn take(&mut self, name: &str, metric: Metric, dependency: bool, at: f64, value: f64) {
        if !value.is_finite() || (!self.series.contains_key(name) && self.series.len() >= SERIES_MAX) {
            return;
        }
        let series = self.series.entry(name.to_owned()).or_default();
        (series.metric, series.dependency) = (metric, dependency);
        // A clock that was set back begins anew.
        if series.values.back().is_some_and(|(last, _)| *last > at) {
            series.values.clear();
        }
        if series.values.len() >= VALUES_MAX {
            series.values.pop_front();
        }
        series.values.push_back((at, value));
    }

    /// Returns what has shifted since about `onset` or is shifted now, the strongest first.
    pub fn shifted(&self, onset: f64) -> Vec<Shift> {
        let mut found: Vec<Shift> =
            self.series.iter().filter_map(|(name, series)| series.shift(name, onset)).collect();
        found.sort_by(|one, other| other.score.abs().total_cmp(&one.score.abs()));
        found.truncate(TOLD_MAX);
        found
    }
}

impl Series {
    fn shift(&self, name: &str, onset: f64) -> Option<Shift> {
        let newest: Vec<f64> = self.values.iter().rev().take(NEWEST).map(|(_, value)| *value).collect();
        // Before the trouble, without the minute in which it may have begun unnoticed.
        let is_before = |(at, _): &&(f64, f64)| *at < onset - 60.0;
        let mut before: Vec<f64> = self.values.iter().filter(is_before).map(|(_, value)| *value).collect();
        if before.len() < BEFORE_MIN {
            // The older half, where all of it is new.
            let half = self.values.len() / 2;
            before = self.values.iter().take(half).map(|(_, value)| *value).collect();
        }
        if before.len() < BEFORE_MIN || newest.len() < NEWEST {
            return None;
        }
        let median = middle(before.clone());
        let deviation = NORMAL * middle(before.iter().map(|value| (value - median).abs()).collect());
        let deviation = deviation.max(self.metric.floor(median));
        let now = middle(newest);
        let score = (now - median) / deviation;
        let factor = (now.abs() + deviation / 2.0) / (median.abs() + deviation / 2.0);
        if score.abs() < SHIFTED || (1.0 / FACTOR..FACTOR).contains(&factor) {
            return None;
        }
        let has_moved = |value: f64| (value - median) / deviation * score.signum() >= MOVED;
        let run = self.values.iter().rev().take_while(|(_, value)| has_moved(*value));
        let since = run.last().map_or(onset, |(at, _)| *at);
        let word = if score > 0.0 { "more" } else { "less" };
        let (was, is) = (self.metric.said(median), self.metric.said(now));
        let text =
            format!("{name}: {was} → {is}, {word} than usual by {:.0} deviations", score.abs().min(999.0));
        let (metric, dependency) = (self.metric, self.dependency);
        Some(Shift { name: name.to_owned(), metric, dependency, before: median, now, score, since, text })
    }
}

/// Returns the median; 0 of nothing.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(metric: Metric, values: &[f64]) -> Vec<Shift> {
        let mut shifts = Shifts::default();
        for (index, value) in values.iter().enumerate() {
            shifts.take("x", metric, true, 1000.0 + 10.0 * index as f64, *value);
        }
        shifts.shifted(1000.0 + 10.0 * values.len() as f64 - 30.0)
    }

    #[test]
    fn shifts_are_found_in_both_directions_and_dated() {
        let calm = [10.0, 11.0, 9.0, 10.0, 12.0, 10.0, 11.0, 9.0, 10.0, 10.0, 11.0, 10.0];
        let with = |more: &[f64]| [&calm, more].concat();
        assert!(of(Metric::Rate, &with(&[11.0, 12.0, 10.0])).is_empty());
        let up = of(Metric::Rate, &with(&[40.0, 41.0, 39.0]));
        assert_eq!((up.len(), up[0].before, up[0].now, up[0].since), (1, 10.0, 40.0, 1120.0));
        assert!(up[0].score > 6.0 && up[0].text.starts_with("x: 10.0/s → 40.0/s, more"), "{}", up[0].text);
        let down = of(Metric::Rate, &with(&[0.0, 0.0, 1.0]));
        assert!(down[0].score < -6.0, "{down:?}");
        // One outlier is none, and too few values say nothing.
        assert!(of(Metric::Rate, &with(&[10.0, 90.0, 10.0])).is_empty());
        assert!(of(Metric::Rate, &[1.0, 1.0, 90.0, 90.0]).is_empty());
    }

    #[test]
    fn a_series_that_never_moved_has_a_floor() {
        let still = [0.0; 20];
        assert!(of(Metric::Count, &[&still[..], &[1.0, 1.0, 1.0]].concat()).is_empty());
        assert_eq!(of(Metric::Count, &[&still[..], &[8.0, 8.0, 9.0]].concat()).len(), 1);
        assert!(of(Metric::Share, &[&[0.5; 20][..], &[0.6, 0.6, 0.6]].concat()).is_empty());
    }

    #[test]
    fn limits_hold() {
        let mut shifts = Shifts::default();
        for number in 0..SERIES_MAX + 5 {
            shifts.take(&number.to_string(), Metric::Rate, false, 1.0, 1.0);
        }
        assert_eq!(shifts.series.len(), SERIES_MAX);
        (0..VALUES_MAX + 5).for_each(|at| shifts.take("0", Metric::Rate, false, 2.0 + at as f64, 1.0));
        assert_eq!(shifts.series["0"].values.len(), VALUES_MAX);
        shifts.take("0", Metric::Rate, false, 1.0, 1.0);
        assert_eq!(shifts.series["0"].values.len(), 1);
        shifts.take("0", Metric::Rate, false, 1.0, f64::NAN);
        assert_eq!(shifts.series["0"].values.len(), 1);
    }
}
