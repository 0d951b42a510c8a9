//! MySQL and MariaDB: which session is that of a connection, what it does, who holds the rows that it waits for.
//!
//! [`connect`] opens the connection, [`session`] is a row of the process list, [`join`] whose it is. Not for: plans and times of
//! statements.

mod connect;
mod join;
mod session;

use super::answer::{Answer, End, Wanted, note};
use super::book::Book;
use super::cancel::{Cancelled, Victim};
use super::facts::{Facts, Limit};
use super::line::{Asked, Rhythm};
use super::target::Target;
use connect::{Wire, connect};
use ferricorn_core::evidence::{Database, Service, Session};
use join::{Found, View};
use mysql_async::prelude::Queryable;
use mysql_async::{Error, Row};
use session::{Activity, Keys, get};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How many waits long a chain is followed, and how many sessions are told of one that waits.
const DEPTH_MAX: usize = 8;
const BLOCKERS_MAX: usize = 16;

/// A connection to a MySQL or MariaDB.
pub(super) struct Mysql {
    wire: Wire,
    name: String,
    view: View,
    /// The process list.
    table: &'static str,
    /// A backslash escapes in texts.
    escapes: bool,
    connections_max: u32,
    gaps: Vec<String>,
}

impl Asked for Mysql {
    type Memory = ();

    async fn open(target: &Target, book: &Book, _: Rhythm) -> Result<Self, String> {
        let wire = connect(target, book).await?;
        look(wire, target.name(), book).await.map_err(|error| error.to_string())
    }

    fn gaps(&self) -> Vec<String> {
        self.gaps.clone()
    }

    async fn ask(&mut self, wanted: &[Wanted], (): &mut ()) -> Result<Answer, String> {
        self.answer(wanted).await.map_err(|error| error.to_string())
    }

