//! The thread that sends OTLP messages. What could not be sent waits, the oldest goes when too many do; a receiver that says
//! "not now" is asked later, one that says "never" is told nothing of that message again.
//!
//! Not for: what stands in a message.

use super::Config;
use super::message::{Times, message};
use crate::export::families::Exposed;
use crate::export::figures::Fate;
use crate::export::mailbox::{Mailbox, Taken};
use crate::export::shared::{Published, STALE, Shared};
use ferricorn_core::log::Level;
use ferricorn_core::snapshot::Kind;
use ferricorn_post::{Outcome, Poster, backoff};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most messages that wait.
const WAITING_MAX: usize = 16;
/// Most bytes of them together.
const WAITING_BYTES: usize = 16 << 20;
/// Two beginnings of the same server that lie no further apart are one: the clocks that it is made of are not quite even.
const SAME: Duration = Duration::from_secs(1);
/// Under this name, what was sent is counted.
const RECEIVER: &str = "otlp";

/// Sends metrics until it is stopped, and then once more.
pub(crate) fn run(config: &Config, shared: &Shared, stop: &Mailbox<()>) {
    let mut sender = Sender {
        config,
        shared,
        poster: Poster::new(config.within),
        waiting: VecDeque::new(),
        server_ns: None,
        failures: 0,
        not_before: Instant::now(),
        last: None,
    };
    let mut next = Instant::now() + config.interval;
    loop {
        let due = if sender.waiting.is_empty() { next } else { next.min(sender.not_before) };
        let stopped = stop.take(due.saturating_duration_since(Instant::now())) == Taken::Stopped;
        if stopped || Instant::now() >= next {
            sender.gather();
            next = Instant::now() + config.interval;
        }
        if stopped {
            return sender.last_words();
        }
        sender.send();
    }
}

struct Sender<'a> {
    config: &'a Config,
    shared: &'a Shared,
    poster: Poster,
    /// The oldest first.
    waiting: VecDeque<Vec<u8>>,
    /// When the arbiter started.
    server_ns: Option<u64>,
    failures: u32,
    not_before: Instant,
    last: Option<Instant>,
}

