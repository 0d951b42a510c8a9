//! Request heads: finding their end, Gunicorn's limits and strictness, and what they say about the message.
//!
//! Two steps. [`Scan`] looks at every byte once, however the head arrives: it refuses bare LF (RFC 9112 section 2.2
//! allows that), enforces the limits while the head is still coming, and finds the end. [`parse`] then takes the
//! whole head apart: the request line by RFC 9112 section 3, field lines by `httparse`, and the rules on top that
//! keep two parsers from reading one message differently (Gunicorn 27, RFC 9112 sections 6 and 11).
//! Not for: bodies (see [`super::body`]).

use super::refusal::{Form, Refusal};
use super::token::{is_token, trim};
use super::{request_start, time_left};
use memchr::{memchr, memchr_iter, memmem};
use std::ops::Range;

/// How strict to be and how much to take; one for the life of a worker.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Longest request line in bytes; 0 for no limit.
    pub request_line_max: usize,
    /// Most field lines.
    pub fields_max: usize,
    /// Longest field line in bytes, its CRLF included.
    pub field_size_max: usize,
    /// Accept any token as a method.
    pub unconventional_method: bool,
    /// Accept HTTP versions outside 1.0 to 1.9.
    pub unconventional_version: bool,
    /// Turn methods into upper case.
    pub casefold_method: bool,
    /// Accept folded field lines (RFC 9112 section 5.2), joined by a space.
    pub obsolete_folding: bool,
    /// Accept spaces between a field name and its colon.
    pub strip_header_spaces: bool,
    /// What happens to field names with an underscore.
    pub header_map: HeaderMap,
    /// Names in upper case that a trusted proxy may send with an underscore; `*` for all.
    pub forwarder_headers: Vec<String>,
    /// Names in upper case and the values by which a trusted proxy says "https".
    pub secure_scheme_headers: Vec<(String, String)>,
    /// The name of the field by which a trusted peer says how long it still waits, in any case.
    pub deadline_header: Option<String>,
}

impl Default for Rules {
    fn default() -> Self {
        let scheme = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            request_line_max: 4094,
            fields_max: 100,
            field_size_max: 8190,
            unconventional_method: false,
            unconventional_version: false,
            casefold_method: false,
            obsolete_folding: false,
            strip_header_spaces: false,
            header_map: HeaderMap::Drop,
            forwarder_headers: vec!["SCRIPT_NAME".to_owned(), "PATH_INFO".to_owned()],
            secure_scheme_headers: vec![
                scheme("X-FORWARDED-PROTOCOL", "ssl"),
                scheme("X-FORWARDED-PROTO", "https"),
                scheme("X-FORWARDED-SSL", "on"),
            ],
            deadline_header: None,
        }
    }
}

/// What happens to field names with an underscore, which WSGI cannot tell from a hyphen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMap {
    /// Leave the field out.
    Drop,
    /// Refuse the request.
    Refuse,
    /// Keep it.
    Dangerous,
}

/// A field line as ranges of [`Head::raw`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name as sent.
    pub name: Range<u32>,
    /// Value without the space around it.
    pub value: Range<u32>,
}

/// How the body of a request ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// After so many bytes.
    Length(u64),
    /// By the last chunk.
    Chunked,
}

/// A request head taken apart. Reused from request to request: its buffers keep their memory.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The bytes that the ranges point into: the head as received (unfolded where that is allowed).
    pub raw: Vec<u8>,
    /// Method.
    pub method: Range<u32>,
    /// Request target as sent (`RAW_URI`).
    pub target: Range<u32>,
    /// Path of the target, still percent-encoded.
    pub path: Range<u32>,
    /// Query of the target, without the question mark.
    pub query: Range<u32>,
    /// Major and minor version.
    pub version: (u8, u8),
    /// Field lines that the application sees, in order.
    pub fields: Vec<Field>,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the client wants the connection kept after the response.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expect_continue: bool,
    /// Whether a trusted proxy says that the client speaks https.
    pub https: bool,
    /// How the client reads a page of ours best.
    pub form: Form,
    /// When a trusted proxy says that it got the request, nanoseconds since 1970; 0 if it does not.
    pub sent_ns: u64,
    /// For how long a trusted peer says that it still waits, nanoseconds; 0 if it does not.
    pub left_ns: u64,
}

