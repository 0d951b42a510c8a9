//! Section "Config File": where settings and the application come from.

use super::{NONE, PATH, STR, text};
use crate::setting::Setting;

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "config",
        PATH,
        text("./gunicorn.conf.py"),
        "The configuration file: `PATH`, `file:PATH`, or `python:MODULE` for a module that can be imported.\n\n\
         It is Python source; its names are settings and hooks. Without this flag `gunicorn.conf.py` of the working \
         directory is read if there is one. Counts on the command line and in `GUNICORN_CMD_ARGS` only.",
    )
    .flags(&["-c", "--config"])
    .metavar("CONFIG"),
    Setting::new(
        "wsgi_app",
        STR,
        NONE,
        "The application, as `MODULE:NAME`, for when the command line names none.",
    )
    .metavar("STRING")
    .since("20.1.0"),
];
