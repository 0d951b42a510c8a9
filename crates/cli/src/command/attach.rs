//! The command line of `attach`. Its own settings are those of the server's table, with the same flags and rules. Not for:
//! attaching.

use super::state_dir;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, value_parser};
use ferricorn_settings::find;
use std::path::PathBuf;

/// What `attach` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attach {
    /// Pid of the arbiter, or of a worker.
    pub pid: Option<u32>,
    /// Its pidfile.
    pub pidfile: Option<PathBuf>,
    /// Where its logs are, if that cannot be found out.
    pub access_log: Option<PathBuf>,
    /// As above.
    pub error_log: Option<PathBuf>,
    /// Where to listen for what it sends by statsd.
    pub statsd: Option<String>,
    /// The flags of the observer's own settings.
    pub settings: Vec<String>,
}

const AFTER: &str = "\
The Gunicorn (22 or newer, every worker class) is not changed, restarted or slowed down: it is looked at from outside, by
its processes, its heartbeat files, its sockets, its logs, its control socket, and the stacks of its workers. Everything
that this program shows of a Ferricorn it then shows of the Gunicorn as well: top, slow, incidents, why, check.

It runs until the Gunicorn ends; with --pidfile, and over restarts, until it is told to stop (INT or TERM). What it finds is
kept in the state folder, and said on standard error, beginning with what it cannot see and how that would become visible.

It needs the right to read the workers' memory: their user's, and where the kernel restricts that (Yama,
containers) CAP_SYS_PTRACE; with less it sees less.

Examples:
  ferricornctl attach --pidfile /run/gunicorn.pid
  ferricornctl attach --pid 4711 --reflex-database service=shop    what queries wait for, too
  ferricornctl attach --pid 4711 --admin-bind 127.0.0.1:9100       metrics for Prometheus

Exit status: 0 told to stop, 1 there is nothing to attach to, or it has ended, 2 wrong usage.";

/// The settings of an observer that stands alone.
const SETTINGS: [&str; 9] = [
    "reflex_database",
    "reflex_mode",
    "reflex_policy",
    "reflex_fleet",
    "reflex_history",
    "reflex_host",
    "admin_bind",
    "otlp_endpoint",
    "notify",
];

pub(super) fn attach() -> clap::Command {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    clap::Command::new("attach")
        .about("Observe a stock Gunicorn from outside: incidents with their causes, latencies, metrics")
        .after_help(AFTER)
        .args([
            Arg::new("pid")
                .long("pid")
                .value_name("PID")
                .value_parser(value_parser!(u32).range(1..))
                .help("Pid of its arbiter, or of one of its workers"),
            file("pidfile", "Its pidfile; another Gunicorn whose pid comes to stand there is followed"),
            file("access-log", "Its access log, where that is not found out by itself"),
            file("error-log", "Its error log, where that is not found out by itself"),
            Arg::new("statsd")
                .long("statsd")
                .value_name("HOST:PORT")
                .help("Receive here what it sends by statsd (its `statsd_host`)"),
        ])
        .group(ArgGroup::new("which").args(["pid", "pidfile"]).required(true))
        .args(SETTINGS.iter().filter_map(|name| setting(name)))
        .arg(state_dir())
}

/// Returns the option of a setting.
fn setting(name: &'static str) -> Option<Arg> {
    let setting = find(name)?;
    let flag = setting.flags.first()?.trim_start_matches('-');
    // The first sentence is what the server's own help says, too.
    let help = setting
        .doc
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .replace('`', "")
        .trim_end_matches('.')
        .to_owned();
    Some(Arg::new(name).long(flag).value_name(setting.metavar?).action(ArgAction::Append).help(help))
}

pub(super) fn attach_of(options: &ArgMatches) -> Attach {
    let path = |name: &str| options.get_one::<PathBuf>(name).cloned();
    let mut settings = Vec::new();
    for name in SETTINGS {
        let flag = find(name).and_then(|setting| setting.flags.first().copied()).unwrap_or_default();
        for value in options.get_many::<String>(name).into_iter().flatten() {
            settings.extend([flag.to_owned(), value.clone()]);
        }
    }
    if let Some(folder) = path("state-dir") {
        settings.extend(["--state-dir".to_owned(), folder.display().to_string()]);
    }
    Attach {
        pid: options.get_one::<u32>("pid").copied(),
        pidfile: path("pidfile"),
        access_log: path("access-log"),
        error_log: path("error-log"),
        statsd: options.get_one::<String>("statsd").cloned(),
        settings,
    }
}
