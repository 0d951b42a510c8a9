//! The jobs on disk: one SQLite database in the state folder, beside it a folder with the bodies that are too long for it. Several
//! servers may share both; each touches only the jobs of its own service. What has been committed survives a crash of the machine.
//!
//! Not for: deciding when a job is begun, and not for running it.

mod webhooks;

pub use webhooks::{Due, Promise, Told};

use crate::StoreError;
use ferricorn_core::offload::{
    Error, Fault, INLINE_MAX, NOTE_MAX, Progress, Request, Response, State, Status, backoff_s,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The database in its folder.
pub const FILE: &str = "offload.sqlite";
/// The folder of long bodies beside it.
pub const BODIES: &str = "offload";
/// How long another process's transaction is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Pages that are written back at a time: 16 MB.
const CHECKPOINT_PAGES: u32 = 4000;
/// Bytes that a row of a job needs beside its bodies, about.
const ROW_BYTES: u64 = 400;
const STATEMENTS: usize = 48;
/// How long whoever is to be told waits for a dispatcher that does, seconds.
const UNTOLD_S: f64 = 2.0 * 86_400.0;
/// How the name of an owner ends that hands jobs on: what it has begun goes on without it.
pub const RELAYED: &str = "-relayed";
/// Rows that are removed in one transaction, so that nobody waits long for it.
pub const SWEPT_MAX: usize = 500;

/// What each version of the database has added.
const STEPS: [&str; 2] = [JOBS, LANES];

const JOBS: &str = "
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    service TEXT NOT NULL,
    state INTEGER NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    facts TEXT NOT NULL,
    created REAL NOT NULL,
    due REAL,
    started REAL,
    ended REAL,
    expires REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    attempts_max INTEGER NOT NULL,
    owner TEXT,
    share REAL,
    note TEXT,
    error TEXT,
    response TEXT,
    status INTEGER,
    bytes INTEGER NOT NULL,
    kept REAL NOT NULL,
    key TEXT,
    sum TEXT
) STRICT;
CREATE UNIQUE INDEX keys ON jobs (service, key) WHERE key IS NOT NULL;
CREATE INDEX waiting ON jobs (service, due) WHERE state = 0;
CREATE INDEX running ON jobs (service, owner) WHERE state = 1;
CREATE INDEX ending ON jobs (expires) WHERE expires IS NOT NULL;
CREATE TABLE requests (number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, head BLOB NOT NULL, body BLOB) STRICT;
CREATE TABLE responses (number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE, body BLOB) STRICT;
CREATE TABLE totals (service TEXT PRIMARY KEY, jobs INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TRIGGER added AFTER INSERT ON jobs BEGIN
    INSERT INTO totals VALUES (NEW.service, NEW.state < 2, NEW.bytes)
    ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER changed AFTER UPDATE OF state, bytes ON jobs BEGIN
    UPDATE totals SET jobs = jobs + (NEW.state < 2) - (OLD.state < 2), bytes = bytes + NEW.bytes - OLD.bytes
    WHERE service = NEW.service;
END;
CREATE TRIGGER removed AFTER DELETE ON jobs BEGIN
    UPDATE totals SET jobs = jobs - (OLD.state < 2), bytes = bytes - OLD.bytes WHERE service = OLD.service;
END;
CREATE TABLE owners (name TEXT PRIMARY KEY, beat REAL NOT NULL) STRICT;
";

const LANES: &str = "
ALTER TABLE jobs ADD COLUMN lane TEXT;
DROP INDEX waiting;
CREATE INDEX waiting ON jobs (service, due, lane) WHERE state = 0;
CREATE INDEX unlined ON jobs (service) WHERE state = 0 AND lane IS NULL;
CREATE TABLE webhooks (
    number INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    service TEXT NOT NULL,
    url TEXT NOT NULL,
    own INTEGER NOT NULL,
    round INTEGER NOT NULL DEFAULT 0,
    status TEXT,
    tries INTEGER NOT NULL DEFAULT 0,
    due REAL,
    told REAL,
    error TEXT
) STRICT;
CREATE INDEX telling ON webhooks (service, due) WHERE due IS NOT NULL;
CREATE INDEX told ON webhooks (job);
";

const STATUS: &str = "id, state, method, path, attempts, attempts_max, created, started, ended, expires, due, share, note, \
                      status, error";

/// A body: its bytes, or a file of the folder that holds them.
#[derive(Debug)]
pub enum Body {
    /// Here it is.
    Inline(Vec<u8>),
    /// In the file that [`Store::file`] names.
    File,
}

/// Which file of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The body of its request.
    Request,
    /// The body of its response.
    Response,
}

