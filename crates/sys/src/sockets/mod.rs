//! The sockets of other processes, from the kernel: both ends, what waits in their queues, what TCP counts of them, and
//! who is at the other end where that is a process of this host. The tables need no rights; which of their sockets a
//! process has is known to who may read its `/proc/PID/fd`.
//!
//! [`Table`] is one reading for many processes, [`of`] the sockets of one, [`leading_out`] those that evidence tells of.
//! Not for: sockets of one's own, and not for what the other end serves.

mod dump;
mod owners;
mod proc;

pub use owners::{Owner, owners};

use ferricorn_core::evidence::{self, Tcp};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

/// Most sockets of one table that are read.
const SOCKETS_MAX: usize = 50_000;
/// Most descriptors of one process that are looked at.
const DESCRIPTORS_MAX: usize = 4096;

/// Which tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// TCP, UDP and unix.
    All,
    /// TCP alone.
    Tcp,
    /// TCP alone, of these local ports: the kernel leaves out the others.
    Ports(&'a [u16]),
    /// Unix alone.
    Unix,
}

/// What kind of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the protocol of its name")]
pub enum Kind {
    Tcp,
    Udp,
    Unix,
}

impl Kind {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
        }
    }
}

/// The state of a socket, by the kernel's numbers for TCP, which unix sockets share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub u8);

impl State {
    /// Connected.
    pub const ESTABLISHED: Self = Self(1);
    /// Nobody has answered yet.
    pub const SYN_SENT: Self = Self(2);
    /// The other end will send no more.
    pub const CLOSE_WAIT: Self = Self(8);
    /// It accepts connections.
    pub const LISTEN: Self = Self(10);

    /// Returns its name, as `ss` writes it in lower case.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 12] = [
            "",
            "established",
            "syn-sent",
            "syn-recv",
            "fin-wait-1",
            "fin-wait-2",
            "time-wait",
            "closed",
            "close-wait",
            "last-ack",
            "listen",
            "closing",
        ];
        NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }
}

/// A socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// By which processes know it; 0 while a connection waits to be accepted.
    pub inode: u64,
    /// What kind.
    pub kind: Kind,
    /// Its state.
    pub state: State,
    /// This end, of TCP and UDP.
    pub local: Option<SocketAddr>,
    /// The other end, of TCP and UDP; none of who has none.
    pub peer: Option<SocketAddr>,
    /// The path that this end is bound to, of unix; an abstract one begins with `@`. Who was accepted has its listener's.
    pub path: String,
    /// The socket at the other end, of unix; 0 if there is none or it cannot be seen.
    pub peer_inode: u64,
    /// Its user.
    pub uid: u32,
    /// Bytes received and not read; of a listener, connections that wait to be accepted.
    pub unread: u32,
    /// Bytes written and not acknowledged; of a listener, how many connections may wait.
    pub unsent: u32,
    /// What TCP counts; none for others, for listeners, and where only `/proc` could be read.
    pub tcp: Option<Tcp>,
}

impl Socket {
    /// Tells whether it accepts connections.
    pub fn is_listener(&self) -> bool {
        self.state == State::LISTEN && self.kind != Kind::Udp
    }
}

/// A socket and its descriptor in a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The descriptor.
    pub fd: i32,
    /// The socket.
    pub socket: Socket,
}

/// The sockets of a network namespace at one moment.
#[derive(Debug, Default)]
pub struct Table {
    sockets: Vec<Socket>,
    by_inode: BTreeMap<u64, usize>,
    gaps: Vec<String>,
}

impl Table {
    /// Reads the sockets of the namespace that a process is in.
    pub fn read(pid: u32, wanted: Wanted<'_>) -> Self {
        let mut table = Self::default();
        dump::read(pid, wanted, &mut table);
        let places = table.sockets.iter().enumerate();
        table.by_inode = places.filter(|(_, one)| one.inode != 0).map(|(at, one)| (one.inode, at)).collect();
        table
    }

    fn push(&mut self, socket: Socket) -> bool {
        let room = self.sockets.len() < SOCKETS_MAX;
        if room {
            self.sockets.push(socket);
        }
        room
    }

    /// Returns all of them; those with inode 0 wait to be accepted.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// Returns what could not be read, and why.
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// Finds a socket.
    pub fn get(&self, inode: u64) -> Option<&Socket> {
        self.by_inode.get(&inode).and_then(|at| self.sockets.get(*at))
    }

    /// Returns those that a process has, by descriptor.
    ///
    /// # Errors
    /// Its descriptors may not be read, or it is gone.
    pub fn of(&self, pid: u32) -> std::io::Result<Vec<Held>> {
        let held = |(fd, inode)| self.get(inode).map(|socket| Held { fd, socket: socket.clone() });
        Ok(descriptors(pid)?.into_iter().filter_map(held).collect())
    }

    /// Returns the socket at the other end of one, if that is on this host and in the table.
    pub fn other_end(&self, socket: &Socket) -> Option<&Socket> {
        if socket.kind == Kind::Unix {
            return self.get(socket.peer_inode);
        }
        let (local, peer) = (socket.local?, socket.peer?);
        let is_it = |one: &&Socket| {
            one.kind == socket.kind && one.local == Some(peer) && one.peer == Some(local) && one.inode != 0
        };
        self.sockets.iter().find(is_it)
    }

