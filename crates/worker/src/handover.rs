//! Giving a connection to an idle sibling: the descriptor with the bytes read so far, over one SOCK_SEQPACKET pair that
//! all workers share. The kernel queues and balances it, as it does for `accept`.
//!
//! Message: listener u16, requests served u64, when the request had begun u64 (0 for an idle one), length of the client's address u8, the address as text, unread bytes.
//! All little-endian; both ends are of one build, since workers of one arbiter are forked from it.

use crate::conn::{Conn, Peer};
use crate::options::Options;
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, getpeername, recvmsg, sendmsg,
};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Most unread bytes that travel along; a connection with more waits for its own worker.
pub(crate) const BYTES_MAX: usize = 64 << 10;
const FIXED: usize = 19;

/// Gives a connection away of which nothing has been read.
pub(crate) fn give_idle(pair: BorrowedFd<'_>, socket: BorrowedFd<'_>, listener: u8) -> io::Result<()> {
    let client = match getpeername(socket)?.map(SocketAddr::try_from) {
        Some(Ok(address)) => address.to_string(),
        _ => String::new(),
    };
    let mut message = vec![listener, 0];
    // A connection that has served is closed after `keepalive`, not refused as slow.
    message.extend_from_slice(&1u64.to_le_bytes());
    message.extend_from_slice(&0u64.to_le_bytes());
    message.push(client.len() as u8);
    message.extend_from_slice(client.as_bytes());
    send_along(pair, &message, socket)
}

fn send_along(pair: BorrowedFd<'_>, message: &[u8], socket: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [socket];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(pair, &[IoSlice::new(message)], &mut control, flags)?;
    Ok(())
}

/// Gives a connection away; it stays if the pair is full or its bytes cannot travel.
pub(crate) fn give(pair: BorrowedFd<'_>, conn: Box<Conn>) -> Result<(), Box<Conn>> {
    let Some(unread) = conn.unread(BYTES_MAX) else { return Err(conn) };
    let mut message = Vec::with_capacity(FIXED + conn.client.len() + unread.len());
    message.extend_from_slice(&(conn.listener as u16).to_le_bytes());
    message.extend_from_slice(&conn.served.to_le_bytes());
    message.extend_from_slice(&conn.stamps.begun_ns.to_le_bytes());
    message.push(conn.client.len() as u8);
    message.extend_from_slice(conn.client.as_bytes());
    message.extend_from_slice(&unread);
    match send_along(pair, &message, conn.socket()) {
        Ok(()) => Ok(()),
        Err(_) => Err(conn),
    }
}

/// Takes a connection that a sibling has given away; `None` if there is none (any more).
pub(crate) fn take(pair: BorrowedFd<'_>, options: &Options) -> io::Result<Option<Conn>> {
    let mut bytes = vec![0; FIXED + 255 + BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(pair, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags);
    let count = match received {
        Ok(message) => message.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let socket: Option<OwnedFd> = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(socket.and_then(|socket| decode(socket, &bytes[..count], options)))
}

fn decode(socket: OwnedFd, message: &[u8], options: &Options) -> Option<Conn> {
    let (listener, rest) = message.split_first_chunk::<2>()?;
    let (served, rest) = rest.split_first_chunk::<8>()?;
    let (begun_ns, rest) = rest.split_first_chunk::<8>()?;
    let (client_len, rest) = rest.split_first()?;
    let (client, unread) = rest.split_at_checked(usize::from(*client_len))?;
    let peer = match std::str::from_utf8(client).ok()? {
        "" => Peer::Unix,
        text => Peer::Tcp(text.parse().ok()?),
    };
    let mut conn = Conn::new(socket, peer, usize::from(u16::from_le_bytes(*listener)), options);
    conn.served = u64::from_le_bytes(*served);
    // The clock is one for all processes of the host.
    conn.stamps.begun_ns = u64::from_le_bytes(*begun_ns);
    conn.preload(unread);
    Some(conn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
            .expect("a pair")
    }

    #[test]
    fn a_connection_arrives_with_its_bytes() {
        let options = Options::default();
        let (near, far) = pair(SocketType::SEQPACKET);
        let (server, client) = pair(SocketType::STREAM);
        let peer = Peer::Tcp("[::1]:80".parse().expect("an address"));
        let mut conn = Box::new(Conn::new(server, peer, 3, &options));
        (conn.served, conn.stamps.begun_ns) = (9, 77);
        rustix::io::write(&client, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET")
            .expect("sent");
        let complete = conn.receive(&options).expect("well-formed");
        assert_eq!(complete, crate::conn::Progress::Complete);
        give(near.as_fd(), conn).expect("given");
        let mut taken = take(far.as_fd(), &options).expect("no error").expect("a connection");
        assert_eq!((taken.peer, taken.listener, taken.served, taken.stamps.begun_ns), (peer, 3, 9, 77));
        assert_eq!(taken.receive(&options).expect("well-formed"), crate::conn::Progress::Complete);
        assert!(matches!(taken.take_body(), crate::conn::Body::Memory(body) if body == b"hi"));
        assert!(take(far.as_fd(), &options).expect("no error").is_none());
    }

    #[test]
    fn what_is_no_message_is_dropped() {
        let (near, far) = pair(SocketType::SEQPACKET);
        rustix::io::write(&near, b"x").expect("sent");
        assert!(take(far.as_fd(), &Options::default()).expect("no error").is_none());
    }
}
