//! What keeps the store within its bounds: age, size, and what servers have left that are gone. Each part is small, so that
//! an observer can do it between two looks.
//!
//! Not for: the bounds themselves (`bounds`).

use super::minutes::{self, COARSE};
use super::open::{PAGE_BYTES, server_id};
use super::{Store, StoreError, incidents};
use ferricorn_core::record::Server;
use rusqlite::{Connection, params};

/// Rows of a table that are given up at a time for their age.
const OLD_MAX: u32 = 2000;
/// Minutes of durations that are given up at a time for their age: six hours.
const OLD_MINUTES: u64 = 360;
/// How often what is full is cut before that counts as not possible.
const CUTS_MAX: usize = 64;
/// Pages that are given back to the disk at a time: 4 MB.
const SHRINK_PAGES: u32 = 1024;
/// Once in so many minutes, keys that nothing is kept of are given up.
const KEYS_EVERY: u64 = 360;

/// What can be given up for room: the oldest eighth of what takes most against its share.
struct Group {
    /// What can be done before anything is given up; false if nothing.
    squeeze: fn(&Connection) -> Result<bool, StoreError>,
    /// Its share of the store, in sixteenths.
    share: f64,
    /// How many bytes it takes.
    bytes: &'static str,
    /// Gives the oldest eighth up.
    cut: &'static str,
}

const GROUPS: [Group; 4] = [
    Group {
        squeeze: minutes::roll_early,
        share: 8.0,
        bytes: "SELECT coalesce(sum(length(data) + 32), 0) FROM minutes",
        cut: "DELETE FROM minutes WHERE minute <= \
              (SELECT minute FROM minutes ORDER BY minute LIMIT 1 OFFSET (SELECT count(*) / 8 FROM minutes))",
    },
    Group {
        squeeze: |_| Ok(false),
        share: 6.0,
        bytes: "SELECT coalesce(sum(length(body) + 256), 0) FROM records",
        cut: "DELETE FROM records WHERE id IN \
              (SELECT id FROM records ORDER BY at LIMIT (SELECT count(*) / 8 + 1 FROM records))",
    },
    Group {
        squeeze: |_| Ok(false),
        share: 1.0,
        bytes: "SELECT coalesce(sum(length(body) + 256), 0) FROM incidents",
        // Notes first; what goes on stays.
        cut: "DELETE FROM incidents WHERE id IN \
              (SELECT id FROM incidents WHERE state IN ('note', 'closed') ORDER BY state = 'closed', at \
              LIMIT (SELECT count(*) / 8 + 1 FROM incidents))",
    },
    Group {
        squeeze: |_| Ok(false),
        share: 1.0,
        bytes: "SELECT coalesce(sum(length(body) + 64), 0) FROM changes",
        cut: "DELETE FROM changes WHERE id IN \
              (SELECT id FROM changes ORDER BY at LIMIT (SELECT count(*) / 8 + 1 FROM changes))",
    },
];

impl Store {
    /// Does what is due every minute: says that this server is there, ends what servers have left that are gone, gives up
    /// what is old, and keeps the size.
    ///
    /// # Errors
    /// The store's; the rest is done the next time.
    pub fn maintain(&self, server: &Server, now_s: f64) -> Result<(), StoreError> {
        let bounds = self.bounds();
        let minute = (now_s / 60.0).max(0.0) as u64;
        self.write(|connection| {
            let id = server_id(connection, server, now_s)?;
            connection.execute("UPDATE servers SET seen_at = ?2 WHERE id = ?1", params![id, now_s])?;
            incidents::abandon(connection, now_s, now_s - bounds.gone_s)
        })?;
        self.write(|connection| self.forget(connection, now_s, minute))?;
        self.roll_up(minute.saturating_sub(bounds.fine_minutes) / COARSE * COARSE)?;
        if self.used()? > bounds.database_bytes / 16 * 15 {
            self.make_room()?;
        }
        self.shrink()
    }

