//! Reads how databases are said: a URL, or libpq's `key=value`. Nothing that was said is ever repeated in a message: it may hold
//! a password.
//!
//! Not for: what that means ([`super::resolve`]).

use super::resolve::resolve;
use super::surroundings::Surroundings;
use super::target::Target;
use ferricorn_core::evidence::Service;
use std::collections::BTreeMap;
use std::fmt;

/// Most databases that are asked.
pub const TARGETS_MAX: usize = 16;
/// Why a database cannot be read: what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What does not work.
    pub what: String,
    /// The reason.
    pub why: String,
    /// What a person can do.
    pub hint: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.what, self.why, self.hint)
    }
}

impl std::error::Error for Wrong {}

impl Target {
    /// Reads the databases that are to be asked: those of `reflex_database`, or without any, that of `PGSERVICE`.
    ///
    /// # Errors
    /// When one of them cannot be understood.
    pub fn all(said: &[String]) -> Result<Vec<Self>, Wrong> {
        Self::all_in(said, &Surroundings::of_process())
    }

    pub(crate) fn all_in(said: &[String], around: &Surroundings<'_>) -> Result<Vec<Self>, Wrong> {
        let wrong = |what: String| {
            move |(why, hint): Reason| Wrong { what: format!("{what} cannot be used"), why, hint }
        };
        if said.is_empty() {
            let Some(service) = around.get("PGSERVICE") else { return Ok(Vec::new()) };
            let words = Words::from([("service".to_owned(), service)]);
            let target = resolve(Service::Postgres, words, around).map_err(wrong("PGSERVICE".to_owned()))?;
            return Ok(vec![target]);
        }
        if said.len() > TARGETS_MAX {
            let why = format!("there are {} of them, and at most {TARGETS_MAX} are asked", said.len());
            return Err(wrong("reflex_database".to_owned())((why, "Leave some out".to_owned())));
        }
        let targets = said.iter().enumerate().map(|(index, text)| {
            let what = format!("reflex_database (number {})", index + 1);
            parse(text).and_then(|(service, words)| resolve(service, words, around)).map_err(wrong(what))
        });
        targets.collect()
    }
}

/// Why, and what to do.
pub(super) type Reason = (String, String);
/// What was said, by the names of libpq.
pub(super) type Words = BTreeMap<String, String>;

pub(super) fn reason<T>(why: impl Into<String>, hint: impl Into<String>) -> Result<T, Reason> {
    Err((why.into(), hint.into()))
}

const FORMS: &str =
    "Write postgresql://USER@HOST:PORT/NAME, pgbouncer://USER@HOST:PORT/ or mysql://USER@HOST:PORT/";

fn parse(text: &str) -> Result<(Service, Words), Reason> {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| !scheme.contains(['=', ' ']))
    else {
        if text.contains('=') {
            return Ok((Service::Postgres, pairs(text)?));
        }
        return reason("it is neither a URL nor key=value", FORMS);
    };
    // As SQLAlchemy has them: `postgresql+psycopg`.
    let service = match scheme.split('+').next().unwrap_or_default() {
        "postgresql" | "postgres" => Service::Postgres,
        "pgbouncer" => Service::Pgbouncer,
        "mysql" | "mariadb" => Service::Mysql,
        _ => return reason("its scheme is none that is known", FORMS),
    };
    Ok((service, url(rest)?))
}

/// `[user[:password]@][host[:port],...][/name][?key=value&...]`
fn url(rest: &str) -> Result<Words, Reason> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    if !rest[..end].contains('@') && rest[end..].contains('@') {
        return reason("an @ stands where no user does", "Write / ? and @ in a password as %2F %3F and %40");
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut words = Words::new();
    let mut say = |key: &str, value: &str| -> Result<(), Reason> {
        if !value.is_empty() {
            words.insert(key.to_owned(), decoded(value)?);
        }
        Ok(())
    };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    say("user", user)?;
    say("password", password)?;
    say("dbname", name)?;
    let places: Vec<(&str, &str)> = hosts.split(',').map(host_and_port).collect();
    say("host", &places.iter().map(|(host, _)| *host).collect::<Vec<_>>().join(","))?;
    if places.iter().any(|(_, port)| !port.is_empty()) {
        say("port", &places.iter().map(|(_, port)| *port).collect::<Vec<_>>().join(","))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        say(&decoded(key)?, value)?;
    }
    Ok(words)
}

/// An IPv6 address stands in brackets.
fn host_and_port(text: &str) -> (&str, &str) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (host, rest.strip_prefix(':').unwrap_or_default());
    }
    text.split_once(':').unwrap_or((text, ""))
}

/// Resolves `%2F`.
fn decoded(text: &str) -> Result<String, Reason> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => {
                return reason(
                    "a % in it is not followed by two hexadecimal digits",
                    "Write % itself as %25",
                );
            }
        }
    }
    String::from_utf8(bytes)
        .or_else(|_| reason("it is not UTF-8", "Write other characters as %XX of their UTF-8"))
}

/// `key = value key='with space'`, a backslash escapes.
fn pairs(text: &str) -> Result<Words, Reason> {
    let mut words = Words::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once('=') else {
            return reason("a key in it has no value", "Write key=value");
        };
        let mut value = String::new();
        let after = after.trim_start();
        let quoted = after.starts_with('\'');
        let mut characters = after[usize::from(quoted)..].chars();
        let ended = loop {
            match characters.next() {
                Some('\\') => value.extend(characters.next()),
                Some('\'') if quoted => break true,
                Some(c) if !quoted && c.is_whitespace() => break true,
                Some(c) => value.push(c),
                None => break !quoted,
            }
        };
        if !ended {
            return reason("a quote in it has no end", "Write key='value'");
        }
        words.insert(key.trim().to_owned(), value);
        rest = characters.as_str().trim_start();
    }
    Ok(words)
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
