//! The task of a request: a real one of asyncio's, whose first step runs at once instead of in the loop's next round.
//!
//! A task asks its loop's `call_soon` for that step. While it is made, that is ours, and remembers the step; with a task
//! factory of the application's, tasks are made and begin as that wants it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Makes tasks in one event loop.
pub(super) struct Spawn {
    event_loop: Py<PyAny>,
    class: Py<PyAny>,
    factory: Py<PyAny>,
    first: Py<FirstStep>,
    named: Py<PyDict>,
}

/// A task and its first step, which is to be run.
pub(super) struct Spawned<'py> {
    pub(super) task: Bound<'py, PyAny>,
    first: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl Spawn {
    pub(super) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let named = PyDict::new(py);
        named.set_item("loop", event_loop)?;
        Ok(Self {
            class: py.import("asyncio")?.getattr("Task")?.unbind(),
            factory: event_loop.getattr("get_task_factory")?.unbind(),
            first: Py::new(py, FirstStep::default())?,
            named: named.unbind(),
            event_loop: event_loop.clone().unbind(),
        })
    }

    /// Makes the task of a coroutine; [`Spawned::begin`] runs it up to where it waits.
    pub(super) fn task<'py>(&self, py: Python<'py>, coroutine: Bound<'py, PyAny>) -> PyResult<Spawned<'py>> {
        let event_loop = self.event_loop.bind(py);
        if !self.factory.bind(py).call0()?.is_none() {
            let task = event_loop.call_method1(intern!(py, "create_task"), (coroutine,))?;
            return Ok(Spawned { task, first: None });
        }
        let name = intern!(py, "call_soon");
        event_loop.setattr(name, &self.first)?;
        let task = self.class.bind(py).call((coroutine,), Some(self.named.bind(py)));
        event_loop.delattr(name)?;
        let first = self.first.try_borrow_mut(py)?.step.take();
        Ok(Spawned { task: task?, first })
    }
}

impl Spawned<'_> {
    pub(super) fn begin(self) -> PyResult<()> {
        let Some((step, context)) = self.first else { return Ok(()) };
        let py = self.task.py();
        context.call_method1(py, intern!(py, "run"), (step,)).map(drop)
    }
}

/// `call_soon` of a loop in which a task is being made.
#[pyclass(module = "ferricorn._native")]
#[derive(Default)]
struct FirstStep {
    /// The step and its context.
    step: Option<(Py<PyAny>, Py<PyAny>)>,
}

#[pymethods]
impl FirstStep {
    #[pyo3(signature = (callback, *, context))]
    fn __call__(&mut self, callback: Py<PyAny>, context: Py<PyAny>) -> PyResult<()> {
        match self.step.replace((callback, context)) {
            None => Ok(()),
            Some(_) => Err(PyRuntimeError::new_err("a task asks for one first step")),
        }
    }
}
