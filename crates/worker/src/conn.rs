//! A client connection and the request on it. Whoever holds the box owns the connection: the loop between requests,
//! an app thread while the application runs. It knows no epoll and no timers; [`crate::reactor`] drives it.

mod live;

pub use live::{Heard, Piece};

use crate::date;
use crate::http::body::Decoder;
use crate::http::head::{self, Framing, Head, Scan};
use crate::http::refusal::Refusal;
use crate::http::response::{Exchange, Invalid, Response};
use crate::http::time_left::shorter;
use crate::options::{Options, Unit};
use crate::outcome::{GONE, Outcome};
use crate::spool::{self, Limits, Spool};
use crate::tally::RouteId;
use crate::websocket::Handshake;
use ferricorn_core::claim::{Client, Marks, Standing};
use ferricorn_core::offload::{FIELD, Pass, WITHDRAWN};
use ferricorn_core::scoreboard::{InFlight, InFlightView};
use ferricorn_sys::clock;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const READ_FIRST: usize = 4 << 10;
const READ_MORE: usize = 64 << 10;
/// A buffer larger than this is given back after its request.
const KEEP_MAX: usize = 64 << 10;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A client on a unix socket, which has no address.
    Unix,
}

/// A request's body.
#[derive(Debug)]
pub enum Body {
    /// None, or none left.
    Empty,
    /// In memory.
    Memory(Vec<u8>),
    /// In a temporary file, at its start.
    File {
        /// The file.
        file: File,
        /// Its length in bytes.
        len: u64,
    },
}

impl Body {
    /// Returns its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A file to be sent as the rest of a response.
#[derive(Debug)]
pub struct FileBody {
    /// The file, a descriptor of our own.
    pub file: OwnedFd,
    /// Where to begin.
    pub offset: u64,
    /// Bytes to send.
    pub left: u64,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Waiting for (the rest of) a head.
    Head,
    /// Waiting for the rest of a body.
    Body,
    /// A complete request waits for the application, or is in it.
    Ready,
    /// The last response is on its way; then the connection closes.
    Closing,
    /// All is said; the client's last bytes are read and dropped, so that no reset destroys the response.
    Lingering,
}

/// Moments of the request, monotonic nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamps {
    /// First byte.
    pub begun_ns: u64,
    /// How long before it a proxy had got the request: no moment, a duration.
    pub proxied_ns: u64,
    /// Last byte of the head.
    pub head_ns: u64,
    /// Last byte of the body.
    pub complete_ns: u64,
    /// Entry into the application.
    pub app_ns: u64,
    /// Return from the application.
    pub done_ns: u64,
}

impl Stamps {
    /// Returns since when a complete request waits for the application, in a proxy and here.
    pub(crate) fn waits_since_ns(&self) -> u64 {
        self.complete_ns.saturating_sub(self.proxied_ns)
    }
}

/// What sending has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it.
    All,
    /// The client's window is full.
    Blocked,
    /// The client has gone.
    Gone,
}

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More is needed.
    Partial,
    /// A complete request.
    Complete,
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    /// Shared with its place in the loop, which answers over it when a thread is late.
    socket: Arc<OwnedFd>,
    /// The client's address.
    pub peer: Peer,
    /// The client's address as text: `ip:port`, empty for unix sockets.
    pub client: String,
    /// Whether the peer may speak for its client.
    pub trusted: bool,
    /// Number of the listener it came in by.
    pub listener: usize,
    /// Number of the request, unique in its worker.
    pub id: u64,
    /// Requests begun on this connection.
    pub served: u64,
    /// The request's head.
    pub head: Head,
    /// The request's body, until the application takes it.
    pub body: Body,
    /// The response.
    pub response: Response,
    /// What follows the bytes in `response.output`.
    pub file: Option<FileBody>,
    /// The request's moments.
    pub stamps: Stamps,
    /// Bytes of the path that belong to SCRIPT_NAME; the bridge says so.
    pub script_len: usize,
    /// The route that the application's framework has chosen; the bridge says so.
    pub route: Option<RouteId>,
    /// The cell in which the time of its response's sending is to be counted, and since when that is sent.
    pub(crate) sending: Option<(usize, u64)>,
    /// Whose job the request is, where it is one's.
    pub job: Option<Box<Pass>>,
    /// The record of the request while the application has it.
    pub record: Option<&'static InFlight>,
    /// The number of that record.
    pub(crate) number: u32,
    /// How long the application may take for the call and for each piece of its response, nanoseconds; 0 for any time.
    pub(crate) time_ns: u64,
    /// When the whole request must be over; 0 for never.
    pub(crate) until_ns: u64,
    /// Until when its sender waits for the response, as it says; 0 for any time.
    pub(crate) awaited_ns: u64,
    /// Set when the response has been logged by the application's own logger.
    pub logged: bool,
    /// Becomes true when the worker begins to end: clients are told to come back elsewhere.
    pub(crate) worker_ends: Option<Arc<AtomicBool>>,
    pub(crate) state: State,
    pub(crate) deadline_ns: u64,
    readable: bool,
    /// The client has shut its side: behind what has arrived stands the end, which no further edge tells of.
    shut: bool,
    /// It had done so before the application got the request: it may still wait for its response.
    half_closed: bool,
    pub(crate) eof: bool,
    pub(crate) gone: bool,
    /// The client had gone before a byte of the response could be sent.
    unheard: bool,
    pub(crate) outcome: Outcome,
    pub(crate) token: u64,
    /// Where it is decided who answers.
    claim: Option<&'static Client>,
    /// The request whose response waits there, or waited last: `id` is that of the next one as soon as it has come.
    owed: u64,
    /// Nothing of that response has been sent, and nobody has claimed it.
    unclaimed: bool,
    input: Vec<u8>,
    at: usize,
    scan: Scan,
    decoder: Decoder,
    spool: Spool,
    /// Bytes of body given to the application while they arrived.
    streamed: u64,
    /// What the client still sends is to be dropped before the connection closes.
    lingering: bool,
}

