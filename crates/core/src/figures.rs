//! The numbers that several viewers show of a [`Snapshot`], each computed here and nowhere else: tables, the TUI, JSON and
//! metrics agree because they ask the same function.
//!
//! Not for: reading a server ([`crate::snapshot`]), advice (`advice`), or how a number is printed (`cli`).

use crate::histogram::Distribution;
use crate::latency::{Class, Phases};
use crate::scoreboard::{State, Timed};
use crate::snapshot::{Route, Snapshot, Worker};
use std::collections::BTreeMap;

/// Index of the 5xx class in [`Worker::statuses`].
const SERVER_ERRORS: usize = 4;
/// A worker's average over less than this jumps about.
const SERVING_MIN_S: f64 = 1.0;

/// Returns a worker's requests per second since it became ready; nothing in its first second.
pub fn requests_per_s(worker: &Worker) -> Option<f64> {
    let serving_s = worker.uptime_s - worker.boot_s?;
    (serving_s >= SERVING_MIN_S).then(|| worker.requests as f64 / serving_s)
}

/// Returns the responses of a worker with a status of 500 and above.
pub fn server_errors(worker: &Worker) -> u64 {
    worker.statuses[SERVER_ERRORS]
}

/// Returns a worker's durations of one phase; nothing where its server does not tell them.
pub fn timed(worker: &Worker, phase: Timed) -> Option<&Distribution> {
    worker.timed.get(phase as usize)
}

/// Sums over the workers that exist; what ended workers did is not in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllWorkers {
    /// Workers that serve and take new requests.
    pub workers_ready: u64,
    /// App threads.
    pub threads: u64,
    /// App threads at work.
    pub threads_busy: u64,
    /// Requests waiting for an app thread.
    pub queued: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests completed.
    pub requests: u64,
    /// Of them, answered with 500 and above.
    pub server_errors: u64,
    /// Requests refused before the application.
    pub refused: u64,
    /// Requests refused for want of room.
    pub shed: u64,
    /// Requests answered at their deadline, or cut.
    pub timed_out: u64,
}

/// Adds the workers up.
pub fn all_workers(snapshot: &Snapshot) -> AllWorkers {
    let sum = |of: fn(&Worker) -> u64| snapshot.workers.iter().map(of).fold(0, u64::saturating_add);
    AllWorkers {
        workers_ready: sum(|worker| u64::from(worker.state == State::Ready)),
        threads: sum(|worker| worker.threads.into()),
        threads_busy: sum(|worker| worker.threads_busy().into()),
        queued: sum(|worker| worker.queued.into()),
        connections: sum(|worker| worker.connections.into()),
        requests: sum(|worker| worker.requests),
        server_errors: sum(server_errors),
        refused: sum(|worker| worker.refused),
        shed: sum(|worker| worker.shed),
        timed_out: sum(|worker| worker.timed_out),
    }
}

/// The numbers of one route and method, over all kinds of answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFigures {
    /// The route.
    pub route: String,
    /// Whether a framework has named it; else it was made of paths.
    pub named: bool,
    /// The method.
    pub method: String,
    /// Requests that the application has answered. What became another protocol (1xx) is left out: how long a
    /// WebSocket was open says nothing of how long the application takes.
    pub answered: Phases,
    /// Requests that were lost; their time is that at which they were given up.
    pub lost: Phases,
    /// Answers with a status of 500 and above.
    pub server_errors: u64,
    /// Requests, lost ones included, and those that never came into the application.
    pub count: u64,
    /// Of them, lost.
    pub lost_count: u64,
}

impl RouteFigures {
    /// Returns the time in the application of all of them.
    pub fn app(&self) -> Distribution {
        let mut all = self.answered.app.clone();
        all.merge(&self.lost.app);
        all
    }

    /// Returns how long all of them stood in line.
    pub fn queue(&self) -> Distribution {
        let mut all = self.answered.queue.clone();
        all.merge(&self.lost.queue);
        all
    }
}

/// Puts the kinds of answer of each route and method together; by route, then method.
pub fn by_route(routes: &[Route]) -> Vec<RouteFigures> {
    let mut found: BTreeMap<(&str, &str), RouteFigures> = BTreeMap::new();
    for route in routes.iter().filter(|route| route.key.class != Class::Informational) {
        let Route { key, phases } = route;
        let figures = found.entry((&key.route, &key.method)).or_insert_with(|| RouteFigures {
            route: key.route.clone(),
            method: key.method.clone(),
            ..RouteFigures::default()
        });
        figures.named |= key.named;
        figures.count = figures.count.saturating_add(route.requests());
        match key.class {
            Class::Lost => {
                figures.lost.merge(phases);
                figures.lost_count = figures.lost_count.saturating_add(route.requests());
            }
            _ => figures.answered.merge(phases),
        }
        if key.class == Class::ServerError {
            figures.server_errors = figures.server_errors.saturating_add(route.requests());
        }
    }
    found.into_values().collect()
}

