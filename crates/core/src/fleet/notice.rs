//! Every line that the arbiter writes about its workers, word for word. Alerts of Gunicorn's users match on some of
//! them; those are Gunicorn's. Not for: lines about listeners and files, which the arbiter's shell writes.

use super::strain::Shortage;
use super::worker::Killed;
use super::{ExitStatus, SECOND, Signal, TARGET_MAX};
use crate::log::Level;
use std::borrow::Cow;
use std::fmt;

/// A line; its `Display` is the text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`Display` below says each of them in words")]
pub enum Notice {
    Handling(Signal),
    HangUp,
    NoUpgrade,
    NoDaemon,
    WorkersSentAway,
    QuickShutdown,
    TooManyWorkers { wanted: usize },
    Timeout { pid: i32 },
    NotBooted { pid: i32, limit_ns: u64 },
    Spared { pid: i32, cause: Shortage, limit_ns: u64 },
    KillsWait { waiting: usize, most: usize, window_ns: u64 },
    Signaled { pid: i32, signal: i32 },
    KilledByUs { pid: i32, why: Killed },
    Unkillable { pid: i32 },
    ExitCode { pid: i32, code: i32 },
    FailedEarly { pid: i32, delay_ms: u64 },
    ReloadRefused { error: String },
    ReloadAbandoned { pid: i32, serving: usize },
    ReloadFinished,
    ReloadSoaks { pid: i32, soak_ns: u64 },
    ReloadHalted { serving: usize },
    ShuttingDown { failed: bool },
    Reason { reason: &'static str },
}

impl Notice {
    /// Returns the line about a worker that has ended, if there is something to say.
    pub(super) fn of_exit(pid: i32, status: ExitStatus, killed: Option<Killed>) -> Option<Self> {
        match (status, killed) {
            (ExitStatus::Signal(9), Some(why)) => Some(Self::KilledByUs { pid, why }),
            (ExitStatus::Signal(signal), _) => Some(Self::Signaled { pid, signal }),
            (ExitStatus::Code(0), _) => None,
            (ExitStatus::Code(code), _) => Some(Self::ExitCode { pid, code }),
        }
    }

    /// Returns how loud it is.
    pub fn level(&self) -> Level {
        match self {
            Self::Handling(Signal::Chld) | Self::NoDaemon => Level::Debug,
            Self::Handling(_)
            | Self::HangUp
            | Self::WorkersSentAway
            | Self::QuickShutdown
            | Self::ReloadSoaks { .. }
            | Self::ReloadFinished
            | Self::ShuttingDown { failed: false }
            | Self::Signaled { signal: 15, .. } => Level::Info,
            Self::ExitCode { .. }
            | Self::Signaled { signal: 9, .. }
            | Self::KilledByUs { why: Killed::TimedOut | Killed::NotBooted, .. }
            | Self::ReloadRefused { .. }
            | Self::ReloadAbandoned { .. }
            | Self::ReloadHalted { .. }
            | Self::ShuttingDown { failed: true }
            | Self::Unkillable { .. }
            | Self::Reason { .. } => Level::Error,
            Self::Timeout { .. } | Self::NotBooted { .. } => Level::Critical,
            Self::NoUpgrade
            | Self::TooManyWorkers { .. }
            | Self::Spared { .. }
            | Self::KillsWait { .. }
            | Self::Signaled { .. }
            | Self::KilledByUs { .. }
            | Self::FailedEarly { .. } => Level::Warning,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handling(signal) => write!(f, "Handling signal: {}", name(*signal)),
            Self::HangUp => f.write_str("Hang up: Master"),
            Self::NoUpgrade => f.write_str("USR2 signal ignored. Binary upgrade is not available."),
            Self::NoDaemon => f.write_str("SIGWINCH ignored. Not daemonized"),
            Self::WorkersSentAway => f.write_str("graceful stop of workers"),
            Self::QuickShutdown => f.write_str("Quick shutdown requested"),
            Self::TooManyWorkers { wanted } => {
                write!(f, "{wanted} workers are more than the {TARGET_MAX} that one server can have")
            }
            Self::Timeout { pid } => write!(f, "WORKER TIMEOUT (pid:{pid})"),
            Self::NotBooted { pid, limit_ns } => {
                write!(f, "Worker (pid:{pid}) has not booted within {} s", limit_ns / SECOND)
            }
            Self::Spared { pid, cause, limit_ns } => {
                let seconds = *limit_ns as f64 / SECOND as f64;
                write!(f, "Worker (pid:{pid}) gives no sign of life, but {cause}: it gets up to {seconds} s")
            }
            Self::KillsWait { waiting, most, window_ns } => write!(
                f,
                "{waiting} more workers give no sign of life; no more than {most} in {} s are killed, the others wait",
                *window_ns as f64 / SECOND as f64
            ),
            Self::Signaled { pid, signal } => {
                let hint = if *signal == 9 { " Perhaps out of memory?" } else { "" };
                write!(f, "Worker (pid:{pid}) was sent {}!{hint}", signal_name(*signal))
            }
            Self::KilledByUs { pid, why } => {
                let limit = match why {
                    Killed::TimedOut => "timeout",
                    Killed::NotBooted => "boot timeout",
                    Killed::Lingered => "graceful timeout",
                };
                write!(f, "Worker (pid:{pid}) was killed by SIGKILL after its {limit}")
            }
            Self::Unkillable { pid } => write!(f, "Worker (pid:{pid}) does not end even by SIGKILL"),
            Self::ExitCode { pid, code } => write!(f, "Worker (pid:{pid}) exited with code {code}."),
            Self::FailedEarly { pid, delay_ms } => {
                let (seconds, tenths) = (delay_ms / 1000, delay_ms % 1000 / 100);
                write!(f, "Worker (pid:{pid}) failed early; the next one starts in {seconds}.{tenths} s")
            }
            Self::ReloadRefused { error } => write!(f, "Reload failed, nothing has changed: {error}"),
            Self::ReloadAbandoned { pid, serving } => write!(
                f,
                "Reload abandoned: new worker (pid:{pid}) failed; {serving} workers go on serving. \
                 Correct the application and send HUP again."
            ),
            Self::ReloadFinished => f.write_str("Reload finished: all workers are new"),
            Self::ReloadSoaks { pid, soak_ns } => write!(
                f,
                "Reload: new worker (pid:{pid}) serves beside all old ones for {} s; then these are replaced",
                soak_ns / 1_000_000_000
            ),
            Self::ReloadHalted { serving } => write!(
                f,
                "Reload halted: the new workers are worse than the old; {serving} workers go on serving with the old code. \
                 A worker that is replaced from now on gets the new code: correct the application and send HUP again."
            ),
            Self::ShuttingDown { .. } => f.write_str("Shutting down: Master"),
            Self::Reason { reason } => write!(f, "Reason: {reason}"),
        }
    }
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::Term => "term",
        Signal::Int => "int",
        Signal::Quit => "quit",
        Signal::Hup => "hup",
        Signal::Ttin => "ttin",
        Signal::Ttou => "ttou",
        Signal::Usr1 => "usr1",
        Signal::Usr2 => "usr2",
        Signal::Winch => "winch",
        Signal::Chld => "chld",
    }
}

/// Returns the name of a signal by its number on Linux, as Python's `signal` module gives it.
pub fn signal_name(number: i32) -> Cow<'static, str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    match index.and_then(|index| NAMES.get(index)) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("signal {number}")),
    }
}
