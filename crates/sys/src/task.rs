//! What the kernel says of a thread, of this process or of another: whether it computes or waits, and for what. Of
//! another process it says less to those without rights on it. Where its system call may not be seen (Yama), the place in the
//! kernel where it sleeps tells of what kind that is, without its descriptor and its limit.
//!
//! Not for: Python, whose frames the kernel does not know.

use crate::peer;
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
    /// The limit that it sets to its waiting, milliseconds; -1 for none. Absent where it has no such argument, or that could
    /// not be read.
    pub limit_ms: Option<i64>,
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
    /// A descriptor that may not be seen; the place in the kernel that tells of it.
    Hidden(String),
    /// Something else.
    Other,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Computing => f.write_str("computing"),
            Self::Stopped => f.write_str("stopped by a signal"),
            Self::Unknown => f.write_str("doing what the kernel does not tell"),
            Self::Waiting(Call { name, target, .. }) => match target {
                Target::Time => write!(f, "sleeping ({name})"),
                Target::Lock => write!(f, "waiting for a lock ({name})"),
                Target::Child => write!(f, "waiting for a child process ({name})"),
                Target::Peer(fd, peer) => write!(f, "waiting for {peer} ({name}, descriptor {fd})"),
                Target::File(fd, what) => write!(f, "waiting for {what} ({name}, descriptor {fd})"),
                Target::Hidden(place) => write!(f, "waiting in {place} of the kernel ({name})"),
                Target::Other => write!(f, "waiting in {name}"),
            },
        }
    }
}

/// A thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its process; none for this one.
    pub pid: Option<u32>,
    /// Its kernel id.
    pub tid: u32,
}

/// What the kernel counts and says of a thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vitals {
    /// Its name.
    pub name: String,
    /// The state letter of proc(5); empty if the thread is gone.
    pub state: String,
    /// Where in the kernel it sleeps; empty if it does not, or if that is not told.
    pub wchan: String,
    /// Seconds of processor that it has used.
    pub cpu_s: f64,
    /// Seconds that it was ready and waited for a processor.
    pub cpu_wait_s: f64,
}

impl Task {
    fn folder(self) -> String {
        match self.pid {
            None => format!("/proc/self/task/{}", self.tid),
            Some(pid) => format!("/proc/{pid}/task/{}", self.tid),
        }
    }

    fn read(self, name: &str) -> io::Result<String> {
        fs::read_to_string(format!("{}/{name}", self.folder()))
    }

    fn state(self) -> Option<char> {
        let stat = self.read("stat").ok()?;
        // Behind the name, which may hold anything.
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    }

    /// Returns what the kernel says of the system call that it is in: number, arguments, stack pointer, place.
    pub(crate) fn syscall(self) -> io::Result<String> {
        self.read("syscall")
    }

    /// Returns where in the kernel it sleeps; empty if it does not, or if that is not told.
    fn place(self) -> String {
        // "0" stands for a thread that does not sleep, or for no right to know.
        self.read("wchan").ok().filter(|place| place != "0").unwrap_or_default()
    }

    /// Returns what the kernel counts of the thread.
    pub fn vitals(self) -> Vitals {
        let mut schedule = self.read("schedstat").unwrap_or_default();
        schedule.truncate(64);
        let mut seconds = schedule.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0.0) / 1e9);
        Vitals {
            name: self.read("comm").unwrap_or_default().trim_end().to_owned(),
            state: self.state().map(String::from).unwrap_or_default(),
            wchan: self.place(),
            cpu_s: seconds.next().unwrap_or(0.0),
            cpu_wait_s: seconds.next().unwrap_or(0.0),
        }
    }
}

/// Looks at a thread.
pub fn doing(task: Task) -> Doing {
    match task.state() {
        None => return Doing::Unknown,
        Some('R') => return Doing::Computing,
        Some('T' | 't') => return Doing::Stopped,
        _ => {}
    }
    let Ok(line) = task.syscall() else {
        return by_place(task.place()).map_or(Doing::Unknown, Doing::Waiting);
    };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let Some(Ok(number)) = words.first().map(|word| word.parse::<i64>()) else { return Doing::Computing };
    let argument = |at: usize| {
        words.get(at + 1).and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
    };
    Doing::Waiting(call(task.pid, number, argument))
}

/// Returns the call that leads to a place in the kernel; none if many do.
fn by_place(place: String) -> Option<Call> {
    let known = |(begin, _): &&(&str, &str)| place.starts_with(begin);
    let name = PLACES.iter().find(known).map(|(_, name)| (*name).to_owned())?;
    let kind = CALLS.iter().find(|(_, call, _)| *call == name).map(|(.., kind)| kind);
    let target = match kind {
        Some(Kind::Time) => Target::Time,
        Some(Kind::Lock) => Target::Lock,
        Some(Kind::Child) => Target::Child,
        _ => Target::Hidden(place),
    };
    Some(Call { name, target, limit_ms: None })
}