/// What has come of keeping a request.
#[derive(Debug)]
pub enum Kept {
    /// This is the job now; or it was before, under the same key.
    Status(Box<Status>),
    /// There is no room; why.
    Full(String),
    /// The key has come with another request.
    KeyReused,
}

/// An attempt that is to be made.
#[derive(Debug)]
pub struct Work {
    /// What is known of the request.
    pub request: Request,
    /// Its head.
    pub head: Vec<u8>,
    /// Its body.
    pub body: Body,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// With which others it shares a limit of those that run; empty for none.
    pub lane: String,
}

/// What an attempt has come to.
#[derive(Debug)]
pub enum Outcome {
    /// The application's response.
    Answered(Response, Body),
    /// None, and why; with the application's response where it was one.
    Failed(Error, Option<(Response, Body)>),
    /// It was not begun: it is none.
    NotBegun,
}

/// How much is kept at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Jobs of a service that are not over.
    pub jobs: u64,
    /// Bytes of all bodies and rows of a service.
    pub bytes: u64,
}

/// A request that is to be kept.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What is known of it.
    pub request: &'a Request,
    /// Its head.
    pub head: &'a [u8],
    /// Its body.
    pub body: &'a Body,
    /// How often it may be begun.
    pub attempts_max: u32,
    /// How long what it has come to is kept, and after that the word of it, seconds.
    pub retention_s: f64,
    /// With which others it shares a limit of those that run; empty for none, nothing if that is not known.
    pub lane: Option<&'a str>,
    /// Who is told when it is over.
    pub webhooks: &'a [Promise<'a>],
}

/// The jobs of one service.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    folder: PathBuf,
    service: String,
    bounds: Bounds,
}

