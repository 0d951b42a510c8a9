//! Incidents: what goes wrong again and again, or at one blow, with its cause, its cost and its course. One incident is one
//! trouble, however many requests it hits; it is updated in place until it is over. The JSON is public (docs/incidents.md):
//! add fields, never change one.
//!
//! Not for: the cause of one request ([`crate::diagnosis`]), storing (`reflex`). [`report`] tells one in words.

pub mod report;

mod desk;
mod fingerprint;
mod kept;

#[cfg(test)]
mod desk_tests;

pub use desk::{Desk, Effect, Sign, Troubled};
pub use fingerprint::fingerprint;

use crate::change::{Contrast, Explained, Shift, Verdict};
use crate::diagnosis::{Because, Candidate, Cause, Finding, Fixes, Gap, Subject};
use crate::evidence::{Frame, Source};
use crate::record::{Request, Server, Worker};
use serde::{Deserialize, Serialize};

/// Shape of the JSON; changes if a field ever changes its meaning.
pub const SCHEMA: u32 = 1;

/// How far an incident is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Seen, explained, and too little to bother anybody: one slow request, one late one.
    #[default]
    Note,
    /// Goes on.
    Open,
    /// Nothing of it has been seen for a while; it may come back.
    Mitigated,
    /// Over.
    Closed,
}

impl State {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Open => "open",
            Self::Mitigated => "mitigated",
            Self::Closed => "closed",
        }
    }
}

/// What has opened an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// More lost requests than chance explains.
    Losses,
    /// Requests take longer than they did.
    Latency,
    /// Most threads are stuck at once.
    Capacity,
    /// Workers that die, or do not boot.
    Workers,
    /// An event loop that is held again and again.
    Blocked,
    /// The arbiter does nothing any more.
    Arbiter,
}

impl Trigger {
    /// Returns what it means, as the end of a sentence.
    pub fn means(self) -> &'static str {
        match self {
            Self::Losses => "more requests are lost than chance explains",
            Self::Latency => "requests take longer than they did",
            Self::Capacity => "most threads are stuck at once",
            Self::Workers => "workers die, or do not boot",
            Self::Blocked => "an event loop is held again and again",
            Self::Arbiter => "the arbiter does nothing any more",
        }
    }
}

/// How urgent an incident is, in the words of Prometheus's alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look today.
    Warning,
    /// Requests are lost: somebody should look now.
    Critical,
}

impl Severity {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Incident {
    /// Returns how urgent it is: critical where requests are lost, or no thread or worker is left for them.
    pub fn severity(&self) -> Severity {
        match self.trigger {
            Some(Trigger::Losses | Trigger::Capacity | Trigger::Workers | Trigger::Arbiter) => {
                Severity::Critical
            }
            _ if self.requests_lost > 0 => Severity::Critical,
            _ => Severity::Warning,
        }
    }

    /// Names the change that it is blamed on, if one is: `caused by deploy 3f2a91c → 8be01d2, 4 files`.
    pub fn blame(&self) -> Option<String> {
        let change = self.change.as_ref()?;
        match change.verdict {
            Verdict::Caused => Some(format!("caused by {}", change.name)),
            Verdict::Likely => Some(format!("likely since {}", change.name)),
            Verdict::Coincident | Verdict::None => None,
        }
    }

    /// Tells whether it goes on, or may at any moment.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Mitigated)
    }
}

