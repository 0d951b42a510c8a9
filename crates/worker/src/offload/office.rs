//! The thread that talks with the dispatcher. It is started when the first connection needs it, has all that wait for an answer, and
//! never enters the application. If the dispatcher ends, it says again to the next one what is not answered yet: that makes no second
//! job, because a job's id is the worker's.
//!
//! Not for: what clients are told (`answers`).

use super::answers;
use super::{Errand, Offload};
use crate::conn::{Body, Conn, Peer, Sent};
use crate::http::head::Framing;
use crate::http::head::Head;
use crate::options::Level;
use crate::run::Hub;
use ferricorn_core::offload::{
    Answer, Ask, INLINE_MAX, MESSAGE_MAX, Request, State, Status, id, webhook_host,
};
use ferricorn_core::pattern::fits;
use ferricorn_sys::exit::exit_now;
use ferricorn_sys::{clock, packets, random};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use sha1_smol::Sha1;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;

/// How long an answer of the dispatcher may take before clients are told so, nanoseconds, and how often one is looked for that is
/// away. While there is none, messages wait where the next one finds them.
const AWAY_NS: u64 = 10_000_000_000;
const AGAIN_NS: u64 = 50_000_000;
/// After how long something is sent to who follows a job of which there is no news, milliseconds.
const STILL_MS: u64 = 15_000;
/// Bytes of news that a client may leave unread.
const UNREAD_MAX: usize = 256 << 10;
/// How often it is looked whether the worker ends, while clients wait.
const LOOK_NS: u64 = 250_000_000;
/// Longest URL that is told, bytes.
const WEBHOOK_MAX: usize = 2048;
const ABSENT: &str = "there is no such job";
/// Room that a message needs beside head and body.
const BESIDE: usize = 8 << 10;

/// Where the loop leaves connections for the thread.
pub(crate) struct Office {
    inbox: Mutex<Vec<(Box<Conn>, Errand)>>,
    bell: OwnedFd,
    is_open: AtomicBool,
}

