//! The records of what went wrong: a request that was late, a worker that died. What an operator reads days later, so
//! everything that was known then stands in it. One JSON object each; its shape is public (docs/deadlines.md): add
//! fields, never change one.
//!
//! Not for: finding any of it out (`reflex`), files (`reflex::store`), or printing (`cli`).

use crate::diagnosis::Diagnosis;
use crate::evidence::{Evidence, Frame, Source};
use crate::scoreboard::{InFlightView, WorkerSlot};
use crate::snapshot::Kind;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;

/// Shape of the records; changes if a field ever changes its meaning.
pub const SCHEMA: u32 = 1;

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A request whose time was over.
    Timeout(Box<Timeout>),
    /// A worker that ended without having been told to.
    Death(Box<Death>),
    /// An event loop that something held.
    Blocked(Box<Blocked>),
}

impl Record {
    /// Returns when it was written: seconds since 1970, UTC.
    pub fn at_s(&self) -> f64 {
        match self {
            Self::Timeout(timeout) => timeout.at_s,
            Self::Death(death) => death.at_s,
            Self::Blocked(blocked) => blocked.at_s,
        }
    }

    /// Returns the pid of its worker.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Timeout(timeout) => timeout.worker.pid,
            Self::Death(death) => death.worker.pid,
            Self::Blocked(blocked) => blocked.worker.pid,
        }
    }

    /// Returns its kind, as its JSON has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Death(_) => "death",
            Self::Blocked(_) => "blocked",
        }
    }

    /// Returns its server.
    pub fn server(&self) -> &Server {
        match self {
            Self::Timeout(timeout) => &timeout.server,
            Self::Death(death) => &death.server,
            Self::Blocked(blocked) => &blocked.server,
        }
    }

    /// Returns the request that it is about; none for a death, and where that is not known.
    pub fn request(&self) -> Option<&Request> {
        match self {
            Self::Timeout(timeout) => Some(&timeout.request),
            Self::Death(_) => None,
            Self::Blocked(blocked) => blocked.hold.request.as_ref(),
        }
    }

    /// Returns where the application was, the innermost call first.
    pub fn frames(&self) -> &[Frame] {
        match self {
            Self::Timeout(timeout) => &timeout.frames,
            Self::Death(_) => &[],
            Self::Blocked(blocked) => &blocked.hold.frames,
        }
    }

    /// Returns the incident that it belongs to.
    pub fn incident(&self) -> Option<&str> {
        match self {
            Self::Timeout(timeout) => timeout.incident.as_deref(),
            Self::Death(death) => death.incident.as_deref(),
            Self::Blocked(blocked) => blocked.incident.as_deref(),
        }
    }
}

/// A request whose time was over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeout {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When the time was over: seconds since 1970, UTC.
    pub at_s: f64,
    /// The server.
    pub server: Server,
    /// The worker.
    pub worker: Worker,
    /// The request.
    pub request: Request,
    /// What its client got: `answered 504`, `response cut`.
    pub answer: String,
    /// Who answered: `worker` or `guardian`.
    pub answered_by: String,
    /// What became of its thread.
    pub thread: Outcome,
    /// For what the thread waited, as the kernel saw it.
    pub doing: String,
    /// How the stack was found out.
    pub source: Source,
    /// Where the thread was, the innermost call first.
    pub frames: Vec<Frame>,
    /// What was seen on the way to the deadline, oldest first.
    pub evidence: Vec<Evidence>,
    /// The other requests of the worker at that moment.
    pub concurrent: Vec<Request>,
    /// Why it was late.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diagnosis: Option<Diagnosis>,
    /// The incident that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incident: Option<String>,
}

/// A worker that ended without having been told to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Death {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it was noticed: seconds since 1970, UTC.
    pub at_s: f64,
    /// The server.
    pub server: Server,
    /// The worker.
    pub worker: Worker,
    /// Why.
    pub cause: String,
    /// The requests that it was working on.
    pub requests: Vec<Request>,
    /// What was last seen of it, if anything.
    pub evidence: Vec<Evidence>,
    /// The incident that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incident: Option<String>,
}

/// An event loop that something held, so that requests waited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocked {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it was over: seconds since 1970, UTC.
    pub at_s: f64,
    /// The server.
    pub server: Server,
    /// The worker.
    pub worker: Worker,
    /// How it was.
    #[serde(flatten)]
    pub hold: Hold,
    /// The incident that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incident: Option<String>,
}

/// How an event loop was held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// For how long, seconds.
    pub lasted_s: f64,
    /// The request whose code did; none where it was no request's, or could not be seen.
    pub request: Option<Request>,
    /// Where it was, the innermost call first; empty where that could not be seen.
    pub frames: Vec<Frame>,
    /// For what its thread waited, as the kernel saw it.
    pub doing: String,
    /// How many requests stood in line behind it, and for how long at most, seconds.
    pub waited: usize,
    /// The longest of these waits, seconds.
    pub waited_s: f64,
    /// Of those requests, how many siblings have taken.
    pub given: usize,
    /// How many other requests the worker had begun, which could not go on.
    #[serde(default)]
    pub begun: usize,
    /// The first of these.
    pub concurrent: Vec<Request>,
}