impl Head {
    /// Returns a head of which only method and path are known.
    pub(crate) fn of(method: &str, path: &str) -> Self {
        let raw = format!("{method} {path} HTTP/1.1").into_bytes();
        let (at, end) = (method.len() + 1, method.len() + 1 + path.len());
        Self {
            raw,
            method: span(0..method.len()),
            target: span(at..end),
            path: span(at..end),
            query: span(end..end),
            version: (1, 1),
            ..Self::default()
        }
    }

    /// Returns the bytes of one of the ranges.
    pub fn get(&self, range: &Range<u32>) -> &[u8] {
        &self.raw[range.start as usize..range.end as usize]
    }

    /// Returns the method.
    pub fn method(&self) -> &[u8] {
        self.get(&self.method)
    }

    /// Returns the first value of a field, by its name in any case.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let found = self.fields.iter().find(|field| self.get(&field.name).eq_ignore_ascii_case(name))?;
        Some(self.get(&found.value))
    }

    /// Takes fields of this name out, and returns the value of the first.
    pub(crate) fn take_field(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let value = self.field(name)?.to_vec();
        let mut fields = std::mem::take(&mut self.fields);
        fields.retain(|field| !self.get(&field.name).eq_ignore_ascii_case(name));
        self.fields = fields;
        Some(value)
    }

    /// Returns the value of the last field of this name, where the last one counts (access log).
    pub fn last_field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().filter(|(field, _)| field.eq_ignore_ascii_case(name)).last().map(|(_, value)| value)
    }

    /// Returns name and value of every field, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.get(&field.name), self.get(&field.value)))
    }
}

/// Looks for the end of a head in bytes that arrive bit by bit; each byte is looked at once.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    at: usize,
    line_start: usize,
    request_line: Option<Range<usize>>,
    skipped_blank: bool,
    field_start: usize,
    fields: usize,
}

/// Where a complete head lies in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The request line without its CRLF.
    pub request_line: Range<usize>,
    /// The first byte after the head.
    pub end: usize,
}

impl Scan {
    /// Goes on where the last call stopped. `None` asks for more bytes.
    ///
    /// # Errors
    /// 400 for a bare LF or folding, 414 and 431 for what is over a limit.
    pub fn advance(&mut self, input: &[u8], rules: &Rules) -> Result<Option<Found>, Refusal> {
        for offset in memchr_iter(b'\n', &input[self.at..]) {
            let lf = self.at + offset;
            if lf == self.line_start || input[lf - 1] != b'\r' {
                return Err(Refusal::bad("bare LF as line terminator"));
            }
            let line = self.line_start..lf - 1;
            self.line_start = lf + 1;
            match &self.request_line {
                None if line.is_empty() && !self.skipped_blank => self.skipped_blank = true,
                None => {
                    check_request_line(line.len(), rules)?;
                    self.request_line = Some(line);
                }
                Some(request_line) if line.is_empty() => {
                    return Ok(Some(Found { request_line: request_line.clone(), end: lf + 1 }));
                }
                Some(_) => self.field_line(&input[line.clone()], line.start, lf + 1, rules)?,
            }
        }
        self.at = input.len();
        let partial = input.len() - self.line_start;
        if self.request_line.is_none() {
            // The CR of a line end that is still to come is not part of the line.
            check_request_line(partial.saturating_sub(2), rules)?;
        } else if partial > rules.field_size_max {
            return Err(field_too_large());
        }
        Ok(None)
    }

    /// Tells whether nothing of a request has arrived (a blank line before it does not count).
    pub fn is_untouched(&self) -> bool {
        self.request_line.is_none() && self.line_start == self.at
    }

    fn field_line(&mut self, line: &[u8], start: usize, end: usize, rules: &Rules) -> Result<(), Refusal> {
        if matches!(line[0], b' ' | b'\t') {
            if !rules.obsolete_folding || self.fields == 0 {
                return Err(Refusal::bad("obsolete line folding"));
            }
        } else {
            self.fields += 1;
            self.field_start = start;
        }
        if self.fields > rules.fields_max {
            return Err(Refusal::new(431, "limit request headers fields"));
        }
        if end - self.field_start > rules.field_size_max {
            return Err(field_too_large());
        }
        Ok(())
    }
}

