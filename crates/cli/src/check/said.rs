//! Settings as text: lines `name = value` in Python's notation, as a server hangs them out and as a configuration file is
//! told. Not for: where they come from (`gather`).

use ferricorn_core::check::{Broker, JobRoute, Said};
use ferricorn_settings::{self as settings, Offload, Said as Spoken, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads lines `name = value`.
pub(super) fn of_text(text: &str) -> Said {
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    let known: BTreeMap<&str, &str> = lines.map(|(name, value)| (name.trim(), value.trim())).collect();
    let text = |name: &str| known.get(name).map(|value| (*value).to_owned());
    said(&text, &|name| known.contains_key(name))
}

/// Takes what was said on a command line; where `all` was said there, the defaults of the rest are known too.
pub(super) fn of_spoken(spoken: &Spoken, all: bool) -> Said {
    let heard: Vec<&str> = spoken.spoken().map(|(name, ..)| name).collect();
    let is_known = |name: &str| all || heard.contains(&name);
    let text = |name: &str| match spoken.value(name) {
        _ if !is_known(name) => None,
        Value::Object(text) => Some(text),
        value => Some(value.shown()),
    };
    said(&text, &is_known)
}

fn said(text: &dyn Fn(&str) -> Option<String>, is_known: &dyn Fn(&str) -> bool) -> Said {
    let number = |name: &str| text(name)?.parse::<u64>().ok();
    let seconds = |name: &str| text(name)?.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let small = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
    let flag = |name: &str| match text(name)?.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    };
    let routes = || {
        let texts = quoted(&text("route_timeouts")?);
        let pair = |pair: &[String]| Some((pair.first()?.clone(), pair.get(1)?.parse().ok()?));
        Some(texts.chunks(2).filter_map(pair).collect())
    };
    // A route that does not say how long its jobs may take has what holds for all.
    let all = || {
        let timeout = Duration::try_from_secs_f64(seconds("offload_timeout")?).ok()?;
        Some(Offload { timeout, retries: small("offload_retries")?, ..Offload::default() })
    };
    let jobs = |name: &str| {
        let all = all()?;
        quoted(&text(name)?).iter().map(|route| Some(job_route(all.route(route).ok()?))).collect()
    };
    // What nobody has given is shown as Python shows it.
    let given = |name: &str| text(name).map(|text| Some(text).filter(|text| !matches!(&**text, "" | "None")));
    Said {
        worker_class: text("worker_class").map(|class| class.trim_matches(['<', '>', '(', ')']).to_owned()),
        workers: small("workers"),
        threads: small("threads"),
        timeout_s: seconds("timeout"),
        route_timeouts_s: if is_known("route_timeouts") { routes() } else { None },
        graceful_timeout_s: seconds("graceful_timeout"),
        keepalive_s: seconds("keepalive"),
        max_requests: number("max_requests"),
        max_requests_jitter: number("max_requests_jitter"),
        bind: text("bind").map(|list| quoted(&list)),
        forwarded_allow_ips: text("forwarded_allow_ips").map(|list| texts(&list)),
        reflex: flag("reflex"),
        request_timeout_s: seconds("request_timeout"),
        db_statement_timeout: text("db_statement_timeout"),
        outbound_timeout: text("outbound_timeout"),
        state_dir: given("state_dir").flatten(),
        proc_name_given: given("proc_name").map(|name| name.is_some()),
        offload: jobs("offload"),
        offload_prefer: jobs("offload_prefer"),
        offload_workers: small("offload_workers"),
        offload_memory_limit: number("offload_memory_limit"),
        offload_prefix: text("offload_prefix").map(|prefix| prefix.trim_end_matches('/').to_owned()),
        offload_broker: given("offload_broker").map(|urls| brokers(&urls.unwrap_or_default())),
    }
}

fn job_route(route: settings::OffloadRoute) -> JobRoute {
    let timeout_s = route.timeout.as_secs_f64();
    JobRoute { route: route.route, timeout_s, retries: route.retries }
}

/// Returns what may be told of brokers; their URLs are left here.
fn brokers(urls: &str) -> Vec<Broker> {
    let told = |broker: settings::Broker| Broker {
        scheme: broker.scheme,
        is_elsewhere: broker.is_elsewhere,
        has_password: broker.has_password,
    };
    settings::Broker::all(urls).into_iter().map(told).collect()
}

