//! A worker's heartbeat: the modification time of a file without a name that worker and arbiter share (Gunicorn 22 to 27:
//! `workers/workertmp.py`). A beat sets it to the monotonic clock; before the first it is the date of its creation, which is
//! far in the future of that clock.
//!
//! Who runs `sync` beats before it takes a request and not again until that is done: there the last beat is the begin of
//! the request. The others beat from their loop. Not for: what silence means.

use crate::process;
use rustix::fs::{Mode, OFlags, fstat, open};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

/// How the file is called while it has a name.
const NAME: &str = "wgunicorn-";
/// A worker beats by its own reading of the clock, so a beat may seem to be a little ahead.
const AHEAD_S: f64 = 1.0;

/// The file.
#[derive(Debug)]
pub(super) struct Heartbeat {
    file: OwnedFd,
    /// By which it is told from the other workers'.
    pub(super) inode: u64,
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Beat {
    /// There has been none yet.
    Never,
    /// Seconds since the last.
    Ago(f64),
}

/// What was found in a worker's descriptors.
#[derive(Debug)]
pub(super) enum Found {
    /// The file.
    It(Heartbeat),
    /// None, or several of which it cannot be told yet.
    Nothing,
    /// They may not be seen.
    Hidden,
}

impl Heartbeat {
    /// Finds that of a process. A worker that was just forked has its siblings' too, for a moment: `taken` are those.
    pub(super) fn find(pid: u32, taken: &BTreeSet<u64>) -> Found {
        let Some(mut all) = Self::all(pid, taken) else { return Found::Hidden };
        match (all.pop(), all.pop()) {
            (Some(it), None) => Found::It(it),
            _ => Found::Nothing,
        }
    }

    /// Returns all that a process has open, by inode; none if that may not be seen.
    pub(super) fn inodes(pid: u32) -> Option<BTreeSet<u64>> {
        Some(Self::all(pid, &BTreeSet::new())?.iter().map(|heartbeat| heartbeat.inode).collect())
    }

    fn all(pid: u32, taken: &BTreeSet<u64>) -> Option<Vec<Self>> {
        let descriptors = process::descriptors(pid)?;
        let named = descriptors.iter().filter(|(_, path)| {
            path.rsplit('/').next().is_some_and(|name| name.starts_with(NAME) && name.ends_with("(deleted)"))
        });
        let opened = named.filter_map(|(fd, _)| {
            let path = format!("/proc/{pid}/fd/{fd}");
            let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
            let inode = fstat(&file).ok()?.st_ino;
            (!taken.contains(&inode)).then_some(Self { file, inode })
        });
        let mut all: Vec<Self> = opened.collect();
        all.dedup_by_key(|heartbeat| heartbeat.inode);
        Some(all)
    }

    /// Reads it. `now_s` is the monotonic clock.
    pub(super) fn read(&self, now_s: f64) -> Option<Beat> {
        let stat = fstat(&self.file).ok()?;
        let beat_s = stat.st_mtime as f64 + stat.st_mtime_nsec as f64 / 1e9;
        Some(if beat_s > now_s + AHEAD_S { Beat::Never } else { Beat::Ago((now_s - beat_s).max(0.0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Timespec, Timestamps, futimens};

    #[test]
    fn the_first_beat_is_told_from_the_files_creation() {
        let file = tempfile::Builder::new().prefix(NAME).tempfile().expect("a file");
        let (file, path) = file.into_parts();
        path.close().expect("unlinked");
        let Found::It(heartbeat) = Heartbeat::find(std::process::id(), &BTreeSet::new()) else {
            panic!("it is there");
        };
        assert_eq!(heartbeat.read(1000.0), Some(Beat::Never));
        let at = Timespec { tv_sec: 990, tv_nsec: 500_000_000 };
        futimens(&file, &Timestamps { last_access: at, last_modification: at }).expect("set");
        assert_eq!(heartbeat.read(1000.0), Some(Beat::Ago(9.5)));
        let taken = BTreeSet::from([heartbeat.inode]);
        assert!(matches!(Heartbeat::find(std::process::id(), &taken), Found::Nothing));
    }
}
