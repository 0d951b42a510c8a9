//! What is served at the other end of a worker's sockets: by who listens there, by the addresses that the worker's environment
//! names, by paths and ports that are usual. Of the environment, hosts and ports are taken, and nothing else.
//! Not for: asking the services.

use ferricorn_core::evidence::{Service, Socket};
use std::collections::BTreeMap;
use std::fs;

/// Most workers whose environment is remembered.
const KNOWN_MAX: usize = 256;
/// Bytes of an environment that are read.
const ENVIRON_MAX: usize = 256 << 10;

/// Programs by the name of their process.
const PROGRAMS: &[(&str, Service)] = &[
    ("postgres", Service::Postgres),
    ("postmaster", Service::Postgres),
    ("pgbouncer", Service::Pgbouncer),
    ("mysqld", Service::Mysql),
    ("mariadbd", Service::Mysql),
    ("redis-server", Service::Redis),
    ("valkey-server", Service::Redis),
    ("memcached", Service::Memcached),
    ("beam.smp", Service::Amqp),
    ("mongod", Service::Mongo),
];

/// Schemes of addresses.
const SCHEMES: &[(&str, Service)] = &[
    ("postgres", Service::Postgres),
    ("postgresql", Service::Postgres),
    ("mysql", Service::Mysql),
    ("mariadb", Service::Mysql),
    ("redis", Service::Redis),
    ("rediss", Service::Redis),
    ("amqp", Service::Amqp),
    ("amqps", Service::Amqp),
    ("mongodb", Service::Mongo),
    ("memcached", Service::Memcached),
];

/// Ports that are usual (IANA, and each project's documentation).
const PORTS: &[(u16, Service)] = &[
    (5432, Service::Postgres),
    (6432, Service::Pgbouncer),
    (3306, Service::Mysql),
    (6379, Service::Redis),
    (11211, Service::Memcached),
    (5672, Service::Amqp),
    (27017, Service::Mongo),
];

/// Names services, and remembers what the environments of workers say.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// Ports by worker.
    named: BTreeMap<u32, Vec<(u16, Service)>>,
}

impl Services {
    /// Returns what is served at the other end of a socket.
    pub(super) fn of(&mut self, pid: u32, socket: &Socket) -> Service {
        let owner = socket.owner.as_deref().unwrap_or_default();
        if let Some((_, service)) = PROGRAMS.iter().find(|(name, _)| *name == owner) {
            return *service;
        }
        if socket.kind == "unix" {
            return by_path(&socket.peer);
        }
        let Some(port) = socket.peer.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()) else {
            return Service::Other;
        };
        if socket.kind == "udp" {
            return if port == 53 { Service::Dns } else { Service::Other };
        }
        let in_list = |list: &[(u16, Service)]| {
            list.iter().find(|(known, _)| *known == port).map(|(_, service)| *service)
        };
        in_list(self.named(pid))
            .or_else(|| if owner.is_empty() { in_list(PORTS) } else { None })
            .unwrap_or_default()
    }

    /// Forgets a worker.
    pub(super) fn forget(&mut self, pid: u32) {
        self.named.remove(&pid);
    }

    fn named(&mut self, pid: u32) -> &[(u16, Service)] {
        if self.named.len() >= KNOWN_MAX && !self.named.contains_key(&pid) {
            self.named.clear();
        }
        self.named.entry(pid).or_insert_with(|| {
            let mut environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.truncate(ENVIRON_MAX);
            let found = environ
                .split(|byte| *byte == 0)
                .filter_map(|entry| address(&String::from_utf8_lossy(entry)))
                .collect();
            // Nothing of it stays in memory.
            environ.fill(0);
            found
        })
    }
}

fn by_path(path: &str) -> Service {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name {
        ".s.PGSQL.6432" => Service::Pgbouncer,
        _ if name.starts_with(".s.PGSQL.") => Service::Postgres,
        _ if name.contains("mysql") || name.contains("maria") => Service::Mysql,
        _ if name.contains("redis") || name.contains("valkey") => Service::Redis,
        _ => Service::Other,
    }
}

/// Reads `NAME=scheme://user:password@host:port/...`; the port and what it serves.
fn address(entry: &str) -> Option<(u16, Service)> {
    let (_, value) = entry.split_once('=')?;
    let (scheme, rest) = value.split_once("://")?;
    // SQLAlchemy's schemes have a driver: `postgresql+psycopg`.
    let scheme = scheme.split('+').next()?;
    let (_, service) = SCHEMES.iter().find(|(name, _)| *name == scheme)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next()?;
    let port = host.rsplit_once(':')?.1.parse().ok()?;
    Some((port, *service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn services_are_known_by_owner_environment_path_and_port() {
        let mut services = Services::default();
        services.named.insert(7, vec![(55432, Service::Postgres)]);
        let mut of = |kind: &str, peer: &str, owner: Option<&str>| {
            let socket = Socket {
                kind: kind.into(),
                peer: peer.into(),
                owner: owner.map(str::to_owned),
                ..Socket::default()
            };
            services.of(7, &socket)
        };
        let table = [
            ("tcp", "127.0.0.1:9999", Some("postgres"), Service::Postgres),
            ("tcp", "127.0.0.1:55432", None, Service::Postgres),
            ("tcp", "10.0.0.5:5432", None, Service::Postgres),
            ("tcp", "[fd00::5]:6379", None, Service::Redis),
            // Somebody else listens on that port.
            ("tcp", "127.0.0.1:5432", Some("python3"), Service::Other),
            ("tcp", "10.0.0.5:443", None, Service::Other),
            ("udp", "10.0.0.2:53", None, Service::Dns),
            ("unix", "/run/postgresql/.s.PGSQL.5432", None, Service::Postgres),
            ("unix", "/run/postgresql/.s.PGSQL.6432", None, Service::Pgbouncer),
            ("unix", "", None, Service::Other),
        ];
        for (kind, peer, owner, expected) in table {
            assert_eq!(of(kind, peer, owner), expected, "{kind} {peer} {owner:?}");
        }
    }

    #[test]
    fn addresses_of_the_environment_are_read() {
        let table = [
            (
                "DATABASE_URL=postgresql+psycopg://me:p%40ss@db.local:55432/shop?x=1",
                Some((55432, Service::Postgres)),
            ),
            ("CACHE=redis://:secret@10.0.0.8:6380/0", Some((6380, Service::Redis))),
            ("DATABASE_URL=postgres://db/shop", None),
            ("HOME=/root", None),
            ("X=http://a:80", None),
            ("", None),
        ];
        for (entry, expected) in table {
            assert_eq!(address(entry), expected, "{entry}");
        }
    }

    proptest! {
        #[test]
        fn any_environment_is_read(entry in "\\PC{0,60}") {
            let _ = address(&entry);
            let _ = by_path(&entry);
        }
    }
}
