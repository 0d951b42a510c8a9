//! `ferricornctl policy`: shows, checks and tries what the observer does about trouble. Not for: what it has done (`actions`).

use crate::command::Policy as Wanted;
use crate::failure::{FOUND, Failure, OK};
use crate::stores;
use crate::workers::write_json;
use ferricorn_core::incident::{Incident, State};
use ferricorn_core::policy::{BUILTIN, Considered, Facts, Ledger, Mistake, Mode, Policy, Rule, Verdict};
use ferricorn_core::snapshot::Kind;
use ferricorn_reflex::store::{IncidentFilter, Store};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Runs it; returns the exit status.
pub(crate) fn run(
    wanted: &Wanted,
    state_dir: Option<&Path>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(io::Result<()>, i32), Failure> {
    match wanted {
        Wanted::Show(None) if !json => Ok((out.write_all(BUILTIN.as_bytes()), OK)),
        Wanted::Show(file) => Ok((show(&policy(file.as_deref(), None)?, json, out), OK)),
        Wanted::Check(file) => {
            let mistakes = Policy::parse(&text(file)?).err().unwrap_or_default();
            let status = if mistakes.is_empty() { OK } else { FOUND };
            Ok((told(&mistakes, file, json, out), status))
        }
        Wanted::Test { file, mode, incidents } => {
            let policy = policy(file.as_deref(), *mode)?;
            let found = match incidents.is_empty() {
                true => kept(&stores::open(state_dir)?)?,
                false => read(incidents)?,
            };
            Ok((tried(&policy, &found, json, out), OK))
        }
        Wanted::Explain { incident, file, mode } => {
            let policy = policy(file.as_deref(), *mode)?;
            let stores = stores::open(state_dir)?;
            let found = stores::read(&stores, |store| {
                store.incident(incident).map(|found| found.into_iter().collect())
            })?;
            let found: &Incident = found.first().ok_or_else(|| {
                Failure::new(
                    format!("there is no incident {incident}"),
                    "nothing of that name is kept",
                    "`ferricornctl incidents --all` lists them; name the folder with --state-dir",
                )
            })?;
            Ok((explained(&policy, found, json, out), OK))
        }
    }
}

fn text(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| {
        Failure::new(
            format!("{} could not be read", file.display()),
            error.to_string(),
            "name a file that you may read",
        )
    })
}

/// Reads a policy, or returns the one that comes with this version.
fn policy(file: Option<&Path>, mode: Option<Mode>) -> Result<Policy, Failure> {
    let policy = match file {
        None => Policy::builtin(Mode::default()),
        Some(file) => Policy::parse(&text(file)?).map_err(|mistakes| {
            let first = mistakes.first().map(ToString::to_string).unwrap_or_default();
            let hint = format!("`ferricornctl policy check {}` shows all of them", file.display());
            Failure::new(format!("the policy {} has mistakes", file.display()), first, hint)
        })?,
    };
    Ok(match mode {
        Some(mode) => policy.in_mode(mode),
        None => policy,
    })
}

fn show(policy: &Policy, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let unless = |rule: &Rule| rule.unless.as_ref().map(|condition| condition.text().to_owned());
    if json {
        let one = |rule: &Rule| {
            json!({
                "name": rule.name, "when": rule.when.text(), "unless": unless(rule), "do": rule.steps, "own": rule.is_own,
            })
        };
        let rules: Vec<Value> = policy.rules().iter().map(one).collect();
        return write_json(&json!({ "mode": policy.mode(), "rules": rules }), out);
    }
    writeln!(out, "mode {}", policy.mode().name())?;
    for rule in policy.rules() {
        let own = if rule.is_own { "" } else { "   (comes with Ferricorn)" };
        let steps: Vec<&str> = rule.steps.iter().map(|step| step.kind.name()).collect();
        writeln!(out, "\n{}{own}\n  when    {}", rule.name, rule.when.text())?;
        if let Some(unless) = unless(rule) {
            writeln!(out, "  unless  {unless}")?;
        }
        writeln!(out, "  do      {}", steps.join(", "))?;
    }
    Ok(())
}

