//! The ladder: what is done, and when, about requests that the application does not finish. `(calls, now) -> actions`;
//! the shell round it is the keeper of a worker's loop.
//!
//! One step of it per turn of the loop: warn at a share of the time, answer 504 at the deadline, free the thread by
//! interrupts, put a spare thread in the place of one that does not come free, and have the worker replaced where
//! spares cannot help. Only the last touches other requests, and they finish first.
//!
//! Not for: clocks, sockets, threads, Python; and not for the worker's own heartbeat (`fleet`).

mod rung;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use rung::{Facts, Rung};
use std::collections::BTreeMap;

const MS: u64 = 1_000_000;

/// How the ladder is set up. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Per cent of the time to the deadline after which a warning is due.
    pub warn_percent: u64,
    /// How long a thread may take to come free after its request was answered.
    pub grace_ns: u64,
    /// From the answer to the first interrupt: time to see where the thread is.
    pub look_ns: u64,
    /// Between two interrupts of one thread.
    pub retry_ns: u64,
    /// Most threads that may stand in for stuck ones at a time; 0 where the application runs on one thread alone.
    pub spares: usize,
    /// The requests are tasks of one event loop: one that does not end costs the others nothing.
    pub tasks: bool,
}

impl Plan {
    /// The plan of a worker with so many app threads. A single one gets no spare: an application that was promised
    /// one thread (`sync`) may not be safe with two.
    pub fn for_threads(threads: usize) -> Self {
        let spares = if threads > 1 { threads } else { 0 };
        Self {
            warn_percent: 80,
            grace_ns: 1000 * MS,
            look_ns: 50 * MS,
            retry_ns: 100 * MS,
            spares,
            tasks: false,
        }
    }

    /// The plan of a worker whose requests are tasks, or greenlets, of one event loop.
    pub fn for_tasks() -> Self {
        Self { tasks: true, ..Self::for_threads(1) }
    }
}

/// A request in the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Number of its app thread.
    pub thread: usize,
    /// Number of the request, unique in its worker.
    pub id: u64,
    /// When the application was entered.
    pub start_ns: u64,
    /// When its time is over; 0 for never.
    pub deadline_ns: u64,
    /// The application has asked not to be interrupted.
    pub shielded: bool,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Say that the request is slow.
    Warn {
        /// Its thread.
        thread: usize,
        /// The request.
        id: u64,
    },
    /// Answer the request in the application's place, or cut it where its response has begun.
    Answer {
        /// Its thread.
        thread: usize,
        /// The request.
        id: u64,
    },
    /// Interrupt the thread, if it still works on this request.
    Interrupt {
        /// Which.
        thread: usize,
        /// The request that is stuck.
        id: u64,
        /// From 1.
        attempt: u32,
    },
    /// Start a thread in the place of one that does not come free.
    Compensate {
        /// The stuck one.
        thread: usize,
        /// Its request.
        id: u64,
    },
    /// One app thread may leave: a stuck one has come free.
    Dismiss,
    /// Say that the request's task does not end.
    Name {
        /// Number of its record.
        thread: usize,
        /// The request.
        id: u64,
    },
    /// Have the worker replaced.
    Condemn(Reason),
}

/// Why spares do not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The application runs on one thread, and that is stuck.
    OnlyThread,
    /// All spare threads are in use.
    SparesSpent,
    /// A stuck call holds the interpreter.
    InterpreterHeld,
    /// A stuck call holds the event loop.
    LoopHeld,
}

/// What is kept from others that need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// The interpreter, from threads that want to run.
    Interpreter,
    /// The event loop, for longer than any request may take.
    Loop,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OnlyThread => "its only app thread does not come free",
            Self::SparesSpent => "its spare threads are spent",
            Self::InterpreterHeld => "a stuck call holds the interpreter",
            Self::LoopHeld => "a stuck call holds its event loop",
        })
    }
}

