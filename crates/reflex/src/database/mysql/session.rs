//! Rows of the process list and of InnoDB's transactions: what is read of them and what is kept. Values of statements end here.
//!
//! Not for: which row belongs to whom ([`super::join`]).

use super::connect::Wire;
use crate::database::cancel::Victim;
use ferricorn_core::evidence::{Blocker, Session};
use ferricorn_core::sql::{self, Dialect};
use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Error, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Two readings of when a statement began that are nearer than this are of the same, microseconds.
const SAME_US: i64 = 1_500_000;
/// Most rows that are read at a time.
const ROWS_MAX: usize = 500;

/// A session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Activity {
    pub id: u32,
    /// The other end's host, by address or name, and its port; none for unix sockets.
    pub host: String,
    pub port: Option<u16>,
    pub command: String,
    pub state: String,
    pub text: String,
    pub seconds: f64,
    /// When its statement began, microseconds since 1970, as well as the server tells: some only to a second.
    pub statement_us: i64,
    /// The client's own pid, where its driver says it.
    pub pid: Option<u32>,
    pub program: String,
    pub transaction: Option<Transaction>,
}

/// A transaction of InnoDB's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Transaction {
    pub waits: bool,
    pub seconds: f64,
}

impl Activity {
    pub(super) fn waits_for_lock(&self) -> bool {
        self.transaction.is_some_and(|transaction| transaction.waits) || self.waits_for_table()
    }

    pub(super) fn waits_for_table(&self) -> bool {
        self.state.starts_with("Waiting for table") || self.state.starts_with("Waiting for schema")
    }

    pub(super) fn is_idle(&self) -> bool {
        self.command == "Sleep"
    }

    /// In PostgreSQL's words, which are everybody's here.
    fn doing(&self) -> &'static str {
        match (self.is_idle(), self.transaction) {
            (true, None) => "idle",
            (true, Some(_)) => "idle in transaction",
            (false, _) => "active",
        }
    }

    fn wait(&self) -> String {
        if self.transaction.is_some_and(|transaction| transaction.waits) {
            "Lock/row".to_owned()
        } else if self.waits_for_table() {
            format!("Lock/{}", self.state)
        } else {
            self.state.clone()
        }
    }

    /// The address of the other end, where the server says one and no name.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        // The one name that is the same everywhere.
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        Some(SocketAddr::new(host.parse::<IpAddr>().ok()?.to_canonical(), self.port?))
    }

    /// What is kept of a worker's session.
    pub(super) fn session(&self, fd: i32, escapes: bool) -> Session {
        Session {
            pid: self.id,
            fd: Some(fd),
            state: self.doing().to_owned(),
            wait: self.wait(),
            query: normalized(&self.text, escapes),
            statement_s: self.seconds,
            transaction_s: self.transaction.map_or(0.0, |transaction| transaction.seconds),
            // Numbers of connections do not come again.
            session_us: 0,
            statement_us: self.statement_us,
            ..Session::default()
        }
    }

    /// What is kept of a session that holds a lock.
    pub(super) fn blocker(&self, waits_for: &[u32], escapes: bool) -> Blocker {
        Blocker {
            pid: self.id,
            state: self.doing().to_owned(),
            query: normalized(&self.text, escapes),
            transaction_s: self.transaction.map_or(0.0, |transaction| transaction.seconds),
            application: self.program.clone(),
            client: self.client().map(|client| client.to_string()),
            waits_for: waits_for.to_vec(),
            // Only a guess while nobody has looked whether that is a worker of ours.
            worker: self.pid,
        }
    }
}

/// With NO_BACKSLASH_ESCAPES a text ends where otherwise it would go on: nothing after a backslash is kept.
fn normalized(text: &str, escapes: bool) -> String {
    let sure = if escapes { text } else { text.split('\\').next().unwrap_or_default() };
    sql::normalized_as(sure, Dialect::Mysql)
}

/// Which sessions are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub ports: BTreeSet<u16>,
    pub ids: BTreeSet<u32>,
    /// Those at unix sockets.
    pub unix: bool,
    /// All that there are, as a client's pid may be found among their attributes.
    pub all: bool,
}

impl Keys {
    fn condition(&self) -> String {
        let list =
            |numbers: Vec<String>| if numbers.is_empty() { "NULL".to_owned() } else { numbers.join(",") };
        let ports = list(self.ports.iter().map(|port| format!("'{port}'")).collect());
        let ids = list(self.ids.iter().map(u32::to_string).collect());
        let unix = if self.unix { " OR HOST = 'localhost'" } else { "" };
        let all = if self.all { " OR TRUE" } else { "" };
        format!("(SUBSTRING_INDEX(HOST, ':', -1) IN ({ports}) OR ID IN ({ids}){unix}{all})")
    }
}

