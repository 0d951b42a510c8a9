//! What the slow and lost requests have in common that the others have not: a route, a method, a client, a version of the code. A
//! value explains them if most of the bad have it, and few of the good. After BubbleUp.
//!
//! Not for: causes ([`crate::diagnosis`]).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Fewer bad requests have nothing in common.
const BAD_MIN: u64 = 5;
/// And fewer good ones are nothing to compare with.
const GOOD_MIN: u64 = 20;
/// Of the bad, so many have it at least.
const BAD_SHARE: f64 = 0.7;
/// And the share among the good is smaller by so much.
const APART: f64 = 0.35;
/// Most values that are told.
const TOLD_MAX: usize = 3;
/// Values of one attribute that are told apart.
const VALUES_MAX: usize = 512;

/// An attribute of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attribute {
    /// The pattern of its route.
    #[default]
    Route,
    /// Its method.
    Method,
    /// The address of its client.
    Client,
    /// The version of its worker's code.
    Version,
}

impl Attribute {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Method => "method",
            Self::Client => "client",
            Self::Version => "version",
        }
    }
}

/// A value that sets the bad requests apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contrast {
    /// Of which attribute.
    pub attribute: Attribute,
    /// The value.
    pub value: String,
    /// Bad requests with it, and all of the bad.
    pub bad: u64,
    /// All bad requests.
    pub bad_of: u64,
    /// Good requests with it.
    pub good: u64,
    /// All good requests.
    pub good_of: u64,
}

impl Contrast {
    /// Says it.
    pub fn text(&self) -> String {
        let Self { attribute, value, bad, bad_of, good, good_of } = self;
        format!(
            "{} {value}: {bad} of {bad_of} slow or lost requests, {good} of {good_of} others",
            attribute.name()
        )
    }

    fn apart(&self) -> f64 {
        self.bad as f64 / self.bad_of.max(1) as f64 - self.good as f64 / self.good_of.max(1) as f64
    }
}

/// Requests by attribute and value: the bad and the good.
#[derive(Debug, Default)]
pub struct Seen {
    values: BTreeMap<(Attribute, String), (u64, u64)>,
}

impl Seen {
    /// Counts requests with a value of an attribute.
    pub fn take(&mut self, attribute: Attribute, value: &str, bad: u64, good: u64) {
        let key = (attribute, value.to_owned());
        if value.is_empty() || (!self.values.contains_key(&key) && self.values.len() >= VALUES_MAX) {
            return;
        }
        let counts = self.values.entry(key).or_default();
        *counts = (counts.0.saturating_add(bad), counts.1.saturating_add(good));
    }

    /// Returns the values that set the bad apart, those that do so most first.
    pub fn contrasts(&self) -> Vec<Contrast> {
        let mut sums: BTreeMap<Attribute, (u64, u64)> = BTreeMap::new();
        for ((attribute, _), (bad, good)) in &self.values {
            let sum = sums.entry(*attribute).or_default();
            *sum = (sum.0.saturating_add(*bad), sum.1.saturating_add(*good));
        }
        let contrast = |((attribute, value), (bad, good)): (&(Attribute, String), &(u64, u64))| {
            let (bad_of, good_of) = sums.get(attribute).copied()?;
            let (bad, good, value, attribute) = (*bad, *good, value.clone(), *attribute);
            let found = Contrast { attribute, value, bad, bad_of, good, good_of };
            let enough = bad_of >= BAD_MIN && good_of >= GOOD_MIN;
            let most = bad as f64 >= BAD_SHARE * bad_of as f64;
            (enough && most && found.apart() >= APART).then_some(found)
        };
        let mut found: Vec<Contrast> = self.values.iter().filter_map(contrast).collect();
        found.sort_by(|one, other| other.apart().total_cmp(&one.apart()));
        found.truncate(TOLD_MAX);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(values: &[(Attribute, &str, u64, u64)]) -> Vec<String> {
        let mut seen = Seen::default();
        values.iter().for_each(|(attribute, value, bad, good)| seen.take(*attribute, value, *bad, *good));
        seen.contrasts().iter().map(Contrast::text).collect()
    }

    #[test]
    fn what_most_of_the_bad_have_and_few_of_the_good_is_told() {
        use Attribute::{Client, Method, Route, Version};
        let found = told(&[
            (Route, "GET /report", 40, 20),
            (Route, "GET /", 2, 900),
            (Method, "GET", 42, 900),
            (Method, "POST", 0, 20),
            (Version, "new", 40, 300),
            (Version, "old", 2, 600),
            (Client, "10.0.0.7", 20, 10),
            (Client, "10.0.0.8", 22, 800),
        ]);
        assert_eq!(
            found,
            [
                "route GET /report: 40 of 42 slow or lost requests, 20 of 920 others",
                "version new: 40 of 42 slow or lost requests, 300 of 900 others",
            ]
        );
    }

    #[test]
    fn too_few_have_nothing_in_common() {
        use Attribute::Route;
        assert!(told(&[(Route, "a", 4, 0), (Route, "b", 0, 100)]).is_empty());
        assert!(told(&[(Route, "a", 9, 0), (Route, "b", 0, 19)]).is_empty());
        assert!(told(&[(Route, "", 9, 0), (Route, "b", 0, 100)]).is_empty());
        assert_eq!(told(&[(Route, "a", 9, 0), (Route, "b", 0, 100)]).len(), 1);
        let mut seen = Seen::default();
        (0..VALUES_MAX + 9).for_each(|number| seen.take(Route, &number.to_string(), 1, 1));
        assert_eq!(seen.values.len(), VALUES_MAX);
    }
}
