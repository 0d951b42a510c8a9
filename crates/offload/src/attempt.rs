//! One attempt: plays a kept request to the servers of jobs and reads the response, as its bytes come. Not for: whether and when
//! there is another attempt.

use crate::store::{Body, Outcome, Part, Store, Work, is_short, written};
use ferricorn_core::offload::{Error, FIELD, Fault, INLINE_MAX, Pass, Response};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longest head of a response, bytes, so that it fits into a message with a body; most fields in it.
const HEAD_MAX: usize = 48 << 10;
const FIELDS_MAX: usize = 1024;
/// Longest line between chunks, bytes.
const LINE_MAX: u64 = 4096;
/// Fields of a response that are the server's, or its connection's (RFC 9110 section 7.6.1): they are made anew when it is given.
const OWN: [&str; 7] =
    ["connection", "content-length", "date", "keep-alive", "server", "transfer-encoding", "upgrade"];

/// The field by which a relay says why there is no response.
const FAULT: &str = "Ferricorn-Fault";

/// Tells whether a field of a response is the server's, or its connection's.
pub(crate) fn is_own(name: &str) -> bool {
    OWN.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// An attempt that can be made.
#[derive(Debug)]
pub struct Attempt {
    /// The job.
    pub work: Work,
    /// What only the server's own processes know.
    pub token: String,
    /// The longest silence, which a working server does not come near to.
    pub patience: Duration,
    /// Whether somebody else works on it, who is asked here.
    pub relayed: bool,
    /// Where the body of the request is if it is a file.
    pub from: PathBuf,
    /// Where that of the response goes if it is long.
    pub part: PathBuf,
}

impl Attempt {
    /// Prepares one.
    pub fn of(work: Work, store: &Store, token: &str, patience: Duration, relayed: bool) -> Self {
        let from = store.file(&work.request.id, Part::Request);
        let part = store.file(&format!("{}.{}", work.request.id, work.attempt), Part::Response);
        Self { work, token: token.to_owned(), patience, relayed, from, part }
    }

    /// Makes it, over a new connection to who works on jobs.
    pub fn make(&self, stream: &UnixStream) -> Outcome {
        if matches!(self.work.body, Body::File) && !self.from.exists() {
            return self.failed(Fault::Interrupted, "the body of its request is not there any more");
        }
        let _ = stream.set_read_timeout(Some(self.patience));
        // Who answers early does not want the rest; who is gone is heard of below.
        if let Err(error) = self.say(stream)
            && !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            // Nobody is to wait for what cannot be said.
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut reader = BufReader::new(stream);
        let error = match self.hear(&mut reader) {
            Ok(outcome) => return outcome,
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut if !self.relayed => {
                self.failed(Fault::Timeout, "no word came from its worker for longer than its time")
            }
            // Who works on it goes on: the next relay is told what has come of it.
            ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
                if self.relayed =>
            {
                let _ = fs::remove_file(&self.part);
                Outcome::NotBegun
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                self.failed(Fault::WorkerDied, &format!("its worker ended before it had answered: {error}"))
            }
            _ => self.failed(Fault::Application, &format!("its response cannot be kept: {error}")),
        }
    }

    /// What has come of an attempt that could not be followed to its end.
    pub fn lost(&self) -> Outcome {
        self.failed(Fault::Interrupted, "its attempt could not be followed to its end")
    }

    fn failed(&self, cause: Fault, detail: &str) -> Outcome {
        // What has come of it is no response.
        let _ = fs::remove_file(&self.part);
        Outcome::Failed(Error { cause, detail: detail.to_owned(), ..Error::default() }, None)
    }

    pub(crate) fn say(&self, mut stream: &UnixStream) -> io::Result<()> {
        let (request, head) = (&self.work.request, &self.work.head);
        let pass = Pass {
            token: self.token.clone(),
            id: request.id.clone(),
            attempt: self.work.attempt,
            listener: request.listener,
            client: request.client.clone(),
        };
        let line = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1);
        let mut bytes = head[..line].to_vec();
        bytes.extend_from_slice(format!("{FIELD}: {}\r\n", pass.value()).as_bytes());
        bytes.extend_from_slice(&head[line..]);
        // Its own chunks are gone: one holds it all.
        let chunked = request.chunked && request.body > 0;
        if chunked {
            bytes.extend_from_slice(format!("{:x}\r\n", request.body).as_bytes());
        }
        match &self.work.body {
            Body::Inline(body) => bytes.extend_from_slice(body),
            Body::File => {
                stream.write_all(&bytes)?;
                bytes.clear();
                if io::copy(&mut File::open(&self.from)?, &mut stream)? != request.body {
                    return Err(io::Error::from(ErrorKind::UnexpectedEof));
                }
            }
        }
        if chunked {
            bytes.extend_from_slice(b"\r\n");
        }
        if request.chunked {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        stream.write_all(&bytes)
    }

    fn hear(&self, reader: &mut impl BufRead) -> io::Result<Outcome> {
        let heard = loop {
            let heard = Heard::read(reader)?;
            // 100 Continue, 103 Early Hints: the response is still to come.
            if heard.code >= 200 {
                break heard;
            }
        };
        let body = match heard.framing(&self.work.request.method) {
            Framing::None => Body::Inline(Vec::new()),
            Framing::Length(length) => self.keep(&mut Exactly { left: length, reader })?,
            Framing::Chunked => self.keep(&mut Chunks { left: 0, begun: false, done: false, reader })?,
            Framing::Close => self.keep(reader)?,
        };
        let length = match &body {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::File => fs::metadata(&self.part)?.len(),
        };
        Ok(self.judge(heard, body, length))
    }

    /// Keeps a body where it belongs by its length.
    fn keep(&self, from: &mut impl Read) -> io::Result<Body> {
        let mut first = Vec::new();
        from.take(INLINE_MAX as u64 + 1).read_to_end(&mut first)?;
        if is_short(first.len() as u64) {
            return Ok(Body::Inline(first));
        }
        written(&self.part, &mut first.chain(from))?;
        Ok(Body::File)
    }

    /// Finds out whose response it is, and what that means for the job.
    fn judge(&self, heard: Heard, body: Body, length: u64) -> Outcome {
        let (code, reason) = (heard.code, heard.status.clone());
        let request_id = heard.field("x-request-id").map(str::to_owned);
        // The server's own pages have no date; that of 500 stands for an exception of the application.
        if heard.field("date").is_none() && code != 500 {
            let (cause, detail) = match code {
                502..=504 if self.relayed => return Outcome::NotBegun,
                503 => return Outcome::NotBegun,
                504 => (Fault::Timeout, "it did not end in its time"),
                502 => (Fault::WorkerDied, "its worker died"),
                _ => (Fault::Application, "the server refused the request"),
            };
            let _ = fs::remove_file(&self.part);
            let error = Error { cause, detail: detail.to_owned(), request_id, status: Some(code) };
            return Outcome::Failed(error, None);
        }
        // What a relay says of a job without a response.
        if let Some((cause, detail)) =
            heard.field(FAULT).filter(|_| self.relayed).and_then(|text| text.split_once(' '))
        {
            let _ = fs::remove_file(&self.part);
            let Some(cause) = Fault::ALL.into_iter().find(|fault| fault.name() == cause) else {
                // It could not be handed on.
                return Outcome::NotBegun;
            };
            let error = Error { cause, detail: detail.to_owned(), ..Error::default() };
            return Outcome::Failed(error, None);
        }
        let promised = heard.field("content-length").filter(|_| length == 0).map(str::to_owned);
        let fields = heard.fields.into_iter().filter(|(name, _)| !is_own(name)).collect();
        let response = Response { status: heard.status, fields, body: length, promised };
        if code < 500 {
            return Outcome::Answered(response, body);
        }
        let detail = format!("the application answered {reason}");
        let error = Error { cause: Fault::Application, detail, request_id, status: Some(code) };
        Outcome::Failed(error, Some((response, body)))
    }
}

/// A response's head.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) code: u16,
    /// The status line behind the version.
    pub(crate) status: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// How long a body is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

impl Heard {
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            if before >= HEAD_MAX {
                return Err(io::Error::other(format!("its head is longer than {HEAD_MAX} bytes")));
            }
            reader.by_ref().take((HEAD_MAX - before) as u64).read_until(b'\n', &mut bytes)?;
            if bytes.len() == before {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            if bytes.ends_with(b"\r\n\r\n") {
                break;
            }
        }
        let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let done = response.parse(&bytes).map_err(io::Error::other)?;
        let (Some(code), true) = (response.code, done.is_complete()) else {
            return Err(io::Error::other("no head"));
        };
        let status = format!("{code} {}", response.reason.unwrap_or_default());
        // Latin-1, as it came (RFC 9110 section 5.5): bytes become the letters of the same number.
        let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect();
        let fields =
            response.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect();
        Ok(Self { code, status, fields })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn framing(&self, method: &str) -> Framing {
        if method == "HEAD" || self.code == 204 || self.code == 304 {
            return Framing::None;
        }
        if self.field("transfer-encoding").is_some() {
            return Framing::Chunked;
        }
        let length = self.field("content-length").and_then(|text| text.parse().ok());
        length.map_or(Framing::Close, Framing::Length)
    }
}

/// So many bytes; fewer are an error.
pub(crate) struct Exactly<'a, R> {
    pub(crate) left: u64,
    pub(crate) reader: &'a mut R,
}

