//! Section "Debugging": checks before start, and aids for developers.

use super::{EMPTY, OFF, SWITCH, text};
use crate::setting::{Kind, Setting};

const NO_RELOAD: &str = "workers are not restarted on changed code yet; send HUP to the server instead";

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "reload",
        SWITCH,
        OFF,
        "Restart workers when code of the application changes. For development only.",
    )
    .flags(&["--reload"])
    .not_yet(NO_RELOAD),
    Setting::new(
        "reload_engine",
        Kind::Choice { names: &["auto", "poll", "inotify"], aliases: &[], bare: None },
        text("auto"),
        "How `reload` learns of changes: by looking at the files, or from the kernel.",
    )
    .flags(&["--reload-engine"])
    .metavar("STRING")
    .since("19.7")
    .not_yet(NO_RELOAD),
    Setting::new(
        "reload_extra_files",
        Kind::Files,
        EMPTY,
        "More files, or glob patterns of files, whose change makes `reload` restart workers.",
    )
    .flags(&["--reload-extra-file"])
    .metavar("FILES")
    .since("19.8")
    .not_yet(NO_RELOAD),
    Setting::new("spew", SWITCH, OFF, "Show every line of Python that is run.")
        .flags(&["--spew"])
        .not_yet("executed lines are not traced yet; `python -m trace` does it for a script"),
    Setting::new(
        "check_config",
        SWITCH,
        OFF,
        "Load configuration and application, say what is wrong, and exit: 0 if nothing is, else 1.",
    )
    .flags(&["--check-config"]),
    Setting::new(
        "print_config",
        SWITCH,
        OFF,
        "Show what every setting comes to, then go on as `check_config` does.",
    )
    .flags(&["--print-config"]),
];
