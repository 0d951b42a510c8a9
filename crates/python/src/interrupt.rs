//! Seeing where an app thread is stuck, freeing it from a request that was answered in its place, and what the
//! application can say about its deadline.
//!
//! The main thread is told by a real-time signal: its handler runs in the middle of most waits and raises. Other
//! threads get an asynchronous exception, which Python delivers at their next bytecode; a thread of ours takes the
//! interpreter for that. Both look first whether the request is still the one that is meant, and everything that is
//! looked at changes with the interpreter held only: no later request is ever hit.

use crate::jobs;
use crate::{dump, ffi};
use ferricorn_core::evidence::{Frame, Source};
use ferricorn_core::scoreboard::{InFlight, REQUESTS_MAX};
use ferricorn_sys::clock;
use ferricorn_sys::signal::{INTERRUPT, signal_thread};
use ferricorn_worker::{At, Sight, Stop, Tell};
use pyo3::prelude::*;
use pyo3::types::PyType;
use rustix::process::{Signal, getpid, kill_process};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Most app threads that can be told apart.
const THREADS_MAX: usize = 128;

/// What is known of each app thread.
static GUARDS: [Guard; THREADS_MAX] = [const { Guard::new() }; THREADS_MAX];

struct Guard {
    /// Python's number of the thread.
    ident: AtomicU64,
    /// The request whose application code runs here; 0 for none.
    request: AtomicU64,
    /// The request that is to be interrupted.
    ordered: AtomicU64,
    /// The request for which an exception was left with the thread.
    struck: AtomicU64,
}

impl Guard {
    const fn new() -> Self {
        Self {
            ident: AtomicU64::new(0),
            request: AtomicU64::new(0),
            ordered: AtomicU64::new(0),
            struck: AtomicU64::new(0),
        }
    }

    fn is_meant(&self) -> bool {
        let request = self.request.load(SeqCst);
        request != 0 && request == self.ordered.load(SeqCst)
    }
}

thread_local! {
    static IDENT: Cell<u64> = const { Cell::new(0) };
    static CURRENT: Cell<Option<&'static InFlight>> = const { Cell::new(None) };
}

/// The time in which an app thread runs the application for a request, and may be interrupted.
pub(crate) struct Passage {
    thread: usize,
}

impl Passage {
    pub(crate) fn begin(
        py: Python<'_>,
        thread: usize,
        request: u64,
        record: Option<&'static InFlight>,
    ) -> Self {
        let thread = thread.min(THREADS_MAX - 1);
        let guard = &GUARDS[thread];
        let ident = ident(py);
        guard.ident.store(ident, SeqCst);
        if let Some(record) = record {
            record.set_ident(ident);
        }
        CURRENT.set(record);
        guard.request.store(request, SeqCst);
        Self { thread }
    }

    /// Ends it, with the interpreter held; an exception that has not been delivered yet is taken back.
    pub(crate) fn end(self, py: Python<'_>) {
        let guard = &GUARDS[self.thread];
        let request = guard.request.swap(0, SeqCst);
        CURRENT.set(None);
        if guard.struck.load(SeqCst) == request {
            guard.struck.store(0, SeqCst);
            ffi::raise_in_thread(py, guard.ident.load(SeqCst), None);
        }
    }
}

/// Python's number of this thread.
fn ident(py: Python<'_>) -> u64 {
    IDENT.with(|known| {
        if known.get() == 0 {
            let number = py.import("threading").and_then(|module| module.call_method0("get_ident"));
            known.set(number.and_then(|number| number.extract()).unwrap_or(0));
        }
        known.get()
    })
}

/// What the thread that attends to others is to do, in this order.
enum Order {
    /// Say where the thread is.
    Look(At, Once),
    /// Ask the interpreter something.
    Ask(Question),
    /// Leave an exception with the thread.
    Strike(usize),
}

/// Finds out where a thread is in the application, as soon as the interpreter can be had; never waits for it. Where it cannot be
/// had soon, a thread whose request is over writes down by itself where it is.
pub(crate) fn look(at: At, over: bool, tell: Tell) {
    let tell = Arc::new(Mutex::new(Some(tell)));
    if over {
        dump::soon(at, Box::new(move || is_at(at)), tell.clone());
    }
    order(Order::Look(at, tell));
}

