//! `ferricornctl workers`: one line per worker, and one for the server.
//! The JSON's shape is public and written down in `docs/ferricornctl.md`: add fields, never change one.
//! Not for: what the numbers mean (`core::snapshot`, `core::figures`).

use crate::run::View;
use crate::table::{self, Align, Cell, Ink};
use crate::units::{count, millis, printable, rate, span};
use ferricorn_core::change::Standing;
use ferricorn_core::figures;
use ferricorn_core::histogram::Distribution;
use ferricorn_core::scoreboard::{State, Timed};
use ferricorn_core::snapshot::{Snapshot, Worker};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

const COLUMNS: [(&str, Align); 15] = [
    ("PID", Align::Right),
    ("AGE", Align::Right),
    ("STATE", Align::Left),
    ("UP", Align::Right),
    ("BOOT", Align::Right),
    ("REQUESTS", Align::Right),
    ("REQ/S", Align::Right),
    ("BUSY", Align::Right),
    ("QUEUED", Align::Right),
    ("CONNS", Align::Right),
    ("P50 ms", Align::Right),
    ("P99 ms", Align::Right),
    ("5XX", Align::Right),
    ("TAKEN", Align::Right),
    ("HANDED", Align::Right),
];

/// Writes the table and the summary.
pub(crate) fn table(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = view.snapshot.workers.iter().map(row).collect();
    table::write(out, COLUMNS, &rows, view.colours)?;
    writeln!(out, "{}", summary(view.snapshot))?;
    for finding in view.standing.iter().flat_map(|standing| standing.findings()) {
        writeln!(out, "{}", Ink::Warn.paint(&printable(finding), view.colours))?;
    }
    Ok(())
}

fn row(worker: &Worker) -> [Cell; COLUMNS.len()] {
    let app = figures::timed(worker, Timed::App);
    let errors = figures::server_errors(worker);
    let (state, ink) = state(worker.state);
    let taken = if worker.taken_over { "*" } else { "" };
    [
        worker.pid.to_string().into(),
        worker.age.to_string().into(),
        Cell::inked(state, ink),
        span(worker.uptime_s).into(),
        worker.boot_s.map_or("-".to_owned(), span).into(),
        count(worker.requests).into(),
        figures::requests_per_s(worker).map_or("-".to_owned(), rate).into(),
        Cell::inked(
            format!("{}/{}", worker.threads_busy(), worker.threads),
            if worker.threads > 0 && worker.threads_free == 0 { Ink::Warn } else { Ink::Plain },
        ),
        Cell::inked(count(worker.queued.into()), if worker.queued > 0 { Ink::Warn } else { Ink::Plain }),
        count(worker.connections.into()).into(),
        millis(app.and_then(|app| app.quantile_us(0.50))).into(),
        millis(app.and_then(|app| app.quantile_us(0.99))).into(),
        Cell::inked(count(errors), if errors > 0 { Ink::Bad } else { Ink::Plain }),
        format!("{}{taken}", count(worker.takeovers)).into(),
        count(worker.handed_over).into(),
    ]
}

fn summary(snapshot: &Snapshot) -> String {
    let sums = figures::all_workers(snapshot);
    format!(
        "arbiter {}, up {}: {} of {} workers ready, {} of {} threads busy, {} queued, {} connections; \
         {} requests, {} answered 5xx, {} refused, {} shed, {} timed out",
        snapshot.arbiter_pid,
        span(snapshot.uptime_s),
        sums.workers_ready,
        snapshot.workers_target,
        sums.threads_busy,
        sums.threads,
        count(sums.queued),
        count(sums.connections),
        count(sums.requests),
        count(sums.server_errors),
        count(sums.refused),
        count(sums.shed),
        count(sums.timed_out),
    )
}

fn state(state: State) -> (&'static str, Ink) {
    match state {
        State::Free => ("free", Ink::Plain),
        State::Booting => ("booting", Ink::Warn),
        State::Ready => ("ready", Ink::Good),
        State::Draining => ("draining", Ink::Warn),
    }
}

