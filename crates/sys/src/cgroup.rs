//! The control group (v2) of a process: its memory, and how often the kernel has killed in it for want of memory.
//! Not for: setting limits, and not for v1, which has no such tree.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the tree is mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The control group of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Finds that of a process; `None` without a tree of version 2.
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        // In a namespace of its own the path may begin above what is mounted.
        let folder = Path::new(ROOT).join(path);
        let folder = if folder.join("cgroup.procs").exists() { folder } else { ROOT.into() };
        folder.join("cgroup.procs").exists().then_some(Self { folder })
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> Option<u64> {
        self.read("memory.current")?.trim().parse().ok()
    }

    /// The limit of that; `None` if there is none.
    pub fn memory_max(&self) -> Option<u64> {
        self.read("memory.max")?.trim().parse().ok()
    }

    /// How often the kernel has killed a process of the group for want of memory, be it the group's limit or the host's.
    pub fn oom_kills(&self) -> Option<u64> {
        field(&self.read("memory.events")?, "oom_kill")
    }

    /// Seconds that the group was held back by its processor quota.
    pub fn throttled_s(&self) -> Option<f64> {
        field(&self.read("cpu.stat")?, "throttled_usec").map(|us| us as f64 / 1e6)
    }
}

/// Finds `name NUMBER` in a file of such lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 7\n";
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "oom"), Some(3));
        assert_eq!(field(text, "nothing"), None);
    }

    #[test]
    fn nobodys_group_is_none() {
        assert_eq!(Cgroup::of(u32::MAX), None);
    }
}
