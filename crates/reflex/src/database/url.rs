//! Reads how databases are said: a URL, or libpq's `key=value`, with libpq's fallbacks ([`super::surroundings`]) for what is
//! left out. Nothing that was said is ever repeated in a message: it may hold a password.
//!
//! Not for: what is then done with it ([`super::target`]).

use super::surroundings::Surroundings;
use super::target::{Place, Secret, Target, Tls, TlsMode};
use ferricorn_core::evidence::Service;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most databases that are asked.
pub const TARGETS_MAX: usize = 16;
/// How long connecting takes at most, unless `connect_timeout` says otherwise.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest that may be said: nobody waits longer for evidence.
const PATIENCE_MAX_S: u64 = 10;
/// What can be said and makes no difference here.
const IGNORED: [&str; 24] = [
    "application_name",
    "channel_binding",
    "charset",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "options",
    "require_auth",
    "requirepeer",
    "sslcompression",
    "sslnegotiation",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "target_session_attrs",
    "tcp_user_timeout",
];

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
            let target = build(Service::Postgres, words, around).map_err(wrong("PGSERVICE".to_owned()))?;
            return Ok(vec![target]);
        }
        if said.len() > TARGETS_MAX {
            let why = format!("there are {} of them, and at most {TARGETS_MAX} are asked", said.len());
            return Err(wrong("reflex_database".to_owned())((why, "Leave some out".to_owned())));
        }
        let targets = said.iter().enumerate().map(|(index, text)| {
            let what = format!("reflex_database (number {})", index + 1);
            parse(text).and_then(|(service, words)| build(service, words, around)).map_err(wrong(what))
        });
        targets.collect()
    }
}

/// Why, and what to do.
pub(super) type Reason = (String, String);
/// What was said, by the names of libpq.
pub(super) type Words = BTreeMap<String, String>;

fn reason<T>(why: impl Into<String>, hint: impl Into<String>) -> Result<T, Reason> {
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

fn build(service: Service, mut words: Words, around: &Surroundings<'_>) -> Result<Target, Reason> {
    // MySQL's own names.
    for (theirs, ours) in
        [("ssl-mode", "sslmode"), ("ssl-ca", "sslrootcert"), ("ssl-cert", "sslcert"), ("ssl-key", "sslkey")]
    {
        if let Some(value) = words.remove(theirs) {
            words.entry(ours.to_owned()).or_insert(value);
        }
    }
    // The console of PgBouncer is a database of a name of its own, and no variable means it.
    match service {
        Service::Postgres => around.complete(&mut words)?,
        Service::Pgbouncer => around.add_passfile(&mut words),
        _ => {}
    }
    let mut take = |key: &str| words.remove(key).filter(|value| !value.is_empty());
    let user = take("user").or_else(|| around.user.clone()).unwrap_or_default();
    let database = match service {
        Service::Pgbouncer => take("dbname").map_or_else(|| "pgbouncer".to_owned(), |name| name),
        Service::Mysql => take("dbname").unwrap_or_default(),
        _ => take("dbname").unwrap_or_else(|| user.clone()),
    };
    let places = places(service, &mut take)?;
    let tls = tls(&mut take, around)?;
    let patience = take("connect_timeout").map(|text| text.parse::<u64>());
    let patience = match patience {
        None => PATIENCE,
        // libpq: 0 waits for ever, and 1 counts as 2.
        Some(Ok(0)) => Duration::from_secs(PATIENCE_MAX_S),
        Some(Ok(seconds)) => Duration::from_secs(seconds.clamp(1, PATIENCE_MAX_S)),
        Some(Err(_)) => return reason("connect_timeout is not a whole number", "Give seconds"),
    };
    let plan = match take("plan").as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return reason("plan is neither 0 nor 1", "Write plan=1 to have plans of slow statements"),
    };
    let target = Target {
        service,
        places,
        user,
        password: take("password").map(Secret::from),
        passfile: take("passfile").map(PathBuf::from),
        database,
        tls,
        plan,
        patience,
    };
    words.retain(|key, value| !value.is_empty() && !IGNORED.contains(&key.as_str()));
    match words.keys().next() {
        // A name is no secret, but what was torn apart by a stray character may be a part of one.
        Some(key) if key.bytes().all(|b| b.is_ascii_lowercase() || b"_-".contains(&b)) => {
            reason(format!("{key} is not a parameter that is known"), "Leave it out")
        }
        Some(_) => reason("it holds a parameter that is not known", "Write special characters as %XX"),
        None => Ok(target),
    }
}

