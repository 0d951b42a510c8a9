//! Where the bus is: `nats://[USER[:PASSWORD]@]HOST[:PORT]`, `tls://…`, several of one cluster with commas between. Credentials of
//! other kinds come from the variables that NATS's own tools read: `NATS_CREDS` (a file), `NATS_CA` (a file).
//!
//! Not for: connecting ([`super::serve`]).

use async_nats::{ConnectOptions, ServerAddr};
use std::path::PathBuf;
use thiserror::Error;

/// Servers of one cluster, and how one is let in.
#[derive(Clone, Debug)]
pub struct Address {
    pub(super) servers: Vec<ServerAddr>,
    credentials: Option<PathBuf>,
    authority: Option<PathBuf>,
}

/// What is wrong with it.
#[derive(Debug, Error)]
pub enum AddressError {
    /// Not one of NATS.
    #[error("`{0}` is no address of NATS: write nats://HOST:4222, or tls://HOST:4222")]
    Wrong(String),
    /// A file that a variable names cannot be used.
    #[error("{variable}: {path} cannot be used: {error}")]
    File {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

impl Address {
    /// Reads one; `variable` looks up variables.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(said: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, AddressError> {
        let one = |text: &str| {
            let text = text.trim();
            let known = text.starts_with("nats://") || text.starts_with("tls://");
            let parsed = text.parse::<ServerAddr>().ok().filter(|server| known && !server.host().is_empty());
            // Not with a password, if there is one.
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            parsed.ok_or_else(|| AddressError::Wrong(shown.to_owned()))
        };
        let servers = said.split(',').map(one).collect::<Result<Vec<ServerAddr>, AddressError>>()?;
        let file = |name: &'static str| variable(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self { servers, credentials: file("NATS_CREDS"), authority: file("NATS_CA") })
    }

    /// Returns where it is, without how one is let in.
    pub(super) fn shown(&self) -> String {
        let shown: Vec<String> =
            self.servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        shown.join(", ")
    }

    /// Returns how one connects.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn options(&self) -> Result<ConnectOptions, AddressError> {
        let mut options = ConnectOptions::new();
        if let Some(path) = &self.credentials {
            let wrong = |error| AddressError::File { variable: "NATS_CREDS", path: path.clone(), error };
            let text = std::fs::read_to_string(path).map_err(wrong)?;
            options = options.credentials(&text).map_err(wrong)?;
        }
        if let Some(path) = &self.authority {
            options = options.add_root_certificates(path.clone());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_passwords_are_not_shown() {
        let read = |said: &str| Address::parse(said, |_| None);
        assert_eq!(
            read("nats://me:secret@bus-1:4222, tls://bus-2").expect("two").shown(),
            "bus-1:4222, bus-2:4222"
        );
        for wrong in ["", "http://bus", "bus:4222", "nats://", "nats://a,,nats://b"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let error = read("http://me:secret@bus").expect_err("wrong").to_string();
        assert_eq!(error, "`bus` is no address of NATS: write nats://HOST:4222, or tls://HOST:4222");
        let named = Address::parse("nats://bus", |name| (name == "NATS_CREDS").then(|| "/none".to_owned()));
        let error = named.expect("read").options().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("NATS_CREDS: /none cannot be used: No such file"), "{error}");
    }
}
