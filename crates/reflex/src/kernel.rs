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

/// Returns how much memory is left for a process's siblings: the host's, or that of its control group, as [`memory`] has it, if that is
/// less.
pub(crate) fn available(group: &Memory) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kb = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let host = kb.map(|kb: u64| kb << 10);
    let of_group = group.cgroup_max.zip(group.cgroup).map(|(most, used)| most.saturating_sub(used));
    host.into_iter().chain(of_group).min()
}

/// Returns the resident memory of a process, bytes.
pub(crate) fn rss(pid: u32) -> Option<u64> {
    let pages: u64 = fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()?
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Looks at how short of something the host is, and a process's control groups of processor time.
pub(crate) fn strain(pid: u32) -> Pressure {
    Pressure {
        cpu: pressure::stall("cpu"),
        memory: pressure::stall("memory"),
        io: pressure::stall("io"),
        throttled_s: pressure::throttled_of(pid).map(|throttled| throttled.stopped_ns as f64 / 1e9),
    }
}

/// Returns the state letter of a process's main thread.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Returns for how long the calling process's main thread, though ready to compute, has waited for a processor, in all.
pub(crate) fn waited_ns() -> Option<u64> {
    fs::read_to_string("/proc/self/schedstat").ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// How much of the host's processors is in use.
#[derive(Debug, Default)]
pub(crate) struct Processors {
    /// Ticks in all, and idle ones, at the last reading.
    before: Option<(u64, u64)>,
    busy: Option<f64>,
}

impl Processors {
    /// Reads the counters; a share is known from the second time on.
    pub(crate) fn measure(&mut self) {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let Some(now) = text.lines().next().and_then(ticks) else { return };
        if let Some(before) = self.before.replace(now) {
            let (all, idle) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
            self.busy = (all > 0).then(|| 1.0 - idle as f64 / all as f64);
        }
    }

    /// Returns the share that was in use between the last two readings.
    pub(crate) fn busy(&self) -> Option<f64> {
        self.busy
    }
}

/// Reads `cpu  user nice system idle iowait ...`: ticks in all, and those in which there was nothing to do.
fn ticks(line: &str) -> Option<(u64, u64)> {
    let numbers: Vec<u64> = line
        .strip_prefix("cpu ")?
        .split_ascii_whitespace()
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    Some((numbers.iter().sum(), numbers.get(3)? + numbers.get(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_process_has_threads_and_memory() {
        let pid = std::process::id();
        assert!(threads(pid).contains(&pid));
        assert!(memory(pid).rss.is_some_and(|rss| rss > 1 << 20));
        assert!(rss(pid).is_some_and(|rss| rss > 1 << 20) && rss(u32::MAX).is_none());
        assert_eq!(memory(u32::MAX), Memory::default());
        assert!(threads(u32::MAX).is_empty());
        assert!(state(pid).is_some_and(|state| "RS".contains(state)));
        assert_eq!(state(u32::MAX), None);
    }

    #[test]
    fn the_share_of_processors_in_use_is_measured() {
        assert_eq!(ticks("cpu  10 0 20 60 10 0 0 0 5 5"), Some((100, 70)));
        for text in ["", "cpu0 1 2 3 4 5", "cpu  1 2 3"] {
            assert_eq!(ticks(text), None, "{text}");
        }
        let mut processors = Processors::default();
        processors.measure();
        assert_eq!(processors.busy(), None);
        let begun = std::time::Instant::now();
        while processors.busy().is_none() && begun.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::sleep(std::time::Duration::from_millis(20));
            processors.measure();
        }
        assert!(processors.busy().is_some_and(|share| (0.0..=1.0).contains(&share)));
    }
}