    /// Gives up the oldest until an eighth of the store is free.
    pub(super) fn make_room(&self) -> Result<(), StoreError> {
        let enough = self.bounds().database_bytes / 8 * 7;
        for _ in 0..CUTS_MAX {
            if self.used()? <= enough {
                return Ok(());
            }
            if !self.transact(cut)? {
                break;
            }
        }
        if self.used()? < self.bounds().database_bytes {
            return Ok(());
        }
        Err(StoreError::Full("the store is full, and nothing in it may go"))
    }

    /// Returns the bytes of the database that hold something.
    fn used(&self) -> Result<u64, StoreError> {
        Ok((self.pages("page_count")?.saturating_sub(self.pages("freelist_count")?)) * PAGE_BYTES)
    }

    fn pages(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self
            .connection()
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))?
            .unsigned_abs())
    }

    /// Gives up what is older than its time; not more than is quickly done.
    fn forget(&self, connection: &Connection, now_s: f64, minute: u64) -> Result<(), StoreError> {
        let bounds = self.bounds();
        let by_rowid = |table: &str, condition: &str, before_s: f64| {
            let query = format!(
                "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {condition} < ?1 LIMIT ?2)"
            );
            connection.prepare_cached(&query)?.execute(params![before_s, OLD_MAX]).map(|_| ())
        };
        by_rowid("records", "at", now_s - bounds.records_s)?;
        by_rowid("changes", "at", now_s - bounds.records_s)?;
        by_rowid("deploys", "at", now_s - bounds.records_s)?;
        by_rowid(
            "incidents",
            "state = 'closed' AND opened_at IS NOT NULL AND last_at",
            now_s - bounds.incidents_s,
        )?;
        by_rowid("incidents", "opened_at IS NULL AND last_at", now_s - bounds.notes_s)?;
        let open =
            "id NOT IN (SELECT server FROM incidents WHERE state IN ('open', 'mitigated')) AND seen_at";
        by_rowid("servers", open, now_s - bounds.incidents_s)?;
        let hour = (now_s - bounds.records_s) / 3600.0;
        connection.prepare_cached("DELETE FROM signatures WHERE hour < ?1")?.execute([hour])?;
        let day = incidents::day(now_s - bounds.incidents_s);
        connection.prepare_cached("DELETE FROM numbers WHERE day < ?1")?.execute([day])?;
        let last = minute.saturating_sub(bounds.coarse_minutes).cast_signed();
        let query = "DELETE FROM minutes WHERE span = ?1 AND minute < \
                     min(?2, (SELECT min(minute) FROM minutes WHERE span = ?1) + ?3)";
        let values = params![COARSE.cast_signed(), last, OLD_MINUTES.cast_signed()];
        connection.prepare_cached(query)?.execute(values)?;
        if minute.is_multiple_of(KEYS_EVERY) {
            connection.execute("DELETE FROM keys WHERE id NOT IN (SELECT key FROM minutes)", [])?;
        }
        Ok(())
    }

    /// Gives pages back to the disk where many are free.
    fn shrink(&self) -> Result<(), StoreError> {
        if self.pages("freelist_count")? > self.pages("page_count")? / 4 {
            // Each step gives one page back.
            let mut vacuum =
                self.connection().prepare(&format!("PRAGMA incremental_vacuum({SHRINK_PAGES})"))?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
        }
        Ok(())
    }
}