impl Sender<'_> {
    /// Makes a message of what is seen now, unless nothing was seen since the last.
    fn gather(&mut self) {
        let seen = self.shared.latest().filter(|published| published.at.elapsed() < STALE);
        let Some(published) = seen.filter(|published| self.last != Some(published.at)) else { return };
        self.last = Some(published.at);
        let bytes = self.message(&published);
        self.waiting.push_back(bytes);
        let too_much = |waiting: &VecDeque<Vec<u8>>| {
            waiting.len() > WAITING_MAX || waiting.iter().map(Vec::len).sum::<usize>() > WAITING_BYTES
        };
        while self.waiting.len() > 1 && too_much(&self.waiting) {
            self.waiting.pop_front();
            self.shared.count(RECEIVER, Fate::Dropped);
        }
    }

    fn message(&mut self, published: &Published) -> Vec<u8> {
        let snapshot = &published.snapshot;
        let figures = self.shared.figures();
        let ns = |seconds: f64| (seconds.max(0.0) * 1e9) as u64;
        let observer_ns = ns(figures.started_s);
        let begun_ns = match snapshot.kind {
            Kind::Ferricorn => ns(snapshot.at_s - snapshot.uptime_s),
            // What a stock Gunicorn has done before somebody looked, nobody has counted.
            Kind::Gunicorn => observer_ns,
        };
        let known = self.server_ns.filter(|known| u128::from(known.abs_diff(begun_ns)) <= SAME.as_nanos());
        let server_ns = *self.server_ns.insert(known.unwrap_or(begun_ns));
        let times = Times { server_ns, observer_ns, now_ns: ns(snapshot.at_s) };
        let exposed = Exposed::new(snapshot, &published.incidents, &figures);
        message(&exposed.families(), &self.config.resource, times).encode_to_vec()
    }

    /// Sends what waits, the oldest first, until something does not succeed.
    fn send(&mut self) {
        while Instant::now() >= self.not_before
            && let Some(bytes) = self.waiting.front()
        {
            match self.poster.post(&self.config.url, &self.config.headers, "application/x-protobuf", bytes) {
                Outcome::Accepted(answer) => {
                    self.waiting.pop_front();
                    self.accepted(&answer);
                }
                Outcome::Later { why, after } => {
                    self.failures = self.failures.saturating_add(1);
                    self.shared.count(RECEIVER, Fate::Failed);
                    self.not_before = Instant::now() + after.unwrap_or(backoff(self.failures));
                    if self.failures == 1 {
                        self.say_failure(&why, "They are kept for a while and sent again");
                    }
                    return;
                }
                Outcome::Refused { why, .. } => {
                    self.waiting.pop_front();
                    self.failures = self.failures.saturating_add(1);
                    self.shared.count(RECEIVER, Fate::Dropped);
                    if self.failures == 1 {
                        self.say_failure(&why, "Check the endpoint and OTEL_EXPORTER_OTLP_HEADERS");
                    }
                }
            }
        }
    }

    fn accepted(&mut self, answer: &[u8]) {
        self.shared.count(RECEIVER, Fate::Sent);
        if self.failures > 0 {
            let line = format!("Metrics are sent again to {}", self.config.shown());
            self.shared.say(Level::Info, line);
        }
        self.failures = 0;
        let partial =
            ExportMetricsServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
        if let Some(partial) = partial.filter(|partial| partial.rejected_data_points > 0) {
            let line = format!(
                "{} has rejected {} of the metrics: {}",
                self.config.shown(),
                partial.rejected_data_points,
                partial.error_message
            );
            self.shared.say(Level::Warning, line);
        }
    }

    fn say_failure(&self, why: &str, what_to_do: &str) {
        let hint = if self.config.is_at_grpc() {
            ". Port 4317 is usually that of gRPC, 4318 the one of HTTP"
        } else {
            ""
        };
        let line = format!("Metrics could not be sent to {}: {why}{hint}. {what_to_do}", self.config.shown());
        self.shared.say(Level::Warning, line);
    }

    /// One attempt, so that the last minute of a server is not lost.
    fn last_words(&mut self) {
        self.not_before = Instant::now();
        self.send();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Identity;
    use super::*;
    use crate::export::fake::{Reply, Server};
    use ferricorn_core::snapshot::Snapshot;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use std::sync::Arc;

    fn config(server: &Server, interval_ms: &str) -> Config {
        let variable = |name: &str| match name {
            "OTEL_METRIC_EXPORT_INTERVAL" => Some(interval_ms.to_owned()),
            "OTEL_EXPORTER_OTLP_HEADERS" => Some("api-key=k".to_owned()),
            _ => None,
        };
        let me = Identity { service: "shop", host: "h", pid: 7 };
        Config::of(Some(&server.url()), &variable, me).expect("readable").expect("there")
    }

    fn published(shared: &Shared, at_s: f64) {
        shared.publish(Arc::new(Snapshot { at_s, uptime_s: 60.0, ..Snapshot::default() }), Vec::new());
    }

    fn sender<'a>(config: &'a Config, shared: &'a Shared) -> Sender<'a> {
        Sender {
            config,
            shared,
            poster: Poster::new(config.within),
            waiting: VecDeque::new(),
            server_ns: None,
            failures: 0,
            not_before: Instant::now(),
            last: None,
        }
    }

    #[test]
    fn what_could_not_be_sent_is_sent_later_in_order() {
        let server = Server::start(vec![Reply::status(503).header("Retry-After", "0"), Reply::status(200)]);
        let shared = Shared::new().expect("a place");
        let config = config(&server, "100");
        let stop = Mailbox::new(1);
        published(&shared, 1_000.0);
        std::thread::scope(|scope| {
            scope.spawn(|| run(&config, &shared, &stop));
            let first = server.next();
            assert_eq!((first.path.as_str(), first.field("api-key")), ("/v1/metrics", Some("k")));
            assert_eq!(first.field("content-type"), Some("application/x-protobuf"));
            assert_eq!(server.next().body, first.body);
            // Nothing new was seen: nothing is sent.
            assert!(server.is_quiet());
            published(&shared, 1_060.0);
            assert_ne!(server.next().body, first.body);
            stop.stop();
        });
        let lines: Vec<String> = shared.lines().into_iter().map(|(_, line)| line).collect();
        assert!(
            lines[0].contains("could not be sent to http://127.0.0.1:")
                && lines[0].contains("it answered 503")
        );
        assert!(lines[1].contains("are sent again") && lines.len() == 2, "{lines:?}");
        let sent = shared.figures().sent;
        assert_eq!((sent[&("otlp", "sent")], sent[&("otlp", "failed")]), (2, 1));
    }

    #[test]
    fn what_is_refused_is_not_sent_again() {
        let server = Server::start(vec![Reply::status(401)]);
        let shared = Shared::new().expect("a place");
        let config = config(&server, "60000");
        let mut sender = sender(&config, &shared);
        published(&shared, 1.0);
        sender.gather();
        sender.send();
        assert!(sender.waiting.is_empty());
        assert_eq!(shared.figures().sent[&("otlp", "dropped")], 1);
        assert!(shared.lines()[0].1.contains("OTEL_EXPORTER_OTLP_HEADERS"));
    }

    #[test]
    fn messages_wait_within_bounds() {
        let shared = Shared::new().expect("a place");
        let server = Server::start(Vec::new());
        let config = config(&server, "60000");
        let mut sender = sender(&config, &shared);
        let begin = |bytes: &[u8]| {
            let message = ExportMetricsServiceRequest::decode(bytes).expect("a message");
            message.resource_metrics[0].scope_metrics[0].metrics.len()
        };
        for number in 0..WAITING_MAX as u32 + 3 {
            published(&shared, f64::from(number));
            sender.gather();
        }
        assert_eq!(sender.waiting.len(), WAITING_MAX);
        assert_eq!(shared.figures().sent[&("otlp", "dropped")], 3);
        assert!(begin(&sender.waiting[0]) > 20);
        sender.waiting.push_back(vec![0; WAITING_BYTES]);
        published(&shared, 99.0);
        sender.gather();
        assert!(sender.waiting.iter().map(Vec::len).sum::<usize>() <= WAITING_BYTES);
    }

    #[test]
    fn the_last_minute_is_sent_at_the_end() {
        let server = Server::start(Vec::new());
        let shared = Shared::new().expect("a place");
        let config = config(&server, "60000");
        let stop = Mailbox::new(1);
        published(&shared, 1.0);
        stop.stop();
        run(&config, &shared, &stop);
        assert!(!server.next().body.is_empty());
    }
}
