//! `wsgi.input`: a request's body as a file to read (PEP 3333). The body is complete before the application runs, so
//! reading never waits.

use ferricorn_worker::Body;
use memchr::memchr;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// The body of one request.
#[pyclass(module = "ferricorn._native", name = "Input")]
#[derive(Debug)]
pub(crate) struct Input {
    source: Source,
    left: u64,
}

#[derive(Debug)]
enum Source {
    Memory { bytes: Vec<u8>, at: usize },
    File(BufReader<File>),
}

impl Input {
    pub(crate) fn new(body: Body) -> Self {
        match body {
            Body::Empty => Self { source: Source::Memory { bytes: Vec::new(), at: 0 }, left: 0 },
            Body::Memory(bytes) => Self { left: bytes.len() as u64, source: Source::Memory { bytes, at: 0 } },
            Body::File { file, len } => {
                Self { source: Source::File(BufReader::with_capacity(64 << 10, file)), left: len }
            }
        }
    }

    fn limit(&self, size: Option<i64>) -> usize {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        size.and_then(|size| usize::try_from(size).ok()).map_or(left, |size| size.min(left))
    }

    fn take<'py>(&mut self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let taken = match &mut self.source {
            Source::Memory { bytes, at } => {
                let taken = PyBytes::new(py, &bytes[*at..*at + count]);
                *at += count;
                taken
            }
            Source::File(file) => PyBytes::new_with(py, count, |buffer| Ok(file.read_exact(buffer)?))?,
        };
        self.left -= count as u64;
        Ok(taken)
    }

    fn line<'py>(&mut self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyBytes>> {
        let end = |rest: &[u8]| memchr(b'\n', rest).map(|lf| lf + 1);
        match &mut self.source {
            Source::Memory { bytes, at } => {
                let rest = &bytes[*at..*at + limit];
                let count = end(rest).unwrap_or(rest.len());
                self.take(py, count)
            }
            Source::File(file) => {
                let mut line = Vec::new();
                while line.len() < limit {
                    let buffered = file.fill_buf()?;
                    let piece = &buffered[..buffered.len().min(limit - line.len())];
                    let count = end(piece).unwrap_or(piece.len());
                    line.extend_from_slice(&piece[..count]);
                    file.consume(count);
                    if count == 0 || line.ends_with(b"\n") {
                        break;
                    }
                }
                self.left -= line.len() as u64;
                Ok(PyBytes::new(py, &line))
            }
        }
    }
}

#[pymethods]
impl Input {
    /// Returns at most `size` bytes; all that is left without it.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let count = self.limit(size);
        self.take(py, count)
    }

    /// Returns a line with its end, at most `size` bytes of it.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&mut self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = self.limit(size);
        self.line(py, limit)
    }

    /// Returns the lines that are left; with `hint`, stops after so many bytes.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&mut self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        let lines = PyList::empty(py);
        let mut taken = 0;
        while self.left > 0 {
            let limit = self.limit(None);
            let line = self.line(py, limit)?;
            taken += line.as_bytes().len() as i64;
            lines.append(line)?;
            if hint.is_some_and(|hint| hint > 0 && taken >= hint) {
                break;
            }
        }
        Ok(lines)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        if self.left == 0 {
            return Err(PyStopIteration::new_err(()));
        }
        let limit = self.limit(None);
        self.line(py, limit)
    }
}
