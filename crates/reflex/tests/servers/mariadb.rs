//! A MariaDB, and clients of it.

use super::{Folder, Server, free_port, installed, listens};
use mysql_async::OptsBuilder;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A server of its own.
pub struct Mariadb {
    pub folder: Folder,
    pub port: u16,
    server: Server,
}

impl Mariadb {
    /// Starts one; none if the program is not installed.
    pub fn start(settings: &[&str]) -> Option<Self> {
        Self::start_in(Folder::new("mysql"), settings)
    }

    /// Starts one in a folder.
    pub fn start_in(folder: Folder, settings: &[&str]) -> Option<Self> {
        let program = installed(&["/usr/sbin/mariadbd", "/usr/sbin/mysqld"])?;
        let install = installed(&["/usr/bin/mariadb-install-db"])?;
        let data = format!("--datadir={}/data", folder.path().display());
        let made = folder
            .command(&install)
            // Two of them at once do not get along in one folder for temporary tables.
            .env("TMPDIR", folder.path())
            .args(["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"])
            .output()
            .expect("installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let mut command = folder.command(&program);
        command.args(["--no-defaults", &data, &format!("--port={port}"), "--bind-address=127.0.0.1"]);
        command.arg(format!("--tmpdir={}", folder.path().display()));
        command.arg(format!("--socket={}/my.sock", folder.path().display()));
        command.arg(format!("--pid-file={}/my.pid", folder.path().display()));
        command.args(["--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"]).args(settings);
        let server = Server::start(command, &folder.path().join("log"));
        listens(port);
        Some(Self { folder, port, server })
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("my.sock")
    }

    pub fn url(&self, user: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}/", self.port)
    }

    /// How to connect by TCP.
    pub fn options(&self, user: &str) -> OptsBuilder {
        let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(self.port);
        options.user(Some(user)).prefer_socket(false)
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.server.end(Signal::TERM);
    }
}
