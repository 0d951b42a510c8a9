//! How the work on a request ends: what the task has left undone, and what is written down of it.

use super::cycle::{Cycle, Stage};
use crate::wsgi::{log_failure, log_failure_at, replace};
use ferricorn_worker::LATE;
use pyo3::exceptions::PyConnectionResetError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

impl Cycle {
    /// Ends a response that the task has not completed; returns what is to be said about it.
    pub(super) fn abandon(&mut self, failed: bool) -> Option<&'static str> {
        let conn = self.conn.as_mut()?;
        if conn.is_late() {
            // Its error is the cancellation, or comes of it; nobody waits for what it says.
            if conn.was_answered() {
                conn.response.status = LATE;
            }
            conn.response.abort();
            return None;
        }
        let gone = conn.has_left();
        if gone {
            conn.give_up();
        } else if self.is_to_end && conn.response.has_head() {
            // Nobody can tell where a stream of events is whole.
            conn.response.finish();
            return None;
        } else if conn.response.has_head() {
            conn.response.abort();
        } else {
            replace(conn, "");
        }
        match self.stage {
            _ if failed || gone => None,
            Stage::Start => Some("the application returned without starting a response"),
            _ => Some("the application returned without completing its response"),
        }
    }

    /// Tells whether an error of the task is to be written down.
    pub(super) fn is_news(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> bool {
        if self.is_given_up && is_cancelled(py, error) {
            return false;
        }
        match &self.conn {
            // Its error is the cancellation, or comes of it.
            Some(conn) => !conn.is_late(),
            // What a task that is still busy says when the worker ends, or about a WebSocket that has ended.
            None => {
                let is = |kind: &Bound<'_, PyAny>| error.is_instance(kind).unwrap_or(false);
                let reset = self.ws.is_some() && is(&py.get_type::<PyConnectionResetError>());
                !reset && !self.app.has_ended()
            }
        }
    }

    /// Writes down that the application has failed the request.
    pub(super) fn log_failure(&self, py: Python<'_>, error: Option<&PyErr>, detail: &str) {
        let log = &self.app.parts.log;
        match (&self.conn, &self.scope) {
            (Some(conn), _) => log_failure(py, log, conn, error, detail),
            (None, Some(scope)) => {
                let (method, target) = said_by(scope.bind(py));
                log_failure_at(py, log, &method, &target, error, detail);
            }
            (None, None) => {}
        }
    }
}

fn is_cancelled(py: Python<'_>, error: &Bound<'_, PyAny>) -> bool {
    let class = py.import("asyncio").and_then(|asyncio| asyncio.getattr("CancelledError"));
    class.and_then(|class| error.is_instance(&class)).unwrap_or(false)
}

/// Method and target of a request, by its scope.
fn said_by(scope: &Bound<'_, PyDict>) -> (String, String) {
    let bytes = |name: &Bound<'_, PyString>| {
        let value = scope.get_item(name).ok().flatten()?;
        Some(String::from_utf8_lossy(value.cast::<PyBytes>().ok()?.as_bytes()).into_owned())
    };
    let py = scope.py();
    let method =
        scope.get_item(intern!(py, "method")).ok().flatten().and_then(|method| method.extract().ok());
    let mut target = bytes(intern!(py, "raw_path")).unwrap_or_default();
    if let Some(query) = bytes(intern!(py, "query_string")).filter(|query| !query.is_empty()) {
        target = format!("{target}?{query}");
    }
    (method.unwrap_or_else(|| "GET".to_owned()), target)
}
