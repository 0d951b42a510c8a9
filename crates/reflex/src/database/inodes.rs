//! Which process of this host has which unix socket: how the session at the other end of one is found, since a database knows
//! no more of it than that it is there. Needs the right to look at the database's processes: root, or its user.
//!
//! Not for: sockets of the worker, whose caller knows their other end.

use std::collections::BTreeMap;
use std::fs;

/// Most descriptors of a process that are looked at.
const DESCRIPTORS_MAX: usize = 4096;
/// Most processes.
const PROCESSES_MAX: usize = 500;

/// Inodes of unix sockets, by process.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    by_pid: BTreeMap<u32, Vec<u64>>,
    /// All that were asked for could be seen.
    pub is_complete: bool,
}

impl Inodes {
    /// Looks at these processes, whose names hold `name`: a database in a container knows its pids by other numbers than we do.
    pub(super) fn look(pids: impl Iterator<Item = u32>, name: &str) -> Self {
        let mut inodes = Self { by_pid: BTreeMap::new(), is_complete: true };
        for pid in pids.take(PROCESSES_MAX) {
            let called = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            match of(pid).filter(|_| called.contains(name)) {
                Some(found) => drop(inodes.by_pid.insert(pid, found)),
                None => inodes.is_complete = false,
            }
        }
        inodes
    }

    /// Returns the process that has a socket.
    pub(super) fn holder(&self, inode: u64) -> Option<u32> {
        self.by_pid.iter().find(|(_, inodes)| inodes.contains(&inode)).map(|(pid, _)| *pid)
    }

    /// Returns the socket of a process that has but one.
    pub(super) fn one_of(&self, pid: u32) -> Option<u64> {
        match self.by_pid.get(&pid)?.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }
}

/// The sockets of a process; none if that cannot be seen.
fn of(pid: u32) -> Option<Vec<u64>> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = folder.take(DESCRIPTORS_MAX).flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| {
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    Some(links.filter_map(inode).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let own = std::process::id();
        let (one, _other) = UnixStream::pair().expect("a pair");
        let link = fs::read_link(format!("/proc/self/fd/{}", one.as_raw_fd())).expect("a link");
        let inode = link.to_str().and_then(|link| link["socket:[".len()..].strip_suffix(']'));
        let inode: u64 = inode.and_then(|inode| inode.parse().ok()).expect("an inode");
        let called = fs::read_to_string("/proc/self/comm").expect("a name");
        let inodes = Inodes::look([own].into_iter(), called.trim());
        assert!(inodes.is_complete);
        assert_eq!((inodes.holder(inode), inodes.holder(u64::MAX)), (Some(own), None));
        assert_eq!(inodes.one_of(own), None, "it has both ends");
        assert!(!Inodes::look([u32::MAX].into_iter(), "").is_complete);
        assert!(!Inodes::look([own].into_iter(), "postgres").is_complete);
    }
}
