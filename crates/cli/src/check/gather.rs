//! Gathers the facts for a pre-flight: from the running server, a configuration file, nginx, and databases (`databases`).
//! What cannot be looked at is noted with what would make it visible.
//!
//! Not for: judging (`core::check`).

use super::databases::databases;
use super::{said, system};
use crate::command::Check;
use crate::failure::Failure;
use crate::source::Source;
use crate::{locate, nginx, vitals};
use ferricorn_core::check::{Detour, Facts, Said, StateDir};
use ferricorn_core::diagnosis::{Cause, Gap};
use ferricorn_core::figures;
use ferricorn_core::growth::{Courses, Growth};
use ferricorn_core::incident::Incident;
use ferricorn_core::snapshot::{Kind, Snapshot};
use ferricorn_reflex::store::{COURSES, IncidentFilter, Store};
use ferricorn_settings::{Source as Speaker, parse_args, split_words};
use ferricorn_sys::cgroup::Cgroup;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// How long an observer may take to begin.
const OBSERVER_S: f64 = 10.0;

/// Reads a configuration file; returns its settings as lines `name = value`.
pub(crate) type Configured<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

/// Gathers what can be known.
pub(super) fn gather(
    options: &Check,
    source: Option<&Source>,
    configured: Configured<'_>,
) -> Result<Facts, Failure> {
    let mut facts = Facts::default();
    if let Some(path) = &options.config {
        let text = configured(path).map_err(|why| {
            Failure::new(
                format!("the configuration {} could not be read", path.display()),
                why,
                "see what the server itself says: `ferricorn --check-config --config FILE APP`",
            )
        })?;
        facts.said = said::of_text(&text);
    }
    if let Some(source) = source {
        let snapshot = source.read()?;
        settings(&mut facts, &snapshot, options.config.is_some());
        processes(&mut facts, source, &snapshot);
    } else {
        unseen(
            &mut facts,
            "the running server",
            "name it beside the configuration: `ferricornctl check --config FILE SERVER`",
        );
    }
    databases(&mut facts, options)?;
    proxies(&mut facts, options.nginx.as_deref())?;
    Ok(facts)
}

pub(super) fn unseen(facts: &mut Facts, what: impl Into<String>, how: impl Into<String>) {
    facts.unseen.push(Gap { what: what.into(), how: how.into() });
}

/// Takes the settings of the running server; a configuration file that was named counts more.
fn settings(facts: &mut Facts, snapshot: &Snapshot, named: bool) {
    facts.kind = Some(snapshot.kind);
    if named {
        return;
    }
    facts.said = match (locate::settings(snapshot.arbiter_pid), snapshot.kind) {
        (Some(text), _) => said::of_text(&text),
        (None, Kind::Gunicorn) => command_line(facts, snapshot.arbiter_pid),
        (None, Kind::Ferricorn) => {
            unseen(facts, "most settings of the server", "`--config FILE` names its configuration file");
            Said::default()
        }
    };
    // These are seen in any case, and as they are in force.
    let said = &mut facts.said;
    said.workers = Some(snapshot.workers_target).filter(|workers| *workers > 0).or(said.workers);
    said.threads = said.threads.or(Some(snapshot.threads).filter(|threads| *threads > 0));
    said.timeout_s = said.timeout_s.or(snapshot.timeout_s);
    if said.worker_class.is_none() && !snapshot.worker_class.is_empty() {
        said.worker_class = Some(snapshot.worker_class.clone());
    }
}

