//! An ASGI application as the worker's [`Tasks`]: requests become tasks, news of connections reach their cycles.

use super::cycle::Cycle;
use super::driver::Driver;
use super::scope::Scopes;
use super::spawn::Spawn;
use super::websocket::WebSocket;
use crate::fnv::BuildFnv;
use crate::interrupt::{self, Calls, Victims, frames_of, is_main, said};
use crate::observe::Observer;
use crate::routes;
use ferricorn_core::evidence::Source;
use ferricorn_sys::clock;
use ferricorn_worker::websocket::{Handshake, Policy};
use ferricorn_worker::{At, Conn, Heard, Interpreter, Nested, Sight, Stop, Tasks, Tell, TellHeld};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Everything an ASGI application needs, made once per worker.
pub(crate) struct AsgiParts {
    /// `ferricorn.asgi.Loop` of this worker, whose lifespan has started.
    pub(crate) event_loop: Py<PyAny>,
    /// SERVER_NAME and SERVER_PORT of each listener.
    pub(crate) names: Vec<(String, String)>,
    /// The error log (`gunicorn.glogging.Logger`'s interface).
    pub(crate) log: Py<PyAny>,
    /// Told of INT, QUIT and USR1: `notify(what)`.
    pub(crate) notify: Py<PyAny>,
    /// Who is told of each request.
    pub(crate) observer: Option<Observer>,
    /// How long a task may go on without its client; `None` for any time.
    pub(crate) grace_ns: Option<u64>,
}

/// An ASGI application.
pub(crate) struct Asgi {
    pub(super) parts: AsgiParts,
    pub(super) scopes: Scopes,
    /// `Loop.respond(scope, cycle)`: makes the coroutine.
    respond: Py<PyAny>,
    spawn: Spawn,
    /// The context of the worker's own calls in the loop, which every task begins with a copy of.
    context: Py<PyDict>,
    create_future: Py<PyAny>,
    call_later: Py<PyAny>,
    call_soon: Py<PyAny>,
    this: OnceLock<Weak<Self>>,
    worker: OnceLock<Arc<Nested<Self>>>,
    turn: OnceLock<Py<PyAny>>,
    tend: OnceLock<Py<PyAny>>,
    /// The worker's loop has ended.
    ended: AtomicBool,
    /// A turn has been asked for, or is being made.
    soon: AtomicBool,
    victims: Victims,
    table: Mutex<Table>,
}

/// Which requests there are. Used by the main thread, but for looks of others that hold the interpreter.
#[derive(Default)]
struct Table {
    /// By the number of the request; also those that have answered and work on.
    running: HashMap<u64, Py<Cycle>, BuildFnv>,
    /// The number of the request that has the connection, by its place.
    places: Vec<u64>,
    #[expect(clippy::vec_box, reason = "a connection stays where it is; only its box changes hands")]
    finished: Vec<Box<Conn>>,
    /// Those with bytes to be sent at the end of this round of the loop.
    dirty: Vec<Py<Cycle>>,
    /// WebSockets to be looked after, by the numbers of their requests.
    sockets: Vec<u64>,
}

/// How often WebSockets are looked after.
const TEND_S: f64 = 1.0;

impl Asgi {
    pub(crate) fn new(py: Python<'_>, parts: AsgiParts) -> PyResult<Self> {
        routes::prepare(py, "asgi")?;
        let event_loop = parts.event_loop.bind(py);
        let asyncio = event_loop.getattr("loop")?;
        let scopes = Scopes::new(py, event_loop, &parts.names)?;
        let context = PyDict::new(py);
        context.set_item("context", py.import("contextvars")?.call_method0("copy_context")?)?;
        Ok(Self {
            respond: event_loop.getattr("respond")?.unbind(),
            create_future: asyncio.getattr("create_future")?.unbind(),
            call_later: asyncio.getattr("call_later")?.unbind(),
            call_soon: asyncio.getattr("call_soon")?.unbind(),
            spawn: Spawn::new(&asyncio)?,
            context: context.unbind(),
            scopes,
            this: OnceLock::new(),
            worker: OnceLock::new(),
            turn: OnceLock::new(),
            tend: OnceLock::new(),
            ended: AtomicBool::new(false),
            soon: AtomicBool::new(false),
            victims: Victims::default(),
            table: Mutex::default(),
            parts,
        })
    }

