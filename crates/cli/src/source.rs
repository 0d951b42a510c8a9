//! Where a server is read: its scoreboard, or the observer of one that has none (a stock Gunicorn), over a unix socket
//! that lies in the state folder under the arbiter's pid. Everything that a viewer shows comes through here.
//!
//! Not for: finding scoreboards (`locate`), HTTP (`socket`).

use crate::command::Server;
use crate::failure::Failure;
use crate::locate::{self, Found};
use crate::socket;
use ferricorn_core::change::Standing;
use ferricorn_core::incident::Incident;
use ferricorn_core::scoreboard::Scoreboard;
use ferricorn_core::snapshot::{self, Kind, Snapshot, Unreadable};
use ferricorn_reflex::admin::socket_path;
use ferricorn_reflex::store;
use ferricorn_sys::clock;
use ferricorn_sys::shared::SharedMemory;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

/// Most sockets of one folder that are tried. Those of servers that were killed stay there.
const SOCKETS_MAX: usize = 256;

/// A way to read a server, again and again.
pub(crate) struct Source {
    way: Way,
    /// Readable once the arbiter has ended; none if the process cannot be seen from here.
    pub ended: Option<OwnedFd>,
}

enum Way {
    Board(SharedMemory<Scoreboard>),
    Socket(PathBuf),
}

impl Source {
    /// Finds the server that was asked for. `state_dir` is one more folder to look for sockets in.
    pub(crate) fn open(server: &Server, state_dir: Option<&Path>) -> Result<Self, Failure> {
        match server {
            Server::Pid(pid) => of_pid(*pid, state_dir, "check the pid: `pgrep -af 'ferricorn|gunicorn'`"),
            Server::Pidfile(path) => {
                let pid = locate::read_pidfile(path)?;
                let hint = format!("look whether the server that wrote {} still runs", path.display());
                of_pid(pid, state_dir, &hint)
            }
            Server::TheOne => {
                let found = all(state_dir);
                let one = locate::the_one(&found)?;
                match &one.socket {
                    None => of_pid(one.pid, state_dir, "try again: it may just have ended"),
                    Some(path) => Ok(Self::of_socket(one.pid, path.clone())),
                }
            }
        }
    }

    fn of_socket(pid: u32, path: PathBuf) -> Self {
        Self { way: Way::Socket(path), ended: pidfd(pid) }
    }

    /// Reads the server as it is now.
    pub(crate) fn read(&self) -> Result<Snapshot, Failure> {
        match &self.way {
            Way::Board(board) => read_board(board.value()),
            Way::Socket(path) => read_socket(path),
        }
    }

    /// Tells whether it remembers single requests that have finished: only a scoreboard does.
    pub(crate) fn remembers(&self) -> bool {
        matches!(self.way, Way::Board(_))
    }

    /// Returns the folder in which the server's records are kept, where that is known.
    pub(crate) fn state_dir(&self) -> Option<PathBuf> {
        match &self.way {
            Way::Board(board) => {
                Some(PathBuf::from(board.value().state_dir.load())).filter(|dir| !dir.as_os_str().is_empty())
            }
            Way::Socket(path) => path.parent().map(Path::to_owned),
        }
    }

    /// Returns where its observer answers, if it keeps a folder.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        match &self.way {
            Way::Socket(path) => Some(path.clone()),
            Way::Board(board) => {
                let pid = board.value().arbiter_pid.load(Relaxed);
                Some(socket_path(&self.state_dir()?, pid))
            }
        }
    }

    /// Asks the observer for incidents; none if nobody can be asked.
    pub(crate) fn incidents(&self) -> Option<Vec<Incident>> {
        incidents_of(&socket::get(&self.socket()?, "/incidents").ok()?)
    }

    /// Asks the observer what the workers run; none if nobody can be asked.
    pub(crate) fn standing(&self) -> Option<Standing> {
        #[derive(Deserialize)]
        struct Answer {
            standing: Standing,
        }
        let body = socket::get(&self.socket()?, "/changes").ok()?;
        serde_json::from_slice::<Answer>(&body).ok().map(|answer| answer.standing)
    }
}

