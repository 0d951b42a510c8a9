//! The environ of a request (PEP 3333, and Gunicorn's own keys). What is the same for every request stands in a dict
//! per listener that is copied; names of fields are kept as str objects once they have been seen.

use super::input::Input;
use super::socket::ClientSocket;
use crate::ffi::latin1;
use crate::fnv::BuildFnv;
use crate::jobs;
use ferricorn_worker::{Body, Conn, Peer};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::cell::RefCell;
use std::collections::HashMap;

/// Names of fields kept; beyond that a name is made anew for each request.
const NAMES_MAX: usize = 512;

/// Why a request cannot be given to the application.
#[derive(Debug)]
pub(crate) enum Unservable {
    /// SCRIPT_NAME is no prefix of the path.
    ScriptName,
    /// Python raised.
    Python(PyErr),
}

impl From<PyErr> for Unservable {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// Makes environs.
pub(crate) struct Environ {
    /// One dict per listener, with all that does not change.
    bases: Vec<Py<PyDict>>,
    empty_input: Py<Input>,
    script_name: String,
}

impl Environ {
    /// `bases` holds the unchanging items of each listener, of one at least; a SCRIPT_NAME among them (of the process's environment)
    /// is taken off the path.
    pub(crate) fn new(py: Python<'_>, bases: Vec<Py<PyDict>>, script_name: String) -> PyResult<Self> {
        for base in &bases {
            // A merge makes room for twice the items, and a copy keeps the room: the fields of a request find it.
            let base = base.bind(py);
            base.update(base.copy()?.as_mapping())?;
        }
        Ok(Self { bases, empty_input: Py::new(py, Input::new(Body::Empty))?, script_name })
    }

    /// Makes the environ of the connection's request, and its `gunicorn.socket`; takes its body.
    pub(crate) fn build<'py>(
        &self,
        py: Python<'py>,
        conn: &mut Conn,
    ) -> Result<(Bound<'py, PyDict>, Bound<'py, ClientSocket>), Unservable> {
        // A connection handed over by a sibling of another configuration may name a listener that is gone.
        let base = self.bases.get(conn.listener).unwrap_or(&self.bases[0]);
        let environ = base.bind(py).copy()?;
        let socket = Bound::new(py, ClientSocket::new(conn.fd()))?;
        let body = conn.take_body();
        let head = &conn.head;
        fields(py, &environ, conn)?;
        let mut script_name = self.script_name.as_bytes();
        if let Some(sent) = conn.trusted.then(|| head.field(b"SCRIPT_NAME")).flatten() {
            script_name = sent;
            environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, sent)?)?;
        }
        let path = head.get(&head.path).strip_prefix(script_name).ok_or(Unservable::ScriptName)?;
        conn.script_len = script_name.len();
        environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, head.method())?)?;
        environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, head.get(&head.query))?)?;
        environ.set_item(intern!(py, "RAW_URI"), latin1(py, head.get(&head.target))?)?;
        environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol(py, head.version)?)?;
        environ.set_item(intern!(py, "PATH_INFO"), unquoted(py, path)?)?;
        if head.https {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
        }
        match conn.peer {
            Peer::Tcp(_) => {
                let (address, port) = conn.client.rsplit_once(':').unwrap_or((&conn.client, ""));
                let address = address.trim_matches(['[', ']']);
                environ.set_item(intern!(py, "REMOTE_ADDR"), latin1(py, address.as_bytes())?)?;
                environ.set_item(intern!(py, "REMOTE_PORT"), latin1(py, port.as_bytes())?)?;
            }
            Peer::Unix => unix(py, &environ, conn)?,
        }
        match body {
            Body::Empty => environ.set_item(intern!(py, "wsgi.input"), &self.empty_input)?,
            body => environ.set_item(intern!(py, "wsgi.input"), Bound::new(py, Input::new(body))?)?,
        }
        environ.set_item(intern!(py, "gunicorn.socket"), &socket)?;
        if let Some(job) = &conn.job {
            jobs::is_one(conn.id, job);
            environ.set_item(intern!(py, "ferricorn.offloaded"), true)?;
            environ.set_item(intern!(py, "ferricorn.job_id"), &job.id)?;
            environ.set_item(intern!(py, "ferricorn.attempt"), job.attempt)?;
        }
        Ok((environ, socket))
    }
}

