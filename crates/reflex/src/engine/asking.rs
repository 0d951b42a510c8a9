//! What databases are asked about requests that are late, and which requests the answers belong to. Not for: asking
//! ([`crate::database`]), which takes its time in a thread of its own.

use super::outlet::Log;
use crate::act::Cancels;
use crate::database::{Cancelled, Connection, Databases, Question, Sibling, Target, Victim};
use crate::evidence::Serves;
use ferricorn_core::evidence::{Database, Evidence, Service};
use ferricorn_core::log::Level;
use ferricorn_sys::sockets::{Socket, Table, Wanted};
use std::collections::BTreeMap;

/// Questions whose answers are awaited; older ones are not any more.
const OPEN_MAX: usize = 128;
/// Most workers whose connections are named beside those that are asked about: one of them may hold a lock.
const SIBLINGS_MAX: usize = 64;

/// The databases, and what they were asked.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    databases: Option<Databases>,
    /// By question: the worker, and when it was looked at.
    open: BTreeMap<u64, (u32, f64)>,
    last: u64,
}

impl Asking {
    /// Begins to ask those that `reflex_database` names.
    pub(crate) fn open(said: &[String], log: Log<'_>) -> Self {
        let targets = Target::all(said).unwrap_or_else(|wrong| {
            log(Level::Warning, &format!("Databases are not asked: {wrong}"));
            Vec::new()
        });
        if targets.is_empty() {
            return Self::default();
        }
        let failed = |error: &std::io::Error| log(Level::Error, &format!("Databases are not asked: {error}"));
        Self { databases: Databases::start(targets).inspect_err(failed).ok(), ..Self::default() }
    }

    /// Returns who knows what is served where.
    pub(super) fn serves(&self) -> Option<&dyn Serves> {
        self.databases.as_ref().map(|databases| databases as &dyn Serves)
    }

    /// Asks about a worker that has been looked at, if it has connections to a database. `workers` are all of them.
    pub(super) fn ask(
        &mut self,
        pid: u32,
        look: &Evidence,
        since_s: f64,
        workers: impl Iterator<Item = u32>,
    ) {
        let Some(databases) = &self.databases else { return };
        let is_asked =
            |service: Service| matches!(service, Service::Postgres | Service::Pgbouncer | Service::Mysql);
        if !look.sockets.iter().any(|socket| is_asked(socket.service)) {
            return;
        }
        let table = Table::read(pid, Wanted::All);
        let inode = |fd: i32, held: &[ferricorn_sys::sockets::Held]| {
            held.iter().find(|held| held.fd == fd).and_then(|held| peer_inode(&held.socket))
        };
        let held = table.of(pid).unwrap_or_default();
        let asked = look.sockets.iter().filter(|socket| is_asked(socket.service));
        let connections = asked.map(|socket| Connection {
            fd: socket.fd,
            local: if socket.kind == "unix" { String::new() } else { socket.local.clone() },
            peer: socket.peer.clone(),
            unix_peer_inode: inode(socket.fd, &held),
        });
        let others = workers.filter(|worker| *worker != pid).take(SIBLINGS_MAX);
        let siblings = others.flat_map(|worker| {
            let held = table.of(worker).unwrap_or_default();
            held.into_iter().filter_map(move |held| sibling(worker, &held.socket)).collect::<Vec<Sibling>>()
        });
        self.last += 1;
        let question = Question {
            id: self.last,
            worker: pid,
            since_s: Some(since_s),
            connections: connections.collect(),
            siblings: siblings.collect(),
        };
        if databases.ask(question) {
            if self.open.len() >= OPEN_MAX {
                self.open.pop_first();
            }
            self.open.insert(self.last, (pid, look.at_s));
        }
    }

    /// Tells whether an answer about a worker is awaited.
    pub(super) fn is_asked(&self, pid: u32) -> bool {
        self.open.values().any(|(asked, _)| *asked == pid)
    }

    /// Takes the answers that have come, each with the worker that was asked about and when that was looked at.
    pub(super) fn answers(&mut self) -> Vec<(u32, f64, Vec<Database>)> {
        let Some(databases) = &self.databases else { return Vec::new() };
        let answers = databases.answers().into_iter();
        answers
            .filter_map(|(id, found)| self.open.remove(&id).map(|(pid, at_s)| (pid, at_s, found)))
            .collect()
    }

    /// Takes lines for the log.
    pub(super) fn lines(&self) -> Vec<(Level, String)> {
        self.databases.as_ref().map(Databases::lines).unwrap_or_default()
    }
}

impl Cancels for Asking {
    fn cancel(&self, id: u64, victim: &Victim) -> bool {
        self.databases.as_ref().is_some_and(|databases| databases.cancel(id, victim.clone()))
    }

    fn cancelled(&self) -> Vec<(u64, Cancelled)> {
        self.databases.as_ref().map(Databases::cancelled).unwrap_or_default()
    }
}

impl Serves for Databases {
    fn at(&self, peer: &str) -> Option<Service> {
        self.serves(peer)
    }
}

fn peer_inode(socket: &Socket) -> Option<u64> {
    Some(socket.peer_inode).filter(|inode| *inode != 0)
}

/// A connection of another worker, if it leads anywhere.
fn sibling(worker: u32, socket: &Socket) -> Option<Sibling> {
    let local = socket.peer.and(socket.local).map(|local| local.to_string()).unwrap_or_default();
    let unix_peer_inode = peer_inode(socket);
    (!local.is_empty() || unix_peer_inode.is_some()).then_some(Sibling { worker, local, unix_peer_inode })
}