    /// Says by what asyncio turns the worker's loop.
    pub(super) fn drive(
        self: &Arc<Self>,
        py: Python<'_>,
        worker: Arc<Nested<Self>>,
        driver: &Py<Driver>,
    ) -> PyResult<()> {
        // All are set once, before the first turn.
        let _ = self.this.set(Arc::downgrade(self));
        let _ = self.worker.set(worker);
        let _ = self.turn.set(driver.getattr(py, "turn")?);
        let _ = self.tend.set(driver.getattr(py, "tend")?);
        Ok(())
    }

    pub(super) fn worker(&self) -> Option<&Arc<Nested<Self>>> {
        self.worker.get()
    }

    pub(super) fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.create_future.bind(py).call0()
    }

    /// Has `call(number)` called later, unless the handle that is returned is cancelled.
    pub(super) fn later(
        &self,
        py: Python<'_>,
        ns: u64,
        call: Bound<'_, PyAny>,
        number: u64,
    ) -> PyResult<Py<PyAny>> {
        self.call_later.call(py, (ns as f64 / 1e9, call, number), Some(self.context.bind(py)))
    }

    fn start(self: &Arc<Self>, py: Python<'_>, conn: Box<Conn>) -> PyResult<()> {
        let (id, place) = (conn.id, conn.place() as usize);
        let Some(worker) = self.worker() else { return Ok(()) };
        let handshake = match Handshake::read(&conn.head, Some(&Policy::default())) {
            Ok(handshake) => handshake,
            Err(refusal) => {
                let mut conn = conn;
                worker.refuse(&mut conn, &refusal);
                conn.stamps.done_ns = clock::now_ns();
                self.give_back(conn);
                return Ok(());
            }
        };
        let scope = match self.scopes.of(py, &conn, handshake.as_ref(), &worker.options().trusts) {
            Ok(scope) => scope,
            Err(error) => {
                self.give_back(Cycle::fail(py, self, conn, &error));
                return Ok(());
            }
        };
        let observed = match self.observed(py, &scope, &conn) {
            Ok(observed) => observed,
            Err(error) => {
                self.give_back(Cycle::fail(py, self, conn, &error));
                return Ok(());
            }
        };
        let ws = handshake.map(|handshake| Box::new(WebSocket::new(handshake)));
        let cycle = Bound::new(py, Cycle::new(self.clone(), conn, scope.clone().unbind(), ws, observed))?;
        {
            let mut table = self.table();
            if table.places.len() <= place {
                table.places.resize(place + 1, 0);
            }
            table.places[place] = id;
            table.running.insert(id, cycle.clone().unbind());
        }
        let coroutine = self.respond.bind(py).call1((scope, &cycle))?;
        let spawned = self.spawn.task(py, coroutine)?;
        cycle.try_borrow_mut()?.runs_in(spawned.task.clone().unbind());
        spawned.begin()?;
        Cycle::has_begun(&cycle)
    }

    /// Tells those of a request who want to know; returns what they know it by.
    fn observed(
        &self,
        py: Python<'_>,
        scope: &Bound<'_, PyDict>,
        conn: &Conn,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Some(observer) = &self.parts.observer else { return Ok(None) };
        let environ = py.import("ferricorn.asgi")?.call_method1("environ_of", (scope,))?;
        Ok(Some(observer.begin(py, environ.cast()?, conn)?.unbind()))
    }

    /// Takes a connection back whose request is over.
    pub(super) fn give_back(&self, conn: Box<Conn>) {
        self.table().finished.push(conn);
        self.turn_soon();
    }

    /// Forgets a request whose task is over.
    pub(super) fn forget(&self, id: u64) {
        let gone = self.table().running.remove(&id);
        // Outside: what it drops may be the application's.
        drop(gone);
    }

    /// Has a cycle's bytes sent at the end of this round of the loop.
    pub(super) fn is_dirty(&self, cycle: Py<Cycle>) {
        self.table().dirty.push(cycle);
        self.turn_soon();
    }

    /// Looks after a WebSocket from now on.
    pub(super) fn watch_over(&self, py: Python<'_>, id: u64) {
        let mut table = self.table();
        table.sockets.push(id);
        if table.sockets.len() == 1 {
            drop(table);
            self.tend_later(py);
        }
    }

    /// Pings clients, gives up those that are lost, and forgets WebSockets that are over.
    pub(super) fn tend(&self, py: Python<'_>) {
        let sockets = mem::take(&mut self.table().sockets);
        let now_ns = clock::now_ns();
        let mut left = Vec::with_capacity(sockets.len());
        for id in sockets {
            let Some(cycle) = self.cycle(py, id) else { continue };
            if let Ok(mut cycle) = cycle.try_borrow_mut(py) {
                cycle.tend(py, now_ns);
            }
            left.push(id);
        }
        let mut table = self.table();
        left.append(&mut table.sockets);
        table.sockets = left;
        if !table.sockets.is_empty() {
            drop(table);
            self.tend_later(py);
        }
    }

    fn tend_later(&self, py: Python<'_>) {
        let asked = self.tend.get().map(|tend| {
            let context = self.context.bind(py);
            self.call_later.call(py, (TEND_S, tend), Some(context))
        });
        if let Some(Err(error)) = asked {
            error.write_unraisable(py, None);
        }
    }

    fn cycle(&self, py: Python<'_>, id: u64) -> Option<Py<Cycle>> {
        self.table().running.get(&id).map(|cycle| cycle.clone_ref(py))
    }

    fn cycles(&self, py: Python<'_>) -> Vec<Py<Cycle>> {
        self.table().running.values().map(|cycle| cycle.clone_ref(py)).collect()
    }

    /// The tasks of requests, also of those that have answered. Who is late is cancelled now, if it was not before.
    pub(super) fn last_tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let last = |cycle: &Py<Cycle>| {
            let cycle = cycle.try_borrow(py).ok()?;
            let task = cycle.task(py)?;
            if cycle.is_late() && !cycle.is_shielded() {
                cancel(py, &task);
            }
            Some(task)
        };
        self.cycles(py).iter().filter_map(last).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the worker's loop has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Says that a turn is being made, which needs no other, or has been.
    pub(super) fn turns(&self, now: bool) {
        self.soon.store(now, Relaxed);
        for late in self.victims.left() {
            self.interrupt(late);
        }
    }
}

