//! Those in Python who are told of each request: hooks (`pre_request`, `post_request`) and a logger of the user's.

use crate::ffi::latin1;
use ferricorn_sys::clock;
use ferricorn_worker::Conn;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Whom to tell: `begin(environ, headers)` is called before the application, and what it returns goes to
/// `end(request, status, line, headers, sent, seconds)`.
pub(crate) struct Observer(Py<PyAny>);

impl Observer {
    /// Returns the one of `ferricorn.server.Server`; `None` if nobody wants to be told.
    pub(crate) fn of(server: &Bound<'_, PyAny>, python_access: bool) -> PyResult<Option<Self>> {
        let observer = server.call_method1("observer", (python_access,))?;
        Ok((!observer.is_none()).then(|| Self(observer.unbind())))
    }

    /// Tells of a request; returns what it is known by.
    pub(crate) fn begin<'py>(
        &self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        conn: &Conn,
    ) -> PyResult<Bound<'py, PyAny>> {
        // In capitals, as Gunicorn has them.
        let headers = PyList::empty(py);
        for (name, value) in conn.head.fields() {
            headers.append((latin1(py, &name.to_ascii_uppercase())?, latin1(py, value)?))?;
        }
        self.0.bind(py).call_method1(intern!(py, "begin"), (environ, headers))
    }

    /// Tells of its end, with the line of the status if the application gave one; true if the access log has its line.
    pub(crate) fn end(
        &self,
        py: Python<'_>,
        request: &Py<PyAny>,
        line: Option<Py<PyAny>>,
        conn: &Conn,
    ) -> PyResult<bool> {
        let took_ns = clock::now_ns().saturating_sub(conn.stamps.head_ns);
        let lines = conn.response.field_lines().split(|byte| *byte == b'\n').filter_map(|line| {
            let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
            Some((name, value[1..].trim_ascii()))
        });
        let headers = PyList::empty(py);
        for (name, value) in lines {
            headers.append((latin1(py, name)?, latin1(py, value)?))?;
        }
        if let Some(length) = conn.response.content_length() {
            headers.append(("Content-Length", length.to_string()))?;
        }
        let (status, sent) = (conn.response.status, conn.response.body_bytes);
        let args = (request, status, line, headers, sent, took_ns as f64 / 1e9);
        self.0.call_method1(py, intern!(py, "end"), args)?.is_truthy(py)
    }
}
