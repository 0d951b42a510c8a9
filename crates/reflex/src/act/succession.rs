//! Another master in the place of a stock Gunicorn's: one whose loop turns starts its successor itself (`USR2`); in the place of one
//! whose loop stands, the successor is started from outside, with the same command line, environment and listening sockets. Either way
//! the old one goes once the new one's workers serve, and stays if they do not.
//!
//! Nothing is changed before [`UnderWay`] is written down: an observer that follows one that was killed in the middle goes on with it.
//!
//! Not for: whether that is a good idea ([`ferricorn_core::policy`]), and not for finding out that a loop stands
//! ([`crate::engine`]).

use super::Done;
use super::launch::{Copy, Held};
use crate::pidfile;
use crate::process::{self, Process};
use crate::source::gunicorn::Serving;
use ferricorn_core::record::Server;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How long a new master has until its workers serve, and how long they must have served; seconds.
const BOOT_S: f64 = 120.0;
const SERVED_S: f64 = 3.0;

/// A process, by what is its name for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Name {
    pid: u32,
    started_ns: u64,
}

impl Name {
    fn of(process: &Process) -> Self {
        Self { pid: process.pid, started_ns: process.started_ns() }
    }

    /// Returns our own; none without `/proc`.
    fn ours() -> Option<Self> {
        Process::open(std::process::id()).map(|process| Self::of(&process))
    }

    /// Takes hold of it; none if it has ended.
    fn open(self) -> Option<Process> {
        Process::open(self.pid).filter(|process| Self::of(process) == self)
    }
}

/// What has to be known of a succession to go on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnderWay {
    /// The observer that goes on with it.
    by: Option<Name>,
    old: Name,
    /// Workers that the old one had.
    workers: usize,
    /// None until it is there.
    new: Option<Name>,
    how: How,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    /// The old one starts it, who had these children before.
    Upgrade { children: Vec<u32> },
    /// We have started it. Whether the old one's loop stands still is told by how often it has slept; its pidfile is put aside.
    Beside { switches: u64, pidfile: Option<PathBuf> },
}

impl UnderWay {
    /// Tells whether a server is the new master.
    pub(crate) fn leads_to(&self, server: &Server) -> bool {
        match (self.new, &self.how) {
            (Some(new), _) => new == Name { pid: server.pid, started_ns: server.started_ns },
            (None, How::Upgrade { children }) => {
                let parent = process::stat(server.pid).map(|stat| stat.parent);
                parent == Some(self.old.pid) && self.old.open().is_some() && !children.contains(&server.pid)
            }
            (None, How::Beside { .. }) => false,
        }
    }

    /// Tells whether another observer goes on with it.
    pub(crate) fn is_in_hand(&self) -> bool {
        self.by != Name::ours() && self.by.is_some_and(|by| by.open().is_some())
    }

    /// Says how far it is.
    pub(crate) fn told(&self) -> String {
        let old = self.old.pid;
        match (self.new, &self.how) {
            (Some(new), How::Beside { .. }) => format!("master {} is started beside {old}", new.pid),
            (Some(new), How::Upgrade { .. }) => format!("master {} was started by {old}", new.pid),
            (None, _) => format!("master {old} is to start another"),
        }
    }

    fn put_back_pidfile(&self) {
        if let How::Beside { pidfile: Some(path), .. } = &self.how {
            pidfile::put_back(path, self.old.pid);
        }
    }

    fn drop_old_pidfile(&self) {
        if let How::Beside { pidfile: Some(path), .. } = &self.how {
            pidfile::drop_aside(path, self.old.pid);
        }
    }
}

/// A succession that is under way.
#[derive(Debug)]
pub(super) struct Succession {
    known: UnderWay,
    begun_s: f64,
    /// None if it has ended, or has not come yet.
    old: Option<Process>,
    next: Option<Next>,
    /// Nothing is changed yet: it is not written down.
    waits: bool,
    /// Who is left, once that is certain.
    left: Option<u32>,
}

/// The new master.
#[derive(Debug)]
struct Next {
    process: Process,
    serving: Serving,
    /// Until it may begin.
    held: Option<Held>,
    /// Since when its workers serve.
    since_s: Option<f64>,
}

impl Next {
    /// None if it has ended.
    fn of(process: Process) -> Option<Self> {
        Some(Self { serving: Serving::of(&process)?, process, held: None, since_s: None })
    }
}

impl Succession {
    /// Has a master start its successor.
    pub(super) fn upgrade(old: Process, now_s: f64) -> Self {
        let children = process::children(old.pid);
        Self::new(old, How::Upgrade { children }, now_s)
    }

    /// Starts one beside a master whose loop stands, which has slept so often by then.
    ///
    /// # Errors
    /// It turns again, it is not ours to start, or it cannot be started.
    pub(super) fn beside(
        old: Process,
        switches: u64,
        pidfile: Option<PathBuf>,
        now_s: f64,
    ) -> Result<Self, String> {
        if process::switches(old.pid) != Some(switches) {
            return Err("its loop turns again".to_owned());
        }
        let (process, held) = Copy::of(&old)?.start()?;
        let mut it = Self::new(old, How::Beside { switches, pidfile }, now_s);
        it.known.new = Some(Name::of(&process));
        let next = Next::of(process).ok_or("the new master has ended at once")?;
        it.next = Some(Next { held: Some(held), ..next });
        Ok(it)
    }

