//! The command lines of the verbs that look at a server as a whole: `top`, `slow`, `check`. Not for: the options that all
//! verbs share.

use super::common;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use ferricorn_core::advice::By;
use std::path::PathBuf;
use std::time::Duration;

/// What `top` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Top {
    /// Time between two frames.
    pub interval: Duration,
    /// Whether one frame is wanted.
    pub once: bool,
}

/// The shortest and the longest interval, seconds.
const INTERVALS_S: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

const TOP_AFTER: &str = "\
One screen: the server, its open incidents, its workers, the requests in flight with the time to their deadline, its
routes. Rates and percentiles are of the time since the last frame, LOST, COUNT and TIME since the server started.
Reading costs the server nothing; a closer look reads the stacks of a worker from outside, without stopping it.

Keys:
  tab, arrows   the next table, another line       enter   look closer: stacks, numbers, a report
  s             sort by the next column            p       hold the screen still
  ?             help                               q       quit

Without a terminal, and with --once or --json, one frame is written after one interval:
  ferricornctl top --once | mail -s 'how it is' you
  ferricornctl top --json --interval 10 | jq '.routes[] | select(.lost_now > 0)'

Exit status: 0 quit or shown, 1 nothing could be read, or the server has ended, 2 wrong usage.";

pub(super) fn top() -> clap::Command {
    clap::Command::new("top")
        .about("Watch a server: workers, requests in flight, routes, incidents")
        .after_help(TOP_AFTER)
        .args([
            Arg::new("interval")
                .long("interval")
                .value_name("SECONDS")
                .default_value("1")
                .value_parser(interval)
                .help("Time between two frames, 0.1 to 3600"),
            Arg::new("once").long("once").action(ArgAction::SetTrue).help("Write one frame as text and end"),
        ])
        .args(common())
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number of seconds".to_owned())?;
    if INTERVALS_S.contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("it is not between {} and {}", INTERVALS_S.start(), INTERVALS_S.end()))
    }
}

pub(super) fn top_of(options: &ArgMatches) -> Top {
    let interval = options.get_one::<Duration>("interval").copied();
    Top { interval: interval.unwrap_or(Duration::from_secs(1)), once: options.get_flag("once") }
}

/// What `slow` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    /// What routes are ranked by.
    pub by: By,
    /// How many are shown.
    pub limit: usize,
    /// The deadline to compare with, instead of the server's.
    pub timeout: Option<Duration>,
    /// How far back to look, instead of to the server's start.
    pub since: Option<Duration>,
    /// The log to read instead of a server.
    pub log: Option<AccessLog>,
}

/// An access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessLog {
    /// Where it is; `-` is standard input.
    pub path: PathBuf,
    /// Its format, if it is another than the default one with a duration behind it.
    pub format: Option<String>,
}

/// What `check` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    /// The configuration file to check, with or without a running server.
    pub config: Option<PathBuf>,
    /// nginx's configuration.
    pub nginx: Option<PathBuf>,
    /// What is known of databases.
    pub databases: Option<PathBuf>,
    /// Databases and poolers to be asked.
    pub reflex_databases: Vec<String>,
    /// Whether a server was named: without one, a configuration file stands alone.
    pub server_is_named: bool,
}

const CHECK_AFTER: &str = "\
Looked at: the server's settings and its processes, how patient the proxy before it is (`nginx -T`, or --nginx),
how long systemd waits for its end, what databases and poolers allow, and what late requests have shown. Nothing is guessed: what could not be looked
at is listed, with what would make it visible.

  error      it costs requests as it is, or lets strangers in
  warning    it will cost requests when something else goes wrong
  hint       it does not do what it looks like, or could be better

Examples:
  ferricornctl check                              the one server that runs
  ferricornctl check web.pid --nginx nginx.txt    with what `nginx -T` has printed on another host
  ferricornctl check --config gunicorn.conf.py    before it runs; the file is run, as the server does
  ferricornctl check --reflex-database service=shop --reflex-database pgbouncer://stats@pool:6432/
  ferricornctl check --json | jq -r '.findings[].code'

