//! A WSGI application as the worker's [`Tasks`]: requests become greenlets, and news of connections reach those that wait
//! for their clients.

use super::driver::HubDriver;
use crate::fnv::BuildFnv;
use crate::interrupt::{self, Calls, Request, Victims, frames_of, is_main, said};
use crate::wsgi::{Room, Seat, Wsgi};
use ferricorn_core::evidence::Source;
use ferricorn_worker::{At, Conn, Heard, Interpreter, Nested, Sight, Stop, Tasks, Tell, TellHeld};
use pyo3::intern;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// A WSGI application whose requests run in greenlets.
pub(crate) struct Green {
    wsgi: Wsgi,
    /// `ferricorn.greenlets.Hub` of this worker.
    hub: Py<PyAny>,
    this: OnceLock<Weak<Self>>,
    worker: OnceLock<Arc<Nested<Self>>>,
    turn: OnceLock<Py<PyAny>>,
    /// A turn has been asked for.
    soon: AtomicBool,
    victims: Victims,
    table: Mutex<Table>,
}

/// Which requests there are. Used by the main thread, but for looks of others that hold the interpreter; never held while
/// greenlets may switch.
#[derive(Default)]
struct Table {
    /// Greenlets by the number of the request.
    running: HashMap<u64, Running, BuildFnv>,
    /// Connections of requests whose greenlets have not begun.
    waiting: HashMap<u64, Box<Conn>, BuildFnv>,
    #[expect(clippy::vec_box, reason = "a connection stays where it is; only its box changes hands")]
    finished: Vec<Box<Conn>>,
    /// Who waits for a client to read, by what the loop calls the connection.
    rooms: HashMap<u64, Waiter, BuildFnv>,
}

/// A greenlet, and the request as its code knows it.
struct Running {
    greenlet: Py<PyAny>,
    request: Py<Request>,
}

/// A greenlet that waits for its client.
struct Waiter {
    /// Wakes it (`gevent.event.Event`).
    event: Py<PyAny>,
    heard: Vec<Heard>,
}

impl Green {
    pub(crate) fn new(wsgi: Wsgi, hub: Py<PyAny>) -> Self {
        Self {
            wsgi,
            hub,
            this: OnceLock::new(),
            worker: OnceLock::new(),
            turn: OnceLock::new(),
            soon: AtomicBool::new(false),
            victims: Victims::default(),
            table: Mutex::default(),
        }
    }

    /// Says by what gevent turns the worker's loop.
    pub(super) fn drive(
        self: &Arc<Self>,
        py: Python<'_>,
        worker: Arc<Nested<Self>>,
        driver: &Py<HubDriver>,
    ) -> PyResult<()> {
        // All are set once, before the first turn.
        let _ = self.this.set(Arc::downgrade(self));
        let _ = self.worker.set(worker);
        let _ = self.turn.set(driver.getattr(py, "turn")?);
        Ok(())
    }

    /// Says that a turn is being made.
    pub(super) fn turns(&self) {
        self.soon.store(false, Relaxed);
        for late in self.victims.left() {
            self.interrupt(late);
        }
    }

    /// Works on a request whose greenlet has begun.
    pub(super) fn serve(self: &Arc<Self>, py: Python<'_>, number: u64) {
        let Some(mut conn) = self.table().waiting.remove(&number) else { return };
        if conn.is_late() {
            // The hub was held until its deadline, and it was answered before it began.
            conn.response.abort();
        } else {
            conn = self.wsgi.handle(py, conn, Seat::Greenlet(self.clone()));
        }
        conn.conclude();
        let greenlet = {
            let mut table = self.table();
            table.finished.push(conn);
            table.running.remove(&number)
        };
        drop(greenlet);
        self.turn_soon();
    }

    /// The greenlets of requests.
    pub(super) fn greenlets(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.table().running.values().map(|running| running.greenlet.clone_ref(py)).collect()
    }

