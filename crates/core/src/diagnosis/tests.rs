//! The rules against signatures of real faults: what kernel, stack and database show in each, and the cause that follows.

use super::*;
use crate::evidence::{Blocker, Database, Pooler, Service, Session, Socket, Tcp, Thread};
use proptest::prelude::*;

const SITE: &str = "/srv/venv/lib/python3.11/site-packages";
const LIB: &str = "/usr/lib/python3.11";

fn frame(file: &str, function: &str) -> Frame {
    let file = match file.split_once(':') {
        Some(("site", rest)) => format!("{SITE}/{rest}"),
        Some(("lib", rest)) => format!("{LIB}/{rest}"),
        _ => file.to_owned(),
    };
    Frame { function: function.to_owned(), file, line: 7, ..Frame::default() }
}

/// The application's own calls, and the framework's round them.
fn stack(called: &[(&str, &str)]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = called.iter().map(|(file, function)| frame(file, function)).collect();
    frames.push(frame("/srv/shop/rates.py", "fetch"));
    frames.push(frame("/srv/shop/views.py", "report"));
    frames.push(frame("site:flask/app.py", "Flask.dispatch_request"));
    frames
}

/// A request of which two looks were taken, a second apart, in which its thread did the same.
struct Scene {
    thread: Thread,
    others: Vec<Thread>,
    sockets: Vec<Socket>,
    databases: Vec<Database>,
    nested: bool,
    writes: bool,
    told: Option<Told>,
    cpu_s: f64,
    cpu_wait_s: f64,
    came: u64,
    /// Bytes that went out by the first socket in a second.
    went: u64,
}

impl Scene {
    fn of(state: &str, syscall: &str, doing: &str, frames: Vec<Frame>) -> Self {
        let thread = Thread {
            tid: 7,
            state: state.into(),
            syscall: syscall.into(),
            doing: doing.into(),
            frames,
            ..Thread::default()
        };
        Self {
            thread,
            others: vec![],
            sockets: vec![],
            databases: vec![],
            nested: false,
            writes: false,
            told: None,
            cpu_s: 0.0,
            cpu_wait_s: 0.0,
            came: 0,
            went: 0,
        }
    }

    /// It waits for a connection.
    fn on(mut self, service: Service, peer: &str, non_blocking: bool, patience_ms: Option<i64>) -> Self {
        self.thread.fd = Some(9);
        self.thread.peer = Some(peer.to_owned());
        self.thread.patience_ms = patience_ms;
        self.sockets
            .push(Socket { non_blocking: Some(non_blocking), ..socket(9, service, peer, 24.0, 24.1) });
        self
    }

    fn looks(&self) -> Vec<Evidence> {
        let look = |at_s: f64| {
            let thread = Thread {
                cpu_s: 3.0 + self.cpu_s * at_s,
                cpu_wait_s: self.cpu_wait_s * at_s,
                ..self.thread.clone()
            };
            let computed = |other: &Thread| Thread { cpu_s: other.cpu_s * at_s, ..other.clone() };
            let others = self.others.iter().map(computed).collect();
            let mut sockets = self.sockets.clone();
            if let Some(tcp) = sockets.first_mut().and_then(|socket| socket.tcp.as_mut()) {
                tcp.received += (self.came as f64 * at_s) as u64;
                tcp.sent += (self.went as f64 * at_s) as u64;
            }
            Evidence {
                percent: 50,
                at_s,
                source: if thread.frames.is_empty() { Source::Kernel } else { Source::Outside },
                threads: [vec![thread], others].concat(),
                sockets,
                databases: self.databases.clone(),
                ..Evidence::default()
            }
        };
        vec![look(0.0), look(1.0)]
    }

    fn diagnose(&self) -> Diagnosis {
        self.diagnose_with(None)
    }

    fn diagnose_with(&self, history: Option<History>) -> Diagnosis {
        let looks = self.looks();
        diagnose(&Case {
            request: Request {
                id: "4-1".into(),
                method: "GET".into(),
                path: "/report".into(),
                tid: 7,
                app_s: 24.0,
                deadline_s: Some(30.0),
                client: "10.0.0.7:5123".into(),
                ..Request::default()
            },
            client_fd: Some(5),
            writes: self.writes,
            nested: self.nested,
            looks: &looks,
            told: self.told.clone(),
            history,
            server: Surroundings {
                worker_class: "sync".into(),
                threads: 4,
                stuck: 1,
                ..Surroundings::default()
            },
        })
    }