    async fn cancel(&mut self, victim: &Victim) -> Result<Cancelled, String> {
        let done = session::cancel(&mut self.wire, self.table, victim).await;
        match done {
            Ok(true) => Ok(Cancelled::Yes),
            Ok(false) => Ok(Cancelled::Over),
            Err(Error::Server(error)) => Ok(Cancelled::Refused(format!(
                "{}: it needs the right to end others' statements (GRANT CONNECTION ADMIN, CONNECTION_ADMIN or SUPER)",
                error.message
            ))),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn calm(&mut self, (): &mut ()) -> Result<(), String> {
        self.wire.conn.ping().await.map_err(|error| error.to_string())
    }

    async fn ended(&mut self) {
        // The driver does not tell; the next look does.
        std::future::pending().await
    }
}

/// Sees what can be seen.
async fn look(mut wire: Wire, name: String, book: &Book) -> Result<Mysql, Error> {
    let query = "SELECT @@max_connections, @@GLOBAL.sql_mode, @@performance_schema, CURRENT_USER(), @@socket, @@port,
                        (SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'PROCESS'
                            AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), ''''))";
    let row: Option<Row> = wire.conn.query_first(query).await?;
    let row = row.as_ref();
    let number = |at: usize| row.and_then(|row| get::<u32>(row, at)).unwrap_or_default();
    let text = |at: usize| row.and_then(|row| get::<String>(row, at)).unwrap_or_default();
    let keeps_attributes = number(2) != 0;
    // It takes no lock that connections need, as the other does.
    let newer = !wire.is_mariadb && wire.version >= (8, 0, 22) && keeps_attributes;
    let table = if newer { "performance_schema.processlist" } else { "information_schema.PROCESSLIST" };
    let own: Option<String> =
        wire.conn.query_first(format!("SELECT HOST FROM {table} WHERE ID = CONNECTION_ID()")).await?;
    let own = own.unwrap_or_default();
    let seen = own.rsplit_once(':').map_or(own.as_str(), |(host, _)| host);
    let direct = wire.local.is_none_or(|local| seen.parse() == Ok(local) || seen == "localhost");
    if wire.local.is_none_or(|local| local.is_loopback()) {
        book.learn_path(Path::new(&text(4)));
        let port = u16::try_from(number(5)).unwrap_or_default();
        book.learn(([127, 0, 0, 1], port).into());
    }
    let user = text(3);
    let (name_of, host) = user.rsplit_once('@').unwrap_or((&user, "%"));
    let all = number(6) > 0;
    let view = View {
        all,
        direct,
        server: wire.server,
        grant: format!("GRANT PROCESS ON *.* TO '{name_of}'@'{host}'"),
    };
    let mut gaps = Vec::new();
    if !all {
        gaps.push(format!("The sessions of other users cannot be seen: {}", view.grant));
    }
    let escapes = !text(1).contains("NO_BACKSLASH_ESCAPES");
    Ok(Mysql { wire, name, view, table, escapes, connections_max: number(0), gaps })
}

impl Mysql {
    async fn answer(&mut self, wanted: &[Wanted]) -> Result<Answer, Error> {
        let mut answer = Answer {
            about: Database {
                service: Service::Mysql,
                name: self.name.clone(),
                connections: connected(&mut self.wire).await?,
                connections_max: self.connections_max,
                gaps: self.gaps.clone(),
                ..Database::default()
            },
            ..Answer::default()
        };
        let keys = self.keys(wanted);
        let mut rows = session::read(&mut self.wire, self.table, &keys).await?;
        // Not every server keeps them.
        let _ = session::add_attributes(&mut self.wire, &mut rows).await;
        let mut waits = false;
        for one in wanted {
            match join::find(&rows, one, &self.view) {
                Found::Session(at, doubt) => {
                    answer.gaps.extend(doubt.map(|doubt| (one.key, doubt)));
                    answer.sessions.push((one.key, rows[at].session(one.fd, self.escapes)));
                    waits |= rows[at].waits_for_lock();
                    if rows[at].waits_for_table() {
                        let gap = "Who holds the lock of a table is not known: SELECT * FROM sys.schema_table_lock_waits \
                                   (MySQL) or the plugin metadata_lock_info (MariaDB) tells";
                        answer.gaps.push((one.key, gap.to_owned()));
                    }
                }
                Found::Missing => answer.missing.push(one.key),
                Found::Unclear(gap) => answer.gaps.push((one.key, gap)),
                Found::Nothing => {}
            }
        }
        if waits && let Err(error) = self.add_blockers(&mut answer.sessions).await {
            if !matches!(error, Error::Server(_)) {
                return Err(error);
            }
            note(&mut answer.about.gaps, format!("Who holds locks could not be read: {error}"));
        }
        Ok(answer)
    }

    fn keys(&self, wanted: &[Wanted]) -> Keys {
        let mut keys = Keys::default();
        for one in wanted {
            match one.end {
                End::Tcp(address) => drop(keys.ports.insert(address.port())),
                End::Unix(_) => keys.unix = true,
                _ => {}
            }
            keys.all |= one.sure && !self.view.direct;
        }
        keys
    }

    /// Adds to sessions that wait who holds what they wait for, up to the root of it all.
    async fn add_blockers(&mut self, sessions: &mut [(usize, Session)]) -> Result<(), Error> {
        let waits = session::waits(&mut self.wire).await?;
        let chains: Vec<Vec<u32>> = sessions.iter().map(|(_, session)| chain(session.pid, &waits)).collect();
        let ids: BTreeSet<u32> = chains.iter().flatten().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let keys = Keys { ids, ..Keys::default() };
        let mut rows = session::read(&mut self.wire, self.table, &keys).await?;
        let _ = session::add_attributes(&mut self.wire, &mut rows).await;
        for ((_, session), chain) in sessions.iter_mut().zip(chains) {
            let told = chain.into_iter().map(|id| {
                let holders = waits.get(&id).map(Vec::as_slice).unwrap_or_default();
                let row = rows.iter().find(|row| row.id == id);
                let unknown = Activity { id, ..Activity::default() };
                row.unwrap_or(&unknown).blocker(holders, self.escapes)
            });
            session.blockers = told.collect();
        }
        Ok(())
    }
}

/// Who holds what this one waits for, the nearest first.
fn chain(id: u32, waits: &BTreeMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut chain = Vec::new();
    let mut level = vec![id];
    for _ in 0..DEPTH_MAX {
        let holders = level.iter().filter_map(|id| waits.get(id)).flatten();
        let mut next: Vec<u32> =
            holders.copied().filter(|holder| *holder != id && !chain.contains(holder)).collect();
        next.sort_unstable();
        next.dedup();
        next.truncate(BLOCKERS_MAX - chain.len());
        if next.is_empty() {
            break;
        }
        chain.extend_from_slice(&next);
        level = next;
    }
    chain
}

async fn connected(wire: &mut Wire) -> Result<u32, Error> {
    let row: Option<Row> = wire.conn.query_first("SHOW GLOBAL STATUS LIKE 'Threads_connected'").await?;
    Ok(row.and_then(|row| get::<u32>(&row, 1)).unwrap_or_default())
}

/// What a MySQL or MariaDB allows.
pub(super) async fn facts(target: &Target, book: &Book) -> Result<Facts, String> {
    let wire = connect(target, book).await?;
    let asked: Result<Facts, Error> = async {
        let mut mysql = look(wire, target.name(), book).await?;
        let connections = connected(&mut mysql.wire).await?;
        let version: Option<String> = mysql.wire.conn.query_first("SELECT VERSION()").await?;
        let names = "'max_statement_time', 'max_execution_time', 'innodb_lock_wait_timeout', 'lock_wait_timeout', 'wait_timeout'";
        let limits: Vec<Row> =
            mysql.wire.conn.query(format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")).await?;
        let text = |row: &Row, at: usize| get::<String>(row, at).unwrap_or_default();
        let limits = limits.iter().map(|row| Limit { name: text(row, 0), value: text(row, 1), ..Limit::default() });
        Ok(Facts {
            service: Service::Mysql,
            name: target.name(),
            version: version.unwrap_or_default(),
            connections,
            connections_max: mysql.connections_max,
            // One for a superuser, beyond the others.
            reserved: 0,
            limits: limits.collect(),
            gaps: mysql.gaps.clone(),
            ..Facts::default()
        })
    }
    .await;
    asked.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_told_from_the_nearest_to_the_root_and_rings_end() {
        let waits = BTreeMap::from([(1, vec![2]), (2, vec![4, 3]), (3, vec![1]), (9, (10..90).collect())]);
        assert_eq!(chain(1, &waits), [2, 3, 4]);
        assert_eq!(chain(4, &waits), Vec::<u32>::new());
        assert_eq!(chain(9, &waits).len(), BLOCKERS_MAX);
    }
}
