//! Metrics by the OpenTelemetry protocol: OTLP/HTTP with protobuf, every minute, all of them with their whole history
//! (cumulative), so that a lost message costs nothing but its moment. Where to, how often and as what the standard
//! variables say (OpenTelemetry specification, "OTLP exporter configuration" and "Environment variables").
//!
//! Names and labels are those of Prometheus. The semantic conventions' `http.server.request.duration` is not sent: it needs each
//! response's status and scheme, which are not kept per route, and an application that is instrumented sends it itself, under
//! the same service. Not for: traces and logs, gRPC, and JSON.

mod message;
mod sender;

pub(crate) use sender::run;

use ferricorn_settings::{shown, url_of};
use std::time::Duration;

/// How often, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
const INTERVAL: Duration = Duration::from_secs(60);
/// Nobody needs them more often, and the server has more to do.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How long one attempt may take, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const WITHIN: Duration = Duration::from_secs(10);
/// The longest time that variable can give.
const WITHIN_MAX: Duration = Duration::from_secs(60);
/// Most attributes and header fields that variables can give.
const PAIRS_MAX: usize = 64;

/// Where metrics go, how often, and as what.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    url: String,
    headers: Vec<(String, String)>,
    interval: Duration,
    within: Duration,
    resource: Vec<(String, String)>,
}

/// Header fields hold tokens, and URLs may.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, interval, resource, .. } = self;
        write!(f, "{} every {interval:?} as {resource:?}", shown(url))
    }
}

/// Who sends: what the resource is called unless variables say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// `proc_name`.
    pub service: &'a str,
    /// The host's name.
    pub host: &'a str,
    /// Pid of the arbiter.
    pub pid: u32,
}

impl Config {
    /// Returns what setting (`otlp_endpoint`) and variables come to; nothing if none of them says where to.
    ///
    /// # Errors
    /// Why nothing can be sent, as a sentence for the log.
    pub fn of(
        setting: Option<&str>,
        variable: &dyn Fn(&str) -> Option<String>,
        identity: Identity<'_>,
    ) -> Result<Option<Self>, String> {
        let variable =
            |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        // The more special one counts.
        let either = |name: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_METRICS_{name}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let off =
            |name: &str, value: &str| variable(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
        let url = match setting {
            Some(base) => with_path(base),
            None if off("OTEL_SDK_DISABLED", "true") || off("OTEL_METRICS_EXPORTER", "none") => {
                return Ok(None);
            }
            None => match (
                variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
                variable("OTEL_EXPORTER_OTLP_ENDPOINT"),
            ) {
                (Some(url), _) => url,
                (None, Some(base)) => with_path(&base),
                (None, None) => return Ok(None),
            },
        };
        let url = url_of(&url).map_err(|why| format!("Metrics are not sent by OTLP: {why}"))?;
        // Who has named an endpoint for us means this protocol; the variables may be meant for others.
        if let (None, Some(protocol)) = (setting, either("PROTOCOL"))
            && protocol != "http/protobuf"
        {
            return Err(format!(
                "Metrics are not sent by OTLP: OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, and only http/protobuf is spoken. Set --otlp-endpoint to a receiver of that, usually port 4318"
            ));
        }
        let millis =
            |text: Option<String>| text.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        let interval = millis(variable("OTEL_METRIC_EXPORT_INTERVAL")).unwrap_or(INTERVAL).max(INTERVAL_MIN);
        let within = millis(either("TIMEOUT")).filter(|within| !within.is_zero()).unwrap_or(WITHIN);
        Ok(Some(Self {
            url,
            headers: pairs(&either("HEADERS").unwrap_or_default()),
            interval,
            within: within.min(WITHIN_MAX),
            resource: resource(&variable, identity),
        }))
    }

    /// Returns what may be shown of the receiver.
    pub(crate) fn shown(&self) -> String {
        shown(&self.url)
    }

    /// Tells whether the receiver is at the port of the other protocol.
    fn is_at_grpc(&self) -> bool {
        shown(&self.url).trim_end_matches("/...").ends_with(":4317")
    }
}

/// An endpoint for all signals has one for metrics below it.
fn with_path(base: &str) -> String {
    let base = base.trim_end_matches('/');
    if base.ends_with("/v1/metrics") { base.to_owned() } else { format!("{base}/v1/metrics") }
}

fn resource(variable: &dyn Fn(&str) -> Option<String>, identity: Identity<'_>) -> Vec<(String, String)> {
    let Identity { service, host, pid } = identity;
    let mut resource = pairs(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        resource.retain(|(known, _)| known != "service.name");
        resource.push(("service.name".to_owned(), name));
    }
    let ours = [
        ("service.name", service.to_owned()),
        ("service.instance.id", format!("{host}:{pid}")),
        ("host.name", host.to_owned()),
        ("process.pid", pid.to_string()),
    ];
    for (name, value) in ours {
        if !resource.iter().any(|(known, _)| known == name) {
            resource.push((name.to_owned(), value));
        }
    }
    resource.sort();
    resource
}

/// Reads `name=value,name=value`, whose values are percent-encoded (W3C Baggage); what is none is left out.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let pair = |(name, value): (&str, &str)| (name.trim().to_owned(), decoded(value.trim()));
    pairs.filter(|(name, _)| !name.trim().is_empty()).take(PAIRS_MAX).map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity<'_> = Identity { service: "shop", host: "h", pid: 7 };

