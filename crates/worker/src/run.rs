//! A worker's threads: who calls the application, who keeps the loop, and how a worker ends.
//!
//! The main thread starts as the owner of the loop and calls the application itself ([`own`]). When a call is slow the
//! watchdog's thread takes the loop ([`keep`]): it queues requests for the app threads, gives what cannot be served
//! soon to idle siblings, and offers the loop back when calls are fast again. `sync` and `gthread` differ in the
//! number of app threads alone.

use crate::access::AccessLog;
use crate::app::{ABORT, App, Interpreter, Stop};
use crate::climb::Climb;
use crate::conn::Conn;
use crate::http::refusal::Refusal;
use crate::offload::Office;
use crate::options::{Level, Log, Options};
use crate::pool::{Job, Pool};
use crate::reactor::{BUSY, Reactor, UNAWAITED, after};
use crate::stage::Stage;
use ferricorn_core::circuits::Circuits;
use ferricorn_core::deadline::{Held, Plan};
use ferricorn_core::record::request_id;
use ferricorn_core::scoreboard::{Entry, REQUESTS_MAX, Scoreboard, WorkerSlot};
use ferricorn_sys::clock;
use ferricorn_sys::events::Teller;
use ferricorn_sys::exit::exit_now;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A request that waits longer than this although threads are free waits for the interpreter.
const STARVED_NS: u64 = 5_000_000;
/// How often a loop with waiting requests looks for an idle sibling.
const LOOK_NS: u64 = 2_000_000;
/// Fast calls in a row after which the loop goes back to an app thread.
const CALM_CALLS: u32 = 32;
/// Idle time after which it does.
const CALM_NS: u64 = 50_000_000;

/// What the arbiter gives a worker.
pub struct Context {
    /// Listening sockets, non-blocking.
    pub listeners: Vec<OwnedFd>,
    /// The end of the shared pair into which connections are given.
    pub handover_out: OwnedFd,
    /// The end from which they are taken.
    pub handover_in: OwnedFd,
    /// TERM, INT, QUIT and USR1 arrive here.
    pub signals: Box<dyn Signals>,
    /// One byte in here wakes the arbiter: ready, or retiring.
    pub wake_arbiter: OwnedFd,
    /// Where the observer is told of what it cannot see.
    pub teller: Arc<Teller>,
    /// The scoreboard.
    pub board: &'static Scoreboard,
    /// This worker's place in it.
    pub slot: usize,
    /// Pid of the arbiter, to notice its death.
    pub parent: i32,
    /// The error log.
    pub log: Arc<dyn Log>,
    /// The access log, where it is ours to write.
    pub access: Option<AccessLog>,
}

/// Where signals arrive: handlers write them into a pipe, the loop reads it.
pub trait Signals: Send + Sync {
    /// Readable while there are signals.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Takes their numbers, without waiting.
    fn read(&self) -> Vec<i32>;
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// After TERM, or its arbiter's death.
    Graceful,
    /// After INT or QUIT.
    Quick,
}

/// What all threads of a worker share.
pub(crate) struct Hub {
    pub(crate) options: Options,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) slot: &'static WorkerSlot,
    pub(crate) handover_out: OwnedFd,
    pub(crate) handover_in: OwnedFd,
    pub(crate) signals: Box<dyn Signals>,
    pub(crate) pool: Pool,
    pub(crate) office: Office,
    pub(crate) reopen: AtomicBool,
    pub(crate) teller: Arc<Teller>,
    stage: Stage,
    board: &'static Scoreboard,
    wake: OwnedFd,
    parent: AtomicI32,
    /// Numbers given to app threads so far; those of threads that have left are given again.
    numbers: AtomicU32,
    free_numbers: Mutex<Vec<u32>>,
    exit: Mutex<Option<Exit>>,
}

impl Hub {
    /// Logs and counts a request that is refused.
    pub(crate) fn refused(&self, refusal: &Refusal, client: &str) {
        self.slot.refused.store(self.slot.refused.load(Relaxed) + 1, Relaxed);
        let client = client.rsplit_once(':').map_or("", |(ip, _)| ip);
        self.log.log(Level::Warning, &format!("Invalid request from ip={client}: {}", refusal.detail));
    }

