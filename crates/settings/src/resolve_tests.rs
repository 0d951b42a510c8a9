//! What settings come to. What is not here: how they are said.

use super::*;
use crate::args::parse_args;
use crate::destination::Form;
use crate::said::{Source, merge};
use crate::surroundings::environment;
use crate::words::split_words;
use std::path::Path;

fn resolved(line: &str, variables: &[(&str, &str)], file: &[(&str, Value)]) -> Result<Settings, Invalid> {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let surroundings = Surroundings {
        variable: &variable,
        directory: Path::new("/srv/app"),
        exists: &|_| true,
        user: 1000,
        group: 100,
    };
    let words = split_words(line).expect(line);
    let mut said = Said::default();
    for (name, value) in file {
        said.say(name, value.clone(), Source::File).expect(name);
    }
    let layers =
        [environment(&surroundings)?, said, parse_args(&words, Source::CommandLine).expect(line).said];
    resolve(&merge(layers, &surroundings)?, &surroundings)
}

fn from_line(line: &str) -> Settings {
    resolved(line, &[], &[]).expect(line)
}

#[test]
fn defaults_are_gunicorns() {
    let settings = from_line("");
    let seconds = Duration::from_secs;
    assert_eq!(settings.bind, [BindAddress::Tcp { host: "127.0.0.1".to_owned(), port: 8000 }]);
    assert_eq!((settings.workers, settings.threads, settings.backlog), (1, 1, 2048));
    assert_eq!(settings.worker_class, WorkerClass::Sync);
    assert_eq!((settings.timeout, settings.graceful_timeout), (seconds(30), seconds(30)));
    assert_eq!((settings.keepalive, settings.header_timeout), (seconds(2), seconds(30)));
    assert_eq!((settings.body_timeout, settings.write_timeout), (seconds(60), seconds(60)));
    assert_eq!((settings.queue_limit, settings.body_memory_limit, settings.body_limit), (1024, 1 << 20, 0));
    assert_eq!((settings.user.clone(), settings.group.clone()), (Identity::Id(1000), Identity::Id(100)));
    assert_eq!(settings.chdir, Path::new("/srv/app"));
    assert_eq!((settings.sendfile, settings.daemon, settings.umask), (true, false, 0));
    assert_eq!(settings.header_map, HeaderMap::Drop);
    assert_eq!(settings.forwarder_headers, ["SCRIPT_NAME", "PATH_INFO"]);
    assert_eq!((settings.accesslog.clone(), settings.errorlog.as_deref()), (None, Some("-")));
    assert_eq!(settings.proc_name, "gunicorn");
    assert!(settings.forwarded_allow_ips.allows("::1".parse().expect("an address")));
    assert!(!settings.forwarded_allow_ips.allows("10.0.0.1".parse().expect("an address")));
    assert_eq!(settings.value("workers"), Value::Int(1));
}

#[test]
fn who_has_time_to_serve_has_time_to_load() {
    let table = [
        ("", 300),
        ("--timeout 60", 300),
        ("--timeout 600", 600),
        ("--timeout 0", 0),
        ("--boot-timeout 20", 20),
        ("--boot-timeout 20 --timeout 0", 20),
        ("--boot-timeout 0", 0),
    ];
    for (line, seconds) in table {
        assert_eq!(from_line(line).boot_timeout, Duration::from_secs(seconds), "{line}");
    }
}

#[test]
fn threads_make_sync_into_gthread() {
    let other = |name: &str| WorkerClass::Other(name.to_owned());
    let asgi = |name: &str| WorkerClass::Asgi(name.to_owned());
    let gevent = |name: &str| WorkerClass::Gevent(name.to_owned());
    let table = [
        ("", WorkerClass::Sync),
        ("--threads 0", WorkerClass::Sync),
        ("--threads 2", WorkerClass::Gthread),
        ("-k sync --threads 2", WorkerClass::Gthread),
        ("-k gthread", WorkerClass::Gthread),
        ("-k egg:gunicorn#gthread", WorkerClass::Gthread),
        ("-k gunicorn.workers.sync.SyncWorker", WorkerClass::Sync),
        ("-k gunicorn.workers.sync.SyncWorker --threads 4", WorkerClass::Gthread),
        ("-k gunicorn.workers.gthread.ThreadWorker", WorkerClass::Gthread),
        ("-k gevent --threads 4", gevent("gevent")),
        ("-k egg:gunicorn#gevent_pywsgi", gevent("egg:gunicorn#gevent_pywsgi")),
        ("-k gunicorn.workers.ggevent.GeventWorker", gevent("gunicorn.workers.ggevent.GeventWorker")),
        ("-k asgi", asgi("asgi")),
        ("-k egg:gunicorn#asgi", asgi("egg:gunicorn#asgi")),
        ("-k uvicorn.workers.UvicornWorker", asgi("uvicorn.workers.UvicornWorker")),
        ("-k uvicorn_worker.UvicornH11Worker", asgi("uvicorn_worker.UvicornH11Worker")),
        ("-k mysite.workers.MyWorker", other("mysite.workers.MyWorker")),
    ];
    for (line, class) in table {
        assert_eq!(from_line(line).worker_class, class, "{line}");
    }
}

