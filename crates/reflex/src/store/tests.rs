//! The store as a file that several have open, and that outlives those who write it; and what the tests of the tables share.

use super::bounds::Bounds;
use super::{FILE, RecordFilter, Store, StoreError, place, schema};
use ferricorn_core::evidence::{Evidence, Frame, Source, Thread};
use ferricorn_core::incident::{Incident, State};
use ferricorn_core::record::{Death, Outcome, Record, Request, SCHEMA, Server, Timeout, Worker};
use ferricorn_core::snapshot::Kind;
use rusqlite::Connection;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Names the folder that a child of a test writes to.
const CHILD: &str = "FERRICORN_TEST_STORE";

pub(super) fn opened(bounds: Bounds) -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::create_within(folder.path(), bounds).expect("a store");
    (folder, store)
}

pub(super) fn server(number: u32) -> Server {
    Server { pid: number, name: "shop".into(), version: "1".into(), started_ns: 7, kind: Kind::Ferricorn }
}

pub(super) fn incident(id: &str, state: State, at_s: f64) -> Incident {
    Incident {
        id: id.into(),
        server: server(1),
        state,
        verdict: "a service does not answer, and the call has no timeout".into(),
        noted_at: at_s,
        opened_at: (state != State::Note).then_some(at_s),
        last_at: at_s,
        ..Incident::default()
    }
}

pub(super) fn death(at_s: f64, pid: u32) -> Record {
    Record::Death(Box::new(Death {
        schema: SCHEMA,
        at_s,
        server: server(1),
        worker: Worker { pid, ..Worker::default() },
        cause: "it was sent SIGKILL".into(),
        requests: Vec::new(),
        evidence: Vec::new(),
        incident: None,
    }))
}

/// A late request, looked at three times.
pub(super) fn late(at_s: f64, pid: u32, number: u64) -> Record {
    let id = format!("{pid}-{number}");
    let frames: Vec<Frame> = (0..12)
        .map(|depth| Frame {
            function: "rates".into(),
            file: format!("/srv/shop/part{depth}.py"),
            line: 41,
            ..Frame::default()
        })
        .collect();
    let thread = Thread { request: Some(id.clone()), frames: frames.clone(), ..Thread::default() };
    let look = |percent| Evidence {
        percent,
        threads: vec![thread.clone(), Thread::default()],
        ..Evidence::default()
    };
    Record::Timeout(Box::new(Timeout {
        schema: SCHEMA,
        at_s,
        server: server(1),
        worker: Worker { pid, ..Worker::default() },
        request: Request { id, method: "GET".into(), path: "/report".into(), ..Request::default() },
        answer: "answered 504".into(),
        answered_by: "worker".into(),
        thread: Outcome::Ended,
        doing: "sleeping".into(),
        source: Source::Outside,
        frames,
        evidence: [50, 80, 95].map(look).to_vec(),
        concurrent: vec![Request::default(); 3],
        diagnosis: None,
        incident: None,
    }))
}

fn count(store: &Store) -> usize {
    store.records(&RecordFilter::default()).expect("read").len()
}

/// Says whether every page is what it should be.
fn intact(folder: &Path) -> String {
    let connection = Connection::open(folder.join(FILE)).expect("opened");
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked")
}

#[test]
fn a_store_is_its_users_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let below = folder.path().join("state/ferricorn");
    let store = Store::create(&below).expect("made");
    store.append(&death(1.0, 7)).expect("kept");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&below), 0o700);
    for file in fs::read_dir(&below).expect("read") {
        assert_eq!(mode(&file.expect("a file").path()), 0o600);
    }
    let mode: String =
        store.connection().query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("read");
    assert_eq!(mode, "wal");
}

#[test]
fn what_is_no_store_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Missing(_))));
    let nowhere = Store::open(&folder.path().join("nowhere")).expect_err("none");
    assert_eq!(nowhere.kind(), Some(std::io::ErrorKind::NotFound));
    assert!(matches!(Store::create(Path::new("/proc/nothing")), Err(StoreError::Unreachable { .. })));
    fs::write(folder.path().join(FILE), "x".repeat(10_000)).expect("written");
    for error in [
        Store::open(folder.path()).expect_err("no store"),
        Store::create(folder.path()).expect_err("no store"),
    ] {
        assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
        assert!(error.to_string().contains("move `reflex.sqlite` away"));
    }
}