/// How many jobs there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Depth {
    /// In each state, in the order of [`State::ALL`].
    pub counts: Vec<(State, u64)>,
    /// When the one was taken that has waited longest, seconds since 1970; none if none waits.
    pub oldest: Option<f64>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Jobs that are not over.
    pub jobs: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Store {
    /// Opens the store of a folder, and makes it if it is not there, for this user alone.
    ///
    /// # Errors
    /// It cannot be made or written to, or a newer Ferricorn has made it.
    pub fn create(folder: &Path, service: &str, bounds: Bounds) -> Result<Self, StoreError> {
        let bodies = folder.join(BODIES);
        let unreachable = |path: &Path, error: io::Error| StoreError::Unreachable(path.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(&bodies).map_err(|e| unreachable(&bodies, e))?;
        let path = folder.join(FILE);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unreachable(&path, error)),
            _ => {}
        }
        let mut connection = Self::connected(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // An answer of 202 is a promise: it is on the disk before it is said.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let missing = missing(&transaction)?;
        for step in missing {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", STEPS.len() as i32)?;
        transaction.commit()?;
        Ok(Self { connection, folder: folder.to_owned(), service: service.to_owned(), bounds })
    }

    /// Opens the store of a folder to look into it, and to say what is to be done with jobs.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Err(StoreError::Absent(path));
        }
        let connection = Self::connected(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        if !missing(&connection)?.is_empty() {
            return Err(StoreError::Old);
        }
        let bounds = Bounds { jobs: 0, bytes: 0 };
        Ok(Self { connection, folder: folder.to_owned(), service: String::new(), bounds })
    }

    fn connected(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    /// Begins to write; what follows is kept together, by [`Self::commit`], or not at all.
    ///
    /// # Errors
    /// Another process does not let it.
    pub fn begin(&self) -> Result<(), StoreError> {
        Ok(self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)?)
    }

    /// Keeps what was written since [`Self::begin`]: it survives everything from here on.
    ///
    /// # Errors
    /// It cannot be written; nothing of it is kept.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        match self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.roll_back();
                Err(error.into())
            }
        }
    }

    /// Takes back what was written since [`Self::begin`].
    pub fn roll_back(&mut self) {
        // Without a transaction there is nothing to take back.
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    /// Returns how much there is.
    ///
    /// # Errors
    /// The store's.
    pub fn held(&self) -> Result<Held, StoreError> {
        let query = "SELECT jobs, bytes FROM totals WHERE service = ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        let count = |row: &Row<'_>, at| row.get::<_, i64>(at).map(|count| count.max(0).cast_unsigned());
        let held = statement
            .query_row([&self.service], |row| Ok(Held { jobs: count(row, 0)?, bytes: count(row, 1)? }))
            .optional()?;
        Ok(held.unwrap_or_default())
    }

    /// Returns the file for a part of a job that is too long for the database.
    pub fn file(&self, id: &str, part: Part) -> PathBuf {
        let ending = match part {
            Part::Request => "request",
            Part::Response => "response",
        };
        self.folder.join(BODIES).join(format!("{id}.{ending}"))
    }

    // ---- Jobs ----

    /// Keeps a request as a job. Said twice, it is one.
    ///
    /// # Errors
    /// The store's.
    pub fn keep(&mut self, entry: &Entry<'_>, now_s: f64) -> Result<Kept, StoreError> {
        let Entry { request, head, body, attempts_max, retention_s, lane, webhooks } = *entry;
        if let Some(status) = self.status(&request.id)? {
            return Ok(Kept::Status(Box::new(status)));
        }
        if let Some(key) = &request.key {
            let query = "SELECT id, sum FROM jobs WHERE key = ?1 AND service = ?2";
            let mut statement = self.connection.prepare_cached(query)?;
            let found: Option<(String, Option<String>)> =
                statement.query_row([key, &self.service], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            drop(statement);
            if let Some((id, sum)) = found {
                let status = (sum == request.sum).then(|| self.status(&id)).transpose()?.flatten();
                return Ok(status.map_or(Kept::KeyReused, |status| Kept::Status(Box::new(status))));
            }
        }
        let bytes = ROW_BYTES + head.len() as u64 + request.body;
        let held = self.held()?;
        if held.jobs >= self.bounds.jobs {
            return Ok(Kept::Full(format!("{} jobs wait or run already", held.jobs)));
        }
        if held.bytes + bytes > self.bounds.bytes {
            return Ok(Kept::Full(format!("jobs take {} bytes already", held.bytes)));
        }
        let facts = serde_json::to_string(request).unwrap_or_default();
        let query = "INSERT INTO jobs (id, service, state, method, path, facts, created, due, attempts_max, bytes, key, sum, kept, lane) \
                     VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        self.connection.prepare_cached(query)?.execute(params![
            request.id,
            self.service,
            request.method,
            request.path,
            facts,
            now_s,
            attempts_max,
            bytes.cast_signed(),
            request.key,
            request.sum,
            retention_s,
            lane
        ])?;
        let number = self.connection.last_insert_rowid();
        let inline = match body {
            Body::Inline(bytes) => Some(bytes),
            Body::File => None,
        };
        let query = "INSERT INTO requests (number, head, body) VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(query)?.execute(params![number, head, inline])?;
        self.promise(&request.id, webhooks)?;
        let (id, method, path) = (request.id.clone(), request.method.clone(), request.path.clone());
        let due_at = Some(now_s);
        let status =
            Status { id, method, path, attempts_max, created_at: now_s, due_at, ..Status::default() };
        Ok(Kept::Status(Box::new(status)))
    }

    /// Returns how a job of this service stands.
    ///
    /// # Errors
    /// The store's.
    pub fn status(&self, id: &str) -> Result<Option<Status>, StoreError> {
        let query = format!("SELECT {STATUS} FROM jobs WHERE id = ?1 AND (?2 = '' OR service = ?2)");
        let mut statement = self.connection.prepare_cached(&query)?;
        Ok(statement.query_row(params![id, self.service], status).optional()?)
    }

    /// Returns what a job of this service has come to, if it has.
    ///
    /// # Errors
    /// The store's.
    pub fn response(&self, id: &str) -> Result<Option<(Response, Body)>, StoreError> {
        let query = "SELECT response, body FROM jobs JOIN responses USING (number) WHERE id = ?1 AND (?2 = '' OR service = ?2)";
        let mut statement = self.connection.prepare_cached(query)?;
        let row = |row: &Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<Vec<u8>>>(1)?));
        let found = statement.query_row(params![id, self.service], row).optional()?;
        let read = |(text, body): (Option<String>, Option<Vec<u8>>)| {
            Some((serde_json::from_str(&text?).ok()?, body.map_or(Body::File, Body::Inline)))
        };
        Ok(found.and_then(read))
    }

    /// Puts jobs into the lanes that `lane` says by method and path: those that wait in none yet, or all that are not over, since the rules
    /// may be others by now.
    ///
    /// # Errors
    /// The store's.
    pub fn line_up(&self, all: bool, lane: impl Fn(&str, &str) -> String) -> Result<(), StoreError> {
        // A state that is no constant would not be found by its index.
        let wanted: &[&str] = if all { &["state = 0", "state = 1"] } else { &["state = 0 AND lane IS NULL"] };
        let mut moved: Vec<(i64, String)> = Vec::new();
        for wanted in wanted {
            let query =
                format!("SELECT number, method, path, lane FROM jobs WHERE service = ?1 AND {wanted}");
            let mut statement = self.connection.prepare_cached(&query)?;
            let mut rows = statement.query([&self.service])?;
            while let Some(row) = rows.next()? {
                let (method, path): (String, String) = (row.get(1)?, row.get(2)?);
                let (old, new): (Option<String>, _) = (row.get(3)?, lane(&method, &path));
                if old.as_ref() != Some(&new) {
                    moved.push((row.get(0)?, new));
                }
            }
        }
        let mut statement = self.connection.prepare_cached("UPDATE jobs SET lane = ?2 WHERE number = ?1")?;
        for (number, lane) in moved {
            statement.execute(params![number, lane])?;
        }
        Ok(())
    }

    /// Returns how many jobs run in each lane for others than this owner.
    ///
    /// # Errors
    /// The store's.
    pub fn run_by_others(&self, owner: &str) -> Result<BTreeMap<String, usize>, StoreError> {
        let query = "SELECT lane, count(*) FROM jobs WHERE service = ?1 AND state = 1 AND owner <> ?2 AND lane <> '' GROUP BY lane";
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map([&self.service, owner], |row| {
            let count: i64 = row.get(1)?;
            Ok((row.get(0)?, usize::try_from(count).unwrap_or_default()))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Takes jobs that are due and not begun, the one that has waited longest first, and of each lane no more than there is `room`.
    ///
    /// # Errors
    /// The store's.
    pub fn claim(
        &self,
        owner: &str,
        most: usize,
        room: impl Fn(&str) -> usize,
        now_s: f64,
    ) -> Result<Vec<Work>, StoreError> {
        let query =
            "SELECT number, lane FROM jobs WHERE service = ?1 AND state = 0 AND due <= ?2 ORDER BY due";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query(params![self.service, now_s])?;
        let (mut numbers, mut taken) = (Vec::new(), BTreeMap::new());
        while numbers.len() < most
            && let Some(row) = rows.next()?
        {
            let lane: String = row.get::<_, Option<String>>(1)?.unwrap_or_default();
            let count: &mut usize = taken.entry(lane.clone()).or_default();
            if *count < room(&lane) {
                *count += 1;
                numbers.push((row.get::<_, i64>(0)?, lane));
            }
        }
        drop(rows);
        let query =
            "SELECT facts, attempts, head, body FROM jobs JOIN requests USING (number) WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut found = Vec::new();
        for (number, lane) in numbers {
            let row = |row: &Row<'_>| {
                let (facts, attempts): (String, u32) = (row.get(0)?, row.get(1)?);
                let (head, body): (Vec<u8>, Option<Vec<u8>>) = (row.get(2)?, row.get(3)?);
                Ok((facts, attempts, head, body.map_or(Body::File, Body::Inline)))
            };
            let Some((facts, attempts, head, body)) = statement.query_row([number], row).optional()? else {
                continue;
            };
            let Ok(request) = serde_json::from_str(&facts) else { continue };
            found.push((number, Work { request, head, body, attempt: attempts + 1, lane }));
        }
        let query = "UPDATE jobs SET state = 1, owner = ?2, started = ?3, attempts = attempts + 1, share = NULL, note = NULL \
                     WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        for (number, _) in &found {
            statement.execute(params![number, owner, now_s])?;
        }
        Ok(found.into_iter().map(|(_, work)| work).collect())
    }

    /// Writes down what an attempt has come to; true if anybody still waited for it.
    ///
    /// # Errors
    /// The store's.
    pub fn finish(
        &mut self,
        id: &str,
        attempt: u32,
        outcome: &Outcome,
        now_s: f64,
    ) -> Result<bool, StoreError> {
        let query = "SELECT number, attempts_max, bytes FROM jobs WHERE id = ?1 AND service = ?2 AND state = 1 AND attempts = ?3";
        let mut statement = self.connection.prepare_cached(query)?;
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?));
        let found = statement.query_row(params![id, self.service, attempt], row).optional()?;
        drop(statement);
        // Cancelled meanwhile, or begun again by another that took its owner for dead.
        let Some((number, attempts_max)) = found else { return Ok(false) };
        let (error, response) = match outcome {
            Outcome::NotBegun => {
                let query = "UPDATE jobs SET state = 0, owner = NULL, attempts = attempts - 1, due = ?2 WHERE number = ?1";
                self.connection.prepare_cached(query)?.execute(params![number, now_s + 1.0])?;
                return Ok(true);
            }
            Outcome::Answered(response, body) => (None, Some((response, body))),
            Outcome::Failed(error, response) => {
                (Some(error), response.as_ref().map(|(response, body)| (response, body)))
            }
        };
        let said = error.map(|error| serde_json::to_string(error).unwrap_or_default());
        if error.is_some() && attempt < attempts_max {
            let query = "UPDATE jobs SET state = 0, owner = NULL, due = ?2, error = ?3 WHERE number = ?1";
            let due = now_s + backoff_s(attempt);
            self.connection.prepare_cached(query)?.execute(params![number, due, said])?;
            return Ok(true);
        }
        let state = if error.is_some() { State::Failed } else { State::Done };
        let mut more = 0;
        let (mut text, mut code) = (None, None);
        if let Some((response, body)) = response {
            let inline = match body {
                Body::Inline(bytes) => Some(bytes),
                Body::File => None,
            };
            let query = "INSERT OR REPLACE INTO responses (number, body) VALUES (?1, ?2)";
            self.connection.prepare_cached(query)?.execute(params![number, inline])?;
            text = serde_json::to_string(response).ok();
            code = response.status.get(..3).and_then(|digits| digits.parse::<u16>().ok());
            more = response.body + text.as_ref().map_or(0, String::len) as u64;
        }
        let query = "UPDATE jobs SET state = ?2, owner = NULL, due = NULL, ended = ?3, expires = ?3 + kept, error = ?4, response = ?5, \
                     status = ?6, bytes = bytes + ?7 WHERE number = ?1";
        self.connection.prepare_cached(query)?.execute(params![
            number,
            state as i64,
            now_s,
            said,
            text,
            code,
            more.cast_signed()
        ])?;
        if state == State::Done {
            self.forget_request(id, number)?;
        }
        self.announce(id, now_s)?;
        Ok(true)
    }

    /// What was asked is not kept longer than it is needed.
    fn forget_request(&mut self, id: &str, number: i64) -> Result<(), StoreError> {
        let query =
            "SELECT length(head) + coalesce(length(body), 0), body IS NULL FROM requests WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?));
        let found = statement.query_row([number], row).optional()?;
        drop(statement);
        let Some((mut bytes, is_file)) = found else { return Ok(()) };
        if is_file {
            let path = self.file(id, Part::Request);
            bytes += fs::metadata(&path).map_or(0, |file| file.len().cast_signed());
            removed(&path);
        }
        self.connection.prepare_cached("DELETE FROM requests WHERE number = ?1")?.execute([number])?;
        let query = "UPDATE jobs SET bytes = max(bytes - ?2, 0) WHERE number = ?1";
        self.connection.prepare_cached(query)?.execute([number, bytes])?;
        Ok(())
    }

    /// Withdraws a job: one that waits is not begun, one that runs has nobody who waits for it, one that is over is forgotten.
    /// Returns how it stands then; none if there is none. Of one that is handed on (`relayed`) the next attempt counts as the one that
    /// was withdrawn: nobody knows how far it has come.
    ///
    /// # Errors
    /// The store's.
    pub fn cancel(&mut self, id: &str, relayed: bool, now_s: f64) -> Result<Option<Status>, StoreError> {
        let Some(before) = self.status(id)? else { return Ok(None) };
        if !before.state.is_over() {
            let query = "UPDATE jobs SET state = 4, owner = NULL, due = NULL, ended = ?2, expires = ?2 + kept, \
                         attempts = attempts + (?3 AND state = 0) WHERE id = ?1";
            self.connection.prepare_cached(query)?.execute(params![id, now_s, relayed])?;
            self.announce(id, now_s)?;
        } else {
            self.empty(id)?;
        }
        self.status(id)
    }

    /// Begins a job again that was given up or withdrawn; none if there is none, false if it cannot be begun again.
    ///
    /// # Errors
    /// The store's.
    pub fn retry(&mut self, id: &str, now_s: f64) -> Result<Option<bool>, StoreError> {
        if self.status(id)?.is_none() {
            return Ok(None);
        }
        let query = "UPDATE jobs SET state = 0, due = ?2, ended = NULL, expires = NULL, attempts_max = attempts + 1, status = NULL, \
                     response = NULL, lane = NULL WHERE id = ?1 AND state IN (3, 4) AND EXISTS (SELECT 1 FROM requests WHERE number = jobs.number)";
        let changed = self.connection.prepare_cached(query)?.execute(params![id, now_s])?;
        if changed > 0 {
            let query = "DELETE FROM responses WHERE number = (SELECT number FROM jobs WHERE id = ?1)";
            self.connection.prepare_cached(query)?.execute([id])?;
            removed(&self.file(id, Part::Response));
            self.unannounce(id)?;
        }
        Ok(Some(changed > 0))
    }

    /// Makes what waits due at once that the clock, which was set back, would keep waiting.
    ///
    /// # Errors
    /// The store's.
    pub fn hasten(&self, now_s: f64) -> Result<(), StoreError> {
        let query = "UPDATE jobs SET due = ?2 WHERE service = ?1 AND state = 0 AND due > ?2";
        self.connection.prepare_cached(query)?.execute(params![self.service, now_s])?;
        let query = "UPDATE webhooks SET due = ?2 WHERE service = ?1 AND due > ?2";
        Ok(self.connection.prepare_cached(query)?.execute(params![self.service, now_s]).map(drop)?)
    }

    /// Writes down how far a job is that runs.
    ///
    /// # Errors
    /// The store's.
    pub fn report(&self, id: &str, progress: &Progress) -> Result<bool, StoreError> {
        let share = if progress.share.is_finite() { progress.share.clamp(0.0, 1.0) } else { 0.0 };
        let note: String = progress.note.chars().take(NOTE_MAX).collect();
        let query = "UPDATE jobs SET share = ?2, note = ?3 WHERE id = ?1 AND service = ?4 AND state = 1";
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.execute(params![id, share, note, self.service])? > 0)
    }

    // ---- Owners ----

    /// Says that an owner lives.
    ///
    /// # Errors
    /// The store's.
    pub fn beat(&self, owner: &str, now_s: f64) -> Result<(), StoreError> {
        let query =
            "INSERT INTO owners (name, beat) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET beat = excluded.beat";
        Ok(self.connection.prepare_cached(query)?.execute(params![owner, now_s]).map(drop)?)
    }

    /// Takes over the running jobs of owners that are dead, as `is_dead` finds by name and last beat: they are begun again, or given
    /// up. Returns the ids.
    ///
    /// # Errors
    /// The store's.
    pub fn adopt(
        &mut self,
        is_dead: impl Fn(&str, f64) -> bool,
        now_s: f64,
    ) -> Result<Vec<String>, StoreError> {
        let query = "SELECT id, attempts, owner, coalesce(beat, 0) FROM jobs LEFT JOIN owners ON name = owner \
                     WHERE service = ?1 AND state = 1";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query([&self.service])?;
        let mut lost: Vec<(String, u32, bool)> = Vec::new();
        while let Some(row) = rows.next()? {
            let owner: String = row.get(2)?;
            if is_dead(&owner, row.get(3)?) {
                lost.push((row.get(0)?, row.get(1)?, owner.ends_with(RELAYED)));
            }
        }
        drop(rows);
        drop(statement);
        for (id, attempt, relayed) in &lost {
            if *relayed {
                self.finish(id, *attempt, &Outcome::NotBegun, now_s)?;
                continue;
            }
            let detail = "the dispatcher ended while it ran: what it has come to is not known".to_owned();
            let error = Error { cause: Fault::Interrupted, detail, ..Error::default() };
            self.finish(id, *attempt, &Outcome::Failed(error, None), now_s)?;
        }
        self.connection.prepare_cached("DELETE FROM owners WHERE beat < ?1")?.execute([now_s - 3600.0])?;
        Ok(lost.into_iter().map(|(id, ..)| id).collect())
    }

    // ---- What is kept for how long ----

    /// Removes what was kept long enough: first what a job has come to, later the job. Returns how many were touched; more may be
    /// left if many were.
    ///
    /// # Errors
    /// The store's.
    pub fn sweep(&mut self, now_s: f64) -> Result<usize, StoreError> {
        let query = "SELECT id, state FROM jobs WHERE expires <= ?1 AND service = ?2 LIMIT ?3";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query(params![now_s, self.service, SWEPT_MAX as i64])?;
        let mut over: Vec<(String, i64)> = Vec::new();
        while let Some(row) = rows.next()? {
            over.push((row.get(0)?, row.get(1)?));
        }
        drop(rows);
        drop(statement);
        for (id, state) in &over {
            self.empty(id)?;
            if *state == State::Expired as i64 {
                self.connection.prepare_cached("DELETE FROM jobs WHERE id = ?1")?.execute([id])?;
                self.forget_told(id)?;
            } else {
                let query = "UPDATE jobs SET state = 5, expires = ?2 + kept WHERE id = ?1";
                self.connection.prepare_cached(query)?.execute(params![id, now_s])?;
            }
        }
        // Nobody tells them any more: the settings are others.
        let query = "DELETE FROM webhooks WHERE service = ?1 AND due < ?2";
        self.connection.prepare_cached(query)?.execute(params![self.service, now_s - UNTOLD_S])?;
        if !over.is_empty() {
            // Each step gives one page back.
            let mut statement = self.connection.prepare("PRAGMA incremental_vacuum(200)")?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        Ok(over.len())
    }

    /// Removes both bodies of a job, and its key: it may be used again.
    fn empty(&mut self, id: &str) -> Result<(), StoreError> {
        let query = "SELECT number FROM jobs WHERE id = ?1";
        let number: i64 = self.connection.prepare_cached(query)?.query_row([id], |row| row.get(0))?;
        removed(&self.file(id, Part::Request));
        removed(&self.file(id, Part::Response));
        self.connection.prepare_cached("DELETE FROM requests WHERE number = ?1")?.execute([number])?;
        self.connection.prepare_cached("DELETE FROM responses WHERE number = ?1")?.execute([number])?;
        let query = "UPDATE jobs SET state = 5, response = NULL, key = NULL, sum = NULL, bytes = ?2 WHERE number = ?1";
        self.connection.prepare_cached(query)?.execute([number, ROW_BYTES.cast_signed()])?;
        Ok(())
    }

    /// Removes files that belong to no job: a crash may have come between the two. Young ones may be about to.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn tidy(&self, older_than: Duration) -> Result<usize, StoreError> {
        let folder = self.folder.join(BODIES);
        let entries =
            fs::read_dir(&folder).map_err(|error| StoreError::Unreachable(folder.clone(), error))?;
        let mut count = 0;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default();
            let age = entry.metadata().and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
            let is_old = age.is_some_and(|age| age >= older_than);
            let query = "SELECT 1 FROM jobs WHERE id = ?1";
            if is_old
                && self.connection.prepare_cached(query)?.query_row([id], |_| Ok(())).optional()?.is_none()
            {
                removed(&entry.path());
                count += 1;
            }
        }
        Ok(count)
    }

    // ---- For viewers ----

    /// Returns the newest jobs of every service, in these states, or in any.
    ///
    /// # Errors
    /// The store's.
    pub fn list(&self, state: Option<State>, most: usize) -> Result<Vec<Status>, StoreError> {
        let query =
            format!("SELECT {STATUS} FROM jobs WHERE ?1 IS NULL OR state = ?1 ORDER BY number DESC LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&query)?;
        let rows = statement.query_map(params![state.map(|state| state as i64), most as i64], status)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns how many jobs of every service there are in each state, and when the oldest that waits was taken.
    ///
    /// # Errors
    /// The store's.
    pub fn depth(&self) -> Result<Depth, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT state, count(*) FROM jobs GROUP BY state")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let mut counts: Vec<(State, u64)> = State::ALL.iter().map(|state| (*state, 0)).collect();
        for row in rows {
            let (state, count) = row?;
            if let Some(place) = usize::try_from(state).ok().and_then(|state| counts.get_mut(state)) {
                place.1 = count.cast_unsigned();
            }
        }
        let query = "SELECT min(created) FROM jobs WHERE state = 0";
        let oldest = self.connection.prepare_cached(query)?.query_row([], |row| row.get(0))?;
        Ok(Depth { counts, oldest })
    }

    /// Returns when the job of this service was taken that has waited longest, if one waits.
    ///
    /// # Errors
    /// The store's.
    pub fn oldest(&self) -> Result<Option<f64>, StoreError> {
        // About: the one that is due first, of those that were taken in order.
        let query = "SELECT created FROM jobs WHERE service = ?1 AND state = 0 ORDER BY due LIMIT 1";
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.query_row([&self.service], |row| row.get(0)).optional()?)
    }

    /// Returns when the next job that waits is due, if one does in a lane with room.
    ///
    /// # Errors
    /// The store's.
    pub fn next_due(&self, room: impl Fn(&str) -> usize) -> Result<Option<f64>, StoreError> {
        let query = "SELECT due, lane FROM jobs WHERE service = ?1 AND state = 0 ORDER BY due";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query([&self.service])?;
        while let Some(row) = rows.next()? {
            if room(&row.get::<_, Option<String>>(1)?.unwrap_or_default()) > 0 {
                return Ok(Some(row.get(0)?));
            }
        }
        Ok(None)
    }
}

