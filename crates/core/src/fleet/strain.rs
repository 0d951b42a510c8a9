//! Whether a silence is the host's fault: the control group is throttled, or nobody gets a processor. Measured only while
//! somebody is late, and always over the time of that silence. Not for: a host that slept (`Fleet::notice_suspension`), or
//! reading what the kernel says (`sys::pressure`).

use std::collections::VecDeque;
use std::fmt;

/// Whoever is silent on such a host gets so many times its limit, and no more.
pub(super) const PATIENCE: u64 = 3;
/// From this pressure on, in per cent, there is no processor to be had.
const PRESSURE: u64 = 90;
/// Measurements that are kept. They come once a second: enough for the silence of a boot.
const SAMPLES_MAX: usize = 1024;

/// What the kernel says of the host, as far as it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// What the limits of our control groups have cost since they were made.
    pub throttled: Option<Throttled>,
    /// For how many per cent of the last seconds somebody on this host waited for a processor.
    pub percent: Option<u64>,
}

/// The bookkeeping of control groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// Periods in which processes wanted to run.
    pub periods: u64,
    /// Those of them in which they had to stop.
    pub cut: u64,
    /// For how long they had to, all processors together.
    pub stopped_ns: u64,
}

/// Why silence does not mean death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The control group may not run for most of the time.
    Throttled,
    /// The arbiter itself gets the processor late.
    Lagging,
    /// Everybody waits for a processor, the arbiter too.
    Crowded,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throttled => "its control group is over its limit of processor time and mostly stopped",
            Self::Lagging => "the master, too, mostly gets no processor",
            Self::Crowded => "the processors of this host are overloaded",
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ns: u64,
    throttled: Option<Throttled>,
    lag_ns: u64,
}

/// What was measured since somebody is late.
#[derive(Debug, Default)]
pub(super) struct Strain {
    samples: VecDeque<Sample>,
    percent: Option<u64>,
    /// How late we woke ourselves, all in all.
    lag_ns: u64,
    /// The cause was said.
    said: bool,
}

impl Strain {
    /// Notes that we woke so much later than we wanted.
    pub(super) fn lagged(&mut self, late_ns: u64) {
        self.lag_ns = self.lag_ns.saturating_add(late_ns);
    }

    /// Nobody is late.
    pub(super) fn relax(&mut self) {
        self.samples.clear();
        self.said = false;
    }

    pub(super) fn measured(&mut self, pressure: Pressure, now_ns: u64) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let (throttled, lag_ns) = (pressure.throttled, self.lag_ns);
        self.samples.push_back(Sample { at_ns: now_ns, throttled, lag_ns });
        self.percent = pressure.percent;
    }

    /// Returns what has kept a worker silent since then; `Err` while there is nothing to compare with.
    pub(super) fn cause(&self, since_ns: u64) -> Result<Option<Shortage>, TooSoon> {
        let last = self.samples.back().ok_or(TooSoon)?;
        let before = self.samples.iter().rev().find(|sample| sample.at_ns <= since_ns);
        let first =
            before.or(self.samples.front()).filter(|first| first.at_ns < last.at_ns).ok_or(TooSoon)?;
        let span_ns = last.at_ns - first.at_ns;
        let lag_ns = last.lag_ns - first.lag_ns;
        let crowded = self.percent.is_some_and(|percent| percent >= PRESSURE);
        Ok(if mostly_stopped(first.throttled, last.throttled, span_ns) {
            Some(Shortage::Throttled)
        } else if lag_ns >= span_ns / 2 {
            Some(Shortage::Lagging)
        // That others wait says nothing of us.
        } else if crowded && lag_ns >= span_ns / 10 {
            Some(Shortage::Crowded)
        } else {
            None
        })
    }

    /// Tells whether it is the first time that somebody is spared.
    pub(super) fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.said, true)
    }
}

/// There is one measurement, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSoon;

/// Several processors are stopped at once and their times add up, so that the periods have to agree.
fn mostly_stopped(first: Option<Throttled>, last: Option<Throttled>, span_ns: u64) -> bool {
    let (Some(first), Some(last)) = (first, last) else { return false };
    let periods = last.periods.saturating_sub(first.periods);
    let cut = last.cut.saturating_sub(first.cut);
    let stopped_ns = last.stopped_ns.saturating_sub(first.stopped_ns);
    cut > 0 && cut >= periods / 2 && stopped_ns >= span_ns / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttled(periods: u64, cut: u64, stopped_ns: u64) -> Option<Throttled> {
        Some(Throttled { periods, cut, stopped_ns })
    }

    /// Measures twice, 1,000 ns apart, with so much lag between.
    fn between(first: Pressure, lag_ns: u64, last: Pressure) -> Option<Shortage> {
        let mut strain = Strain::default();
        assert_eq!(strain.cause(0), Err(TooSoon));
        strain.measured(first, 5000);
        assert_eq!(strain.cause(0), Err(TooSoon));
        strain.lagged(lag_ns);
        strain.measured(last, 6000);
        strain.cause(5500).expect("measured")
    }

    #[test]
    fn a_strained_host_is_told_from_a_busy_one() {
        let pressure = |throttled, percent| Pressure { throttled, percent };
        let table = [
            (throttled(0, 0, 0), 0, throttled(10, 10, 900), None, Some(Shortage::Throttled)),
            // A third of the time, or a few periods of many on many processors.
            (throttled(0, 0, 0), 0, throttled(10, 10, 300), None, None),
            (throttled(0, 0, 0), 0, throttled(10, 3, 900), None, None),
            (throttled(10, 10, 900), 0, throttled(20, 10, 900), None, None),
            // Counted anew, and not known.
            (throttled(10, 10, 900), 0, throttled(1, 0, 0), None, None),
            (None, 0, throttled(10, 10, 900), None, None),
            (None, 499, None, None, None),
            (None, 500, None, None, Some(Shortage::Lagging)),
            (None, 99, None, Some(100), None),
            (None, 100, None, Some(90), Some(Shortage::Crowded)),
            (None, 100, None, Some(89), None),
        ];
        for (first, lag_ns, last, percent, cause) in table {
            let found = between(pressure(first, None), lag_ns, pressure(last, percent));
            assert_eq!(found, cause, "{first:?} {lag_ns} {last:?} {percent:?}");
        }
    }

    #[test]
    fn what_counts_is_the_time_of_the_silence() {
        let mut strain = Strain::default();
        for second in 0..2000 {
            let stopped_ns = if second < 1500 { 0 } else { (second - 1500) * 1000 };
            let pressure = Pressure { throttled: throttled(second, second, stopped_ns), percent: None };
            strain.measured(pressure, second * 1000);
        }
        assert_eq!(strain.samples.len(), SAMPLES_MAX);
        assert_eq!(strain.cause(1_600_500), Ok(Some(Shortage::Throttled)));
        assert_eq!(strain.cause(0), Ok(None), "for half of the time that is known");
        assert!(strain.is_news() && !strain.is_news());
        strain.relax();
        assert!(strain.is_news());
        assert_eq!(strain.cause(0), Err(TooSoon));
    }
}
