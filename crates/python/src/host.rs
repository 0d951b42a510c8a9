//! Placeholder.
use crate::config::{Configured, Failure};
use ferricorn_settings::ParsedArgs;
use pyo3::prelude::*;
pub(crate) fn server(py: Python<'_>, configured: &Configured, app: &str) -> PyResult<Py<PyAny>> {
    let (values, defaults) = configured.for_python(py)?;
    Ok(py.import("ferricorn.server")?.getattr("Server")?.call1((values, defaults, app))?.unbind())
}
pub(crate) fn serve(
    _py: Python<'_>,
    _cli: &ParsedArgs,
    _configured: Configured,
    _server: Py<PyAny>,
) -> Result<i32, Failure> {
    Ok(0)
}