impl Asgi {
    /// Where a request is; `None` if it is over.
    fn seen(&self, py: Python<'_>, at: At) -> Option<Sight> {
        let cycle = self.cycle(py, at.request)?;
        let (task, scope) = cycle.try_borrow(py).ok()?.work(py)?;
        let event_loop = self.parts.event_loop.bind(py);
        let asked = || {
            let args = (event_loop.getattr("loop")?, event_loop.getattr("ident")?, task, scope);
            py.import("ferricorn.tasks")?
                .call_method1("of_request", args)?
                .extract::<(Option<String>, Calls, u32)>()
        };
        let (route, calls, executor) = said(py, asked())?;
        Some(Sight { source: Source::Task, frames: frames_of(calls), executor, route })
    }

    /// What holds the loop.
    fn holder(&self, py: Python<'_>) -> Option<(u64, Sight)> {
        let cycles: Vec<(u64, Py<Cycle>)> =
            self.table().running.iter().map(|(id, cycle)| (*id, cycle.clone_ref(py))).collect();
        let requests: Vec<_> = cycles
            .iter()
            .filter_map(|(id, cycle)| {
                cycle.try_borrow(py).ok()?.work(py).map(|(task, scope)| (*id, task, scope))
            })
            .collect();
        let event_loop = self.parts.event_loop.bind(py);
        let asked = || {
            let args = (event_loop.getattr("loop")?, event_loop.getattr("ident")?, requests);
            let found = py.import("ferricorn.tasks")?.call_method1("of_loop", args)?;
            found.extract::<(u64, Option<String>, Calls)>()
        };
        let (id, route, calls) = said(py, asked())?;
        Some((id, Sight { source: Source::Interpreter, frames: frames_of(calls), executor: 0, route }))
    }
}

