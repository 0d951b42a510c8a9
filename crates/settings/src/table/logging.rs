//! Section "Logging": error log, access log, syslog and metrics.

use super::{NONE, OFF, PATH, STR, SWITCH, text};
use crate::setting::{DefaultValue, Kind, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new("accesslog", PATH, NONE, "The file for a line about each request; `-` is standard output.")
        .flags(&["--access-logfile"])
        .metavar("FILE"),
    Setting::new(
        "disable_redirect_access_to_syslog",
        SWITCH,
        OFF,
        "Keep lines about requests out of syslog, even with `syslog`.",
    )
    .flags(&["--disable-redirect-access-to-syslog"])
    .since("19.8"),
    Setting::new(
        "access_log_format",
        STR,
        text(r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#),
        "What stands in a line about a request.\n\n\
         `h` client address, `l` a dash, `u` user of Basic authentication, `t` time, `r` request line, `m` method, \
         `U` path, `q` query, `H` protocol, `s` status, `B` bytes of the body or 0, `b` bytes of the body or a dash, \
         `f` referrer, `a` user agent, `T` seconds, `M` milliseconds, `D` microseconds, `L` seconds with decimals, \
         `p` process id, `{name}i` request header field, `{name}o` response header field, `{name}e` variable of the \
         WSGI environment, `{outcome}x` how the request has ended.",
    )
    .flags(&["--access-logformat"])
    .metavar("STRING"),
    Setting::new("errorlog", PATH, text("-"), "The file for everything else; `-` is standard error.")
        .flags(&["--error-logfile", "--log-file"])
        .metavar("FILE"),
    Setting::new(
        "loglevel",
        STR,
        text("info"),
        "The least severe lines to log: `debug`, `info`, `warning`, `error` or `critical`.",
    )
    .flags(&["--log-level"])
    .metavar("LEVEL"),
    Setting::new(
        "capture_output",
        SWITCH,
        OFF,
        "Send what the application prints to the file of `errorlog`.",
    )
    .flags(&["--capture-output"])
    .since("19.6"),
    Setting::new(
        "logger_class",
        Kind::Class,
        text("gunicorn.glogging.Logger"),
        "The Python class that writes the logs.",
    )
    .flags(&["--logger-class"])
    .metavar("STRING"),
    Setting::new(
        "logconfig",
        PATH,
        NONE,
        "A file that configures Python's logging, in the format of `logging.config.fileConfig`.",
    )
    .flags(&["--log-config"])
    .metavar("FILE"),
    Setting::new(
        "logconfig_dict",
        Kind::Dict,
        DefaultValue::Map(&[]),
        "A dictionary that configures Python's logging, as `logging.config.dictConfig` takes it.\n\n\
         It wins over `logconfig_json`, and that over `logconfig`.",
    )
    .since("19.8"),
    Setting::new(
        "logconfig_json",
        PATH,
        NONE,
        "A JSON file with what `logconfig_dict` would hold.",
    )
    .flags(&["--log-config-json"])
    .metavar("FILE")
    .since("20.0"),
    Setting::new(
        "syslog_addr",
        STR,
        text("udp://localhost:514"),
        "Where syslog listens: `udp://HOST:PORT`, `tcp://HOST:PORT`, `unix://PATH`.\n\n\
         `#stream` or `#dgram` behind a path chooses the kind of socket.",
    )
    .flags(&["--log-syslog-to"])
    .metavar("SYSLOG_ADDR"),
    Setting::new("syslog", SWITCH, OFF, "Send log lines to syslog too.").flags(&["--log-syslog"]).since("19.8"),
    Setting::new(
        "syslog_prefix",
        STR,
        NONE,
        "The middle of the program's name in syslog: `gunicorn.PREFIX.error` and `gunicorn.PREFIX.access`.",
    )
    .flags(&["--log-syslog-prefix"])
    .metavar("SYSLOG_PREFIX"),
    Setting::new("syslog_facility", STR, text("user"), "The syslog facility, such as `user` or `local0`.")
        .flags(&["--log-syslog-facility"])
        .metavar("SYSLOG_FACILITY"),
    Setting::new(
        "enable_stdio_inheritance",
        SWITCH,
        OFF,
        "Keep standard input, output and error when the server runs in the background.",
    )
    .flags(&["-R", "--enable-stdio-inheritance"]),
];

pub(super) const STATSD: &[Setting] = &[
    Setting::new(
        "statsd_host",
        Kind::Address,
        NONE,
        "Where statsd listens: `HOST:PORT` or `unix://PATH`. See [Metrics](metrics.md#statsd).",
    )
    .flags(&["--statsd-host"])
    .metavar("STATSD_ADDR")
    .since("19.1"),
    Setting::new("dogstatsd_tags", STR, text(""), "Tags for every metric, with commas between them.")
        .flags(&["--dogstatsd-tags"])
        .metavar("DOGSTATSD_TAGS")
        .since("20"),
    Setting::new("statsd_prefix", STR, text(""), "What stands before the name of every metric.")
        .flags(&["--statsd-prefix"])
        .metavar("STATSD_PREFIX")
        .since("19.2"),
    Setting::new(
        "enable_backlog_metric",
        SWITCH,
        OFF,
        "Send how many connections wait to be accepted as the metric `gunicorn.backlog`.",
    )
    .flags(&["--enable-backlog-metric"])
    .not_yet("the length of the listeners' queues is not looked at yet"),
];
