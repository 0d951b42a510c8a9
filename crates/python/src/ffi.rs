//! The one place outside `sys` with unsafe code: calls of the C API that PyO3 has no safe form for.
#![expect(unsafe_code, reason = "the C API's own functions")]

use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

/// Makes a str of bytes, one character each (latin-1): how PEP 3333 turns bytes into text.
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: the pointer is valid for the length given; the function copies and returns a new reference or null with
    // an exception set, which `from_owned_ptr_or_err` takes over; the object is a str by the function's contract.
    unsafe {
        let text =
            pyo3::ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), bytes.len() as isize, std::ptr::null());
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// Leaves an exception with a thread, to be raised at its next bytecode; `None` takes one back that has not been.
pub(crate) fn raise_in_thread(_py: Python<'_>, ident: u64, class: Option<&Bound<'_, PyType>>) {
    // SAFETY: the interpreter is held, as `_py` shows; the thread is named by number, and an unknown one is ignored;
    // the class is a live object of which the function takes a reference of its own, null takes the exception back.
    unsafe {
        let class = class.map_or(std::ptr::null_mut(), Bound::as_ptr);
        pyo3::ffi::PyThreadState_SetAsyncExc(ident as std::ffi::c_long, class);
    }
}
