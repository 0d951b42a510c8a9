//! The scoreboard: one piece of shared memory, mapped by the arbiter and its workers, read by `ferricornctl`.
//!
//! It holds nothing but atomics, so that sharing it between processes is safe Rust; `sys` maps it. Per worker: state,
//! counters, histograms per phase, the request in flight of each app thread, and a flight recorder of the last
//! requests that outlives a SIGKILL. Multi-word records are guarded by a sequence number (odd while written): a
//! reader that meets one retries. Not for: decisions, and not a log; [`crate::snapshot`] turns it into plain data.
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`, the same for every process of a host; 0 means "not yet".

use crate::circuits::Circuits;
use crate::claim::Client;
use crate::histogram::Histogram;
use crate::latency::Cells;
use crate::offload::Counts;
use crate::totals::{COUNTERS, Totals};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// First word of the memory: tells a reader that this is a scoreboard.
pub const MAGIC: u64 = 0x6e72_6f63_6972_7265; // "erricorn" on disk
/// Changes with every change of the layout; a reader refuses another.
pub const VERSION: u32 = 12;
/// Most workers at one time, old and new generation together.
pub const WORKERS_MAX: usize = 256;
/// Most requests of a worker that the application works on at one time: in app threads, or one for each connection in tasks.
pub const REQUESTS_MAX: usize = CLIENTS_MAX;
/// Most client connections of a worker.
pub const CLIENTS_MAX: usize = 16_384;
/// Requests remembered per worker by the flight recorder.
pub const FLIGHTS: usize = 128;

/// The whole of the shared memory. Untouched pages cost nothing (the file is sparse).
#[repr(C)]
pub struct Scoreboard {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// Pid of the arbiter.
    pub arbiter_pid: AtomicU32,
    /// When the arbiter started.
    pub started_ns: AtomicU64,
    /// Workers the arbiter wants.
    pub workers_target: AtomicU32,
    /// Reloads so far; a worker carries the one it was spawned in.
    pub generation: AtomicU32,
    /// Slots that have ever been claimed: those beyond are empty, and looking at them would cost their memory.
    slots_used: AtomicU32,
    /// `threads`, as configured.
    pub threads: AtomicU32,
    /// The reload whose new workers are worse than the old, as the observer has found; 0 for none. The arbiter takes it back.
    pub halt: AtomicU32,
    reserved: [AtomicU32; 5],
    /// `timeout`; 0 for none.
    pub timeout_ns: AtomicU64,
    /// Workers that have ended, by [`Exit`].
    pub exits: [AtomicU64; Exit::ALL.len()],
    /// `proc_name`. Cut at 128 bytes.
    pub name: Text<16>,
    /// Ferricorn's version.
    pub release: Text<4>,
    /// `worker_class`.
    pub worker_class: Text<8>,
    /// Folder of the server's records (`state_dir`); empty if it keeps none. Cut at 512 bytes.
    pub state_dir: Text<64>,
    /// Routes that are not served for a while.
    pub circuits: Circuits,
    /// What the dispatcher of jobs has counted.
    pub jobs: Counts,
    /// One slot per worker; free slots have state [`State::Free`].
    pub workers: [WorkerSlot; WORKERS_MAX],
}

impl Scoreboard {
    /// Empties a slot for a worker about to be forked.
    pub fn claim(&self, slot: usize, age: u32, generation: u32, now_ns: u64) {
        self.slots_used.fetch_max(slot as u32 + 1, Relaxed);
        self.workers[slot].claim(age, generation, now_ns);
    }

    /// Returns the workers beside this one that serve and are to stay.
    pub fn ready_beside<'a>(&'a self, slot: &'a WorkerSlot) -> impl Iterator<Item = &'a WorkerSlot> {
        let ready = |other: &&WorkerSlot| other.state() == State::Ready && other.retiring.load(Relaxed) == 0;
        self.used().iter().filter(ready).filter(move |other| !std::ptr::eq(*other, slot))
    }

    /// Returns the slots that have ever been claimed.
    pub fn used(&self) -> &[WorkerSlot] {
        &self.workers[..(self.slots_used.load(Relaxed) as usize).min(WORKERS_MAX)]
    }
}

/// What a worker is doing with its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum State {
    /// Nobody's slot.
    #[default]
    Free = 0,
    /// Forked; loading the application.
    Booting = 1,
    /// Serving.
    Ready = 2,
    /// Takes no new connections; finishes what it has.
    Draining = 3,
}

/// Why a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Exit {
    /// It was told to, or had served its requests.
    Planned = 0,
    /// It gave no sign of life, or was stuck beyond its time.
    Timeout = 1,
    /// It did not boot in time, or could not.
    Boot = 2,
    /// It did not finish within `graceful_timeout`.
    GracefulTimeout = 3,
    /// The kernel killed it for want of memory.
    OutOfMemory = 4,
    /// Somebody else's signal, a crash among them.
    Signal = 5,
    /// By itself, with an exit code.
    Code = 6,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Planned,
        Self::Timeout,
        Self::Boot,
        Self::GracefulTimeout,
        Self::OutOfMemory,
        Self::Signal,
        Self::Code,
    ];

    /// Returns its name in metrics and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Timeout => "timeout",
            Self::Boot => "boot",
            Self::GracefulTimeout => "graceful_timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::Signal => "signal",
            Self::Code => "code",
        }
    }
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// No request.
    Idle = 0,
    /// In the application.
    App = 1,
    /// Writing its response from the app thread (streams).
    Write = 2,
    /// It has become a WebSocket, which is open.
    WebSocket = 3,
}

/// The phases whose durations are recorded per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Timed {
    /// First byte of a request to its last header.
    Head = 0,
    /// Last header to last byte of the body.
    Body = 1,
    /// Complete request to the application's call.
    Queue = 2,
    /// The application, until its iterable is closed.
    App = 3,
    /// First byte of the request to the end of the application.
    Total = 4,
}

/// Number of [`Timed`] phases.
pub const TIMED: usize = 5;

/// One worker.
#[repr(C)]
pub struct WorkerSlot {
    /// A [`State`].
    pub state: AtomicU32,
    /// Its pid; 0 in a free slot.
    pub pid: AtomicU32,
    /// Gunicorn's `worker.age`: the spawn number.
    pub age: AtomicU32,
    /// The reload it belongs to.
    pub generation: AtomicU32,
    /// When it was forked.
    pub spawned_ns: AtomicU64,
    /// When it said that it is ready.
    pub ready_ns: AtomicU64,
    /// Last time its loop made progress: the heartbeat.
    pub beat_ns: AtomicU64,
    /// 1 while it wants to be replaced (`max_requests`, a stuck thread): the arbiter spawns first, then sends TERM.
    pub retiring: AtomicU32,
    /// App threads that wait for work and can get the interpreter: what siblings look at before a hand-over.
    pub threads_free: AtomicU32,
    /// App threads there are.
    pub threads: AtomicU32,
    /// Requests waiting for an app thread.
    pub queued: AtomicU32,
    /// Open client connections.
    pub connections: AtomicU32,
    /// 1 while a thread of ours holds the loop because Python is slow.
    pub taken_over: AtomicU32,
    /// Requests completed. This and what follows up to [`Self::taken_in`] is counted on by whoever comes next in the slot, so that
    /// the sum over all slots only ever grows: [`Self::counted`] has a worker's own.
    pub requests: AtomicU64,
    /// Responses by class: 1xx to 5xx.
    pub statuses: [AtomicU64; 5],
    /// Requests refused before the application: parse errors, limits, 408.
    pub refused: AtomicU64,
    /// Requests refused for want of room (503).
    pub shed: AtomicU64,
    /// Requests answered at their deadline, in the application's place.
    pub timed_out: AtomicU64,
    /// Bytes of responses.
    pub bytes_sent: AtomicU64,
    /// Times the loop was taken over.
    pub takeovers: AtomicU64,
    /// Connections given to siblings.
    pub handed_over: AtomicU64,
    /// Connections taken from siblings.
    pub taken_in: AtomicU64,
    /// What stood in these counters when the worker came.
    before: [AtomicU64; COUNTERS],
    /// Places of [`Self::in_flight`] that have ever been used: those beyond would cost their memory if they were looked at.
    pub records: AtomicU32,
    reserved: AtomicU32,
    /// Durations per [`Timed`] phase.
    pub timed: [Histogram; TIMED],
    /// Requests in flight: one place per app thread, or for each task.
    pub in_flight: [InFlight; REQUESTS_MAX],
    /// Next place of the flight recorder.
    pub flight_next: AtomicU64,
    /// The last requests.
    pub flights: [Flight; FLIGHTS],
    /// Durations per route. Not the worker's but the slot's: they outlive it.
    pub routes: Cells,
    /// What each connection is owed, by its place in the loop.
    pub clients: [Client; CLIENTS_MAX],
}

impl WorkerSlot {
    fn claim(&self, age: u32, generation: u32, now_ns: u64) {
        let zero32 = [
            &self.pid,
            &self.retiring,
            &self.threads_free,
            &self.threads,
            &self.queued,
            &self.connections,
            &self.taken_over,
        ];
        zero32.iter().for_each(|cell| cell.store(0, Relaxed));
        let zero64 = [&self.ready_ns, &self.beat_ns, &self.flight_next];
        zero64.iter().for_each(|cell| cell.store(0, Relaxed));
        let counters = self.counters().into_iter().zip(&self.before);
        counters.for_each(|(counter, before)| before.store(counter.load(Relaxed), Relaxed));
        self.timed.iter().for_each(Histogram::clear);
        self.used_records().iter().for_each(|record| record.phase.store(Phase::Idle as u32, Relaxed));
        self.records.store(0, Relaxed);
        self.flights.iter().for_each(|flight| flight.id.store(0, Relaxed));
        // Most have never been used, and touching them would cost their memory.
        self.clients.iter().take_while(|client| client.is_used()).for_each(Client::close);
        self.age.store(age, Relaxed);
        self.generation.store(generation, Relaxed);
        self.spawned_ns.store(now_ns, Relaxed);
        self.state.store(State::Booting as u32, Release);
    }

    /// Gives the slot back. Its flight recorder stays readable until the next [`Self::claim`].
    pub fn release(&self) {
        self.state.store(State::Free as u32, Release);
    }

    /// In the order of [`Totals`].
    fn counters(&self) -> [&AtomicU64; COUNTERS] {
        let [one, two, three, four, five] = &self.statuses;
        [
            &self.requests,
            one,
            two,
            three,
            four,
            five,
            &self.refused,
            &self.shed,
            &self.timed_out,
            &self.bytes_sent,
            &self.takeovers,
            &self.handed_over,
            &self.taken_in,
        ]
    }

    /// Returns what all workers of the slot have counted.
    pub fn counted_ever(&self) -> Totals {
        Totals::of(self.counters().map(|counter| counter.load(Relaxed)))
    }

    /// Returns what its present worker has counted.
    pub fn counted(&self) -> Totals {
        let before = Totals::of(self.before.each_ref().map(|before| before.load(Relaxed)));
        self.counted_ever().since(&before)
    }

    /// Returns the requests in the application.
    pub fn requests(&self) -> impl Iterator<Item = InFlightView> {
        self.used_records().iter().filter(|record| record.is_busy()).filter_map(InFlight::read)
    }

    /// Returns the places for requests in flight that have ever been used.
    pub fn used_records(&self) -> &[InFlight] {
        &self.in_flight[..(self.records.load(Relaxed) as usize).min(REQUESTS_MAX)]
    }

    /// Says that the worker serves from now on.
    pub fn ready(&self, now_ns: u64) {
        self.beat_ns.store(now_ns, Relaxed);
        self.ready_ns.store(now_ns, Relaxed);
        self.state.store(State::Ready as u32, Release);
    }

    /// Returns the state; an unknown number (a torn or newer scoreboard) reads as free.
    pub fn state(&self) -> State {
        match self.state.load(Acquire) {
            1 => State::Booting,
            2 => State::Ready,
            3 => State::Draining,
            _ => State::Free,
        }
    }
}

/// The request that an app thread is working on. Written by that thread alone.
#[repr(C)]
#[derive(Debug)]
pub struct InFlight {
    seq: AtomicU32,
    phase: AtomicU32,
    tid: AtomicU32,
    fd: AtomicU32,
    place: AtomicU32,
    shields: AtomicU32,
    id: AtomicU64,
    start_ns: AtomicU64,
    complete_ns: AtomicU64,
    app_ns: AtomicU64,
    deadline_ns: AtomicU64,
    bytes_sent: AtomicU64,
    body_bytes: AtomicU64,
    ident: AtomicU64,
    /// Number of the last request that was counted before its thread came free. Written by whoever owns the loop.
    counted: AtomicU64,
    method: Text<2>,
    path: Text<16>,
    query: Text<16>,
    client: Text<6>,
}

/// What is written when a request enters the application.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Number of the request, unique in its worker.
    pub id: u64,
    /// When its first byte arrived.
    pub start_ns: u64,
    /// When its last byte arrived.
    pub complete_ns: u64,
    /// When it entered the application.
    pub app_ns: u64,
    /// When `timeout` runs out; 0 without one.
    pub deadline_ns: u64,
    /// Kernel id of the app thread.
    pub tid: u32,
    /// Descriptor of the client's connection.
    pub fd: u32,
    /// Place of the connection in the loop, and in [`WorkerSlot::clients`].
    pub place: u32,
    /// Request method.
    pub method: &'a [u8],
    /// Path as received, cut at 128 bytes.
    pub path: &'a [u8],
    /// Query as received, cut at 128 bytes.
    pub query: &'a [u8],
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Client address as text.
    pub client: &'a [u8],
}

/// A request in flight, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightView {
    /// Where it is.
    pub phase: u32,
    /// Number of the request, unique in its worker.
    pub id: u64,
    /// When its first byte arrived.
    pub start_ns: u64,
    /// When its last byte arrived.
    pub complete_ns: u64,
    /// When it entered the application.
    pub app_ns: u64,
    /// When `timeout` runs out; 0 without one.
    pub deadline_ns: u64,
    /// Whether the application has asked not to be interrupted.
    pub shielded: bool,
    /// Kernel id of the app thread.
    pub tid: u32,
    /// Descriptor of the client's connection.
    pub fd: u32,
    /// Place of the connection in the loop, and in [`WorkerSlot::clients`].
    pub place: u32,
    /// Bytes of the response written so far by the app thread (streams).
    pub bytes_sent: u64,
    /// Request method.
    pub method: String,
    /// Python's number of the app thread; 0 where the application has none.
    pub ident: u64,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Path, cut at 128 bytes.
    pub path: String,
    /// Query, cut at 128 bytes. Not redacted: see [`crate::record::redacted`].
    pub query: String,
    /// Client address.
    pub client: String,
    /// It was answered in the application's place, and is counted already.
    pub counted: bool,
}

impl InFlight {
    /// Writes the record of a request that enters the application.
    pub fn enter(&self, entry: &Entry<'_>) {
        let seq = open(&self.seq);
        self.tid.store(entry.tid, Relaxed);
        self.fd.store(entry.fd, Relaxed);
        self.place.store(entry.place, Relaxed);
        self.shields.store(0, Relaxed);
        self.id.store(entry.id, Relaxed);
        self.start_ns.store(entry.start_ns, Relaxed);
        self.complete_ns.store(entry.complete_ns, Relaxed);
        self.app_ns.store(entry.app_ns, Relaxed);
        self.deadline_ns.store(entry.deadline_ns, Relaxed);
        self.bytes_sent.store(0, Relaxed);
        self.body_bytes.store(entry.body_bytes, Relaxed);
        self.method.store(entry.method);
        self.path.store(entry.path);
        self.query.store(entry.query);
        self.client.store(entry.client);
        self.phase.store(Phase::App as u32, Relaxed);
        self.seq.store(seq, Release);
    }

    /// Says that the thread has begun to write a long response itself.
    pub fn writing(&self, bytes_sent: u64) {
        self.bytes_sent.store(bytes_sent, Relaxed);
        self.phase.store(Phase::Write as u32, Relaxed);
    }

    /// Says that the request has become a WebSocket.
    pub fn is_websocket(&self) {
        self.phase.store(Phase::WebSocket as u32, Relaxed);
    }

    /// Says by which number Python knows the thread. For the thread itself.
    pub fn set_ident(&self, ident: u64) {
        self.ident.store(ident, Relaxed);
    }

    /// Tells whether this is, at the moment, the record of the request with that number. For the thread that works on it.
    pub fn is_of(&self, id: u64) -> bool {
        self.is_busy() && self.id.load(Relaxed) == id
    }

    /// Returns when the request in flight entered the application.
    pub fn app_ns(&self) -> u64 {
        self.app_ns.load(Relaxed)
    }

    /// Returns when the time of the request in flight is over; 0 for never. For the thread that works on it.
    pub fn deadline_ns(&self) -> u64 {
        self.deadline_ns.load(Relaxed)
    }

    /// Sets when the time of the request in flight is over. For the thread that works on it.
    pub fn set_deadline(&self, deadline_ns: u64) {
        self.deadline_ns.store(deadline_ns, Relaxed);
    }

    /// Says that the time of the request with that number, which was to be over then, is over now. Its thread may have begun another
    /// meanwhile, whose time is left as it is: false. For the thread that looks after deadlines.
    pub fn expire(&self, id: u64, deadline_ns: u64, now_ns: u64) -> bool {
        if self.deadline_ns.compare_exchange(deadline_ns, now_ns, Relaxed, Relaxed).is_err() {
            return false;
        }
        let is_it = self.is_of(id);
        if !is_it {
            // Another has entered before, with no time of its own, or writes that down after this.
            let _ = self.deadline_ns.compare_exchange(now_ns, deadline_ns, Relaxed, Relaxed);
        }
        is_it
    }

    /// Says that the request in flight is not to be interrupted, once more or (`false`) once less. For the thread that
    /// works on it.
    pub fn shield(&self, up: bool) {
        let shields = self.shields.load(Relaxed);
        self.shields.store(if up { shields.saturating_add(1) } else { shields.saturating_sub(1) }, Relaxed);
    }

    /// Tells whether the request in flight is not to be interrupted.
    pub fn is_shielded(&self) -> bool {
        self.shields.load(Relaxed) > 0
    }

    /// Says that the request with that number is counted, though its thread has not come free.
    pub fn is_counted(&self, id: u64) {
        self.counted.store(id, Relaxed);
    }

    /// Tells whether the thread is at work, without reading the record.
    pub fn is_busy(&self) -> bool {
        self.phase.load(Relaxed) != Phase::Idle as u32
    }

    /// Tells whether the application has had its time for the request and still works on it. Without reading the record, so that
    /// it may be another's by now.
    pub fn is_late(&self, now_ns: u64) -> bool {
        let deadline_ns = self.deadline_ns.load(Relaxed);
        self.phase.load(Relaxed) == Phase::App as u32 && deadline_ns > 0 && now_ns >= deadline_ns
    }

    /// Tells whether the request has had so many per cent of its time; or, if it has no deadline, so much time. As [`Self::is_late`].
    pub fn has_lasted(&self, now_ns: u64, percent: u64, age_ns: u64) -> bool {
        let (app_ns, deadline_ns) = (self.app_ns(), self.deadline_ns());
        let lasted_ns = now_ns.saturating_sub(app_ns);
        match deadline_ns {
            0 => lasted_ns >= age_ns,
            _ => lasted_ns >= deadline_ns.saturating_sub(app_ns) / 100 * percent,
        }
    }

    /// Returns the number of the request, if there is one. As [`Self::is_late`].
    pub fn number(&self) -> Option<u64> {
        self.is_busy().then(|| self.id.load(Relaxed))
    }

    /// Says that the thread is free again.
    pub fn leave(&self) {
        self.phase.store(Phase::Idle as u32, Release);
    }

    /// Returns the request in flight, or `None` if the thread is idle or the record keeps changing.
    pub fn read(&self) -> Option<InFlightView> {
        for _ in 0..64 {
            let before = self.seq.load(Acquire);
            let phase = self.phase.load(Relaxed);
            if phase == Phase::Idle as u32 {
                return None;
            }
            let view = InFlightView {
                phase,
                id: self.id.load(Relaxed),
                start_ns: self.start_ns.load(Relaxed),
                complete_ns: self.complete_ns.load(Relaxed),
                app_ns: self.app_ns.load(Relaxed),
                deadline_ns: self.deadline_ns.load(Relaxed),
                shielded: self.is_shielded(),
                tid: self.tid.load(Relaxed),
                fd: self.fd.load(Relaxed),
                place: self.place.load(Relaxed),
                bytes_sent: self.bytes_sent.load(Relaxed),
                body_bytes: self.body_bytes.load(Relaxed),
                ident: self.ident.load(Relaxed),
                method: self.method.load(),
                path: self.path.load(),
                query: self.query.load(),
                client: self.client.load(),
                counted: self.counted.load(Relaxed) == self.id.load(Relaxed),
            };
            fence(Acquire);
            if before & 1 == 0 && self.seq.load(Relaxed) == before {
                return Some(view);
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// A finished request in the flight recorder. Written by the owner of the loop alone.
#[repr(C)]
pub struct Flight {
    seq: AtomicU32,
    status: AtomicU32,
    id: AtomicU64,
    start_ns: AtomicU64,
    total_us: AtomicU64,
    app_us: AtomicU64,
    bytes: AtomicU64,
    method: Text<2>,
    path: Text<8>,
}

/// A finished request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlightView {
    /// Number of the request, unique in its worker; from 1.
    pub id: u64,
    /// Status answered.
    pub status: u32,
    /// When its first byte arrived.
    pub start_ns: u64,
    /// First byte to end of the application, microseconds.
    pub total_us: u64,
    /// Time in the application, microseconds.
    pub app_us: u64,
    /// Bytes of the response body.
    pub bytes: u64,
    /// Request method.
    pub method: String,
    /// Path, cut at 64 bytes.
    pub path: String,
}

/// The numbers of a finished request.
#[derive(Clone, Copy, Debug)]
pub struct Landing {
    /// Number of the request, unique in its worker; from 1.
    pub id: u64,
    /// Status answered.
    pub status: u16,
    /// When its first byte arrived.
    pub start_ns: u64,
    /// First byte to end of the application, microseconds.
    pub total_us: u64,
    /// Time in the application, microseconds.
    pub app_us: u64,
    /// Bytes of the response body.
    pub bytes: u64,
}

impl Flight {
    /// Overwrites this place with a finished request.
    pub fn record(&self, landing: &Landing, method: &[u8], path: &[u8]) {
        let seq = open(&self.seq);
        self.status.store(u32::from(landing.status), Relaxed);
        self.id.store(landing.id, Relaxed);
        self.start_ns.store(landing.start_ns, Relaxed);
        self.total_us.store(landing.total_us, Relaxed);
        self.app_us.store(landing.app_us, Relaxed);
        self.bytes.store(landing.bytes, Relaxed);
        self.method.store(method);
        self.path.store(path);
        self.seq.store(seq, Release);
    }

    /// Returns the finished request, or `None` if the place is empty or being written.
    pub fn read(&self) -> Option<FlightView> {
        let before = self.seq.load(Acquire);
        let view = FlightView {
            id: self.id.load(Relaxed),
            status: self.status.load(Relaxed),
            start_ns: self.start_ns.load(Relaxed),
            total_us: self.total_us.load(Relaxed),
            app_us: self.app_us.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            method: self.method.load(),
            path: self.path.load(),
        };
        fence(Acquire);
        let whole = before & 1 == 0 && self.seq.load(Relaxed) == before;
        (whole && view.id != 0).then_some(view)
    }
}

/// Text of at most `8 * W` bytes as words; the first byte's word starts with a length kept beside.
#[repr(C)]
#[derive(Debug)]
pub struct Text<const W: usize> {
    len: AtomicU64,
    words: [AtomicU64; W],
}

impl<const W: usize> Default for Text<W> {
    fn default() -> Self {
        Self { len: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; W] }
    }
}

impl<const W: usize> Text<W> {
    /// Tells whether it holds these bytes, as far as they fit.
    pub fn is(&self, bytes: &[u8]) -> bool {
        let bytes = &bytes[..bytes.len().min(W * 8)];
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        };
        self.len.load(Relaxed) == bytes.len() as u64
            && bytes.chunks(8).zip(&self.words).all(|(chunk, at)| at.load(Relaxed) == word(chunk))
    }

    /// Writes it, cut where it does not fit.
    pub fn store(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(W * 8)];
        self.len.store(bytes.len() as u64, Relaxed);
        let (whole, rest) = bytes.as_chunks::<8>();
        for (word, chunk) in self.words.iter().zip(whole) {
            word.store(u64::from_le_bytes(*chunk), Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.words[whole.len()].store(u64::from_le_bytes(last), Relaxed);
        }
    }

    /// Reads it; bytes that are no UTF-8 are replaced.
    pub fn load(&self) -> String {
        let len = (self.len.load(Relaxed) as usize).min(W * 8);
        let mut bytes: Vec<u8> =
            self.words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
        bytes.truncate(len);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Begins a write under a sequence number; returns the number that ends it.
pub(crate) fn open(seq: &AtomicU32) -> u32 {
    let at = seq.load(Relaxed) | 1;
    seq.store(at, Relaxed);
    fence(Release);
    at.wrapping_add(1)
}

const _: () = assert!(size_of::<Text<2>>() == 24);
const _: () = assert!(size_of::<InFlight>() == 448);
const _: () = assert!(size_of::<Flight>() == 144);
const _: () = assert!(size_of::<Scoreboard>() < 4 << 30);

#[cfg(test)]
mod tests {
    use super::*;

    fn zeroed() -> Box<InFlight> {
        let text = || AtomicU64::new(0);
        Box::new(InFlight {
            seq: AtomicU32::new(0),
            phase: AtomicU32::new(0),
            tid: AtomicU32::new(0),
            fd: AtomicU32::new(0),
            place: AtomicU32::new(0),
            shields: AtomicU32::new(0),
            id: text(),
            start_ns: text(),
            complete_ns: text(),
            app_ns: text(),
            deadline_ns: text(),
            bytes_sent: text(),
            body_bytes: text(),
            ident: text(),
            counted: AtomicU64::new(0),
            method: Text::default(),
            path: Text::default(),
            query: Text::default(),
            client: Text::default(),
        })
    }

    #[test]
    fn a_request_reads_back_as_written() {
        let record = zeroed();
        assert_eq!(record.read(), None);
        let path = [b'p'; 300];
        record.enter(&Entry {
            id: 7,
            start_ns: 1,
            complete_ns: 1,
            app_ns: 1,
            deadline_ns: 2,
            tid: 3,
            fd: 4,
            place: 5,
            method: b"GET",
            path: &path,
            query: b"q=1",
            body_bytes: 6,
            client: b"127.0.0.1:9",
        });
        let view = record.read().expect("in flight");
        assert_eq!((view.id, view.method.as_str(), view.path.len()), (7, "GET", 128));
        assert_eq!(view.client, "127.0.0.1:9");
        record.leave();
        assert_eq!(record.read(), None);
    }

    #[test]
    fn a_reader_never_sees_half_a_record() {
        let record = zeroed();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..20_000u64 {
                    let letter = [b'a' + (n % 26) as u8; 100];
                    let entry = Entry {
                        id: n,
                        start_ns: n,
                        complete_ns: n,
                        app_ns: n,
                        deadline_ns: n,
                        tid: 0,
                        fd: 0,
                        place: 0,
                        method: b"GET",
                        path: &letter,
                        query: b"",
                        body_bytes: 0,
                        client: b"",
                    };
                    record.enter(&entry);
                }
                record.leave();
            });
            for _ in 0..20_000 {
                if let Some(view) = record.read() {
                    assert_eq!(view.id, view.start_ns);
                    let first = view.path.as_bytes().first();
                    assert!(view.path.bytes().all(|byte| Some(&byte) == first));
                }
            }
        });
    }
}
