//! Reads the kernel's tables of sockets by netlink (sock_diag(7)), in the network namespace of a process. Where that is
//! another than ours, it is entered for a moment if we may; else `/proc` is read, which says less. Not for: which process
//! has which socket.

use super::{Kind, Socket, State, Table, Wanted, proc};
use ferricorn_core::evidence::Tcp;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas};
use netlink_packet_sock_diag::unix::{self, ShowFlags, UnixRequest, UnixResponse, nlas::UnixDiagName};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, recv};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

/// The kernel answers while it is asked; what takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of one answer: the kernel makes none larger.
const ANSWER_MAX: usize = 64 << 10;
/// Answers to one question: far more than the sockets that are kept can need.
const ANSWERS_MAX: usize = 100_000;

/// Reads what is wanted into a table.
pub(super) fn read(pid: u32, wanted: Wanted<'_>, table: &mut Table) {
    let asker = match Asker::in_namespace_of(pid) {
        Ok(asker) => asker,
        Err(why) => {
            table.gaps.push(why);
            return proc::read(pid, wanted, table);
        }
    };
    if let Err(error) = asker.ask(wanted, table) {
        table.sockets.clear();
        table.gaps.push(format!(
            "the kernel does not tell about sockets by netlink ({error}): what TCP counts of them is not known"
        ));
        proc::read(pid, wanted, table);
    }
}

struct Asker {
    socket: netlink_sys::Socket,
}

impl Asker {
    fn in_namespace_of(pid: u32) -> Result<Self, String> {
        let theirs = format!("/proc/{pid}/ns/net");
        let (ours, link) = (fs::read_link("/proc/self/ns/net"), fs::read_link(&theirs));
        // A namespace that may not be seen is ours most likely.
        if link.is_err() || ours.is_ok_and(|ours| link.is_ok_and(|link| link == ours)) {
            return Self::open().map_err(|error| format!("no netlink socket could be opened ({error})"));
        }
        Self::open_in(&theirs).map_err(|error| {
            format!(
                "the process is in another network namespace, which may not be entered ({error}): what TCP counts of its \
                 sockets is not known. Run as root, or in its container"
            )
        })
    }

    fn open() -> io::Result<Self> {
        let socket = netlink_sys::Socket::new(NETLINK_SOCK_DIAG)?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        set_socket_timeout(socket.as_fd(), Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket })
    }

    /// Opens a socket in another namespace, to which it then belongs: a thread goes there and ends.
    fn open_in(path: &str) -> io::Result<Self> {
        let namespace = fs::File::open(path)?;
        let visit = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Self::open()
        };
        let thread = std::thread::Builder::new().spawn(visit)?;
        thread.join().map_err(|_| io::Error::other("the thread that went there has ended"))?
    }

    fn ask(&self, wanted: Wanted<'_>, table: &mut Table) -> io::Result<()> {
        let families = [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())];
        let ports = match wanted {
            Wanted::Ports(ports) => ports,
            Wanted::All | Wanted::Tcp => &[0],
            Wanted::Unix => &[],
        };
        for (family, any) in &families {
            for port in ports {
                let id = SocketId { source_port: *port, ..any.clone() };
                self.dump(inet(*family, IPPROTO_TCP, id), Kind::Tcp, table)?;
            }
            if wanted == Wanted::All {
                self.dump(inet(*family, IPPROTO_UDP, any.clone()), Kind::Udp, table)?;
            }
        }
        if matches!(wanted, Wanted::All | Wanted::Unix) {
            let request = UnixRequest {
                state_flags: unix::StateFlags::all(),
                inode: 0,
                show_flags: ShowFlags::NAME | ShowFlags::PEER | ShowFlags::RQLEN,
                cookie: [0xff; 8],
            };
            self.dump(SockDiagMessage::UnixRequest(request), Kind::Unix, table)?;
        }
        Ok(())
    }

    fn dump(&self, request: SockDiagMessage, kind: Kind, table: &mut Table) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut question = NetlinkMessage::new(header, request.into());
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answer = vec![0; ANSWER_MAX];
        let mut full = false;
        for _ in 0..ANSWERS_MAX {
            let (length, _) = recv(self.socket.as_fd(), &mut answer[..], RecvFlags::empty())?;
            let end = take(&answer[..length], kind, table, &mut full)?;
            if end {
                break;
            }
        }
        if full {
            table.gaps.push(format!(
                "this host has very many {} sockets, of which some were not read",
                kind.name()
            ));
        }
        Ok(())
    }
}

