//! Incidents: one row each, replaced while they go on, and the numbers that make their names. Not for: deciding when one
//! begins or ends.

use super::open::server_id;
use super::records::READ_MAX;
use super::{Store, StoreError};
use ferricorn_core::incident::{Incident, State};
use ferricorn_core::record::Server;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Bytes of an incident.
const BYTES_MAX: usize = 1 << 20;
const DAY_S: f64 = 86_400.0;

/// Which incidents are wanted.
#[derive(Clone, Copy, Debug)]
pub struct IncidentFilter {
    /// At most so many, the newest.
    pub limit: usize,
    /// Those that have never been more than a note, too.
    pub notes: bool,
}

impl Default for IncidentFilter {
    fn default() -> Self {
        Self { limit: READ_MAX, notes: false }
    }
}

impl Store {
    /// Keeps an incident, in the place of what was kept of it before.
    ///
    /// # Errors
    /// The store's.
    pub fn save(&self, incident: &Incident) -> Result<(), StoreError> {
        self.write(|connection| put(connection, incident))
    }

    /// Forgets one that turned out to be none: its requests belong to another.
    ///
    /// # Errors
    /// The store's.
    pub fn forget_incident(&self, id: &str) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.prepare_cached("DELETE FROM incidents WHERE id = ?1")?.execute([id])?;
            Ok(())
        })
    }

    /// Returns incidents, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub fn incidents(&self, wanted: &IncidentFilter) -> Result<Vec<Incident>, StoreError> {
        let query =
            "SELECT body FROM incidents WHERE ?1 OR opened_at IS NOT NULL ORDER BY at DESC, id DESC LIMIT ?2";
        let limit = i64::try_from(wanted.limit).unwrap_or(i64::MAX);
        let mut statement = self.connection().prepare_cached(query)?;
        incidents(statement.query_map(params![wanted.notes, limit], body)?)
    }

    /// Returns the incident of a name.
    ///
    /// # Errors
    /// The store's.
    pub fn incident(&self, id: &str) -> Result<Option<Incident>, StoreError> {
        let mut statement = self.connection().prepare_cached("SELECT body FROM incidents WHERE id = ?1")?;
        let found = statement.query_row([id], body).optional()?;
        Ok(found.and_then(|body| serde_json::from_str(&body).ok()))
    }

    /// Returns the incidents of a server that are not over, the oldest first: what its observer goes on with when it was
    /// started again.
    ///
    /// # Errors
    /// The store's.
    pub fn unfinished(&self, server: &Server) -> Result<Vec<Incident>, StoreError> {
        let query = "SELECT body FROM incidents JOIN servers ON servers.id = incidents.server \
                     WHERE pid = ?1 AND started_ns = ?2 AND state IN ('open', 'mitigated') \
                     ORDER BY at, incidents.id LIMIT ?3";
        let mut statement = self.connection().prepare_cached(query)?;
        let key = params![server.pid, server.started_ns.cast_signed(), READ_MAX as i64];
        incidents(statement.query_map(key, body)?)
    }

    /// Returns a name that no other incident has, whichever server asks: the day (UTC) and a number, `20261126-7`.
    ///
    /// # Errors
    /// The store's.
    pub fn next_id(&self, now_s: f64) -> Result<String, StoreError> {
        let day = day(now_s);
        let query = "INSERT INTO numbers (day, last) VALUES (?1, 1) \
                     ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last";
        let number = self.write(|connection| {
            let mut statement = connection.prepare_cached(query)?;
            Ok(statement.query_row([&day], |row| row.get::<_, i64>(0))?)
        })?;
        Ok(format!("{day}-{number}"))
    }
}

/// Writes an incident's row.
pub(super) fn put(connection: &Connection, incident: &Incident) -> Result<(), StoreError> {
    let body = serde_json::to_string(incident)?;
    if body.len() > BYTES_MAX {
        return Err(StoreError::TooLarge { what: "an incident", bytes: body.len() });
    }
    let server = server_id(connection, &incident.server, incident.last_at)?;
    let query = "INSERT INTO incidents (id, server, state, cause, fingerprint, at, opened_at, last_at, body) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
                 ON CONFLICT DO UPDATE SET server = excluded.server, state = excluded.state, cause = excluded.cause, \
                 fingerprint = excluded.fingerprint, at = excluded.at, opened_at = excluded.opened_at, \
                 last_at = excluded.last_at, body = excluded.body";
    connection.prepare_cached(query)?.execute(params![
        incident.id,
        server,
        incident.state.name(),
        incident.cause.code(),
        incident.fingerprint,
        incident.opened_at.unwrap_or(incident.noted_at),
        incident.opened_at,
        incident.last_at,
        body,
    ])?;
    Ok(())
}

/// Ends the incidents of servers that have gone without ending them.
pub(super) fn abandon(connection: &Connection, now_s: f64, seen_before_s: f64) -> Result<(), StoreError> {
    let query = "SELECT body FROM incidents JOIN servers ON servers.id = incidents.server \
                 WHERE state IN ('open', 'mitigated') AND seen_at < ?1 LIMIT ?2";
    let mut statement = connection.prepare_cached(query)?;
    let left = incidents(statement.query_map(params![seen_before_s, READ_MAX as i64], body)?)?;
    for mut incident in left {
        incident.state = State::Closed;
        incident.closed_at = Some(now_s);
        let text = "its server has ended; what has become of it is not known".to_owned();
        incident.timeline.push(ferricorn_core::incident::Moment { at: now_s, text });
        put(connection, &incident)?;
    }
    Ok(())
}

