//! Section "Server Hooks": functions of the configuration file that the server calls.

use crate::setting::{DefaultValue, Kind, Setting};

const fn hook(
    name: &'static str,
    shown: &'static str,
    parameters: &'static [&'static str],
    doc: &'static str,
) -> Setting {
    Setting::new(name, Kind::Hook { parameters }, DefaultValue::Hook(shown), doc)
}

pub(super) const ROWS: &[Setting] = &[
    hook(
        "on_starting",
        "OnStarting.on_starting",
        &["server"],
        "Called just before the server initialises itself.",
    ),
    hook(
        "on_reload",
        "OnReload.on_reload",
        &["server"],
        "Called when HUP reloads the server, before the first new worker.",
    ),
    hook(
        "when_ready",
        "WhenReady.when_ready",
        &["server"],
        "Called once the server listens, before the first worker is forked.",
    ),
    hook(
        "pre_fork",
        "Prefork.pre_fork",
        &["server", "worker"],
        "Called in the server before a worker is forked.",
    ),
    hook(
        "post_fork",
        "Postfork.post_fork",
        &["server", "worker"],
        "Called in a new worker, before it gives up privileges and loads the application.",
    ),
    hook(
        "post_worker_init",
        "PostWorkerInit.post_worker_init",
        &["worker"],
        "Called in a worker that has loaded the application and is about to serve.",
    ),
    hook("worker_int", "WorkerInt.worker_int", &["worker"], "Called in a worker that got INT or QUIT."),
    hook(
        "worker_abort",
        "WorkerAbort.worker_abort",
        &["worker"],
        "Called in a worker that is killed because of `timeout`, if it can still run Python.",
    ),
    hook(
        "pre_exec",
        "PreExec.pre_exec",
        &["server"],
        "Called after USR2, in the process that becomes the new server, before it does.",
    )
    .not_yet("the upgrade of a running server by USR2 is not served yet; HUP loads new code"),
    hook(
        "pre_request",
        "PreRequest.pre_request",
        &["worker", "req"],
        "Called before each request is given to the application. The default logs it at level debug.",
    ),
    hook(
        "post_request",
        "PostRequest.post_request",
        &["worker", "req", "environ", "resp"],
        "Called after each request. Functions with only the first two or three parameters work as well.",
    ),
    hook(
        "child_exit",
        "ChildExit.child_exit",
        &["server", "worker"],
        "Called in the server when a worker has ended and been reaped.",
    )
    .since("19.7"),
    hook(
        "worker_exit",
        "WorkerExit.worker_exit",
        &["server", "worker"],
        "Called in a worker that is about to end.",
    ),
    hook(
        "nworkers_changed",
        "NumWorkersChanged.nworkers_changed",
        &["server", "new_value", "old_value"],
        "Called when the number of workers changes; the first time with `None` as the old one.",
    ),
    hook("on_exit", "OnExit.on_exit", &["server"], "Called when the server is about to end."),
    hook(
        "ssl_context",
        "NewSSLContext.ssl_context",
        &["config", "default_ssl_context_factory"],
        "Returns the `SSLContext` to use; the second argument makes the usual one.",
    )
    .since("21.0")
    .not_yet(super::tls::NO_TLS),
];