Without --reflex-database, that of PGSERVICE is asked. What they do not tell is a file for --database-facts:
  [{\"name\": \"shop\", \"max_connections\": 100, \"reserved\": 3, \"pool_per_worker\": 15,
    \"pooler\": {\"query_wait_timeout_s\": 120, \"pool_size\": 20, \"max_client_conn\": 100}}]

Exit status: 0 nothing or hints, 1 warnings or errors, or nothing could be read, 2 wrong usage.";

pub(super) fn check() -> clap::Command {
    let file = |name: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf))
    };
    clap::Command::new("check")
        .about("Check the settings of a server and of what stands round it, before they cost requests")
        .after_help(CHECK_AFTER)
        .args([
            file("config")
                .help("Check this configuration file; beside a server's name, instead of its settings"),
            file("nginx").help("nginx's main file, or what `nginx -T` has printed"),
            Arg::new("reflex-database")
                .long("reflex-database")
                .value_name("URL")
                .action(ArgAction::Append)
                .help("Ask this database or PgBouncer what it allows; as the server's own option"),
            file("database-facts").help("What is known of databases, as JSON"),
        ])
        .args(common())
}

pub(super) fn check_of(options: &ArgMatches) -> Check {
    let path = |name: &str| options.get_one::<PathBuf>(name).cloned();
    Check {
        config: path("config"),
        nginx: path("nginx"),
        databases: path("database-facts"),
        reflex_databases: options
            .get_many::<String>("reflex-database")
            .map(|urls| urls.cloned().collect())
            .unwrap_or_default(),
        server_is_named: ["pid", "pidfile", "server"].iter().any(|name| options.contains_id(name)),
    }
}

const SLOW_AFTER: &str = "\
Columns:
  TIME       share of the time that all routes have spent in the application
  COUNT      requests, lost ones included
  P50..MAX   time in the application, milliseconds; a lost request counts with the age at which it was given up
  QUEUE99    wait for an app thread, p99, milliseconds
  LOST       requests that were answered or cut at their deadline, or died with their worker
  NEAR       p99 as a share of the deadline
  SHOULD BE  what the deadline should be: three times what the slowest of a thousand answered requests need, never
             below what finishes today; `-` with fewer than 100 answers

Below the table stands what is to be done, where anything is.

Examples:
  ferricornctl slow                       the one server that runs
  ferricornctl slow --by deadline web.pid nearest their deadline first
  ferricornctl slow --since 1h            the last hour
  ferricornctl slow --access-log access.log --timeout 30
  zcat access.log.*.gz | ferricornctl slow --access-log -

An access log needs a duration: `--access-logformat '... %(D)s'`. Without --format, lines are taken for the default
format with %(D)s or %(L)s at the end; `--format '%(M)s'` is the default with that at the end. Lost are
those whose %({outcome}x)s says so, and without it those that were answered 504. A stock Gunicorn logs requests that it
killed with a wrong duration, or not at all; a server's own numbers have them.";

pub(super) fn slow() -> clap::Command {
    clap::Command::new("slow")
        .about("Show which routes are slow or near their deadline, and what it should be")
        .after_help(SLOW_AFTER)
        .args([
            Arg::new("by")
                .long("by")
                .value_name("WHAT")
                .value_parser(["time", "deadline", "count"])
                .default_value("time")
                .help("Rank by time in the application, by nearness to the deadline, or by requests"),
            Arg::new("limit")
                .long("limit")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=100_000))
                .default_value("20")
                .help("Show the first N routes"),
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=1_000_000))
                .help("Compare with this deadline instead of the server's"),
            Arg::new("since")
                .long("since")
                .value_name("SPAN")
                .value_parser(span)
                .conflicts_with("access-log")
                .help("Look back so far (90s, 30m, 1h, 2d), in what the observer keeps of the server"),
            Arg::new("access-log")
                .long("access-log")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with_all(["pid", "pidfile", "server", "state-dir", "since"])
                .help("Read this access log instead of a server; `-` is standard input"),
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .requires("access-log")
                .help("The log's `access_log_format`"),
        ])
        .args(common())
}

/// Reads a span: a number and its unit.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let of = |(unit, factor): (char, u64)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(factor);
    let seconds = UNITS.into_iter().find_map(of).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| "it is no span such as 90s, 30m, 1h or 2d".to_owned())
}

pub(super) fn slow_of(options: &ArgMatches) -> Slow {
    let by = match options.get_one::<String>("by").map(String::as_str) {
        Some("deadline") => By::Deadline,
        Some("count") => By::Count,
        _ => By::Time,
    };
    let log = options
        .get_one::<PathBuf>("access-log")
        .map(|path| AccessLog { path: path.clone(), format: options.get_one::<String>("format").cloned() });
    Slow {
        by,
        since: options.get_one::<Duration>("since").copied(),
        limit: options.get_one::<u64>("limit").map_or(20, |limit| *limit as usize),
        timeout: options.get_one::<u64>("timeout").map(|seconds| Duration::from_secs(*seconds)),
        log,
    }
}
