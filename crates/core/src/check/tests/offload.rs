//! The rules of Offload, each with what it finds and with what it leaves alone.

use super::{codes, sound, texts_are_in_shape};
use crate::check::*;

/// Facts of a server with jobs that is well set up.
fn offloading() -> Facts {
    let mut facts = sound();
    facts.said = Said {
        graceful_timeout_s: Some(70.0),
        proc_name_given: Some(true),
        offload: Some(vec![route("POST /api/reports/*", 60.0)]),
        offload_prefer: Some(Vec::new()),
        offload_workers: Some(2),
        offload_memory_limit: Some(1 << 28),
        offload_prefix: Some("/.well-known/ferricorn/jobs".into()),
        offload_broker: Some(Vec::new()),
        ..facts.said
    };
    facts.detours = Some(Vec::new());
    facts.surroundings.state_dir.as_mut().unwrap().file_system = Some("other".into());
    facts.observed.memory_max = Some(6 << 30);
    facts
}

fn route(route: &str, timeout_s: f64) -> JobRoute {
    JobRoute { route: route.into(), timeout_s, retries: 0 }
}

fn routes(facts: &mut Facts, of: &[(&str, f64, u32)]) {
    let of =
        of.iter().map(|(name, timeout_s, retries)| JobRoute { retries: *retries, ..route(name, *timeout_s) });
    facts.said.offload = Some(of.collect());
}

fn broker(facts: &mut Facts, scheme: &str, is_elsewhere: Option<bool>, has_password: bool) {
    facts.said.offload_broker.get_or_insert_default().push(Broker {
        scheme: scheme.into(),
        is_elsewhere,
        has_password,
    });
}

fn on(facts: &mut Facts, file_system: Option<&str>) {
    facts.surroundings.state_dir.as_mut().unwrap().file_system = file_system.map(str::to_owned);
}

fn detour(to: Option<&str>) -> Detour {
    Detour {
        name: "nginx".into(),
        place: "server example.org, location /.well-known/ (nginx.conf:12)".into(),
        to: to.map(str::to_owned),
        beside: "location /api".into(),
        upstream: "http://app".into(),
    }
}

