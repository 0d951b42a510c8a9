//! `ferricornctl requests`: what is running now, and the flight recorder (`--recent`).
//! The JSON's shape is public and written down in `docs/ferricornctl.md`: add fields, never change one.
//! Not for: requests that wait for a thread; `workers` counts those.

use crate::run::View;
use crate::table::{self, Align, Cell, Ink};
use crate::units::{bytes, millis, printable, span};
use crate::workers::{ServerJson, write_json};
use ferricorn_core::scoreboard::{FlightView, InFlightView, Phase};
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

/// A request in flight with the pid of its worker and its age in seconds.
struct Running<'a> {
    worker_pid: u32,
    age_s: f64,
    request: &'a InFlightView,
}

fn running<'a>(view: &View<'a>) -> Vec<Running<'a>> {
    let workers = view.snapshot.workers.iter();
    let mut running: Vec<_> = workers
        .flat_map(|worker| {
            let requests = worker.in_flight.iter();
            requests.map(|(request, age_s)| Running { worker_pid: worker.pid, age_s: *age_s, request })
        })
        .collect();
    running.sort_by(|a, b| b.age_s.total_cmp(&a.age_s));
    running
}

/// Writes the table of running requests.
pub(crate) fn table(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let running = running(view);
    if running.is_empty() {
        return writeln!(out, "no request is running in the application");
    }
    let rows: Vec<_> = running.iter().take(ROWS_MAX).map(|running| row(running, view.now_ns)).collect();
    table::write(out, COLUMNS, &rows, view.colours)?;
    match running.len().saturating_sub(ROWS_MAX) {
        0 => Ok(()),
        more => writeln!(out, "and {more} younger ones; `--json` has all of them"),
    }
}

fn row(running: &Running<'_>, now_ns: u64) -> [Cell; COLUMNS.len()] {
    let request = running.request;
    let left = match left_s(request, now_ns) {
        None => "-".into(),
        Some(left) if left < 0.0 => Cell::inked(format!("-{}", span(-left)), Ink::Bad),
        Some(left) => span(left).into(),
    };
    [
        span(running.age_s).into(),
        phase(request.phase).into(),
        running.worker_pid.to_string().into(),
        request.tid.to_string().into(),
        left,
        printable(if request.client.is_empty() { "-" } else { &request.client }).into(),
        printable(&request.method).into(),
        printable(&request.path).into(),
    ]
}

/// Seconds until the deadline, negative after it; nothing where there is none.
fn left_s(request: &InFlightView, now_ns: u64) -> Option<f64> {
    (request.deadline_ns != 0).then(|| (request.deadline_ns as f64 - now_ns as f64) / 1e9)
}

fn phase(number: u32) -> &'static str {
    const APP: u32 = Phase::App as u32;
    const WRITE: u32 = Phase::Write as u32;
    const WEBSOCKET: u32 = Phase::WebSocket as u32;
    match number {
        APP => "app",
        WRITE => "write",
        WEBSOCKET => "websocket",
        _ => "other",
    }
}

/// Writes the JSON document of running requests.
pub(crate) fn json(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let requests = running(view).into_iter().map(|running| {
        let request = running.request;
        RequestJson {
            id: request.id,
            worker_pid: running.worker_pid,
            tid: request.tid,
            phase: phase(request.phase),
            age_s: running.age_s,
            deadline_left_s: left_s(request, view.now_ns),
            client: &request.client,
            method: &request.method,
            path: &request.path,
            bytes_sent: request.bytes_sent,
        }
    });
    let document =
        Document { schema: 1, server: ServerJson::of(view.snapshot), requests: requests.collect() };
    write_json(&document, out)
}

fn recent<'a>(view: &View<'a>, limit: usize) -> Vec<(u32, &'a FlightView)> {
    let workers = view.snapshot.workers.iter();
    let mut recent: Vec<_> =
        workers.flat_map(|worker| worker.flights.iter().map(|flight| (worker.pid, flight))).collect();
    recent.sort_by_key(|(_, flight)| std::cmp::Reverse(flight.start_ns + flight.total_us * 1000));
    recent.truncate(limit);
    recent
}

fn ago_s(flight: &FlightView, now_ns: u64) -> f64 {
    now_ns.saturating_sub(flight.start_ns) as f64 / 1e9
}

/// Writes the table of the last finished requests.
pub(crate) fn recent_table(view: &View<'_>, limit: usize, out: &mut dyn Write) -> io::Result<()> {
    let recent = recent(view, limit);
    if recent.is_empty() {
        return writeln!(out, "no request has finished yet");
    }
    let rows: Vec<_> = recent.iter().map(|(pid, flight)| recent_row(*pid, flight, view.now_ns)).collect();
    table::write(out, RECENT_COLUMNS, &rows, view.colours)
}

fn recent_row(worker_pid: u32, flight: &FlightView, now_ns: u64) -> [Cell; RECENT_COLUMNS.len()] {
    let ink = match flight.status {
        500.. => Ink::Bad,
        400.. => Ink::Warn,
        _ => Ink::Plain,
    };
    [
        span(ago_s(flight, now_ns)).into(),
        Cell::inked(flight.status.to_string(), ink),
        millis(Some(flight.total_us)).into(),
        millis(Some(flight.app_us)).into(),
        bytes(flight.bytes).into(),
        worker_pid.to_string().into(),
        printable(&flight.method).into(),
        printable(&flight.path).into(),
    ]
}

/// Writes the JSON document of the last finished requests.
pub(crate) fn recent_json(view: &View<'_>, limit: usize, out: &mut dyn Write) -> io::Result<()> {
    let recent = recent(view, limit).into_iter().map(|(worker_pid, flight)| RecentJson {
        id: flight.id,
        worker_pid,
        status: flight.status,
        ago_s: ago_s(flight, view.now_ns),
        total_ms: flight.total_us as f64 / 1e3,
        app_ms: flight.app_us as f64 / 1e3,
        bytes: flight.bytes,
        method: &flight.method,
        path: &flight.path,
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
    worker_pid: u32,
    tid: u32,
    phase: &'static str,
    age_s: f64,
    deadline_left_s: Option<f64>,
    client: &'a str,
    method: &'a str,
    path: &'a str,
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
    worker_pid: u32,
    status: u32,
    ago_s: f64,
    total_ms: f64,
    app_ms: f64,
    bytes: u64,
    method: &'a str,
    path: &'a str,
}
