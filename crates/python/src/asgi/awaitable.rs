//! What `receive()` and `send()` return: a coroutine that usually ends at once, without the loop's seeing it.

use super::cycle::{Cycle, Step};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;

/// One call of `receive` or `send`, to be awaited. Has what `collections.abc.Coroutine` asks for, so that tasks may be made
/// of it.
#[pyclass(module = "ferricorn._native", name = "Exchange", freelist = 64)]
pub(crate) struct Exchange {
    cycle: Option<Py<Cycle>>,
    /// What is to be sent; `None` to receive, or once it has been taken.
    message: Option<Py<PyAny>>,
    receives: bool,
    /// The iterator of the future that it waits for.
    waits: Option<Py<PyAny>>,
}

impl Exchange {
    pub(super) fn receiving(cycle: Py<Cycle>) -> Self {
        Self { cycle: Some(cycle), message: None, receives: true, waits: None }
    }

    pub(super) fn sending(cycle: Py<Cycle>, message: Py<PyAny>) -> Self {
        Self { cycle: Some(cycle), message: Some(message), receives: false, waits: None }
    }

    fn step(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            if let Some(future) = &self.waits {
                match future.call_method0(py, intern!(py, "__next__")) {
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => self.waits = None,
                    other => return other.map(Some),
                }
            }
            let Some(cycle) = &self.cycle else {
                return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
            };
            let step = if self.receives {
                Cycle::receive_step(cycle.bind(py))
            } else {
                Cycle::send_step(cycle.bind(py), self.message.take())
            };
            match step {
                Ok(Step::Wait(future)) => {
                    self.waits = Some(future.call_method0(intern!(py, "__await__"))?.unbind())
                }
                Ok(Step::Done(value)) => {
                    self.cycle = None;
                    return match value {
                        // As cheap as it gets: no exception is made.
                        None => Ok(None),
                        Some(value) => Err(PyStopIteration::new_err((value.unbind(),))),
                    };
                }
                Err(error) => {
                    self.cycle = None;
                    return Err(error);
                }
            }
        }
    }
}

#[pymethods]
impl Exchange {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.step(py)
    }

    fn send(&mut self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &mut self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        if let Some(future) = self.waits.take() {
            self.cycle = None;
            return future.call_method1(py, intern!(py, "throw"), (kind, value, traceback));
        }
        self.cycle = None;
        Err(match value.filter(|value| !value.is_none()) {
            Some(value) => PyErr::from_value(value),
            None => PyErr::from_value(kind),
        })
    }

    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        self.cycle = None;
        self.message = None;
        match self.waits.take() {
            Some(future) => future.call_method0(py, intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }
}
