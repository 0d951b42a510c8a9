//! What goes back and forth between a round of questions ([`super::round`]) and one database. Not for: callers.

use ferricorn_core::evidence::{Database, Session};
use std::net::SocketAddr;
use tokio::sync::oneshot;

/// A round's question to one database.
pub(super) struct Ask {
    pub wanted: Vec<Wanted>,
    pub reply: oneshot::Sender<Result<Answer, String>>,
}

/// A connection that is asked about.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Its number in the round.
    pub key: usize,
    /// The process that it is one of.
    pub worker: u32,
    /// Its descriptor there.
    pub fd: i32,
    /// How long the request has run.
    pub since_s: Option<f64>,
    /// Its other end is known to be this database. Otherwise it may be, and not to find it means nothing.
    pub sure: bool,
    /// How the database sees it.
    pub end: End,
    /// Where it leads to, if that is an address.
    pub peer: Option<SocketAddr>,
}

impl Wanted {
    /// Tells whether it leads to another server than one that can be asked there: of the same name, for example.
    pub(super) fn leads_elsewhere(&self, asked: Option<SocketAddr>) -> bool {
        let (Some(peer), Some(asked)) = (self.peer, asked) else { return false };
        let loopback = peer.ip().is_loopback() && asked.ip().is_loopback();
        peer.port() != asked.port() || (peer.ip() != asked.ip() && !loopback)
    }
}

/// How a database sees the other end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// As an address.
    Tcp(SocketAddr),
    /// As a unix socket, whose inode on the database's side this is.
    Unix(Option<u64>),
    /// As one of a pooler's: the backend has this pid, and the pooler's end of the connection this address.
    Pooled { pid: u32, from: Option<SocketAddr> },
    /// Not at all.
    #[default]
    Unknown,
}

/// What a database has answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// What it said of itself; its sessions and missing connections are below.
    pub about: Database,
    /// Sessions by the numbers of their connections.
    pub sessions: Vec<(usize, Session)>,
    /// Connections that it does not know.
    pub missing: Vec<usize>,
    /// What could not be found out about some.
    pub gaps: Vec<(usize, String)>,
    /// What a pooler said.
    pub pooled: Option<Pooled>,
}

/// What PgBouncer said.
#[derive(Debug, Default)]
pub(super) struct Pooled {
    /// Its clients that were asked about.
    pub clients: Vec<Client>,
    pub pools: Vec<Pool>,
    /// Who holds which backend now.
    pub holders: Vec<Holder>,
    /// `query_wait_timeout`, seconds.
    pub wait_timeout_s: f64,
}

/// A client of PgBouncer's.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The number of its connection in the round.
    pub key: usize,
    /// Its place in [`Pooled::pools`].
    pub pool: Option<usize>,
    /// `active`, `waiting`, `idle`.
    pub state: String,
    /// How long it has waited for a server connection.
    pub wait_s: Option<f64>,
    /// The server connection that it has.
    pub server: Option<Server>,
}

/// A connection between PgBouncer and a database.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    /// The backend's pid.
    pub pid: u32,
    /// The database's address, or nothing for a unix socket.
    pub address: Option<SocketAddr>,
    /// PgBouncer's end.
    pub from: Option<SocketAddr>,
}

/// A pool of PgBouncer's.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pool {
    pub database: String,
    pub user: String,
    pub waiting: u32,
    pub waiting_s: f64,
    pub active: u32,
    pub size: u32,
    pub paused: bool,
}

/// Who holds a backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Holder {
    pub server: Server,
    /// The other end of the client's connection; none for a unix socket.
    pub client: Option<SocketAddr>,
    /// The pid of a client at a unix socket.
    pub worker: Option<u32>,
}

/// Adds a line that is not there yet.
pub(super) fn note(gaps: &mut Vec<String>, gap: impl Into<String>) {
    let gap = gap.into();
    if !gaps.contains(&gap) {
        gaps.push(gap);
    }
}
