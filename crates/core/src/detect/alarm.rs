//! Alarms: what they say, when they matter, and which of them belong together. Not for what raises them.

use super::TICK_S;
use serde::{Deserialize, Serialize};

/// An alarm is raised when chance does this, or worse, less often. Per series and look, over all windows together.
pub const ALPHA: f64 = 1e-4;
/// Fewer events are never an alarm, however unlikely they are.
pub const EVENTS_MIN: u64 = 3;
/// Alarms that are no further apart are one.
pub const MERGE_S: u64 = 15 * 60;
/// So much of all requests has to be hit before it is worth a page.
const REQUESTS_SHARE: f64 = 0.01;
/// So many of all workers.
const WORKERS_SHARE: f64 = 0.1;

/// More events than chance explains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The window that shows it best.
    pub window_s: u64,
    /// Events in it.
    pub count: u64,
    /// How many there usually are.
    pub expected: f64,
    /// How likely so many or more are by chance; corrected for there being several windows.
    pub p: f64,
    /// When the first of the alarms was raised that are one with this: its name, as long as it goes on.
    pub began_s: u64,
}

/// What the events of an alarm are among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// All requests in its window.
    Requests(u64),
    /// All workers.
    Workers(u64),
}

impl Alarm {
    /// Whether it is enough to bother somebody: what is certain is not always important.
    pub fn matters(&self, among: Among) -> bool {
        among.enough(self.count)
    }
}

impl Among {
    /// Whether so many of them are worth a page.
    pub(super) fn enough(self, count: u64) -> bool {
        let least = match self {
            Self::Requests(all) => all as f64 * REQUESTS_SHARE,
            Self::Workers(all) => all as f64 * WORKERS_SHARE,
        };
        count >= EVENTS_MIN && count as f64 >= least
    }
}

/// Alarms of one series that are no further apart than [`MERGE_S`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Episode {
    began_s: Option<u64>,
    /// Ticks since it began, and since its last alarm.
    age: u32,
    quiet: u32,
}

impl Episode {
    /// Lets time pass.
    pub(super) fn pass(&mut self, ticks: u32) {
        self.age = self.age.saturating_add(ticks);
        self.quiet = self.quiet.saturating_add(ticks);
        if u64::from(self.quiet) * TICK_S > MERGE_S {
            *self = Self::default();
        }
    }

    /// Takes one more alarm; returns when the first was.
    pub(super) fn alarm(&mut self, now_s: u64) -> u64 {
        self.quiet = 0;
        if self.began_s.is_none() {
            self.age = 0;
        }
        *self.began_s.get_or_insert(now_s)
    }

    /// Whether the last alarm was a short time ago.
    pub(super) fn goes_on(&self) -> bool {
        self.began_s.is_some()
    }

    /// For how many ticks it has gone on.
    pub(super) fn age(&self) -> u32 {
        if self.goes_on() { self.age } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_within_a_quarter_of_an_hour_are_one() {
        let mut episode = Episode::default();
        // Ticks that pass before an alarm, and what it is one with.
        for (ticks, now_s, began_s) in [(5, 1000, 1000), (90, 1900, 1000), (90, 2800, 1000), (91, 3710, 3710)]
        {
            episode.pass(ticks);
            assert_eq!(episode.alarm(now_s), began_s, "{now_s}");
        }
        episode.pass(10);
        assert_eq!((episode.goes_on(), episode.age()), (true, 10));
        episode.pass(u32::MAX);
        assert_eq!((episode.goes_on(), episode.age()), (false, 0));
    }

    #[test]
    fn what_matters_is_enough_and_a_part_of_all() {
        let cases = [
            (2, Among::Requests(2), false),
            (3, Among::Requests(0), true),
            (3, Among::Requests(300), true),
            (3, Among::Requests(301), false),
            (3, Among::Workers(30), true),
            (3, Among::Workers(31), false),
        ];
        for (count, among, expected) in cases {
            let alarm = Alarm { window_s: 60, count, expected: 0.1, p: 1e-6, began_s: 0 };
            assert_eq!(alarm.matters(among), expected, "{count} among {among:?}");
        }
    }
}
