//! Where the databases are that we ask, as sockets show it: addresses and paths. Tells which of a worker's connections lead
//! to one. Not for: telling what else is at the other end of a socket.

use super::target::{Place, Target};
use ferricorn_core::evidence::Service;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most addresses of one database: a name may lead to several, and to others tomorrow.
const ADDRESSES_MAX: usize = 64;

/// The places of one database. Names are looked up where connections are made, and what they lead to is learnt here.
#[derive(Debug)]
pub(crate) struct Book {
    pub service: Service,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    addresses: BTreeSet<SocketAddr>,
    paths: BTreeSet<PathBuf>,
    /// Ports, for connections whose other end is unknown.
    ports: BTreeSet<u16>,
}

impl Book {
    pub(crate) fn of(target: &Target) -> Self {
        let book = Self { service: target.service, places: Mutex::default() };
        for place in &target.places {
            match place {
                Place::Unix { path, port } => {
                    book.lock().paths.insert(plain(path));
                    if target.service != Service::Mysql {
                        // PostgreSQL names its sockets after the port that it listens on.
                        book.learn_local(*port);
                    }
                }
                Place::Tcp { host, address, port } => {
                    book.lock().ports.insert(*port);
                    let known = address.or_else(|| host.parse().ok());
                    known.into_iter().for_each(|ip| book.learn(SocketAddr::new(ip, *port)));
                }
            }
        }
        book
    }

    /// A name has led to an address.
    pub(super) fn learn(&self, address: SocketAddr) {
        let address = canonical(address);
        if address.ip().is_loopback() {
            self.learn_local(address.port());
        }
        let mut places = self.lock();
        places.ports.insert(address.port());
        if places.addresses.len() < ADDRESSES_MAX {
            places.addresses.insert(address);
        }
    }

    /// The database has told where one of its sockets is.
    pub(super) fn learn_path(&self, path: &Path) {
        let mut places = self.lock();
        if places.paths.len() < ADDRESSES_MAX {
            places.paths.insert(plain(path));
        }
    }

    /// It listens on this port of this host.
    fn learn_local(&self, port: u16) {
        let mut places = self.lock();
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        places.addresses.extend(loopback.map(|ip| SocketAddr::new(ip, port)));
        places.ports.insert(port);
        if self.service != Service::Mysql {
            let folders = ["/var/run/postgresql", "/tmp"].map(Path::new);
            let paths = folders.map(|folder| plain(&folder.join(format!(".s.PGSQL.{port}"))));
            places.paths.extend(paths);
        }
    }

    /// Tells whether the other end of a socket is it.
    pub(super) fn serves(&self, peer: &str) -> bool {
        let places = self.lock();
        match address(peer) {
            Some(address) => places.addresses.contains(&address),
            None => path(peer).is_some_and(|path| places.paths.contains(&plain(path))),
        }
    }

    /// Tells whether the other end of a socket may be it: the port is right.
    pub(super) fn may_serve(&self, peer: &str) -> bool {
        address(peer).is_some_and(|address| self.lock().ports.contains(&address.port()))
    }

    /// Tells whether it is on this host.
    pub(super) fn is_local(&self) -> bool {
        let places = self.lock();
        !places.paths.is_empty() || places.addresses.iter().any(|address| address.ip().is_loopback())
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // What panicked between two inserts has left a set that is as good as before.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `ip:port` as sockets and databases have it: mapped IPv4 addresses are plain ones, and zones do not count.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    let address = match (text.find('%'), text.find(']')) {
        (Some(zone), Some(end)) if zone < end => format!("{}{}", &text[..zone], &text[end..]).parse(),
        _ => text.parse(),
    };
    address.ok().map(canonical)
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Reads the path of a unix socket.
fn path(peer: &str) -> Option<&Path> {
    let path = Path::new(peer.strip_prefix("unix:").unwrap_or(peer));
    path.is_absolute().then_some(path)
}

/// A path without links in its folder: `/var/run` is `/run`.
fn plain(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    folder.zip(path.file_name()).map_or_else(|| path.to_owned(), |(folder, name)| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(url: &str) -> Book {
        let mut targets = Target::all(&[url.to_owned()]).expect("a target");
        Book::of(&targets.remove(0))
    }

    #[test]
    fn connections_to_a_database_are_told_from_others() {
        let there = book("postgresql://u@10.0.0.1:5432/x");
        let here = book("postgresql://u@[::1]:5432/x");
        let file = book("pgbouncer://u@%2Fsrv%2Frun:6432/");
        let mysql = book("mysql://u@/?socket=/srv/my.sock");
        let table = [
            (&there, "10.0.0.1:5432", true, true),
            (&there, "[::ffff:10.0.0.1]:5432", true, true),
            (&there, "10.0.0.1:5433", false, false),
            (&there, "10.0.0.2:5432", false, true),
            (&there, "unix:/var/run/postgresql/.s.PGSQL.5432", false, false),
            (&here, "127.0.0.1:5432", true, true),
            (&here, "[::1%lo]:5432", true, true),
            (&here, "unix:/tmp/.s.PGSQL.5432", true, false),
            (&here, "/tmp/.s.PGSQL.5432", true, false),
            (&here, "/tmp/.s.PGSQL.5433", false, false),
            (&file, "/srv/run/.s.PGSQL.6432", true, false),
            (&file, "127.0.0.1:6432", true, true),
            (&mysql, "unix:/srv/my.sock", true, false),
            (&mysql, "a unix socket", false, false),
            (&mysql, "", false, false),
        ];
        for (book, peer, is, may) in table {
            assert_eq!((book.serves(peer), book.may_serve(peer)), (is, may), "{peer}");
        }
    }

    #[test]
    fn names_lead_to_addresses_when_they_are_looked_up() {
        let book = book("mysql://u@db.example:3306/");
        assert!(!book.serves("10.1.1.1:3306"));
        for last in 0..=u8::MAX {
            book.learn(SocketAddr::new(Ipv4Addr::new(10, 1, 1, last).into(), 3306));
        }
        assert!(book.serves("10.1.1.1:3306"));
        assert_eq!(book.lock().addresses.len(), ADDRESSES_MAX);
    }
}
