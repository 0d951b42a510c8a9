//! A server at one moment, as plain data: what every viewer reads (tables, the TUI, metrics, JSON), so that a number is computed
//! in one place. [`read`] makes it of our own server's scoreboard; the observer of a stock Gunicorn makes the same of what
//! it sees. The JSON is public (docs/ferricornctl.md): add fields, never change one.
//!
//! Not for: rendering (`cli`), mapping the memory (`sys`), and what it means ([`crate::diagnosis`]).

use crate::histogram::Distribution;
use crate::latency::{Key, Phases};
use crate::life::Life;
use crate::offload::Counted;
use crate::record::{Request, request_id};
use crate::route;
use crate::scoreboard::{
    Exit, FlightView, InFlight, InFlightView, MAGIC, Phase, Scoreboard, State, VERSION, WorkerSlot,
};
use crate::totals::Totals;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

/// Shape of the JSON; changes if a field ever changes its meaning.
pub const SCHEMA: u32 = 1;
/// A worker whose loop has made no progress for so long gives no sign of life: several of its heartbeats.
pub(crate) const SILENT_S: f64 = 3.0;

/// Which server it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ours.
    #[default]
    Ferricorn,
    /// A stock Gunicorn, seen from outside.
    Gunicorn,
}

impl Kind {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ferricorn => "ferricorn",
            Self::Gunicorn => "gunicorn",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A server at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Which server it is.
    pub kind: Kind,
    /// When, seconds since 1970, UTC.
    pub at_s: f64,
    /// Pid of the arbiter.
    pub arbiter_pid: u32,
    /// `proc_name`.
    pub name: String,
    /// The server's version.
    pub version: String,
    /// `worker_class`.
    pub worker_class: String,
    /// `threads` of each worker.
    pub threads: u32,
    /// `timeout`, seconds; none without one.
    pub timeout_s: Option<f64>,
    /// Seconds since the arbiter started.
    pub uptime_s: f64,
    /// Workers wanted.
    pub workers_target: u32,
    /// Reload number.
    pub generation: u32,
    /// Workers that exist, oldest first.
    pub workers: Vec<Worker>,
    /// Requests in the application, oldest first.
    pub requests: Vec<Running>,
    /// Requests that have finished, newest first; only as many as the server remembers.
    #[serde(skip)]
    pub recent: Vec<Finished>,
    /// Durations per route, method and kind of answer, since the arbiter started.
    pub routes: Vec<Route>,
    /// Workers that have ended, by why.
    pub exits: BTreeMap<Exit, u64>,
    /// What all workers have counted since the arbiter started, those that have ended too.
    #[serde(default)]
    pub totals: Totals,
    /// Connections that wait to be accepted, on all listeners; none where that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backlog: Option<Backlog>,
    /// What is worked on later; none where nothing is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub jobs: Option<Counted>,
    /// What the server itself reports by statsd; none where nobody listens to that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reported: Option<Reported>,
    /// What could not be seen of the server, and how it could be.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gaps: Vec<String>,
    /// Durations are estimates, since the server logs none: the time in the listener's queue counts as the application's, and
    /// what ends within a second as nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub estimated: bool,
}

/// Connections that no worker has accepted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Backlog {
    /// How many.
    pub waiting: u32,
    /// How many there can be on the listener that is fullest.
    pub room: u32,
    /// For how long the first request among them has waited, seconds.
    pub waiting_s: f64,
}

/// What a stock Gunicorn reports by statsd, since somebody listens: no routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// Requests completed.
    pub requests: u64,
    /// Their durations. Who was killed is not among them.
    pub durations: Distribution,
    /// How many were answered with each status.
    pub statuses: BTreeMap<u16, u64>,
    /// Lines of its error log, by level.
    pub log: BTreeMap<String, u64>,
    /// Workers.
    pub workers: Option<u32>,
}

/// The durations of one route, method and kind of answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Which.
    #[serde(flatten)]
    pub key: Key,
    /// Their durations.
    #[serde(flatten)]
    pub phases: Phases,
}

