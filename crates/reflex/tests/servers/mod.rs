//! Real databases for the tests: started below a temporary folder, ended with the value that stands for them. Where a program is
//! not installed, its tests say so and do nothing.
#![allow(dead_code, clippy::allow_attributes, reason = "no test uses all of it")]

pub mod mariadb;
pub mod pgbouncer;
pub mod postgres;

use ferricorn_core::evidence::Database;
use ferricorn_core::log::Level;
use ferricorn_reflex::database::{Cancelled, Connection, Databases, Question, Rhythm, Target, Victim};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is there.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// The first of these programs that is installed.
pub fn installed(patterns: &[&str]) -> Option<PathBuf> {
    patterns.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Says why a test does nothing.
#[expect(clippy::print_stdout, reason = "it is how tests tell")]
pub fn skip(why: &str) {
    println!("skipped: {why}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder for a server, which as root runs as another user.
pub struct Folder {
    folder: tempfile::TempDir,
    user: Option<&'static str>,
}

impl Folder {
    pub fn new(user: &'static str) -> Self {
        let folder = tempfile::Builder::new().prefix("reflex").tempdir_in("/tmp").expect("a folder");
        let user = is_root().then_some(user);
        if let Some(name) = user {
            let id = |flag| {
                let said = Command::new("id").args([flag, name]).output().expect("id").stdout;
                String::from_utf8_lossy(&said).trim().parse().ok()
            };
            chown(folder.path(), id("-u"), id("-g")).expect("given away");
        }
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        Self { folder, user }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command of the server's user.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
                command
            }
        };
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }
}

/// Makes `ca.pem`, and `server.pem` with its `server.key` for the name `localhost`; false without openssl.
pub fn certificates(folder: &Folder) -> bool {
    let Some(openssl) = installed(&["/usr/bin/openssl"]) else { return false };
    let run = |line: &str| {
        let made = folder.command(&openssl).args(line.split(' ')).output().expect("openssl");
        assert!(made.status.success(), "{line}: {}", String::from_utf8_lossy(&made.stderr));
    };
    let key = "-newkey rsa:2048 -nodes -days 2";
    run(&format!("req -x509 {key} -subj /CN=ca -keyout ca.key -out ca.pem"));
    run(&format!(
        "req -x509 {key} -CA ca.pem -CAkey ca.key -subj /CN=localhost -addext subjectAltName=DNS:localhost \
         -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.pem"
    ));
    true
}

/// A server's process.
pub struct Server(pub Child);

impl Server {
    pub fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("a log");
        let errors = log.try_clone().expect("a log");
        Self(command.stdout(log).stderr(errors).spawn().expect("started"))
    }

    pub fn end(&mut self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
            let _ = kill_process(pid, signal);
        }
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens.
pub fn listens(port: u16) {
    wait_for("a listener", || TcpStream::connect(("127.0.0.1", port)).ok());
}

/// Databases under test, with what they have said.
pub struct Asked {
    pub databases: Databases,
    pub lines: Vec<(Level, String)>,
    next: u64,
}

impl Asked {
    pub fn new(urls: &[String]) -> Self {
        Self::at(urls, Rhythm::default())
    }

    /// Waits for the first line of the log about one database.
    pub fn first_line(url: String) -> String {
        let mut asked = Self::new(&[url]);
        asked.line("Observer ")
    }

    pub fn at(urls: &[String], rhythm: Rhythm) -> Self {
        let targets = Target::all(urls).expect("targets");
        let databases = Databases::start_at(targets, rhythm).expect("started");
        Self { databases, lines: Vec::new(), next: 1 }
    }

    /// Waits for a line of the log.
    pub fn line(&mut self, part: &str) -> String {
        wait_for(part, || {
            self.lines.extend(self.databases.lines());
            self.lines.iter().map(|(_, line)| line).find(|line| line.contains(part)).cloned()
        })
    }

    pub fn ask(&mut self, mut question: Question) -> Vec<Database> {
        self.next += 1;
        question.id = self.next;
        assert!(self.databases.ask(question));
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut fds = [PollFd::new(&self.databases, PollFlags::IN)];
            let second = ferricorn_sys::clock::timespec(1_000_000_000);
            let _ = poll(&mut fds, Some(&second));
            self.lines.extend(self.databases.lines());
            for (id, databases) in self.databases.answers() {
                if id == self.next {
                    return databases;
                }
            }
        }
        panic!("no answer came: {:?}", self.lines);
    }

    /// Has a statement ended, and waits for what becomes of it.
    pub fn cancel(&mut self, victim: Victim) -> Cancelled {
        self.next += 1;
        assert!(self.databases.cancel(self.next, victim), "it takes the order");
        wait_for("what became of a statement", || {
            self.databases.cancelled().into_iter().find(|(id, _)| *id == self.next).map(|(_, what)| what)
        })
    }

    /// Asks until the answer is as it should be.
    pub fn until(&mut self, question: &Question, is: impl Fn(&[Database]) -> bool) -> Vec<Database> {
        let begun = Instant::now();
        loop {
            let databases = self.ask(question.clone());
            if is(&databases) {
                return databases;
            }
            assert!(begun.elapsed() < PATIENCE, "not as expected: {databases:#?} {:?}", self.lines);
        }
    }
}

/// A question about TCP connections of this process, by descriptor.
pub fn about(connections: &[(i32, SocketAddr, SocketAddr)]) -> Question {
    let connection = |(fd, local, peer): &(i32, SocketAddr, SocketAddr)| Connection {
        fd: *fd,
        local: local.to_string(),
        peer: peer.to_string(),
        unix_peer_inode: None,
    };
    Question {
        worker: std::process::id(),
        connections: connections.iter().map(connection).collect(),
        ..Question::default()
    }
}

/// A proxy that hides where connections come from; ends with the process.
pub fn proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    };
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(to) else { continue };
            copy(client.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
            copy(server, client);
        }
    });
    address
}