#[test]
fn other_versions_are_told_from_this_one() {
    let (folder, store) = opened(Bounds::default());
    store.connection().pragma_update(None, "user_version", schema::VERSION + 1).expect("written");
    assert!(matches!(Store::create(folder.path()), Err(StoreError::Newer { .. })));
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Newer { .. })));
    store.connection().pragma_update(None, "user_version", 0).expect("written");
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Missing(_))), "just being made");
}

#[test]
fn a_damaged_store_is_an_error_and_no_harm() {
    let (folder, store) = opened(Bounds::default());
    (0..500).for_each(|number| store.append(&late(f64::from(number) * 3600.0, 7, 1)).expect("kept"));
    drop(store);
    let path = folder.path().join(FILE);
    let mut bytes = fs::read(&path).expect("read");
    bytes[4096..].iter_mut().for_each(|byte| *byte = 0xa5);
    fs::write(&path, bytes).expect("written");
    let error = match Store::create(folder.path()) {
        Ok(store) => store.append(&late(1.0, 7, 1)).expect_err("damaged"),
        Err(error) => error,
    };
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
}

#[test]
fn viewers_read_while_somebody_writes() {
    let (folder, store) = opened(Bounds::default());
    store.append(&death(1.0, 7)).expect("kept");
    let viewer = Store::open(folder.path()).expect("opened");
    assert_eq!(count(&viewer), 1);
    // In the middle of a transaction, what was there before is seen.
    store.connection().execute_batch("BEGIN IMMEDIATE; DELETE FROM records").expect("begun");
    assert_eq!(count(&viewer), 1);
    assert_eq!(count(&Store::open(folder.path()).expect("opened")), 1);
    store.connection().execute_batch("ROLLBACK").expect("ended");
    store.append(&death(2.0, 7)).expect("kept");
    assert_eq!(count(&viewer), 2);
    assert!(matches!(viewer.append(&death(3.0, 7)), Err(StoreError::ReadOnly)));
    assert!(!viewer.has_moved());
}

#[test]
fn a_reader_without_end_cannot_make_the_journal_grow_without_end() {
    let bounds = Bounds { journal_bytes: 256 << 10, ..Bounds::default() };
    let (folder, store) = opened(bounds);
    store.append(&death(1.0, 7)).expect("kept");
    let reader = Connection::open(folder.path().join(FILE)).expect("opened");
    reader.execute_batch("BEGIN; SELECT count(*) FROM records").expect("begun");
    let written = (0..10_000_u32).map(|number| store.append(&late(f64::from(number) * 3600.0, 7, 1)));
    let error = written.into_iter().find_map(Result::err).expect("refused");
    assert!(matches!(error, StoreError::Busy), "{error:?}");
    let journal = || fs::metadata(place::wal(folder.path())).expect("there").len();
    assert!(journal() < 300 << 10, "{}", journal());
    reader.execute_batch("COMMIT").expect("ended");
    store.append(&death(2.0, 7)).expect("kept again");
    assert!(journal() < 256 << 10);
}

#[test]
fn a_burst_is_quickly_written() {
    let (_folder, store) = opened(Bounds::default());
    let records: Vec<Record> =
        (0..10_000_u32).map(|number| late(f64::from(number % 7), 7, number.into())).collect();
    let begun = Instant::now();
    store.append_all(&records).expect("kept");
    // It takes a quarter of a second; this finds what would need a transaction for each.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(count(&store), 500);
}

/// Does something until nobody else is in the way, which a slow machine can make long.
fn patiently<T>(mut work: impl FnMut() -> Result<T, StoreError>) -> T {
    let begun = Instant::now();
    loop {
        match work() {
            Err(StoreError::Busy) if begun.elapsed() < Duration::from_secs(20) => {}
            done => return done.expect("done"),
        }
    }
}

#[test]
fn several_servers_write_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    // All of them make it, too.
    let write = |pid: u32| {
        let store = patiently(|| Store::create(folder.path()));
        let mut ids = Vec::new();
        for number in 0..200 {
            // Each in an hour of its own.
            let mut record = late(f64::from(number) * 3600.0, pid, 1);
            let Record::Timeout(timeout) = &mut record else { unreachable!() };
            timeout.server = server(pid);
            patiently(|| store.append(&record));
            ids.push(patiently(|| store.next_id(0.0)));
        }
        ids
    };
    let mut ids: Vec<String> = thread::scope(|scope| {
        let threads = [1, 2, 3].map(|pid| scope.spawn(move || write(pid)));
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 600, "each name once");
    let store = Store::open(folder.path()).expect("opened");
    assert_eq!(count(&store), 600);
    let servers = store.connection().query_row("SELECT count(*) FROM servers", [], |row| row.get(0));
    assert_eq!(servers, Ok(3));
    assert_eq!(intact(folder.path()), "ok");
}

