//! Section "Ferricorn", the part that keeps calls of the application within the deadline of its request.

use super::{NONE, STR, text};
use crate::setting::{Kind, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "db_statement_timeout",
        Kind::Limit,
        text("off"),
        "After how long PostgreSQL ends a statement of the application: `auto`, or seconds.\n\n\
         Workers get `statement_timeout` in their variable `PGOPTIONS`, which libpq reads (psycopg, psycopg2). `auto` is a little under the \
         longest deadline, and has the server notice within a second when a worker has died (`client_connection_check_interval`, \
         PostgreSQL 14 and newer). Not behind PgBouncer, nor for asyncpg; [Prevention](prevention.md#statements) tells what to set there.",
    )
    .flags(&["--db-statement-timeout"])
    .metavar("auto|SECONDS|off")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "outbound_timeout",
        Kind::Limit,
        text("off"),
        "A timeout for calls of the application to others that have none: `auto`, or seconds.\n\n\
         `auto` is what is left of the request's time, less a little in which it can still answer; a number is the most that \
         it may be. For requests, urllib3, http.client and urllib, redis, and connecting by psycopg and psycopg2. A timeout that the \
         application gives always counts. See [Prevention](prevention.md#calls-to-others).",
    )
    .flags(&["--outbound-timeout"])
    .metavar("auto|SECONDS|off")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "deadline_header",
        STR,
        NONE,
        "The request header that says for how many milliseconds its sender still waits.\n\n\
         As in `x-envoy-expected-rq-timeout-ms`. From peers in `forwarded_allow_ips` it shortens the deadline of a request, and \
         never lengthens it. With `outbound_timeout`, calls to others carry it with what is left. See \
         [Prevention](prevention.md#deadlines-that-travel).",
    )
    .flags(&["--deadline-header"])
    .metavar("NAME")
    .since("0.1.0")
    .ours(),
];
