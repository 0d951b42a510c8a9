//! Records: late requests, dead workers, held loops. A record is large for the evidence in it, and trouble comes in heaps:
//! of one signature and hour, the first ones and the last keep all of it, the others what tells them apart.
//!
//! Not for: what stands in a record (`core::record`), and not for incidents, which only lend their name.

use super::open::server_id;
use super::{Store, StoreError};
use ferricorn_core::evidence::{Evidence, Frame};
use ferricorn_core::record::Record;
use ferricorn_core::units::cut;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use std::collections::BTreeMap;

/// Records of one transaction: 4 MB at most.
const BATCH: usize = 16;
/// Bytes of a record; of a larger one the evidence is left out.
const BYTES_MAX: usize = 256 << 10;
/// Calls and requests that are kept of a record that is not kept whole.
const FRAMES_MAX: usize = 8;
const REQUESTS_MAX: usize = 8;
/// Bytes of a signature.
const SIGNATURE_MAX: usize = 200;
/// Most rows that are read at a time, unless somebody says otherwise.
pub(super) const READ_MAX: usize = 10_000;

/// Which records are wanted; all of those that are said must be so.
#[derive(Clone, Copy, Debug)]
pub struct RecordFilter<'a> {
    /// At most so many, the newest.
    pub limit: usize,
    /// Of the request with this id.
    pub request: Option<&'a str>,
    /// Of the worker with this pid.
    pub pid: Option<u32>,
    /// Of this incident.
    pub incident: Option<&'a str>,
    /// Of this kind: `timeout`, `death`, `blocked`.
    pub kind: Option<&'a str>,
}

impl Default for RecordFilter<'_> {
    fn default() -> Self {
        Self { limit: READ_MAX, request: None, pid: None, incident: None, kind: None }
    }
}

impl Store {
    /// Keeps a record.
    ///
    /// # Errors
    /// The store's.
    pub fn append(&self, record: &Record) -> Result<(), StoreError> {
        self.append_all(std::slice::from_ref(record))
    }

    /// Keeps records, oldest first, in as few transactions as is sensible.
    ///
    /// # Errors
    /// The store's; some of them may be kept then. One that is too large keeps no other from being kept.
    pub fn append_all(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut too_large = None;
        for batch in records.chunks(BATCH) {
            let mut groups: BTreeMap<(String, i64), Vec<&Record>> = BTreeMap::new();
            for record in batch {
                groups.entry((signature(record), hour(record))).or_default().push(record);
            }
            let refused = self.write(|connection| {
                let mut refused = None;
                for ((signature, hour), records) in &groups {
                    refused = self.append_group(connection, signature, *hour, records)?.or(refused);
                }
                Ok(refused)
            })?;
            too_large = too_large.or(refused);
        }
        too_large.map_or(Ok(()), Err)
    }

