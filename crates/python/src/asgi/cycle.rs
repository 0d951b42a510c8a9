//! One request with its `receive` and `send`: it owns the connection until the response is complete, and lives as long as
//! the task does.

use super::app::Asgi;
use super::awaitable::Exchange;
use super::http;
use super::websocket::{self, WebSocket};
use crate::interrupt::Request;
use crate::wsgi::{log_failure, replace};
use ferricorn_core::scoreboard::InFlight;
use ferricorn_sys::clock;
use ferricorn_worker::http::refusal::Refusal;
use ferricorn_worker::{Conn, Heard, Options, Piece};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::sync::Arc;

/// Bytes that may wait in memory before the application waits for its client.
const UNSENT_MAX: usize = 64 << 10;
/// Bytes unsent at which it goes on.
const UNSENT_LOW: usize = 16 << 10;

/// How long a stream of events may go on when its worker is to end, where no other time is set.
const EVENTS_NS: u64 = 3_000_000_000;

/// What one step of `receive` or `send` has come to.
pub(super) enum Step<'py> {
    /// It is over; `None` for Python's `None`.
    Done(Option<Bound<'py, PyAny>>),
    /// This future is to be waited for first.
    Wait(Bound<'py, PyAny>),
}

/// How far the response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// `http.response.start` is expected.
    Start,
    /// `http.response.body` is.
    Body,
    /// Complete.
    Over,
    /// Nobody is there to hear it.
    Lost,
}

/// A request that a task works on.
#[pyclass(module = "ferricorn._native", name = "Cycle")]
pub(crate) struct Cycle {
    pub(super) app: Arc<Asgi>,
    /// Until the response is complete.
    pub(super) conn: Option<Box<Conn>>,
    id: u64,
    token: u64,
    pub(super) stage: Stage,
    /// Of a request for a WebSocket.
    pub(super) ws: Option<Box<WebSocket>>,
    /// Trailers were promised.
    pub(super) trailers: bool,
    /// The response is a stream of events, which never ends by itself.
    pub(super) is_events: bool,
    /// That stream is to end, because its worker does.
    pub(super) is_to_end: bool,
    /// The whole body has been given to the application.
    body_given: bool,
    dirty: bool,
    /// The task is in its first step.
    is_fresh: bool,
    /// Until the task is over.
    pub(super) scope: Option<Py<PyDict>>,
    task: Option<Py<PyAny>>,
    /// What hooks and loggers know the request by, until the response is complete.
    observed: Option<Py<PyAny>>,
    /// The client has left, and the task has been given its time.
    pub(super) is_given_up: bool,
    receivers: Vec<Py<PyAny>>,
    senders: Vec<Py<PyAny>>,
    /// Ends the patience with a client that is waited for.
    timer: Option<Py<PyAny>>,
    waits: u64,
}

impl Cycle {
    pub(super) fn new(
        app: Arc<Asgi>,
        conn: Box<Conn>,
        scope: Py<PyDict>,
        ws: Option<Box<WebSocket>>,
        observed: Option<Py<PyAny>>,
    ) -> Self {
        let (id, token) = (conn.id, conn.token());
        Self {
            app,
            conn: Some(conn),
            id,
            token,
            stage: Stage::Start,
            ws,
            trailers: false,
            is_events: false,
            is_to_end: false,
            body_given: false,
            dirty: false,
            is_fresh: true,
            scope: Some(scope),
            task: None,
            observed,
            is_given_up: false,
            receivers: Vec::new(),
            senders: Vec::new(),
            timer: None,
            waits: 0,
        }
    }

    /// Answers 500 to a request that does not get as far as a task.
    pub(super) fn fail(py: Python<'_>, app: &Asgi, mut conn: Box<Conn>, error: &PyErr) -> Box<Conn> {
        log_failure(py, &app.parts.log, &conn, Some(error), "");
        replace(&mut conn, "");
        conn.stamps.done_ns = clock::now_ns();
        conn
    }

    pub(super) fn runs_in(&mut self, task: Py<PyAny>) {
        self.task = Some(task);
    }

