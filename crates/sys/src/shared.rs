//! Memory shared between processes: a sealed-size memfd mapped for as long as the process lives.
//! Not for: its layout, which is `core::scoreboard` and consists of atomics.

use ferricorn_core::scoreboard::Scoreboard;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A type that may be shared between processes through zeroed memory.
///
/// # Safety
/// Every bit pattern, all zeroes among them, must be a valid value, and all access through `&Self` must be atomic:
/// the type consists of atomics (and arrays and `repr(C)` structs of them) alone.
pub unsafe trait Shared {}

// SAFETY: `Scoreboard` is `repr(C)` and made of atomics and arrays of structs of atomics alone (see its module).
unsafe impl Shared for Scoreboard {}

/// A `T` in shared memory together with the descriptor that others map it by.
#[derive(Debug)]
pub struct SharedMemory<T: 'static> {
    fd: OwnedFd,
    value: &'static T,
}

impl<T: Shared> SharedMemory<T> {
    /// Makes new zeroed memory. The name shows in `/proc/PID/fd`.
    pub fn create(name: &str) -> io::Result<Self> {
        let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, size_of::<T>() as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
        Self::map(fd)
    }

    /// Maps memory that another process made.
    ///
    /// # Errors
    /// `InvalidData` if the size is another than `T`'s.
    pub fn map(fd: OwnedFd) -> io::Result<Self> {
        if fstat(&fd)?.st_size as usize != size_of::<T>() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "shared memory of another layout"));
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice, of the size of the file, which is sealed
        // against shrinking by its maker; it is never unmapped.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                size_of::<T>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &fd,
                0,
            )?
        };
        // SAFETY: the mapping is page-aligned, of the size of `T`, lives until the process ends, and `Shared` says
        // that any bytes are a valid `T` and that access is atomic.
        let value = unsafe { &*address.cast::<T>() };
        Ok(Self { fd, value })
    }

    /// Returns the value, which lives as long as the process.
    pub fn value(&self) -> &'static T {
        self.value
    }

    /// Returns the descriptor, for processes that map it themselves.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
