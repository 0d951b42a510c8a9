//! Signals as bytes in a pipe: handlers do nothing but write their number, a loop reads it when it likes.
//!
//! One pipe at a time per process. A fork inherits handlers and pipe; the child drops the pipe (which puts the
//! signals back to their defaults) and makes its own, all of it with signals blocked, so that none that is meant for
//! the child is ever told to the parent. Not for: deciding what a signal means, or SIGSEGV and its like.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

pub use rustix::process::Signal;

/// The signal that frees a worker's main thread from a late request: a real-time one, which applications leave alone.
/// The same on every architecture this builds for.
pub const INTERRUPT: i32 = 57;

/// The signal at which a process writes down where its main thread is; ignored by those that do not listen.
pub const STACK: i32 = 58;

/// Sends a signal to a process, real-time ones too.
///
/// # Errors
/// There is no such process, or it is not ours to tell.
pub fn signal_process(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: the call takes two numbers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ignores a signal from now on; children do so too.
///
/// # Errors
/// There is no such signal, or nobody may ignore it.
pub fn ignore(signal: i32) -> io::Result<()> {
    set_handler(signal, libc::SIG_IGN)
}

/// Sends a signal to one thread of this process.
///
/// # Errors
/// There is no such thread (any more).
pub fn signal_thread(tid: u32, signal: i32) -> io::Result<()> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the call takes three numbers; thread and process are checked against each other by the kernel.
    match unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where handlers write; -1 for nowhere.
static WRITE_END: AtomicI32 = AtomicI32::new(-1);
/// The signals that have a handler of ours, as bits.
static CAUGHT: AtomicU64 = AtomicU64::new(0);

/// The pipe that signals arrive in.
#[derive(Debug)]
pub struct SignalPipe {
    read_end: OwnedFd,
    /// Held open for the handlers.
    _write_end: OwnedFd,
}

impl SignalPipe {
    /// Makes the pipe and catches these signals from now on.
    ///
    /// # Errors
    /// `AlreadyExists` if this process has one.
    pub fn install(signals: &[Signal]) -> io::Result<Self> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if WRITE_END.compare_exchange(-1, write_end.as_raw_fd(), SeqCst, SeqCst).is_err() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "signals are already caught"));
        }
        let pipe = Self { read_end, _write_end: write_end };
        pipe.catch(signals)?;
        Ok(pipe)
    }

    /// Catches further signals.
    pub fn catch(&self, signals: &[Signal]) -> io::Result<()> {
        for signal in signals {
            let handler: extern "C" fn(libc::c_int) = note;
            set_handler(signal.as_raw(), handler as *const () as libc::sighandler_t)?;
            CAUGHT.fetch_or(bit(signal.as_raw()), SeqCst);
        }
        Ok(())
    }

    /// Returns the descriptor that is readable while there are signals.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read_end.as_fd()
    }

    /// Takes the signals that have arrived, without waiting.
    pub fn read(&self) -> Vec<Signal> {
        let mut signals = Vec::new();
        let mut bytes = [0; 64];
        loop {
            match rustix::io::read(&self.read_end, &mut bytes) {
                Ok(0) => return signals,
                Ok(count) => {
                    signals.extend(
                        bytes[..count].iter().filter_map(|byte| Signal::from_named_raw(i32::from(*byte))),
                    );
                }
                Err(Errno::INTR) => {}
                Err(_) => return signals,
            }
        }
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        reset_all();
        WRITE_END.store(-1, SeqCst);
    }
}

/// Puts every signal that a pipe of ours has caught back to its default.
pub fn reset_all() {
    let caught = CAUGHT.swap(0, SeqCst);
    for number in (1..64).filter(|number| caught & bit(*number) != 0) {
        // It was set before, so it can be set again.
        let _ = set_handler(number, libc::SIG_DFL);
    }
}

fn bit(number: i32) -> u64 {
    1 << (number & 63)
}

fn set_handler(number: i32, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is valid; the handler is `SIG_DFL`, `SIG_IGN` or `note`, which is async-signal-safe.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(number, &action, ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The handler: one byte into the pipe. A full pipe holds thousands of signals that nobody has read yet.
extern "C" fn note(number: libc::c_int) {
    let byte = number as u8;
    let fd = WRITE_END.load(SeqCst);
    // SAFETY: `write` is async-signal-safe and fails on a number that is no open descriptor; errno is put back as it
    // was for the code that is interrupted.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        libc::write(fd, (&raw const byte).cast(), 1);
        *errno = saved;
    }
}

/// Signals of this thread are blocked while it lives; what arrives meanwhile comes after.
#[derive(Debug)]
pub struct Blocked {
    before: libc::sigset_t,
    /// The mask belongs to the thread.
    _not_send: PhantomData<*const ()>,
}

impl Blocked {
    /// Blocks every signal that can be blocked.
    pub fn all() -> Self {
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: both sets are valid for writing; `sigfillset` cannot fail, and `pthread_sigmask` fails for a wrong
        // first argument alone. An all-zero set is valid.
        let before = unsafe {
            let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        Self { before, _not_send: PhantomData }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` was filled in by `pthread_sigmask`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{getpid, kill_process};

    // One test, since a process has one pipe.
    #[test]
    fn signals_arrive_once_in_order_and_not_while_blocked() {
        let pipe = SignalPipe::install(&[Signal::USR1]).expect("installed");
        assert!(SignalPipe::install(&[]).is_err(), "one at a time");
        pipe.catch(&[Signal::USR2, Signal::WINCH]).expect("caught");
        assert!(pipe.read().is_empty());
        // To this thread alone, so that each is handled before the call returns.
        let send = |signal: Signal| {
            // SAFETY: raises a signal that has a handler.
            assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
        };
        send(Signal::USR2);
        send(Signal::USR1);
        assert_eq!(pipe.read(), [Signal::USR2, Signal::USR1]);
        let blocked = Blocked::all();
        send(Signal::USR1);
        assert!(pipe.read().is_empty());
        drop(blocked);
        assert_eq!(pipe.read(), [Signal::USR1]);
        drop(pipe);
        // Back to its default, which is to be ignored.
        kill_process(getpid(), Signal::WINCH).expect("sent");
        // One that is ignored ends nobody.
        ignore(STACK).expect("ignored");
        signal_process(getpid().as_raw_pid(), STACK).expect("sent");
        assert!(ignore(Signal::KILL.as_raw()).is_err());
        let again = SignalPipe::install(&[Signal::WINCH]).expect("free again");
        assert!(again.read().is_empty());
    }
}
