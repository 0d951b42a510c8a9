//! What the kernel counts of a process: processor time and memory. One small file is read for each. Not for: threads.

use ferricorn_sys::process::field;
use std::fs;

/// What the kernel counts of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Vitals {
    /// Seconds of processor that it has used.
    pub cpu_s: f64,
    /// Bytes of its resident memory.
    pub rss: u64,
}

/// Looks at a process; none if it is not there.
pub(crate) fn of(pid: u32) -> Option<Vitals> {
    read(
        &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?,
        rustix::param::clock_ticks_per_second(),
        rustix::param::page_size() as u64,
    )
}

/// Fields 14, 15 and 24 of `/proc/PID/stat`.
fn read(stat: &str, ticks_per_s: u64, page: u64) -> Option<Vitals> {
    let number = |at| field(stat, at)?.parse::<u64>().ok();
    let ticks = number(14)?.saturating_add(number(15)?);
    Some(Vitals { cpu_s: ticks as f64 / ticks_per_s.max(1) as f64, rss: number(24)?.saturating_mul(page) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let fields: Vec<String> = (3..=52).map(|number| (number * 10).to_string()).collect();
        let stat = format!("7 (a) b) {}", fields.join(" "));
        assert_eq!(read(&stat, 100, 4096), Some(Vitals { cpu_s: 2.9, rss: 240 * 4096 }));
        assert_eq!(read("7 (a) S 1", 100, 4096), None);
        let mine = of(std::process::id()).expect("this process");
        assert!(mine.rss > 1 << 20, "{mine:?}");
        assert_eq!(of(u32::MAX), None);
    }
}