/// Returns the texts of a list, or those between commas.
fn texts(text: &str) -> Vec<String> {
    if text.contains(['\'', '"']) {
        return quoted(text);
    }
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Returns the texts between quotes.
fn quoted(text: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut characters = text.chars();
    while let Some(quote) = characters.find(|character| matches!(character, '\'' | '"')) {
        let mut inner = String::new();
        while let Some(character) = characters.next() {
            match character {
                '\\' => inner.extend(characters.next()),
                _ if character == quote => break,
                _ => inner.push(character),
            }
        }
        texts.push(inner);
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_settings::{Source, parse_args, print_config, told};

    #[test]
    fn what_a_server_tells_is_read_back() {
        let words = "-w 3 --threads 4 -t 45 --keep-alive 75 -b unix:/a -b 0.0.0.0:1 --max-requests 9 --no-reflex \
             --db-statement-timeout auto --name shop --offload-prefer /b --offload-retries 2 --offload-prefix /jobs/ \
             --offload-broker amqp://shop:geheim@rabbit/ --state-dir /s";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let mut spoken = parse_args(&words, Source::CommandLine).expect("a command line").said;
        let routes = ["POST /it's/* timeout=60 retries=0", "PUT /a timeout=0"].map(str::to_owned).to_vec();
        spoken.say("offload", Value::List(routes), Source::CommandLine).expect("offload");
        let said = of_text(&told(&spoken));
        assert_eq!(said, of_text(&print_config(&spoken)), "both tell the same");
        let expected = Said {
            worker_class: Some("sync".into()),
            workers: Some(3),
            threads: Some(4),
            timeout_s: Some(45.0),
            route_timeouts_s: Some(Vec::new()),
            graceful_timeout_s: Some(30.0),
            keepalive_s: Some(75.0),
            max_requests: Some(9),
            max_requests_jitter: Some(0),
            bind: Some(vec!["unix:/a".into(), "0.0.0.0:1".into()]),
            forwarded_allow_ips: Some(vec!["127.0.0.1".into(), "::1".into()]),
            reflex: Some(false),
            request_timeout_s: Some(0.0),
            db_statement_timeout: Some("auto".into()),
            outbound_timeout: Some("off".into()),
            state_dir: Some("/s".into()),
            proc_name_given: Some(true),
            offload: Some(vec![
                JobRoute { route: "POST /it's/*".into(), timeout_s: 60.0, retries: 0 },
                JobRoute { route: "PUT /a".into(), timeout_s: 0.0, retries: 2 },
            ]),
            offload_prefer: Some(vec![JobRoute { route: "/b".into(), timeout_s: 900.0, retries: 2 }]),
            offload_workers: Some(2),
            offload_memory_limit: Some(0),
            offload_prefix: Some("/jobs".into()),
            offload_broker: Some(vec![Broker {
                scheme: "amqp".into(),
                is_elsewhere: Some(true),
                has_password: true,
            }]),
        };
        assert_eq!(said, expected);
        assert_eq!(of_spoken(&spoken, true), expected);
        let some = of_spoken(&spoken, false);
        assert_eq!((some.workers, some.graceful_timeout_s, some.route_timeouts_s), (Some(3), None, None));
    }

    #[test]
    fn what_was_not_given_is_known_to_be_so() {
        let said = of_text(&told(&Spoken::default()));
        assert_eq!((said.proc_name_given, said.state_dir), (Some(false), None));
        assert_eq!((said.offload, said.offload_broker), (Some(Vec::new()), Some(Vec::new())));
        // A server of an older version says nothing of it; one route that nobody understands leaves all unknown.
        let said = of_text("offload_timeout = 9\noffload_retries = 0\noffload = ['/a', '/b speed=1']\n");
        assert_eq!((said.proc_name_given, said.offload, said.offload_broker), (None, None, None));
        assert_eq!(of_text("offload = ['/a']\n").offload, None);
        let wild = "offload = ['\noffload_timeout = inf\noffload_retries = -1\noffload_broker = ;@;://\noffload_prefix = \n";
        assert_eq!(of_text(wild).offload_broker.map(|brokers| brokers.len()), Some(2));
    }

    #[test]
    fn routes_have_their_times() {
        let text = "route_timeouts = {'POST /api/*': '120', \"/it's\": '0'}\nworker_class = <my.Worker()>\n";
        let said = of_text(text);
        let expected = vec![("POST /api/*".to_owned(), 120.0), ("/it's".to_owned(), 0.0)];
        assert_eq!(said.route_timeouts_s, Some(expected));
        assert_eq!(said.worker_class.as_deref(), Some("my.Worker"));
        assert_eq!(of_text("nonsense\ntimeout = soon\n"), Said::default());
    }
}
