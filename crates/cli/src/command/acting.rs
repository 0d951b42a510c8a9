//! The command lines of the verbs about what the observer does by itself: `policy`, `actions`, `off`, `on`. Not for: the options that
//! all verbs share.

use super::{json, limit, state_dir};
use clap::{Arg, ArgMatches, value_parser};
use ferricorn_core::policy::Mode;
use std::path::PathBuf;

/// What `policy` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The rules that hold: those that come with this version, or those of a file over them.
    Show(Option<PathBuf>),
    /// The mistakes of a file.
    Check(PathBuf),
    /// What a policy would have done about incidents: those of files, else those of the store.
    Test {
        /// The policy.
        file: Option<PathBuf>,
        /// Its mode instead.
        mode: Option<Mode>,
        /// Files with incidents as JSON.
        incidents: Vec<PathBuf>,
    },
    /// Every rule for one incident, and which part of it holds.
    Explain {
        /// The incident.
        incident: String,
        /// The policy.
        file: Option<PathBuf>,
        /// Its mode instead.
        mode: Option<Mode>,
    },
}

const POLICY_AFTER: &str = "\
A policy says what the observer does about trouble: in which mode, by which rules, how often. Without one of your own the rules
that come with Ferricorn hold.

Examples:
  ferricornctl policy show                      the rules that come with this version
  ferricornctl policy show my.toml              your own before these, as they hold
  ferricornctl policy check my.toml             mistakes with line and column; exit status 1 if there are any
  ferricornctl policy test my.toml --mode act   what it would have done about the incidents that are kept
  ferricornctl policy explain 20261126-7        every rule, and which part of it holds for this incident

docs/policy.md tells what a rule may ask for, and what no rule can do.";

const ACTIONS_AFTER: &str = "\
Columns:
  NO       the action's number in the audit
  AT       when
  WHAT     what was done, to whom, and how far it is: begun, done, over (there was nothing to do any more), failed; and after a
           minute whether it has helped: better, same, worse
  WHY      the incident and the rule

Each action has a row before it begins and one for each thing that is known of it later. Every row carries a hash over itself and
the one before: exit status 1 and a line tell if one was changed or is missing.";

const SWITCH_AFTER: &str = "\
A file in the state folder, `reflex.off`, turns the observers of that folder off within a second: nothing is done by itself, whatever the
mode. What is advised is told still. `on` removes it, and allows again what was locked for not having helped.

Without --state-dir, the folders of all running servers and this user's own are meant.";

pub(super) fn verbs() -> [clap::Command; 4] {
    let file = |name: &'static str| Arg::new(name).value_name("FILE").value_parser(value_parser!(PathBuf));
    let mode = || {
        Arg::new("mode")
            .long("mode")
            .value_name("MODE")
            .value_parser(["observe", "advise", "protect", "act"])
            .help("In this mode instead of the policy's own")
    };
    let policy = || {
        Arg::new("policy")
            .long("policy")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Your own policy, instead of the one that comes with this version")
    };
    [
        clap::Command::new("policy")
            .about("Show, check and try what the observer does about trouble")
            .after_help(POLICY_AFTER)
            .subcommand_required(true)
            .subcommand_value_name("WHAT")
            .disable_help_subcommand(true)
            .subcommands([
                clap::Command::new("show")
                    .about("Show the rules that hold")
                    .args([file("file").help("Your own policy"), json()]),
                clap::Command::new("check")
                    .about("Find mistakes")
                    .args([file("file").required(true).help("The policy"), json()]),
                clap::Command::new("test").about("Try it on incidents that are kept").args([
                    file("file").help("The policy, instead of the one that comes with this version"),
                    file("incidents").value_name("INCIDENTS.json").num_args(0..).help(
                        "Files of incidents, as `ferricornctl incidents --json` writes them, instead of those that are kept",
                    ),
                    mode(),
                    state_dir(),
                    json(),
                ]),
                clap::Command::new("explain").about("Show every rule for one incident").args([
                    Arg::new("incident").value_name("INCIDENT").required(true).help("Its id"),
                    policy(),
                    mode(),
                    state_dir(),
                    json(),
                ]),
            ]),
        clap::Command::new("actions")
            .about("Show what the observer has done by itself, newest first")
            .after_help(ACTIONS_AFTER)
            .args([limit("Show the last N instead of 20; JSON has all there are"), state_dir(), json()]),
        clap::Command::new("off").about("Stop everything that the observer does by itself").after_help(SWITCH_AFTER).arg(state_dir()),
        clap::Command::new("on").about("Allow it again").after_help(SWITCH_AFTER).arg(state_dir()),
    ]
}

pub(super) fn policy_of(options: &ArgMatches) -> Policy {
    let (name, options) = options.subcommand().expect("clap refuses a line without what is wanted");
    let path = |id: &str| options.get_one::<PathBuf>(id).cloned();
    let mode = || options.get_one::<String>("mode").and_then(|name| Mode::of(name));
    match name {
        "show" => Policy::Show(path("file")),
        "check" => Policy::Check(path("file").unwrap_or_default()),
        "test" => Policy::Test {
            file: path("file"),
            mode: mode(),
            incidents: options
                .get_many("incidents")
                .map(|paths| paths.cloned().collect())
                .unwrap_or_default(),
        },
        _ => Policy::Explain {
            incident: options.get_one::<String>("incident").cloned().unwrap_or_default(),
            file: path("policy"),
            mode: mode(),
        },
    }
}