    /// Returns the number by which logs and pages know a request.
    pub(crate) fn request_id(&self, id: u64) -> String {
        request_id(std::process::id(), id)
    }

    /// Tells whether the server keeps records of late requests.
    pub(crate) fn keeps_records(&self) -> bool {
        !self.board.state_dir.load().is_empty()
    }

    /// Returns the routes that are not served for a while.
    pub(crate) fn circuits(&self) -> &'static Circuits {
        &self.board.circuits
    }

    /// Tells the arbiter that this worker's place in the scoreboard has news.
    pub(crate) fn wake_arbiter(&self) {
        // A full pipe already wakes it.
        let _ = rustix::io::write(&self.wake, &[1]);
    }

    /// Tells whether the arbiter has died.
    pub(crate) fn parent_changed(&self) -> bool {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        parent != self.parent.load(Relaxed)
    }

    /// Tells whether there are to be other workers.
    pub(crate) fn is_one_of_many(&self) -> bool {
        self.board.workers_target.load(Relaxed) > 1
    }

    /// Tells whether another worker is there to stay.
    pub(crate) fn has_ready_sibling(&self) -> bool {
        self.siblings().next().is_some()
    }

    /// Tells whether another worker can take a request at once.
    pub(crate) fn has_idle_sibling(&self) -> bool {
        self.siblings().any(|slot| slot.threads_free.load(Relaxed) > 0)
    }

    fn siblings(&self) -> impl Iterator<Item = &'static WorkerSlot> {
        self.board.ready_beside(self.slot)
    }

    /// Returns how many numbers of app threads are or have been in use.
    pub(crate) fn numbers(&self) -> usize {
        self.numbers.load(Relaxed) as usize
    }

    /// Lets an app thread go that is one too many.
    pub(crate) fn dismiss(&self) {
        self.slot.threads.fetch_sub(1, Relaxed);
        self.pool.dismiss();
    }

    fn running(&self) -> u32 {
        self.numbers.load(Relaxed) - self.free_numbers().len() as u32
    }

    /// Says how many records of requests are or have been in use.
    pub(crate) fn note_records(&self, used: u32) {
        self.numbers.store(used, Relaxed);
        self.slot.records.store(used, Relaxed);
    }

    /// Returns how the worker has ended, once it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells, once, that logs are to be opened again by who may enter the application.
    pub(crate) fn take_reopen(&self) -> bool {
        self.reopen.load(Relaxed) && self.reopen.swap(false, Relaxed)
    }

    fn number(&self) -> u32 {
        self.free_numbers().pop().unwrap_or_else(|| {
            let number = self.numbers.fetch_add(1, Relaxed);
            self.slot.records.store(number + 1, Relaxed);
            number
        })
    }

    fn number_is_free(&self, number: u32) {
        self.free_numbers().push(number);
    }

    fn free_numbers(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free_numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the worker: every thread of ours goes home.
    pub(crate) fn set_exit(&self, exit: Exit) {
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
        self.pool.close();
        self.stage.close();
    }
}

/// Puts together what the threads of a worker share; returns the listeners and the access log with it, which are the loop's.
pub(crate) fn hub(
    options: Options,
    context: Context,
) -> io::Result<(Arc<Hub>, Vec<OwnedFd>, Option<AccessLog>)> {
    let hub = Arc::new(Hub {
        slot: &context.board.workers[context.slot],
        log: context.log,
        handover_out: context.handover_out,
        handover_in: context.handover_in,
        signals: context.signals,
        pool: Pool::new()?,
        office: Office::new()?,
        reopen: AtomicBool::new(false),
        teller: context.teller,
        stage: Stage::default(),
        board: context.board,
        wake: context.wake_arbiter,
        parent: AtomicI32::new(context.parent),
        numbers: AtomicU32::new(1),
        free_numbers: Mutex::default(),
        exit: Mutex::new(None),
        options,
    });
    Ok((hub, context.listeners, context.access))
}

