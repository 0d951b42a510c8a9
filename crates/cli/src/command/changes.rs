//! The command lines of the verbs about changes: `changes` and `deploy`. Not for: the options that all verbs share.

use super::viewers::span;
use super::{common, json, limit, state_dir};
use clap::{Arg, ArgMatches};
use std::time::Duration;

/// Which changes are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Since {
    /// How far back to look.
    pub since: Option<Duration>,
    /// The newest so many.
    pub limit: Option<usize>,
}

/// What is marked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deploy {
    /// What it is called.
    pub name: String,
    /// When it was; now, if that is not said.
    pub at: Option<When>,
    /// Where somebody reads more of it.
    pub link: Option<String>,
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Seconds since 1970.
    At(u64),
    /// So long ago.
    Ago(Duration),
}

const CHANGES_AFTER: &str = "\
Columns:
  AT         when the first worker with it was started, or for when it was marked
  KIND       deploy, rollback (code that has run before), dependency, config, environment, runtime (Python),
             restart (nothing else has changed) or mark (set by hand)
  SERVER     its proc_name
  CHANGE     what has changed; --json has files, distributions, settings and names of variables

An observer notices changes by itself: it compares what workers were made of when they were started. Values of
variables and settings are never kept. Kept for 30 days.

Examples:
  ferricornctl changes --since 1h
  ferricornctl changes --json | jq '.[] | select(.kind == \"deploy\") | .files'";

const DEPLOY_AFTER: &str = "\
For what cannot be seen from a host: feature flags, migrations, another service's deploy. Code, distributions, settings
and variables of this service need no mark.

Examples:
  ferricornctl deploy 'flag new-checkout on'
  ferricornctl deploy v1.2 --at 10m --link https://ci.example.org/42
  ferricornctl deploy v1.2 --at \"$(date +%s)\" --pidfile web.pid
  curl --unix-socket /var/lib/ferricorn/4700.sock -d '{\"name\": \"v1.2\"}' http://localhost/deploys

With --state-dir alone every server that keeps its state there is told; without one, the mark is left in the folder.

Exit status: 0 marked, 1 nobody could be told, 2 wrong usage.";

pub(super) fn changes() -> clap::Command {
    clap::Command::new("changes")
        .about("Show what has changed about services: deploys, upgrades, settings, variables")
        .after_help(CHANGES_AFTER)
        .arg(
            Arg::new("since")
                .long("since")
                .value_name("SPAN")
                .value_parser(span)
                .help("Look back so far: 90s, 30m, 1h, 2d"),
        )
        .arg(limit("Show the last N instead of 20; JSON has all there are"))
        .args([state_dir(), json()])
}

pub(super) fn changes_of(options: &ArgMatches) -> Since {
    Since {
        since: options.get_one::<Duration>("since").copied(),
        limit: options.get_one::<u64>("limit").map(|limit| *limit as usize),
    }
}

pub(super) fn deploy() -> clap::Command {
    clap::Command::new("deploy")
        .about("Mark a change by hand, so that incidents after it are compared with it")
        .after_help(DEPLOY_AFTER)
        .args([
            Arg::new("name").value_name("NAME").required(true).help("What it is called: a version, a ticket"),
            Arg::new("at")
                .long("at")
                .value_name("T")
                .value_parser(when)
                .help("When it was: seconds since 1970, or so long ago (10m); now, if that is not said"),
            Arg::new("link").long("link").value_name("URL").help("Where to read more of it"),
        ])
        .args(common())
}

pub(super) fn deploy_of(options: &ArgMatches) -> Deploy {
    Deploy {
        name: options.get_one::<String>("name").cloned().unwrap_or_default(),
        at: options.get_one::<When>("at").copied(),
        link: options.get_one::<String>("link").cloned(),
    }
}

fn when(text: &str) -> Result<When, String> {
    let at = text.parse::<u64>().map(When::At);
    at.or_else(|_| span(text).map(When::Ago))
        .map_err(|_| "it is neither seconds since 1970 nor a span such as 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Server, Verb, parse};

    fn of(words: &[&str]) -> Result<Command, i32> {
        let argv: Vec<String> = ["ferricornctl"].iter().chain(words).map(|word| (*word).to_owned()).collect();
        parse(&argv).map_err(|error| error.exit_code())
    }

    #[test]
    fn a_mark_has_a_name_and_perhaps_a_moment() {
        let deploy = |name: &str, at, link: Option<&str>| Deploy {
            name: name.into(),
            at,
            link: link.map(str::to_owned),
        };
        let table = [
            (&["v1"] as &[&str], deploy("v1", None, None), Server::TheOne),
            (
                &["a flag", "--at", "10m"],
                deploy("a flag", Some(When::Ago(Duration::from_secs(600))), None),
                Server::TheOne,
            ),
            (&["v1", "--at", "7", "--pid", "3"], deploy("v1", Some(When::At(7)), None), Server::Pid(3)),
            (
                &["v1", "web.pid", "--link", "https://a"],
                deploy("v1", None, Some("https://a")),
                Server::Pidfile("web.pid".into()),
            ),
        ];
        for (words, expected, server) in table {
            let line: Vec<&str> = ["deploy"].iter().chain(words).copied().collect();
            let command = of(&line).expect("understood");
            assert_eq!((command.verb, command.server), (Verb::Deploy(expected), server), "{words:?}");
        }
        for words in [&["deploy"] as &[&str], &["deploy", "v1", "--at", "noon"], &["changes", "--since", "1"]]
        {
            assert_eq!(of(words).map(drop), Err(2), "{words:?}");
        }
        let since = Since { since: Some(Duration::from_secs(3600)), limit: Some(3) };
        assert_eq!(
            of(&["changes", "--since", "1h", "--limit", "3"]).expect("understood").verb,
            Verb::Changes(since)
        );
    }
}
