//! What becomes of requests in trouble: where the last ones were all lost, the next one is, too, and nobody has to wait for the end of
//! its time. One that comes to its end after all changes that. Not for: what is done then.

use ferricorn_core::record::Request;
use std::collections::BTreeMap;

/// So many in a row are no accident; fewer, where that is all that a server can be at.
const ROW: u32 = 3;
const ROW_MIN: u32 = 2;
/// Without one more in so long it is not known any more, seconds.
const FORGET_S: f64 = 60.0;
/// Incidents that are followed.
const KEPT_MAX: usize = 64;

/// An incident's.
#[derive(Debug, Default)]
struct Fate {
    lost: u32,
    at_s: f64,
    /// Method and route of the last.
    route: (String, String),
}

/// By incident.
#[derive(Debug)]
pub(super) struct Fates {
    by: BTreeMap<String, Fate>,
    /// How many in a row are no accident here.
    row: u32,
}

impl Default for Fates {
    fn default() -> Self {
        Self { by: BTreeMap::new(), row: ROW }
    }
}

impl Fates {
    /// The server has so many threads, 0 if that is not known: if all of them were lost to the same, the next one will be.
    pub(super) fn among(&mut self, threads: u32) {
        self.row = if threads == 0 { ROW } else { threads.clamp(ROW_MIN, ROW) };
    }

    /// A request of an incident was lost.
    pub(super) fn lost(&mut self, incident: &str, request: &Request, now_s: f64) {
        self.forget(now_s);
        if !self.by.contains_key(incident) && self.by.len() >= KEPT_MAX {
            return;
        }
        let fate = self.by.entry(incident.to_owned()).or_default();
        fate.lost += 1;
        fate.at_s = now_s;
        fate.route = route_of(request);
    }

    /// One has come to its end.
    pub(super) fn survived(&mut self, incident: &str) {
        self.by.remove(incident);
    }

    /// Tells whether all of an incident were lost.
    pub(super) fn all_lost(&self, incident: &str) -> bool {
        self.by.get(incident).is_some_and(|fate| fate.lost >= self.row)
    }

    /// Tells whether a request is of a route where all were lost.
    pub(super) fn is_hopeless(&self, request: &Request) -> bool {
        let route = route_of(request);
        self.by.values().any(|fate| fate.lost >= self.row && fate.route == route)
    }

    /// Tells whether there is such a route.
    pub(super) fn are_hopeless(&self) -> bool {
        self.by.values().any(|fate| fate.lost >= self.row)
    }

    /// Forgets what has not been seen for long.
    pub(super) fn forget(&mut self, now_s: f64) {
        self.by.retain(|_, fate| now_s - fate.at_s < FORGET_S);
    }
}

fn route_of(request: &Request) -> (String, String) {
    (request.method.clone(), request.route.clone().unwrap_or_else(|| request.path.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_three_in_a_row_the_next_is_lost_too_until_one_is_not() {
        let request = |path: &str| Request { method: "GET".into(), path: path.into(), ..Request::default() };
        let mut fates = Fates::default();
        for (at_s, expected) in [(1.0, false), (2.0, false), (3.0, true)] {
            fates.lost("20200101-1", &request("/rates"), at_s);
            assert_eq!(fates.all_lost("20200101-1"), expected, "{at_s}");
        }
        assert!(fates.is_hopeless(&request("/rates")) && !fates.is_hopeless(&request("/orders")));
        assert!(!fates.all_lost("20200101-2"));
        // Two sync workers are at two requests at most.
        fates.lost("20200101-3", &request("/a"), 3.0);
        fates.lost("20200101-3", &request("/a"), 3.0);
        assert!(!fates.all_lost("20200101-3"));
        fates.among(2);
        assert!(fates.all_lost("20200101-3"));
        fates.survived("20200101-3");
        fates.among(40);
        fates.survived("20200101-1");
        assert!(!fates.are_hopeless());
        (0..3).for_each(|_| fates.lost("20200101-1", &request("/rates"), 10.0));
        fates.forget(69.0);
        assert!(fates.are_hopeless());
        fates.forget(71.0);
        assert!(!fates.are_hopeless());
        (0..100).for_each(|number| fates.lost(&format!("{number}"), &request("/"), 72.0));
        assert_eq!(fates.by.len(), KEPT_MAX);
    }
}
