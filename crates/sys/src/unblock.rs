//! Freeing a thread from the socket it waits in, by shutting that socket: its call returns, and the application gets the
//! error of a connection that was closed. Not for: deciding when.

use crate::task::{Call, Doing, Target, Task, doing};
use rustix::net::{Shutdown, SocketType, shutdown, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

/// Identity of an open file of this process, by its descriptor's number; `None` if that is not open.
pub fn identity(fd: u32) -> Option<(u64, u64)> {
    fs::metadata(format!("/proc/self/fd/{fd}")).ok().map(|file| (file.dev(), file.ino()))
}

/// Shuts the socket that a thread of this process waits for, if it is a connected stream and not `spared`. Returns the other
/// end's address; `None` if the thread waits for no such thing, or no longer.
///
/// # Errors
/// The system's.
pub fn shut_waited(tid: u32, spared: impl Fn((u64, u64)) -> bool) -> io::Result<Option<String>> {
    let task = Task { pid: None, tid };
    let (before, was) = (task.syscall()?, doing(task));
    let Doing::Waiting(Call { target: Target::Peer(fd, peer), .. }) = &was else { return Ok(None) };
    // Held from here on: whatever becomes of the number, this is the same socket.
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = pidfd_getfd(&own, *fd, PidfdGetfdFlags::empty())?;
    let is_stream = sockopt::socket_type(&socket) == Ok(SocketType::STREAM);
    if !is_stream || sockopt::socket_acceptconn(&socket) != Ok(false) {
        return Ok(None);
    }
    let socket = File::from(socket);
    let file = socket.metadata()?;
    let is_it = identity(fd.unsigned_abs()) == Some((file.dev(), file.ino()));
    // Still in the same call on the same socket: it may have come free meanwhile, and the number be another's.
    if !is_it || spared((file.dev(), file.ino())) || doing(task) != was || task.syscall()? != before {
        return Ok(None);
    }
    shutdown(&socket, Shutdown::Both)?;
    Ok(Some(peer.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// Starts a thread that reads, waits until it does, and returns what to do with it.
    fn reader(mut stream: TcpStream) -> (u32, thread::JoinHandle<usize>) {
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).expect("told");
            stream.read(&mut [0]).expect("an end")
        });
        let tid = told.recv().expect("a thread");
        while !doing(Task { pid: None, tid }).to_string().contains("recvfrom") {
            thread::sleep(Duration::from_millis(1));
        }
        (tid, thread)
    }

    #[test]
    fn a_thread_comes_free_of_its_socket_unless_that_is_spared() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let fd = stream.as_raw_fd().unsigned_abs();
        let peer = stream.peer_addr().expect("a peer").to_string();
        let (tid, thread) = reader(stream);
        let client = identity(fd);
        assert_eq!(shut_waited(tid, |file| Some(file) == client).expect("looked"), None);
        assert_eq!(shut_waited(tid, |_| false).expect("shut"), Some(peer));
        assert_eq!(thread.join().expect("ended"), 0);
        // It waits for nothing any more.
        assert!(
            shut_waited(tid, |_| false).is_err()
                || shut_waited(tid, |_| false).is_ok_and(|shut| shut.is_none())
        );
    }
}