/// Returns every server that this user may read: those with a scoreboard, and those that an observer looks at.
pub(crate) fn all(state_dir: Option<&Path>) -> Vec<Found> {
    let mut found = locate::running();
    for (pid, socket) in sockets(state_dir) {
        if found.iter().any(|server| server.pid == pid) || !socket::is_live(&socket) {
            continue;
        }
        let kind = read_socket(&socket).map_or(Kind::Gunicorn, |snapshot| snapshot.kind);
        found.push(Found { pid, command: locate::command_line(pid), kind, socket: Some(socket) });
    }
    let pids: Vec<u32> = found.iter().map(|server| server.pid).collect();
    found.retain(|server| !is_within(server.pid, &pids));
    found.sort_by_key(|server| server.pid);
    found
}

/// Tells whether a server is another one's, for its jobs: it is found by its own pid alone.
fn is_within(pid: u32, others: &[u32]) -> bool {
    locate::parent(pid).is_some_and(|parent| others.contains(&parent))
}

/// Returns the sockets of observers in the folders that are known, by the arbiter's pid.
fn sockets(state_dir: Option<&Path>) -> Vec<(u32, PathBuf)> {
    let mut folders: BTreeSet<PathBuf> = locate::state_dirs().into_iter().collect();
    folders.extend(store::default_folder());
    folders.extend(state_dir.map(Path::to_owned));
    let mut found = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| Some((pid_of(entry.file_name().to_str()?)?, entry.path())));
        found.extend(named.take(SOCKETS_MAX));
    }
    found.sort();
    found.dedup_by_key(|(pid, _)| *pid);
    found
}

/// Returns the sockets in a folder at which an observer answers.
pub(crate) fn live_sockets(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().and_then(pid_of).is_some());
    let mut found: Vec<(u32, PathBuf)> = named
        .take(SOCKETS_MAX)
        .filter_map(|entry| Some((pid_of(entry.file_name().to_str()?)?, entry.path())))
        .filter(|(_, path)| socket::is_live(path))
        .collect();
    let pids: Vec<u32> = found.iter().map(|(pid, _)| *pid).collect();
    found.retain(|(pid, _)| !is_within(*pid, &pids));
    found.into_iter().map(|(_, path)| path).collect()
}

fn pid_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".sock")?;
    digits.parse().ok().filter(|pid: &u32| *pid > 0 && pid.to_string() == digits)
}

/// Finds a server by the pid of its arbiter or of one of its workers.
fn of_pid(pid: u32, state_dir: Option<&Path>, hint: &str) -> Result<Source, Failure> {
    let board = locate::open_pid(pid, hint);
    if let Ok(Some(board)) = board {
        let arbiter = board.value().arbiter_pid.load(Relaxed);
        return Ok(Source { way: Way::Board(board), ended: pidfd(arbiter) });
    }
    let sockets = sockets(state_dir);
    for pid in [Some(pid), locate::parent(pid)].into_iter().flatten() {
        let live = sockets.iter().find(|(of, path)| *of == pid && socket::is_live(path));
        if let Some((_, path)) = live {
            return Ok(Source::of_socket(pid, path.clone()));
        }
    }
    board.and_then(|_| {
        Err(Failure::new(
            format!("process {pid} could not be read"),
            "it is not a Ferricorn: it holds no scoreboard, and no observer of it answers",
            format!(
                "{hint}; a stock Gunicorn needs an observer beside it (`--state-dir DIR` names its folder)"
            ),
        ))
    })
}

/// Reads incidents: a document that has them, or the list alone.
fn incidents_of(body: &[u8]) -> Option<Vec<Incident>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Answer {
        Document { incidents: Vec<Incident> },
        List(Vec<Incident>),
    }
    match serde_json::from_slice(body).ok()? {
        Answer::Document { incidents } | Answer::List(incidents) => Some(incidents),
    }
}

fn pidfd(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()
}

fn read_board(board: &Scoreboard) -> Result<Snapshot, Failure> {
    snapshot::read(board, clock::now_ns(), clock::wall_time_s()).map_err(|reason| match reason {
        Unreadable::NotAScoreboard => Failure::new(
            "the scoreboard could not be read",
            "the server has not filled it in yet",
            "try again in a moment",
        ),
        Unreadable::Version(other) => {
            let why = format!("its layout has number {other}, this program reads another");
            locate::another_version("the scoreboard could not be read", &why)
        }
    })
}

