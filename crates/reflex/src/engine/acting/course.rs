//! How often incidents have shown themselves in the last two minutes: before an action and after it. Not for: why.

use ferricorn_core::incident::Incident;
use ferricorn_core::policy::Outcome;
use std::collections::{BTreeMap, VecDeque};

/// The time before an action, and after it, that are compared, seconds.
pub(super) const SPAN_S: f64 = 60.0;
/// Incidents that are followed.
const INCIDENTS_MAX: usize = 64;
/// Numbers of one that are kept: one a second, for both times.
const KEPT_MAX: usize = 256;
/// So many signs more are no accident.
const MANY: f64 = 3.0;

/// By incident, when and how many requests had been lost or stuck by then.
#[derive(Debug, Default)]
pub(super) struct Courses {
    by: BTreeMap<String, VecDeque<(f64, u64)>>,
}

impl Courses {
    /// Notes how things are.
    pub(super) fn note(&mut self, incidents: &[&Incident], now_s: f64) {
        self.by.retain(|id, _| incidents.iter().any(|incident| incident.id == *id));
        for incident in incidents.iter().take(INCIDENTS_MAX) {
            let course = self.by.entry(incident.id.clone()).or_default();
            course.push_back((now_s, incident.requests_lost + incident.requests_stuck));
            while course.len() > KEPT_MAX || course.front().is_some_and(|(at, _)| now_s - at > 2.5 * SPAN_S) {
                course.pop_front();
            }
        }
    }

    /// Compares the time before an action with that since it: better, the same, or worse, and the numbers.
    pub(super) fn compare(&self, id: &str, at_s: f64, now_s: f64) -> (Outcome, String) {
        let Some(course) = self.by.get(id) else {
            return (Outcome::Better, "the incident is over".to_owned());
        };
        let at = |when: f64| {
            let seen = course.iter().rev().find(|(at, _)| *at <= when).or(course.front());
            seen.map_or(0, |(_, count)| *count)
        };
        let gained = |from: f64, to: f64| at(to).saturating_sub(at(from)) as f64;
        let since_s = (now_s - at_s).clamp(1.0, SPAN_S);
        let known_s = course.front().map_or(0.0, |(first, _)| at_s - first).clamp(1.0, SPAN_S);
        let after = gained(at_s, now_s);
        // As many as there would have been in the same time.
        let before = gained(at_s - known_s, at_s) * since_s / known_s;
        let outcome = if after * 2.0 <= before && before > 0.0 {
            Outcome::Better
        } else if after > before * 1.5 + MANY {
            Outcome::Worse
        } else {
            Outcome::Same
        };
        let text = format!(
            "{after:.0} requests were lost or stuck in the {since_s:.0} s since, {before:.0} in as many seconds before"
        );
        (outcome, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_after_is_compared_with_the_time_before() {
        let of = |counts: &[u64]| {
            let mut courses = Courses::default();
            for (second, count) in counts.iter().enumerate() {
                let incident = Incident { id: "1".into(), requests_lost: *count, ..Incident::default() };
                courses.note(&[&incident], second as f64);
            }
            courses.compare("1", 60.0, counts.len() as f64 - 1.0)
        };
        let rising = |after: u64| {
            let before = 0..=60_u64;
            let then = (1..=60).map(move |second| 60 + second * after / 60);
            before.chain(then).collect::<Vec<u64>>()
        };
        assert_eq!(of(&rising(0)).0, Outcome::Better);
        assert_eq!(of(&rising(30)).0, Outcome::Better);
        assert_eq!(of(&rising(55)).0, Outcome::Same);
        let (outcome, text) = of(&rising(120));
        assert_eq!(outcome, Outcome::Worse);
        assert_eq!(text, "120 requests were lost or stuck in the 60 s since, 60 in as many seconds before");
        let mut courses = Courses::default();
        courses.note(&[], 1.0);
        assert_eq!(courses.compare("1", 0.0, 60.0).0, Outcome::Better);
    }
}
