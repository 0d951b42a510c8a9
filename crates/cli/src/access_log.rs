//! Reads access logs: lines of a format as Gunicorn and Ferricorn write them become durations per route.
//!
//! A format is text and atoms (`%(r)s`); a line is matched against it with each atom as short as possible, and longer where
//! the rest would not fit: what a client has put into a quoted field ends nothing. Not for: what the numbers mean
//! (`core::advice`).

use ferricorn_core::latency::{Class, Key, Phases};
use ferricorn_core::route::{self, Paths};
use ferricorn_core::snapshot::Route;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

/// Gunicorn's default `access_log_format`, which has no duration.
const DEFAULT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;
/// What the server answers at a deadline. Where the log does not tell who has answered, it is taken for the server's.
const GATEWAY_TIMEOUT: u16 = 504;
/// Most bytes of a line that are looked at; what is longer is no line of an access log.
const LINE_MAX: usize = 64 << 10;
/// Most tries to fit one line; a line that needs more is given up.
const TRIES_MAX: usize = 10_000;
/// Most routes, times methods and kinds of answer. What has no room is counted together.
const KEYS_MAX: usize = 4096;

/// A compiled format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Format {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Text(String),
    Atom(Atom),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Atom {
    RequestLine,
    Method,
    Path,
    Status,
    /// A whole number, of which so many are a second.
    Whole(u64),
    /// Seconds with six digits behind the point.
    Decimal,
    Outcome,
    /// What is of no interest here.
    Other,
}

/// What a line tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    method: String,
    path: String,
    status: Option<u16>,
    took_us: Option<u64>,
    lost: bool,
}

/// What a log tells.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Durations per route, method and kind of answer.
    pub routes: Vec<Route>,
    /// Lines.
    pub lines: u64,
    /// Of them, those that fit the format and have a duration.
    pub used: u64,
    /// Of them, those that fit the default format, which has no duration.
    pub without_duration: u64,
    /// In what unit durations were written, as the atom's name: `D`.
    pub unit: Option<&'static str>,
}

impl Format {
    /// Compiles a format.
    ///
    /// # Errors
    /// What is missing in it, or wrong.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_text(&mut segments, &rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                push_text(&mut segments, "%");
                rest = after;
                continue;
            }
            let atom = rest.strip_prefix('(').and_then(|rest| rest.split_once(")s"));
            let (name, after) = atom.ok_or_else(|| format!("no atom such as `%(r)s` begins at `%{rest}`"))?;
            segments.push(Segment::Atom(Atom::named(name)));
            rest = after;
        }
        push_text(&mut segments, rest);
        let format = Self { segments };
        if format.atoms().count() == 1 && format.unit().is_some() {
            // A duration alone: what was added to the default.
            return Self::compile(&format!("{DEFAULT} {}", text.trim()));
        }
        format.validated()
    }

    fn validated(self) -> Result<Self, String> {
        if self.unit().is_none() {
            return Err("it has no duration: `%(D)s`, `%(L)s`, `%(M)s` or `%(T)s`".to_owned());
        }
        let has = |wanted| self.atoms().any(|atom| atom == wanted);
        if !has(Atom::RequestLine) && !has(Atom::Path) {
            return Err("it has no path: `%(r)s` or `%(U)s`".to_owned());
        }
        Ok(self)
    }

    fn atoms(&self) -> impl Iterator<Item = Atom> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Atom(atom) => Some(*atom),
            Segment::Text(_) => None,
        })
    }

    /// Returns the finest unit in which it tells durations.
    fn unit(&self) -> Option<&'static str> {
        let finest = self.atoms().filter_map(|atom| match atom {
            Atom::Whole(1_000_000) => Some((0, "D")),
            Atom::Decimal => Some((1, "L")),
            Atom::Whole(1000) => Some((2, "M")),
            Atom::Whole(_) => Some((3, "T")),
            _ => None,
        });
        finest.min().map(|(_, name)| name)
    }

    /// Reads a line; none if it does not fit.
    pub(crate) fn read(&self, line: &str) -> Option<Line> {
        let mut spans = Vec::with_capacity(self.segments.len());
        if !fit(&self.segments, line, 0, &mut spans, &mut 0) {
            return None;
        }
        let mut told = Line::default();
        let mut finest = u64::MAX;
        for (atom, (from, to)) in self.atoms().zip(spans) {
            told.take(atom, &line[from..to], &mut finest);
        }
        if !self.atoms().any(|atom| atom == Atom::Outcome) {
            told.lost = told.status == Some(GATEWAY_TIMEOUT);
        }
        Some(told)
    }
}

/// Fits the segments to the line from a place on, and notes where each atom stands.
fn fit(
    segments: &[Segment],
    line: &str,
    at: usize,
    spans: &mut Vec<(usize, usize)>,
    tries: &mut usize,
) -> bool {
    *tries += 1;
    let Some((segment, rest)) = segments.split_first() else { return at == line.len() };
    let atom = match segment {
        Segment::Text(text) => {
            return line[at..].starts_with(text.as_str()) && fit(rest, line, at + text.len(), spans, tries);
        }
        Segment::Atom(atom) => atom,
    };
    // An atom ends where the text behind it begins, at the line's end, or, beside another atom, anywhere.
    let mut ends: Box<dyn Iterator<Item = usize>> = match rest.first() {
        None => Box::new(std::iter::once(line.len())),
        Some(Segment::Text(text)) => {
            Box::new(line[at..].match_indices(text.as_str()).map(|(end, _)| at + end))
        }
        Some(Segment::Atom(_)) => {
            let bounds = line[at..].char_indices().map(|(end, _)| at + end);
            Box::new(bounds.chain(std::iter::once(line.len())))
        }
    };
    ends.any(|end| {
        if *tries >= TRIES_MAX || !atom.accepts(&line[at..end]) {
            return false;
        }
        let known = spans.len();
        spans.push((at, end));
        let fits = fit(rest, line, end, spans, tries);
        if !fits {
            spans.truncate(known);
        }
        fits
    })
}