/// The calls of a worker and how far each has come.
#[derive(Debug)]
pub struct Ladder {
    plan: Plan,
    climbs: BTreeMap<usize, Climb>,
    standing_in: usize,
    condemned: bool,
    next_ns: u64,
}

#[derive(Debug)]
struct Climb {
    id: u64,
    rung: Rung,
    /// A spare stands in for its thread.
    compensated: bool,
    /// It was said that its task does not end.
    named: bool,
}

impl Ladder {
    /// Returns a ladder with nobody on it.
    pub fn new(plan: Plan) -> Self {
        Self { plan, climbs: BTreeMap::new(), standing_in: 0, condemned: false, next_ns: u64::MAX }
    }

    /// Looks at all calls there are, in the order of their threads.
    pub fn step(&mut self, calls: &[Call], held: Held, now_ns: u64) -> Vec<Action> {
        let mut out = Vec::new();
        self.forget(calls, &mut out);
        self.next_ns = u64::MAX;
        for call in calls.iter().filter(|call| call.deadline_ns > 0) {
            self.climb(call, held, now_ns, &mut out);
        }
        out
    }

    /// Returns when the next step is due at the latest; `u64::MAX` if nothing is.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    #[cfg(test)]
    /// Tells whether a request was answered in the application's place whose call has not come back.
    fn has_stuck(&self) -> bool {
        self.climbs.values().any(|climb| climb.rung.is_answered())
    }

    #[cfg(test)]
    /// Tells whether the worker is to be replaced.
    fn is_condemned(&self) -> bool {
        self.condemned
    }

    /// Drops climbs whose call is over; a thread that was stuck makes its stand-in superfluous.
    fn forget(&mut self, calls: &[Call], out: &mut Vec<Action>) {
        let standing_in = &mut self.standing_in;
        self.climbs.retain(|thread, climb| {
            let at = calls.binary_search_by_key(thread, |call| call.thread);
            let stays = at.is_ok_and(|at| calls[at].id == climb.id);
            if !stays && climb.compensated {
                *standing_in -= 1;
                out.push(Action::Dismiss);
            }
            stays
        });
    }

    fn climb(&mut self, call: &Call, held: Held, now_ns: u64, out: &mut Vec<Action>) {
        let (thread, id) = (call.thread, call.id);
        let climb = self.climbs.entry(thread).or_insert(Climb {
            id,
            rung: Rung::Running,
            compensated: false,
            named: false,
        });
        let facts = Facts::of(&self.plan, call, climb.rung, now_ns);
        let (rung, step) = climb.rung.next(facts, now_ns);
        climb.rung = rung;
        if step.warn {
            out.push(Action::Warn { thread, id });
        }
        if step.answer {
            out.push(Action::Answer { thread, id });
        }
        if let Some(attempt) = step.interrupt {
            out.push(Action::Interrupt { thread, id, attempt });
        }
        if rung.is_lost() && !self.condemned {
            let reason = match (held, self.plan.spares, climb.compensated) {
                (Held::Nothing, ..) if self.plan.tasks => {
                    if !std::mem::replace(&mut climb.named, true) {
                        out.push(Action::Name { thread, id });
                    }
                    None
                }
                (Held::Loop, ..) => Some(Reason::LoopHeld),
                (Held::Interpreter, ..) if self.plan.tasks => Some(Reason::InterpreterHeld),
                (_, 0, _) => Some(Reason::OnlyThread),
                (Held::Interpreter, ..) => Some(Reason::InterpreterHeld),
                (_, _, true) => None,
                (_, spares, false) if self.standing_in >= spares => Some(Reason::SparesSpent),
                (_, _, false) => {
                    climb.compensated = true;
                    self.standing_in += 1;
                    out.push(Action::Compensate { thread, id });
                    None
                }
            };
            if let Some(reason) = reason {
                self.condemned = true;
                out.push(Action::Condemn(reason));
            }
        }
        self.next_ns = self.next_ns.min(rung.next_ns(&self.plan, call, now_ns));
    }
}
