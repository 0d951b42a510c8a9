//! Several hosts that know of each other: what each tells the others ([`Beacon`]), which troubles are the same on several of them at
//! once, and what all hosts of a service together may do ([`Shared`], [`Purse`]). JSON in a bus that any of them may read.
//!
//! Not for: the bus itself (`reflex::bus`), and not for what follows from it ([`crate::policy`]).

mod budget;
#[cfg(test)]
mod simulation;

pub use budget::{CUT_OFF, Claim, Limits, Purse, Share, Shared};

use crate::incident::Incident;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Shape of the JSON; changes if a field ever changes its meaning.
pub const SCHEMA: u32 = 1;
/// A host that was not heard of for so long is taken to be gone, seconds.
pub const STALE_S: f64 = 45.0;
/// Troubles of several hosts are the same if they were seen within so long, seconds.
pub const TOGETHER_S: f64 = 60.0;
/// Troubles that a host tells of at a time.
const TROUBLES_MAX: usize = 32;

/// What an observer tells the others of its server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Beacon {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The host.
    pub host: String,
    /// The service: its `proc_name`.
    pub service: String,
    /// Pid of the arbiter.
    pub pid: u32,
    /// When that was written, seconds since 1970, UTC, by the host's own clock.
    pub at: f64,
    /// Workers that serve.
    pub workers: u32,
    /// What they are made of, as people call it; empty where that is not known, or differs.
    pub version: String,
    /// What goes wrong there.
    pub troubles: Vec<Trouble>,
}

/// A trouble of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// Its name there.
    pub incident: String,
    /// What it has in common with the same trouble elsewhere.
    pub signature: String,
    /// The code of its cause.
    pub cause: String,
    /// The route that is hit most.
    pub route: String,
    /// When the last sign of it was seen, seconds since 1970, UTC.
    pub last_at: f64,
    /// Requests that it has cost.
    pub requests_lost: u64,
}

impl Trouble {
    /// Returns what others are told of an incident; nothing of one that is over.
    pub fn of(incident: &Incident) -> Option<Self> {
        incident.is_open().then(|| Self {
            incident: incident.id.clone(),
            signature: signature(incident),
            cause: incident.cause.code().to_owned(),
            route: incident.route.clone(),
            last_at: incident.last_at,
            requests_lost: incident.requests_lost,
        })
    }
}

impl Beacon {
    /// Sets what goes wrong, by the incidents that there are.
    pub fn tell<'a>(&mut self, incidents: impl IntoIterator<Item = &'a Incident>) {
        self.troubles = incidents.into_iter().filter_map(Trouble::of).take(TROUBLES_MAX).collect();
    }
}

/// Returns what an incident has in common with the same trouble of another host: its cause with the service or the statement that it
/// waits for; where it waits for none, with the route. Addresses and processes differ from host to host, and are no part of it.
pub fn signature(incident: &Incident) -> String {
    let subject = &incident.subject;
    let about = subject.query.as_deref().filter(|query| !query.is_empty());
    let about = about.or(subject.peer.as_deref().filter(|peer| !peer.is_empty()));
    let about = about.unwrap_or(&incident.route);
    format!("{} {about}", incident.because.as_ref().map_or(incident.cause, |because| because.cause))
}

/// Returns the hosts, this one aside, that have the same trouble as an incident at the same time, in their order. Hosts are told
/// apart by name: two services of one host are one.
pub fn elsewhere<'a>(
    incident: &Incident,
    host: &str,
    others: impl IntoIterator<Item = &'a Beacon>,
) -> Vec<String> {
    let signature = signature(incident);
    let is_same = |trouble: &&Trouble| {
        trouble.signature == signature && (trouble.last_at - incident.last_at).abs() < TOGETHER_S
    };
    let with_it = others
        .into_iter()
        .filter(|other| other.host != host && other.troubles.iter().any(|trouble| is_same(&trouble)));
    with_it.map(|other| other.host.clone()).collect::<BTreeSet<String>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{Because, Cause, Subject};
    use crate::incident::State;

    fn incident(cause: Cause, query: &str, peer: &str, last_at: f64) -> Incident {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Incident {
            id: "20261127-1".into(),
            state: State::Open,
            cause,
            route: "GET /orders".into(),
            last_at,
            subject: Subject { query: text(query), peer: text(peer), ..Subject::default() },
            ..Incident::default()
        }
    }

    fn beacon(host: &str, service: &str, incidents: &[Incident]) -> Beacon {
        let mut beacon = Beacon { host: host.into(), service: service.into(), ..Beacon::default() };
        beacon.tell(incidents);
        beacon
    }

    #[test]
    fn the_same_trouble_is_known_by_its_cause_and_what_is_waited_for() {
        let mut slow = incident(Cause::DbSlowQuery, "select $1", "10.0.0.9:5432", 100.0);
        assert_eq!(signature(&slow), "db.slow_query select $1");
        slow.subject.query = None;
        assert_eq!(signature(&slow), "db.slow_query 10.0.0.9:5432");
        slow.subject.peer = None;
        assert_eq!(signature(&slow), "db.slow_query GET /orders");
        slow.because = Some(Because { cause: Cause::DbLock, text: String::new() });
        assert_eq!(signature(&slow), "db.lock GET /orders");
    }

    #[test]
    fn hosts_that_have_it_at_once_are_counted_once_each() {
        let mine = incident(Cause::DbLock, "update stock", "", 1000.0);
        let same = incident(Cause::DbLock, "update stock", "", 1030.0);
        let before = incident(Cause::DbLock, "update stock", "", 900.0);
        let other = incident(Cause::DbLock, "update orders", "", 1000.0);
        let over = Incident { state: State::Closed, ..same.clone() };
        let others = [
            beacon("web-3", "shop", &[other.clone(), same.clone()]),
            beacon("web-2", "shop", std::slice::from_ref(&same)),
            beacon("web-2", "admin", std::slice::from_ref(&same)),
            beacon("web-1", "admin", std::slice::from_ref(&same)),
            beacon("web-4", "shop", &[other, before]),
            beacon("web-5", "shop", &[over]),
        ];
        assert_eq!(elsewhere(&mine, "web-1", &others), ["web-2", "web-3"]);
    }
}
