//! What an observer does how often, and that it notices when it was stopped meanwhile. Not for: doing it.

use crate::kernel;

const SECOND_NS: u64 = 1_000_000_000;
/// How often a whole snapshot is published, though nobody asks.
const PUBLISH_NS: u64 = 5 * SECOND_NS;
/// The detectors' beat.
const GAINS_NS: u64 = 10 * SECOND_NS;
/// How often what has to survive is written down.
const KEEP_NS: u64 = 60 * SECOND_NS;
/// Who wakes so much later than wanted, and was not kept by others on a processor, has been stopped.
const PAUSE_NS: u64 = 2 * SECOND_NS;

/// When what is done next, by the monotonic clock.
#[derive(Debug)]
pub(crate) struct Rhythm {
    second_ns: u64,
    publish_ns: u64,
    gains_ns: u64,
    keep_ns: u64,
    /// How long we have waited for a processor in all, a second ago at most.
    waited_ns: u64,
}

/// What is due now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// The look at workers.
    pub(crate) second: bool,
    /// A whole snapshot for everybody.
    pub(crate) publish: bool,
    /// The detectors.
    pub(crate) gains: bool,
    /// Writing down what has to survive.
    pub(crate) keep: bool,
}

impl Rhythm {
    /// Begins; the minute is not over yet.
    pub(crate) fn new(now_ns: u64) -> Self {
        Self { second_ns: 0, publish_ns: 0, gains_ns: 0, keep_ns: now_ns + KEEP_NS, waited_ns: 0 }
    }

    /// Returns what is due.
    pub(crate) fn due(&mut self, now_ns: u64) -> Due {
        let due = Due {
            second: passed(&mut self.second_ns, SECOND_NS, now_ns),
            publish: passed(&mut self.publish_ns, PUBLISH_NS, now_ns),
            gains: passed(&mut self.gains_ns, GAINS_NS, now_ns),
            keep: passed(&mut self.keep_ns, KEEP_NS, now_ns),
        };
        if due.second {
            self.waited_ns = kernel::waited_ns().unwrap_or_default();
        }
        due
    }

    /// Says when it wanted to wake; returns for how long it was stopped, in seconds, if it was.
    pub(crate) fn stopped_s(&self, wanted_ns: u64, now_ns: u64) -> Option<f64> {
        let late_ns = now_ns.saturating_sub(wanted_ns);
        if late_ns < PAUSE_NS {
            return None;
        }
        let starved_ns = kernel::waited_ns().unwrap_or_default().saturating_sub(self.waited_ns);
        let stopped_ns = late_ns.saturating_sub(starved_ns);
        (stopped_ns >= PAUSE_NS).then(|| stopped_ns as f64 / 1e9)
    }
}

/// Tells whether something is due, and sets when it is next. What was missed is not made up for.
fn passed(due_ns: &mut u64, every_ns: u64, now_ns: u64) -> bool {
    let is_due = now_ns >= *due_ns;
    if is_due {
        *due_ns = now_ns + every_ns;
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_beat() {
        let mut rhythm = Rhythm::new(1);
        let all_but_the_minute = Due { second: true, publish: true, gains: true, keep: false };
        assert_eq!(rhythm.due(1), all_but_the_minute);
        assert_eq!(rhythm.due(SECOND_NS), Due::default());
        assert_eq!(rhythm.due(SECOND_NS + 1), Due { second: true, ..Due::default() });
        assert_eq!(rhythm.due(61 * SECOND_NS), Due { keep: true, ..all_but_the_minute });
    }

    #[test]
    fn who_wakes_in_time_was_not_stopped() {
        let rhythm = Rhythm::new(0);
        assert_eq!(rhythm.stopped_s(SECOND_NS, SECOND_NS + PAUSE_NS - 1), None);
        // Nobody has waited an hour for a processor.
        assert!(rhythm.stopped_s(0, 3600 * SECOND_NS).is_some_and(|stopped_s| stopped_s > 1800.0));
    }
}
