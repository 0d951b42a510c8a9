//! What `--print-config` shows. Not for: what else that flag does.

use crate::address::BindAddress;
use crate::broker::Broker;
use crate::destination;
use crate::said::Said;
use crate::secret::{HIDDEN, hidden};
use crate::setting::{Kind, Secrecy, Setting};
use crate::value::{Value, quoted};

/// Returns a line `name = value` for each setting, by name, in the columns and the notation of Gunicorn.
pub fn print_config(said: &Said) -> String {
    let mut rows: Vec<_> = said.all().collect();
    rows.sort_by_key(|(setting, ..)| setting.name);
    let width = rows.iter().map(|(setting, ..)| setting.name.len()).max().unwrap_or(0);
    let line = |(setting, value, _): (&Setting, Value, _)| {
        format!("{:width$} = {}\n", setting.name, shown(setting, &value))
    };
    rows.into_iter().map(line).collect()
}

/// Settings that a running server tells those who may look into it, beside all numbers and switches: where it listens,
/// whom it trusts, of which kind its workers are, what becomes a job. Nothing that may hold a secret.
const TOLD: [&str; 13] = [
    "bind",
    "db_statement_timeout",
    "deadline_header",
    "forwarded_allow_ips",
    "offload",
    "offload_prefer",
    "offload_prefix",
    "outbound_timeout",
    "proc_name",
    "route_timeouts",
    "state_dir",
    "worker_class",
    "worker_tmp_dir",
];

/// The setting of which is told what [`Broker`] knows.
const BROKER: &str = "offload_broker";

/// Returns what a running server tells of its settings, as [`print_config`] shows it; of a broker only of which kind it is.
pub fn told(said: &Said) -> String {
    let is_told =
        |name: &str, value: &Value| TOLD.contains(&name) || matches!(value, Value::Int(_) | Value::Bool(_));
    let row = |(setting, value, _): (&Setting, Value, _)| {
        let text = match &value {
            Value::Str(urls) if setting.name == BROKER => {
                Broker::all(urls).iter().map(Broker::shown).collect::<Vec<_>>().join(";")
            }
            Value::None if setting.name == BROKER => value.shown(),
            value if is_told(setting.name, value) => shown(setting, value),
            _ => return None,
        };
        Some(format!("{} = {text}\n", setting.name))
    };
    said.all().filter_map(row).collect()
}

fn shown(setting: &Setting, value: &Value) -> String {
    match (&setting.kind, value) {
        (_, Value::List(texts)) if setting.secrecy == Secrecy::Password => {
            Value::List(texts.iter().map(|text| hidden(text)).collect()).shown()
        }
        (_, Value::Str(text)) if setting.secrecy == Secrecy::Password => hidden(text),
        (_, Value::Str(text)) if setting.secrecy == Secrecy::All && !text.is_empty() => HIDDEN.to_owned(),
        (Kind::Hook { .. } | Kind::Class, Value::Object(name)) => format!("<{name}()>"),
        (Kind::Hook { .. }, Value::Str(path)) => format!("<{}()>", path.rsplit('.').next().unwrap_or(path)),
        (Kind::Address, Value::Str(text)) => address(text),
        // Its URLs hold tokens, and what is printed here is often kept.
        (_, Value::List(texts)) if setting.name == "notify" => {
            Value::List(texts.iter().map(|text| destination::shown_text(text)).collect()).shown()
        }
        _ => value.shown(),
    }
}

