//! The loop: epoll, connections, timers, the batch of responses. Owned by one thread at a time, never shared; it never
//! enters Python and never waits but in [`Reactor::poll`].
//!
//! Connections are registered once, edge-triggered, for their whole life (one `epoll_ctl` a connection). A connection
//! whose request is with the application is *away*: its box is with an app thread, its place remembers what happened.
//! Responses of one batch of ready requests are written together, at the latest [`BATCH_NS`] after the first: going
//! back and forth between Python and the kernel for each evicts both from the caches.

mod account;
mod drain;
mod gone;
mod late;
mod nested;

pub(crate) use gone::BUSY;
pub use late::LATE;
pub(crate) use late::answer_over;

use crate::access::AccessLog;
use crate::circuits;
use crate::conn::{Conn, Peer, Progress, Sent, State};
use crate::handover;
use crate::http::refusal::{Form, Page, Refusal, page};
use crate::http::request_start;
use crate::options::Level;
use crate::outcome::Outcome;
use crate::run::Hub;
use crate::tally::Tally;
use ferricorn_core::claim::Standing;
use ferricorn_sys::clock;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Longest time a finished response waits for the others of its batch.
pub(crate) const BATCH_NS: u64 = 500_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Time between heartbeats in the scoreboard, where `timeout` does not ask for more.
const BEAT_NS: u64 = SECOND_NS;
const EVENTS_MAX: usize = 256;
/// Bytes dropped from a client after a refusal, and how long they may take.
const LINGER_BYTES: usize = 64 << 10;
const LINGER_NS: u64 = 2 * SECOND_NS;
/// A client with more than this unsent gets no further pipelined request served.
const UNSENT_MAX: usize = 256 << 10;
const ACCEPT_PAUSE_NS: u64 = SECOND_NS / 10;

/// Epoll data that are no connection.
const LISTENER: u64 = 0xffff_ff00_0000_0000;
const HANDOVER: u64 = LISTENER | 0xffff;
const FINISHED: u64 = LISTENER | 0x1_0000;
const SIGNALS: u64 = LISTENER | 0x1_0001;
const RINGS: u64 = LISTENER | 0x1_0100;

#[derive(Debug)]
struct Place {
    generation: u32,
    conn: Option<Box<Conn>>,
    away: bool,
    missed: EventFlags,
    /// Nobody wants its request any more.
    withdrawn: bool,
    /// To answer over while the connection is away.
    socket: Option<Arc<OwnedFd>>,
    /// How, and whether without a body.
    form: Form,
    head_only: bool,
}

impl Place {
    fn new() -> Self {
        Self {
            generation: 0,
            conn: None,
            away: false,
            missed: EventFlags::empty(),
            withdrawn: false,
            socket: None,
            form: Form::default(),
            head_only: false,
        }
    }
}

/// Why the loop is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    since_ns: u64,
    until_ns: u64,
    /// INT or QUIT rather than TERM.
    pub(crate) quick: bool,
}

/// The loop's state.
pub(crate) struct Reactor {
    hub: Arc<Hub>,
    /// None any more once the worker is ending.
    listeners: Vec<OwnedFd>,
    ending: Arc<AtomicBool>,
    epoll: OwnedFd,
    events: Vec<(u64, EventFlags)>,
    places: Vec<Place>,
    free: Vec<u32>,
    connections: usize,
    away: usize,
    /// Requests that were answered while away, until their threads come back.
    late: Vec<late::Late>,
    /// Those whose clients have ended their side while they were away.
    ended: Vec<u64>,
    /// The time of a request was ended that was to have more.
    expired: bool,
    ready: VecDeque<u64>,
    nested: nested::News,
    dirty: Vec<u64>,
    dirty_since_ns: u64,
    access: Option<AccessLog>,
    accepting: bool,
    accept_paused_until_ns: u64,
    expiry_ns: u64,
    next_id: u64,
    completed: u64,
    tally: Tally,
    retiring: bool,
    parent_checked_ns: u64,
    drain: Option<Drain>,
    /// Longest sleep: several heartbeats within `timeout`.
    beat_every_ns: u64,
    circuits: circuits::Open,
    /// Calls in a row that were fast; tells when the loop may go back to an app thread.
    pub(crate) fast_calls: u32,
    now_ns: u64,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").field("connections", &self.connections).field("away", &self.away).finish()
    }
}

