//! `ferricornctl workers`: one line per worker, and one for the server.
//! The JSON's shape is public and written down in `docs/ferricornctl.md`: add fields, never change one.
//! Not for: what the numbers mean (`core::snapshot`).

use crate::run::View;
use crate::table::{self, Align, Cell, Ink};
use crate::units::{count, millis, rate, span};
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

/// Index of the 5xx class in [`Worker::statuses`].
const SERVER_ERRORS: usize = 4;

/// Writes the table and the summary.
pub(crate) fn table(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = view.snapshot.workers.iter().map(row).collect();
    table::write(out, COLUMNS, &rows, view.colours)?;
    writeln!(out, "{}", summary(view.snapshot))
}

fn row(worker: &Worker) -> [Cell; COLUMNS.len()] {
    let app = &worker.timed[Timed::App as usize];
    let errors = worker.statuses[SERVER_ERRORS];
    let (state, ink) = state(worker.state);
    let taken = if worker.taken_over { "*" } else { "" };
    [
        worker.pid.to_string().into(),
        worker.age.to_string().into(),
        Cell::inked(state, ink),
        span(worker.uptime_s).into(),
        worker.boot_s.map_or("-".to_owned(), span).into(),
        count(worker.requests).into(),
        requests_per_s(worker).map_or("-".to_owned(), rate).into(),
        Cell::inked(
            format!("{}/{}", threads_busy(worker), worker.threads),
            if worker.threads > 0 && worker.threads_free == 0 { Ink::Warn } else { Ink::Plain },
        ),
        Cell::inked(count(worker.queued.into()), if worker.queued > 0 { Ink::Warn } else { Ink::Plain }),
        count(worker.connections.into()).into(),
        millis(app.quantile_us(0.50)).into(),
        millis(app.quantile_us(0.99)).into(),
        Cell::inked(count(errors), if errors > 0 { Ink::Bad } else { Ink::Plain }),
        format!("{}{taken}", count(worker.takeovers)).into(),
        count(worker.handed_over).into(),
    ]
}

fn summary(snapshot: &Snapshot) -> String {
    let sum = |of: fn(&Worker) -> u64| snapshot.workers.iter().map(of).sum::<u64>();
    let ready = snapshot.workers.iter().filter(|worker| worker.state == State::Ready).count();
    let refused = sum(|worker| worker.refused);
    let shed = sum(|worker| worker.shed);
    let timed_out = sum(|worker| worker.timed_out);
    format!(
        "arbiter {}, up {}: {ready} of {} workers ready, {} of {} threads busy, {} queued, {} connections; \
         {} requests, {} answered 5xx, {} refused, {} shed, {} timed out",
        snapshot.arbiter_pid,
        span(snapshot.uptime_s),
        snapshot.workers_target,
        sum(|worker| threads_busy(worker).into()),
        sum(|worker| worker.threads.into()),
        count(sum(|worker| worker.queued.into())),
        count(sum(|worker| worker.connections.into())),
        count(sum(|worker| worker.requests)),
        count(sum(|worker| worker.statuses[SERVER_ERRORS])),
        count(refused),
        count(shed),
        count(timed_out),
    )
}

fn threads_busy(worker: &Worker) -> u32 {
    worker.threads.saturating_sub(worker.threads_free)
}

/// The average since the worker became ready; nothing in its first second, when it would jump about.
fn requests_per_s(worker: &Worker) -> Option<f64> {
    let serving_s = worker.uptime_s - worker.boot_s?;
    (serving_s >= 1.0).then(|| worker.requests as f64 / serving_s)
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
        workers: view.snapshot.workers.iter().map(WorkerJson::of).collect(),
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
    fn of(worker: &Worker) -> Self {
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
            uptime_s: worker.uptime_s,
            boot_s: worker.boot_s,
            beat_age_s: worker.beat_age_s,
            threads: worker.threads,
            threads_busy: threads_busy(worker),
            queued: worker.queued,
            connections: worker.connections,
            taken_over: worker.taken_over,
            requests: worker.requests,
            requests_per_s: requests_per_s(worker),
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
            phases: PHASES.map(|(name, phase)| (name, PhaseJson::of(&worker.timed[phase as usize]))).into(),
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
    fn of(distribution: &Distribution) -> Self {
        let ms = |q| distribution.quantile_us(q).map(|us| us as f64 / 1e3);
        Self {
            count: distribution.count,
            sum_s: distribution.sum_us as f64 / 1e6,
            p50_ms: ms(0.50),
            p90_ms: ms(0.90),
            p99_ms: ms(0.99),
        }
    }
}