    /// Returns records, the newest first. What a later version may have written in a way that is not known here is left out.
    ///
    /// # Errors
    /// The store's.
    pub fn records(&self, wanted: &RecordFilter<'_>) -> Result<Vec<Record>, StoreError> {
        let text = |text: &str| Value::Text(text.to_owned());
        let conditions = [
            ("request", wanted.request.map(text)),
            ("pid", wanted.pid.map(|pid| Value::Integer(i64::from(pid)))),
            ("incident", wanted.incident.map(text)),
            ("kind", wanted.kind.map(text)),
        ];
        let (mut query, mut values) = ("SELECT body FROM records".to_owned(), Vec::new());
        for (column, value) in conditions {
            let Some(value) = value else { continue };
            values.push(value);
            let word = if values.len() == 1 { "WHERE" } else { "AND" };
            query.push_str(&format!(" {word} {column} = ?{}", values.len()));
        }
        values.push(Value::Integer(i64::try_from(wanted.limit).unwrap_or(i64::MAX)));
        query.push_str(&format!(" ORDER BY at DESC, id DESC LIMIT ?{}", values.len()));
        let mut statement = self.connection().prepare_cached(&query)?;
        let bodies = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(0))?;
        let mut records = Vec::new();
        for body in bodies {
            records.extend(serde_json::from_str::<Record>(&body?));
        }
        Ok(records)
    }

    /// Returns how many records there have been of an incident, kept or not.
    ///
    /// # Errors
    /// The store's.
    pub fn records_seen(&self, incident: &str) -> Result<u64, StoreError> {
        let query = "SELECT coalesce(sum(seen), 0) FROM signatures WHERE signature = ?1";
        let seen: i64 = self.connection().query_row(query, [incident], |row| row.get(0))?;
        Ok(seen.unsigned_abs())
    }

    /// Keeps records of one signature and hour, see the head of this file; returns the refusal of one that is too large.
    fn append_group(
        &self,
        connection: &Connection,
        signature: &str,
        hour: i64,
        records: &[&Record],
    ) -> Result<Option<StoreError>, StoreError> {
        let bounds = self.bounds();
        let query = "SELECT seen FROM signatures WHERE signature = ?1 AND hour = ?2";
        let seen: Option<i64> = connection
            .prepare_cached(query)?
            .query_row(params![signature, hour], |row| row.get(0))
            .optional()?;
        let seen = seen.unwrap_or(0).unsigned_abs();
        if seen >= bounds.whole_per_hour {
            self.yield_last(connection, signature, hour, seen)?;
        }
        let mut refused = None;
        for (place, record) in (seen + 1..).zip(records) {
            let last = place == seen + records.len() as u64;
            let whole = last || place < bounds.whole_per_hour;
            if !whole && place >= bounds.records_per_hour {
                continue;
            }
            match insert(connection, signature, hour, record, whole) {
                Err(error @ StoreError::TooLarge { .. }) => refused = Some(error),
                done => done?,
            }
        }
        let query = "INSERT INTO signatures (signature, hour, seen) VALUES (?1, ?2, ?3) \
                     ON CONFLICT DO UPDATE SET seen = excluded.seen";
        let seen = seen + records.len() as u64;
        connection.prepare_cached(query)?.execute(params![signature, hour, seen.cast_signed()])?;
        Ok(refused)
    }

    /// Makes what was the last of its hour one of many.
    fn yield_last(
        &self,
        connection: &Connection,
        signature: &str,
        hour: i64,
        place: u64,
    ) -> Result<(), StoreError> {
        let query =
            "SELECT id, body FROM records WHERE signature = ?1 AND hour = ?2 ORDER BY id DESC LIMIT 1";
        let mut statement = connection.prepare_cached(query)?;
        let last: Option<(i64, String)> =
            statement.query_row(params![signature, hour], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((id, body)) = last else { return Ok(()) };
        let record = serde_json::from_str::<Record>(&body).ok();
        match record.filter(|_| place < self.bounds().records_per_hour) {
            Some(record) => {
                let body = serde_json::to_string(&slim(&record))?;
                let update = "UPDATE records SET whole = 0, body = ?2 WHERE id = ?1";
                connection.prepare_cached(update)?.execute(params![id, body])?;
            }
            None => {
                connection.prepare_cached("DELETE FROM records WHERE id = ?1")?.execute([id])?;
            }
        }
        Ok(())
    }
}

fn insert(
    connection: &Connection,
    signature: &str,
    hour: i64,
    record: &Record,
    whole: bool,
) -> Result<(), StoreError> {
    let all = if whole { Some(serde_json::to_string(record)?) } else { None };
    let all = all.filter(|body| body.len() <= BYTES_MAX);
    let whole = all.is_some();
    let body = all.map_or_else(|| serde_json::to_string(&slim(record)), Ok)?;
    if body.len() > BYTES_MAX {
        return Err(StoreError::TooLarge { what: "a record", bytes: body.len() });
    }
    let server = server_id(connection, record.server(), record.at_s())?;
    let query = "INSERT INTO records (at, kind, server, pid, request, incident, signature, hour, whole, body) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    connection.prepare_cached(query)?.execute(params![
        record.at_s(),
        record.kind(),
        server,
        record.pid(),
        record.request().map(|request| request.id.as_str()),
        record.incident(),
        signature,
        hour,
        whole,
        body,
    ])?;
    Ok(())
}

