//! Telling systemd (`Type=notify`) how the server is. Silent where nobody asked.

use ferricorn_sys::clock;
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that the server serves.
pub(crate) fn ready() {
    send("READY=1\nSTATUS=Ferricorn serves");
}

/// Says that a reload has begun; [`ready`] ends it.
pub(crate) fn reloading() {
    send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=Ferricorn reloads", clock::now_ns() / 1000));
}

/// Says that the server stops.
pub(crate) fn stopping() {
    send("STOPPING=1\nSTATUS=Ferricorn stops");
}

fn send(state: &str) {
    if let Some(address) = env::var_os("NOTIFY_SOCKET") {
        // Nobody there, or a full queue: the server's life does not depend on it.
        let _ = send_to(address.as_bytes(), state);
    }
}

fn send_to(address: &[u8], state: &str) -> io::Result<()> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_address_are_reached() {
        let name = format!("ferricorn-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("a name");
        let path = env::temp_dir().join(&name);
        let sockets = [
            (UnixDatagram::bind_addr(&abstract_address).expect("bound"), format!("@{name}").into_bytes()),
            (UnixDatagram::bind(&path).expect("bound"), path.as_os_str().as_bytes().to_vec()),
        ];
        for (socket, address) in sockets {
            send_to(&address, "READY=1").expect("sent");
            let mut bytes = [0; 32];
            let count = socket.recv(&mut bytes).expect("received");
            assert_eq!(&bytes[..count], b"READY=1");
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(send_to(b"/nowhere/notify", "READY=1").is_err());
    }
}
