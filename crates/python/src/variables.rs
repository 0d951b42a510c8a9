//! What calls of libraries hold in their variables, asked of the interpreter: those of the table in `core::locals`, as it
//! shows them. Only objects of Python's own types are read, by their contents: nothing of the application is run.
//!
//! Not for: reading from outside (`reflex::object`, with the same limits), and not for what a value means.

use ferricorn_core::evidence::Frame;
use ferricorn_core::locals::{self, Local, Value};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyFunction, PyInt, PyList, PyNone, PyString, PyTuple};

/// Most characters of a string that are read.
const TEXT_MAX: usize = 8192;
/// Most items of a tuple or list that are read.
const ITEMS_MAX: usize = 4;
/// Objects within objects.
const DEPTH_MAX: u32 = 3;

/// Returns what may be shown of the variables of a call, as names and values; nothing for code that is no library's.
/// Raises what the frame raises.
#[pyfunction]
pub(crate) fn variables(
    function: String,
    file: String,
    frame: &Bound<'_, PyAny>,
) -> PyResult<Vec<(String, String)>> {
    let call = Frame { function, file, ..Frame::default() };
    // Variables of any function are the request's, which is known here.
    let wanted: Vec<&Local> = locals::of_frame(&call).filter(|local| !local.function.is_empty()).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let known = frame.getattr("f_locals")?;
    let mut shown = Vec::new();
    for local in wanted {
        if let Some(value) = known.get_item(local.name).ok().and_then(|found| value(&found, 0)) {
            shown.extend(locals::shown(local, &value));
        }
    }
    Ok(shown)
}

/// Reads an object. `None` for one that does not fit, or has others too deep within it.
fn value(object: &Bound<'_, PyAny>, depth: u32) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let text = |text: &str| Value::Text(locals::cut(text, TEXT_MAX).to_owned());
    if object.is_exact_instance_of::<PyNone>() {
        Some(Value::None)
    } else if let Ok(truth) = object.cast_exact::<PyBool>() {
        Some(Value::Bool(truth.is_true()))
    } else if let Ok(number) = object.cast_exact::<PyInt>() {
        number.extract().ok().map(Value::Int)
    } else if let Ok(number) = object.cast_exact::<PyFloat>() {
        Some(Value::Float(number.value()))
    } else if let Ok(string) = object.cast_exact::<PyString>() {
        string.to_str().ok().map(text)
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let bytes = bytes.as_bytes();
        Some(text(&String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_MAX)])))
    } else if let Ok(items) = object.cast_exact::<PyTuple>() {
        list(items.iter(), depth)
    } else if let Ok(items) = object.cast_exact::<PyList>() {
        list(items.iter(), depth)
    } else if let Ok(function) = object.cast_exact::<PyFunction>() {
        name_of(function)
    } else if is_partial(object) {
        value(&object.getattr("func").ok()?, depth + 1)
    } else {
        Some(Value::Object(object.get_type().name().ok()?.to_string()))
    }
}

fn list<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, depth: u32) -> Option<Value> {
    items.take(ITEMS_MAX).map(|item| value(&item, depth + 1)).collect::<Option<Vec<_>>>().map(Value::List)
}

fn name_of(function: &Bound<'_, PyFunction>) -> Option<Value> {
    let name = function.getattr("__name__").ok()?;
    Some(Value::Function(name.cast_exact::<PyString>().ok()?.to_str().ok()?.to_owned()))
}

/// Tells whether it is a `functools.partial`, whose function is read without running anything.
fn is_partial(object: &Bound<'_, PyAny>) -> bool {
    let kind = object.get_type();
    let is = |name: &str, module: &str| {
        kind.name().is_ok_and(|found| found == name) && kind.module().is_ok_and(|found| found == module)
    };
    is("partial", "functools")
}
