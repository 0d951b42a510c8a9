//! Section "Worker Processes": how many, of which kind, and how long things may take.

use super::{COUNT, choice, int, text};
use crate::resolve::is_served_class;
use crate::setting::{Kind, Setting, Values};

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "workers",
        COUNT,
        int(1),
        "How many worker processes serve requests.\n\n\
         Two to four for each CPU core is usual. The environment variable `WEB_CONCURRENCY` changes the default.",
    )
    .flags(&["-w", "--workers"])
    .metavar("INT"),
    Setting::new(
        "worker_class",
        Kind::Class,
        text("sync"),
        "The kind of worker: `sync`, `gthread` (threads), `gevent` (greenlets) or `asgi` (tasks).\n\n\
         `sync` runs one request at a time; with more than one thread it becomes `gthread`. `gevent` runs as many \
         WSGI requests at a time as there are connections, `asgi` serves ASGI applications. A dotted name or a class \
         is taken for the kind its name says: Uvicorn's workers (`uvicorn.workers.UvicornWorker`, \
         `uvicorn_worker.UvicornWorker`, with or without H11) are `asgi`.",
    )
    .flags(&["-k", "--worker-class"])
    .metavar("STRING")
    .only(
        Values::Like(
            &[
                "sync",
                "gthread",
                "asgi",
                "gevent",
                "uvicorn.workers.UvicornWorker",
                "uvicorn_worker.UvicornWorker",
                "gunicorn.workers.sync.SyncWorker",
                "gunicorn.workers.gthread.ThreadWorker",
                "gunicorn.workers.gasgi.ASGIWorker",
                "gunicorn.workers.ggevent.GeventWorker",
            ],
            is_served_class,
        ),
        "only the workers sync, gthread, asgi and gevent are served yet",
    ),
    Setting::new(
        "threads",
        COUNT,
        int(1),
        "How many requests one worker runs at the same time, each in a thread of its own.",
    )
    .flags(&["--threads"])
    .metavar("INT"),
    Setting::new(
        "worker_connections",
        COUNT,
        int(1000),
        "How many client connections one worker keeps open.",
    )
    .flags(&["--worker-connections"])
    .metavar("INT"),
    Setting::new(
        "max_requests",
        COUNT,
        int(0),
        "After how many requests a worker is replaced by a new one; 0 means never.\n\n\
         A plaster for applications that leak memory.",
    )
    .flags(&["--max-requests"])
    .metavar("INT"),
    Setting::new(
        "max_requests_jitter",
        COUNT,
        int(0),
        "A random number up to this is added to `max_requests`, for each worker anew.\n\n\
         It keeps the workers from being replaced all at once.",
    )
    .flags(&["--max-requests-jitter"])
    .metavar("INT")
    .since("19.2"),
    Setting::new(
        "timeout",
        COUNT,
        int(30),
        "Seconds that the application may take for one request; 0 means any time.\n\n\
         Then the client gets 504, and the thread is interrupted; no other request is touched. A worker whose thread does not \
         come free is replaced. Each piece of a response that comes in pieces has this time anew. `route_timeouts` has other \
         times for some requests.",
    )
    .flags(&["-t", "--timeout"])
    .metavar("INT"),
    Setting::new(
        "graceful_timeout",
        COUNT,
        int(30),
        "Seconds that requests get to finish when their worker is to stop or the server is reloaded.\n\n\
         What then still runs is killed.",
    )
    .flags(&["--graceful-timeout"])
    .metavar("INT"),
    Setting::new(
        "keepalive",
        COUNT,
        int(2),
        "Seconds that an idle connection is kept open for the client's next request; 0 closes it at once.\n\n\
         Behind a proxy that keeps its connections, choose more than the proxy does.",
    )
    .flags(&["--keep-alive"])
    .metavar("INT"),
];

pub(super) const ASYNC: &[Setting] = &[
    Setting::new(
        "asgi_loop",
        choice(&["auto", "asyncio", "uvloop"]),
        text("auto"),
        "The event loop of ASGI workers; `auto` takes uvloop where it is installed.",
    )
    .flags(&["--asgi-loop"])
    .metavar("STRING")
    .since("24.0.0"),
    Setting::new(
        "asgi_lifespan",
        choice(&["auto", "on", "off"]),
        text("auto"),
        "Whether ASGI applications are told of start and stop; `auto` asks them.",
    )
    .flags(&["--asgi-lifespan"])
    .metavar("STRING")
    .since("24.0.0"),
    Setting::new(
        "asgi_disconnect_grace_period",
        COUNT,
        int(3),
        "Seconds between the loss of an ASGI request's client and the cancelling of its task.\n\n\
         Under the names of Uvicorn's worker classes tasks are not cancelled, as Uvicorn does not.",
    )
    .flags(&["--asgi-disconnect-grace-period"])
    .metavar("INT")
    .since("25.0.0"),
    Setting::new(
        "websocket_max_message_size",
        COUNT,
        int(16_777_216),
        "Bytes of the largest WebSocket message; 0 means any. A larger one closes the connection with code 1009.",
    )
    .flags(&["--websocket-max-message-size"])
    .metavar("INT")
    .since("27.0.0"),
    Setting::new(
        "http_parser",
        choice(&["auto", "fast", "python"]),
        text("auto"),
        "Which of Gunicorn's parsers reads requests. Here it is always the server's own, which is fast and strict.",
    )
    .flags(&["--http-parser"])
    .metavar("STRING")
    .since("25.0.0")
    .only(Values::In(&["auto", "python"]), "requests are always read by the server's own parser, gunicorn_h1c is not used"),
];