/// Returns what has been counted between two readings of the same server.
pub fn routes_since(before: &[Route], now: &[Route]) -> Vec<Route> {
    let earlier: BTreeMap<_, _> = before.iter().map(|route| (&route.key, &route.phases)).collect();
    let since = |route: &Route| Route {
        key: route.key.clone(),
        phases: earlier
            .get(&route.key)
            .map_or_else(|| route.phases.clone(), |before| route.phases.since(before)),
    };
    now.iter().map(since).collect()
}

/// What has happened between two readings of the same server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// How long it was.
    pub seconds: f64,
    /// Requests that were answered or lost.
    pub requests: u64,
    /// Of them, lost.
    pub lost: u64,
    /// Their time in the application.
    pub app: Distribution,
}

impl Interval {
    /// Returns requests per second; nothing if no time has passed.
    pub fn requests_per_s(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.requests as f64 / self.seconds)
    }
}

/// Returns what has happened between two readings of the same server.
pub fn interval(before: &Snapshot, now: &Snapshot) -> Interval {
    let seconds = (now.at_s - before.at_s).max(0.0);
    if now.routes.is_empty() {
        // A server that does not tell its routes may still count.
        let requests = now.workers.iter().filter_map(|worker| worker_interval(before, worker));
        return Interval {
            seconds,
            requests: requests.map(|(count, _)| count).fold(0, u64::saturating_add),
            ..Interval::default()
        };
    }
    let since = routes_since(&before.routes, &now.routes);
    let mut seen = Interval { seconds, ..Interval::default() };
    for route in &since {
        seen.requests = seen.requests.saturating_add(route.requests());
    }
    for route in by_route(&since) {
        seen.lost = seen.lost.saturating_add(route.lost_count);
        seen.app.merge(&route.app());
    }
    seen
}

/// Returns how many requests a worker has completed since an earlier reading, and their time in the application;
/// nothing for one that was not there.
pub fn worker_interval(before: &Snapshot, now: &Worker) -> Option<(u64, Distribution)> {
    let earlier = before.workers.iter().find(|worker| (worker.pid, worker.age) == (now.pid, now.age))?;
    let app = match (timed(now, Timed::App), timed(earlier, Timed::App)) {
        (Some(now), Some(before)) => now.since(before),
        _ => Distribution::default(),
    };
    Some((now.requests.saturating_sub(earlier.requests), app))
}

/// Returns the share of their time in the application that a server's workers have spent waiting, 0 to 1, given the
/// seconds of processor that they have used. Loading the application needs some of these, so it is a lower bound.
/// Nothing where workers have been at work for less than ten seconds together.
pub fn waiting_share(snapshot: &Snapshot, cpu_s: f64) -> Option<f64> {
    const APP_MIN_S: f64 = 10.0;
    let app_s: f64 = snapshot.workers.iter().filter_map(|worker| timed(worker, Timed::App)).map(sum_s).sum();
    (app_s >= APP_MIN_S).then(|| ((app_s - cpu_s) / app_s).clamp(0.0, 1.0))
}

/// Returns how much of their time the app threads have been at work, 0 to 1, since their workers became ready; nothing
/// where that is not known.
pub fn utilisation(snapshot: &Snapshot) -> Option<f64> {
    let mut thread_s = 0.0;
    let mut app_s = 0.0;
    for worker in &snapshot.workers {
        let serving_s = worker.boot_s.map_or(0.0, |boot_s| worker.uptime_s - boot_s);
        thread_s += serving_s * f64::from(worker.threads.max(1));
        app_s += timed(worker, Timed::App).map_or(0.0, sum_s);
    }
    (thread_s >= SERVING_MIN_S).then(|| (app_s / thread_s).clamp(0.0, 1.0))
}

