//! A database that may be asked, as it was said: where it is, who asks, how that is protected. Not for: reading what was
//! said ([`super::url`]), and not for connecting.

use super::passfile;
use ferricorn_core::evidence::Service;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A database to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which kind.
    pub service: Service,
    /// Where it is; tried in order.
    pub(crate) places: Vec<Place>,
    /// The role that asks.
    pub(crate) user: String,
    /// Its password, as it was said.
    pub(crate) password: Option<Secret>,
    /// Where else it may stand.
    pub(crate) passfile: Option<PathBuf>,
    /// The name of the database.
    pub(crate) database: String,
    /// How the connection is protected.
    pub(crate) tls: Tls,
    /// Whether plans of statements may be asked for.
    pub(crate) plan: bool,
    /// How long connecting may take.
    pub(crate) patience: Duration,
}

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host, perhaps with the address that takes the place of looking its name up.
    Tcp { host: String, address: Option<IpAddr>, port: u16 },
    /// A socket file.
    Unix { path: PathBuf, port: u16 },
}

/// How a connection is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub mode: TlsMode,
    /// The certificates that are trusted (PEM); those of the system without.
    pub roots: Option<PathBuf>,
    /// Our own certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disable,
    /// Where the server can.
    #[default]
    Prefer,
    /// Always, whoever it is.
    Require,
    /// Always, with a certificate that is trusted.
    VerifyCa,
    /// Always, with a certificate that is trusted and says the host's name.
    VerifyFull,
}

/// A password: nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Target {
    /// Returns what it is called in evidence and in the log: `host:port/name`, without user and password.
    pub fn name(&self) -> String {
        let place = self.places.first().map(Place::to_string).unwrap_or_default();
        match (self.service, self.database.as_str()) {
            (Service::Pgbouncer, _) | (_, "") => place,
            (_, name) => format!("{place}/{name}"),
        }
    }

    /// Returns the password to use at a place. Files are read each time: who changes one need not start us anew.
    pub(crate) fn password(&self, place: &Place) -> Option<Secret> {
        let found = || {
            let file = self.passfile.as_deref()?;
            passfile::find(file, place, &self.database, &self.user).map(Secret::from)
        };
        self.password.clone().or_else(found)
    }
}

impl Place {
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } | Self::Unix { port, .. } => *port,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Secret {
    /// Returns it, to be sent to the database and nowhere else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
