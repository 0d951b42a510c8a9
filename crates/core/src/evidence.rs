//! What was seen of a process from outside, or told from inside: stacks, system calls, sockets, children, databases, memory,
//! pressure. Plain data; each value carries how it was found out. Parts of public records (docs/deadlines.md): add fields,
//! never change one.
//!
//! Not for: looking (`reflex`, `sys`), and not for what it means ([`crate::diagnosis`]).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a stack was found out, the best way first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    #[default]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The function, with its class where that is known (CPython 3.11 and newer).
    pub function: String,
    /// The file it stands in.
    pub file: String,
    /// The line it is at; 0 if unknown.
    pub line: u32,
    /// What some of its variables held, as Python writes it: those that are allowed alone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub locals: BTreeMap<String, String>,
    /// The line of code, of the application's innermost calls, where its file is there.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub code: String,
    /// The loop around that line within its function: `while` or `for`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub within: String,
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

/// What was seen of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Per cent of the request's time that were over; 100 at the deadline.
    pub percent: u32,
    /// When, seconds since 1970, UTC.
    #[serde(default)]
    pub at_s: f64,
    /// How the stacks were found out.
    pub source: Source,
    /// Why no better way could be used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub degraded: Option<String>,
    /// The process's threads; those at requests first.
    pub threads: Vec<Thread>,
    /// Its sockets that lead out of it: not its clients' and not its listeners.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sockets: Vec<Socket>,
    /// Processes that it has started and that run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub children: Vec<Child>,
    /// What the databases said of its connections.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub databases: Vec<Database>,
    /// The process's memory.
    pub memory: Memory,
    /// How short of something the host and the process's control group are.
    pub pressure: Pressure,
}

impl Evidence {
    /// Returns the connections of the process that lead to databases.
    pub fn database_sockets(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().filter(|socket| socket.service.is_database())
    }
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
    /// The descriptor that it waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fd: Option<i32>,
    /// The other end of the socket that it waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
    /// The limit that the call itself sets to its waiting, milliseconds; -1 for none. Absent where the call has no such
    /// argument, or it could not be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patience_ms: Option<i64>,
    /// Seconds of processor that it has used.
    pub cpu_s: f64,
    /// Seconds that it waited for a processor.
    pub cpu_wait_s: f64,
    /// Its Python stack, the innermost call first.
    pub frames: Vec<Frame>,
}

/// Where executors run what they were given: end of the file, function without its class.
const EXECUTORS: [(&str, &str); 2] =
    [("/concurrent/futures/thread.py", "run"), ("/anyio/_backends/_asyncio.py", "run")];

impl Thread {
    /// Tells whether it is an executor's and at work: a task of an event loop waits for what it makes.
    pub fn is_executor(&self) -> bool {
        let runs = |frame: &Frame| {
            let function = frame.function.rsplit('.').next().unwrap_or_default();
            EXECUTORS.iter().any(|(file, name)| function == *name && frame.file.ends_with(file))
        };
        self.frames.iter().any(runs) && self.frames.iter().any(Frame::is_application)
    }
}

/// A socket of the process, seen from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// Its descriptor in the process.
    pub fd: i32,
    /// `tcp`, `udp` or `unix`.
    pub kind: String,
    /// This end: `ip:port`, or empty.
    pub local: String,
    /// The other end: `ip:port`, or the path of a unix socket.
    pub peer: String,
    /// TCP's state in words: `established`, `syn-sent`, `close-wait`; empty for others.
    pub state: String,
    /// What is known to be at the other end.
    pub service: Service,
    /// Who listens there, where that is a process of this host: its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<String>,
    /// Whether calls on it return at once; none if that could not be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub non_blocking: Option<bool>,
    /// What the kernel's TCP counts; none for others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tcp: Option<Tcp>,
}

/// What the kernel counts of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tcp {
    /// Bytes sent that the other end has acknowledged.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent and not acknowledged, or not sent yet.
    pub unsent: u32,
    /// Bytes received that the process has not read.
    pub unread: u32,
    /// Seconds since data were sent.
    pub sent_ago_s: f64,
    /// Seconds since data were received; as long as the connection where none ever were.
    pub received_ago_s: f64,
    /// Times the last segment was sent again.
    pub retries: u32,
}

/// What a peer serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each is the program or protocol of its name")]
pub enum Service {
    Postgres,
    Pgbouncer,
    Mysql,
    Redis,
    Memcached,
    Amqp,
    Mongo,
    Dns,
    /// Something else, or nobody knows.
    #[default]
    Other,
}

impl Service {
    /// Tells whether it answers queries, or stands before what does.
    pub fn is_database(self) -> bool {
        matches!(self, Self::Postgres | Self::Pgbouncer | Self::Mysql)
    }

    /// Returns its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Pgbouncer => "PgBouncer",
            Self::Mysql => "MySQL",
            Self::Redis => "Redis",
            Self::Memcached => "memcached",
            Self::Amqp => "the message broker",
            Self::Mongo => "MongoDB",
            Self::Dns => "the name server",
            Self::Other => "the peer",
        }
    }
}

/// A process that the worker has started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Child {
    /// Its pid.
    pub pid: u32,
    /// The name of its program. Arguments may hold secrets and are not kept.
    pub name: String,
    /// Seconds since it was started.
    pub age_s: f64,
    /// What its main thread does, in words.
    pub doing: String,
    /// The state letter of proc(5).
    pub state: String,
    /// Seconds of processor that it has used.
    pub cpu_s: f64,
}

