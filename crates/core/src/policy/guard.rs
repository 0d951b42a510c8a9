//! What forbids an action whatever a rule says: it would make things worse, or hit those who have nothing to do with it. Not for: how
//! often something was done ([`super::ledger`]).

use super::ledger::Ledger;
use super::{Facts, Kind, Limits, Rule, Step};
use crate::diagnosis::Cause;
use crate::incident::State;

/// So much memory must be left for one worker more, in workers.
const HEADROOM: f64 = 1.5;
/// Of the database's connections so many may be in use with the new worker's.
const CONNECTIONS: f64 = 0.8;
/// From so many hosts on it is not this one.
const HOSTS: u32 = 3;
/// What is waited for is scarce: more who wait for it make it scarcer.
const SCARCE: [&str; 5] = ["db", "pool", "cpu", "host", "worker.memory"];
/// It is somebody else's trouble: a new arbiter changes nothing.
const ELSEWHERE: [&str; 3] = ["db", "pool", "external"];

/// Tells whether more workers would make it worse: what is waited for is scarce.
pub fn more_would_hurt(cause: Cause, because: Option<Cause>) -> bool {
    let facts = Facts { cause, because, ..Facts::default() };
    facts.is_of(&SCARCE)
}

/// Says what stands against an action.
pub(super) fn against(
    step: &Step,
    rule: &Rule,
    facts: &Facts,
    limits: &Limits,
    ledger: &Ledger,
) -> Option<String> {
    let kind = step.kind;
    if facts.state == State::Note && !kind.is_about_a_request() {
        return Some("one request is no reason to touch others: there is no incident".to_owned());
    }
    if facts.hosts >= HOSTS && !kind.is_about_a_request() {
        return Some(format!("{} hosts have the same at once: it is what they share", facts.hosts));
    }
    if matches!(kind, Kind::KillWorker | Kind::Recycle | Kind::RestartMaster)
        && facts.young_workers * 2 > facts.workers
    {
        return Some(format!(
            "{} of {} workers have come in another's place within two minutes: more restarts do not help",
            facts.young_workers, facts.workers
        ));
    }
    match kind {
        Kind::AddWorkers => against_more(step, facts, limits, ledger),
        Kind::RemoveWorkers if ledger.extra() == 0 => Some("no workers were added".to_owned()),
        Kind::Recycle if facts.code_differs => {
            Some("the code on disk is not what runs: new workers would deploy it".to_owned())
        }
        Kind::HaltReload if facts.stock => Some("a stock Gunicorn's reload cannot be halted".to_owned()),
        Kind::HaltReload if !facts.reloading => Some("no reload is being tried: see reload_soak".to_owned()),
        Kind::OpenCircuit if facts.stock => Some("a stock Gunicorn cannot leave a route unserved".to_owned()),
        Kind::OpenCircuit if crate::route::split(&facts.route).is_none() => {
            Some("which route it is is not known".to_owned())
        }
        Kind::RestartMaster if !facts.stock => {
            Some("Ferricorn's arbiter cannot be replaced in place: restart the service".to_owned())
        }
        Kind::RestartMaster if facts.is_of(&ELSEWHERE) => {
            Some(format!("{} is somebody else's trouble: a new arbiter changes nothing", facts.cause))
        }
        Kind::RestartMaster if !rule.is_own => Some("it needs a rule of your own that names it".to_owned()),
        _ => None,
    }
}

fn against_more(step: &Step, facts: &Facts, limits: &Limits, ledger: &Ledger) -> Option<String> {
    let more = step.count;
    if facts.is_of(&SCARCE) {
        let cause = facts.because.unwrap_or(facts.cause);
        return Some(format!("{cause}: more workers would make it worse"));
    }
    // The same lack may show as something else, too: who waits for the interpreter does not compute.
    if let Some(other) = &facts.scarce {
        return Some(format!("{other} is open as well: more workers would make it worse"));
    }
    let extra = ledger.extra() + more;
    let usual = facts.workers_configured.unwrap_or(facts.workers.saturating_sub(ledger.extra())).max(1);
    if extra > limits.max_extra
        || f64::from(usual + extra) > f64::from(usual) * limits.max_factor.max(1.0) + 0.5
    {
        return Some(format!("there would be {extra} more than the {usual} that were asked for"));
    }
    if let (Some(left), Some(one)) = (facts.memory_available, facts.worker_memory)
        && (left as f64) < one as f64 * HEADROOM * f64::from(more)
    {
        let mb = |bytes: u64| bytes / 1_000_000;
        return Some(format!("{} MB of memory are left, and a worker has {} MB", mb(left), mb(one)));
    }
    if let (Some(used), Some(most)) = (facts.db_connections, facts.db_connections_max)
        && f64::from(used + facts.worker_connections.unwrap_or(1) * more) > f64::from(most) * CONNECTIONS
    {
        return Some(format!("the database has {used} of {most} connections in use"));
    }
    None
}
