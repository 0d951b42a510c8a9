//! Prometheus's text format, version 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//! Not for: native histograms, which it cannot express.

use crate::export::family::{Family, Kind, PREFIX, Series, Value, seconds};
use crate::export::fold::classic;
use std::fmt::{Display, Write};

/// Writes all families.
pub(super) fn write(families: &[Family<'_>]) -> String {
    let mut out = String::new();
    for family in families {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = escaped(family.help, false);
        line(&mut out, format_args!("# HELP {PREFIX}{} {help}", family.name));
        line(&mut out, format_args!("# TYPE {PREFIX}{} {kind}", family.name));
        for series in &family.series {
            match series.value {
                Value::Durations(durations) => {
                    let name = |suffix| format!("{}_{suffix}", family.name);
                    let bucket = name("bucket");
                    for (bound, below) in classic(durations) {
                        sample(&mut out, &bucket, series, Some(&bound), below);
                    }
                    sample(&mut out, &bucket, series, Some(&"+Inf"), durations.count);
                    sample(&mut out, &name("sum"), series, None, seconds(durations.sum_us));
                    sample(&mut out, &name("count"), series, None, durations.count);
                }
                Value::Int(number) => sample(&mut out, family.name, series, None, number),
                Value::Float(number) => sample(&mut out, family.name, series, None, number),
            }
        }
    }
    out
}

fn sample(
    out: &mut String,
    name: &str,
    series: &Series<'_>,
    bound: Option<&dyn Display>,
    value: impl Display,
) {
    let mut labels = String::new();
    for (name, value) in &series.labels {
        let comma = if labels.is_empty() { "" } else { "," };
        push(&mut labels, format_args!("{comma}{name}=\"{}\"", escaped(value, true)));
    }
    if let Some(bound) = bound {
        let comma = if labels.is_empty() { "" } else { "," };
        push(&mut labels, format_args!("{comma}le=\"{bound}\""));
    }
    match labels.as_str() {
        "" => line(out, format_args!("{PREFIX}{name} {value}")),
        labels => line(out, format_args!("{PREFIX}{name}{{{labels}}} {value}")),
    }
}

/// Backslashes and line ends are escaped; in the values of labels, quotes are too.
fn escaped(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    push(out, text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::histogram::Distribution;

    #[test]
    fn families_are_written_line_by_line() {
        let mut durations = Distribution::default();
        [900, 1_100, 30_000_000, 90_000_000].into_iter().for_each(|us| durations.add(us));
        let labels = vec![("route", "/a\"b\\c\nd"), ("method", "GET")];
        let families = [
            Family::new(
                "d_seconds",
                Kind::Histogram,
                "Durations\\.\nMore.",
                [(labels, Value::Durations(&durations))],
            ),
            Family::counter("c_total", "Count.", 3),
            Family::measure("m_seconds", "Measure.", Some(0.25)),
        ];
        insta::assert_snapshot!(write(&families), @r##"
        # HELP ferricorn_d_seconds Durations\\.\nMore.
        # TYPE ferricorn_d_seconds histogram
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.001024"} 1
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.002048"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.004096"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.008192"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.016384"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.032768"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.065536"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.131072"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.262144"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="0.524288"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="1.048576"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="2.097152"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="4.194304"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="8.388608"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="16.777216"} 2
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="33.554432"} 3
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="67.108864"} 3
        ferricorn_d_seconds_bucket{route="/a\"b\\c\nd",method="GET",le="+Inf"} 4
        ferricorn_d_seconds_sum{route="/a\"b\\c\nd",method="GET"} 120.002
        ferricorn_d_seconds_count{route="/a\"b\\c\nd",method="GET"} 4
        # HELP ferricorn_c_total Count.
        # TYPE ferricorn_c_total counter
        ferricorn_c_total 3
        # HELP ferricorn_m_seconds Measure.
        # TYPE ferricorn_m_seconds gauge
        ferricorn_m_seconds 0.25
        "##);
    }
}