type Case = (&'static str, fn(&mut Facts), &'static [(Level, &'static str)]);

fn hold(table: &[Case]) {
    for (name, change, expected) in table {
        let mut facts = offloading();
        change(&mut facts);
        assert_eq!(codes(&facts), *expected, "{name}");
        texts_are_in_shape(name, &facts);
        // The same where no request becomes a job.
        facts.said.offload = Some(Vec::new());
        facts.said.offload_prefer = Some(Vec::new());
        let of_jobs = codes(&facts).into_iter().filter(|(_, code)| code.starts_with("offload."));
        assert_eq!(of_jobs.count(), 0, "{name}, without Offload");
        (facts.said.offload, facts.said.offload_prefer) = (None, None);
        let of_jobs = codes(&facts).into_iter().filter(|(_, code)| code.starts_with("offload."));
        assert_eq!(of_jobs.count(), 0, "{name}, with Offload unknown");
    }
}

use Level::{Error, Hint, Warning};

#[test]
fn jobs_that_a_stop_cuts() {
    const CUT: &[(Level, &str)] = &[(Warning, "offload.stop")];
    const AGAIN: &[(Level, &str)] = &[(Hint, "offload.stop")];
    hold(&[
        ("well set up", |_| {}, &[]),
        ("as long as they may take", |f| routes(f, &[("POST /a", 70.0, 0)]), &[]),
        ("longer", |f| routes(f, &[("POST /a", 70.5, 0)]), CUT),
        ("any time", |f| routes(f, &[("POST /a", 0.0, 0)]), CUT),
        ("any method", |f| routes(f, &[("/a", 900.0, 0)]), CUT),
        ("any method, said", |f| routes(f, &[("* /a", 900.0, 0)]), CUT),
        ("begun again", |f| routes(f, &[("POST /a", 900.0, 1)]), AGAIN),
        ("begun again by its method", |f| routes(f, &[("put /a", 900.0, 0)]), AGAIN),
        ("one of several", |f| routes(f, &[("GET /a", 0.0, 0), ("/b", 90.0, 0), ("POST /c", 9.0, 0)]), CUT),
        ("where the client wants it", |f| f.said.offload_prefer = Some(vec![route("/a", 900.0)]), CUT),
        (
            "killed sooner",
            |f| f.stop.as_mut().unwrap().timeout_s = 50.0,
            &[(Warning, "offload.stop"), (Warning, "stop.graceful_timeout")],
        ),
        ("killed as soon", |f| routes(f, &[("POST /a", 80.0, 0)]), CUT),
        (
            "nobody known who stops it",
            |f| {
                f.stop = None;
                routes(f, &[("POST /a", 80.0, 0)]);
            },
            CUT,
        ),
        (
            "graceful_timeout unknown",
            |f| {
                f.said.graceful_timeout_s = None;
                routes(f, &[("POST /a", 900.0, 0)]);
            },
            &[],
        ),
        (
            "a Celery goes on",
            |f| {
                routes(f, &[("POST /a", 900.0, 0)]);
                broker(f, "redis", Some(false), false);
            },
            &[],
        ),
        (
            "a Celery, perhaps",
            |f| {
                routes(f, &[("POST /a", 900.0, 0)]);
                f.said.offload_broker = None;
            },
            &[],
        ),
    ]);
}

#[test]
fn jobs_that_are_not_found_again() {
    const NAME: &[(Level, &str)] = &[(Hint, "offload.name")];
    hold(&[
        ("no name", |f| f.said.proc_name_given = Some(false), NAME),
        (
            "no name, a Celery",
            |f| {
                f.said.proc_name_given = Some(false);
                broker(f, "redis", Some(false), false);
            },
            NAME,
        ),
        ("not known", |f| f.said.proc_name_given = None, &[]),
        ("a disk", |f| on(f, Some("other")), &[]),
        ("not looked at", |f| on(f, None), &[]),
        ("no folder known", |f| f.surroundings.state_dir = None, &[]),
        ("memory", |f| on(f, Some("tmpfs")), &[(Warning, "offload.state_dir")]),
        ("memory, too", |f| on(f, Some("ramfs")), &[(Warning, "offload.state_dir")]),
        ("a layer", |f| on(f, Some("overlay")), &[(Warning, "offload.state_dir")]),
        ("NFS", |f| on(f, Some("nfs")), &[(Error, "offload.state_dir")]),
        ("CIFS", |f| on(f, Some("cifs")), &[(Error, "offload.state_dir")]),
        ("SMB", |f| on(f, Some("smb2")), &[(Error, "offload.state_dir")]),
        ("perhaps one of the network", |f| on(f, Some("fuse")), &[(Hint, "offload.state_dir")]),
        ("answered by the proxy", |f| f.detours = Some(vec![detour(None)]), &[(Error, "offload.proxy")]),
        (
            "led elsewhere, in two servers",
            |f| f.detours = Some(vec![detour(Some("varnish:6081")), detour(Some("varnish:6081"))]),
            &[(Warning, "offload.proxy"), (Warning, "offload.proxy")],
        ),
        ("proxy not looked at", |f| f.detours = None, &[]),
        (
            "prefix not known",
            |f| {
                f.detours = Some(vec![detour(None)]);
                f.said.offload_prefix = None;
            },
            &[],
        ),
    ]);
}

#[test]
fn brokers() {
    const OPEN: &[(Level, &str)] = &[(Warning, "offload.broker")];
    const READ: &[(Level, &str)] = &[(Level::Hint, "offload.broker")];
    const BACK: &[(Level, &str)] = &[(Warning, "offload.consumer_timeout")];
    hold(&[
        ("no password, no TLS", |f| broker(f, "redis", Some(true), false), OPEN),
        ("no password", |f| broker(f, "rediss", Some(true), false), OPEN),
        ("no TLS", |f| broker(f, "amqp", Some(true), true), READ),
        ("no TLS, another name", |f| broker(f, "pyamqp", Some(true), true), READ),
        ("both", |f| broker(f, "amqps", Some(true), true), &[]),
        ("here", |f| broker(f, "amqp", Some(false), false), &[]),
        ("it is not clear where", |f| broker(f, "redis", None, false), &[]),
        ("a kind that is not known", |f| broker(f, "sqs", Some(true), false), &[]),
        (
            "the worst of several alone",
            |f| {
                broker(f, "rediss", Some(true), true);
                broker(f, "redis", Some(true), true);
                broker(f, "redis", Some(true), false);
            },
            OPEN,
        ),
        ("not known", |f| f.said.offload_broker = None, &[]),
        (
            "half of what RabbitMQ waits",
            |f| {
                broker(f, "amqp", Some(false), false);
                routes(f, &[("PUT /a", 900.0, 0)]);
            },
            &[],
        ),
        (
            "more",
            |f| {
                broker(f, "amqp", Some(false), false);
                routes(f, &[("PUT /a", 901.0, 0)]);
            },
            BACK,
        ),
        (
            "any time",
            |f| {
                broker(f, "amqps", Some(true), true);
                f.said.offload_prefer = Some(vec![route("/a", 0.0)]);
            },
            BACK,
        ),
        (
            "a Redis is told how long",
            |f| {
                broker(f, "redis", Some(false), false);
                routes(f, &[("PUT /a", 0.0, 0)]);
            },
            &[],
        ),
        (
            "no broker",
            |f| {
                f.said.graceful_timeout_s = None;
                routes(f, &[("PUT /a", 0.0, 0)]);
            },
            &[],
        ),
    ]);
}

#[test]
fn memory_of_jobs() {
    const MEMORY: &[(Level, &str)] = &[(Hint, "offload.memory")];
    hold(&[
        ("no limit", |f| f.said.offload_memory_limit = Some(0), MEMORY),
        ("not known", |f| f.said.offload_memory_limit = None, &[]),
        (
            "the server has none",
            |f| {
                f.said.offload_memory_limit = Some(0);
                f.observed.memory_max = None;
            },
            &[],
        ),
        (
            "workers not known",
            |f| {
                f.said.offload_memory_limit = Some(0);
                f.said.workers = None;
            },
            &[],
        ),
        (
            "a Celery's is its own",
            |f| {
                f.said.offload_memory_limit = Some(0);
                broker(f, "redis", Some(false), false);
            },
            &[],
        ),
        (
            "too little to share",
            |f| {
                f.said.offload_memory_limit = Some(0);
                f.observed.memory_max = Some((6 << 20) - 1);
            },
            &[],
        ),
    ]);
    let mut facts = offloading();
    facts.said = Said { workers: Some(u32::MAX), offload_workers: Some(u32::MAX), ..facts.said };
    facts.said.offload_memory_limit = Some(0);
    facts.databases = None;
    facts.observed.memory_max = Some(u64::MAX);
    assert_eq!(codes(&facts), MEMORY);
}

#[test]
fn what_is_found_says_what_to_write() {
    let told = |change: fn(&mut Facts)| {
        let mut facts = offloading();
        change(&mut facts);
        let found = check(&facts);
        let found = found.iter().find(|found| found.code.starts_with("offload.")).expect("found");
        format!("{}\n{}\n{}", found.what, found.why, found.fix)
    };
    insta::assert_snapshot!(told(|f| {
        f.said.graceful_timeout_s = Some(30.0);
        routes(f, &[("POST /api/mails/*", 900.0, 3), ("POST /api/reports/*", 900.0, 0)]);
    }), @"
    a job of `POST /api/reports/*` may take 900 s, and a stop or a deploy leaves it 30 s (graceful_timeout)
    what still runs then is cut and has failed (worker_died): it is not begun again, and what it was at is half done
    `graceful_timeout = 910`, with TimeoutStopSec of 920 s or more; or `retries=N` behind the route, if its requests may be run twice
    ");
    insta::assert_snapshot!(told(|f| f.stop.as_mut().unwrap().timeout_s = 50.0), @"
    a job of `POST /api/reports/*` may take 60 s, and systemd (shop.service) kills the server 50 s after it is told to stop
    what still runs then is cut and has failed (worker_died): it is not begun again, and what it was at is half done
    `graceful_timeout = 70`, with TimeoutStopSec of 80 s or more; or `retries=N` behind the route, if its requests may be run twice
    ");
    insta::assert_snapshot!(told(|f| routes(f, &[("PUT /a", 0.0, 0)])), @"
    a job of `PUT /a` may take any time, and a stop or a deploy leaves it 70 s (graceful_timeout)
    what still runs then is cut (worker_died), and begun again from its beginning
    give its jobs an end (`timeout=S` behind the route, or `offload_timeout`), and a longer graceful_timeout
    ");
    insta::assert_snapshot!(told(|f| f.said.proc_name_given = Some(false)), @r#"
    jobs belong to the application and its folder: no name was given
    a deploy into a new folder does not find the jobs of the last one: those that wait are not worked on, and their URLs are 404
    `proc_name = "shop"`, or `--name shop`: another name for each service
    "#);
    insta::assert_snapshot!(told(|f| on(f, Some("tmpfs"))), @"
    jobs are kept in /var/lib/ferricorn, which is in memory (tmpfs)
    a 202 says that a request is kept: after the next start of the machine or the container none is there
    `state_dir` names a folder on a disk; systemd makes one by `StateDirectory=`
    ");
    insta::assert_snapshot!(told(|f| on(f, Some("nfs"))), @"
    jobs are kept in /var/lib/ferricorn, which is on a network file system (nfs)
    SQLite is not safe where files and their locks are on another host: its database may break, and all jobs with it
    `state_dir` names a folder on a disk of this host, or on a volume that is
    ");
    insta::assert_snapshot!(told(|f| on(f, Some("overlay"))), @"
    jobs are kept in /var/lib/ferricorn, which is on an overlay, as the layer of a container is one
    a 202 says that a request is kept: a deploy makes a new container, and that has none of them
    a volume at /var/lib/ferricorn, or a `state_dir` that is on one
    ");
    insta::assert_snapshot!(told(|f| on(f, Some("fuse"))), @"
    jobs are kept in /var/lib/ferricorn, which is on a file system of some program (fuse), which may be one of the network
    SQLite is not safe where files and their locks are on another host: its database may break, and all jobs with it
    see what it is (`findmnt -T /var/lib/ferricorn`); `state_dir` names a folder on a disk of this host, or on a volume that is
    ");
    insta::assert_snapshot!(told(|f| f.detours = Some(vec![detour(None)])), @"
    nginx answers itself what asks for jobs below /.well-known/ferricorn/jobs (server example.org, location /.well-known/ (nginx.conf:12)), and what becomes one comes here (location /api)
    clients get a 202 with a URL, and find neither state nor result there
    `location /.well-known/ferricorn/jobs/ { proxy_pass http://app; }` in that server
    ");
    insta::assert_snapshot!(told(|f| f.detours = Some(vec![detour(Some("varnish:6081"))])), @"
    nginx leads to varnish:6081 what asks for jobs below /.well-known/ferricorn/jobs (server example.org, location /.well-known/ (nginx.conf:12)), and what becomes one comes here (location /api)
    clients get a 202 with a URL, and find neither state nor result there, unless varnish:6081 leads them back here
    `location /.well-known/ferricorn/jobs/ { proxy_pass http://app; }` in that server
    ");
    insta::assert_snapshot!(told(|f| broker(f, "amqp", Some(true), false)), @"
    the broker of jobs is on another host, and its URL has no password and no TLS (`amqp://`)
    whoever reaches it can have the application called with any request, as any client
    `offload_broker` with a password in it, and TLS (`amqps://`); the same for `offload_results`
    ");
    insta::assert_snapshot!(told(|f| broker(f, "rediss", Some(true), false)), @"
    the broker of jobs is on another host, and its URL has no password (`rediss://`)
    whoever reaches it can have the application called with any request, as any client
    `offload_broker` with a password in it; the same for `offload_results`
    ");
    insta::assert_snapshot!(told(|f| broker(f, "redis", Some(true), true)), @"
    the broker of jobs is on another host, and its URL has no TLS (`redis://`)
    whoever is on the way there reads requests and the password, and can have the application called with any request
    `offload_broker` with TLS (`rediss://`); the same for `offload_results`
    ");
    insta::assert_snapshot!(told(|f| {
        broker(f, "amqp", Some(false), true);
        routes(f, &[("PUT /a", 3600.0, 0)]);
    }), @"
    a job of `PUT /a` may take 3600 s, and RabbitMQ takes back after 1800 s what no worker has acknowledged, unless its consumer_timeout is another
    it gives a job that may be begun again to a second worker while the first is at it; jobs should have less than half of that
    `consumer_timeout = 7220000` in rabbitmq.conf, or a shorter time for jobs
    ");
    insta::assert_snapshot!(told(|f| {
        broker(f, "amqp", Some(false), true);
        routes(f, &[("PUT /a", 0.0, 0)]);
    }), @"
    a job of `PUT /a` may take any time, and RabbitMQ takes back after 1800 s what no worker has acknowledged, unless its consumer_timeout is another
    it gives a job that may be begun again to a second worker while the first is at it; jobs should have less than half of that
    give its jobs an end: `timeout=S` behind the route, or `offload_timeout`; 900 s and less fit RabbitMQ as it comes
    ");
    insta::assert_snapshot!(told(|f| f.said.offload_memory_limit = Some(0)), @"
    the server may use 6.4 GB of memory, and each process of jobs may take all of it
    one greedy job can have the kernel end processes: those that work on jobs first, with all that they are at
    `offload_memory_limit = 1073741824`: 1024 MiB, an equal share for 4 workers and 2 processes of jobs; who asks for more gets `MemoryError`
    ");
}
