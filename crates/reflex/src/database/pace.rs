//! How often databases are asked: a few rounds at once while something begins, one a second for as long as it lasts. Pure.

use std::time::Duration;

/// How often in the long run.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// How many rounds may follow each other at once after a calm time: the marks of a short deadline come close together.
pub(super) const BURST: u32 = 3;

/// Rounds that are left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The moment up to which rounds are used up.
    used: Duration,
}

impl Pace {
    /// Returns how long the next round has to wait; `now` never goes back.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        (self.used + EVERY).saturating_sub(now + EVERY * (BURST - 1)).min(EVERY)
    }

    /// A round begins.
    pub(super) fn take(&mut self, now: Duration) {
        self.used = self.used.max(now.saturating_sub(EVERY)) + EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_come_in_a_burst_and_then_once_a_second() {
        let mut pace = Pace::default();
        let (mut now, mut rounds) = (Duration::from_secs(100), Vec::new());
        for _ in 0..6 {
            now += pace.wait(now);
            pace.take(now);
            rounds.push(now.as_millis() - 100_000);
        }
        assert_eq!(rounds, [0, 0, 0, 1000, 2000, 3000]);
        // Calm time brings them back, and never more than that.
        now += Duration::from_secs(60);
        let begin = now;
        for _ in 0..4 {
            now += pace.wait(now);
            pace.take(now);
        }
        assert_eq!(now - begin, EVERY);
        assert_eq!(pace.wait(now), EVERY);
    }
}