/// A worker at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its pid.
    pub pid: u32,
    /// Spawn number.
    pub age: u32,
    /// Reload it belongs to.
    pub generation: u32,
    /// Its state, as its arbiter knows it.
    pub state: State,
    /// What it is doing with its life.
    pub life: Life,
    /// Seconds since it was forked.
    pub uptime_s: f64,
    /// Seconds from fork to ready; `None` while booting.
    pub boot_s: Option<f64>,
    /// Seconds since its loop made progress; `None` while booting.
    pub beat_age_s: Option<f64>,
    /// App threads, and those free.
    pub threads: u32,
    /// App threads that wait for work.
    pub threads_free: u32,
    /// Requests waiting for an app thread.
    pub queued: u32,
    /// Open client connections.
    pub connections: u32,
    /// Whether the loop is held by a thread of ours because Python is slow.
    pub taken_over: bool,
    /// Requests completed.
    pub requests: u64,
    /// Responses by class 1xx to 5xx.
    pub statuses: [u64; 5],
    /// Requests refused before the application.
    pub refused: u64,
    /// Requests refused for want of room.
    pub shed: u64,
    /// Requests answered 504 at their deadline, or cut.
    pub timed_out: u64,
    /// Bytes of responses.
    pub bytes_sent: u64,
    /// Times the loop was taken over.
    pub takeovers: u64,
    /// Connections given to siblings.
    pub handed_over: u64,
    /// Connections taken from siblings.
    pub taken_in: u64,
    /// Durations per phase, indexed by [`crate::scoreboard::Timed`].
    pub timed: Vec<Distribution>,
}

/// The share of its time after which a request whose worker is killed has to be helped.
const KILL_SHARE: f64 = 0.95;
/// That is so long before the kill at least, seconds: a busy machine needs a moment to look, to ask a database and to cancel.
const KILL_S: f64 = 0.5;
/// And not earlier than after this share.
const KILL_SHARE_MIN: f64 = 0.8;

/// A request in the application.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Pid of its worker.
    pub pid: u32,
    /// Its number in its worker.
    pub number: u64,
    /// `app`, `write` (its thread sends the response), `read` (its client has not sent all of it) or `websocket`.
    pub phase: String,
    /// Seconds since its first byte.
    pub age_s: f64,
    /// Descriptor of its client's connection.
    pub fd: i32,
    /// Python's number of its thread; 0 where that is not known.
    pub ident: u64,
    /// Bytes of the response that its thread has written.
    pub bytes_sent: u64,
    /// Nobody ends it at its deadline, which only says how long is too long: a stock Gunicorn's classes other than `sync`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unenforced: bool,
    /// Its worker is killed at its deadline: a stock Gunicorn's class `sync`.
    #[serde(skip)]
    pub kills_worker: bool,
    /// Seconds in the application after which it is slow for its route; none where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slow_s: Option<f64>,
    /// The request.
    #[serde(flatten)]
    pub request: Request,
}

impl Running {
    /// Returns the share of its time that is over, 1 at the deadline; none without a deadline.
    pub fn share(&self) -> Option<f64> {
        let deadline_s = self.request.deadline_s.filter(|deadline_s| *deadline_s > 0.0)?;
        Some(self.request.app_s / deadline_s)
    }

    /// The same, none if nothing happens to it at its deadline.
    pub fn enforced_share(&self) -> Option<f64> {
        self.share().filter(|_| !self.unenforced)
    }

    /// Returns by when it has to be helped, in seconds in the application: at its deadline, or a moment before its worker is killed,
    /// so that what ends there still reaches its client. None if nothing happens to it.
    pub fn help_by_s(&self) -> Option<f64> {
        let deadline_s =
            self.request.deadline_s.filter(|deadline_s| !self.unenforced && *deadline_s > 0.0)?;
        if !self.kills_worker {
            return Some(deadline_s);
        }
        let before_s = (deadline_s * KILL_SHARE).min(deadline_s - KILL_S);
        Some(before_s.max(deadline_s * KILL_SHARE_MIN))
    }

    /// Returns the seconds until its deadline, negative after it; none without one.
    pub fn left_s(&self) -> Option<f64> {
        self.request.deadline_s.map(|deadline_s| deadline_s - self.request.app_s)
    }

    /// Returns what the scoreboard says of a request of the worker with this pid.
    pub fn of(pid: u32, view: &InFlightView, now_ns: u64) -> Self {
        Self {
            pid,
            number: view.id,
            phase: phase(view.phase).to_owned(),
            age_s: seconds(view.start_ns, now_ns),
            fd: view.fd.cast_signed(),
            ident: view.ident,
            bytes_sent: view.bytes_sent,
            unenforced: false,
            kills_worker: false,
            slow_s: None,
            request: Request::of(pid, view, now_ns),
        }
    }
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

/// A request that has finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Pid of its worker.
    pub pid: u32,
    /// Its number in its worker.
    pub number: u64,
    /// The number by which logs and pages know it.
    pub id: String,
    /// Status answered.
    pub status: u32,
    /// Seconds since its first byte.
    pub ago_s: f64,
    /// First byte to end of the application, microseconds.
    pub total_us: u64,
    /// Time in the application, microseconds.
    pub app_us: u64,
    /// Bytes of the response body.
    pub bytes: u64,
    /// Request method.
    pub method: String,
    /// Path.
    pub path: String,
}

/// Why a piece of memory is not a scoreboard that this version reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The first word is another.
    NotAScoreboard,
    /// Written by another version, whose layout number is given.
    Version(u32),
}

