//! The words of `ferricornctl jobs`. Not for: what they do.

use super::{json, limit, state_dir};
use crate::jobs::Jobs;
use clap::{Arg, ArgMatches};
use ferricorn_core::offload::State;

const AFTER: &str = "\
Columns:
  AGE      since the request was taken
  RAN      how long the last attempt has lasted
  TRY      attempts so far, and how many there may be
Which requests become jobs is said by the setting `offload`. `cancel` withdraws a job: one that waits is not begun, what one that
runs comes to is thrown away. `retry` begins one again that has failed or was cancelled, within some seconds.";

/// Returns the grammar.
pub(super) fn jobs() -> clap::Command {
    let id = || Arg::new("id").value_name("ID").required(true).help("Which");
    let part = |name: &'static str, about: &'static str| {
        clap::Command::new(name).about(about).arg(id()).args([state_dir(), json()])
    };
    clap::Command::new("jobs")
        .about("Show requests that are worked on later, newest first")
        .after_help(AFTER)
        .args_conflicts_with_subcommands(true)
        .arg(
            Arg::new("state")
                .long("state")
                .value_name("STATE")
                .value_parser(State::ALL.map(State::name))
                .help("Show those in this state alone"),
        )
        .arg(limit("Show the last N instead of 20"))
        .args([state_dir(), json()])
        .subcommands([
            part("show", "Show one in full"),
            part("cancel", "Withdraw one"),
            part("retry", "Begin one again that has failed"),
        ])
}

/// Reads what was asked.
pub(super) fn jobs_of(options: &ArgMatches) -> Jobs {
    let id = |inner: &ArgMatches| inner.get_one::<String>("id").cloned().unwrap_or_default();
    match options.subcommand() {
        Some(("show", inner)) => Jobs::Show(id(inner)),
        Some(("cancel", inner)) => Jobs::Cancel(id(inner)),
        Some(("retry", inner)) => Jobs::Retry(id(inner)),
        _ => {
            let state = options.get_one::<String>("state").and_then(|name| State::named(name));
            Jobs::List(state, options.get_one::<u64>("limit").map_or(20, |limit| *limit as usize))
        }
    }
}