    fn config(setting: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<Config>, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Config::of(setting, &variable, ME)
    }

    #[test]
    fn where_to_is_found_in_settings_and_variables() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/");
        let metrics = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics:4318/some/path");
        type Case<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], Option<&'a str>);
        let table: [Case<'_>; 9] = [
            (None, &[], None),
            (None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None),
            (None, &[all], Some("http://all:4318/v1/metrics")),
            (None, &[all, metrics], Some("http://metrics:4318/some/path")),
            (Some("https://ours/otlp"), &[all, metrics], Some("https://ours/otlp/v1/metrics")),
            (Some("https://ours/v1/metrics"), &[], Some("https://ours/v1/metrics")),
            (None, &[all, ("OTEL_SDK_DISABLED", "True")], None),
            (None, &[all, ("OTEL_METRICS_EXPORTER", "none")], None),
            (Some("http://ours"), &[("OTEL_SDK_DISABLED", "true")], Some("http://ours/v1/metrics")),
        ];
        for (setting, variables, expected) in table {
            let config = config(setting, variables).expect("readable");
            assert_eq!(config.map(|config| config.url).as_deref(), expected, "{setting:?} {variables:?}");
        }
    }

    #[test]
    fn another_protocol_is_said() {
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        assert!(config(None, &[grpc, endpoint]).is_err_and(|why| why.contains("is grpc")));
        let http = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf");
        assert!(config(None, &[grpc, endpoint, http]).is_ok_and(|config| config.is_some()));
        assert!(config(Some("http://c:4318"), &[grpc]).is_ok_and(|config| config.is_some()));
        assert!(config(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318")]).is_err());
        let is_at_grpc = |url| config(Some(url), &[]).expect("readable").expect("there").is_at_grpc();
        assert!(is_at_grpc("http://c:4317") && !is_at_grpc("http://c:4318"));
    }

    #[test]
    fn everything_else_has_its_variable() {
        let config = config(
            Some("http://c/s3cret"),
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=all"),
                ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "Authorization=Basic%20czNjcmV0, x = 1 ,=no,bad"),
                ("OTEL_METRIC_EXPORT_INTERVAL", "1"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
                ("OTEL_SERVICE_NAME", "web"),
                (
                    "OTEL_RESOURCE_ATTRIBUTES",
                    "service.name=other,deployment.environment=a%2Cb,host.name=named",
                ),
            ],
        );
        let config = config.expect("readable").expect("there");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(config.headers, [pair("Authorization", "Basic czNjcmV0"), pair("x", "1")]);
        assert_eq!((config.interval, config.within), (INTERVAL_MIN, Duration::from_millis(2500)));
        assert_eq!(
            config.resource,
            [
                pair("deployment.environment", "a,b"),
                pair("host.name", "named"),
                pair("process.pid", "7"),
                pair("service.instance.id", "h:7"),
                pair("service.name", "web"),
            ]
        );
        let debug = format!("{config:?}");
        assert!(!debug.contains("s3cret") && !debug.contains("Basic"), "{debug}");
    }

    #[test]
    fn half_an_escape_is_text() {
        for (text, expected) in [("a%2", "a%2"), ("%zz", "%zz"), ("%25", "%"), ("%", "%"), ("%c3%a4", "ä")] {
            assert_eq!(decoded(text), expected);
        }
    }
}