fn push_text(segments: &mut Vec<Segment>, text: &str) {
    match segments.last_mut() {
        _ if text.is_empty() => {}
        Some(Segment::Text(before)) => before.push_str(text),
        _ => segments.push(Segment::Text(text.to_owned())),
    }
}

impl Atom {
    fn named(name: &str) -> Self {
        match name {
            "r" => Self::RequestLine,
            "m" => Self::Method,
            "U" => Self::Path,
            "s" => Self::Status,
            "D" => Self::Whole(1_000_000),
            "M" => Self::Whole(1000),
            "T" => Self::Whole(1),
            "L" => Self::Decimal,
            _ if name.eq_ignore_ascii_case("{outcome}x") => Self::Outcome,
            _ => Self::Other,
        }
    }

    /// Tells whether a text can be this atom's. What has no such form can be anything.
    fn accepts(self, text: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Status => text == "-" || (text.len() == 3 && digits(text)),
            // A request that was never begun has none.
            Self::Whole(_) => text == "-" || digits(text),
            Self::Decimal => {
                text == "-" || text.split_once('.').is_some_and(|(whole, part)| digits(whole) && digits(part))
            }
            Self::Method | Self::Outcome => !text.contains(' '),
            Self::RequestLine | Self::Path | Self::Other => true,
        }
    }
}

impl Line {
    /// Takes what an atom tells; of several durations the finest.
    fn take(&mut self, atom: Atom, text: &str, finest: &mut u64) {
        match atom {
            Atom::RequestLine => {
                let mut words = text.split_ascii_whitespace();
                self.method = words.next().unwrap_or_default().to_owned();
                self.path = words.next().unwrap_or_default().to_owned();
            }
            Atom::Method => text.clone_into(&mut self.method),
            Atom::Path => text.clone_into(&mut self.path),
            Atom::Status => self.status = text.parse().ok(),
            Atom::Outcome => self.lost = matches!(text, "timeout" | "cut"),
            Atom::Whole(per_second) if 1_000_000 / per_second < *finest => {
                *finest = 1_000_000 / per_second;
                self.took_us = text.parse::<u64>().ok().map(|number| number.saturating_mul(*finest));
            }
            Atom::Decimal if 1 < *finest => {
                *finest = 1;
                self.took_us = text.parse::<f64>().ok().map(|seconds| (seconds * 1e6) as u64);
            }
            Atom::Whole(_) | Atom::Decimal | Atom::Other => {}
        }
    }

    fn key(&self, paths: &mut Paths) -> Key {
        let status = self.status.unwrap_or(0);
        // What scanners ask for has no end.
        let route =
            if matches!(status, 404 | 405) { route::UNMATCHED.to_owned() } else { paths.route(&self.path) };
        let class = if self.lost { Class::Lost } else { Class::of(status) };
        Key { route, named: false, method: self.method.clone(), class }
    }
}

/// Reads a log to its end. Without a format, lines are taken for Gunicorn's default with a duration behind it.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(mut log: impl BufRead, format: Option<Format>) -> io::Result<Log> {
    let guessed = format.is_none();
    let formats: Vec<Format> = match format {
        Some(format) => vec![format],
        None => ["%(D)s", "%(L)s"].into_iter().filter_map(|atom| Format::compile(atom).ok()).collect(),
    };
    let bare = Format { segments: Format::compile("%(D)s").map_or_else(|_| Vec::new(), without_duration) };
    let mut told = Log::default();
    let mut paths = Paths::default();
    let mut counted: BTreeMap<Key, Phases> = BTreeMap::new();
    let mut line = Vec::new();
    while next_line(&mut log, &mut line)? {
        told.lines += 1;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        let fitting = formats.iter().find_map(|format| Some((format.unit(), format.read(text)?)));
        let Some((unit, entry)) = fitting else {
            told.without_duration += u64::from(guessed && bare.read(text).is_some());
            continue;
        };
        let Some(took_us) = entry.took_us else { continue };
        told.used += 1;
        told.unit = told.unit.or(unit);
        let mut key = entry.key(&mut paths);
        if counted.len() >= KEYS_MAX && !counted.contains_key(&key) {
            key = Key { route: route::OTHER.to_owned(), method: route::MANY.to_owned(), ..key };
        }
        counted.entry(key).or_default().app.add(took_us);
    }
    told.routes = counted.into_iter().map(|(key, phases)| Route { key, phases }).collect();
    Ok(told)
}

/// The segments of a format without the duration at its end.
fn without_duration(format: Format) -> Vec<Segment> {
    let mut segments = format.segments;
    segments.pop();
    if let Some(Segment::Text(text)) = segments.last_mut() {
        text.truncate(text.trim_end().len());
    }
    segments
}

/// Reads the next line; of one that is too long, the rest is left out.
fn next_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if log.by_ref().take(LINE_MAX as u64).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    while line.len() >= LINE_MAX && line.last() != Some(&b'\n') {
        line.truncate(LINE_MAX - 1);
        if log.by_ref().take(LINE_MAX as u64).read_until(b'\n', line)? == 0 {
            break;
        }
    }
    Ok(true)
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
