//! What rules may ask about: one request or incident, and the server round it. Not for: finding it out.

use crate::diagnosis::Cause;
use crate::incident::{Incident, State};
use serde::{Deserialize, Serialize};

/// Everything that is known. What is not known is none, and nothing that asks for it holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// What it all rests on: the incident, or the request.
    pub evidence: String,
    /// The cause, and how sure that is.
    pub cause: Cause,
    /// The second of these, 0 to 1.
    pub confidence: f64,
    /// What it is a symptom of.
    pub because: Option<Cause>,
    /// What is true besides.
    pub also: Vec<Cause>,
    /// How far the incident is.
    pub state: State,
    /// The route, and the request's method.
    pub route: String,
    /// The second of these.
    pub method: String,
    /// How long the request has been in the application, and how long it may be; seconds.
    pub age_s: Option<f64>,
    /// The second of these.
    pub deadline_s: Option<f64>,
    /// Requests that were lost to the incident, and that were seen stuck.
    pub requests_lost: u64,
    /// The second of these.
    pub requests_stuck: u64,
    /// All requests before it that had the same trouble were lost, and it has that for long enough to be told.
    pub hopeless: bool,
    /// Its worker is dead, and a statement of it goes on.
    pub orphan: bool,
    /// `worker_class`.
    pub worker_class: String,
    /// It is a stock Gunicorn.
    pub stock: bool,
    /// Workers that serve, and how many have come in another's place within two minutes.
    pub workers: u32,
    /// The second of these.
    pub young_workers: u32,
    /// `workers`, as configured; none where that is not known.
    pub workers_configured: Option<u32>,
    /// Threads of all workers; how many are stuck, and how many requests wait for one.
    pub threads: u32,
    /// The second of these.
    pub stuck_threads: u32,
    /// The third.
    pub queued: u32,
    /// Share of the host's processors in use, 0 to 1.
    pub host_cpu: Option<f64>,
    /// Memory that is left, and what a worker has; bytes.
    pub memory_available: Option<u64>,
    /// The second of these.
    pub worker_memory: Option<u64>,
    /// Connections of the database, of one worker to it, and how many it allows.
    pub db_connections: Option<u32>,
    /// The second of these.
    pub worker_connections: Option<u32>,
    /// The third.
    pub db_connections_max: Option<u32>,
    /// A reload is under way, and its first new workers are tried.
    pub reloading: bool,
    /// Whether a change explains it: `caused`, `likely`, `coincident`, `none`; and how long ago that was, seconds.
    pub change: Option<String>,
    /// The second of these.
    pub change_age_s: Option<f64>,
    /// The code on disk is not what runs.
    pub code_differs: bool,
    /// Another incident that is open, and for which more workers would make it worse: its cause and name.
    pub scarce: Option<String>,
    /// Hosts with the same trouble within a minute, this one included.
    pub hosts: u32,
    /// Other hosts were to be heard of, and cannot be reached.
    pub cut_off: bool,
}

impl Facts {
    /// Returns what an incident tells by itself; of the server round it nothing is known, and of other hosts there is none.
    pub fn of(incident: &Incident) -> Self {
        let change = incident.change.as_ref();
        Self {
            evidence: incident.id.clone(),
            cause: incident.cause,
            confidence: incident.confidence,
            because: incident.because.as_ref().map(|because| because.cause),
            also: incident.also.clone(),
            state: incident.state,
            route: incident.route.clone(),
            requests_lost: incident.requests_lost,
            requests_stuck: incident.requests_stuck,
            change: change.map(|change| change.verdict.name().to_owned()),
            change_age_s: change.map(|change| (incident.last_at - change.at).max(0.0)),
            hosts: 1,
            ..Self::default()
        }
    }

    /// Tells whether the request is lost, whatever is done: its time is over, or it has what all before it were lost for. What a request
    /// has changed by then is not known: before its time is over, only one that may be sent again is given up (RFC 9110, 9.2.2).
    pub(super) fn is_over(&self) -> bool {
        let late =
            matches!((self.age_s, self.deadline_s), (Some(age_s), Some(deadline_s)) if age_s >= deadline_s);
        let idempotent =
            matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE");
        self.orphan || late || self.hopeless && idempotent
    }

    /// Says in a sentence what it is about.
    pub(super) fn told(&self) -> String {
        let because = self.because.filter(|because| *because != self.cause);
        let because = because.map_or(String::new(), |because| format!(" because of {because}"));
        let route = if self.route.is_empty() { String::new() } else { format!(" at {}", self.route) };
        let age = match (self.age_s, self.deadline_s) {
            (Some(age_s), Some(deadline_s)) => format!(", {age_s:.1} of {deadline_s:.1} s"),
            (Some(age_s), None) => format!(", {age_s:.1} s"),
            _ => String::new(),
        };
        format!("{}{because} ({:.2}){route}{age}", self.cause, self.confidence)
    }

    /// Tells whether the cause, or what is behind it, is of a family.
    pub(super) fn is_of(&self, families: &[&str]) -> bool {
        let of = |cause: Cause| families.contains(&cause.family()) || families.contains(&cause.code());
        of(self.cause) || self.because.is_some_and(of)
    }
}
