//! The one place outside `sys` with unsafe code: calls of the C API that PyO3 has no safe form for.
#![expect(unsafe_code, reason = "the C API's own functions")]

use pyo3::prelude::*;
use pyo3::types::PyString;

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
