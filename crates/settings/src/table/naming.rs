//! Section "Process Naming": what the processes are called.

use super::{NONE, STR, text};
use crate::setting::Setting;

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "proc_name",
        STR,
        NONE,
        "What the processes are called in `ps` and `top`. Without it they carry the application's name.",
    )
    .flags(&["-n", "--name"])
    .metavar("STRING"),
    Setting::new(
        "default_proc_name",
        STR,
        text("gunicorn"),
        "What the processes are called without `proc_name`. The server sets it to the application's name.",
    ),
];
