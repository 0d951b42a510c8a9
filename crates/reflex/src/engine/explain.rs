//! From what was seen to a diagnosis: gathers for the rules what they need to know of the server round a request, and of deaths and
//! held loops. Not for: the rules themselves (`core::diagnosis`).

use super::watch::Watch;
use crate::kernel;
use ferricorn_core::diagnosis::{
    Case, Cause, Diagnosis, Finding, Fixes, History, Subject, Surroundings, diagnose,
};
use ferricorn_core::event::Died;
use ferricorn_core::evidence::Source;
use ferricorn_core::histogram::Distribution;
use ferricorn_core::incident::Troubled;
use ferricorn_core::latency::Class;
use ferricorn_core::life::Life;
use ferricorn_core::record::{Hold, Request, Worker};
use ferricorn_core::route;
use ferricorn_core::scoreboard::Exit;
use ferricorn_core::snapshot::{self, Kind, Route, Running, Snapshot};
use std::collections::BTreeMap;

/// A worker that gives no sign of life for so long has fallen silent.
const SILENT_S: f64 = 2.5;
/// So long after a pause requests are late because of it, seconds.
const AFTER_PAUSE_S: f64 = 1.0;

/// What is known of the server.
#[derive(Debug, Default)]
pub(super) struct Facts {
    worker_class: String,
    /// Threads of all workers that can work on requests.
    pub(super) threads: u32,
    /// Requests that are as slow as those that are looked at.
    pub(super) stuck: u32,
    queued: u32,
    all_silent: bool,
    /// After so long a silence a worker is killed with all its requests, whatever their ages; where that is the only deadline.
    killed_s: Option<f64>,
    stock: bool,
    /// When all this was so, seconds since 1970.
    at_s: f64,
    /// When we were stopped last, and for how long, seconds.
    pub(super) paused: Option<(f64, f64)>,
    ready: usize,
    workers: BTreeMap<u32, snapshot::Worker>,
    /// Routes with the durations of what has come to its end, by method.
    routes: Vec<(String, String, bool, Distribution)>,
    host: kernel::Processors,
}

impl Facts {
    /// Takes the latest snapshot.
    pub(super) fn update(&mut self, snapshot: &Snapshot, now_s: f64) {
        let living = || snapshot.workers.iter().filter(|worker| worker.life != Life::Booting);
        self.worker_class.clone_from(&snapshot.worker_class);
        self.threads = living().map(|worker| worker.threads).sum();
        // A stock Gunicorn's requests wait in the listener's queue.
        self.queued = living().map(|worker| worker.queued).sum::<u32>()
            + snapshot.backlog.as_ref().map_or(0, |backlog| backlog.waiting);
        self.ready = living().filter(|worker| worker.life != Life::Draining).count();
        let silent = |worker: &snapshot::Worker| worker.beat_age_s.is_some_and(|age_s| age_s > SILENT_S);
        // Of one alone nobody can tell; its own state does. And a stock Gunicorn's worker may be silent while it works.
        self.all_silent = snapshot.kind == Kind::Ferricorn && living().count() > 1 && living().all(silent);
        self.stock = snapshot.kind == Kind::Gunicorn;
        let by_silence = self.stock && self.is_nested();
        self.killed_s = snapshot.timeout_s.filter(|_| by_silence);
        self.at_s = now_s;
        self.workers = snapshot.workers.iter().map(|worker| (worker.pid, worker.clone())).collect();
        if self.routes.is_empty() {
            self.learn(&snapshot.routes);
        }
        self.host.measure();
    }

    /// Learns how long routes take.
    pub(super) fn learn(&mut self, routes: &[Route]) {
        let mut known: BTreeMap<(String, String, bool), Distribution> = BTreeMap::new();
        for Route { key, phases } in routes {
            let durations = known.entry((key.method.clone(), key.route.clone(), key.named)).or_default();
            // How long it takes to fail says nothing of how long it takes.
            if !matches!(key.class, Class::Lost | Class::Informational | Class::ServerError) {
                durations.merge(&phases.app);
            }
        }
        self.routes = known
            .into_iter()
            .map(|((method, route, named), durations)| (method, route, named, durations))
            .collect();
    }

