//! The memory of the control group of a process, and how often the kernel has killed in it for want of memory. Both
//! versions of control groups are read. Not for: setting limits, and not for processors ([`crate::pressure`]).

use std::fs;
use std::path::{Path, PathBuf};

/// Where the trees are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Version 1 writes a limit of this order where there is none.
const UNLIMITED: u64 = 1 << 60;

/// The control group of a process that limits its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Finds that of a process; `None` if there is none or it cannot be seen.
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let places = places(&text, Path::new(ROOT), "memory");
        // In a namespace of its own the path may begin above what is mounted: then it is the root.
        let mut folders = places.into_iter().flat_map(|(mount, folder)| [folder, mount]);
        folders.find(|folder| has_memory(folder)).map(|folder| Self { folder })
    }

    /// Reads the first of these files that is there.
    fn read(&self, names: [&str; 2]) -> Option<String> {
        names.iter().find_map(|name| fs::read_to_string(self.folder.join(name)).ok())
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> Option<u64> {
        self.read(["memory.current", "memory.usage_in_bytes"])?.trim().parse().ok()
    }

    /// The limit of that; `None` if there is none.
    pub fn memory_max(&self) -> Option<u64> {
        let limit: u64 = self.read(["memory.max", "memory.limit_in_bytes"])?.trim().parse().ok()?;
        (limit < UNLIMITED).then_some(limit)
    }

    /// How often the kernel has killed a process of the group for want of memory, be it the group's limit or the host's.
    pub fn oom_kills(&self) -> Option<u64> {
        field(&self.read(["memory.events", "memory.oom_control"])?, "oom_kill")
    }
}

/// The kernel's count of processes that it has killed for want of memory: in the control group of a process, else on the host.
/// A kill is counted a little before the process has ended, so it is told by the count that was taken before the last one.
#[derive(Debug)]
pub struct Kills {
    pid: u32,
    group: Option<Cgroup>,
    before: Option<u64>,
    last: Option<u64>,
}

impl Kills {
    /// Begins to count for a process. Where it is moved to another group, counting begins anew.
    pub fn of(pid: u32) -> Self {
        let mut kills = Self { pid, group: None, before: None, last: None };
        kills.take();
        kills
    }

    fn count(&mut self) -> Option<u64> {
        let group = Cgroup::of(self.pid);
        let host = || field(&fs::read_to_string("/proc/vmstat").ok()?, "oom_kill");
        let count = group.as_ref().and_then(Cgroup::oom_kills).or_else(host);
        if group != self.group || self.before.is_none() {
            self.group = group;
            (self.before, self.last) = (count, count);
        }
        count
    }

    /// Takes the count; to be called about once a second.
    pub fn take(&mut self) {
        let count = self.count();
        self.before = self.last;
        self.last = count;
    }

    /// Tells whether the count has moved since the last but one time that it was taken; `None` if there is none.
    pub fn have_moved(&mut self) -> Option<bool> {
        let count = self.count()?;
        Some(count > self.before?)
    }

    /// One of them has been told.
    pub fn told(&mut self) {
        self.before = self.before.map(|before| before + 1);
        self.last = self.last.max(self.before);
    }
}

fn has_memory(folder: &Path) -> bool {
    ["memory.current", "memory.usage_in_bytes"].iter().any(|name| folder.join(name).exists())
}

/// Returns where the groups of a process are that have to do with `controller`, each with the root of its tree: `0::/a/b` in
/// the unified one, `4:cpu,cpuacct:/a/b` in that of version 1.
pub(crate) fn places(groups: &str, root: &Path, controller: &str) -> Vec<(PathBuf, PathBuf)> {
    let place = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let mount = match controllers {
            "" => root.to_path_buf(),
            _ if controllers.split(',').any(|name| name == controller) => root.join(controllers),
            _ => return None,
        };
        // A group outside of what we see is shown with dots.
        let path = Path::new(path.trim_start_matches('/'));
        let inside = !path.components().any(|part| part.as_os_str() == "..");
        Some((mount.clone(), if inside { mount.join(path) } else { mount }))
    };
    groups.lines().filter_map(place).collect()
}

/// Finds `name NUMBER` in a file of such lines.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
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
    fn kills_are_told_one_by_one() {
        let mut kills = Kills::of(std::process::id());
        kills.take();
        assert!(kills.have_moved().is_none_or(|moved| !moved));
        // As if the kernel had counted two since.
        let Some(before) = kills.before.and_then(|before| before.checked_sub(2)) else { return };
        kills.before = Some(before);
        assert_eq!(kills.have_moved(), Some(true));
        kills.told();
        assert_eq!(kills.have_moved(), Some(true));
        kills.told();
        assert_eq!(kills.have_moved(), Some(false));
    }

    #[test]
    fn groups_of_both_versions_are_found() {
        let root = Path::new("/cg");
        let table = [
            ("0::/system.slice/web.service\n", vec![("/cg", "/cg/system.slice/web.service")]),
            ("0::/\n", vec![("/cg", "/cg")]),
            ("0::/../other\n", vec![("/cg", "/cg")]),
            (
                "5:cpuset:/\n4:cpu,cpuacct:/docker/a:b\n",
                vec![("/cg/cpu,cpuacct", "/cg/cpu,cpuacct/docker/a:b")],
            ),
            ("1:cpu:/\n0::/\n", vec![("/cg/cpu", "/cg/cpu"), ("/cg", "/cg")]),
            ("", vec![]),
            ("nonsense\n", vec![]),
        ];
        for (text, folders) in table {
            let expected: Vec<(PathBuf, PathBuf)> =
                folders.into_iter().map(|(mount, folder)| (mount.into(), folder.into())).collect();
            assert_eq!(places(text, root, "cpu"), expected, "{text}");
        }
    }

    #[test]
    fn nobodys_group_is_none() {
        assert_eq!(Cgroup::of(u32::MAX), None);
    }
}
