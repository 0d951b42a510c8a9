//! Shuts a connection of a worker's that one of its threads is blocked on, and nothing else: the thread comes free with the error
//! that its library makes of a connection that has ended. Not for: deciding whether.

use crate::kernel;
use crate::process::Process;
use ferricorn_core::evidence::{Socket, Thread};
use rustix::net::{Shutdown, getpeername, getsockname, shutdown};
use std::net::SocketAddr;

/// A connection that is to be shut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The worker, the thread that is blocked, and the descriptor that it is blocked on.
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) fd: i32,
    /// Both ends, as evidence writes them.
    pub(crate) local: String,
    pub(crate) peer: String,
}

impl Cut {
    /// Returns the one that evidence has found; none where no address tells it from another.
    pub(crate) fn of(pid: u32, thread: &Thread, socket: &Socket) -> Option<Self> {
        let (local, peer) = (socket.local.clone(), socket.peer.clone());
        let is_known = local.parse::<SocketAddr>().is_ok() && peer.parse::<SocketAddr>().is_ok();
        is_known.then_some(Self { pid, tid: thread.tid, fd: socket.fd, local, peer })
    }

    /// Shuts it, if it is still the one that is meant and its thread is still blocked on it.
    ///
    /// # Errors
    /// Why it was left alone.
    pub(crate) fn shut(&self) -> Result<(), String> {
        let Self { pid, tid, fd, local, peer } = self;
        let process = Process::open(*pid).ok_or_else(|| format!("worker {pid} has ended"))?;
        let blocked = kernel::thread(*pid, *tid);
        if blocked.fd != Some(*fd) {
            return Err(format!("thread {tid} is not blocked on it any more: it is {}", blocked.doing));
        }
        // What is looked at is what is shut, whatever the worker does with its descriptors meanwhile.
        let socket =
            process.borrow(*fd).map_err(|error| format!("descriptor {fd} cannot be reached: {error}"))?;
        let ends = (getsockname(&socket).ok(), getpeername(&socket).ok().flatten());
        let [found, other] = [ends.0, ends.1].map(|end| end.and_then(|end| SocketAddr::try_from(end).ok()));
        let same = |end: Option<SocketAddr>, text: &str| end.is_some_and(|end| end.to_string() == *text);
        if !same(found, local) || !same(other, peer) {
            return Err(format!("descriptor {fd} leads elsewhere by now"));
        }
        shutdown(&socket, Shutdown::Both).map_err(|error| format!("it cannot be shut: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::sync::mpsc;

    #[test]
    fn only_what_a_thread_is_blocked_on_is_shut() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut stream = TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
        let (other, _) = listener.accept().expect("accepted");
        let (tell, told) = mpsc::channel();
        let mut cut = Cut {
            pid: std::process::id(),
            tid: 0,
            fd: stream.as_raw_fd(),
            local: stream.local_addr().expect("bound").to_string(),
            peer: stream.peer_addr().expect("connected").to_string(),
        };
        let reads = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).expect("heard");
            stream.read(&mut [0; 1])
        });
        cut.tid = told.recv().expect("told");
        let begun = std::time::Instant::now();
        while kernel::thread(cut.pid, cut.tid).fd != Some(cut.fd) {
            assert!(begun.elapsed().as_secs() < 10, "it is not blocked");
            std::thread::yield_now();
        }
        let idle = Cut { tid: std::process::id(), ..cut.clone() };
        let elsewhere = Cut { peer: "127.0.0.1:1".into(), ..cut.clone() };
        assert!(idle.shut().expect_err("left alone").contains("is not blocked on it any more"));
        assert_eq!(elsewhere.shut(), Err(format!("descriptor {} leads elsewhere by now", cut.fd)));
        let gone = Cut { pid: u32::MAX, ..cut.clone() };
        assert!(gone.shut().expect_err("left alone").contains("has ended"));
        cut.shut().expect("shut");
        assert_eq!(reads.join().expect("no panic").expect("an end"), 0);
        drop(other);
    }
}
