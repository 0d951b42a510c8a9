//! Another master in the place of a stock Gunicorn's: one whose loop turns starts its successor itself (`USR2`); in the place of one
//! whose loop stands, the successor is started from outside, with the same command line, environment and listening sockets. Either way
//! the old one goes once the new one's workers serve, and stays if they do not.
//!
//! Not for: whether that is a good idea ([`ferricorn_core::policy`]), and not for finding out that a loop stands
//! ([`crate::engine`]).

use super::Done;
use crate::process::{self, Process};
use crate::source::gunicorn::Serving;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::socket_acceptconn;
use rustix::process::Signal;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How long a new master has until its workers serve, and how long they must have served; seconds.
const BOOT_S: f64 = 120.0;
const SERVED_S: f64 = 3.0;
/// Runs in the old master's interpreter: puts the listening sockets where socket activation has them (sd_listen_fds(3)), which
/// Gunicorn has known since version 19, and becomes the old command.
const LAUNCH: &str = "\
import fcntl, os, sys
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 512) for fd in sys.argv[1].split(',')]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(high), 1024)
os.setsid()
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)))
os.execvp(sys.argv[2], sys.argv[2:])
";

/// A succession that is under way.
#[derive(Debug)]
pub(super) struct Succession {
    old: Process,
    begun_s: f64,
    /// Workers that the old one had.
    workers: usize,
    next: Option<Next>,
    how: How,
    /// The new one's pid, once the old one was ended.
    successor: Option<u32>,
}

/// The new master.
#[derive(Debug)]
struct Next {
    process: Process,
    serving: Serving,
    /// Since when its workers serve.
    since_s: Option<f64>,
}

impl Next {
    /// None if it has ended.
    fn of(process: Process) -> Option<Self> {
        Some(Self { serving: Serving::of(&process)?, process, since_s: None })
    }
}

#[derive(Debug)]
enum How {
    /// The old one starts it, who had these children before.
    Upgrade { children: Vec<u32> },
    /// We have started it. Whether the old one's loop stands still is told by how often it has slept; its pidfile was moved.
    Beside { switches: u64, pidfile: Option<Moved> },
}

impl Succession {
    /// Has a master start its successor.
    ///
    /// # Errors
    /// It cannot be sent a signal.
    pub(super) fn upgrade(old: Process, now_s: f64) -> Result<Self, String> {
        let children = process::children(old.pid);
        let workers = Serving::of(&old).map_or(0, |mut serving| serving.count(now_s));
        let sent = old.send(Signal::USR2);
        sent.map_err(|error| format!("master {} cannot be sent USR2: {error}", old.pid))?;
        Ok(Self { old, begun_s: now_s, workers, next: None, how: How::Upgrade { children }, successor: None })
    }

    /// Starts one beside a master whose loop stands, which has slept so often by then.
    ///
    /// # Errors
    /// It turns again, it is not ours to start, or it cannot be started.
    pub(super) fn beside(
        old: Process,
        switches: u64,
        pidfile: Option<&Path>,
        now_s: f64,
    ) -> Result<Self, String> {
        if process::switches(old.pid) != Some(switches) {
            return Err("its loop turns again".to_owned());
        }
        let workers = Serving::of(&old).map_or(0, |mut serving| serving.count(now_s));
        let copy = Copy::of(&old)?;
        let pidfile = pidfile.and_then(|path| Moved::of(path, old.pid));
        let how = How::Beside { switches, pidfile };
        let mut it = Self { old, begun_s: now_s, workers, next: None, how, successor: None };
        match copy.start() {
            Ok(next) => {
                it.next = Some(next);
                Ok(it)
            }
            Err(why) => {
                it.give_up();
                Err(why)
            }
        }
    }

    /// Returns the new master, once the old one was ended.
    pub(super) fn successor(&self) -> Option<u32> {
        self.successor
    }

    /// Goes on; returns what has become of it once that is certain.
    pub(super) fn tick(&mut self, now_s: f64) -> Option<Done> {
        if self.next.is_none()
            && let How::Upgrade { children } = &self.how
        {
            self.next = successor(&self.old, children);
        }
        let waited_s = now_s - self.begun_s;
        let Some(next) = &mut self.next else {
            let text = "it has started no other: its error log tells why";
            return (waited_s > BOOT_S).then(|| Done::Failed(text.to_owned()));
        };
        let pid = next.process.pid;
        if !next.process.lives() {
            self.give_up();
            return Some(Done::Failed(format!(
                "master {pid} has ended without serving: the error log tells why"
            )));
        }
        // One that is wedged may have lost some.
        let serve = next.serving.count(now_s) >= self.workers.max(1);
        next.since_s = serve.then(|| next.since_s.unwrap_or(now_s));
        if next.since_s.is_some_and(|since_s| now_s - since_s >= SERVED_S) {
            return Some(self.hand_over(pid));
        }
        if waited_s > BOOT_S {
            self.give_up();
            let text = format!("the workers of master {pid} do not serve after {BOOT_S} s: it was ended");
            return Some(Done::Failed(text));
        }
        None
    }

