//! Whether the observer runs, and when it is started again. Not for: starting it, and not for what it does.

use ferricorn_sys::clock;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

const SECOND_NS: u64 = 1_000_000_000;
/// An observer that ends sooner after its start has failed.
const EARLY_NS: u64 = 10 * SECOND_NS;
/// Longest pause between two starts.
const PAUSE_MAX_NS: u64 = 60 * SECOND_NS;

/// The observer's process as the arbiter knows it.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    pid: Option<i32>,
    started_ns: u64,
    not_before_ns: u64,
    pause_ns: u64,
}

impl Observer {
    /// Tells whether it is to be started, if there is to be one.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.pid.is_none() && now_ns >= self.not_before_ns
    }

    pub(crate) fn started(&mut self, pid: i32, now_ns: u64) {
        self.pid = Some(pid);
        self.started_ns = now_ns;
    }

    /// It could not be started, or has ended early: the next attempt waits, longer each time.
    pub(crate) fn failed(&mut self, now_ns: u64) {
        self.pause_ns = (self.pause_ns * 2).clamp(SECOND_NS, PAUSE_MAX_NS);
        self.not_before_ns = now_ns + self.pause_ns;
    }

    /// Waits until it has ended, for so long at most.
    pub(crate) fn wait(&self, patience_ns: u64) {
        let pid = self.pid.and_then(Pid::from_raw);
        if let Some(fd) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
            // An end after that time is its own affair.
            let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&clock::timespec(patience_ns)));
        }
    }

    /// Notices that it has ended; returns what is to be said of that.
    pub(crate) fn reap(&mut self, now_ns: u64) -> Option<String> {
        let pid = self.pid?;
        let ended = match waitpid(Pid::from_raw(pid), WaitOptions::NOHANG) {
            Ok(None) => return None,
            Ok(Some((_, status))) => status.exit_status() == Some(0),
            // Somebody else has reaped it.
            Err(_) => false,
        };
        self.pid = None;
        // It was told to leave.
        if ended {
            return None;
        }
        if now_ns.saturating_sub(self.started_ns) < EARLY_NS {
            self.failed(now_ns);
        } else {
            self.pause_ns = 0;
        }
        Some(format!("The observer (pid:{pid}) has ended and is started again; requests did not notice"))
    }
}
