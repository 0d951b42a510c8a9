//! Requests that are answered at once and worked on later: the store of jobs, and the process that keeps and begins them.
//!
//! A worker sends a request to the [`dispatcher`], which answers when it is in the [`store`]; the worker then answers 202. The
//! dispatcher plays the request to a server of the same application that serves jobs alone ([`attempt`]), and keeps what comes back.
//! Not for: HTTP with the client, and not for the processes that work on jobs, which are ordinary workers.
#![forbid(unsafe_code)]

pub mod attempt;
pub mod dispatcher;
mod elsewhere;
pub mod rules;
pub mod store;
pub mod webhook;

use ferricorn_core::offload::id;
use ferricorn_sys::{packets, random};
use rustix::net::SocketType;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Why jobs cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No store is there.
    #[error("no jobs are kept at {}: `offload` names the requests that become some", .0.display())]
    Absent(PathBuf),
    /// Folder or file cannot be made or read.
    #[error("{}: {}", .0.display(), .1)]
    Unreachable(PathBuf, io::Error),
    /// It is another version's.
    #[error("the jobs were written by a newer Ferricorn (schema {0})")]
    Version(i32),
    /// It is an older version's, which its server brings up to date.
    #[error(
        "the jobs were written by an older Ferricorn: the next start of its server brings them up to date"
    )]
    Old,
    /// What SQLite says.
    #[error("the store of jobs: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Where workers ask the dispatcher, and where it finds those who work on jobs: open from the start of the server to its end, so that
/// whoever is started anew finds the others.
#[derive(Debug)]
pub struct Doors {
    counter: OwnedFd,
    jobs: OwnedFd,
    /// What only the server's own processes know.
    pub token: String,
}

impl Doors {
    /// Opens both.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            counter: packets::listener(SocketType::SEQPACKET)?,
            jobs: packets::listener(SocketType::STREAM)?,
            token: id(random::bytes()?),
        })
    }

    /// Returns the name under which workers find the dispatcher.
    ///
    /// # Errors
    /// The system's.
    pub fn counter_name(&self) -> io::Result<Vec<u8>> {
        packets::name(self.counter.as_fd())
    }

    /// Returns the name under which the dispatcher finds those who work on jobs.
    ///
    /// # Errors
    /// The system's.
    pub fn jobs_name(&self) -> io::Result<Vec<u8>> {
        packets::name(self.jobs.as_fd())
    }

    /// Returns a copy of the door at which jobs come in, for the server that works on them.
    ///
    /// # Errors
    /// The system's.
    pub fn jobs_copy(&self) -> io::Result<OwnedFd> {
        packets::twin(&self.jobs)
    }

    /// Leaves the door at which workers ask; the other is closed here, so that the dispatcher hears when nobody else has it.
    pub fn into_counter(self) -> OwnedFd {
        self.counter
    }
}
