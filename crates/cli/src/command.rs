//! The command line of `ferricornctl`: verbs, options, and help that teaches.
//! Not for: doing anything; a [`Command`] says what was asked.

mod acting;
mod attach;
mod changes;
mod jobs;
mod viewers;

pub(crate) use acting::Policy;
pub(crate) use attach::Attach;
pub(crate) use changes::{Deploy, Since, When};
pub(crate) use viewers::{AccessLog, Check, Slow, Top};

use crate::incidents::Wanted;
use crate::jobs::Jobs;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use std::path::PathBuf;

/// What was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// What to show.
    pub verb: Verb,
    /// Of which server.
    pub server: Server,
    /// For a script instead of a person.
    pub json: bool,
    /// Where to look for records instead of where servers keep them, and for observers besides.
    pub state_dir: Option<PathBuf>,
}

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// One line per worker.
    Workers,
    /// One line per request in flight.
    Requests,
    /// All that is known of the server at this moment, for scripts.
    Snapshot,
    /// The last finished requests, at most so many.
    Recent(usize),
    /// One line per late request and dead worker, at most so many.
    Timeouts(usize),
    /// One line per incident.
    Incidents(Wanted),
    /// All that is known of an incident, a late request, or a worker's death.
    Why(String, Format),
    /// The Python stacks of a process.
    Stack(u32),
    /// The server as it lives.
    Top(Top),
    /// One line per route.
    Slow(Slow),
    /// What will go wrong one day.
    Check(Check),
    /// One line per change of a service.
    Changes(Since),
    /// A change, marked by hand.
    Deploy(Deploy),
    /// A stock Gunicorn, observed.
    Attach(Attach),
    /// What the observer does about trouble.
    Policy(Policy),
    /// What it has done, at most so many rows.
    Actions(Option<usize>),
    /// Whether it does anything by itself.
    Switch {
        /// From now on it does.
        on: bool,
    },
    /// How many workers there are, and why.
    WhyScale,
    /// One line per server of all hosts.
    Hosts,
    /// Requests that are worked on later.
    Jobs(Jobs),
}

/// In which form something is shown in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For a terminal.
    Text,
    /// For where people talk.
    Markdown,
    /// For a script.
    Json,
}

/// Which server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The one that runs.
    TheOne,
    /// The one whose arbiter (or worker) has this pid.
    Pid(u32),
    /// The one whose arbiter wrote this file.
    Pidfile(PathBuf),
}

const ABOUT: &str = "See inside a running Ferricorn, or a Gunicorn with an observer beside it.";

const AFTER: &str = "\
Which server: give its pid or its pidfile (`--pid` of the server). Give neither, and the one server
that you may look into is used; if there are several, they are listed. A stock Gunicorn is seen
through the observer that stands beside it.

Examples:
  ferricornctl top                        the server as it lives, on one screen
  ferricornctl workers                    each worker: load, latency, errors
  ferricornctl requests                   what is running now, oldest first
  ferricornctl requests --recent 20       the last 20 finished requests
  ferricornctl attach --pidfile gunicorn.pid   observe a stock Gunicorn
  ferricornctl slow                       which routes are slow, and what their deadline should be
  ferricornctl check                      what will go wrong one day
  ferricornctl incidents                  what goes wrong again and again, newest first
  ferricornctl why 20261126-7             an incident in full: cause, evidence, what to do
  ferricornctl actions                    what the observer has done by itself; `off` stops it
  ferricornctl policy show                what it does about trouble, and why
  ferricornctl changes                    deploys, upgrades, edited settings: what has changed, newest first
  ferricornctl hosts                      all hosts that share a bus, and what goes wrong there
  ferricornctl jobs                       requests that are worked on later: what waits, runs, has failed
  ferricornctl timeouts                   late requests and dead workers, newest first
  ferricornctl why 4711-12                where request 4711-12 was, and for what it waited
  ferricornctl stack 4711                 the Python stacks of process 4711, now
  ferricornctl workers --json | jq '.workers[].pid'

