//! The extension module: Python on one side, `arbiter`, `worker`, `settings` and `cli` on the other.
//!
//! For: the WSGI and ASGI bridges, the configuration file and its hooks, logs, and the composition of the server. Only this
//! crate names a Python type. Not for: decisions about processes (`core::fleet`) or HTTP (`worker`).
#![deny(unsafe_code)]

mod asgi;
mod config;
mod dump;
mod entry;
mod ffi;
mod fnv;
mod green;
mod host;
mod interrupt;
mod jobs;
mod log;
mod observe;
mod prevention;
mod routes;
mod variables;
mod work;
mod wsgi;

use pyo3::prelude::*;

/// The module `ferricorn._native`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(entry::run, module)?)?;
    module.add_function(wrap_pyfunction!(entry::ctl, module)?)?;
    module.add_function(wrap_pyfunction!(entry::settings_json, module)?)?;
    module.add("INTERRUPT_SIGNAL", ferricorn_sys::signal::INTERRUPT)?;
    module.add("STACK_SIGNAL", ferricorn_sys::signal::STACK)?;
    module.add_function(wrap_pyfunction!(interrupt::interrupted, module)?)?;
    module.add_function(wrap_pyfunction!(interrupt::deadline, module)?)?;
    module.add_function(wrap_pyfunction!(interrupt::extend_deadline, module)?)?;
    module.add_function(wrap_pyfunction!(interrupt::progress, module)?)?;
    module.add_function(wrap_pyfunction!(jobs::offload_settings, module)?)?;
    module.add_function(wrap_pyfunction!(interrupt::shield, module)?)?;
    module.add_function(wrap_pyfunction!(variables::variables, module)?)
}
