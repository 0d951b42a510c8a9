//! A pre-flight: what in the settings of a server and of what stands round it will go wrong one day, told from plain facts.
//! A fact that is not known raises nothing; that it is not known is told instead.
//!
//! Not for: gathering facts (`cli`), nor for what has gone wrong already ([`crate::diagnosis`], [`crate::advice`]).

mod facts;
mod rules;

pub use facts::{
    Application, Broker, DatabaseFacts, Detour, Facts, JobRoute, Observed, Pooler, Proxy, Said, StateDir,
    Stop, Surroundings, Tracing,
};

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It does not do what it looks like, or could be better.
    Hint,
    /// It will cost requests when something else goes wrong.
    Warning,
    /// It will cost requests as it is, or lets strangers in.
    Error,
}

impl Level {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// How much it matters.
    pub level: Level,
    /// Its name, which is public: `proxy.read_timeout`.
    pub code: &'static str,
    /// What is so.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// What to do.
    pub fix: String,
}

/// Judges the facts; the worst comes first, and of equals the order is that of the rules.
pub fn check(facts: &Facts) -> Vec<Found> {
    let mut found = Vec::new();
    for rule in rules::RULES {
        rule(facts, &mut found);
    }
    found.sort_by_key(|found: &Found| std::cmp::Reverse(found.level));
    found
}

#[cfg(test)]
mod tests;