/// Serves until told to stop. Called attached, on the worker's main thread, which is the first app thread.
///
/// # Errors
/// The loop or its watchdog cannot be made.
pub fn run<A: App>(app: Arc<A>, options: Options, context: Context) -> io::Result<Exit> {
    let (hub, listeners, access) = hub(options, context)?;
    // The main thread's.
    hub.note_records(1);
    let threads = hub.options.threads.max(1) as u32;
    hub.slot.threads.store(threads, Relaxed);
    hub.slot.threads_free.store(threads, Relaxed);
    let reactor = Box::new(Reactor::new(hub.clone(), listeners, access)?);
    let watched = (hub.clone(), app.clone());
    let watchdog =
        thread::Builder::new().name("ferricorn-loop".into()).spawn(move || watch(&watched.0, &watched.1))?;
    hub.slot.ready(clock::now_ns());
    hub.wake_arbiter();
    app_thread(&hub, &*app, 0, Some(reactor));
    let exit = hub.exit().unwrap_or(Exit::Graceful);
    app.wait(|| drop(watchdog.join()));
    if exit == Exit::Quick {
        app.notify(Stop::Interrupted);
    }
    Ok(exit)
}

/// The watchdog's thread: waits for a slow owner, then keeps the loop until calls are fast again. Never attached.
fn watch<A: App>(hub: &Arc<Hub>, app: &Arc<A>) {
    while let Some(reactor) = hub.stage.watch(&hub.pool) {
        let slot = hub.slot;
        slot.taken_over.store(1, Relaxed);
        slot.takeovers.store(slot.takeovers.load(Relaxed) + 1, Relaxed);
        start_threads(hub, app);
        keep(hub, app, reactor);
        slot.taken_over.store(0, Relaxed);
        slot.threads_free.store(slot.threads.load(Relaxed), Relaxed);
    }
}

/// Starts the app threads that there are to be beside the main one and that have not been started yet.
pub(crate) fn start_threads<A: App>(hub: &Arc<Hub>, app: &Arc<A>) {
    while hub.running() < hub.slot.threads.load(Relaxed) {
        let number = hub.number();
        let (hub_of, app_of) = (hub.clone(), app.clone());
        let body = move || app_of.attach(|| app_thread(&hub_of, &*app_of, number as usize, None));
        if let Err(error) = thread::Builder::new().name(format!("app-{number}")).spawn(body) {
            hub.log.log(Level::Error, &format!("cannot start app thread {number}: {error}"));
            return hub.number_is_free(number);
        }
    }
}

/// An app thread's life: own the loop, or serve what stands in line, until the worker ends.
fn app_thread<A: App>(hub: &Hub, app: &A, thread: usize, mut reactor: Option<Box<Reactor>>) {
    loop {
        if let Some(owned) = reactor.take()
            && let Some(finished) = own(hub, app, thread, owned)
        {
            finish(hub, finished);
        }
        match hub.pool.next(app, thread == 0) {
            Job::Own(offered) => reactor = Some(offered),
            Job::Serve(conn) => {
                reopen_logs(hub, app);
                let mut conn = serve(hub, app, thread, conn);
                // Without waiting; what is left is the loop's.
                let _ = conn.send();
                hub.pool.finished(conn);
            }
            Job::Leave => return hub.number_is_free(thread as u32),
        }
    }
}

/// Runs the loop and the application on this thread until the loop is taken over (`None`) or finished.
fn own<A: App>(hub: &Hub, app: &A, thread: usize, mut reactor: Box<Reactor>) -> Option<Box<Reactor>> {
    loop {
        while let Some(conn) = reactor.next_ready() {
            hub.stage.put(reactor);
            let mut conn = serve(hub, app, thread, conn);
            let Some(mine) = hub.stage.take() else {
                let _ = conn.send();
                hub.pool.finished(conn);
                return None;
            };
            reactor = mine;
            let done_ns = conn.stamps.done_ns;
            reactor.check_in(conn, done_ns);
            if reactor.flush_due() {
                reactor.flush();
            }
        }
        reactor.flush();
        if reactor.has_ready() {
            continue;
        }
        if reactor.is_finished() {
            return Some(reactor);
        }
        reopen_logs(hub, app);
        reactor.accept_if(true);
        if !reactor.poll(0) {
            reactor.flush_log();
            let waiting = reactor.sleep_ns();
            app.wait(|| {
                reactor.poll(waiting);
                hub.stage.put(reactor);
            });
            reactor = hub.stage.take()?;
        }
        reactor.turn();
    }
}

