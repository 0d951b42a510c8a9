//! PgBouncer, through its console: which client waits for a server connection, which has one, and what is at the other end of
//! that. One more hop on the way from a descriptor to a session.
//!
//! [`console`] reads tables. Not for: what the database then says of the session ([`super::round`] asks it).

mod console;

use super::answer::{Answer, Client, End, Holder, Pool, Pooled, Server, Wanted};
use super::book::Book;
use super::cancel::{Cancelled, Victim};
use super::connect::{Wire, connect, words};
use super::facts::{Capacity, Facts};
use super::line::{Asked, Rhythm};
use super::target::Target;
use console::{Row, show};
use ferricorn_core::evidence::{Database, Service, Session};
use std::collections::BTreeMap;
use tokio_postgres::Error;

/// Most holders of server connections that are told.
const HOLDERS_MAX: usize = 2000;

/// A connection to PgBouncer's console.
pub(super) struct Pgbouncer {
    wire: Wire,
    name: String,
    config: Config,
}

/// What of its configuration matters.
#[derive(Clone, Copy, Debug, Default)]
struct Config {
    clients_max: u32,
    wait_timeout_s: f64,
    /// Several processes share its port, and each has a console that knows its own clients only.
    is_one_of_many: bool,
}

impl Asked for Pgbouncer {
    type Memory = ();

    async fn open(target: &Target, book: &Book, _: Rhythm) -> Result<Self, String> {
        let wire = connect(target, book).await.map_err(hint)?;
        let config = configuration(&wire).await.map_err(|error| hint(words(&error)))?;
        Ok(Self { wire, name: target.name(), config })
    }

    fn gaps(&self) -> Vec<String> {
        Vec::new()
    }

    async fn ask(&mut self, wanted: &[Wanted], (): &mut ()) -> Result<Answer, String> {
        self.look(wanted).await.map_err(|error| words(&error))
    }

    async fn cancel(&mut self, _: &Victim) -> Result<Cancelled, String> {
        Ok(Cancelled::Refused(
            "PgBouncer works on no statement itself: the database behind it must be named, too".to_owned(),
        ))
    }

    async fn calm(&mut self, (): &mut ()) -> Result<(), String> {
        // It can be changed while it runs.
        self.config = configuration(&self.wire).await.map_err(|error| words(&error))?;
        Ok(())
    }

    async fn ended(&mut self) {
        let _ = (&mut self.wire.ended).await;
    }
}

impl Pgbouncer {
    async fn look(&self, wanted: &[Wanted]) -> Result<Answer, Error> {
        let client = &self.wire.client;
        let clients = show(client, "CLIENTS").await?;
        let servers = show(client, "SERVERS").await?;
        let pools = pools(&show(client, "POOLS").await?, &show(client, "DATABASES").await?);
        let mut answer = Answer {
            about: Database {
                service: Service::Pgbouncer,
                name: self.name.clone(),
                connections: u32::try_from(clients.len()).unwrap_or(u32::MAX),
                connections_max: self.config.clients_max,
                ..Database::default()
            },
            ..Answer::default()
        };
        let by_address: BTreeMap<&str, &Row> = servers.iter().map(|row| (row.text("ptr"), row)).collect();
        let mut pooled = Pooled { wait_timeout_s: self.config.wait_timeout_s, ..Pooled::default() };
        for one in wanted {
            let (row, doubt) = match find(&clients, one, wanted) {
                Some(found) => found,
                None if one.sure && self.config.is_one_of_many => {
                    let gap = "PgBouncer is several processes (so_reuseport), and only one of them is asked: give each of them \
                               a port of its own for its console";
                    answer.gaps.push((one.key, gap.to_owned()));
                    continue;
                }
                None if one.sure => {
                    answer.missing.push(one.key);
                    continue;
                }
                None => continue,
            };
            answer.gaps.extend(doubt.map(|doubt| (one.key, doubt)));
            let server = by_address.get(row.text("link")).map(|row| server(row));
            let client = told(row, one.key, server, &pools);
            answer.sessions.push((one.key, session(&client, one.fd)));
            pooled.clients.push(client);
        }
        let by_address: BTreeMap<&str, &Row> = clients.iter().map(|row| (row.text("ptr"), row)).collect();
        let holders = servers.iter().filter_map(|row| {
            let client = by_address.get(row.text("link"))?;
            let pid = client.number("remote_pid");
            let (client, worker) = (client.address("addr", "port"), Some(pid).filter(|pid| *pid != 0));
            Some(Holder { server: server(row), client, worker })
        });
        pooled.holders = holders.take(HOLDERS_MAX).collect();
        pooled.pools = pools;
        answer.pooled = Some(pooled);
        Ok(answer)
    }
}

