//! The kernel's tables of sockets as `/proc/PID/net` has them, in the namespace of that process: no counts of TCP, and no
//! other ends of unix sockets. Where netlink cannot be used.

use super::{Kind, Socket, State, Table, Wanted};
use crate::peer::{self, Row};

/// Reads what is wanted into a table.
pub(super) fn read(pid: u32, wanted: Wanted<'_>, table: &mut Table) {
    let (names, unix): (&[(&str, Kind)], bool) = match wanted {
        Wanted::All => {
            (&[("tcp", Kind::Tcp), ("tcp6", Kind::Tcp), ("udp", Kind::Udp), ("udp6", Kind::Udp)], true)
        }
        Wanted::Tcp | Wanted::Ports(_) => (&[("tcp", Kind::Tcp), ("tcp6", Kind::Tcp)], false),
        Wanted::Unix => (&[], true),
    };
    for (name, kind) in names {
        for row in peer::read(pid, name).lines().filter_map(peer::internet) {
            let elsewhere = |ports: &[u16]| !ports.contains(&row.local.port());
            if matches!(wanted, Wanted::Ports(ports) if elsewhere(ports)) || row.state == 6 {
                continue;
            }
            if !table.push(of_row(&row, *kind)) {
                return;
            }
        }
    }
    if unix {
        let text = peer::read(pid, "unix");
        let sockets = text.lines().filter_map(peer::unix).map(|(inode, listens, path)| Socket {
            inode,
            kind: Kind::Unix,
            state: if listens { State::LISTEN } else { State::ESTABLISHED },
            local: None,
            peer: None,
            path: path.to_owned(),
            peer_inode: 0,
            uid: 0,
            unread: 0,
            unsent: 0,
            tcp: None,
        });
        for socket in sockets {
            table.push(socket);
        }
    }
}

fn of_row(row: &Row, kind: Kind) -> Socket {
    Socket {
        inode: row.inode,
        kind,
        state: State(row.state),
        local: Some(row.local),
        peer: (row.peer.port() != 0).then_some(row.peer),
        path: String::new(),
        peer_inode: 0,
        uid: row.uid,
        unread: row.unread,
        unsent: row.unsent,
        tcp: None,
    }
}
