//! Rows of `pg_stat_activity`: what is read of them and what is kept. Values of statements end here: what leaves this file
//! has none, except for the text that the planner is asked about, which goes back to where it came from.
//!
//! Not for: which row belongs to whom ([`super::join`]).

use crate::database::cancel::Victim;
use ferricorn_core::evidence::{Blocker, Session};
use ferricorn_core::sql;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Error, Row};

/// Most sessions that are read at a time.
const ROWS_MAX: i64 = 500;
/// Most bytes that are read of a statement.
const TEXT_MAX: i32 = 16 << 10;

/// `host()` leaves the netmask out, which makes it text. Without `pg_read_all_stats`, of other roles' sessions only the pid,
/// the names and `<insufficient privilege>` are there.
const ROWS: &str = "
SELECT a.pid, a.datname::text, a.application_name, host(a.client_addr), a.client_port,
       coalesce(a.state, a.backend_type), a.wait_event_type, a.wait_event,
       left(a.query, $4), octet_length(a.query) >= pg_size_bytes(current_setting('track_activity_query_size')) - 1,
       extract(epoch FROM clock_timestamp() - a.query_start)::float8,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
       (extract(epoch FROM a.backend_start) * 1000000)::int8, (extract(epoch FROM a.query_start) * 1000000)::int8
  FROM pg_catalog.pg_stat_activity a
 WHERE (a.client_port = ANY($1) OR a.pid = ANY($2) OR a.application_name LIKE ANY($5)) AND a.pid <> pg_backend_pid()
 ORDER BY a.state = 'idle' NULLS LAST, a.query_start LIMIT $3";

/// Ends the statement of a session, if that is still the one that is meant: in one statement, so that no other can come in between.
const CANCEL: &str = "
SELECT pg_cancel_backend(a.pid) FROM pg_catalog.pg_stat_activity a
 WHERE a.pid = $1 AND a.state = 'active' AND (extract(epoch FROM a.backend_start) * 1000000)::int8 = $2
       AND (extract(epoch FROM a.query_start) * 1000000)::int8 = $3";

/// Which sessions are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// Those of these ports; -1 for unix sockets.
    pub ports: Vec<i32>,
    pub pids: Vec<i32>,
    /// Those of these names, as LIKE has them.
    pub names: Vec<String>,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Activity {
    pub pid: u32,
    pub database: String,
    pub application: String,
    /// The other end; none for unix sockets, and for what cannot be seen.
    pub client: Option<SocketAddr>,
    pub is_unix: bool,
    pub state: String,
    /// `Lock/transactionid`.
    pub wait: String,
    /// As it was sent.
    pub text: String,
    /// The text has an end elsewhere.
    pub is_cut: bool,
    pub statement_s: f64,
    pub transaction_s: f64,
    /// When the session and the statement began, microseconds since 1970.
    pub session_us: i64,
    pub statement_us: i64,
}

impl Activity {
    pub(super) fn waits_for_lock(&self) -> bool {
        self.wait.starts_with("Lock/")
    }

    /// What is kept of a worker's session.
    pub(super) fn session(&self, fd: i32) -> Session {
        Session {
            pid: self.pid,
            fd: Some(fd),
            state: self.state.clone(),
            wait: self.wait.clone(),
            query: sql::normalized(&self.text),
            statement_s: self.statement_s,
            transaction_s: self.transaction_s,
            session_us: self.session_us,
            statement_us: self.statement_us,
            ..Session::default()
        }
    }

    /// What is kept of a session that holds a lock; `inode` is that of its end of a unix socket.
    pub(super) fn blocker(&self, waits_for: &[u32], inode: Option<u64>) -> Blocker {
        let unix = || inode.filter(|_| self.is_unix).map(|inode| format!("unix:{inode}"));
        Blocker {
            pid: self.pid,
            state: self.state.clone(),
            query: sql::normalized(&self.text),
            transaction_s: self.transaction_s,
            application: self.application.clone(),
            client: self.client.map(|client| client.to_string()).or_else(unix),
            waits_for: waits_for.to_vec(),
            worker: None,
        }
    }
}

/// Reads sessions.
pub(super) async fn read(client: &Client, keys: &Keys) -> Result<Vec<Activity>, Error> {
    let values: [(&(dyn ToSql + Sync), Type); 5] = [
        (&keys.ports, Type::INT4_ARRAY),
        (&keys.pids, Type::INT4_ARRAY),
        (&ROWS_MAX, Type::INT8),
        (&TEXT_MAX, Type::INT4),
        (&keys.names, Type::TEXT_ARRAY),
    ];
    Ok(client.query_typed(ROWS, &values).await?.iter().map(activity).collect())
}

fn activity(row: &Row) -> Activity {
    let text = |at: usize| get::<String>(row, at).unwrap_or_default();
    let seconds = |at: usize| get::<f64>(row, at).unwrap_or_default().max(0.0);
    let port = get::<i32>(row, 4);
    let address = get::<String>(row, 3).and_then(|host| host.parse::<IpAddr>().ok());
    let (kind, event) = (text(6), text(7));
    Activity {
        pid: get::<i32>(row, 0).unwrap_or_default().cast_unsigned(),
        database: text(1),
        application: text(2),
        client: address.zip(port.and_then(|port| u16::try_from(port).ok())).map(SocketAddr::from),
        is_unix: port == Some(-1),
        state: text(5),
        wait: if kind.is_empty() { kind } else { format!("{kind}/{event}") },
        text: text(8),
        is_cut: get(row, 9).unwrap_or_default(),
        statement_s: seconds(10),
        transaction_s: seconds(11),
        session_us: get(row, 12).unwrap_or_default(),
        statement_us: get(row, 13).unwrap_or_default(),
    }
}

/// Ends a statement; false if it is over already.
pub(super) async fn cancel(client: &Client, victim: &Victim) -> Result<bool, Error> {
    let pid = victim.pid.cast_signed();
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&pid, Type::INT4), (&victim.session_us, Type::INT8), (&victim.statement_us, Type::INT8)];
    let rows = client.query_typed(CANCEL, &values).await?;
    Ok(rows.first().and_then(|row| get(row, 0)).unwrap_or(false))
}

/// A value that is there and of the type that was asked for.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Option<T> {
    row.try_get::<_, Option<T>>(at).ok().flatten()
}

/// Reads who holds what these wait for. It takes the lock manager's own locks for a moment: only for those that wait.
pub(super) async fn blocking(client: &Client, pids: &[i32]) -> Result<BTreeMap<u32, Vec<u32>>, Error> {
    const BLOCKING: &str = "SELECT p, pg_catalog.pg_blocking_pids(p) FROM pg_catalog.unnest($1) p";
    let rows = client.query_typed(BLOCKING, &[(&pids, Type::INT4_ARRAY)]).await?;
    let found = rows.iter().map(|row| {
        let mut holders: Vec<u32> =
            get::<Vec<i32>>(row, 1).unwrap_or_default().into_iter().map(i32::cast_unsigned).collect();
        holders.sort_unstable();
        holders.dedup();
        (get::<i32>(row, 0).unwrap_or_default().cast_unsigned(), holders)
    });
    Ok(found.collect())
}
