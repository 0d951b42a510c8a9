//! Deeds on real processes: who is meant is hit, and nobody else.

use super::*;
use std::cell::RefCell;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A database that answers when it is told to.
#[derive(Default)]
struct Database {
    told: RefCell<Vec<(u64, Victim)>>,
    answers: RefCell<Vec<(u64, Cancelled)>>,
}

impl Cancels for Database {
    fn cancel(&self, id: u64, victim: &Victim) -> bool {
        let known = victim.database == "db";
        if known {
            self.told.borrow_mut().push((id, victim.clone()));
        }
        known
    }

    fn cancelled(&self) -> Vec<(u64, Cancelled)> {
        self.answers.borrow_mut().drain(..).collect()
    }
}

fn child(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).spawn().expect("a child")
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn victim() -> Victim {
    Victim { database: "db".into(), pid: 7, session_us: 1, statement_us: 2 }
}

#[test]
fn a_statement_is_ended_by_its_database_or_given_up() {
    let (mut hands, database) = (Hands::default(), Database::default());
    assert_eq!(hands.begin(1, &Deed::Cancel(victim()), &database, 0.0), None);
    assert_eq!(hands.begin(2, &Deed::Cancel(victim()), &database, 0.0), None);
    assert_eq!(*database.told.borrow(), [(1, victim()), (2, victim())]);
    assert_eq!(hands.tick(&database, 1.0), []);
    database.answers.borrow_mut().extend([(1, Cancelled::Over), (9, Cancelled::Yes)]);
    assert_eq!(hands.tick(&database, 2.0), [(1, Done::Over("the statement has ended by itself".into()))]);
    let ended = hands.tick(&database, CANCEL_S + 1.0);
    assert!(matches!(&ended[..], [(2, Done::Failed(why))] if why.contains("is not known")), "{ended:?}");
    assert_eq!(hands.tick(&database, 99.0), []);
    let unknown = Victim { database: "another".into(), ..victim() };
    let done = hands.begin(3, &Deed::Cancel(unknown), &database, 0.0);
    assert!(matches!(done, Some(Done::Failed(why)) if why.contains("--reflex-database")));
}

#[test]
fn a_worker_ends_by_itself_or_is_killed_and_a_stranger_is_left_alone() {
    let database = Database::default();
    let mut hands = Hands::of(std::process::id(), None);
    let mut gentle = child("exec sleep 60");
    let mut deaf = child("trap '' ABRT; while :; do sleep 0.05; done");
    // From now on it is deaf: SIGABRT is the sixth.
    let ignored = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask =
            status.lines().find_map(|line| line.strip_prefix("SigIgn:").map(|mask| mask.trim().to_owned()));
        mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).is_some_and(|mask| mask & 1 << 5 != 0)
    };
    until(|| ignored(deaf.id()).then_some(()));
    for (id, worker) in [(1, &gentle), (2, &deaf)] {
        assert_eq!(hands.begin(id, &Deed::End { pid: worker.id() }, &database, 0.0), None);
    }
    let first = until(|| hands.tick(&database, 0.1).pop());
    assert_eq!(first, (1, Done::Yes(format!("worker {} has ended", gentle.id()))));
    let second = until(|| hands.tick(&database, ABORT_S + 0.1).pop());
    assert_eq!(second, (2, Done::Yes(format!("worker {} has ended", deaf.id()))));
    gentle.wait().expect("reaped");
    deaf.wait().expect("reaped");
    let done = hands.begin(3, &Deed::End { pid: gentle.id() }, &database, 0.0);
    assert!(matches!(done, Some(Done::Over(_))), "{done:?}");
    let parent = crate::process::stat(std::process::id()).expect("there").parent;
    let done = hands.begin(4, &Deed::End { pid: parent }, &database, 0.0);
    assert!(
        matches!(&done, Some(Done::Failed(why)) if why.contains("is no worker of this server")),
        "{done:?}"
    );
}

#[test]
fn the_arbiter_is_told_by_signals_while_it_lives() {
    let database = Database::default();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let script = format!(
        "for s in TTIN TTOU HUP; do trap \"echo $s >> {0}\" $s; done; echo begun >> {0}; while :; do sleep 0.01; done",
        log.display()
    );
    let mut arbiter = child(&script);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until(|| lines().contains("begun").then_some(()));
    let mut hands = Hands::of(arbiter.id(), None);
    for (deed, name) in [(Deed::Add(1), "TTIN"), (Deed::Remove(1), "TTOU"), (Deed::Recycle, "HUP")] {
        let done = hands.begin(1, &deed, &database, 0.0);
        assert!(matches!(&done, Some(Done::Yes(text)) if text.ends_with(&format!("SIG{name}"))), "{done:?}");
        until(|| lines().contains(name).then_some(()));
    }
    arbiter.kill().expect("ended");
    arbiter.wait().expect("reaped");
    assert_eq!(
        hands.begin(2, &Deed::Add(1), &database, 0.0),
        Some(Done::Over("the arbiter has ended".into()))
    );
}

#[test]
fn a_new_master_does_nothing_until_it_is_let_go_and_ends_with_who_would_let_it() {
    let code = "import socket, time; listens = socket.create_server(('127.0.0.1', 0)); time.sleep(60)";
    let mut old = Command::new("python3").args(["-c", code]).spawn().expect("a child");
    let pid = old.id();
    let copy = || until(|| Process::open(pid).and_then(|old| launch::Copy::of(&old).ok()));
    let (process, held) = copy().start().expect("started");
    assert!(process.lives());
    drop(held);
    until(|| (!process.lives()).then_some(()));
    let (process, held) = copy().start().expect("started");
    let words = |pid: u32| crate::process::command_line(pid);
    assert_ne!(words(process.pid), words(pid));
    held.let_go().expect("let go");
    until(|| (words(process.pid) == words(pid)).then_some(()));
    process.send(Signal::KILL).expect("ended");
    old.kill().and_then(|()| old.wait()).expect("ended");
}
