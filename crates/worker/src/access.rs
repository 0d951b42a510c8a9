//! The access log: Gunicorn's atoms compiled once into segments, lines gathered and written many at a time.
//!
//! Atoms and their meaning are Gunicorn 27's (`%(h)s` … `%({name}i)s`); the durations are true ones, from the
//! complete head to the application's end. A format that needs the application's own objects (environ variables) is
//! not compiled: the application's logger does it. Not for: the error log.

use crate::conn::{Conn, Peer};
use crate::http::token::percent_decoded;
use base64::Engine;
use ferricorn_sys::clock;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Lines are written when so many bytes have gathered, and before every wait.
const GATHER: usize = 32 << 10;

/// A compiled `access_log_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFormat {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    Atom(Atom),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    RemoteAddress,
    Dash,
    User,
    Time,
    RequestLine,
    Status,
    Method,
    Path,
    Query,
    Protocol,
    Bytes,
    Referer,
    UserAgent,
    Seconds,
    Milliseconds,
    Microseconds,
    DecimalSeconds,
    Pid,
    Outcome,
    RequestField(String),
    ResponseField(String),
}

impl AccessFormat {
    /// Compiles a format; `None` if it uses what only the application knows (`{name}e`) or is no format of ours.
    pub fn compile(format: &str) -> Option<Self> {
        let mut segments = Vec::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            push_text(&mut segments, &rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                push_text(&mut segments, "%");
                rest = after;
                continue;
            }
            let (name, after) = rest.strip_prefix('(')?.split_once(')')?;
            rest = after.strip_prefix('s')?;
            segments.push(Segment::Atom(Atom::named(name)?));
        }
        push_text(&mut segments, rest);
        Some(Self { segments })
    }

    fn write(&self, out: &mut Vec<u8>, conn: &Conn, time: &str) {
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => out.extend_from_slice(text.as_bytes()),
                Segment::Atom(atom) => atom.write(out, conn, time),
            }
        }
        out.push(b'\n');
    }
}

fn push_text(segments: &mut Vec<Segment>, text: &str) {
    match segments.last_mut() {
        _ if text.is_empty() => {}
        Some(Segment::Text(before)) => before.push_str(text),
        _ => segments.push(Segment::Text(text.to_owned())),
    }
}

impl Atom {
    fn named(name: &str) -> Option<Self> {
        if let Some(inner) = name.strip_prefix('{') {
            let (field, kind) = inner.split_once('}')?;
            return match kind {
                "i" => Some(Self::RequestField(field.to_owned())),
                "o" => Some(Self::ResponseField(field.to_owned())),
                // Ours; Gunicorn answers a dash to it.
                "x" if field.eq_ignore_ascii_case("outcome") => Some(Self::Outcome),
                "x" => Some(Self::Dash),
                _ => None,
            };
        }
        Some(match name {
            "h" => Self::RemoteAddress,
            "l" => Self::Dash,
            "u" => Self::User,
            "t" => Self::Time,
            "r" => Self::RequestLine,
            "s" => Self::Status,
            "m" => Self::Method,
            "U" => Self::Path,
            "q" => Self::Query,
            "H" => Self::Protocol,
            "b" | "B" => Self::Bytes,
            "f" => Self::Referer,
            "a" => Self::UserAgent,
            "T" => Self::Seconds,
            "M" => Self::Milliseconds,
            "D" => Self::Microseconds,
            "L" => Self::DecimalSeconds,
            "p" => Self::Pid,
            // Gunicorn's SafeAtoms answers a dash to what it does not know.
            _ => Self::Dash,
        })
    }

    fn write(&self, out: &mut Vec<u8>, conn: &Conn, time: &str) {
        let head = &conn.head;
        let took_us = conn.stamps.done_ns.saturating_sub(conn.stamps.head_ns) / 1000;
        match self {
            Self::RemoteAddress => match conn.peer {
                Peer::Tcp(_) => {
                    let address = conn.client.rsplit_once(':').map_or("", |(ip, _)| ip);
                    out.extend_from_slice(address.trim_matches(['[', ']']).as_bytes());
                }
                Peer::Unix => {}
            },
            Self::Dash => out.push(b'-'),
            Self::User => match user(head.field(b"authorization")) {
                Some(user) => user.chars().for_each(|letter| escaped_char(out, letter)),
                None => out.push(b'-'),
            },
            Self::Time => out.extend_from_slice(time.as_bytes()),
            Self::RequestLine => {
                out.extend_from_slice(head.method());
                out.push(b' ');
                escaped(out, Some(head.get(&head.target)));
                out.push(b' ');
                protocol(out, head.version);
            }
            Self::Status => number(out, u64::from(conn.response.status)),
            Self::Method => out.extend_from_slice(head.method()),
            Self::Path => {
                escaped(out, Some(&percent_decoded(head.get(&head.path)[conn.script_len..].as_ref())))
            }
            Self::Query => {
                escaped(out, Some(head.get(&head.query)).filter(|query| !query.is_empty()).or(Some(b"")))
            }
            Self::Protocol => protocol(out, head.version),
            Self::Bytes => number(out, conn.response.body_bytes),
            Self::Referer => escaped(out, head.field(b"referer")),
            Self::UserAgent => escaped(out, head.field(b"user-agent")),
            Self::Seconds => number(out, took_us / 1_000_000),
            Self::Milliseconds => number(out, took_us / 1000),
            Self::Microseconds => number(out, took_us),
            Self::DecimalSeconds => {
                let _ = write!(out, "{}.{:06}", took_us / 1_000_000, took_us % 1_000_000);
            }
            Self::Pid => {
                let _ = write!(out, "<{}>", std::process::id());
            }
            Self::Outcome => out.extend_from_slice(conn.outcome.name().as_bytes()),
            Self::RequestField(name) => escaped(out, head.last_field(name.as_bytes())),
            Self::ResponseField(name) => response_field(out, conn, name),
        }
    }
}

