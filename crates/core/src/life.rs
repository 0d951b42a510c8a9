//! The life of workers, told the same whichever server they belong to: what a worker is doing with its life is read off a
//! [`Snapshot`], and events are the differences between one snapshot and the next.
//!
//! Not for: why requests are slow, and not for the arbiter's own view of its workers ([`crate::fleet`]).

use crate::scoreboard::Exit;
use crate::snapshot::{Snapshot, Worker};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a worker is doing with its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// Loads the application.
    #[default]
    Booting,
    /// Waits for requests.
    Ready,
    /// Works on requests.
    Busy,
    /// Works on a request whose time is over, or gives no sign of life.
    Stuck,
    /// Finishes what it has, and takes nothing new.
    Draining,
    /// Is to be replaced.
    Condemned,
    /// Has ended.
    Exited,
}

impl Life {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Stuck => "stuck",
            Self::Draining => "draining",
            Self::Condemned => "condemned",
            Self::Exited => "exited",
        }
    }
}

/// A worker's life has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When, seconds since 1970, UTC.
    pub at_s: f64,
    /// The worker.
    pub pid: u32,
    /// Its spawn number; 0 where that is not known.
    pub age: u32,
    /// What it does now.
    pub life: Life,
    /// Why it has ended, in words, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// The kind of that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<Exit>,
}

/// Finds out what has changed.
#[derive(Debug, Default)]
pub struct Lives {
    known: BTreeMap<u32, (u32, Life)>,
    causes: BTreeMap<u32, (Exit, String)>,
}

impl Lives {
    /// Says why a worker has ended, before or after it is missed.
    pub fn explain(&mut self, pid: u32, exit: Exit, cause: String) {
        // Who is never missed has been explained for nothing: these are few.
        if self.causes.len() > 256 {
            self.causes.clear();
        }
        self.causes.insert(pid, (exit, cause));
    }

    /// Returns what is different from the last time. Going to and fro between ready and busy is no news.
    pub fn observe(&mut self, snapshot: &Snapshot) -> Vec<Change> {
        let at_s = snapshot.at_s;
        let mut changes = Vec::new();
        for worker in &snapshot.workers {
            let (pid, age, life) = (worker.pid, worker.age, worker.life);
            let before = self.known.insert(pid, (age, life));
            let calm = |life| matches!(life, Life::Ready | Life::Busy);
            let same = before
                .is_some_and(|(was, before)| was == age && (before == life || calm(before) && calm(life)));
            if !same {
                changes.push(Change { at_s, pid, age, life, cause: None, exit: None });
            }
        }
        let here = |pid: &u32| snapshot.workers.iter().any(|worker: &Worker| worker.pid == *pid);
        let gone: Vec<u32> = self.known.keys().copied().filter(|pid| !here(pid)).collect();
        for pid in gone {
            let Some((age, before)) = self.known.remove(&pid) else { continue };
            let (exit, cause) = match self.causes.remove(&pid) {
                Some((exit, cause)) => (Some(exit), Some(cause)),
                None if matches!(before, Life::Draining | Life::Condemned) => (Some(Exit::Planned), None),
                None => (None, None),
            };
            changes.push(Change { at_s, pid, age, life: Life::Exited, cause, exit });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at_s: f64, workers: &[(u32, u32, Life)]) -> Snapshot {
        let worker = |(pid, age, life): &(u32, u32, Life)| Worker {
            pid: *pid,
            age: *age,
            life: *life,
            ..Worker::default()
        };
        Snapshot { at_s, workers: workers.iter().map(worker).collect(), ..Snapshot::default() }
    }

    #[test]
    fn a_life_is_told_from_its_begin_to_its_end() {
        let mut lives = Lives::default();
        let mut told = |at_s, workers: &[(u32, u32, Life)]| -> Vec<(u32, Life)> {
            lives.observe(&seen(at_s, workers)).iter().map(|change| (change.pid, change.life)).collect()
        };
        assert_eq!(told(1.0, &[(7, 1, Life::Booting)]), [(7, Life::Booting)]);
        assert_eq!(told(2.0, &[(7, 1, Life::Ready)]), [(7, Life::Ready)]);
        assert_eq!(told(3.0, &[(7, 1, Life::Busy)]), []);
        assert_eq!(
            told(4.0, &[(7, 1, Life::Stuck), (8, 2, Life::Booting)]),
            [(7, Life::Stuck), (8, Life::Booting)]
        );
        assert_eq!(
            told(5.0, &[(7, 1, Life::Ready), (8, 2, Life::Ready)]),
            [(7, Life::Ready), (8, Life::Ready)]
        );
        assert_eq!(told(6.0, &[(8, 2, Life::Ready)]), [(7, Life::Exited)]);
        // The pid is another's now.
        assert_eq!(told(7.0, &[(8, 3, Life::Ready)]), [(8, Life::Ready)]);
    }

    #[test]
    fn an_end_has_the_cause_that_was_told() {
        let mut lives = Lives::default();
        lives.observe(&seen(1.0, &[(7, 1, Life::Busy), (8, 2, Life::Draining), (9, 3, Life::Busy)]));
        lives.explain(7, Exit::OutOfMemory, "the kernel killed it".to_owned());
        let ends = lives.observe(&seen(2.0, &[]));
        let told: Vec<_> =
            ends.iter().map(|change| (change.pid, change.exit, change.cause.as_deref())).collect();
        assert_eq!(
            told,
            [
                (7, Some(Exit::OutOfMemory), Some("the kernel killed it")),
                (8, Some(Exit::Planned), None),
                (9, None, None)
            ]
        );
    }
}