/// Tells the application of USR1, on a thread that may enter it.
fn reopen_logs<A: App>(hub: &Hub, app: &A) {
    if hub.take_reopen() {
        app.notify(Stop::ReopenLogs);
    }
}

/// Calls the application for one request.
fn serve<A: App>(hub: &Hub, app: &A, thread: usize, mut conn: Box<Conn>) -> Box<Conn> {
    let now_ns = clock::now_ns();
    if conn.is_late() {
        // This process has stood still, and its guardian has answered.
        conn.response.status = BUSY;
        conn.response.abort();
        conn.stamps.done_ns = now_ns;
        return conn;
    }
    conn.record = Some(&hub.slot.in_flight[thread.min(REQUESTS_MAX - 1)]);
    enter(hub, &mut conn);
    let record = conn.record;
    let mut conn = app.call(conn, thread);
    conn.record = None;
    if let Some(record) = record {
        record.leave();
    }
    conn.stamps.done_ns = clock::now_ns();
    conn
}

/// Writes down, in the record of its request, that a connection goes into the application on this thread.
pub(crate) fn enter(hub: &Hub, conn: &mut Conn) {
    let now_ns = clock::now_ns();
    conn.stamps.app_ns = now_ns;
    conn.time_ns = hub.options.time_for(&conn.head);
    conn.until_ns = after(conn.stamps.begun_ns, hub.options.request_timeout_ns);
    let Some(record) = conn.record else { return };
    record.enter(&Entry {
        id: conn.id,
        start_ns: conn.stamps.begun_ns,
        complete_ns: conn.stamps.complete_ns,
        app_ns: now_ns,
        deadline_ns: conn.deadline_from(now_ns),
        tid: thread_id(),
        fd: conn.fd() as u32,
        place: conn.place(),
        method: conn.head.method(),
        path: conn.head.get(&conn.head.path),
        query: conn.head.get(&conn.head.query),
        body_bytes: conn.body.len(),
        client: conn.client.as_bytes(),
    });
}

fn thread_id() -> u32 {
    thread_local! {
        static ID: u32 = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    }
    ID.with(|id| *id)
}

/// Keeps the loop while Python is slow; ends when the loop has gone back to an app thread or the worker has ended.
fn keep<A: App>(hub: &Arc<Hub>, app: &Arc<A>, mut reactor: Box<Reactor>) {
    reactor.fast_calls = 0;
    let mut climb = Climb::new(hub, Plan::for_threads(hub.options.threads));
    // The owner may have gathered events and then waited for the interpreter: an edge is told only once.
    reactor.turn();
    let (mut busy_ns, mut completed) = (reactor.now_ns(), reactor.completed());
    loop {
        line_up(hub, &mut reactor);
        let starved = relieve(hub, &mut reactor);
        expire(hub, &mut reactor);
        let held = if starved { Held::Interpreter } else { Held::Nothing };
        if climb.step(hub, app, &mut reactor, held, false) {
            start_threads(hub, app);
        }
        reactor.flush();
        reactor.flush_log();
        if reactor.is_finished() || reactor.is_overdue() {
            return wind_up(hub, &**app, reactor);
        }
        let load = hub.pool.load();
        let free = if starved { 0 } else { load.idle.saturating_sub(load.waiting) };
        hub.slot.queued.store(load.waiting as u32, Relaxed);
        hub.slot.threads_free.store(free as u32, Relaxed);
        if reactor.away() > 0 {
            busy_ns = reactor.now_ns();
        }
        let calm = reactor.fast_calls >= CALM_CALLS || reactor.now_ns() - busy_ns >= CALM_NS;
        if calm && !starved && !climb.has_slow(reactor.now_ns()) && reactor.drain().is_none() {
            hub.slot.queued.store(0, Relaxed);
            hub.pool.pull_all().into_iter().for_each(|conn| reactor.put_back(conn));
            return hub.pool.offer(reactor);
        }
        // Who waits in the listen queue would wait for ever beside clients that keep their connections.
        reactor.accept_if(free > 0 || !hub.has_idle_sibling());
        if reactor.completed() != completed {
            // A sibling that saw a thread of ours free has given something; by now the thread was busy again.
            completed = reactor.completed();
            reactor.take_in();
        }
        let mut sleep_ns = reactor.sleep_ns().min(climb.sleep_ns(reactor.now_ns()));
        if load.waiting > 0 {
            sleep_ns = sleep_ns.min(LOOK_NS);
        } else if reactor.away() == 0 {
            sleep_ns = sleep_ns.min(CALM_NS);
        }
        reactor.poll(sleep_ns);
        reactor.turn();
    }
}

