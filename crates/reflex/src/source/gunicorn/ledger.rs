//! Which lines of the access log are counted, and as what. A line of a request that was killed tells of the answer that its
//! worker still gave, with status 500 and a duration of a moment (`handle_error` starts the clock anew): that request has been
//! counted as lost, at its true age, and its line is not counted again. Lines that could be such wait until it is known.
//!
//! Not for: reading lines (`format`), nor for the numbers (`routes`).

use super::format::Line;
use super::requests::Requests;
use super::routes::Routes;
use super::tree::WORKERS_MAX;
use ferricorn_core::histogram::Distribution;
use ferricorn_core::latency::Class;
use ferricorn_core::snapshot::Finished;
use std::collections::{BTreeMap, VecDeque};

/// For how long a line with status 500 waits for the end of its worker, seconds.
const WAITS_S: f64 = 3.0;
/// For how long a line without a duration waits for its request to be missed, seconds.
const MISSED_S: f64 = 0.6;
/// Lines that wait; more are counted at once.
const WAITING_MAX: usize = 1024;
/// Killed requests whose line may come still.
const KILLED_MAX: usize = 256;
/// Workers, times routes, that are counted apart between two looks at them.
const BY_WORKER_MAX: usize = 1024;
/// The last requests that are remembered.
const RECENT_MAX: usize = 128;

/// A request that was killed.
#[derive(Debug)]
struct Killed {
    pid: u32,
    method: String,
    path: String,
    us: u64,
    at_s: f64,
}

/// The lines.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    waiting: VecDeque<(Line, f64)>,
    killed: VecDeque<Killed>,
    pub(super) recent: VecDeque<(Line, f64)>,
    /// Of workers by whose pid the format tells of them: all, and by class of status.
    completed: BTreeMap<u32, (u64, [u64; 5])>,
    /// The same by route, since somebody has taken it.
    by_worker: BTreeMap<(u32, String), Distribution>,
}

impl Ledger {
    /// Takes what workers have answered since the last time, by the pid that the log tells, and by route.
    pub(super) fn by_worker(&mut self) -> BTreeMap<(u32, String), Distribution> {
        std::mem::take(&mut self.by_worker)
    }

    /// Counts a request that was killed at an age.
    pub(super) fn lost(
        &mut self,
        pid: u32,
        method: &str,
        path: &str,
        age_s: f64,
        routes: &mut Routes,
        now_s: f64,
    ) {
        let us = (age_s * 1e6) as u64;
        routes.add(method, path, Class::Lost, Some(us));
        let killed = Killed { pid, method: method.to_owned(), path: path.to_owned(), us, at_s: now_s };
        // Its line may have come before it was missed.
        if let Some(at) = self.waiting.iter().position(|(line, _)| killed.is_told_by(line)) {
            self.waiting.remove(at);
            return;
        }
        if self.killed.len() >= KILLED_MAX {
            self.killed.pop_front();
        }
        self.killed.push_back(killed);
    }

    /// Takes lines that have come, and counts those that have waited long enough.
    pub(super) fn take(
        &mut self,
        lines: Vec<Line>,
        requests: &mut Requests,
        routes: &mut Routes,
        now_s: f64,
    ) {
        self.killed.retain(|killed| now_s - killed.at_s <= WAITS_S);
        for line in lines {
            if let Some(at) = self.killed.iter().position(|killed| killed.is_told_by(&line)) {
                self.killed.remove(at);
                continue;
            }
            let waits_s = match &line {
                Line { status: 500, .. } => WAITS_S,
                Line { us: None, .. } => MISSED_S,
                _ => 0.0,
            };
            if waits_s == 0.0 || self.waiting.len() >= WAITING_MAX {
                self.count(line, requests, routes, now_s);
            } else {
                self.waiting.push_back((line, now_s + waits_s));
            }
        }
        let (due, rest) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, until_s)| *until_s <= now_s);
        self.waiting = rest;
        let due: VecDeque<(Line, f64)> = due;
        for (line, _) in due {
            self.count(line, requests, routes, now_s);
        }
    }

    fn count(&mut self, line: Line, requests: &mut Requests, routes: &mut Routes, now_s: f64) {
        let us = line.us.or_else(|| requests.took_s(&line.method, &line.path).map(|s| (s * 1e6) as u64));
        let route = routes.answered(&line.method, &line.path, line.status, us);
        if let Some(pid) = line.pid {
            if self.by_worker.len() < BY_WORKER_MAX || self.by_worker.contains_key(&(pid, route.clone())) {
                self.by_worker.entry((pid, route)).or_default().add(us.unwrap_or(0));
            }
            // Those that have ended make room.
            if self.completed.len() > WORKERS_MAX {
                self.completed.clear();
            }
            let (all, classes) = self.completed.entry(pid).or_default();
            *all += 1;
            if let Some(class) = classes.get_mut(usize::from(line.status / 100).wrapping_sub(1)) {
                *class += 1;
            }
        }
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_back();
        }
        self.recent.push_front((Line { us, ..line }, now_s));
    }

    /// Returns how many requests a worker has completed since we look, and how many of each class of status.
    pub(super) fn completed(&self, pid: u32) -> (u64, [u64; 5]) {
        self.completed.get(&pid).copied().unwrap_or_default()
    }

    /// Returns the requests that have finished, newest first.
    pub(super) fn finished(&self, now_s: f64) -> Vec<Finished> {
        let of = |(line, at_s): &(Line, f64)| {
            let us = line.us.unwrap_or(0);
            Finished {
                pid: line.pid.unwrap_or(0),
                number: 0,
                id: String::new(),
                status: u32::from(line.status),
                ago_s: (now_s - at_s).max(0.0) + us as f64 / 1e6,
                total_us: us,
                app_us: us,
                bytes: 0,
                method: line.method.clone(),
                path: line.path.clone(),
            }
        };
        self.recent.iter().map(of).collect()
    }
}

