//! A text that a process hangs out: a memfd with a name, which others with rights on the process find in `/proc/PID/fd` and
//! read. Its children have it too. Not for: numbers that change while somebody looks (`shared`).

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A text that others may read.
#[derive(Debug)]
pub struct Poster(File);

impl Poster {
    /// Hangs out a text.
    ///
    /// # Errors
    /// The kernel has no room for it.
    pub fn create(name: &str, text: &str) -> io::Result<Self> {
        let poster = Self(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?));
        poster.replace(text)?;
        Ok(poster)
    }

    /// Puts another text in its place. Who reads in that very moment may get the beginning of one and the end of the
    /// other.
    ///
    /// # Errors
    /// The kernel has no room for it.
    pub fn replace(&self, text: &str) -> io::Result<()> {
        self.0.write_all_at(text.as_bytes(), 0)?;
        self.0.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn others_read_what_hangs_out_now() {
        let poster = Poster::create("poster-test", "a long text").expect("made");
        let path = format!("/proc/{}/fd/{}", std::process::id(), poster.0.as_raw_fd());
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "a long text");
        poster.replace("short").expect("replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "short");
        let link = std::fs::read_link(&path).expect("a link");
        assert!(link.to_string_lossy().starts_with("/memfd:poster-test"));
    }
}