    /// Returns who accepts connections at an address of this host.
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Socket> {
        let here = |one: &&Socket| {
            let local = one.local.filter(|local| local.port() == address.port());
            local.is_some_and(|local| local.ip() == address.ip() || local.ip().is_unspecified())
        };
        let accepts = |one: &&Socket| one.is_listener() || one.kind == Kind::Udp && one.peer.is_none();
        self.sockets.iter().filter(accepts).find(here)
    }

    /// Returns the inode by which the process at the other end knows what it serves there: its end of the connection, or
    /// its listener if the connection waits to be accepted.
    fn served_by(&self, socket: &Socket) -> Option<u64> {
        if let Some(end) = self.other_end(socket).filter(|end| end.inode != 0) {
            return Some(end.inode);
        }
        let (local, peer) = (socket.local?, socket.peer?);
        let here = peer.ip().is_loopback() || peer.ip() == local.ip();
        here.then(|| self.listener_at(peer)).flatten().map(|listener| listener.inode)
    }
}

/// Returns the sockets of a process, and what could not be read of them.
///
/// # Errors
/// Its descriptors may not be read, or it is gone.
pub fn of(pid: u32) -> std::io::Result<(Vec<Held>, Vec<String>)> {
    let table = Table::read(pid, Wanted::All);
    Ok((table.of(pid)?, table.gaps))
}

/// Tells clients' connections, which lead to one of the listeners, from what the process has opened itself.
pub fn is_client<'a>(socket: &Socket, mut listeners: impl Iterator<Item = &'a Socket>) -> bool {
    listeners.any(|listener| {
        let port = |one: &Socket| one.local.map(|local| local.port());
        let same = match socket.kind {
            Kind::Unix => !socket.path.is_empty() && listener.path == socket.path,
            _ => port(socket).is_some() && port(listener) == port(socket),
        };
        same && listener.is_listener() && listener.kind == socket.kind && !socket.is_listener()
    })
}

/// Returns the sockets of a process that lead out of it, as evidence tells of them, with the names of their owners on this
/// host; and what could not be seen. What is served at the other end is not known here. `known` remembers owners.
///
/// # Errors
/// The process's descriptors may not be read, or it is gone.
pub fn leading_out(
    pid: u32,
    known: &mut BTreeMap<u64, Owner>,
) -> std::io::Result<(Vec<evidence::Socket>, Vec<String>)> {
    let table = Table::read(pid, Wanted::All);
    let all = table.of(pid)?;
    let listeners = || all.iter().map(|held| &held.socket).filter(|socket| socket.is_listener());
    let has_other_end = |socket: &Socket| socket.peer.is_some() || socket.peer_inode != 0;
    let out: Vec<&Held> = all
        .iter()
        .filter(|held| !held.socket.is_listener() && has_other_end(&held.socket))
        .filter(|held| !is_client(&held.socket, listeners()))
        .collect();
    let ends: Vec<Option<u64>> = out.iter().map(|held| table.served_by(&held.socket)).collect();
    let unknown: Vec<u64> = ends.iter().flatten().copied().filter(|end| !known.contains_key(end)).collect();
    if known.len() > owners::KNOWN_MAX {
        known.clear();
    }
    known.extend(owners(&unknown));
    let told = out.iter().zip(ends).filter_map(|(held, end)| {
        let owner = end.and_then(|end| known.get(&end));
        // A pair of its own, to wake itself.
        let to_itself = held.socket.kind == Kind::Unix && owner.is_some_and(|owner| owner.pid == pid);
        (!to_itself).then(|| table.evidence(pid, held, owner))
    });
    Ok((told.collect(), table.gaps.clone()))
}

impl Table {
    fn evidence(&self, pid: u32, held: &Held, owner: Option<&Owner>) -> evidence::Socket {
        let socket = &held.socket;
        let address = |end: Option<SocketAddr>| end.map(|end| end.to_string()).unwrap_or_default();
        let path = || self.get(socket.peer_inode).map(|end| end.path.clone()).unwrap_or_default();
        evidence::Socket {
            fd: held.fd,
            kind: socket.kind.name().to_owned(),
            local: address(socket.local),
            peer: if socket.kind == Kind::Unix { path() } else { address(socket.peer) },
            state: if socket.kind == Kind::Tcp { socket.state.name().to_owned() } else { String::new() },
            service: evidence::Service::Other,
            owner: owner.map(|owner| owner.name.clone()),
            non_blocking: non_blocking(pid, held.fd),
            tcp: socket.tcp,
        }
    }
}

/// Tells whether calls on a descriptor return at once; none if that may not be seen.
pub fn non_blocking(pid: u32, fd: i32) -> Option<bool> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
    let flags = i32::from_str_radix(flags, 8).ok()?;
    Some(flags & libc::O_NONBLOCK != 0)
}

/// Returns the descriptors of a process that are sockets, with their inodes.
fn descriptors(pid: u32) -> std::io::Result<Vec<(i32, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().take(DESCRIPTORS_MAX) {
        let fd = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        found.extend(fd.zip(inode.and_then(|inode| inode.parse().ok())));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests;