fn address(text: &str) -> String {
    // Older versions took `unix:8125` for a host of that name, and that has stayed.
    let port = text.strip_prefix("unix:").and_then(|digits| digits.parse::<u32>().ok());
    if let Some(port) = port {
        return format!("('unix', {port})");
    }
    match BindAddress::with_port(text, 8125) {
        Ok(BindAddress::Tcp { host, port }) => format!("({}, {port})", quoted(&host)),
        Ok(BindAddress::Unix { path }) => path.display().to_string(),
        Ok(BindAddress::Fd(fd)) => fd.to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::Source;

    #[test]
    fn lines_are_sorted_and_aligned() {
        let text = print_config(&Said::default());
        let names: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.len(), 174);
        assert!(text.lines().all(|line| line.get(34..37) == Some(" = ")), "{text}");
    }

    #[test]
    fn what_is_told_holds_no_secret() {
        let mut said = Said::default();
        for name in [
            "raw_env",
            "logconfig_dict",
            "statsd_host",
            "accesslog",
            "offload_broker",
            "offload_results",
            "offload_url_secret",
            "offload_webhook",
            "offload_webhook_secret",
        ] {
            let value = match name {
                "raw_env" => Value::List(vec!["DATABASE_URL=postgres://me:s3cret@db/x".to_owned()]),
                "offload_broker" => Value::from("amqp://me:s3cret@s3cret/s3cret?s3cret"),
                _ => Value::from("s3cret"),
            };
            said.say(name, value, Source::File).expect(name);
        }
        said.say("bind", Value::List(vec!["unix:/a".to_owned()]), Source::File).expect("bind");
        let text = told(&said);
        assert!(!text.contains("s3cret"), "{text}");
        for line in [
            "bind = ['unix:/a']",
            "offload_broker = amqp://:***@...",
            "proc_name = None",
            "timeout = 30",
            "reflex = True",
            "route_timeouts = {}",
            "worker_class = sync",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in {text}");
        }
    }

    #[test]
    fn values_are_printed_as_gunicorn_prints_them() {
        let object = |text: &str| Some(Value::Object(text.to_owned()));
        let texts = |texts: &[&str]| Some(Value::List(texts.iter().map(|text| (*text).to_owned()).collect()));
        let table = [
            ("access_log_format", None, r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#),
            ("accesslog", None, "None"),
            ("bind", None, "['127.0.0.1:8000']"),
            ("bind", texts(&["unix:/a", ":1"]), "['unix:/a', ':1']"),
            ("daemon", Some(Value::Bool(true)), "True"),
            ("reflex_database", texts(&["mysql://u:geheim@db/"]), "['mysql://u:***@db/']"),
            ("root_path", None, ""),
            ("http_protocols", None, "['h1']"),
            ("forwarder_headers", None, "['SCRIPT_NAME', 'PATH_INFO']"),
            (
                "secure_scheme_headers",
                None,
                "{'X-FORWARDED-PROTOCOL': 'ssl', 'X-FORWARDED-PROTO': 'https', 'X-FORWARDED-SSL': 'on'}",
            ),
            ("logconfig_dict", None, "{}"),
            ("logconfig_dict", object("{'version': 1}"), "{'version': 1}"),
            ("ssl_version", None, "2"),
            ("nworkers_changed", None, "<NumWorkersChanged.nworkers_changed()>"),
            ("post_fork", object("post_fork"), "<post_fork()>"),
            ("post_fork", Some(Value::from("pkg.hooks.forked")), "<forked()>"),
            ("worker_class", None, "sync"),
            ("worker_class", object("MyWorker"), "<MyWorker()>"),
            ("notify", texts(&["slack=https://h.example/s3cret"]), "['slack=https://h.example/...']"),
            ("statsd_host", None, "None"),
            ("statsd_host", Some(Value::from("Localhost")), "('localhost', 8125)"),
            ("statsd_host", Some(Value::from("unix:///s")), "/s"),
            ("statsd_host", Some(Value::from("unix:99")), "('unix', 99)"),
        ];
        for (name, value, printed) in table {
            let mut said = Said::default();
            if let Some(value) = value {
                said.say(name, value, Source::File).expect(name);
            }
            let text = print_config(&said);
            let line = text.lines().find(|line| line.split(' ').next() == Some(name)).expect(name);
            assert_eq!(line, format!("{name:34} = {printed}"));
        }
    }
}