fn read_socket(path: &Path) -> Result<Snapshot, Failure> {
    let what = || format!("the observer at {} could not be asked", path.display());
    let body = socket::get(path, "/snapshot").map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "run this as the observer's user (`sudo -u USER ferricornctl ...`) or as root"
            }
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                "it has ended, or its server has; look into its log"
            }
            _ => "try again; if it stays so, look into the observer's log",
        };
        Failure::new(what(), error.to_string(), hint)
    })?;
    let snapshot: Snapshot = serde_json::from_slice(&body).map_err(|error| {
        locate::another_version(what(), &format!("its answer is not understood: {error}"))
    })?;
    match snapshot.schema {
        snapshot::SCHEMA => Ok(snapshot),
        other => Err(locate::another_version(what(), &format!("its answer has schema {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    /// An observer that answers so many requests.
    fn observer(path: &Path, times: usize, body: String) -> std::thread::JoinHandle<()> {
        let listener = UnixListener::bind(path).expect("bound");
        std::thread::spawn(move || {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().expect("accepted");
                let mut request = [0; 512];
                // Who only looks whether somebody listens asks nothing.
                if stream.read(&mut request).expect("read") > 0 {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    stream.write_all((head + &body).as_bytes()).expect("written");
                }
            }
        })
    }

    fn gunicorn(pid: u32) -> Snapshot {
        Snapshot { schema: snapshot::SCHEMA, kind: Kind::Gunicorn, arbiter_pid: pid, ..Snapshot::default() }
    }

    #[test]
    fn a_server_without_a_scoreboard_is_read_through_its_observer() {
        let folder = tempfile::tempdir().expect("a folder");
        // Above the kernel's largest pid: no scoreboard will be found there.
        let pid = 4_200_000_000;
        let body = serde_json::to_string(&gunicorn(pid)).expect("JSON");
        let served = observer(&folder.path().join(format!("{pid}.sock")), 2, body);
        let source = Source::open(&Server::Pid(pid), Some(folder.path())).expect("found");
        assert_eq!(source.read(), Ok(gunicorn(pid)));
        assert!(!source.remembers() && source.ended.is_none());
        assert_eq!(source.state_dir().as_deref(), Some(folder.path()));
        served.join().expect("served");
        let failure = source.read().expect_err("it has ended");
        assert_eq!(failure.hint, "it has ended, or its server has; look into its log");
    }

    #[test]
    fn an_answer_of_another_version_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("7.sock");
        for body in [
            "[]",
            "{\"schema\":1}",
            &serde_json::to_string(&Snapshot { schema: 99, ..gunicorn(7) }).expect("JSON"),
        ] {
            let served = observer(&path, 1, body.to_owned());
            let failure = read_socket(&path).expect_err("not understood");
            assert!(failure.hint.starts_with("use the `ferricornctl` of"), "{failure:?}");
            served.join().expect("served");
            fs::remove_file(&path).expect("removed");
        }
    }

    #[test]
    fn incidents_come_as_a_document_or_as_a_list() {
        let incident = Incident { id: "20261126-7".to_owned(), ..Incident::default() };
        let list = serde_json::to_string(&[&incident]).expect("JSON");
        let document = format!("{{\"schema\": 1, \"incidents\": {list}}}");
        for body in [list, document] {
            assert_eq!(incidents_of(body.as_bytes()), Some(vec![incident.clone()]), "{body}");
        }
        assert_eq!((incidents_of(b"{}"), incidents_of(b"404")), (None, None));
    }

    #[test]
    fn who_has_neither_is_explained() {
        let failure = Source::open(&Server::Pid(std::process::id()), None).map(drop).expect_err("a test");
        let why = "it is not a Ferricorn: it holds no scoreboard, and no observer of it answers";
        assert_eq!(failure.why, why);
    }

    #[test]
    fn sockets_are_named_by_pids() {
        let table = [
            ("7.sock", Some(7)),
            ("0.sock", None),
            ("07.sock", None),
            ("+7.sock", None),
            ("7.socket", None),
            (".sock", None),
            ("4294967296.sock", None),
        ];
        for (name, pid) in table {
            assert_eq!(pid_of(name), pid, "{name}");
        }
    }
}
