//! A server at one moment, with what the kernel says of its workers. Not for: what has changed since the last time (`frame`).

use crate::failure::Failure;
use crate::source::Source;
use crate::vitals::{self, Vitals};
use ferricorn_core::change::Standing;
use ferricorn_core::incident::Incident;
use ferricorn_core::snapshot::{Running, Snapshot};
use ferricorn_sys::task::{Doing, Task, doing};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A request that is younger than this waits for nothing worth a look.
const YOUNG_S: f64 = 0.5;
/// Most requests whose thread is looked at for one frame.
const LOOKS_MAX: usize = 32;
/// How long an observer that does not answer is left alone.
const SULK: Duration = Duration::from_secs(10);

/// A server at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub snapshot: Snapshot,
    /// Its incidents; none if nobody could be asked.
    pub incidents: Option<Vec<Incident>>,
    /// What its workers run, where somebody tells.
    pub standing: Option<Standing>,
    /// Its workers' processor time and memory, by pid.
    pub vitals: BTreeMap<u32, Vitals>,
    /// For what the oldest request of a worker waits, by the worker's pid.
    pub doing: BTreeMap<u32, String>,
}

/// Looks at a server again and again.
pub(super) struct Reader {
    source: Source,
    asks_again: Option<Instant>,
}

impl Reader {
    pub(super) fn new(source: Source) -> Self {
        Self { source, asks_again: None }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Looks now.
    pub(super) fn read(&mut self) -> Result<Reading, Failure> {
        let snapshot = self.source.read()?;
        let now = Instant::now();
        let (mut incidents, mut standing) = (None, None);
        if self.asks_again.is_none_or(|at| now >= at) {
            incidents = self.source.incidents();
            standing = incidents.as_ref().and_then(|_| self.source.standing());
            self.asks_again = incidents.is_none().then(|| now + SULK);
        }
        let pids = snapshot.workers.iter().map(|worker| worker.pid);
        let vitals = pids.filter_map(|pid| Some((pid, vitals::of(pid)?))).collect();
        Ok(Reading { vitals, doing: waits(&snapshot), incidents, standing, snapshot })
    }
}

/// Asks the kernel for what the oldest request of each worker waits. Where requests are tasks or greenlets, their thread
/// waits for all of them, which says nothing.
fn waits(snapshot: &Snapshot) -> BTreeMap<u32, String> {
    let in_threads = matches!(snapshot.worker_class.as_str(), "sync" | "gthread");
    let mut oldest: BTreeMap<u32, &Running> = BTreeMap::new();
    for running in snapshot.requests.iter().filter(|running| in_threads && running.age_s >= YOUNG_S) {
        // The oldest comes first.
        oldest.entry(running.pid).or_insert(running);
    }
    let look = |(pid, running): (u32, &Running)| {
        let task = Task { pid: Some(pid), tid: running.request.tid };
        match doing(task) {
            Doing::Unknown => None,
            known => Some((pid, known.to_string())),
        }
    };
    oldest
        .into_iter()
        .filter(|(_, running)| running.request.tid != 0)
        .take(LOOKS_MAX)
        .filter_map(look)
        .collect()
}