/// What a database said of a process's connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Which kind.
    pub service: Service,
    /// `host:port/name`, without user or password.
    pub name: String,
    /// Its sessions of the process's connections, and those that block them.
    pub sessions: Vec<Session>,
    /// Connections there are.
    pub connections: u32,
    /// Connections there can be.
    pub connections_max: u32,
    /// The pooler before it, where that could be asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pooler: Option<Pooler>,
    /// Descriptors of connections that lead to it, and of which it knows nothing: there is no such session any more.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub missing: Vec<i32>,
    /// What its sessions at work wait for, of all clients: the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub activity: Vec<Activity>,
    /// Statements whose time has changed most against before.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub statements: Vec<Statement>,
    /// All statements against before, where enough of them could be compared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub overall: Option<Overall>,
    /// What was asked and not answered, and why.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gaps: Vec<String>,
}

/// A connection as the database sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The backend's pid, or the connection's number.
    pub pid: u32,
    /// The descriptor of the connection in the process; none if it is not one of the process's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fd: Option<i32>,
    /// `active`, `idle`, `idle in transaction`.
    pub state: String,
    /// For what it waits: `Lock/transactionid`; empty if for nothing.
    pub wait: String,
    /// The statement, without its values. The last one if it is idle.
    pub query: String,
    /// Seconds since that was begun.
    pub statement_s: f64,
    /// Seconds since its transaction was begun; 0 outside of one.
    pub transaction_s: f64,
    /// When the session began and when the statement did, microseconds since 1970 by the database's clock: with `pid`, a name for
    /// them. 0 where it does not tell.
    #[serde(skip_serializing_if = "is_unknown", default)]
    pub session_us: i64,
    #[serde(skip_serializing_if = "is_unknown", default)]
    #[expect(missing_docs, reason = "above")]
    pub statement_us: i64,
    /// The sessions that hold what it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub blockers: Vec<Blocker>,
    /// The plan of the statement, where that was allowed: what matters of it, in a line each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub plan: Vec<String>,
}

fn is_unknown(time_us: &i64) -> bool {
    *time_us == 0
}

/// Who holds a lock that others wait for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Blocker {
    /// Its backend's pid.
    pub pid: u32,
    /// `active`, `idle in transaction`.
    pub state: String,
    /// Its statement without values; the last one if it is idle.
    pub query: String,
    /// Seconds since its transaction was begun.
    pub transaction_s: f64,
    /// Its `application_name`.
    pub application: String,
    /// The other end of its connection: `ip:port`, or `unix:` and the inode of the database's end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<String>,
    /// The pids that it waits for itself; empty for the root of it all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub waits_for: Vec<u32>,
    /// The worker that it belongs to, if it is one of ours.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worker: Option<u32>,
}

/// How many sessions at work wait for the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// For what: `IO/DataFileRead`; `CPU` for those that wait for nothing.
    pub wait: String,
    /// Sessions.
    pub sessions: u32,
    /// How many they were in the last ten minutes on average.
    pub before: f64,
}

/// A pooler between the process and the database (PgBouncer).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pooler {
    /// Clients that wait for a server connection.
    pub waiting: u32,
    /// The longest of these waits, seconds.
    pub waiting_s: f64,
    /// Server connections in use.
    pub active: u32,
    /// Server connections there can be.
    pub size: u32,
    /// `query_wait_timeout`, seconds; 0 for none.
    pub wait_timeout_s: f64,
    /// The descriptors of the process's connections that wait, each with its wait in seconds.
    pub waits: Vec<(i32, f64)>,
    /// Somebody has paused it: clients wait until it is resumed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub paused: bool,
}

/// A statement whose time has changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Its text without values.
    pub query: String,
    /// Mean time in the last minute, milliseconds.
    pub mean_ms: f64,
    /// Mean time before, milliseconds; 0 if it was not seen before.
    pub before_ms: f64,
    /// Calls in the last minute.
    pub calls: u64,
}

/// How all statements of a database do against before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    /// Statements that were compared.
    pub statements: u32,
    /// Of these, how many take twice as long as before, or longer.
    pub slower: u32,
    /// How many times as long as before the one in the middle takes.
    pub ratio: f64,
    /// For how many whole minutes most have been slower.
    pub minutes: u32,
}

impl Overall {
    /// Tells whether it is the database as a whole that is slower, and not some of its statements.
    pub fn is_slower(&self) -> bool {
        self.slower * 2 > self.statements
    }
}

impl std::fmt::Display for Overall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { statements, slower, ratio, .. } = self;
        write!(
            f,
            "{slower} of {statements} statements take twice as long as before or longer, the one in the middle ×{ratio:.1}"
        )
    }
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
        let file = frame.file.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
        let file = file.filter(|_| !folder.is_empty()).unwrap_or(&frame.file);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_told_from_the_applications_view() {
        let frame = |function: &str, file: &str, line| Frame {
            function: function.into(),
            file: file.into(),
            line,
            ..Frame::default()
        };
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
    fn the_applications_frames_are_told_from_libraries() {
        let frame = |file: &str| Frame { file: file.into(), ..Frame::default() }.is_application();
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