    pub(super) fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task.as_ref().map(|task| task.clone_ref(py))
    }

    /// Tells whether it was answered in its place.
    pub(super) fn is_late(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| conn.is_late())
    }

    /// Tells whether it is not to be interrupted now.
    pub(super) fn is_shielded(&self) -> bool {
        self.conn.as_ref().and_then(|conn| conn.record).is_some_and(InFlight::is_shielded)
    }

    /// Returns the task and the scope, while the task is not over.
    pub(super) fn work(&self, py: Python<'_>) -> Option<(Py<PyAny>, Py<PyDict>)> {
        Some((self.task(py)?, self.scope.as_ref()?.clone_ref(py)))
    }

    // ---- receive ----

    pub(super) fn receive_step<'py>(slf: &Bound<'py, Self>) -> PyResult<Step<'py>> {
        let py = slf.py();
        let mut this = slf.try_borrow_mut()?;
        if let Some(message) = this.next_message(py)? {
            return Ok(Step::Done(Some(message.into_any())));
        }
        let future = this.app.future(py)?;
        this.receivers.push(future.clone().unbind());
        if this.ws.is_none() && !this.body_given {
            let (limit_ns, _) = this.limits();
            this.be_patient(slf, limit_ns)?;
        }
        Ok(Step::Wait(future))
    }

    fn next_message<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.ws.is_some() {
            return websocket::next_message(self, py);
        }
        let app = self.app.clone();
        let (Some(conn), Some(worker)) = (&mut self.conn, app.worker()) else {
            return disconnect(py).map(Some);
        };
        if conn.is_late() || self.is_to_end {
            return disconnect(py).map(Some);
        }
        if self.body_given {
            return if conn.has_left() { disconnect(py).map(Some) } else { Ok(None) };
        }
        match conn.piece(worker.options()) {
            Ok(Piece::Data { bytes, more }) => {
                self.body_given = !more;
                worker.progressed(conn);
                let message = PyDict::new(py);
                message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
                message.set_item(intern!(py, "body"), PyBytes::new(py, &bytes))?;
                message.set_item(intern!(py, "more_body"), more)?;
                Ok(Some(message))
            }
            Ok(Piece::Wait) => {
                conn.greet();
                if conn.pending() > 0 {
                    let _ = conn.send();
                }
                conn.waits_for_client();
                Ok(None)
            }
            Ok(Piece::Gone) => disconnect(py).map(Some),
            Err(refusal) => {
                worker.refuse(conn, &refusal);
                self.lose();
                disconnect(py).map(Some)
            }
        }
    }

    // ---- send ----

    /// `message` is `None` where it has been taken and room is waited for.
    pub(super) fn send_step<'py>(slf: &Bound<'py, Self>, message: Option<Py<PyAny>>) -> PyResult<Step<'py>> {
        let py = slf.py();
        let waited = message.is_none();
        if let Some(message) = message {
            let message = message.bind(py).cast::<PyDict>()?;
            let this = &mut *slf.try_borrow_mut()?;
            if this.ws.is_some() { websocket::send(this, message)? } else { http::send(this, message)? }
        }
        let mut this = slf.try_borrow_mut()?;
        let this = &mut *this;
        let Some(conn) = &mut this.conn else { return Ok(Step::Done(None)) };
        let limit = if waited { UNSENT_LOW } else { UNSENT_MAX };
        if conn.pending() > limit {
            let _ = conn.send();
        }
        if let (Some(worker), None) = (this.app.worker(), &this.ws) {
            worker.progressed(conn);
        }
        if conn.pending() <= limit {
            this.gathers(slf);
            return Ok(Step::Done(None));
        }
        if this.ws.is_none() {
            conn.waits_for_client();
        }
        let future = this.app.future(py)?;
        this.senders.push(future.clone().unbind());
        let (_, limit_ns) = this.limits();
        this.be_patient(slf, limit_ns)?;
        Ok(Step::Wait(future))
    }

    /// The first step of the task is over; what it has sent goes out soon.
    pub(super) fn has_begun(slf: &Bound<'_, Self>) -> PyResult<()> {
        let mut this = slf.try_borrow_mut()?;
        this.is_fresh = false;
        if this.stage == Stage::Body {
            this.gathers(slf);
        }
        Ok(())
    }

    /// Has what was sent go out at the end of this round of the loop, unless the first step may still complete it.
    fn gathers(&mut self, slf: &Bound<'_, Self>) {
        if self.conn.is_some() && !self.dirty && !self.is_fresh {
            self.dirty = true;
            self.app.is_dirty(slf.clone().unbind());
        }
    }

    /// Sends what has gathered.
    pub(super) fn flush(&mut self, py: Python<'_>) {
        self.dirty = false;
        if let Some(conn) = &mut self.conn {
            if self.stage == Stage::Body && self.ws.is_none() && !conn.response.has_head() {
                conn.write_head(None);
            }
            let _ = conn.send();
            if conn.is_gone() {
                self.wake(py);
            }
        }
    }

    /// Ends the response: the connection goes back to the worker's loop.
    pub(super) fn over(&mut self) {
        let is_its_own = self.stage != Stage::Start;
        self.stage = Stage::Over;
        if let Some(mut conn) = self.conn.take() {
            conn.stamps.done_ns = clock::now_ns();
            conn.conclude();
            if let (Some(observer), Some(observed)) = (&self.app.parts.observer, self.observed.take()) {
                Python::attach(|py| {
                    let line = is_its_own
                        .then(|| PyString::new(py, &conn.response.status.to_string()).into_any().unbind());
                    match observer.end(py, &observed, line, &conn) {
                        Ok(logged) => conn.logged = logged,
                        Err(error) => log_failure(py, &self.app.parts.log, &conn, Some(&error), ""),
                    }
                });
            }
            self.app.give_back(conn);
        }
        if self.ws.is_some() && self.scope.is_none() {
            self.app.forget(self.id);
        }
    }

    /// The same where it is not complete.
    fn lose(&mut self) {
        self.over();
        self.stage = Stage::Lost;
    }

    // ---- The client ----

    /// Acts on what the loop has heard of the connection.
    pub(super) fn heard(slf: &Bound<'_, Self>, token: u64, what: Heard) -> PyResult<()> {
        let py = slf.py();
        let this = &mut *slf.try_borrow_mut()?;
        let Some(conn) = this.conn.as_mut().filter(|_| token == this.token) else { return Ok(()) };
        conn.hear(what);
        if conn.pending() > 0 {
            let _ = conn.send();
        }
        let (room, left) = (conn.pending() <= UNSENT_LOW || conn.is_gone(), conn.has_left());
        if room {
            wake(py, &mut this.senders);
        }
        if this.ws.as_ref().is_some_and(|ws| ws.is_accepted()) {
            websocket::pump(this);
            this.wake(py);
        } else {
            if !this.body_given || left {
                wake(py, &mut this.receivers);
            }
            if this.senders.is_empty() && this.receivers.is_empty() {
                this.be_calm(py);
            }
        }
        match this.app.parts.grace_ns {
            Some(grace_ns) if left => this.wind_up(slf, grace_ns),
            _ => Ok(()),
        }
    }

    /// Gives the task a last time, once.
    fn wind_up(&mut self, slf: &Bound<'_, Self>, grace_ns: u64) -> PyResult<()> {
        if !std::mem::replace(&mut self.is_given_up, true) {
            let call = slf.getattr(intern!(slf.py(), "_give_up"))?;
            // Whoever is done by then is not hit.
            self.app.later(slf.py(), grace_ns, call, self.id)?;
        }
        Ok(())
    }

    /// Wakes everybody who waits for the client.
    pub(super) fn wake(&mut self, py: Python<'_>) {
        wake(py, &mut self.senders);
        wake(py, &mut self.receivers);
        self.be_calm(py);
    }

    /// Hears that the worker is to end: a WebSocket is closed, a stream of events told to end as if its client had left.
    pub(super) fn drain(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = &mut *slf.try_borrow_mut()?;
        if this.ws.is_some() {
            websocket::drain(this, slf.py());
        } else if this.is_events && this.stage == Stage::Body {
            this.is_to_end = true;
            wake(slf.py(), &mut this.receivers);
            this.wind_up(slf, this.app.parts.grace_ns.unwrap_or(EVENTS_NS))?;
        }
        Ok(())
    }

    /// Does for a WebSocket what time asks for.
    pub(super) fn tend(&mut self, py: Python<'_>, now_ns: u64) {
        websocket::tend(self, py, now_ns);
    }

    /// Has a WebSocket looked after from now on.
    pub(super) fn watch_over(&self, py: Python<'_>) {
        self.app.watch_over(py, self.id);
    }

    pub(super) fn options(&self) -> Option<&Options> {
        self.app.worker().map(|worker| worker.options())
    }

    /// Longest waits for a piece of the body, and for room.
    fn limits(&self) -> (u64, u64) {
        self.app.worker().map_or((0, 0), |worker| {
            let options = worker.options();
            (options.body_timeout_ns, options.write_timeout_ns)
        })
    }

    /// Begins to wait for the client, for so long at most; 0 for any time.
    fn be_patient(&mut self, slf: &Bound<'_, Self>, limit_ns: u64) -> PyResult<()> {
        let py = slf.py();
        self.be_calm(py);
        if limit_ns > 0 {
            let call = slf.getattr(intern!(py, "_impatient"))?;
            self.timer = Some(self.app.later(py, limit_ns, call, self.waits)?);
        }
        Ok(())
    }

    /// Ends that.
    fn be_calm(&mut self, py: Python<'_>) {
        self.waits += 1;
        if let Some(timer) = self.timer.take()
            && let Err(error) = timer.call_method0(py, intern!(py, "cancel"))
        {
            error.write_unraisable(py, None);
        }
    }
}