    fn is(&self, cause: Cause) -> Diagnosis {
        let diagnosis = self.diagnose();
        assert_eq!(diagnosis.cause, cause, "{diagnosis:#?}");
        assert!(diagnosis.confidence >= SURE, "{} of {cause}", diagnosis.confidence);
        assert!(!diagnosis.summary.is_empty() && !diagnosis.evidence.is_empty());
        diagnosis
    }
}

fn socket(fd: i32, service: Service, peer: &str, sent_ago_s: f64, received_ago_s: f64) -> Socket {
    Socket {
        fd,
        kind: "tcp".into(),
        local: format!("10.0.0.2:{}", 50_000 + fd),
        peer: peer.into(),
        state: "established".into(),
        service,
        tcp: Some(Tcp { sent: 150, received: 300, sent_ago_s, received_ago_s, ..Tcp::default() }),
        ..Socket::default()
    }
}

fn session(fd: i32, state: &str, wait: &str) -> Session {
    Session {
        pid: 4000 + fd.unsigned_abs(),
        fd: Some(fd),
        state: state.into(),
        wait: wait.into(),
        query: "SELECT * FROM orders WHERE id = $1".into(),
        statement_s: 23.9,
        transaction_s: 23.9,
        ..Session::default()
    }
}

fn database(sessions: Vec<Session>) -> Vec<Database> {
    vec![Database {
        service: Service::Postgres,
        name: "db:5432/shop".into(),
        sessions,
        ..Database::default()
    }]
}

fn requests() -> Vec<Frame> {
    stack(&[
        ("lib:socket.py", "SocketIO.readinto"),
        ("lib:http/client.py", "HTTPResponse._read_status"),
        ("site:urllib3/connectionpool.py", "HTTPConnectionPool.urlopen"),
        ("site:requests/adapters.py", "HTTPAdapter.send"),
        ("site:requests/api.py", "get"),
    ])
}

#[test]
fn an_answer_that_does_not_come() {
    let api = "10.0.0.9:8080";
    let blocking = Scene::of("S", "recvfrom", "waiting for 10.0.0.9:8080", requests());
    let found = blocking.on(Service::Other, api, false, None).is(Cause::ExternalNoTimeout);
    assert_eq!(found.subject.peer.as_deref(), Some(api));
    assert!(found.fixes.next[0].contains("rates.py:7"), "{:?}", found.fixes);
    let limited = Scene::of("S", "poll", "waiting for 10.0.0.9:8080", requests());
    limited.on(Service::Other, api, true, Some(60_000)).is(Cause::ExternalTimeoutTooLong);
    let endless = Scene::of("S", "poll", "waiting for 10.0.0.9:8080", requests());
    endless.on(Service::Other, api, true, Some(-1)).is(Cause::ExternalNoTimeout);
    // Without a stack the kernel alone tells.
    let unseen = Scene::of("S", "recvfrom", "waiting for 10.0.0.9:8080", vec![]);
    unseen.on(Service::Other, api, false, None).is(Cause::ExternalNoTimeout);
    let redis = stack(&[
        ("site:redis/connection.py", "Connection.read_response"),
        ("site:redis/client.py", "Redis.get"),
    ]);
    let cache = Scene::of("S", "recvfrom", "waiting", redis).on(Service::Redis, "10.0.0.8:6379", false, None);
    assert!(cache.is(Cause::ExternalNoTimeout).summary.contains("Redis"));
}

#[test]
fn connections_that_come_to_nothing() {
    let connecting = stack(&[
        ("site:urllib3/util/connection.py", "create_connection"),
        ("site:requests/adapters.py", "HTTPAdapter.send"),
    ]);
    let mut scene =
        Scene::of("S", "connect", "waiting", connecting).on(Service::Other, "10.9.9.9:80", false, None);
    scene.sockets[0].state = "syn-sent".into();
    scene.is(Cause::ExternalConnectBlackhole);
    let polls = Scene { thread: Thread { syscall: "poll".into(), ..scene.thread.clone() }, ..scene };
    polls.is(Cause::ExternalConnectBlackhole);
    let tls = stack(&[
        ("lib:ssl.py", "SSLSocket.do_handshake"),
        ("site:urllib3/connection.py", "HTTPSConnection.connect"),
    ]);
    Scene::of("S", "read", "waiting", tls)
        .on(Service::Other, "10.0.0.9:443", false, None)
        .is(Cause::ExternalTlsStall);
    let dns =
        stack(&[("lib:socket.py", "getaddrinfo"), ("site:urllib3/util/connection.py", "create_connection")]);
    Scene::of("S", "poll", "waiting", dns)
        .on(Service::Dns, "10.0.0.53:53", true, Some(5000))
        .is(Cause::ExternalDns);
    let retry = stack(&[
        ("site:urllib3/util/retry.py", "Retry.sleep"),
        ("site:urllib3/connectionpool.py", "HTTPConnectionPool.urlopen"),
    ]);
    Scene::of("S", "clock_nanosleep", "sleeping (clock_nanosleep)", retry).is(Cause::ExternalRetryLoop);
}