Looking costs the server nothing: the numbers lie in shared memory, and are readable while every worker
is stuck. Exit status: 0 shown, 1 nothing found or not readable, 2 wrong usage.";

const WORKERS_AFTER: &str = "\
Columns:
  AGE        spawn number of the worker (Gunicorn's worker.age), not a time
  STATE      booting, ready, or draining (finishes what it has)
  BOOT       from fork to ready: the time your application takes to import
  REQ/S      average since the worker became ready
  BUSY       app threads at work, of all app threads
  QUEUED     complete requests that wait for an app thread
  CONNS      open client connections, idle ones included
  P50, P99   time in the application, milliseconds
  TAKEN      times the loop was taken over because a Python call was slow; * while it is so now
  HANDED     connections given to an idle sibling";

const REQUESTS_AFTER: &str = "\
Columns:
  AGE        since the first byte of the request
  PHASE      app (in the application) or write (its thread is sending the response)
  WORKER     pid of the worker; TID is the thread, as in /proc/PID/task and in gdb
  LEFT       until the deadline of the request; `-` if it has none

With --recent: AGO since it began, TOTAL from its first byte to its end, APP the time in the application.";

const SNAPSHOT_AFTER: &str = "\
What every other verb, the metrics and the admin endpoint show is computed from this document; its shape is stable.
Histograms are [bucket, count] of the buckets that are not empty; docs/ferricornctl.md tells their bounds.";

const TIMEOUTS_AFTER: &str = "\
Columns:
  AT         when the deadline was over, or the worker was found dead
  ID         of the request (it stands in the log and in the client's answer), or pid of the worker
  WHAT       what the client got, or `died`
  TOOK       time in the application; DEADLINE what it had
  WHERE      the line of the application, or why the worker died

Records are found where running servers keep them (`state_dir`) and in this user's own default folder.";

const INCIDENTS_AFTER: &str = "\
Columns:
  STATE      open; mitigated (nothing of it has been seen for a while) or closed; with --all also note: too
             little to bother anybody, one slow request for example
  SINCE      when it was opened, of a note when it was seen
  CAUSE      the most likely one, and how sure that is (CONF, 0 to 1)
  ROUTE      the one that is hit most
  LOST       requests that were answered in the application's place, cut, or lost with their worker

All of one: `ferricornctl why ID`. Incidents are found where records are (see `timeouts --help`).";

const HOSTS_AFTER: &str = "\
Columns:
  VERSION    what its workers are made of; - where that is not known, or they differ
  HEARD      when it was heard of last; who was not for 45 s is not shown
  TROUBLE    its open incidents: cause and route

Servers hear of each other if they were started with the same `--reflex-fleet`; shown is what an observer of this host
knows. What several hosts have at once is left alone by each of them: it is what they share.";

const WHY_AFTER: &str = "\
The id of an incident is a date and a number; `ferricornctl incidents` lists them. The id of a request stands in the server's log, in the page that the client got, and in its X-Request-Id.
A pid is that of a worker: its death is shown, or the last late request of it. `why scale` tells why there are as many workers as there are.";

const STACK_AFTER: &str = "\
The process is read from outside and is not stopped, whatever it is at; it need not be Ferricorn's. With the
pid of an arbiter, all its workers are shown. Needs the right to trace the process: its user's, and where the
kernel restricts that (Yama, containers) CAP_SYS_PTRACE.";

/// Reads the arguments; the first is the program's name.
pub(crate) fn parse(argv: &[String]) -> Result<Command, clap::Error> {
    let matches = grammar().try_get_matches_from(argv)?;
    let (name, options) = matches.subcommand().expect("clap refuses a line without a verb");
    let recent =
        || options.get_one::<u64>("recent").map_or(Verb::Requests, |number| Verb::Recent(*number as usize));
    let verb = match name {
        "workers" => Verb::Workers,
        "snapshot" => Verb::Snapshot,
        "timeouts" => Verb::Timeouts(options.get_one::<u64>("limit").map_or(20, |limit| *limit as usize)),
        "incidents" => Verb::Incidents(Wanted {
            limit: options.get_one::<u64>("limit").map(|limit| *limit as usize),
            notes: options.get_flag("all"),
        }),
        "why" if options.get_one::<String>("id").is_some_and(|id| id == "scale") => Verb::WhyScale,
        "policy" => Verb::Policy(acting::policy_of(options)),
        "actions" => Verb::Actions(options.get_one::<u64>("limit").map(|limit| *limit as usize)),
        "off" => Verb::Switch { on: false },
        "on" => Verb::Switch { on: true },
        "why" => Verb::Why(options.get_one::<String>("id").cloned().unwrap_or_default(), format(options)),
        "top" => Verb::Top(viewers::top_of(options)),
        "slow" => Verb::Slow(viewers::slow_of(options)),
        "check" => Verb::Check(viewers::check_of(options)),
        "attach" => Verb::Attach(attach::attach_of(options)),
        "changes" => Verb::Changes(changes::changes_of(options)),
        "deploy" => Verb::Deploy(changes::deploy_of(options)),
        "hosts" => Verb::Hosts,
        "jobs" => Verb::Jobs(jobs::jobs_of(options)),
        "stack" => Verb::Stack(options.get_one::<u32>("process").copied().unwrap_or_default()),
        _ => recent(),
    };
    // Options of `policy` and `jobs` are those of their part.
    let options = options.subcommand().map_or(options, |(_, inner)| inner);
    // `stack` has none of the first, only verbs about a server have the second.
    let state_dir = options.try_get_one::<PathBuf>("state-dir").ok().flatten().cloned();
    let server = if options.try_contains_id("server").is_ok() { server(options) } else { Server::TheOne };
    Ok(Command {
        verb,
        server,
        json: options.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or(false),
        state_dir,
    })
}

fn format(options: &ArgMatches) -> Format {
    match options.get_one::<String>("format").map(String::as_str) {
        Some("markdown") => Format::Markdown,
        Some("json") => Format::Json,
        _ if options.get_flag("json") => Format::Json,
        _ => Format::Text,
    }
}

fn server(options: &ArgMatches) -> Server {
    if let Some(pid) = options.get_one::<u32>("pid") {
        return Server::Pid(*pid);
    }
    if let Some(path) = options.get_one::<PathBuf>("pidfile") {
        return Server::Pidfile(path.clone());
    }
    match options.get_one::<String>("server") {
        None => Server::TheOne,
        Some(word) => word.parse().map_or_else(|_| Server::Pidfile(word.into()), Server::Pid),
    }
}

fn grammar() -> clap::Command {
    clap::Command::new("ferricornctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(AFTER)
        .bin_name("ferricornctl")
        .subcommand_required(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .disable_help_subcommand(true)
        .subcommands([
            clap::Command::new("workers")
                .about("Show each worker: load, latency, errors")
                .after_help(WORKERS_AFTER)
                .args(common()),
            clap::Command::new("requests")
                .about("Show the requests that are running, oldest first")
                .after_help(REQUESTS_AFTER)
                .arg(
                    Arg::new("recent")
                        .long("recent")
                        .value_name("N")
                        .value_parser(value_parser!(u64).range(1..=100_000))
                        .help("Show the last N finished requests instead, newest first"),
                )
                .args(common()),
            clap::Command::new("snapshot")
                .about("Write all that is known of the server at this moment as JSON: routes with their histograms, too")
                .after_help(SNAPSHOT_AFTER)
                .args(common()),
            clap::Command::new("incidents")
                .about("Show what goes wrong again and again, newest first")
                .after_help(INCIDENTS_AFTER)
                .arg(
                    Arg::new("all")
                        .long("all")
                        .action(ArgAction::SetTrue)
                        .help("Show notes, too: what was too little to become an incident"),
                )
                .arg(limit("Show the last N instead of 20; JSON has all there are"))
                .args([state_dir(), json()]),
            viewers::top(),
            viewers::slow(),
            viewers::check(),
            attach::attach(),
            changes::changes(),
            changes::deploy(),
            clap::Command::new("hosts")
                .about("Show the servers of all hosts that share a bus, and what goes wrong there")
                .after_help(HOSTS_AFTER)
                .args([state_dir(), json()]),
            jobs::jobs(),
            clap::Command::new("timeouts")
                .about("Show late requests and dead workers, newest first")
                .after_help(TIMEOUTS_AFTER)
                .arg(limit("Show the last N instead of 20"))
                .args([state_dir(), json()]),
            clap::Command::new("why")
                .about("Show all that is known of an incident, a late request, or a worker's death")
                .after_help(WHY_AFTER)
                .arg(Arg::new("id").value_name("INCIDENT|REQUEST_ID|PID|scale").required(true).help("Which"))
                .arg(
                    Arg::new("format")
                        .long("format")
                        .value_name("FORMAT")
                        .value_parser(["text", "markdown", "json"])
                        .conflicts_with("json")
                        .help("For a terminal, for where people talk, or for a script"),
                )
                .args([state_dir(), json()]),
            clap::Command::new("stack")
                .about("Show where the Python threads of a process are, now")
                .after_help(STACK_AFTER)
                .arg(
                    Arg::new("process")
                        .value_name("PID")
                        .required(true)
                        .value_parser(value_parser!(u32).range(1..))
                        .help("A worker, an arbiter, or any other Python process"),
                )
                .arg(json()),
        ])
        .subcommands(acting::verbs())
}

fn json() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Write JSON for scripts; its shape is stable")
}

fn limit(help: &'static str) -> Arg {
    let numbers = value_parser!(u64).range(1..=1_000_000);
    Arg::new("limit").long("limit").value_name("N").value_parser(numbers).help(help)
}

fn state_dir() -> Arg {
    Arg::new("state-dir")
        .long("state-dir")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("The folder of the records: the server's `state_dir`")
}

/// The options of every verb that looks at a server.
fn common() -> [Arg; 5] {
    [
        Arg::new("pid")
            .long("pid")
            .value_name("PID")
            .value_parser(value_parser!(u32).range(1..))
            .conflicts_with_all(["pidfile", "server"])
            .help("The server whose arbiter has this pid"),
        Arg::new("pidfile")
            .long("pidfile")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .conflicts_with("server")
            .help("The server that wrote this pidfile"),
        state_dir().help("One more folder where an observer of a server may answer"),
        json(),
        Arg::new("server").value_name("SERVER").help("Its pid or its pidfile, instead of the options"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::advice::By;
    use std::time::Duration;

    fn check(line: &str) -> Result<Command, i32> {
        let argv: Vec<String> =
            format!("ferricornctl {line}").split_whitespace().map(str::to_owned).collect();
        parse(&argv).map_err(|error| error.exit_code())
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn a_line_says_what_is_asked() {
        use {Server::*, Verb::*};
        let table = [
            ("workers", Workers, TheOne, false),
            ("workers --pid 7", Workers, Pid(7), false),
            ("workers --pid 7 --json", Workers, Pid(7), true),
            ("workers 7", Workers, Pid(7), false),
            ("workers run/web.pid", Workers, Pidfile("run/web.pid".into()), false),
            ("requests --pidfile 7", Requests, Pidfile("7".into()), false),
            ("requests --json", Requests, TheOne, true),
            ("snapshot 7", Snapshot, Pid(7), false),
            ("requests --recent 20 web.pid", Recent(20), Pidfile("web.pid".into()), false),
            ("timeouts --limit 3 --json", Timeouts(3), TheOne, true),
            ("incidents", Incidents(Wanted::default()), TheOne, false),
            (
                "incidents --all --limit 3 --json",
                Incidents(Wanted { limit: Some(3), notes: true }),
                TheOne,
                true,
            ),
            ("why 12-7", Why("12-7".into(), Format::Text), TheOne, false),
            ("why 12-7 --json", Why("12-7".into(), Format::Json), TheOne, true),
            ("why 20261126-7 --format markdown", Why("20261126-7".into(), Format::Markdown), TheOne, false),
            ("why 20261126-7 --format json", Why("20261126-7".into(), Format::Json), TheOne, false),
            ("stack 12", Stack(12), TheOne, false),
        ];
        for (line, verb, server, json) in table {
            let state_dir = None;
            assert_eq!(check(line), Ok(Command { verb, server, json, state_dir }), "{line}");
        }
    }

    #[test]
    fn a_server_is_watched_at_intervals() {
        let top = |ms, once| Verb::Top(Top { interval: Duration::from_millis(ms), once });
        let table = [
            ("top", top(1000, false)),
            ("top --interval 0.25 web.pid", top(250, false)),
            ("top --once --json", top(1000, true)),
        ];
        for (line, expected) in table {
            assert_eq!(check(line).expect(line).verb, expected, "{line}");
        }
        for line in ["top --interval 0", "top --interval -1", "top --interval nan", "top --interval soon"] {
            assert_eq!(check(line).map(|_| ()), Err(2), "{line}");
        }
    }

    #[test]
    fn routes_are_ranked_as_asked() {
        let plain = Slow { by: By::Time, limit: 20, timeout: None, since: None, log: None };
        let log = |format: Option<&str>| {
            Some(AccessLog { path: "a.log".into(), format: format.map(str::to_owned) })
        };
        let table = [
            ("slow", plain.clone()),
            ("slow --by deadline --limit 3 web.pid", Slow { by: By::Deadline, limit: 3, ..plain.clone() }),
            ("slow --since 90m", Slow { since: Some(Duration::from_secs(5400)), ..plain.clone() }),
            ("slow --access-log a.log", Slow { log: log(None), ..plain.clone() }),
            (
                "slow --access-log a.log --format %(U)s%(D)s --timeout 5",
                Slow { log: log(Some("%(U)s%(D)s")), timeout: Some(Duration::from_secs(5)), ..plain.clone() },
            ),
        ];
        for (line, expected) in table {
            assert_eq!(check(line).expect(line).verb, Verb::Slow(expected), "{line}");
        }
        for line in ["slow --since 0h", "slow --since h", "slow --since 1w", "slow --since 1h --access-log a"]
        {
            assert_eq!(check(line).map(|_| ()), Err(2), "{line}");
        }
        for line in ["slow --by size", "slow --format x", "slow --access-log a.log 7", "slow --timeout 0"] {
            assert_eq!(check(line).map(|_| ()), Err(2), "{line}");
        }
    }

    #[test]
    fn a_configuration_is_checked_with_or_without_a_server() {
        let named = |server_is_named| Check { server_is_named, ..Check::default() };
        let config = Some("web.py".into());
        let table = [
            ("check", named(false)),
            ("check web.pid", named(true)),
            ("check --config web.py", Check { config: config.clone(), ..named(false) }),
            (
                "check --config web.py --nginx n.conf --database-facts d.json --pid 7",
                Check {
                    config,
                    nginx: Some("n.conf".into()),
                    databases: Some("d.json".into()),
                    reflex_databases: Vec::new(),
                    server_is_named: true,
                },
            ),
        ];
        for (line, expected) in table {
            assert_eq!(check(line).expect(line).verb, Verb::Check(expected), "{line}");
        }
    }

    #[test]
    fn a_wrong_line_is_usage() {
        for line in [
            "",
            "worker",
            "workers --pid",
            "workers --pid zero",
            "workers --pid 0",
            "workers --pid 1 --pidfile web.pid",
            "workers --pid 1 web.pid",
            "workers --recent 5",
            "requests --recent 0",
            "requests a.pid b.pid",
            "why",
            "stack x",
            "timeouts --limit 0",
            "incidents --limit 0",
            "why 1-2 --format html",
            "why 1-2 --format text --json",
        ] {
            assert_eq!(check(line), Err(2), "{line}");
        }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for line in ["--help", "-h", "--version", "-V", "workers --help", "requests -h"] {
            assert_eq!(check(line), Err(0), "{line}");
        }
    }
}
