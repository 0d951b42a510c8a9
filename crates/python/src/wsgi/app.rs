//! A WSGI application as the worker's [`App`]: the one door through which the worker enters Python.

use super::environ::{Environ, Unservable};
use super::respond::respond;
use super::start::{Room, StartResponse};
use crate::interrupt::{self, Passage};
use crate::observe::Observer;
use crate::routes;
use ferricorn_worker::http::refusal::{Form, Page, page};
use ferricorn_worker::{App, At, Conn, Interpreter, LATE, Stop, Tell};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use std::time::Duration;

/// Everything a WSGI application needs, made once per worker.
pub(crate) struct WsgiParts {
    /// The application.
    pub(crate) application: Py<PyAny>,
    /// The items of environ that never change, per listener.
    pub(crate) bases: Vec<Py<PyDict>>,
    /// SCRIPT_NAME of the process's environment.
    pub(crate) script_name: String,
    /// The class behind `wsgi.file_wrapper`, where `sendfile` is on.
    pub(crate) file_wrapper: Option<Py<PyAny>>,
    /// The error log (`gunicorn.glogging.Logger`'s interface).
    pub(crate) log: Py<PyAny>,
    /// Who is told of each request.
    pub(crate) observer: Option<Observer>,
    /// Longest time a client may take no byte of a stream, nanoseconds; 0 for any.
    pub(crate) write_timeout_ns: u64,
    /// Told of INT, QUIT and USR1: `notify(what)`.
    pub(crate) notify: Py<PyAny>,
}

/// In what a request is worked on.
pub(crate) enum Seat {
    /// The app thread of this number.
    Thread(usize),
    /// A greenlet, whose waits for the client are given.
    Greenlet(Arc<dyn Room>),
}

/// A WSGI application.
pub(crate) struct Wsgi {
    parts: WsgiParts,
    environ: Environ,
}

impl Wsgi {
    pub(crate) fn new(py: Python<'_>, mut parts: WsgiParts) -> PyResult<Self> {
        routes::prepare(py, "wsgi")?;
        let bases = std::mem::take(&mut parts.bases);
        let environ = Environ::new(py, bases, std::mem::take(&mut parts.script_name))?;
        Ok(Self { parts, environ })
    }

    /// Works on a request to its end.
    pub(crate) fn handle(&self, py: Python<'_>, mut conn: Box<Conn>, seat: Seat) -> Box<Conn> {
        let (thread, room) = match seat {
            Seat::Thread(thread) => (Some(thread), None),
            Seat::Greenlet(room) => (None, Some(room)),
        };
        let keep = self.parts.observer.is_some();
        let built = self.environ.build(py, &mut conn).and_then(|(environ, socket)| {
            Ok((
                environ,
                socket,
                Bound::new(py, StartResponse::new(self.parts.write_timeout_ns, keep, room))?,
            ))
        });
        let (environ, socket, start) = match built {
            Ok(both) => both,
            Err(unservable) => {
                self.unservable(py, &mut conn, &unservable);
                return conn;
            }
        };
        let begun = self.parts.observer.as_ref().map(|observer| {
            let request = observer.begin(py, &environ, &conn)?.unbind();
            Ok((observer, request))
        });
        let begun = match begun.transpose() {
            Ok(begun) => begun,
            Err(error) => {
                self.unservable(py, &mut conn, &Unservable::Python(error));
                return conn;
            }
        };
        let passage = thread.map(|thread| Passage::begin(py, thread, conn.id, conn.record));
        start.borrow_mut().lend(conn, environ.clone().unbind());
        let outcome = self.call(py, &environ, &start);
        if let Some(passage) = passage {
            passage.end(py);
        }
        let mut conn = self.settle(py, &start, outcome);
        if let Ok(mut socket) = socket.try_borrow_mut()
            && let Err(error) = socket.expire(py)
        {
            error.write_unraisable(py, None);
        }
        if let Some((observer, request)) = &begun {
            conn.conclude();
            let line = start.borrow().status.as_ref().map(|line| line.clone_ref(py));
            match observer.end(py, request, line, &conn) {
                Ok(logged) => conn.logged = logged,
                Err(error) => self.error(py, &conn, Some(&error), ""),
            }
        }
        conn
    }

    fn unservable(&self, py: Python<'_>, conn: &mut Conn, unservable: &Unservable) {
        let detail = match unservable {
            Unservable::ScriptName => "SCRIPT_NAME is no prefix of the path",
            Unservable::Python(_) => "",
        };
        let error = match unservable {
            Unservable::ScriptName => None,
            Unservable::Python(error) => Some(error),
        };
        self.error(py, conn, error, detail);
        replace(conn, detail);
    }

