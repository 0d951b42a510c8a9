//! Responses as bytes: the head with our fields and the application's, chunked framing, Content-Length kept honest.
//!
//! The application's field lines are collected when it names them; the head is written when the first bytes of the
//! body are there, because only then the framing is known (PEP 3333, RFC 9112 section 6). Rules for HEAD, 1xx, 204 and
//! 304 are RFC 9110's; which fields of the application are dropped follows Gunicorn 27 (hop-by-hop, Server, Date).
//! Not for: sockets; the bytes gather in `output` and whoever owns the connection sends them.

use super::reason::reason;
use super::token::{is_field_byte, is_token, trim};

/// What is known of the request when its response begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Version of the request.
    pub version: (u8, u8),
    /// Whether the request is HEAD.
    pub head_only: bool,
    /// Whether client and server want to keep the connection.
    pub keep_alive: bool,
}

/// A response being built. Reused from request to request: its buffers keep their memory.
#[derive(Debug, Default)]
pub struct Response {
    /// Bytes on their way to the client, earlier responses of the connection first.
    pub output: Vec<u8>,
    /// How many bytes of `output` have been sent.
    pub written: usize,
    fields: Vec<u8>,
    trailers: Vec<u8>,
    status_line: Vec<u8>,
    /// Status, once the application has named one.
    pub status: u16,
    /// Bytes of body that went into `output` or are to be sent from a file.
    pub body_bytes: u64,
    /// Whether the connection can serve another request after this response.
    pub keep_alive: bool,
    exchange: Option<Exchange>,
    length: Option<u64>,
    upgrade: bool,
    framing: Framing,
    starts_at: usize,
    flushed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    /// The head has not been written.
    #[default]
    Open,
    /// So many bytes are still promised.
    Length(u64),
    Chunked,
    /// Until the connection closes.
    Close,
    /// No body may follow.
    Bodiless,
    /// Complete.
    Done,
}

/// Why the application's response cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The status is not three digits, a space and a printable reason.
    Status(String),
    /// The field name is not a token.
    FieldName(String),
    /// The field value holds control characters.
    FieldValue(String),
    /// Content-Length is not a number.
    ContentLength(String),
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "invalid HTTP status: {status:?}"),
            Self::FieldName(name) => write!(f, "invalid HTTP header name: {name:?}"),
            Self::FieldValue(name) => write!(f, "invalid HTTP header value of {name:?}"),
            Self::ContentLength(value) => write!(f, "invalid Content-Length: {value:?}"),
        }
    }
}

impl Response {
    /// Begins the response to a request.
    pub fn open(&mut self, exchange: Exchange) {
        self.exchange = Some(exchange);
        self.keep_alive = exchange.keep_alive;
        self.body_bytes = 0;
        self.framing = Framing::Open;
        self.flushed = false;
        self.starts_at = self.output.len();
        self.restart();
    }

    /// Forgets the status and fields named so far; for `start_response` with `exc_info`.
    pub fn restart(&mut self) {
        self.status = 0;
        self.fields.clear();
        self.trailers.clear();
        self.status_line.clear();
        self.length = None;
        self.upgrade = false;
    }

    /// Takes back everything that has not been sent, so that another response can take its place. False if bytes
    /// have gone out already.
    pub fn take_back(&mut self) -> bool {
        if self.flushed {
            return false;
        }
        self.output.truncate(self.starts_at);
        self.framing = Framing::Open;
        self.body_bytes = 0;
        self.restart();
        true
    }

    /// Names the status: `200 OK`, or `200` alone.
    ///
    /// # Errors
    /// A status that cannot stand in a status line.
    pub fn status(&mut self, line: &[u8]) -> Result<(), Invalid> {
        let invalid = || Invalid::Status(String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned());
        let (digits, reason) = line.split_at(line.len().min(3));
        let well_formed = digits.len() == 3
            && (b'1'..=b'9').contains(&digits[0])
            && digits.iter().all(u8::is_ascii_digit)
            && (reason.is_empty() || reason[0] == b' ')
            && reason.iter().all(|byte| is_field_byte(*byte));
        if !well_formed {
            return Err(invalid());
        }
        self.status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        self.status_line.extend_from_slice(line);
        if reason.is_empty() {
            self.status_line.push(b' ');
        }
        Ok(())
    }