    /// Tells whether requests are tasks or greenlets.
    pub(super) fn is_nested(&self) -> bool {
        let class = self.worker_class.to_ascii_lowercase();
        ["asgi", "gevent", "uvicorn", "tornado"].iter().any(|name| class.contains(name))
    }

    /// Returns which share of the silence after which it is killed a worker has been silent for.
    pub(super) fn silence(&self, pid: u32, now_s: f64) -> Option<f64> {
        let silent_s = self.workers.get(&pid)?.beat_age_s? + (now_s - self.at_s).max(0.0);
        Some(silent_s / self.killed_s?)
    }

    /// Returns the pids of all workers.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.workers.keys().copied()
    }

    /// Returns the share of the host's processors that is in use.
    pub(super) fn host_busy(&self) -> Option<f64> {
        self.host.busy()
    }

    /// Returns how many workers serve.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// Returns what is known of a worker, as records have it.
    pub(super) fn worker(&self, pid: u32) -> Worker {
        self.workers.get(&pid).map_or(Worker { pid, ..Worker::default() }, recorded)
    }

    /// Adds the route to a request whose path fits one that a framework has named, or else what its path is like.
    pub(super) fn with_route(&self, running: &Running) -> Running {
        Running { request: self.routed(&running.request), ..running.clone() }
    }

    /// The same for a request.
    pub(super) fn routed(&self, request: &Request) -> Request {
        let route = || self.route_of(request).map(|(_, route, ..)| route.clone());
        Request { route: request.route.clone().or_else(route), ..request.clone() }
    }

    fn route_of(&self, request: &Request) -> Option<&(String, String, bool, Distribution)> {
        let fits = |(method, route, ..): &&(String, String, bool, Distribution)| {
            *method == request.method && route::fits(route, &request.path)
        };
        self.routes.iter().filter(fits).max_by_key(|(_, route, named, _)| (*named, route::closeness(route)))
    }

    fn history(&self, request: &Request) -> Option<History> {
        let of_route = |route: &str| {
            self.routes.iter().find(|(method, known, ..)| *method == request.method && known == route)
        };
        let named = request.route.as_deref().and_then(of_route).or_else(|| self.route_of(request))?;
        let durations = &named.3;
        let seconds = |q| durations.quantile_us(q).map(|us| us as f64 / 1e6);
        Some(History { count: durations.count, p50_s: seconds(0.5)?, p99_s: seconds(0.99)? })
    }

    /// Explains a request.
    pub(super) fn diagnose(&self, watch: &Watch) -> Diagnosis {
        // What was at work through a pause of us all is late for that alone.
        let through = |(at_s, lasted_s): (f64, f64)| {
            let look_s = watch.looks.last().map_or(at_s, |look| look.at_s);
            (0.0..AFTER_PAUSE_S).contains(&(look_s - at_s)) && watch.running.request.app_s >= lasted_s
        };
        let server = Surroundings {
            worker_class: self.worker_class.clone(),
            threads: self.threads,
            stuck: self.stuck,
            queued: self.queued,
            host_cpu: self.host.busy(),
            all_silent: self.all_silent || self.paused.is_some_and(through),
            stock: self.stock,
        };
        let request = self.routed(&watch.running.request);
        let case = watch.case(self.is_nested(), self.history(&request), server);
        let route = case.request.route.clone().or(request.route);
        diagnose(&Case { request: Request { route, ..case.request.clone() }, ..case })
    }
}

/// Returns a worker as records have it.
pub(super) fn recorded(worker: &snapshot::Worker) -> Worker {
    Worker {
        pid: worker.pid,
        age: worker.age,
        generation: worker.generation,
        threads: worker.threads,
        queued: worker.queued,
        uptime_s: worker.uptime_s,
        requests: worker.requests,
    }
}

