//! Gauges for statsd that Gunicorn does not have, under its prefix and with its tags. Requests, their durations and statuses are sent
//! one by one by the logger in Python, as Gunicorn does, and so is `gunicorn.workers`; nothing of that is sent again from here.
//!
//! Not for: being sure that anything arrives, which statsd is not about.

use super::figures::Fate;
use super::mailbox::{Mailbox, Taken};
use super::shared::{Published, Shared};
use ferricorn_core::incident::{Incident, State};
use ferricorn_core::sums::Sums;
use ferricorn_settings::{BindAddress, Statsd};
use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often gauges are sent: as often as most statsd servers pass them on.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a datagram that fits into one packet of Ethernet.
const DATAGRAM_MAX: usize = 1432;
/// Most bytes of a line: the tags are the user's.
const LINE_MAX: usize = 8192;
/// How long nobody looks for the server again after it was not there.
const RECONNECT: Duration = Duration::from_secs(30);
/// Under this name, what was sent is counted.
const RECEIVER: &str = "statsd";

/// Sends gauges until there is nothing to stop for.
pub(crate) fn run(config: &Statsd, interval: Duration, shared: &Shared, stop: &Arc<Mailbox<()>>) {
    let mut line = Line::default();
    let mut lost = None;
    while stop.take(interval) == Taken::Nothing {
        let Some(Published { snapshot, incidents, .. }) = shared.latest() else { continue };
        let sums = snapshot.sums();
        let since = sums.lost.saturating_sub(lost.unwrap_or(sums.lost));
        lost = Some(sums.lost);
        for datagram in datagrams(&lines(config, &sums, &incidents, since)) {
            let fate = if line.send(config, &datagram) { Fate::Sent } else { Fate::Failed };
            shared.count(RECEIVER, fate);
        }
    }
}

/// The lines of one flush; `lost` is how many requests were lost since the last.
fn lines(config: &Statsd, sums: &Sums, incidents: &[Incident], lost: u64) -> Vec<String> {
    let open = incidents.iter().filter(|incident| incident.state == State::Open).count();
    let oldest_ms = (sums.oldest_request_s.unwrap_or_default() * 1e3).round();
    let all = [
        ("threads.total", sums.threads.to_string(), "g"),
        ("threads.busy", sums.threads_busy.to_string(), "g"),
        ("requests_queued", sums.queued.to_string(), "g"),
        ("oldest_request", format!("{oldest_ms:.0}"), "g"),
        ("incidents.open", open.to_string(), "g"),
        ("requests_lost", lost.to_string(), "c|@1.0"),
    ];
    let tags = if config.tags.is_empty() { String::new() } else { format!("|#{}", config.tags) };
    let line = |(name, value, kind)| format!("{}gunicorn.{name}:{value}|{kind}{tags}", config.prefix);
    all.map(line).into_iter().filter(|line| line.len() <= LINE_MAX).collect()
}

/// Puts as many lines into each datagram as fit.
fn datagrams(lines: &[String]) -> Vec<Vec<u8>> {
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    for line in lines {
        match datagrams.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= DATAGRAM_MAX => {
                last.push(b'\n');
                last.extend_from_slice(line.as_bytes());
            }
            _ => datagrams.push(line.as_bytes().to_vec()),
        }
    }
    datagrams
}

/// The way to the server; found again when it was lost, for names move.
#[derive(Default)]
struct Line {
    socket: Option<Socket>,
    tried: Option<Instant>,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Line {
    fn send(&mut self, config: &Statsd, datagram: &[u8]) -> bool {
        if self.socket.is_none() && self.tried.is_none_or(|tried| tried.elapsed() >= RECONNECT) {
            self.tried = Some(Instant::now());
            self.socket = Socket::connect(&config.address).ok();
        }
        let sent = match &self.socket {
            None => return false,
            Some(Socket::Udp(socket)) => socket.send(datagram),
            Some(Socket::Unix(socket)) => socket.send(datagram),
        };
        match sent {
            Ok(_) => true,
            // Nobody reads just now: lost, as any datagram may be.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.socket = None;
                false
            }
        }
    }
}

