//! Debian's Prometheus scrapes what we serve, and says the same numbers when it is asked; promtool finds nothing to complain about.

use crate::exposition::{Labels, of, one, samples};
use crate::process::{Program, free_port, get};
use crate::server::{ODD_ROUTE, Server, serve, wait_for};
use ferricorn_core::latency::Class;
use ferricorn_core::snapshot::{Route, Snapshot};
use ferricorn_reflex::admin::Places;
use ferricorn_reflex::export::Config;
use ferricorn_settings::BindAddress;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub fn on_a_port() -> Config {
    let bind = BindAddress::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
    Config { admin: Places { socket: None, bind: Some(bind) }, host: "h".to_owned(), ..Config::default() }
}

/// Runs from one reading to the next, and differs.
fn moves(name: &str) -> bool {
    name.starts_with("ferricorn_observer_")
        || matches!(name, "ferricorn_uptime_seconds" | "ferricorn_oldest_request_age_seconds")
}

#[test]
fn promtool_finds_nothing() {
    let server = serve(on_a_port());
    let text = get(&format!("{}/metrics", server.url())).expect("metrics");
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("skipped: promtool is not installed (Debian package prometheus)");
        return;
    };
    promtool.stdin.take().expect("its input").write_all(text.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn the_text_says_what_the_snapshot_says() {
    let server = serve(on_a_port());
    let url = server.url();
    let text = samples(&get(&format!("{url}/metrics")).expect("metrics"));
    let json: Value =
        serde_json::from_str(&get(&format!("{url}/snapshot")).expect("a snapshot")).expect("JSON");
    let snapshot = server.snapshot();
    let (sums, totals) = (snapshot.sums(), snapshot.totals);
    // Metrics, JSON, and what `core` computes of the same memory, three ways.
    let table = [
        ("ferricorn_threads", "threads", sums.threads, 8),
        ("ferricorn_threads_busy", "threads_busy", sums.threads_busy, 6),
        ("ferricorn_requests_queued", "queued", sums.queued, 4),
        ("ferricorn_connections", "connections", sums.connections, 34),
        ("ferricorn_requests_in_flight", "in_flight", sums.in_flight, 2),
        ("ferricorn_websockets", "websockets", sums.websockets, 0),
        ("ferricorn_workers_serving", "workers_serving", sums.workers_serving, 2),
        ("ferricorn_workers_taken_over", "workers_taken_over", sums.workers_taken_over, 1),
        ("ferricorn_requests_lost_total", "lost", sums.lost, 4),
    ];
    for (name, field, computed, expected) in table {
        assert_eq!(computed, expected, "{name}");
        assert_eq!(one(&text, name, &[]), expected as f64, "{name}");
        assert_eq!(json["sums"][field], expected, "{name}");
    }
    // Those who have ended are counted as well.
    let table = [
        ("ferricorn_requests_completed_total", "requests", totals.requests, 3_003),
        ("ferricorn_requests_refused_total", "refused", totals.refused, 9),
        ("ferricorn_requests_shed_total", "shed", totals.shed, 16),
        ("ferricorn_requests_timed_out_total", "timed_out", totals.timed_out, 15),
        ("ferricorn_takeovers_total", "takeovers", totals.takeovers, 18),
        ("ferricorn_response_bytes_total", "bytes_sent", totals.bytes_sent, 1 << 34),
    ];
    for (name, field, computed, expected) in table {
        assert_eq!(computed, expected, "{name}");
        assert_eq!(one(&text, name, &[]), expected as f64, "{name}");
        assert_eq!(json["totals"][field], expected, "{name}");
    }
    assert_eq!(snapshot.workers.iter().map(|worker| worker.requests).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(one(&text, "ferricorn_responses_total", &[("class", "2xx")]), 2_700.0);
    assert_eq!(one(&text, "ferricorn_worker_exits_total", &[("reason", "out_of_memory")]), 2.0);
    assert_eq!(one(&text, "ferricorn_worker_exits_total", &[("reason", "signal")]), 0.0);
    assert_eq!(one(&text, "ferricorn_workers", &[("life", "busy")]), 2.0);
    assert_eq!(one(&text, "ferricorn_incidents_open", &[("cause", "db.lock")]), 1.0);
    assert_eq!(one(&text, "ferricorn_worker_boot_seconds", &[]), 1.5);
    assert!(one(&text, "ferricorn_oldest_request_age_seconds", &[]) >= 5.0);
    for route in &snapshot.routes {
        let Route { key, phases } = route;
        let labels = [("route", key.route.as_str()), ("method", &key.method), ("class", key.class.name())];
        assert_eq!(one(&text, "ferricorn_requests_total", &labels), route.requests() as f64);
        for (phase, durations) in [("queue", &phases.queue), ("app", &phases.app), ("write", &phases.write)] {
            let [route, method, class] = labels;
            let labels = [route, method, class, ("phase", phase)];
            let name = |suffix| format!("ferricorn_request_duration_seconds_{suffix}");
            assert_eq!(one(&text, &name("count"), &labels), durations.count as f64);
            assert_eq!(one(&text, &name("sum"), &labels), durations.sum_us as f64 / 1e6);
            for (all, below) in of(&text, &name("bucket"), &labels) {
                let bound_us =
                    all["le"].parse::<f64>().map_or(u64::MAX, |bound| (bound * 1e6).round() as u64);
                // Bounds are edges of buckets: above the one before, nothing is left.
                let expected = durations.count - durations.above(bound_us - 1);
                assert_eq!(below, expected as f64, "{all:?}");
            }
            assert_eq!(of(&text, &name("bucket"), &labels).count(), 18);
        }
    }
}

/// A Prometheus that scrapes a server every two seconds.
struct Scraper {
    url: String,
    _process: Program,
    _folder: TempDir,
}

impl Scraper {
    fn start(server: &Server, features: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let target = server.url();
        let target = target.trim_start_matches("http://");
        let config = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\n\
             scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, config).expect("written");
        let port = free_port();
        let process = Program::start(
            Command::new("prometheus")
                .arg(format!("--config.file={}", path.display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .args(features)
                .current_dir(folder.path()),
        )?;
        Some(Self { url: format!("http://127.0.0.1:{port}"), _process: process, _folder: folder })
    }

    /// Returns the answer to a query: labels with number, or with a whole histogram.
    fn query(&self, query: &str) -> Vec<(Labels, Value)> {
        let answer = ureq::get(format!("{}/api/v1/query", self.url)).query("query", query).call();
        let Ok(text) = answer.and_then(|mut answer| answer.body_mut().read_to_string()) else {
            return Vec::new();
        };
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let results = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let labels = |result: &Value| -> Labels {
            let mut labels: Labels = serde_json::from_value(result["metric"].clone()).expect("labels");
            labels.retain(|name, _| !matches!(name.as_str(), "job" | "instance"));
            labels
        };
        let value = |result: &Value| match &result["histogram"] {
            Value::Null => result["value"][1].clone(),
            histogram => histogram[1].clone(),
        };
        results.iter().map(|result| (labels(result), value(result))).collect()
    }

    fn numbers(&self, query: &str) -> BTreeMap<Labels, f64> {
        let number = |value: Value| value.as_str().expect("a number").parse().expect("a number");
        self.query(query).into_iter().map(|(labels, value)| (labels, number(value))).collect()
    }

    /// Waits until it has scraped.
    fn scraped(&self, what: &str) {
        wait_for("scrape", || self.query(what).into_iter().next());
        assert_eq!(self.numbers("up").into_values().collect::<Vec<_>>(), [1.0]);
    }
}

#[test]
fn prometheus_scrapes_text() {
    let server = serve(on_a_port());
    let Some(scraper) = Scraper::start(&server, &[]) else {
        eprintln!("skipped: prometheus is not installed (Debian package prometheus)");
        return;
    };
    scraper.scraped("ferricorn_build_info");
    let ours = samples(&get(&format!("{}/metrics", server.url())).expect("metrics"));
    let theirs = scraper.numbers("{__name__=~\"ferricorn_.+\"}");
    let fixed = |samples: &BTreeMap<Labels, f64>| -> BTreeMap<Labels, f64> {
        samples.clone().into_iter().filter(|(labels, _)| !moves(&labels["__name__"])).collect()
    };
    // Every series, with every label and every number.
    let (ours, theirs) = (fixed(&ours), fixed(&theirs));
    assert!(ours.len() > 250, "{}", ours.len());
    assert_eq!(ours, theirs);
    assert!(theirs.keys().any(|labels| labels.get("route").is_some_and(|route| route == ODD_ROUTE)));
    // A new request is there with the next scrape.
    server.board.workers[0].requests.fetch_add(10, std::sync::atomic::Ordering::Relaxed);
    wait_for("new number", || {
        let now = scraper.numbers("ferricorn_requests_completed_total");
        now.into_values().find(|number| *number == 3_013.0)
    });
}

#[test]
fn prometheus_scrapes_native_histograms() {
    let server = serve(on_a_port());
    let Some(scraper) = Scraper::start(&server, &["--enable-feature=native-histograms"]) else {
        eprintln!("skipped: prometheus is not installed (Debian package prometheus)");
        return;
    };
    scraper.scraped("ferricorn_request_duration_seconds");
    let snapshot = server.snapshot();
    // Plain numbers are the same as in the text.
    let ours = samples(&get(&format!("{}/metrics", server.url())).expect("metrics"));
    let histogram = |labels: &Labels| labels["__name__"].starts_with("ferricorn_request_duration_seconds");
    let mut plain = ours.clone();
    plain.retain(|labels, _| !histogram(labels) && !moves(&labels["__name__"]));
    let mut theirs =
        scraper.numbers("{__name__=~\"ferricorn_.+\", __name__!=\"ferricorn_request_duration_seconds\"}");
    theirs.retain(|labels, _| !moves(&labels["__name__"]));
    assert_eq!(plain, theirs);
    let counts = scraper.numbers("histogram_count(ferricorn_request_duration_seconds)");
    let sums = scraper.numbers("histogram_sum(ferricorn_request_duration_seconds)");
    let quantiles = scraper.numbers("histogram_quantile(0.9, ferricorn_request_duration_seconds)");
    let whole: BTreeMap<Labels, Value> =
        scraper.query("ferricorn_request_duration_seconds").into_iter().collect();
    let expected = durations(&snapshot);
    assert_eq!(counts.len(), expected.len());
    for (labels, durations) in expected {
        assert_eq!(counts[&labels], durations.count as f64, "{labels:?}");
        assert_eq!(sums[&labels], durations.sum_us as f64 / 1e6, "{labels:?}");
        let named = {
            let mut named = labels.clone();
            named.insert("__name__".to_owned(), "ferricorn_request_duration_seconds".to_owned());
            named
        };
        let buckets = whole[&named]["buckets"].as_array().expect("buckets").clone();
        let all: f64 = buckets
            .iter()
            .map(|bucket| bucket[3].as_str().expect("a count").parse::<f64>().expect("one"))
            .sum();
        assert_eq!(all, durations.count as f64, "{labels:?}");
        // Both are right to within a bucket of each.
        let ours = durations.quantile_us(0.9).expect("some") as f64 / 1e6;
        let theirs = quantiles[&labels];
        assert!(
            theirs / ours < 1.11 && ours / theirs < 1.25 || ours < 1e-5,
            "{labels:?}: {theirs} for {ours}"
        );
    }
}

/// Every distribution with its labels.
pub fn durations(snapshot: &Snapshot) -> Vec<(Labels, ferricorn_core::histogram::Distribution)> {
    let labels = |route: &Route, phase: &str| -> Labels {
        let key = &route.key;
        let class: Class = key.class;
        [("route", key.route.as_str()), ("method", &key.method), ("class", class.name()), ("phase", phase)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    let of = |route: &Route| {
        let phases = &route.phases;
        let all = [("queue", &phases.queue), ("app", &phases.app), ("write", &phases.write)];
        all.map(|(phase, durations)| (labels(route, phase), durations.clone()))
    };
    snapshot.routes.iter().flat_map(of).filter(|(_, durations)| durations.count > 0).collect()
}