#[test]
fn databases_say_why() {
    let psycopg = || {
        stack(&[
            ("site:psycopg/connection.py", "Connection.wait"),
            ("site:psycopg/cursor.py", "Cursor.execute"),
        ])
    };
    let waiting = || {
        Scene::of("S", "poll", "waiting for 10.0.0.5:5432", psycopg()).on(
            Service::Postgres,
            "10.0.0.5:5432",
            true,
            Some(100),
        )
    };
    let slow = Scene { databases: database(vec![session(9, "active", "IO/DataFileRead")]), ..waiting() };
    assert!(slow.is(Cause::DbSlowQuery).subject.query.is_some());
    let mut locked = session(9, "active", "Lock/transactionid");
    locked.blockers.push(Blocker {
        pid: 77,
        state: "idle in transaction".into(),
        query: "UPDATE orders SET state = $1".into(),
        ..Blocker::default()
    });
    let lock = Scene { databases: database(vec![locked]), ..waiting() }.is(Cause::DbLock);
    assert_eq!(lock.subject.query.as_deref(), Some("UPDATE orders SET state = $1"));
    assert!(lock.because.is_some_and(|because| because.text.contains("backend 77")));
    let nobody = waiting().is(Cause::DbQueryOrLock);
    assert!(nobody.not_visible.iter().any(|gap| gap.how.contains("--reflex-database")));
    let large = Scene { came: 40 << 20, databases: database(vec![session(9, "active", "")]), ..waiting() };
    large.is(Cause::DbBigResult);
    let orm = stack(&[
        ("site:django/db/models/base.py", "Model.from_db"),
        ("site:django/db/models/query.py", "ModelIterable.__iter__"),
    ]);
    let rows = Scene::of("R", "", "computing", orm);
    Scene { cpu_s: 0.98, ..rows }.is(Cause::DbBigResult);
    // psycopg2 waits in C: there is no call of Python's to see.
    let c = Scene::of("S", "poll", "waiting for 10.0.0.5:5432", stack(&[])).on(
        Service::Postgres,
        "10.0.0.5:5432",
        true,
        Some(-1),
    );
    Scene { databases: database(vec![session(9, "active", "")]), ..c }.is(Cause::DbSlowQuery);
    let mut pooled = waiting();
    pooled.sockets[0].service = Service::Pgbouncer;
    pooled.databases = vec![Database {
        pooler: Some(Pooler {
            waiting: 3,
            active: 5,
            size: 5,
            waits: vec![(9, 23.0)],
            wait_timeout_s: 120.0,
            ..Pooler::default()
        }),
        ..Database::default()
    }];
    pooled.is(Cause::PoolPgbouncer);
}

#[test]
fn who_holds_a_pools_connections_is_told() {
    let pool = || {
        stack(&[
            ("lib:threading.py", "Condition.wait"),
            ("site:sqlalchemy/util/queue.py", "Queue.get"),
            ("site:sqlalchemy/pool/impl.py", "QueuePool._do_get"),
            ("site:sqlalchemy/engine/base.py", "Engine.raw_connection"),
        ])
    };
    let waiting = || Scene::of("S", "futex", "waiting for a lock (futex)", pool());
    let sockets = || {
        vec![
            socket(11, Service::Postgres, "10.0.0.5:5432", 20.0, 19.9),
            socket(12, Service::Postgres, "10.0.0.5:5432", 20.0, 19.9),
        ]
    };
    let busy = Scene {
        sockets: sockets(),
        databases: database(vec![session(11, "active", ""), session(12, "active", "")]),
        ..waiting()
    };
    let found = busy.is(Cause::PoolExhausted);
    assert_eq!(found.because.map(|because| because.cause), Some(Cause::DbSlowQuery));
    let leaked = Scene {
        sockets: sockets(),
        databases: database(vec![
            session(11, "idle in transaction", ""),
            session(12, "idle in transaction", ""),
        ]),
        ..waiting()
    };
    leaked.is(Cause::PoolLeak);
    // The database cannot be asked: idle connections are seen from the kernel.
    Scene { sockets: sockets(), ..waiting() }.is(Cause::PoolLeak);
    let other = Thread {
        tid: 8,
        state: "S".into(),
        syscall: "recvfrom".into(),
        doing: "waiting for 10.0.0.9:8080".into(),
        fd: Some(13),
        frames: requests(),
        ..Thread::default()
    };
    let held = Scene {
        sockets: [
            sockets(),
            vec![Socket {
                non_blocking: Some(false),
                ..socket(13, Service::Other, "10.0.0.9:8080", 24.0, 24.1)
            }],
        ]
        .concat(),
        others: vec![other],
        ..waiting()
    };
    let found = held.is(Cause::PoolExhausted);
    assert_eq!(found.because.map(|because| because.cause), Some(Cause::ExternalNoTimeout));
}

