//! Reads lines of an access log by the format that wrote them: `access_log_format`, of which the parts between atoms say where
//! an atom ends. Where the format is not known, the usual ones are tried; where none fits, the request line with the status
//! behind it is looked for. Not for: files (`tail`), or what a line is counted as.

/// Gunicorn's default.
pub(super) const DEFAULT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;
/// Those that are tried, the closest first. A whole number at the end may be of any unit, so it is none of these.
const USUAL: &[&str] = &[
    r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(L)s"#,
    DEFAULT,
    r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s"#,
    UVICORN,
];
/// What Uvicorn's worker class writes, whatever the format (uvicorn.access).
const UVICORN: &str = r#"%(client)s - "%(r)s" %(s)s"#;
/// Places at which an atom may end that are tried, over the whole line.
const STEPS_MAX: usize = 256;

/// A request, as a line tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) method: String,
    /// Without its query.
    pub(super) path: String,
    pub(super) status: u16,
    /// Microseconds, where the format has them.
    pub(super) us: Option<u64>,
    /// Of the worker, where the format has it.
    pub(super) pid: Option<u32>,
    /// Of the client's connection, where the format has it.
    pub(super) port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Atom(String),
}

/// A format that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pieces: Vec<Piece>,
}

impl Format {
    /// Understands a format; none where two atoms meet without anything between, or it has no request or no status.
    pub(super) fn of(text: &str) -> Option<Self> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            // `%(name)s`, `%({name}i)s`, `%(s)03d`.
            let inner = rest.strip_prefix('(')?;
            let end = inner.find(')')?;
            let (name, behind) = (&inner[..end], &inner[end + 1..]);
            let kind = behind.find(|character: char| character.is_ascii_alphabetic())?;
            if literal.is_empty() && matches!(pieces.last(), Some(Piece::Atom(_))) {
                return None;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Atom(name.to_owned()));
            rest = &behind[kind + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        let format = Self { pieces };
        let path = format.has("r") || format.has("U");
        (path && format.has("s")).then_some(format)
    }

    fn has(&self, name: &str) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Atom(atom) if atom == name))
    }

    /// Finds which of the usual formats has written a line.
    pub(super) fn guess(line: &str) -> Option<Self> {
        USUAL.iter().filter_map(|text| Self::of(text)).find(|format| format.read(line).is_some())
    }

    /// Reads a line; none if it is another's.
    pub(super) fn read(&self, line: &str) -> Option<Line> {
        let mut found = Found::default();
        let mut steps = 0;
        fits(&self.pieces, line, &mut found, &mut steps).then_some(())?;
        found.line()
    }
}

/// What was read of a line so far.
#[derive(Clone, Debug, Default)]
struct Found {
    line: Line,
    /// How fine the duration is: the finest counts.
    fineness: u8,
    has_path: bool,
    has_status: bool,
}

impl Found {
    fn line(self) -> Option<Line> {
        (self.has_path && self.has_status).then_some(self.line)
    }

    /// Takes the value of an atom; false where it cannot be one.
    fn take(&mut self, atom: &str, value: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        let us = match atom {
            "D" => number(value).map(|us| (us, 4)),
            "L" => value
                .parse::<f64>()
                .ok()
                .filter(|s| s.is_finite() && value.contains('.'))
                .map(|s| ((s.max(0.0) * 1e6).round() as u64, 3)),
            "M" => number(value).map(|ms| (ms.saturating_mul(1000), 2)),
            "T" => number(value).map(|s| (s.saturating_mul(1_000_000), 1)),
            _ => None,
        };
        if let Some((us, fineness)) = us
            && fineness > self.fineness
        {
            (self.line.us, self.fineness) = (Some(us), fineness);
        }
        match atom {
            "D" | "L" | "M" | "T" => us.is_some() || value == "-",
            "s" => {
                let status = value.parse().ok();
                self.has_status = status.is_some_and(|status| (100..1000).contains(&status));
                self.line.status = status.unwrap_or(0);
                self.has_status
            }
            "r" => request_line(value).is_some_and(|(method, path)| {
                (self.line.method, self.line.path, self.has_path) = (method, path, true);
                true
            }),
            "m" => {
                self.line.method = value.to_owned();
                is_method(value) || value == "-"
            }
            "U" if !self.has_path => {
                (self.line.path, self.has_path) = (path(value), true);
                true
            }
            "p" => {
                self.line.pid = value.trim_matches(['<', '>']).parse().ok();
                self.line.pid.is_some() || value == "-"
            }
            "t" => value.starts_with('[') && value.ends_with(']'),
            "b" | "B" => value == "-" || value == "None" || number(value).is_some(),
            "client" => {
                self.line.port = value.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                self.line.port.is_some()
            }
            // Other atoms may hold anything.
            _ => true,
        }
    }
}

