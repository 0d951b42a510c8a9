//! What an observer wants back after it was started again: small values by name, of one server. Not for: what people read.

use super::open::server_id;
use super::{Store, StoreError};
use ferricorn_core::record::Server;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The name of the memory of workers ([`ferricorn_core::growth::Courses`]).
pub const COURSES: &str = "memory";

/// Bytes of a value.
const BYTES_MAX: usize = 1 << 20;
/// Other servers whose values are read.
const OTHERS_MAX: usize = 64;

/// Returns a value as it is kept.
pub(super) fn as_body(value: &impl Serialize) -> Result<String, StoreError> {
    let body = serde_json::to_string(value)?;
    if body.len() > BYTES_MAX {
        return Err(StoreError::TooLarge { what: "a value to remember", bytes: body.len() });
    }
    Ok(body)
}

impl Store {
    /// Keeps a value under a name, in the place of the one before.
    ///
    /// # Errors
    /// The store's.
    pub fn remember(
        &self,
        server: &Server,
        key: &str,
        now_s: f64,
        value: &impl Serialize,
    ) -> Result<(), StoreError> {
        let body = as_body(value)?;
        self.write(|connection| self.keep_value(connection, server, key, now_s, &body))
    }

    /// The same within a transaction.
    pub(super) fn keep_value(
        &self,
        connection: &Connection,
        server: &Server,
        key: &str,
        now_s: f64,
        body: &str,
    ) -> Result<(), StoreError> {
        let query = "INSERT INTO state (server, key, at, body) VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT DO UPDATE SET at = excluded.at, body = excluded.body";
        let server = server_id(connection, server, now_s)?;
        connection.prepare_cached(query)?.execute(params![server, key, now_s, body])?;
        let query =
            "DELETE FROM state WHERE rowid IN (SELECT rowid FROM state ORDER BY at DESC LIMIT -1 OFFSET ?1)";
        connection.prepare_cached(query)?.execute([self.bounds().state_rows.cast_signed()])?;
        Ok(())
    }

    /// Returns what was kept under a name; none if nothing was, or it has another shape by now.
    ///
    /// # Errors
    /// The store's.
    pub fn remembered<T: DeserializeOwned>(
        &self,
        server: &Server,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        let query = "SELECT body FROM state JOIN servers ON servers.id = state.server \
                     WHERE pid = ?1 AND started_ns = ?2 AND key = ?3 ORDER BY state.at DESC LIMIT 1";
        let mut statement = self.connection().prepare_cached(query)?;
        let key = params![server.pid, server.started_ns.cast_signed(), key];
        let body: Option<String> = statement.query_row(key, |row| row.get(0)).optional()?;
        Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
    }

    /// Returns what servers have kept under a name, with when that was, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn states<T: DeserializeOwned>(&self, key: &str) -> Result<Vec<(Server, f64, T)>, StoreError> {
        let query = "SELECT body, servers.pid, name, started_ns, version, at FROM state JOIN servers ON servers.id = state.server \
                     WHERE key = ?1 ORDER BY at DESC";
        let mut statement = self.connection().prepare_cached(query)?;
        let rows = statement.query_map([key], |row| {
            let server = Server {
                pid: row.get(1)?,
                name: row.get(2)?,
                started_ns: row.get::<_, i64>(3)?.cast_unsigned(),
                version: row.get(4)?,
                ..Server::default()
            };
            Ok((row.get::<_, String>(0)?, server, row.get::<_, f64>(5)?))
        })?;
        let mut found = Vec::new();
        for row in rows {
            let (body, server, at) = row?;
            // Of another shape: a newer or older observer's.
            found.extend(serde_json::from_str(&body).ok().map(|value| (server, at, value)));
        }
        Ok(found)
    }

    /// Returns what other servers have kept under a name, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub fn remembered_by_others<T: DeserializeOwned>(
        &self,
        server: &Server,
        key: &str,
    ) -> Result<Vec<(Server, T)>, StoreError> {
        let is_other =
            |(other, ..): &(Server, f64, T)| (other.pid, other.started_ns) != (server.pid, server.started_ns);
        let others = self.states(key)?.into_iter().filter(is_other).take(OTHERS_MAX);
        Ok(others.map(|(other, _, value)| (other, value)).collect())
    }

    /// Returns what the last server of a pid and name has kept under a name, for who knows no more of it.
    ///
    /// # Errors
    /// The store's.
    pub fn last_remembered<T: DeserializeOwned>(
        &self,
        pid: u32,
        name: &str,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        let query = "SELECT body FROM state JOIN servers ON servers.id = state.server \
                     WHERE pid = ?1 AND name = ?2 AND key = ?3 ORDER BY started_ns DESC LIMIT 1";
        let mut statement = self.connection().prepare_cached(query)?;
        let body: Option<String> =
            statement.query_row(params![pid, name, key], |row| row.get(0)).optional()?;
        Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{opened, server};
    use ferricorn_core::snapshot::Kind;

    #[test]
    fn values_of_servers_that_came_and_went_make_room() {
        let (_folder, store) = opened(Bounds { state_rows: 3, ..Bounds::default() });
        for number in 1..=5 {
            store.remember(&server(number), "baseline", f64::from(number), &number).expect("kept");
        }
        let kept = |number| store.remembered::<u32>(&server(number), "baseline").expect("read");
        assert_eq!((1..=5).filter_map(kept).collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn a_value_is_its_servers_alone_and_the_last_one_counts() {
        let (_folder, store) = opened(Bounds::default());
        store.remember(&server(1), "baseline", 1.0, &[1, 2]).expect("kept");
        store.remember(&server(1), "baseline", 2.0, &[3]).expect("kept");
        store.remember(&server(2), "baseline", 2.0, &"words").expect("kept");
        assert_eq!(store.remembered::<Vec<u32>>(&server(1), "baseline").expect("read"), Some(vec![3]));
        assert_eq!(
            store.remembered::<Vec<u32>>(&server(2), "baseline").expect("read"),
            None,
            "another shape"
        );
        let others =
            |number| store.remembered_by_others::<Vec<u32>>(&server(number), "baseline").expect("read");
        assert_eq!(others(2), [(Server { kind: Kind::default(), ..server(1) }, vec![3])]);
        assert_eq!(others(1), []);
        assert_eq!(store.remembered::<String>(&server(1), "other").expect("read"), None);
        let Server { pid, name, .. } = server(1);
        assert_eq!(store.last_remembered::<Vec<u32>>(pid, &name, "baseline").expect("read"), Some(vec![3]));
        assert_eq!(store.last_remembered::<Vec<u32>>(pid, "other", "baseline").expect("read"), None);
        let renamed = Server { name: "other".into(), ..server(1) };
        assert_eq!(store.remembered::<Vec<u32>>(&renamed, "baseline").expect("read"), Some(vec![3]));
        store.remember(&renamed, "baseline", 3.0, &[4]).expect("kept");
        assert_eq!(store.remembered::<Vec<u32>>(&server(1), "baseline").expect("read"), Some(vec![4]));
        assert_eq!(store.last_remembered::<Vec<u32>>(pid, "other", "baseline").expect("read"), Some(vec![4]));
        let large = "x".repeat(BYTES_MAX);
        assert!(matches!(store.remember(&server(1), "x", 1.0, &large), Err(StoreError::TooLarge { .. })));
    }
}
