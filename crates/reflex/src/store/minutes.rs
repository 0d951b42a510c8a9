//! Durations by the minute, per server, route, method and kind of answer: for two days each minute, then ten together.
//! Not for: what a change of them means.

use super::open::server_id;
use super::{Store, StoreError, sparse};
use ferricorn_core::latency::{Class, Key, Phases};
use ferricorn_core::record::Server;
use ferricorn_core::units::cut;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// Minutes that are kept together when they have become old.
pub(super) const COARSE: u64 = 10;
/// Stretches of that length that are put together at a time.
const ROLL_MAX: usize = 12;
/// So many of the newest minutes stay minutes when there is no room for more.
const FINE_LEAST: u64 = 180;
/// The longest name of a route or method, in bytes.
const NAME_MAX: usize = 256;

impl Store {
    /// Adds what a server has counted in a minute (of those since 1970) to what is kept of it.
    ///
    /// # Errors
    /// The store's.
    pub fn add_minute(
        &self,
        server: &Server,
        minute: u64,
        counted: &[(Key, Phases)],
    ) -> Result<(), StoreError> {
        if counted.is_empty() {
            return Ok(());
        }
        self.write(|connection| {
            let server = server_id(connection, server, minute as f64 * 60.0)?;
            for (key, phases) in counted {
                let place = Place { minute, span: 1, server, key: key_id(connection, key)? };
                add(connection, &place, phases)?;
            }
            Ok(())
        })
    }

    /// Returns the durations from one minute on until before another, of all servers. What is older than two days is kept
    /// by tens of minutes, and belongs to the first of them.
    ///
    /// # Errors
    /// The store's.
    pub fn minutes(&self, from: u64, to: u64) -> Result<Vec<(Key, Phases)>, StoreError> {
        let mut merged: BTreeMap<Key, Phases> = BTreeMap::new();
        self.each(from, to, |_, key, phases| merged.entry(key).or_default().merge(&phases))?;
        Ok(merged.into_iter().collect())
    }

    /// The same, each minute by itself; minutes without requests are left out.
    ///
    /// # Errors
    /// The store's.
    pub fn minute_by_minute(
        &self,
        from: u64,
        to: u64,
    ) -> Result<BTreeMap<u64, Vec<(Key, Phases)>>, StoreError> {
        let mut minutes: BTreeMap<u64, BTreeMap<Key, Phases>> = BTreeMap::new();
        self.each(from, to, |minute, key, phases| {
            minutes.entry(minute).or_default().entry(key).or_default().merge(&phases);
        })?;
        Ok(minutes.into_iter().map(|(minute, merged)| (minute, merged.into_iter().collect())).collect())
    }

    fn each(&self, from: u64, to: u64, mut take: impl FnMut(u64, Key, Phases)) -> Result<(), StoreError> {
        let query = "SELECT minute, data, route, named, method, class FROM minutes JOIN keys ON keys.id = key \
                     WHERE span IN (1, ?3) AND minute >= ?1 AND minute < ?2";
        let mut statement = self.connection().prepare_cached(query)?;
        let mut rows = statement.query(params![number(from), number(to), number(COARSE)])?;
        while let Some(row) = rows.next()? {
            // What is not understood is left out.
            let (Some(phases), Some(key)) =
                (sparse::read(row.get_ref(1)?.as_blob().unwrap_or_default()), key(row)?)
            else {
                continue;
            };
            take(row.get::<_, i64>(0)?.unsigned_abs(), key, phases);
        }
        Ok(())
    }

