//! The worker with an application in Rust: the loop, takeover, queue, drain; no Python anywhere.

use ferricorn_core::scoreboard::Scoreboard;
use ferricorn_sys::events;
use ferricorn_sys::shared::SharedMemory;
use ferricorn_worker::{
    App, At, Body, Conn, Context, Exit, Interpreter, Level, Log, Options, Signals, Stop, Tell, run,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Paths: `/` answers, `/slow` sleeps 300 ms, `/nap` 10 ms, `/echo` sends the body back, `/stream` sends in pieces,
/// `/big` 8 MB.
#[derive(Default)]
struct Demo {
    /// How long the interpreter is somebody else's after every wait.
    regain: Duration,
}

impl App for Demo {
    fn call(&self, mut conn: Box<Conn>, _thread: usize) -> Box<Conn> {
        let path = conn.head.get(&conn.head.path.clone()).to_vec();
        let body = match (&path[..], conn.take_body()) {
            (b"/slow", _) => {
                thread::sleep(Duration::from_millis(300));
                b"slow".to_vec()
            }
            (b"/nap", _) => {
                thread::sleep(Duration::from_millis(10));
                b"hello".to_vec()
            }
            (b"/echo", Body::Memory(body)) => body,
            (b"/echo", Body::File { mut file, .. }) => {
                let mut body = Vec::new();
                file.read_to_end(&mut body).expect("readable");
                body
            }
            (b"/big", _) => vec![b'x'; 8 << 20],
            _ => b"hello".to_vec(),
        };
        conn.response.status(b"200 OK").expect("a status");
        conn.response.field(b"Content-Type", b"text/plain").expect("a field");
        conn.write_head((path != b"/stream").then_some(body.len() as u64));
        for piece in body.chunks(if path == b"/stream" { 2 } else { usize::MAX >> 1 }) {
            conn.response.body(piece);
        }
        conn.response.finish();
        conn
    }

    fn attach(&self, body: impl FnOnce()) {
        body();
    }
}

impl Interpreter for Demo {
    fn wait<R: Send>(&self, blocking: impl FnOnce() -> R + Send) -> R {
        let result = blocking();
        thread::sleep(self.regain);
        result
    }

    fn look(&self, _at: At, _over: bool, _tell: Tell) {}

    fn is_held(&self) -> bool {
        false
    }

    fn interrupt(&self, _late: At) {}

    fn abort(&self) {}

    fn notify(&self, _stop: Stop) {}
}

struct Quiet;
impl Log for Quiet {
    fn log(&self, _level: Level, _message: &str) {}
    fn reopen(&self) {}
}

struct Pipe(UnixDatagram);
impl Signals for Pipe {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
    fn read(&self) -> Vec<i32> {
        let mut byte = [0];
        self.0.recv(&mut byte).map_or(Vec::new(), |_| vec![i32::from(byte[0])])
    }
}

struct Server {
    address: std::net::SocketAddr,
    signals: UnixDatagram,
    workers: Vec<JoinHandle<Exit>>,
    board: &'static Scoreboard,
}

impl Server {
    fn start(options: Options) -> Self {
        Self::with(Demo::default(), vec![options])
    }

    /// Starts a worker for each of the options.
    fn with(demo: Demo, options: Vec<Options>) -> Self {
        let demo = Arc::new(demo);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let (signals, theirs) = UnixDatagram::pair().expect("a pair");
        theirs.set_nonblocking(true).expect("non-blocking");
        let (near, far) = UnixDatagram::pair().expect("a pair");
        let board = SharedMemory::<Scoreboard>::create("test").expect("memory").value();
        board.workers_target.store(options.len() as u32, Relaxed);
        let workers = options.into_iter().enumerate().map(|(slot, options)| {
            board.claim(slot, slot as u32 + 1, 0, 0);
            let context = Context {
                listeners: vec![listener.try_clone().expect("a clone").into()],
                handover_out: OwnedFd::from(near.try_clone().expect("a clone")),
                handover_in: far.try_clone().expect("a clone").into(),
                signals: Box::new(Pipe(theirs.try_clone().expect("a clone"))),
                wake_arbiter: OwnedFd::from(near.try_clone().expect("a clone")),
                teller: Arc::new(events::channel().expect("a pair").0),
                board,
                slot,
                parent: std::os::unix::process::parent_id() as i32,
                log: Arc::new(Quiet),
                access: None,
            };
            let demo = demo.clone();
            thread::spawn(move || run(demo, options, context).expect("a worker"))
        });
        let workers = workers.collect();
        Self { address, signals, workers, board }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a response");
        text
    }

    fn stop(self, signal: u8) -> Exit {
        for _ in &self.workers {
            self.signals.send(&[signal]).expect("sent");
        }
        self.join()
    }

    /// Returns how the last worker has ended.
    fn join(self) -> Exit {
        let exits = self.workers.into_iter().map(|worker| worker.join().expect("no panic"));
        exits.last().expect("a worker")
    }
}

/// One request on a kept connection; its response must come whole, and in time.
fn exchange(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut text = Vec::new();
    while !text.ends_with(b"hello") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{path}: {error} after {text:?}"));
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

const TERM: u8 = 15;

#[test]
fn answers_and_drains() {
    let server = Server::start(Options::default());
    let text = server.get("/");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nServer: ferricorn\r\nDate: "), "{text}");
    assert!(
        text.ends_with("\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"),
        "{text}"
    );
    assert_eq!(server.board.workers[0].requests.load(Relaxed), 1);
    assert_eq!(server.stop(TERM), Exit::Graceful);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Options::default());
    let mut stream = server.connect();
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /stream HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    write!(stream, "{request}{last}").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("responses");
    let order: Vec<usize> = ["\r\n\r\nhello", "2\r\nhe\r\n2\r\nll\r\n1\r\no\r\n0\r\n\r\n", "\r\n\r\nslow"]
        .iter()
        .map(|part| text.find(part).expect(part))
        .collect();
    assert!(order.is_sorted(), "{text}");
    server.stop(TERM);
}

#[test]
fn a_request_split_at_every_byte_is_the_same_request() {
    let server = Server::start(Options::default());
    let request =
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for at in 1..request.len() {
        let mut stream = server.connect();
        stream.set_nodelay(true).expect("nodelay");
        stream.write_all(&request[..at]).expect("sent");
        thread::sleep(Duration::from_micros(300));
        stream.write_all(&request[at..]).expect("sent");
        let mut answer = [0; 400];
        let count = stream.read(&mut answer).expect("a response");
        assert!(answer[..count].ends_with(b"Content-Length: 3\r\n\r\nabc"), "split at {at}");
    }
    server.stop(TERM);
}

#[test]
fn with_two_threads_a_slow_call_delays_nobody() {
    let server = Server::start(Options { threads: 2, ..Options::default() });
    let mut slow = server.connect();
    write!(slow, "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    thread::sleep(Duration::from_millis(50));
    let started = Instant::now();
    for _ in 0..20 {
        assert!(server.get("/").ends_with("hello"));
    }
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    let mut text = String::new();
    slow.read_to_string(&mut text).expect("a response");
    assert!(text.ends_with("slow"));
    assert!(server.board.workers[0].takeovers.load(Relaxed) >= 1);
    server.stop(TERM);
}

#[test]
fn with_one_thread_requests_stand_in_line_and_the_line_is_bounded() {
    let server = Server::start(Options { queue_max: 1, ..Options::default() });
    let mut streams: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    thread::sleep(Duration::from_millis(20));
    for stream in &mut streams {
        write!(stream, "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        thread::sleep(Duration::from_millis(30));
    }
    let mut statuses = Vec::new();
    for stream in &mut streams {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a response");
        statuses.push(text[9..12].to_owned());
    }
    assert_eq!(statuses, ["200", "200", "503"]);
    assert_eq!(server.board.workers[0].shed.load(Relaxed), 1);
    server.stop(TERM);
}

#[test]
fn a_large_body_goes_through_a_file_and_back() {
    let server = Server::start(Options { body_memory_max: 1000, ..Options::default() });
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let mut stream = server.connect();
    let mut writer = stream.try_clone().expect("a clone");
    let sent = body.clone();
    let sender = thread::spawn(move || {
        write!(
            writer,
            "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            sent.len()
        )
        .expect("sent");
        writer.write_all(&sent).expect("sent");
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("a response");
    sender.join().expect("sent");
    assert!(answer.ends_with(&body));
    server.stop(TERM);
}

#[test]
fn slow_clients_get_408_and_silent_ones_are_closed() {
    let tenth = 100_000_000;
    let options = || Options { header_timeout_ns: tenth, body_timeout_ns: tenth, ..Options::default() };
    let table: &[(&str, &str)] = &[
        ("", ""),
        ("GET / HTT", "HTTP/1.1 408 Request Timeout"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", "HTTP/1.1 408 Request Timeout"),
    ];
    let server = Server::start(options());
    for (input, expected) in table {
        let mut stream = server.connect();
        stream.write_all(input.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an end");
        assert!(text.starts_with(expected) && text.is_empty() == expected.is_empty(), "{input:?}: {text}");
    }
    server.stop(TERM);
}

#[test]
fn continue_is_sent_before_the_body() {
    let server = Server::start(Options::default());
    let mut stream = server.connect();
    write!(stream, "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .expect("sent");
    let mut greeting = [0; 25];
    stream.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").expect("sent");
    let mut answer = [0; 400];
    let count = stream.read(&mut answer).expect("a response");
    assert!(answer[..count].ends_with(b"ok"));
    server.stop(TERM);
}

#[test]
fn a_running_request_is_finished_after_term() {
    let server = Server::start(Options::default());
    let mut stream = server.connect();
    write!(stream, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    thread::sleep(Duration::from_millis(50));
    server.signals.send(&[TERM]).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response");
    assert!(text.contains("Connection: ") && text.ends_with("slow"), "{text}");
    assert_eq!(server.join(), Exit::Graceful);
}

#[test]
fn a_reader_that_stops_costs_no_thread() {
    let server = Server::start(Options::default());
    let mut stream = server.connect();
    write!(stream, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    thread::sleep(Duration::from_millis(50));
    assert!(server.get("/").ends_with("hello"));
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    while read < 8 << 20 {
        read += stream.read(&mut buffer).expect("bytes");
    }
    server.stop(TERM);
}

#[test]
fn many_clients_at_once() {
    let server = Arc::new(Server::start(Options { threads: 3, ..Options::default() }));
    let failures = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (server, failures) = (server.clone(), failures.clone());
            thread::spawn(move || {
                for round in 0..100 {
                    let path = if (number + round) % 50 == 0 { "/slow" } else { "/" };
                    if !server.get(path).starts_with("HTTP/1.1 200") {
                        failures.fetch_add(1, Relaxed);
                    }
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("no panic"));
    assert_eq!(failures.load(Relaxed), 0);
    Arc::into_inner(server).expect("one owner").stop(TERM);
}

#[test]
fn what_arrives_while_the_interpreter_is_away_is_not_lost() {
    let demo = Demo { regain: Duration::from_millis(5) };
    let server = Server::with(demo, vec![Options::default()]);
    let mut stream = server.connect();
    for _ in 0..50 {
        exchange(&mut stream, "/");
    }
    assert!(server.board.workers[0].takeovers.load(Relaxed) > 0);
    drop(stream);
    assert_eq!(server.stop(TERM), Exit::Graceful);
}

#[test]
fn connections_go_to_and_fro_between_busy_siblings() {
    let server = Server::with(Demo::default(), vec![Options::default(), Options::default()]);
    let clients = (0..6).map(|number| {
        let mut stream = server.connect();
        thread::spawn(move || {
            for turn in 0..60 {
                exchange(&mut stream, if (turn + number) % 3 == 0 { "/nap" } else { "/" });
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().for_each(|client| client.join().expect("all answered"));
    let handed: u64 = server.board.used().iter().map(|slot| slot.handed_over.load(Relaxed)).sum();
    assert!(handed > 5, "{handed}");
    server.stop(TERM);
}

#[test]
fn clients_that_keep_a_worker_busy_do_not_keep_others_out() {
    let server = Server::start(Options::default());
    let busy: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = server.connect();
            thread::spawn(move || (0..20).for_each(|_| drop(exchange(&mut stream, "/nap"))))
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    assert!(server.get("/").ends_with("hello"));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    busy.into_iter().for_each(|client| client.join().expect("all answered"));
    server.stop(TERM);
}
