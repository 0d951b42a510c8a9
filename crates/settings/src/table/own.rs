//! Section "Ferricorn": what Gunicorn has no setting for.

use super::{COUNT, EMPTY, NONE, PATH, STR, choice, int, text};
use crate::setting::{DefaultValue, Kind, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "boot_timeout",
        COUNT,
        int(300),
        "Seconds within which a new worker must have loaded the application; 0 means any time.\n\n\
         Then the log says where it hangs, and it is killed and replaced; a reload is abandoned. Unless you set it, a \
         worker has at least `timeout`, and any time with `timeout = 0`.",
    )
    .flags(&["--boot-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "reload_soak",
        COUNT,
        int(0),
        "Seconds for which the first new workers of a reload serve beside all old ones; 0 for not at all.\n\n\
         So that new code can be compared with the old on the same traffic. If its workers lose more requests, the observer \
         halts the reload (see `reflex_mode`): the new workers go, the old ones stay.",
    )
    .flags(&["--reload-soak"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "header_timeout",
        COUNT,
        int(30),
        "Seconds within which a whole request head must have come; 0 means any time.\n\n\
         Else the client gets 408. Waiting costs no thread and no worker.",
    )
    .flags(&["--header-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "body_timeout",
        COUNT,
        int(60),
        "Seconds that may pass between two pieces of a request body; 0 means any time.\n\n\
         Then the client gets 408, and the application is not called.",
    )
    .flags(&["--body-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "write_timeout",
        COUNT,
        int(60),
        "Seconds during which a client may take no byte of its response; 0 means any time.\n\n\
         Then its connection is closed.",
    )
    .flags(&["--write-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "loop_block_limit",
        COUNT,
        int(100),
        "Milliseconds for which a call may hold the event loop of an `asgi` or `gevent` worker.\n\n\
         Then the connections are seen to without the loop until it is free again: siblings get the requests that wait, \
         what is late is answered, and the log names the call, its request and those who waited.",
    )
    .flags(&["--loop-block-limit"])
    .metavar("MILLISECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "websocket_ping_interval",
        COUNT,
        int(20),
        "Seconds between two pings of a WebSocket; 0 means none.",
    )
    .flags(&["--websocket-ping-interval"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "websocket_ping_timeout",
        COUNT,
        int(20),
        "Seconds within which a WebSocket's client must show a sign of life after a ping; 0 means any time.\n\n\
         Then its connection is closed, and the application is told 1006.",
    )
    .flags(&["--websocket-ping-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "request_timeout",
        COUNT,
        int(0),
        "Seconds within which a whole request must be over; 0 means any time.\n\n\
         They count from its first byte to the last one that the application makes of its response. Then it is answered with 504, or cut where its response has begun, as at the end of `timeout`.",
    )
    .flags(&["--request-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "route_timeouts",
        Kind::Times,
        DefaultValue::Map(&[]),
        "What takes the place of `timeout` for some requests, in seconds.\n\n\
         As in `{\"POST /api/reports/*\": 120}`. \
         A route is a method and a path, or a path alone for every method; `*` stands for any text. The first one that \
         fits counts; 0 means any time.",
    )
    .since("0.1.0")
    .ours(),
    Setting::new(
        "unblock",
        choice(&["none", "socket"]),
        text("none"),
        "What else is done to free the thread of a late request before it is interrupted.\n\n\
         `socket` shuts the socket that it waits for, a database's for example: the application gets the error of a \
         connection that was closed, which also frees threads that no interrupt reaches. Never a client's.",
    )
    .flags(&["--unblock"])
    .since("0.1.0")
    .ours(),
    Setting::new(
        "queue_timeout",
        COUNT,
        int(30),
        "Seconds that a request may wait until a thread of its worker is free; 0 means any time.\n\n\
         Then it gets 503 with `Retry-After`.",
    )
    .flags(&["--queue-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "queue_limit",
        COUNT,
        int(1024),
        "How many requests may wait in one worker until one of its threads is free.\n\n\
         Those beyond it get 503 with `Retry-After`.",
    )
    .flags(&["--queue-limit"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "body_memory_limit",
        COUNT,
        int(1_048_576),
        "Bytes of the largest request body that is kept in memory.\n\n\
         Larger ones go to a file without a name in `tmp_upload_dir`.",
    )
    .flags(&["--body-memory-limit"])
    .metavar("BYTES")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "body_limit",
        COUNT,
        int(0),
        "Bytes of the largest request body; 0 means any size.\n\n\
         A larger one is answered with 413, without reading it where its length is known beforehand.",
    )
    .flags(&["--body-limit"])
    .metavar("BYTES")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "reflex",
        Kind::Flag { sets: false },
        DefaultValue::Bool(true),
        "Run the observer beside the server; the flag goes without it.\n\n\
         A process of its own that finds out, from outside, where late requests and dead workers were, and keeps records \
         of it. Requests do not depend on it.",
    )
    .flags(&["--no-reflex"])
    .since("0.1.0")
    .ours(),
    Setting::new(
        "state_dir",
        PATH,
        NONE,
        "The folder for what is kept of incidents, late requests and dead workers; at most 64 MB. Servers may share one.\n\n\
         Without one it is `STATE_DIRECTORY` as systemd sets it, `/var/lib/ferricorn` for root, or `ferricorn` in \
         `XDG_STATE_HOME` or `~/.local/state`. Made where it is not there, for its user alone.",
    )
    .flags(&["--state-dir"])
    .metavar("DIR")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "error_page",
        PATH,
        NONE,
        "A file with a page for browsers whose requests the server itself answers with an error.\n\n\
         It is HTML in UTF-8 of at most 64 KiB, in which `{status}`, `{title}`, `{detail}` and `{request_id}` are replaced. \
         It is read at start and at each reload; a relative path begins at `chdir`.",
    )
    .flags(&["--error-page"])
    .metavar("FILE")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "admin_bind",
        STR,
        NONE,
        "Where metrics, health and incidents are served over HTTP: `HOST:PORT` or `unix:PATH`.\n\n\
         Whoever can connect can read: it asks for no password, so bind it to a loopback or private address. Without it there \
         is still the Unix socket in `state_dir`, for the server's own user alone. See [Metrics](metrics.md).",
    )
    .flags(&["--admin-bind"])
    .metavar("ADDRESS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "otlp_endpoint",
        STR,
        NONE,
        "Where metrics are sent by the OpenTelemetry protocol, as in `http://127.0.0.1:4318`.\n\n\
         Over HTTP, as protobuf. Without it the variable `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` counts. See [Metrics](metrics.md#opentelemetry).",
    )
    .flags(&["--otlp-endpoint"])
    .metavar("URL")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "notify",
        Kind::List,
        EMPTY,
        "Who is told of incidents: `webhook=URL`, `alertmanager=URL` or `slack=URL`.\n\n\
         The flag may be repeated. Each incident is one message that is brought up to date: when it opens, when its cause is \
         known better, when it has stopped. See [Metrics](metrics.md#notifications).",
    )
    .flags(&["--notify"])
    .metavar("FORM=URL")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "reflex_database",
        Kind::List,
        EMPTY,
        "A database that the observer asks what late requests wait for.\n\n\
         A URL as in `postgresql://reflex@db/shop`, `pgbouncer://stats@pool:6432/` or `mysql://reflex@db/`, or `key=value` \
         as libpq has it; give it several times for several. Without any, it is that of the variable `PGSERVICE`, if that is set. Leave passwords to \
         `~/.pgpass`: other users can see a command line. [Databases](databases.md) tells which rights it needs and what it asks.",
    )
    .flags(&["--reflex-database"])
    .metavar("URL")
    .since("0.1.0")
    .ours()
    .secret(),
    Setting::new(
        "reflex_mode",
        Kind::Choice { names: &["observe", "advise", "protect", "act"], aliases: &[], bare: None },
        DefaultValue::Str("advise"),
        "How much the observer does without a person.\n\n\
         `observe`: nothing. `advise`: nothing, and it tells what it would do. `protect`: it ends statements and connections of requests whose \
         time is over, takes back workers that it has added, halts reloads that are worse. `act`: what the policy's rules say. Unless you set it, \
         that of `reflex_policy` holds, where it says one. [Policy](policy.md) tells of rules, budgets and what is never done.",
    )
    .flags(&["--reflex-mode"])
    .metavar("MODE")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "reflex_policy",
        PATH,
        NONE,
        "A file with rules of your own: what the observer does about trouble, and how often.\n\n\
         Without it the rules that come with Ferricorn hold: `ferricornctl policy show`. `ferricornctl policy check FILE` finds mistakes. \
         [Policy](policy.md) tells what it says.",
    )
    .flags(&["--reflex-policy"])
    .metavar("FILE")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "reflex_fleet",
        STR,
        NONE,
        "A NATS with JetStream, by which observers of several hosts hear of each other.\n\n\
         An address as in `nats://bus:4222`, several servers of one cluster with commas between; `tls://` encrypts. `NATS_CREDS` names a file with credentials, `NATS_CA` one with \
         certificates to trust. Hosts then share one budget of actions, leave alone what several of them have at once, and publish incidents, \
         changes and actions: [Several hosts](hosts.md).",
    )
    .flags(&["--reflex-fleet"])
    .metavar("URL")
    .since("0.1.0")
    .ours()
    .secret(),
    Setting::new(
        "reflex_history",
        STR,
        NONE,
        "A PostgreSQL to which what happens on all hosts is written, as in `postgresql://history@db/ops`.\n\n\
         Incidents, changes and actions become rows of the schema `ferricorn`; it needs `reflex_fleet`. One host with it is enough, several share the \
         work. See [Several hosts](hosts.md#history).",
    )
    .flags(&["--reflex-history"])
    .metavar("URL")
    .since("0.1.0")
    .ours()
    .secret(),
    Setting::new(
        "reflex_host",
        STR,
        NONE,
        "What this host is called among others, if not by its host name. See [Several hosts](hosts.md).",
    )
    .flags(&["--reflex-host"])
    .metavar("NAME")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "workers_min",
        COUNT,
        int(0),
        "The fewest workers, where `workers_max` is set; 0 stands for `workers`.\n\n\
         The observer takes workers away down to this number when there have been too many for long.",
    )
    .flags(&["--workers-min"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "workers_max",
        COUNT,
        int(0),
        "The most workers; 0 for a fixed number, which is `workers`.\n\n\
         The observer adds workers up to this number while requests wait for a thread. \
         It adds none while the database, a pool, the processors or memory are what is short, since that would make it worse. \
         [Scaling](scaling.md) tells how it decides; `ferricornctl why scale` tells what it has decided.",
    )
    .flags(&["--workers-max"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
];
