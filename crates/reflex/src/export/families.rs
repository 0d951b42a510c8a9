//! Which metrics there are, and where each number comes from: all of it from one snapshot, its sums, the incidents, and what the
//! observer says of itself. docs/metrics.md has the same table in words, and a test compares them.
//!
//! Not for: adding anything up ([`ferricorn_core::sums`]), and not for any format.

use super::family::{Family, Kind, Value};
use super::figures::Figures;
use ferricorn_core::diagnosis::Cause;
use ferricorn_core::incident::{Incident, State};
use ferricorn_core::latency::Class;
use ferricorn_core::scoreboard::Exit;
use ferricorn_core::snapshot::{Kind as ServerKind, Route, Snapshot};
use ferricorn_core::sums::Sums;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Everything that metrics are made of.
pub(crate) struct Exposed<'a> {
    snapshot: &'a Snapshot,
    incidents: &'a [Incident],
    figures: &'a Figures,
    sums: Sums,
    routes: Vec<Cow<'a, Route>>,
}

impl<'a> Exposed<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, incidents: &'a [Incident], figures: &'a Figures) -> Self {
        // Two series may not have the same labels; who has named a route is none of them.
        let mut routes: BTreeMap<(&str, &str, Class), Cow<'a, Route>> = BTreeMap::new();
        for route in &snapshot.routes {
            let key = (route.key.route.as_str(), route.key.method.as_str(), route.key.class);
            match routes.get_mut(&key) {
                None => drop(routes.insert(key, Cow::Borrowed(route))),
                Some(known) => known.to_mut().phases.merge(&route.phases),
            }
        }
        let routes = routes.into_values().collect();
        Self { snapshot, incidents, figures, sums: snapshot.sums(), routes }
    }

    /// Returns all metrics, those without a series left out.
    pub(crate) fn families(&self) -> Vec<Family<'_>> {
        let mut all = Vec::from(self.server());
        all.extend(self.requests());
        all.extend(self.workers());
        all.extend(self.jobs());
        all.push(self.incidents());
        all.extend(self.observer());
        all.retain(|family| !family.series.is_empty());
        all
    }

    fn server(&self) -> [Family<'_>; 3] {
        let Snapshot { name, version, worker_class, .. } = self.snapshot;
        let kind = match self.snapshot.kind {
            ServerKind::Ferricorn => "ferricorn",
            ServerKind::Gunicorn => "gunicorn",
        };
        let labels =
            vec![("kind", kind), ("version", version), ("worker_class", worker_class), ("server", name)];
        [
            Family::new(
                "build_info",
                Kind::Gauge,
                "The server that is observed; always 1.",
                [(labels, Value::Int(1))],
            ),
            Family::measure(
                "uptime_seconds",
                "Time since the arbiter started.",
                Some(self.snapshot.uptime_s),
            ),
            Family::counter(
                "reloads_total",
                "Reloads since the arbiter started.",
                self.snapshot.generation.into(),
            ),
        ]
    }

    fn requests(&self) -> Vec<Family<'_>> {
        let (sums, totals) = (&self.sums, &self.snapshot.totals);
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(totals.statuses);
        vec![
            Family::new(
                "request_duration_seconds",
                Kind::Histogram,
                "Durations of requests by phase: queue (waiting for a thread), app (in the application; of lost requests, until they were given up), write (sending the response).",
                self.routes.iter().flat_map(|route| durations(route)),
            ),
            Family::new(
                "requests_total",
                Kind::Counter,
                "Requests by how they were answered; lost: not by the application.",
                self.routes.iter().map(|route| (labels_of(route), Value::Int(route.requests()))),
            ),
            Family::counter(
                "requests_lost_total",
                "Requests whose time was over, or whose worker died.",
                sums.lost,
            ),
            Family::counter(
                "requests_completed_total",
                "Requests that workers have completed.",
                totals.requests,
            ),
            Family::new(
                "responses_total",
                Kind::Counter,
                "Responses of workers by class of status.",
                classes.map(|(class, count)| (vec![("class", class)], Value::Int(count))),
            ),
            Family::counter(
                "requests_refused_total",
                "Requests answered before the application: bad ones, limits, 408.",
                totals.refused,
            ),
            Family::counter("requests_shed_total", "Requests answered 503 for want of room.", totals.shed),
            Family::counter(
                "requests_timed_out_total",
                "Requests answered 504 at their deadline, or cut.",
                totals.timed_out,
            ),
            Family::counter("response_bytes_total", "Bytes of responses.", totals.bytes_sent),
            Family::gauge("requests_in_flight", "Requests in the application.", sums.in_flight),
            Family::gauge("requests_queued", "Requests that wait for a thread.", sums.queued),
            Family::measure(
                "oldest_request_age_seconds",
                "Time since the first byte of the oldest request in flight; 0 without one.",
                Some(sums.oldest_request_s.unwrap_or_default()),
            ),
            Family::gauge("websockets", "WebSockets that are open.", sums.websockets),
            Family::gauge("connections", "Client connections that are open.", sums.connections),
        ]
    }

    fn workers(&self) -> Vec<Family<'_>> {
        let (sums, totals) = (&self.sums, &self.snapshot.totals);
        let lives =
            sums.workers.iter().map(|(life, count)| (vec![("life", life.name())], Value::Int(*count)));
        let exits = Exit::ALL.into_iter().map(|exit| {
            let count = self.snapshot.exits.get(&exit).copied().unwrap_or_default();
            (vec![("reason", exit.name())], Value::Int(count))
        });
        vec![
            Family::new("workers", Kind::Gauge, "Workers by what they do with their lives.", lives),
            Family::gauge(
                "workers_serving",
                "Workers that take requests and can serve them.",
                sums.workers_serving,
            ),
            Family::gauge("workers_wanted", "Workers that are wanted.", self.snapshot.workers_target.into()),
            Family::gauge(
                "workers_taken_over",
                "Workers whose loop is taken over because Python is slow.",
                sums.workers_taken_over,
            ),
            Family::gauge("threads", "Application threads.", sums.threads),
            Family::gauge("threads_busy", "Application threads at work.", sums.threads_busy),
            Family::measure(
                "worker_boot_seconds",
                "Time that the newest ready worker took from its fork to ready.",
                sums.boot_s,
            ),
            Family::new("worker_exits_total", Kind::Counter, "Workers that have ended, by why.", exits),
            Family::counter("takeovers_total", "Times a loop was taken over.", totals.takeovers),
            Family::counter(
                "connections_handed_over_total",
                "Connections given to an idle sibling.",
                totals.handed_over,
            ),
            Family::counter(
                "connections_taken_in_total",
                "Connections taken from a busy sibling.",
                totals.taken_in,
            ),
        ]
    }

    /// What is worked on later, where anything is.
    fn jobs(&self) -> Vec<Family<'_>> {
        let Some(jobs) = &self.snapshot.jobs else { return Vec::new() };
        let states = [("queued", jobs.waiting), ("running", jobs.running)];
        let over = [("done", jobs.done), ("cancelled", jobs.cancelled)];
        let failed = jobs.failed.iter().map(|(fault, count)| (fault.name(), *count));
        vec![
            Family::new(
                "jobs",
                Kind::Gauge,
                "Jobs that are not over, by state.",
                states.map(|(state, count)| (vec![("state", state)], Value::Int(count))),
            ),
            Family::measure(
                "jobs_oldest_age_seconds",
                "Time since the job was taken that has waited longest; 0 if none waits.",
                Some(jobs.oldest_s.unwrap_or_default()),
            ),
            Family::gauge("jobs_bytes", "Bytes that jobs take on the disk.", jobs.bytes),
            Family::counter("jobs_taken_total", "Requests that have become jobs.", jobs.taken),
            Family::counter("jobs_refused_total", "Requests that have not, for want of room.", jobs.refused),
            Family::counter("jobs_retried_total", "Attempts begun after one that failed.", jobs.retried),
            Family::new(
                "jobs_over_total",
                Kind::Counter,
                "Jobs that are over, by what they came to.",
                over.map(|(state, count)| (vec![("outcome", state)], Value::Int(count))),
            ),
            Family::new(
                "jobs_failed_total",
                Kind::Counter,
                "Jobs that were given up, by why.",
                failed.map(|(cause, count)| (vec![("cause", cause)], Value::Int(count))),
            ),
            Family::new(
                "jobs_webhooks_total",
                Kind::Counter,
                "Webhooks of jobs that are over, by what became of them.",
                [("delivered", jobs.told), ("given_up", jobs.untold)]
                    .map(|(outcome, count)| (vec![("outcome", outcome)], Value::Int(count))),
            ),
            Family::new(
                "jobs_run_seconds_total",
                Kind::Counter,
                "Time that answered attempts have lasted, all together.",
                [(Vec::new(), Value::Float(jobs.ran_s))],
            ),
        ]
    }

    fn incidents(&self) -> Family<'_> {
        let open = |cause: Cause| {
            let is = |incident: &&Incident| incident.state == State::Open && incident.cause == cause;
            self.incidents.iter().filter(is).count() as u64
        };
        let series = Cause::ALL.iter().map(|cause| (vec![("cause", cause.code())], Value::Int(open(*cause))));
        Family::new("incidents_open", Kind::Gauge, "Incidents that go on, by cause.", series)
    }

    fn observer(&self) -> Vec<Family<'_>> {
        let figures = self.figures;
        let sent = figures.sent.iter().map(|((receiver, result), count)| {
            (vec![("receiver", *receiver), ("result", *result)], Value::Int(*count))
        });
        let cpu = [(Vec::new(), Value::Float(figures.cpu_s))];
        vec![
            Family::gauge(
                "observer_resident_memory_bytes",
                "Memory of the observer's process.",
                figures.memory_bytes,
            ),
            Family::new(
                "observer_cpu_seconds_total",
                Kind::Counter,
                "Processor time of the observer's process.",
                cpu,
            )
            .of_observer(),
            Family::counter(
                "observer_ticks_total",
                "Times that the observer has looked at the server.",
                figures.ticks,
            )
            .of_observer(),
            Family::measure(
                "observer_snapshot_timestamp_seconds",
                "When the numbers here were read, seconds since 1970.",
                Some(self.snapshot.at_s),
            ),
            Family::new(
                "observer_sent_total",
                Kind::Counter,
                "What was sent to receivers of metrics and notifications, failed once, or was given up.",
                sent,
            )
            .of_observer(),
        ]
    }
}

