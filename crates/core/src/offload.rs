//! Requests that are answered at once and worked on later: what a job is, what its client is told of it, and what workers and the
//! dispatcher say to each other. Not for: keeping jobs (the crate `offload`), and not for bytes on a client's connection.

mod places;

pub use places::{Nowhere, Place, Places, Told};

use crate::units::hex;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The field by which the dispatcher says whose job a request is, to the job workers alone.
pub const FIELD: &str = "Ferricorn-Job";
/// What the dispatcher says behind a request that nobody wants any more, before it hangs up. Who hangs up without it has what he wanted, or
/// has died.
pub const WITHDRAWN: u8 = 0x18;
/// Longest message between workers and the dispatcher, bytes; what is longer goes as a file.
pub const MESSAGE_MAX: usize = 160 << 10;
/// Longest body that goes, and is kept, with its message; longer ones are files.
pub const INLINE_MAX: usize = 64 << 10;
/// Letters of an id: 128 bits that nobody guesses, in hexadecimal.
pub const ID_LETTERS: usize = 32;
/// Longest note beside a job's progress, letters.
pub const NOTE_MAX: usize = 200;

/// Returns the id that is made of these bytes.
pub fn id(random: [u8; 16]) -> String {
    hex(&random)
}

/// Tells whether this could be an id.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_LETTERS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Where a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a worker.
    #[default]
    Queued,
    /// A worker is at it.
    Running,
    /// The application has answered.
    Done,
    /// It was given up; the error says why.
    Failed,
    /// Its client has withdrawn it.
    Cancelled,
    /// What it has come to is not kept any more.
    Expired,
}

impl State {
    /// Every state, in the order of their numbers in the store.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled, Self::Expired];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        ["queued", "running", "done", "failed", "cancelled", "expired"][self as usize]
    }

    /// Returns the state of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Tells whether nothing more happens to it.
    pub fn is_over(self) -> bool {
        self > Self::Running
    }
}

/// Why a job was given up, or its last attempt failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The application has answered with a status of 500 or more.
    #[default]
    Application,
    /// Its time was over.
    Timeout,
    /// The process that worked on it has died.
    WorkerDied,
    /// The dispatcher ended while it ran.
    Interrupted,
}

impl Fault {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Application, Self::Timeout, Self::WorkerDied, Self::Interrupted];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        ["application", "timeout", "worker_died", "interrupted"][self as usize]
    }
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What kind of failure it was.
    pub cause: Fault,
    /// In a sentence.
    pub detail: String,
    /// By which the log and `ferricornctl why` know the attempt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// The status with which the application, or the server in its place, has answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
}

/// How far a job is, as its application says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// From 0 to 1.
    pub share: f64,
    /// What it is at.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub note: String,
}

/// What is told of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub state: State,
    /// The method of its request.
    pub method: String,
    /// The path.
    pub path: String,
    /// How often it was begun.
    pub attempts: u32,
    /// How often it may be begun.
    pub attempts_max: u32,
    /// When it was taken, seconds since 1970.
    pub created_at: f64,
    /// When its last attempt began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<f64>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<f64>,
    /// Until when what it has come to is kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<f64>,
    /// When it is begun again, after an attempt that failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due_at: Option<f64>,
    /// How far it is, where the application says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress: Option<Progress>,
    /// The status of the application's response.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// What has failed last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<Error>,
}

impl Status {
    /// Tells whether this is news to who knows the job by this tag, or waits for its end alone.
    pub fn is_news(&self, tag: Option<&str>, end: bool) -> bool {
        if end { self.state.is_over() } else { tag.is_none_or(|tag| tag != self.tag()) }
    }

    /// Returns what changes whenever something about the job does: the entity tag, without quotes.
    pub fn tag(&self) -> String {
        let progress = self.progress.as_ref();
        let share = progress.map_or(0, |progress| (progress.share * 1e6) as u64);
        let note = progress.map_or(0, |progress| fnv(progress.note.as_bytes()));
        format!("{}-{}-{share}-{note:x}", self.state.name(), self.attempts)
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// A request to be worked on later. Its head and body follow the message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The id of the job that it becomes. The worker has made it, so that saying it twice makes one job.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The address of its client; none on a unix socket.
    pub client: Option<String>,
    /// By which of the server's listeners it came.
    pub listener: usize,
    /// Whether its body comes in chunks, by its head.
    pub chunked: bool,
    /// How long its head is, bytes.
    pub head: usize,
    /// How long its body is, bytes.
    pub body: u64,
    /// When its worker gives up waiting for the answer, milliseconds since 1970: it is not to be kept any more then.
    pub until_ms: u64,
    /// Stands for its `Idempotency-Key` together with who sent it; none without a key.
    pub key: Option<String>,
    /// Stands for what was sent under that key.
    pub sum: Option<String>,
    /// The URL that its client wants told when the job is over.
    pub webhook: Option<String>,
}

/// What a worker asks of the dispatcher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Keep this; answered when it is safe.
    Keep(Request),
    /// Tell of a job; if its tag is this one, as soon as it is another, or after so many milliseconds.
    Look {
        /// Which.
        id: String,
        /// What is known of it already.
        tag: Option<String>,
        /// Whether only its end is worth an answer before that time.
        end: bool,
        /// For how long an answer can wait.
        wait_ms: u64,
    },
    /// Give what a job has come to.
    Take {
        /// Which.
        id: String,
    },
    /// Nobody wants it any more: it is not begun, its attempt goes nowhere, what it has come to is removed.
    Cancel {
        /// Which.
        id: String,
    },
    /// So far is a job. Nothing answers this.
    Report {
        /// Which.
        id: String,
        /// How far.
        progress: Progress,
    },
}

