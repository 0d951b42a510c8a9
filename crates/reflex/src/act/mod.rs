//! What is done about trouble: carries out what the policy has decided, on who is meant and on nobody else. A process is held by its
//! pidfd, a connection by its two ends, a statement by its session and its beginning; each is looked at once more at the moment
//! itself. Nothing here waits: what takes its time is told later, and is given up after a limit.
//!
//! Not for: deciding ([`ferricorn_core::policy`]), and not for writing down ([`crate::engine`]).

mod cut;
mod launch;
mod succession;

pub(crate) use cut::Cut;
pub(crate) use succession::UnderWay;

use crate::database::{Cancelled, Victim};
use crate::process::Process;
use ferricorn_core::circuits::{Circuits, OPEN_MAX as CIRCUITS_MAX};
use ferricorn_core::scoreboard::Scoreboard;
use ferricorn_sys::clock;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use succession::Succession;

/// How long a database may take to say what became of a statement, seconds.
const CANCEL_S: f64 = 4.0;
/// How long a worker has to end by itself, as its arbiter would give it; and in all, seconds.
const ABORT_S: f64 = 1.0;
const END_S: f64 = 5.0;
/// Deeds that are under way at a time.
const OPEN_MAX: usize = 16;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A statement is ended in its database; its session lives.
    Cancel(Victim),
    /// A connection is shut that a thread is blocked on.
    Shut(Cut),
    /// A worker is ended as its arbiter ends those that are silent: SIGABRT, then SIGKILL.
    End {
        /// Its pid.
        pid: u32,
    },
    /// So many workers more.
    Add(u32),
    /// So many workers less.
    Remove(u32),
    /// All workers are replaced, one after the other.
    Recycle,
    /// The reload of this number is given up.
    Halt(u32),
    /// A route, `GET /orders/{id}`, is answered 503 for so many seconds.
    Open(String, u32),
    /// It is served again.
    Close(String),
    /// A stock Gunicorn's master is replaced.
    Restart {
        /// Its loop stands, and how often it has slept by then; else it replaces itself.
        wedged: Option<u64>,
    },
}

impl Deed {
    /// Says whom it is done to.
    pub(crate) fn target(&self) -> String {
        match self {
            Self::Cancel(Victim { database, pid, .. }) => format!("backend {pid} of {database}"),
            Self::Shut(Cut { pid, fd, peer, .. }) => {
                format!("connection to {peer} (worker {pid}, descriptor {fd})")
            }
            Self::End { pid } => format!("worker {pid}"),
            Self::Add(count) => format!("{count} more"),
            Self::Remove(count) => format!("{count} less"),
            Self::Recycle => "all workers".to_owned(),
            Self::Halt(generation) => format!("reload {generation}"),
            Self::Open(route, _) | Self::Close(route) => route.clone(),
            Self::Restart { .. } => "the master".to_owned(),
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It is done, and how things are now.
    Yes(String),
    /// There was nothing to do any more, and why.
    Over(String),
    /// It could not be done, and why.
    Failed(String),
}

/// Who has statements ended.
pub(crate) trait Cancels {
    /// Begins; false if the database cannot be told.
    fn cancel(&self, id: u64, victim: &Victim) -> bool;
    /// Takes what became of them.
    fn cancelled(&self) -> Vec<(u64, Cancelled)>;
}

/// What is under way.
#[derive(Debug)]
enum Open {
    /// A database has been told.
    Cancel,
    /// A worker was asked to end.
    End { worker: Process, killed: bool },
    /// Another master is to come.
    Restart(Box<Succession>),
}

/// Carries out what was decided.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    arbiter: Option<Process>,
    /// Where the arbiter of our own server looks for a reload that is to be halted, and its workers for routes that are not served.
    halt: Option<&'static AtomicU32>,
    circuits: Option<&'static Circuits>,
    /// Where a stock Gunicorn writes its pid, as far as that was said.
    pidfile: Option<PathBuf>,
    /// The master that is left in the place of its one.
    successor: Option<u32>,
    /// By number, with when it was begun.
    open: BTreeMap<u64, (f64, Open)>,
}

impl Hands {
    /// Returns those for a server.
    pub(crate) fn of(arbiter: u32, board: Option<&'static Scoreboard>) -> Self {
        Self {
            arbiter: Process::open(arbiter),
            halt: board.map(|board| &board.halt),
            circuits: board.map(|board| &board.circuits),
            ..Self::default()
        }
    }

