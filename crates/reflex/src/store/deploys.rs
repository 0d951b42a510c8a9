//! What has changed about services, and what each was last made of. Not for: lives of workers (`changes`).

use super::{Store, StoreError};
use ferricorn_core::change::Change;
use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a fingerprint as JSON. That of an application with as many files as are followed has half of it.
const BYTES_MAX: usize = 1 << 20;

impl Store {
    /// Keeps a change of a service; of one that turned out to be a part of it, in the place of that.
    ///
    /// # Errors
    /// The store's.
    pub fn keep_deploy(
        &self,
        service: &str,
        change: &Change,
        instead_of: Option<&Change>,
    ) -> Result<(), StoreError> {
        let body = serde_json::to_string(change)?;
        self.write(|connection| {
            if let Some(part) = instead_of {
                let query = "DELETE FROM deploys WHERE service = ?1 AND at = ?2 AND name = ?3";
                connection.prepare_cached(query)?.execute(params![service, part.at, part.name])?;
            }
            let query = "INSERT INTO deploys (at, kind, service, name, body) VALUES (?1, ?2, ?3, ?4, ?5)";
            let row = params![change.at, change.kind.name(), service, change.name, body];
            connection.prepare_cached(query)?.execute(row)?;
            let query = "DELETE FROM deploys WHERE id IN (SELECT id FROM deploys ORDER BY at DESC LIMIT -1 OFFSET ?1)";
            connection.prepare_cached(query)?.execute([self.bounds().deploys.cast_signed()])?;
            Ok(())
        })
    }

    /// Returns the changes since a moment, the newest first and at most so many: of one service and those that somebody has marked
    /// for all, or of every service.
    ///
    /// # Errors
    /// The store's.
    pub fn deploys(
        &self,
        service: Option<&str>,
        since_s: f64,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let query = "SELECT body FROM deploys WHERE at >= ?1 AND (?2 IS NULL OR service IN (?2, '')) \
                     ORDER BY at DESC, id DESC LIMIT ?3";
        let mut statement = self.connection().prepare_cached(query)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let bodies = statement.query_map(params![since_s, service, limit], |row| row.get::<_, String>(0))?;
        let mut changes = Vec::new();
        for body in bodies {
            changes.extend(serde_json::from_str::<Change>(&body?));
        }
        Ok(changes)
    }

    /// Keeps what a service is made of now.
    ///
    /// # Errors
    /// The store's.
    pub fn keep_service(&self, service: &str, now_s: f64, value: &impl Serialize) -> Result<(), StoreError> {
        let body = serde_json::to_string(value)?;
        if body.len() > BYTES_MAX {
            return Err(StoreError::TooLarge { what: "a fingerprint", bytes: body.len() });
        }
        self.write(|connection| {
            let query = "INSERT INTO services (service, at, body) VALUES (?1, ?2, ?3) \
                         ON CONFLICT DO UPDATE SET at = excluded.at, body = excluded.body";
            connection.prepare_cached(query)?.execute(params![service, now_s, body])?;
            let query = "DELETE FROM services WHERE service IN \
                         (SELECT service FROM services ORDER BY at DESC LIMIT -1 OFFSET ?1)";
            connection.prepare_cached(query)?.execute([self.bounds().services.cast_signed()])?;
            Ok(())
        })
    }

    /// Returns what a service was made of; none if nobody has kept it, or it has another shape by now.
    ///
    /// # Errors
    /// The store's.
    pub fn service<T: DeserializeOwned>(&self, service: &str) -> Result<Option<T>, StoreError> {
        let mut statement =
            self.connection().prepare_cached("SELECT body FROM services WHERE service = ?1")?;
        let body: Option<String> = statement.query_row([service], |row| row.get(0)).optional()?;
        Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{opened, server};

    fn change(at: f64, name: &str) -> Change {
        Change { at, name: name.into(), ..Change::default() }
    }

    fn names(store: &Store, service: Option<&str>, since_s: f64) -> Vec<String> {
        let found = store.deploys(service, since_s, 10).expect("read");
        found.into_iter().map(|change| change.name).collect()
    }

    #[test]
    fn changes_are_a_services_own_and_marks_without_one_everybodys() {
        let (_folder, store) = opened(Bounds::default());
        for (service, at, name) in
            [("a", 1.0, "one"), ("b", 2.0, "two"), ("", 3.0, "mark"), ("a", 4.0, "part")]
        {
            store.keep_deploy(service, &change(at, name), None).expect("kept");
        }
        assert_eq!(names(&store, Some("a"), 0.0), ["part", "mark", "one"]);
        assert_eq!(names(&store, None, 2.0), ["part", "mark", "two"]);
        store.keep_deploy("a", &change(4.0, "whole"), Some(&change(4.0, "part"))).expect("kept");
        assert_eq!(names(&store, Some("a"), 0.0), ["whole", "mark", "one"]);
    }

    #[test]
    fn both_tables_have_a_limit_in_number_and_age() {
        let (_folder, store) = opened(Bounds { deploys: 3, services: 2, ..Bounds::default() });
        for number in 0..6_u32 {
            let at = f64::from(number);
            store.keep_deploy("a", &change(at, &number.to_string()), None).expect("kept");
            store.keep_service(&number.to_string(), at, &number).expect("kept");
        }
        assert_eq!(names(&store, None, 0.0), ["5", "4", "3"]);
        let kept: Vec<u32> =
            (0..6).filter_map(|number: u32| store.service(&number.to_string()).expect("read")).collect();
        assert_eq!(kept, [4, 5]);
        store.maintain(&server(1), 40.0 * 86_400.0).expect("done");
        assert!(names(&store, None, 0.0).is_empty());
        let large = "x".repeat(BYTES_MAX);
        assert!(matches!(store.keep_service("x", 1.0, &large), Err(StoreError::TooLarge { .. })));
    }
}
