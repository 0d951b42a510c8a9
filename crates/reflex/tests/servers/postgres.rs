//! A PostgreSQL, and clients of it that know their own sockets.

use super::{Folder, Server, free_port, wait_for};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::types::Type;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// A cluster of its own.
pub struct Postgres {
    pub folder: Folder,
    pub port: u16,
    pub binaries: PathBuf,
    server: Server,
}

impl Postgres {
    /// Starts one; none if the program is not installed.
    pub fn start(settings: &[&str]) -> Option<Self> {
        Self::start_in(Folder::new("postgres"), settings)
    }

    /// Starts one in a folder.
    pub fn start_in(folder: Folder, settings: &[&str]) -> Option<Self> {
        let binaries = binaries()?;
        let data = folder.path().join("data");
        let made = folder
            .command(&binaries.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "tests", "--auth", "trust", "--no-sync", "--locale", "C.UTF-8"])
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let server = run(&folder, &binaries, port, settings);
        Some(Self { folder, port, binaries, server })
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    pub fn url(&self, user: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// Whether it can count statements.
    pub fn can_count() -> bool {
        configured("--pkglibdir")
            .is_some_and(|folder| Path::new(&folder).join("pg_stat_statements.so").exists())
    }

    /// Whether it was built with TLS.
    pub fn can_encrypt() -> bool {
        configured("--configure").is_some_and(|options| options.contains("ssl"))
    }

    /// Ends it at once.
    pub fn stop(&mut self) {
        self.server.end(Signal::INT);
    }

    /// Starts it again.
    pub fn again(&mut self) {
        self.server = run(&self.folder, &self.binaries, self.port, &[]);
    }
}

fn run(folder: &Folder, binaries: &Path, port: u16, settings: &[&str]) -> Server {
    let mut command = folder.command(&binaries.join("postgres"));
    command.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path());
    command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    let server = Server::start(command, &folder.path().join("log"));
    // It listens before it is ready.
    wait_for("PostgreSQL", || {
        let mut ready = std::process::Command::new(binaries.join("pg_isready"));
        let ready =
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status().expect("pg_isready");
        ready.success().then_some(())
    });
    server
}

/// How it was built.
fn configured(what: &str) -> Option<String> {
    let said = std::process::Command::new(binaries()?.join("pg_config")).arg(what).output().ok()?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// That of the variable, to try another version, or the newest one that is installed.
fn binaries() -> Option<PathBuf> {
    let own = std::env::var_os("FERRICORN_TEST_POSTGRES").map(PathBuf::from);
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    own.or_else(|| found.pop()).filter(|folder| folder.join("postgres").exists())
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client with a connection and a thread of its own.
pub struct Session {
    jobs: mpsc::Sender<(String, Option<i32>)>,
    done: mpsc::Receiver<Result<Vec<String>, String>>,
    pub fd: i32,
    /// This end of a TCP connection.
    pub local: Option<SocketAddr>,
    /// The inode of this end of a unix socket's connection.
    pub inode: Option<u64>,
}

impl Session {
    /// Connects by TCP.
    pub fn tcp(to: SocketAddr, user: &str) -> Self {
        let stream = wait_for("a connection", || std::net::TcpStream::connect(to).ok());
        stream.set_nonblocking(true).expect("set");
        let (fd, local) = (stream.as_raw_fd(), stream.local_addr().ok());
        Self::of(fd, local, user, move || TcpStream::from_std(stream).expect("registered"))
    }

    /// Connects by a unix socket.
    pub fn unix(path: &Path, user: &str) -> Self {
        let stream = std::os::unix::net::UnixStream::connect(path).expect("connected");
        stream.set_nonblocking(true).expect("set");
        let fd = stream.as_raw_fd();
        Self::of(fd, None, user, move || UnixStream::from_std(stream).expect("registered"))
    }

    fn of<S>(
        fd: i32,
        local: Option<SocketAddr>,
        user: &str,
        stream: impl FnOnce() -> S + Send + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (jobs, asked) = mpsc::channel::<(String, Option<i32>)>();
        let (answer, done) = mpsc::channel();
        let mut config = Config::new();
        config.user(user).dbname("postgres").application_name("shop");
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (client, connection) = config.connect_raw(stream(), NoTls).await.expect("connected");
                tokio::spawn(connection);
                let _ = answer.send(Ok(Vec::new()));
                while let Ok((query, value)) = asked.recv() {
                    if let Some(value) = value {
                        let rows = client.query_typed(&query, &[(&value, Type::INT4)]).await;
                        let _ = answer.send(rows.map(|_| Vec::new()).map_err(|error| error.to_string()));
                        continue;
                    }
                    let rows = client.simple_query(&query).await.map_err(|error| error.to_string());
                    let first = |messages: Vec<SimpleQueryMessage>| {
                        let rows = messages.into_iter().filter_map(|message| match message {
                            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                            _ => None,
                        });
                        rows.collect()
                    };
                    let _ = answer.send(rows.map(first));
                }
            });
        });
        let inode = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok();
        let inode =
            inode.and_then(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        let session = Self { jobs, done, fd, local, inode: inode.filter(|_| local.is_none()) };
        session.wait().expect("connected");
        session
    }

    /// Runs a statement; returns the first column.
    pub fn run(&self, query: &str) -> Vec<String> {
        self.begin(query);
        self.wait().expect(query)
    }

    /// Begins a statement.
    pub fn begin(&self, query: &str) {
        self.jobs.send((query.to_owned(), None)).expect("its thread lives");
    }

    /// Begins a statement with a parameter.
    pub fn begin_with(&self, query: &str, value: i32) {
        self.jobs.send((query.to_owned(), Some(value))).expect("its thread lives");
    }

    /// Waits for the end of the statement that was begun.
    pub fn wait(&self) -> Result<Vec<String>, String> {
        self.done.recv_timeout(Duration::from_secs(60)).map_err(|error| error.to_string())?
    }

    /// The pid of its backend.
    pub fn pid(&self) -> u32 {
        self.run("select pg_backend_pid()")[0].parse().expect("a pid")
    }
}