impl Conn {
    /// Wraps an accepted, non-blocking socket.
    pub(crate) fn new(socket: OwnedFd, peer: Peer, listener: usize, options: &Options) -> Self {
        let (client, trusted) = known(peer, options);
        Self { client, trusted, listener, ..Self::empty(Arc::new(socket), peer) }
    }

    fn empty(socket: Arc<OwnedFd>, peer: Peer) -> Self {
        Self {
            socket,
            peer,
            client: String::new(),
            trusted: false,
            listener: 0,
            id: 0,
            served: 0,
            head: Head::default(),
            body: Body::Empty,
            response: Response::default(),
            file: None,
            stamps: Stamps::default(),
            script_len: 0,
            route: None,
            sending: None,
            job: None,
            record: None,
            number: 0,
            time_ns: 0,
            until_ns: 0,
            awaited_ns: 0,
            logged: false,
            worker_ends: None,
            state: State::Head,
            deadline_ns: 0,
            readable: true,
            shut: false,
            half_closed: false,
            eof: false,
            gone: false,
            unheard: false,
            outcome: Outcome::Answered,
            token: 0,
            claim: None,
            owed: 0,
            unclaimed: false,
            input: Vec::new(),
            at: 0,
            scan: Scan::default(),
            decoder: Decoder::default(),
            spool: Spool::default(),
            streamed: 0,
            lingering: false,
        }
    }

    /// Stands for a connection that does not come back from the application: what is known of its request.
    pub(crate) fn stand_in(socket: Arc<OwnedFd>, call: &InFlightView) -> Self {
        let (client, served) = (call.client.clone(), 1);
        let stamps = Stamps {
            begun_ns: call.start_ns,
            proxied_ns: 0,
            head_ns: call.start_ns,
            complete_ns: call.complete_ns,
            app_ns: call.app_ns,
            done_ns: 0,
        };
        let head = Head::of(&call.method, &call.path);
        let peer = call.client.parse().map_or(Peer::Unix, Peer::Tcp);
        Self { client, served, stamps, head, id: call.id, ..Self::empty(socket, peer) }
    }

    /// Tells whether the client has gone.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Returns the socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns the socket, for whoever may have to answer in the place of the thread that has the connection.
    pub(crate) fn shared_socket(&self) -> Arc<OwnedFd> {
        self.socket.clone()
    }

    /// Returns the deadline of a piece of the application's work that begins now; 0 for none.
    pub(crate) fn deadline_from(&self, now_ns: u64) -> u64 {
        let piece_ns = if self.time_ns == 0 { 0 } else { now_ns + self.time_ns };
        shorter(shorter(piece_ns, self.until_ns), self.awaited_ns)
    }

    /// Tells whether its sender waits no more, as it has said.
    pub(crate) fn is_unawaited(&self, now_ns: u64) -> bool {
        self.awaited_ns > 0 && self.awaited_ns <= now_ns
    }

    /// Says that the application has made a piece of its response: the next one has its own deadline.
    pub fn has_progressed(&self) {
        let next_ns = self.deadline_from(clock::now_ns());
        if let Some(record) = self.record
            && next_ns > 0
        {
            // The application may have asked for more.
            record.set_deadline(next_ns.max(record.deadline_ns()));
        }
    }

