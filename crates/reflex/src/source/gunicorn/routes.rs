//! The durations of requests per route, as far as a stock Gunicorn tells of them: lines of its access log, requests that were
//! seen in flight, and those that were killed. Not for: where these come from.

use ferricorn_core::latency::{Class, Key, Phases};
use ferricorn_core::route::{MANY, OTHER, Paths, UNMATCHED};
use ferricorn_core::snapshot::Route;
use std::collections::BTreeMap;

/// Routes, times methods and kinds of answer, that have numbers of their own.
const KEYS_MAX: usize = 512;

/// The numbers.
#[derive(Debug, Default)]
pub(super) struct Routes {
    paths: Paths,
    numbers: BTreeMap<Key, Phases>,
}

impl Routes {
    /// Counts a request. Of one whose duration is not known it is known that it was not seen in flight, so it was short:
    /// it counts as nothing.
    /// Returns how its route is called.
    pub(super) fn add(&mut self, method: &str, path: &str, class: Class, us: Option<u64>) -> String {
        // What scanners ask for has no end. The method is the client's too.
        let route = if path.is_empty() { OTHER.to_owned() } else { self.paths.route(path) };
        let method = method.chars().take(16).collect();
        self.count(Key { route, named: false, method, class }, us.unwrap_or(0))
    }

    /// Counts an answer of the log by its status; returns how its route is called.
    pub(super) fn answered(&mut self, method: &str, path: &str, status: u16, us: Option<u64>) -> String {
        if matches!(status, 404 | 405) {
            let key = Key {
                route: UNMATCHED.to_owned(),
                named: false,
                method: MANY.to_owned(),
                class: Class::of(status),
            };
            return self.count(key, us.unwrap_or(0));
        }
        self.add(method, path, Class::of(status), us)
    }

    fn count(&mut self, key: Key, us: u64) -> String {
        let key = if self.numbers.len() < KEYS_MAX || self.numbers.contains_key(&key) {
            key
        } else {
            Key { route: OTHER.to_owned(), named: false, method: MANY.to_owned(), class: key.class }
        };
        let name = format!("{} {}", key.method, key.route);
        self.numbers.entry(key).or_default().app.add(us);
        name
    }

    /// Returns the 99th percentile of a path's requests that came to their end, seconds.
    pub(super) fn usual_s(&mut self, method: &str, path: &str) -> Option<f64> {
        let route = self.paths.route(path);
        let key = Key { route, named: false, method: method.to_owned(), class: Class::Success };
        let us = self.numbers.get(&key)?.app.quantile_us(0.99)?;
        Some(us as f64 / 1e6)
    }

    /// Returns all numbers.
    pub(super) fn read(&self) -> Vec<Route> {
        self.numbers.iter().map(|(key, phases)| Route { key: key.clone(), phases: phases.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route() {
        let mut routes = Routes::default();
        routes.answered("GET", "/reports/7", 200, Some(5000));
        routes.answered("GET", "/reports/8", 200, None);
        routes.answered("GET", "/wp-login.php", 404, Some(10));
        routes.add("GET", "/reports/9", Class::Lost, Some(30_000_000));
        let told: Vec<(String, &str, u64, u64)> = routes
            .read()
            .into_iter()
            .map(|route| {
                (route.key.route, route.key.class.name(), route.phases.app.count, route.phases.app.sum_us)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("(unmatched)".to_owned(), "4xx", 1, 10),
                ("/reports/:id".to_owned(), "2xx", 2, 5000),
                ("/reports/:id".to_owned(), "lost", 1, 30_000_000),
            ]
        );
        assert!(routes.usual_s("GET", "/reports/1").is_some_and(|s| (0.005..0.006).contains(&s)));
        assert_eq!(routes.usual_s("GET", "/other"), None);
    }

    #[test]
    fn there_may_only_be_so_many() {
        let mut routes = Routes::default();
        for number in 0..3 * KEYS_MAX {
            routes.answered(&format!("M{number}"), "/", 200, None);
        }
        let all = routes.read();
        assert_eq!(all.len(), KEYS_MAX + 1);
        assert_eq!(all.iter().map(|route| route.phases.app.count).sum::<u64>(), 3 * KEYS_MAX as u64);
    }
}