fn inet(family: u8, protocol: u8, socket_id: SocketId) -> SockDiagMessage {
    // Who is TIME_WAIT has no process any more, who is SYN_RECV none yet.
    let states = StateFlags::all() - StateFlags::TIME_WAIT - StateFlags::SYN_RECV;
    let extensions = if protocol == IPPROTO_TCP { ExtensionFlags::INFO } else { ExtensionFlags::empty() };
    SockDiagMessage::InetRequest(InetRequest { family, protocol, extensions, states, socket_id })
}

/// Takes the messages of one answer; tells whether that was the last.
fn take(mut bytes: &[u8], kind: Kind, table: &mut Table, full: &mut bool) -> io::Result<bool> {
    while let Some(length) = bytes.first_chunk().map(|word| u32::from_ne_bytes(*word) as usize) {
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 16) else { break };
        match NetlinkMessage::<SockDiagMessage>::deserialize(message).map(|message| message.payload) {
            Ok(NetlinkPayload::Done(_)) => return Ok(true),
            Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
            Ok(NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found))) => {
                *full |= !table.push(of_inet(&found, kind));
            }
            Ok(NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(found))) => {
                *full |= !table.push(of_unix(&found));
            }
            // What is not understood is left out.
            _ => {}
        }
        // Messages are aligned to four bytes.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn of_inet(found: &InetResponse, kind: Kind) -> Socket {
    let header = &found.header;
    let id = &header.socket_id;
    let address = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    let state = State(header.state);
    let info = found.nlas.iter().find_map(|nla| match nla {
        nlas::Nla::TcpInfo(bytes) if state != State::LISTEN => Some(bytes),
        _ => None,
    });
    Socket {
        inode: u64::from(header.inode),
        kind,
        state,
        local: Some(address(id.source_address, id.source_port)),
        peer: (id.destination_port != 0).then(|| address(id.destination_address, id.destination_port)),
        path: String::new(),
        peer_inode: 0,
        uid: header.uid,
        unread: header.recv_queue,
        unsent: header.send_queue,
        tcp: info.map(|info| counts(info, header.recv_queue, header.send_queue)),
    }
}

/// Reads `struct tcp_info` (linux/tcp.h), which older kernels end sooner.
fn counts(info: &[u8], unread: u32, unsent: u32) -> Tcp {
    let word = |at: usize| {
        info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
    };
    let long = |at: usize| {
        info.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    let seconds = |at: usize| f64::from(word(at)) / 1e3;
    Tcp {
        sent: long(120),
        received: long(128),
        unsent,
        unread,
        sent_ago_s: seconds(44),
        received_ago_s: seconds(52),
        retries: u32::from(info.get(2).copied().unwrap_or(0)),
    }
}

fn of_unix(found: &UnixResponse) -> Socket {
    let path = match found.name() {
        Some(UnixDiagName::Pathname(path)) => path.to_string_lossy().into_owned(),
        Some(UnixDiagName::Abstract(name)) => format!("@{}", String::from_utf8_lossy(name)),
        None => String::new(),
    };
    let queues = found.nlas.iter().find_map(|nla| match nla {
        unix::nlas::Nla::ReceiveQueueLength(unread, unsent) => Some((*unread, *unsent)),
        _ => None,
    });
    let (unread, unsent) = queues.unwrap_or_default();
    Socket {
        inode: u64::from(found.header.inode),
        kind: Kind::Unix,
        state: State(found.header.state),
        local: None,
        peer: None,
        path,
        peer_inode: found.peer().map_or(0, u64::from),
        uid: 0,
        unread,
        unsent,
        tcp: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structure_is_read_as_far_as_it_goes() {
        let mut info = vec![0_u8; 248];
        info[2] = 3;
        info[44..48].copy_from_slice(&1500_u32.to_ne_bytes());
        info[52..56].copy_from_slice(&250_u32.to_ne_bytes());
        info[120..128].copy_from_slice(&7_u64.to_ne_bytes());
        info[128..136].copy_from_slice(&9_u64.to_ne_bytes());
        let all = Tcp {
            sent: 7,
            received: 9,
            unsent: 2,
            unread: 1,
            sent_ago_s: 1.5,
            received_ago_s: 0.25,
            retries: 3,
        };
        assert_eq!(counts(&info, 1, 2), all);
        assert_eq!(counts(&info[..104], 1, 2), Tcp { sent: 0, received: 0, ..all });
        assert_eq!(counts(&[], 0, 0), Tcp::default());
    }

    #[test]
    fn answers_that_make_no_sense_end() {
        let mut table = Table::default();
        let mut full = false;
        let mut short = 3_u32.to_ne_bytes().to_vec();
        short.extend([0; 30]);
        for bytes in [&[][..], &[1, 2], &[0; 64], &[255; 64], &short] {
            assert!(take(bytes, Kind::Tcp, &mut table, &mut full).is_ok_and(|end| !end));
        }
        assert!(table.sockets.is_empty());
    }
}
