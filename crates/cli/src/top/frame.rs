//! What is shown of a server: made of how it is now and how it was at the last frame. Pure; as JSON (`top --json`) it is public
//! (docs/ferricornctl.md): add fields, never change one.
//!
//! Not for: order and selection (`state`), and not for words and columns (`draw`, `plain`).

use super::reading::Reading;
use ferricorn_core::change::Standing;
use ferricorn_core::figures::{self, AllWorkers};
use ferricorn_core::histogram::Distribution;
use ferricorn_core::incident;
use ferricorn_core::life::Life;
use ferricorn_core::snapshot::{Kind, Running, Snapshot, Worker};
use serde::Serialize;
use std::collections::BTreeMap;

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Frame {
    pub schema: u32,
    pub at_s: f64,
    pub server: Server,
    pub sums: Sums,
    /// Open ones; `null` if nobody could be asked.
    pub incidents: Option<Vec<Incident>>,
    /// Oldest first.
    pub workers: Vec<WorkerLine>,
    /// Oldest first.
    pub requests: Vec<RequestLine>,
    /// Those that took most time first.
    pub routes: Vec<RouteLine>,
    /// What could not be seen, and how it could be.
    pub gaps: Vec<String>,
    /// What is to be said of the versions that workers run.
    pub findings: Vec<String>,
    /// The same in a word or two.
    #[serde(skip)]
    pub warning: Option<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Server {
    pub kind: Kind,
    pub name: String,
    pub version: String,
    pub arbiter_pid: u32,
    pub worker_class: String,
    pub threads: u32,
    pub timeout_s: Option<f64>,
    pub uptime_s: f64,
    pub generation: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sums {
    pub workers_ready: u64,
    pub workers_target: u32,
    pub threads: u64,
    pub threads_busy: u64,
    pub queued: u64,
    pub connections: u64,
    pub in_flight: usize,
    /// Lost since the server started.
    pub lost: u64,
    /// What follows is of the time since the last frame; `null` in the first.
    pub interval_s: Option<f64>,
    pub requests_per_s: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub lost_now: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Incident {
    pub id: String,
    pub state: &'static str,
    pub verdict: String,
    pub cause: &'static str,
    pub confidence: f64,
    pub route: String,
    pub requests_lost: u64,
    pub since_s: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct WorkerLine {
    pub pid: u32,
    pub age: u32,
    pub life: Life,
    pub uptime_s: f64,
    pub threads: u32,
    pub threads_busy: u32,
    pub queued: u32,
    pub connections: u32,
    pub taken_over: bool,
    /// Since the last frame, as are the next two.
    pub requests_per_s: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Processors used, 1 for a whole one.
    pub cpu: Option<f64>,
    pub rss_bytes: Option<u64>,
    /// Age of its oldest request.
    pub oldest_s: Option<f64>,
    /// For what that request waits.
    pub waits_for: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct RequestLine {
    pub request_id: String,
    pub worker_pid: u32,
    pub tid: u32,
    pub phase: String,
    pub age_s: f64,
    pub deadline_s: Option<f64>,
    pub deadline_left_s: Option<f64>,
    /// Share of its time that is over: 1 at the deadline.
    pub share: Option<f64>,
    pub method: String,
    pub path: String,
    pub route: Option<String>,
    pub client: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct RouteLine {
    pub route: String,
    pub method: String,
    /// Since the server started, as are the next two.
    pub count: u64,
    pub lost: u64,
    pub time_share: f64,
    /// Since the last frame, as are the next three.
    pub requests_per_s: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub lost_now: u64,
}

/// Makes a frame.
pub(super) fn frame(now: &Reading, before: Option<&Reading>) -> Frame {
    let snapshot = &now.snapshot;
    let before_snapshot = before.map(|before| &before.snapshot);
    let standing = now.standing.as_ref();
    let findings = standing.map(Standing::findings).unwrap_or_default();
    Frame {
        schema: 1,
        at_s: snapshot.at_s,
        server: server(snapshot),
        sums: sums(snapshot, before_snapshot),
        incidents: now.incidents.as_deref().map(|all| incidents(all, snapshot.at_s)),
        workers: snapshot.workers.iter().map(|worker| worker_line(worker, now, before)).collect(),
        requests: snapshot.requests.iter().map(request_line).collect(),
        routes: route_lines(snapshot, before_snapshot),
        gaps: snapshot.gaps.clone(),
        findings: findings.into_iter().map(str::to_owned).collect(),
        warning: standing.and_then(warning),
    }
}

/// What the head has room for.
fn warning(standing: &Standing) -> Option<&'static str> {
    match (&standing.mixed, &standing.pending) {
        (Some(_), _) => Some("MIXED VERSIONS"),
        (None, Some(_)) => Some("disk differs: HUP would deploy"),
        (None, None) => None,
    }
}

fn server(snapshot: &Snapshot) -> Server {
    Server {
        kind: snapshot.kind,
        name: snapshot.name.clone(),
        version: snapshot.version.clone(),
        arbiter_pid: snapshot.arbiter_pid,
        worker_class: snapshot.worker_class.clone(),
        threads: snapshot.threads,
        timeout_s: snapshot.timeout_s,
        uptime_s: snapshot.uptime_s,
        generation: snapshot.generation,
    }
}

fn sums(now: &Snapshot, before: Option<&Snapshot>) -> Sums {
    let AllWorkers { workers_ready, threads, threads_busy, queued, connections, .. } =
        figures::all_workers(now);
    let interval = before.map(|before| figures::interval(before, now));
    let app = interval.as_ref().map(|interval| &interval.app);
    Sums {
        workers_ready,
        workers_target: now.workers_target,
        threads,
        threads_busy,
        queued,
        connections,
        in_flight: now.requests.len(),
        lost: now.sums().lost,
        interval_s: interval.as_ref().map(|interval| interval.seconds),
        requests_per_s: interval.as_ref().and_then(figures::Interval::requests_per_s),
        p50_ms: app.and_then(|app| ms(app, 0.50)),
        p99_ms: app.and_then(|app| ms(app, 0.99)),
        lost_now: interval.as_ref().map_or(0, |interval| interval.lost),
    }
}

/// Those that go on, the costliest first.
fn incidents(all: &[incident::Incident], at_s: f64) -> Vec<Incident> {
    let mut open: Vec<Incident> = all
        .iter()
        .filter(|incident| incident.state == incident::State::Open)
        .map(|incident| Incident {
            id: incident.id.clone(),
            state: incident.state.name(),
            verdict: incident.verdict.clone(),
            cause: incident.cause.code(),
            confidence: incident.confidence,
            route: incident.route.clone(),
            requests_lost: incident.requests_lost,
            since_s: incident.opened_at.map(|opened_at| (at_s - opened_at).max(0.0)),
        })
        .collect();
    open.sort_by_key(|incident| std::cmp::Reverse(incident.requests_lost));
    open
}

fn worker_line(worker: &Worker, now: &Reading, before: Option<&Reading>) -> WorkerLine {
    let pid = worker.pid;
    let seconds =
        before.map(|before| now.snapshot.at_s - before.snapshot.at_s).filter(|seconds| *seconds > 0.0);
    let since = before.and_then(|before| figures::worker_interval(&before.snapshot, worker));
    let vitals = now.vitals.get(&pid);
    let cpu_before = before.and_then(|before| before.vitals.get(&pid));
    let oldest = now.snapshot.requests.iter().find(|running| running.pid == pid);
    WorkerLine {
        pid,
        age: worker.age,
        life: worker.life,
        uptime_s: worker.uptime_s,
        threads: worker.threads,
        threads_busy: worker.threads_busy(),
        queued: worker.queued,
        connections: worker.connections,
        taken_over: worker.taken_over,
        requests_per_s: seconds.zip(since.as_ref()).map(|(seconds, (count, _))| *count as f64 / seconds),
        p99_ms: since.and_then(|(_, app)| ms(&app, 0.99)),
        cpu: vitals
            .zip(cpu_before)
            .zip(seconds)
            .map(|((now, before), seconds)| ((now.cpu_s - before.cpu_s) / seconds).max(0.0)),
        rss_bytes: vitals.map(|vitals| vitals.rss),
        oldest_s: oldest.map(|running| running.age_s),
        waits_for: now.doing.get(&pid).cloned(),
    }
}

fn request_line(running: &Running) -> RequestLine {
    let request = &running.request;
    RequestLine {
        request_id: request.id.clone(),
        worker_pid: running.pid,
        tid: request.tid,
        phase: running.phase.clone(),
        age_s: running.age_s,
        deadline_s: request.deadline_s,
        deadline_left_s: running.left_s(),
        share: running.share(),
        method: request.method.clone(),
        path: request.path.clone(),
        route: request.route.clone(),
        client: request.client.clone(),
    }
}

fn route_lines(now: &Snapshot, before: Option<&Snapshot>) -> Vec<RouteLine> {
    let since = before.map(|before| figures::by_route(&figures::routes_since(&before.routes, &now.routes)));
    let since: Option<BTreeMap<_, _>> = since
        .map(|routes| routes.into_iter().map(|one| ((one.route.clone(), one.method.clone()), one)).collect());
    let seconds = before.map(|before| now.at_s - before.at_s).filter(|seconds| *seconds > 0.0);
    let all = figures::by_route(&now.routes);
    let all_s: f64 = all.iter().map(|route| figures::sum_s(&route.app())).sum();
    let mut lines: Vec<RouteLine> = all
        .into_iter()
        .map(|route| {
            let key = (route.route.clone(), route.method.clone());
            let fresh = since.as_ref().and_then(|since| since.get(&key));
            let app = fresh.map(ferricorn_core::figures::RouteFigures::app);
            RouteLine {
                count: route.count,
                lost: route.lost_count,
                time_share: if all_s > 0.0 { figures::sum_s(&route.app()) / all_s } else { 0.0 },
                requests_per_s: seconds.zip(fresh).map(|(seconds, fresh)| fresh.count as f64 / seconds),
                p50_ms: app.as_ref().and_then(|app| ms(app, 0.50)),
                p99_ms: app.as_ref().and_then(|app| ms(app, 0.99)),
                lost_now: fresh.map_or(0, |fresh| fresh.lost_count),
                route: route.route,
                method: route.method,
            }
        })
        .collect();
    lines.sort_by(|one, other| other.time_share.total_cmp(&one.time_share));
    lines
}

fn ms(distribution: &Distribution, q: f64) -> Option<f64> {
    distribution.quantile_us(q).map(|us| us as f64 / 1e3)
}
