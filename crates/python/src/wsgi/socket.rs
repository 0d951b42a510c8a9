//! `gunicorn.socket`: the client's socket for applications that talk to it themselves. It becomes a
//! `ferricorn.wsgi.SocketAlias`, with a descriptor of its own, when it is first touched; requests that never do pay
//! nothing.

use pyo3::prelude::*;
use pyo3::types::PyString;

/// Stands for the client's socket.
#[pyclass(module = "ferricorn._native", name = "ClientSocket", freelist = 8)]
#[derive(Debug)]
pub(crate) struct ClientSocket {
    fd: i32,
    real: Option<Py<PyAny>>,
}

impl ClientSocket {
    pub(crate) fn new(fd: i32) -> Self {
        Self { fd, real: None }
    }

    /// Ends it with the request: from here on its number may belong to another connection.
    pub(crate) fn expire(&mut self, py: Python<'_>) -> PyResult<()> {
        self.fd = -1;
        match &self.real {
            Some(real) => real.call_method0(py, "expire").map(drop),
            None => Ok(()),
        }
    }
}

#[pymethods]
impl ClientSocket {
    fn __getattr__<'py>(
        &mut self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let real = match &self.real {
            Some(real) => real.bind(py).clone(),
            None => {
                let real = py.import("ferricorn.wsgi")?.getattr("SocketAlias")?.call1((self.fd,))?;
                self.real = Some(real.clone().unbind());
                real
            }
        };
        real.getattr(name)
    }
}