/// Returns the sum of durations in seconds.
pub fn sum_s(distribution: &Distribution) -> f64 {
    distribution.sum_us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Key;

    fn distribution(us: &[u64]) -> Distribution {
        let mut distribution = Distribution::default();
        us.iter().for_each(|us| distribution.add(*us));
        distribution
    }

    fn route(route: &str, class: Class, app_us: &[u64]) -> Route {
        let key = Key { route: route.to_owned(), named: true, method: "GET".to_owned(), class };
        Route { key, phases: Phases { app: distribution(app_us), ..Phases::default() } }
    }

    fn worker(pid: u32, requests: u64, app_us: &[u64]) -> Worker {
        let mut timed = vec![Distribution::default(); 5];
        timed[Timed::App as usize] = distribution(app_us);
        Worker { pid, requests, timed, uptime_s: 12.0, boot_s: Some(2.0), threads: 2, ..Worker::default() }
    }

    #[test]
    fn kinds_of_answer_are_put_together_by_route() {
        let routes = [
            route("/a", Class::Success, &[10, 20]),
            route("/a", Class::ServerError, &[30]),
            route("/a", Class::Lost, &[30_000_000]),
            route("/ws", Class::Informational, &[900_000_000]),
        ];
        let figures = by_route(&routes);
        assert_eq!(figures.len(), 1);
        let told = (figures[0].count, figures[0].lost_count, figures[0].server_errors);
        assert_eq!(told, (4, 1, 1));
        assert_eq!((figures[0].answered.app.sum_us, figures[0].app().sum_us), (60, 30_000_060));
    }

    #[test]
    fn an_interval_is_what_two_readings_differ_by() {
        let before = Snapshot {
            at_s: 100.0,
            routes: vec![route("/a", Class::Success, &[10; 4]), route("/a", Class::Lost, &[99])],
            ..Snapshot::default()
        };
        let now = Snapshot {
            at_s: 102.0,
            routes: vec![
                route("/a", Class::Success, &[10, 10, 10, 10, 5000, 5000]),
                route("/a", Class::Lost, &[99, 99]),
                route("/b", Class::Success, &[7]),
            ],
            ..Snapshot::default()
        };
        let seen = interval(&before, &now);
        assert_eq!((seen.requests, seen.lost, seen.app.count), (4, 1, 4));
        assert_eq!(seen.requests_per_s(), Some(2.0));
        assert_eq!(seen.app.quantile_us(1.0), Some(5120));
        // The other way round, as after a restart, nothing is counted twice and nothing panics.
        assert_eq!(interval(&now, &before).requests, 0);
        assert_eq!(interval(&now, &before).requests_per_s(), None);
        assert_eq!((before.sums().lost, now.sums().lost), (1, 2));
    }

    #[test]
    fn a_server_without_routes_still_counts() {
        let of = |at_s, workers| Snapshot { at_s, workers, ..Snapshot::default() };
        let before = of(1.0, vec![worker(7, 10, &[])]);
        let now = of(2.0, vec![worker(7, 15, &[]), worker(8, 100, &[])]);
        assert_eq!(interval(&before, &now).requests, 5, "a worker that is new has no interval");
    }

    #[test]
    fn workers_of_a_foreign_source_may_lack_durations() {
        let bare = Worker { pid: 7, requests: 3, ..Worker::default() };
        let before = Snapshot { workers: vec![bare.clone()], ..Snapshot::default() };
        assert_eq!(timed(&bare, Timed::App), None);
        assert_eq!(worker_interval(&before, &bare), Some((0, Distribution::default())));
        assert_eq!((waiting_share(&before, 1.0), utilisation(&before)), (None, None));
    }

    #[test]
    fn time_that_was_waited_is_not_processor_time() {
        let snapshot =
            Snapshot { workers: vec![worker(7, 2, &[6_000_000, 10_000_000])], ..Snapshot::default() };
        assert_eq!(waiting_share(&snapshot, 4.0), Some(0.75));
        assert_eq!(waiting_share(&snapshot, 99.0), Some(0.0));
        // 16 s of work in 10 s of two threads.
        assert_eq!(utilisation(&snapshot), Some(0.8));
        let idle = Snapshot { workers: vec![worker(7, 2, &[600])], ..Snapshot::default() };
        assert_eq!(waiting_share(&idle, 4.0), None);
    }

    #[test]
    fn workers_add_up() {
        let mut ready = worker(7, 10, &[]);
        (ready.state, ready.threads_free, ready.queued, ready.statuses[4]) = (State::Ready, 1, 3, 2);
        let snapshot = Snapshot { workers: vec![ready, worker(8, 5, &[])], ..Snapshot::default() };
        let expected = AllWorkers {
            workers_ready: 1,
            threads: 4,
            threads_busy: 3,
            queued: 3,
            requests: 15,
            server_errors: 2,
            ..AllWorkers::default()
        };
        assert_eq!(all_workers(&snapshot), expected);
        assert_eq!(requests_per_s(&snapshot.workers[0]), Some(1.0));
        assert_eq!(requests_per_s(&Worker { uptime_s: 2.5, ..snapshot.workers[0].clone() }), None);
    }
}