fn places(service: Service, take: &mut impl FnMut(&str) -> Option<String>) -> Result<Vec<Place>, Reason> {
    let (port, socket) = match service {
        Service::Mysql => (3306, "/run/mysqld/mysqld.sock"),
        Service::Pgbouncer => (6432, ""),
        _ => (5432, ""),
    };
    let list = |text: Option<String>| -> Vec<String> {
        text.map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let (hosts, addresses, ports) = (list(take("host")), list(take("hostaddr")), list(take("port")));
    let count = hosts.len().max(addresses.len()).max(1);
    if (!hosts.is_empty() && hosts.len() != count)
        || (!addresses.is_empty() && addresses.len() != count)
        || (ports.len() > 1 && ports.len() != count)
    {
        return reason("its hosts and its ports differ in number", "Give one port, or one for each host");
    }
    let folder = || {
        // Where Debian's libpq looks, and everybody else's.
        let debian = Path::new("/var/run/postgresql");
        if debian.is_dir() { debian } else { Path::new("/tmp") }.display().to_string()
    };
    let named = take("socket");
    let place = |at: usize| -> Result<Place, Reason> {
        let text = |list: &[String]| list.get(at).filter(|text| !text.is_empty()).cloned();
        let said = text(&ports).or_else(|| ports.first().filter(|_| ports.len() == 1).cloned());
        let port = match said.filter(|text| !text.is_empty()) {
            Some(text) => {
                text.parse().or_else(|_| reason("a port is no number below 65536", "Give a port"))?
            }
            None => port,
        };
        let address = match text(&addresses) {
            Some(text) => Some(
                text.parse().or_else(|_| reason("hostaddr is no IP address", "Give one, or a host alone"))?,
            ),
            None => None,
        };
        let host = text(&hosts);
        if let Some(path) = &named {
            return Ok(Place::Unix { path: path.into(), port });
        }
        Ok(match host {
            Some(host) if !host.starts_with('/') => Place::Tcp { host, address, port },
            None if let Some(address) = address => {
                Place::Tcp { host: address.to_string(), address: Some(address), port }
            }
            Some(path) if service == Service::Mysql => Place::Unix { path: path.into(), port },
            None if service == Service::Mysql => Place::Unix { path: socket.into(), port },
            folder_said => {
                let folder = folder_said.unwrap_or_else(folder);
                Place::Unix { path: Path::new(&folder).join(format!(".s.PGSQL.{port}")), port }
            }
        })
    };
    (0..count).map(place).collect()
}

fn tls(take: &mut impl FnMut(&str) -> Option<String>, around: &Surroundings<'_>) -> Result<Tls, Reason> {
    let said = take("sslmode").map(|mode| mode.to_ascii_lowercase());
    let mut roots = take("sslrootcert").map(PathBuf::from);
    let mut mode = match said.as_deref() {
        None | Some("allow" | "prefer" | "preferred") => TlsMode::Prefer,
        Some("disable" | "disabled") => TlsMode::Disable,
        Some("require" | "required") => TlsMode::Require,
        Some("verify-ca" | "verify_ca") => TlsMode::VerifyCa,
        Some("verify-full" | "verify_identity") => TlsMode::VerifyFull,
        Some(_) => {
            let hint = "Write sslmode=disable, prefer, require, verify-ca or verify-full";
            return reason("its sslmode is none that is known", hint);
        }
    };
    // libpq 16: the system's certificates, which anybody can have, are worth nothing without a look at the name.
    if roots.as_deref() == Some(Path::new("system")) {
        (roots, mode) = (None, TlsMode::VerifyFull);
    } else if mode == TlsMode::Require && roots.is_some() {
        // As libpq does.
        mode = TlsMode::VerifyCa;
    }
    let own = |name: &str| {
        around.home.as_ref().map(|home| home.join(".postgresql").join(name)).filter(|p| p.is_file())
    };
    let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    roots = roots.or_else(|| own("root.crt").filter(|_| verifies));
    let certificate = take("sslcert").map(PathBuf::from).or_else(|| own("postgresql.crt"));
    let key = take("sslkey").map(PathBuf::from).or_else(|| own("postgresql.key"));
    Ok(Tls { mode, roots, identity: certificate.zip(key) })
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
