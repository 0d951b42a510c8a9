//! Asks an observer: one GET over its unix socket, within limits of time and size.
//!
//! It speaks HTTP/1.0, to which nobody may answer in chunks (RFC 9112 section 7.1): the answer is a head and then bytes to
//! the end. Not for: what is asked and what it means (`source`).

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io::{self, Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one step may take: to connect, to send, to receive a piece.
const STEP: Duration = Duration::from_secs(2);
/// How long the whole may take.
const WHOLE: Duration = Duration::from_secs(5);
/// Most bytes of an answer. A snapshot of 256 workers with 512 routes each, all different, has some 40 MB.
const ANSWER_MAX: usize = 64 << 20;
/// Most fields of an answer's head.
const FIELDS_MAX: usize = 64;
const HEAD_MAX: usize = 16 << 10;

/// Connects, to see whether somebody listens.
pub(crate) fn is_live(socket: &Path) -> bool {
    dial(socket).is_ok()
}

/// Returns the body of the answer.
///
/// # Errors
/// Nobody listens, the answer is late, too long, cut short, no HTTP, or has another status than 200.
pub(crate) fn get(socket: &Path, target: &str) -> io::Result<Vec<u8>> {
    let (status, body) = ask(socket, &format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n"))?;
    match status {
        200 => Ok(body),
        other => Err(Error::other(format!("it answered with status {other}"))),
    }
}

/// Sends a JSON document; returns the status of the answer and its body.
///
/// # Errors
/// Nobody listens, or the answer is late, too long, cut short, or no HTTP.
pub(crate) fn post(socket: &Path, target: &str, document: &str) -> io::Result<(u16, Vec<u8>)> {
    let head = format!(
        "POST {target} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        document.len()
    );
    ask(socket, &(head + document))
}

fn ask(socket: &Path, request: &str) -> io::Result<(u16, Vec<u8>)> {
    let end = Instant::now() + WHOLE;
    let mut stream = dial(socket)?;
    // In one piece: who is asked need not gather it.
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let count = match stream.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // What the kernel says when the time for a piece is over.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(late()),
            count => count?,
        };
        if count == 0 {
            return body(answer);
        }
        answer.extend_from_slice(&piece[..count]);
        if answer.len() > ANSWER_MAX {
            return Err(Error::other(format!("its answer is longer than {ANSWER_MAX} bytes")));
        }
        if Instant::now() >= end {
            return Err(late());
        }
    }
}

fn dial(socket: &Path) -> io::Result<UnixStream> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connecting waits while the listener's queue is full, for as long as sending may.
    set_socket_timeout(&fd, Timeout::Send, Some(STEP))?;
    set_socket_timeout(&fd, Timeout::Recv, Some(STEP))?;
    connect(&fd, &SocketAddrUnix::new(socket)?)?;
    Ok(UnixStream::from(fd))
}

fn late() -> Error {
    Error::new(ErrorKind::TimedOut, "it did not answer in time")
}

fn body(mut answer: Vec<u8>) -> io::Result<(u16, Vec<u8>)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head = &answer[..answer.len().min(HEAD_MAX)];
    let begin = match response.parse(head) {
        Ok(httparse::Status::Complete(begin)) => begin,
        Ok(httparse::Status::Partial) => {
            return Err(Error::new(ErrorKind::UnexpectedEof, "its answer was cut short"));
        }
        Err(error) => return Err(Error::other(format!("its answer is no HTTP: {error}"))),
    };
    let status = response.code.unwrap_or(0);
    let is_length = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case("content-length");
    let length = response.headers.iter().find(is_length).map(|field| field.value);
    let promised = length.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse::<usize>().ok());
    if promised.is_some_and(|promised| promised != answer.len() - begin) {
        return Err(Error::new(ErrorKind::UnexpectedEof, "its answer was cut short"));
    }
    answer.drain(..begin);
    Ok((status, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Answers one request with these bytes; returns what was asked.
    fn ask(answer: &'static [u8]) -> (io::Result<Vec<u8>>, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("7.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut request = Vec::new();
            let mut piece = [0; 512];
            while !request.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut piece).expect("read");
                request.extend_from_slice(&piece[..count]);
            }
            stream.write_all(answer).expect("written");
            String::from_utf8(request).expect("text")
        });
        let result = get(&path, "/snapshot");
        (result, server.join().expect("served"))
    }

    #[test]
    fn the_body_of_an_answer_comes_back() {
        let (body, request) = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(body.expect("a body"), b"{}");
        assert_eq!(request, "GET /snapshot HTTP/1.0\r\nHost: localhost\r\n\r\n");
        let (body, _) = ask(b"HTTP/1.0 200 OK\r\n\r\n[1]");
        assert_eq!(body.expect("a body"), b"[1]");
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let table: [(&[u8], &str); 5] = [
            (b"", "its answer was cut short"),
            (b"HTTP/1.1 200 OK\r\nContent-Le", "its answer was cut short"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "its answer was cut short"),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "it answered with status 404"),
            (b"+PONG\r\n", "its answer is no HTTP: invalid HTTP version"),
        ];
        for (answer, why) in table {
            assert_eq!(ask(answer).0.expect_err("none").to_string(), why);
        }
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_not_live() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("7.sock");
        assert!(!is_live(&path));
        let listener = UnixListener::bind(&path).expect("bound");
        assert!(is_live(&path));
        drop(listener);
        assert!(!is_live(&path), "the file is there still");
        assert_eq!(get(&path, "/").expect_err("refused").kind(), ErrorKind::ConnectionRefused);
        let long = folder.path().join("x".repeat(200));
        assert!(!is_live(&long), "longer than an address may be");
    }
}