/// Reads the scoreboard. `now_ns` is `CLOCK_MONOTONIC`, `at_s` the same moment in seconds since 1970.
///
/// # Errors
/// It is none, or another version's.
pub fn read(board: &Scoreboard, now_ns: u64, at_s: f64) -> Result<Snapshot, Unreadable> {
    let mut snapshot = read_workers(board, now_ns, at_s)?;
    let living = || board.used().iter().filter(|slot| slot.state() != State::Free);
    snapshot.requests = living().flat_map(|slot| running(slot, now_ns)).collect();
    snapshot.requests.sort_by(|one, other| other.age_s.total_cmp(&one.age_s));
    snapshot.recent = living().flat_map(|slot| finished(slot, now_ns)).collect();
    snapshot.recent.sort_by(|one, other| one.end_ago_s().total_cmp(&other.end_ago_s()));
    snapshot.routes = routes(board.used().iter().flat_map(|slot| slot.routes.read()));
    Ok(snapshot)
}

/// Reads of it what costs little: server and workers, without requests and routes.
///
/// # Errors
/// As [`read`].
pub fn read_workers(board: &Scoreboard, now_ns: u64, at_s: f64) -> Result<Snapshot, Unreadable> {
    if board.magic.load(Relaxed) != MAGIC {
        return Err(Unreadable::NotAScoreboard);
    }
    match board.version.load(Relaxed) {
        VERSION => {}
        other => return Err(Unreadable::Version(other)),
    }
    let timeout_ns = board.timeout_ns.load(Relaxed);
    let living = board.used().iter().filter(|slot| slot.state() != State::Free);
    let mut workers: Vec<Worker> = living.map(|slot| worker(slot, now_ns)).collect();
    workers.sort_by_key(|worker| worker.age);
    let exits = Exit::ALL.into_iter().map(|exit| (exit, board.exits[exit as usize].load(Relaxed)));
    Ok(Snapshot {
        schema: SCHEMA,
        kind: Kind::Ferricorn,
        at_s,
        arbiter_pid: board.arbiter_pid.load(Relaxed),
        name: board.name.load(),
        version: board.release.load(),
        worker_class: board.worker_class.load(),
        threads: board.threads.load(Relaxed),
        timeout_s: (timeout_ns > 0).then(|| seconds(0, timeout_ns)),
        uptime_s: seconds(board.started_ns.load(Relaxed), now_ns),
        workers_target: board.workers_target.load(Relaxed),
        generation: board.generation.load(Relaxed),
        workers,
        exits: exits.filter(|(_, count)| *count > 0).collect(),
        totals: board.used().iter().map(WorkerSlot::counted_ever).sum(),
        jobs: board.jobs.read(at_s),
        ..Snapshot::default()
    })
}

/// Adds up the numbers of workers by route. What a request's path alone was known of, since it never came to its end, belongs
/// to the framework's route that its path fits, if there is one.
pub fn routes(numbers: impl Iterator<Item = (Key, Phases)>) -> Vec<Route> {
    let mut sums: BTreeMap<Key, Phases> = BTreeMap::new();
    for (key, phases) in numbers {
        sums.entry(key).or_default().merge(&phases);
    }
    let named: Vec<String> = sums.keys().filter(|key| key.named).map(|key| key.route.clone()).collect();
    let mut merged: BTreeMap<Key, Phases> = BTreeMap::new();
    for (mut key, phases) in sums {
        if !key.named {
            let fitting = named.iter().filter(|pattern| route::fits(pattern, &key.route));
            if let Some(pattern) = fitting.max_by_key(|pattern| route::closeness(pattern)) {
                key = Key { route: pattern.clone(), named: true, ..key };
            }
        }
        merged.entry(key).or_default().merge(&phases);
    }
    merged.into_iter().map(|(key, phases)| Route { key, phases }).collect()
}

fn running(slot: &WorkerSlot, now_ns: u64) -> Vec<Running> {
    let pid = slot.pid.load(Relaxed);
    slot.requests().map(|view| Running::of(pid, &view, now_ns)).collect()
}

