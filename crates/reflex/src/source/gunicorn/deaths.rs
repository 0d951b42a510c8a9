//! Why a worker has ended: its exit status (from the kernel, or the log), whether its arbiter had found it silent, whether it
//! was told to go, and whether the kernel says that it killed for want of memory. Gunicorn's own log says "Perhaps out of
//! memory?" of every SIGKILL, its own included. Not for: noticing it (`tree`).

use super::tree::Worker;
use ferricorn_core::fleet::{By, Cause, ExitStatus};
use ferricorn_core::scoreboard::Exit;

/// The arbiter looks once a second whether a worker has been silent for longer than `timeout`; a beat that was read
/// earlier is a little younger.
const ROUND_S: f64 = 0.35;

/// Why it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    /// The kind; none where nothing of it is known.
    pub(super) exit: Option<Exit>,
    /// In words.
    pub(super) words: String,
}

/// Finds out why a worker has ended.
pub(super) fn why(worker: &Worker, timeout_s: Option<f64>, out_of_memory: Option<bool>) -> Why {
    let silent = timeout_s
        .is_some_and(|timeout_s| worker.beat_age_s().is_some_and(|age_s| age_s >= timeout_s - ROUND_S));
    let leaving = worker.draining || worker.retiring;
    let status = worker.status();
    judged(status, worker.timed_out || silent, leaving, worker.boots(), out_of_memory)
}

fn judged(
    status: Option<ExitStatus>,
    silent: bool,
    leaving: bool,
    boots: bool,
    out_of_memory: Option<bool>,
) -> Why {
    let caused = |by, status| {
        let cause = Cause { status, by, out_of_memory };
        Why { exit: Some(cause.exit()), words: cause.to_string() }
    };
    let planned = |words: &str| Why { exit: Some(Exit::Planned), words: words.to_owned() };
    match status {
        // An orderly end; a worker that was found silent and came round is one that was ended all the same.
        Some(ExitStatus::Code(0)) if !silent => planned(if leaving { "it was told to go" } else { "it ended in order" }),
        Some(status) if silent => caused(By::Timeout, status),
        // SIGINT, SIGQUIT, SIGTERM: so arbiters and operators end workers.
        Some(ExitStatus::Signal(2 | 3 | 15)) => planned("it was told to go"),
        Some(status @ ExitStatus::Signal(9)) if leaving && out_of_memory != Some(true) => {
            caused(By::GracefulTimeout, status)
        }
        Some(status @ ExitStatus::Code(code)) if boots && code != 0 => {
            let words = format!("it could not load the application and ended with exit code {code}");
            Why { words, ..caused(By::BootTimeout, status) }
        }
        Some(status) => caused(By::Other, status),
        None if silent => caused(By::Timeout, ExitStatus::Signal(9)),
        None if out_of_memory == Some(true) => caused(By::Other, ExitStatus::Signal(9)),
        None if leaving => planned("it was told to go"),
        None => Why {
            exit: None,
            words: "how it ended cannot be seen from outside: the kernel is older than 6.15, and no error log is read"
                .to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_true_cause_is_told() {
        use ExitStatus::{Code, Signal};
        // Status; silent, leaving, booting; kills for want of memory.
        let table = [
            (Some(Code(0)), (false, false, false), Some(false), Some(Exit::Planned), "ended in order"),
            (Some(Code(0)), (false, true, false), None, Some(Exit::Planned), "told to go"),
            (Some(Signal(15)), (false, false, false), None, Some(Exit::Planned), "told to go"),
            // The arbiter's own SIGKILL, whatever the log says.
            (Some(Signal(9)), (true, false, false), Some(false), Some(Exit::Timeout), "`timeout`"),
            (Some(Signal(9)), (true, false, false), Some(true), Some(Exit::Timeout), "`timeout`"),
            (Some(Code(1)), (true, false, false), None, Some(Exit::Timeout), "`timeout`"),
            (Some(Code(0)), (true, false, false), None, Some(Exit::Timeout), "`timeout`"),
            (Some(Signal(6)), (true, false, false), None, Some(Exit::Timeout), "`timeout`"),
            (Some(Signal(9)), (false, false, false), Some(true), Some(Exit::OutOfMemory), "OOM killer"),
            (
                Some(Signal(9)),
                (false, false, false),
                Some(false),
                Some(Exit::Signal),
                "not for want of memory",
            ),
            (Some(Signal(9)), (false, false, false), None, Some(Exit::Signal), "shows no count"),
            (
                Some(Signal(9)),
                (false, true, false),
                Some(false),
                Some(Exit::GracefulTimeout),
                "graceful_timeout",
            ),
            (Some(Signal(9)), (false, true, false), Some(true), Some(Exit::OutOfMemory), "OOM killer"),
            (Some(Signal(11)), (false, false, false), None, Some(Exit::Signal), "SIGSEGV"),
            (Some(Code(3)), (false, false, true), None, Some(Exit::Boot), "could not load"),
            (Some(Code(3)), (false, false, false), None, Some(Exit::Boot), "exit code 3"),
            (Some(Code(255)), (false, false, false), None, Some(Exit::Code), "exit code 255"),
            (None, (true, false, false), None, Some(Exit::Timeout), "`timeout`"),
            (None, (false, false, false), Some(true), Some(Exit::OutOfMemory), "OOM killer"),
            (None, (false, true, false), None, Some(Exit::Planned), "told to go"),
            (None, (false, false, false), None, None, "cannot be seen"),
        ];
        for (status, (silent, leaving, boots), memory, exit, words) in table {
            let why = judged(status, silent, leaving, boots, memory);
            assert_eq!(why.exit, exit, "{status:?} {silent} {leaving} {boots} {memory:?}: {}", why.words);
            assert!(why.words.contains(words), "{} lacks {words}", why.words);
        }
    }
}