impl Hold {
    /// Says it in one line; `place` is where the application was.
    pub fn told(&self, place: Option<&str>) -> String {
        let place = place.map_or(String::new(), |place| format!(" at {place}"));
        let who = match &self.request {
            Some(request) => format!("{} {} (request {})", request.method, request.path, request.id),
            None if self.frames.is_empty() => "code that keeps the interpreter".to_owned(),
            None => "code of no request".to_owned(),
        };
        let behind = match self.waited {
            0 => String::new(),
            1 => format!("; 1 request waited {:.1} s", self.waited_s),
            many => format!("; {many} requests waited, up to {:.1} s", self.waited_s),
        };
        let begun = match self.begun {
            0 => String::new(),
            1 => "; 1 that had begun could not go on".to_owned(),
            many => format!("; {many} that had begun could not go on"),
        };
        let given = if self.given > 0 { format!(", siblings took {}", self.given) } else { String::new() };
        format!(
            "blocking call in the event loop for {:.1} s: {who}{place}{behind}{given}{begun}",
            self.lasted_s
        )
    }
}

/// A server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Pid of its arbiter.
    pub pid: u32,
    /// `proc_name`.
    pub name: String,
    /// The version of Ferricorn, or of the Gunicorn.
    pub version: String,
    /// When its arbiter started, by its host's monotonic clock: tells servers apart that had the same pid one after the
    /// other, as every container's has. 0 where that is not known.
    #[serde(default)]
    pub started_ns: u64,
    /// Which server it is.
    #[serde(default)]
    pub kind: Kind,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its pid.
    pub pid: u32,
    /// Spawn number.
    pub age: u32,
    /// The reload it belongs to.
    pub generation: u32,
    /// Its app threads, stand-ins included.
    pub threads: u32,
    /// Requests that waited for one of them.
    pub queued: u32,
    /// Seconds since it was forked.
    pub uptime_s: f64,
    /// Requests it has completed.
    pub requests: u64,
}

impl Worker {
    /// Returns what the scoreboard says of a worker.
    pub fn of(slot: &WorkerSlot, now_ns: u64) -> Self {
        Self {
            pid: slot.pid.load(Relaxed),
            age: slot.age.load(Relaxed),
            generation: slot.generation.load(Relaxed),
            threads: slot.threads.load(Relaxed),
            queued: slot.queued.load(Relaxed),
            uptime_s: seconds(slot.spawned_ns.load(Relaxed), now_ns),
            requests: slot.counted().requests,
        }
    }
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// By which logs and pages know it.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its path, cut at 128 bytes.
    pub path: String,
    /// Its query without values, cut at 128 bytes.
    pub query: String,
    /// The pattern of its route, where the framework tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<String>,
    /// Its client's address.
    pub client: String,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Kernel id of its thread.
    pub tid: u32,
    /// Seconds from its first byte to its last.
    pub read_s: f64,
    /// Seconds it waited for a thread.
    pub queue_s: f64,
    /// Seconds it has been in the application.
    pub app_s: f64,
    /// Seconds that it had for that; none without a deadline.
    pub deadline_s: Option<f64>,
}

impl Request {
    /// Returns what the scoreboard says of a request of the worker with this pid.
    pub fn of(pid: u32, view: &InFlightView, now_ns: u64) -> Self {
        Self {
            id: request_id(pid, view.id),
            method: view.method.clone(),
            path: view.path.clone(),
            query: redacted(&view.query),
            route: None,
            client: view.client.clone(),
            body_bytes: view.body_bytes,
            tid: view.tid,
            read_s: seconds(view.start_ns, view.complete_ns),
            queue_s: seconds(view.complete_ns, view.app_ns),
            app_s: seconds(view.app_ns, now_ns),
            deadline_s: (view.deadline_ns > 0).then(|| seconds(view.app_ns, view.deadline_ns)),
        }
    }
}

/// Returns the number by which logs and pages know a request of the worker with this pid.
pub fn request_id(pid: u32, id: u64) -> String {
    format!("{pid}-{id}")
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    // Microseconds are enough, and shorter to read.
    (to_ns.saturating_sub(from_ns) / 1000) as f64 / 1e6
}

/// What became of the thread of a late request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It came free.
    Freed {
        /// Seconds after the answer.
        after_s: f64,
    },
    /// It was still stuck when the record was written.
    Stuck {
        /// Seconds after the answer.
        after_s: f64,
    },
    /// Its worker ended.
    Ended,
}

/// Returns a query without its values: what was asked for is seen, secrets are not.
pub fn redacted(query: &str) -> String {
    let part = |part: &str| match part.split_once('=') {
        Some((name, _)) => format!("{name}=*"),
        // A name alone may itself be a token.
        None => "*".to_owned(),
    };
    let parts: Vec<String> = query.split('&').filter(|text| !text.is_empty()).map(part).collect();
    parts.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_keep_names_only() {
        let table = [
            ("", ""),
            ("a=1", "a=*"),
            ("user=me&token=s3cret&&x", "user=*&token=*&*"),
            ("a=b=c", "a=*"),
            ("=v", "=*"),
        ];
        for (query, expected) in table {
            assert_eq!(redacted(query), expected, "{query}");
        }
    }
}
