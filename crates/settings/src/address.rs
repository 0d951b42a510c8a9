//! Where the server listens. Not for: opening sockets.

use crate::number;
use crate::value::quoted;
use std::fmt;
use std::path::PathBuf;

/// An address of `bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// A TCP port of a host name or IP address.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port; 0 lets the kernel choose.
        port: u16,
    },
    /// A Unix socket. A path that begins with a NUL is a name in the abstract namespace.
    Unix {
        /// Where the socket lies.
        path: PathBuf,
    },
    /// A listening socket that the process inherited.
    Fd(i32),
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// What follows the colon is no port.
    #[error("{0} is not a valid port number.")]
    Port(String),
    /// What follows `fd://` is no descriptor.
    #[error("{0} is not a valid file descriptor.")]
    Descriptor(String),
}

impl BindAddress {
    /// Reads `HOST`, `HOST:PORT`, `[V6]:PORT`, `tcp://...`, `unix:PATH`, `unix://PATH` or `fd://N`.
    ///
    /// # Errors
    /// When port or descriptor are no numbers.
    pub fn parse(text: &str) -> Result<BindAddress, BadAddress> {
        BindAddress::with_port(text, 8000)
    }

    /// Reads an address whose port may be missing.
    pub(crate) fn with_port(text: &str, default_port: u16) -> Result<BindAddress, BadAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(BindAddress::Unix { path: path.strip_prefix("//").unwrap_or(path).into() });
        }
        if let Some(digits) = text.strip_prefix("fd://") {
            let number = number::decimal(digits).and_then(|number| i32::try_from(number).ok());
            return number
                .filter(|fd| *fd >= 0)
                .map(BindAddress::Fd)
                .ok_or_else(|| BadAddress::Descriptor(quoted(digits)));
        }
        let (host, port) = host_and_port(text.strip_prefix("tcp://").unwrap_or(text));
        let port = match port {
            None => default_port,
            Some(digits) => number::decimal(digits)
                .and_then(|port| u16::try_from(port).ok())
                .ok_or_else(|| BadAddress::Port(quoted(digits)))?,
        };
        // An empty host means every IPv4 address to the socket calls.
        let host = if host.is_empty() { "0.0.0.0".to_owned() } else { host.to_lowercase() };
        Ok(BindAddress::Tcp { host, port })
    }
}

fn host_and_port(text: &str) -> (&str, Option<&str>) {
    if let (true, Some(end)) = (text.contains('['), text.find(']')) {
        // Gunicorn drops the first character, whatever it is; it is the bracket in all that makes sense.
        let host = text.get(1..end).unwrap_or_default();
        return (host, text[end..].strip_prefix("]:"));
    }
    match text.split_once(':') {
        None => (text, None),
        Some((host, rest)) => (host, Some(rest.split(':').next().unwrap_or(rest))),
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            BindAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            BindAddress::Unix { path } => write!(f, "unix:{}", path.display()),
            BindAddress::Fd(fd) => write!(f, "fd://{fd}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        let tcp = |host: &str, port| BindAddress::Tcp { host: host.to_owned(), port };
        let unix = |path: &str| BindAddress::Unix { path: path.into() };
        let table = [
            ("127.0.0.1:80", tcp("127.0.0.1", 80), "127.0.0.1:80"),
            ("Example.ORG", tcp("example.org", 8000), "example.org:8000"),
            (":9000", tcp("0.0.0.0", 9000), "0.0.0.0:9000"),
            ("", tcp("0.0.0.0", 8000), "0.0.0.0:8000"),
            ("[::1]:80", tcp("::1", 80), "[::1]:80"),
            ("[::1]", tcp("::1", 8000), "[::1]:8000"),
            ("tcp://[::]:0", tcp("::", 0), "[::]:0"),
            ("tcp://localhost:5", tcp("localhost", 5), "localhost:5"),
            ("unix:/run/app.sock", unix("/run/app.sock"), "unix:/run/app.sock"),
            ("unix:///run/app.sock", unix("/run/app.sock"), "unix:/run/app.sock"),
            ("unix://app.sock", unix("app.sock"), "unix:app.sock"),
            ("unix:\0name", unix("\0name"), "unix:\0name"),
            ("fd://3", BindAddress::Fd(3), "fd://3"),
        ];
        for (text, address, shown) in table {
            assert_eq!(BindAddress::parse(text).as_ref(), Ok(&address), "{text}");
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn bad_addresses_are_named() {
        let table = [
            ("host:http", "'http' is not a valid port number."),
            ("host:", "'' is not a valid port number."),
            ("host:70000", "'70000' is not a valid port number."),
            ("::1", "'' is not a valid port number."),
            ("fd://x", "'x' is not a valid file descriptor."),
            ("fd://-1", "'-1' is not a valid file descriptor."),
        ];
        for (text, message) in table {
            assert_eq!(BindAddress::parse(text).expect_err(text).to_string(), message);
        }
    }
}