/// The child of the next test: writes until it is killed, and says each number when it is kept.
#[test]
fn child_that_writes() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = Store::create(Path::new(&folder)).expect("a store");
    let mut out = std::io::stdout();
    for number in 0_u32.. {
        let records: Vec<Record> = (0..3).map(|_| late(f64::from(number) * 3600.0, 7, 1)).collect();
        store.append_all(&records).expect("kept");
        std::io::Write::write_all(&mut out, format!("\nkept {number}\n").as_bytes()).expect("said");
    }
}

/// Starts a child that writes, and waits until it has written so many times.
fn writer(folder: &Path, until: u32) -> (Child, impl Iterator<Item = u32>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::tests::child_that_writes", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut kept =
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("kept ")?.parse::<u32>().ok());
    kept.by_ref().find(|number| *number >= until).expect("it writes");
    (child, kept)
}

fn kill(child: &mut Child) {
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

/// Does something as a user who has no rights here; none where this user cannot become another.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    let nobody = rustix::process::Uid::from_raw(65_534);
    thread::scope(|scope| {
        let become_nobody = || rustix::thread::set_thread_res_uid(nobody, nobody, nobody);
        scope.spawn(move || become_nobody().is_ok().then(work)).join().expect("no panic")
    })
}

#[test]
fn a_folder_that_cannot_be_written_to_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    // Others may look and not write; root's rights must not help them.
    let open_to_all = || {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("changed");
        for file in fs::read_dir(path).expect("read") {
            let file = file.expect("a file").path();
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("changed");
        }
    };
    let seen = || as_nobody(|| Store::open(path).map(|store| count(&store)));
    let (mut child, kept) = writer(path, 5);
    open_to_all();
    let Some(alive) = seen() else {
        kill(&mut child);
        return;
    };
    assert!(alive.expect("beside the writer") >= 15);
    kill(&mut child);
    let last = kept.last().unwrap_or(5) as usize;
    let after = seen().expect("nobody").expect("what the dead has left");
    assert!(after >= 3 * last, "{after} {last}");
    // SQLite would have to write to read that.
    fs::remove_file(path.join(format!("{FILE}-shm"))).expect("removed");
    let error = seen().expect("nobody").expect_err("a journal");
    assert!(matches!(error, StoreError::Unfinished(_)), "{error:?}");
    drop(Store::create(path).expect("who may write puts it in order"));
    assert!(!place::wal(path).exists());
    assert_eq!(seen().expect("nobody").expect("nothing waits"), after);
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("changed");
    let error = seen().expect("nobody").expect_err("no right to look");
    assert_eq!(error.kind(), Some(std::io::ErrorKind::PermissionDenied), "{error:?}");
}

#[test]
fn a_writer_that_is_killed_leaves_a_whole_store() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 1..=5 {
        let until = round * 10;
        let (mut child, kept) = writer(folder.path(), until);
        // Somewhere in its next transactions.
        kill(&mut child);
        let said = kept.last().unwrap_or(until);
        // Who comes first after that finds the journal of the dead, whether it only reads or not.
        let viewer = Store::open(folder.path()).expect("opened");
        let hours = |store: &Store| -> i64 {
            let query = "SELECT count(DISTINCT hour) FROM records GROUP BY hour HAVING count(*) < 3";
            let torn = store.connection().query_row(query, [], |row| row.get::<_, i64>(0)).unwrap_or(0);
            assert_eq!(torn, 0, "a transaction is there as a whole, or not");
            let query = "SELECT max(hour) FROM records";
            store.connection().query_row(query, [], |row| row.get(0)).expect("read")
        };
        assert!(hours(&viewer) >= i64::from(said), "what was kept is there");
        let store = Store::create(folder.path()).expect("opened to write");
        store.connection().execute("DELETE FROM records", []).expect("emptied");
        store.connection().execute("DELETE FROM signatures", []).expect("emptied");
        drop(store);
        assert_eq!(intact(folder.path()), "ok");
    }
}
