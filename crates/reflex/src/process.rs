//! A process, held by a pidfd so that its pid cannot become another's unnoticed; and what `/proc` says of processes without that.
//! Not for: which of them are workers (`source`), and not for whether one is told anything (`act`).

use ferricorn_core::fleet::ExitStatus;
use ferricorn_sys::process::ended;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most bytes of a command line or an environment that are read.
const TEXT_MAX: u64 = 256 << 10;
/// Threads whose children are looked at.
const THREADS_MAX: usize = 64;

/// A process that is watched.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// When it was started, in ticks since boot: with the pid, its name for ever.
    pub(crate) started: u64,
    /// Its pid as it knows it itself, which in a container is another: so its logs name it.
    pub(crate) inner: u32,
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// Takes hold of a process; none if there is none.
    pub(crate) fn open(pid: u32) -> Option<Self> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        // A kernel without pidfds leaves the start time.
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).ok();
        let stat = stat(pid).filter(|stat| stat.state != 'Z')?;
        Some(Self { pid, started: stat.started, inner: inner(pid).unwrap_or(pid), pidfd })
    }

    /// Tells whether it has not ended.
    pub(crate) fn lives(&self) -> bool {
        if let Some(pidfd) = &self.pidfd {
            let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
            return matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0));
        }
        stat(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != 'Z')
    }

    /// Returns how it has ended, where the kernel tells: once its parent has reaped it, or to who may trace it before that.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        let reaped = self.pidfd.as_ref().and_then(|pidfd| ended(pidfd.as_fd()));
        let waiting = || stat(self.pid).filter(|stat| stat.state == 'Z' && stat.started == self.started);
        // 0 is shown to those who may not know, too.
        let status = || waiting().map(|stat| stat.status).filter(|status| *status != 0);
        reaped.or_else(|| {
            let status = status()?;
            let (code, signal) = (status >> 8 & 0xff, status & 0x7f);
            Some(if signal == 0 { ExitStatus::Code(code) } else { ExitStatus::Signal(signal) })
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended, it is somebody else's, or the kernel has no pidfds: a pid alone is not enough to tell who is meant.
    pub(crate) fn send(&self, signal: Signal) -> io::Result<()> {
        let pidfd = self.pidfd.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok(pidfd_send_signal(pidfd, signal)?)
    }

    /// Returns a descriptor of its as our own: the same open file.
    ///
    /// # Errors
    /// As above; and it needs the right to trace it.
    pub(crate) fn borrow(&self, fd: i32) -> io::Result<OwnedFd> {
        let pidfd = self.pidfd.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok(pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())?)
    }

    /// Returns when it was started, nanoseconds since boot.
    pub(crate) fn started_ns(&self) -> u64 {
        self.started.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
    }

    /// Returns the seconds since it was started.
    pub(crate) fn age_s(&self) -> f64 {
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        let now = clock_gettime(ClockId::Boottime);
        let now_s = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
        (now_s - self.started as f64 / ticks).max(0.0)
    }
}

/// `NSpid: OUTER ... INNER`
fn inner(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_ascii_whitespace().last()?.parse().ok()
}

/// Returns a path of a process's as we reach it: in a container, by way of its root.
pub(crate) fn reachable(pid: u32, path: &Path) -> PathBuf {
    let within = PathBuf::from(format!("/proc/{pid}/root{}", path.display()));
    let same =
        |own: &fs::Metadata, theirs: &fs::Metadata| (own.dev(), own.ino()) == (theirs.dev(), theirs.ino());
    match (path.metadata(), within.metadata()) {
        (Ok(own), Ok(theirs)) if !same(&own, &theirs) => within,
        (Err(_), Ok(_)) => within,
        _ => path.to_owned(),
    }
}

/// What `/proc/PID/stat` says.
pub(crate) struct Stat {
    pub(crate) parent: u32,
    pub(crate) state: char,
    pub(crate) started: u64,
    /// As wait(2) tells it; 0 before the end, and to those who may not know.
    status: i32,
}

pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: words.first()?.chars().next()?,
        parent: words.get(1)?.parse().ok()?,
        started: words.get(19)?.parse().ok()?,
        status: words.get(49).and_then(|word| word.parse().ok()).unwrap_or(0),
    })
}

/// Returns the children of a process, the oldest first.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut found = Vec::new();
    let mut told = false;
    for task in tasks.take(THREADS_MAX) {
        let Ok(text) = fs::read_to_string(task.path().join("children")) else { continue };
        told = true;
        found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    if !told {
        // A kernel without CONFIG_PROC_CHILDREN.
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        found.extend(pids.filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid)));
    }
    found.sort_unstable();
    found
}

fn zero_ended(pid: u32, name: &str) -> Option<Vec<String>> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{pid}/{name}")).ok()?.take(TEXT_MAX).read_to_end(&mut bytes).ok()?;
    // Behind the last one there is nothing, or room.
    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { return Some(Vec::new()) };
    let parts = bytes[..=last].split(|byte| *byte == 0);
    Some(parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect())
}

/// Returns the words of its command line.
pub(crate) fn command_line(pid: u32) -> Vec<String> {
    zero_ended(pid, "cmdline").unwrap_or_default()
}

/// Returns those of these variables that it was started with; none if they may not be seen. Others are not kept.
pub(crate) fn environment(pid: u32, names: &[&str]) -> Option<BTreeMap<String, String>> {
    let all = whole_environment(pid)?;
    Some(all.into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect())
}

/// Returns all variables that it was started with; none if they may not be seen.
pub(crate) fn whole_environment(pid: u32) -> Option<Vec<(String, String)>> {
    let split =
        |variable: &String| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(zero_ended(pid, "environ")?.iter().filter_map(split).collect())
}

/// Returns how often its main thread has gone to sleep.
pub(crate) fn switches(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
}

/// Returns its user and group.
pub(crate) fn owner(pid: u32) -> Option<(u32, u32)> {
    let data = fs::metadata(format!("/proc/{pid}")).ok()?;
    Some((data.uid(), data.gid()))
}

/// Returns its control groups, as `/proc` has them.
pub(crate) fn control_group(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

/// Returns its descriptors with what they are; none if they may not be seen.
pub(crate) fn descriptors(pid: u32) -> Option<Vec<(i32, String)>> {
    const DESCRIPTORS_MAX: usize = 4096;
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().take(DESCRIPTORS_MAX);
    let named = entries.filter_map(|entry| {
        let fd = entry.file_name().to_str()?.parse().ok()?;
        Some((fd, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
    });
    let mut found: Vec<(i32, String)> = named.collect();
    found.sort_unstable();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_held_until_it_ends_and_after() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        let process = Process::open(child.id()).expect("there");
        assert_eq!(process.inner, child.id());
        assert_eq!(reachable(child.id(), Path::new("/proc/version")), Path::new("/proc/version"));
        assert!(process.lives() && process.status().is_none() && process.age_s() < 60.0);
        assert!(children(std::process::id()).contains(&child.id()));
        let begun = std::time::Instant::now();
        // For a moment it is still a copy of this process.
        while command_line(child.id()) != ["sleep", "60"] {
            assert!(begun.elapsed().as_secs() < 10, "{:?}", command_line(child.id()));
        }
        assert_eq!(stat(child.id()).map(|stat| stat.parent), Some(std::process::id()));
        child.kill().expect("ended");
        let begun = std::time::Instant::now();
        while process.lives() {
            assert!(begun.elapsed().as_secs() < 10, "it does not end");
        }
        assert!(matches!(process.status(), None | Some(ExitStatus::Signal(9))), "nobody has reaped it");
        child.wait().expect("reaped");
        assert!(!process.lives());
        assert!(matches!(process.status(), None | Some(ExitStatus::Signal(9))));
        assert!(Process::open(child.id()).is_none());
    }
}