    fn greenlet(&self, py: Python<'_>, number: u64) -> Option<Py<PyAny>> {
        self.table().running.get(&number).map(|running| running.greenlet.clone_ref(py))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a request is; `None` if it is over.
    fn seen(&self, py: Python<'_>, at: At) -> Option<Sight> {
        let greenlet = self.greenlet(py, at.request)?;
        let asked = self.hub.bind(py).call_method1("of_request", (greenlet,));
        let (route, calls) = said(py, asked.and_then(|found| found.extract::<(Option<String>, Calls)>()))?;
        Some(Sight { source: Source::Task, frames: frames_of(calls), executor: 0, route })
    }

    /// What holds the hub.
    fn holder(&self, py: Python<'_>) -> Option<(u64, Sight)> {
        let greenlets: Vec<(u64, Py<PyAny>)> = self
            .table()
            .running
            .iter()
            .map(|(number, running)| (*number, running.greenlet.clone_ref(py)))
            .collect();
        let asked = self.hub.bind(py).call_method1("of_hub", (greenlets,));
        type Found = (u64, Option<String>, Calls);
        let (number, route, calls) = said(py, asked.and_then(|found| found.extract::<Found>()))?;
        Some((number, Sight { source: Source::Interpreter, frames: frames_of(calls), executor: 0, route }))
    }

    fn begin_greenlet(&self, py: Python<'_>, conn: Box<Conn>) -> PyResult<()> {
        let number = conn.id;
        let request = Py::new(py, Request::new(number, conn.number(), conn.record))?;
        self.table().waiting.insert(number, conn);
        let greenlet = self.hub.bind(py).call_method1(intern!(py, "spawn"), (number, &request))?;
        self.table().running.insert(number, Running { greenlet: greenlet.unbind(), request });
        Ok(())
    }
}

impl Room for Green {
    fn wait(&self, py: Python<'_>, conn: &mut Conn, limit_ns: u64) -> PyResult<bool> {
        let token = conn.token();
        let event = self.hub.bind(py).call_method0(intern!(py, "event"))?;
        let waiter = Waiter { event: event.clone().unbind(), heard: Vec::new() };
        self.table().rooms.insert(token, waiter);
        let seconds = (limit_ns > 0).then(|| limit_ns as f64 / 1e9);
        let woken = event.call_method1(intern!(py, "wait"), (seconds,));
        let waiter = self.table().rooms.remove(&token);
        for what in waiter.iter().flat_map(|waiter| &waiter.heard) {
            conn.hear(*what);
        }
        if let Some(worker) = self.worker.get() {
            worker.progressed(conn);
        }
        woken?.is_truthy()
    }
}

impl Interpreter for Green {
    fn wait<R: Send>(&self, blocking: impl FnOnce() -> R + Send) -> R {
        self.wsgi.wait(blocking)
    }

    fn look(&self, at: At, over: bool, tell: Tell) {
        if let Some(this) = self.this.get().and_then(Weak::upgrade) {
            interrupt::look_within(at, over, tell, Box::new(move |py| this.seen(py, at)));
        }
    }

    fn is_held(&self) -> bool {
        self.wsgi.is_held()
    }

    fn interrupt(&self, late: At) {
        if !is_main(late.tid) {
            // The hub is blocked: by this request, or by another, which then is not hit.
            return self.victims.interrupt(late);
        }
        Python::attach(|py| {
            let greenlet = {
                let table = self.table();
                // One that has not begun sees by itself that it is late.
                let begun = !table.waiting.contains_key(&late.request);
                let running = table.running.get(&late.request).filter(|_| begun);
                running
                    .filter(|running| !running.request.get().is_shielded())
                    .map(|running| running.greenlet.clone_ref(py))
            };
            let Some(greenlet) = greenlet else { return };
            if let Err(error) = self.hub.call_method1(py, intern!(py, "kill"), (greenlet,)) {
                error.write_unraisable(py, None);
            }
        });
    }

    fn abort(&self) {
        self.wsgi.abort();
    }

    fn notify(&self, stop: Stop) {
        self.wsgi.notify(stop);
    }
}

impl Tasks for Green {
    fn begin(self: &Arc<Self>, conn: Box<Conn>) {
        Python::attach(|py| {
            if let Err(error) = self.begin_greenlet(py, conn) {
                error.write_unraisable(py, None);
            }
        });
    }

    fn heard(&self, token: u64, what: Heard) {
        Python::attach(|py| {
            let event = {
                let mut table = self.table();
                let Some(waiter) = table.rooms.get_mut(&token) else { return };
                waiter.heard.push(what);
                waiter.event.clone_ref(py)
            };
            if let Err(error) = event.call_method0(py, intern!(py, "set")) {
                error.write_unraisable(py, None);
            }
        });
    }

    fn look_at_loop(self: &Arc<Self>, tell: TellHeld) {
        let this = self.clone();
        interrupt::ask(Box::new(move |py| {
            if let Some((number, sight)) = this.holder(py) {
                tell(number, sight);
            }
        }));
    }

    fn finished(&self, into: &mut Vec<Box<Conn>>) {
        into.append(&mut self.table().finished);
    }

    fn drain(&self) {
        // Nobody has anything to say to its client but the response.
    }

    fn end(&self, _quick: bool) {
        Python::attach(|py| {
            if let Err(error) = self.hub.call_method0(py, "stop") {
                error.write_unraisable(py, None);
            }
        });
    }

    fn turn_soon(&self) {
        if self.soon.swap(true, Relaxed) {
            return;
        }
        Python::attach(|py| {
            let Some(turn) = self.turn.get() else { return };
            if let Err(error) = self.hub.call_method1(py, intern!(py, "call_soon"), (turn,)) {
                error.write_unraisable(py, None);
            }
        });
    }
}
