//! The hand that writes for an observer: collects records and writes them once per tick, keeps the store within its bounds,
//! and says once when it cannot. Whatever is wrong with the store costs the observer at most one wait for a lock every
//! [`PAUSE_S`], and the memory of [`PENDING_MAX`] records.
//!
//! Not for: what is worth writing.

use super::{Store, StoreError};
use ferricorn_core::log::Level;
use ferricorn_core::record::{Record, Server};

/// Most records that wait to be written; the oldest go.
const PENDING_MAX: usize = 1024;
/// How long nothing is tried after something has failed, seconds.
const PAUSE_S: f64 = 5.0;
/// How often the store is looked after, seconds.
const MAINTAIN_S: f64 = 60.0;

/// Writes for an observer.
#[derive(Debug)]
pub struct Scribe {
    store: Store,
    server: Server,
    pending: Vec<Record>,
    /// Records that were given up since writing failed.
    lost: u64,
    /// Why writing fails, and whether that was said.
    trouble: Option<(String, bool)>,
    /// Nothing is tried before.
    next_s: f64,
    maintained_s: f64,
}

impl Scribe {
    /// Returns one for a server.
    pub fn new(store: Store, server: Server) -> Self {
        let (pending, trouble) = (Vec::new(), None);
        Self { store, server, pending, lost: 0, trouble, next_s: 0.0, maintained_s: 0.0 }
    }

    /// Returns the store, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes a record, to be written at the next tick.
    pub fn record(&mut self, record: Record) {
        self.pending.push(record);
        self.bound();
    }

    /// Does something with the store, unless it has just failed; nothing comes back then. Why is said at the next tick.
    pub fn write<T>(&mut self, now_s: f64, work: impl FnOnce(&Store) -> Result<T, StoreError>) -> Option<T> {
        if now_s < self.next_s {
            return None;
        }
        let done = work(&self.store);
        self.judge(now_s, done)
    }

    /// Writes what has come, and looks after the store when that is due. Returns what the log should have.
    pub fn tick(&mut self, now_s: f64) -> Option<(Level, String)> {
        let records = std::mem::take(&mut self.pending);
        if !records.is_empty() {
            let written = self.write(now_s, |store| match store.append_all(&records) {
                // It is said, and the others are written.
                Err(StoreError::TooLarge { .. }) => Ok(()),
                done => done,
            });
            if written.is_none() {
                self.pending = records;
                self.bound();
            }
        }
        // A clock that was set back counts from there.
        if !(0.0..MAINTAIN_S).contains(&(now_s - self.maintained_s)) {
            self.maintained_s = now_s;
            self.maintain(now_s);
        }
        self.news()
    }

    /// Writes what is left, though something has failed before: there is no next time.
    pub fn end(&mut self, now_s: f64) -> Option<(Level, String)> {
        self.next_s = now_s;
        self.maintained_s = now_s;
        self.tick(now_s)
    }

    fn maintain(&mut self, now_s: f64) {
        if self.store.has_moved() {
            let folder = self.store.folder().to_owned();
            if let Some(store) = self.write(now_s, |_| Store::create(&folder)) {
                self.store = store;
            }
        }
        let server = self.server.clone();
        self.write(now_s, |store| store.maintain(&server, now_s));
    }

    /// Remembers whether it goes wrong.
    fn judge<T>(&mut self, now_s: f64, done: Result<T, StoreError>) -> Option<T> {
        match done {
            Ok(value) => {
                // If it has not been said that something was wrong, there is nothing to take back.
                self.trouble = self.trouble.take().filter(|(_, said)| *said).map(|_| (String::new(), true));
                Some(value)
            }
            Err(error) => {
                self.next_s = now_s + PAUSE_S;
                let said = self.trouble.as_ref().is_some_and(|(_, said)| *said);
                self.trouble = Some((error.to_string(), said));
                None
            }
        }
    }

