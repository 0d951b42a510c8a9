//! A dispatcher between a worker and a server of jobs, both played by the test.

use super::*;
use crate::rules::{Rule, Terms};
use crate::webhook::Key;
use fake::{Reply, Server};
use ferricorn_core::offload::{FIELD, Places, Progress, State, Status, id};
use ferricorn_core::pattern::Route;
use rustix::net::SocketType;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

#[expect(dead_code, reason = "other crates' tests use the rest")]
#[path = "../../post/src/fake.rs"]
mod fake;

/// What is played.
struct Stage {
    folder: tempfile::TempDir,
    counter: Vec<u8>,
    ends: Arc<AtomicBool>,
    wake: OwnedFd,
    thread: Option<thread::JoinHandle<()>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    /// Begins, over these jobs, with somebody who answers each request with what this returns for it.
    fn begin(
        folder: tempfile::TempDir,
        capacity: usize,
        answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::begin_with(folder, capacity, Vec::new(), None, answer)
    }

    /// The same with rules, and somebody who is told.
    fn begin_with(
        folder: tempfile::TempDir,
        capacity: usize,
        each: Vec<Rule>,
        webhooks: Option<Webhooks>,
        answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let rules = Rules { each, other: Terms { retries: 0, retention_s: 60.0 } };
        let counter = packets::listener(SocketType::SEQPACKET).expect("a listener");
        let jobs = packets::listener(SocketType::STREAM).expect("a listener");
        let (name, workers) =
            (packets::name(counter.as_fd()).expect("a name"), packets::name(jobs.as_fd()).expect("a name"));
        let answer = Arc::new(answer);
        thread::spawn(move || {
            let listener = UnixListener::from(jobs);
            listener.set_nonblocking(false).expect("blocking");
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                thread::spawn(move || serve(stream, &*answer));
            }
        });
        let wake = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
        let (ends, lines) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (told, log, path) = (ends.clone(), lines.clone(), folder.path().to_owned());
        let bell = packets::twin(&wake).expect("a twin");
        let thread = thread::spawn(move || {
            run(&Context {
                counter,
                workers,
                token: "t".into(),
                folder: path,
                service: "shop".into(),
                bounds: Bounds { jobs: 100, bytes: 10 << 20 },
                rules,
                webhooks,
                capacity,
                relayed: false,
                patience: Duration::from_secs(5),
                users: vec![rustix::process::geteuid().as_raw()],
                told: Box::new(|| if told.load(SeqCst) { Told::Orphan } else { Told::Nothing }),
                wake: bell,
                counts: Box::leak(Box::default()),
                log: &|_, line| log.lock().expect("not poisoned").push(line.to_owned()),
            })
            .expect("a store");
        });
        Self { folder, counter: name, ends, wake, thread: Some(thread), lines }
    }

    fn worker(&self) -> Worker {
        Worker { socket: packets::connect_to(&self.counter).expect("connected"), seq: 0 }
    }

    fn end(mut self) -> tempfile::TempDir {
        self.ends.store(true, SeqCst);
        ring(&self.wake);
        self.thread.take().expect("begun").join().expect("ended");
        self.folder
    }
}

fn serve(mut stream: UnixStream, answer: &dyn Fn(&str) -> Option<String>) {
    let (mut said, mut room) = (Vec::new(), [0; 65536]);
    let is_whole = |said: &str| {
        let length =
            said.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        said.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length.unwrap_or(0))
    };
    while !is_whole(&String::from_utf8_lossy(&said)) {
        match stream.read(&mut room) {
            Ok(count) if count > 0 => said.extend_from_slice(&room[..count]),
            _ => return,
        }
    }
    if let Some(text) = answer(&String::from_utf8_lossy(&said)) {
        let head = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length";
        // A cancelled attempt is gone.
        let _ = stream.write_all(format!("{head}: {}\r\n\r\n{text}", text.len()).as_bytes());
    }
}

struct Worker {
    socket: OwnedFd,
    seq: u64,
}

impl Worker {
    fn say(&mut self, ask: &Ask, tail: &[u8], file: Option<&File>) {
        self.seq += 1;
        let bytes = packets::written(self.seq, ask, &[tail]);
        assert!(packets::send(self.socket.as_fd(), &bytes, file.map(AsFd::as_fd)).expect("sent"));
    }

