//! Sections "Dirty Arbiters" and "Dirty Arbiter Hooks": Gunicorn's processes for long-running tasks.

use super::{COUNT, EMPTY, int};
use crate::setting::{DefaultValue, Kind, Setting};

const NO_DIRTY: &str = "dirty arbiters are not served yet";

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "dirty_apps",
        Kind::List,
        EMPTY,
        "An application for long tasks, as `MODULE:CLASS` or `MODULE:CLASS:WORKERS`.",
    )
    .flags(&["--dirty-app"])
    .metavar("STRING")
    .since("25.0.0")
    .not_yet(NO_DIRTY),
    Setting::new("dirty_workers", COUNT, int(0), "How many processes run long tasks; 0 means none.")
        .flags(&["--dirty-workers"])
        .metavar("INT")
        .since("25.0.0")
        .not_yet(NO_DIRTY),
    Setting::new("dirty_timeout", COUNT, int(300), "Seconds that a long task may take.")
        .flags(&["--dirty-timeout"])
        .metavar("INT")
        .since("25.0.0")
        .not_yet(NO_DIRTY),
    Setting::new("dirty_threads", COUNT, int(1), "How many long tasks one process runs at the same time.")
        .flags(&["--dirty-threads"])
        .metavar("INT")
        .since("25.0.0")
        .not_yet(NO_DIRTY),
    Setting::new(
        "dirty_graceful_timeout",
        COUNT,
        int(30),
        "Seconds that long tasks get to finish when their process is to stop.",
    )
    .flags(&["--dirty-graceful-timeout"])
    .metavar("INT")
    .since("25.0.0")
    .not_yet(NO_DIRTY),
];

const fn hook(
    name: &'static str,
    shown: &'static str,
    parameters: &'static [&'static str],
    doc: &'static str,
) -> Setting {
    Setting::new(name, Kind::Hook { parameters }, DefaultValue::Hook(shown), doc)
        .since("25.0.0")
        .not_yet(NO_DIRTY)
}

pub(super) const HOOKS: &[Setting] = &[
    hook(
        "on_dirty_starting",
        "OnDirtyStarting.on_dirty_starting",
        &["arbiter"],
        "Called just before the arbiter of long tasks initialises itself.",
    ),
    hook(
        "dirty_post_fork",
        "DirtyPostFork.dirty_post_fork",
        &["arbiter", "worker"],
        "Called in a new process for long tasks.",
    ),
    hook(
        "dirty_worker_init",
        "DirtyWorkerInit.dirty_worker_init",
        &["worker"],
        "Called in a process for long tasks that has loaded its applications.",
    ),
    hook(
        "dirty_worker_exit",
        "DirtyWorkerExit.dirty_worker_exit",
        &["arbiter", "worker"],
        "Called in a process for long tasks that is about to end.",
    ),
];
