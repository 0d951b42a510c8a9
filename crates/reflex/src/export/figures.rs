//! What the observer says of itself: its memory, its processor time, how often it has looked, and what became of the
//! things that it sends. Not for: the server's numbers.

use ferricorn_sys::clock;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The numbers of the observer at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Bytes of memory that are present.
    pub memory_bytes: u64,
    /// Seconds of processor time, all threads.
    pub cpu_s: f64,
    /// How often it has looked at the server.
    pub ticks: u64,
    /// When it started, seconds since 1970.
    pub started_s: f64,
    /// What has been sent, or could not be: by whom it was for, and what became of it.
    pub sent: BTreeMap<(&'static str, &'static str), u64>,
}

/// What became of something that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The other side has it.
    Sent,
    /// One attempt did not succeed.
    Failed,
    /// It was given up.
    Dropped,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Counts what can only be counted here.
#[derive(Debug)]
pub(crate) struct Counts {
    started_s: f64,
    ticks: AtomicU64,
    /// Few: receivers are named in the settings.
    sent: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Counts {
    pub(crate) fn begin() -> Self {
        Self { started_s: clock::wall_time_s(), ticks: AtomicU64::new(0), sent: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) fn tick(&self) {
        self.ticks.fetch_add(1, Relaxed);
    }

    pub(crate) fn count(&self, receiver: &'static str, fate: Fate) {
        let mut sent = super::locked(&self.sent);
        // Who has a series has all of them, so that the first failure is seen as one.
        for each in [Fate::Sent, Fate::Failed, Fate::Dropped] {
            *sent.entry((receiver, each.name())).or_default() += u64::from(each == fate);
        }
    }

    /// Reads all numbers.
    pub(crate) fn read(&self) -> Figures {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Figures {
            memory_bytes: memory_bytes().unwrap_or_default(),
            cpu_s: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            ticks: self.ticks.load(Relaxed),
            started_s: self.started_s,
            sent: super::locked(&self.sent).clone(),
        }
    }
}

/// The second number of statm: pages that are present (proc(5)).
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_observer_knows_itself() {
        let counts = Counts::begin();
        counts.tick();
        counts.count("otlp", Fate::Failed);
        counts.count("otlp", Fate::Failed);
        let figures = counts.read();
        assert!(figures.memory_bytes > 100_000 && figures.cpu_s > 0.0 && figures.ticks == 1);
        assert_eq!(figures.sent[&("otlp", "failed")], 2);
        assert_eq!(figures.sent[&("otlp", "sent")], 0);
    }
}
