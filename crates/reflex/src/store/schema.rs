//! The tables, as numbered migrations: `user_version` says how many of them a file has. A migration never changes once it
//! has been released; the next one is added behind it.
//!
//! Not for: reading or writing rows, which each table's own file does.

use super::StoreError;
use rusqlite::{Connection, Transaction, TransactionBehavior};

/// One after the other they make the present tables.
const MIGRATIONS: &[&str] = &[
    "
    -- Servers that have written here. `seen_at` is how others find out that one is gone.
    CREATE TABLE servers (
        id INTEGER PRIMARY KEY,
        pid INTEGER NOT NULL,
        name TEXT NOT NULL,
        started_ns INTEGER NOT NULL,
        version TEXT NOT NULL,
        seen_at REAL NOT NULL,
        UNIQUE (pid, name, started_ns)
    );

    -- Late requests, dead workers, held loops: the evidence. `body` is the record as JSON.
    CREATE TABLE records (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        server INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        request TEXT,
        incident TEXT,
        signature TEXT NOT NULL,
        hour INTEGER NOT NULL,
        whole INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX records_at ON records (at);
    CREATE INDEX records_request ON records (request) WHERE request IS NOT NULL;
    CREATE INDEX records_pid ON records (pid);
    CREATE INDEX records_incident ON records (incident) WHERE incident IS NOT NULL;
    CREATE INDEX records_signature ON records (signature, hour);

    -- How many records of one kind there were in an hour, kept or not.
    CREATE TABLE signatures (
        signature TEXT NOT NULL,
        hour INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (signature, hour)
    ) WITHOUT ROWID;

    -- `at` is when it was opened, of a note when it was noted. `body` is the incident as JSON.
    CREATE TABLE incidents (
        id TEXT PRIMARY KEY,
        server INTEGER NOT NULL,
        state TEXT NOT NULL,
        cause TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        at REAL NOT NULL,
        opened_at REAL,
        last_at REAL NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX incidents_at ON incidents (at);
    CREATE INDEX incidents_state ON incidents (state, last_at);

    -- The last number of an incident's name that was given away on a day.
    CREATE TABLE numbers (
        day TEXT PRIMARY KEY,
        last INTEGER NOT NULL
    ) WITHOUT ROWID;

    -- What durations are of.
    CREATE TABLE keys (
        id INTEGER PRIMARY KEY,
        route TEXT NOT NULL,
        named INTEGER NOT NULL,
        method TEXT NOT NULL,
        class TEXT NOT NULL,
        UNIQUE (route, named, method, class)
    );

    -- Durations: `minute` since 1970 and `span` minutes on. `requests` is their count, `data` the histograms.
    CREATE TABLE minutes (
        minute INTEGER NOT NULL,
        span INTEGER NOT NULL,
        server INTEGER NOT NULL,
        key INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (span, minute, server, key)
    ) WITHOUT ROWID;

    -- Lives of workers.
    CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        server INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX changes_at ON changes (at);

    -- Who has done what, each row with a hash over itself and the one before.
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        at_us INTEGER NOT NULL,
        who TEXT NOT NULL,
        what TEXT NOT NULL,
        why TEXT NOT NULL,
        before TEXT NOT NULL,
        after TEXT NOT NULL,
        hash TEXT NOT NULL
    );
    -- Where that chain begins and ends: `first_before` is the hash of the last row that has been given up.
    CREATE TABLE chain (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        first INTEGER NOT NULL,
        first_before TEXT NOT NULL,
        last INTEGER NOT NULL,
        last_hash TEXT NOT NULL
    );

    -- What an observer wants back after it was started again.
    CREATE TABLE state (
        server INTEGER NOT NULL,
        key TEXT NOT NULL,
        at REAL NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (server, key)
    );
",
    "
    -- What has changed about services: deploys, upgrades, settings, marks. `body` is the change as JSON.
    CREATE TABLE deploys (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        service TEXT NOT NULL,
        name TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX deploys_at ON deploys (at);

    -- What a service was last made of. It outlives its servers, which follow each other.
    CREATE TABLE services (
        service TEXT PRIMARY KEY,
        at REAL NOT NULL,
        body TEXT NOT NULL
    ) WITHOUT ROWID;
",
    "
    -- What is on its way to other hosts. `matter` is what it is about: the last word is enough.
    CREATE TABLE outgoing (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        subject TEXT NOT NULL,
        matter TEXT NOT NULL,
        id TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX outgoing_matter ON outgoing (subject, matter);
",
];

/// The schema that this version reads and writes.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// Returns the schema of a file; 0 for an empty one.
pub(super) fn version(connection: &Connection) -> Result<u32, StoreError> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Brings the tables up to date.
pub(super) fn migrate(connection: &Connection) -> Result<(), StoreError> {
    migrate_by(connection, MIGRATIONS)
}

fn migrate_by(connection: &Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let known = migrations.len() as u32;
    if refuse_newer(connection, known)? == known {
        return Ok(());
    }
    // Another server may be at the same: who is second finds nothing left to do.
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let found = refuse_newer(&transaction, known)?;
    for migration in &migrations[found as usize..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}

fn refuse_newer(connection: &Connection, known: u32) -> Result<u32, StoreError> {
    let found = version(connection)?;
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_done_once_and_in_order() {
        let connection = Connection::open_in_memory().expect("memory");
        let two = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y DEFAULT 7"];
        migrate_by(&connection, &two[..1]).expect("the first");
        connection.execute("INSERT INTO a VALUES (1)", []).expect("a row");
        for _ in 0..2 {
            migrate_by(&connection, &two).expect("the second");
            assert_eq!(version(&connection).expect("read"), 2);
        }
        let row = connection.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(row.expect("kept"), (1, 7));
    }

    #[test]
    fn one_that_fails_leaves_nothing_behind() {
        let connection = Connection::open_in_memory().expect("memory");
        assert!(migrate_by(&connection, &["CREATE TABLE a (x)", "no SQL"]).is_err());
        assert_eq!(version(&connection).expect("read"), 0);
        migrate(&connection).expect("the real ones find an empty file");
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let connection = Connection::open_in_memory().expect("memory");
        connection.pragma_update(None, "user_version", 99).expect("written");
        let error = migrate(&connection).expect_err("refused");
        assert_eq!(
            error.to_string(),
            format!(
                "a newer Ferricorn has written this store (schema 99, this version knows {VERSION}): use that version, or another folder"
            )
        );
        assert_eq!(version(&connection).expect("read"), 99);
    }
}