impl Office {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { inbox: Mutex::default(), bell, is_open: AtomicBool::new(false) })
    }

    /// Takes a connection, which comes back answered.
    pub(crate) fn take(&self, hub: &Arc<Hub>, conn: Box<Conn>, errand: Errand) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push((conn, errand));
        if !self.is_open.swap(true, Ordering::Relaxed) {
            let of = hub.clone();
            let body = move || {
                if catch_unwind(AssertUnwindSafe(|| Desk::new(&of).live())).is_err() {
                    // Whoever waits here would wait for ever: its guardian answers for a worker that has ended.
                    of.log.log(Level::Critical, "the thread for jobs has failed: the worker ends");
                    exit_now(1);
                }
            };
            if let Err(error) = thread::Builder::new().name("ferricorn-jobs".into()).spawn(body) {
                hub.log.log(Level::Error, &format!("cannot start the thread for jobs: {error}"));
                self.is_open.store(false, Ordering::Relaxed);
                for (mut conn, _) in self.taken() {
                    let (none, later) = (Offload::default(), [("Retry-After", "5")]);
                    answers::problem(&mut conn, &none, 503, "there is no thread for jobs", &later, "");
                    hub.pool.give_back(conn);
                }
            }
            return;
        }
        self.ring();
    }

    fn ring(&self) {
        // A full counter rings as well.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn taken(&self) -> Vec<(Box<Conn>, Errand)> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection that waits for an answer.
struct Waiting {
    conn: Box<Conn>,
    stage: Stage,
    message: Vec<u8>,
    file: Option<OwnedFd>,
    is_sent: bool,
    /// When nobody waits any more.
    until_ns: u64,
    /// Its worker ends: it is told at once how things stand.
    is_hurried: bool,
}

/// For what.
#[derive(Clone, Debug)]
enum Stage {
    /// That its request is kept; then for the end of it, so long.
    Keep { wait_ms: u64 },
    /// For the end of the job, or the end of its time.
    End { id: String },
    /// For the response, in place of a 202.
    Made(Box<Status>),
    /// For how a job stands.
    Look { id: String },
    /// For news of a job, of which its client knows this.
    Follow { id: String, tag: Option<String> },
    /// For the response.
    Take,
    /// That the job is withdrawn.
    Cancel,
}

/// Why a request cannot become a job.
enum Unfit {
    /// Its head is too long.
    Long,
    /// Whom it names cannot be told; why.
    Webhook(&'static str),
    /// The system's fault.
    Failed(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

struct Desk<'a> {
    hub: &'a Arc<Hub>,
    offload: &'a Offload,
    office: &'a Office,
    socket: Option<OwnedFd>,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    room: Vec<u8>,
}

impl<'a> Desk<'a> {
    fn new(hub: &'a Arc<Hub>) -> Self {
        static NONE: LazyLock<Offload> = LazyLock::new(Offload::default);
        Self {
            hub,
            offload: hub.options.offload.as_ref().unwrap_or(&NONE),
            office: &hub.office,
            socket: None,
            waiting: BTreeMap::new(),
            next: 0,
            room: vec![0; MESSAGE_MAX + BESIDE],
        }
    }

    fn live(mut self) {
        loop {
            for (conn, errand) in self.office.taken() {
                self.begin(conn, errand);
            }
            self.send_all();
            self.hear();
            self.hurry();
            self.give_up();
            if self.hub.exit().is_some() && self.waiting.is_empty() {
                return;
            }
            self.rest();
        }
    }

    /// Waits for something to do.
    fn rest(&self) {
        let unsent = self.waiting.values().any(|waiting| !waiting.is_sent);
        let mut fds = vec![PollFd::new(&self.office.bell, PollFlags::IN)];
        let wait_ns = match &self.socket {
            Some(socket) => {
                let flags = if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                fds.push(PollFd::new(socket, flags));
                if self.waiting.is_empty() { LOOK_NS * 20 } else { LOOK_NS }
            }
            None if unsent => AGAIN_NS,
            None => LOOK_NS * 20,
        };
        // Interrupted is as good as woken.
        let _ = poll(&mut fds, Some(&clock::timespec(wait_ns)));
        let _ = rustix::io::read(&self.office.bell, &mut [0; 8]);
    }

    fn begin(&mut self, mut conn: Box<Conn>, errand: Errand) {
        let now_ns = clock::now_ns();
        match errand {
            Errand::Keep { wait_ms } => {
                // Who waits for the end says nothing of how long it takes to be taken.
                conn.stamps.app_ns = if wait_ms == 0 { now_ns } else { 0 };
                match self.request(&mut conn) {
                    Ok((request, head, body, file)) => {
                        let tail: [&[u8]; 2] = [&head, &body];
                        self.ask(conn, Stage::Keep { wait_ms }, &Ask::Keep(request), &tail, file);
                    }
                    Err(Unfit::Failed(error)) => {
                        self.hub.log.log(Level::Error, &format!("a request cannot become a job: {error}"));
                        self.unavailable(conn, "the request cannot be kept");
                    }
                    Err(Unfit::Long) => self.refuse(conn, 431, "the head is too long for a job"),
                    Err(Unfit::Webhook(why)) => self.refuse(conn, 422, &format!("Ferricorn-Webhook: {why}")),
                }
            }
            Errand::Look { id, wait_ms } => {
                let tag = conn.head.field(b"if-none-match").and_then(answers::known_tag);
                let (end, known) = (tag.is_none() && wait_ms > 0, tag.filter(|_| wait_ms > 0));
                let ask = Ask::Look { id: id.clone(), tag: known, end, wait_ms };
                self.ask(conn, Stage::Look { id }, &ask, &[], None);
            }
            Errand::Follow { id } => self.follow(conn, id, None),
            Errand::Take { id } => self.ask(conn, Stage::Take, &Ask::Take { id }, &[], None),
            Errand::Cancel { id } => self.ask(conn, Stage::Cancel, &Ask::Cancel { id }, &[], None),
            Errand::Absent => self.refuse(conn, 404, ABSENT),
            Errand::Late => self.refuse(conn, 410, "this URL is not good any more"),
            Errand::NotAllowed => {
                let allow = [("Allow", "GET, HEAD, DELETE")];
                let detail = "jobs are read and withdrawn here, and nothing else";
                answers::problem(&mut conn, self.offload, 405, detail, &allow, "");
                self.home(conn);
            }
            Errand::Preflight => {
                answers::preflight(&mut conn, self.offload);
                self.home(conn);
            }
        }
    }

    fn refuse(&self, mut conn: Box<Conn>, code: u16, detail: &str) {
        answers::problem(&mut conn, self.offload, code, detail, &[], "");
        self.home(conn);
    }

    /// Returns whom the client wants told when the job is over.
    fn webhook(&self, head: &Head) -> Result<Option<String>, Unfit> {
        let Some(url) = head.field(b"ferricorn-webhook") else { return Ok(None) };
        let url = str::from_utf8(url).ok().filter(|url| url.len() <= WEBHOOK_MAX);
        let url = url.ok_or(Unfit::Webhook("it is longer than 2048 letters, or not ASCII"))?;
        let host = webhook_host(url).map_err(Unfit::Webhook)?;
        let hosts = &self.offload.webhook_hosts;
        if hosts.iter().any(|pattern| fits(pattern.to_ascii_lowercase().as_bytes(), host.as_bytes())) {
            Ok(Some(url.to_owned()))
        } else {
            Err(Unfit::Webhook("nobody is told at this host (`offload_webhook_hosts`)"))
        }
    }

    /// Puts together what is kept of a request.
    #[expect(clippy::type_complexity, reason = "the request, its head, its body or the file that holds it")]
    fn request(&mut self, conn: &mut Conn) -> Result<(Request, Vec<u8>, Vec<u8>, Option<OwnedFd>), Unfit> {
        let head = conn.head.raw.clone();
        if head.len() + INLINE_MAX + BESIDE > MESSAGE_MAX {
            return Err(Unfit::Long);
        }
        let webhook = self.webhook(&conn.head)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let body = conn.take_body();
        let length = body.len();
        let key = conn.head.field(b"idempotency-key").map(|key| {
            let fields = [b"authorization".as_slice(), b"cookie", b"host"];
            let who = fields.iter().map(|name| conn.head.field(name).unwrap_or_default());
            sum([conn.head.method(), conn.head.get(&conn.head.path), key].into_iter().chain(who))
        });
        let (body, file) = match body {
            Body::Empty => (Vec::new(), None),
            Body::Memory(bytes) if bytes.len() <= INLINE_MAX => (bytes, None),
            Body::Memory(bytes) => {
                let mut file =
                    File::from(memfd_create("ferricorn-body", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
                file.write_all(&bytes)?;
                (bytes, Some(OwnedFd::from(file)))
            }
            Body::File { file, .. } => (Vec::new(), Some(OwnedFd::from(file))),
        };
        // Of a body in a file the length stands for it.
        let target = conn.head.get(&conn.head.target);
        let told = webhook.as_ref().map(String::as_bytes);
        let digest =
            key.is_some().then(|| sum([target, &length.to_le_bytes(), &body].into_iter().chain(told)));
        let request = Request {
            id: id(random::bytes()?),
            method: text(conn.head.method()),
            path: text(conn.head.get(&conn.head.path)),
            client: matches!(conn.peer, Peer::Tcp(_)).then(|| conn.client.clone()),
            listener: conn.listener,
            chunked: conn.head.framing == Framing::Chunked,
            head: head.len(),
            body: length,
            until_ms: (clock::wall_ns() + AWAY_NS) / 1_000_000,
            key,
            sum: digest,
            webhook,
        };
        let body = if file.is_some() { Vec::new() } else { body };
        Ok((request, head, body, file))
    }

    fn ask(&mut self, conn: Box<Conn>, stage: Stage, ask: &Ask, tail: &[&[u8]], file: Option<OwnedFd>) {
        self.next += 1;
        let message = packets::written(self.next, ask, tail);
        let wait_ms = if let Ask::Look { wait_ms, .. } = ask { *wait_ms } else { 0 };
        let until_ns = clock::now_ns() + AWAY_NS + wait_ms * 1_000_000;
        let waiting = Waiting { conn, stage, message, file, is_sent: false, until_ns, is_hurried: false };
        self.waiting.insert(self.next, waiting);
    }

    // ---- The dispatcher ----

    /// Sends what is not sent, over a new connection if there is none.
    fn send_all(&mut self) {
        if self.waiting.values().all(|waiting| waiting.is_sent) {
            return;
        }
        if self.socket.is_none() {
            match packets::connect_to(&self.offload.counter) {
                Ok(socket) => self.socket = Some(socket),
                Err(_) => return self.is_away(),
            }
        }
        let Some(socket) = &self.socket else { return };
        for waiting in self.waiting.values_mut().filter(|waiting| !waiting.is_sent) {
            match packets::send(socket.as_fd(), &waiting.message, waiting.file.as_ref().map(AsFd::as_fd)) {
                Ok(true) => waiting.is_sent = true,
                Ok(false) => return,
                Err(_) => return self.is_away(),
            }
        }
    }

    /// There is no dispatcher: everything is said again to the next one, if there is one soon.
    fn is_away(&mut self) {
        self.socket = None;
        self.waiting.values_mut().for_each(|waiting| waiting.is_sent = false);
    }

    /// Tells those who have waited too long for an answer.
    fn give_up(&mut self) {
        let now_ns = clock::now_ns();
        let over = self.waiting.iter().filter(|(_, waiting)| now_ns > waiting.until_ns);
        let over: Vec<u64> = over.map(|(seq, _)| *seq).collect();
        for seq in over {
            if let Some(waiting) = self.waiting.remove(&seq) {
                self.unavailable(waiting.conn, "who keeps jobs does not answer just now");
            }
        }
    }

    fn hear(&mut self) {
        let mut room = std::mem::take(&mut self.room);
        while let Some(socket) = &self.socket {
            match packets::receive(socket.as_fd(), &mut room) {
                Ok(None) => break,
                Ok(Some((length, file))) if length > 0 => {
                    if let Some((seq, answer, body)) = packets::read::<Answer>(&room[..length])
                        && let Some(waiting) = self.waiting.remove(&seq)
                    {
                        self.answered(waiting, answer, body, file);
                    }
                }
                Ok(Some(_)) | Err(_) => self.is_away(),
            }
        }
        self.room = room;
    }

    fn answered(&mut self, waiting: Waiting, answer: Answer, body: &[u8], file: Option<OwnedFd>) {
        let Waiting { mut conn, stage, is_hurried, .. } = waiting;
        let offload = self.offload;
        match (stage, answer) {
            (Stage::Keep { wait_ms }, Answer::Status(status)) if wait_ms > 0 && !is_hurried => {
                let id = status.id.clone();
                let ask = Ask::Look { id: id.clone(), tag: None, end: true, wait_ms };
                return self.ask(conn, Stage::End { id }, &ask, &[], None);
            }
            (Stage::End { id }, Answer::Status(status)) if status.state.is_over() => {
                return self.ask(conn, Stage::Made(status), &Ask::Take { id }, &[], None);
            }
            (Stage::Keep { .. } | Stage::End { .. }, Answer::Status(status)) => {
                answers::accepted(&mut conn, offload, &status);
            }
            (Stage::Made(_) | Stage::Take, Answer::Response(made)) => {
                answers::response(&mut conn, offload, &made, body, file);
            }
            (Stage::Made(status), _) => answers::nothing(&mut conn, offload, &status),
            (Stage::Take, Answer::Status(status)) => answers::nothing(&mut conn, offload, &status),
            (Stage::Look { .. }, Answer::Status(status)) => answers::status(&mut conn, offload, &status),
            (Stage::Follow { id, tag }, Answer::Status(status)) => {
                let is_news = tag.as_deref() != Some(status.tag().as_str());
                answers::event(&mut conn, offload, &status, tag.is_none(), is_news);
                // Without waiting: what it does not take now is sent with the next.
                let is_gone = conn.send() == Sent::Gone || conn.pending() > UNREAD_MAX;
                if !(is_gone || is_hurried || status.state.is_over()) {
                    return self.follow(conn, id, Some(status.tag()));
                }
                conn.response.finish();
            }
            // Its stream has begun.
            (Stage::Follow { tag: Some(_), .. }, _) => conn.response.finish(),
            (Stage::Cancel, Answer::Status(status)) => match status.state {
                State::Cancelled | State::Expired => answers::empty(&mut conn, offload, 204),
                _ => answers::status(&mut conn, offload, &status),
            },
            (_, Answer::KeyReused) => {
                let detail = "this Idempotency-Key came with another request before";
                answers::problem(&mut conn, offload, 422, detail, &[], "");
            }
            (_, Answer::Full { detail }) => {
                let later = [("Retry-After", "5")];
                let detail = format!("the request cannot be kept: {detail}");
                answers::problem(&mut conn, offload, 503, &detail, &later, "");
            }
            (_, Answer::Absent) => answers::problem(&mut conn, offload, 404, ABSENT, &[], ""),
            (_, Answer::Response(_)) => return self.unavailable(conn, "an answer makes no sense"),
        }
        self.home(conn);
    }

    fn follow(&mut self, conn: Box<Conn>, id: String, tag: Option<String>) {
        let ask = Ask::Look { id: id.clone(), tag: tag.clone(), end: false, wait_ms: STILL_MS };
        self.ask(conn, Stage::Follow { id, tag }, &ask, &[], None);
    }

    /// If the worker is about to end, those who wait for a change are told how things stand.
    fn hurry(&mut self) {
        let ends = |waiting: &Waiting| {
            let flag = waiting.conn.worker_ends.as_ref();
            !waiting.is_hurried && flag.is_some_and(|ends| ends.load(Ordering::Relaxed))
        };
        for (seq, waiting) in self.waiting.iter_mut().filter(|(_, waiting)| ends(waiting)) {
            waiting.is_hurried = true;
            if let Stage::Look { id } | Stage::End { id } | Stage::Follow { id, .. } = &waiting.stage {
                let ask = Ask::Look { id: id.clone(), tag: None, end: false, wait_ms: 0 };
                waiting.message = packets::written(*seq, &ask, &[]);
                waiting.is_sent = false;
            }
        }
    }

    fn unavailable(&self, mut conn: Box<Conn>, detail: &str) {
        if conn.response.has_head() {
            // A stream of events, which its client begins anew.
            conn.response.finish();
            return self.home(conn);
        }
        answers::problem(&mut conn, self.offload, 503, detail, &[("Retry-After", "5")], "");
        self.home(conn);
    }

    /// Gives a connection back, answered.
    fn home(&self, mut conn: Box<Conn>) {
        conn.stamps.done_ns = clock::now_ns();
        if conn.stamps.app_ns == 0 {
            // Whoever asked to wait has not stood in line.
            conn.stamps.complete_ns = conn.stamps.done_ns;
            conn.stamps.proxied_ns = 0;
        }
        self.hub.pool.give_back(conn);
    }
}

/// Returns what stands for all of these.
fn sum<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut sum = Sha1::new();
    for part in parts {
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    sum.digest().to_string()
}