    /// The new one serves: the old one goes.
    fn hand_over(&mut self, pid: u32) -> Done {
        let old = self.old.pid;
        let How::Beside { switches, pidfile } = &mut self.how else {
            return match self.old.send(Signal::TERM) {
                Ok(()) => {
                    Done::Yes(format!("master {pid} serves, and {old} ends with its workers' last requests"))
                }
                Err(error) => Done::Yes(format!("master {pid} serves; {old} cannot be told to end: {error}")),
            };
        };
        if process::switches(old) != Some(*switches) {
            self.give_up();
            return Done::Over("its loop turns again: the new master was ended".to_owned());
        }
        let workers: Vec<Process> = process::children(old).into_iter().filter_map(Process::open).collect();
        // First the one who would start others in their place; what it cannot hear, it need not be told.
        if let Err(error) = self.old.send(Signal::KILL) {
            let text = format!("master {old} cannot be ended: {error}");
            self.give_up();
            return Done::Failed(text);
        }
        self.successor = Some(pid);
        for worker in workers {
            // Who has ended by itself needs no telling.
            let _ = worker.send(Signal::TERM);
        }
        if let Some(moved) = pidfile.take() {
            moved.drop_old();
        }
        Done::Yes(format!(
            "master {pid} serves in the place of {old}, which was ended; its workers end with their last requests"
        ))
    }

    /// The new one goes, and all is as it was.
    fn give_up(&mut self) {
        if let Some(next) = self.next.take() {
            // Who has ended needs no telling.
            let _ = next.process.send(Signal::TERM);
        }
        if let How::Beside { pidfile, .. } = &mut self.how
            && let Some(moved) = pidfile.take()
        {
            moved.back();
        }
    }
}

/// Returns the child that has become a master.
fn successor(old: &Process, before: &[u32]) -> Option<Next> {
    let new = process::children(old.pid).into_iter().filter(|pid| !before.contains(pid));
    // Workers have no children that serve.
    new.filter(|pid| !process::children(*pid).is_empty()).filter_map(Process::open).find_map(Next::of)
}

/// What a master was started with.
struct Copy {
    command: Vec<String>,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    listeners: Vec<OwnedFd>,
    output: [Option<OwnedFd>; 2],
}

impl Copy {
    fn of(old: &Process) -> Result<Self, String> {
        let pid = old.pid;
        let ours = std::process::id();
        if process::owner(pid) != process::owner(ours) {
            return Err(format!(
                "master {pid} is another user's: its like can be started by that user alone"
            ));
        }
        if process::control_group(pid) != process::control_group(ours) {
            let text = "a service, or container, of its own: restart that";
            return Err(format!("master {pid} is in another control group than the observer, {text}"));
        }
        let command = process::command_line(pid);
        // setproctitle has written over it.
        if command.len() < 2 || command[0].starts_with("gunicorn: ") {
            return Err(format!("the command line of master {pid} cannot be read any more (setproctitle)"));
        }
        let unseen = || format!("the environment of master {pid} may not be seen");
        let environment = process::whole_environment(pid).ok_or_else(unseen)?;
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).map_err(|_| unseen())?;
        let of = |error: io::Error| format!("the sockets of master {pid} cannot be had: {error}");
        let mut listeners = Vec::new();
        for (fd, what) in process::descriptors(pid).ok_or_else(unseen)? {
            if what.starts_with("socket:") {
                let socket = old.borrow(fd).map_err(of)?;
                if socket_acceptconn(&socket) == Ok(true) && !is_control(&socket) {
                    listeners.push(socket);
                }
            }
        }
        if listeners.is_empty() {
            return Err(format!("master {pid} listens nowhere"));
        }
        Ok(Self { command, environment, folder, listeners, output: [1, 2].map(|fd| old.borrow(fd).ok()) })
    }

    fn start(self) -> Result<Next, String> {
        let name = self.command[0].clone();
        let cannot = |error: io::Error| format!("{name} cannot be started: {error}");
        let numbers: Vec<String> = self.listeners.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let [out, err] = self.output.map(|fd| fd.map_or_else(Stdio::null, Stdio::from));
        let mut command = Command::new(&name);
        command.args(["-I", "-c", LAUNCH]).arg(numbers.join(",")).args(&self.command);
        command.env_clear().envs(self.environment).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        for fd in &self.listeners {
            fcntl_setfd(fd, FdFlags::empty()).map_err(|error| cannot(error.into()))?;
        }
        let child = command.spawn().map_err(cannot)?;
        // It lives on without us.
        let next = Process::open(child.id()).and_then(Next::of);
        next.ok_or_else(|| "the new master has ended at once".to_owned())
    }
}

/// Tells whether it is the socket of Gunicorn's own control interface (from version 25 on), which each master makes anew.
fn is_control(socket: &OwnedFd) -> bool {
    let Ok(address) = rustix::net::getsockname(socket) else { return false };
    let Ok(unix) = rustix::net::SocketAddrUnix::try_from(address) else { return false };
    unix.path_bytes().is_some_and(|path| path.ends_with(b".ctl"))
}

/// A pidfile that was put aside, so that another master may write its own.
#[derive(Debug)]
struct Moved {
    path: PathBuf,
    aside: PathBuf,
}

impl Moved {
    /// None if that process's pid does not stand there.
    fn of(path: &Path, pid: u32) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let aside = PathBuf::from(format!("{}.wedged", path.display()));
        (text.trim() == pid.to_string() && fs::rename(path, &aside).is_ok())
            .then(|| Self { path: path.to_owned(), aside })
    }

    fn back(self) {
        // Whoever cannot write there any more has lost it anyway.
        let _ = fs::rename(&self.aside, &self.path);
    }

    fn drop_old(self) {
        let _ = fs::remove_file(&self.aside);
    }
}
