//! From what a WSGI application returns to the response: pieces of bytes, files by `sendfile`, and what goes wrong.

use super::start::StartResponse;
use ferricorn_sys::clock;
use ferricorn_worker::FileBody;
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A `close()` that takes longer than this on average finds its response sent: work after the response is not the
/// client's to wait for. A faster one leaves the response to the batch.
const SLOW_CLOSE_NS: u64 = 100_000;

/// How long `close()` takes, smoothed over the last calls of all threads. A lost update does no harm.
static CLOSE_NS: AtomicU64 = AtomicU64::new(0);

/// Sends what the application returned and closes it. `file_wrapper` is the class of `wsgi.file_wrapper` where
/// `sendfile` may be used. The response stands if nothing but `close()` has failed, whose error is returned.
pub(crate) fn respond(
    start: &Bound<'_, StartResponse>,
    returned: &Bound<'_, PyAny>,
    file_wrapper: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<PyErr>> {
    if let Ok(list) = returned.cast_exact::<PyList>() {
        return pieces(start, list.len(), |index| list.get_item(index)).map(|()| None);
    }
    if let Ok(tuple) = returned.cast_exact::<PyTuple>() {
        return pieces(start, tuple.len(), |index| tuple.get_item(index)).map(|()| None);
    }
    let sent = match file_wrapper {
        Some(class) if returned.is_instance(class)? => file(start, returned).and_then(|sent| match sent {
            true => Ok(()),
            false => iterate(start, returned),
        }),
        _ => iterate(start, returned),
    };
    let closed = close(start, returned);
    sent.map(|()| closed.err())
}

/// A list or tuple: all of it is there, so nothing need be flushed in between and the length is known.
fn pieces<'py>(
    start: &Bound<'py, StartResponse>,
    count: usize,
    item: impl Fn(usize) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<()> {
    let mut this = start.try_borrow_mut()?;
    if count == 1 {
        let piece = item(0)?;
        this.body(bytes(&piece)?.as_bytes(), true)?;
    } else {
        let conn = this.conn()?;
        if !conn.response.is_started() {
            return Err(not_started());
        }
        if !conn.response.has_head() {
            let mut whole = 0;
            for index in 0..count {
                whole += bytes(&item(index)?)?.as_bytes().len() as u64;
            }
            conn.write_head(Some(whole));
        }
        for index in 0..count {
            let piece = item(index)?;
            this.body(bytes(&piece)?.as_bytes(), false)?;
        }
    }
    this.conn()?.response.finish();
    Ok(())
}

/// Any other iterable: each piece goes out before the next is asked for (PEP 3333), unless the response is complete.
fn iterate(start: &Bound<'_, StartResponse>, returned: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = start.py();
    for piece in returned.try_iter()? {
        let piece = piece?;
        let piece = bytes(&piece)?.as_bytes();
        if piece.is_empty() {
            continue;
        }
        let mut this = start.try_borrow_mut()?;
        this.body(piece, false)?;
        if !this.conn()?.response.is_complete() {
            this.flush(py)?;
        }
        if this.conn()?.is_gone() {
            break;
        }
    }
    let mut this = start.try_borrow_mut()?;
    let conn = this.conn()?;
    if !conn.response.has_head() {
        if !conn.response.is_started() {
            return Err(not_started());
        }
        conn.write_head(Some(0));
    }
    conn.response.finish();
    Ok(())
}

/// Sends a file without copying it through the process. False if it is none, or not a regular one.
fn file(start: &Bound<'_, StartResponse>, wrapper: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = start.py();
    let filelike = wrapper.getattr(intern!(py, "filelike"))?;
    let plain = py.import("ferricorn.wsgi")?.call_method1(intern!(py, "plain_file"), (filelike,))?;
    let Some((fileno, offset)): Option<(i32, u64)> = plain.extract()? else { return Ok(false) };
    let Some((descriptor, size)) = ferricorn_sys::file::regular(fileno)? else { return Ok(false) };
    let mut this = start.try_borrow_mut()?;
    let conn = this.conn()?;
    if !conn.response.is_started() {
        return Err(not_started());
    }
    let rest = size.saturating_sub(offset);
    if conn.response.has_head() {
        return Ok(false);
    }
    conn.write_head(Some(rest));
    let left = conn.response.accept(rest);
    if left > 0 {
        conn.file = Some(FileBody { file: descriptor, offset, left });
    }
    conn.response.finish();
    Ok(true)
}

fn close(start: &Bound<'_, StartResponse>, returned: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = returned.py();
    let Some(close) = returned.getattr_opt(intern!(py, "close"))? else { return Ok(()) };
    let average_ns = CLOSE_NS.load(Relaxed);
    if average_ns > SLOW_CLOSE_NS {
        // Without waiting: what does not fit is the loop's to send, and a client that has gone is no reason not to close.
        let _ = start.try_borrow_mut()?.conn().map(|conn| conn.send());
    }
    let begun_ns = clock::now_ns();
    let closed = close.call0().map(drop);
    let took_ns = clock::now_ns().saturating_sub(begun_ns);
    CLOSE_NS.store(average_ns - average_ns / 8 + took_ns / 8, Relaxed);
    closed
}

fn bytes<'a, 'py>(piece: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyBytes>> {
    piece.cast::<PyBytes>().map_err(|_| {
        let kind = piece.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!(
            "{kind} is not a bytes object: a WSGI application returns an iterable of bytes"
        ))
    })
}

fn not_started() -> PyErr {
    PyAssertionError::new_err("the application did not call start_response")
}