/// The same for a request that is not a thread's own: `find` asks the interpreter where it is. Where a call holds the
/// thread of the loop, perhaps with the interpreter, what that thread is at is what keeps this request, too.
pub(crate) fn look_within(at: At, over: bool, tell: Tell, find: Find) {
    let tell: Once = Arc::new(Mutex::new(Some(tell)));
    if over && !is_main(at.tid) {
        dump::soon(at, Box::new(|| true), tell.clone());
    }
    ask(Box::new(move |py| {
        if let Some(sight) = find(py)
            && let Some(tell) = take(&tell)
        {
            tell(sight);
        }
    }));
}

/// Finds out where a request is; `None` if it is over.
pub(crate) type Find = Box<dyn FnOnce(Python<'_>) -> Option<Sight> + Send>;

/// Tells whether this is the thread of the loop, whose kernel id is given.
pub(crate) fn is_main(tid: u32) -> bool {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs() == tid
}

/// Function, file, line and variables of calls, as Python tells them.
pub(crate) type Calls = Vec<(String, String, u32, Vec<(String, String)>)>;

/// Returns what was found out; an error goes to `sys.unraisablehook`.
pub(crate) fn said<T>(py: Python<'_>, asked: PyResult<T>) -> Option<T> {
    asked.inspect_err(|error| error.clone_ref(py).write_unraisable(py, None)).ok()
}

/// Asks on a thread that may wait for the interpreter; never waits.
pub(crate) fn ask(question: Question) {
    order(Order::Ask(question));
}

/// What is asked once the interpreter is there.
pub(crate) type Question = Box<dyn FnOnce(Python<'_>) + Send>;

/// The first who knows tells.
pub(crate) type Once = Arc<Mutex<Option<Tell>>>;

/// Takes what is to be called when something is known; `None` if somebody was first.
pub(crate) fn take(tell: &Once) -> Option<Tell> {
    tell.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Tells whether a thread still works on a request.
fn is_at(at: At) -> bool {
    GUARDS.get(at.thread).is_some_and(|guard| guard.request.load(SeqCst) == at.request)
}

/// Interrupts a thread, soon; never waits for the interpreter.
pub(crate) fn interrupt(late: At) {
    let Some(guard) = GUARDS.get(late.thread) else { return };
    guard.ordered.store(late.request, SeqCst);
    if late.thread == 0 {
        // A thread that has ended meanwhile needs no interrupt.
        let _ = signal_thread(late.tid, INTERRUPT);
    } else {
        order(Order::Strike(late.thread));
    }
}

/// The requests of tasks or greenlets that are to be interrupted where they hold the main thread, by the numbers of their
/// records.
static ORDERED: [AtomicU64; REQUESTS_MAX] = [const { AtomicU64::new(0) }; REQUESTS_MAX];

/// Takes such an order back; false if it has been carried out.
fn take_order(late: At) -> bool {
    let order = &ORDERED[late.thread % REQUESTS_MAX];
    order.compare_exchange(late.request, 0, SeqCst, SeqCst).is_ok()
}

/// Time that requests which were late because another held their loop get to end by themselves, once it is free.
const VICTIM_NS: u64 = 100_000_000;

/// Requests that were late while the loop they run in was held.
#[derive(Default)]
pub(crate) struct Victims(Mutex<Vec<Victim>>);

struct Victim {
    late: At,
    /// Since when its loop has been free; 0 if it has not.
    free_ns: u64,
}

impl Victims {
    /// Interrupts the main thread if it works on this very request; never waits for the interpreter.
    pub(crate) fn interrupt(&self, late: At) {
        ORDERED[late.thread % REQUESTS_MAX].store(late.request, SeqCst);
        self.lock().push(Victim { late, free_ns: 0 });
        // Its own thread: it is there.
        let _ = signal_thread(late.tid, INTERRUPT);
    }

    /// Takes those that held the loop not, and have not ended since it was free.
    pub(crate) fn left(&self) -> Vec<At> {
        let mut victims = self.lock();
        if victims.is_empty() {
            return Vec::new();
        }
        let now_ns = clock::now_ns();
        let mut left = Vec::new();
        victims.retain_mut(|victim| {
            if victim.free_ns == 0 {
                victim.free_ns = now_ns;
            }
            let is_young = now_ns - victim.free_ns < VICTIM_NS;
            if !is_young && take_order(victim.late) {
                left.push(victim.late);
            }
            is_young
        });
        left
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Victim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the application its last chance before the process ends: SIGABRT, whose handler calls `worker_abort`.
pub(crate) fn abort() {
    // To itself: cannot fail.
    let _ = kill_process(getpid(), Signal::ABORT);
}

/// Tells `ferricorn.server.Server.notify` that the worker stops, or that logs were rotated.
pub(crate) fn notify(server: &Py<PyAny>, stop: Stop) {
    let what = match stop {
        Stop::Interrupted => "interrupted",
        Stop::ReopenLogs => "reopen",
    };
    Python::attach(|py| {
        if let Err(error) = server.call1(py, (what,)) {
            error.write_unraisable(py, None);
        }
    });
}

fn order(order: Order) {
    static ATTENDANT: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let sender = ATTENDANT.get_or_init(|| Mutex::new(attendant()));
    // Only gone if it could not be started: the ladder then goes on without it.
    let _ = sender.lock().unwrap_or_else(PoisonError::into_inner).send(order);
}

/// Starts the thread that takes the interpreter to attend to others.
fn attendant() -> Sender<Order> {
    let (sender, orders) = channel();
    let body = move || {
        for order in orders {
            WAITING_NS.store(clock::now_ns(), SeqCst);
            match order {
                Order::Look(at, tell) => {
                    // Written without the interpreter.
                    if let Some(sight) = attached(|py| seen(py, at))
                        && let Some(tell) = take(&tell)
                    {
                        tell(sight);
                    }
                }
                Order::Ask(question) => attached(question),
                Order::Strike(thread) => attached(|py| strike(py, thread)),
            }
        }
    };
    drop(thread::Builder::new().name("ferricorn-attend".into()).spawn(body));
    sender
}

/// Since when the thread that attends to others waits for the interpreter; 0 while it does not.
static WAITING_NS: AtomicU64 = AtomicU64::new(0);
/// Computing threads hand the interpreter round every few milliseconds; who waits so long waits for one that does not.
const HELD_NS: u64 = 500_000_000;

/// Tells whether a thread has kept the interpreter from others for long.
pub(crate) fn is_held() -> bool {
    let since_ns = WAITING_NS.load(SeqCst);
    since_ns > 0 && clock::now_ns().saturating_sub(since_ns) > HELD_NS
}

/// Takes the interpreter for what the waiting is for.
fn attached<T>(body: impl FnOnce(Python<'_>) -> T) -> T {
    Python::attach(|py| {
        WAITING_NS.store(0, SeqCst);
        body(py)
    })
}

/// Where a thread is; `None` if it has moved on.
fn seen(py: Python<'_>, at: At) -> Option<Sight> {
    let guard = GUARDS.get(at.thread).filter(|_| is_at(at))?;
    let where_ = || py.import("ferricorn.where")?.call_method1("where", (guard.ident.load(SeqCst),));
    type Found = (Option<String>, Calls);
    let (route, frames) = match where_().and_then(|found| found.extract::<Found>()) {
        Ok(found) => found,
        Err(error) => {
            error.write_unraisable(py, None);
            return None;
        }
    };
    Some(Sight { source: Source::Interpreter, frames: frames_of(frames), executor: 0, route })
}

/// Turns calls as Python tells them into frames.
pub(crate) fn frames_of(calls: Calls) -> Vec<Frame> {
    calls
        .into_iter()
        .map(|(function, file, line, variables)| Frame {
            function,
            file,
            line,
            locals: variables.into_iter().collect(),
            ..Frame::default()
        })
        .collect()
}

fn strike(py: Python<'_>, thread: usize) {
    let guard = &GUARDS[thread];
    if !guard.is_meant() {
        return;
    }
    let class = match request_timeout(py) {
        Ok(class) => class,
        Err(error) => return error.write_unraisable(py, None),
    };
    guard.struck.store(guard.request.load(SeqCst), SeqCst);
    ffi::raise_in_thread(py, guard.ident.load(SeqCst), Some(&class));
}

fn request_timeout(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    Ok(py.import("ferricorn.timeouts")?.getattr("RequestTimeout")?.cast_into()?)
}

/// A request that a task or a greenlet works on: what `ferricorn.timeouts` asks where one thread has many of them. Whoever
/// copies the context of that code has it too; once the request is over it has no deadline.
#[pyclass(module = "ferricorn._native", name = "Request", frozen, freelist = 64)]
#[derive(Debug)]
pub(crate) struct Request {
    id: u64,
    number: usize,
    record: Option<&'static InFlight>,
}

impl Request {
    /// `number` is that of its record.
    pub(crate) fn new(id: u64, number: usize, record: Option<&'static InFlight>) -> Self {
        Self { id, number, record }
    }

    /// Tells whether it is not to be interrupted now.
    pub(crate) fn is_shielded(&self) -> bool {
        self.record().is_some_and(InFlight::is_shielded)
    }

    /// Its record, while the request is not over and the record therefore not another's.
    fn record(&self) -> Option<&'static InFlight> {
        self.record.filter(|record| record.is_of(self.id))
    }
}

#[pymethods]
impl Request {
    /// Its number, unique in its worker.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    /// Tells the handler of the interrupt signal whether this is the request that is meant.
    fn interrupted(&self) -> bool {
        let is_open = self.record().is_some_and(|record| !record.is_shielded());
        is_open && take_order(At { thread: self.number, tid: 0, request: self.id })
    }

    /// Returns the seconds until its deadline; `None` if it has none.
    fn deadline(&self) -> Option<f64> {
        left(self.record()?)
    }

    /// Moves its deadline; returns the seconds that are left.
    fn extend_deadline(&self, seconds: f64) -> PyResult<Option<f64>> {
        extend(self.record(), seconds)
    }

    /// Says how far it is, if it is a job; tells whether it is one.
    fn progress(&self, share: f64, note: &str) -> bool {
        self.record().is_some_and(|_| jobs::report(self.id, share, note))
    }

    /// Puts off interrupts of it, or (`false`) ends that.
    fn shield(&self, up: bool) {
        if let Some(record) = self.record() {
            record.shield(up);
        }
    }
}

/// Tells the handler of the interrupt signal, on the main thread, whether the request there is the one that is meant.
#[pyfunction]
pub(crate) fn interrupted() -> bool {
    let shielded = CURRENT.get().is_some_and(InFlight::is_shielded);
    !shielded && GUARDS[0].is_meant()
}

/// Returns the seconds until the deadline of the request that this thread works on; `None` if it has none.
#[pyfunction]
pub(crate) fn deadline() -> Option<f64> {
    left(CURRENT.get()?)
}

/// Moves the deadline of the request that this thread works on; returns the seconds that are left.
#[pyfunction]
pub(crate) fn extend_deadline(seconds: f64) -> PyResult<Option<f64>> {
    extend(CURRENT.get(), seconds)
}

/// Says how far the job is that this thread works on; tells whether it works on one.
#[pyfunction]
pub(crate) fn progress(share: f64, note: &str) -> bool {
    CURRENT.get().and_then(InFlight::number).is_some_and(|id| jobs::report(id, share, note))
}

fn left(record: &InFlight) -> Option<f64> {
    match record.deadline_ns() {
        0 => None,
        at_ns => Some((at_ns as f64 - clock::now_ns() as f64) / 1e9),
    }
}

fn extend(record: Option<&InFlight>, seconds: f64) -> PyResult<Option<f64>> {
    if !seconds.is_finite() || seconds < 0.0 {
        let message = format!("a deadline is extended by 0 seconds or more, not by {seconds}");
        return Err(pyo3::exceptions::PyValueError::new_err(message));
    }
    if let Some(record) = record
        && record.deadline_ns() > 0
    {
        // Ten years are as good as for ever.
        let more_ns = (seconds.min(3.2e8) * 1e9) as u64;
        record.set_deadline(record.deadline_ns() + more_ns);
    }
    Ok(record.and_then(left))
}

/// Puts off interrupts of the request that this thread works on, or (`false`) ends that.
#[pyfunction]
pub(crate) fn shield(up: bool) {
    if let Some(record) = CURRENT.get() {
        record.shield(up);
    }
}
