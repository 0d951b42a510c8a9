//! What was said of a database, with libpq's fallbacks ([`super::surroundings`]) for what was left out, becomes a target.
//!
//! Not for: how it is written ([`super::url`]).

use super::surroundings::Surroundings;
use super::target::{Place, Secret, Target, Tls, TlsMode};
use super::url::{Reason, Words, reason};
use ferricorn_core::evidence::Service;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// Makes a target of what was said.
pub(super) fn resolve(
    service: Service,
    mut words: Words,
    around: &Surroundings<'_>,
) -> Result<Target, Reason> {
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
        Service::Pgbouncer => take("dbname").unwrap_or_else(|| "pgbouncer".to_owned()),
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
