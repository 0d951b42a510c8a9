//! What keeps calls of the application within the deadline of its request, from settings to what Python is told.
//!
//! Not for: the times themselves (`core::prevention`), nor what is done with them (`ferricorn.prevention`).

use ferricorn_core::prevention::{longest_deadline_s, statement_timeout_ms};
use ferricorn_settings::{Limit, Settings};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::time::Duration;

/// How often PostgreSQL looks whether its client is still there, where it is told to.
const CONNECTION_CHECK_MS: u64 = 1000;

/// After how many milliseconds PostgreSQL ends statements; none if it is not told to.
fn statement_ms(settings: &Settings) -> Option<u64> {
    match settings.db_statement_timeout {
        Limit::Off => None,
        Limit::After(time) => Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
        Limit::Auto => longest_s(settings).map(statement_timeout_ms),
    }
}

fn longest_s(settings: &Settings) -> Option<f64> {
    let routes = settings.route_timeouts.iter().map(|(_, time)| time.as_secs_f64());
    longest_deadline_s(settings.timeout.as_secs_f64(), routes, settings.request_timeout.as_secs_f64())
}

/// Says that there is no deadline that `db_statement_timeout` could follow.
pub(crate) fn warning(settings: &Settings) -> Option<String> {
    let is_lost = settings.db_statement_timeout == Limit::Auto && longest_s(settings).is_none();
    is_lost.then(|| {
        "db_statement_timeout = 'auto' has no effect: some requests have no deadline (timeout or a route's is 0); name the \
         seconds, or set request_timeout"
            .to_owned()
    })
}

/// What `ferricorn.prevention.Prevention` is made of.
pub(crate) fn facts<'py>(py: Python<'py>, settings: &Settings) -> PyResult<Bound<'py, PyDict>> {
    let facts = PyDict::new(py);
    let statement_ms = statement_ms(settings);
    let watched = settings.db_statement_timeout == Limit::Auto && statement_ms.is_some();
    facts.set_item("statement_ms", statement_ms)?;
    facts.set_item("check_ms", watched.then_some(CONNECTION_CHECK_MS))?;
    let (outbound, most) = match settings.outbound_timeout {
        Limit::Off => (false, None),
        Limit::Auto => (true, None),
        Limit::After(time) => (true, Some(time)),
    };
    facts.set_item("outbound", outbound)?;
    facts.set_item("outbound_most", most.as_ref().map(Duration::as_secs_f64))?;
    facts.set_item("header", settings.deadline_header.as_deref())?;
    Ok(facts)
}