fn told(mistakes: &[Mistake], file: &Path, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        return write_json(&json!({ "mistakes": mistakes }), out);
    }
    for mistake in mistakes {
        writeln!(out, "{}:{}:{}: {}", file.display(), mistake.line, mistake.column, mistake.text)?;
    }
    if mistakes.is_empty() {
        writeln!(out, "{}: no mistakes", file.display())?;
    }
    Ok(())
}

fn kept(stores: &[Store]) -> Result<Vec<Incident>, Failure> {
    let all = IncidentFilter { notes: true, ..IncidentFilter::default() };
    let mut found = stores::read(stores, |store| store.incidents(&all))?;
    found.sort_by(|one, other| one.noted_at.total_cmp(&other.noted_at));
    Ok(found)
}

fn read(files: &[PathBuf]) -> Result<Vec<Incident>, Failure> {
    let mut found = Vec::new();
    for file in files {
        let text = text(file)?;
        let one = || serde_json::from_str::<Incident>(&text).map(|incident| vec![incident]);
        let read = serde_json::from_str::<Vec<Incident>>(&text).or_else(|_| one());
        found.extend(read.map_err(|error| {
            let hint =
                "a file has one incident, or an array of them, as `ferricornctl incidents --json` writes it";
            Failure::new(format!("{} has no incidents", file.display()), error.to_string(), hint)
        })?);
    }
    Ok(found)
}

/// What was known of an incident, as far as it is kept: what the server round it was like is not.
fn facts(incident: &Incident) -> Facts {
    let request = incident.request.as_ref();
    let facts = Facts::of(incident);
    let settled = incident.state == State::Closed && incident.opened_at.is_some();
    Facts {
        // As it was while it went on.
        state: if settled { State::Open } else { facts.state },
        method: request.map(|request| request.method.clone()).unwrap_or_default(),
        age_s: request.map(|request| request.app_s),
        deadline_s: request.and_then(|request| request.deadline_s),
        stock: incident.server.kind == Kind::Gunicorn,
        ..facts
    }
}

fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Do => "done".to_owned(),
        Verdict::Advise(why) => format!("advised: {why}"),
        Verdict::Withheld(why) => format!("withheld: {why}"),
    }
}

fn tried(policy: &Policy, incidents: &[Incident], json: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut ledger = Ledger::default();
    let mut number = 0;
    let mut pages = Vec::new();
    for incident in incidents {
        let proposals = policy.decide(&facts(incident), &ledger, incident.last_at);
        for proposal in proposals.iter().filter(|proposal| proposal.verdict == Verdict::Do) {
            // What has been done counts for those that come after.
            number += 1;
            ledger.done(number, proposal, incident.last_at);
        }
        pages.push((incident, proposals));
    }
    if json {
        let one = |(incident, proposals): &(&Incident, Vec<_>)| json!({ "incident": incident.id, "cause": incident.cause, "proposals": proposals });
        return write_json(&pages.iter().map(one).collect::<Vec<Value>>(), out);
    }
    if pages.is_empty() {
        return writeln!(out, "there are no incidents to try it on");
    }
    for (incident, proposals) in pages {
        writeln!(out, "{}  {}  {}", incident.id, incident.cause, incident.route)?;
        if proposals.is_empty() {
            writeln!(out, "  no rule wants anything done")?;
        }
        for proposal in proposals {
            writeln!(out, "  {} by {}: {}", proposal.step.kind, proposal.rule, said(&proposal.verdict))?;
        }
    }
    Ok(())
}

fn explained(policy: &Policy, incident: &Incident, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let considered = policy.explain(&facts(incident), &Ledger::default(), incident.last_at);
    if json {
        return write_json(
            &json!({ "incident": incident.id, "mode": policy.mode(), "rules": considered }),
            out,
        );
    }
    writeln!(
        out,
        "Incident {}: {} on {}, mode {}",
        incident.id,
        incident.cause,
        incident.route,
        policy.mode().name()
    )?;
    for Considered { rule, parts, fits, proposals } in considered {
        writeln!(out, "\n{rule}: {}", if fits { "fits" } else { "does not fit" })?;
        for (part, held) in parts {
            let word = match held {
                Some(true) => "yes",
                Some(false) => "no",
                None => "not known",
            };
            writeln!(out, "  {word:<9}  {part}")?;
        }
        for proposal in proposals {
            writeln!(out, "  {}: {}", proposal.step.kind, said(&proposal.verdict))?;
        }
    }
    Ok(())
}