#[test]
fn computing_has_its_kinds() {
    let busy = |frames| Scene { cpu_s: 0.97, ..Scene::of("R", "", "computing", frames) };
    busy(stack(&[("lib:json/decoder.py", "raw_decode")])).is(Cause::CpuBound);
    busy(vec![]).is(Cause::CpuBound);
    busy(stack(&[("lib:re/__init__.py", "match")])).is(Cause::CpuRegex);
    let mut compiled = stack(&[]);
    compiled[0].code = "found = PATTERN.match(text)".into();
    busy(compiled).is(Cause::CpuRegex);
    let mut endless = stack(&[]);
    endless[0].within = "while".into();
    busy(endless).is(Cause::InfiniteLoop);
    let mut counted = stack(&[]);
    counted[0].within = "for".into();
    busy(counted).is(Cause::CpuBound);
}

#[test]
fn other_waits() {
    Scene::of("S", "clock_nanosleep", "sleeping (clock_nanosleep)", stack(&[])).is(Cause::ExplicitSleep);
    let child = stack(&[("lib:subprocess.py", "Popen._try_wait"), ("lib:subprocess.py", "run")]);
    Scene::of("S", "wait4", "waiting for a child process (wait4)", child).is(Cause::Subprocess);
    let locked = || Scene {
        thread: Thread {
            patience_ms: Some(-1),
            ..Scene::of("S", "futex", "waiting for a lock (futex)", stack(&[])).thread
        },
        ..Scene::of("S", "futex", "", vec![])
    };
    locked().is(Cause::Deadlock);
    let mut client = Scene::of("S", "sendto", "waiting for 10.0.0.7:5123", stack(&[]));
    client.thread.fd = Some(5);
    client.is(Cause::ClientSlow);
    Scene::of("T", "", "stopped by a signal", stack(&[])).is(Cause::HostPaused);
    Scene::of("D", "read", "waiting", stack(&[])).is(Cause::HostDiskOrSwap);
    Scene { cpu_s: 0.1, cpu_wait_s: 0.85, ..Scene::of("R", "", "computing", stack(&[])) }
        .is(Cause::HostCpuStarved);
    let unknown = Scene::of("S", "system call 999", "waiting in system call 999", stack(&[])).diagnose();
    assert_eq!(unknown.cause, Cause::Unknown);
    assert!(unknown.confidence < 0.5);
}

#[test]
fn what_another_thread_makes_is_that_threads_trouble() {
    let future = stack(&[
        ("lib:threading.py", "Condition.wait"),
        ("lib:concurrent/futures/_base.py", "Future.result"),
    ]);
    let other = Thread {
        tid: 8,
        state: "S".into(),
        syscall: "recvfrom".into(),
        fd: Some(13),
        doing: "waiting for 10.0.0.9:8080".into(),
        frames: requests(),
        ..Thread::default()
    };
    let scene = Scene {
        others: vec![other],
        sockets: vec![Socket {
            non_blocking: Some(false),
            ..socket(13, Service::Other, "10.0.0.9:8080", 24.0, 24.1)
        }],
        ..Scene::of("S", "futex", "waiting for a lock (futex)", future.clone())
    };
    assert!(scene.is(Cause::ExternalNoTimeout).summary.contains("another thread"));
    let alone = Scene::of("S", "futex", "waiting for a lock (futex)", future).diagnose();
    assert_eq!(alone.cause, Cause::Deadlock);
}

