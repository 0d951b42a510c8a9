//! The lines that say, at start, which settings have no effect. Not for: bad values, which are errors.

use crate::said::{Said, Source};
use crate::setting::{Kind, Served, Setting};
use crate::value::Value;

/// What the observer does, and nobody without it.
const OF_OBSERVER: [&str; 8] = [
    "admin_bind",
    "notify",
    "otlp_endpoint",
    "reflex_fleet",
    "reflex_history",
    "reflex_mode",
    "reflex_policy",
    "workers_max",
];

/// Returns a line for each setting that somebody set, to something else than its default, and that is not served.
pub fn warnings(said: &Said) -> Vec<String> {
    let observed = said.value("reflex") != Value::Bool(false);
    let line = |(setting, value, source): (&'static Setting, Value, Source)| {
        let line = warning(setting, &value, source);
        let is_lost = !observed && OF_OBSERVER.contains(&setting.name) && value != setting.default.value();
        let lost = || {
            format!(
                "setting {} ({}) has no effect: there is no observer (reflex)",
                setting.name,
                source.words()
            )
        };
        line.or_else(|| is_lost.then(lost))
    };
    said.all().filter_map(line).collect()
}

fn warning(setting: &Setting, value: &Value, source: Source) -> Option<String> {
    let name = setting.name;
    let origin = source.words();
    if source <= Source::Environment || *value == setting.default.value() {
        return None;
    }
    match setting.served {
        Served::Yes | Served::Inert(_) => None,
        Served::NotYet(reason) => Some(match setting.kind {
            Kind::Hook { .. } => format!("hook {name} ({origin}) is not called: {reason}"),
            _ => format!("setting {name} ({origin}) has no effect: {reason}"),
        }),
        Served::Only { values, .. } if values.have(&value.shown()) => None,
        Served::Only { reason, .. } => {
            Some(format!("setting {name} = {} ({origin}) has no effect: {reason}", value.repr()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_the_observer_is_named_without_it() {
        let said = |reflex| {
            let mut said = Said::default();
            said.say("admin_bind", Value::from("127.0.0.1:9100"), Source::CommandLine).expect("a setting");
            said.say("reflex", Value::Bool(reflex), Source::File).expect("a setting");
            warnings(&said)
        };
        let line = "setting admin_bind (command line) has no effect: there is no observer (reflex)";
        assert_eq!((said(true), said(false)), (vec![], vec![line.to_owned()]));
    }

    #[test]
    fn what_is_set_and_not_served_is_named() {
        let object = |text: &str| Value::Object(text.to_owned());
        let texts = |texts: &[&str]| Value::List(texts.iter().map(|text| (*text).to_owned()).collect());
        let table = [
            (
                "certfile",
                Value::from("a.pem"),
                Source::File,
                Some(
                    "setting certfile (configuration file) has no effect: TLS is not served yet; let a proxy in front terminate it",
                ),
            ),
            (
                "enable_backlog_metric",
                Value::Bool(true),
                Source::CommandLine,
                Some(
                    "setting enable_backlog_metric (command line) has no effect: the length of the listeners' queues is not looked at yet",
                ),
            ),
            (
                "worker_class",
                Value::from("tornado"),
                Source::CmdArgs,
                Some(
                    "setting worker_class = 'tornado' (GUNICORN_CMD_ARGS) has no effect: only the workers sync, gthread, asgi and gevent are served yet",
                ),
            ),
            ("worker_class", Value::from("gunicorn.workers.gthread.ThreadWorker"), Source::File, None),
            ("worker_class", Value::from("shop.workers.MyUvicornWorker"), Source::File, None),
            ("worker_class", Value::from("gevent"), Source::File, None),
            (
                "ssl_context",
                object("ctx"),
                Source::File,
                Some(
                    "hook ssl_context (configuration file) is not called: TLS is not served yet; let a proxy in front terminate it",
                ),
            ),
            (
                "http_protocols",
                texts(&["h2", "h1"]),
                Source::File,
                Some(
                    "setting http_protocols = ['h2', 'h1'] (configuration file) has no effect: HTTP/2 is not served yet; let a proxy in front speak it",
                ),
            ),
            ("http_protocols", texts(&["h1"]), Source::File, None),
            ("statsd_host", Value::from("h:1"), Source::CommandLine, None),
            ("http_parser", Value::from("python"), Source::File, None),
            ("protocol", Value::from("http"), Source::File, None),
            ("reload", Value::Bool(false), Source::File, None),
            ("control_socket", Value::from("/x"), Source::Default, None),
            ("worker_tmp_dir", Value::from("/dev/shm"), Source::File, None),
            ("post_fork", object("post_fork"), Source::File, None),
            ("workers", Value::Int(4), Source::CommandLine, None),
        ];
        for (name, value, source, line) in table {
            let mut said = Said::default();
            said.say(name, value, source).expect(name);
            assert_eq!(warnings(&said), line.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{name}");
        }
    }
}
