//! What the kernel says of a host that is short of processors: the limits of our control groups, and pressure stall
//! information. Files that are missing, as on old kernels and in many containers, say nothing. Not for: what follows from
//! it (`core::fleet`).

use crate::cgroup::{field, places};
use ferricorn_core::fleet::{Pressure, Throttled};
use std::fs;
use std::path::{Path, PathBuf};

/// Groups within groups that are looked at.
const LEVELS_MAX: usize = 16;

/// Reads what there is. A few small files of the kernel's, which nobody can hold up.
pub fn read() -> Pressure {
    Pressure {
        throttled: throttled_of(std::process::id()),
        percent: stall("cpu").map(|percent| percent as u64),
    }
}

/// Returns how a process's control groups were held back by their limits on processor time; `None` without limits.
pub fn throttled_of(pid: u32) -> Option<Throttled> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    throttled(&groups, Path::new("/sys/fs/cgroup"))
}

/// Returns for how many per cent of the last ten seconds somebody on this host waited for `cpu`, `memory` or `io`.
pub fn stall(resource: &str) -> Option<f64> {
    some_avg10(&fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?)
}

/// Adds up our group and those around it: each may have a limit.
fn throttled(groups: &str, root: &Path) -> Option<Throttled> {
    let found = places(groups, root, "cpu").into_iter().flat_map(|(mount, folder)| {
        let levels: Vec<PathBuf> = folder.ancestors().map(Path::to_path_buf).collect();
        levels.into_iter().take(LEVELS_MAX).take_while(move |level| level.starts_with(&mount))
    });
    let stats = found.filter_map(|folder| cpu_stat(&fs::read_to_string(folder.join("cpu.stat")).ok()?));
    stats.reduce(|one, other| Throttled {
        periods: one.periods + other.periods,
        cut: one.cut + other.cut,
        stopped_ns: one.stopped_ns + other.stopped_ns,
    })
}

/// Reads `cpu.stat` of both versions; `None` for a group without a limit.
fn cpu_stat(text: &str) -> Option<Throttled> {
    let number = |name: &str| field(text, name);
    let stopped_ns = match number("throttled_usec") {
        Some(microseconds) => microseconds.saturating_mul(1000),
        None => number("throttled_time")?,
    };
    Some(Throttled { periods: number("nr_periods")?, cut: number("nr_throttled")?, stopped_ns })
}

/// Reads `some avg10=23.85 …`.
fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = line.split(' ').find_map(|word| word.strip_prefix("avg10="))?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_in_both_versions() {
        let second = "usage_usec 9\nuser_usec 5\nnr_periods 100\nnr_throttled 40\nthrottled_usec 1234\n";
        let first = "nr_periods 100\nnr_throttled 40\nthrottled_time 1234000\n";
        let expected = Throttled { periods: 100, cut: 40, stopped_ns: 1_234_000 };
        assert_eq!((cpu_stat(second), cpu_stat(first)), (Some(expected), Some(expected)));
        for text in ["", "usage_usec 9\n", "nr_periods x\nnr_throttled 1\nthrottled_usec 1\n"] {
            assert_eq!(cpu_stat(text), None, "{text}");
        }
    }

    #[test]
    fn every_level_counts() {
        let root = std::env::temp_dir().join(format!("ferricorn-pressure-{}", std::process::id()));
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).expect("made");
        assert_eq!(throttled("0::/a/b\n", &root), None);
        for (folder, periods) in [(root.join("a"), 10), (inner, 5)] {
            let text = format!("nr_periods {periods}\nnr_throttled 1\nthrottled_usec 1\n");
            fs::write(folder.join("cpu.stat"), text).expect("written");
        }
        let found = throttled("0::/a/b\n", &root);
        fs::remove_dir_all(&root).expect("removed");
        assert_eq!(found, Some(Throttled { periods: 15, cut: 2, stopped_ns: 2000 }));
    }

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=23.85 avg60=14.37 avg300=10.11 total=1675884943\nfull avg10=99.00\n";
        assert_eq!(some_avg10(text), Some(23.85));
        for text in ["", "some\n", "some avg10=x\n", "full avg10=1.00\n"] {
            assert_eq!(some_avg10(text), None, "{text}");
        }
        // Whatever this host says.
        let _ = read();
    }
}