/// Explains what held an event loop.
///
/// `behind` is what a thread of the same process was found to compute, if one does.
pub(super) fn held(hold: &Hold, worker: &Worker, behind: Option<&Diagnosis>) -> Troubled {
    let request = hold.request.clone().unwrap_or_default();
    let place = hold.frames.iter().find(|frame| frame.is_application());
    let application = hold.frames.iter().filter(|frame| frame.is_application()).take(3).cloned().collect();
    let at = place.map(ToString::to_string);
    // The loop's own thread stands in line for the interpreter: others of its process keep that busy.
    let in_line = place.is_none() && hold.doing.contains("futex");
    let blocking = || Diagnosis {
        cause: Cause::BlockingInLoop,
        confidence: if place.is_some() { 0.95 } else { 0.85 },
        summary: format!("A {}.", hold.told(at.as_deref())),
        evidence: vec![Finding {
            source: "stack".to_owned(),
            text: format!("the loop's thread was {} for {:.1} s", hold.doing, hold.lasted_s),
            weight: 3,
        }],
        subject: Subject { frames: application, ..Subject::default() },
        fixes: Fixes {
            next: vec![format!(
                "await an asynchronous client at {}, or run the call in a thread",
                at.unwrap_or_else(|| "that place".to_owned())
            )],
            ..Fixes::default()
        },
        ..Diagnosis::default()
    };
    let diagnosis = if in_line { crowded(hold, behind) } else { blocking() };
    Troubled {
        request,
        worker: worker.clone(),
        diagnosis,
        source: Source::Outside,
        frames: hold.frames.clone(),
    }
}

/// Explains an event loop whose thread does not get the interpreter.
fn crowded(hold: &Hold, behind: Option<&Diagnosis>) -> Diagnosis {
    if let Some(behind) = behind {
        return behind.clone();
    }
    let text = format!(
        "the loop's thread waited for {:.1} s for a lock, and none of the application's code was on it",
        hold.lasted_s
    );
    Diagnosis {
        cause: Cause::CpuBound,
        confidence: 0.6,
        summary: format!(
            "An event loop stood still for {:.1} s: threads of its process compute, and keep the interpreter from it.",
            hold.lasted_s
        ),
        evidence: vec![Finding { source: "kernel".to_owned(), text, weight: 2 }],
        fixes: Fixes {
            next: vec!["let other processes compute: a process pool, a job queue, more workers".to_owned()],
            ..Fixes::default()
        },
        ..Diagnosis::default()
    }
}

/// Explains a worker's death; `at` is what its oldest request was found to be at.
pub(super) fn death(died: &Died, at: Option<&Diagnosis>) -> Diagnosis {
    let said = |source: &str, text: String| Finding { source: source.to_owned(), text, weight: 3 };
    let summary = format!("Worker {} has died: {}.", died.worker.pid, died.cause);
    match (died.exit, at) {
        (Exit::OutOfMemory, _) => Diagnosis {
            cause: Cause::WorkerMemory,
            confidence: 0.97,
            evidence: vec![said("kernel", died.cause.clone())],
            fixes: Fixes {
                now: vec!["raise the memory limit, or run fewer workers".to_owned()],
                next: vec![
                    "max_requests with max_requests_jitter replaces workers before they are too large"
                        .to_owned(),
                ],
                proper: vec!["find what grows: tracemalloc, memray".to_owned()],
            },
            summary,
            ..Diagnosis::default()
        },
        (Exit::Boot, _) => Diagnosis {
            cause: Cause::BootSlowImport,
            confidence: 0.8,
            evidence: vec![said("log", died.cause.clone())],
            summary,
            ..Diagnosis::default()
        },
        // It was ended for what it was at.
        (Exit::Timeout, Some(at)) => at.clone(),
        _ => Diagnosis {
            summary,
            evidence: vec![said("log", died.cause.clone())],
            confidence: 0.3,
            ..Diagnosis::default()
        },
    }
}
