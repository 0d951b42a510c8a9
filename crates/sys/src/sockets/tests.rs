//! Sockets of this very process, and of others.

use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

fn held(all: &[Held], fd: &impl AsRawFd) -> Held {
    all.iter().find(|held| held.fd == fd.as_raw_fd()).expect("it is there").clone()
}

#[test]
fn both_ends_of_tcp_with_their_counts() {
    let own = std::process::id();
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(host) else { continue };
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        client.write_all(b"hello").expect("sent");
        server.read_exact(&mut [0; 3]).expect("read");
        let waiting = TcpStream::connect(address).expect("connected");
        let (all, gaps) = of(own).expect("seen");
        assert_eq!(gaps, [""; 0]);
        let (at_client, at_server, at_listener) =
            (held(&all, &client).socket, held(&all, &server).socket, held(&all, &listener).socket);
        assert_eq!((at_client.peer, at_client.state.name()), (Some(address), "established"));
        assert_eq!(at_server.peer, client.local_addr().ok());
        assert_eq!((at_listener.is_listener(), at_listener.unread), (true, 1), "one waits to be accepted");
        let counts = at_server.tcp.expect("counts");
        assert_eq!((counts.received, counts.unread, counts.sent), (5, 2, 0));
        assert!(counts.received_ago_s < 10.0, "{counts:?}");
        assert_eq!(at_client.tcp.expect("counts").sent, 6, "the SYN counts as one");
        assert!(is_client(&at_server, [&at_listener].into_iter()));
        assert!(!is_client(&at_client, [&at_listener].into_iter()));
        let table = Table::read(own, Wanted::Ports(&[address.port()]));
        assert!(
            table.sockets().iter().all(|one| one.local.is_some_and(|local| local.port() == address.port()))
        );
        assert_eq!(
            table.sockets().iter().filter(|one| one.inode == 0).count(),
            1,
            "nobody has accepted it yet"
        );
        let table = Table::read(own, Wanted::All);
        assert_eq!(table.other_end(&at_client).map(|end| end.inode), Some(at_server.inode));
        assert_eq!(table.listener_at(address).map(|end| end.inode), Some(at_listener.inode));
        drop(waiting);
    }
}

#[test]
fn unix_sockets_have_paths_and_other_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("it.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let client = UnixStream::connect(&path).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    let (all, _) = of(std::process::id()).expect("seen");
    let (at_client, at_server, at_listener) =
        (held(&all, &client).socket, held(&all, &server).socket, held(&all, &listener).socket);
    assert_eq!((at_client.peer_inode, at_server.peer_inode), (at_server.inode, at_client.inode));
    assert_eq!(at_server.path, path.to_string_lossy());
    assert!(at_listener.is_listener() && !at_server.is_listener());
    assert!(is_client(&at_server, [&at_listener].into_iter()));
    assert!(!is_client(&at_client, [&at_listener].into_iter()));
}

#[test]
fn what_leads_out_is_told_with_its_owner() {
    let own = std::process::id();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut child = std::process::Command::new("python3")
        .args(["-c", "import socket,sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); print(flush=True); s.recv(1)"])
        .arg(address.port().to_string())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a child");
    child.stdout.take().expect("its output").read_exact(&mut [0]).expect("it has connected");
    let mut known = BTreeMap::new();
    let seen = leading_out(child.id(), &mut known);
    child.kill().expect("ended");
    child.wait().expect("reaped");
    let (sockets, _) = seen.expect("seen");
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    let socket = &sockets[0];
    assert_eq!((socket.kind.as_str(), &socket.peer), ("tcp", &address.to_string()));
    assert_eq!((socket.non_blocking, socket.state.as_str()), (Some(false), "established"));
    assert_eq!(known.values().next().map(|owner| owner.pid), Some(own), "it is we who listen");
    assert!(socket.owner.is_some() && socket.tcp.is_some());
}

#[test]
fn udp_has_a_peer_once_it_is_connected() {
    let one = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let other = UdpSocket::bind("127.0.0.1:0").expect("a port");
    one.connect(other.local_addr().expect("an address")).expect("connected");
    let (all, _) = of(std::process::id()).expect("seen");
    assert_eq!(held(&all, &one).socket.peer, other.local_addr().ok());
    assert_eq!(held(&all, &other).socket.peer, None);
}

#[test]
fn proc_says_the_same_and_less() {
    let own = std::process::id();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let mut table = Table::default();
    proc::read(own, Wanted::All, &mut table);
    let all = table.sockets();
    let of_client = all.iter().find(|one| one.local == client.local_addr().ok()).expect("there");
    assert_eq!((of_client.peer, of_client.tcp), (client.peer_addr().ok(), None));
    assert!(all.iter().any(|one| one.is_listener() && one.local == listener.local_addr().ok()));
}

#[test]
fn non_blocking_sockets_are_told_from_others() {
    let own = std::process::id();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    assert_eq!(non_blocking(own, socket.as_raw_fd()), Some(false));
    socket.set_nonblocking(true).expect("set");
    assert_eq!(non_blocking(own, socket.as_raw_fd()), Some(true));
    assert_eq!(non_blocking(own, -1), None);
}

#[test]
fn who_is_nobody_has_nothing() {
    assert!(of(u32::MAX).is_err());
    assert!(owners(&[]).is_empty());
    assert!(owners(&[0, u64::MAX]).is_empty());
}

#[test]
fn another_network_namespace_is_entered_or_that_is_said() {
    let code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()";
    let command = std::process::Command::new("unshare")
        .args([
            "--net",
            "--map-root-user",
            "sh",
            "-c",
            "ip link set lo up 2>/dev/null; exec python3 -c \"$0\"",
            code,
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn();
    // Where no namespace may be made, there is nothing to test.
    let Ok(mut child) = command else { return };
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().expect("its output")),
        &mut line,
    )
    .expect("read");
    let seen = of(child.id());
    let _ = child.kill();
    child.wait().expect("reaped");
    let Ok(port) = line.trim().parse::<u16>() else { return };
    let (all, gaps) = seen.expect("seen");
    let listener = all.iter().find(|held| held.socket.local.is_some_and(|local| local.port() == port));
    assert!(listener.is_some_and(|held| held.socket.is_listener()), "{all:?}");
    assert!(gaps.iter().all(|gap| gap.contains("network namespace")), "{gaps:?}");
}