fn body(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

/// Reads bodies; those that are not known here are left out.
fn incidents(bodies: impl Iterator<Item = rusqlite::Result<String>>) -> Result<Vec<Incident>, StoreError> {
    let mut incidents = Vec::new();
    for body in bodies {
        incidents.extend(serde_json::from_str::<Incident>(&body?));
    }
    Ok(incidents)
}

/// Returns the day of a moment in UTC as eight digits. After "`civil_from_days`" in Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that leap days come last.
pub(super) fn day(now_s: f64) -> String {
    let days = (now_s / DAY_S).floor() as i64 + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{incident, opened, server};
    use ferricorn_core::diagnosis::Cause;

    #[test]
    fn an_incident_is_replaced_in_place() {
        let (_folder, store) = opened(Bounds::default());
        let first = incident("20261126-1", State::Note, 5.0);
        store.save(&first).expect("kept");
        assert_eq!(store.incidents(&IncidentFilter::default()).expect("read"), []);
        let grown = Incident {
            state: State::Open,
            opened_at: Some(9.0),
            cause: Cause::DbLock,
            requests_lost: 7,
            ..first
        };
        store.save(&grown).expect("kept");
        assert_eq!(store.incidents(&IncidentFilter::default()).expect("read"), std::slice::from_ref(&grown));
        assert_eq!(store.incident("20261126-1").expect("read"), Some(grown));
        assert_eq!(store.incident("20261126-2").expect("read"), None);
        let columns =
            store.connection().query_row("SELECT state, cause, at, opened_at FROM incidents", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?))
            });
        assert_eq!(columns.expect("a row"), ("open".into(), "db.lock".into(), 9.0, Some(9.0)));
    }

    #[test]
    fn lists_are_newest_first_and_know_notes() {
        let (_folder, store) = opened(Bounds::default());
        let states = [State::Closed, State::Note, State::Open, State::Mitigated];
        for (number, state) in states.into_iter().enumerate() {
            store.save(&incident(&format!("20261126-{number}"), state, number as f64)).expect("kept");
        }
        let ids = |filter: IncidentFilter| -> Vec<String> {
            store.incidents(&filter).expect("read").into_iter().map(|incident| incident.id).collect()
        };
        let all = IncidentFilter::default();
        assert_eq!(ids(all), ["20261126-3", "20261126-2", "20261126-0"]);
        assert_eq!(ids(IncidentFilter { limit: 2, notes: true }), ["20261126-3", "20261126-2"]);
        assert_eq!(ids(IncidentFilter { notes: true, ..all }).len(), 4);
        let left: Vec<String> =
            store.unfinished(&server(1)).expect("read").into_iter().map(|incident| incident.id).collect();
        assert_eq!(left, ["20261126-2", "20261126-3"]);
        assert_eq!(store.unfinished(&server(2)).expect("read"), [], "another server's");
        let later = Server { started_ns: 8, ..server(1) };
        assert_eq!(store.unfinished(&later).expect("read"), [], "the next one with the same pid");
    }

    #[test]
    fn what_another_version_has_written_is_read() {
        let (_folder, store) = opened(Bounds::default());
        store.save(&incident("20261126-1", State::Open, 5.0)).expect("kept");
        for (body, known) in [
            (r#"{"id":"20261126-1","state":"open","cause":"db.lock","novelty":[7]}"#, true),
            (r#"{"id":"20261126-1","state":"open","cause":"a.cause.to.come"}"#, false),
            ("no JSON", false),
        ] {
            store.connection().execute("UPDATE incidents SET body = ?1", [body]).expect("written");
            assert_eq!(store.incident("20261126-1").expect("read").is_some(), known, "{body}");
            assert_eq!(store.incidents(&IncidentFilter::default()).expect("read").len(), usize::from(known));
        }
    }

    #[test]
    fn an_incident_beyond_all_measure_is_refused() {
        let (_folder, store) = opened(Bounds::default());
        let large = Incident { verdict: "x".repeat(BYTES_MAX), ..incident("20261126-1", State::Open, 1.0) };
        assert!(matches!(store.save(&large), Err(StoreError::TooLarge { .. })));
    }

    #[test]
    fn names_are_dates_and_numbers() {
        let (folder, store) = opened(Bounds::default());
        let other = Store::create(folder.path()).expect("a second server");
        let now = 1_795_651_200.0; // 2026-11-26 00:00:00
        assert_eq!(store.next_id(now).expect("given"), "20261126-1");
        assert_eq!(other.next_id(now + 5.0).expect("given"), "20261126-2");
        assert_eq!(store.next_id(now + 86_399.0).expect("given"), "20261126-3");
        assert_eq!(store.next_id(now + DAY_S).expect("given"), "20261127-1");
        let table = [
            (0.0, "19700101"),
            (951_782_400.0, "20000229"),
            (4_107_542_399.0, "21000228"),
            (4_107_542_400.0, "21000301"),
            (-1.0, "19691231"),
        ];
        for (seconds, expected) in table {
            assert_eq!(day(seconds), expected, "{seconds}");
        }
    }
}