#[test]
fn tasks_are_known_by_what_the_interpreter_tells() {
    let wait = vec![
        frame("lib:selectors.py", "EpollSelector.select"),
        frame("lib:asyncio/base_events.py", "BaseEventLoop._run_once"),
    ];
    let mut awaiting = vec![
        frame("site:httpcore/_backends/anyio.py", "AnyIOStream.read"),
        frame("site:httpx/_client.py", "AsyncClient.get"),
        frame("/srv/shop/rates.py", "fetch"),
    ];
    awaiting[0].locals.insert("timeout".into(), "None".into());
    let task = |frames| Scene {
        nested: true,
        told: Some(Told { source: Source::Task, frames, executor: 0 }),
        sockets: vec![socket(14, Service::Other, "10.0.0.9:8080", 23.5, 24.0)],
        ..Scene::of("S", "epoll_wait", "waiting in epoll_wait", wait.clone())
    };
    let found = task(awaiting.clone()).is(Cause::ExternalNoTimeout);
    assert_eq!(found.subject.peer.as_deref(), Some("10.0.0.9:8080"));
    awaiting[0].locals.insert("timeout".into(), "60".into());
    task(awaiting).is(Cause::ExternalTimeoutTooLong);
    task(vec![frame("lib:asyncio/tasks.py", "sleep"), frame("/srv/shop/views.py", "report")])
        .is(Cause::ExplicitSleep);
    let db = vec![
        frame("site:asyncpg/protocol/protocol.pyx", "query"),
        frame("site:asyncpg/connection.py", "Connection.fetch"),
        frame("/srv/shop/views.py", "report"),
    ];
    let asked = Scene {
        sockets: vec![
            socket(15, Service::Postgres, "10.0.0.5:5432", 23.5, 24.0),
            socket(16, Service::Postgres, "10.0.0.5:5432", 2.0, 1.9),
        ],
        databases: database(vec![session(15, "active", ""), session(16, "idle", "")]),
        ..task(db)
    };
    asked.is(Cause::DbSlowQuery);
    // A task that blocks: its code is on the loop's own thread.
    let blocking = Scene {
        nested: true,
        told: Some(Told { source: Source::Task, frames: stack(&[]), executor: 0 }),
        ..Scene::of("S", "clock_nanosleep", "sleeping (clock_nanosleep)", [stack(&[]), wait].concat())
    };
    assert_eq!(blocking.is(Cause::ExplicitSleep).also, [Cause::BlockingInLoop]);
}

/// A loop that waits, and threads of an executor that work for its tasks.
fn executor(threads: Vec<Thread>, told: Option<Told>) -> Scene {
    let wait = vec![frame("lib:asyncio/base_events.py", "BaseEventLoop._run_once")];
    Scene {
        nested: true,
        others: threads,
        told,
        sockets: vec![Socket {
            non_blocking: Some(false),
            ..socket(9, Service::Other, "10.0.0.9:80", 24.0, 24.1)
        }],
        ..Scene::of("S", "epoll_wait", "waiting in epoll_wait", wait)
    }
}

fn worker(tid: u32, syscall: &str, fd: Option<i32>, inner: Vec<Frame>) -> Thread {
    let run = frame("site:anyio/_backends/_asyncio.py", "WorkerThread.run");
    let frames = [inner, vec![run]].concat();
    Thread { tid, state: "S".into(), syscall: syscall.into(), fd, frames, ..Thread::default() }
}

#[test]
fn a_task_that_waits_for_an_executor_is_where_that_threads_code_is() {
    let read = stack(&[("lib:socket.py", "SocketIO.readinto"), ("lib:http/client.py", "HTTPResponse.begin")]);
    let reads = || worker(8, "recvfrom", Some(9), read.clone());
    let idle = worker(9, "futex", None, vec![frame("lib:queue.py", "Queue.get")]);
    // Nobody tells: the one that is at work.
    let found = executor(vec![idle.clone(), reads()], None).is(Cause::ExternalNoTimeout);
    assert_eq!(found.subject.peer.as_deref(), Some("10.0.0.9:80"));
    // Another is at another place, and nobody tells which of them it is.
    let other = worker(10, "clock_nanosleep", None, vec![frame("/srv/shop/other.py", "pause")]);
    let guessed =
        executor(vec![reads(), worker(11, "recvfrom", Some(9), read.clone()), other], None).diagnose();
    assert_eq!(guessed.cause, Cause::ExternalNoTimeout);
    assert!(guessed.confidence < found.confidence, "{}", guessed.confidence);
    assert!(guessed.not_visible.iter().any(|gap| gap.what.contains("which thread")), "{guessed:#?}");
    // The interpreter tells.
    let sleeps = worker(10, "clock_nanosleep", None, vec![frame("/srv/shop/other.py", "pause")]);
    let told = Told { source: Source::Task, frames: sleeps.frames.clone(), executor: 10 };
    executor(vec![reads(), sleeps.clone()], Some(told.clone())).is(Cause::ExplicitSleep);
    executor(vec![reads(), sleeps], Some(Told { executor: 0, ..told })).is(Cause::ExplicitSleep);
    // Threads of the application's own are nobody's.
    let mut own = reads();
    own.frames.pop();
    let mut alone = executor(vec![own], None);
    alone.sockets.clear();
    assert_eq!(alone.diagnose().cause, Cause::Unknown);
}

