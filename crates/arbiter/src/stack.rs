//! Where a worker that is still booting writes its stack when it is asked to: a file without a name that only it and the
//! arbiter have open. Not for: when to ask (the fleet's), what is read in it (`core::stack`).

use ferricorn_core::stack;
use ferricorn_sys::signal::{STACK, signal_process};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::pread;
use std::io;
use std::os::fd::OwnedFd;

/// Far more than `faulthandler` writes about a thread.
const BYTES_MAX: usize = 32 << 10;

/// Makes the file.
pub(crate) fn create() -> io::Result<OwnedFd> {
    Ok(memfd_create("ferricorn-stack", MemfdFlags::CLOEXEC)?)
}

/// Asks a worker to write. One that cannot will have written nothing, and that is said.
pub(crate) fn ask(pid: i32) -> io::Result<()> {
    signal_process(pid, STACK)
}

/// Says where the worker was, as lines for the log.
pub(crate) fn told(file: Option<&OwnedFd>) -> Vec<String> {
    let mut bytes = vec![0; BYTES_MAX];
    // From the start: the worker, which shares the file's position, has moved it.
    let count = file.map_or(0, |file| pread(file, &mut bytes, 0).unwrap_or(0));
    let frames = stack::parse(&String::from_utf8_lossy(&bytes[..count]));
    let lines = stack::while_loading(&frames);
    if lines.is_empty() { vec!["it does not say where it is".to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_has_written_is_told() {
        let file = create().expect("a file");
        assert_eq!(told(Some(&file)), ["it does not say where it is"]);
        assert_eq!(told(None), ["it does not say where it is"]);
        let text = b"Stack (most recent call first):\n  File \"/srv/shop.py\", line 3 in <module>\n";
        rustix::io::write(&file, text).expect("written");
        assert_eq!(told(Some(&file)), ["at /srv/shop.py:3 in <module>"]);
        rustix::io::write(&file, &[0xff; BYTES_MAX]).expect("written");
        assert_eq!(told(Some(&file)).len(), 1);
    }
}