fn check_request_line(len: usize, rules: &Rules) -> Result<(), Refusal> {
    if rules.request_line_max > 0 && len > rules.request_line_max {
        return Err(Refusal::new(414, "request line is too large"));
    }
    Ok(())
}

fn field_too_large() -> Refusal {
    Refusal::new(431, "limit request headers fields size")
}

/// Takes a complete head apart into `head`. `trusted` says whether the peer may speak for its client
/// (`forwarded_allow_ips`).
///
/// # Errors
/// The status and reason for which the request is refused.
pub fn parse(
    input: &[u8],
    found: &Found,
    rules: &Rules,
    trusted: bool,
    head: &mut Head,
) -> Result<(), Refusal> {
    head.fields.clear();
    head.raw.clear();
    head.framing = Framing::None;
    head.expect_continue = false;
    head.https = false;
    let line_len = found.request_line.len();
    head.raw.extend_from_slice(&input[found.request_line.start..found.end]);
    if rules.obsolete_folding || rules.strip_header_spaces {
        loosen(&mut head.raw, line_len + 2, rules);
    }
    request_line(head, line_len, rules)?;
    fields(head, line_len + 2, rules, trusted)
}

/// The request line: method SP target SP version (RFC 9112 section 3).
fn request_line(head: &mut Head, len: usize, rules: &Rules) -> Result<(), Refusal> {
    let line = &head.raw[..len];
    let invalid = || Refusal::quoting("invalid request line", line);
    let first = memchr(b' ', line).ok_or_else(invalid)?;
    let second = first + 1 + memchr(b' ', &line[first + 1..]).ok_or_else(invalid)?;
    let (method, target, version) = (&line[..first], &line[first + 1..second], &line[second + 1..]);
    check_method(method, rules)?;
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(invalid());
    }
    let (path, query) = split_target(target, method).ok_or_else(invalid)?;
    head.version = parse_version(version, rules)?;
    let base = first + 1;
    head.method = span(0..first);
    head.target = span(base..second);
    head.path = span(base + path.start..base + path.end);
    head.query = span(base + query.start..base + query.end);
    if rules.casefold_method {
        head.raw[..first].make_ascii_uppercase();
    }
    Ok(())
}

fn check_method(method: &[u8], rules: &Rules) -> Result<(), Refusal> {
    let conventional =
        || (3..=20).contains(&method.len()) && !method.iter().any(|b| b.is_ascii_lowercase() || *b == b'#');
    if !is_token(method) || !(rules.unconventional_method || conventional()) {
        return Err(Refusal::quoting("invalid HTTP method", method));
    }
    Ok(())
}

/// Returns path and query of a target in one of the four forms of RFC 9112 section 3.2, or `None`.
fn split_target(target: &[u8], method: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let len = target.len();
    if target == b"*" {
        return (method == b"OPTIONS").then_some((0..1, len..len));
    }
    let start = if target[0] == b'/' {
        0
    } else if method == b"CONNECT" {
        // Authority form has no path; the application sees an empty one (RAW_URI has the rest).
        return Some((len..len, len..len));
    } else {
        let authority = memmem::find(target, b"://")? + 3;
        let after = target[authority..].iter().position(|b| matches!(b, b'/' | b'?' | b'#'));
        authority + after.unwrap_or(len - authority)
    };
    let end = memchr(b'#', &target[start..]).map_or(len, |at| start + at);
    Some(match memchr(b'?', &target[start..end]) {
        Some(mark) => (start..start + mark, start + mark + 1..end),
        None => (start..end, end..end),
    })
}

fn parse_version(version: &[u8], rules: &Rules) -> Result<(u8, u8), Refusal> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9']
            if *major == b'1' || rules.unconventional_version =>
        {
            Ok((major - b'0', minor - b'0'))
        }
        _ => Err(Refusal::quoting("invalid HTTP version", version)),
    }
}

