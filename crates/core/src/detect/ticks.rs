//! Time as the detectors see it: ticks of ten seconds, of which some may be missed, and a clock that may be set. Not for
//! asking what time it is.

use serde::{Deserialize, Serialize};

/// Seconds of one tick.
pub const TICK_S: u64 = 10;

/// Which tick was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ticks {
    last: Option<u64>,
}

/// How far time has gone on since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is still the same tick.
    Same,
    /// So many ticks further, of which all but the newest were missed.
    On(u32),
    /// Nobody knows: it is the first look, the last was too long ago, or the clock was set back.
    Lost,
}

impl Ticks {
    /// Moves on to `now_s`. Whoever was away for more than `most` ticks is lost. A clock that is a few seconds behind
    /// itself has not moved.
    pub(super) fn step(&mut self, now_s: u64, most: u32) -> Step {
        let tick = now_s / TICK_S;
        let Some(last) = self.last.filter(|last| tick.saturating_add(1) >= *last) else {
            self.last = Some(tick);
            return Step::Lost;
        };
        if tick <= last {
            return Step::Same;
        }
        self.last = Some(tick);
        match u32::try_from(tick - last) {
            Ok(ticks) if ticks <= most => Step::On(ticks),
            _ => Step::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_known_or_lost() {
        let mut ticks = Ticks::default();
        let cases = [
            (1000, Step::Lost),
            (1009, Step::Same),
            (1010, Step::On(1)),
            (1050, Step::On(4)),
            (1950, Step::On(90)),
            (1949, Step::Same),
            (1960, Step::On(1)),
            (2870, Step::Lost),
            (2850, Step::Lost),
            (2860, Step::On(1)),
            (u64::MAX, Step::Lost),
            (0, Step::Lost),
        ];
        for (now_s, expected) in cases {
            assert_eq!(ticks.step(now_s, 90), expected, "{now_s}");
        }
    }
}