/// Reads a stock Gunicorn's command line. A configuration file of another's is code, and is not run uninvited.
fn command_line(facts: &mut Facts, pid: u32) -> Said {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let flags = words.iter().position(|word| word.ends_with("gunicorn")).map(|at| &words[at + 1..]);
    let parsed = flags.and_then(|flags| {
        // The last word is empty: every one ends with a zero byte.
        let flags: Vec<String> = flags.iter().filter(|word| !word.is_empty()).cloned().collect();
        parse_args(&flags, Speaker::CommandLine).ok()
    });
    let Some(parsed) = parsed else {
        unseen(
            facts,
            "most settings of the server, whose command line is hidden",
            "`--config FILE` names its configuration file",
        );
        return Said::default();
    };
    let mut spoken = parsed.said;
    let said_elsewhere = cmd_args(pid).is_some_and(|words| {
        parse_args(&words, Speaker::CmdArgs).is_ok_and(|more| {
            more.said.spoken().filter(|(name, ..)| spoken.source(name) == Speaker::Default).count() > 0
        })
    });
    if said_elsewhere {
        unseen(facts, "what GUNICORN_CMD_ARGS says", "name the settings in a file: `--config FILE`");
    }
    let named = spoken.source("config") != Speaker::Default;
    let lies_there = fs::exists(format!("/proc/{pid}/cwd/gunicorn.conf.py")).unwrap_or(true);
    if named || lies_there {
        let file = if named { spoken.value("config").shown() } else { "gunicorn.conf.py".to_owned() };
        unseen(
            facts,
            format!("the settings of {file}"),
            format!("`--config {file}` runs it, as the server does"),
        );
    }
    if spoken.value("threads").shown() != "1" && spoken.source("worker_class") == Speaker::Default {
        // Gunicorn makes gthread of it.
        drop(spoken.say("worker_class", "gthread".into(), Speaker::CommandLine));
    }
    let all = !named && !lies_there && !said_elsewhere;
    Said { reflex: None, ..said::of_spoken(&spoken, all) }
}

/// Returns the words of GUNICORN_CMD_ARGS of a process. They are settings: the one variable whose value is read.
fn cmd_args(pid: u32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = bytes.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"GUNICORN_CMD_ARGS="))?;
    split_words(&String::from_utf8_lossy(value)).ok()
}

/// Looks at the processes of the running server.
fn processes(facts: &mut Facts, source: &Source, snapshot: &Snapshot) {
    let arbiter = snapshot.arbiter_pid;
    match system::stop(arbiter) {
        Ok(stop) => facts.stop = stop,
        Err(why) => unseen(
            facts,
            format!("how long systemd waits for the server's end: {why}"),
            "run this on the server's host",
        ),
    }
    match (snapshot.kind, facts.said.reflex) {
        (Kind::Gunicorn, _) => {}
        (Kind::Ferricorn, Some(false)) => jobs(facts, arbiter),
        (Kind::Ferricorn, _) => records(facts, source, snapshot),
    }
    facts.observed.no_timeout = no_timeout(source, snapshot);
    facts.observed.growth = growth(source, snapshot);
    facts.observed.memory_max = Cgroup::of(arbiter).and_then(|group| group.memory_max());
    facts.observed.standing = source.standing();
    let Some(worker) = snapshot.workers.first().map(|worker| worker.pid) else {
        unseen(facts, "the application: no worker is there", "look again when one has booted");
        return;
    };
    facts.surroundings.tracing = system::tracing(arbiter, worker);
    if snapshot.kind == Kind::Gunicorn {
        facts.surroundings.heartbeat_on_disk = system::heartbeat_on_disk(worker);
    }
    match system::variables(worker) {
        Some(names) => variables(facts, names),
        None => unseen(facts, "the application's environment", "run this as the workers' user, or as root"),
    }
    let cpu_s: Option<f64> = snapshot.workers.iter().map(|worker| Some(vitals::of(worker.pid)?.cpu_s)).sum();
    facts.observed.waiting_share = cpu_s.and_then(|cpu_s| figures::waiting_share(snapshot, cpu_s));
    facts.observed.utilisation = figures::utilisation(snapshot);
    if facts.observed.waiting_share.is_none() {
        unseen(
            facts,
            "how much of their time workers wait",
            "look again when they have worked for ten seconds together",
        );
    }
}

/// Looks at the folder of a server's records. Its observer names it some time after the server has started.
fn records(facts: &mut Facts, source: &Source, snapshot: &Snapshot) {
    facts.surroundings.state_dir = match source.state_dir() {
        Some(path) => Some(system::state_dir(&path, snapshot.arbiter_pid)),
        None if snapshot.uptime_s < OBSERVER_S => {
            unseen(
                facts,
                "the folder of its records, which its observer has not named yet",
                "look again in a moment",
            );
            None
        }
        None => Some(StateDir {
            path: String::new(),
            trouble: Some("none could be made; the log says why".to_owned()),
            file_system: None,
        }),
    };
}

