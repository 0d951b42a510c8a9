//! `start_response` and the `write` it returns (PEP 3333), and `wsgi.early_hints`.
//!
//! The object owns the connection while the application runs, so that everything the application may call works on
//! the response itself; the bridge takes the connection back when the application is done, and calls after that fail.

use crate::routes;
use ferricorn_worker::Conn;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use std::sync::Arc;

/// Bytes that may wait in memory before the application waits for its client.
const UNSENT_MAX: usize = 64 << 10;

/// The callable that a WSGI application gets as its second argument.
#[pyclass(module = "ferricorn._native", name = "StartResponse", freelist = 8)]
pub(crate) struct StartResponse {
    conn: Option<Box<Conn>>,
    /// For the route that a framework leaves there. Given back with the connection: it holds this object, too.
    environ: Option<Py<PyDict>>,
    write_timeout_ns: u64,
    /// The status line, kept only for hooks and loggers in Python.
    pub(crate) status: Option<Py<PyAny>>,
    keep: bool,
    /// Waits for the client, where this thread must not.
    room: Option<Arc<dyn Room>>,
}

/// Waits until a client has read, while others work on the same thread.
pub(crate) trait Room: Send + Sync {
    /// Waits until something has happened to the connection, or the time is over (false).
    fn wait(&self, py: Python<'_>, conn: &mut Conn, limit_ns: u64) -> PyResult<bool>;
}

impl StartResponse {
    /// `keep` says that hooks or a logger want the status as a Python object.
    pub(crate) fn new(write_timeout_ns: u64, keep: bool, room: Option<Arc<dyn Room>>) -> Self {
        Self { conn: None, environ: None, write_timeout_ns, status: None, keep, room }
    }

    /// Gives it the connection for the time of the request.
    pub(crate) fn lend(&mut self, conn: Box<Conn>, environ: Py<PyDict>) {
        self.conn = Some(conn);
        self.environ = Some(environ);
    }

    /// Takes the connection back.
    pub(crate) fn take(&mut self) -> Option<Box<Conn>> {
        self.environ = None;
        self.conn.take()
    }

    /// Returns the connection while the request lasts.
    pub(crate) fn conn(&mut self) -> PyResult<&mut Conn> {
        self.conn.as_deref_mut().ok_or_else(|| PyRuntimeError::new_err("the request has ended"))
    }

    /// Adds a piece of the body, writing the head before the first. `whole` says that nothing follows.
    pub(crate) fn body(&mut self, piece: &[u8], whole: bool) -> PyResult<()> {
        let conn = self.conn()?;
        if !conn.response.has_head() {
            if !conn.response.is_started() {
                return Err(PyAssertionError::new_err("the application did not call start_response"));
            }
            conn.write_head(whole.then_some(piece.len() as u64));
        }
        conn.response.body(piece);
        Ok(())
    }

    /// Hands what is ready to the socket; waits, without the interpreter, while a slow client has more than
    /// [`UNSENT_MAX`] to read.
    pub(crate) fn flush(&mut self, py: Python<'_>) -> PyResult<()> {
        let limit_ns = self.write_timeout_ns;
        let room = self.room.clone();
        let conn = self.conn()?;
        let _ = conn.send();
        conn.has_progressed();
        while conn.pending() > UNSENT_MAX {
            conn.waits_for_client();
            let waited = match &room {
                Some(room) => room.wait(py, conn, limit_ns)?,
                None => {
                    let waiting = &*conn;
                    py.detach(|| waiting.wait_writable(limit_ns))
                }
            };
            if !waited {
                conn.response.abort();
                return Err(PyErr::new::<pyo3::exceptions::PyTimeoutError, _>(
                    "the client does not read the response",
                ));
            }
            let _ = conn.send();
            conn.has_progressed();
        }
        Ok(())
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        {
            let mut this = slf.try_borrow_mut()?;
            let conn = this.conn()?;
            match exc_info.filter(|info| !info.is_none()) {
                Some(info) if conn.response.is_flushed() => return Err(raised(info)),
                Some(_) => {
                    conn.response.take_back();
                }
                None if conn.response.is_started() => {
                    return Err(PyAssertionError::new_err("Response headers already set!"));
                }
                None => {}
            }
            let named = name(conn, status, &listed(headers)?);
            if named.is_err() {
                conn.response.restart();
            }
            named?;
            if let Some(environ) = &this.environ {
                let route = routes::of(environ.bind(slf.py()));
                this.conn()?.route = route;
            }
            if this.keep {
                this.status = Some(status.clone().unbind());
            }
        }
        slf.getattr(pyo3::intern!(slf.py(), "write"))
    }