    /// Says that the application waits for its client, which `write_timeout` limits.
    pub fn waits_for_client(&self) {
        if let Some(record) = self.record {
            record.set_deadline(0);
        }
    }

    /// Returns the number of its place in the loop.
    pub fn place(&self) -> u32 {
        self.token as u32
    }

    /// Says where it is decided who answers.
    pub(crate) fn settle_at(&mut self, claim: &'static Client) {
        self.claim = Some(claim);
        self.stands(Standing::Idle);
    }

    /// Says how it stands.
    pub(crate) fn stands(&self, standing: Standing) {
        if let Some(claim) = self.claim {
            let marks = Marks {
                fd: self.fd().cast_unsigned(),
                listener: self.listener as u8,
                form: self.head.form as u8,
                head_only: self.head.method() == b"HEAD",
            };
            claim.set(standing, self.id, marks);
        }
    }

    /// Says that the request at hand waits for its response; once. Behind an unsent one nobody else can give it.
    pub(crate) fn owe(&mut self) {
        if self.claim.is_some() && self.owed != self.id {
            self.stands(if self.is_sending() { Standing::Begun } else { Standing::Owed });
            self.owed = self.id;
            self.unclaimed = true;
        }
    }

    /// Tells whether the request was answered in the application's place: what it still says goes nowhere.
    pub fn is_late(&self) -> bool {
        self.claim.is_some_and(|claim| !claim.is_open(self.owed))
    }

    /// Tells whether its answer was given in the application's place; false where a response was cut that had begun.
    pub fn was_answered(&self) -> bool {
        self.unclaimed && self.is_late()
    }

    fn may_answer(&mut self) -> bool {
        if self.unclaimed && self.claim.is_none_or(|claim| claim.begin(self.owed)) {
            self.unclaimed = false;
        }
        !self.unclaimed
    }

    /// Returns the number of the socket's descriptor.
    pub fn fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Takes the request's body; an empty one is left in its place.
    pub fn take_body(&mut self) -> Body {
        std::mem::replace(&mut self.body, Body::Empty)
    }

