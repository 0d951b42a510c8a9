//! The admin endpoint from outside: what it answers, who can reach it, and what slow and rude clients can do to it.

use crate::process::get;
use crate::prometheus::on_a_port;
use crate::server::{Server, incident, serve, wait_for};
use ferricorn_core::diagnosis::Cause;
use ferricorn_core::incident::State as Course;
use ferricorn_core::scoreboard::State;
use ferricorn_reflex::admin::{Places, socket_path};
use ferricorn_reflex::export::Config;
use ferricorn_settings::BindAddress;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A snapshot that is no older counts as of now: somebody else may just have asked for it.
const A_MOMENT: Duration = Duration::from_millis(60);

/// An answer: status, fields in lower case, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// What a problem says.
    fn detail(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let json = self.json();
        assert_eq!(
            (&json["status"], &json["type"]),
            (&Value::from(self.status), &Value::from("about:blank"))
        );
        json["detail"].as_str().expect("a detail").to_owned()
    }
}

fn talk(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    Answer::of(&bytes)
}

fn ask(server: &Server, method: &str, path: &str) -> Answer {
    talk(connect(server), &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

fn address(server: &Server) -> SocketAddr {
    server.url().trim_start_matches("http://").parse().expect("an address")
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(address(server)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    stream
}

#[test]
fn every_path_answers() {
    let server = serve(on_a_port());
    server.incidents(vec![
        incident("20261126-7", Course::Open, Cause::DbLock),
        incident("20261126-8", Course::Closed, Cause::ExplicitSleep),
    ]);
    wait_for("incidents", || server.shared.latest().filter(|seen| seen.incidents.len() == 2));
    let metrics = ask(&server, "GET", "/metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4") && metrics.status == 200);
    // One request each: nobody keeps a place of the few there are.
    assert!(metrics.head.contains("connection: close"), "{}", metrics.head);
    let head = ask(&server, "HEAD", "/metrics");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(ask(&server, "GET", "/healthz").json()["status"], "ok");
    let ready = ask(&server, "GET", "/readyz").json();
    assert_eq!((&ready["status"], &ready["workers_serving"]), (&Value::from("ready"), &Value::from(2)));
    assert_eq!(ask(&server, "GET", "/livez").json()["status"], "live");
    let snapshot = ask(&server, "GET", "/snapshot").json();
    assert_eq!((&snapshot["name"], &snapshot["schema"]), (&Value::from("shop"), &Value::from(1)));
    let ids = |path: &str| -> Vec<String> {
        let json = ask(&server, "GET", path).json();
        let all = json["incidents"].as_array().expect("a list").iter();
        all.map(|incident| incident["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids("/incidents"), ["20261126-7", "20261126-8"]);
    assert_eq!(ids("/incidents?state=open"), ["20261126-7"]);
    assert_eq!(ids("/incidents?a=b&state=closed"), ["20261126-8"]);
    assert_eq!(ask(&server, "GET", "/incidents/20261126-8").json()["verdict"], "trouble 20261126-8");
}

#[test]
fn what_is_wrong_is_said() {
    let server = serve(on_a_port());
    let table = [
        ("GET", "/", 404, "there is /metrics (for Prometheus)"),
        ("GET", "/metrics/", 404, "there is /metrics"),
        ("GET", "/incidents/%00", 404, "there is no such incident"),
        ("GET", "/incidents/20261126-9", 404, "there is no such incident"),
        ("GET", "/incidents?state=oepn", 400, "`state` must be one of note, open, mitigated, closed"),
        ("POST", "/metrics", 405, "use GET, and POST for /deploys alone"),
        ("DELETE", "/incidents/1", 405, "use GET, and POST for /deploys alone"),
    ];
    for (method, path, status, detail) in table {
        let answer = ask(&server, method, path);
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.detail().starts_with(detail), "{method} {path}: {}", answer.detail());
        assert_eq!(status == 405, answer.head.contains("\r\nallow: get"), "{}", answer.head);
    }
}

#[test]
fn health_follows_the_workers() {
    let server = serve(on_a_port());
    let slots = &server.board.workers[..2];
    let status = |path: &str| {
        std::thread::sleep(A_MOMENT);
        ask(&server, "GET", path).status
    };
    assert_eq!((status("/readyz"), status("/livez")), (200, 200));
    // One silent worker leaves another.
    slots[0].beat_ns.store(1, Relaxed);
    slots[0].threads_free.store(0, Relaxed);
    assert_eq!((status("/readyz"), status("/livez")), (200, 200));
    slots[1].beat_ns.store(1, Relaxed);
    assert_eq!((status("/readyz"), status("/livez")), (503, 503));
    let ready = ask(&server, "GET", "/readyz").detail();
    assert_eq!(ready, "none of 2 workers takes requests: 0 are booting, 2 are stuck");
    assert_eq!(ask(&server, "GET", "/livez").detail(), "all 2 workers are stuck");
    // Who boots is not ready, and no reason to be killed.
    slots[1].state.store(State::Booting as u32, Relaxed);
    assert_eq!((status("/readyz"), status("/livez")), (503, 200));
    slots.iter().for_each(|slot| slot.release());
    assert_eq!((status("/readyz"), status("/livez")), (503, 200));
    assert_eq!(ask(&server, "GET", "/readyz").detail(), "there is no worker; 2 are wanted");
    server.board.arbiter_pid.store(i32::MAX as u32, Relaxed);
    assert_eq!(status("/livez"), 503);
    assert_eq!(ask(&server, "GET", "/livez").detail(), format!("its arbiter (pid {}) has ended", i32::MAX));
    assert_eq!(status("/healthz"), 200);
}

#[test]
fn numbers_are_those_of_the_moment() {
    let server = serve(on_a_port());
    let url = server.url();
    for expected in 3_004..3_024 {
        server.board.workers[0].requests.fetch_add(1, Relaxed);
        std::thread::sleep(A_MOMENT);
        let text = get(&format!("{url}/metrics")).expect("metrics");
        let line = format!("\nferricorn_requests_completed_total {expected}\n");
        assert!(text.contains(&line), "{expected}");
    }
}

#[test]
fn an_observer_that_hangs_is_told_from_a_server_that_does() {
    let mut server = serve(on_a_port());
    assert_eq!(ask(&server, "GET", "/metrics").status, 200);
    server.look_away();
    std::thread::sleep(A_MOMENT);
    // For a while the last numbers do.
    let begun = Instant::now();
    assert_eq!(ask(&server, "GET", "/readyz").status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(400));
    wait_for("staleness", || (ask(&server, "GET", "/healthz").status == 503).then_some(()));
    assert!(ask(&server, "GET", "/healthz").detail().starts_with("the observer has not looked for 1"));
    for path in ["/metrics", "/readyz", "/livez", "/snapshot", "/incidents"] {
        assert_eq!(ask(&server, "GET", path).detail(), "the observer has not looked at the server lately");
    }
}

fn on_a_socket(folder: &Path) -> Config {
    let socket = Some(socket_path(folder, 4_700));
    Config { admin: Places { socket, bind: None }, ..Config::default() }
}

#[test]
fn the_socket_is_always_there_and_goes_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("4700.sock");
    let mut server = serve(on_a_socket(folder.path()));
    let ask =
        || talk(UnixStream::connect(&path).expect("connected"), "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    wait_for("a look", || (ask().status == 200).then_some(()));
    // The same again, as an observer that was started twice: it says so and goes on.
    let second = serve(on_a_socket(folder.path()));
    let line = second.shared.lines().remove(0).1;
    assert!(line.contains("4700.sock") && line.ends_with("Another server listens there"), "{line}");
    drop(second);
    assert_eq!(ask().status, 200);
    drop(server.exports.take());
    assert!(!path.exists());
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port();
    let bind = BindAddress::Tcp { host: "127.0.0.1".to_owned(), port };
    let admin = Places { socket: None, bind: Some(bind) };
    let server = serve(Config { admin, ..Config::default() });
    let line = server.shared.lines().remove(0).1;
    assert!(line.contains(&format!("127.0.0.1:{port}")) && line.contains("Another process has it"), "{line}");
    drop(other);
    assert_eq!(ask(&server, "GET", "/healthz").status, 200);
    assert!(server.shared.lines()[0].1.starts_with("Metrics and health are served at: http://127.0.0.1:"));
}

#[test]
fn slow_clients_keep_nobody_out_for_long() {
    let server = serve(on_a_port());
    // More than there is room for; the first half says a little, the rest nothing.
    let crowd: Vec<TcpStream> = (0..40)
        .map(|number| {
            let mut stream = connect(&server);
            if number % 2 == 0 {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").expect("sent");
            }
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(ask(&server, "GET", "/healthz").status, 200);
    // Their time is up after three seconds; the machine may be slow, but fifteen would be the other limit.
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
    drop(crowd);
    assert_eq!(ask(&server, "GET", "/healthz").status, 200);
}

#[test]
fn rude_clients_are_shown_the_door() {
    let server = serve(on_a_port());
    let long = format!("GET /metrics HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(500));
    let path = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(40_000));
    let table = [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET /metrics HTTP/9.9\r\n\r\n",
        long.as_str(),
        many.as_str(),
        path.as_str(),
    ];
    for request in table {
        let mut stream = connect(&server);
        let sent = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            // It may be closed before all is read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
            read => drop(read.expect("an end")),
        }
        if sent.is_ok() && !bytes.is_empty() {
            let status = Answer::of(&bytes).status;
            assert!((400..=431).contains(&status), "{status} for {:.40}", request);
        }
    }
    // A body is not read, and a second request not answered.
    let body =
        format!("GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(1000));
    assert_eq!(talk(connect(&server), &body).status, 200);
    let twice = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2);
    assert_eq!(talk(connect(&server), &twice).body.matches("snapshot_age_s").count(), 1);
    assert_eq!(ask(&server, "GET", "/healthz").status, 200);
}
