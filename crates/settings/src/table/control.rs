//! Section "Control": the socket of Gunicorn's own control program.

use super::{OFF, PATH, SWITCH, int, of};
use crate::setting::{Circumstance, Kind, Numeral, Setting};

const NO_CONTROL: &str = "gunicornc cannot control this server; ferricornctl does, and finds it by itself";

pub(super) const ROWS: &[Setting] = &[
    Setting::new("control_socket", PATH, of(Circumstance::RuntimeDir), "The Unix socket for `gunicornc`.")
        .flags(&["--control-socket"])
        .metavar("PATH")
        .since("25.1.0")
        .not_yet(NO_CONTROL),
    Setting::new(
        "control_socket_mode",
        Kind::Int { min: 0, max: i64::MAX, numeral: Numeral::Mode },
        int(0o600),
        "The permissions of that socket.",
    )
    .flags(&["--control-socket-mode"])
    .metavar("INT")
    .since("25.1.0")
    .not_yet(NO_CONTROL),
    Setting::new("control_socket_disable", SWITCH, OFF, "Do without that socket.")
        .flags(&["--no-control-socket"])
        .since("25.1.0")
        .inert("there is no such socket in any case"),
];
