//! The connections of a Gunicorn's clients, from the kernel: on which of them a request waits for its answer, since when, and
//! in which worker. What has come after the last that was sent is a request without an answer; TCP counts both times. A unix
//! socket has no such counts: there it is known since when the connection is open, and no more.
//!
//! Not for: which request it is (`look`), nor what becomes of it (`requests`).

use super::tree::Tree;
use crate::process;
use ferricorn_core::snapshot::Backlog;
use ferricorn_sys::sockets::{Socket, State, Table, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Connections that are watched.
const WATCHED_MAX: usize = 4096;
/// From this age on it is looked for the worker that has a connection, seconds.
const OWNED_S: f64 = 0.2;
/// How often the listeners and all owners are looked at without need, seconds.
const ROUND_S: f64 = 10.0;
/// Bytes unsent for so long are a client that does not read, seconds.
const UNSENT_S: f64 = 0.3;
/// Bytes of `HTTP/1.1 100 Continue`, which is no answer.
const CONTINUE: u64 = 25;

/// A connection on which a request waits.
#[derive(Debug)]
pub(super) struct Connection {
    /// By which it is told from all others of this server.
    pub(super) number: u64,
    /// Its worker, once known, and the descriptor there.
    pub(super) owner: Option<u32>,
    pub(super) fd: i32,
    /// When its first byte came, by the monotonic clock: as it was first seen, for what comes in parts moves on.
    pub(super) since_s: f64,
    pub(super) peer: Option<SocketAddr>,
    /// TCP counts what goes over it.
    pub(super) counted: bool,
    /// The response waits for its client.
    pub(super) writes: bool,
    sent: u64,
}

/// The connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    ports: Vec<u16>,
    paths: Vec<String>,
    /// By inode.
    pub(super) waiting: BTreeMap<u64, Connection>,
    owners: BTreeMap<u64, (u32, i32)>,
    /// Established ones, by worker.
    pub(super) counts: BTreeMap<u32, u32>,
    pub(super) backlog: Option<Backlog>,
    /// What could not be seen.
    pub(super) gaps: Vec<String>,
    next: u64,
    round_s: f64,
}

impl Connections {
    /// Tells whether requests come over TCP, and whether over unix sockets.
    pub(super) fn kinds(&self) -> (bool, bool) {
        (!self.ports.is_empty(), !self.paths.is_empty())
    }

    /// Looks at all of them. `now_s` is the monotonic clock; `changed`: processes have come or gone.
    pub(super) fn look(&mut self, tree: &Tree, now_s: f64, changed: bool) {
        let Some(master) = tree.masters.first().map(|master| master.process.pid) else { return };
        let round = changed || now_s - self.round_s >= ROUND_S || self.round_s == 0.0;
        if round {
            self.round_s = now_s;
            self.find_listeners(tree);
        }
        self.gaps.clear();
        let mut here = BTreeSet::new();
        if !self.ports.is_empty() {
            let table = Table::read(master, Wanted::Ports(&self.ports));
            self.gaps.extend(table.gaps().iter().cloned());
            self.backlog = backlog(&table);
            self.take(&table, &mut here, now_s);
            if round {
                self.own(tree, &table);
            }
        }
        if !self.paths.is_empty() {
            let table = Table::read(master, Wanted::Unix);
            self.gaps.extend(table.gaps().iter().cloned());
            self.take(&table, &mut here, now_s);
            if round {
                self.own(tree, &table);
            }
        }
        self.waiting.retain(|inode, _| here.contains(inode));
        let unknown = |one: &Connection| one.owner.is_none() && now_s - one.since_s > OWNED_S;
        if !round && self.waiting.values().any(unknown) {
            self.scan(tree);
        }
        self.name_owners();
    }

