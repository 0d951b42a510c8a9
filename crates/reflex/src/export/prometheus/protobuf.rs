//! Prometheus's protobuf format with native histograms: the messages of `io.prometheus.client` (`metrics.proto` of
//! prometheus/client_model), as far as they are used here.
//!
//! Not for: classic buckets beside native ones; a scraper that asks for this takes the native ones.

use crate::export::family::{Family, Kind, PREFIX, Series, Value, seconds};
use crate::export::fold::{SCALE, ZERO_THRESHOLD, exponential};
use ferricorn_core::histogram::Distribution;
use prost::Message;

/// A gap of more empty buckets than this begins a new span: two numbers there cost as much as two zeros here.
const GAP_MAX: u32 = 2;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(enumeration = "MetricType", tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `Counter` and `Gauge`, which are alike.
#[derive(Clone, Copy, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct BucketSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// Writes all families, each behind its length.
pub(super) fn write(families: &[Family<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for family in families {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let message = MetricFamily {
            name: format!("{PREFIX}{}", family.name),
            help: family.help.to_owned(),
            kind: kind.into(),
            metric: family.series.iter().map(|series| metric(family.kind, series)).collect(),
        };
        message.encode_length_delimited(&mut out).expect("a vector grows");
    }
    out
}

fn metric(kind: Kind, series: &Series<'_>) -> Metric {
    let pair =
        |(name, value): &(&str, &str)| LabelPair { name: (*name).to_owned(), value: (*value).to_owned() };
    let label = series.labels.iter().map(pair).collect();
    let number = Some(Number { value: series.value.number() });
    match (kind, series.value) {
        (_, Value::Durations(durations)) => {
            Metric { label, histogram: Some(histogram(durations)), ..Metric::default() }
        }
        (Kind::Counter, _) => Metric { label, counter: number, ..Metric::default() },
        _ => Metric { label, gauge: number, ..Metric::default() },
    }
}

fn histogram(durations: &Distribution) -> Histogram {
    let folded = exponential(durations);
    let (positive_span, positive_delta) = spans(folded.offset, &folded.counts);
    Histogram {
        sample_count: durations.count,
        sample_sum: seconds(durations.sum_us),
        schema: SCALE,
        zero_threshold: ZERO_THRESHOLD,
        zero_count: folded.zero,
        positive_span,
        positive_delta,
    }
}

/// Cuts buckets into runs, and says each as the difference to the one before. Prometheus's index of a bucket is one above
/// OpenTelemetry's: it names a bucket by its upper bound.
fn spans(offset: i32, counts: &[u64]) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<BucketSpan>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut before, mut empty) = (0, 0);
    for (at, count) in counts.iter().enumerate() {
        if *count == 0 {
            empty += 1;
            continue;
        }
        match spans.last_mut() {
            None => spans.push(BucketSpan { offset: offset + at as i32 + 1, length: 1 }),
            Some(_) if empty > GAP_MAX => spans.push(BucketSpan { offset: empty.cast_signed(), length: 1 }),
            Some(span) => {
                span.length += empty + 1;
                for _ in 0..empty {
                    deltas.push(-before);
                    before = 0;
                }
            }
        }
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        (before, empty) = (count, 0);
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads runs as Prometheus does: index of the bucket by its upper bound, and count.
    fn read(spans: &[BucketSpan], deltas: &[i64]) -> Vec<(i32, i64)> {
        let (mut index, mut count, mut deltas) = (0, 0, deltas.iter());
        let mut all = Vec::new();
        for span in spans {
            index += span.offset;
            for _ in 0..span.length {
                count += deltas.next().expect("a delta for each bucket");
                all.push((index, count));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        all.retain(|(_, count)| *count > 0);
        all
    }

    #[test]
    fn runs_have_one_offset_each() {
        let span = |offset, length| BucketSpan { offset, length };
        let (spans, deltas) = spans(-5, &[3, 5, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(spans, [span(-4, 5), span(3, 1)]);
        assert_eq!(deltas, [3, 2, -5, 0, 1, 1]);
    }

    #[test]
    fn a_family_stands_behind_its_length() {
        let written = write(&[Family::counter("c_total", "Help.", 3), Family::gauge("g", "Help.", 0)]);
        let mut rest = written.as_slice();
        let first = MetricFamily::decode_length_delimited(&mut rest).expect("the first");
        let second = MetricFamily::decode_length_delimited(&mut rest).expect("the second");
        assert_eq!((first.name.as_str(), first.kind()), ("ferricorn_c_total", MetricType::Counter));
        assert_eq!(first.metric[0].counter, Some(Number { value: 3.0 }));
        assert_eq!(
            (second.name.as_str(), second.metric[0].gauge),
            ("ferricorn_g", Some(Number { value: 0.0 }))
        );
        assert!(rest.is_empty());
    }

    proptest! {
        #[test]
        fn runs_say_every_bucket(offset in -400..400_i32, counts in proptest::collection::vec(0_u64..4, 0..60)) {
            let (spans, deltas) = spans(offset, &counts);
            let expected: Vec<(i32, i64)> = (offset + 1..)
                .zip(&counts)
                .filter(|(_, count)| **count > 0)
                .map(|(index, count)| (index, *count as i64))
                .collect();
            prop_assert_eq!(read(&spans, &deltas), expected);
        }
    }
}
