//! Opening the store, and writing to it in transactions that end: nothing here waits for longer than [`BUSY`],
//! and opening not for longer than twice [`BUSY_OPENING`].
//! Not for: what stands in the tables.

use super::bounds::Bounds;
use super::place::{self, FILE};
use super::{StoreError, schema};
use ferricorn_core::record::Server;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How long somebody else's transaction is waited for.
const BUSY: Duration = Duration::from_millis(250);
/// The same for who only reads, and for who has only begun: others may be making the tables.
const BUSY_OPENING: Duration = Duration::from_secs(2);
/// How often the change to WAL is tried, for which SQLite does not wait by itself, and the pause between.
const WAL_TRIES: u32 = 100;
const WAL_PAUSE: Duration = Duration::from_millis(20);
/// Pages that are written back into the database at a time: 4 MB.
const CHECKPOINT_PAGES: u32 = 1000;
/// Bytes of a page, which is SQLite's own choice for new files.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Statements that are kept prepared.
const STATEMENTS: usize = 32;

/// What is kept of a server: records, incidents, durations, lives, audit, state. Several servers may share one.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    folder: PathBuf,
    /// Device and number of the file that is open.
    file: (u64, u64),
    bounds: Bounds,
}

impl Store {
    /// Opens the store of a folder to write to. Makes folder and file if they are not there, for this user alone.
    ///
    /// # Errors
    /// They cannot be made or written to, or a newer Ferricorn has written the file.
    pub fn create(folder: &Path) -> Result<Self, StoreError> {
        Self::create_within(folder, Bounds::default())
    }

