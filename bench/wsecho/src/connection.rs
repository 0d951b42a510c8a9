//! One WebSocket of the client: shakes hands, sends a message, looks for its echo.
//!
//! Knows nothing of statistics.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::frame::{self, Kind};

/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The example of RFC 6455, section 1.3, with its answer: so the handshake is verified without SHA-1.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A connection with exactly one message under way.
pub struct Connection {
    stream: TcpStream,
    message: Vec<u8>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sequence: u64,
    mask: u32,
    pub sent: Instant,
}

impl Connection {
    /// Connects and shakes hands. Every message will have `bytes` bytes and carry `number`.
    pub fn open(address: SocketAddr, path: &str, bytes: usize, number: usize) -> Result<Connection> {
        let mut stream = TcpStream::connect_timeout(&address, HANDSHAKE_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE_PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        )?;
        let mut incoming = Vec::with_capacity(2 * bytes + HEAD_BYTES_MAX);
        shake_hands(&mut stream, &mut incoming)?;
        stream.set_nonblocking(true)?;
        let mut message = vec![b'x'; bytes];
        write!(&mut message[..], "{number:08x}")?;
        Ok(Connection {
            stream,
            message,
            incoming,
            outgoing: Vec::with_capacity(bytes + 16),
            sequence: 0,
            // Any key but zero: unmasking must not be free.
            mask: (number as u32 + 1).wrapping_mul(0x9e37_79b9),
            sent: Instant::now(),
        })
    }

    /// Sends a message that differs from all others of this run.
    pub fn send(&mut self) -> Result<()> {
        self.sequence += 1;
        write!(&mut self.message[8..], "{:016x}", self.sequence)?;
        let mask = self.next_mask();
        self.outgoing.clear();
        frame::encode(&mut self.outgoing, Kind::Text, &self.message, mask);
        self.sent = Instant::now();
        // One message is under way at most and fits into every socket buffer: a partial write is a failure.
        self.stream.write_all(&self.outgoing)
    }

    /// Reads what has arrived. True if it was the echo; fails if it was anything else, or is older than `patience`.
    pub fn poll(&mut self, patience: Duration) -> Result<bool> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.incoming.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return if self.sent.elapsed() > patience {
                    Err(ErrorKind::TimedOut.into())
                } else {
                    Ok(false)
                };
            }
            Err(error) => return Err(error),
        }
        while let Some(frame) = frame::decode(&self.incoming)? {
            let payload = &self.incoming[frame.payload.clone()];
            match frame.kind {
                Kind::Text if payload == self.message && self.incoming.len() == frame.payload.end => {
                    self.incoming.clear();
                    return Ok(true);
                }
                Kind::Text => return Err(Error::other("a message that is not the echo")),
                Kind::Close => return Err(Error::other("closed by the server")),
                Kind::Ping => {
                    let payload = payload.to_vec();
                    self.pong(&payload)?;
                }
                Kind::Pong => {}
            }
            self.incoming.drain(..frame.payload.end);
        }
        Ok(false)
    }

    fn pong(&mut self, payload: &[u8]) -> Result<()> {
        let mask = self.next_mask();
        self.outgoing.clear();
        frame::encode(&mut self.outgoing, Kind::Pong, payload, mask);
        self.stream.write_all(&self.outgoing)
    }

    /// Xorshift: cheap, and never zero.
    fn next_mask(&mut self) -> [u8; 4] {
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.mask.to_be_bytes()
    }
}

/// Reads the answer to a handshake; what follows it is left in `incoming`.
fn shake_hands(stream: &mut TcpStream, incoming: &mut Vec<u8>) -> Result<()> {
    let end = loop {
        if let Some(end) = incoming.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if incoming.len() > HEAD_BYTES_MAX {
            return Err(Error::other("a handshake without end"));
        }
        let mut chunk = [0; 4 * 1024];
        match stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => incoming.extend_from_slice(&chunk[..length]),
        }
    };
    let head = String::from_utf8_lossy(&incoming[..end]).into_owned();
    incoming.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or("");
    if status.split(' ').nth(1) != Some("101") {
        return Err(Error::other(format!("handshake: {status}")));
    }
    let fields: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
    let field = |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    match field("sec-websocket-accept") {
        Some((_, accept)) if accept.trim() == ACCEPT => Ok(()),
        _ => Err(Error::other("handshake: wrong Sec-WebSocket-Accept")),
    }
}