fn hour(record: &Record) -> i64 {
    (record.at_s() / 3600.0).floor() as i64
}

/// Returns by what records count as the same trouble: their incident; without one, kind and place.
fn signature(record: &Record) -> String {
    if let Some(incident) = record.incident() {
        return incident.to_owned();
    }
    let place = record.frames().iter().find(|frame| frame.is_application()).or(record.frames().first());
    let place = match (place, record) {
        (Some(frame), _) => frame.to_string(),
        (None, Record::Death(death)) => death.cause.clone(),
        (None, _) => record.request().map(|request| request.path.clone()).unwrap_or_default(),
    };
    cut(&format!("{} {place}", record.kind()), SIGNATURE_MAX).to_owned()
}

/// Returns a record with what tells it apart, without most of its evidence.
fn slim(record: &Record) -> Record {
    let mut record = record.clone();
    match &mut record {
        Record::Timeout(timeout) => {
            slim_frames(&mut timeout.frames);
            timeout.concurrent.clear();
            slim_evidence(&mut timeout.evidence, Some(&timeout.request.id));
        }
        Record::Death(death) => {
            death.requests.truncate(REQUESTS_MAX);
            slim_evidence(&mut death.evidence, None);
        }
        Record::Blocked(blocked) => {
            slim_frames(&mut blocked.hold.frames);
            blocked.hold.concurrent.clear();
        }
    }
    record
}

/// The application's own calls, and the innermost.
fn slim_frames(frames: &mut Vec<Frame>) {
    let mut index = 0;
    frames.retain(|frame| {
        index += 1;
        index == 1 || frame.is_application()
    });
    frames.truncate(FRAMES_MAX);
}

