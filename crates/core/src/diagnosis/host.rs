//! Rules about the host and the process's share of it: stopped, starved of processors, kept by a disk, short of memory.
//! Not for: who is to blame on the host.

use super::Cause;
use super::rules::Match;
use super::sight::Sight;
use super::words;

/// A share of the time between the looks that is most of it.
const MOST: f64 = 0.5;
/// A share of a processor that is little.
const LITTLE: f64 = 0.4;
/// Share of the last ten seconds in which somebody waited for memory that is much, per cent.
const MEMORY_PRESSURE: f64 = 20.0;

/// The process is stopped, or the host was.
pub(super) fn paused(sight: &Sight<'_>) -> Option<Match> {
    let stopped = sight.thread.is_some_and(|thread| matches!(thread.state.as_str(), "T" | "t"));
    if stopped {
        let what = "is in a process that is stopped (SIGSTOP, a debugger, a freezer)";
        return Some(Match::new(Cause::HostPaused, 0.97, what).with(
            "kernel",
            3,
            "its thread's state is T: stopped",
        ));
    }
    if !sight.case.server.all_silent {
        return None;
    }
    let what = "was in a server that stood still as a whole: all its workers fell silent at the same moment";
    Some(Match::new(Cause::HostPaused, 0.9, what).with(
        "host",
        3,
        "all workers made no progress for the same time, the observer included",
    ))
}

/// It is ready to compute and is not let.
pub(super) fn starved(sight: &Sight<'_>) -> Option<Match> {
    let first = sight.case.looks.first()?;
    let wall_s = sight.last.at_s - first.at_s;
    let throttled = |look: &crate::evidence::Evidence| look.pressure.throttled_s;
    let held_s = match (throttled(first), throttled(sight.last)) {
        (Some(before), Some(now)) if wall_s > 0.05 => (now - before).max(0.0),
        _ => 0.0,
    };
    let held = wall_s > 0.05 && held_s / wall_s > LITTLE;
    let waits =
        sight.starved.is_some_and(|share| share > MOST) && sight.cpu.is_none_or(|share| share < LITTLE);
    // A thread that waits for something else is not kept by that.
    let any_runs = || sight.last.threads.iter().any(|thread| thread.state == "R");
    let would_run = sight.is_running() || waits || sight.is_task() && any_runs();
    if !(waits || held && would_run) {
        return None;
    }
    let what = "is ready to compute and gets no processor";
    let mut found = Match::new(Cause::HostCpuStarved, 0.95, what);
    if let Some(share) = sight.starved {
        found = found.with(
            "kernel",
            3,
            format!(
                "its thread was ready to run and had to wait for {:.0} % of the time between the looks",
                share * 100.0
            ),
        );
    }
    if held {
        found = found.with(
            "host",
            3,
            format!(
                "the control group was held back by its processor quota for {held_s:.1} of {wall_s:.1} s"
            ),
        );
    }
    if let Some(cpu) = sight.last.pressure.cpu {
        found = found.with(
            "host",
            1,
            format!("somebody on this host waited for a processor for {cpu:.0} % of the last 10 s"),
        );
    }
    Some(found)
}

/// A disk keeps it, or memory that was swapped out.
pub(super) fn disk(sight: &Sight<'_>) -> Option<Match> {
    let thread = sight.thread.filter(|thread| thread.state == "D")?;
    let place = if thread.wchan.is_empty() { String::new() } else { format!(" ({})", thread.wchan) };
    let call = if thread.syscall.is_empty() {
        "reads memory that is not there".to_owned()
    } else {
        format!("is in {}", thread.syscall)
    };
    let what = format!("{call} and waits for a disk, or for a filesystem that does not answer");
    let mut found = Match::new(Cause::HostDiskOrSwap, 0.92, what).with(
        "kernel",
        3,
        format!("its thread's state is D: an uninterruptible wait{place}"),
    );
    if let Some(io) = sight.last.pressure.io {
        found = found.with(
            "host",
            1,
            format!("somebody on this host waited for a disk for {io:.0} % of the last 10 s"),
        );
    }
    Some(found)
}

/// There is little memory left.
pub(super) fn memory(sight: &Sight<'_>) -> Option<Match> {
    let memory = &sight.last.memory;
    let full = match (memory.cgroup, memory.cgroup_max) {
        (Some(used), Some(limit)) => limit > 0 && used as f64 > 0.95 * limit as f64,
        _ => false,
    };
    let pressed = sight.last.pressure.memory.is_some_and(|share| share > MEMORY_PRESSURE);
    if !full && !pressed {
        return None;
    }
    let rss = memory.rss.map_or(String::new(), |rss| format!("; the worker has {}", words::bytes(rss)));
    let what = "is in a worker that has no memory left";
    let text = match (memory.cgroup, memory.cgroup_max) {
        (Some(used), Some(limit)) if full => {
            format!("the control group uses {} of {}{rss}", words::bytes(used), words::bytes(limit))
        }
        _ => format!("somebody on this host waited for memory most of the last 10 s{rss}"),
    };
    Some(Match::new(Cause::WorkerMemory, 0.7, what).with("host", 3, text))
}