/// One trouble. What an earlier version has not written is as if it were empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Incident {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Its name: date and number, `20261126-7`.
    pub id: String,
    /// The server.
    pub server: Server,
    /// How far it is.
    pub state: State,
    /// What has opened it; none for a note.
    pub trigger: Option<Trigger>,
    /// What its requests have in common, as one word.
    pub fingerprint: String,
    /// The most likely cause.
    pub cause: Cause,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
    /// One sentence: what is wrong.
    pub verdict: String,
    /// What the cause is itself a symptom of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub because: Option<Because>,
    /// What is true besides and makes it worse.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also: Vec<Cause>,
    /// The route that is hit most; empty where that is not known.
    pub route: String,
    /// All routes that are hit, each with how many of its requests were.
    pub routes: Vec<(String, u64)>,
    /// When the first sign of it was seen; seconds since 1970, UTC, as all times here.
    pub noted_at: f64,
    /// When its cause was first known with a confidence of 0.8.
    pub diagnosed_at: Option<f64>,
    /// When it became more than a note.
    pub opened_at: Option<f64>,
    /// When the last sign of it was seen.
    pub last_at: f64,
    /// When it was found to have stopped.
    pub mitigated_at: Option<f64>,
    /// When it was given up.
    pub closed_at: Option<f64>,
    /// Requests that were answered in the application's place, cut, or lost with their worker.
    pub requests_lost: u64,
    /// Requests that were seen stuck, lost or not.
    pub requests_stuck: u64,
    /// Workers that were hit.
    pub workers: Vec<u32>,
    /// What it costs, in sentences.
    pub impact: Vec<String>,
    /// One of its requests, the one that tells most.
    pub request: Option<Request>,
    /// The worker of that.
    pub worker: Option<Worker>,
    /// How its stack was found out.
    pub source: Source,
    /// Where it was, the innermost call first.
    pub frames: Vec<Frame>,
    /// What the verdict rests on, the strongest first.
    pub evidence: Vec<Finding>,
    /// What was looked for and is not so.
    pub ruled_out: Vec<String>,
    /// What could not be seen, and how it could be.
    pub not_visible: Vec<Gap>,
    /// Causes with their scores over all requests, the highest first.
    pub causes: Vec<Candidate>,
    /// What it is about.
    pub subject: Subject,
    /// Its course, oldest first.
    pub timeline: Vec<Moment>,
    /// What to do.
    pub fixes: Fixes,
    /// What has been done about it, or would have been, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Acted>,
    /// The change that explains it, or that none does; none until that was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Explained>,
    /// What its requests have in common that others have not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contrast: Vec<Contrast>,
    /// What else has shifted, the strongest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shifts: Vec<Shift>,
    /// Other hosts that have had the same at the same time, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// Something that was done about an incident, or was not, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Acted {
    /// When that was said last, seconds since 1970, UTC.
    pub at: f64,
    /// Its number in the audit; 0 for what was not done.
    pub number: u64,
    /// What: `cancel_query`; see docs/policy.md.
    pub action: String,
    /// To whom.
    pub target: String,
    /// The rule that named it.
    pub rule: String,
    /// How far it is.
    pub outcome: Outcome,
    /// Why, or what came of it.
    pub text: String,
}

/// How far an action is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It would be done in another mode.
    #[default]
    Advised,
    /// A guardrail stands against it.
    Withheld,
    /// Under way.
    Begun,
    /// Done; whether it has helped is not known yet.
    Done,
    /// There was nothing to do any more.
    Over,
    /// It could not be done.
    Failed,
    /// It has helped.
    Better,
    /// It has changed nothing.
    Same,
    /// It has made it worse.
    Worse,
    /// It was taken back.
    Undone,
}

impl Outcome {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Advised => "advised",
            Self::Withheld => "withheld",
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Over => "over",
            Self::Failed => "failed",
            Self::Better => "better",
            Self::Same => "same",
            Self::Worse => "worse",
            Self::Undone => "undone",
        }
    }
}

/// One moment of an incident's course.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When, seconds since 1970, UTC.
    pub at: f64,
    /// What happened.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_requests_is_urgent() {
        let of = |trigger, requests_lost| Incident { trigger, requests_lost, ..Incident::default() };
        let table = [
            (Some(Trigger::Losses), 0, Severity::Critical),
            (Some(Trigger::Capacity), 0, Severity::Critical),
            (Some(Trigger::Workers), 0, Severity::Critical),
            (Some(Trigger::Latency), 0, Severity::Warning),
            (Some(Trigger::Latency), 1, Severity::Critical),
            (Some(Trigger::Blocked), 0, Severity::Warning),
            (None, 0, Severity::Warning),
        ];
        for (trigger, lost, severity) in table {
            assert_eq!(of(trigger, lost).severity(), severity, "{trigger:?} {lost}");
        }
    }
}
