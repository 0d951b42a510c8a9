//! Listening sockets: bound to an address, a path or an abstract name, or inherited. One attempt each; who retries, and
//! what the log says, is the arbiter's. Not for: accepting.

use rustix::fs::{Mode, chown};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, umask};
use socket2::{Domain, SockAddr, Socket, Type};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// An address as the settings name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Host and port; a host with a colon is IPv6.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A path; one that begins with a zero byte is an abstract name.
    Unix(PathBuf),
    /// A descriptor that this process was started with.
    Fd(RawFd),
}

impl Bind {
    fn is_ipv6(host: &str) -> bool {
        host.parse().is_ok_and(|address: IpAddr| address.is_ipv6())
    }
}

/// The address as Gunicorn's log lines about failures show it.
impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "('{host}', {port})"),
            Self::Unix(path) => f.write_str(&shown(path)),
            Self::Fd(number) => write!(f, "{number}"),
        }
    }
}

/// How sockets are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Connections that may wait to be accepted.
    pub backlog: i32,
    /// Several sockets may share one address.
    pub reuse_port: bool,
    /// The mode bits that a unix socket's file does not get.
    pub umask: u32,
    /// The owner of a unix socket's file.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Whether the log says `https`.
    pub tls: bool,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// At an address and port.
    Tcp(SocketAddr),
    /// At a path; an abstract name begins with a zero byte.
    Unix(PathBuf),
}

/// A listening socket, non-blocking and closed on exec.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub fd: OwnedFd,
    /// Where it listens.
    pub address: ListenAddress,
    /// How the log shows it.
    pub display: String,
    /// Device and inode of a socket file that is ours to remove.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Opens a socket, or takes over an inherited one.
    ///
    /// # Errors
    /// As the system reports them; `InvalidInput` for what will not get better by trying again.
    pub fn open(bind: &Bind, manner: &Manner) -> io::Result<Self> {
        match bind {
            Bind::Tcp { host, port } => open_tcp(host, *port, manner),
            Bind::Unix(path) => open_unix(path, manner),
            Bind::Fd(number) => Self::adopt(*number, manner),
        }
    }

    /// Takes over a socket that this process was started with. Its file, if it has one, is not ours to remove.
    pub fn adopt(number: RawFd, manner: &Manner) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        if number < 3 {
            return Err(invalid(format!("descriptor {number} is no listening socket")));
        }
        // SAFETY: `fcntl` fails with EBADF for a number that is not open; a descriptor returned is new and ours alone.
        let copy = unsafe {
            match libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) {
                -1 => return Err(io::Error::last_os_error()),
                copy => OwnedFd::from_raw_fd(copy),
            }
        };
        let socket = Socket::from(copy);
        if socket.r#type().ok() != Some(Type::STREAM) {
            return Err(invalid(format!("descriptor {number} is no stream socket")));
        }
        let address = address_of(&socket.local_addr()?);
        // SAFETY: the number was given to this process for this purpose, by its environment or its settings: it is a
        // socket that no object in this process owns.
        unsafe { libc::close(number) };
        listen(&socket, manner)?;
        Ok(Self::new(socket, address, manner, None))
    }

    /// Removes the file of a unix socket that we have made, unless somebody else has put another in its place.
    pub fn unlink(&self) {
        if let (ListenAddress::Unix(path), Some(file)) = (&self.address, self.file)
            && fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == file)
        {
            // Whoever may not remove it any more leaves it; the next start does.
            let _ = fs::remove_file(path);
        }
    }

    fn new(socket: Socket, address: ListenAddress, manner: &Manner, file: Option<(u64, u64)>) -> Self {
        let display = match &address {
            ListenAddress::Tcp(address) => {
                let scheme = if manner.tls { "https" } else { "http" };
                format!("{scheme}://{}:{}", bracketed(address.ip()), address.port())
            }
            ListenAddress::Unix(path) => format!("unix:{}", shown(path)),
        };
        Self { fd: socket.into(), address, display, file }
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().replace('\0', "@")
}

fn open_tcp(host: &str, port: u16, manner: &Manner) -> io::Result<Listener> {
    let v6 = Bind::is_ipv6(host);
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let mut addresses = (host, port).to_socket_addrs()?;
    let address = addresses.find(|address| address.is_ipv6() == v6).ok_or(Errno::ADDRNOTAVAIL)?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_reuse_address(true)?;
    if manner.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    listen(&socket, manner)?;
    let bound = socket.local_addr()?;
    Ok(Listener::new(socket, address_of(&bound), manner, None))
}