/// Looks at the folder of jobs where there is no observer that names it.
fn jobs(facts: &mut Facts, arbiter: u32) {
    if facts.said.offload.iter().chain(&facts.said.offload_prefer).flatten().next().is_none() {
        return;
    }
    match &facts.said.state_dir {
        Some(path) => facts.surroundings.state_dir = Some(system::state_dir(Path::new(path), arbiter)),
        None => unseen(facts, "the folder of its jobs, which nobody names", "name it: `state_dir`"),
    }
}

fn variables(facts: &mut Facts, names: Vec<String>) {
    if names.iter().any(|name| name == "KUBERNETES_SERVICE_HOST") {
        let graceful =
            facts.said.graceful_timeout_s.map_or(String::new(), |seconds| format!(" ({seconds} s)"));
        unseen(
            facts,
            "how long Kubernetes waits for the server's end",
            format!(
                "`terminationGracePeriodSeconds` of the pod, 30 by default, must be more than graceful_timeout{graceful}"
            ),
        );
    }
    facts.application.database_variables =
        Some(names.into_iter().filter(|name| system::is_database(name)).collect());
}

/// Returns how the memory of workers grows, as their observer has seen; none if it does not, or nobody keeps it.
fn growth(source: &Source, snapshot: &Snapshot) -> Option<Growth> {
    let store = source.state_dir().and_then(|folder| Store::open(&folder).ok())?;
    let courses: Courses = store.last_remembered(snapshot.arbiter_pid, &snapshot.name, COURSES).ok()??;
    courses.growth()
}

/// Returns the lines of code whose calls were found to have no timeout; none if nobody keeps what was found.
fn no_timeout(source: &Source, snapshot: &Snapshot) -> Option<Vec<String>> {
    let kept = source.state_dir().and_then(|folder| Store::open(&folder).ok());
    let notes = IncidentFilter { notes: true, ..IncidentFilter::default() };
    let incidents = kept.and_then(|store| store.incidents(&notes).ok())?;
    // Several servers may keep theirs in one folder.
    let is_it = |incident: &&Incident| {
        incident.cause == Cause::ExternalNoTimeout && incident.server.name == snapshot.name
    };
    let place = |incident: &Incident| {
        incident.frames.iter().find(|frame| frame.is_application()).map(ToString::to_string)
    };
    let lines: BTreeSet<String> = incidents.iter().filter(is_it).filter_map(place).collect();
    Some(lines.into_iter().collect())
}

fn proxies(facts: &mut Facts, file: Option<&Path>) -> Result<(), Failure> {
    let tree = match file {
        Some(path) => nginx::from_file(path).map_err(|why| {
            let hint = "give nginx's main file, or what `nginx -T` prints";
            Failure::new(format!("the nginx configuration {} could not be read", path.display()), why, hint)
        })?,
        None => match system::ask("nginx", &["-T"]).and_then(|dump| nginx::from_dump(&dump)) {
            Ok(tree) => tree,
            Err(why) => {
                unseen(
                    facts,
                    format!("the proxy before the server ({why})"),
                    "`--nginx FILE`, with what `nginx -T` prints on its host",
                );
                return Ok(());
            }
        },
    };
    let places = nginx::places(&tree, facts.said.bind.as_deref());
    if places.is_empty() {
        let where_to = facts.said.bind.as_ref().map_or("a server".to_owned(), |bind| bind.join(", "));
        unseen(
            facts,
            format!("the proxy before the server: no place of nginx's configuration leads to {where_to}"),
            "`--nginx FILE`, with what `nginx -T` prints on its host",
        );
        return Ok(());
    }
    facts.proxies = Some(places);
    facts.detours = detours(&facts.said, &tree);
    Ok(())
}

/// Looks where nginx leads requests that become jobs, and those about them; none if it is not known which these are.
fn detours(said: &Said, tree: &[nginx::Directive]) -> Option<Vec<Detour>> {
    let routes = said.offload.iter().chain(&said.offload_prefer).flatten();
    let routes: Vec<&str> = routes.map(|route| route.route.as_str()).collect();
    let (bind, prefix) = (said.bind.as_deref()?, said.offload_prefix.as_deref()?);
    (!routes.is_empty()).then(|| nginx::detours(tree, bind, &routes, prefix))
}