fn response_field(out: &mut Vec<u8>, conn: &Conn, name: &str) {
    if name.eq_ignore_ascii_case("content-length") {
        return match conn.response.content_length() {
            Some(length) => number(out, length),
            None => out.push(b'-'),
        };
    }
    let mut values = conn.response.field_lines().split(|byte| *byte == b'\n').filter_map(|line| {
        let (field, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        field.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
    });
    // Of several the last one counts, as in Gunicorn.
    escaped(out, values.next_back());
}

/// Writes latin-1 bytes as UTF-8 with quotes escaped, as Python's logger would; a dash where there is nothing.
fn escaped(out: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(value) = value else { return out.push(b'-') };
    value.iter().for_each(|byte| escaped_char(out, char::from(*byte)));
}

fn escaped_char(out: &mut Vec<u8>, letter: char) {
    match letter {
        '"' => out.extend_from_slice(b"\\\""),
        '\0'..' ' | '\x7f' => {
            let _ = write!(out, "\\x{:02x}", u32::from(letter));
        }
        ' '..'\x7f' => out.push(letter as u8),
        _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn protocol(out: &mut Vec<u8>, version: (u8, u8)) {
    out.extend_from_slice(&[b'H', b'T', b'T', b'P', b'/', b'0' + version.0, b'.', b'0' + version.1]);
}

/// The user of Basic credentials (RFC 7617).
fn user(authorization: Option<&[u8]>) -> Option<String> {
    let (scheme, credentials) = authorization?.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(credentials.trim_ascii()).ok()?;
    let user = decoded.split(|byte| *byte == b':').next()?.to_vec();
    String::from_utf8(user).ok().filter(|user| !user.is_empty())
}

/// Where lines go, and those not yet written. Owned by the loop; other threads never touch it.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    path: Option<PathBuf>,
    out: OwnedFd,
    lines: Vec<u8>,
    second: u64,
    time: String,
}

impl AccessLog {
    /// Opens the log: a file to append to, or standard output without a path.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(format: AccessFormat, path: Option<PathBuf>) -> io::Result<Self> {
        let out = Self::target(path.as_ref())?;
        Ok(Self { format, path, out, lines: Vec::with_capacity(2 * GATHER), second: 0, time: String::new() })
    }

    fn target(path: Option<&PathBuf>) -> io::Result<OwnedFd> {
        match path {
            Some(path) => {
                let file: File = OpenOptions::new().append(true).create(true).open(path)?;
                Ok(file.into())
            }
            None => io::stdout().as_fd().try_clone_to_owned(),
        }
    }

    /// Opens the file again, after rotation. The old one stays if that fails.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.write();
        self.out = Self::target(self.path.as_ref())?;
        Ok(())
    }

    pub(crate) fn line(&mut self, conn: &Conn) {
        let second = clock::wall_seconds();
        if second != self.second {
            self.second = second;
            self.time = stamp(clock::local(second));
        }
        self.format.write(&mut self.lines, conn, &self.time);
        if self.lines.len() >= GATHER {
            self.write();
        }
    }

    /// Writes what has gathered: whole lines, in one call where the system takes them.
    pub(crate) fn write(&mut self) {
        let mut rest = &self.lines[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.out, rest) {
                Ok(count) => rest = &rest[count..],
                Err(rustix::io::Errno::INTR) => {}
                // A full disk or a closed pipe loses lines, never requests.
                Err(_) => break,
            }
        }
        self.lines.clear();
    }
}

/// `[23/Nov/2026:02:20:28 +0000]`.
fn stamp(at: clock::Local) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS[(at.month as usize + 11) % 12];
    let (sign, offset) = if at.offset_s < 0 { ('-', -at.offset_s) } else { ('+', at.offset_s) };
    format!(
        "[{:02}/{month}/{:04}:{:02}:{:02}:{:02} {sign}{:02}{:02}]",
        at.day,
        at.year,
        at.hour,
        at.minute,
        at.second,
        offset / 3600,
        offset / 60 % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_compile() {
        for format in ["%(h)s %(l)s", "%({x-y}i)s%%", "%({outcome}x)s", "plain", "%(zz)s"] {
            assert!(AccessFormat::compile(format).is_some(), "{format}");
        }
        for format in ["%({wsgi.url_scheme}e)s", "%h", "%(h", "%(h)d", "%"] {
            assert!(AccessFormat::compile(format).is_none(), "{format}");
        }
    }

    #[test]
    fn time_has_the_zone() {
        let at =
            clock::Local { year: 2026, month: 11, day: 3, hour: 4, minute: 5, second: 6, offset_s: -5400 };
        assert_eq!(stamp(at), "[03/Nov/2026:04:05:06 -0130]");
    }

    #[test]
    fn users() {
        assert_eq!(user(Some(b"Basic dXNlcjpwYXNz")).as_deref(), Some("user"));
        assert_eq!(user(Some(b"Basic !!")), None);
        assert_eq!(user(Some(b"Bearer x")), None);
    }

    #[test]
    fn values_cannot_break_a_line() {
        let mut out = Vec::new();
        escaped(&mut out, Some(b"a\"b\tc\xe9"));
        assert_eq!(out, "a\\\"b\\x09cé".as_bytes());
    }
}