fn cancel(py: Python<'_>, task: &Py<PyAny>) {
    if let Err(error) = task.call_method0(py, intern!(py, "cancel")) {
        error.write_unraisable(py, None);
    }
}

impl Interpreter for Asgi {
    fn wait<R: Send>(&self, blocking: impl FnOnce() -> R + Send) -> R {
        Python::attach(|py| py.detach(blocking))
    }

    fn look(&self, at: At, over: bool, tell: Tell) {
        if let Some(this) = self.this.get().and_then(Weak::upgrade) {
            interrupt::look_within(at, over, tell, Box::new(move |py| this.seen(py, at)));
        }
    }

    fn is_held(&self) -> bool {
        interrupt::is_held()
    }

    fn interrupt(&self, late: At) {
        if !is_main(late.tid) {
            // The loop is blocked: by this request, or by another, which then is not hit.
            return self.victims.interrupt(late);
        }
        Python::attach(|py| {
            let Some(cycle) = self.cycle(py, late.request) else { return };
            let task = cycle.try_borrow(py).ok().filter(|cycle| !cycle.is_shielded());
            let task = task.and_then(|cycle| cycle.task(py));
            if let Some(task) = task {
                cancel(py, &task);
            }
        });
    }

    fn abort(&self) {
        interrupt::abort();
    }

    fn notify(&self, stop: Stop) {
        interrupt::notify(&self.parts.notify, stop);
    }
}

impl Tasks for Asgi {
    fn begin(self: &Arc<Self>, conn: Box<Conn>) {
        Python::attach(|py| {
            if let Err(error) = self.start(py, conn) {
                error.write_unraisable(py, None);
            }
        });
    }

    fn heard(&self, token: u64, what: Heard) {
        Python::attach(|py| {
            let id = self.table().places.get(token as u32 as usize).copied().unwrap_or(0);
            let Some(cycle) = self.cycle(py, id) else { return };
            if let Err(error) = Cycle::heard(cycle.bind(py), token, what) {
                error.write_unraisable(py, None);
            };
        });
    }

    fn look_at_loop(self: &Arc<Self>, tell: TellHeld) {
        let this = self.clone();
        interrupt::ask(Box::new(move |py| {
            if let Some((id, sight)) = this.holder(py) {
                tell(id, sight);
            }
        }));
    }

    fn finished(&self, into: &mut Vec<Box<Conn>>) {
        let dirty = {
            let mut table = self.table();
            into.append(&mut table.finished);
            mem::take(&mut table.dirty)
        };
        if !dirty.is_empty() {
            Python::attach(|py| {
                for cycle in dirty {
                    if let Ok(mut cycle) = cycle.try_borrow_mut(py) {
                        cycle.flush(py);
                    }
                }
            });
        }
    }

    fn drain(&self) {
        Python::attach(|py| {
            if let Err(error) = self.parts.event_loop.call_method0(py, "drain") {
                error.write_unraisable(py, None);
            }
            for cycle in self.cycles(py) {
                if let Err(error) = Cycle::drain(cycle.bind(py)) {
                    error.write_unraisable(py, None);
                }
            }
        });
    }

    fn end(&self, quick: bool) {
        self.ended.store(true, Relaxed);
        Python::attach(|py| {
            if let Err(error) = self.parts.event_loop.call_method1(py, "stop", (quick,)) {
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
            if let Err(error) = self.call_soon.call(py, (turn,), Some(self.context.bind(py))) {
                error.write_unraisable(py, None);
            }
        });
    }
}