fn worker(slot: &WorkerSlot, now_ns: u64) -> Worker {
    let spawned_ns = slot.spawned_ns.load(Relaxed);
    let since = |ns: u64| (ns != 0).then(|| seconds(ns, now_ns));
    let ready_ns = slot.ready_ns.load(Relaxed);
    let pid = slot.pid.load(Relaxed);
    let counted = slot.counted();
    let mut worker = Worker {
        pid,
        age: slot.age.load(Relaxed),
        generation: slot.generation.load(Relaxed),
        state: slot.state(),
        life: Life::Booting,
        uptime_s: seconds(spawned_ns, now_ns),
        boot_s: (ready_ns != 0).then(|| seconds(spawned_ns, ready_ns)),
        beat_age_s: since(slot.beat_ns.load(Relaxed)),
        threads: slot.threads.load(Relaxed),
        threads_free: slot.threads_free.load(Relaxed),
        queued: slot.queued.load(Relaxed),
        connections: slot.connections.load(Relaxed),
        taken_over: slot.taken_over.load(Relaxed) != 0,
        requests: counted.requests,
        statuses: counted.statuses,
        refused: counted.refused,
        shed: counted.shed,
        timed_out: counted.timed_out,
        bytes_sent: counted.bytes_sent,
        takeovers: counted.takeovers,
        handed_over: counted.handed_over,
        taken_in: counted.taken_in,
        timed: slot.timed.iter().map(|histogram| histogram.read()).collect(),
    };
    worker.life = life(&worker, slot, now_ns);
    worker
}

/// Returns what a worker is doing with its life.
fn life(worker: &Worker, slot: &WorkerSlot, now_ns: u64) -> Life {
    let busy = slot.used_records().iter().any(InFlight::is_busy);
    let late = busy && slot.used_records().iter().any(|record| record.is_late(now_ns));
    let condemned = slot.retiring.load(Relaxed) != 0;
    let silent = worker.beat_age_s.is_some_and(|age_s| age_s > SILENT_S);
    match worker.state {
        State::Booting | State::Free => Life::Booting,
        _ if condemned => Life::Condemned,
        _ if late || silent => Life::Stuck,
        State::Draining => Life::Draining,
        State::Ready if busy => Life::Busy,
        State::Ready => Life::Ready,
    }
}

fn finished(slot: &WorkerSlot, now_ns: u64) -> Vec<Finished> {
    let pid = slot.pid.load(Relaxed);
    let of = |flight: FlightView| Finished {
        pid,
        number: flight.id,
        id: request_id(pid, flight.id),
        status: flight.status,
        ago_s: seconds(flight.start_ns, now_ns),
        total_us: flight.total_us,
        app_us: flight.app_us,
        bytes: flight.bytes,
        method: flight.method,
        path: flight.path,
    };
    slot.flights.iter().filter_map(|flight| flight.read()).map(of).collect()
}

impl Finished {
    fn end_ago_s(&self) -> f64 {
        self.ago_s - self.total_us as f64 / 1e6
    }
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Class;

    #[test]
    fn what_was_lost_belongs_to_the_route_its_path_fits() {
        let key = |route: &str, named, class| Key {
            route: route.to_owned(),
            named,
            method: "GET".to_owned(),
            class,
        };
        let one = |us| {
            let mut phases = Phases::default();
            phases.app.add(us);
            phases
        };
        let numbers = vec![
            (key("/reports/<int:number>", true, Class::Success), one(10)),
            (key("/reports/<name>", true, Class::Success), one(10)),
            (key("/reports/new", true, Class::Success), one(10)),
            (key("/reports/:id", false, Class::Lost), one(30_000_000)),
            (key("/reports/new", false, Class::Lost), one(30_000_000)),
            (key("/reports/<int:number>", true, Class::Success), one(20)),
            (key("/else/:id", false, Class::Lost), one(30_000_000)),
        ];
        let routes = routes(numbers.into_iter());
        let told: Vec<(&str, bool, Class, u64)> = routes
            .iter()
            .map(|route| (route.key.route.as_str(), route.key.named, route.key.class, route.phases.app.count))
            .collect();
        assert_eq!(
            told,
            [
                ("/else/:id", false, Class::Lost, 1),
                ("/reports/<int:number>", true, Class::Success, 2),
                ("/reports/<name>", true, Class::Success, 1),
                ("/reports/<name>", true, Class::Lost, 1),
                ("/reports/new", true, Class::Success, 1),
                ("/reports/new", true, Class::Lost, 1),
            ]
        );
    }

    #[test]
    fn a_snapshot_travels_as_json() {
        let snapshot = Snapshot {
            schema: SCHEMA,
            workers: vec![Worker { pid: 7, timed: vec![Distribution::default()], ..Worker::default() }],
            requests: vec![Running { pid: 7, ..Running::default() }],
            routes: routes(
                [(
                    Key { route: "/".into(), named: false, method: "GET".into(), class: Class::Lost },
                    Phases::default(),
                )]
                .into_iter(),
            ),
            exits: [(Exit::OutOfMemory, 2)].into(),
            ..Snapshot::default()
        };
        let text = serde_json::to_string(&snapshot).expect("JSON");
        assert_eq!(serde_json::from_str::<Snapshot>(&text).expect("read"), snapshot);
        assert!(
            text.contains(r#""exits":{"out_of_memory":2}"#) && text.contains(r#""class":"lost""#),
            "{text}"
        );
    }
}