/// What the dispatcher answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// That is how it stands. To [`Ask::Keep`]: it is kept.
    Status(Box<Status>),
    /// There is no such job.
    Absent,
    /// What it has come to; its body follows, or comes as a file.
    Response(Response),
    /// There is no room, or nothing can be written: it is not kept.
    Full {
        /// Why.
        detail: String,
    },
    /// The same key came with another request before.
    KeyReused,
}

/// An application's response, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Its status line behind the version: `200 OK`.
    pub status: String,
    /// Its fields, as the application has named them.
    pub fields: Vec<(String, String)>,
    /// How long its body is, bytes.
    pub body: u64,
    /// The length that the application has promised where there is no body: to HEAD.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub promised: Option<String>,
}

/// What the dispatcher has counted, in the memory that all processes of a server share.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counts {
    /// Whether any request may become a job: 0 or 1.
    pub is_on: AtomicU32,
    reserved: AtomicU32,
    /// Jobs that wait for a worker.
    pub waiting: AtomicU64,
    /// Jobs that run.
    pub running: AtomicU64,
    /// When the one was taken that has waited longest, milliseconds since 1970; 0 if none waits.
    pub oldest_ms: AtomicU64,
    /// Bytes that jobs take on the disk.
    pub bytes: AtomicU64,
    /// Requests taken since the server was started.
    pub taken: AtomicU64,
    /// Requests that were not, for want of room.
    pub refused: AtomicU64,
    /// Attempts begun after one that failed.
    pub retried: AtomicU64,
    /// Jobs that are done.
    pub done: AtomicU64,
    /// Jobs that were given up, by [`Fault`].
    pub failed: [AtomicU64; Fault::ALL.len()],
    /// Jobs that were withdrawn.
    pub cancelled: AtomicU64,
    /// How long attempts have lasted that were answered, microseconds, all together.
    pub ran_us: AtomicU64,
    /// Webhooks that were delivered.
    pub told: AtomicU64,
    /// Webhooks that were given up.
    pub untold: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Jobs that wait for a worker.
    pub waiting: u64,
    /// Jobs that run.
    pub running: u64,
    /// For how long the one has waited that has waited longest, seconds; none if none waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oldest_s: Option<f64>,
    /// Bytes that jobs take on the disk.
    pub bytes: u64,
    /// Requests taken since the server was started.
    pub taken: u64,
    /// Requests that were not, for want of room.
    pub refused: u64,
    /// Attempts begun after one that failed.
    pub retried: u64,
    /// Jobs that are done.
    pub done: u64,
    /// Jobs that were given up, by why.
    pub failed: Vec<(Fault, u64)>,
    /// Jobs that were withdrawn.
    pub cancelled: u64,
    /// How long attempts have lasted that were answered, seconds, all together.
    pub ran_s: f64,
    /// Webhooks that were delivered.
    #[serde(default)]
    pub told: u64,
    /// Webhooks that were given up.
    #[serde(default)]
    pub untold: u64,
}

impl Counts {
    /// Reads them; none where no request may become a job.
    pub fn read(&self, now_s: f64) -> Option<Counted> {
        if self.is_on.load(Relaxed) == 0 {
            return None;
        }
        let oldest_ms = self.oldest_ms.load(Relaxed);
        let failed = Fault::ALL.iter().zip(&self.failed);
        Some(Counted {
            waiting: self.waiting.load(Relaxed),
            running: self.running.load(Relaxed),
            oldest_s: (oldest_ms > 0).then(|| (now_s - oldest_ms as f64 / 1e3).max(0.0)),
            bytes: self.bytes.load(Relaxed),
            taken: self.taken.load(Relaxed),
            refused: self.refused.load(Relaxed),
            retried: self.retried.load(Relaxed),
            done: self.done.load(Relaxed),
            failed: failed.map(|(fault, count)| (*fault, count.load(Relaxed))).collect(),
            cancelled: self.cancelled.load(Relaxed),
            ran_s: self.ran_us.load(Relaxed) as f64 / 1e6,
            told: self.told.load(Relaxed),
            untold: self.untold.load(Relaxed),
        })
    }
}

