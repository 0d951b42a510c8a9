//! Families as OTLP messages: counters as cumulative sums, gauges, and durations as exponential histograms.
//! Not for: sending them.

use crate::export::family::{Family, Kind, PREFIX, Series, Since, Value, seconds};
use crate::export::fold::{SCALE, ZERO_THRESHOLD, exponential};
use ferricorn_core::histogram::Distribution;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// When the numbers of a message began and were read, nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) server_ns: u64,
    pub(super) observer_ns: u64,
    pub(super) now_ns: u64,
}

/// Returns one message with all families.
pub(super) fn message(
    families: &[Family<'_>],
    resource: &[(String, String)],
    times: Times,
) -> ExportMetricsServiceRequest {
    let attributes = resource.iter().map(|(name, value)| pair(name, value)).collect();
    let scope = InstrumentationScope {
        name: "ferricorn".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics = families.iter().map(|family| metric(family, times)).collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn metric(family: &Family<'_>, times: Times) -> Metric {
    let start_ns = match family.since {
        Since::Server => times.server_ns,
        Since::Observer => times.observer_ns,
    };
    let temporality = AggregationTemporality::Cumulative.into();
    let data = match family.kind {
        Kind::Gauge => {
            let data_points = family.series.iter().map(|series| number(series, 0, times.now_ns)).collect();
            Data::Gauge(Gauge { data_points })
        }
        Kind::Counter => Data::Sum(Sum {
            data_points: family.series.iter().map(|series| number(series, start_ns, times.now_ns)).collect(),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        Kind::Histogram => {
            let durations = family.series.iter().filter_map(|series| match series.value {
                Value::Durations(durations) => Some(point(series, durations, start_ns, times.now_ns)),
                _ => None,
            });
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: durations.collect(),
                aggregation_temporality: temporality,
            })
        }
    };
    Metric {
        name: format!("{PREFIX}{}", family.name),
        description: family.help.to_owned(),
        unit: unit(family.name).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// The unit in the words of UCUM; what is counted has none.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "1",
    }
}

fn number(series: &Series<'_>, start_time_unix_nano: u64, time_unix_nano: u64) -> NumberDataPoint {
    let value = match series.value {
        Value::Int(number) => number_data_point::Value::AsInt(i64::try_from(number).unwrap_or(i64::MAX)),
        other => number_data_point::Value::AsDouble(other.number()),
    };
    NumberDataPoint {
        attributes: attributes(series),
        start_time_unix_nano,
        time_unix_nano,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn point(
    series: &Series<'_>,
    durations: &Distribution,
    start: u64,
    now: u64,
) -> ExponentialHistogramDataPoint {
    let folded = exponential(durations);
    ExponentialHistogramDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: start,
        time_unix_nano: now,
        count: durations.count,
        sum: Some(seconds(durations.sum_us)),
        scale: SCALE,
        zero_count: folded.zero,
        zero_threshold: ZERO_THRESHOLD,
        positive: Some(Buckets { offset: folded.offset, bucket_counts: folded.counts }),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn attributes(series: &Series<'_>) -> Vec<KeyValue> {
    series.labels.iter().map(|(name, value)| pair(name, value)).collect()
}

fn pair(name: &str, value: &str) -> KeyValue {
    let value = any_value::Value::StringValue(value.to_owned());
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_off_names() {
        let table = [
            ("request_duration_seconds", "s"),
            ("observer_cpu_seconds_total", "s"),
            ("response_bytes_total", "By"),
            ("observer_resident_memory_bytes", "By"),
            ("requests_total", "1"),
            ("threads", "1"),
        ];
        for (name, expected) in table {
            assert_eq!(unit(name), expected, "{name}");
        }
    }
}
