//! One connection of the client: sends its request, collects the answer, connects again when the server closed it.
//!
//! Knows nothing of schedules and statistics.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A loopback listener whose backlog is full drops connection attempts: waiting longer would stop the whole client.
const CONNECT_PATIENCE: Duration = Duration::from_millis(500);
/// A connection that ends this soon after it was used again had been closed before. Later, its server failed.
const CLOSING_RACE: Duration = Duration::from_millis(20);

/// What a look at the socket found.
pub enum Progress {
    /// The answer is not complete.
    Waiting,
    /// The answer is complete, its status 200.
    Answered,
    /// The server had closed the idle connection; the request was sent again on a new one.
    Retried,
}

/// A connection, with at most one request under way.
pub struct Connection {
    address: SocketAddr,
    request: String,
    stream: Option<TcpStream>,
    answer: Vec<u8>,
    used_before: bool,
    /// When the request under way was meant to start.
    pub intended: Instant,
}

impl Connection {
    /// Connects on its first request: an idle connection would occupy the only thread of a simple server.
    pub fn new(address: SocketAddr, request: String) -> Connection {
        let answer = Vec::with_capacity(64 * 1024);
        Connection { address, request, stream: None, answer, used_before: false, intended: Instant::now() }
    }

    /// Sends the request that was meant to start at `intended`.
    pub fn send(&mut self, intended: Instant) -> Result<()> {
        self.intended = intended;
        self.answer.clear();
        if self.stream.is_some() && self.write().is_ok() {
            return Ok(());
        }
        self.reconnect()
    }

    /// Reads what has arrived. Fails if the request is older than `patience`.
    pub fn poll(&mut self, patience: Duration) -> Result<Progress> {
        let Some(stream) = &mut self.stream else { return Err(ErrorKind::NotConnected.into()) };
        let mut chunk = [0; 16 * 1024];
        let read = match stream.read(&mut chunk) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.intended.elapsed() > patience {
                    return Err(ErrorKind::TimedOut.into());
                }
                return Ok(Progress::Waiting);
            }
            Err(_) if self.may_retry() => 0,
            Err(error) => return Err(error),
        };
        if read == 0 {
            if self.may_retry() {
                self.reconnect()?;
                return Ok(Progress::Retried);
            }
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.answer.extend_from_slice(&chunk[..read]);
        self.judge()
    }

    /// Forgets the stream: what it still carries belongs to a request that was given up.
    pub fn drop_stream(&mut self) {
        self.stream = None;
    }

    /// HTTP lets a server close an idle connection at any time; only then is sending again no cheating.
    fn may_retry(&self) -> bool {
        self.used_before && self.answer.is_empty() && self.intended.elapsed() < CLOSING_RACE
    }

    fn reconnect(&mut self) -> Result<()> {
        self.stream = None;
        self.used_before = false;
        let stream = TcpStream::connect_timeout(&self.address, CONNECT_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.stream = Some(stream);
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Err(ErrorKind::NotConnected.into()) };
        stream.write_all(self.request.as_bytes())
    }

    fn judge(&mut self) -> Result<Progress> {
        let Some(end) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(Progress::Waiting);
        };
        let head = String::from_utf8_lossy(&self.answer[..end]).to_ascii_lowercase();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or("");
        if status != "200" {
            return Err(Error::other(format!("status {status}")));
        }
        let fields: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value.trim());
        let length: usize = field("content-length")
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| Error::other("no Content-Length"))?;
        if self.answer.len() < end + 4 + length {
            return Ok(Progress::Waiting);
        }
        self.used_before = true;
        if field("connection") == Some("close") {
            self.drop_stream();
        }
        Ok(Progress::Answered)
    }
}