    fn call(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        start: &Bound<'_, StartResponse>,
    ) -> PyResult<Option<PyErr>> {
        environ.set_item(intern!(py, "wsgi.early_hints"), start.getattr(intern!(py, "early_hints"))?)?;
        let returned = self.parts.application.bind(py).call1((environ, start))?;
        respond(start, &returned, self.parts.file_wrapper.as_ref().map(|class| class.bind(py)))
    }

    /// Takes the connection back, with a response whatever the application did.
    fn settle(
        &self,
        py: Python<'_>,
        start: &Bound<'_, StartResponse>,
        outcome: PyResult<Option<PyErr>>,
    ) -> Box<Conn> {
        let mut conn = reclaim(py, start);
        if conn.is_late() {
            // Its error is the interrupt's, or comes of it; nobody waits for what it says.
            if conn.was_answered() {
                conn.response.status = LATE;
            }
            conn.response.abort();
            return conn;
        }
        match outcome {
            Ok(None) => {}
            Ok(Some(error)) => self.error(py, &conn, Some(&error), ""),
            Err(error) => {
                if !conn.is_gone() {
                    self.error(py, &conn, Some(&error), "");
                }
                replace(&mut conn, "");
            }
        }
        conn
    }

    fn error(&self, py: Python<'_>, conn: &Conn, error: Option<&PyErr>, detail: &str) {
        log_failure(py, &self.parts.log, conn, error, detail);
    }
}

/// One entry in the error log about a request that the application has failed, with the traceback.
pub(crate) fn log_failure(py: Python<'_>, log: &Py<PyAny>, conn: &Conn, error: Option<&PyErr>, detail: &str) {
    let method = String::from_utf8_lossy(conn.head.method());
    let target = String::from_utf8_lossy(conn.head.get(&conn.head.target));
    log_failure_at(py, log, &method, &target, error, detail);
}

/// The same where the connection has gone its way.
pub(crate) fn log_failure_at(
    py: Python<'_>,
    log: &Py<PyAny>,
    method: &str,
    target: &str,
    error: Option<&PyErr>,
    detail: &str,
) {
    let error = error.map(|error| error.clone_ref(py).into_value(py));
    let args = (log, error, method, target, detail);
    let logged = py.import("ferricorn.wsgi").and_then(|module| module.call_method1("log_failure", args));
    if let Err(failed) = logged {
        failed.write_unraisable(py, None);
    }
}

impl App for Wsgi {
    fn call(&self, conn: Box<Conn>, thread: usize) -> Box<Conn> {
        Python::attach(|py| self.handle(py, conn, Seat::Thread(thread)))
    }

    fn attach(&self, body: impl FnOnce()) {
        Python::attach(|_| body());
    }
}

impl Interpreter for Wsgi {
    fn wait<R: Send>(&self, blocking: impl FnOnce() -> R + Send) -> R {
        Python::attach(|py| {
            let result = py.detach(blocking);
            // Handlers of the application's signals run here while it has nothing to do; on other threads than the
            // main one this does nothing.
            if let Err(error) = py.check_signals() {
                error.write_unraisable(py, None);
            }
            result
        })
    }

    fn look(&self, at: At, over: bool, tell: Tell) {
        interrupt::look(at, over, tell);
    }

    fn is_held(&self) -> bool {
        interrupt::is_held()
    }

    fn interrupt(&self, late: At) {
        interrupt::interrupt(late);
    }

    fn abort(&self) {
        interrupt::abort();
    }

    fn notify(&self, stop: Stop) {
        interrupt::notify(&self.parts.notify, stop);
    }
}

/// Takes the connection out of the application's hands. A thread of the application's that is just writing to it is
/// waited for: it holds it for one `send` or until the client reads.
fn reclaim(py: Python<'_>, start: &Bound<'_, StartResponse>) -> Box<Conn> {
    loop {
        if let Ok(mut this) = start.try_borrow_mut() {
            return this.take().expect("lent in `handle`, and nobody else takes it");
        }
        py.detach(|| std::thread::sleep(Duration::from_millis(1)));
    }
}

/// Puts a 500 in the place of the response; where bytes have gone out, the connection closes instead.
pub(crate) fn replace(conn: &mut Conn, detail: &str) {
    if conn.response.take_back() {
        conn.file = None;
        conn.response.replace(500, |out, head_only| {
            page(out, &Page { form: Form::Html, ..Page::new(500, detail, head_only) })
        });
    } else {
        conn.response.abort();
    }
}
