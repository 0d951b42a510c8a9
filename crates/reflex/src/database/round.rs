//! One round: several questions become one for each database, poolers first, since they know what is behind them; what comes
//! back is sorted out again. Not for: when, and not for what a database is asked.

use super::answer::{Answer, Ask, Client, End, Holder, Pooled, Wanted, note};
use super::book::{Book, address};
use super::question::{Connection, Question};
use ferricorn_core::evidence::{Blocker, Database, Pooler, Service, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// Most connections of a process that are asked about.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// How long a round waits for databases: a little longer than one has.
const REPLY_MAX: Duration = Duration::from_millis(2000);

/// A database that can be asked.
pub(super) struct Desk {
    pub name: String,
    pub book: Arc<Book>,
    pub asks: mpsc::Sender<Ask>,
}

/// A connection that at least one question is about.
struct Item<'a> {
    worker: u32,
    since_s: Option<f64>,
    connection: &'a Connection,
}

type Replies = BTreeMap<usize, Result<Answer, String>>;

/// Asks all of them.
pub(super) async fn round(desks: &[Desk], questions: &[Question]) -> Vec<(u64, Vec<Database>)> {
    let (items, asked) = items(questions);
    let poolers = desks.iter().enumerate().filter(|(_, desk)| desk.book.service == Service::Pgbouncer);
    let wanted = poolers.map(|(at, desk)| (at, direct(desk, &items)));
    let mut replies = send(desks, wanted.collect()).await;
    let pooled: Vec<&Client> = clients(&replies).collect();
    let others = desks.iter().enumerate().filter(|(_, desk)| desk.book.service != Service::Pgbouncer);
    let wanted = others.map(|(at, desk)| {
        let mut wanted = direct(desk, &items);
        wanted.extend(pooled.iter().filter_map(|client| behind(desk, client, &items)));
        (at, wanted)
    });
    let wanted = wanted.collect();
    replies.extend(send(desks, wanted).await);
    let answer = |(question, keys): (&Question, &BTreeSet<usize>)| {
        (question.id, sorted(desks, &replies, &items, keys, question))
    };
    questions.iter().zip(&asked).map(answer).collect()
}

/// Connections that several questions are about are asked about once.
fn items(questions: &[Question]) -> (Vec<Item<'_>>, Vec<BTreeSet<usize>>) {
    let mut items: Vec<Item<'_>> = Vec::new();
    let mut known: BTreeMap<(u32, i32, &str, &str), usize> = BTreeMap::new();
    let keys = questions.iter().map(|question| {
        let connections = question.connections.iter().take(CONNECTIONS_MAX);
        connections
            .map(|connection| {
                let Connection { fd, local, peer, .. } = connection;
                *known.entry((question.worker, *fd, local, peer)).or_insert_with(|| {
                    items.push(Item { worker: question.worker, since_s: question.since_s, connection });
                    items.len() - 1
                })
            })
            .collect()
    });
    let keys = keys.collect();
    (items, keys)
}

