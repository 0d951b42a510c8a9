//! Section "Ferricorn": requests that are worked on later.

use super::{COUNT, EMPTY, NONE, STR, int};
use crate::setting::{DefaultValue, Kind, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "offload",
        Kind::List,
        EMPTY,
        "Requests that are answered with 202 at once and worked on later, as in `POST /api/reports/*`.\n\n\
         A route is a method and a path, or a path alone for every method; `*` stands for any text. The flag may be repeated. \
         What holds for its jobs alone stands behind it, as in `POST /api/reports/* timeout=3600 retries=2 retention=604800 concurrency=2`. \
         The application needs no change: processes of their own run it, and the client finds its response at the address that the 202 names. \
         See [Offload](offload.md).",
    )
    .flags(&["--offload"])
    .metavar("ROUTE")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_prefer",
        Kind::List,
        EMPTY,
        "Requests that become jobs if the client wants it.\n\n\
         It says `Prefer: respond-async` (RFC 7240); then they are as those of `offload`.",
    )
    .flags(&["--offload-prefer"])
    .metavar("ROUTE")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_workers",
        COUNT,
        int(2),
        "How many processes work on jobs, beside the workers.",
    )
    .flags(&["--offload-workers"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_threads",
        COUNT,
        int(0),
        "How many jobs each of them works on at a time.\n\n\
         0 stands for as many as `threads`, and for 8 in the classes `asgi` and `gevent`, whose jobs share one thread.",
    )
    .flags(&["--offload-threads"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_timeout",
        COUNT,
        int(900),
        "Seconds that a job may take; 0 means any time.\n\n\
         The same happens at its end as at that of `timeout`; the job has failed then.",
    )
    .flags(&["--offload-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_retries",
        COUNT,
        int(0),
        "How often a job is begun again that has failed.\n\n\
         Requests that may be sent twice (GET, HEAD, OPTIONS, PUT, DELETE, and those with an `Idempotency-Key`) are begun again twice at least. \
         Each time waits longer: 1, 2, 4 seconds and so on to a minute.",
    )
    .flags(&["--offload-retries"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_retention",
        COUNT,
        int(86_400),
        "Seconds for which the response of a job is kept.\n\n\
         For as long again it is told that there was one (410).",
    )
    .flags(&["--offload-retention"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_limit",
        COUNT,
        int(10_000),
        "The most jobs that wait or run.\n\n\
         Beyond that requests get 503 with `Retry-After`; nothing that was accepted is lost.",
    )
    .flags(&["--offload-limit"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_disk_limit",
        COUNT,
        int(1 << 30),
        "The most bytes that jobs take on the disk.\n\n\
         Beyond that requests get 503 with `Retry-After`.",
    )
    .flags(&["--offload-disk-limit"])
    .metavar("BYTES")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_prefix",
        STR,
        DefaultValue::Str("/.well-known/ferricorn/jobs"),
        "Under which path clients find their jobs.",
    )
    .flags(&["--offload-prefix"])
    .metavar("PATH")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_nice",
        COUNT,
        int(10),
        "By how much those who work on jobs give way to the workers: 0 to 19, as for `nice`.",
    )
    .flags(&["--offload-nice"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_memory_limit",
        COUNT,
        int(0),
        "The most bytes of memory that each of those processes may take; 0 means any number.\n\n\
         One that wants more is refused it: Python raises `MemoryError` in the job that asks. \
         Counted are bytes of its own data (`RLIMIT_DATA`), not files and libraries.",
    )
    .flags(&["--offload-memory-limit"])
    .metavar("BYTES")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_cors_origins",
        Kind::List,
        EMPTY,
        "Origins whose scripts may read answers about jobs, as in `https://app.example.com`.\n\n\
         A browser lets scripts of other origins read nothing else (CORS). `*` means all, without cookies. The flag may be repeated.",
    )
    .flags(&["--offload-cors-origin"])
    .metavar("ORIGIN")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_url_secret",
        STR,
        NONE,
        "What URLs of jobs are signed with; without one they are not.\n\n\
         16 letters or more that nobody guesses, the same on all hosts. URLs then hold a signature, and the time at which they end: \
         see `offload_url_lifetime`. The configuration file alone can set it.",
    )
    .since("0.1.0")
    .ours()
    .unshown(),
    Setting::new(
        "offload_url_lifetime",
        COUNT,
        int(86_400),
        "Seconds after which a signed URL of a job leads nowhere; 0 means never.",
    )
    .flags(&["--offload-url-lifetime"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_webhook",
        STR,
        NONE,
        "The URL that is told of every job that is over.\n\n\
         It gets a POST with a signature, as Standard Webhooks has it, and again later if it does not take it. \
         See [Offload](offload.md#webhooks).",
    )
    .flags(&["--offload-webhook"])
    .metavar("URL")
    .since("0.1.0")
    .ours()
    .unshown(),
    Setting::new(
        "offload_webhook_hosts",
        Kind::List,
        EMPTY,
        "Hosts at which clients may have themselves told that a job is over, as in `*.example.com`.\n\n\
         A client names the URL in the field `Ferricorn-Webhook`. `*` stands for any text. The flag may be repeated.",
    )
    .flags(&["--offload-webhook-host"])
    .metavar("HOST")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_webhook_secret",
        STR,
        NONE,
        "What webhooks are signed with.\n\n\
         `whsec_` with base64 behind it, as Standard Webhooks has it, or any text of 16 letters or more. \
         Several, with spaces between, sign one beside the other: so one can be replaced. The configuration file alone can set it.",
    )
    .since("0.1.0")
    .ours()
    .unshown(),
    Setting::new(
        "offload_webhook_networks",
        Kind::Networks,
        EMPTY,
        "Networks in which clients may have themselves told though they are not public, as in `10.1.0.0/16`.\n\n\
         Loopback, private and link-local addresses are refused otherwise, whatever name leads to them. \
         In these alone a client's URL may begin with `http://`. The URL of `offload_webhook` may be anywhere.",
    )
    .flags(&["--offload-webhook-networks"])
    .metavar("NETWORKS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "offload_broker",
        STR,
        NONE,
        "The broker of a Celery that works on jobs in place of this server.\n\n\
         As in `redis://cache/0` or `amqp://user@rabbit/`: whatever Celery takes. `celery -A ferricorn.celery worker` then runs the requests, on as many hosts as \
         there are; Celery 5.4 or newer has to be installed here, too. See [Offload](offload.md#celery).",
    )
    .flags(&["--offload-broker"])
    .metavar("URL")
    .since("0.1.0")
    .ours()
    .secret(),
    Setting::new(
        "offload_results",
        STR,
        NONE,
        "Where that Celery keeps results, if not in the broker.\n\n\
         A Redis or a database that all hosts reach, as in `redis://cache/1` or `db+postgresql://jobs@db/jobs`.",
    )
    .flags(&["--offload-results"])
    .metavar("URL")
    .since("0.1.0")
    .ours()
    .secret(),
    Setting::new(
        "offload_queue",
        STR,
        DefaultValue::Str("ferricorn"),
        "The queue in that Celery.",
    )
    .flags(&["--offload-queue"])
    .metavar("NAME")
    .since("0.1.0")
    .ours(),
];
