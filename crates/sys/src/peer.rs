//! The other end of a socket of another process, from the kernel's tables: TCP and UDP by address, unix by path.
//! Not for: sockets of one's own, which can be asked.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes of a table that are read: hosts with very many sockets are told less.
const TABLE_MAX: u64 = 16 << 20;

/// Returns the other end of a socket; `None` for what is no socket, has no other end, or may not be seen.
pub(crate) fn of(pid: u32, fd: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let inode: u64 = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = read(pid, table);
        let mut rows = text.lines().filter_map(internet);
        if let Some(row) = rows.find(|row| row.inode == inode && row.peer.port() != 0) {
            // Nobody has answered yet.
            let connecting =
                if table.starts_with("tcp") && row.state == 2 { ", not connected yet" } else { "" };
            return Some(format!("{}{connecting}", row.peer));
        }
    }
    let text = read(pid, "unix");
    let path = text.lines().filter_map(unix).find_map(|(found, _, path)| (found == inode).then_some(path));
    path.map(|path| if path.is_empty() { "a unix socket".to_owned() } else { format!("unix:{path}") })
}

/// Reads a table of the network namespace that a process is in.
pub(crate) fn read(pid: u32, table: &str) -> String {
    use std::io::Read;
    let mut text = String::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/net/{table}")) {
        // What is not read is not found.
        let _ = file.take(TABLE_MAX).read_to_string(&mut text);
    }
    text
}

/// A line of the tables of TCP and UDP.
pub(crate) struct Row {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) state: u8,
    pub(crate) unsent: u32,
    pub(crate) unread: u32,
    pub(crate) uid: u32,
    pub(crate) inode: u64,
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...`
pub(crate) fn internet(line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, peer) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (unsent, unread) = words.next()?.split_once(':')?;
    let (unsent, unread) = (u32::from_str_radix(unsent, 16).ok()?, u32::from_str_radix(unread, 16).ok()?);
    let uid = words.nth(2)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(Row { local, peer, state, unsent, unread, uid, inode })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of the host's byte order, in hexadecimal.
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let bytes: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()
    };
    Some(SocketAddr::new(address, port))
}

/// `Num RefCount Protocol Flags Type St Inode Path`: inode, whether it listens, path.
pub(crate) fn unix(line: &str) -> Option<(u64, bool, &str)> {
    let mut words = line.split_ascii_whitespace().skip(3);
    let flags = u32::from_str_radix(words.next()?, 16).ok()?;
    let inode = words.nth(2)?.parse().ok()?;
    // __SO_ACCEPTCON
    Some((inode, flags & 0x1_0000 != 0, words.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_other_end_is_found_from_outside() {
        let own = std::process::id();
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let address = listener.local_addr().expect("an address");
            let stream = TcpStream::connect(address).expect("connected");
            assert_eq!(of(own, stream.as_raw_fd()), Some(address.to_string()));
            assert_eq!(of(own, listener.as_raw_fd()), None);
        }
        let (one, _other) = UnixStream::pair().expect("a pair");
        assert_eq!(of(own, one.as_raw_fd()).as_deref(), Some("a unix socket"));
        assert_eq!(of(own, -1), None);
        assert_eq!(of(u32::MAX, 0), None);
    }
}