    /// Sends a piece of the body at once (PEP 3333, for applications that cannot return an iterable).
    fn write(&mut self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        if data.as_bytes().is_empty() {
            return Ok(());
        }
        self.body(data.as_bytes(), false)?;
        self.flush(py)
    }

    /// Sends a `103 Early Hints` response with these fields (RFC 8297); nothing for HTTP/1.0 or after the head.
    fn early_hints(&mut self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let conn = self.conn()?;
        if conn.head.version < (1, 1) || conn.response.has_head() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for header in headers.try_iter()? {
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = header?.extract()?;
            let (name, value) = (plain(&name)?, plain(&value)?);
            if !ferricorn_worker::http::token::is_token(&name)
                || !value.iter().all(|byte| ferricorn_worker::http::token::is_field_byte(*byte))
            {
                return Err(PyValueError::new_err("invalid field in early hints"));
            }
            lines.extend_from_slice(&[&name[..], b": ", &value, b"\r\n"].concat());
        }
        conn.response.interim(b"HTTP/1.1 103 Early Hints\r\n", &lines);
        self.flush(py)
    }
}

/// PEP 3333 wants a list of tuples; like Gunicorn we take any iterable of pairs.
fn listed<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    if let Ok(list) = headers.cast::<PyList>() {
        return Ok(list.clone());
    }
    let pairs = headers.try_iter().map_err(|_| PyTypeError::new_err("headers must be a list"))?;
    PyList::new(headers.py(), pairs.collect::<PyResult<Vec<_>>>()?)
}

fn pair<'py>(header: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let wrong = || PyTypeError::new_err("a header must be a tuple of name and value");
    let tuple = match header.cast::<PyTuple>() {
        Ok(tuple) => tuple.clone(),
        Err(_) if header.is_instance_of::<PyString>() => return Err(wrong()),
        Err(_) => {
            let both = header.try_iter().map_err(|_| wrong())?.collect::<PyResult<Vec<_>>>()?;
            PyTuple::new(header.py(), both)?
        }
    };
    if tuple.len() != 2 {
        return Err(wrong());
    }
    Ok((tuple.get_item(0)?, tuple.get_item(1)?))
}

fn name(conn: &mut Conn, status: &Bound<'_, PyAny>, headers: &Bound<'_, PyList>) -> PyResult<()> {
    let invalid = |error: ferricorn_worker::http::response::Invalid| PyValueError::new_err(error.to_string());
    let status = status.cast::<PyString>().map_err(|_| PyTypeError::new_err("status must be a str"))?;
    text(status, |bytes| conn.response.status(bytes).map_err(invalid))?;
    for header in headers {
        let (name, value) = pair(&header)?;
        let name =
            name.cast::<PyString>().map_err(|_| PyTypeError::new_err("a header's name must be a str"))?;
        let value =
            value.cast::<PyString>().map_err(|_| PyTypeError::new_err("a header's value must be a str"))?;
        text(name, |name| text(value, |value| conn.response.field(name, value).map_err(invalid)))?;
    }
    Ok(())
}

/// Calls `use_bytes` with the latin-1 bytes of a str; without a copy where it is ASCII.
fn text<R>(text: &Bound<'_, PyString>, use_bytes: impl FnOnce(&[u8]) -> PyResult<R>) -> PyResult<R> {
    if let Ok(utf8) = text.to_str()
        && utf8.is_ascii()
    {
        return use_bytes(utf8.as_bytes());
    }
    use_bytes(&encoded(text)?)
}

fn plain(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes().to_vec()),
        Err(_) => encoded(value.cast::<PyString>()?),
    }
}

fn encoded(text: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    text.call_method1(pyo3::intern!(text.py(), "encode"), (pyo3::intern!(text.py(), "latin-1"),))?.extract()
}

/// The exception of an `exc_info` tuple, to be raised again.
fn raised(info: &Bound<'_, PyAny>) -> PyErr {
    match info.get_item(1) {
        Ok(value) => PyErr::from_value(value),
        Err(error) => error,
    }
}
