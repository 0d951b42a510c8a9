//! The processes that a worker has started. Not for: our own, which belong to the server.

use crate::kernel;
use ferricorn_core::evidence::Child;
use ferricorn_sys::clock;
use ferricorn_sys::process::start_time;
use std::fs;

/// Most children that are told.
const CHILDREN_MAX: usize = 16;
/// Ticks in a second of `/proc/PID/stat`: the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// Returns the processes that a process has started, the oldest first.
pub(super) fn of(pid: u32) -> Vec<Child> {
    let tasks = kernel::threads(pid).into_iter();
    let pids = tasks.flat_map(|tid| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>()
    });
    let mut children: Vec<Child> =
        pids.take(CHILDREN_MAX).filter(|child| !is_ours(*child)).map(child).collect();
    children.sort_by(|one, other| other.age_s.total_cmp(&one.age_s));
    children
}

/// Guardians and the like.
fn is_ours(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"ferricorn: "))
}

fn child(pid: u32) -> Child {
    let thread = kernel::thread(pid, pid);
    Child {
        pid,
        name: thread.name,
        age_s: age_s(pid).unwrap_or(0.0),
        doing: thread.doing,
        state: thread.state,
        cpu_s: thread.cpu_s,
    }
}

/// Seconds since a process was started: its start counts from boot, as does the clock.
fn age_s(pid: u32) -> Option<f64> {
    Some((clock::boot_time_s() - start_time(pid)? as f64 / TICKS).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn a_child_is_told_with_what_it_does() {
        let mut sleep = Command::new("sleep").arg("60").spawn().expect("a child");
        let begun = Instant::now();
        let seen = loop {
            let seen = of(std::process::id()).into_iter().find(|child| child.pid == sleep.id());
            // It is another program from its exec on.
            let done = seen
                .as_ref()
                .is_some_and(|child| child.name == "sleep" && child.doing.starts_with("sleeping"));
            if done || begun.elapsed() > Duration::from_secs(10) {
                break seen;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        sleep.kill().expect("ended");
        sleep.wait().expect("reaped");
        let seen = seen.expect("a child");
        assert_eq!((seen.name.as_str(), seen.state.as_str()), ("sleep", "S"));
        assert!(seen.age_s < 60.0, "{}", seen.age_s);
        assert!(of(u32::MAX).is_empty());
    }
}