#[test]
fn limits_have_gunicorns_bounds() {
    // Line, field count, field size.
    let table = [
        ("", (4094, 100, 8190)),
        ("--limit-request-line 0", (0, 100, 8190)),
        ("--limit-request-line 9000", (8190, 100, 8190)),
        ("--limit-request-fields 0", (4094, 32_768, 8190)),
        ("--limit-request-fields 99999", (4094, 32_768, 8190)),
        ("--limit-request-field_size 0", (4094, 100, 8190)),
        ("--limit-request-field_size 90000", (4094, 100, 90_000)),
    ];
    for (line, limits) in table {
        let settings = from_line(line);
        let got =
            (settings.limit_request_line, settings.limit_request_fields, settings.limit_request_field_size);
        assert_eq!(got, limits, "{line}");
    }
}

#[test]
fn sendfile_is_forbidden_by_any_value() {
    let table = [
        ("", None, None, true),
        ("--no-sendfile", None, None, false),
        ("", Some("yes"), None, true),
        ("", Some("1"), None, true),
        ("", Some("no"), None, false),
        ("", Some(""), None, false),
        ("", Some("yes"), Some(true), false),
        ("", None, Some(false), false),
    ];
    for (line, variable, file, wanted) in table {
        let variables: Vec<(&str, &str)> = variable.map(|text| ("SENDFILE", text)).into_iter().collect();
        let file: Vec<(&str, Value)> = file.map(|flag| ("sendfile", Value::Bool(flag))).into_iter().collect();
        let settings = resolved(line, &variables, &file).expect(line);
        assert_eq!(settings.sendfile, wanted, "{line} {variable:?} {file:?}");
    }
}

