//! The messages of a response (ASGI 3, HTTP 2.3) become bytes of it.

use super::cycle::{Cycle, Stage};
use crate::routes;
use ferricorn_worker::http::response::Invalid;
use ferricorn_worker::{Conn, FileBody};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyString, PyTuple};
use std::fs::File;
use std::path::PathBuf;

/// Takes one message.
pub(super) fn send(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let kind = kind(message)?;
    let kind = kind.to_str()?;
    match (cycle.stage, kind) {
        (Stage::Start, "http.response.start") => start(cycle, message),
        (Stage::Start, "http.response.early_hint") => early_hint(cycle, message),
        (Stage::Body, "http.response.body") => body(cycle, message),
        (Stage::Body, "http.response.pathsend") => pathsend(cycle, message),
        (Stage::Body, "http.response.trailers") if cycle.trailers => trailers(cycle, message),
        (Stage::Lost, _) => Ok(()),
        (Stage::Start, _) => Err(unexpected("'http.response.start'", kind)),
        (Stage::Body, _) => Err(unexpected("'http.response.body'", kind)),
        (Stage::Over, _) => Err(PyRuntimeError::new_err(format!(
            "Unexpected ASGI message '{kind}' sent, after response already completed."
        ))),
    }
}

/// Returns the type of a message.
pub(super) fn kind<'py>(message: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyString>> {
    let kind = message.get_item(intern!(message.py(), "type"))?;
    let kind = kind.ok_or_else(|| PyTypeError::new_err("a message has a \"type\""))?;
    kind.cast_into::<PyString>().map_err(|_| PyTypeError::new_err("a message's type is a str"))
}

pub(super) fn unexpected(expected: &str, kind: &str) -> PyErr {
    PyRuntimeError::new_err(format!("Expected ASGI message {expected}, but got '{kind}'."))
}

pub(super) fn start(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = message.py();
    let Some(conn) = &mut cycle.conn else { return Ok(()) };
    let status = message.get_item(intern!(py, "status"))?;
    let status: u16 =
        status.ok_or_else(|| PyValueError::new_err("http.response.start has a \"status\""))?.extract()?;
    conn.response.code(status).map_err(invalid)?;
    conn.route = cycle.scope.as_ref().and_then(|scope| routes::of(scope.bind(py)));
    let named = match message.get_item(intern!(py, "headers"))? {
        Some(headers) => fields(conn, &headers),
        None => Ok(false),
    };
    if named.is_err() {
        conn.response.restart();
    }
    cycle.is_events = named?;
    cycle.trailers = flag(message, intern!(py, "trailers"))?;
    cycle.stage = Stage::Body;
    Ok(())
}

/// Names the fields of the response; tells whether it is a stream of events (HTML, "Server-sent events").
fn fields(conn: &mut Conn, headers: &Bound<'_, PyAny>) -> PyResult<bool> {
    let mut is_events = false;
    for header in headers.try_iter()? {
        let (name, value) = field(&header?)?;
        let (name, value) = (name.as_bytes(), value.as_bytes());
        conn.response.field(name, value).map_err(invalid)?;
        is_events |= value.starts_with(b"text/event-stream") && name.eq_ignore_ascii_case(b"content-type");
    }
    Ok(is_events)
}

/// Returns pairs of bytes.
pub(super) fn fields_of<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Vec<Field<'py>>> {
    headers.try_iter()?.map(|header| field(&header?)).collect()
}

/// A field's name and value.
pub(super) type Field<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

fn field<'py>(header: &Bound<'py, PyAny>) -> PyResult<Field<'py>> {
    let (name, value) = match header.cast::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
        _ => {
            let [name, value] = header.extract()?;
            (name, value)
        }
    };
    let bytes = |value: Bound<'py, PyAny>, what: &str| {
        value.cast_into::<PyBytes>().map_err(|error| {
            PyTypeError::new_err(format!("{what} is bytes, not {}", kind_of(&error.into_inner())))
        })
    };
    Ok((bytes(name, "a header's name")?, bytes(value, "a header's value")?))
}

