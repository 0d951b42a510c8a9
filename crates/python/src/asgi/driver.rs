//! What asyncio calls: the worker's loop as callbacks of descriptors.

use super::app::Asgi;
use ferricorn_worker::{Context, Nested, Options, Tasks};
use pyo3::prelude::*;
use std::sync::Arc;

/// The worker's loop, for `ferricorn.asgi`.
#[pyclass(module = "ferricorn._native", name = "Driver", frozen)]
pub(crate) struct Driver {
    app: Arc<Asgi>,
    worker: Arc<Nested<Asgi>>,
}

impl Driver {
    /// Starts the worker's loop round an application.
    pub(crate) fn start(
        py: Python<'_>,
        app: Asgi,
        options: Options,
        context: Context,
    ) -> PyResult<(Py<Self>, Arc<Nested<Asgi>>)> {
        let app = Arc::new(app);
        let worker = Arc::new(Nested::start(app.clone(), options, context)?);
        let driver = Py::new(py, Self { app: app.clone(), worker: worker.clone() })?;
        app.drive(py, worker.clone(), &driver)?;
        Ok((driver, worker))
    }
}

#[pymethods]
impl Driver {
    /// Descriptors that are readable while there is something to do.
    fn fds(&self) -> [i32; 2] {
        self.worker.fds()
    }

    /// Does what there is to do.
    fn turn(&self) {
        self.app.turns(true);
        let more = self.worker.turn();
        self.app.turns(false);
        if more {
            self.app.turn_soon();
        }
    }

    /// The tasks of requests that are left at the end, also of those that have answered.
    fn last_tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.app.last_tasks(py)
    }

    /// Looks after WebSockets.
    fn tend(&self, py: Python<'_>) {
        self.app.tend(py);
    }
}