/// A client on a unix socket has no address; the server's name is what the client called it (Gunicorn 27).
fn unix(py: Python<'_>, environ: &Bound<'_, PyDict>, conn: &Conn) -> PyResult<()> {
    environ.set_item(intern!(py, "REMOTE_ADDR"), intern!(py, ""))?;
    let Some(host) = conn.head.field(b"host") else { return Ok(()) };
    let default: &[u8] = if conn.head.https { b"443" } else { b"80" };
    let colon = host.iter().rposition(|byte| *byte == b':').filter(|at| !host[*at..].contains(&b']'));
    let (name, port) = match colon {
        Some(at) => (&host[..at], &host[at + 1..]),
        None => (host, default),
    };
    environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name)?)?;
    environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, port)?)
}

/// The `HTTP_` items; a field sent more than once is joined by commas (PEP 3333, RFC 9110 section 5.3).
fn fields(py: Python<'_>, environ: &Bound<'_, PyDict>, conn: &Conn) -> PyResult<()> {
    let mut len = environ.len();
    for (name, value) in conn.head.fields() {
        with_key(py, name, |key| environ.set_item(key, latin1(py, value)?))?;
        let grown = environ.len();
        if grown == len {
            let same = |field: &(&[u8], &[u8])| variable(field.0) == variable(name);
            let values: Vec<&[u8]> = conn.head.fields().filter(same).map(|(_, value)| value).collect();
            with_key(py, name, |key| environ.set_item(key, latin1(py, &values.join(&b","[..]))?))?;
        }
        len = grown;
    }
    Ok(())
}

/// The method as text, in the case it has.
pub(crate) fn method<'py>(py: Python<'py>, method: &[u8]) -> PyResult<Bound<'py, PyString>> {
    Ok(match method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        b"PUT" => intern!(py, "PUT").clone(),
        b"PATCH" => intern!(py, "PATCH").clone(),
        b"DELETE" => intern!(py, "DELETE").clone(),
        b"OPTIONS" => intern!(py, "OPTIONS").clone(),
        other => latin1(py, other)?,
    })
}

fn protocol(py: Python<'_>, version: (u8, u8)) -> PyResult<Bound<'_, PyString>> {
    match version {
        (1, 1) => Ok(intern!(py, "HTTP/1.1").clone()),
        (1, 0) => Ok(intern!(py, "HTTP/1.0").clone()),
        (major, minor) => latin1(py, format!("HTTP/{major}.{minor}").as_bytes()),
    }
}

/// Percent-decodes a path into latin-1 text.
fn unquoted<'py>(py: Python<'py>, path: &[u8]) -> PyResult<Bound<'py, PyString>> {
    if memchr::memchr(b'%', path).is_none() {
        return latin1(py, path);
    }
    latin1(py, &ferricorn_worker::http::token::percent_decoded(path))
}

type Names = HashMap<Box<[u8]>, Py<PyString>, BuildFnv>;

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

/// Calls `use_key` with the environ key of a field's name.
fn with_key<R>(
    py: Python<'_>,
    name: &[u8],
    use_key: impl FnOnce(&Bound<'_, PyString>) -> PyResult<R>,
) -> PyResult<R> {
    let key = NAMES.with_borrow(|names| names.get(name).map(|key| key.clone_ref(py)));
    let key = match key {
        Some(key) => key.into_bound(py),
        None => {
            let key = latin1(py, variable(name).as_bytes())?;
            NAMES.with_borrow_mut(|names| {
                if names.len() < NAMES_MAX {
                    names.insert(name.into(), key.clone().unbind());
                }
            });
            key
        }
    };
    use_key(&key)
}

/// `Content-Type` → `CONTENT_TYPE`, `X-A` → `HTTP_X_A`.
fn variable(name: &[u8]) -> String {
    let upper: String = name
        .iter()
        .map(|byte| if *byte == b'-' { '_' } else { char::from(byte.to_ascii_uppercase()) })
        .collect();
    if upper == "CONTENT_TYPE" || upper == "CONTENT_LENGTH" { upper } else { format!("HTTP_{upper}") }
}