/// Puts complete requests in line for who may serve them; returns how many.
pub(crate) fn line_up(hub: &Hub, reactor: &mut Reactor) -> usize {
    let mut count = 0;
    while let Some(conn) = reactor.next_ready() {
        if hub.pool.load().waiting >= hub.options.queue_max {
            relieve(hub, reactor);
        }
        if hub.pool.load().waiting >= hub.options.queue_max {
            reactor.shed(conn, "all workers are busy and the queue is full");
        } else {
            hub.pool.push(conn);
            count += 1;
        }
    }
    count
}

/// Answers 503 to requests that have stood in line for too long.
pub(crate) fn expire(hub: &Hub, reactor: &mut Reactor) {
    let (limit_ns, now_ns) = (hub.options.queue_timeout_ns, reactor.now_ns());
    if limit_ns > 0 {
        while let Some(conn) = hub.pool.pull_before(now_ns.saturating_sub(limit_ns)) {
            reactor.shed(conn, "all workers are busy and the queue does not move");
        }
    }
    if hub.options.rules.deadline_header.is_some() {
        while let Some(conn) = hub.pool.pull_unawaited(now_ns) {
            reactor.shed(conn, UNAWAITED);
        }
    }
}

/// Gives requests that no thread of ours can take soon to an idle sibling. True while requests wait although threads
/// are free: something holds the interpreter.
pub(crate) fn relieve(hub: &Hub, reactor: &mut Reactor) -> bool {
    loop {
        let load = hub.pool.load();
        let Some(since_ns) = load.since_ns else { return false };
        let starved = clock::now_ns().saturating_sub(since_ns) > STARVED_NS;
        if load.idle > 0 && !starved {
            return false;
        }
        // Where all threads are at work, that is why nobody comes.
        let starved = starved && load.idle > 0;
        if !hub.has_idle_sibling() {
            return starved;
        }
        let Some(conn) = hub.pool.pull() else { return starved };
        if conn.is_late() {
            reactor.pass_over(conn);
            continue;
        }
        if let Err(conn) = reactor.give(conn) {
            hub.pool.unpull(conn);
            return starved;
        }
    }
}

/// The end of a worker whose loop is kept by the watchdog's thread.
pub(crate) fn wind_up<A: Interpreter>(hub: &Hub, app: &A, mut reactor: Box<Reactor>) {
    let (cut, stuck) = (reactor.unanswered(), reactor.stuck());
    if cut == 0 && stuck == 0 {
        // No call is running, so the main thread is free and will end the process by itself.
        return finish(hub, reactor);
    }
    reactor.flush();
    reactor.give_up_late();
    reactor.flush_log();
    let quick = reactor.drain().is_some_and(|drain| drain.quick);
    if cut > 0 && !quick {
        let message = format!("Worker graceful timeout (pid:{}): {cut} requests cut", std::process::id());
        hub.log.log(Level::Warning, &message);
    }
    if stuck > 0 {
        app.abort();
        // Wakes the main thread, where it waits for work.
        hub.set_exit(Exit::Graceful);
        thread::sleep(ABORT);
    }
    hub.log.log(Level::Info, &format!("Worker exiting (pid: {})", std::process::id()));
    exit_now(0);
}

fn finish(hub: &Hub, mut reactor: Box<Reactor>) {
    reactor.flush();
    reactor.flush_log();
    let quick = reactor.drain().is_some_and(|drain| drain.quick);
    drop(reactor);
    hub.set_exit(if quick { Exit::Quick } else { Exit::Graceful });
}