    /// Names the status by its number.
    ///
    /// # Errors
    /// It is none of a final response.
    pub fn code(&mut self, status: u16) -> Result<(), Invalid> {
        if !(200..=999).contains(&status) {
            return Err(Invalid::Status(status.to_string()));
        }
        self.status = status;
        self.status_line.clear();
        self.status_line.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        self.status_line.push(b' ');
        self.status_line.extend_from_slice(reason(status).as_bytes());
        Ok(())
    }

    /// Adds a field that follows the body (RFC 9112 section 7.1.2); left out where the body is not chunked.
    ///
    /// # Errors
    /// A name or value that would break the framing.
    pub fn trailer(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        checked(name, value)?;
        self.trailers.extend_from_slice(name);
        self.trailers.extend_from_slice(b": ");
        self.trailers.extend_from_slice(trim(value));
        self.trailers.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Adds a field of the application.
    ///
    /// # Errors
    /// A name or value that would break the head.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        checked(name, value)?;
        let value = trim(value);
        match self.known(name) {
            Known::Length => {
                let text =
                    std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                let length = text.and_then(|text| text.parse().ok());
                let length =
                    length.ok_or_else(|| Invalid::ContentLength(String::from_utf8_lossy(value).into()))?;
                self.length = Some(length);
                return Ok(());
            }
            Known::Dropped => return Ok(()),
            Known::Connection => {
                // The application may switch protocols, and may ask us to close; the rest of Connection is ours.
                let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                self.upgrade |= value.eq_ignore_ascii_case(b"upgrade");
                self.keep_alive &=
                    !options.any(|option| option.eq_ignore_ascii_case(b"close")) && !self.upgrade;
                return Ok(());
            }
            Known::Other => {}
        }
        self.fields.extend_from_slice(name);
        self.fields.extend_from_slice(b": ");
        self.fields.extend_from_slice(value);
        self.fields.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn known(&self, name: &[u8]) -> Known {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            14 if is(b"content-length") => Known::Length,
            10 if is(b"connection") => Known::Connection,
            2 if is(b"te") => Known::Dropped,
            4 if is(b"date") => Known::Dropped,
            6 if is(b"server") => Known::Dropped,
            7 if is(b"trailer") || is(b"upgrade") && self.status != 101 && self.status != 426 => {
                Known::Dropped
            }
            8 if is(b"trailers") => Known::Dropped,
            10 if is(b"keep-alive") => Known::Dropped,
            17 if is(b"transfer-encoding") => Known::Dropped,
            18 if is(b"proxy-authenticate") => Known::Dropped,
            19 if is(b"proxy-authorization") => Known::Dropped,
            _ => Known::Other,
        }
    }

    /// Adds an interim response (1xx) before this one.
    pub fn interim(&mut self, status_line: &[u8], lines: &[u8]) {
        self.output.extend_from_slice(status_line);
        self.output.extend_from_slice(lines);
        self.output.extend_from_slice(b"\r\n");
        self.starts_at = self.output.len();
    }

    /// Tells whether a status has been named.
    pub fn is_started(&self) -> bool {
        self.status != 0
    }

    /// Tells whether the head is in `output`.
    pub fn has_head(&self) -> bool {
        self.framing != Framing::Open
    }

    /// Tells whether bytes of this response have been handed to the socket.
    pub fn is_flushed(&self) -> bool {
        self.flushed
    }

    /// Says that the bytes in `output` have been handed to the socket.
    pub fn set_flushed(&mut self) {
        self.flushed = true;
    }

    /// Tells whether all that was promised is in `output`.
    pub fn is_complete(&self) -> bool {
        matches!(self.framing, Framing::Length(0) | Framing::Done)
    }