#[test]
fn a_stack_alone_tells_where_the_kernel_may_not_be_asked() {
    let hidden = |frames: Vec<Frame>| Scene::of("S", "", "doing what the kernel does not tell", frames);
    let mut reads =
        stack(&[("lib:socket.py", "SocketIO.readinto"), ("lib:http/client.py", "HTTPResponse.begin")]);
    reads[1].locals.insert("timeout".into(), "None".into());
    let found = hidden(reads).is(Cause::ExternalNoTimeout);
    assert!(found.confidence <= 0.85, "{}", found.confidence);
    hidden(stack(&[
        ("site:urllib3/util/connection.py", "create_connection"),
        ("site:urllib3/connection.py", "HTTPConnection.connect"),
    ]))
    .is(Cause::ExternalConnectBlackhole);
    hidden(stack(&[("site:sqlalchemy/engine/default.py", "DefaultDialect.do_execute")]))
        .is(Cause::DbQueryOrLock);
    assert_eq!(hidden(stack(&[])).diagnose().cause, Cause::Unknown);
    let mut sleeps = stack(&[]);
    sleeps[0].code = "time.sleep(interval)".into();
    hidden(sleeps).is(Cause::ExplicitSleep);
}

#[test]
fn one_call_after_another_is_no_silence() {
    let asks = |ago_s: f64, service: Service, called: &[(&str, &str)]| {
        let mut scene = Scene::of("S", "poll", "waiting in poll", stack(called)).on(
            service,
            "10.0.0.9:80",
            true,
            Some(60_000),
        );
        scene.sockets[0].tcp = Some(Tcp {
            sent: 9000,
            received: 9000,
            sent_ago_s: ago_s,
            received_ago_s: ago_s + 0.1,
            ..Tcp::default()
        });
        scene
    };
    let http = [("lib:socket.py", "SocketIO.readinto"), ("site:requests/api.py", "get")];
    let many = Scene { went: 1500, ..asks(0.2, Service::Other, &http) };
    let found = many.diagnose();
    assert_eq!(found.cause, Cause::TimeoutTooLow, "{found:#?}");
    assert!(found.summary.contains("one call after another"), "{}", found.summary);
    // The last call may have only just begun, and so far nothing says that it will take long.
    let fresh = asks(0.2, Service::Other, &http).diagnose();
    assert!(fresh.confidence < SURE, "{fresh:#?}");
    asks(20.0, Service::Other, &http).is(Cause::ExternalTimeoutTooLong);
    let driver = [("site:psycopg2/extensions.py", "execute")];
    let statements = Scene {
        went: 900,
        databases: database(vec![Session { statement_s: 0.01, ..session(9, "active", "") }]),
        ..asks(0.01, Service::Postgres, &driver)
    };
    assert_eq!(statements.diagnose().cause, Cause::TimeoutTooLow, "{:#?}", statements.diagnose());
}

#[test]
fn threads_that_all_wait_for_answers_that_come_are_too_few() {
    let http = [("lib:socket.py", "SocketIO.readinto"), ("site:requests/api.py", "get")];
    let scene = Scene::of("S", "poll", "waiting in poll", stack(&http)).on(
        Service::Other,
        "10.0.0.9:80",
        true,
        Some(40_000),
    );
    let diagnose = |earlier: &str, queued: u32, count: u64| {
        let mut looks = scene.looks();
        for look in &mut looks {
            look.sockets[0].tcp =
                Some(Tcp { sent: 150, sent_ago_s: 5.0, received_ago_s: 24.0, ..Tcp::default() });
        }
        looks[0].sockets[0].local = earlier.to_owned();
        let server = Surroundings {
            worker_class: "sync".into(),
            threads: 4,
            stuck: 4,
            queued,
            ..Surroundings::default()
        };
        let request =
            Request { id: "4-1".into(), tid: 7, app_s: 24.0, deadline_s: Some(30.0), ..Request::default() };
        let history = Some(History { count, p50_s: 9.0, p99_s: 20.0 });
        diagnose(&Case { request, looks: &looks, history, server, ..Case::default() }).cause
    };
    assert_eq!(diagnose("10.0.0.2:41000", 30, 50), Cause::SyncForIo);
    assert_eq!(
        diagnose("10.0.0.2:50009", 30, 50),
        Cause::ExternalTimeoutTooLong,
        "the same call all the time"
    );
    assert_ne!(diagnose("10.0.0.2:41000", 0, 50), Cause::SyncForIo, "nobody waits for a thread");
    assert_ne!(
        diagnose("10.0.0.2:41000", 30, 0),
        Cause::SyncForIo,
        "no request of the route ever ended well"
    );
}