/// Fits a line to the pieces; an atom ends at the first place at which the rest fits.
fn fits(pieces: &[Piece], line: &str, found: &mut Found, steps: &mut usize) -> bool {
    match pieces {
        [] => line.is_empty(),
        [Piece::Text(text), rest @ ..] => {
            line.strip_prefix(text.as_str()).is_some_and(|after| fits(rest, after, found, steps))
        }
        [Piece::Atom(atom)] => found.take(atom, line),
        [Piece::Atom(atom), rest @ ..] => {
            let Some(Piece::Text(text)) = rest.first() else { return false };
            let quoted = text.starts_with('"');
            let mut from = 0;
            while let Some(at) = line[from..].find(text.as_str()).map(|at| from + at) {
                *steps += 1;
                if *steps > STEPS_MAX {
                    return false;
                }
                // SafeAtoms writes a quote within a value as \".
                let escaped = quoted && line[..at].ends_with('\\');
                let before = found.clone();
                if !escaped && found.take(atom, &line[..at]) && fits(rest, &line[at..], found, steps) {
                    return true;
                }
                *found = before;
                from = at + line[at..].chars().next().map_or(1, char::len_utf8);
            }
            false
        }
    }
}

/// Looks for `"METHOD target HTTP/x" STATUS` anywhere in a line.
pub(super) fn anywhere(line: &str) -> Option<Line> {
    let end = line.find(" HTTP/")?;
    let begin = line[..end].rfind('"')? + 1;
    let (method, path) = request_line(&line[begin..end])?;
    let behind = &line[end + " HTTP/".len()..];
    let (_, behind) = behind.split_once('"')?;
    let status = behind.trim_start_matches([' ', ',', ':']).get(..3)?.parse().ok()?;
    (100..1000).contains(&status).then(|| Line { method, path, status, ..Line::default() })
}

