//! What a role may see in a PostgreSQL, and what is there to be seen; found out once for each connection. Everything that is
//! missing becomes a line that says what to do.
//!
//! Not for: the questions themselves.

use super::join::View;
use super::session::get;
use crate::database::connect::Wire;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tokio_postgres::{Client, Error};

/// Each question is a transaction of its own, with its limits inside: a pooler that gives the connection to somebody else
/// afterwards gives none of it away. It changes nothing, waits for no lock, and calls nothing but PostgreSQL's own.
pub(super) const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 500; SET LOCAL lock_timeout = 50; \
    SET LOCAL idle_in_transaction_session_timeout = 5000; SET LOCAL search_path = pg_catalog";

const STANDING: &str = "
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'usage'), current_setting('server_version_num')::int,
       host(inet_client_addr()), inet_client_port(), current_user::text, current_database()::text,
       current_setting('max_connections')::int, current_setting('track_activities') = 'on',
       (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pg_stat_statements'),
       current_setting('port')::int,
       CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'usage')
            THEN current_setting('unix_socket_directories') END";

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub view: View,
    /// `150003`.
    pub version: i32,
    pub database: String,
    /// Our own role, quoted.
    pub user: String,
    pub connections_max: u32,
    /// The schema of `pg_stat_statements`.
    pub statements: Option<String>,
    /// What of it all cannot be seen, and what to do.
    pub gaps: Vec<String>,
    /// Its sockets.
    pub paths: Vec<PathBuf>,
}

/// Looks around.
pub(super) async fn look(wire: &Wire) -> Result<Standing, Error> {
    let client = &wire.client;
    client.batch_execute(BEGIN).await?;
    let row = client.query_typed_one(STANDING, &[]).await?;
    client.batch_execute("ROLLBACK").await?;
    let text = |at: usize| get::<String>(&row, at).unwrap_or_default();
    let ip = get::<String>(&row, 2).and_then(|host| host.parse::<IpAddr>().ok());
    let port = get::<i32>(&row, 3).and_then(|port| u16::try_from(port).ok());
    let seen = ip.zip(port).map(SocketAddr::from);
    // Through a unix socket there is nothing to compare, and nothing in between.
    let translated = wire.ends.filter(|(local, _)| Some(*local) != seen);
    let (user, database) = (text(4), text(5));
    let all = get(&row, 0).unwrap_or(false);
    let view = View {
        all,
        translated: translated.map(|_| seen.map_or("a unix socket".to_owned(), |seen| seen.to_string())),
        grant: format!("GRANT pg_read_all_stats TO {}", quoted(&user)),
        server: wire.ends.map(|(_, server)| server),
    };
    let mut gaps = Vec::new();
    if !all {
        gaps.push(format!("The sessions of other roles cannot be seen: {}", view.grant));
    }
    if !get(&row, 7).unwrap_or(true) {
        gaps.push("Statements are not tracked: set track_activities = on".to_owned());
    }
    let statements = get::<String>(&row, 8);
    if statements.is_none() {
        gaps.push(format!(
            "Times of statements cannot be compared with before: CREATE EXTENSION pg_stat_statements in database {}, with \
             shared_preload_libraries = 'pg_stat_statements'",
            quoted(&database)
        ));
    }
    let listens = get::<i32>(&row, 9).unwrap_or_default();
    let folders = text(10);
    let folders =
        folders.split(',').map(|folder| folder.trim().trim_matches('"')).filter(|f| f.starts_with('/'));
    Ok(Standing {
        view,
        version: get(&row, 1).unwrap_or_default(),
        database,
        user: quoted(&user),
        connections_max: get::<i32>(&row, 6).unwrap_or_default().cast_unsigned(),
        statements,
        gaps,
        paths: folders.map(|folder| PathBuf::from(folder).join(format!(".s.PGSQL.{listens}"))).collect(),
    })
}

/// Ends a question. What it has found out is there already: an error here is one of the next question.
pub(super) async fn done(client: &Client) {
    let _ = client.batch_execute("ROLLBACK").await;
}

/// Writes a name so that it can be pasted.
pub(super) fn quoted(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.bytes().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}
