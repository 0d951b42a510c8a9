//! Metrics as Prometheus scrapes them: text with classic histograms, or protobuf with native ones where the scraper asks for it
//! (Prometheus from 2.40 on with native histograms turned on).
//!
//! Not for: OpenMetrics text. Every scraper that knows it takes the classic text as well, and it would say nothing more
//! here, without exemplars; `promtool check metrics` does not take it.

mod protobuf;
mod text;

use super::family::Family;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text, version 0.0.4.
    Text,
    /// `io.prometheus.client.MetricFamily` messages, each behind its length.
    Protobuf,
}

impl Format {
    /// Returns the one that an `Accept` field wants most; text where it wants neither.
    pub(crate) fn wanted(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let value = |name: &str| {
                parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
            };
            let format = match name.as_str() {
                "application/vnd.google.protobuf"
                    if value("proto") == Some("io.prometheus.client.MetricFamily")
                        && value("encoding") == Some("delimited") =>
                {
                    Self::Protobuf
                }
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => continue,
            };
            let quality: f64 = value("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// Returns the `Content-Type` of an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Writes metrics down.
    pub(crate) fn write(self, families: &[Family<'_>]) -> Vec<u8> {
        match self {
            Self::Text => text::write(families).into_bytes(),
            Self::Protobuf => protobuf::write(families),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_ask_for() {
        const PROTO: &str =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let table = [
            ("", Format::Text),
            ("*/*", Format::Text),
            // Prometheus 2.42 without and with native histograms.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Text,
            ),
            (
                &format!(
                    "{PROTO},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                Format::Protobuf,
            ),
            // Prometheus 3, with the protocols in another order.
            (&format!("text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,{PROTO};q=0.4"), Format::Text),
            (&format!("{PROTO};q=0, text/plain;q=0.1"), Format::Text),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Text),
            (&format!("{PROTO};q=high,*/*;q=0.1"), Format::Text),
            ("text/html, image/*", Format::Text),
        ];
        for (accept, expected) in table {
            assert_eq!(Format::wanted(accept), expected, "{accept}");
        }
    }
}
