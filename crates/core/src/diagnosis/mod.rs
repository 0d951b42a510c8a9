//! What evidence means: the cause of one slow or stuck request, with how sure that is, what it rests on, what was ruled out,
//! and what could not be seen. Pure: the same evidence gives the same answer.
//!
//! Not for: gathering evidence (`reflex`), and not for what many requests have in common ([`crate::incident`]).

mod cause;
mod db;
mod external;
mod fixes;
mod host;
mod known;
mod pools;
mod reach;
mod rules;
mod sight;
mod words;

#[cfg(test)]
mod tests;

pub use cause::Cause;
pub use reach::{Reach, reach};
pub use rules::diagnose;

use crate::evidence::{Evidence, Frame, Source};
use crate::record::Request;
use serde::{Deserialize, Serialize};

/// A confidence from which on a cause counts as known.
pub const SURE: f64 = 0.8;

/// A slow or stuck request with all that was seen of it.
#[derive(Clone, Debug, Default)]
pub struct Case<'a> {
    /// The request, as it was at the last look.
    pub request: Request,
    /// Descriptor of its client's connection, where that is known.
    pub client_fd: Option<i32>,
    /// Its response waits for its client to read.
    pub writes: bool,
    /// It is a task or a greenlet: its thread is that of all.
    pub nested: bool,
    /// What was seen of its process, oldest first.
    pub looks: &'a [Evidence],
    /// What the interpreter told of it.
    pub told: Option<Told>,
    /// How long requests of its route take that come to their end.
    pub history: Option<History>,
    /// The server around it.
    pub server: Surroundings,
}

/// What the interpreter, or a signal handler, told of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Who.
    pub source: Source,
    /// Its calls, the innermost first.
    pub frames: Vec<Frame>,
    /// The kernel's id of the executor's thread that its task waits for; 0 for none.
    pub executor: u32,
}

/// How long requests of a route took before, those alone that came to their end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct History {
    /// How many.
    pub count: u64,
    /// Half of them took no longer, seconds.
    pub p50_s: f64,
    /// 99 of 100 took no longer, seconds.
    pub p99_s: f64,
}

/// The server around a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// `worker_class`.
    pub worker_class: String,
    /// Threads, of all workers, that can work on requests.
    pub threads: u32,
    /// Of these, how many are at a request that is as slow as this one, or slower.
    pub stuck: u32,
    /// Requests that wait for a thread, of all workers.
    pub queued: u32,
    /// Share of the host's processors that is in use; none if unknown.
    pub host_cpu: Option<f64>,
    /// All workers of the server fell silent at the same moment.
    pub all_silent: bool,
    /// It is a stock Gunicorn, which has settings of its own alone.
    pub stock: bool,
}

/// The cause of one request's trouble.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The most likely one.
    pub cause: Cause,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
    /// One sentence: what holds the request.
    pub summary: String,
    /// What that rests on, the strongest first.
    pub evidence: Vec<Finding>,
    /// What was looked for and is not so.
    pub ruled_out: Vec<String>,
    /// What could not be seen, and how it could be.
    pub not_visible: Vec<Gap>,
    /// What the cause is itself a symptom of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub because: Option<Because>,
    /// What is true besides and makes it worse.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also: Vec<Cause>,
    /// Other causes that fit, the most likely first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub runners_up: Vec<Candidate>,
    /// What it is about: what requests with the same trouble have in common.
    pub subject: Subject,
    /// What to do.
    pub fixes: Fixes,
}

/// One thing that was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Who says so: `kernel`, `stack`, `database`, `pooler`, `history`, `host`, `log`.
    pub source: String,
    /// What.
    pub text: String,
    /// How much it weighs, 1 to 3.
    pub weight: u8,
}

/// Something that could not be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What.
    pub what: String,
    /// What would make it visible.
    pub how: String,
}

/// The cause behind a symptom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Because {
    /// Which.
    pub cause: Cause,
    /// In words: `5 connections are held by ...`.
    pub text: String,
}

/// A cause that fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which.
    pub cause: Cause,
    /// How likely it is, 0 to 1.
    pub confidence: f64,
}

/// What a diagnosis is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The other end that is waited for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
    /// The statement, without its values; of who holds the lock where one is waited for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub query: Option<String>,
    /// The innermost calls of the application's own code.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub frames: Vec<Frame>,
}

/// What to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixes {
    /// To end it.
    pub now: Vec<String>,
    /// So that it costs less the next time.
    pub next: Vec<String>,
    /// So that it does not come again.
    pub proper: Vec<String>,
}
