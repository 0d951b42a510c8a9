//! The records of what went wrong: a request that was late, a worker that died. What an operator reads days later, so
//! everything that was known then stands in it. One JSON object each; its shape is public (docs/deadlines.md): add
//! fields, never change one.
//!
//! Not for: finding any of it out (`reflex`), files (`reflex::journal`), or printing (`cli`).

use crate::scoreboard::{InFlightView, WorkerSlot};
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
    /// Ferricorn's version.
    pub version: String,
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
            requests: slot.requests.load(Relaxed),
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

/// How a stack was found out, the best way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Read from outside, out of the process's memory; needs no interpreter.
    Outside,
    /// Asked of the interpreter.
    Interpreter,
    /// Asked of the interpreter: what the tasks of the request wait for.
    Task,
    /// Written by the stuck thread itself in a signal handler; needs no interpreter.
    Faulthandler,
    /// Not at all: the kernel alone was asked.
    Kernel,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Outside => "read from outside, without the interpreter",
            Self::Interpreter => "asked of the interpreter",
            Self::Task => "asked of the interpreter: what its tasks wait for",
            Self::Faulthandler => "written by the thread itself (faulthandler)",
            Self::Kernel => "no stack: only the kernel could be asked",
        })
    }
}

/// One call on a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The function.
    pub function: String,
    /// The file it stands in.
    pub file: String,
    /// The line it is at; 0 if unknown.
    pub line: u32,
}

impl Frame {
    /// Tells whether it is the application's own code: no module of Python's, no installed package, nothing of ours.
    pub fn is_application(&self) -> bool {
        let python = self.file.split('/').any(|part| {
            matches!(part, "site-packages" | "dist-packages")
                || part.strip_prefix("python3.").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        });
        // A checkout's own package, which is not installed but linked.
        let python = python || self.file.contains("/python/ferricorn/");
        // Compiled by Cython, elsewhere.
        let python = python || self.file.ends_with(".pyx") && !self.file.starts_with('/');
        let command = self.file.ends_with("/bin/ferricorn") || self.file.ends_with("/bin/gunicorn");
        !(python || command || self.file.starts_with('<') || self.file.is_empty())
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} in {}", self.file, self.line, self.function)
    }
}

/// What was seen at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Per cent of the request's time that were over; 100 at the deadline.
    pub percent: u32,
    /// How the stacks were found out.
    pub source: Source,
    /// Why no better way could be used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub degraded: Option<String>,
    /// The process's threads; those at requests first.
    pub threads: Vec<Thread>,
    /// The process's memory.
    pub memory: Memory,
    /// How short of something the host and the process's control group are.
    pub pressure: Pressure,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its kernel id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// The request that it is at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<String>,
    /// Whether it holds the interpreter; none if that could not be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub holds_gil: Option<bool>,
    /// What it does or waits for, in words.
    pub doing: String,
    /// The state letter of proc(5).
    pub state: String,
    /// The system call it is in; empty while it computes.
    pub syscall: String,
    /// Where in the kernel it sleeps; empty if that cannot be seen.
    pub wchan: String,
    /// The other end of the socket that it waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
    /// Seconds of processor that it has used.
    pub cpu_s: f64,
    /// Seconds that it waited for a processor.
    pub cpu_wait_s: f64,
    /// Its Python stack, the innermost call first.
    pub frames: Vec<Frame>,
}

/// The memory of a process and of its control group, bytes; none if unknown or without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident memory of the process.
    pub rss: Option<u64>,
    /// Memory of the control group.
    pub cgroup: Option<u64>,
    /// Its limit.
    pub cgroup_max: Option<u64>,
}

/// Share of the last ten seconds in which something had to wait, per cent (`avg10` of `some`); none if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// For a processor, on the host.
    pub cpu: Option<f64>,
    /// For memory, on the host.
    pub memory: Option<f64>,
    /// For a disk, on the host.
    pub io: Option<f64>,
    /// Seconds that the control group was held back by its processor quota, so far.
    pub throttled_s: Option<f64>,
}

/// Tells a stack, its innermost call first, in lines: where the application is, what it has called outside of its own
/// code, and who called it. Paths below `folder` are shortened; `text` gives the line of code that a frame is at.
pub fn told(frames: &[Frame], folder: &str, text: impl Fn(&Frame) -> Option<String>) -> Vec<String> {
    let place = |frame: &Frame| {
        let file =
            frame.file.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&frame.file);
        format!("{file}:{} in {}", frame.line, frame.function)
    };
    let Some(at) = frames.iter().position(Frame::is_application) else {
        return vec![
            frames.first().map_or("not in Python code".to_owned(), |frame| format!("at {}", place(frame))),
        ];
    };
    let code = text(&frames[at]).filter(|text| !text.is_empty()).map(|text| format!(": {text}"));
    let mut lines = vec![format!("at {}{}", place(&frames[at]), code.unwrap_or_default())];
    lines.extend(frames[..at].first().map(|frame| format!("inside {}", place(frame))));
    let callers = frames[at + 1..].iter().filter(|frame| frame.is_application());
    lines.extend(callers.map(|frame| format!("called from {}", place(frame))));
    lines
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
    fn a_stack_is_told_from_the_applications_view() {
        let frame =
            |function: &str, file: &str, line| Frame { function: function.into(), file: file.into(), line };
        let stack = [
            frame("SSLSocket.read", "/usr/lib/python3.11/ssl.py", 1166),
            frame("get", "/venv/lib/python3.11/site-packages/requests/api.py", 73),
            frame("rates", "/srv/shop/reports.py", 41),
            frame("dispatch", "/venv/lib/python3.11/site-packages/flask/app.py", 1500),
            frame("report", "/srv/shop/views.py", 17),
        ];
        let lines = told(&stack, "/srv", |_| Some("requests.get(URL)".into()));
        assert_eq!(
            lines,
            [
                "at shop/reports.py:41 in rates: requests.get(URL)",
                "inside /usr/lib/python3.11/ssl.py:1166 in SSLSocket.read",
                "called from shop/views.py:17 in report",
            ]
        );
        assert_eq!(
            told(&stack[..2], "/srv", |_| None),
            ["at /usr/lib/python3.11/ssl.py:1166 in SSLSocket.read"]
        );
        assert_eq!(told(&[], "/srv", |_| None), ["not in Python code"]);
    }

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

    #[test]
    fn the_applications_frames_are_told_from_libraries() {
        let frame = |file: &str| Frame { function: "f".into(), file: file.into(), line: 1 }.is_application();
        for file in ["/srv/shop/views.py", "views.py", "/home/me/python3/app.py", "/opt/python-apps/a.py"] {
            assert!(frame(file), "{file}");
        }
        for file in [
            "/usr/lib/python3.11/queue.py",
            "/srv/venv/lib/python3.12/site-packages/requests/api.py",
            "/usr/lib/python3/dist-packages/flask/app.py",
            "/srv/venv/bin/ferricorn",
            "<frozen importlib._bootstrap>",
            "<string>",
            "",
        ] {
            assert!(!frame(file), "{file}");
        }
    }
}
