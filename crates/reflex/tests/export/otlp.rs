//! A receiver shaped like a Collector gets by OTLP the numbers that Prometheus gets.

use crate::exposition::{Labels, one, samples};
use crate::process::get;
use crate::prometheus::{durations, on_a_port};
use crate::server::serve;
use ferricorn_core::histogram::{Distribution, bucket_floor};
use ferricorn_reflex::export::{Config, Identity, Otlp};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, Metric, NumberDataPoint, number_data_point,
};
use prost::Message;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Cumulative, of `AggregationTemporality`.
const CUMULATIVE: i32 = 2;

/// Takes one message per connection.
fn receive() -> (String, Receiver<ExportMetricsServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a reader"));
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().expect("a number");
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let partial =
                ExportMetricsPartialSuccess { rejected_data_points: 1, error_message: "too old".to_owned() };
            let answer = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            stream.write_all(&[head.as_bytes(), &answer].concat()).expect("answered");
            if sender.send(ExportMetricsServiceRequest::decode(body.as_slice()).expect("a message")).is_err()
            {
                return;
            }
        }
    });
    (format!("http://{address}"), receiver)
}

fn config(url: &str) -> Config {
    let variable = |name: &str| match name {
        "OTEL_METRIC_EXPORT_INTERVAL" => Some("200".to_owned()),
        "OTEL_RESOURCE_ATTRIBUTES" => Some("deployment.environment=test".to_owned()),
        _ => None,
    };
    let me = Identity { service: "shop", host: "h", pid: 7 };
    let otlp = Otlp::of(Some(url), &variable, me).expect("readable");
    Config { otlp, ..on_a_port() }
}

fn labels(attributes: &[KeyValue]) -> Labels {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

#[test]
fn a_collector_gets_the_same_numbers() {
    let (url, messages) = receive();
    let server = serve(config(&url));
    let message = messages.recv_timeout(Duration::from_secs(60)).expect("a message");
    let text = samples(&get(&format!("{}/metrics", server.url())).expect("metrics"));
    let resource = &message.resource_metrics[0];
    let who = labels(&resource.resource.as_ref().expect("a resource").attributes);
    assert_eq!((who["service.name"].as_str(), who["service.instance.id"].as_str()), ("shop", "h:7"));
    assert_eq!(who["deployment.environment"], "test");
    let scope = resource.scope_metrics[0].scope.as_ref().expect("a scope");
    assert_eq!(scope.name, "ferricorn");

    let (mut numbers, mut histograms) = (BTreeMap::new(), BTreeMap::new());
    for metric in &resource.scope_metrics[0].metrics {
        assert!(!metric.description.is_empty() && !metric.unit.is_empty());
        read(metric, &mut numbers, &mut histograms);
    }
    // Every number that is not a distribution's, of those that do not move from one reading to the next.
    let moves = |name: &str| {
        name.starts_with("ferricorn_observer_")
            || matches!(name, "ferricorn_uptime_seconds" | "ferricorn_oldest_request_age_seconds")
    };
    let is_fixed = |labels: &Labels| {
        !moves(&labels["__name__"]) && !labels["__name__"].starts_with("ferricorn_request_duration_seconds")
    };
    let fixed = |numbers: &BTreeMap<Labels, f64>| -> BTreeMap<Labels, f64> {
        numbers.clone().into_iter().filter(|(labels, _)| is_fixed(labels)).collect()
    };
    assert_eq!(fixed(&text), fixed(&numbers));
    assert!(numbers.keys().any(|labels| labels["__name__"] == "ferricorn_uptime_seconds"));
    let expected = durations(&server.snapshot());
    assert_eq!(histograms.len(), expected.len());
    for (labels, durations) in expected {
        compare(&histograms[&labels], &durations);
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let count = one(&text, "ferricorn_request_duration_seconds_count", &labels);
        assert_eq!(count, durations.count as f64);
    }
    crate::server::wait_for("line", || {
        let lines = server.shared.lines();
        lines.into_iter().find(|(_, line)| line.ends_with("has rejected 1 of the metrics: too old"))
    });
}

fn read(
    metric: &Metric,
    numbers: &mut BTreeMap<Labels, f64>,
    histograms: &mut BTreeMap<Labels, ExponentialHistogramDataPoint>,
) {
    let number = |point: &NumberDataPoint| match point.value {
        Some(number_data_point::Value::AsInt(number)) => number as f64,
        Some(number_data_point::Value::AsDouble(number)) => number,
        None => panic!("a point without a number"),
    };
    let name = |point: &NumberDataPoint| {
        let mut labels = labels(&point.attributes);
        labels.insert("__name__".to_owned(), metric.name.clone());
        labels
    };
    match metric.data.as_ref().expect("data") {
        Data::Gauge(gauge) => {
            assert!(!metric.name.ends_with("_total"), "{}", metric.name);
            numbers.extend(gauge.data_points.iter().map(|point| (name(point), number(point))));
        }
        Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == CUMULATIVE);
            for point in &sum.data_points {
                assert!(point.start_time_unix_nano > 0 && point.start_time_unix_nano < point.time_unix_nano);
                numbers.insert(name(point), number(point));
            }
        }
        Data::ExponentialHistogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, CUMULATIVE);
            for point in &histogram.data_points {
                histograms.insert(labels(&point.attributes), point.clone());
            }
        }
        other => panic!("{other:?}"),
    }
}

/// Compares an exponential histogram with ours: count and sum are equal, and at every bound no more durations are on the other side than
/// lie near it.
fn compare(point: &ExponentialHistogramDataPoint, durations: &Distribution) {
    assert_eq!((point.count, point.sum), (durations.count, Some(durations.sum_us as f64 / 1e6)));
    let positive = point.positive.as_ref().expect("buckets");
    assert_eq!(point.zero_count + positive.bucket_counts.iter().sum::<u64>(), durations.count);
    let base = 2_f64.powf(2_f64.powi(-point.scale));
    let mut seen = point.zero_count;
    for (at, count) in (positive.offset..).zip(&positive.bucket_counts) {
        seen += count;
        let upper_us = base.powi(at + 1) * 1e6;
        // Below that our buckets are a microsecond wide, which is much there.
        if upper_us < 10.0 {
            continue;
        }
        let below = |us: f64| -> u64 {
            let counted = durations.buckets.iter().enumerate();
            counted.filter(|(bucket, _)| (bucket_floor(*bucket) as f64) < us).map(|(_, count)| count).sum()
        };
        let (least, most) = (below(upper_us / 1.14), below(upper_us * 1.07 + 1.0));
        assert!(least <= seen && seen <= most, "{seen} below {upper_us}: {least}..{most}");
    }
}

#[test]
fn a_server_that_ends_sends_its_last_numbers() {
    let (url, messages) = receive();
    let variable = |_: &str| None;
    let me = Identity { service: "shop", host: "h", pid: 7 };
    let otlp = Otlp::of(Some(&url), &variable, me).expect("readable");
    let mut server = serve(Config { otlp, ..on_a_port() });
    get(&format!("{}/metrics", server.url())).expect("something is published");
    drop(server.exports.take());
    let message = messages.recv_timeout(Duration::from_secs(60)).expect("a message");
    assert!(message.resource_metrics[0].scope_metrics[0].metrics.len() > 30);
}
