//! Starting another master with what a stock Gunicorn's was started with: command line, environment, folder, output and listening
//! sockets. Not for: when, and what becomes of the two ([`super::succession`]).

use crate::process::{self, Process};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::socket_acceptconn;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};

/// Runs in the old master's interpreter: puts the listening sockets where socket activation has them (sd_listen_fds(3)), which
/// Gunicorn has known since version 19, and becomes the old command. Before it does any of that it waits for a word; who would give
/// it may end before, and then it ends, too.
const LAUNCH: &str = "\
import fcntl, os, sys
os.read(0, 1) or sys.exit()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 512) for fd in sys.argv[1].split(',')]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(high), 1024)
os.setsid()
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)))
os.execvp(sys.argv[2], sys.argv[2:])
";

/// A new master that waits to be let go; it ends if it is dropped before.
#[derive(Debug)]
pub(super) struct Held(ChildStdin);

impl Held {
    /// Lets it begin.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn let_go(mut self) -> io::Result<()> {
        self.0.write_all(b".")
    }
}

/// What a master was started with.
pub(super) struct Copy {
    command: Vec<String>,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    listeners: Vec<OwnedFd>,
    output: [Option<OwnedFd>; 2],
}

impl Copy {
    /// Reads it.
    ///
    /// # Errors
    /// It may not be read, is not ours to start, or listens nowhere.
    pub(super) fn of(old: &Process) -> Result<Self, String> {
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

    /// Starts another, which does nothing until it is let go.
    ///
    /// # Errors
    /// It cannot be started, or has ended at once.
    pub(super) fn start(self) -> Result<(Process, Held), String> {
        let name = self.command[0].clone();
        let cannot = |error: io::Error| format!("{name} cannot be started: {error}");
        let numbers: Vec<String> = self.listeners.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let [out, err] = self.output.map(|fd| fd.map_or_else(Stdio::null, Stdio::from));
        let mut command = Command::new(&name);
        command.args(["-I", "-c", LAUNCH]).arg(numbers.join(",")).args(&self.command);
        command.env_clear().envs(self.environment).current_dir(&self.folder);
        command.stdin(Stdio::piped()).stdout(out).stderr(err);
        for fd in &self.listeners {
            fcntl_setfd(fd, FdFlags::empty()).map_err(|error| cannot(error.into()))?;
        }
        let mut child = command.spawn().map_err(cannot)?;
        let at_once = || "the new master has ended at once".to_owned();
        let held = child.stdin.take().map(Held).ok_or_else(at_once)?;
        // It lives on without us.
        Ok((Process::open(child.id()).ok_or_else(at_once)?, held))
    }
}

/// Tells whether it is the socket of Gunicorn's own control interface (from version 25 on), which each master makes anew.
fn is_control(socket: &OwnedFd) -> bool {
    let Ok(address) = rustix::net::getsockname(socket) else { return false };
    let Ok(unix) = rustix::net::SocketAddrUnix::try_from(address) else { return false };
    unix.path_bytes().is_some_and(|path| path.ends_with(b".ctl"))
}