    fn hear(&mut self) -> (u64, Answer, Vec<u8>, Option<OwnedFd>) {
        let mut room = vec![0; MESSAGE_MAX];
        loop {
            if let Some((length, file)) = packets::receive(self.socket.as_fd(), &mut room).expect("heard") {
                let (seq, answer, tail) = packets::read(&room[..length]).expect("an answer");
                return (seq, answer, tail.to_vec(), file);
            }
            poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], None).expect("heard");
        }
    }

    fn asked(&mut self, ask: &Ask) -> Answer {
        self.say(ask, b"", None);
        self.hear().1
    }

    fn status(&mut self, ask: &Ask) -> Status {
        match self.asked(ask) {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn keep(&mut self, number: u8, method: &str) -> String {
        self.keep_for(number, method, None)
    }

    fn keep_for(&mut self, number: u8, method: &str, webhook: Option<String>) -> String {
        let head = format!("{method} /r/{number} HTTP/1.1\r\n\r\n").into_bytes();
        let id = id([number; 16]);
        let request = Request {
            id: id.clone(),
            method: method.into(),
            path: format!("/r/{number}"),
            head: head.len(),
            webhook,
            ..Request::default()
        };
        self.say(&Ask::Keep(request), &head, None);
        assert!(matches!(self.hear().1, Answer::Status(status) if status.id == id));
        id
    }

    fn over(&mut self, id: &str) -> Status {
        self.status(&Ask::Look { id: id.to_owned(), tag: None, end: true, wait_ms: 10_000 })
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_request_is_kept_run_and_its_response_given() {
    let stage = Stage::begin(folder(), 2, |said| {
        assert!(said.contains(&format!("{FIELD}: t ")));
        Some(format!("made of {}", said.lines().next().unwrap_or_default()))
    });
    let mut worker = stage.worker();
    let id = worker.keep(1, "POST");
    assert_eq!(worker.over(&id).state, State::Done);
    worker.say(&Ask::Take { id: id.clone() }, b"", None);
    let (_, answer, body, _) = worker.hear();
    assert!(matches!(answer, Answer::Response(response) if response.status == "200 OK"));
    assert_eq!(body, b"made of POST /r/1 HTTP/1.1");
    let absent = ferricorn_core::offload::id([9; 16]);
    assert_eq!(worker.asked(&Ask::Take { id: absent }), Answer::Absent);
    stage.end();
}

#[test]
fn long_bodies_go_as_files_both_ways() {
    let stage = Stage::begin(folder(), 2, |_| Some("y".repeat(100_000)));
    let mut worker = stage.worker();
    let mut file =
        File::from(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).expect("a file"));
    file.write_all(&[b'x'; 90_000]).expect("written");
    let head = b"POST / HTTP/1.1\r\nContent-Length: 90000\r\n\r\n";
    let one = id([1; 16]);
    let request = Request {
        id: one.clone(),
        method: "POST".into(),
        head: head.len(),
        body: 90_000,
        ..Request::default()
    };
    worker.say(&Ask::Keep(request), head, Some(&file));
    assert!(matches!(worker.hear().1, Answer::Status(_)));
    assert_eq!(worker.over(&one).state, State::Done);
    worker.say(&Ask::Take { id: one }, b"", None);
    let (_, _, body, file) = worker.hear();
    let mut text = String::new();
    File::from(file.expect("a file")).read_to_string(&mut text).expect("read");
    assert!(body.is_empty() && text.len() == 100_000);
    stage.end();
}

#[test]
fn who_waits_is_told_when_something_changes() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = gate.clone();
    let stage = Stage::begin(folder(), 1, move |_| {
        while !opened.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        Some("done".into())
    });
    let (mut worker, mut other) = (stage.worker(), stage.worker());
    let first = worker.keep(1, "POST");
    let second = worker.keep(2, "POST");
    let look = |id: &str, tag| Ask::Look { id: id.to_owned(), tag, end: false, wait_ms: 20_000 };
    let queued = worker.status(&look(&second, None));
    assert_eq!(queued.state, State::Queued, "one at a time");
    let running = loop {
        let status = worker.status(&look(&first, None));
        if status.state == State::Running {
            break status;
        }
    };
    worker.say(&look(&first, Some(running.tag())), b"", None);
    other.say(
        &Ask::Report { id: first.clone(), progress: Progress { share: 0.5, note: "half".into() } },
        b"",
        None,
    );
    let (_, answer, ..) = worker.hear();
    assert!(
        matches!(answer, Answer::Status(status) if status.progress.as_ref().is_some_and(|p| p.share == 0.5))
    );
    // Withdrawn: one that waits is never begun, one that runs is nobody's.
    assert_eq!(worker.status(&Ask::Cancel { id: second.clone() }).state, State::Cancelled);
    assert_eq!(worker.status(&Ask::Cancel { id: first.clone() }).state, State::Cancelled);
    gate.store(true, SeqCst);
    let third = worker.keep(3, "POST");
    assert_eq!(worker.over(&third).state, State::Done);
    assert_eq!(worker.status(&look(&first, None)).state, State::Cancelled);
    stage.end();
}

#[test]
fn jobs_outlive_their_dispatcher() {
    let stage = Stage::begin(folder(), 0, |_| None);
    let ids: Vec<String> = (1..=3).map(|number| stage.worker().keep(number, "POST")).collect();
    let folder = stage.end();
    let stage = Stage::begin(folder, 2, |_| Some("later".into()));
    let mut worker = stage.worker();
    for id in ids {
        assert_eq!(worker.over(&id).state, State::Done);
    }
    assert!(stage.lines.lock().expect("not poisoned")[0].contains("3 jobs are not over yet"));
    stage.end();
}

#[test]
fn a_worker_that_dies_costs_an_attempt_and_is_told_of() {
    let stage = Stage::begin(folder(), 2, |_| None);
    let mut worker = stage.worker();
    let id = worker.keep(1, "GET");
    let status = worker.over(&id);
    assert_eq!((status.state, status.attempts), (State::Failed, 3));
    let lines = stage.lines.lock().expect("not poisoned").clone();
    assert!(lines[0].contains("attempt 1 of 3") && lines[2].contains("given up"), "{lines:?}");
    stage.end();
}

#[test]
fn owners_are_known_by_their_process() {
    let own = owner(true);
    assert!(!is_dead(&own, 0.0, 1000.0));
    let other = own.replace(&format!("-{}-", std::process::id()), "-1-");
    assert!(is_dead(&other, 1000.0, 1000.0), "{other}");
    assert!(!is_dead("elsewhere-1-1", 990.0, 1000.0) && is_dead("elsewhere-1-1", 900.0, 1000.0));
}

#[test]
fn jobs_of_a_route_wait_for_each_other_and_others_do_not() {
    let route = Route::parse("POST /r/*").expect("a route");
    let rule = Rule {
        route,
        name: "POST /r/*".into(),
        terms: Terms { retries: 0, retention_s: 60.0 },
        concurrency: Some(1),
    };
    let (open, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (now, max) = (open.clone(), most.clone());
    let stage = Stage::begin_with(folder(), 4, vec![rule], None, move |said| {
        if said.starts_with("PUT") {
            return Some("put".into());
        }
        max.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        thread::sleep(Duration::from_millis(50));
        now.fetch_sub(1, SeqCst);
        Some("post".into())
    });
    let mut worker = stage.worker();
    let ids: Vec<String> = (1..=4).map(|number| worker.keep(number, "POST")).collect();
    let other = worker.keep(9, "PUT");
    assert_eq!(worker.over(&other).state, State::Done);
    let waits = Ask::Look { id: ids[3].clone(), tag: None, end: false, wait_ms: 0 };
    assert_eq!(worker.status(&waits).state, State::Queued, "nobody has waited for the four");
    for id in ids {
        assert_eq!(worker.over(&id).state, State::Done);
    }
    assert_eq!(most.load(SeqCst), 1);
    stage.end();
}

#[test]
fn who_wants_to_is_told_of_the_end_where_that_may_be() {
    let server = Server::start(vec![Reply::status(200)]);
    let key = Key::parse("a secret of the service").expect("a key");
    let webhooks = Webhooks::new(Some(server.url()), vec![key], Places::default(), |_| false);
    let stage = Stage::begin_with(folder(), 2, Vec::new(), Some(webhooks), |_| Some("made".into()));
    let mut worker = stage.worker();
    let id = worker.keep(1, "POST");
    let told = server.next();
    assert_eq!(told.json()["type"], "job.done");
    assert_eq!(told.json()["data"]["id"], id.as_str());
    assert!(told.field("webhook-signature").is_some_and(|text| text.starts_with("v1,")));
    // A client names the same address, which is nobody's in public.
    let id = worker.keep_for(2, "POST", Some(format!("{}/theirs", server.url())));
    assert_eq!(worker.over(&id).state, State::Done);
    let refused = format!(
        "Job {id}: its webhook at 127.0.0.1 was not told: its address may not be reached; it is given up"
    );
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while !stage.lines.lock().expect("not poisoned").contains(&refused) {
        assert!(std::time::Instant::now() < until, "{:?}", stage.lines);
        thread::sleep(Duration::from_millis(10));
    }
    let told = server.next();
    assert_eq!((told.path.as_str(), &told.json()["data"]["id"]), ("/", &id.into()));
    assert!(server.is_quiet());
    stage.end();
}
