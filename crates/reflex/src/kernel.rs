//! What the kernel says of a process and its host: threads, memory, pressure. Works without rights on the process, with
//! less to tell. Not for: Python.

use ferricorn_core::evidence::{Memory, Pressure, Thread};
use ferricorn_sys::cgroup::Cgroup;
use ferricorn_sys::pressure;
use ferricorn_sys::task::{Doing, Target, Task, doing};
use std::fs;

/// Returns the kernel ids of a process's threads.
pub(crate) fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut tids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    tids.sort_unstable();
    tids
}

/// Looks at a thread.
pub(crate) fn thread(pid: u32, tid: u32) -> Thread {
    let task = Task { pid: Some(pid), tid };
    let vitals = task.vitals();
    let doing = doing(task);
    let call = if let Doing::Waiting(call) = &doing { Some(call) } else { None };
    let (fd, peer) = match call.map(|call| &call.target) {
        Some(Target::Peer(fd, peer)) => (Some(*fd), Some(peer.clone())),
        Some(Target::File(fd, _)) => (Some(*fd), None),
        _ => (None, None),
    };
    Thread {
        tid,
        name: vitals.name,
        request: None,
        holds_gil: None,
        doing: doing.to_string(),
        state: vitals.state,
        syscall: call.map(|call| call.name.clone()).unwrap_or_default(),
        wchan: vitals.wchan,
        fd,
        peer,
        patience_ms: call.and_then(|call| call.limit_ms),
        cpu_s: vitals.cpu_s,
        cpu_wait_s: vitals.cpu_wait_s,
        ..Thread::default()
    }
}

/// Looks at a process's memory and that of its control group.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss_kb: Option<u64> = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let group = Cgroup::of(pid);
    Memory {
        rss: rss_kb.map(|kb| kb << 10),
        cgroup: group.as_ref().and_then(Cgroup::memory),
        cgroup_max: group.as_ref().and_then(Cgroup::memory_max),
    }
}

/// Looks at how short of something the host is, and our control groups of processor time.
pub(crate) fn strain() -> Pressure {
    Pressure {
        cpu: pressure::stall("cpu"),
        memory: pressure::stall("memory"),
        io: pressure::stall("io"),
        throttled_s: pressure::read().throttled.map(|throttled| throttled.stopped_ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_process_has_threads_and_memory() {
        let pid = std::process::id();
        assert!(threads(pid).contains(&pid));
        assert!(memory(pid).rss.is_some_and(|rss| rss > 1 << 20));
        assert_eq!(memory(u32::MAX), Memory::default());
        assert!(threads(u32::MAX).is_empty());
    }
}