    fn news(&mut self) -> Option<(Level, String)> {
        let (why, said) = self.trouble.clone()?;
        if why.is_empty() {
            self.trouble = None;
            let lost = std::mem::take(&mut self.lost);
            return Some((Level::Info, format!("Records are kept again; {lost} were lost")));
        }
        self.trouble = Some((why.clone(), true));
        let folder = self.store.folder().display();
        (!said).then(|| (Level::Warning, format!("Records cannot be kept in {folder} for now: {why}")))
    }

    fn bound(&mut self) {
        let beyond = self.pending.len().saturating_sub(PENDING_MAX);
        self.pending.drain(..beyond);
        self.lost += beyond as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordFilter;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{late, opened, server};
    use rusqlite::Connection;

    fn count(scribe: &Scribe) -> usize {
        scribe.store().records(&RecordFilter::default()).expect("read").len()
    }

    #[test]
    fn records_are_written_once_per_tick() {
        let (_folder, store) = opened(Bounds::default());
        let mut scribe = Scribe::new(store, server(1));
        (0..3).for_each(|number| scribe.record(late(f64::from(number), 7, 1)));
        assert_eq!(count(&scribe), 0);
        assert_eq!(scribe.tick(100.0), None);
        assert_eq!(count(&scribe), 3);
        assert_eq!(scribe.tick(100.1), None);
        assert_eq!(count(&scribe), 3);
    }

    #[test]
    fn trouble_is_said_once_and_its_end_too() {
        let (folder, store) = opened(Bounds::default());
        let mut scribe = Scribe::new(store, server(1));
        assert_eq!(scribe.tick(100.0), None);
        let other = Connection::open(folder.path().join(crate::store::FILE)).expect("another process");
        other.execute_batch("BEGIN EXCLUSIVE").expect("locked");
        scribe.record(late(1.0, 7, 1));
        let (level, text) = scribe.tick(101.0).expect("said");
        assert_eq!(level, Level::Warning);
        assert!(text.ends_with("for now: another process keeps the store in use"), "{text}");
        // Not again, and not even tried before its time.
        assert_eq!(scribe.tick(102.0), None);
        assert_eq!(scribe.tick(106.5), None);
        for number in 0..PENDING_MAX as u64 + 4 {
            scribe.record(late(2.0, 7, number));
        }
        assert_eq!(scribe.pending.len(), PENDING_MAX);
        assert_eq!(scribe.write(107.0, |_| Ok(7)), None, "so soon nothing is tried");
        other.execute_batch("COMMIT").expect("unlocked");
        let said = scribe.tick(120.0).expect("said");
        assert_eq!(said, (Level::Info, "Records are kept again; 5 were lost".to_owned()));
        assert_eq!(scribe.tick(121.0), None);
        assert!(scribe.pending.is_empty() && count(&scribe) > 0);
    }

    #[test]
    fn a_store_that_was_taken_away_is_made_again() {
        let (folder, store) = opened(Bounds::default());
        let mut scribe = Scribe::new(store, server(1));
        assert_eq!(scribe.tick(100.0), None);
        std::fs::remove_dir_all(folder.path()).expect("taken away");
        scribe.record(late(1.0, 7, 1));
        scribe.tick(110.0);
        assert!(Store::open(folder.path()).is_err());
        scribe.tick(170.0);
        scribe.record(late(2.0, 7, 2));
        assert_eq!(scribe.tick(170.1), None);
        let found = Store::open(folder.path()).expect("there").records(&RecordFilter::default());
        assert_eq!(found.expect("read").len(), 1);
    }

    #[test]
    fn at_the_end_what_is_left_is_tried_once_more() {
        let (folder, store) = opened(Bounds::default());
        let mut scribe = Scribe::new(store, server(1));
        let other = Connection::open(folder.path().join(crate::store::FILE)).expect("another process");
        other.execute_batch("BEGIN EXCLUSIVE").expect("locked");
        scribe.record(late(1.0, 7, 1));
        assert!(scribe.tick(101.0).is_some());
        other.execute_batch("COMMIT").expect("unlocked");
        assert!(scribe.end(101.1).is_some());
        assert_eq!(count(&scribe), 1);
    }
}
