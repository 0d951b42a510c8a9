//! What a dead worker leaves behind: what it was at, read before its place in the scoreboard is taken again, and whether
//! the kernel has killed for want of memory. Not for: the words (`core::fleet::Cause`) and answers to its clients (its
//! guardian).

use ferricorn_core::event::{Died, Event, REQUESTS_MAX};
use ferricorn_core::fleet::{By, Cause, ExitStatus};
use ferricorn_core::record::{Request, Worker};
use ferricorn_core::scoreboard::{InFlightView, WorkerSlot};
use ferricorn_sys::cgroup::Cgroup;
use std::collections::BTreeMap;
use std::fs;

/// Most requests that the log line names.
const NAMED_MAX: usize = 4;
/// Most deaths that wait for their explanation.
const DEAD_MAX: usize = 64;

/// Deaths that have been noticed and not been explained yet.
#[derive(Debug)]
pub(crate) struct Inquest {
    kills: Kills,
    dead: BTreeMap<i32, (Worker, Vec<Request>)>,
}

impl Inquest {
    pub(crate) fn new() -> Self {
        Self { kills: Kills::new(), dead: BTreeMap::new() }
    }

    /// Remembers what a worker that was just reaped has left in its place.
    pub(crate) fn open(&mut self, slot: &WorkerSlot, pid: i32, now_ns: u64) {
        let worker = Worker::of(slot, now_ns);
        // Those that were late had their answer already.
        let owed = |view: &InFlightView| view.deadline_ns == 0 || now_ns < view.deadline_ns;
        let requests = slot.requests().filter(owed).take(REQUESTS_MAX);
        let requests = requests.map(|view| Request::of(pid.unsigned_abs(), &view, now_ns)).collect();
        // Whom nobody asks about was told to go.
        if self.dead.len() >= DEAD_MAX {
            self.dead.clear();
        }
        self.dead.insert(pid, (worker, requests));
    }

    /// Explains a death: the line for the log, and what the observer is told.
    pub(crate) fn close(&mut self, pid: i32, status: ExitStatus, by: By) -> Option<(String, Event)> {
        let (worker, requests) = self.dead.remove(&pid)?;
        // It was told to go by somebody else, and had finished.
        if status == ExitStatus::Code(0) && requests.is_empty() {
            return None;
        }
        let out_of_memory = if status == ExitStatus::Signal(9) { self.kills.have_moved() } else { None };
        let cause = Cause { status, by, out_of_memory }.to_string();
        let line = format!("Worker (pid:{pid}) has died: {cause}. {}", cost(&requests));
        Some((line, Event::Died(Died { worker, cause, requests })))
    }
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

/// The kernel's count of processes that it has killed for want of memory: of our control group, else of the host.
#[derive(Debug)]
struct Kills {
    group: Option<Cgroup>,
    seen: Option<u64>,
}

impl Kills {
    fn new() -> Self {
        let mut kills = Self { group: Cgroup::of(std::process::id()), seen: None };
        kills.seen = kills.count();
        kills
    }

    fn count(&self) -> Option<u64> {
        let host = || {
            let text = fs::read_to_string("/proc/vmstat").ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        self.group.as_ref().and_then(Cgroup::oom_kills).or_else(host)
    }

    fn have_moved(&mut self) -> Option<bool> {
        let now = self.count();
        let before = std::mem::replace(&mut self.seen, now);
        Some(now? > before?)
    }
}
