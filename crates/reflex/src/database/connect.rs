//! A connection that speaks PostgreSQL's protocol, to PostgreSQL or to PgBouncer's console. Our own way to open it, since we
//! have to know which port is ours: whether the database sees the same decides what a port proves.
//!
//! Not for: what is asked on it, and when it is tried again.

use super::book::{Book, canonical};
use super::target::{Place, Target, Tls, TlsMode};
use super::tls;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How we call ourselves.
pub(super) const APPLICATION: &str = "ferricorn-reflex";
/// Most addresses of a name that are tried.
const TRIED_MAX: usize = 8;

/// A connection.
pub(crate) struct Wire {
    pub client: Client,
    /// Ends with the connection.
    pub ended: JoinHandle<()>,
    /// Both ends, where they are of TCP: ours first.
    pub ends: Option<(SocketAddr, SocketAddr)>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

/// Connects to the first place that can be reached.
///
/// # Errors
/// When there is none: why the last one failed, in words and without secrets.
pub(crate) async fn connect(target: &Target, book: &Book) -> Result<Wire, String> {
    let mut why = "no place is said".to_owned();
    for place in &target.places {
        let tried = timeout(target.patience, reach(target, place, book)).await;
        match tried.unwrap_or_else(|_| Err(format!("no connection within {} s", target.patience.as_secs()))) {
            Ok(wire) => return Ok(wire),
            Err(error) => why = error,
        }
    }
    Err(why)
}

async fn reach(target: &Target, place: &Place, book: &Book) -> Result<Wire, String> {
    let (host, address, port) = match place {
        Place::Unix { path, .. } => {
            let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
            return greet(target, place, stream, TlsMode::Disable, None).await.map_err(Failure::words);
        }
        Place::Tcp { host, address, port } => (host, address, *port),
    };
    let found = match address {
        Some(ip) => vec![SocketAddr::new(*ip, port)],
        None => lookup_host((host.as_str(), port)).await.map_err(|error| error.to_string())?.collect(),
    };
    let mut why = "its name leads to no address".to_owned();
    for address in found.into_iter().take(TRIED_MAX) {
        book.learn(address);
        match tcp(target, place, address).await {
            Ok(wire) => return Ok(wire),
            Err(error) => why = error,
        }
    }
    Err(why)
}

async fn tcp(target: &Target, place: &Place, address: SocketAddr) -> Result<Wire, String> {
    let mode = target.tls.mode;
    let first = match tcp_as(target, place, address, mode).await {
        Ok(wire) => return Ok(wire),
        Err(failure) => failure,
    };
    // As libpq does: where TLS cannot be had, or is not wanted, the connection is made without.
    if mode != TlsMode::Prefer || !first.is_of_tls() {
        return Err(first.words());
    }
    let again = tcp_as(target, place, address, TlsMode::Disable).await;
    again.map_err(|failure| format!("{}; without TLS: {}", first.words(), failure.words()))
}

enum Failure {
    /// On our side or on the way, in words.
    Here(String),
    /// Of the protocol, or as the server said.
    Server(Error),
}

impl Failure {
    /// The handshake has failed, or the server's rules reject connections of this kind.
    fn is_of_tls(&self) -> bool {
        match self {
            Self::Here(_) => false,
            Self::Server(error) => match error.code() {
                Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                None => error.to_string().contains("TLS"),
            },
        }
    }

    fn words(self) -> String {
        match self {
            Self::Here(words) => words,
            Self::Server(error) => words(&error),
        }
    }
}

/// Says an error with what lies behind it.
pub(crate) fn words(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let behind = error.to_string();
        if !words.contains(&behind) {
            words = format!("{words}: {behind}");
        }
        source = error.source();
    }
    words
}

async fn tcp_as(target: &Target, place: &Place, address: SocketAddr, mode: TlsMode) -> Result<Wire, Failure> {
    let network = |error: std::io::Error| Failure::Here(error.to_string());
    let stream = TcpStream::connect(address).await.map_err(network)?;
    stream.set_nodelay(true).map_err(network)?;
    let local = stream.local_addr().map_err(network)?;
    greet(target, place, stream, mode, Some((canonical(local), canonical(address)))).await
}

async fn greet<S>(
    target: &Target,
    place: &Place,
    stream: S,
    mode: TlsMode,
    ends: Option<(SocketAddr, SocketAddr)>,
) -> Result<Wire, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = Config::new();
    config.user(&target.user).dbname(&target.database).application_name(APPLICATION);
    if let Some(password) = target.password(place) {
        config.password(password.reveal());
    }
    config.ssl_mode(match mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    let host = match place {
        Place::Tcp { host, .. } => host.as_str(),
        Place::Unix { .. } => "localhost",
    };
    // Reading certificates again lets them change while we run.
    let wanted = if mode == TlsMode::Disable { &Tls::default() } else { &target.tls };
    let tls = tls::config(wanted).map_err(Failure::Here)?;
    let mut maker = MakeRustlsConnect::new(tls);
    let tls = MakeTlsConnect::<S>::make_tls_connect(&mut maker, host).unwrap_or_else(|never| match never {});
    let (client, connection) = config.connect_raw(stream, tls).await.map_err(Failure::Server)?;
    let ended = tokio::spawn(async move {
        // Why it ended is told by the next question on it.
        let _ = connection.await;
    });
    Ok(Wire { client, ended, ends })
}
