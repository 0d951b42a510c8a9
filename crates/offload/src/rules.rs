//! What holds for the jobs of a route: how often each is begun, how long it is kept, how many run at a time. Not for: which requests
//! become jobs, which is the workers' to decide.

use ferricorn_core::offload::{Request, is_idempotent};
use ferricorn_core::pattern::Route;

/// How often a request is begun again at least that may be sent twice.
const RETRIES_SAFE: u32 = 2;

/// A route, and what holds for it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which requests it is about.
    pub route: Route,
    /// The route as it is written, which is the name of its lane.
    pub name: String,
    /// What holds for them.
    pub terms: Terms,
    /// How many of its jobs run at a time; none for as many as there is room for.
    pub concurrency: Option<usize>,
}

/// What holds for a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// How often it is begun again that may not be sent twice.
    pub retries: u32,
    /// How long what it has come to is kept, and after that the word of it, seconds.
    pub retention_s: f64,
}

impl Terms {
    /// Returns how often a request may be begun.
    pub fn attempts(&self, request: &Request) -> u32 {
        let is_safe = request.key.is_some() || is_idempotent(&request.method);
        1 + if is_safe { self.retries.max(RETRIES_SAFE) } else { self.retries }
    }
}

/// All of them; the first that fits counts.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Those of routes.
    pub each: Vec<Rule>,
    /// What holds where none fits.
    pub other: Terms,
}

impl Rules {
    fn of(&self, method: &str, path: &str) -> Option<&Rule> {
        self.each.iter().find(|rule| rule.route.fits(method.as_bytes(), path.as_bytes()))
    }

    /// Returns what holds for a request.
    pub fn terms(&self, method: &str, path: &str) -> Terms {
        self.of(method, path).map_or(self.other, |rule| rule.terms)
    }

    /// Returns the lane of a request: those of one lane share its concurrency. Empty where there is no limit.
    pub fn lane(&self, method: &str, path: &str) -> &str {
        self.of(method, path).filter(|rule| rule.concurrency.is_some()).map_or("", |rule| &rule.name)
    }

    /// Tells whether any route has a limit of those that run.
    pub fn has_lanes(&self) -> bool {
        self.each.iter().any(|rule| rule.concurrency.is_some())
    }

    /// Returns how many jobs of a lane may run at a time; of one that nobody knows any more, any number.
    pub fn room(&self, lane: &str) -> usize {
        let rule = self.each.iter().find(|rule| !lane.is_empty() && rule.name == lane);
        rule.and_then(|rule| rule.concurrency).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_fits_counts() {
        let rule = |text: &str, retries, concurrency| Rule {
            route: Route::parse(text).expect("a route"),
            name: text.to_owned(),
            terms: Terms { retries, retention_s: 7.0 },
            concurrency,
        };
        let each = vec![rule("POST /big/*", 5, Some(1)), rule("/big/*", 1, None)];
        let rules = Rules { each, other: Terms { retries: 0, retention_s: 9.0 } };
        let request = |method: &str, key: Option<&str>| Request {
            method: method.into(),
            key: key.map(str::to_owned),
            ..Request::default()
        };
        let attempts =
            |method: &str, path: &str, key| rules.terms(method, path).attempts(&request(method, key));
        assert_eq!(attempts("POST", "/big/1", None), 6);
        assert_eq!(attempts("PATCH", "/big/1", None), 2);
        assert_eq!(attempts("PUT", "/big/1", None), 3);
        assert_eq!(attempts("POST", "/small", None), 1);
        assert_eq!(attempts("POST", "/small", Some("k")), 3);
        let lanes = [
            ("POST", "/big/1", "POST /big/*", 1),
            ("PUT", "/big/1", "", usize::MAX),
            ("POST", "/x", "", usize::MAX),
        ];
        for (method, path, lane, room) in lanes {
            assert_eq!((rules.lane(method, path), rules.room(lane)), (lane, room), "{method} {path}");
        }
        assert_eq!(rules.room("POST /gone/*"), usize::MAX);
    }
}