/// The row of a connection. At a unix socket a client is known by its pid alone.
fn find<'a>(clients: &'a [Row], one: &Wanted, all: &[Wanted]) -> Option<(&'a Row, Option<String>)> {
    match one.end {
        End::Tcp(address) => {
            let row = clients.iter().find(|row| row.address("addr", "port") == Some(address))?;
            Some((row, None))
        }
        End::Unix(_) if one.sure => {
            let mine = |other: &&Wanted| {
                other.worker == one.worker && other.sure && matches!(other.end, End::Unix(_))
            };
            // Who talks to the console waits for no database.
            let of_process =
                |row: &&Row| row.number("remote_pid") == one.worker && row.text("database") != "pgbouncer";
            let at = all.iter().filter(mine).position(|other| other.key == one.key)?;
            let row = clients.iter().filter(of_process).nth(at)?;
            let doubt = (all.iter().filter(mine).count() > 1).then(|| {
                format!(
                    "Which of the process's connections to PgBouncer descriptor {} is cannot be told: they are unix sockets",
                    one.fd
                )
            });
            Some((row, doubt))
        }
        _ => None,
    }
}

fn server(row: &Row) -> Server {
    Server {
        pid: row.number("remote_pid"),
        address: row.address("addr", "port"),
        from: row.address("local_addr", "local_port"),
    }
}

fn told(row: &Row, key: usize, server: Option<Server>, pools: &[Pool]) -> Client {
    let waits = row.text("state").contains("waiting");
    let same = |pool: &Pool| pool.database == row.text("database") && pool.user == row.text("user");
    // Up to version 1.22 `active` says nothing: it is who is not waiting.
    let state = if waits {
        "waiting"
    } else if server.is_some() {
        "active"
    } else {
        "idle"
    };
    Client {
        key,
        pool: pools.iter().position(same),
        state: state.to_owned(),
        wait_s: waits.then(|| row.seconds("wait", "wait_us")),
        server,
    }
}

/// What is known of a session as long as the database itself has not been asked.
fn session(client: &Client, fd: i32) -> Session {
    Session {
        pid: client.server.as_ref().map_or(0, |server| server.pid),
        fd: Some(fd),
        state: client.state.clone(),
        wait: if client.wait_s.is_some() { "Pooler/ServerConnection".to_owned() } else { String::new() },
        statement_s: client.wait_s.unwrap_or_default(),
        ..Session::default()
    }
}

fn pools(pools: &[Row], databases: &[Row]) -> Vec<Pool> {
    let pool = |row: &Row| {
        let database = databases.iter().find(|database| database.text("name") == row.text("database"));
        let number = |column: &str| database.map_or(0, |database| database.number(column));
        Pool {
            database: row.text("database").to_owned(),
            user: row.text("user").to_owned(),
            waiting: row.number("cl_waiting"),
            waiting_s: row.seconds("maxwait", "maxwait_us"),
            active: row.number("sv_active"),
            size: number("pool_size") + number("reserve_pool") + number("reserve_pool_size"),
            paused: number("paused") != 0,
        }
    };
    pools.iter().map(pool).collect()
}

async fn configuration(wire: &Wire) -> Result<Config, Error> {
    let rows = show(&wire.client, "CONFIG").await?;
    let value = |key: &str| rows.iter().find(|row| row.text("key") == key).map(|row| row.text("value"));
    Ok(Config {
        clients_max: value("max_client_conn").and_then(|value| value.parse().ok()).unwrap_or_default(),
        wait_timeout_s: value("query_wait_timeout").and_then(|value| value.parse().ok()).unwrap_or_default(),
        is_one_of_many: value("so_reuseport") == Some("1"),
    })
}

fn hint(why: String) -> String {
    format!("{why} (its user must be one of PgBouncer's stats_users or admin_users)")
}

/// What a PgBouncer allows.
pub(super) async fn facts(target: &Target, book: &Book) -> Result<Facts, String> {
    let wire = connect(target, book).await.map_err(hint)?;
    let asked: Result<Facts, Error> = async {
        let config = configuration(&wire).await?;
        let mode = show(&wire.client, "CONFIG").await?;
        let mode =
            mode.iter().find(|row| row.text("key") == "pool_mode").map(|row| row.text("value").to_owned());
        let databases = show(&wire.client, "DATABASES").await?;
        let own = |row: &&Row| row.text("name") != "pgbouncer";
        let pools = databases.iter().filter(own).map(|row| Capacity {
            database: row.text("name").to_owned(),
            mode: Some(row.text("pool_mode").to_owned())
                .filter(|mode| !mode.is_empty())
                .or(mode.clone())
                .unwrap_or_default(),
            size: row.number("pool_size"),
            reserve: row.number("reserve_pool") + row.number("reserve_pool_size"),
            max: row.number("max_connections"),
        });
        let version = show(&wire.client, "VERSION").await?;
        Ok(Facts {
            service: Service::Pgbouncer,
            name: target.name(),
            version: version.first().map(|row| row.text("version").to_owned()).unwrap_or_default(),
            connections: show(&wire.client, "CLIENTS").await?.len() as u32,
            connections_max: config.clients_max,
            pools: pools.collect(),
            wait_timeout_s: Some(config.wait_timeout_s),
            ..Facts::default()
        })
    }
    .await;
    asked.map_err(|error| words(&error))
}
