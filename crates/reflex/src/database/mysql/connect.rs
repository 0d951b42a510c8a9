//! A connection to MySQL or MariaDB, with its own limits: it changes nothing and waits for nothing long. Not for: what is asked.

use crate::database::book::{Book, canonical};
use crate::database::connect::APPLICATION;
use crate::database::target::{Place, Target, Tls, TlsMode};
use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, Opts, OptsBuilder, SslOpts};
use std::net::{IpAddr, SocketAddr};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

/// Most bytes of one answer.
const PACKET_MAX: usize = 16 << 20;

/// A connection.
pub(super) struct Wire {
    pub conn: Conn,
    /// The address that ours are seen under if nothing translates them; none for unix sockets.
    pub local: Option<IpAddr>,
    /// The address that is asked, if there is but one.
    pub server: Option<SocketAddr>,
    pub is_mariadb: bool,
    /// `(8, 0, 36)`.
    pub version: (u16, u16, u16),
}

/// Connects to the first place that can be reached.
pub(super) async fn connect(target: &Target, book: &Book) -> Result<Wire, String> {
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
    // The driver takes what the whole process uses; whoever was first has chosen the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut local, mut server) = (None, None);
    let options = OptsBuilder::default()
        .user(Some(&target.user))
        .pass(target.password(place).map(|password| password.reveal().to_owned()))
        .db_name(Some(&target.database).filter(|name| !name.is_empty()))
        .connect_attribute("program_name", APPLICATION)
        .prefer_socket(false)
        // Said, they are not asked for.
        .max_allowed_packet(Some(PACKET_MAX))
        .wait_timeout(Some(300))
        .stmt_cache_size(0);
    let (options, mode) = match place {
        Place::Unix { path, .. } => (options.socket(Some(path.display().to_string())), TlsMode::Disable),
        Place::Tcp { host, address, port } => {
            let addresses: Vec<SocketAddr> = match address {
                Some(ip) => vec![SocketAddr::new(*ip, *port)],
                None => {
                    lookup_host((host.as_str(), *port)).await.map_err(|error| error.to_string())?.collect()
                }
            };
            addresses.iter().for_each(|address| book.learn(*address));
            let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
            if let Some(address) = addresses.first() {
                local = outgoing(*address).await;
                server = Some(canonical(*address)).filter(|_| addresses.len() == 1);
            }
            (options.ip_or_hostname(host).resolved_ips(Some(ips)).tcp_port(*port), target.tls.mode)
        }
    };
    let secured = || secured(&target.tls).map(|tls| options.clone().ssl_opts(tls));
    let conn = match mode {
        TlsMode::Disable => Conn::new(Opts::from(options)).await,
        TlsMode::Prefer => match Conn::new(Opts::from(secured()?)).await {
            Err(error) if may_go_without(&error) => Conn::new(Opts::from(options)).await,
            other => other,
        },
        _ => Conn::new(Opts::from(secured()?)).await,
    };
    let prepared = prepare(conn.map_err(|error| error.to_string())?).await;
    let (conn, is_mariadb, version) = prepared.map_err(|error| error.to_string())?;
    Ok(Wire { conn, local, server, is_mariadb, version })
}

/// It has no TLS, or one that cannot be spoken with.
fn may_go_without(error: &Error) -> bool {
    matches!(error, Error::Driver(DriverError::NoClientSslFlagFromServer) | Error::Io(_))
}

fn secured(tls: &Tls) -> Result<SslOpts, String> {
    let mut options = SslOpts::default();
    match tls.mode {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => {
            options = options.with_danger_accept_invalid_certs(true);
        }
        TlsMode::VerifyCa | TlsMode::VerifyFull => {
            let roots = match &tls.roots {
                Some(path) => vec![path.clone().into()],
                None => {
                    let found = rustls_native_certs::load_native_certs().certs;
                    found.into_iter().map(|certificate| certificate.to_vec().into()).collect()
                }
            };
            if roots.is_empty() {
                return Err("the system's store has no certificate to trust".to_owned());
            }
            // Also where the name should not count: mysql_async 0.37 looks for it in an error's text that rustls words
            // otherwise by now.
            options = options.with_root_certs(roots).with_disable_built_in_roots(true);
        }
    }
    let own = tls.identity.clone();
    Ok(options.with_client_identity(
        own.map(|(certificate, key)| ClientIdentity::new(certificate.into(), key.into())),
    ))
}

/// The address of ours that leads there. Nothing is sent.
async fn outgoing(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(to).await.ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}

async fn prepare(mut conn: Conn) -> Result<(Conn, bool, (u16, u16, u16)), Error> {
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    let is_mariadb = version.is_some_and(|version| version.contains("MariaDB"));
    let limit = if is_mariadb { "max_statement_time = 0.5" } else { "max_execution_time = 500" };
    conn.query_drop(format!("SET SESSION {limit}, SESSION lock_wait_timeout = 1")).await?;
    conn.query_drop("SET SESSION TRANSACTION READ ONLY").await?;
    let version = conn.server_version();
    Ok((conn, is_mariadb, version))
}
