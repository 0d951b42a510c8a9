//! Sockets on which processes of one server talk: packets that stay whole, each with one file at most, between a listener without
//! a path and who knows its name. Only processes of the same user or of root are heard. Not for: what is said (`core::offload`).

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    getsockname, listen, recvmsg, sendmsg, socket_with,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::mem::MaybeUninit;

/// Connections that wait to be accepted, while nobody accepts.
const BACKLOG: i32 = 1024;
/// Bytes that a socket holds of what the other end has not read; the kernel gives less where it has to.
const ROOM: usize = 1 << 20;
/// Room for one file beside a packet.
const FILES: usize = rustix::cmsg_space!(ScmRights(1));

/// Makes a listener; its name is the kernel's choice, and every process that inherits the listener can ask it.
///
/// # Errors
/// The system's.
pub fn listener(kind: SocketType) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, FLAGS, None)?;
    bind(&socket, &SocketAddrUnix::new_unnamed())?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Returns the name of a listener.
///
/// # Errors
/// The system's, or it has none.
pub fn name(listener: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let address = SocketAddrUnix::try_from(getsockname(listener)?)?;
    address
        .abstract_name()
        .map(<[u8]>::to_vec)
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Connects to a listener of packets. Never waits.
///
/// # Errors
/// Nobody has it open any more, or too many wait there.
pub fn connect_to(name: &[u8]) -> io::Result<OwnedFd> {
    connect_as(SocketType::SEQPACKET, FLAGS, name)
}

/// Connects to a listener of a stream; what is done there may wait.
///
/// # Errors
/// The same.
pub fn stream_to(name: &[u8]) -> io::Result<OwnedFd> {
    // Who waits there for too many others is told so, instead of waiting.
    let socket = connect_as(SocketType::STREAM, FLAGS, name)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

fn connect_as(kind: SocketType, flags: SocketFlags, name: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    // Less room is room as well.
    let _ = set_socket_send_buffer_size(&socket, ROOM);
    connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// Takes the next who has connected, if it is one of the users that are heard; none if nobody waits.
///
/// # Errors
/// The system's.
pub fn accept_of(listener: BorrowedFd<'_>, users: &[u32]) -> io::Result<Option<OwnedFd>> {
    loop {
        match accept_with(listener, FLAGS) {
            Ok(socket) => {
                let user = socket_peercred(&socket)?.uid.as_raw();
                if user == 0 || users.contains(&user) {
                    let _ = set_socket_send_buffer_size(&socket, ROOM);
                    return Ok(Some(socket));
                }
            }
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends a packet, with a file if there is one. False if there is no room now.
///
/// # Errors
/// The other end is gone, or the packet is too long.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); FILES];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = file.as_slice();
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the next packet into the room given, and the file with it: how long it is. `None` if there is none now, 0 if there will be
/// no more.
///
/// # Errors
/// The system's.
pub fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); FILES];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(room)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNRESET) => return Ok(Some((0, None))),
            other => break other?,
        }
    };
    let mut file = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            file = files.into_iter().next();
        }
    }
    Ok(Some((got.bytes, file)))
}

/// A message with the number that its answer has as well.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    seq: u64,
    body: T,
}

/// Writes a message; these bytes follow it.
pub fn written(seq: u64, message: &impl Serialize, tail: &[&[u8]]) -> Vec<u8> {
    // Nothing of ours can fail to be written.
    let text = serde_json::to_vec(&Envelope { seq, body: message }).unwrap_or_default();
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&text);
    tail.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// Reads a message: its number, what it says, and the bytes behind it. None if it is none.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<(u64, T, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, tail) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let Envelope { seq, body } = serde_json::from_slice(text).ok()?;
    Some((seq, body, tail))
}

/// Returns a descriptor's file position-free twin for who keeps it beside the sender.
///
/// # Errors
/// There are too many open files.
pub fn twin(file: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(file, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    #[test]
    fn packets_stay_whole_and_bring_a_file() {
        let listener = listener(SocketType::SEQPACKET).expect("a listener");
        let name = name(listener.as_fd()).expect("a name");
        let client = connect_to(&name).expect("connected");
        let user = rustix::process::geteuid().as_raw();
        let server = accept_of(listener.as_fd(), &[user]).expect("accepted").expect("a client");
        assert!(accept_of(listener.as_fd(), &[user]).expect("nobody").is_none());
        let mut room = vec![0; 200 << 10];
        assert!(receive(server.as_fd(), &mut room).expect("nothing").is_none());
        let mut file = tempfile();
        file.write_all(b"of the file").expect("written");
        file.rewind().expect("rewound");
        let long = written(7, &"hello", &[&[b'x'; 100 << 10]]);
        assert!(send(client.as_fd(), &long, Some(file.as_fd())).expect("sent"));
        assert!(send(client.as_fd(), b"short", None).expect("sent"));
        let (length, with) = receive(server.as_fd(), &mut room).expect("received").expect("a packet");
        let (seq, text, tail) = read::<String>(&room[..length]).expect("a message");
        assert_eq!((seq, text.as_str(), tail.len()), (7, "hello", 100 << 10));
        let mut text = String::new();
        File::from(with.expect("a file")).read_to_string(&mut text).expect("read");
        assert_eq!(text, "of the file");
        let (length, with) = receive(server.as_fd(), &mut room).expect("received").expect("a packet");
        assert!(&room[..length] == b"short" && with.is_none());
        assert!(read::<String>(b"short").is_none());
        drop(client);
        assert_eq!(receive(server.as_fd(), &mut room).expect("received").expect("the end").0, 0);
    }

    fn tempfile() -> File {
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("a file");
        File::from(file)
    }
}
