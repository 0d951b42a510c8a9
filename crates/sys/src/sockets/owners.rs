//! Which process has a socket, as far as `/proc` may be read: every process's descriptors are looked at until all are found.
//! That costs milliseconds, so callers remember what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Most processes that are looked at.
const PROCESSES_MAX: usize = 8192;
/// Owners that a caller remembers at most.
pub(super) const KNOWN_MAX: usize = 4096;

/// A process that has a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its pid: of several, the lowest, which is mostly the one that has begun it.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
}

/// Finds the processes that have these sockets, given by inode.
pub fn owners(inodes: &[u64]) -> BTreeMap<u64, Owner> {
    let mut wanted: BTreeSet<u64> = inodes.iter().copied().filter(|inode| *inode != 0).collect();
    let mut found = BTreeMap::new();
    if wanted.is_empty() {
        return found;
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    for pid in pids.into_iter().take(PROCESSES_MAX) {
        // Whose descriptors may not be seen is passed over.
        for (_, inode) in super::descriptors(pid).unwrap_or_default() {
            if wanted.remove(&inode) {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                found.insert(inode, Owner { pid, name: name.trim_end().to_owned() });
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    found
}
