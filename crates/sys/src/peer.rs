//! The other end of a socket of another process, from the kernel's tables: TCP and UDP by address, unix by path.
//! Not for: sockets of one's own, which can be asked.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes of a table that are read: hosts with very many sockets are told less.
const TABLE_MAX: u64 = 16 << 20;

/// Returns the other end of a socket; `None` for what is no socket, has no other end, or may not be seen.
pub(crate) fn of(pid: u32, fd: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        if let Some((address, state)) = read(pid, table).lines().find_map(|line| internet(line, &inode)) {
            // Nobody has answered yet.
            let connecting =
                if table.starts_with("tcp") && state == "02" { ", not connected yet" } else { "" };
            return Some(format!("{address}{connecting}"));
        }
    }
    let path = read(pid, "unix").lines().find_map(|line| unix(line, &inode));
    path.map(|path| if path.is_empty() { "a unix socket".to_owned() } else { format!("unix:{path}") })
}

fn read(pid: u32, table: &str) -> String {
    use std::io::Read;
    let mut text = String::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/net/{table}")) {
        // What is not read is not found.
        let _ = file.take(TABLE_MAX).read_to_string(&mut text);
    }
    text
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...`
fn internet<'a>(line: &'a str, inode: &str) -> Option<(SocketAddr, &'a str)> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let (remote, state) = (words.next()?, words.next()?);
    if words.nth(5)? != inode {
        return None;
    }
    let (address, port) = remote.split_once(':')?;
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
    (port != 0).then(|| (SocketAddr::new(address, port), state))
}

/// `Num RefCount Protocol Flags Type St Inode Path`
fn unix(line: &str, inode: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace().skip(6);
    (words.next()? == inode).then(|| words.next().unwrap_or_default().to_owned())
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