/// What a database is asked about connections that lead to it, or may.
fn direct(desk: &Desk, items: &[Item<'_>]) -> Vec<Wanted> {
    let wanted = |(key, item): (usize, &Item<'_>)| {
        let connection = item.connection;
        let sure = desk.book.serves(&connection.peer);
        let end = match address(&connection.local) {
            Some(local) if sure || desk.book.may_serve(&connection.peer) => End::Tcp(local),
            // One of TCP whose own end is not known is nobody's.
            Some(_) => return None,
            None if address(&connection.peer).is_some() => return None,
            None if sure || connection.unix_peer_inode.is_some() => End::Unix(connection.unix_peer_inode),
            None => return None,
        };
        let Item { worker, since_s, .. } = *item;
        Some(Wanted { key, worker, fd: connection.fd, since_s, sure, end, peer: address(&connection.peer) })
    };
    items.iter().enumerate().filter_map(wanted).collect()
}

/// What a database is asked about a connection that a pooler leads to it.
fn behind(desk: &Desk, client: &Client, items: &[Item<'_>]) -> Option<Wanted> {
    let server = client.server.as_ref()?;
    let item = &items[client.key];
    let sure = match server.address {
        Some(address) => desk.book.serves(&address.to_string()),
        None => desk.book.is_local(),
    };
    // Without an address to compare, a pid alone would be found anywhere.
    (sure || server.from.is_some()).then_some(Wanted {
        key: client.key,
        worker: item.worker,
        fd: item.connection.fd,
        since_s: item.since_s,
        sure,
        end: End::Pooled { pid: server.pid, from: server.from },
        peer: server.address,
    })
}

/// Asks databases at the same time.
async fn send(desks: &[Desk], wanted: Vec<(usize, Vec<Wanted>)>) -> Replies {
    let mut waiting = Vec::new();
    let mut replies = Replies::new();
    for (at, wanted) in wanted {
        let (reply, answer) = oneshot::channel();
        match desks[at].asks.try_send(Ask { wanted, reply }) {
            Ok(()) => waiting.push((at, answer)),
            Err(_) => drop(replies.insert(at, Err("it has not yet answered the last question".to_owned()))),
        }
    }
    let until = Instant::now() + REPLY_MAX;
    for (at, answer) in waiting {
        let answer = match timeout_at(until, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("it is not asked any more".to_owned()),
            Err(_) => Err(format!("it did not answer within {} s", REPLY_MAX.as_secs())),
        };
        replies.insert(at, answer);
    }
    replies
}

fn pooled(replies: &Replies) -> impl Iterator<Item = &Pooled> {
    replies.values().filter_map(|reply| reply.as_ref().ok()?.pooled.as_ref())
}

fn clients(replies: &Replies) -> impl Iterator<Item = &Client> {
    pooled(replies).flat_map(|pooled| &pooled.clients)
}

/// What of all answers belongs to one question.
fn sorted(
    desks: &[Desk],
    replies: &Replies,
    items: &[Item<'_>],
    keys: &BTreeSet<usize>,
    question: &Question,
) -> Vec<Database> {
    let owners = Owners::of(question, replies);
    let mut told: BTreeSet<usize> = BTreeSet::new();
    let mut databases = Vec::new();
    // Databases before poolers: what those know of a session is less.
    let (poolers, others): (Vec<usize>, Vec<usize>) =
        replies.keys().partition(|at| desks[**at].book.service == Service::Pgbouncer);
    for at in others.into_iter().chain(poolers) {
        let desk = &desks[at];
        let leads = keys.iter().any(|key| desk.book.serves(&items[*key].connection.peer));
        let answer = match &replies[&at] {
            Ok(answer) => answer,
            Err(why) => {
                if leads {
                    databases.push(silent(desk, why));
                }
                continue;
            }
        };
        let mut database = answer.about.clone();
        for (key, session) in answer.sessions.iter().filter(|(key, _)| keys.contains(key)) {
            if told.insert(*key) {
                database.sessions.push(session.clone());
            }
        }
        let missing = answer.missing.iter().filter(|key| keys.contains(key) && !told.contains(key));
        database.missing = missing.map(|key| items[*key].connection.fd).collect();
        for (_, gap) in answer.gaps.iter().filter(|(key, _)| keys.contains(key)) {
            note(&mut database.gaps, gap);
        }
        owners.name(&mut database.sessions);
        let pooler = answer.pooled.as_ref().and_then(|pooled| pooler(pooled, keys, items));
        place(&mut databases, database, pooler, leads, answer, keys);
    }
    databases
}

/// Adds a database if the question is about it; what a pooler says of itself goes with the database behind it, if that has
/// answered for one of its clients.
fn place(
    databases: &mut Vec<Database>,
    mut database: Database,
    pooler: Option<Pooler>,
    leads: bool,
    answer: &Answer,
    keys: &BTreeSet<usize>,
) {
    let mine =
        answer.pooled.iter().flat_map(|pooled| &pooled.clients).filter(|client| keys.contains(&client.key));
    let pids: BTreeSet<u32> = mine.filter_map(|client| Some(client.server.as_ref()?.pid)).collect();
    let behind = databases.iter_mut().find(|other| {
        other.service == Service::Postgres && other.sessions.iter().any(|session| pids.contains(&session.pid))
    });
    match behind {
        Some(behind) => {
            behind.pooler = behind.pooler.take().or(pooler);
            if database.sessions.is_empty() && database.missing.is_empty() {
                database.gaps.into_iter().for_each(|gap| note(&mut behind.gaps, gap));
                return;
            }
        }
        None => database.pooler = pooler,
    }
    if leads || !database.sessions.is_empty() || !database.missing.is_empty() {
        databases.push(database);
    }
}

fn silent(desk: &Desk, why: &str) -> Database {
    let service = desk.book.service;
    Database {
        service,
        name: desk.name.clone(),
        gaps: vec![format!("{} at {} cannot be asked: {why}", service.name(), desk.name)],
        ..Database::default()
    }
}

/// What a pooler says of the pool of some of its clients: of that in which most have to wait.
fn pooler(pooled: &Pooled, keys: &BTreeSet<usize>, items: &[Item<'_>]) -> Option<Pooler> {
    let mine: Vec<&Client> = pooled.clients.iter().filter(|client| keys.contains(&client.key)).collect();
    let pools = mine.iter().filter_map(|client| pooled.pools.get(client.pool?));
    let worst = pools.max_by(|one, other| {
        one.waiting.cmp(&other.waiting).then(one.waiting_s.total_cmp(&other.waiting_s))
    })?;
    let waits = mine.iter().filter_map(|client| Some((items[client.key].connection.fd, client.wait_s?)));
    Some(Pooler {
        waiting: worst.waiting,
        waiting_s: worst.waiting_s,
        active: worst.active,
        size: worst.size,
        wait_timeout_s: pooled.wait_timeout_s,
        waits: waits.collect(),
        paused: worst.paused,
    })
}

/// Whose a session is that holds a lock.
struct Owners<'a> {
    workers: BTreeSet<u32>,
    by_end: BTreeMap<String, u32>,
    holders: Vec<&'a Holder>,
}

impl<'a> Owners<'a> {
    fn of(question: &Question, replies: &'a Replies) -> Self {
        let mut by_end = BTreeMap::new();
        let mut add = |worker: u32, local: &str, inode: Option<u64>| {
            let end = address(local).map(|local| local.to_string());
            if let Some(end) = end.or_else(|| inode.map(|inode| format!("unix:{inode}"))) {
                by_end.insert(end, worker);
            }
        };
        for other in &question.siblings {
            add(other.worker, &other.local, other.unix_peer_inode);
        }
        for own in &question.connections {
            add(question.worker, &own.local, own.unix_peer_inode);
        }
        let workers = question.siblings.iter().map(|other| other.worker).chain([question.worker]).collect();
        let holders = pooled(replies).flat_map(|pooled| &pooled.holders).collect();
        Self { workers, by_end, holders }
    }

    fn name(&self, sessions: &mut [Session]) {
        for blocker in sessions.iter_mut().flat_map(|session| &mut session.blockers) {
            self.name_one(blocker);
        }
    }

    fn name_one(&self, blocker: &mut Blocker) {
        // What a database takes for its client may be a pooler.
        let from = blocker.client.as_deref().and_then(address);
        let holder =
            self.holders.iter().find(|holder| holder.server.pid == blocker.pid && holder.server.from == from);
        if let Some(holder) = holder {
            blocker.client = holder.client.map(|client| client.to_string());
            blocker.worker = holder.worker;
        }
        let known = blocker.client.as_ref().and_then(|end| self.by_end.get(end)).copied();
        blocker.worker = known.or(blocker.worker.filter(|worker| self.workers.contains(worker)));
    }
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
