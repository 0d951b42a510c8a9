//! Metrics as plain data: families of series, whose numbers borrow from a snapshot. What Prometheus's text, its protobuf and
//! OpenTelemetry have in common, so that all three say the same.
//!
//! Not for: which metrics there are ([`super::families`]), and not for any format.

use ferricorn_core::histogram::Distribution;

/// What stands before the name of every metric.
pub(crate) const PREFIX: &str = "ferricorn_";

/// A metric with all its series.
#[derive(Clone, Debug)]
pub(crate) struct Family<'a> {
    /// Its name, without [`PREFIX`].
    pub name: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// How its numbers behave.
    pub kind: Kind,
    /// Since when a counter counts.
    pub since: Since,
    /// Its numbers; a family without any is left out.
    pub series: Vec<Series<'a>>,
}

/// How the numbers of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
    /// They are distributions of durations, which only grow.
    Histogram,
}

/// Since when a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Since the arbiter started.
    Server,
    /// Since the observer started.
    Observer,
}

/// One number of a family.
#[derive(Clone, Debug)]
pub(crate) struct Series<'a> {
    /// Names and values, in the order in which they are written.
    pub labels: Vec<(&'static str, &'a str)>,
    /// The number.
    pub value: Value<'a>,
}

/// A number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// Whole.
    Int(u64),
    /// With a part.
    Float(f64),
    /// Durations.
    Durations(&'a Distribution),
}

impl Value<'_> {
    /// Returns it as Prometheus has it; a distribution is its sum in seconds.
    pub(crate) fn number(&self) -> f64 {
        match self {
            Self::Int(number) => *number as f64,
            Self::Float(number) => *number,
            Self::Durations(distribution) => seconds(distribution.sum_us),
        }
    }
}

impl<'a> Family<'a> {
    /// A family of numbers with labels.
    pub(crate) fn new(
        name: &'static str,
        kind: Kind,
        help: &'static str,
        series: impl IntoIterator<Item = (Vec<(&'static str, &'a str)>, Value<'a>)>,
    ) -> Self {
        let series = series.into_iter().map(|(labels, value)| Series { labels, value }).collect();
        Self { name, help, kind, since: Since::Server, series }
    }

    /// A counter of one number.
    pub(crate) fn counter(name: &'static str, help: &'static str, number: u64) -> Self {
        Self::new(name, Kind::Counter, help, [(Vec::new(), Value::Int(number))])
    }

    /// A gauge of one number.
    pub(crate) fn gauge(name: &'static str, help: &'static str, number: u64) -> Self {
        Self::new(name, Kind::Gauge, help, [(Vec::new(), Value::Int(number))])
    }

    /// A gauge of one measure; without one there is no series.
    pub(crate) fn measure(name: &'static str, help: &'static str, measure: Option<f64>) -> Self {
        Self::new(name, Kind::Gauge, help, measure.map(|measure| (Vec::new(), Value::Float(measure))))
    }

    /// Says that it counts since the observer has begun.
    pub(crate) fn of_observer(self) -> Self {
        Self { since: Since::Observer, ..self }
    }
}

/// Returns microseconds as seconds.
pub(crate) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
