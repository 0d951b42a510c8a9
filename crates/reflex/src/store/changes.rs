//! Lives of workers: when one began, got stuck, ended, and why. Not for: finding that out (`core::life`).

use super::open::server_id;
use super::{Store, StoreError};
use ferricorn_core::life::Change;
use ferricorn_core::record::Server;
use rusqlite::params;

/// Changes of one transaction.
const BATCH: usize = 1024;

impl Store {
    /// Keeps changes of a server's workers.
    ///
    /// # Errors
    /// The store's.
    pub fn append_changes(&self, server: &Server, changes: &[Change]) -> Result<(), StoreError> {
        for batch in changes.chunks(BATCH) {
            let Some(newest) = batch.last() else { break };
            self.write(|connection| {
                let server = server_id(connection, server, newest.at_s)?;
                let query = "INSERT INTO changes (at, kind, server, pid, body) VALUES (?1, ?2, ?3, ?4, ?5)";
                let mut statement = connection.prepare_cached(query)?;
                for change in batch {
                    let body = serde_json::to_string(change)?;
                    statement.execute(params![change.at_s, change.life.name(), server, change.pid, body])?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Returns the changes since a moment, the newest first and at most so many.
    ///
    /// # Errors
    /// The store's.
    pub fn changes(&self, since_s: f64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let query = "SELECT body FROM changes WHERE at >= ?1 ORDER BY at DESC, id DESC LIMIT ?2";
        let mut statement = self.connection().prepare_cached(query)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let bodies = statement.query_map(params![since_s, limit], |row| row.get::<_, String>(0))?;
        let mut changes = Vec::new();
        for body in bodies {
            changes.extend(serde_json::from_str::<Change>(&body?));
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{opened, server};
    use ferricorn_core::life::Life;
    use ferricorn_core::scoreboard::Exit;

    #[test]
    fn changes_come_back_newest_first() {
        let (_folder, store) = opened(Bounds::default());
        let change = |at_s, life| Change { at_s, pid: 7, age: 1, life, cause: None, exit: None };
        let ended = Change {
            cause: Some("the kernel killed it".into()),
            exit: Some(Exit::OutOfMemory),
            ..change(3.0, Life::Exited)
        };
        let lives = [change(1.0, Life::Booting), change(2.0, Life::Ready), ended.clone()];
        store.append_changes(&server(1), &lives).expect("kept");
        store.append_changes(&server(1), &[]).expect("nothing");
        assert_eq!(store.changes(2.0, 10).expect("read"), [ended.clone(), lives[1].clone()]);
        assert_eq!(store.changes(0.0, 1).expect("read"), [ended]);
    }
}
