//! What `ps` and `top` show: the command line's memory, written over with a title, and the name of the main thread.
//!
//! The kernel shows whatever stands between two addresses of the stack where it has put the arguments; writing there
//! needs no permission, but care: others (the C library, Rust's `std::env::args`) may still read the old words. Every byte
//! after the title is made zero, the last one is never written, so each old pointer still points at a string that ends.
//! Not for: growing beyond that place; long titles are cut.

use std::fs;
use std::io;
use std::ops::Range;

/// Shows `title` as this process's command line. Does nothing where the place cannot be found.
///
/// # Errors
/// The process has several threads: one of them might be reading.
pub fn set(title: &str) -> io::Result<()> {
    rustix::thread::set_name(c"ferricorn")?;
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the title is set before threads start"));
    }
    let Some(area) = argument_area() else { return Ok(()) };
    let room = (area.end - area.start).saturating_sub(1);
    let mut bytes = vec![0; room];
    let length = title.len().min(room);
    bytes[..length].copy_from_slice(&title.as_bytes()[..length]);
    // SAFETY: the area is this process's argument memory as the kernel reports it, within a mapping that is writable
    // (checked just now); there is one thread, so nobody reads or writes it at the same time; the strings in it remain
    // terminated, as the module's comment explains.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), area.start as *mut u8, room) };
    Ok(())
}

/// Returns the addresses of the arguments, if they lie in writable memory.
fn argument_area() -> Option<Range<usize>> {
    let area = argument_area_of(&fs::read_to_string("/proc/self/stat").ok()?)?;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    is_writable(&maps, &area).then_some(area)
}

/// Fields 48 and 49 of `/proc/PID/stat`. The second, the name in brackets, may itself hold blanks and brackets.
fn argument_area_of(stat: &str) -> Option<Range<usize>> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(45);
    let start: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    (start != 0 && start < end && end - start < 1 << 20).then_some(start..end)
}

fn is_writable(maps: &str, area: &Range<usize>) -> bool {
    maps.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { return false };
        let Some((start, end)) = range.split_once('-') else { return false };
        let parsed = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16));
        let (Ok(start), Ok(end)) = parsed else { return false };
        rights.starts_with("rw") && start <= area.start && area.end <= end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_where_the_arguments_are() {
        let area = argument_area().expect("found");
        let shown = fs::read("/proc/self/cmdline").expect("readable");
        assert_eq!(area.end - area.start, shown.len());
    }

    #[test]
    fn only_memory_that_can_be_written_is() {
        let numbers: Vec<String> = (3..=60).map(|number| number.to_string()).collect();
        assert_eq!(argument_area_of(&format!("1 (a) b) {}", numbers.join(" "))), Some(48..49));
        assert_eq!(argument_area_of("1 (a) S 1 2"), None);
        let maps = "1000-2000 rw-p 0 0:0 0\n2000-3000 r--p 0 0:0 0 [stack]\n";
        let table = [(0x1000..0x2000, true), (0x1800..0x2001, false), (0x2000..0x2100, false), (0..1, false)];
        for (area, expected) in table {
            assert_eq!(is_writable(maps, &area), expected, "{area:?}");
        }
    }
}