#[test]
fn who_stands_in_line_for_the_interpreter_is_late_for_the_thread_that_keeps_it() {
    let regex = [frame("lib:re/__init__.py", "match"), frame("/srv/shop/search.py", "is_search")];
    let keeps = |holds| Thread {
        tid: 8,
        state: "R".into(),
        cpu_s: 0.97,
        holds_gil: Some(holds),
        frames: regex.to_vec(),
        ..Thread::default()
    };
    let waits = |holds| Scene {
        others: vec![keeps(holds)],
        ..Scene::of("S", "futex", "waiting in futex", stack(&[("site:psycopg2/extensions.py", "execute")]))
    };
    let found = waits(true).is(Cause::CpuRegex);
    assert_eq!(
        found.subject.frames[0].file, "/srv/shop/search.py",
        "one trouble with the request that does it"
    );
    assert_ne!(waits(false).diagnose().cause, Cause::CpuRegex);
}

#[test]
fn threads_that_compute_take_turns() {
    let turns = |others_s: f64| Scene {
        cpu_s: 0.3,
        others: vec![Thread { tid: 8, cpu_s: others_s, ..Thread::default() }],
        ..Scene::of("S", "futex", "waiting in futex", stack(&[]))
    };
    let found = turns(0.66).is(Cause::CpuBound);
    assert!(found.evidence.iter().any(|finding| finding.text.contains("in turns")), "{found:#?}");
    assert_ne!(turns(0.2).diagnose().cause, Cause::CpuBound, "the interpreter is free half of the time");
}

#[test]
fn a_route_that_always_takes_long_has_too_short_a_deadline() {
    let busy = Scene { cpu_s: 0.97, ..Scene::of("R", "", "computing", stack(&[])) };
    let usual = History { count: 100, p50_s: 22.0, p99_s: 29.0 };
    let found = busy.diagnose_with(Some(usual));
    assert_eq!(found.cause, Cause::TimeoutTooLow);
    assert_eq!(found.because.map(|because| because.cause), Some(Cause::CpuBound));
    assert_eq!(busy.diagnose_with(Some(History { p50_s: 0.1, ..usual })).cause, Cause::CpuBound);
    assert_eq!(busy.diagnose_with(Some(History { count: 3, ..usual })).cause, Cause::CpuBound);
}

#[test]
fn without_evidence_nothing_is_claimed() {
    let nothing = diagnose(&Case::default());
    assert_eq!((nothing.cause, nothing.confidence), (Cause::Unknown, 0.0));
    assert!(!nothing.not_visible.is_empty());
}

proptest! {
    /// Whatever is seen, the answer is one, sure to a degree that is one, and no arithmetic fails.
    #[test]
    fn any_evidence_has_an_answer(
        state in "[RSDTZ]?",
        syscall in "(recvfrom|poll|futex|epoll_wait|wait4|connect|clock_nanosleep|x)?",
        files in proptest::collection::vec("(site:redis/connection.py|lib:queue.py|site:sqlalchemy/pool/impl.py|/srv/a.py|)", 0..5),
        fd in proptest::option::of(-1..20i32),
        patience_ms in proptest::option::of(any::<i64>()),
        ago in any::<f64>(),
        nested in any::<bool>(),
        cpu_s in any::<f64>(),
    ) {
        let frames = files.iter().map(|file| frame(file, "get")).collect();
        let mut scene = Scene::of(&state, &syscall, "", frames);
        scene.thread.fd = fd;
        scene.thread.patience_ms = patience_ms;
        scene.nested = nested;
        scene.cpu_s = cpu_s;
        scene.sockets = vec![socket(9, Service::Postgres, "", ago, ago), socket(3, Service::Other, ":53", 0.0, ago)];
        let found = scene.diagnose();
        prop_assert!((0.0..=1.0).contains(&found.confidence), "{}", found.confidence);
    }
}