impl Reactor {
    pub(crate) fn new(hub: Arc<Hub>, listeners: Vec<OwnedFd>, access: Option<AccessLog>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, hub.pool.wake_fd(), EventData::new_u64(FINISHED), EventFlags::IN)?;
        epoll::add(&epoll, hub.signals.fd(), EventData::new_u64(SIGNALS), EventFlags::IN)?;
        let now_ns = clock::now_ns();
        let beat_every_ns = match hub.options.timeout_ns {
            0 => BEAT_NS,
            timeout_ns => BEAT_NS.min(timeout_ns / 4).max(BEAT_NS / 100),
        };
        let tally = Tally::new(hub.slot);
        let mut reactor = Self {
            hub,
            listeners,
            ending: Arc::default(),
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
            places: Vec::new(),
            free: Vec::new(),
            connections: 0,
            away: 0,
            late: Vec::new(),
            ended: Vec::new(),
            expired: false,
            ready: VecDeque::new(),
            nested: nested::News::default(),
            dirty: Vec::new(),
            dirty_since_ns: 0,
            access,
            accepting: false,
            accept_paused_until_ns: 0,
            expiry_ns: u64::MAX,
            next_id: 0,
            completed: 0,
            tally,
            retiring: false,
            parent_checked_ns: now_ns,
            drain: None,
            beat_every_ns,
            circuits: circuits::Open::default(),
            fast_calls: 0,
            now_ns,
        };
        reactor.accept_if(true);
        Ok(reactor)
    }

    // ---- The owner's steps, in their order ----

    /// Waits at most `limit_ns` for events; true if there are some. Gathers them for [`Self::turn`].
    pub(crate) fn poll(&mut self, limit_ns: u64) -> bool {
        self.events.clear();
        let wait = clock::timespec(limit_ns);
        // EINTR and the like read as "nothing yet"; the next poll tells.
        let mut space = [const { MaybeUninit::<Event>::uninit() }; EVENTS_MAX];
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut space[..], Some(&wait)) {
            self.events.extend(events.iter().map(|event| (event.data.u64(), event.flags)));
        }
        !self.events.is_empty()
    }

    /// Returns how long the loop may sleep.
    pub(crate) fn sleep_ns(&self) -> u64 {
        let mut until = self.expiry_ns.min(self.now_ns + self.beat_every_ns);
        if let Some(drain) = self.drain {
            until = until.min(drain.until_ns).min(self.now_ns + SECOND_NS / 10);
        }
        if self.accept_paused_until_ns > 0 {
            until = until.min(self.accept_paused_until_ns);
        }
        until.saturating_sub(self.now_ns)
    }

    /// Acts on what [`Self::poll`] gathered, on finished calls, on time.
    pub(crate) fn turn(&mut self) {
        self.now_ns = clock::now_ns();
        self.beat();
        let mut events = std::mem::take(&mut self.events);
        for (data, flags) in events.drain(..) {
            self.event(data, flags);
        }
        self.events = events;
        if !self.ended.is_empty() {
            self.drop_gone();
        }
        if self.now_ns >= self.expiry_ns {
            self.expire();
        }
        self.drain_step();
    }

    /// Takes the next complete request out; its response is opened.
    pub(crate) fn next_ready(&mut self) -> Option<Box<Conn>> {
        while let Some(token) = self.ready.pop_front() {
            let keep_alive = self.hub.options.keepalive_ns > 0 && self.drain.is_none();
            let Some(place) = place(&mut self.places, token) else { continue };
            let Some(mut conn) = place.conn.take() else { continue };
            // Behind an unsent response of a pipelined request the deadline could not be answered.
            let lost = conn.is_sending() && conn.send() == Sent::Gone;
            let is_withdrawn = self.hub.options.ends_withdrawn && conn.is_withdrawn();
            if lost || conn.gone || is_withdrawn {
                self.write_off(&mut conn);
                self.close(token);
                continue;
            }
            if conn.has_ended() {
                self.ended.push(token);
            }
            place.away = true;
            place.missed = EventFlags::empty();
            place.withdrawn = false;
            place.form = conn.head.form;
            place.head_only = conn.head.method() == b"HEAD";
            self.away += 1;
            conn.owe();
            conn.open_response(keep_alive);
            let limit_ns = self.hub.options.queue_timeout_ns;
            if limit_ns > 0 && conn.stamps.proxied_ns >= limit_ns {
                self.shed(conn, "the request has waited too long before it came here");
                continue;
            }
            if conn.is_unawaited(self.now_ns) {
                self.shed(conn, UNAWAITED);
                continue;
            }
            if let Some(left_s) = self.circuits.refuses(self.hub.circuits(), &conn.head, self.now_ns) {
                self.shed_for(conn, UNSERVED, left_s);
                continue;
            }
            let offload = self.hub.options.offload.as_ref();
            if let Some(errand) = offload.and_then(|offload| offload.errand(&conn.head)) {
                self.hub.office.take(&self.hub, conn, errand);
                continue;
            }
            return Some(conn);
        }
        None
    }

    /// Tells whether complete requests wait for the application.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes a request back that no thread has begun; it is the next one's turn after those that are ready.
    pub(crate) fn put_back(&mut self, conn: Box<Conn>) {
        let token = conn.token;
        if self.come_home(conn).is_some() {
            self.ready.push_back(token);
        }
    }

    /// Takes a connection back whose call has ended at `now_ns`, and goes on with it.
    pub(crate) fn check_in(&mut self, mut conn: Box<Conn>, now_ns: u64) {
        self.now_ns = now_ns;
        self.nested.release(&mut conn);
        let Some(mut conn) = self.come_late(conn) else { return };
        if conn.gone || !conn.response.keep_alive {
            conn.conclude();
        }
        if conn.stamps.app_ns > 0 {
            self.account(&mut conn);
        } else {
            self.account_unserved(&conn);
        }
        let token = conn.token;
        self.come_home(conn);
        let options = &self.hub.options;
        let Some(conn) = place(&mut self.places, token).and_then(|place| place.conn.as_mut()) else { return };
        // What is left of a body that the application did not want would be read as the next request.
        let keep = conn.response.keep_alive && !conn.gone && conn.skip_body(&options.rules);
        if keep {
            conn.next_request();
            conn.deadline_ns = now_ns + options.keepalive_ns;
        } else {
            conn.state = State::Closing;
        }
        let deadline_ns = conn.deadline_ns;
        self.mark_dirty(token);
        if keep {
            self.arm(deadline_ns);
            self.advance(token);
        }
    }

    /// Puts a connection that was with the application into its place again.
    fn come_home(&mut self, mut conn: Box<Conn>) -> Option<&mut Conn> {
        self.away -= 1;
        let place = place(&mut self.places, conn.token)?;
        place.away = false;
        let missed = std::mem::replace(&mut place.missed, EventFlags::empty());
        conn.heard(missed);
        Some(place.conn.insert(conn))
    }

    /// Tells whether the batch has waited long enough.
    pub(crate) fn flush_due(&self) -> bool {
        !self.dirty.is_empty() && self.now_ns - self.dirty_since_ns >= BATCH_NS
    }

    /// Writes what the batch has gathered.
    pub(crate) fn flush(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for token in &dirty {
            self.send(*token);
        }
        // `send` may have made others dirty (pipelined requests refused); they wait for the next flush.
        let late = std::mem::replace(&mut self.dirty, dirty);
        self.dirty.clear();
        self.dirty.extend(late);
    }

    /// Writes gathered access-log lines; before every wait.
    pub(crate) fn flush_log(&mut self) {
        if let Some(access) = &mut self.access {
            access.write();
        }
    }

    /// Starts or stops listening: a worker without a free app thread leaves new connections to its siblings.
    pub(crate) fn accept_if(&mut self, wanted: bool) {
        let wanted = wanted
            && self.drain.is_none()
            && self.connections < self.hub.options.connections_max
            && self.accept_paused_until_ns <= self.now_ns;
        if wanted {
            self.accept_paused_until_ns = 0;
        }
        if wanted == self.accepting {
            return;
        }
        self.accepting = wanted;
        let hub = self.hub.clone();
        let sources =
            self.listeners.iter().enumerate().map(|(number, listener)| (listener.as_fd(), number as u64));
        let handover = (hub.handover_in.as_fd(), HANDOVER & !LISTENER);
        for (source, number) in sources.chain([handover]) {
            let outcome = if wanted {
                let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
                epoll::add(&self.epoll, source, EventData::new_u64(LISTENER | number), flags)
            } else {
                epoll::delete(&self.epoll, source)
            };
            if let Err(error) = outcome {
                hub.log.log(Level::Error, &format!("epoll: cannot change the watch on a listener: {error}"));
            }
        }
    }

    /// Tells whether everything is done after TERM, INT or QUIT, or its time is over.
    pub(crate) fn is_finished(&self) -> bool {
        self.drain.is_some_and(|drain| self.connections == 0 || self.now_ns >= drain.until_ns)
    }

    /// Tells whether calls are still running although the time to finish is over.
    pub(crate) fn is_overdue(&self) -> bool {
        self.drain.is_some_and(|drain| self.now_ns >= drain.until_ns) && self.away > 0
    }

    /// Returns why the loop is ending.
    pub(crate) fn drain(&self) -> Option<Drain> {
        self.drain
    }

    /// Returns how many requests are with the application.
    pub(crate) fn away(&self) -> usize {
        self.away
    }

    /// Returns how many requests have been answered.
    pub(crate) fn completed(&self) -> u64 {
        self.completed
    }

    /// Returns the time of the last turn or call.
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Answers 503 to a request for which there is no room in the line, or no thread.
    pub(crate) fn shed(&mut self, conn: Box<Conn>, detail: &'static str) {
        self.shed_for(conn, detail, 1);
    }

    /// The same to one that may come again after so many seconds.
    fn shed_for(&mut self, conn: Box<Conn>, detail: &'static str, retry_s: u32) {
        if conn.is_late() {
            return self.pass_over(conn);
        }
        add(&self.hub.slot.shed, 1);
        let refusal = Refusal { retry_s, ..Refusal::new(BUSY, detail) };
        self.refuse_away(conn, &refusal);
    }

    /// Gives a waiting request to an idle sibling, or returns it.
    pub(crate) fn give(&mut self, conn: Box<Conn>) -> Result<(), Box<Conn>> {
        let token = conn.token;
        // Before it goes: an entry in the epoll set lives as long as the sibling's descriptor, not ours.
        if epoll::delete(&self.epoll, conn.socket()).is_err() {
            return Err(conn);
        }
        if let Err(conn) = handover::give(self.hub.handover_out.as_fd(), conn) {
            // Where it was a moment ago, there is room for it.
            let _ = self.watch(&conn);
            return Err(conn);
        }
        add(&self.hub.slot.handed_over, 1);
        self.away -= 1;
        self.forget(token);
        Ok(())
    }

    /// Puts a connection into the epoll set under its token; what is ready already is told again.
    fn watch(&self, conn: &Conn) -> rustix::io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, conn.socket(), EventData::new_u64(conn.token), flags)
    }

    // ---- Events ----

    fn event(&mut self, data: u64, flags: EventFlags) {
        match data {
            FINISHED => {
                for conn in self.hub.pool.take_finished() {
                    let done_ns = conn.stamps.done_ns;
                    self.count_call(done_ns.saturating_sub(conn.stamps.app_ns));
                    let now_ns = self.now_ns;
                    self.check_in(conn, now_ns);
                }
            }
            SIGNALS => self.signals(),
            HANDOVER => self.take_in(),
            number if number & RINGS == RINGS => self.nested.rung((number & 0xff) as usize),
            number if number & LISTENER == LISTENER => self.accept((number & 0xffff) as usize),
            token => self.client(token, flags),
        }
    }

    /// Counts a call for the decision whether the loop may go back.
    pub(crate) fn count_call(&mut self, took_ns: u64) {
        self.fast_calls = if took_ns < BATCH_NS { self.fast_calls.saturating_add(1) } else { 0 };
    }

    fn client(&mut self, token: u64, flags: EventFlags) {
        let Some(place) = place(&mut self.places, token) else { return };
        if place.away {
            place.missed |= flags;
            self.nested.heard(token, flags);
            if flags.intersects(EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
                self.ended.push(token);
            }
            return;
        }
        let Some(conn) = &mut place.conn else { return };
        conn.heard(flags);
        if flags.contains(EventFlags::OUT) && conn.is_sending() {
            self.send(token);
        }
        self.advance(token);
    }

    fn accept(&mut self, number: usize) {
        // With siblings one at a time, so that a burst spreads; alone as many as are there.
        let batch = if self.hub.is_one_of_many() { 1 } else { 64 };
        for _ in 0..batch {
            if self.connections >= self.hub.options.connections_max {
                return self.accept_if(true);
            }
            let Some(listener) = self.listeners.get(number) else { return };
            match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, address)) => {
                    let conn = Conn::new(socket, peer(address), number, &self.hub.options);
                    self.admit(conn);
                }
                Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return,
                Err(error) => {
                    let message = format!("accept: {error}; no new connections for a moment");
                    self.hub.log.log(Level::Error, &message);
                    self.accept_paused_until_ns = self.now_ns + ACCEPT_PAUSE_NS;
                    return self.accept_if(false);
                }
            }
        }
    }

    /// Takes a connection that a sibling has given away, if there is one and room for it.
    pub(crate) fn take_in(&mut self) {
        if self.drain.is_none() && self.connections < self.hub.options.connections_max {
            self.take_one();
        }
    }

    /// Takes a connection that a sibling has given away; false if there is none.
    fn take_one(&mut self) -> bool {
        match handover::take(self.hub.handover_in.as_fd(), &self.hub.options) {
            Ok(Some(conn)) => {
                add(&self.hub.slot.taken_in, 1);
                self.admit(conn);
                return true;
            }
            Ok(None) => {}
            Err(error) => self.hub.log.log(Level::Error, &format!("hand-over: {error}")),
        }
        false
    }

    fn admit(&mut self, mut conn: Conn) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::new());
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        // The highest generations would read as LISTENER.
        place.generation = (place.generation + 1) & 0x7fff_ffff;
        let token = u64::from(place.generation) << 32 | u64::from(index);
        conn.token = token;
        conn.worker_ends = Some(self.ending.clone());
        conn.deadline_ns = after(self.now_ns, self.hub.options.header_timeout_ns);
        let deadline_ns = conn.deadline_ns;
        if let Err(error) = self.watch(&conn) {
            self.hub.log.log(Level::Error, &format!("epoll: cannot watch a connection: {error}"));
            self.free.push(index);
            return;
        }
        conn.settle_at(&self.hub.slot.clients[index as usize]);
        let place = &mut self.places[index as usize];
        place.socket = Some(conn.shared_socket());
        place.conn = Some(Box::new(conn));
        self.connections += 1;
        self.hub.slot.connections.store(self.connections as u32, Relaxed);
        self.arm(deadline_ns);
        self.advance(token);
    }

    /// Takes a connection as far as its bytes go.
    fn advance(&mut self, token: u64) {
        let now_ns = self.now_ns;
        let Some(conn) = place(&mut self.places, token).and_then(|place| place.conn.as_mut()) else { return };
        match conn.state {
            State::Lingering => {
                let mut limit = LINGER_BYTES;
                if !conn.drain(&mut limit) {
                    self.close(token);
                }
                return;
            }
            State::Head | State::Body if conn.pending() <= UNSENT_MAX => {}
            _ => return,
        }
        match conn.receive(&self.hub.options) {
            Ok(Progress::Complete) => {
                stamp_complete(conn, now_ns);
                conn.served += 1;
                self.next_id += 1;
                conn.id = self.next_id;
                conn.deadline_ns = 0;
                if !conn.is_sending() {
                    conn.owe();
                }
                self.ready.push_back(token);
            }
            // A client that shut its side after a request still gets what is gathered for it.
            Ok(Progress::Partial) if conn.eof && !conn.gone && conn.is_sending() => {
                conn.state = State::Closing
            }
            Ok(Progress::Partial) if conn.eof || conn.gone => self.close(token),
            Ok(Progress::Partial) => self.partial(token),
            Err(refusal) => self.refuse(token, &refusal),
        }
    }

    fn partial(&mut self, token: u64) {
        let (now_ns, options) = (self.now_ns, &self.hub.options);
        let Some(conn) = place(&mut self.places, token).and_then(|place| place.conn.as_mut()) else { return };
        let mut greet = false;
        if !conn.is_untouched() && !conn.is_sending() {
            conn.stands(Standing::Partial);
        }
        if conn.state == State::Body {
            stamp_head(conn, now_ns);
            conn.deadline_ns = after(now_ns, options.body_timeout_ns);
            greet = conn.wants_continue();
            if greet {
                conn.head.expect_continue = false;
                conn.response.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        } else if !conn.is_untouched() && conn.stamps.begun_ns == 0 {
            conn.stamps.begun_ns = now_ns;
            conn.deadline_ns = after(now_ns, options.header_timeout_ns);
        }
        let deadline_ns = conn.deadline_ns;
        self.arm(deadline_ns);
        if greet {
            self.send(token);
        }
    }

    // ---- Sending and closing ----

    fn mark_dirty(&mut self, token: u64) {
        if self.dirty.is_empty() {
            self.dirty_since_ns = self.now_ns;
        }
        self.dirty.push(token);
    }

    fn send(&mut self, token: u64) {
        let Some(conn) = place(&mut self.places, token).and_then(|place| place.conn.as_mut()) else { return };
        match conn.send() {
            Sent::Gone => self.close(token),
            Sent::Blocked => {
                conn.deadline_ns = after(self.now_ns, self.hub.options.write_timeout_ns);
                let deadline_ns = conn.deadline_ns;
                self.arm(deadline_ns);
            }
            Sent::All => {
                if let Some((cell, since_ns)) = conn.sending.take() {
                    self.hub.slot.routes.record_write(cell, account::us(since_ns, self.now_ns));
                }
                match conn.state {
                    State::Closing if conn.gone || !conn.is_lingering() => self.close(token),
                    State::Closing => self.linger(token),
                    State::Head if conn.is_untouched() => {
                        if conn.served > 0 {
                            conn.deadline_ns = self.now_ns + self.hub.options.keepalive_ns;
                            let deadline_ns = conn.deadline_ns;
                            self.arm(deadline_ns);
                        }
                        // A pipelined request may have waited for room.
                        self.advance(token);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Answers a request that never reaches the application; then the connection lingers and closes.
    fn refuse(&mut self, token: u64, refusal: &Refusal) {
        let Some(conn) = place(&mut self.places, token).and_then(|place| place.conn.as_mut()) else { return };
        self.hub.refused(refusal, &conn.client);
        let own = self.hub.options.error_page.as_ref();
        match conn.state {
            State::Body => {
                let form = conn.head.form;
                page(
                    &mut conn.response.output,
                    &Page { form, own, ..Page::new(refusal.status, &refusal.detail, false) },
                );
            }
            _ => refusal.write(&mut conn.response.output, own),
        }
        late::make_room(conn.socket(), conn.pending());
        let sent = conn.send();
        conn.stands(Standing::Begun);
        if sent == Sent::Gone { self.close(token) } else { self.linger(token) }
    }

    /// Ends our side and drops what the client still sends for a while, so that no reset destroys what it was sent.
    fn linger(&mut self, token: u64) {
        let Some(conn) = place(&mut self.places, token).and_then(|place| place.conn.as_mut()) else { return };
        conn.half_close();
        conn.deadline_ns = self.now_ns + LINGER_NS;
        let mut limit = LINGER_BYTES;
        let over = conn.is_readable() && !conn.drain(&mut limit);
        let deadline_ns = conn.deadline_ns;
        self.arm(deadline_ns);
        if over {
            self.close(token);
        }
    }

    /// Like [`Self::refuse`] for a connection that is out of its place.
    fn refuse_away(&mut self, mut conn: Box<Conn>, refusal: &Refusal) {
        let token = conn.token;
        conn.refuse(refusal, &self.hub.request_id(conn.id), self.hub.options.error_page.as_ref());
        conn.outcome = Outcome::Shed;
        conn.stamps.done_ns = self.now_ns;
        conn.state = State::Closing;
        conn.deadline_ns = after(self.now_ns, self.hub.options.write_timeout_ns);
        // What is left is sent from its place.
        let _ = conn.send();
        conn.conclude();
        self.account_unserved(&conn);
        self.away -= 1;
        let Some(place) = place(&mut self.places, token) else { return };
        place.away = false;
        place.conn = Some(conn);
        self.send(token);
    }

    fn close(&mut self, token: u64) {
        if let Some(place) = place(&mut self.places, token) {
            // A client that has not taken it all is the one that took longest.
            if let Some((cell, since_ns)) = place.conn.take().and_then(|conn| conn.sending) {
                self.hub.slot.routes.record_write(cell, account::us(since_ns, self.now_ns));
            }
            self.forget(token);
        }
    }

    fn forget(&mut self, token: u64) {
        let Some(place) = place(&mut self.places, token) else { return };
        place.generation = (place.generation + 1) & 0x7fff_ffff;
        place.away = false;
        self.hub.slot.clients[token as u32 as usize].close();
        // With the connection's own, this closes the socket, which takes it out of the epoll set.
        place.socket = None;
        self.free.push(token as u32);
        self.connections -= 1;
        self.hub.slot.connections.store(self.connections as u32, Relaxed);
    }

    // ---- Time ----

    fn arm(&mut self, deadline_ns: u64) {
        if deadline_ns > 0 {
            self.expiry_ns = self.expiry_ns.min(deadline_ns);
        }
    }

    fn expire(&mut self) {
        let now_ns = self.now_ns;
        let mut next_ns = u64::MAX;
        let mut over = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            let Some(conn) = &place.conn else { continue };
            match conn.deadline_ns {
                0 => {}
                at if at <= now_ns => over.push(u64::from(place.generation) << 32 | index as u64),
                at => next_ns = next_ns.min(at),
            }
        }
        self.expiry_ns = next_ns;
        for token in over {
            self.time_out(token);
        }
    }

    fn time_out(&mut self, token: u64) {
        let Some(conn) = place(&mut self.places, token).and_then(|place| place.conn.as_mut()) else { return };
        let blocked = conn.is_sending();
        match conn.state {
            _ if blocked => self.close(token),
            State::Head if !conn.is_untouched() => {
                self.refuse(token, &Refusal::new(408, "the request's head took too long"));
            }
            State::Body => self.refuse(token, &Refusal::new(408, "the request's body took too long")),
            _ => self.close(token),
        }
    }
}

fn place(places: &mut [Place], token: u64) -> Option<&mut Place> {
    let place = places.get_mut(token as u32 as usize)?;
    (place.generation == (token >> 32) as u32).then_some(place)
}

/// Why a request of a route whose circuit is open gets none.
const UNSERVED: &str = "this page is not served for a while";
/// Why a request that stood in line gets no thread.
pub(crate) const UNAWAITED: &str = "its sender waits no more, as it has said";

fn stamp_head(conn: &mut Conn, now_ns: u64) {
    let stamps = &mut conn.stamps;
    if stamps.begun_ns == 0 {
        stamps.begun_ns = now_ns;
    }
    if stamps.head_ns == 0 {
        stamps.head_ns = now_ns;
        if conn.head.sent_ns > 0 {
            stamps.proxied_ns = proxied(conn.head.sent_ns, stamps.begun_ns);
        }
        conn.awaited_ns = after(stamps.begun_ns, conn.head.left_ns);
    }
}

/// Returns how long a proxy had had a request that it got at `sent_ns` by the wall clock, when its first byte came here.
fn proxied(sent_ns: u64, begun_ns: u64) -> u64 {
    let (wall_ns, now_ns) = (clock::wall_ns(), clock::now_ns());
    let since_ns = request_start::age_ns(sent_ns, wall_ns).map(|age_ns| now_ns.saturating_sub(age_ns));
    since_ns.map_or(0, |since_ns| begun_ns.saturating_sub(since_ns))
}

fn stamp_complete(conn: &mut Conn, now_ns: u64) {
    stamp_head(conn, now_ns);
    conn.stamps.complete_ns = now_ns;
}

fn peer(address: Option<SocketAddrAny>) -> Peer {
    address.and_then(|address| SocketAddr::try_from(address).ok()).map_or(Peer::Unix, Peer::Tcp)
}

/// The moment when a limit is over; 0 (never) for no limit.
pub(crate) fn after(now_ns: u64, limit_ns: u64) -> u64 {
    if limit_ns == 0 { 0 } else { now_ns + limit_ns }
}

fn add(cell: &std::sync::atomic::AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}