impl<R: BufRead> Read for Exactly<'_, R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(room.len());
        if most == 0 {
            // A buffer that is asked for nothing may still wait for more.
            return Ok(0);
        }
        let count = self.reader.read(&mut room[..most])?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Bytes in chunks (RFC 9112 section 7.1); a last chunk that is missing is an error.
struct Chunks<'a, R> {
    left: u64,
    begun: bool,
    done: bool,
    reader: &'a mut R,
}

impl<R: BufRead> Chunks<'_, R> {
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.by_ref().take(LINE_MAX).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl<R: BufRead> Read for Chunks<'_, R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.done {
            if self.begun {
                self.line()?;
            }
            self.begun = true;
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            self.done = self.left == 0;
            // Trailers, up to the empty line.
            while self.done && !self.line()?.is_empty() {}
        }
        if self.done || room.is_empty() {
            return Ok(0);
        }
        let count = Exactly { left: self.left, reader: self.reader }.read(room)?;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::offload::{Request, id};
    use std::thread;

    const DATE: &str = "Date: Fri, 27 Nov 2026 00:00:00 GMT\r\n";

    fn attempt(folder: &std::path::Path, method: &str, chunked: bool, body: &[u8]) -> Attempt {
        let head = format!("{method} /r HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let request = Request {
            id: id([3; 16]),
            method: method.into(),
            chunked,
            body: body.len() as u64,
            ..Request::default()
        };
        let work = Work { request, head, body: Body::Inline(body.to_vec()), attempt: 1, lane: String::new() };
        let patience = Duration::from_millis(300);
        Attempt {
            work,
            token: "t".into(),
            patience,
            relayed: false,
            from: folder.join("from"),
            part: folder.join("part"),
        }
    }

    /// Answers an attempt with these bytes; returns what it said and what it made of that.
    fn made(attempt: &Attempt, answer: &[u8], stays: bool) -> (String, Outcome) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let answer = answer.to_vec();
        let server = thread::spawn(move || {
            let mut said = vec![0; 4096];
            let count = theirs.read(&mut said).expect("read");
            theirs.write_all(&answer).expect("written");
            if stays {
                thread::sleep(Duration::from_millis(600));
            }
            String::from_utf8_lossy(&said[..count]).into_owned()
        });
        let outcome = attempt.make(&ours);
        drop(ours);
        (server.join().expect("served"), outcome)
    }

    #[test]
    fn a_request_is_played_with_its_pass_and_its_response_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = attempt(folder.path(), "POST", true, b"abc");
        let answer = format!(
            "HTTP/1.1 201 Created\r\n{DATE}Server: x\r\nX-A: \u{e9}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n2;x=1\r\nba\r\n0\r\n\r\n"
        );
        let latin: Vec<u8> = answer.chars().map(|letter| letter as u8).collect();
        let (said, outcome) = made(&one, &latin, false);
        let id = id([3; 16]);
        assert_eq!(
            said,
            format!("POST /r HTTP/1.1\r\n{FIELD}: t {id} 1 0 -\r\nHost: a\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        );
        let Outcome::Answered(response, Body::Inline(body)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(
            (response.status.as_str(), body.as_slice(), response.body),
            ("201 Created", &b"fooba"[..], 5)
        );
        assert_eq!(response.fields, [("X-A".to_owned(), "\u{e9}".to_owned())]);
    }

    #[test]
    fn long_responses_become_files_and_heads_have_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = attempt(folder.path(), "GET", false, b"");
        let long = "x".repeat(INLINE_MAX + 1);
        let answer = format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{DATE}Content-Length: {}\r\n\r\n{long}",
            long.len()
        );
        let (_, outcome) = made(&one, answer.as_bytes(), false);
        assert!(
            matches!(outcome, Outcome::Answered(response, Body::File) if response.body == long.len() as u64)
        );
        assert_eq!(fs::read_to_string(&one.part).expect("a file"), long);
        let one = attempt(folder.path(), "HEAD", false, b"");
        let answer = format!("HTTP/1.1 200 OK\r\n{DATE}Content-Length: 7\r\n\r\n");
        let (_, outcome) = made(&one, answer.as_bytes(), false);
        assert!(
            matches!(outcome, Outcome::Answered(response, _) if response.promised.as_deref() == Some("7"))
        );
    }

    #[test]
    fn what_goes_wrong_has_its_true_name() {
        let folder = tempfile::tempdir().expect("a folder");
        // A connection that stays open is not waited for.
        let answer = format!("HTTP/1.1 200 OK\r\n{DATE}Content-Length: 2\r\n\r\nok");
        let (_, outcome) = made(&attempt(folder.path(), "POST", false, b""), answer.as_bytes(), true);
        assert!(matches!(outcome, Outcome::Answered(..)), "{outcome:?}");
        let table: [(String, bool, Option<Fault>); 8] = [
            (format!("HTTP/1.1 500 No\r\n{DATE}Content-Length: 0\r\n\r\n"), false, Some(Fault::Application)),
            (
                "HTTP/1.1 504 Late\r\nX-Request-Id: 7-1\r\nContent-Length: 0\r\n\r\n".into(),
                false,
                Some(Fault::Timeout),
            ),
            ("HTTP/1.1 502 Dead\r\nContent-Length: 0\r\n\r\n".into(), false, Some(Fault::WorkerDied)),
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".into(), false, None),
            (String::new(), false, Some(Fault::WorkerDied)),
            (
                format!("HTTP/1.1 200 OK\r\n{DATE}Content-Length: 9\r\n\r\nshort"),
                false,
                Some(Fault::WorkerDied),
            ),
            (
                format!("HTTP/1.1 200 OK\r\n{DATE}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
                false,
                Some(Fault::WorkerDied),
            ),
            (String::new(), true, Some(Fault::Timeout)),
        ];
        for (answer, stays, expected) in table {
            let (_, outcome) = made(&attempt(folder.path(), "POST", false, b""), answer.as_bytes(), stays);
            let found = match &outcome {
                Outcome::Failed(error, _) => Some(error.cause),
                Outcome::NotBegun => None,
                Outcome::Answered(..) => panic!("{answer}: {outcome:?}"),
            };
            assert_eq!(found, expected, "{answer}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_worker_do_any_harm(
            begins in proptest::sample::select(vec![
                "",
                "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 99\r\n\r\n",
            ]),
            rest in proptest::collection::vec(proptest::sample::select(b"0123456789abcdefF;=\r\n: \0\xff".to_vec()), 0..200),
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let bytes = [begins.as_bytes(), &rest].concat();
            // Whatever it says, an answer is whole or an error.
            let _ = attempt(folder.path(), "GET", false, b"").hear(&mut &bytes[..]);
        }
    }
}