/// Rewrites a head in place for the two settings that allow what `httparse` does not: joins folded lines by a space
/// and removes spaces before a colon. Slow, and only taken when one of them is on.
fn loosen(raw: &mut Vec<u8>, fields_at: usize, rules: &Rules) {
    let mut out = raw[..fields_at].to_vec();
    let block = &raw[fields_at..];
    for line in block.split_inclusive(|byte| *byte == b'\n') {
        if rules.obsolete_folding && matches!(line[0], b' ' | b'\t') && out.len() > fields_at {
            out.truncate(out.len() - 2);
            out.push(b' ');
            out.extend_from_slice(trim(line));
            continue;
        }
        match memchr(b':', line) {
            Some(colon) if rules.strip_header_spaces => {
                let name = line[..colon].trim_ascii_end();
                out.extend_from_slice(name);
                out.extend_from_slice(&line[colon..]);
            }
            _ => out.extend_from_slice(line),
        }
    }
    *raw = out;
}

/// What one pass over the field lines has learnt.
#[derive(Default)]
struct Seen {
    host: bool,
    content_type: bool,
    length: Option<u64>,
    transfer_encoding: bool,
    chunked: bool,
    other_coding: bool,
    scheme: Option<bool>,
    close: bool,
    keep: bool,
    form: Form,
    sent_ns: u64,
    left_ns: u64,
}

fn fields(head: &mut Head, at: usize, rules: &Rules, trusted: bool) -> Result<(), Refusal> {
    let mut seen = Seen::default();
    let mut few = [httparse::EMPTY_HEADER; 32];
    let mut many = Vec::new();
    let block = &head.raw[at..];
    let parsed = match httparse::parse_headers(block, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            many.resize(rules.fields_max, httparse::EMPTY_HEADER);
            httparse::parse_headers(block, &mut many)
        }
        done => done,
    };
    let parsed = match parsed {
        Ok(httparse::Status::Complete((_, parsed))) => parsed,
        Ok(httparse::Status::Partial) => return Err(Refusal::bad("invalid header")),
        Err(httparse::Error::HeaderName) => return Err(Refusal::bad("invalid header name")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "limit request headers fields"));
        }
        Err(_) => return Err(Refusal::bad("invalid header")),
    };
    let base = head.raw.as_ptr().addr();
    for line in parsed {
        let (name, value) = (line.name.as_bytes(), line.value);
        if name.is_empty() {
            return Err(Refusal::bad("invalid header name"));
        }
        let kept =
            keep_field(name, value, rules, trusted, &mut seen, head.version, &mut head.expect_continue)?;
        if kept {
            let name_at = name.as_ptr().addr() - base;
            let value_at = value.as_ptr().addr() - base;
            let value_at = if value.is_empty() { name_at } else { value_at };
            head.fields.push(Field {
                name: span(name_at..name_at + name.len()),
                value: span(value_at..value_at + value.len()),
            });
        }
    }
    conclude(head, &seen)
}

/// Applies the rules of one field; tells whether the application sees it.
fn keep_field(
    name: &[u8],
    value: &[u8],
    rules: &Rules,
    trusted: bool,
    seen: &mut Seen,
    version: (u8, u8),
    expect_continue: &mut bool,
) -> Result<bool, Refusal> {
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => once(&mut seen.host, "duplicate Host header")?,
        12 if name.eq_ignore_ascii_case(b"content-type") => {
            once(&mut seen.content_type, "duplicate Content-Type header")?;
        }
        14 if name.eq_ignore_ascii_case(b"content-length") => content_length(value, seen)?,
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => transfer_encoding(value, seen)?,
        10 if name.eq_ignore_ascii_case(b"connection") => connection(value, seen),
        6 if name.eq_ignore_ascii_case(b"expect") => {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::new(417, "unsupported expectation"));
            }
            // RFC 9110 section 10.1.1: an HTTP/1.0 client cannot be waiting for it.
            *expect_continue = version >= (1, 1);
        }
        6 if name.eq_ignore_ascii_case(b"accept") => seen.form = Form::of(value),
        15 if trusted && name.eq_ignore_ascii_case(b"x-request-start") => {
            seen.sent_ns = request_start::parse(value).unwrap_or(0);
        }
        _ => {}
    }
    if trusted
        && let Some(header) = &rules.deadline_header
        && name.eq_ignore_ascii_case(header.as_bytes())
    {
        seen.left_ns = time_left::shorter(seen.left_ns, time_left::parse(value).unwrap_or(0));
    }
    if trusted && let Some(https) = scheme_header(name, value, rules) {
        if seen.scheme.is_some_and(|before| before != https) {
            return Err(Refusal::bad("contradictory scheme headers"));
        }
        seen.scheme = Some(https);
    }
    if memchr(b'_', name).is_some() {
        return underscore(name, rules, trusted);
    }
    Ok(true)
}