/// Reads sessions, with their transactions.
pub(super) async fn read(wire: &mut Wire, table: &str, keys: &Keys) -> Result<Vec<Activity>, Error> {
    let time = time(wire);
    let began = began(wire);
    let query = format!(
        "SELECT ID, HOST, COMMAND, {time}, STATE, LEFT(INFO, 16384), {began} FROM {table}
          WHERE {} AND ID <> CONNECTION_ID() ORDER BY COMMAND = 'Sleep' LIMIT {ROWS_MAX}",
        keys.condition()
    );
    let rows: Vec<Row> = wire.conn.query(query).await?;
    let mut found: Vec<Activity> = rows.iter().map(activity).collect();
    let transactions = transactions(wire, &found).await.unwrap_or_default();
    for row in &mut found {
        row.transaction = transactions.get(&row.id).copied();
    }
    Ok(found)
}

/// For how long a session has been at what it does, seconds.
fn time(wire: &Wire) -> &'static str {
    if wire.is_mariadb { "TIME_MS / 1000" } else { "TIME" }
}

/// Since when, microseconds since 1970.
fn began(wire: &Wire) -> String {
    format!("(UNIX_TIMESTAMP(NOW(6)) - {}) * 1000000", time(wire))
}

/// Ends a statement; false if it is over already, or another has begun.
pub(super) async fn cancel(wire: &mut Wire, table: &str, victim: &Victim) -> Result<bool, Error> {
    let Victim { pid, statement_us, .. } = victim;
    let query = format!(
        "SELECT ID FROM {table} WHERE ID = {pid} AND COMMAND <> 'Sleep' AND ABS({} - {statement_us}) < {SAME_US}",
        began(wire)
    );
    let found: Option<u64> = wire.conn.query_first(query).await?;
    let Some(id) = found else { return Ok(false) };
    wire.conn.query_drop(format!("KILL QUERY {id}")).await?;
    Ok(true)
}

fn activity(row: &Row) -> Activity {
    let text = |at: usize| get::<String>(row, at).unwrap_or_default();
    let host = text(1);
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name.to_owned(), port.parse().ok()),
        _ => (host, None),
    };
    Activity {
        id: get::<u64>(row, 0).and_then(|id| u32::try_from(id).ok()).unwrap_or_default(),
        host,
        port,
        command: text(2),
        seconds: get::<f64>(row, 3).unwrap_or_default().max(0.0),
        state: text(4),
        text: text(5),
        statement_us: get::<f64>(row, 6).unwrap_or_default() as i64,
        ..Activity::default()
    }
}

/// A value that is there and of the type that was asked for.
pub(super) fn get<T: FromValue>(row: &Row, at: usize) -> Option<T> {
    row.get_opt::<Option<T>, usize>(at)?.ok().flatten()
}

async fn transactions(wire: &mut Wire, rows: &[Activity]) -> Result<BTreeMap<u32, Transaction>, Error> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let query = format!(
        "SELECT trx_mysql_thread_id, trx_state = 'LOCK WAIT', TIMESTAMPDIFF(MICROSECOND, trx_started, NOW(6)) / 1000000
           FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id IN ({})",
        ids.join(",")
    );
    let rows: Vec<Row> = wire.conn.query(query).await?;
    let found = rows.iter().filter_map(|row| {
        let transaction = Transaction {
            waits: get::<i64>(row, 1)? != 0,
            seconds: get::<f64>(row, 2).unwrap_or_default().max(0.0),
        };
        Some((u32::try_from(get::<u64>(row, 0)?).ok()?, transaction))
    });
    Ok(found.collect())
}

/// Reads who holds what others wait for.
pub(super) async fn waits(wire: &mut Wire) -> Result<BTreeMap<u32, Vec<u32>>, Error> {
    let query = if wire.is_mariadb {
        "SELECT r.trx_mysql_thread_id, b.trx_mysql_thread_id FROM information_schema.INNODB_LOCK_WAITS w
           JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id
           JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id LIMIT 1000"
    } else {
        "SELECT waiting_pid, blocking_pid FROM sys.innodb_lock_waits LIMIT 1000"
    };
    let rows: Vec<Row> = wire.conn.query(query).await?;
    let mut waits: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for row in &rows {
        let id = |at: usize| get::<u64>(row, at).and_then(|id| u32::try_from(id).ok());
        if let (Some(waiting), Some(blocking)) = (id(0), id(1)) {
            let holders = waits.entry(waiting).or_default();
            if !holders.contains(&blocking) {
                holders.push(blocking);
            }
        }
    }
    Ok(waits)
}

/// Adds what drivers say of themselves, where the server keeps it.
pub(super) async fn add_attributes(wire: &mut Wire, rows: &mut [Activity]) -> Result<(), Error> {
    let query = "SELECT PROCESSLIST_ID, ATTR_NAME, ATTR_VALUE FROM performance_schema.session_connect_attrs
                  WHERE ATTR_NAME IN ('_pid', 'program_name') LIMIT 10000";
    let found: Vec<Row> = wire.conn.query(query).await?;
    for attribute in &found {
        let id = get::<u64>(attribute, 0).and_then(|id| u32::try_from(id).ok());
        let Some(row) = rows.iter_mut().find(|row| Some(row.id) == id) else { continue };
        let value = get::<String>(attribute, 2).unwrap_or_default();
        match get::<String>(attribute, 1).as_deref() {
            Some("_pid") => row.pid = value.parse().ok(),
            _ => row.program = value,
        }
    }
    Ok(())
}
