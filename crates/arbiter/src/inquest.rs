//! What a dead worker leaves behind: what it was at, read before its place in the scoreboard is taken again, and whether
//! the kernel has killed for want of memory. Not for: the words (`core::fleet::Cause`) and answers to its clients (its
//! guardian).

use ferricorn_core::event::{Died, Event, REQUESTS_MAX};
use ferricorn_core::fleet::{By, Cause, ExitStatus};
use ferricorn_core::latency::{Class, Key};
use ferricorn_core::record::{Request, Worker};
use ferricorn_core::route::Paths;
use ferricorn_core::scoreboard::{Exit, InFlightView, Scoreboard, WorkerSlot};
use ferricorn_sys::cgroup::Kills;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// Most requests that the log line names.
const NAMED_MAX: usize = 4;
/// How often kills for want of memory are counted.
const COUNT_NS: u64 = 1_000_000_000;
/// Most deaths that wait for their explanation.
const DEAD_MAX: usize = 64;

/// Deaths that have been noticed and not been explained yet.
#[derive(Debug)]
pub(crate) struct Inquest {
    kills: Kills,
    /// When they were counted last.
    taken_ns: u64,
    dead: BTreeMap<i32, (Worker, Vec<Request>)>,
}

impl Inquest {
    pub(crate) fn new() -> Self {
        Self { kills: Kills::of(std::process::id()), taken_ns: 0, dead: BTreeMap::new() }
    }

    /// Counts kills for want of memory, once a second while nobody waits for an explanation.
    pub(crate) fn count(&mut self, now_ns: u64) {
        if self.dead.is_empty() && now_ns.saturating_sub(self.taken_ns) >= COUNT_NS {
            self.taken_ns = now_ns;
            self.kills.take();
        }
    }

    /// Remembers what a worker that was just reaped has left in its place, and counts the requests that are lost with it.
    pub(crate) fn open(&mut self, slot: &WorkerSlot, pid: i32, now_ns: u64) {
        let worker = Worker::of(slot, now_ns);
        let uncounted = slot.requests().filter(|view| !view.counted);
        uncounted.for_each(|view| count_lost(slot, &view, now_ns));
        // Those that were late had their answer already.
        let is_owed = |view: &InFlightView| view.deadline_ns == 0 || now_ns < view.deadline_ns;
        let owed: Vec<InFlightView> = slot.requests().filter(is_owed).collect();
        let requests = owed.iter().take(REQUESTS_MAX);
        let requests = requests.map(|view| Request::of(pid.unsigned_abs(), view, now_ns)).collect();
        // Whom nobody asks about was told to go.
        if self.dead.len() >= DEAD_MAX {
            self.dead.clear();
        }
        self.dead.insert(pid, (worker, requests));
    }

    /// Counts and explains a death; nothing where there is nothing to explain.
    pub(crate) fn close(
        &mut self,
        board: &Scoreboard,
        pid: i32,
        status: ExitStatus,
        by: By,
    ) -> Option<Explained> {
        // It was told to go by somebody else, and had finished.
        if status == ExitStatus::Code(0)
            && self.dead.get(&pid).is_some_and(|(_, requests)| requests.is_empty())
        {
            return None;
        }
        let (worker, requests) = self.dead.remove(&pid)?;
        let out_of_memory = if status == ExitStatus::Signal(9) { self.kills.have_moved() } else { None };
        if out_of_memory == Some(true) {
            self.kills.told();
        }
        let cause = Cause { status, by, out_of_memory };
        let exit = cause.exit();
        count_exit(board, exit);
        let cause = cause.to_string();
        let line = format!("Worker (pid:{pid}) has died: {cause}. {}", cost(&requests));
        Some(Explained { line, event: Event::Died(Died { worker, cause, exit, requests }) })
    }

    /// Counts the end of a worker that needed no explanation.
    pub(crate) fn let_go(&mut self, board: &Scoreboard, pid: i32) {
        if self.dead.remove(&pid).is_some() {
            count_exit(board, Exit::Planned);
        }
    }
}

/// A death explained: the line for the log, and what the observer is told.
pub(crate) struct Explained {
    pub(crate) line: String,
    pub(crate) event: Event,
}

fn count_exit(board: &Scoreboard, exit: Exit) {
    // The arbiter is the only one that writes them.
    let count = &board.exits[exit as usize];
    count.store(count.load(Relaxed) + 1, Relaxed);
}

/// Counts a request that is lost with its worker, at its age. The worker has ended, so nobody else writes there.
fn count_lost(slot: &WorkerSlot, view: &InFlightView, now_ns: u64) {
    let route = Paths::default().route(&view.path);
    let key = Key { route, named: false, method: view.method.clone(), class: Class::Lost };
    let us = |from_ns: u64, to_ns: u64| to_ns.saturating_sub(from_ns) / 1000;
    slot.routes.record(slot.routes.claim(&key), us(view.complete_ns, view.app_ns), us(view.app_ns, now_ns));
}

/// Names the requests that a death has cost.
fn cost(requests: &[Request]) -> String {
    let named: Vec<String> = requests
        .iter()
        .take(NAMED_MAX)
        .map(|request| format!("{} {} (request {})", request.method, request.path, request.id))
        .collect();
    match requests.len() {
        0 => "It was at no request".to_owned(),
        count if count > named.len() => {
            format!("It was at {}, and {} more", named.join(", "), count - named.len())
        }
        _ => format!("It was at {}", named.join(", ")),
    }
}