fn labels_of(route: &Route) -> Vec<(&'static str, &str)> {
    let key = &route.key;
    vec![("route", key.route.as_str()), ("method", key.method.as_str()), ("class", key.class.name())]
}

/// The phases that have durations: a request that was shed has been in no application.
fn durations(route: &Route) -> impl Iterator<Item = (Vec<(&'static str, &str)>, Value<'_>)> {
    let phases = &route.phases;
    let named = [("queue", &phases.queue), ("app", &phases.app), ("write", &phases.write)];
    named.into_iter().filter(|(_, durations)| durations.count > 0).map(|(phase, durations)| {
        let mut labels = labels_of(route);
        labels.push(("phase", phase));
        (labels, Value::Durations(durations))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::family::PREFIX;
    use ferricorn_core::latency::{Key, Phases};
    use ferricorn_core::offload::{Counted, Fault};
    use ferricorn_core::snapshot::Worker;
    use std::collections::BTreeSet;

    fn route(route: &str, named: bool, count: u64) -> Route {
        let mut phases = Phases::default();
        (0..count).for_each(|_| phases.queue.add(5));
        let key = Key { route: route.to_owned(), named, method: "GET".to_owned(), class: Class::Success };
        Route { key, phases }
    }

    #[test]
    fn no_two_series_have_the_same_labels() {
        let snapshot = Snapshot {
            routes: vec![route("/a", false, 2), route("/a", true, 3), route("/b", true, 1)],
            ..Snapshot::default()
        };
        let figures = Figures::default();
        let exposed = Exposed::new(&snapshot, &[], &figures);
        for family in exposed.families() {
            let labels: BTreeSet<_> = family.series.iter().map(|series| series.labels.clone()).collect();
            assert_eq!(labels.len(), family.series.len(), "{}", family.name);
        }
        let families = exposed.families();
        let requests = families.iter().find(|family| family.name == "requests_total").expect("there");
        let numbers: Vec<f64> = requests.series.iter().map(|series| series.value.number()).collect();
        assert_eq!(numbers, [5.0, 1.0]);
    }

    #[test]
    fn names_follow_prometheus() {
        let jobs = Some(Counted { failed: vec![(Fault::Timeout, 1)], ..Counted::default() });
        let snapshot = Snapshot { routes: vec![route("/", true, 1)], jobs, ..Snapshot::default() };
        let figures = Figures { sent: [(("otlp", "sent"), 1)].into(), ..Figures::default() };
        for family in Exposed::new(&snapshot, &[], &figures).families() {
            let is_counter = family.kind == Kind::Counter;
            assert_eq!(family.name.ends_with("_total"), is_counter, "{}", family.name);
            assert!(family.help.ends_with('.') && !family.name.starts_with(PREFIX), "{}", family.name);
        }
    }

    #[test]
    fn the_documentation_has_them_all() {
        let page = include_str!("../../../../docs/metrics.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `ferricorn_")?.split('`').next());
        let documented: BTreeSet<&str> = rows.collect();
        let worker = Worker { boot_s: Some(1.0), ..Worker::default() };
        let jobs = Some(Counted { failed: vec![(Fault::Timeout, 1)], ..Counted::default() });
        let routes = vec![route("/", true, 1)];
        let snapshot = Snapshot { routes, workers: vec![worker], jobs, ..Snapshot::default() };
        let figures = Figures { sent: [(("otlp", "sent"), 1)].into(), ..Figures::default() };
        let exposed = Exposed::new(&snapshot, &[], &figures);
        let there: BTreeSet<&str> = exposed.families().iter().map(|family| family.name).collect();
        assert_eq!(documented, there);
    }
}
