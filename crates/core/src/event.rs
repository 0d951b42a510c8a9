//! What workers, guardians and the arbiter tell the observer: messages of one datagram each, JSON. Telling never waits;
//! what nobody reads is lost. Not for: what the observer sees by itself (`scoreboard`).

use crate::evidence::{Frame, Source};
use crate::record::{Hold, Request, Worker};
use crate::scoreboard::Exit;
use serde::{Deserialize, Serialize};

/// Most bytes of a message; longer ones are not sent.
pub const EVENT_MAX: usize = 32 << 10;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A request was answered at its deadline in the application's place.
    Late(Box<Late>),
    /// Where that request is has been found out.
    Seen(Seen),
    /// An error for the log, of a guardian whose log is a logger in Python.
    Say {
        /// Which.
        text: String,
    },
    /// The settings have changed: the observer ends, and another is started.
    Leave,
    /// The server has no workers any more, and its arbiter is about to end: it waits a moment for the observer.
    Ended,
    /// Something holds an event loop.
    Holds {
        /// Pid of its worker.
        pid: u32,
    },
    /// An event loop was held, and is not any more.
    Held {
        /// Pid of its worker.
        pid: u32,
        /// How.
        hold: Box<Hold>,
    },
    /// A worker has ended without having been told to.
    Died(Died),
}

/// A request that was answered at its deadline in the application's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Late {
    /// Pid of its worker.
    pub pid: u32,
    /// Number of the request in its worker.
    pub id: u64,
    /// The request.
    pub request: Request,
    /// When, by the monotonic clock.
    pub at_ns: u64,
    /// What its client got.
    pub answer: String,
    /// Who answered.
    pub by: String,
    /// For what its thread waited.
    pub doing: String,
}

/// Where a request is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Pid of its worker.
    pub pid: u32,
    /// Number of the request in its worker.
    pub id: u64,
    /// How `frames` were found out.
    pub source: Source,
    /// The stack of its thread, the innermost call first.
    pub frames: Vec<Frame>,
    /// The kernel's id of the executor's thread that its task waits for; 0 for none.
    #[serde(default)]
    pub executor: u32,
    /// The pattern of its route.
    pub route: Option<String>,
}

/// A worker that has ended without having been told to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Died {
    /// What it was.
    pub worker: Worker,
    /// Why.
    pub cause: String,
    /// The kind of that.
    pub exit: Exit,
    /// What it was at; the first [`REQUESTS_MAX`].
    pub requests: Vec<Request>,
}

/// Most requests of a worker that has died that are told.
pub const REQUESTS_MAX: usize = 24;
