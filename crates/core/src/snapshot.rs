//! The scoreboard as plain data: what every viewer reads, so that a number is computed in one place.
//! Not for: rendering (see `cli`) and not for mapping the memory (see `sys`).

use crate::histogram::Distribution;
use crate::scoreboard::{FlightView, InFlightView, MAGIC, Scoreboard, State, VERSION, WorkerSlot};
use std::sync::atomic::Ordering::Relaxed;

/// A server at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Pid of the arbiter.
    pub arbiter_pid: u32,
    /// Seconds since the arbiter started.
    pub uptime_s: f64,
    /// Workers wanted.
    pub workers_target: u32,
    /// Reload number.
    pub generation: u32,
    /// Workers that exist, oldest first.
    pub workers: Vec<Worker>,
}

/// A worker at one moment.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its pid.
    pub pid: u32,
    /// Spawn number.
    pub age: u32,
    /// Reload it belongs to.
    pub generation: u32,
    /// Its state.
    pub state: State,
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
    /// Requests in flight, each with its age in seconds.
    pub in_flight: Vec<(InFlightView, f64)>,
    /// Last requests, newest first.
    pub flights: Vec<FlightView>,
}

/// Why a piece of memory is not a scoreboard that this version reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The first word is another.
    NotAScoreboard,
    /// Written by another version, whose layout number is given.
    Version(u32),
}

/// Reads the scoreboard. `now_ns` is `CLOCK_MONOTONIC`.
pub fn read(board: &Scoreboard, now_ns: u64) -> Result<Snapshot, Unreadable> {
    if board.magic.load(Relaxed) != MAGIC {
        return Err(Unreadable::NotAScoreboard);
    }
    match board.version.load(Relaxed) {
        VERSION => {}
        other => return Err(Unreadable::Version(other)),
    }
    let mut workers: Vec<Worker> = board
        .used()
        .iter()
        .filter(|slot| slot.state() != State::Free)
        .map(|slot| worker(slot, now_ns))
        .collect();
    workers.sort_by_key(|worker| worker.age);
    Ok(Snapshot {
        arbiter_pid: board.arbiter_pid.load(Relaxed),
        uptime_s: seconds(board.started_ns.load(Relaxed), now_ns),
        workers_target: board.workers_target.load(Relaxed),
        generation: board.generation.load(Relaxed),
        workers,
    })
}

fn worker(slot: &WorkerSlot, now_ns: u64) -> Worker {
    let spawned_ns = slot.spawned_ns.load(Relaxed);
    let since = |ns: u64| (ns != 0).then(|| seconds(ns, now_ns));
    let ready_ns = slot.ready_ns.load(Relaxed);
    let mut flights: Vec<FlightView> = slot.flights.iter().filter_map(|flight| flight.read()).collect();
    flights.sort_by_key(|flight| std::cmp::Reverse(flight.id));
    Worker {
        pid: slot.pid.load(Relaxed),
        age: slot.age.load(Relaxed),
        generation: slot.generation.load(Relaxed),
        state: slot.state(),
        uptime_s: seconds(spawned_ns, now_ns),
        boot_s: (ready_ns != 0).then(|| seconds(spawned_ns, ready_ns)),
        beat_age_s: since(slot.beat_ns.load(Relaxed)),
        threads: slot.threads.load(Relaxed),
        threads_free: slot.threads_free.load(Relaxed),
        queued: slot.queued.load(Relaxed),
        connections: slot.connections.load(Relaxed),
        taken_over: slot.taken_over.load(Relaxed) != 0,
        requests: slot.requests.load(Relaxed),
        statuses: std::array::from_fn(|class| slot.statuses[class].load(Relaxed)),
        refused: slot.refused.load(Relaxed),
        shed: slot.shed.load(Relaxed),
        timed_out: slot.timed_out.load(Relaxed),
        bytes_sent: slot.bytes_sent.load(Relaxed),
        takeovers: slot.takeovers.load(Relaxed),
        handed_over: slot.handed_over.load(Relaxed),
        taken_in: slot.taken_in.load(Relaxed),
        timed: slot.timed.iter().map(|histogram| histogram.read()).collect(),
        in_flight: slot
            .requests()
            .map(|view| {
                let age = seconds(view.start_ns, now_ns);
                (view, age)
            })
            .collect(),
        flights,
    }
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}