impl Socket {
    fn connect(address: &BindAddress) -> io::Result<Self> {
        match address {
            BindAddress::Unix { path } => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Unix(socket))
            }
            BindAddress::Tcp { host, port } => {
                let mut why = io::ErrorKind::NotFound.into();
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
                        Err(error) => why = error,
                        Ok(socket) => {
                            socket.set_nonblocking(true)?;
                            return Ok(Self::Udp(socket));
                        }
                    }
                }
                Err(why)
            }
            BindAddress::Fd(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::snapshot::{Running, Snapshot, Worker};

    fn config(address: BindAddress, prefix: &str, tags: &str) -> Statsd {
        Statsd { address, prefix: prefix.to_owned(), tags: tags.to_owned() }
    }

    fn unix(path: &std::path::Path) -> BindAddress {
        BindAddress::Unix { path: path.to_owned() }
    }

    fn snapshot(lost: u64) -> Snapshot {
        let mut route = ferricorn_core::latency::Phases::default();
        (0..lost).for_each(|_| route.app.add(1));
        let key = ferricorn_core::latency::Key {
            route: "/".to_owned(),
            named: true,
            method: "GET".to_owned(),
            class: ferricorn_core::latency::Class::Lost,
        };
        Snapshot {
            workers: vec![Worker { threads: 4, threads_free: 1, queued: 2, ..Worker::default() }],
            requests: vec![Running { age_s: 1.5, phase: "app".to_owned(), ..Running::default() }],
            routes: vec![ferricorn_core::snapshot::Route { key, phases: route }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn lines_are_as_gunicorn_writes_them() {
        let open = Incident { state: State::Open, ..Incident::default() };
        let config = config(unix("/s".as_ref()), "web.", "env:x,y:z");
        let lines = lines(&config, &snapshot(3).sums(), &[open, Incident::default()], 3);
        assert_eq!(
            lines,
            [
                "web.gunicorn.threads.total:4|g|#env:x,y:z",
                "web.gunicorn.threads.busy:3|g|#env:x,y:z",
                "web.gunicorn.requests_queued:2|g|#env:x,y:z",
                "web.gunicorn.oldest_request:1500|g|#env:x,y:z",
                "web.gunicorn.incidents.open:1|g|#env:x,y:z",
                "web.gunicorn.requests_lost:3|c|@1.0|#env:x,y:z",
            ]
        );
    }

    #[test]
    fn a_datagram_holds_what_fits() {
        let line = |bytes: usize| "x".repeat(bytes);
        assert_eq!(datagrams(&[line(700), line(731), line(1)]).len(), 2);
        assert_eq!(datagrams(&[line(700), line(731)])[0].len(), DATAGRAM_MAX);
        assert_eq!(datagrams(&[line(700), line(732)]).len(), 2);
        assert_eq!(datagrams(&[line(DATAGRAM_MAX + 1), line(1)]).len(), 2);
        let endless = config(unix("/s".as_ref()), "", &line(LINE_MAX));
        assert!(lines(&endless, &Sums::default(), &[], 0).is_empty());
    }

    #[test]
    fn gauges_and_what_was_lost_since_are_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("statsd");
        let server = UnixDatagram::bind(&path).expect("bound");
        server.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        let shared = Shared::new().expect("a place");
        shared.publish(Arc::new(snapshot(5)), Vec::new());
        let stop = Arc::new(Mailbox::new(1));
        let next = || {
            let mut bytes = [0; 4096];
            let length = server.recv(&mut bytes).expect("a datagram");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        std::thread::scope(|scope| {
            let config = config(unix(&path), "", "");
            let (shared, stop) = (&shared, &stop);
            scope.spawn(move || run(&config, Duration::from_millis(5), shared, stop));
            // What was lost before somebody looked is not lost now.
            let first = next();
            assert!(first.starts_with("gunicorn.threads.total:4|g\n"), "{first}");
            assert!(first.ends_with("gunicorn.requests_lost:0|c|@1.0"), "{first}");
            shared.publish(Arc::new(snapshot(7)), Vec::new());
            let lost = std::iter::repeat_with(next).find(|text| !text.contains("requests_lost:0|"));
            assert!(lost.is_some_and(|text| text.contains("requests_lost:2|")));
            stop.stop();
        });
        assert!(shared.figures().sent[&("statsd", "sent")] >= 2);
    }

    #[test]
    fn nobody_at_the_other_end_is_no_failure() {
        let mut line = Line::default();
        let nowhere = config(unix("/nowhere/at/all".as_ref()), "", "");
        assert!(!line.send(&nowhere, b"x"));
        // It is not looked for again at once.
        let tried = line.tried;
        assert!(!line.send(&nowhere, b"x") && line.tried == tried && tried.is_some());
    }
}