    /// Returns how many bytes are still promised by Content-Length, where there is one and the head is written.
    pub fn promised(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Returns the field lines named by the application, as bytes; without those that were dropped.
    pub fn field_lines(&self) -> &[u8] {
        &self.fields
    }

    /// Returns the Content-Length that the application named.
    pub fn content_length(&self) -> Option<u64> {
        self.length
    }

    /// Writes the head. `whole` is the length of the body where it is known that nothing follows the piece at hand;
    /// it becomes the Content-Length if the application named none. `common` holds the Server and Date lines.
    pub fn head(&mut self, whole: Option<u64>, common: &[u8]) {
        let Some(exchange) = self.exchange else { return };
        let bodiless_status = self.status < 200 || self.status == 204;
        let length =
            if bodiless_status { None } else { self.length.or(whole.filter(|_| self.status != 304)) };
        let bodiless = bodiless_status || self.status == 304 || exchange.head_only;
        let modern = exchange.version >= (1, 1);
        self.framing = match length {
            _ if bodiless => Framing::Bodiless,
            Some(length) => Framing::Length(length),
            None if modern => Framing::Chunked,
            None => Framing::Close,
        };
        if self.framing == Framing::Close || self.status < 200 {
            self.keep_alive = false;
        }
        let out = &mut self.output;
        out.extend_from_slice(if modern { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
        out.extend_from_slice(&self.status_line);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(common);
        out.extend_from_slice(match (self.upgrade, self.keep_alive) {
            (true, _) => b"Connection: upgrade\r\n",
            (false, true) => b"Connection: keep-alive\r\n",
            (false, false) => b"Connection: close\r\n",
        });
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        out.extend_from_slice(&self.fields);
        if let Some(length) = length {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Adds a piece of the body. What goes beyond Content-Length, or may not be sent, is left out (Gunicorn 27).
    pub fn body(&mut self, piece: &[u8]) {
        let take = self.accept(piece.len() as u64);
        if take == 0 {
            return;
        }
        let piece = &piece[..take as usize];
        if self.framing == Framing::Chunked {
            chunk_size(&mut self.output, piece.len());
            self.output.extend_from_slice(piece);
            self.output.extend_from_slice(b"\r\n");
        } else {
            self.output.extend_from_slice(piece);
        }
    }

    /// Counts `len` bytes of body that are about to be sent; returns how many of them may be.
    pub fn accept(&mut self, len: u64) -> u64 {
        let take = match &mut self.framing {
            Framing::Length(left) => {
                let take = len.min(*left);
                *left -= take;
                take
            }
            Framing::Chunked | Framing::Close => len,
            Framing::Open | Framing::Bodiless | Framing::Done => 0,
        };
        self.body_bytes += take;
        take
    }

    /// Ends the response. A body shorter than its Content-Length closes the connection, so that the client learns.
    pub fn finish(&mut self) {
        match self.framing {
            Framing::Chunked => {
                self.output.extend_from_slice(b"0\r\n");
                self.output.extend_from_slice(&self.trailers);
                self.output.extend_from_slice(b"\r\n");
            }
            Framing::Length(left) if left > 0 => self.keep_alive = false,
            _ => {}
        }
        self.framing = Framing::Done;
    }

    /// Ends the response in the middle: the connection closes without the last chunk, so that the client learns.
    pub fn abort(&mut self) {
        self.keep_alive = false;
        self.framing = Framing::Done;
    }

    /// Puts a whole response of ours in the place of the application's.
    pub fn replace(&mut self, status: u16, page: impl FnOnce(&mut Vec<u8>, bool)) {
        let head_only = self.exchange.is_some_and(|exchange| exchange.head_only);
        self.status = status;
        let before = self.output.len();
        page(&mut self.output, head_only);
        let added = &self.output[before..];
        let head = memchr::memmem::find(added, b"\r\n\r\n").map_or(added.len(), |at| at + 4);
        self.body_bytes = (added.len() - head) as u64;
        self.abort();
    }
}

fn checked(name: &[u8], value: &[u8]) -> Result<(), Invalid> {
    let named = || String::from_utf8_lossy(&name[..name.len().min(80)]).into_owned();
    if !is_token(name) {
        return Err(Invalid::FieldName(named()));
    }
    if !value.iter().all(|byte| is_field_byte(*byte)) {
        return Err(Invalid::FieldValue(named()));
    }
    Ok(())
}

enum Known {
    Length,
    Connection,
    Dropped,
    Other,
}

fn chunk_size(out: &mut Vec<u8>, len: usize) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(len >> (digit * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exchange(version: (u8, u8), head_only: bool) -> Exchange {
        Exchange { version, head_only, keep_alive: true }
    }

    fn build(
        exchange: Exchange,
        status: &str,
        fields: &[(&str, &str)],
        pieces: &[&str],
        whole: bool,
    ) -> (String, bool) {
        let mut response = Response::default();
        response.open(exchange);
        response.status(status.as_bytes()).expect("a status");
        for (name, value) in fields {
            response.field(name.as_bytes(), value.as_bytes()).expect("a field");
        }
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        response.head(whole.then_some(length), b"");
        for piece in pieces {
            response.body(piece.as_bytes());
        }
        response.finish();
        (String::from_utf8(response.output).expect("text"), response.keep_alive)
    }

    #[test]
    fn framing() {
        let new = exchange((1, 1), false);
        let old = exchange((1, 0), false);
        let head = exchange((1, 1), true);
        let cl = |n| [("Content-Length", n)];
        type Row<'a> = (Exchange, &'a str, &'a [(&'a str, &'a str)], &'a [&'a str], bool, &'a str, bool);
        let table: &[Row<'_>] = &[
            (new, "200 OK", &cl("2"), &["hi"], false, "keep-alive\r\nContent-Length: 2\r\n\r\nhi", true),
            (new, "200 OK", &[], &["hi"], true, "keep-alive\r\nContent-Length: 2\r\n\r\nhi", true),
            (
                new,
                "200 OK",
                &[],
                &["hi"],
                false,
                "keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                true,
            ),
            (
                new,
                "200 OK",
                &[],
                &["", "abcdefghijklmnopq"],
                false,
                "keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n11\r\nabcdefghijklmnopq\r\n0\r\n\r\n",
                true,
            ),
            (old, "200 OK", &[], &["hi"], false, "close\r\n\r\nhi", false),
            (new, "200 OK", &cl("1"), &["hi"], false, "keep-alive\r\nContent-Length: 1\r\n\r\nh", true),
            (new, "200 OK", &cl("3"), &["hi"], false, "keep-alive\r\nContent-Length: 3\r\n\r\nhi", false),
            (new, "204 No Content", &cl("2"), &["hi"], false, "keep-alive\r\n\r\n", true),
            (
                new,
                "304 Not Modified",
                &cl("9"),
                &["hi"],
                false,
                "keep-alive\r\nContent-Length: 9\r\n\r\n",
                true,
            ),
            (head, "200 OK", &cl("9"), &["hi"], false, "keep-alive\r\nContent-Length: 9\r\n\r\n", true),
            (head, "200 OK", &[], &["hi"], true, "keep-alive\r\nContent-Length: 2\r\n\r\n", true),
            (
                new,
                "200 OK",
                &[("Connection", "close")],
                &[],
                true,
                "close\r\nContent-Length: 0\r\n\r\n",
                false,
            ),
            (
                new,
                "200 OK",
                &[("Keep-Alive", "x"), ("Date", "x"), ("Server", "x"), ("X", " y ")],
                &[],
                true,
                "keep-alive\r\nX: y\r\nContent-Length: 0\r\n\r\n",
                true,
            ),
        ];
        for (exchange, status, fields, pieces, whole, expected, keep) in table {
            let (text, keep_alive) = build(*exchange, status, fields, pieces, *whole);
            let version = if exchange.version == (1, 1) { "1.1" } else { "1.0" };
            assert_eq!(text, format!("HTTP/{version} {status}\r\nConnection: {expected}"));
            assert_eq!(keep_alive, *keep, "{text}");
        }
    }

    #[test]
    fn what_an_application_may_not_say() {
        let mut response = Response::default();
        response.open(exchange((1, 1), false));
        for status in ["", "20", "200OK", "2x0 OK", "200 O\r\nK", "099 Low", "1000 X", "OK 200"] {
            assert!(response.status(status.as_bytes()).is_err(), "{status:?}");
        }
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("a", "x\ny"),
            ("a", "x\r"),
            ("a", "\0"),
            ("Content-Length", "x"),
            ("Content-Length", "-1"),
        ] {
            assert!(response.field(name.as_bytes(), value.as_bytes()).is_err(), "{name:?} {value:?}");
        }
    }

    #[test]
    fn nothing_is_taken_back_once_sent() {
        let mut response = Response::default();
        response.output.extend_from_slice(b"earlier");
        response.open(exchange((1, 1), false));
        response.status(b"200 OK").expect("a status");
        response.head(None, b"");
        assert!(response.take_back());
        assert_eq!(response.output, b"earlier");
        response.set_flushed();
        assert!(!response.take_back());
    }

    proptest! {
        #[test]
        fn whatever_the_application_says_the_head_stays_whole(
            status in "\\PC{0,12}", name in "\\PC{0,12}", value in "[\\PC\r\n]{0,12}", body in "\\PC{0,40}",
        ) {
            let mut response = Response::default();
            response.open(exchange((1, 1), false));
            if response.status(status.as_bytes()).is_err() {
                response.restart();
                response.status(b"200 OK").expect("a status");
            }
            let _ = response.field(name.as_bytes(), value.as_bytes());
            response.head(None, b"");
            response.body(body.as_bytes());
            response.finish();
            let end = memchr::memmem::find(&response.output, b"\r\n\r\n").expect("a head");
            let lines = response.output[..end].split(|byte| *byte == b'\n').count();
            prop_assert!((2..=4).contains(&lines));
        }
    }
}