fn open_unix(path: &Path, manner: &Manner) -> io::Result<Listener> {
    let is_abstract = path.as_os_str().as_bytes().first() == Some(&0);
    if !is_abstract {
        remove_stale(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    let before = umask(Mode::from_raw_mode(manner.umask));
    let bound = socket.bind(&SockAddr::unix(path)?);
    umask(before);
    bound?;
    let file = if is_abstract {
        None
    } else {
        chown(path, Some(Uid::from_raw(manner.uid)), Some(Gid::from_raw(manner.gid)))?;
        let metadata = fs::symlink_metadata(path)?;
        Some((metadata.dev(), metadata.ino()))
    };
    listen(&socket, manner)?;
    Ok(Listener::new(socket, ListenAddress::Unix(path.to_owned()), manner, file))
}

/// Removes the socket file that an earlier server has left.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => {
            let text = format!("'{}' is not a socket", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn listen(socket: &Socket, manner: &Manner) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // An inherited socket listens already, and may refuse to be told so again.
    if !rustix::net::sockopt::socket_acceptconn(socket.as_fd())? {
        socket.listen(manner.backlog)?;
    }
    Ok(())
}

fn address_of(address: &SockAddr) -> ListenAddress {
    if let Some(address) = address.as_socket() {
        return ListenAddress::Tcp(address);
    }
    let path = match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => path.to_owned(),
        (None, Some(name)) => PathBuf::from(OsStr::from_bytes(&[b"\0", name].concat())),
        (None, None) => PathBuf::new(),
    };
    ListenAddress::Unix(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn manner() -> Manner {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        Manner {
            backlog: 8,
            reuse_port: false,
            umask: 0o117,
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            tls: false,
        }
    }

    fn tcp(host: &str, port: u16) -> Bind {
        Bind::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn addresses_are_shown_as_gunicorn_shows_them() {
        let table = [
            (tcp("127.0.0.1", 80), "('127.0.0.1', 80)"),
            (tcp("::1", 82), "('::1', 82)"),
            (Bind::Unix("/a/b".into()), "/a/b"),
            (Bind::Unix("\0name".into()), "@name"),
            (Bind::Fd(3), "3"),
        ];
        for (bind, shown) in table {
            assert_eq!(bind.to_string(), shown);
        }
    }

    #[test]
    fn tcp_sockets_listen_and_two_do_not_share_a_port_unless_told() {
        let first = Listener::open(&tcp("127.0.0.1", 0), &manner()).expect("open");
        let ListenAddress::Tcp(address) = first.address else { panic!("no address: {first:?}") };
        assert_eq!(first.display, format!("http://127.0.0.1:{}", address.port()));
        let again = Listener::open(&tcp("127.0.0.1", address.port()), &manner()).expect_err("in use");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        std::net::TcpStream::connect(address).expect("somebody listens");
        let shared = Manner { reuse_port: true, tls: true, ..manner() };
        let one = Listener::open(&tcp("localhost", 0), &shared).expect("open");
        let ListenAddress::Tcp(address) = one.address else { panic!("no address: {one:?}") };
        let two = Listener::open(&tcp("localhost", address.port()), &shared).expect("shared");
        assert_eq!(two.display, format!("https://127.0.0.1:{}", address.port()));
        assert!(Listener::open(&tcp("192.0.2.1", 0), &manner()).is_err());
    }

    #[test]
    fn socket_files_come_and_go() {
        let path = std::env::temp_dir().join(format!("ferricorn-listener-{}.sock", std::process::id()));
        drop(UnixListener::bind(&path).expect("a socket left behind"));
        let bind = Bind::Unix(path.clone());
        let listener = Listener::open(&bind, &manner()).expect("open");
        assert_eq!(listener.display, format!("unix:{}", path.display()));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o660);
        listener.unlink();
        assert!(!path.exists());
        // Somebody else's file in the same place is left alone.
        let listener = Listener::open(&bind, &manner()).expect("open");
        let other = Listener::open(&bind, &manner()).expect("open");
        listener.unlink();
        assert!(path.exists());
        other.unlink();
        fs::write(&path, "").expect("written");
        let refused = Listener::open(&bind, &manner()).expect_err("a file");
        assert_eq!(refused.to_string(), format!("'{}' is not a socket", path.display()));
        fs::remove_file(&path).expect("removed");
        let name = format!("\0ferricorn-{}", std::process::id());
        let listener = Listener::open(&Bind::Unix(name.clone().into()), &manner()).expect("open");
        assert_eq!(listener.display, format!("unix:{}", name.replace('\0', "@")));
    }

    #[test]
    fn inherited_sockets_are_taken_over() {
        let given = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = given.local_addr().expect("an address");
        let number = given.into_raw_fd();
        let listener = Listener::open(&Bind::Fd(number), &manner()).expect("a listener");
        assert_eq!(listener.address, ListenAddress::Tcp(address));
        let file = std::fs::File::open("/dev/null").expect("open").into_raw_fd();
        for number in [0, 9999, file] {
            assert!(Listener::adopt(number, &manner()).is_err(), "{number}");
        }
    }
}
