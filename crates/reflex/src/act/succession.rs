//! Another master in the place of a stock Gunicorn's: one whose loop turns starts its successor itself (`USR2`); in the place of one
//! whose loop stands, the successor is started from outside, with the same command line, environment and listening sockets. Either way
//! the old one goes once the new one's workers serve, and stays if they do not.
//!
//! Not for: whether that is a good idea ([`ferricorn_core::policy`]), and not for finding out that a loop stands
//! ([`crate::engine`]).

use super::Done;
use super::launch::Copy;
use crate::pidfile::Moved;
use crate::process::{self, Process};
use crate::source::gunicorn::Serving;
use rustix::process::Signal;
use std::path::Path;

/// How long a new master has until its workers serve, and how long they must have served; seconds.
const BOOT_S: f64 = 120.0;
const SERVED_S: f64 = 3.0;
/// A succession that is under way.
#[derive(Debug)]
pub(super) struct Succession {
    old: Process,
    begun_s: f64,
    /// Workers that the old one had.
    workers: usize,
    next: Option<Next>,
    how: How,
    /// The new one's pid, once the old one was ended.
    successor: Option<u32>,
}

/// The new master.
#[derive(Debug)]
struct Next {
    process: Process,
    serving: Serving,
    /// Since when its workers serve.
    since_s: Option<f64>,
}

impl Next {
    /// None if it has ended.
    fn of(process: Process) -> Option<Self> {
        Some(Self { serving: Serving::of(&process)?, process, since_s: None })
    }
}

#[derive(Debug)]
enum How {
    /// The old one starts it, who had these children before.
    Upgrade { children: Vec<u32> },
    /// We have started it. Whether the old one's loop stands still is told by how often it has slept; its pidfile was moved.
    Beside { switches: u64, pidfile: Option<Moved> },
}

impl Succession {
    /// Has a master start its successor.
    ///
    /// # Errors
    /// It cannot be sent a signal.
    pub(super) fn upgrade(old: Process, now_s: f64) -> Result<Self, String> {
        let children = process::children(old.pid);
        let workers = Serving::of(&old).map_or(0, |mut serving| serving.count(now_s));
        let sent = old.send(Signal::USR2);
        sent.map_err(|error| format!("master {} cannot be sent USR2: {error}", old.pid))?;
        Ok(Self { old, begun_s: now_s, workers, next: None, how: How::Upgrade { children }, successor: None })
    }

    /// Starts one beside a master whose loop stands, which has slept so often by then.
    ///
    /// # Errors
    /// It turns again, it is not ours to start, or it cannot be started.
    pub(super) fn beside(
        old: Process,
        switches: u64,
        pidfile: Option<&Path>,
        now_s: f64,
    ) -> Result<Self, String> {
        if process::switches(old.pid) != Some(switches) {
            return Err("its loop turns again".to_owned());
        }
        let workers = Serving::of(&old).map_or(0, |mut serving| serving.count(now_s));
        let copy = Copy::of(&old)?;
        let pidfile = pidfile.and_then(|path| Moved::of(path, old.pid));
        let how = How::Beside { switches, pidfile };
        let mut it = Self { old, begun_s: now_s, workers, next: None, how, successor: None };
        let at_once = || "the new master has ended at once".to_owned();
        match copy.start().and_then(|next| Next::of(next).ok_or_else(at_once)) {
            Ok(next) => {
                it.next = Some(next);
                Ok(it)
            }
            Err(why) => {
                it.give_up();
                Err(why)
            }
        }
    }

    /// Returns the new master, once the old one was ended.
    pub(super) fn successor(&self) -> Option<u32> {
        self.successor
    }

    /// Goes on; returns what has become of it once that is certain.
    pub(super) fn tick(&mut self, now_s: f64) -> Option<Done> {
        if self.next.is_none()
            && let How::Upgrade { children } = &self.how
        {
            self.next = successor(&self.old, children);
        }
        let waited_s = now_s - self.begun_s;
        let Some(next) = &mut self.next else {
            let text = "it has started no other: its error log tells why";
            return (waited_s > BOOT_S).then(|| Done::Failed(text.to_owned()));
        };
        let pid = next.process.pid;
        if !next.process.lives() {
            self.give_up();
            return Some(Done::Failed(format!(
                "master {pid} has ended without serving: the error log tells why"
            )));
        }
        // One that is wedged may have lost some.
        let serve = next.serving.count(now_s) >= self.workers.max(1);
        next.since_s = serve.then(|| next.since_s.unwrap_or(now_s));
        if next.since_s.is_some_and(|since_s| now_s - since_s >= SERVED_S) {
            return Some(self.hand_over(pid));
        }
        if waited_s > BOOT_S {
            self.give_up();
            let text = format!("the workers of master {pid} do not serve after {BOOT_S} s: it was ended");
            return Some(Done::Failed(text));
        }
        None
    }

    /// The new one serves: the old one goes.
    fn hand_over(&mut self, pid: u32) -> Done {
        let old = self.old.pid;
        let How::Beside { switches, pidfile } = &mut self.how else {
            return match self.old.send(Signal::TERM) {
                Ok(()) => {
                    Done::Yes(format!("master {pid} serves, and {old} ends with its workers' last requests"))
                }
                Err(error) => Done::Yes(format!("master {pid} serves; {old} cannot be told to end: {error}")),
            };
        };
        if process::switches(old) != Some(*switches) {
            self.give_up();
            return Done::Over("its loop turns again: the new master was ended".to_owned());
        }
        let workers: Vec<Process> = process::children(old).into_iter().filter_map(Process::open).collect();
        // First the one who would start others in their place; what it cannot hear, it need not be told.
        if let Err(error) = self.old.send(Signal::KILL) {
            let text = format!("master {old} cannot be ended: {error}");
            self.give_up();
            return Done::Failed(text);
        }
        self.successor = Some(pid);
        for worker in workers {
            // Who has ended by itself needs no telling.
            let _ = worker.send(Signal::TERM);
        }
        if let Some(moved) = pidfile.take() {
            moved.drop_old();
        }
        Done::Yes(format!(
            "master {pid} serves in the place of {old}, which was ended; its workers end with their last requests"
        ))
    }

    /// The new one goes, and all is as it was.
    fn give_up(&mut self) {
        if let Some(next) = self.next.take() {
            // Who has ended needs no telling.
            let _ = next.process.send(Signal::TERM);
        }
        if let How::Beside { pidfile, .. } = &mut self.how
            && let Some(moved) = pidfile.take()
        {
            moved.back();
        }
    }
}

/// Returns the child that has become a master.
fn successor(old: &Process, before: &[u32]) -> Option<Next> {
    let new = process::children(old.pid).into_iter().filter(|pid| !before.contains(pid));
    // Workers have no children that serve.
    new.filter(|pid| !process::children(*pid).is_empty()).filter_map(Process::open).find_map(Next::of)
}