/// What was seen last, of the request's own thread.
fn slim_evidence(evidence: &mut Vec<Evidence>, request: Option<&String>) {
    evidence.drain(..evidence.len().saturating_sub(1));
    for last in evidence {
        last.threads.retain(|thread| request.is_some() && thread.request.as_ref() == request);
        last.threads.iter_mut().for_each(|thread| thread.frames.clear());
        last.sockets.clear();
        last.children.clear();
        last.databases.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{death, late, opened};
    use ferricorn_core::evidence::Thread;

    fn found(store: &Store, wanted: RecordFilter<'_>) -> Vec<f64> {
        store.records(&wanted).expect("read").iter().map(Record::at_s).collect()
    }

    #[test]
    fn records_are_found_by_what_people_know_of_them() {
        let (_folder, store) = opened(Bounds::default());
        store.append_all(&[late(1.0, 7, 1), late(2.0, 7, 2), death(3.0, 7), late(4.0, 8, 1)]).expect("kept");
        let all = RecordFilter::default();
        assert_eq!(found(&store, all), [4.0, 3.0, 2.0, 1.0]);
        assert_eq!(found(&store, RecordFilter { limit: 2, ..all }), [4.0, 3.0]);
        assert_eq!(found(&store, RecordFilter { request: Some("7-2"), ..all }), [2.0]);
        assert_eq!(found(&store, RecordFilter { pid: Some(7), ..all }), [3.0, 2.0, 1.0]);
        assert_eq!(found(&store, RecordFilter { pid: Some(7), kind: Some("death"), ..all }), [3.0]);
        assert!(found(&store, RecordFilter { request: Some("7-3"), ..all }).is_empty());
        let read = store.records(&all).expect("read");
        assert_eq!(read[0], late(4.0, 8, 1), "as it was");
    }

    #[test]
    fn the_first_of_an_incident_and_the_last_keep_their_evidence() {
        let bounds = Bounds { whole_per_hour: 4, records_per_hour: 10, ..Bounds::default() };
        // However they come: one by one, or many in a batch.
        for batch in [1, 3, 256] {
            let (_folder, store) = opened(bounds);
            let records: Vec<Record> = (1..=30).map(|number| of_incident(number, "20261126-1")).collect();
            for records in records.chunks(batch) {
                store.append_all(records).expect("kept");
            }
            let kept = store.records(&RecordFilter::default()).expect("read");
            let at: Vec<f64> = kept.iter().rev().map(Record::at_s).collect();
            assert_eq!(at, [1., 2., 3., 4., 5., 6., 7., 8., 9., 30.], "{batch}");
            let whole = |record: &&Record| evidence(record).len() > 1;
            let whole: Vec<f64> = kept.iter().filter(whole).map(Record::at_s).collect();
            assert_eq!(whole, [30., 3., 2., 1.], "{batch}");
            // What is left tells it apart.
            let slim = evidence(&kept[1]);
            assert_eq!((slim.len(), slim[0].percent, slim[0].threads.len()), (1, 95, 1));
            assert_eq!(store.records_seen("20261126-1").expect("read"), 30);
        }
    }

    #[test]
    fn another_hour_and_another_incident_count_anew() {
        let bounds = Bounds { whole_per_hour: 2, records_per_hour: 3, ..Bounds::default() };
        let (_folder, store) = opened(bounds);
        for incident in ["a", "b"] {
            for hour in [0.0, 3600.0] {
                let at = |number: u32| hour + f64::from(number);
                let records: Vec<Record> =
                    (1..=9).map(|number| of_incident_at(at(number), number, incident)).collect();
                store.append_all(&records).expect("kept");
            }
        }
        let kept = found(&store, RecordFilter { incident: Some("b"), ..RecordFilter::default() });
        assert_eq!(kept, [3609.0, 3602.0, 3601.0, 9.0, 2.0, 1.0]);
    }

    #[test]
    fn without_an_incident_the_place_is_what_they_have_in_common() {
        let at = |line: u32, path: &str| {
            let mut record = late(1.0, 7, 1);
            let Record::Timeout(timeout) = &mut record else { unreachable!() };
            timeout.request.path = path.into();
            timeout.frames = vec![Frame { file: "/srv/a.py".into(), line, ..Frame::default() }];
            if line == 0 {
                timeout.frames.clear();
            }
            signature(&record)
        };
        assert_eq!(at(3, "/x"), at(3, "/y"));
        assert_ne!(at(3, "/x"), at(4, "/x"));
        assert_ne!(at(0, "/x"), at(0, "/y"));
        assert_eq!(at(0, &"é".repeat(500)).len(), SIGNATURE_MAX);
        assert_ne!(signature(&death(1.0, 7)), at(3, "/x"));
    }

    #[test]
    fn a_record_that_is_too_large_loses_its_evidence_or_is_refused() {
        let (_folder, store) = opened(Bounds::default());
        let mut record = late(1.0, 7, 1);
        let Record::Timeout(timeout) = &mut record else { unreachable!() };
        timeout.evidence[0].threads =
            vec![Thread { name: "x".repeat(1000), ..Thread::default() }; BYTES_MAX / 1000];
        store.append(&record).expect("kept");
        assert_eq!(evidence(&store.records(&RecordFilter::default()).expect("read")[0]).len(), 1);
        let Record::Timeout(timeout) = &mut record else { unreachable!() };
        timeout.doing = "x".repeat(BYTES_MAX);
        let refused = store.append_all(&[record, late(2.0, 7, 2)]);
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
        assert_eq!(found(&store, RecordFilter::default()), [2.0, 1.0]);
    }

    fn of_incident(number: u32, incident: &str) -> Record {
        of_incident_at(f64::from(number), number, incident)
    }

    fn of_incident_at(at_s: f64, number: u32, incident: &str) -> Record {
        let mut record = late(at_s, 7, u64::from(number));
        let Record::Timeout(timeout) = &mut record else { unreachable!() };
        timeout.incident = Some(incident.to_owned());
        record
    }

    fn evidence(record: &Record) -> &[Evidence] {
        match record {
            Record::Timeout(timeout) => &timeout.evidence,
            Record::Death(death) => &death.evidence,
            Record::Blocked(_) => &[],
        }
    }
}
