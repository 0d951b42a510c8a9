//! What is known of one worker, and the pause between failing starts.

use super::{EARLY_NS, Plan, SECOND};

/// Failures in a row after which workers start one at a time.
const CAREFUL_FAILURES: u32 = 3;

/// One worker, from the decision to spawn it until it is reaped.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    /// `None` between decision and fork.
    pub(super) pid: Option<i32>,
    pub(super) generation: u32,
    pub(super) spawned_ns: u64,
    /// It has been ready.
    pub(super) ready: bool,
    pub(super) beat_ns: u64,
    pub(super) retiring: bool,
    pub(super) leaving: Option<Leaving>,
    pub(super) killed: Option<Killed>,
}

/// A worker on its way out.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) why: Why,
    /// It was asked for its stack; then it is told to abort.
    pub(super) abort_at_ns: Option<u64>,
    pub(super) kill_at_ns: u64,
}

impl Leaving {
    pub(super) fn until(why: Why, kill_at_ns: u64) -> Self {
        Self { why, abort_at_ns: None, kill_at_ns }
    }
}

/// Why it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// We told it to.
    Told,
    /// It drains, and not because of us.
    ByItself,
    /// Its heart stood still.
    TimedOut,
    /// It was not ready in time.
    NotBooted,
}

impl Why {
    /// Tells whether it does not listen to orders any more.
    pub(super) fn hangs(self) -> bool {
        matches!(self, Self::TimedOut | Self::NotBooted)
    }
}

/// Why we have sent it SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// SIGABRT did not end it after its timeout.
    TimedOut,
    /// SIGABRT did not end it after its `boot_timeout`.
    NotBooted,
    /// It was not done within `graceful_timeout`.
    Lingered,
}

impl Worker {
    pub(super) fn new(generation: u32, now_ns: u64) -> Self {
        Self {
            pid: None,
            generation,
            spawned_ns: now_ns,
            ready: false,
            beat_ns: 0,
            retiring: false,
            leaving: None,
            killed: None,
        }
    }

    /// Tells whether it is to go on serving, as far as anybody knows.
    pub(super) fn stays(&self) -> bool {
        self.leaving.is_none()
    }

    /// Returns when something is due for it, if anything is.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let leaving = self.leaving.as_ref().filter(|_| self.killed.is_none())?;
        Some(leaving.abort_at_ns.map_or(leaving.kill_at_ns, |at| at.min(leaving.kill_at_ns)))
    }

    /// Returns how long its heart has stood still, or its boot has lasted, if there is a limit to that; nothing before
    /// `floor_ns` counts.
    pub(super) fn silence(&self, plan: &Plan, floor_ns: u64, now_ns: u64) -> Option<Silence> {
        let (since_ns, limit_ns) = match (self.ready, &self.leaving) {
            (_, Some(leaving)) if leaving.why.hangs() => return None,
            (true, _) => (self.beat_ns, plan.timeout_ns),
            (false, None) => (self.spawned_ns, plan.boot_ns),
            (false, Some(_)) => return None,
        };
        let since_ns = since_ns.max(floor_ns);
        (limit_ns > 0).then_some(Silence { since_ns, lasts_ns: now_ns.saturating_sub(since_ns), limit_ns })
    }
}

/// For how long nothing was heard of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    pub(super) since_ns: u64,
    pub(super) lasts_ns: u64,
    pub(super) limit_ns: u64,
}

impl Silence {
    pub(super) fn is_late(&self) -> bool {
        self.lasts_ns > self.limit_ns / 2
    }

    /// Returns by how much it exceeds so many times its limit, if it does.
    pub(super) fn beyond_ns(&self, times: u64) -> Option<u64> {
        self.lasts_ns.checked_sub(self.limit_ns.saturating_mul(times)).filter(|beyond_ns| *beyond_ns > 0)
    }
}

/// The pause before the next start after failures: 0.1 s, doubling to 30 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    failed_ns: u64,
    pub(super) not_before_ns: u64,
}

impl Backoff {
    const FIRST_NS: u64 = SECOND / 10;
    const LONGEST_NS: u64 = 30 * SECOND;

    /// Counts a failure and returns the pause that follows; workers that were started together double it once.
    pub(super) fn fail(&mut self, spawned_ns: u64, now_ns: u64) -> u64 {
        if self.failures == 0 || spawned_ns > self.failed_ns {
            self.failures += 1;
            self.failed_ns = now_ns;
        }
        let doubled = (self.failures - 1).min(16);
        let delay_ns = (Self::FIRST_NS << doubled).min(Self::LONGEST_NS);
        self.not_before_ns = now_ns + delay_ns;
        delay_ns
    }

    /// A worker lives: if it was started after the last failure and has lived long enough, all is well again.
    pub(super) fn survived(&mut self, spawned_ns: u64, now_ns: u64) {
        let long = spawned_ns > self.failed_ns && now_ns.saturating_sub(spawned_ns) >= EARLY_NS;
        // The pause after a failure of those that were started with an earlier one is kept all the same.
        if self.failures > 0 && long && !self.holds(now_ns) {
            *self = Self::default();
        }
    }

    pub(super) fn holds(&self, now_ns: u64) -> bool {
        now_ns < self.not_before_ns
    }

    /// Tells whether another worker may start beside those that are starting.
    pub(super) fn allows(&self, booting: usize, now_ns: u64) -> bool {
        !self.holds(now_ns) && (self.failures < CAREFUL_FAILURES || booting == 0)
    }
}
