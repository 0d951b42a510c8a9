//! What the kernel says of a process and its host: threads, memory, pressure. Works without rights on the process, with
//! less to tell. Not for: Python.

use ferricorn_core::record::{Memory, Pressure, Thread};
use ferricorn_sys::cgroup::Cgroup;
use ferricorn_sys::task::{Call, Doing, Target, Task, doing};
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
    let (syscall, peer) = match &doing {
        Doing::Waiting(Call { name, target: Target::Peer(_, peer) }) => (name.clone(), Some(peer.clone())),
        Doing::Waiting(Call { name, .. }) => (name.clone(), None),
        _ => (String::new(), None),
    };
    Thread {
        tid,
        name: vitals.name,
        request: None,
        holds_gil: None,
        doing: doing.to_string(),
        state: vitals.state,
        syscall,
        wchan: vitals.wchan,
        peer,
        cpu_s: vitals.cpu_s,
        cpu_wait_s: vitals.cpu_wait_s,
        frames: Vec::new(),
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

/// Looks at how short of something the host and the process's control group are.
pub(crate) fn pressure(pid: u32) -> Pressure {
    let of = |name: &str| avg10(&fs::read_to_string(format!("/proc/pressure/{name}")).ok()?);
    Pressure {
        cpu: of("cpu"),
        memory: of("memory"),
        io: of("io"),
        throttled_s: Cgroup::of(pid).as_ref().and_then(Cgroup::throttled_s),
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`
fn avg10(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text =
            "some avg10=1.25 avg60=0.50 avg300=0.10 total=99\nfull avg10=9.00 avg60=0 avg300=0 total=1\n";
        assert_eq!(avg10(text), Some(1.25));
        assert_eq!(avg10("full avg10=9.00\n"), None);
        assert_eq!(avg10(""), None);
    }

    #[test]
    fn ones_own_process_has_threads_and_memory() {
        let pid = std::process::id();
        assert!(threads(pid).contains(&pid));
        assert!(memory(pid).rss.is_some_and(|rss| rss > 1 << 20));
        assert_eq!(memory(u32::MAX), Memory::default());
        assert!(threads(u32::MAX).is_empty());
    }
}