#[test]
fn further_fields_are_read() {
    let line = "-b unix:/run/a.sock -b fd://3 -e A=1 -e B=x=y -u www-data -g 33 -m 027 --pythonpath a,b \
                --header-map refuse --forwarder-headers remote_user,x --forwarded-allow-ips '*' -n web \
                -t 0 -p run.pid --log-level DEBUG app:x";
    let settings = from_line(line);
    assert_eq!(settings.bind, [BindAddress::Unix { path: "/run/a.sock".into() }, BindAddress::Fd(3)]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(settings.raw_env, [pair("A", "1"), pair("B", "x=y")]);
    assert_eq!((settings.user, settings.group), (Identity::Name("www-data".to_owned()), Identity::Id(33)));
    assert_eq!((settings.umask, settings.timeout), (0o27, Duration::ZERO));
    assert_eq!(settings.pythonpath, ["a", "b"]);
    assert_eq!(settings.header_map, HeaderMap::Refuse);
    assert_eq!(settings.forwarder_headers, ["REMOTE_USER", "X"]);
    assert!(settings.forwarded_allow_ips.allows("8.8.8.8".parse().expect("an address")));
    assert_eq!((settings.proc_name.as_str(), settings.loglevel.as_str()), ("web", "debug"));
    assert_eq!(settings.pidfile, Some("run.pid".into()));
    assert_eq!(from_line("app:x").proc_name, "app:x");
}

#[test]
fn who_is_told_is_read() {
    let settings = from_line(
        "--statsd-host h --statsd-prefix web. --dogstatsd-tags a:b --admin-bind [::1]:9100 \
         --otlp-endpoint http://c:4318 --notify slack=https://s.example/x --notify http://am/api/v2/alerts",
    );
    let tcp = |host: &str, port| BindAddress::Tcp { host: host.to_owned(), port };
    let statsd = Statsd { address: tcp("h", 8125), prefix: "web.".to_owned(), tags: "a:b".to_owned() };
    assert_eq!(settings.statsd, Some(statsd));
    assert_eq!(settings.admin_bind, Some(tcp("::1", 9100)));
    assert_eq!(settings.otlp_endpoint.as_deref(), Some("http://c:4318"));
    let forms: Vec<Form> = settings.notify.iter().map(|destination| destination.form).collect();
    assert_eq!(forms, [Form::Slack, Form::Alertmanager]);
    let settings = from_line("--statsd-host unix:99 --admin-bind unix:/run/a.sock");
    assert_eq!(settings.statsd.expect("statsd").address, tcp("unix", 99));
    assert_eq!(settings.admin_bind, Some(BindAddress::Unix { path: "/run/a.sock".into() }));
    let settings = from_line("");
    assert_eq!((settings.statsd, settings.admin_bind, settings.otlp_endpoint), (None, None, None));
    assert_eq!(settings.notify, []);
}

#[test]
fn limits_are_off_or_follow_the_deadline_or_have_their_time() {
    let settings =
        from_line("--db-statement-timeout auto --outbound-timeout 2.5 --deadline-header X-Left-Ms");
    assert_eq!(settings.db_statement_timeout, Limit::Auto);
    assert_eq!(settings.outbound_timeout, Limit::After(Duration::from_millis(2500)));
    assert_eq!(settings.deadline_header.as_deref(), Some("x-left-ms"));
    let settings = from_line("--db-statement-timeout 0");
    assert_eq!((settings.db_statement_timeout, settings.outbound_timeout), (Limit::Off, Limit::Off));
    assert_eq!(settings.deadline_header, None);
}

#[test]
fn a_secret_in_a_bad_value_is_not_shown() {
    let error = resolved("--notify slack=ftp://h/s3cret", &[], &[]).expect_err("a scheme");
    assert_eq!(error.reason, "the URL must begin with http:// or https://");
    assert!(!error.message().contains("s3cret") && error.message().contains("slack=ftp://h"), "{error:?}");
    let text = |name, text: &str| [(name, Value::from(text))];
    let table = [
        ("offload_url_secret", "s3cret", "a secret has 16 letters or more"),
        ("offload_webhook", "s3cret:of-a-long-token", "the URL must begin with"),
    ];
    for (name, value, reason) in table {
        let error = resolved("", &[], &text(name, value)).expect_err(name);
        assert!(error.reason.starts_with(reason) && !error.message().contains("s3cret"), "{error:?}");
    }
}

#[test]
fn values_that_make_no_sense_are_named() {
    let table = [
        ("--admin-bind localhost", "admin_bind", "it needs a port: HOST:PORT"),
        ("--admin-bind [::1]", "admin_bind", "it needs a port: HOST:PORT"),
        ("--admin-bind fd://3", "admin_bind", "it must be HOST:PORT or unix:PATH"),
        ("--admin-bind h:x", "admin_bind", "'x' is not a valid port number."),
        ("--otlp-endpoint c:4318", "otlp_endpoint", "the URL must begin with http:// or https://"),
        ("-b host:http", "bind", "'http' is not a valid port number."),
        ("--deadline-header a:b", "deadline_header", "it is no name of a header field: 'a:b'"),
        (
            "--offload-webhook https://a/b",
            "offload_webhook",
            "webhooks are signed: `offload_webhook_secret` in the configuration file is missing",
        ),
        ("-e NAME", "raw_env", "environment setting 'NAME' invalid"),
        ("-u 5000000000", "user", "no such user: 5000000000"),
    ];
    for (line, name, reason) in table {
        let error = resolved(line, &[], &[]).expect_err(line);
        assert_eq!((error.name.as_str(), error.reason.as_str()), (name, reason), "{line}");
        assert_eq!(error.origin, Some(Source::CommandLine));
    }
    let mixed = [("secure_scheme_headers", Value::Object("{'X': 1}".to_owned()))];
    let error = resolved("", &[], &mixed).expect_err("a number in the dictionary");
    assert_eq!(error.reason, "names and values must be strings");
}

#[test]
fn what_was_never_checked_cannot_do_harm() {
    let mut said = Said::default();
    said.say("workers", Value::from("many"), Source::File).expect("a setting");
    said.say("timeout", Value::None, Source::File).expect("a setting");
    let surroundings =
        Surroundings { variable: &|_| None, directory: Path::new("/"), exists: &|_| true, user: 0, group: 0 };
    let settings = resolve(&said, &surroundings).expect("the defaults");
    assert_eq!((settings.workers, settings.timeout), (1, Duration::from_secs(30)));
}
