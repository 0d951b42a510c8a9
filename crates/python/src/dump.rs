//! Where a thread is that keeps the interpreter: it is sent a signal, whose handler (`faulthandler`, C code) writes the thread's
//! frames into a file without a name. Works whatever the thread is at; but it may disturb a system call that it waits in, so
//! that it is done only to threads whose request is over. Not for: threads that the interpreter can be asked about.

use crate::interrupt::{Once, take};
use ferricorn_core::evidence::Source;
use ferricorn_core::stack;
use ferricorn_sys::signal::{STACK, signal_thread};
use ferricorn_worker::{At, Sight};
use pyo3::prelude::*;
use rustix::fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek};
use rustix::io::pread;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// The interpreter is asked first, and has so long to answer: less than until the thread is interrupted, which moves it.
const PATIENCE: Duration = Duration::from_millis(25);
/// How long a thread has to write.
const WRITING: Duration = Duration::from_millis(20);
/// Far more than `faulthandler` writes about a thread.
const BYTES_MAX: usize = 32 << 10;

/// Whom to look at, as long as that is still so, and whom to tell.
type Order = (At, Box<dyn Fn() -> bool + Send>, Once);

/// Orders of the thread that looks; made once the signal is armed.
static LOOKER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();

/// Makes the file and has `faulthandler` write into it at the signal. Once, in a worker that has booted.
///
/// # Errors
/// Python's, or the system's: such threads are then not seen.
pub(crate) fn arm(py: Python<'_>) -> PyResult<()> {
    let file = memfd_create("ferricorn-dump", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    py.import("ferricorn.stacks")?.call_method1("arm", (file.as_raw_fd(),))?;
    let (sender, orders) = channel::<Order>();
    let body = move || {
        for (at, stays, tell) in orders {
            thread::sleep(PATIENCE);
            look(&file, at, &stays, &tell);
        }
    };
    thread::Builder::new().name("ferricorn-dump".into()).spawn(body)?;
    // It is armed once.
    let _ = LOOKER.set(Mutex::new(sender));
    Ok(())
}

/// Looks at a thread if nobody has seen it by then and it still `stays` with the request.
pub(crate) fn soon(at: At, stays: Box<dyn Fn() -> bool + Send>, tell: Once) {
    if let Some(sender) = LOOKER.get() {
        // Without the thread that looks it is not seen.
        let _ = sender.lock().unwrap_or_else(PoisonError::into_inner).send((at, stays, tell));
    }
}

fn look(file: &OwnedFd, at: At, stays: &dyn Fn() -> bool, tell: &Once) {
    // Taken beforehand: the signal may end the call, and then the interpreter tells where the thread has gone meanwhile.
    let Some(tell) = take(tell).filter(|_| stays()) else { return };
    let frames = written(file, at.tid).map(|text| stack::parse(&text)).unwrap_or_default();
    if !frames.is_empty() {
        tell(Sight { source: Source::Faulthandler, frames, executor: 0, route: None });
    }
}

/// Has a thread write its frames, and returns them as text.
fn written(file: &OwnedFd, tid: u32) -> io::Result<String> {
    ftruncate(file, 0)?;
    // The position is the writer's, too.
    seek(file, SeekFrom::Start(0))?;
    signal_thread(tid, STACK)?;
    let mut bytes = vec![0; BYTES_MAX];
    let mut length = 0;
    for _ in 0..WRITING.as_millis() {
        thread::sleep(Duration::from_millis(1));
        let now = pread(file, &mut bytes, 0)?;
        if now > 0 && now == length {
            break;
        }
        length = now;
    }
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}