/// Gives up a piece of what takes most against its share; false if nothing can go.
fn cut(connection: &Connection) -> Result<bool, StoreError> {
    let mut excess = Vec::with_capacity(GROUPS.len());
    for group in &GROUPS {
        let bytes: i64 = connection.query_row(group.bytes, [], |row| row.get(0))?;
        excess.push((bytes as f64 / group.share, group));
    }
    excess.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (_, group) in excess {
        if (group.squeeze)(connection)? || connection.execute(group.cut, [])? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::place::{self, FILE};
    use crate::store::tests::{incident, late, opened, server};
    use crate::store::{Act, IncidentFilter, RecordFilter};
    use ferricorn_core::incident::State;
    use ferricorn_core::latency::{Class, Key, Phases};
    use ferricorn_core::life::{Change, Life};
    use ferricorn_core::record::Record;
    use std::path::Path;

    const DAY_S: f64 = 86_400.0;
    const NOW: f64 = 1_795_651_200.0;

    fn counts(store: &Store) -> [i64; 4] {
        ["records", "incidents", "minutes", "changes"].map(|table| {
            let query = format!("SELECT count(*) FROM {table}");
            store.connection().query_row(&query, [], |row| row.get(0)).expect("counted")
        })
    }

    fn durations(route: &str) -> (Key, Phases) {
        let mut phases = Phases::default();
        (0..200).for_each(|number| phases.app.add(number * 97));
        (Key { route: route.into(), named: true, method: "GET".into(), class: Class::Success }, phases)
    }

    fn lived(at_s: f64) -> Change {
        Change { at_s, pid: 7, age: 1, life: Life::Ready, cause: None, exit: None }
    }

    #[test]
    fn what_is_old_goes() {
        let (_folder, store) = opened(Bounds::default());
        for days in [1.0, 20.0, 40.0, 100.0] {
            let at_s = NOW - days * DAY_S;
            store.append(&late(at_s, 7, 1)).expect("kept");
            store.append_changes(&server(1), &[lived(at_s)]).expect("kept");
            for state in [State::Note, State::Closed, State::Open] {
                store.save(&incident(&format!("{days}-{}", state.name()), state, at_s)).expect("kept");
            }
            store.add_minute(&server(1), (at_s / 60.0) as u64, &[durations("/a")]).expect("kept");
        }
        // Months of durations, one piece after the other.
        for _ in 0..3 {
            store.maintain(&server(1), NOW).expect("done");
        }
        assert_eq!(counts(&store), [2, 1 + 3 + 4, 2, 2]);
        let closed: Vec<String> = store
            .incidents(&IncidentFilter { notes: true, ..IncidentFilter::default() })
            .expect("read")
            .into_iter()
            .map(|incident| incident.id)
            .collect();
        assert!(
            closed.contains(&"1-note".to_owned()) && !closed.contains(&"20-note".to_owned()),
            "{closed:?}"
        );
        assert!(closed.contains(&"40-closed".to_owned()) && !closed.contains(&"100-closed".to_owned()));
        assert!(closed.contains(&"100-open".to_owned()), "what goes on stays");
    }

    #[test]
    fn what_a_server_has_left_is_ended_when_it_is_gone() {
        let (_folder, store) = opened(Bounds::default());
        store.maintain(&server(1), NOW).expect("done");
        store.save(&incident("20261126-1", State::Open, NOW)).expect("kept");
        store.maintain(&server(2), NOW + 500.0).expect("done");
        assert_eq!(store.incident("20261126-1").expect("read").expect("kept").state, State::Open);
        store.maintain(&server(2), NOW + 700.0).expect("done");
        let ended = store.incident("20261126-1").expect("read").expect("kept");
        assert_eq!((ended.state, ended.closed_at), (State::Closed, Some(NOW + 700.0)));
        assert!(ended.timeline.last().is_some_and(|moment| moment.text.contains("has ended")));
    }

    fn bytes_on_disk(folder: &Path) -> u64 {
        let length = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        length(folder.join(FILE)) + length(place::wal(folder))
    }

    #[test]
    fn the_size_stays_within_its_bound_and_the_newest_stays() {
        let bounds = Bounds { database_bytes: 1 << 20, journal_bytes: 768 << 10, ..Bounds::default() };
        let (folder, store) = opened(bounds);
        store.save(&incident("20261126-1", State::Open, NOW)).expect("kept");
        store.audit(&Act { what: "x".into(), ..Act::default() }).expect("kept");
        let counted: Vec<(Key, Phases)> = (0..20).map(|route| durations(&format!("/{route}"))).collect();
        for number in 0..400_u32 {
            let at_s = NOW + f64::from(number) * 60.0;
            // Each in an hour of its own: evidence is bounded otherwise, too.
            let records: Vec<Record> =
                (0..4).map(|hour| late(at_s + f64::from(hour) * 1e6, 7, u64::from(number))).collect();
            store.append_all(&records).expect("there is always room");
            store.save(&incident(&format!("20261127-{number}"), State::Closed, at_s)).expect("room");
            store.add_minute(&server(1), (at_s / 60.0) as u64, &counted).expect("room");
            store.append_changes(&server(1), &[lived(at_s)]).expect("room");
            if number % 50 == 0 {
                store.maintain(&server(1), at_s).expect("done");
            }
            let bytes = bytes_on_disk(folder.path());
            assert!(bytes <= 2 << 20, "{bytes} bytes after {number}");
        }
        assert!(store.incident("20261126-1").expect("read").is_some(), "what goes on stays");
        assert!(store.incident("20261127-399").expect("read").is_some(), "the newest stays");
        assert!(store.incident("20261127-0").expect("read").is_none(), "the oldest goes");
        let newest = store.records(&RecordFilter { limit: 1, ..RecordFilter::default() }).expect("read");
        assert_eq!(newest[0].at_s(), NOW + 399.0 * 60.0 + 3e6);
        // No kind has crowded out another.
        let counts = counts(&store);
        assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
        assert_eq!(store.acts(10).expect("read").len(), 1);
    }

    #[test]
    fn durations_become_coarse_before_they_go() {
        let (_folder, store) = opened(Bounds { database_bytes: 512 << 10, ..Bounds::default() });
        let counted: Vec<(Key, Phases)> = (0..4).map(|route| durations(&format!("/{route}"))).collect();
        for minute in 0..1500 {
            store.add_minute(&server(1), minute, &counted).expect("room");
        }
        let kept = store.minute_by_minute(0, 1500).expect("read");
        let minutes: Vec<u64> = kept.keys().copied().collect();
        assert_eq!(minutes[0], 0, "the whole day is there");
        assert!(kept[&0][0].1.app.count == 2000 && minutes[1] == 10, "by ten minutes where it is old");
        assert_eq!(
            minutes[minutes.len() - 100..],
            (1400..1500).collect::<Vec<_>>(),
            "by the minute where it is new"
        );
    }

    #[test]
    fn what_cannot_go_fills_the_store_and_is_said_once_it_does() {
        let bounds = Bounds { database_bytes: 400 << 10, ..Bounds::default() };
        let (_folder, store) = opened(bounds);
        let save = |number| store.save(&incident(&format!("20261126-{number}"), State::Open, NOW));
        let error = (0..10_000).find_map(|number| save(number).err()).expect("full");
        assert_eq!(error.to_string(), "the store is full, and nothing in it may go");
        assert!(store.incident("20261126-0").expect("still readable").is_some());
    }

    #[test]
    fn room_is_given_back_to_the_disk() {
        let (folder, store) = opened(Bounds::default());
        let records: Vec<Record> =
            (0..2000).map(|number| late(NOW - 50.0 * DAY_S + f64::from(number) * 3600.0, 7, 1)).collect();
        store.append_all(&records).expect("kept");
        let checkpoint =
            || store.connection().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("done");
        checkpoint();
        let before = bytes_on_disk(folder.path());
        for _ in 0..3 {
            store.maintain(&server(1), NOW + 100.0 * DAY_S).expect("done");
        }
        checkpoint();
        let after = bytes_on_disk(folder.path());
        assert!(before > 2 << 20 && after < before / 4, "{before} {after}");
    }
}
