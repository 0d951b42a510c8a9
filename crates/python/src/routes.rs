//! Which route an application's framework has chosen for a request, read off what the framework leaves in `environ` or `scope`.
//! Which places those are, `ferricorn.routes` knows. Not for: requests that do not come as far as a response, whose route the
//! stack tells (`ferricorn.where`).

use crate::fnv::BuildFnv;
use ferricorn_core::route::named;
use ferricorn_worker::RouteId;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Most patterns whose numbers are remembered by the object; others are looked up by their text.
const KNOWN_MAX: usize = 4096;

static PLACES: OnceLock<Vec<Place>> = OnceLock::new();
static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();

/// By the address of the pattern's object, which is kept, so that the address stays its own.
type Known = HashMap<usize, (Py<PyAny>, Option<RouteId>), BuildFnv>;

/// A key of `environ` or `scope`, and the attributes that lead from there to the pattern.
struct Place {
    key: Py<PyString>,
    attributes: Vec<Py<PyString>>,
}

/// Finds out where the frameworks that are loaded leave their routes; `kind` is `wsgi` or `asgi`. Once, when the application
/// is loaded.
///
/// # Errors
/// Python's.
pub(crate) fn prepare(py: Python<'_>, kind: &str) -> PyResult<()> {
    let places = py.import("ferricorn.routes")?.call_method1("places", (kind,))?;
    let places: Vec<(Py<PyString>, Vec<Py<PyString>>)> = places.extract()?;
    // A process is one worker: whoever comes second finds the same.
    let _ = PLACES.set(places.into_iter().map(|(key, attributes)| Place { key, attributes }).collect());
    Ok(())
}

/// Returns the route of a request, if a framework has left one.
pub(crate) fn of(request: &Bound<'_, PyDict>) -> Option<RouteId> {
    PLACES.get()?.iter().find_map(|place| {
        // What cannot be read is as good as not there: a route is worth no error.
        let mut found = request.get_item(&place.key).ok()??;
        for attribute in &place.attributes {
            found = found.getattr(attribute).ok()?;
        }
        number(&found)
    })
}

fn number(pattern: &Bound<'_, PyAny>) -> Option<RouteId> {
    let known = KNOWN.get_or_init(Mutex::default);
    let address = pattern.as_ptr() as usize;
    if let Some((_, route)) = known.lock().unwrap_or_else(PoisonError::into_inner).get(&address) {
        return *route;
    }
    let text = pattern.cast::<PyString>().ok()?.to_str().ok()?.to_owned();
    let route = RouteId::of(&named(&text));
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() < KNOWN_MAX {
        known.insert(address, (pattern.clone().unbind(), route));
    }
    route
}
