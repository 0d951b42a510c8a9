//! Processes: fork, whom a process runs as, and how one has ended that is nobody's child of ours. Not for: waiting and
//! sending signals, which rustix does safely.

use ferricorn_core::fleet::ExitStatus;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Where a fork has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// In the parent; the child has this pid.
    Parent(i32),
    /// In the child.
    Child,
}

/// Forks a process that has one thread.
///
/// # Errors
/// The process has several threads (the child would have one, and the locks of all), or the kernel refuses.
pub fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot fork"));
    }
    // SAFETY: there is one thread, this one: nobody else holds a lock that the child would wait for.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Forks a process that has one thread; the child has the *same* descriptors, not copies: what the parent opens later is
/// there too, what either closes is gone for both, and all of it stays open until both have ended. No wait of the
/// parent's sees the child, and no signal tells of its end.
///
/// # Errors
/// As [`fork`].
pub fn fork_sharing_files() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot fork"));
    }
    // SAFETY: as in `fork`. Without CLONE_VM the child has memory of its own, so that a null stack means "the same
    // address"; of all that C libraries remember about their process, the child uses the allocator alone.
    match unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// Returns when a process was started, in clock ticks since the machine was: with its pid a name that no other process has.
pub fn start_time(pid: u32) -> Option<u64> {
    field(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, 22)?.parse().ok()
}

/// Returns a field of `/proc/PID/stat`, counted from 1 as in proc(5), from the third on. The second, the name in brackets,
/// may itself hold blanks and brackets.
pub fn field(stat: &str, number: usize) -> Option<&str> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

/// Lends a descriptor by its number. For a process that shares the descriptors of one that has ended, or is stopped:
/// whose they are is written in memory that both share.
pub fn lent(fd: u32) -> BorrowedFd<'static> {
    // SAFETY: nobody is there to close it but the caller, who does not. A number that is none makes the calls fail.
    unsafe { BorrowedFd::borrow_raw(fd.cast_signed().max(0)) }
}

/// `struct pidfd_info` of linux/pidfd.h in its first form.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// Returns how a process has ended that its parent has reaped, whoever that is; none before that, and on kernels before
/// 6.15, which do not tell.
pub fn ended(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    const EXIT: u64 = 1 << 3;
    // _IOWR(0xff, 11, struct pidfd_info)
    const GET_INFO: u32 = 0xc000_ff0b | (size_of::<PidfdInfo>() as u32) << 16;
    let mut info = PidfdInfo { mask: EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most as many bytes as the number of the request says, which are those of `info`.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) };
    if result != 0 || info.mask & EXIT == 0 {
        return None;
    }
    let signal = info.exit_code & 0x7f;
    Some(if signal == 0 { ExitStatus::Code(info.exit_code >> 8 & 0xff) } else { ExitStatus::Signal(signal) })
}

/// Becomes another user and group; 0 means "stay". The groups of the user's own come along with `initgroups` if the user
/// has a name. Gunicorn 27.0.1 then keeps its own group as the primary one, root's mostly; we do not.
pub fn become_user(uid: u32, gid: u32, initgroups: bool) -> io::Result<()> {
    let name = if initgroups && uid != 0 { user_name(uid)? } else { None };
    if gid != 0 {
        if let Some(name) = name {
            // SAFETY: the name is a C string.
            done(unsafe { libc::initgroups(name.as_ptr(), gid) })?;
        }
        // SAFETY: both take any number.
        if gid != unsafe { libc::getgid() } {
            // SAFETY: as above.
            done(unsafe { libc::setgid(gid) })?;
        }
    }
    // SAFETY: both take any number.
    if uid != 0 && uid != unsafe { libc::getuid() } {
        // SAFETY: as above.
        done(unsafe { libc::setuid(uid) })?;
    }
    Ok(())
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns the name of the effective user, if it has one.
pub fn own_name() -> Option<String> {
    // SAFETY: takes nothing and cannot fail.
    let name = user_name(unsafe { libc::geteuid() }).ok().flatten()?;
    Some(name.to_str().ok()?.to_owned())
}

/// Returns the name of a user, if there is one.
fn user_name(uid: u32) -> io::Result<Option<Box<CStr>>> {
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    let mut buffer = vec![0; 16 << 10];
    let mut found = ptr::null_mut();
    // SAFETY: all pointers are valid for the call, and the buffer is of the size given.
    let error =
        unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    if found.is_null() {
        return Ok(None);
    }
    // SAFETY: the call has succeeded and found an entry: its name is a C string within the buffer.
    Ok(Some(unsafe { CStr::from_ptr((*found).pw_name) }.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test harness itself has a thread beside this one.
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(fork().is_err());
        drop(stop);
        assert!(other.join().expect("ended").is_err());
    }

    #[test]
    fn how_a_process_has_ended_is_told_to_others_than_its_parent() {
        for (code, expected) in [("exit 3", ExitStatus::Code(3)), ("kill -9 $$", ExitStatus::Signal(9))] {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &format!("read x; {code}")]).stdin(std::process::Stdio::piped());
            let mut child = command.spawn().expect("a child");
            let pid = rustix::process::Pid::from_child(&child);
            let pidfd =
                rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd");
            assert_eq!(ended(pidfd.as_fd()), None);
            drop(child.stdin.take());
            child.wait().expect("reaped");
            // Older kernels do not tell.
            let told = ended(pidfd.as_fd());
            assert!([None, Some(expected)].contains(&told), "{told:?}");
        }
        assert_eq!(ended(std::io::stdin().as_fd()), None);
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_start_time() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["sh", "a) b", "((x))"] {
            assert_eq!(field(&format!("9 ({name}) {fields}"), 22), Some("4711"), "{name}");
        }
        assert_eq!(field("9 (sh", 22), None);
        assert_eq!(field("9 (sh) S 1", 22), None);
        assert!(start_time(std::process::id()).is_some() && start_time(0).is_none());
    }

    #[test]
    fn users_have_names_and_staying_is_always_possible() {
        assert_eq!(user_name(0).expect("looked up").as_deref(), Some(c"root"));
        assert_eq!(user_name(4_294_967_294).expect("looked up"), None);
        // SAFETY: takes nothing and cannot fail.
        let own = user_name(unsafe { libc::geteuid() }).expect("looked up");
        assert_eq!(own_name().as_deref(), own.as_deref().map(|name| name.to_str().expect("a name")));
        become_user(0, 0, false).expect("nothing to do");
        // SAFETY: both take nothing and cannot fail.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        become_user(uid, gid, false).expect("nothing to do");
    }
}
