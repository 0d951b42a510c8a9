//! Leaving the terminal: `daemon`. Two forks, a session of its own, `/dev/null` for the standard descriptors.
//! Not for: forking itself; who calls knows whether an interpreter must be told.

use crate::process::Fork;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::io::{self, IsTerminal};

/// Which process has come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// One that has done its part and should end with code 0, at once and without clearing up.
    Leave,
    /// The daemon.
    Stay,
}

/// Turns the process into a daemon. With `keep_stdio`, output that goes to a file or pipe stays there.
pub fn daemonize(keep_stdio: bool, mut fork: impl FnMut() -> io::Result<Fork>) -> io::Result<Daemon> {
    if let Fork::Parent(_) = fork()? {
        return Ok(Daemon::Leave);
    }
    setsid()?;
    // No longer the session's leader: it can never get a terminal again.
    if let Fork::Parent(_) = fork()? {
        return Ok(Daemon::Leave);
    }
    umask(Mode::WGRP | Mode::WOTH);
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    if !keep_stdio || io::stdout().is_terminal() {
        dup2_stdout(&null)?;
    }
    if !keep_stdio || io::stderr().is_terminal() {
        dup2_stderr(&null)?;
    }
    Ok(Daemon::Stay)
}