    pub(super) fn create_within(folder: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        let unreachable = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Unreachable { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unreachable(folder))?;
        let path = folder.join(FILE);
        // Made here, because SQLite asks nobody about the mode; its other files get the mode of this one. One that is there
        // must not be opened and closed by anybody but SQLite: that would drop the locks of this process.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unreachable(&path)(error)),
            _ => {}
        }
        readable(&path)?;
        let connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        if connection.is_readonly("main")? {
            return Err(StoreError::ReadOnly);
        }
        connection.busy_timeout(BUSY_OPENING)?;
        // Before anything is written, or pages that become free could never be given back.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        use_wal(&connection)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(
            None,
            "journal_size_limit",
            i64::from(CHECKPOINT_PAGES) * PAGE_BYTES.cast_signed(),
        )?;
        connection.pragma_update(
            None,
            "max_page_count",
            (bounds.database_bytes / PAGE_BYTES).cast_signed(),
        )?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        schema::migrate(&connection)?;
        connection.busy_timeout(BUSY)?;
        let file = identity(&path)?;
        Ok(Self { connection, folder: folder.to_owned(), file, bounds })
    }

    /// Opens the store of a folder to read only; somebody may be writing to it meanwhile. Of a folder that cannot be
    /// written to, what a killed writer has left can be read as long as SQLite's `-shm` file lies beside it.
    ///
    /// # Errors
    /// There is none, it cannot be read, or another version has written it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        readable(&path)?;
        let file = identity(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_OPENING)?;
        // The first statement is what looks at the files, and would make those that are missing.
        let (connection, found) = match schema::version(&connection) {
            Err(error) if wants_to_write(&error) => {
                let connection = open_unchanging(folder, &path)?;
                let found = schema::version(&connection)?;
                (connection, found)
            }
            found => (connection, found?),
        };
        let known = schema::VERSION;
        match found {
            // Somebody has just made it.
            0 => Err(StoreError::Missing(folder.to_owned())),
            found if found < known => Err(StoreError::Older { found, known }),
            found if found > known => Err(StoreError::Newer { found, known }),
            _ => {
                // Root may look at a file that another user has made.
                connection.pragma_update(None, "trusted_schema", false)?;
                connection.set_prepared_statement_cache_capacity(STATEMENTS);
                Ok(Self { connection, folder: folder.to_owned(), file, bounds: Bounds::default() })
            }
        }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tells whether somebody has taken the file away, or put another in its place: what is written now, nobody finds.
    pub fn has_moved(&self) -> bool {
        identity(&self.folder.join(FILE)).ok() != Some(self.file)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Does something in one transaction. If the store is full, the oldest goes first.
    pub(super) fn write<T>(
        &self,
        work: impl Fn(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.bound_journal()?;
        match self.transact(&work) {
            Err(StoreError::Full(_)) => {
                self.make_room()?;
                self.transact(&work)
            }
            done => done,
        }
    }

    /// The same without making room.
    pub(super) fn transact<T>(
        &self,
        work: impl Fn(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Who begins by reading may not write after somebody else has: so it says at once that it will.
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Writes the journal back when it has half of its share: what SQLite does by itself never makes it shorter while others
    /// are at the store. If it has all of it, which takes a reader without end, nothing more is written.
    fn bound_journal(&self) -> Result<(), StoreError> {
        let length = || fs::metadata(place::wal(&self.folder)).map_or(0, |metadata| metadata.len());
        let most = self.bounds.journal_bytes;
        let before = length();
        if before <= most / 2 {
            return Ok(());
        }
        // Below the bound there is a next time: who is in the way then is not waited for.
        self.connection.busy_timeout(if before > most { BUSY } else { Duration::ZERO })?;
        let done = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.connection.busy_timeout(BUSY)?;
        match done.map_err(StoreError::from) {
            Err(StoreError::Busy) => {}
            done => done?,
        }
        if length() > most {
            return Err(StoreError::Busy);
        }
        Ok(())
    }
}

/// Returns the number of a server's row, a new one if it has none.
///
/// A pid and a start tell one process from all others. Its name is what its observer makes out, which may be better known
/// the next time: the last one counts.
pub(super) fn server_id(connection: &Connection, server: &Server, now_s: f64) -> Result<i64, StoreError> {
    let key = params![server.pid, server.started_ns.cast_signed()];
    let mut known = connection.prepare_cached(
        "SELECT id, name FROM servers WHERE pid = ?1 AND started_ns = ?2 ORDER BY id LIMIT 1",
    )?;
    let found: Option<(i64, String)> =
        known.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    if let Some((id, name)) = found {
        if name != server.name {
            connection
                .execute("UPDATE OR IGNORE servers SET name = ?2 WHERE id = ?1", params![id, server.name])?;
        }
        return Ok(id);
    }
    connection.execute(
        "INSERT INTO servers (pid, name, started_ns, version, seen_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![server.pid, server.name, server.started_ns.cast_signed(), server.version, now_s],
    )?;
    Ok(connection.last_insert_rowid())
}

fn use_wal(connection: &Connection) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        // Where the filesystem cannot do it (no shared memory), SQLite goes on with its other journal, and so do we.
        match connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(StoreError::from) {
            Err(StoreError::Busy) if tries < WAL_TRIES => {
                tries += 1;
                thread::sleep(WAL_PAUSE);
            }
            done => return done,
        }
    }
}

/// Tells whether SQLite failed because it may not make its `-shm` file.
fn wants_to_write(error: &StoreError) -> bool {
    match error {
        StoreError::ReadOnly => true,
        StoreError::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::CannotOpen),
        _ => false,
    }
}

/// Opens a store to which nobody can write: the folder is read only, and no journal waits in it.
fn open_unchanging(folder: &Path, path: &Path) -> Result<Connection, StoreError> {
    if fs::metadata(place::wal(folder)).is_ok_and(|journal| journal.len() > 0) {
        return Err(StoreError::Unfinished(folder.to_owned()));
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(place::uri(path, "immutable=1"), flags)?)
}

/// SQLite says of every file it cannot have only that it "cannot open" it.
fn readable(path: &Path) -> Result<(), StoreError> {
    let unreachable = |source: io::Error| StoreError::Unreachable { path: path.to_owned(), source };
    fs::metadata(path).map_err(|error| match (error.kind(), path.parent()) {
        (ErrorKind::NotFound, Some(folder)) if folder.is_dir() => StoreError::Missing(folder.to_owned()),
        _ => unreachable(error),
    })?;
    rustix::fs::access(path, rustix::fs::Access::READ_OK).map_err(|error| unreachable(error.into()))
}

fn identity(path: &Path) -> Result<(u64, u64), StoreError> {
    let metadata =
        fs::metadata(path).map_err(|source| StoreError::Unreachable { path: path.to_owned(), source })?;
    Ok((metadata.dev(), metadata.ino()))
}