    /// Finds the sockets that workers accept their clients on: those that they have of their arbiter, and where it has none
    /// (`reuse_port`), their own. What else an arbiter or an application listens on is not theirs.
    fn find_listeners(&mut self, tree: &Tree) {
        let Some(first) = tree.masters.first().map(|master| master.process.pid) else { return };
        let tables = [Table::read(first, Wanted::Tcp), Table::read(first, Wanted::Unix)];
        let listeners = |pid: u32| {
            let all = tables.iter().flat_map(move |table| table.of(pid).unwrap_or_default());
            all.map(|held| held.socket).filter(Socket::is_listener)
        };
        let of_masters: Vec<Socket> =
            tree.masters.iter().flat_map(|master| listeners(master.process.pid)).collect();
        let of_workers: Vec<Socket> = tree.workers.keys().flat_map(|pid| listeners(*pid)).collect();
        let shared = |socket: &&Socket| of_masters.iter().any(|other| other.inode == socket.inode);
        let any_shared = of_workers.iter().any(|socket| shared(&socket));
        let used: Vec<&Socket> = if of_workers.is_empty() {
            of_masters.iter().filter(|socket| !socket.path.ends_with(".ctl")).collect()
        } else {
            of_workers.iter().filter(|socket| !any_shared || shared(socket)).collect()
        };
        // Who may not be asked, or has only just begun, changes nothing.
        if !used.is_empty() {
            let ports = used.iter().filter_map(|socket| socket.local).map(|local| local.port());
            self.ports = ports.collect::<BTreeSet<u16>>().into_iter().collect();
            let paths = used.iter().map(|socket| socket.path.clone()).filter(|path| !path.is_empty());
            self.paths = paths.collect::<BTreeSet<String>>().into_iter().collect();
        }
    }

    /// Listens where it is said, for want of a right to see it.
    pub(super) fn assume(&mut self, binds: &str) {
        if !self.ports.is_empty() || !self.paths.is_empty() {
            return;
        }
        for bind in binds.split(',').map(str::trim) {
            if let Some(path) = bind.strip_prefix("unix:") {
                self.paths.push(path.to_owned());
            } else if let Some(port) = bind.rsplit(':').next().and_then(|port| port.parse().ok()) {
                self.ports.push(port);
            }
        }
    }

    /// Takes what waits for an answer out of a table.
    fn take(&mut self, table: &Table, here: &mut BTreeSet<u64>, now_s: f64) {
        for socket in table.sockets().iter().filter(|socket| socket.inode != 0 && is_open(socket)) {
            let ours = !socket.path.is_empty() && self.paths.contains(&socket.path) || socket.local.is_some();
            let Some(state) = ours.then(|| waits(socket)).flatten() else { continue };
            here.insert(socket.inode);
            let since_s = state.since_ago_s.map_or(now_s, |ago_s| now_s - ago_s);
            let sent = socket.tcp.map_or(0, |tcp| tcp.sent);
            let known = self.waiting.get_mut(&socket.inode);
            let same = |known: &Connection| {
                sent == known.sent || sent == known.sent + CONTINUE || state.writes || known.writes
            };
            match known {
                Some(known) if same(known) => {
                    known.since_s = known.since_s.min(since_s);
                    (known.sent, known.writes) = (sent, state.writes);
                }
                _ => {
                    if self.waiting.len() >= WATCHED_MAX {
                        continue;
                    }
                    self.next += 1;
                    let connection = Connection {
                        number: self.next,
                        owner: None,
                        fd: -1,
                        since_s,
                        peer: socket.peer,
                        counted: socket.tcp.is_some(),
                        writes: state.writes,
                        sent,
                    };
                    self.waiting.insert(socket.inode, connection);
                }
            }
        }
    }

    /// Looks which worker has which socket.
    fn scan(&mut self, tree: &Tree) {
        self.owners.clear();
        for worker in tree.workers.values().filter(|worker| worker.gone_s.is_none()) {
            let pid = worker.process.pid;
            for (fd, path) in process::descriptors(pid).unwrap_or_default() {
                let inode = path.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
                self.owners
                    .extend(inode.and_then(|inode| inode.parse().ok()).map(|inode: u64| (inode, (pid, fd))));
            }
        }
    }

    fn own(&mut self, tree: &Tree, table: &Table) {
        self.scan(tree);
        self.counts.clear();
        for (inode, (pid, _)) in &self.owners {
            let client = |socket: &&Socket| {
                is_open(socket) && (socket.local.is_some() || self.paths.contains(&socket.path))
            };
            if table.get(*inode).filter(client).is_some() {
                *self.counts.entry(*pid).or_default() += 1;
            }
        }
    }

