//! What Gunicorn sends by statsd (`instrument/statsd.py`, 23 to 27): durations without routes, statuses, lines of the log, how
//! many workers there are. With a prefix, and with tags of dogstatsd, both of which are passed over.
//!
//! Not for: other programs' metrics, nor for sending on what comes.

use ferricorn_core::snapshot::Reported;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};

/// Most datagrams that are read at a time; what is left is read the next time.
const DATAGRAMS_MAX: usize = 5000;
/// Most bytes of one.
const DATAGRAM_MAX: usize = 8192;
/// Statuses that are told apart.
const STATUSES_MAX: usize = 64;

/// Receives.
#[derive(Debug)]
pub(super) struct Statsd {
    socket: UdpSocket,
    /// What has been heard so far.
    pub(super) heard: Reported,
}

impl Statsd {
    /// Opens the port at `HOST:PORT`.
    pub(super) fn open(address: &str) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        let socket = UdpSocket::bind(&addresses[..])?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, heard: Reported::default() })
    }

    /// Reads what has come.
    pub(super) fn hear(&mut self) {
        let mut bytes = [0; DATAGRAM_MAX];
        for _ in 0..DATAGRAMS_MAX {
            let Ok(length) = self.socket.recv(&mut bytes) else { return };
            for line in String::from_utf8_lossy(&bytes[..length]).lines() {
                take(line, &mut self.heard);
            }
        }
    }
}

/// Takes one line: `prefix.gunicorn.requests:1|c|@1.0|#tag:x`.
fn take(line: &str, heard: &mut Reported) -> Option<()> {
    let (name, rest) = line.split_once(':')?;
    let value: f64 = rest.split('|').next()?.parse().ok()?;
    let at = name.rfind("gunicorn.").filter(|at| *at == 0 || name[..*at].ends_with('.'))?;
    let name = &name[at + "gunicorn.".len()..];
    let count = value.clamp(0.0, 1e9) as u64;
    if !value.is_finite() {
        return None;
    }
    match name {
        "requests" => heard.requests += count,
        "request.duration" => heard.durations.add((value.clamp(0.0, 1e9) * 1e3) as u64),
        "workers" => heard.workers = Some(count.min(u64::from(u32::MAX)) as u32),
        _ => {
            if let Some(status) = name.strip_prefix("request.status.").and_then(|status| status.parse().ok())
            {
                if heard.statuses.len() < STATUSES_MAX || heard.statuses.contains_key(&status) {
                    *heard.statuses.entry(status).or_default() += count;
                }
            } else if let Some(level @ ("critical" | "error" | "warning" | "exception")) =
                name.strip_prefix("log.")
            {
                *heard.log.entry(level.to_owned()).or_default() += count;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn gunicorns_own_lines_are_understood() {
        let mut heard = Reported::default();
        for line in [
            "gunicorn.requests:1|c|@1.0",
            "shop.web.gunicorn.request.duration:12.5|ms",
            "gunicorn.request.status.200:1|c|@1.0|#env:prod,v:2",
            "gunicorn.request.status.503:1|c|@1.0",
            "p.gunicorn.workers:4|g",
            "gunicorn.log.critical:1|c|@1.0",
            "gunicorn.backlog:3|h",
            "mygunicorn.requests:7|c",
            "gunicorn.request.duration:NaN|ms",
            "gunicorn.request.status.x:1|c",
            "nonsense",
            ":|",
            "",
        ] {
            take(line, &mut heard);
        }
        assert_eq!((heard.requests, heard.workers), (1, Some(4)));
        assert_eq!((heard.durations.count, heard.durations.sum_us), (1, 12_500));
        assert_eq!(heard.statuses, [(200, 1), (503, 1)].into());
        assert_eq!(heard.log, [("critical".to_owned(), 1)].into());
    }

    #[test]
    fn datagrams_are_heard_and_an_address_may_be_taken() {
        let mut statsd = Statsd::open("127.0.0.1:0").expect("a port");
        let address = statsd.socket.local_addr().expect("an address");
        assert!(Statsd::open(&address.to_string()).is_err());
        assert!(Statsd::open("no port").is_err());
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
        sender.send_to(b"gunicorn.requests:1|c\ngunicorn.requests:1|c", address).expect("sent");
        let begun = Instant::now();
        while statsd.heard.requests < 2 {
            assert!(begun.elapsed() < Duration::from_secs(10), "nothing comes");
            statsd.hear();
        }
    }

    #[test]
    fn there_may_only_be_so_many_statuses() {
        let mut heard = Reported::default();
        for status in 100..600 {
            take(&format!("gunicorn.request.status.{status}:1|c"), &mut heard);
        }
        assert_eq!(heard.statuses.len(), STATUSES_MAX);
    }
}