fn call(pid: Option<u32>, number: i64, argument: impl Fn(usize) -> Option<u64>) -> Call {
    let Some((_, name, kind)) = CALLS.iter().find(|(known, ..)| *known == number) else {
        return Call { name: format!("system call {number}"), target: Target::Other, limit_ms: None };
    };
    let descriptor =
        |fd: Option<i32>| fd.filter(|fd| *fd >= 0).map_or(Target::Other, |fd| descriptor(pid, fd));
    let target = match kind {
        Kind::Time => Target::Time,
        Kind::Lock => Target::Lock,
        Kind::Child => Target::Child,
        Kind::Descriptor => descriptor(argument(0).map(|fd| fd as u32 as i32)),
        // struct pollfd begins with the descriptor.
        Kind::Poll if argument(1) >= Some(1) => {
            descriptor(argument(0).and_then(|at| read(pid, at).ok()).map(i32::from_ne_bytes))
        }
        Kind::Poll => Target::Time,
        // CPython 3.10 sleeps so.
        Kind::Select if argument(0) == Some(0) => Target::Time,
        Kind::Select => Target::Other,
        Kind::Other => Target::Other,
    };
    Call { name: (*name).to_owned(), target, limit_ms: limit_ms(pid, number, &argument) }
}

/// Returns the limit that a call sets to its waiting.
fn limit_ms(pid: Option<u32>, number: i64, argument: &impl Fn(usize) -> Option<u64>) -> Option<i64> {
    // Of `int`, the lower half counts.
    let number_at = |at: usize| argument(at).map(|value| i64::from(value as u32 as i32));
    // A pointer to seconds and, in the second word, `unit` of a millisecond.
    let time_at = |at: usize, unit: i64| match argument(at)? {
        0 => Some(-1),
        place => read::<16>(pid, place).ok().and_then(|bytes| millis(&bytes, unit)),
    };
    #[cfg(target_arch = "x86_64")]
    match number {
        libc::SYS_poll => return number_at(2),
        libc::SYS_epoll_wait => return number_at(3),
        libc::SYS_select => return time_at(4, 1000),
        _ => {}
    }
    match number {
        libc::SYS_epoll_pwait => number_at(3),
        libc::SYS_ppoll => time_at(2, 1_000_000),
        libc::SYS_pselect6 => time_at(4, 1_000_000),
        libc::SYS_futex if argument(3) == Some(0) => Some(-1),
        libc::SYS_futex => futex_ms(argument(1)?, time_at(3, 1_000_000)?),
        _ => None,
    }
}

/// The limit of a futex: a duration, or a moment of one of two clocks.
fn futex_ms(operation: u64, time_ms: i64) -> Option<i64> {
    const WAIT_BITSET: u64 = 9;
    const REALTIME: u64 = 256;
    if operation & 0x7f != WAIT_BITSET {
        return Some(time_ms);
    }
    let now_ns = if operation & REALTIME != 0 { crate::clock::wall_ns() } else { crate::clock::now_ns() };
    Some((time_ms - i64::try_from(now_ns / 1_000_000).ok()?).max(0))
}

fn millis(bytes: &[u8; 16], unit: i64) -> Option<i64> {
    let (words, _) = bytes.as_chunks::<8>();
    let [seconds, fraction] = words else { return None };
    let whole = i64::from_ne_bytes(*seconds).checked_mul(1000)?;
    whole.checked_add(i64::from_ne_bytes(*fraction) / unit)
}

/// Reads bytes of a process's memory; an error where there are none, or without the right.
fn read<const N: usize>(pid: Option<u32>, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open(format!("{}/mem", process(pid)))?.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"))
}

fn descriptor(pid: Option<u32>, fd: i32) -> Target {
    let peer = match pid {
        None => own_peer(fd),
        Some(pid) => peer::of(pid, fd),
    };
    match (peer, fs::read_link(format!("{}/fd/{fd}", process(pid)))) {
        (Some(peer), _) => Target::Peer(fd, peer),
        (None, Ok(path)) => Target::File(fd, path.to_string_lossy().into_owned()),
        (None, Err(_)) => Target::Other,
    }
}

