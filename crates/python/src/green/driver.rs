//! What gevent calls: the worker's loop as callbacks of descriptors, and the work on a request.

use super::app::Green;
use ferricorn_worker::{Context, Nested, Options, Tasks};
use pyo3::prelude::*;
use std::sync::Arc;

/// The worker's loop, for `ferricorn.greenlets`.
#[pyclass(module = "ferricorn._native", name = "HubDriver", frozen)]
pub(crate) struct HubDriver {
    app: Arc<Green>,
    worker: Arc<Nested<Green>>,
}

impl HubDriver {
    /// Starts the worker's loop round an application.
    pub(crate) fn start(
        py: Python<'_>,
        app: Green,
        options: Options,
        context: Context,
    ) -> PyResult<(Py<Self>, Arc<Nested<Green>>)> {
        let app = Arc::new(app);
        let worker = Arc::new(Nested::start(app.clone(), options, context)?);
        let driver = Py::new(py, Self { app: app.clone(), worker: worker.clone() })?;
        app.drive(py, worker.clone(), &driver)?;
        Ok((driver, worker))
    }
}

#[pymethods]
impl HubDriver {
    /// Descriptors that are readable while there is something to do.
    fn fds(&self) -> [i32; 2] {
        self.worker.fds()
    }

    /// Does what there is to do. In the hub.
    fn turn(&self) {
        self.app.turns();
        if self.worker.turn() {
            self.app.turn_soon();
        }
    }

    /// Works on a request to its end. In its greenlet.
    fn serve(&self, py: Python<'_>, number: u64) {
        self.app.serve(py, number);
    }

    /// The greenlets of requests.
    fn greenlets(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.app.greenlets(py)
    }
}