impl Killed {
    /// Tells whether a line tells of its last answer.
    fn is_told_by(&self, line: &Line) -> bool {
        line.status == 500
            && line.method == self.method
            && line.path == self.path
            && line.pid.is_none_or(|pid| pid == self.pid)
            && line.us.is_none_or(|us| us < self.us / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str, status: u16, us: Option<u64>) -> Line {
        Line { method: "GET".into(), path: path.into(), status, us, ..Line::default() }
    }

    fn told(routes: &Routes) -> Vec<(String, &'static str, u64)> {
        let of = |route: ferricorn_core::snapshot::Route| {
            (route.key.route, route.key.class.name(), route.phases.app.count)
        };
        routes.read().into_iter().map(of).collect()
    }

    #[test]
    fn a_killed_request_is_counted_once_whichever_comes_first() {
        for line_first in [true, false] {
            let (mut ledger, mut requests, mut routes) =
                (Ledger::default(), Requests::default(), Routes::default());
            let lying = vec![line("/slow", 500, Some(1500)), line("/other", 500, Some(1500))];
            if line_first {
                ledger.take(lying.clone(), &mut requests, &mut routes, 10.0);
                assert!(told(&routes).is_empty(), "it waits");
                ledger.lost(7, "GET", "/slow", 30.2, &mut routes, 10.5);
            } else {
                ledger.lost(7, "GET", "/slow", 30.2, &mut routes, 10.5);
                ledger.take(lying.clone(), &mut requests, &mut routes, 11.0);
            }
            ledger.take(Vec::new(), &mut requests, &mut routes, 20.0);
            assert_eq!(
                told(&routes),
                [("/other".to_owned(), "5xx", 1), ("/slow".to_owned(), "lost", 1)],
                "line first: {line_first}"
            );
            // Another one later is a request of its own.
            ledger.take(vec![line("/slow", 500, Some(1500))], &mut requests, &mut routes, 30.0);
            ledger.take(Vec::new(), &mut requests, &mut routes, 40.0);
            assert!(told(&routes).contains(&("/slow".to_owned(), "5xx", 1)));
        }
    }

    #[test]
    fn others_are_counted_as_they_are() {
        let (mut ledger, mut requests, mut routes) =
            (Ledger::default(), Requests::default(), Routes::default());
        ledger.lost(7, "GET", "/slow", 30.0, &mut routes, 1.0);
        let lines = vec![
            line("/slow", 200, Some(5)),
            // It has failed by itself, after a long time.
            line("/slow", 500, Some(29_000_000)),
            Line { pid: Some(8), ..line("/slow", 500, Some(5)) },
        ];
        ledger.take(lines, &mut requests, &mut routes, 1.2);
        ledger.take(Vec::new(), &mut requests, &mut routes, 9.0);
        assert_eq!(
            told(&routes),
            [("/slow".to_owned(), "2xx", 1), ("/slow".to_owned(), "5xx", 2), ("/slow".to_owned(), "lost", 1)]
        );
        assert_eq!(ledger.finished(9.0).len(), 3);
        assert_eq!((ledger.completed(8), ledger.completed(7)), ((1, [0, 0, 0, 0, 1]), (0, [0; 5])));
    }

    #[test]
    fn not_more_wait_than_there_may() {
        let (mut ledger, mut requests, mut routes) =
            (Ledger::default(), Requests::default(), Routes::default());
        let lines = (0..2 * WAITING_MAX).map(|_| line("/x", 500, None)).collect();
        ledger.take(lines, &mut requests, &mut routes, 1.0);
        assert_eq!((ledger.waiting.len(), told(&routes)[0].2), (WAITING_MAX, WAITING_MAX as u64));
        assert_eq!(ledger.recent.len(), RECENT_MAX);
    }
}