/// Returns the other end of a socket of this process.
fn own_peer(fd: i32) -> Option<String> {
    // SAFETY: the descriptor is used for one call that changes nothing; if its owner closes it at this moment, the call
    // fails or tells of another, which is wrong evidence and nothing worse.
    let address = getpeername(unsafe { BorrowedFd::borrow_raw(fd) }).ok()??;
    Some(match std::net::SocketAddr::try_from(address) {
        Ok(address) => address.to_string(),
        Err(_) => "a unix socket".to_owned(),
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Time,
    Lock,
    Child,
    Descriptor,
    Poll,
    Select,
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
    (libc::SYS_pselect6, "pselect6", Kind::Select),
    (libc::SYS_ppoll, "ppoll", Kind::Poll),
    (libc::SYS_futex, "futex", Kind::Lock),
    (libc::SYS_nanosleep, "nanosleep", Kind::Time),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", Kind::Time),
    (libc::SYS_wait4, "wait4", Kind::Child),
    (libc::SYS_waitid, "waitid", Kind::Child),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", Kind::Poll),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", Kind::Select),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", Kind::Other),
];

/// How the names of places begin where Python programs sleep, of Linux 4.15 to 6.18, and the call that leads there. TCP sleeps
/// in one place to receive, to send and to connect: receiving is what happens most.
const PLACES: &[(&str, &str)] = &[
    ("futex_", "futex"),
    ("hrtimer_nanosleep", "clock_nanosleep"),
    ("do_nanosleep", "clock_nanosleep"),
    ("do_wait", "wait4"),
    ("poll_schedule_timeout", "ppoll"),
    ("do_sys_poll", "ppoll"),
    ("do_poll", "ppoll"),
    ("do_select", "pselect6"),
    ("ep_poll", "epoll_pwait"),
    ("do_epoll_wait", "epoll_pwait"),
    ("wait_woken", "recvfrom"),
    ("sk_wait_data", "recvfrom"),
    ("unix_stream_", "recvfrom"),
    ("__skb_wait_for_more_packets", "recvfrom"),
    ("inet_wait_for_connect", "connect"),
    ("inet_stream_connect", "connect"),
    ("inet_csk_accept", "accept4"),
    ("sk_stream_wait_memory", "sendto"),
    ("locks_lock_inode_wait", "flock"),
    ("flock_lock_inode_wait", "flock"),
    ("posix_lock_inode_wait", "fcntl"),
    ("fcntl_setlk", "fcntl"),
    ("pipe_", "read"),
    ("anon_pipe_read", "read"),
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
            seen = doing(Task { pid: None, tid });
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
    fn a_place_in_the_kernel_tells_the_call() {
        let table = [
            ("futex_do_wait", Some("waiting for a lock (futex)")),
            ("futex_wait_queue_me", Some("waiting for a lock (futex)")),
            ("hrtimer_nanosleep", Some("sleeping (clock_nanosleep)")),
            ("do_wait", Some("waiting for a child process (wait4)")),
            ("wait_woken", Some("waiting in wait_woken of the kernel (recvfrom)")),
            (
                "poll_schedule_timeout.constprop.0",
                Some("waiting in poll_schedule_timeout.constprop.0 of the kernel (ppoll)"),
            ),
            ("rpc_wait_bit_killable", None),
            ("", None),
        ];
        for (place, expected) in table {
            let found = by_place(place.to_owned()).map(|call| Doing::Waiting(call).to_string());
            assert_eq!(found.as_deref(), expected, "{place}");
        }
        for (place, name) in PLACES {
            assert!(CALLS.iter().any(|(_, call, _)| call == name), "{place}");
        }
    }

    #[test]
    fn limits_of_waits_are_read() {
        let limit = |doing: Doing| if let Doing::Waiting(call) = doing { call.limit_ms } else { None };
        let (free, wait) = mpsc::channel::<()>();
        let endless = look(move || assert!(wait.recv().is_err()), move || drop(free));
        assert_eq!(limit(endless), Some(-1));
        let (free, wait) = mpsc::channel::<()>();
        let limited =
            look(move || assert!(wait.recv_timeout(Duration::from_secs(60)).is_err()), move || drop(free));
        let left_ms = limit(limited).expect("a limit");
        assert!((1..=60_000).contains(&left_ms), "{left_ms}");
        let (free, wait) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let polled = look(
            move || {
                let mut fds = [rustix::event::PollFd::new(&wait, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut fds, Some(&crate::clock::timespec(60_000_000_000))).expect("an end");
            },
            move || drop(free),
        );
        let left_ms = limit(polled).expect("a limit");
        assert!((1..=60_000).contains(&left_ms), "{left_ms}");
    }

    #[test]
    fn another_process_is_seen_like_ones_own() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        let task = Task { pid: Some(child.id()), tid: child.id() };
        let asleep = "sleeping (clock_nanosleep)";
        let seen = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(2));
            doing(task).to_string() == asleep
        });
        let vitals = task.vitals();
        child.kill().expect("ended");
        child.wait().expect("reaped");
        assert!(seen);
        assert_eq!((vitals.name.as_str(), vitals.state.as_str()), ("sleep", "S"));
    }

    #[test]
    fn a_thread_that_is_none_is_unknown() {
        assert_eq!(doing(Task { pid: None, tid: u32::MAX }), Doing::Unknown);
        assert_eq!(Task { pid: Some(u32::MAX), tid: 1 }.vitals(), Vitals::default());
    }
}
