//! Files that the application has open, as descriptors of our own.

use rustix::fs::{FileType, fstat};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Duplicates a descriptor given by number and returns it with the file's size; `None` if it is no regular file.
///
/// # Errors
/// The number is no open descriptor, or there is no room for another.
pub fn regular(number: RawFd) -> io::Result<Option<(OwnedFd, u64)>> {
    // SAFETY: `fcntl` takes any number and fails with EBADF for one that is not open; a descriptor returned is new and
    // nobody else's.
    let copy = unsafe {
        match libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) {
            -1 => return Err(io::Error::last_os_error()),
            copy => OwnedFd::from_raw_fd(copy),
        }
    };
    let stat = fstat(&copy)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then_some((copy, stat.st_size as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_regular_files() {
        let file = std::fs::File::open("/proc/self/exe").expect("ourselves");
        assert!(regular(file.as_raw_fd()).expect("open").is_some_and(|(_, size)| size > 0));
        let null = std::fs::File::open("/dev/null").expect("a device");
        assert!(regular(null.as_raw_fd()).expect("open").is_none());
        assert!(regular(-1).is_err());
    }
}