#[pymethods]
impl Cycle {
    /// ASGI's `receive`.
    fn receive(slf: Py<Self>) -> Exchange {
        Exchange::receiving(slf)
    }

    /// ASGI's `send`.
    fn send(slf: Py<Self>, message: Py<PyAny>) -> Exchange {
        Exchange::sending(slf, message)
    }

    /// The request, as the code that works on it is to know it.
    #[getter]
    fn request(&self) -> Request {
        let (number, record) = self.conn.as_ref().map_or((0, None), |conn| (conn.number(), conn.record));
        Request::new(self.id, number, record)
    }

    /// Says that the task is over: with an error of the application's, or what it has returned.
    fn leave(slf: &Bound<'_, Self>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let mut this = slf.try_borrow_mut()?;
        let late = this.conn.as_ref().is_some_and(|conn| conn.is_late());
        if let Some(error) = error
            && this.is_news(py, error)
        {
            this.log_failure(py, Some(&PyErr::from_value(error.clone())), "");
        }
        if this.ws.as_ref().is_some_and(|ws| ws.is_accepted()) {
            websocket::leave(&mut this, error.is_some());
        } else if let Some(detail) = this.abandon(error.is_some()) {
            this.log_failure(py, None, detail);
        }
        // A WebSocket ends with the answer to its Close, which is waited for without the task.
        if this.ws.as_ref().is_none_or(|ws| !ws.is_accepted()) || late {
            this.over();
        }
        let stays = this.conn.is_some();
        this.wake(py);
        let (task, scope) = (this.task.take(), this.scope.take());
        let (app, id) = (this.app.clone(), this.id);
        drop(this);
        drop((task, scope));
        if !stays {
            app.forget(id);
        }
        Ok(())
    }

    /// The task has worked long enough without its client.
    fn _give_up(&mut self, py: Python<'_>, _id: u64) -> PyResult<()> {
        match &self.task {
            Some(task) => task.call_method0(py, intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    /// The client has been waited for long enough, unless something has happened since.
    fn _impatient(&mut self, py: Python<'_>, waits: u64) {
        if self.waits != waits {
            return;
        }
        if let (Some(conn), Some(worker)) = (&mut self.conn, self.app.worker()) {
            if self.senders.is_empty() {
                worker.refuse(conn, &Refusal::new(408, "the request's body took too long"));
            } else {
                conn.give_up();
            }
        }
        self.lose();
        self.wake(py);
    }
}

fn wake(py: Python<'_>, futures: &mut Vec<Py<PyAny>>) {
    for future in futures.drain(..) {
        let future = future.bind(py);
        let woken = future.call_method0(intern!(py, "done")).and_then(|done| match done.is_truthy()? {
            true => Ok(()),
            false => future.call_method1(intern!(py, "set_result"), (py.None(),)).map(drop),
        });
        if let Err(error) = woken {
            error.write_unraisable(py, None);
        }
    }
}

fn disconnect(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(message)
}