    /// Accepts a WebSocket with the application's fields.
    ///
    /// # Errors
    /// A field that would break the head.
    pub fn accept<'a>(
        &mut self,
        handshake: &Handshake,
        subprotocol: Option<&[u8]>,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), Invalid> {
        let response = &mut self.response;
        date::with_lines(|lines| handshake.accept(response, subprotocol, fields, lines))
    }

    /// Writes the response's head with our own fields; see [`Response::head`].
    pub fn write_head(&mut self, whole: Option<u64>) {
        self.response.keep_alive &= !self.worker_ends.as_ref().is_some_and(|ends| ends.load(Relaxed));
        date::with_lines(|lines| self.response.head(whole, lines));
    }

    /// Begins the response to the request at hand. `keep_alive` is the server's own wish.
    pub(crate) fn open_response(&mut self, keep_alive: bool) {
        let exchange = Exchange {
            version: self.head.version,
            head_only: self.head.method() == b"HEAD",
            keep_alive: keep_alive && self.head.keep_alive && !self.eof,
        };
        self.response.open(exchange);
        self.logged = false;
        self.unheard = false;
        self.outcome = Outcome::Answered;
    }

    /// Returns the bytes that wait to be sent, without those in a file.
    pub fn pending(&self) -> usize {
        self.response.output.len() - self.response.written
    }

    /// Tells whether a part of a response waits to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.pending() > 0 || self.file.is_some()
    }

    /// Sends what it can without waiting.
    pub fn send(&mut self) -> Sent {
        if self.is_sending() && !self.may_answer() {
            return self.lost();
        }
        while self.pending() > 0 {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.socket, &self.response.output[self.response.written..], flags) {
                Ok(count) => {
                    self.response.written += count;
                    self.response.set_flushed();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Sent::Blocked,
                Err(_) => {
                    self.unheard = !self.response.is_flushed();
                    return self.lost();
                }
            }
        }
        self.response.output.clear();
        self.response.output.shrink_to(KEEP_MAX);
        self.response.written = 0;
        let sent = self.send_file();
        let response = &self.response;
        if sent == Sent::All && response.keep_alive && response.is_complete() && self.at >= self.input.len() {
            self.stands(Standing::Idle);
        }
        sent
    }

    fn send_file(&mut self) -> Sent {
        while let Some(body) = &mut self.file {
            let count = usize::try_from(body.left).unwrap_or(usize::MAX).min(1 << 20);
            match sendfile(&self.socket, &body.file, Some(&mut body.offset), count) {
                // The file is shorter than it was: the promised bytes cannot be sent.
                Ok(0) => return self.lost(),
                Ok(sent) => body.left -= sent as u64,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Sent::Blocked,
                Err(_) => return self.lost(),
            }
            if body.left == 0 {
                self.file = None;
            }
        }
        Sent::All
    }

    fn lost(&mut self) -> Sent {
        self.gone = true;
        self.file = None;
        self.response.output.clear();
        self.response.written = 0;
        self.response.set_flushed();
        Sent::Gone
    }

    /// Waits until the client takes more, or the time is over (false). For app threads with a long response, detached.
    pub fn wait_writable(&self, limit_ns: u64) -> bool {
        let limit = clock::timespec(limit_ns);
        let limit = (limit_ns > 0).then_some(&limit);
        loop {
            match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], limit) {
                Err(Errno::INTR) => {}
                Ok(count) => return count > 0,
                Err(_) => return false,
            }
        }
    }

    /// Takes note of what epoll has told.
    pub(crate) fn heard(&mut self, flags: EventFlags) {
        let over = EventFlags::HUP | EventFlags::ERR;
        self.gone |= flags.intersects(over);
        self.shut |= flags.intersects(over | EventFlags::RDHUP);
        self.readable |= self.shut || flags.contains(EventFlags::IN);
    }

    /// Tells whether the client has ended its side, at least.
    pub(crate) fn has_ended(&self) -> bool {
        self.shut || self.eof
    }

    /// Says how the request has ended, when the application has: in its place, or without a client.
    pub fn conclude(&mut self) {
        if self.is_late() {
            self.outcome = if self.was_answered() { Outcome::TimedOut } else { Outcome::Cut };
        } else if self.gone {
            self.outcome = Outcome::ClientGone;
            if self.unheard {
                self.response.status = GONE;
                self.response.body_bytes = 0;
            }
        }
    }

    /// Tells whether a read would tell something new.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// Reads what has arrived and takes it as far as one complete request.
    pub(crate) fn receive(&mut self, options: &Options) -> Result<Progress, Refusal> {
        loop {
            if self.at < self.input.len() {
                let progress = self.digest(options)?;
                if progress == Progress::Complete {
                    return Ok(progress);
                }
            }
            if !self.readable || self.eof {
                return Ok(Progress::Partial);
            }
            self.read();
        }
    }

    fn read(&mut self) {
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
        }
        self.read_at_least(if self.state == State::Body { READ_MORE } else { READ_FIRST });
    }

    /// Reads with room for so many bytes.
    fn read_at_least(&mut self, wanted: usize) {
        if self.input.capacity() - self.input.len() < wanted / 2 {
            self.input.drain(..self.at);
            self.at = 0;
            self.input.reserve(wanted);
        }
        let room = self.input.capacity() - self.input.len();
        match receive(&self.socket, &mut self.input) {
            Ok(0) => self.eof = true,
            // A read that does not fill the buffer has emptied the socket; the next edge tells of more.
            Ok(count) if count < room => self.readable = self.shut,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => self.readable = false,
            Err(_) => {
                self.eof = true;
                self.gone = true;
            }
        }
    }

    fn digest(&mut self, options: &Options) -> Result<Progress, Refusal> {
        if self.state == State::Head {
            let input = &self.input[self.at..];
            let Some(found) = self.scan.advance(input, &options.rules)? else { return Ok(Progress::Partial) };
            head::parse(input, &found, &options.rules, self.trusted, &mut self.head)?;
            self.at += found.end;
            self.scan = Scan::default();
            if let Some(token) = &options.pass {
                self.show_pass(token, options)?;
            }
            if let Framing::Length(length) = self.head.framing
                && options.body_max > 0
                && length > options.body_max
            {
                return Err(spool::too_large());
            }
            self.decoder.begin(self.head.framing);
            self.state = State::Body;
        }
        let limits = Limits {
            memory_max: options.body_memory_max,
            body_max: options.body_max,
            dir: &options.upload_dir,
        };
        let spool = &mut self.spool;
        let mut sink = |bytes: &[u8]| spool.write(bytes, limits);
        self.at += self.decoder.advance(&self.input[self.at..], &options.rules, &mut sink)?;
        if !self.decoder.is_done() {
            if options.unit == Unit::Task && !options.is_kept(&self.head) {
                // The rest is the application's to ask for.
                self.state = State::Ready;
                return Ok(Progress::Complete);
            }
            return Ok(Progress::Partial);
        }
        self.body = self.spool.finish();
        self.state = State::Ready;
        Ok(Progress::Complete)
    }

    /// Takes the pass off a request, by which it is a job's: it stands where the client's request stood.
    fn show_pass(&mut self, token: &str, options: &Options) -> Result<(), Refusal> {
        let pass = self.head.take_field(FIELD.as_bytes());
        let pass = pass.as_deref().and_then(|value| str::from_utf8(value).ok()).and_then(Pass::read);
        let Some(pass) = pass.filter(|pass| pass.token == token) else {
            return Err(Refusal::new(403, "only the server's own dispatcher is served here"));
        };
        self.peer = pass.client.as_deref().and_then(|text| text.parse().ok()).map_or(Peer::Unix, Peer::Tcp);
        (self.client, self.trusted) = known(self.peer, options);
        self.listener = pass.listener;
        // What a proxy may say was read as if anybody's: here it counts as it did there.
        let raw = std::mem::take(&mut self.head.raw);
        let found = Scan::default().advance(&raw, &options.rules)?;
        if let Some(found) = found {
            head::parse(&raw, &found, &options.rules, self.trusted, &mut self.head)?;
            self.head.take_field(FIELD.as_bytes());
        }
        self.job = Some(Box::new(pass));
        Ok(())
    }

    /// Tells whether the dispatcher has withdrawn the request that has come whole.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.decoder.is_done() && self.input.get(self.at) == Some(&WITHDRAWN)
    }

    /// Tells whether the client waits for `100 Continue` before it sends a body.
    pub(crate) fn wants_continue(&self) -> bool {
        self.state == State::Body && self.head.expect_continue && self.spool.memory() == Some(&[])
    }

    /// Tells whether nothing of a request has arrived.
    pub(crate) fn is_untouched(&self) -> bool {
        self.state == State::Head && self.scan.is_untouched()
    }

    /// Makes ready for the next request, after the response to the last is in `response.output`.
    pub(crate) fn next_request(&mut self) {
        self.state = State::Head;
        self.body = Body::Empty;
        self.stamps = Stamps::default();
        self.script_len = 0;
        self.route = None;
        self.job = None;
        self.streamed = 0;
        if self.at >= self.input.len() {
            self.input.clear();
            self.input.shrink_to(KEEP_MAX);
            self.at = 0;
        }
    }

    /// Returns the bytes from which another worker can read the same request and what follows it; `None` if they are
    /// gone (a spooled body, part of a chunked one) or more than `limit`.
    pub(crate) fn unread(&self, limit: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        if matches!(self.state, State::Body | State::Ready) {
            bytes.extend_from_slice(&self.head.raw);
            let body = match &self.body {
                Body::File { .. } => return None,
                Body::Memory(body) => body,
                Body::Empty => self.spool.memory()?,
            };
            match self.head.framing {
                // Its own chunks are gone: one holds it all.
                Framing::Chunked if self.is_consumed() => {
                    if !body.is_empty() {
                        let _ = write!(bytes, "{:x}\r\n", body.len());
                        bytes.extend_from_slice(body);
                        bytes.extend_from_slice(b"\r\n");
                    }
                    bytes.extend_from_slice(b"0\r\n\r\n");
                }
                Framing::Chunked => return None,
                _ => bytes.extend_from_slice(body),
            }
        }
        bytes.extend_from_slice(&self.input[self.at.min(self.input.len())..]);
        (bytes.len() <= limit).then_some(bytes)
    }

    /// Puts bytes read by another worker in front of what the socket still has.
    pub(crate) fn preload(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&mut self) {
        let _ = shutdown(&self.socket, Shutdown::Write);
        self.state = State::Lingering;
        self.spool.clear();
    }

    /// Reads and drops; false when the client is done or the socket broken.
    pub(crate) fn drain(&mut self, limit: &mut usize) -> bool {
        self.input.clear();
        self.at = 0;
        self.input.reserve(READ_FIRST);
        loop {
            self.input.clear();
            match receive(&self.socket, &mut self.input) {
                Ok(0) => return false,
                Ok(count) => match limit.checked_sub(count) {
                    Some(left) => *limit = left,
                    None => return false,
                },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// Appends what has arrived, as far as there is room; `recv` takes a shorter way through the kernel than `read`.
fn receive(socket: &OwnedFd, input: &mut Vec<u8>) -> rustix::io::Result<usize> {
    let (appended, _) = recv(socket, spare_capacity(input), RecvFlags::empty())?;
    Ok(appended)
}

/// Returns a peer's address as text, and whether it may speak for its client.
fn known(peer: Peer, options: &Options) -> (String, bool) {
    match peer {
        Peer::Tcp(address) => (address.to_string(), (options.trusts)(address.ip().to_canonical())),
        Peer::Unix => (String::new(), true),
    }
}
