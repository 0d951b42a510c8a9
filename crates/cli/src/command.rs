//! The command line of `ferricornctl`: verbs, options, and help that teaches.
//! Not for: doing anything; a [`Command`] says what was asked.

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
}

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// One line per worker.
    Workers,
    /// One line per request in flight.
    Requests,
    /// The last finished requests, at most so many.
    Recent(usize),
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

const ABOUT: &str = "See inside a running Ferricorn.";

const AFTER: &str = "\
Which server: give its pid or its pidfile (`--pid` of the server). Give neither, and the one server
that you may look into is used; if there are several, they are listed.

Examples:
  ferricornctl workers                    each worker: load, latency, errors
  ferricornctl requests                   what is running now, oldest first
  ferricornctl requests --recent 20       the last 20 finished requests
  ferricornctl workers --json | jq '.workers[].pid'

Looking costs the server nothing: the numbers lie in shared memory, and are readable while every worker
is stuck. Exit status: 0 shown, 1 no server found or not readable, 2 wrong usage.";

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

/// Reads the arguments; the first is the program's name.
pub(crate) fn parse(argv: &[String]) -> Result<Command, clap::Error> {
    let matches = grammar().try_get_matches_from(argv)?;
    let (name, options) = matches.subcommand().expect("clap refuses a line without a verb");
    let recent =
        || options.get_one::<u64>("recent").map_or(Verb::Requests, |number| Verb::Recent(*number as usize));
    let verb = if name == "workers" { Verb::Workers } else { recent() };
    Ok(Command { verb, server: server(options), json: options.get_flag("json") })
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
        ])
}

/// The options of every verb.
fn common() -> [Arg; 4] {
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
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("Write JSON for scripts; its shape is stable"),
        Arg::new("server").value_name("SERVER").help("Its pid or its pidfile, instead of the options"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("requests --recent 20 web.pid", Recent(20), Pidfile("web.pid".into()), false),
        ];
        for (line, verb, server, json) in table {
            assert_eq!(check(line), Ok(Command { verb, server, json }), "{line}");
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