/// Returns what a database lacks that was made by an older version.
fn missing(connection: &Connection) -> Result<&'static [&'static str], StoreError> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    usize::try_from(version).ok().and_then(|at| STEPS.get(at..)).ok_or(StoreError::Version(version))
}

fn status(row: &Row<'_>) -> rusqlite::Result<Status> {
    let state: i64 = row.get(1)?;
    let state = usize::try_from(state).ok().and_then(|state| State::ALL.get(state)).copied();
    let share: Option<f64> = row.get(11)?;
    let note: Option<String> = row.get(12)?;
    let error: Option<String> = row.get(14)?;
    Ok(Status {
        id: row.get(0)?,
        state: state.unwrap_or_default(),
        method: row.get(2)?,
        path: row.get(3)?,
        attempts: row.get(4)?,
        attempts_max: row.get(5)?,
        created_at: row.get(6)?,
        started_at: row.get(7)?,
        ended_at: row.get(8)?,
        expires_at: row.get(9)?,
        due_at: row.get(10)?,
        progress: share.map(|share| Progress { share, note: note.unwrap_or_default() }),
        status: row.get(13)?,
        error: error.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

/// Removes a file that may not be there.
fn removed(path: &Path) {
    // One that stays is found by `tidy`.
    let _ = fs::remove_file(path);
}

/// Writes a body where it is safe: behind a crash it is there, whole.
///
/// # Errors
/// The disk's.
pub fn written(path: &Path, from: &mut impl io::Read) -> io::Result<u64> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let count = io::copy(from, &mut file)?;
    safe(&file, path)?;
    Ok(count)
}

/// Waits until a file and its name are on the disk.
///
/// # Errors
/// The disk's.
pub fn safe(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    named(path)
}

/// Waits until the name of a file is on the disk.
///
/// # Errors
/// The disk's.
pub fn named(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Tells whether a body of this length is kept in the database.
pub fn is_short(length: u64) -> bool {
    length <= INLINE_MAX as u64
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