/// Whose job a request is, as the dispatcher says to a job worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// What only the server's own processes know.
    pub token: String,
    /// The job.
    pub id: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// By which listener the request came.
    pub listener: usize,
    /// The address of its client.
    pub client: Option<String>,
}

impl Pass {
    /// Returns it as the value of [`FIELD`].
    pub fn value(&self) -> String {
        let client = self.client.as_deref().unwrap_or("-");
        format!("{} {} {} {} {client}", self.token, self.id, self.attempt, self.listener)
    }

    /// Reads that; none if it is no pass.
    pub fn read(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        let mut next = || words.next();
        let (token, id) = (next()?.to_owned(), next()?.to_owned());
        let (attempt, listener) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let client = next().filter(|client| *client != "-").map(str::to_owned);
        is_id(&id).then_some(Self { token, id, attempt, listener, client })
    }
}

/// Whether a method may be sent again without asking: what it does twice is as if done once (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// How long the next attempt waits after so many that failed, seconds: 1, 2, 4 and so on to a minute.
pub fn backoff_s(attempts: u32) -> f64 {
    f64::from(1_u32 << attempts.saturating_sub(1).min(6)).min(60.0)
}

/// Returns the host of a URL that is to be told, in lower case.
///
/// # Errors
/// It is no URL at which anybody can be told.
pub fn webhook_host(url: &str) -> Result<String, &'static str> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err("it begins neither with https:// nor with http://");
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it holds a space, or letters that are not ASCII");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains(['@', '\\']) {
        return Err("it holds a user");
    }
    let (host, behind) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, behind)) => (host, behind),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let port = behind.strip_prefix(':').unwrap_or(if behind.is_empty() { "443" } else { "" });
    if host.is_empty() || !host.bytes().all(is_letter) || port.parse::<u16>().is_err() {
        return Err("it names no host");
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_read_as_it_was_written_and_nothing_else_is() {
        for client in [Some("127.0.0.1:80".to_owned()), None] {
            let pass = Pass { token: "t".into(), id: id([1; 16]), attempt: 2, listener: 1, client };
            assert_eq!(Pass::read(&pass.value()), Some(pass));
        }
        for other in ["", "t", "t x 1 0 -", "t 01010101010101010101010101010101 x 0 -"] {
            assert_eq!(Pass::read(other), None, "{other}");
        }
    }

    #[test]
    fn a_tag_is_another_whenever_something_is() {
        let status = Status { attempts: 1, state: State::Running, ..Status::default() };
        let progress = |share, note: &str| Some(Progress { share, note: note.into() });
        let others = [
            Status { state: State::Done, ..status.clone() },
            Status { attempts: 2, ..status.clone() },
            Status { progress: progress(0.5, ""), ..status.clone() },
            Status { progress: progress(0.5, "half"), ..status.clone() },
        ];
        let mut tags: Vec<String> = others.iter().chain([&status]).map(Status::tag).collect();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 5);
    }

    #[test]
    fn attempts_wait_longer_each_time() {
        assert_eq!([1, 2, 3, 7, 40].map(backoff_s), [1.0, 2.0, 4.0, 60.0, 60.0]);
        assert!(State::ALL.iter().all(|state| State::named(state.name()) == Some(*state)));
    }

    #[test]
    fn hosts_are_found_and_tricks_are_not_followed() {
        let table = [
            ("https://Hooks.Example.com/a?b=c", Ok("hooks.example.com")),
            ("http://10.0.0.1:8080", Ok("10.0.0.1")),
            ("https://[::1]:443/x", Ok("::1")),
            ("ftp://a/", Err("it begins neither with https:// nor with http://")),
            ("https://good.example@127.0.0.1/", Err("it holds a user")),
            ("https://good.example\\@evil/", Err("it holds a user")),
            ("https:///x", Err("it names no host")),
            ("https://[::1]x/", Err("it names no host")),
            ("https://[::1/", Err("it names no host")),
            ("https://a:99999/", Err("it names no host")),
            ("https://a%2eb/", Err("it names no host")),
            ("HTTPS://a/", Ok("a")),
            ("https://a b/", Err("it holds a space, or letters that are not ASCII")),
        ];
        for (url, expected) in table {
            assert_eq!(webhook_host(url).as_deref().map_err(|why| *why), expected, "{url}");
        }
    }
}
