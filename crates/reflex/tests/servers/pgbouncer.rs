//! A PgBouncer before a PostgreSQL.

use super::postgres::Postgres;
use super::{Server, free_port, installed, listens};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A pooler with one server connection for each pool.
pub struct Pgbouncer {
    pub port: u16,
    pub socket: PathBuf,
    server: Server,
}

impl Pgbouncer {
    /// Starts one; none if the program is not installed.
    pub fn start(behind: &Postgres) -> Option<Self> {
        let program = installed(&["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"])?;
        let port = free_port();
        let folder = behind.folder.path();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n\
             auth_type=trust\nauth_file={folder}/users\nstats_users=stats\npool_mode=transaction\n\
             default_pool_size=1\nmax_client_conn=77\nunix_socket_dir={folder}\n",
            behind.port,
            folder = folder.display(),
        );
        std::fs::write(folder.join("users"), "\"tests\" \"\"\n\"stats\" \"\"\n").expect("written");
        std::fs::write(folder.join("pgbouncer.ini"), config).expect("written");
        let mut command = behind.folder.command(&program);
        command.arg(folder.join("pgbouncer.ini"));
        let server = Server::start(command, &folder.join("pgbouncer.log"));
        listens(port);
        Some(Self { port, socket: folder.join(format!(".s.PGSQL.{port}")), server })
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn url(&self) -> String {
        format!("pgbouncer://stats@127.0.0.1:{}/", self.port)
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        self.server.end(Signal::INT);
    }
}
