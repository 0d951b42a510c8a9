//! What is on its way to other hosts: it waits here until it has arrived, however long nobody can be reached. Not for: sending it.

use super::{Store, StoreError};
use rusqlite::params;

/// Something on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number, in the order in which they came.
    pub number: i64,
    /// Where it goes.
    pub subject: String,
    /// Tells it from others, so that it arrives once.
    pub id: String,
    /// JSON.
    pub body: String,
}

impl Store {
    /// Adds something. What waits still about the same matter has become old, and goes; and so does the oldest of too many.
    ///
    /// # Errors
    /// The store's.
    pub fn send(&self, subject: &str, matter: &str, id: &str, body: &str) -> Result<(), StoreError> {
        self.write(|connection| {
            let query = "DELETE FROM outgoing WHERE subject = ?1 AND matter = ?2";
            connection.prepare_cached(query)?.execute(params![subject, matter])?;
            let query = "INSERT INTO outgoing (subject, matter, id, body) VALUES (?1, ?2, ?3, ?4)";
            connection.prepare_cached(query)?.execute(params![subject, matter, id, body])?;
            let query = "DELETE FROM outgoing WHERE number IN (SELECT number FROM outgoing ORDER BY number DESC LIMIT -1 OFFSET ?1)";
            connection.prepare_cached(query)?.execute([self.bounds().outgoing.cast_signed()])?;
            Ok(())
        })
    }

    /// Returns what waits, the oldest first and at most so many.
    ///
    /// # Errors
    /// The store's.
    pub fn outgoing(&self, limit: usize) -> Result<Vec<Outgoing>, StoreError> {
        let query = "SELECT number, subject, id, body FROM outgoing ORDER BY number LIMIT ?1";
        let mut statement = self.connection().prepare_cached(query)?;
        let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(Outgoing { number: row.get(0)?, subject: row.get(1)?, id: row.get(2)?, body: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<Vec<Outgoing>, rusqlite::Error>>()?)
    }

    /// These have arrived.
    ///
    /// # Errors
    /// The store's.
    pub fn arrived(&self, numbers: &[i64]) -> Result<(), StoreError> {
        self.write(|connection| {
            let mut statement = connection.prepare_cached("DELETE FROM outgoing WHERE number = ?1")?;
            for number in numbers {
                statement.execute([number])?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::store::bounds::Bounds;
    use crate::store::tests::opened;

    #[test]
    fn what_goes_out_waits_until_it_has_arrived() {
        let (_folder, store) = opened(Bounds { outgoing: 3, ..Bounds::default() });
        let bodies = |limit: usize| -> Vec<String> {
            store.outgoing(limit).expect("read").into_iter().map(|one| one.body).collect()
        };
        for (matter, body) in [("1", "a"), ("2", "b"), ("1", "c")] {
            store.send("incident", matter, body, body).expect("kept");
        }
        assert_eq!(bodies(9), ["b", "c"], "of one matter the last word is enough");
        store.send("change", "1", "d", "d").expect("kept");
        store.send("change", "2", "e", "e").expect("kept");
        assert_eq!(bodies(2), ["c", "d"], "the oldest of too many is gone");
        let first = store.outgoing(1).expect("read")[0].number;
        store.arrived(&[first, 99]).expect("gone");
        assert_eq!(bodies(9), ["d", "e"]);
    }
}