    /// Puts minutes together that lie before `until`, the oldest first; returns whether any may be left.
    pub(super) fn roll_up(&self, until: u64) -> Result<bool, StoreError> {
        for _ in 0..ROLL_MAX {
            if !self.transact(|connection| roll_oldest(connection, until))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Puts the oldest minutes together before their time, for room; false if only the newest are left.
pub(super) fn roll_early(connection: &Connection) -> Result<bool, StoreError> {
    let query = "SELECT max(minute) FROM minutes WHERE span = 1";
    let newest: Option<i64> = connection.query_row(query, [], |row| row.get(0))?;
    let newest = newest.unwrap_or(0).unsigned_abs();
    roll_oldest(connection, newest.saturating_sub(FINE_LEAST) / COARSE * COARSE)
}

/// Puts the oldest stretch before `until` together; false if there is none.
fn roll_oldest(connection: &Connection, until: u64) -> Result<bool, StoreError> {
    let query = "SELECT min(minute) FROM minutes WHERE span = 1 AND minute < ?1";
    let mut statement = connection.prepare_cached(query)?;
    let oldest: Option<i64> = statement.query_row([number(until)], |row| row.get(0))?;
    if let Some(oldest) = oldest {
        roll(connection, oldest.unsigned_abs() / COARSE * COARSE)?;
    }
    Ok(oldest.is_some())
}

/// Which row.
struct Place {
    minute: u64,
    span: u64,
    server: i64,
    key: i64,
}

/// Adds to a row, a new one if there is none.
fn add(connection: &Connection, place: &Place, phases: &Phases) -> Result<(), StoreError> {
    let Place { minute, span, server, key } = place;
    let row = params![number(*minute), number(*span), server, key];
    let query = "SELECT data FROM minutes WHERE minute = ?1 AND span = ?2 AND server = ?3 AND key = ?4";
    let kept: Option<Vec<u8>> =
        connection.prepare_cached(query)?.query_row(row, |row| row.get(0)).optional()?;
    let mut phases = phases.clone();
    if let Some(kept) = kept.and_then(|kept| sparse::read(&kept)) {
        phases.merge(&kept);
    }
    let query = "INSERT INTO minutes (minute, span, server, key, requests, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT DO UPDATE SET requests = excluded.requests, data = excluded.data";
    let requests = phases.app.count.max(phases.queue.count);
    connection.prepare_cached(query)?.execute(params![
        number(*minute),
        number(*span),
        server,
        key,
        number(requests),
        sparse::written(&phases),
    ])?;
    Ok(())
}

/// Puts the minutes of one stretch together.
fn roll(connection: &Connection, begin: u64) -> Result<(), StoreError> {
    let bounds = params![number(begin), number(begin + COARSE)];
    let mut merged: BTreeMap<(i64, i64), Phases> = BTreeMap::new();
    let query = "SELECT server, key, data FROM minutes WHERE span = 1 AND minute >= ?1 AND minute < ?2";
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(bounds)?;
    while let Some(row) = rows.next()? {
        let Some(phases) = sparse::read(row.get_ref(2)?.as_blob().unwrap_or_default()) else { continue };
        merged.entry((row.get(0)?, row.get(1)?)).or_default().merge(&phases);
    }
    // First, because there may be no room for more.
    let query = "DELETE FROM minutes WHERE span = 1 AND minute >= ?1 AND minute < ?2";
    connection.prepare_cached(query)?.execute(bounds)?;
    for ((server, key), phases) in merged {
        add(connection, &Place { minute: begin, span: COARSE, server, key }, &phases)?;
    }
    Ok(())
}

fn key_id(connection: &Connection, key: &Key) -> Result<i64, StoreError> {
    let values = params![cut(&key.route, NAME_MAX), key.named, cut(&key.method, NAME_MAX), key.class.name()];
    let query = "SELECT id FROM keys WHERE route = ?1 AND named = ?2 AND method = ?3 AND class = ?4";
    if let Some(id) = connection.prepare_cached(query)?.query_row(values, |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let query = "INSERT INTO keys (route, named, method, class) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(query)?.execute(values)?;
    Ok(connection.last_insert_rowid())
}

/// Reads a key; none if its class is not known here.
fn key(row: &Row<'_>) -> rusqlite::Result<Option<Key>> {
    let name = row.get_ref("class")?.as_str().unwrap_or_default();
    let Some(class) = Class::ALL.into_iter().find(|class| class.name() == name) else { return Ok(None) };
    Ok(Some(Key { route: row.get("route")?, named: row.get("named")?, method: row.get("method")?, class }))
}

/// SQLite's numbers have a sign; no minute and no count comes near it.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{opened, server};

    fn key(route: &str, class: Class) -> Key {
        Key { route: route.into(), named: true, method: "GET".into(), class }
    }

    fn took(us: &[u64]) -> Phases {
        let mut phases = Phases::default();
        us.iter().for_each(|us| phases.app.add(*us));
        phases
    }

    #[test]
    fn minutes_of_all_servers_are_added_up() {
        let (_folder, store) = opened(Bounds::default());
        let ok = key("/a", Class::Success);
        let lost = key("/a", Class::Lost);
        store
            .add_minute(&server(1), 100, &[(ok.clone(), took(&[5, 6])), (lost.clone(), took(&[9]))])
            .expect("kept");
        store.add_minute(&server(2), 100, &[(ok.clone(), took(&[7]))]).expect("kept");
        // An observer that was started again within the minute.
        store.add_minute(&server(1), 100, &[(ok.clone(), took(&[8]))]).expect("kept");
        store.add_minute(&server(1), 102, &[(ok.clone(), took(&[70]))]).expect("kept");
        store.add_minute(&server(1), 103, &[]).expect("nothing");
        let all = store.minutes(100, 102).expect("read");
        assert_eq!(all, [(ok.clone(), took(&[5, 6, 7, 8])), (lost, took(&[9]))]);
        let each = store.minute_by_minute(0, 1000).expect("read");
        assert_eq!(each.keys().copied().collect::<Vec<_>>(), [100, 102]);
        assert_eq!(each[&102], [(ok, took(&[70]))]);
        assert_eq!(store.minutes(103, 200).expect("read"), []);
        // For people with `sqlite3`.
        let query = "SELECT sum(requests) FROM minutes JOIN keys ON keys.id = key WHERE class = 'lost'";
        assert_eq!(store.connection().query_row(query, [], |row| row.get(0)), Ok(1));
    }

    #[test]
    fn what_is_old_is_kept_by_tens() {
        let (_folder, store) = opened(Bounds::default());
        let ok = key("/a", Class::Success);
        for minute in 95..125 {
            store.add_minute(&server(1), minute, &[(ok.clone(), took(&[minute]))]).expect("kept");
        }
        let before = store.minutes(0, 1000).expect("read");
        assert!(!store.roll_up(110).expect("done"));
        assert_eq!(store.minutes(0, 1000).expect("read"), before, "nothing is lost");
        let each = store.minute_by_minute(0, 1000).expect("read");
        let minutes: Vec<u64> = each.keys().copied().collect();
        assert_eq!(minutes[..3], [90, 100, 110]);
        assert_eq!(minutes.len(), 2 + 15);
        assert_eq!(each[&90][0].1.app.count, 5);
        assert_eq!(each[&100][0].1.app.count, 10);
        // One that comes late is added.
        store.add_minute(&server(1), 104, &[(ok, took(&[1]))]).expect("kept");
        assert!(!store.roll_up(110).expect("done"));
        assert_eq!(store.minute_by_minute(100, 101).expect("read")[&100][0].1.app.count, 11);
    }

    #[test]
    fn not_all_is_put_together_at_once() {
        let (_folder, store) = opened(Bounds::default());
        for stretch in 0..ROLL_MAX as u64 + 1 {
            let counted = [(key("/a", Class::Success), took(&[1]))];
            store.add_minute(&server(1), stretch * COARSE, &counted).expect("kept");
        }
        assert!(store.roll_up(10_000).expect("done"), "some are left");
        assert!(!store.roll_up(10_000).expect("done"));
    }
}
