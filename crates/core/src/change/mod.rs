//! What has changed about a service, and whether that explains what goes wrong: fingerprints of workers at their boot, changes as the
//! differences between them, and the comparison of numbers before and after, old and new. The JSON of a [`Change`] and of a
//! [`Standing`] is public (docs/changes.md): add fields, never change one.
//!
//! Not for: reading anything (`reflex::changes`), and not for lives of workers ([`crate::life`]).

mod compare;
mod contrast;
mod correlate;
mod fingerprint;
mod odds;
mod shift;
mod standing;
mod tally;
mod trial;

#[cfg(test)]
mod correlate_tests;

pub use compare::compare;
pub use contrast::{Attribute, Contrast, Seen};
pub use correlate::{Explained, Question, Verdict, correlate};
pub use fingerprint::{Code, Config, DISTRIBUTIONS_MAX, FILES_MAX, File, Fingerprint, Python};
pub use odds::{Counts, more_often};
pub use shift::{Metric, Shift, Shifts};
pub use standing::{Live, Mixed, Pending, Standing, standing};
pub use tally::{Tally, Which};
pub use trial::judge;

use serde::{Deserialize, Serialize};

/// Shape of the JSON; changes if a field ever changes its meaning.
pub const SCHEMA: u32 = 1;
/// Most files, distributions or names that a change lists; the others are counted.
pub const LISTED_MAX: usize = 32;

/// What kind of change it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Other code.
    #[default]
    Deploy,
    /// Code that has run before.
    Rollback,
    /// Other versions of installed distributions.
    Dependency,
    /// Another configuration file, command line or setting.
    Config,
    /// Other variables.
    Environment,
    /// Another Python.
    Runtime,
    /// Nothing but new processes.
    Restart,
    /// What somebody has marked by hand.
    Mark,
}

impl Kind {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Dependency => "dependency",
            Self::Config => "config",
            Self::Environment => "environment",
            Self::Runtime => "runtime",
            Self::Restart => "restart",
            Self::Mark => "mark",
        }
    }
}

/// Something that has changed about a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When the first worker with it was started, or for when it was marked: seconds since 1970, UTC.
    pub at: f64,
    /// The kind that matters most.
    pub kind: Kind,
    /// What people call it: `deploy 3f2a91c → 8be01d2, 4 files`.
    pub name: String,
    /// What else there is to say, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// The version of the code before; empty where that is not known.
    pub from: String,
    /// The version of the code since.
    pub to: String,
    /// Ids of all that workers were made of before and since: by these their requests are told apart.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from_id: String,
    /// The same since.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to_id: String,
    /// Files of the application that are others, are new or gone; the first [`LISTED_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// How many these are.
    pub files_count: u64,
    /// Distributions that are others, by name; the first [`LISTED_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distributions: Vec<String>,
    /// Settings that are others, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Variables that are others, by name; never their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// The first worker with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// `proc_name` of its server.
    pub server: String,
    /// Where somebody reads more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl Change {
    /// Tells whether it may have an effect of its own: a restart alone brings nothing new.
    pub fn is_news(&self) -> bool {
        self.kind != Kind::Restart
    }
}

/// A mark that somebody sets: the body of `POST /deploys`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// What it is called.
    pub name: String,
    /// When it was, seconds since 1970, UTC; now, if that is not said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<f64>,
    /// Where somebody reads more of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link: Option<String>,
}

/// Most bytes of a mark's name, and of its link.
pub const MARK_MAX: usize = 200;
/// A mark may lie so far back, seconds: 30 days, as long as changes are kept.
const BACK_MAX_S: f64 = 30.0 * 86_400.0;
/// And so far ahead: clocks differ.
const AHEAD_MAX_S: f64 = 300.0;

impl Mark {
    /// Returns the change that it stands for, or why it cannot be one.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn change(&self, server: &str, now: f64) -> Result<Change, String> {
        let name = self.name.trim();
        if name.is_empty() || name.len() > MARK_MAX {
            return Err(format!("`name` must have 1 to {MARK_MAX} bytes"));
        }
        let at = self.at.unwrap_or(now);
        if !(now - BACK_MAX_S..=now + AHEAD_MAX_S).contains(&at) {
            return Err("`at` must be seconds since 1970 within the last 30 days".to_owned());
        }
        let is_link = |link: &str| {
            (link.starts_with("https://") || link.starts_with("http://"))
                && link.len() <= MARK_MAX
                && !link.contains(|character: char| character.is_control() || character == ' ')
        };
        if self.link.as_deref().is_some_and(|link| !is_link(link)) {
            return Err(format!("`link` must be an http or https address of at most {MARK_MAX} bytes"));
        }
        Ok(Change {
            schema: SCHEMA,
            at,
            kind: Kind::Mark,
            name: name.to_owned(),
            to: name.to_owned(),
            server: server.to_owned(),
            link: self.link.clone(),
            ..Change::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_change_or_says_why_not() {
        let now = 1_795_651_200.0;
        let mark = |name: &str, at: Option<f64>, link: Option<&str>| {
            Mark { name: name.into(), at, link: link.map(str::to_owned) }.change("shop", now)
        };
        let table = [
            ("v1.2", None, None, Ok(now)),
            (" v1.2 ", Some(now - 60.0), Some("https://ci/7"), Ok(now - 60.0)),
            ("", None, None, Err("name")),
            ("x", Some(now + 301.0), None, Err("at")),
            ("x", Some(now - 31.0 * 86_400.0), None, Err("at")),
            ("x", Some(f64::NAN), None, Err("at")),
            ("x", None, Some("javascript:x"), Err("link")),
            ("x", None, Some("https://a b"), Err("link")),
        ];
        for (name, at, link, expected) in table {
            match (mark(name, at, link), expected) {
                (Ok(change), Ok(at)) => {
                    assert_eq!((change.at, change.name.as_str(), change.kind), (at, "v1.2", Kind::Mark));
                }
                (Err(why), Err(word)) => assert!(why.contains(word), "{why}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
        assert!(mark(&"x".repeat(MARK_MAX + 1), None, None).is_err());
        assert!(mark(&"x".repeat(MARK_MAX), None, None).is_ok());
    }
}