pub(super) fn body(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = message.py();
    let trailers = cycle.trailers;
    let Some(conn) = &mut cycle.conn else { return Ok(()) };
    let more = flag(message, intern!(py, "more_body"))?;
    let piece = message.get_item(intern!(py, "body"))?;
    let copy;
    let piece = match &piece {
        None => &[][..],
        Some(piece) => match piece.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes(),
            Err(_) => {
                copy = other_bytes(piece)?;
                &copy[..]
            }
        },
    };
    if !conn.response.has_head() {
        conn.write_head((!more && !trailers).then_some(piece.len() as u64));
    }
    if conn.response.promised().is_some_and(|left| piece.len() as u64 > left) {
        return Err(PyRuntimeError::new_err("Response content longer than Content-Length"));
    }
    conn.response.body(piece);
    if more || trailers {
        return Ok(());
    }
    let short = conn.response.promised().is_some_and(|left| left > 0);
    if short {
        return Err(PyRuntimeError::new_err("Response content shorter than Content-Length"));
    }
    conn.response.finish();
    cycle.over();
    cycle.wake(py);
    Ok(())
}

/// Sends a file as the whole body, without copying it through the process.
fn pathsend(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = message.py();
    let Some(conn) = &mut cycle.conn else { return Ok(()) };
    let path = message.get_item(intern!(py, "path"))?;
    let path: PathBuf =
        path.ok_or_else(|| PyValueError::new_err("http.response.pathsend has a \"path\""))?.extract()?;
    let file = File::open(&path)?;
    let size = file.metadata()?.len();
    conn.write_head(Some(size));
    let left = conn.response.accept(size);
    if left > 0 {
        conn.file = Some(FileBody { file: file.into(), offset: 0, left });
    }
    conn.response.finish();
    cycle.over();
    cycle.wake(py);
    Ok(())
}

fn trailers(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = message.py();
    let Some(conn) = &mut cycle.conn else { return Ok(()) };
    if let Some(headers) = message.get_item(intern!(py, "headers"))? {
        for header in headers.try_iter()? {
            let (name, value) = field(&header?)?;
            conn.response.trailer(name.as_bytes(), value.as_bytes()).map_err(invalid)?;
        }
    }
    if flag(message, intern!(py, "more_trailers"))? {
        return Ok(());
    }
    conn.response.finish();
    cycle.over();
    cycle.wake(py);
    Ok(())
}

/// Sends `103 Early Hints` (RFC 8297).
fn early_hint(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = message.py();
    let Some(conn) = &mut cycle.conn else { return Ok(()) };
    let mut lines = Vec::new();
    if let Some(links) = message.get_item(intern!(py, "links"))? {
        for link in links.try_iter()? {
            let link = link?;
            let link = bytes(&link, "a link")?;
            if !link.iter().all(|byte| ferricorn_worker::http::token::is_field_byte(*byte)) {
                return Err(PyValueError::new_err("invalid link in early hints"));
            }
            lines.extend_from_slice(&[&b"Link: "[..], link, b"\r\n"].concat());
        }
    }
    if conn.head.version >= (1, 1) {
        conn.response.interim(b"HTTP/1.1 103 Early Hints\r\n", &lines);
    }
    Ok(())
}

fn flag(message: &Bound<'_, PyDict>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    message.get_item(name)?.map_or(Ok(false), |value| value.is_truthy())
}

pub(super) fn bytes<'a>(value: &'a Bound<'_, PyAny>, what: &str) -> PyResult<&'a [u8]> {
    value
        .cast::<PyBytes>()
        .map(|bytes| bytes.as_bytes())
        .map_err(|_| PyTypeError::new_err(format!("{what} is bytes, not {}", kind_of(value))))
}

pub(super) fn other_bytes(piece: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(array) = piece.cast::<PyByteArray>() {
        return Ok(array.to_vec());
    }
    if piece.is_instance_of::<pyo3::types::PyMemoryView>() {
        return piece.call_method0("tobytes")?.extract();
    }
    Err(PyTypeError::new_err(format!("a body is bytes, not {}", kind_of(piece))))
}

fn kind_of(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

pub(super) fn invalid(invalid: Invalid) -> PyErr {
    PyRuntimeError::new_err(invalid.to_string())
}
