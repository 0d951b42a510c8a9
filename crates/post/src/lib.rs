//! Sends one body to one URL and says what became of it. The system's certificates are trusted, no proxy is asked, no redirect is
//! followed. URLs and header fields may hold tokens: no text from here holds any of them. Where strangers name the URL, the caller
//! says which addresses may be reached, and a connection is made to the address that was judged.
//!
//! Not for: trying again, which is the caller's; it is told whether that makes sense.
#![forbid(unsafe_code)]

#[cfg(test)]
#[expect(dead_code, reason = "other crates' tests use the rest")]
mod fake;
mod public;

pub use public::is_public;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ureq::config::Config;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

/// How long a name may take to be found and a connection to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// Most bytes of an answer that are read.
const ANSWER_MAX: u64 = 64 << 10;
/// The longest wait that another server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// The first wait between two attempts; each further one is twice as long.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest one.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It was accepted, with this answer.
    Accepted(Vec<u8>),
    /// It was not, and may be the next time.
    Later {
        /// Why, as the end of a sentence.
        why: String,
        /// When it may be tried again, if the other server says so.
        after: Option<Duration>,
    },
    /// It was not, and will not be.
    Refused {
        /// Why, as the end of a sentence.
        why: String,
        /// The status of the answer; none if nobody was asked.
        status: Option<u16>,
    },
}

/// Judges whether an address may be reached, over TLS (true) or without.
pub type Judge = Arc<dyn Fn(IpAddr, bool) -> bool + Send + Sync>;

/// Finds addresses, and leaves out those that may not be reached.
struct Guarded {
    inner: DefaultResolver,
    may_reach: Option<Judge>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("is_guarded", &self.may_reach.is_some()).finish()
    }
}

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let Some(may_reach) = &self.may_reach else { return Ok(found) };
        let is_tls = uri.scheme_str() == Some("https");
        let mut allowed = self.empty();
        for address in found.iter().filter(|address| may_reach(address.ip(), is_tls)) {
            allowed.push(*address);
        }
        if allowed.is_empty() { Err(Error::Other(Box::new(Forbidden))) } else { Ok(allowed) }
    }
}

/// No address of a host may be reached.
#[derive(Debug)]
struct Forbidden;

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its address may not be reached")
    }
}

impl std::error::Error for Forbidden {}

/// Sends requests, one at a time.
#[derive(Debug)]
pub struct Poster {
    agent: Agent,
    within: Duration,
}

impl Poster {
    /// Makes one whose requests take no longer than `within`.
    pub fn new(within: Duration) -> Self {
        Self::trusting(certificates(), within, None)
    }

    /// Makes one that reaches only addresses of which `may_reach` says so.
    pub fn guarded(within: Duration, may_reach: Judge) -> Self {
        Self::trusting(certificates(), within, Some(may_reach))
    }

    fn trusting(
        certificates: Arc<Vec<Certificate<'static>>>,
        within: Duration,
        may_reach: Option<Judge>,
    ) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(certificates)).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(within))
            .timeout_resolve(Some(CONNECT.min(within)))
            .timeout_connect(Some(CONNECT.min(within)))
            // A connection that waits for the next request in a minute would have been closed by then.
            .max_idle_connections(0)
            .user_agent(concat!("ferricorn/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = Guarded { inner: DefaultResolver::default(), may_reach };
        Self { agent: Agent::with_parts(config, DefaultConnector::default(), resolver), within }
    }

    /// Sends it.
    pub fn post(&self, url: &str, headers: &[(String, String)], kind: &str, body: &[u8]) -> Outcome {
        let mut request = self.agent.post(url).header("Content-Type", kind);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        match request.send(body) {
            Ok(mut answer) => {
                let status = answer.status().as_u16();
                let field = answer.headers().get("retry-after").and_then(|field| field.to_str().ok());
                let after = field.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
                let body = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
                self.outcome(status, after, body.unwrap_or_default())
            }
            Err(Error::Other(error)) if error.is::<Forbidden>() => {
                Outcome::Refused { why: error.to_string(), status: None }
            }
            Err(error @ (Error::BadUri(_) | Error::Http(_))) => {
                Outcome::Refused { why: self.why(&error), status: None }
            }
            Err(error) => Outcome::Later { why: self.why(&error), after: None },
        }
    }

    fn outcome(&self, status: u16, after: Option<Duration>, body: Vec<u8>) -> Outcome {
        let code = code_word(&body).map_or(String::new(), |code| format!(" ({code})"));
        let why = format!("it answered {status}{code}");
        match status {
            200..=299 => Outcome::Accepted(body),
            // What other servers mean by "not now".
            408 | 425 | 429 | 500..=599 => {
                Outcome::Later { why, after: after.map(|after| after.min(RETRY_AFTER_MAX)) }
            }
            _ => Outcome::Refused { why, status: Some(status) },
        }
    }

    /// ureq's own words may hold the URL.
    fn why(&self, error: &Error) -> String {
        match error {
            Error::Timeout(_) => format!("no answer within {} s", self.within.as_secs()),
            Error::HostNotFound => "nobody knows its host".to_owned(),
            Error::ConnectionFailed => "no connection could be made".to_owned(),
            Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                format!("TLS: {error}")
            }
            Error::Io(error) => error.to_string(),
            Error::Rustls(error) => format!("TLS: {error}"),
            Error::Tls(error) => format!("TLS: {error}"),
            Error::BadUri(_) | Error::Http(_) => "its URL or a header field cannot be read".to_owned(),
            Error::Protocol(_) => "it does not speak HTTP".to_owned(),
            _ => "the request failed".to_owned(),
        }
    }
}

