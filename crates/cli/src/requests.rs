//! `ferricornctl requests`: what is running now, and the flight recorder (`--recent`).
//! The JSON's shape is public and written down in `docs/ferricornctl.md`: add fields, never change one.
//! Not for: requests that wait for a thread; `workers` counts those.

use crate::run::View;
use crate::table::{self, Align, Cell, Ink};
use crate::units::{bytes, millis, printable, span};
use crate::workers::{ServerJson, write_json};
use ferricorn_core::snapshot::{Finished, Running};
use serde::Serialize;
use std::io::{self, Write};

const COLUMNS: [(&str, Align); 8] = [
    ("AGE", Align::Right),
    ("PHASE", Align::Left),
    ("WORKER", Align::Right),
    ("TID", Align::Right),
    ("LEFT", Align::Right),
    ("CLIENT", Align::Left),
    ("METHOD", Align::Left),
    ("PATH", Align::Left),
];

const RECENT_COLUMNS: [(&str, Align); 8] = [
    ("AGO", Align::Right),
    ("STATUS", Align::Right),
    ("TOTAL ms", Align::Right),
    ("APP ms", Align::Right),
    ("BODY", Align::Right),
    ("WORKER", Align::Right),
    ("METHOD", Align::Left),
    ("PATH", Align::Left),
];

/// Most requests of the table, the oldest ones.
const ROWS_MAX: usize = 200;

/// Writes the table of running requests.
pub(crate) fn table(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let running = &view.snapshot.requests;
    if running.is_empty() {
        return writeln!(out, "no request is running in the application");
    }
    let rows: Vec<_> = running.iter().take(ROWS_MAX).map(row).collect();
    table::write(out, COLUMNS, &rows, view.colours)?;
    match running.len().saturating_sub(ROWS_MAX) {
        0 => Ok(()),
        more => writeln!(out, "and {more} younger ones; `--json` has all of them"),
    }
}

fn row(running: &Running) -> [Cell; COLUMNS.len()] {
    let request = &running.request;
    let left = match running.left_s() {
        None => "-".into(),
        Some(left) if left < 0.0 => Cell::inked(format!("-{}", span(-left)), Ink::Bad),
        Some(left) => span(left).into(),
    };
    [
        span(running.age_s).into(),
        running.phase.clone().into(),
        running.pid.to_string().into(),
        request.tid.to_string().into(),
        left,
        printable(if request.client.is_empty() { "-" } else { &request.client }).into(),
        printable(&request.method).into(),
        printable(&request.path).into(),
    ]
}

/// Writes the JSON document of running requests.
pub(crate) fn json(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let requests = view.snapshot.requests.iter().map(|running| RequestJson {
        id: running.number,
        request_id: &running.request.id,
        worker_pid: running.pid,
        tid: running.request.tid,
        phase: &running.phase,
        age_s: running.age_s,
        deadline_left_s: running.left_s(),
        client: &running.request.client,
        method: &running.request.method,
        path: &running.request.path,
        route: running.request.route.as_deref(),
        bytes_sent: running.bytes_sent,
    });
    let document =
        Document { schema: 1, server: ServerJson::of(view.snapshot), requests: requests.collect() };
    write_json(&document, out)
}

/// Writes the table of the last finished requests.
pub(crate) fn recent_table(view: &View<'_>, limit: usize, out: &mut dyn Write) -> io::Result<()> {
    let recent = &view.snapshot.recent;
    if recent.is_empty() {
        return writeln!(out, "no request has finished yet");
    }
    let rows: Vec<_> = recent.iter().take(limit).map(recent_row).collect();
    table::write(out, RECENT_COLUMNS, &rows, view.colours)
}

fn recent_row(finished: &Finished) -> [Cell; RECENT_COLUMNS.len()] {
    let ink = match finished.status {
        500.. => Ink::Bad,
        400.. => Ink::Warn,
        _ => Ink::Plain,
    };
    [
        span(finished.ago_s).into(),
        Cell::inked(finished.status.to_string(), ink),
        millis(Some(finished.total_us)).into(),
        millis(Some(finished.app_us)).into(),
        bytes(finished.bytes).into(),
        finished.pid.to_string().into(),
        printable(&finished.method).into(),
        printable(&finished.path).into(),
    ]
}

/// Writes the JSON document of the last finished requests.
pub(crate) fn recent_json(view: &View<'_>, limit: usize, out: &mut dyn Write) -> io::Result<()> {
    let recent = view.snapshot.recent.iter().take(limit).map(|finished| RecentJson {
        id: finished.number,
        request_id: &finished.id,
        worker_pid: finished.pid,
        status: finished.status,
        ago_s: finished.ago_s,
        total_ms: finished.total_us as f64 / 1e3,
        app_ms: finished.app_us as f64 / 1e3,
        bytes: finished.bytes,
        method: &finished.method,
        path: &finished.path,
    });
    let document =
        RecentDocument { schema: 1, server: ServerJson::of(view.snapshot), recent: recent.collect() };
    write_json(&document, out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    server: ServerJson,
    requests: Vec<RequestJson<'a>>,
}

#[derive(Serialize)]
struct RequestJson<'a> {
    id: u64,
    request_id: &'a str,
    worker_pid: u32,
    tid: u32,
    phase: &'a str,
    age_s: f64,
    deadline_left_s: Option<f64>,
    client: &'a str,
    method: &'a str,
    path: &'a str,
    route: Option<&'a str>,
    bytes_sent: u64,
}

#[derive(Serialize)]
struct RecentDocument<'a> {
    schema: u32,
    server: ServerJson,
    recent: Vec<RecentJson<'a>>,
}

#[derive(Serialize)]
struct RecentJson<'a> {
    id: u64,
    request_id: &'a str,
    worker_pid: u32,
    status: u32,
    ago_s: f64,
    total_ms: f64,
    app_ms: f64,
    bytes: u64,
    method: &'a str,
    path: &'a str,
}