fn is_method(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

fn request_line(text: &str) -> Option<(String, String)> {
    let (method, rest) = text.split_once(' ')?;
    let target = rest.rsplit_once(" HTTP/").map_or(rest, |(target, _)| target);
    (is_method(method) && !target.is_empty()).then(|| (method.to_owned(), path(target)))
}

fn path(target: &str) -> String {
    use ferricorn_core::locals::{cut, path_of};
    /// As long as a path may be in a record.
    const PATH_MAX: usize = 128;
    cut(path_of(target), PATH_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(method: &str, path: &str, status: u16, us: Option<u64>) -> Line {
        Line { method: method.into(), path: path.into(), status, us, ..Line::default() }
    }

    #[test]
    fn lines_are_read_by_their_format() {
        let table = [
            (
                DEFAULT,
                r#"10.0.0.1 - - [26/Nov/2026:10:00:00 +0000] "GET /a?token=x HTTP/1.1" 200 12 "-" "curl/8 \"x\" y""#,
                line("GET", "/a", 200, None),
            ),
            // A unix socket: no address.
            (
                DEFAULT,
                r#" - - [26/Nov/2026:10:00:00 +0000] "POST /b HTTP/1.0" 500 - "-" "-""#,
                line("POST", "/b", 500, None),
            ),
            (r#"%(m)s %(U)s %(s)s %(D)s"#, "GET /a b 201 1500", line("GET", "/a b", 201, Some(1500))),
            (r#"%(s)s|%(r)s|%(M)s|%(T)s"#, "404|GET /x HTTP/1.1|12|0", line("GET", "/x", 404, Some(12_000))),
            (
                r#"{"r":"%(r)s","s":%(s)s,"d":%(L)s,"q":"%(q)s"}"#,
                r#"{"r":"PUT /j HTTP/1.1","s":204,"d":0.012345,"q":"a=1"}"#,
                line("PUT", "/j", 204, Some(12_345)),
            ),
            (
                r#"%(t)s %({x-id}i)s %(r)s %(s)s 100%%"#,
                "[26/Nov/2026:10:00:00 +0000] abc GET / HTTP/1.1 200 100%",
                line("GET", "/", 200, None),
            ),
            (
                r#"%(T)s/%(D)s "%(r)s" %(s)d"#,
                r#"1/1234567 "GET / HTTP/1.1" 200"#,
                line("GET", "/", 200, Some(1_234_567)),
            ),
            (r#""%(r)s" %(s)s"#, r#""GET http://h/p?q HTTP/1.1" 200"#, line("GET", "/p", 200, None)),
        ];
        for (format, text, expected) in table {
            let read = Format::of(format).and_then(|format| format.read(text));
            assert_eq!(read, Some(expected), "{format}");
        }
        let with_pid = Format::of(r#"%(p)s "%(r)s" %(s)s"#)
            .and_then(|format| format.read(r#"<123> "GET / HTTP/1.1" 200"#));
        assert_eq!(with_pid.and_then(|line| line.pid), Some(123));
    }

    #[test]
    fn formats_that_cannot_be_read_are_refused() {
        for text in ["", "%(r)s", "%(s)s", "%(h)s%(r)s %(s)s", "%(r", "%r %s", "100%", "%(r)s %(s)"] {
            assert_eq!(Format::of(text), None, "{text}");
        }
    }

    #[test]
    fn the_format_is_guessed() {
        let table = [
            (
                r#"1.2.3.4 - - [26/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "x" 0.012000"#,
                Some(12_000),
            ),
            (r#"1.2.3.4 - - [26/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "x""#, None),
            (r#"1.2.3.4 - - [26/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "x""#, None),
            (r#"1.2.3.4 - - [26/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1"#, None),
        ];
        for (text, us) in table {
            let read = Format::guess(text).and_then(|format| format.read(text)).expect("one of them");
            assert_eq!((read.path.as_str(), read.us), ("/", us), "{text}");
        }
        let text = r#"127.0.0.1:40001 - "GET /ws?x=1 HTTP/1.1" 200"#;
        let read = Format::guess(text).and_then(|format| format.read(text)).expect("Uvicorn's");
        assert_eq!((read.port, read.path.as_str()), (Some(40001), "/ws"));
        // Of which unit?
        assert_eq!(
            Format::guess(r#"1.2.3.4 - - [26/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "x" 345"#),
            None
        );
        assert_eq!(Format::guess("[2026-11-26 10:00:00 +0000] [7] [INFO] Booting worker with pid: 7"), None);
    }

    #[test]
    fn a_request_is_found_anywhere() {
        let text = r#"Nov 26 host gunicorn[7]: {"x": 1} "GET /a/b?c HTTP/1.1" 302 0"#;
        assert_eq!(anywhere(text), Some(line("GET", "/a/b", 302, None)));
        for text in
            ["", " HTTP/", r#""GET / HTTP/1.1" "#, r#""GET / HTTP/1.1" abc"#, r#""get / HTTP/1.1" 200"#]
        {
            assert_eq!(anywhere(text), None, "{text}");
        }
    }

    #[test]
    fn no_line_takes_long_or_panics() {
        let format = Format::of(DEFAULT).expect("understood");
        for text in
            [" ".repeat(10_000), "\" ".repeat(5000), "ä\"".repeat(999), String::new(), "[".repeat(9999)]
        {
            assert_eq!(format.read(&text), None);
            assert_eq!(anywhere(&text), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_and_any_format_are_taken(
            format in "(%\\((h|r|s|D|t|\\{a\\}i)\\)s|[ \"\\[|%]|\\PC){0,12}",
            line in "(\\PC|[\" \\\\]|GET / HTTP/1.1|200){0,40}",
        ) {
            if let Some(format) = Format::of(&format) {
                let _ = format.read(&line);
            }
            let _ = (Format::guess(&line), anywhere(&line));
        }

        #[test]
        fn what_was_written_is_read(
            method in "[A-Z]{3,7}",
            path in "/[a-z/]{0,20}",
            agent in "[ -~&&[^\"\\\\]]{0,20}",
            status in 100_u16..600,
            us in any::<u32>(),
        ) {
            let format = Format::of(r#"%(h)s - %(t)s "%(r)s" %(s)s "%(a)s" %(D)s"#).expect("understood");
            let line = format!("1.2.3.4 - [26/Nov/2026:10:00:00 +0000] \"{method} {path} HTTP/1.1\" {status} \"{agent}\" {us}");
            let read = format.read(&line).expect("read");
            prop_assert_eq!((read.method, read.path, read.status, read.us), (method, path, status, Some(u64::from(us))));
        }
    }
}
