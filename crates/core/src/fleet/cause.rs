//! Why a worker has died, in words, from what is known: how it ended, what the arbiter had done to it, and whether the
//! kernel says that it killed for want of memory. Not for: finding that out.

use super::ExitStatus;
use super::notice::signal_name;
use super::worker::{Killed, Why, Worker};
use crate::scoreboard::Exit;
use std::fmt;

/// Who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Not the arbiter.
    Other,
    /// The arbiter, after `timeout` without a sign of life.
    Timeout,
    /// The arbiter, after `boot_timeout`.
    BootTimeout,
    /// The arbiter, after `graceful_timeout`.
    GracefulTimeout,
}

impl By {
    /// Returns who ended a worker that has not ended well; `None` if it was told to go and went.
    pub(super) fn of(worker: &Worker, status: ExitStatus) -> Option<Self> {
        if worker.leaving.is_some() && status == ExitStatus::Code(0) {
            return None;
        }
        match (worker.killed, worker.leaving.as_ref().map(|leaving| leaving.why)) {
            (Some(Killed::TimedOut), _) | (_, Some(Why::TimedOut)) => Some(Self::Timeout),
            (Some(Killed::NotBooted), _) | (_, Some(Why::NotBooted)) => Some(Self::BootTimeout),
            (Some(Killed::Lingered), _) => Some(Self::GracefulTimeout),
            (None, Some(Why::Told)) => None,
            (None, Some(Why::ByItself) | None) => Some(Self::Other),
        }
    }
}

/// Why a worker has died; its `Display` is the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// How it ended.
    pub status: ExitStatus,
    /// Who ended it.
    pub by: By,
    /// Whether the kernel's counters of kills for want of memory have moved since the last look; `None` if it shows none.
    pub out_of_memory: Option<bool>,
}

impl Cause {
    /// Returns its kind, by which ends of workers are counted.
    pub fn exit(&self) -> Exit {
        match (self.by, self.status) {
            (By::Timeout, _) => Exit::Timeout,
            (By::BootTimeout, _) => Exit::Boot,
            (By::GracefulTimeout, _) => Exit::GracefulTimeout,
            (By::Other, ExitStatus::Code(3 | 4)) => Exit::Boot,
            (By::Other, ExitStatus::Code(_)) => Exit::Code,
            (By::Other, ExitStatus::Signal(9)) if self.out_of_memory == Some(true) => Exit::OutOfMemory,
            (By::Other, ExitStatus::Signal(_)) => Exit::Signal,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.by, self.status) {
            (By::Timeout, _) => f.write_str("it gave no sign of life for `timeout` and was ended by the arbiter"),
            (By::BootTimeout, _) => f.write_str("it did not boot within `boot_timeout` and was ended by the arbiter"),
            (By::GracefulTimeout, _) => f.write_str("it did not finish within `graceful_timeout` and was killed"),
            (By::Other, ExitStatus::Code(code)) => write!(f, "the process ended itself with exit code {code}"),
            (By::Other, ExitStatus::Signal(9)) => f.write_str(match self.out_of_memory {
                Some(true) => "the kernel killed it for want of memory (OOM killer)",
                Some(false) => {
                    "it was sent SIGKILL, not by its arbiter, and not for want of memory: the kernel's count of that has not moved"
                }
                None => "it was sent SIGKILL, not by its arbiter; the kernel shows no count of kills for want of memory",
            }),
            (By::Other, ExitStatus::Signal(signal @ (4 | 6 | 7 | 8 | 11))) => {
                write!(f, "{}: a crash in native code, unless somebody sent that signal", signal_name(signal))
            }
            (By::Other, ExitStatus::Signal(signal)) => {
                write!(f, "it was sent {}, not by its arbiter", signal_name(signal))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_says_what_is_known_and_no_more() {
        let cause = |by, status, out_of_memory| Cause { status, by, out_of_memory }.to_string();
        let killed = |oom| cause(By::Other, ExitStatus::Signal(9), oom);
        assert!(killed(Some(true)).contains("OOM killer"));
        assert!(killed(Some(false)).contains("not for want of memory"));
        assert!(killed(None).contains("shows no count"));
        let other = |status| cause(By::Other, status, Some(true));
        assert_eq!(other(ExitStatus::Code(1)), "the process ended itself with exit code 1");
        assert!(other(ExitStatus::Signal(11)).starts_with("SIGSEGV: a crash"));
        assert_eq!(other(ExitStatus::Signal(1)), "it was sent SIGHUP, not by its arbiter");
        assert!(cause(By::Timeout, ExitStatus::Signal(9), None).contains("`timeout`"));
    }
}