/// Returns an answer that is one word, as Slack's are: longer ones may repeat what they were asked.
fn code_word(body: &[u8]) -> Option<&str> {
    const CODE_MAX: usize = 40;
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_code = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    (!text.is_empty() && text.len() <= CODE_MAX && is_code).then_some(text)
}

/// Returns how long to wait after so many attempts without success.
pub fn backoff(attempts: u32) -> Duration {
    let doubled = BACKOFF.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(BACKOFF_MAX)
}

/// The certificates that the system trusts, read once; without them nothing is sent by https.
fn certificates() -> Arc<Vec<Certificate<'static>>> {
    static READ: OnceLock<Arc<Vec<Certificate<'static>>>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs().certs;
        Arc::new(found.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
    };
    READ.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Reply, Server};
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    #[test]
    fn waits_grow_within_bounds() {
        let waits: Vec<u64> = [0, 1, 2, 3, 6, 7, 8, 40, u32::MAX].map(|n| backoff(n).as_secs()).into();
        assert_eq!(waits, [1, 1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn answers_say_whether_to_try_again() {
        let table = [
            (Reply::status(200), "accepted"),
            (Reply::status(204), "accepted"),
            (Reply::status(301).header("Location", "http://127.0.0.1:1/"), "refused: it answered 301"),
            (Reply::status(403).body("invalid_token"), "refused: it answered 403 (invalid_token)"),
            (Reply::status(404).body("Cannot POST /hook/s3cret"), "refused: it answered 404"),
            (Reply::status(429).header("Retry-After", "7"), "later in 7 s: it answered 429"),
            (Reply::status(503).header("Retry-After", "86400"), "later in 300 s: it answered 503"),
            (Reply::status(500), "later: it answered 500"),
            (Reply::nothing(), "later: "),
        ];
        for (reply, expected) in table {
            let server = Server::start(vec![reply]);
            let poster = Poster::new(Duration::from_secs(5));
            let url = format!("{}/hook/s3cret", server.url());
            let header = [("Authorization".to_owned(), "Bearer s3cret".to_owned())];
            let told = match poster.post(&url, &header, "application/json", b"{}") {
                Outcome::Accepted(_) => "accepted".to_owned(),
                Outcome::Later { why, after: None } => format!("later: {why}"),
                Outcome::Later { why, after: Some(after) } => {
                    format!("later in {} s: {why}", after.as_secs())
                }
                Outcome::Refused { why, .. } => format!("refused: {why}"),
            };
            assert!(told.starts_with(expected) && !told.contains("s3cret"), "{told} for {expected}");
            let request = server.next();
            assert_eq!((request.path.as_str(), request.body.as_slice()), ("/hook/s3cret", &b"{}"[..]));
            assert_eq!(request.field("authorization"), Some("Bearer s3cret"));
        }
    }

    #[test]
    fn who_is_not_there_is_said_without_the_url() {
        let poster = Poster::new(Duration::from_secs(5));
        let table = [
            ("http://127.0.0.1:1/s3cret", true),
            ("http://no-such-host.invalid/s3cret", true),
            ("http://a:b:c/s3cret", false),
        ];
        for (url, may_come) in table {
            let (why, is_later) = match poster.post(url, &[], "text/plain", b"") {
                Outcome::Later { why, .. } => (why, true),
                Outcome::Refused { why, status: None } => (why, false),
                other => panic!("{other:?}"),
            };
            assert_eq!(is_later, may_come, "{url}: {why}");
            assert!(!why.is_empty() && !why.contains("s3cret"), "{why}");
        }
    }

    /// A server in Python that speaks TLS with a certificate of its own and answers 501 to every POST; returns its port.
    fn with_tls(folder: &Path) -> (Child, u16) {
        let openssl = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=ferricorn test", "-days", "2"])
            .args([
                "-addext",
                "subjectAltName=DNS:localhost",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ])
            .current_dir(folder)
            .output();
        assert!(openssl.expect("openssl").status.success());
        let code = "import http.server as h, ssl\n\
                    class Answer(h.BaseHTTPRequestHandler): pass\n\
                    server = h.ThreadingHTTPServer(('127.0.0.1', 0), Answer)\n\
                    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
                    tls.load_cert_chain('cert.pem', 'key.pem')\n\
                    server.socket = tls.wrap_socket(server.socket, server_side=True)\n\
                    print(server.server_port, flush=True)\n\
                    server.serve_forever()\n";
        let python = std::env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut child = Command::new(python)
            .args(["-c", code])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a Python");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("a port");
        (child, line.trim().parse().expect("a port"))
    }

    #[test]
    fn a_certificate_that_nobody_trusts_ends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut server, port) = with_tls(folder.path());
        let url = format!("https://localhost:{port}/s3cret");
        let pem = std::fs::read(folder.path().join("cert.pem")).expect("a certificate");
        let own = Arc::new(vec![Certificate::from_pem(&pem).expect("a certificate").to_owned()]);
        let within = Duration::from_secs(10);
        let told = |poster: &Poster| match poster.post(&url, &[], "text/plain", b"x") {
            Outcome::Later { why, .. } => why,
            other => format!("{other:?}"),
        };
        let strangers = told(&Poster::new(within));
        let friends = told(&Poster::trusting(own, within, None));
        server.kill().expect("ended");
        server.wait().expect("reaped");
        assert!(strangers.starts_with("TLS: invalid peer certificate"), "{strangers}");
        assert_eq!(friends, "it answered 501");
    }

    #[test]
    fn what_may_not_be_reached_is_not_however_it_is_written() {
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (list, public) = (asked.clone(), is_public as fn(IpAddr) -> bool);
        let judge: Judge = Arc::new(move |ip, is_tls| {
            list.lock().expect("a list").push((ip, is_tls));
            public(ip)
        });
        let poster = Poster::guarded(Duration::from_secs(5), judge);
        let server = Server::start(vec![Reply::status(200)]);
        let port = server.url().rsplit_once(':').map(|(_, port)| port.to_owned()).expect("a port");
        for host in [
            "127.0.0.1",
            "localhost",
            "0x7f.1",
            "2130706433",
            "127.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
        ] {
            match poster.post(&format!("http://{host}:{port}/"), &[], "text/plain", b"") {
                Outcome::Refused { why, status: None } => {
                    assert_eq!(why, "its address may not be reached", "{host}")
                }
                other => panic!("{host}: {other:?}"),
            }
        }
        assert!(asked.lock().expect("a list").iter().all(|(_, is_tls)| !is_tls));
        let open =
            Poster::guarded(Duration::from_secs(5), Arc::new(|ip, is_tls| ip.is_loopback() && !is_tls));
        assert!(matches!(open.post(&server.url(), &[], "text/plain", b""), Outcome::Accepted(_)));
        // None of the others has come there.
        assert_eq!(server.next().path, "/");
    }

    #[test]
    fn who_does_not_answer_is_left_in_time() {
        let server = Server::start(vec![Reply::never()]);
        let poster = Poster::new(Duration::from_secs(1));
        match poster.post(&server.url(), &[], "text/plain", b"") {
            Outcome::Later { why, .. } => assert_eq!(why, "no answer within 1 s"),
            other => panic!("{other:?}"),
        }
    }
}