fn once(seen: &mut bool, detail: &'static str) -> Result<(), Refusal> {
    if std::mem::replace(seen, true) { Err(Refusal::bad(detail)) } else { Ok(()) }
}

/// RFC 9112 section 6.3: digits only, once, and not so many that it overflows.
fn content_length(value: &[u8], seen: &mut Seen) -> Result<(), Refusal> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match parsed {
        Some(length) if digits && seen.length.is_none() => seen.length = Some(length),
        _ => return Err(Refusal::bad("invalid Content-Length header")),
    }
    Ok(())
}

/// RFC 9112 section 6.1 as Gunicorn 27 reads it: chunked once and last; codings we do not undo close the connection.
fn transfer_encoding(value: &[u8], seen: &mut Seen) -> Result<(), Refusal> {
    seen.transfer_encoding = true;
    for coding in value.split(|byte| *byte == b',').map(trim) {
        if seen.chunked {
            return Err(Refusal::bad("invalid Transfer-Encoding header"));
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            seen.chunked = true;
        } else if [&b"gzip"[..], b"deflate", b"compress"]
            .iter()
            .any(|known| coding.eq_ignore_ascii_case(known))
        {
            seen.other_coding = true;
        } else if !coding.eq_ignore_ascii_case(b"identity") {
            return Err(Refusal::new(501, "unsupported transfer coding"));
        }
    }
    Ok(())
}

fn connection(value: &[u8], seen: &mut Seen) {
    for option in value.split(|byte| *byte == b',').map(trim) {
        seen.close |= option.eq_ignore_ascii_case(b"close");
        seen.keep |= option.eq_ignore_ascii_case(b"keep-alive");
    }
}

fn scheme_header(name: &[u8], value: &[u8], rules: &Rules) -> Option<bool> {
    let (_, secure) =
        rules.secure_scheme_headers.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))?;
    Some(value == secure.as_bytes())
}

fn underscore(name: &[u8], rules: &Rules, trusted: bool) -> Result<bool, Refusal> {
    let listed = |known: &String| known == "*" || name.eq_ignore_ascii_case(known.as_bytes());
    if trusted && rules.forwarder_headers.iter().any(listed) {
        return Ok(true);
    }
    match rules.header_map {
        HeaderMap::Dangerous => Ok(true),
        HeaderMap::Drop => Ok(false),
        HeaderMap::Refuse => Err(Refusal::quoting("invalid header name", name)),
    }
}

/// What the fields together mean for the message and its connection (RFC 9112 sections 3.2, 6.3 and 9.3).
fn conclude(head: &mut Head, seen: &Seen) -> Result<(), Refusal> {
    let modern = head.version >= (1, 1);
    if modern && !seen.host {
        return Err(Refusal::bad("missing Host header"));
    }
    if seen.transfer_encoding && (!seen.chunked || !modern) {
        return Err(Refusal::bad("invalid Transfer-Encoding header"));
    }
    head.framing = match (seen.chunked, seen.length) {
        (true, Some(_)) => return Err(Refusal::bad("both Content-Length and Transfer-Encoding")),
        (true, None) => Framing::Chunked,
        (false, Some(0)) | (false, None) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
    };
    let connect = head.method() == b"CONNECT";
    head.keep_alive = !seen.close && !seen.other_coding && !connect && (modern || seen.keep);
    head.https = seen.scheme == Some(true);
    head.form = seen.form;
    head.sent_ns = seen.sent_ns;
    head.left_ns = seen.left_ns;
    Ok(())
}

fn span(range: Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