#[test]
fn the_place_in_the_kernel_and_the_sockets_tell_where_nothing_else_may_be_read() {
    let hidden = |syscall: &str| Scene::of("S", syscall, "waiting somewhere in the kernel", vec![]);
    let to = |mut scene: Scene, service, peer: &str, non_blocking| {
        // Its descriptor is not known; the socket that has been asked is.
        scene.sockets = vec![
            Socket { non_blocking: Some(non_blocking), ..socket(9, service, peer, 24.0, 24.1) },
            socket(11, Service::Redis, "10.0.0.3:6379", 24.5, 24.4),
        ];
        scene
    };
    to(hidden("recvfrom"), Service::Other, "10.0.0.9:80", false).is(Cause::ExternalNoTimeout);
    to(hidden("ppoll"), Service::Other, "10.0.0.9:80", true).is(Cause::ExternalTimeoutTooLong);
    to(hidden("ppoll"), Service::Postgres, "10.0.0.2:5432", true).is(Cause::DbQueryOrLock);
    to(hidden("recvfrom"), Service::Dns, "10.0.0.1:53", false).is(Cause::ExternalDns);
    let mut unmade = to(hidden("recvfrom"), Service::Other, "10.0.0.9:80", false);
    unmade.sockets[0].state = "syn-sent".into();
    unmade.is(Cause::ExternalConnectBlackhole);
    let mut slow = hidden("recvfrom");
    slow.writes = true;
    slow.is(Cause::ClientSlow);
    let mut greets = to(hidden("recvfrom"), Service::Other, "10.0.0.9:8443", false);
    greets.sockets[0].tcp = Some(Tcp { sent: 518, sent_ago_s: 24.0, received_ago_s: 24.0, ..Tcp::default() });
    assert_eq!(greets.diagnose().cause, Cause::ExternalTlsStall);
    let mut answered = to(hidden("ppoll"), Service::Postgres, "10.0.0.2:5432", true);
    answered.sockets[0].tcp =
        Some(Tcp { sent: 900, received: 7000, sent_ago_s: 20.0, received_ago_s: 1.0, ..Tcp::default() });
    answered.is(Cause::DbQueryOrLock);
    answered.sockets[0].tcp =
        Some(Tcp { sent: 900, received: 90 << 20, sent_ago_s: 20.0, received_ago_s: 18.0, ..Tcp::default() });
    answered.thread = Thread { state: "R".into(), ..Thread { tid: 7, ..Thread::default() } };
    answered.cpu_s = 1.0;
    assert_eq!(answered.diagnose().cause, Cause::DbBigResult);
    hidden("clock_nanosleep").is(Cause::ExplicitSleep);
    hidden("wait4").is(Cause::Subprocess);
    assert_eq!(hidden("flock").diagnose().cause, Cause::Unknown);
}

#[test]
fn a_request_is_taken_hold_of_by_its_statement_or_its_own_connection() {
    let fds = |scene: &Scene| {
        let looks = scene.looks();
        let request = Request { id: "4-1".into(), tid: 7, app_s: 24.0, ..Request::default() };
        let case = Case { request, nested: scene.nested, looks: &looks, ..Case::default() };
        let reach = reach(&case);
        (
            reach.session.map(|(_, session)| session.pid),
            reach.socket.map(|(thread, socket)| (thread.tid, socket.fd)),
        )
    };
    let mut waits =
        Scene::of("S", "ppoll", "waiting", stack(&[])).on(Service::Postgres, "10.0.0.2:5432", true, None);
    assert_eq!(fds(&waits), (None, Some((7, 9))));
    waits.databases = vec![Database {
        service: Service::Postgres,
        name: "db".into(),
        sessions: vec![session(9, "active", "")],
        ..Database::default()
    }];
    assert_eq!(fds(&waits), (Some(4009), Some((7, 9))));
    waits.databases[0].sessions[0].state = "idle".into();
    assert_eq!(fds(&waits).0, None);
    // A task shares its thread and its connections with others.
    waits.nested = true;
    waits.thread.frames.clear();
    assert_eq!(fds(&waits), (None, None));
    let computes = Scene::of("R", "", "computing", stack(&[]));
    assert_eq!(fds(&computes), (None, None));
}

#[test]
fn of_threads_without_names_the_one_that_is_at_work_is_meant() {
    let thread =
        |tid, syscall: &str| Thread { tid, state: "S".into(), syscall: syscall.into(), ..Thread::default() };
    let cause = |threads: Vec<Thread>| {
        let look = |at_s| Evidence {
            at_s,
            degraded: Some("it may not be looked into".into()),
            threads: threads.clone(),
            sockets: vec![socket(9, Service::Postgres, "10.0.0.2:5432", 24.0, 24.1)],
            ..Evidence::default()
        };
        let request = Request { app_s: 24.0, deadline_s: Some(30.0), ..Request::default() };
        diagnose(&Case { request, looks: &[look(0.0), look(1.0)], ..Case::default() })
    };
    let (main, idle) = (|| thread(7, "epoll_pwait"), || thread(8, "futex"));
    let found = cause(vec![main(), idle(), thread(9, "ppoll")]);
    assert_eq!(found.cause, Cause::DbQueryOrLock);
    assert!(found.not_visible.iter().any(|gap| gap.what.contains("which thread")), "{found:#?}");
    assert_eq!(cause(vec![main(), idle()]).cause, Cause::Unknown);
}
