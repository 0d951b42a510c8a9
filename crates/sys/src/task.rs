//! What the kernel says of one thread of this process: whether it computes or waits, and for what.
//!
//! Not for: other processes, and not for Python, whose frames the kernel does not know.

use rustix::net::getpeername;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

/// What a thread is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It runs, or could.
    Computing,
    /// It is in this system call.
    Waiting(Call),
    /// It is stopped (SIGSTOP, a debugger).
    Stopped,
    /// The kernel does not tell.
    Unknown,
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, or its number.
    pub name: String,
    /// What it waits for, as far as that can be seen.
    pub target: Target,
}

/// What a system call waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The time.
    Time,
    /// A lock, or another thread.
    Lock,
    /// A child process.
    Child,
    /// A socket: its descriptor and the address at its other end.
    Peer(i32, String),
    /// Another descriptor: its number and what it is.
    File(i32, String),
    /// Something else.
    Other,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Computing => f.write_str("computing"),
            Self::Stopped => f.write_str("stopped by a signal"),
            Self::Unknown => f.write_str("doing what the kernel does not tell"),
            Self::Waiting(Call { name, target }) => match target {
                Target::Time => write!(f, "sleeping ({name})"),
                Target::Lock => write!(f, "waiting for a lock ({name})"),
                Target::Child => write!(f, "waiting for a child process ({name})"),
                Target::Peer(fd, peer) => write!(f, "waiting for {peer} ({name}, descriptor {fd})"),
                Target::File(fd, what) => write!(f, "waiting for {what} ({name}, descriptor {fd})"),
                Target::Other => write!(f, "waiting in {name}"),
            },
        }
    }
}

/// Looks at a thread of this process.
pub fn doing(tid: u32) -> Doing {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/task/{tid}/{name}"));
    let Ok(stat) = read("stat") else { return Doing::Unknown };
    // Behind the name, which may hold anything.
    match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
        Some('R') => return Doing::Computing,
        Some('T' | 't') => return Doing::Stopped,
        _ => {}
    }
    let Ok(line) = read("syscall") else { return Doing::Unknown };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let Some(Ok(number)) = words.first().map(|word| word.parse::<i64>()) else { return Doing::Computing };
    let argument = |at: usize| {
        words.get(at + 1).and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
    };
    Doing::Waiting(call(number, argument))
}

fn call(number: i64, argument: impl Fn(usize) -> Option<u64>) -> Call {
    let Some((_, name, kind)) = CALLS.iter().find(|(known, ..)| *known == number) else {
        return Call { name: format!("system call {number}"), target: Target::Other };
    };
    let descriptor = |fd: Option<i32>| fd.filter(|fd| *fd >= 0).map_or(Target::Other, descriptor);
    let target = match kind {
        Kind::Time => Target::Time,
        Kind::Lock => Target::Lock,
        Kind::Child => Target::Child,
        Kind::Descriptor => descriptor(argument(0).map(|fd| fd as u32 as i32)),
        // struct pollfd begins with the descriptor.
        Kind::Poll if argument(1) >= Some(1) => descriptor(argument(0).and_then(|at| own_word(at).ok())),
        Kind::Poll => Target::Time,
        Kind::Other => Target::Other,
    };
    Call { name: (*name).to_owned(), target }
}

/// Reads four bytes of this process's own memory; an error where there are none.
fn own_word(at: u64) -> io::Result<i32> {
    let mut bytes = [0; 4];
    fs::File::open("/proc/self/mem")?.read_exact_at(&mut bytes, at)?;
    Ok(i32::from_ne_bytes(bytes))
}

fn descriptor(fd: i32) -> Target {
    // SAFETY: the descriptor is used for one call that changes nothing; if its owner closes it at this moment, the call
    // fails or tells of another, which is wrong evidence and nothing worse.
    let peer = getpeername(unsafe { BorrowedFd::borrow_raw(fd) });
    let link = fs::read_link(format!("/proc/self/fd/{fd}"));
    match peer {
        Ok(Some(address)) => match std::net::SocketAddr::try_from(address) {
            Ok(address) => Target::Peer(fd, address.to_string()),
            Err(_) => Target::Peer(fd, "a unix socket".to_owned()),
        },
        _ => match link {
            Ok(path) => Target::File(fd, path.to_string_lossy().into_owned()),
            Err(_) => Target::Other,
        },
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Time,
    Lock,
    Child,
    Descriptor,
    Poll,
    Other,
}

/// The calls in which Python programs wait.
const CALLS: &[(i64, &str, Kind)] = &[
    (libc::SYS_read, "read", Kind::Descriptor),
    (libc::SYS_recvfrom, "recvfrom", Kind::Descriptor),
    (libc::SYS_recvmsg, "recvmsg", Kind::Descriptor),
    (libc::SYS_write, "write", Kind::Descriptor),
    (libc::SYS_sendto, "sendto", Kind::Descriptor),
    (libc::SYS_sendmsg, "sendmsg", Kind::Descriptor),
    (libc::SYS_connect, "connect", Kind::Descriptor),
    (libc::SYS_accept, "accept", Kind::Descriptor),
    (libc::SYS_accept4, "accept4", Kind::Descriptor),
    (libc::SYS_flock, "flock", Kind::Descriptor),
    (libc::SYS_fcntl, "fcntl", Kind::Descriptor),
    (libc::SYS_fsync, "fsync", Kind::Descriptor),
    (libc::SYS_epoll_pwait, "epoll_pwait", Kind::Other),
    (libc::SYS_pselect6, "pselect6", Kind::Other),
    (libc::SYS_ppoll, "ppoll", Kind::Poll),
    (libc::SYS_futex, "futex", Kind::Lock),
    (libc::SYS_nanosleep, "nanosleep", Kind::Time),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", Kind::Time),
    (libc::SYS_wait4, "wait4", Kind::Child),
    (libc::SYS_waitid, "waitid", Kind::Child),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", Kind::Poll),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", Kind::Other),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", Kind::Other),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// Runs something that waits, looks at it when it does, and lets it go.
    fn look(body: impl FnOnce() + Send + 'static, free: impl FnOnce()) -> Doing {
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).expect("told");
            body();
        });
        let tid = told.recv().expect("a thread");
        let mut seen = Doing::Computing;
        for _ in 0..500 {
            thread::sleep(Duration::from_millis(2));
            seen = doing(tid);
            if matches!(seen, Doing::Waiting(_)) {
                break;
            }
        }
        free();
        thread.join().expect("ended");
        seen
    }

    #[test]
    fn what_a_thread_waits_for() {
        let asleep = look(|| thread::sleep(Duration::from_millis(300)), || {});
        assert_eq!(asleep.to_string(), "sleeping (clock_nanosleep)");
        let (free, wait) = mpsc::channel::<()>();
        let locked = look(move || assert!(wait.recv().is_err()), move || drop(free));
        assert_eq!(locked.to_string(), "waiting for a lock (futex)");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (other, peer) =
            listener.accept().map(|(other, _)| (other, stream.peer_addr())).expect("accepted");
        let reading = look(move || assert!(matches!(stream.read(&mut [0]), Ok(0))), move || drop(other));
        let text = reading.to_string();
        assert!(text.starts_with(&format!("waiting for {} (recvfrom,", peer.expect("a peer"))), "{text}");
    }

    #[test]
    fn a_thread_that_is_none_is_unknown() {
        assert_eq!(doing(u32::MAX), Doing::Unknown);
    }
}