    fn name_owners(&mut self) {
        for (inode, connection) in &mut self.waiting {
            if connection.owner.is_none()
                && let Some((pid, fd)) = self.owners.get(inode)
            {
                (connection.owner, connection.fd) = (Some(*pid), *fd);
            }
        }
    }
}

/// Tells whether something can go over it still; who has closed it has done with it.
fn is_open(socket: &Socket) -> bool {
    matches!(socket.state, State::ESTABLISHED | State::CLOSE_WAIT)
}

struct Waits {
    /// Seconds since the last of the request came; none where that is not counted.
    since_ago_s: Option<f64>,
    writes: bool,
}

/// Tells whether a request waits on a connection.
fn waits(socket: &Socket) -> Option<Waits> {
    let Some(tcp) = socket.tcp else { return Some(Waits { since_ago_s: None, writes: false }) };
    let unanswered = tcp.received > 0
        && if tcp.sent == 0 && tcp.unsent == 0 { true } else { tcp.received_ago_s < tcp.sent_ago_s };
    let writes = tcp.unsent > 0 && tcp.sent_ago_s > UNSENT_S;
    (unanswered || writes).then_some(Waits { since_ago_s: Some(tcp.received_ago_s), writes })
}

/// Counts those that nobody has accepted yet.
fn backlog(table: &Table) -> Option<Backlog> {
    let mut backlog = None;
    for socket in table.sockets() {
        let told: &mut Backlog = backlog.get_or_insert_default();
        if socket.is_listener() {
            told.waiting += socket.unread;
            told.room = told.room.max(socket.unsent);
        } else if socket.inode == 0
            && socket.state == State::ESTABLISHED
            && let Some(tcp) = socket.tcp.filter(|tcp| tcp.received > 0)
        {
            told.waiting_s = told.waiting_s.max(tcp.received_ago_s);
        }
    }
    backlog
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::evidence::Tcp;
    use ferricorn_sys::sockets::Kind;

    fn socket(tcp: Option<Tcp>) -> Socket {
        Socket {
            inode: 1,
            kind: Kind::Tcp,
            state: State::ESTABLISHED,
            local: None,
            peer: None,
            path: String::new(),
            peer_inode: 0,
            uid: 0,
            unread: 0,
            unsent: 0,
            tcp,
        }
    }

    #[test]
    fn a_request_waits_where_more_has_come_than_was_answered() {
        // Received, sent, unsent; seconds since the last of each. Expected: waits, writes.
        let table = [
            ((0, 0, 0), (5.0, 5.0), None, "nothing has come"),
            ((80, 0, 0), (5.0, 9.0), Some(false), "the first request"),
            ((80, 0, 0), (5.0, 5.0), Some(false), "it came with the connection"),
            ((80, 200, 0), (5.0, 4.9), None, "answered"),
            ((80, 200, 0), (5.0, 5.0), None, "answered at once"),
            ((160, 200, 0), (2.0, 5.0), Some(false), "the second request"),
            ((80, 0, 200), (5.0, 0.01), None, "the answer is on its way"),
            ((80, 4000, 9000), (5.0, 4.0), Some(true), "the client does not read"),
        ];
        for ((received, sent, unsent), (received_ago_s, sent_ago_s), expected, what) in table {
            let tcp = Tcp { received, sent, unsent, received_ago_s, sent_ago_s, ..Tcp::default() };
            assert_eq!(waits(&socket(Some(tcp))).map(|waits| waits.writes), expected, "{what}");
        }
        assert!(waits(&socket(None)).is_some_and(|waits| waits.since_ago_s.is_none()), "not counted");
    }

    #[test]
    fn binds_are_assumed_where_they_cannot_be_seen() {
        let mut connections = Connections::default();
        connections.assume("127.0.0.1:8000,unix:/run/x.sock,[::1]:81,fd://3");
        assert_eq!(
            (connections.ports.as_slice(), connections.paths.as_slice()),
            (&[8000, 81][..], &["/run/x.sock".to_owned()][..])
        );
    }
}