    /// Returns the master that is left in the place of the one that is observed.
    pub(crate) fn successor(&self) -> Option<u32> {
        self.successor
    }

    /// Names the pidfile.
    pub(crate) fn with_pidfile(self, pidfile: Option<PathBuf>) -> Self {
        Self { pidfile, ..self }
    }

    /// Begins something; what comes of it, if that is known at once.
    pub(crate) fn begin(&mut self, id: u64, deed: &Deed, cancels: &dyn Cancels, now_s: f64) -> Option<Done> {
        if self.open.len() >= OPEN_MAX {
            return Some(Done::Failed(format!("{OPEN_MAX} others are under way")));
        }
        match deed {
            Deed::Cancel(victim) => {
                if !cancels.cancel(id, victim) {
                    let text = format!("nobody asks {}: name it with --reflex-database", victim.database);
                    return Some(Done::Failed(text));
                }
                self.open.insert(id, (now_s, Open::Cancel));
                None
            }
            Deed::Shut(cut) => Some(match cut.shut() {
                Ok(()) => Done::Yes("the connection is shut, and its thread has the error".to_owned()),
                Err(why) => Done::Over(why),
            }),
            Deed::End { pid } => self.end(id, *pid, now_s),
            Deed::Restart { wedged } => self.restart(id, *wedged, now_s),
            Deed::Open(route, seconds) => Some(self.open_circuit(route, *seconds)),
            Deed::Close(route) => Some(self.close_circuit(route)),
            deed => Some(self.tell_arbiter(deed)),
        }
    }

    /// Does what the arbiter alone has to be told for; nothing else.
    pub(crate) fn tell_arbiter(&self, deed: &Deed) -> Done {
        match deed {
            Deed::Add(count) => self.tell(Signal::TTIN, *count),
            Deed::Remove(count) => self.tell(Signal::TTOU, *count),
            Deed::Recycle => self.tell(Signal::HUP, 1),
            Deed::Halt(generation) => self.halt(*generation),
            Deed::Cancel(_)
            | Deed::Shut(_)
            | Deed::End { .. }
            | Deed::Restart { .. }
            | Deed::Open(..)
            | Deed::Close(_) => Done::Failed("the arbiter cannot do that".to_owned()),
        }
    }

    fn end(&mut self, id: u64, pid: u32, now_s: f64) -> Option<Done> {
        let Some(worker) = Process::open(pid) else {
            return Some(Done::Over(format!("worker {pid} has ended by itself")));
        };
        let arbiter = self.arbiter.as_ref().map(|arbiter| arbiter.pid);
        if crate::process::stat(pid).map(|stat| stat.parent) != arbiter {
            return Some(Done::Failed(format!("process {pid} is no worker of this server")));
        }
        if let Err(error) = worker.send(Signal::ABORT) {
            return Some(Done::Failed(format!("worker {pid} cannot be sent a signal: {error}")));
        }
        self.open.insert(id, (now_s, Open::End { worker, killed: false }));
        None
    }

    fn open_circuit(&self, route: &str, seconds: u32) -> Done {
        let Some(circuits) = self.circuits else {
            return Done::Failed("this server cannot leave a route unserved".to_owned());
        };
        let now_ns = clock::now_ns();
        let until_ns = now_ns + u64::from(seconds) * 1_000_000_000;
        match circuits.open(route, until_ns, now_ns) {
            true => Done::Yes(format!("{route} is answered 503 for {seconds} s")),
            false => {
                Done::Failed(format!("{CIRCUITS_MAX} routes are not served already, or its name is too long"))
            }
        }
    }

    fn close_circuit(&self, route: &str) -> Done {
        let closed = self.circuits.is_some_and(|circuits| circuits.close(route, clock::now_ns()));
        let text = format!("{route} is served again");
        if closed { Done::Yes(text) } else { Done::Over(text) }
    }

    /// Has all routes served again.
    pub(crate) fn close_circuits(&self) {
        if let Some(circuits) = self.circuits {
            circuits.close_all(clock::now_ns());
        }
    }

    fn restart(&mut self, id: u64, wedged: Option<u64>, now_s: f64) -> Option<Done> {
        let arbiter = self.arbiter.as_ref().and_then(|arbiter| Process::open(arbiter.pid));
        let same = |it: &Process| self.arbiter.as_ref().is_some_and(|arbiter| arbiter.started == it.started);
        let Some(old) = arbiter.filter(same) else {
            return Some(Done::Over("the master has ended".to_owned()));
        };
        let begun = match wedged {
            Some(switches) => Succession::beside(old, switches, self.pidfile.clone(), now_s),
            None => Ok(Succession::upgrade(old, now_s)),
        };
        match begun {
            Ok(succession) => {
                self.open.insert(id, (now_s, Open::Restart(Box::new(succession))));
                None
            }
            Err(why) => Some(Done::Failed(why)),
        }
    }

