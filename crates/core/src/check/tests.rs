//! Each rule with what it finds, and with what it leaves alone. Those of Offload are in `offload`.

mod offload;

use super::*;
use crate::growth::{Growth, Point};
use crate::snapshot::Kind;

/// Facts of a server that is well set up.
fn sound() -> Facts {
    Facts {
        kind: Some(Kind::Ferricorn),
        said: Said {
            worker_class: Some("gthread".into()),
            workers: Some(4),
            threads: Some(8),
            timeout_s: Some(30.0),
            route_timeouts_s: Some(Vec::new()),
            graceful_timeout_s: Some(30.0),
            keepalive_s: Some(75.0),
            max_requests: Some(0),
            max_requests_jitter: Some(0),
            bind: Some(vec!["unix:/run/web.sock".into()]),
            forwarded_allow_ips: Some(vec!["127.0.0.1".into(), "::1".into()]),
            reflex: Some(true),
            request_timeout_s: Some(0.0),
            db_statement_timeout: Some("off".into()),
            outbound_timeout: Some("off".into()),
            ..Said::default()
        },
        proxies: Some(vec![proxy()]),
        detours: None,
        databases: Some(vec![database()]),
        stop: Some(Stop {
            by: "systemd (shop.service)".into(),
            timeout_s: 90.0,
            setting: "TimeoutStopSec".into(),
        }),
        surroundings: Surroundings {
            state_dir: Some(StateDir { path: "/var/lib/ferricorn".into(), ..StateDir::default() }),
            heartbeat_on_disk: None,
            tracing: Some(Tracing { may_trace: true, ..Tracing::default() }),
        },
        application: Application::default(),
        observed: Observed {
            waiting_share: Some(0.9),
            utilisation: Some(0.9),
            no_timeout: Some(Vec::new()),
            growth: None,
            memory_max: None,
            standing: None,
        },
        unseen: Vec::new(),
    }
}

fn proxy() -> Proxy {
    Proxy {
        name: "nginx".into(),
        place: "server example.org, location / (nginx.conf:9)".into(),
        upstream: "app".into(),
        servers: 2,
        read_timeout_s: 60.0,
        send_timeout_s: 60.0,
        connect_timeout_s: 60.0,
        idle_s: Some(60.0),
        next_upstream: vec!["error".into(), "timeout".into()],
    }
}

fn database() -> DatabaseFacts {
    DatabaseFacts {
        name: "shop".into(),
        max_connections: Some(100),
        reserved: Some(3),
        used_by_others: None,
        pool_per_worker: Some(15),
        pooler: None,
    }
}

fn codes(facts: &Facts) -> Vec<(Level, &'static str)> {
    check(facts).into_iter().map(|found| (found.level, found.code)).collect()
}

#[test]
fn a_sound_server_and_an_unknown_one_raise_nothing() {
    assert_eq!(codes(&sound()), []);
    assert_eq!(codes(&Facts::default()), []);
}

