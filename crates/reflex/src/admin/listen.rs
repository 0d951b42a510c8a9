//! The listening sockets of the admin endpoint: made with the right mode from the first moment on, cleared of what others have left,
//! removed at the end. Not for: connections.

use ferricorn_settings::BindAddress;
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;
/// Who may connect to the socket in the server's folder.
pub(super) const OWN_MODE: u32 = 0o600;
/// Who may connect to a socket that was asked for; the group is for collectors.
pub(super) const GROUP_MODE: u32 = 0o660;
/// Most entries of a folder that are looked at for what others have left.
const ENTRIES_MAX: usize = 4096;

/// A listening socket; one with a file removes that when it is dropped.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: Listener,
    file: Option<(PathBuf, u64, u64)>,
}

#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Bound {
    /// Returns the address of a TCP port.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Another may have taken its place.
        if let Some((path, device, inode)) = &self.file
            && fs::symlink_metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == (*device, *inode))
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// Listens; a socket gets this mode.
pub(super) fn open(place: &BindAddress, mode: u32) -> io::Result<Bound> {
    match place {
        BindAddress::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port))?;
            listener.set_nonblocking(true)?;
            Ok(Bound { listener: Listener::Tcp(listener), file: None })
        }
        BindAddress::Unix { path } => {
            clear(path)?;
            let listener = unix(path, mode)?;
            let file = fs::symlink_metadata(path)?;
            Ok(Bound {
                listener: Listener::Unix(listener),
                file: Some((path.clone(), file.dev(), file.ino())),
            })
        }
        BindAddress::Fd(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode that the socket has when it is bound (unix(7) does not say so; net/unix/af_unix.c does), so that
    // at no moment anybody else can connect, without a umask, which all threads share.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Removes a socket at which nobody listens. Anything else stays, and then there is no room.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if !file.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if is_left(path) => fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Removes the sockets of servers that are no more. Whether one is, only its socket tells: pids come again, and in another container
/// they are others.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().take(ENTRIES_MAX) {
        let path = entry.path();
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".sock"));
        let is_ours =
            name.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()));
        if is_socket && is_ours && is_left(&path) {
            let _ = fs::remove_file(&path);
        }
    }
}

fn is_left(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn place(path: &Path) -> BindAddress {
        BindAddress::Unix { path: path.to_owned() }
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("7.sock");
        let bound = open(&place(&path), OWN_MODE).expect("bound");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, OWN_MODE);
        UnixStream::connect(&path).expect("connected");
        // Who is there first stays.
        let error = open(&place(&path), OWN_MODE).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists());
        fs::write(&path, "a file of somebody's").expect("written");
        let error = open(&place(&path), OWN_MODE).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn what_others_have_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        // std leaves the file when a listener is dropped.
        for name in ["11.sock", "other.sock", "12.sock"] {
            drop(UnixListener::bind(path(name)).expect("bound"));
        }
        let live = open(&place(&path("13.sock")), OWN_MODE).expect("bound");
        fs::write(path("14.sock"), "").expect("written");
        sweep(folder.path());
        let there: Vec<bool> =
            ["11.sock", "12.sock", "13.sock", "14.sock", "other.sock"].map(|name| path(name).exists()).into();
        assert_eq!(there, [false, false, true, true, true]);
        // One that another has put in its place is that one's.
        fs::remove_file(path("13.sock")).expect("removed");
        let other = UnixListener::bind(path("13.sock")).expect("bound");
        drop(live);
        assert!(path("13.sock").exists());
        drop(other);
        open(&place(&path("13.sock")), OWN_MODE).expect("a stale one gives way");
        sweep(Path::new("/nowhere/at/all"));
    }

    #[test]
    fn a_name_that_is_too_long_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(open(&place(&folder.path().join("x".repeat(120))), OWN_MODE).is_err());
    }
}