    /// Returns what has to be written down of a succession before it goes on.
    pub(crate) fn under_way(&self, id: u64) -> Option<&UnderWay> {
        match self.open.get(&id) {
            Some((_, Open::Restart(succession))) => Some(succession.known()),
            _ => None,
        }
    }

    /// That is written down, or cannot be: a succession that has waited for it begins, or does not.
    pub(crate) fn written_down(&mut self, id: u64, is_written: bool) -> Option<Done> {
        let Some((_, Open::Restart(succession))) = self.open.get_mut(&id) else { return None };
        if !succession.waits() {
            return None;
        }
        let begun = match is_written {
            true => succession.proceed(),
            false => Err("it cannot be written down, and what is not written down is not done".to_owned()),
        };
        let why = begun.err()?;
        self.open.remove(&id);
        Some(Done::Failed(why))
    }

    /// Goes on with a succession that another observer has begun.
    pub(crate) fn resume(&mut self, id: u64, known: UnderWay, now_s: f64) {
        self.open.insert(id, (now_s, Open::Restart(Box::new(Succession::resume(known, now_s)))));
    }

    fn halt(&self, generation: u32) -> Done {
        let Some(halt) = self.halt else {
            return Done::Failed("this server's reload cannot be halted".to_owned());
        };
        halt.store(generation, Relaxed);
        Done::Yes(format!(
            "the arbiter is told to keep the old workers and to send away those of reload {generation}"
        ))
    }

    fn tell(&self, signal: Signal, times: u32) -> Done {
        let Some(arbiter) = self.arbiter.as_ref().filter(|arbiter| arbiter.lives()) else {
            return Done::Over("the arbiter has ended".to_owned());
        };
        for _ in 0..times {
            if let Err(error) = arbiter.send(signal) {
                return Done::Failed(format!("arbiter {} cannot be sent a signal: {error}", arbiter.pid));
            }
        }
        let name = ferricorn_core::fleet::signal_name(signal.as_raw());
        Done::Yes(format!("arbiter {} was sent {name}", arbiter.pid))
    }

    /// Goes on with what is under way; returns what has come to its end.
    pub(crate) fn tick(&mut self, cancels: &dyn Cancels, now_s: f64) -> Vec<(u64, Done)> {
        let mut ended = Vec::new();
        for (id, what) in cancels.cancelled() {
            if self.open.remove(&id).is_some() {
                ended.push((id, of_cancelled(what)));
            }
        }
        let observed = self.arbiter.as_ref().map(|arbiter| arbiter.pid);
        for (id, (begun_s, open)) in &mut self.open {
            let lasted_s = now_s - *begun_s;
            match open {
                Open::Cancel if lasted_s > CANCEL_S => {
                    let text = format!(
                        "the database has not answered for {CANCEL_S} s: whether it is done is not known"
                    );
                    ended.push((*id, Done::Failed(text)));
                }
                Open::Cancel => {}
                Open::End { worker, .. } if !worker.lives() => {
                    ended.push((*id, Done::Yes(format!("worker {} has ended", worker.pid))));
                }
                Open::End { worker, killed } if lasted_s > ABORT_S && !*killed => {
                    *killed = true;
                    // If it has ended by now, the next look shows it.
                    let _ = worker.send(Signal::KILL);
                }
                Open::End { worker, .. } if lasted_s > END_S => {
                    let text = format!("worker {} does not end, though it was sent SIGKILL", worker.pid);
                    ended.push((*id, Done::Failed(text)));
                }
                Open::End { .. } => {}
                Open::Restart(succession) => {
                    ended.extend(succession.tick(now_s).map(|done| (*id, done)));
                    let other = succession.left().filter(|left| Some(*left) != observed);
                    self.successor = other.or(self.successor);
                }
            }
        }
        for (id, _) in &ended {
            self.open.remove(id);
        }
        ended
    }
}

fn of_cancelled(what: Cancelled) -> Done {
    match what {
        Cancelled::Yes => Done::Yes("the database ends the statement".to_owned()),
        Cancelled::Over => Done::Over("the statement has ended by itself".to_owned()),
        Cancelled::Refused(why) => Done::Failed(why),
    }
}

#[cfg(test)]
mod tests;