#[test]
fn each_rule_finds_what_it_is_for() {
    use Level::*;
    type Case = (&'static str, fn(&mut Facts), &'static [(Level, &'static str)]);
    let table: [Case; 41] = [
        ("any forwarder", |f| f.said.forwarded_allow_ips = Some(vec!["*".into()]), &[]),
        (
            "any forwarder, public",
            |f| {
                f.said.forwarded_allow_ips = Some(vec!["10.0.0.1".into(), "*".into()]);
                f.said.bind = Some(vec!["127.0.0.1:80".into(), "0.0.0.0:8000".into()]);
            },
            &[(Error, "security.forwarded_allow_ips")],
        ),
        (
            "any forwarder, this host",
            |f| {
                f.said.forwarded_allow_ips = Some(vec!["*".into()]);
                f.said.bind = Some(vec!["localhost:80".into(), "[::1]:8000".into(), "127.1.2.3:1".into()]);
            },
            &[],
        ),
        ("as many connections as there are", |f| f.said.workers = Some(6), &[]),
        ("more connections than there are", |f| f.said.workers = Some(7), &[(Error, "database.connections")]),
        (
            "others hold connections",
            |f| f.databases.as_mut().unwrap()[0].used_by_others = Some(38),
            &[(Error, "database.connections")],
        ),
        (
            "threads that may hold one each",
            |f| {
                f.databases.as_mut().unwrap()[0].pool_per_worker = None;
                f.said.workers = Some(13);
            },
            &[(Warning, "database.connections")],
        ),
        (
            "tasks of which nobody knows",
            |f| {
                f.databases.as_mut().unwrap()[0].pool_per_worker = None;
                f.said = Said {
                    worker_class: Some("uvicorn.workers.UvicornWorker".into()),
                    threads: Some(1),
                    ..f.said.clone()
                };
                f.said.workers = Some(1000);
            },
            &[],
        ),
        ("a pooler that waits less", |f| f.databases = with_pooler(20.0, 20, 1000), &[]),
        (
            "a pooler that waits longer",
            |f| f.databases = with_pooler(120.0, 20, 1000),
            &[(Warning, "pooler.query_wait_timeout")],
        ),
        (
            "a pooler that waits for ever",
            |f| f.databases = with_pooler(0.0, 20, 1000),
            &[(Warning, "pooler.query_wait_timeout")],
        ),
        ("memory that grows", |f| f.observed.growth = growth(), &[(Warning, "worker.memory_grows")]),
        (
            "memory that grows, workers replaced early",
            |f| {
                f.observed.growth = growth();
                (f.said.max_requests, f.said.max_requests_jitter) = (Some(20_000), Some(2000));
            },
            &[],
        ),
        (
            "memory that grows, workers replaced late",
            |f| {
                f.observed.growth = growth();
                (f.said.max_requests, f.said.max_requests_jitter) = (Some(100_000), Some(2000));
            },
            &[(Warning, "worker.memory_grows")],
        ),
        (
            "statements limited, by a pooler",
            |f| {
                f.said.db_statement_timeout = Some("auto".into());
                f.databases = with_pooler(20.0, 20, 1000);
            },
            &[(Warning, "database.statement_timeout")],
        ),
        ("statements limited", |f| f.said.db_statement_timeout = Some("auto".into()), &[]),
        (
            "statements limited by no deadline",
            |f| {
                f.said.db_statement_timeout = Some("auto".into());
                f.said.route_timeouts_s = Some(vec![("/report".into(), 0.0)]);
            },
            &[(Warning, "database.statement_timeout_auto")],
        ),
        (
            "statements limited by the deadline of all",
            |f| {
                f.said.db_statement_timeout = Some("auto".into());
                f.said.route_timeouts_s = Some(vec![("/report".into(), 0.0)]);
                f.said.request_timeout_s = Some(50.0);
            },
            &[],
        ),
        (
            "a pooler that opens too many",
            |f| f.databases = with_pooler(5.0, 200, 1000),
            &[(Error, "database.connections")],
        ),
        (
            "a pooler that takes too few",
            |f| f.databases = with_pooler(5.0, 20, 59),
            &[(Error, "pooler.max_client_conn")],
        ),
        (
            "a proxy that gives up with it",
            |f| f.said.timeout_s = Some(60.0),
            &[(Warning, "proxy.read_timeout"), (Warning, "proxy.next_upstream")],
        ),
        (
            "a proxy that gives up on one route",
            |f| {
                f.said.route_timeouts_s = Some(vec![("/export".into(), 120.0)]);
                f.proxies.as_mut().unwrap()[0].servers = 1;
            },
            &[(Warning, "proxy.read_timeout")],
        ),
        ("a route without a deadline", |f| f.said.route_timeouts_s = Some(vec![("/ws".into(), 0.0)]), &[]),
        (
            "a proxy that repeats 504",
            |f| f.proxies.as_mut().unwrap()[0].next_upstream = vec!["http_504".into()],
            &[(Warning, "proxy.next_upstream")],
        ),
        (
            "a proxy that repeats everything",
            |f| {
                f.proxies.as_mut().unwrap()[0].next_upstream =
                    vec!["http_504".into(), "non_idempotent".into()]
            },
            &[(Error, "proxy.next_upstream")],
        ),
        ("a proxy that keeps longer", |f| f.said.keepalive_s = Some(60.0), &[(Warning, "proxy.keepalive")]),
        (
            "a proxy that keeps nothing",
            |f| {
                f.said.keepalive_s = Some(2.0);
                f.proxies.as_mut().unwrap()[0].idle_s = None;
            },
            &[],
        ),
        (
            "Gunicorn's sync keeps nothing",
            |f| {
                f.kind = Some(Kind::Gunicorn);
                f.said = Said {
                    worker_class: Some("sync".into()),
                    threads: Some(1),
                    keepalive_s: Some(2.0),
                    ..f.said.clone()
                };
                f.observed = Observed::default();
            },
            &[],
        ),
        ("no deadline", |f| f.said.timeout_s = Some(0.0), &[(Warning, "timeout.none")]),
        (
            "calls without timeout",
            |f| f.observed.no_timeout = Some(vec!["shop/rates.py:41".into()]),
            &[(Warning, "requests.no_timeout")],
        ),
        (
            "sync that waits, busy",
            |f| f.said = Said { worker_class: Some("sync".into()), threads: Some(1), ..f.said.clone() },
            &[(Warning, "worker.sync_waits")],
        ),
        (
            "sync that waits, idle",
            |f| {
                f.said = Said { worker_class: Some("sync".into()), threads: Some(1), ..f.said.clone() };
                f.observed.utilisation = Some(0.1);
            },
            &[(Hint, "worker.sync_waits")],
        ),
        (
            "one sync worker that computes",
            |f| {
                f.said = Said {
                    worker_class: Some("sync".into()),
                    threads: Some(1),
                    workers: Some(1),
                    ..f.said.clone()
                };
                f.observed.waiting_share = Some(0.5);
            },
            &[(Warning, "worker.single")],
        ),
        ("sync with threads", |f| f.said.worker_class = Some("sync".into()), &[(Hint, "worker.threads")]),
        (
            "tasks with threads",
            |f| {
                f.said.worker_class = Some("gevent".into());
            },
            &[(Hint, "worker.threads")],
        ),
        (
            "a heartbeat on a disk",
            |f| f.surroundings.heartbeat_on_disk = Some("/tmp".into()),
            &[(Warning, "worker.tmp_dir")],
        ),
        ("no jitter", |f| f.said.max_requests = Some(1000), &[(Warning, "worker.max_requests_jitter")]),
        (
            "killed while stopping",
            |f| f.said.graceful_timeout_s = Some(90.0),
            &[(Warning, "stop.graceful_timeout")],
        ),
        ("no observer", |f| f.said.reflex = Some(false), &[(Hint, "reflex.off")]),
        (
            "no room for records",
            |f| {
                let trouble = Some("read-only".into());
                f.surroundings.state_dir = Some(StateDir { path: "/x".into(), trouble, file_system: None })
            },
            &[(Warning, "state.dir")],
        ),
        (
            "an observer without rights",
            |f| {
                f.surroundings.tracing =
                    Some(Tracing { worker_uid: 33, user_changed: true, ..Tracing::default() })
            },
            &[(Warning, "state.trace")],
        ),
    ];
    for (name, change, expected) in table {
        let mut facts = sound();
        change(&mut facts);
        assert_eq!(codes(&facts), expected, "{name}");
        texts_are_in_shape(name, &facts);
    }
}

fn texts_are_in_shape(name: &str, facts: &Facts) {
    for found in check(facts) {
        for text in [&found.what, &found.why, &found.fix] {
            assert!(!text.is_empty() && !text.ends_with('.') && !text.contains("  "), "{name}: {text:?}");
        }
    }
}

/// 10 kB with each request, 100 MB at first.
fn growth() -> Option<Growth> {
    Some(Growth {
        per_request: 10_000.0,
        growing: 3,
        known: 4,
        pid: 4711,
        from: Point { requests: 1000, rss: 100_000_000 },
        to: Point { requests: 21_000, rss: 300_000_000 },
        requests_per_s: 2.0,
    })
}

#[test]
fn memory_that_grows_is_told_with_its_numbers() {
    let mut facts = sound();
    facts.observed.growth = growth();
    let found = check(&facts);
    insta::assert_snapshot!(format!("{}\n{}\n{}", found[0].what, found[0].why, found[0].fix), @"
    a worker's memory grows by 10.0 kB with each request: worker 4711 had 100.0 MB after 1,000 requests and 300.0 MB after 21,000; so do 3 of 4 workers that have served long enough
    it does not stop: one day the kernel ends a worker in the middle of its requests, or the host swaps
    `max_requests = 10000` and `max_requests_jitter = 1000` replace workers at about 190.0 MB each, about every 1h 23m at the pace of that worker; and a limit of memory for the service, as `MemoryMax=1100M` of its unit; the leak itself is found by tracemalloc
    ");
    facts.observed.memory_max = Some(1_000_000_000);
    assert!(check(&facts)[0].fix.starts_with("`max_requests = 10000`"), "{:?}", check(&facts));
    assert!(!check(&facts)[0].fix.contains("MemoryMax"));
    facts.observed.memory_max = Some(600_000_000);
    assert!(check(&facts)[0].fix.starts_with("`max_requests = 2000`"), "{:?}", check(&facts));
}

fn with_pooler(
    query_wait_timeout_s: f64,
    pool_size: u32,
    max_client_conn: u32,
) -> Option<Vec<DatabaseFacts>> {
    let pooler = Pooler {
        query_wait_timeout_s: Some(query_wait_timeout_s),
        pool_size: Some(pool_size),
        max_client_conn: Some(max_client_conn),
    };
    Some(vec![DatabaseFacts { pooler: Some(pooler), ..database() }])
}

#[test]
fn the_worst_comes_first() {
    let mut facts = sound();
    facts.said.worker_class = Some("sync".into());
    facts.said.timeout_s = Some(0.0);
    facts.said.workers = Some(50);
    let levels: Vec<Level> = check(&facts).into_iter().map(|found| found.level).collect();
    assert_eq!(levels, [Level::Error, Level::Warning, Level::Hint]);
}

#[test]
fn what_is_found_says_what_to_write() {
    let mut facts = sound();
    facts.databases = with_pooler(120.0, 20, 1000);
    let found = check(&facts);
    assert_eq!(
        found[0].what,
        "PgBouncer of shop waits 120 s for a free connection, and the longest deadline is 30 s"
    );
    assert_eq!(found[0].fix, "`query_wait_timeout = 10` in pgbouncer.ini");
    facts = sound();
    facts.said.db_statement_timeout = Some("auto".into());
    facts.databases = with_pooler(20.0, 20, 1000);
    assert!(check(&facts)[0].fix.contains("SET statement_timeout = 28500`"), "{:?}", check(&facts));
    facts.said.db_statement_timeout = Some("2.5".into());
    assert!(check(&facts)[0].fix.contains("SET statement_timeout = 2500`"), "{:?}", check(&facts));
    facts = sound();
    facts.observed.no_timeout = Some(vec!["rates.py:3".into()]);
    assert!(check(&facts)[0].fix.ends_with("`outbound_timeout = \"auto\"`"));
    facts.kind = Some(Kind::Gunicorn);
    assert!(check(&facts)[0].fix.ends_with("timeout=(3.05, 10))`"));
    facts = sound();
    facts.said.timeout_s = Some(60.0);
    assert_eq!(check(&facts)[0].fix, "`proxy_read_timeout 65s;` there, or a shorter timeout");
}

#[test]
fn facts_of_a_database_are_read_strictly() {
    let text = r#"[{"name":"shop","max_connections":100,"pooler":{"query_wait_timeout_s":120}}]"#;
    let read: Vec<DatabaseFacts> = serde_json::from_str(text).expect("read");
    assert_eq!((read[0].max_connections, read[0].pool_per_worker), (Some(100), None));
    assert!(serde_json::from_str::<Vec<DatabaseFacts>>(r#"[{"max_connection":100}]"#).is_err());
}

#[test]
fn versions_that_differ_are_told() {
    use crate::change::{Mixed, Pending, Standing};
    let codes = |standing: Standing| -> Vec<&'static str> {
        let observed = Observed { standing: Some(standing), ..Observed::default() };
        check(&Facts { observed, ..Facts::default() }).iter().map(|found| found.code).collect()
    };
    let mixed =
        Mixed { groups: vec![("aaa".into(), vec![1, 2]), ("bbb".into(), vec![3])], text: "mixed".into() };
    let pending = Pending { text: "HUP would deploy".into(), ..Pending::default() };
    assert!(codes(Standing::default()).is_empty());
    assert_eq!(codes(Standing { mixed: Some(mixed), ..Standing::default() }), ["deploy.mixed_versions"]);
    assert_eq!(codes(Standing { pending: Some(pending), ..Standing::default() }), ["deploy.pending"]);
}