    fn new(old: Process, how: How, now_s: f64) -> Self {
        let workers = Serving::of(&old).map_or(0, |mut serving| serving.count(now_s));
        let known = UnderWay { by: Name::ours(), old: Name::of(&old), workers, new: None, how };
        Self { known, begun_s: now_s, old: Some(old), next: None, waits: true, left: None }
    }

    /// Goes on with one that another observer has begun. It has its time once more.
    pub(super) fn resume(known: UnderWay, now_s: f64) -> Self {
        let known = UnderWay { by: Name::ours(), ..known };
        let next = known.new.and_then(Name::open).and_then(Next::of);
        Self { old: known.old.open(), known, begun_s: now_s, next, waits: false, left: None }
    }

    /// Returns what must be written down of it.
    pub(super) fn known(&self) -> &UnderWay {
        &self.known
    }

    /// Tells whether it waits to be written down.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Returns the master that is left.
    pub(super) fn left(&self) -> Option<u32> {
        self.left
    }

    /// It is written down: begins.
    ///
    /// # Errors
    /// The old master cannot be sent a signal, or the new one has ended.
    pub(super) fn proceed(&mut self) -> Result<(), String> {
        self.waits = false;
        let old = self.known.old.pid;
        match (&self.known.how, &self.old, &mut self.next) {
            (How::Upgrade { .. }, Some(process), _) => process
                .send(Signal::USR2)
                .map_err(|error| format!("master {old} cannot be sent USR2: {error}")),
            (How::Beside { pidfile, .. }, _, Some(next)) => {
                if let Some(path) = pidfile {
                    pidfile::put_aside(path, old);
                }
                let gone = next.held.take().is_none_or(|held| held.let_go().is_err());
                if gone {
                    self.give_up();
                    return Err("the new master has ended at once".to_owned());
                }
                Ok(())
            }
            _ => Err("nobody is there to begin with".to_owned()),
        }
    }

    /// Goes on; returns what has become of it once that is certain.
    pub(super) fn tick(&mut self, now_s: f64) -> Option<Done> {
        if let (None, How::Upgrade { children }, Some(old)) = (&self.next, &self.known.how, &self.old) {
            self.next = successor(old, children);
            self.known.new = self.next.as_ref().map(|next| Name::of(&next.process)).or(self.known.new);
        }
        self.old.take_if(|old| !old.lives());
        self.next.take_if(|next| !next.process.lives());
        let waited_s = now_s - self.begun_s;
        let Some(next) = &mut self.next else { return self.without_new(waited_s) };
        let pid = next.process.pid;
        if self.old.is_none() {
            return Some(self.without_old(pid));
        }
        // One that is wedged may have lost some.
        let serve = next.serving.count(now_s) >= self.known.workers.max(1);
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

    /// There is no new master, or none any more.
    fn without_new(&mut self, waited_s: f64) -> Option<Done> {
        let old = self.known.old.pid;
        let text = match self.known.new {
            Some(new) => format!("master {} has ended without serving: the error log tells why", new.pid),
            None if self.old.is_none() => format!("master {old} has ended, and has started no other"),
            None if waited_s > BOOT_S => "it has started no other: its error log tells why".to_owned(),
            None => return None,
        };
        self.give_up();
        Some(Done::Failed(text))
    }

    /// Somebody else has ended the old master: whether the new one serves yet or not, there is no other.
    fn without_old(&mut self, pid: u32) -> Done {
        self.left = Some(pid);
        self.known.drop_old_pidfile();
        Done::Yes(format!("master {pid} is in the place of {}, which has ended", self.known.old.pid))
    }

    /// The new one serves: the old one goes.
    fn hand_over(&mut self, pid: u32) -> Done {
        let Some(old) = &self.old else { return self.without_old(pid) };
        let name = old.pid;
        let How::Beside { switches, .. } = &self.known.how else {
            return match old.send(Signal::TERM) {
                Ok(()) => {
                    Done::Yes(format!("master {pid} serves, and {name} ends with its workers' last requests"))
                }
                Err(error) => {
                    Done::Yes(format!("master {pid} serves; {name} cannot be told to end: {error}"))
                }
            };
        };
        if process::switches(name) != Some(*switches) {
            self.give_up();
            return Done::Over("its loop turns again: the new master was ended".to_owned());
        }
        let workers: Vec<Process> = process::children(name).into_iter().filter_map(Process::open).collect();
        // First the one who would start others in their place; what it cannot hear, it need not be told.
        if let Err(error) = old.send(Signal::KILL) {
            let text = format!("master {name} cannot be ended: {error}");
            self.give_up();
            return Done::Failed(text);
        }
        self.left = Some(pid);
        for worker in workers {
            // Who has ended by itself needs no telling.
            let _ = worker.send(Signal::TERM);
        }
        self.known.drop_old_pidfile();
        Done::Yes(format!(
            "master {pid} serves in the place of {name}, which was ended; its workers end with their last requests"
        ))
    }

    /// The new one goes, and all is as it was.
    fn give_up(&mut self) {
        if let Some(next) = self.next.take() {
            // Who has ended needs no telling.
            let _ = next.process.send(Signal::TERM);
        }
        self.left = self.old.as_ref().map(|old| old.pid);
        match self.left {
            Some(_) => self.known.put_back_pidfile(),
            None => self.known.drop_old_pidfile(),
        }
    }
}

/// Returns the child that has become a master.
fn successor(old: &Process, before: &[u32]) -> Option<Next> {
    let new = process::children(old.pid).into_iter().filter(|pid| !before.contains(pid));
    // Workers have no children that serve.
    new.filter(|pid| !process::children(*pid).is_empty()).filter_map(Process::open).find_map(Next::of)
}