/// Writes the JSON document.
pub(crate) fn json(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let document = Document {
        schema: 1,
        server: ServerJson::of(view.snapshot),
        workers: view.snapshot.workers.iter().map(|worker| WorkerJson::of(worker, view.standing)).collect(),
        findings: view
            .standing
            .map(|standing| standing.findings().iter().map(|text| (*text).to_owned()).collect()),
    };
    write_json(&document, out)
}

/// Writes a document, indented, with a line end.
pub(crate) fn write_json(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    server: ServerJson,
    workers: Vec<WorkerJson>,
    /// Of the versions that they run; `null` if nobody could be asked.
    findings: Option<Vec<String>>,
}

/// The server, as it stands at the top of every document.
#[derive(Serialize)]
pub(crate) struct ServerJson {
    arbiter_pid: u32,
    uptime_s: f64,
    workers_target: u32,
    generation: u32,
}

impl ServerJson {
    /// Returns the server's part of a snapshot.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self {
            arbiter_pid: snapshot.arbiter_pid,
            uptime_s: snapshot.uptime_s,
            workers_target: snapshot.workers_target,
            generation: snapshot.generation,
        }
    }
}

#[derive(Serialize)]
struct WorkerJson {
    pid: u32,
    age: u32,
    generation: u32,
    state: &'static str,
    /// Of its code; `null` where nobody knows.
    version: Option<String>,
    uptime_s: f64,
    boot_s: Option<f64>,
    beat_age_s: Option<f64>,
    threads: u32,
    threads_busy: u32,
    queued: u32,
    connections: u32,
    taken_over: bool,
    requests: u64,
    requests_per_s: Option<f64>,
    responses: BTreeMap<String, u64>,
    refused: u64,
    shed: u64,
    timed_out: u64,
    bytes_sent: u64,
    takeovers: u64,
    handed_over: u64,
    taken_in: u64,
    phases: BTreeMap<&'static str, PhaseJson>,
}

impl WorkerJson {
    fn of(worker: &Worker, standing: Option<&Standing>) -> Self {
        const PHASES: [(&str, Timed); 5] = [
            ("head", Timed::Head),
            ("body", Timed::Body),
            ("queue", Timed::Queue),
            ("app", Timed::App),
            ("total", Timed::Total),
        ];
        Self {
            pid: worker.pid,
            age: worker.age,
            generation: worker.generation,
            state: state(worker.state).0,
            version: standing.and_then(|standing| standing.versions.get(&worker.pid).cloned()),
            uptime_s: worker.uptime_s,
            boot_s: worker.boot_s,
            beat_age_s: worker.beat_age_s,
            threads: worker.threads,
            threads_busy: worker.threads_busy(),
            queued: worker.queued,
            connections: worker.connections,
            taken_over: worker.taken_over,
            requests: worker.requests,
            requests_per_s: figures::requests_per_s(worker),
            responses: (1..)
                .zip(worker.statuses)
                .map(|(class, number)| (format!("{class}xx"), number))
                .collect(),
            refused: worker.refused,
            shed: worker.shed,
            timed_out: worker.timed_out,
            bytes_sent: worker.bytes_sent,
            takeovers: worker.takeovers,
            handed_over: worker.handed_over,
            taken_in: worker.taken_in,
            phases: PHASES.map(|(name, phase)| (name, PhaseJson::of(figures::timed(worker, phase)))).into(),
        }
    }
}

#[derive(Serialize)]
struct PhaseJson {
    count: u64,
    sum_s: f64,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl PhaseJson {
    fn of(distribution: Option<&Distribution>) -> Self {
        let ms = |q| distribution?.quantile_us(q).map(|us| us as f64 / 1e3);
        Self {
            count: distribution.map_or(0, |distribution| distribution.count),
            sum_s: distribution.map_or(0.0, figures::sum_s),
            p50_ms: ms(0.50),
            p90_ms: ms(0.90),
            p99_ms: ms(0.99),
        }
    }
}
