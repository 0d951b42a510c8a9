//! The numbers of a whole server at one moment: what dashboards, metrics and the last line of a table show. One place, so that
//! all of them show the same.
//!
//! Not for: numbers of one worker ([`crate::snapshot::Worker`] has those), and not for what only grows ([`crate::totals`]).

use crate::latency::Class;
use crate::life::Life;
use crate::scoreboard::State;
use crate::snapshot::{Route, SILENT_S, Snapshot, Worker};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The lives of workers that exist.
pub const LIVES: [Life; 6] =
    [Life::Booting, Life::Ready, Life::Busy, Life::Stuck, Life::Draining, Life::Condemned];

/// The numbers of a server at one moment. As JSON they are public (docs/metrics.md): add fields, never change one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Workers by what they do with their lives; those that nobody leads as well.
    pub workers: BTreeMap<Life, u64>,
    /// Workers that take requests and can serve them.
    pub workers_serving: u64,
    /// Workers whose loop is taken over.
    pub workers_taken_over: u64,
    /// App threads.
    pub threads: u64,
    /// App threads at work.
    pub threads_busy: u64,
    /// Requests waiting for an app thread.
    pub queued: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests in the application, or writing from it.
    pub in_flight: u64,
    /// WebSockets that are open.
    pub websockets: u64,
    /// Seconds since the first byte of the oldest request in flight; none without one. WebSockets are meant to stay, and do not count.
    pub oldest_request_s: Option<f64>,
    /// Seconds that the newest of the workers that are ready took to boot; none without one.
    pub boot_s: Option<f64>,
    /// Requests by how they were answered.
    pub answered: BTreeMap<Class, u64>,
    /// Of these, how many were lost.
    pub lost: u64,
}

impl Worker {
    /// Returns how many of its app threads are at work.
    pub fn threads_busy(&self) -> u32 {
        self.threads.saturating_sub(self.threads_free)
    }

    /// Tells whether it takes requests and can serve them: a late request beside which there is a free thread is no obstacle, a loop
    /// that does not move is.
    pub fn serves(&self) -> bool {
        let moves = self.beat_age_s.is_none_or(|age_s| age_s <= SILENT_S);
        self.state == State::Ready && moves && (self.life != Life::Stuck || self.threads_free > 0)
    }

    /// Tells whether it is stuck as a whole, with no thread free.
    pub fn is_all_stuck(&self) -> bool {
        self.life == Life::Stuck && !self.serves()
    }
}

impl Route {
    /// Returns how many requests there were, those included that never came into the application. Where nobody could see them
    /// wait, those count that were seen in it.
    pub fn requests(&self) -> u64 {
        self.phases.queue.count.max(self.phases.app.count)
    }
}

impl Snapshot {
    /// Adds everything up.
    pub fn sums(&self) -> Sums {
        let sum = |of: fn(&Worker) -> u64| self.workers.iter().map(of).sum();
        let mut answered: BTreeMap<Class, u64> = Class::ALL.map(|class| (class, 0)).into();
        for route in &self.routes {
            *answered.entry(route.key.class).or_default() += route.requests();
        }
        let mut workers: BTreeMap<Life, u64> = LIVES.map(|life| (life, 0)).into();
        for worker in self.workers.iter().filter(|worker| worker.life != Life::Exited) {
            *workers.entry(worker.life).or_default() += 1;
        }
        let websockets = self.requests.iter().filter(|running| running.phase == "websocket").count() as u64;
        let waiting = self.requests.iter().filter(|running| running.phase != "websocket");
        let ready = self.workers.iter().filter(|worker| worker.boot_s.is_some());
        Sums {
            workers,
            workers_serving: sum(|worker| worker.serves().into()),
            workers_taken_over: sum(|worker| worker.taken_over.into()),
            threads: sum(|worker| worker.threads.into()),
            threads_busy: sum(|worker| worker.threads_busy().into()),
            queued: sum(|worker| worker.queued.into()),
            connections: sum(|worker| worker.connections.into()),
            in_flight: self.requests.len() as u64 - websockets,
            websockets,
            oldest_request_s: waiting.map(|running| running.age_s).max_by(f64::total_cmp),
            boot_s: ready.max_by_key(|worker| worker.age).and_then(|worker| worker.boot_s),
            lost: answered.get(&Class::Lost).copied().unwrap_or_default(),
            answered,
        }
    }

    /// Tells whether it can serve requests.
    ///
    /// # Errors
    /// Why not, as a sentence without its end.
    pub fn can_serve(&self) -> Result<(), String> {
        let count = |is: fn(&Worker) -> bool| self.workers.iter().filter(|worker| is(worker)).count();
        if count(Worker::serves) > 0 {
            return Ok(());
        }
        let (all, stuck) = (self.workers.len(), count(Worker::is_all_stuck));
        let booting = count(|worker| worker.life == Life::Booting);
        Err(match all {
            0 => format!("there is no worker; {} are wanted", self.workers_target),
            _ => format!("none of {all} workers takes requests: {booting} are booting, {stuck} are stuck"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{Key, Phases};
    use crate::snapshot::Running;

    fn worker(age: u32, life: Life, threads: u32, free: u32) -> Worker {
        let state = match life {
            Life::Booting => State::Booting,
            Life::Draining => State::Draining,
            _ => State::Ready,
        };
        let boot_s = (life != Life::Booting).then_some(f64::from(age));
        Worker {
            age,
            life,
            state,
            threads,
            threads_free: free,
            boot_s,
            beat_age_s: boot_s.map(|_| 0.1),
            ..Worker::default()
        }
    }

    #[test]
    fn numbers_add_up() {
        let running = |phase: &str, age_s| Running { phase: phase.to_owned(), age_s, ..Running::default() };
        let route = |class, queued: u64, served: u64| {
            let mut phases = Phases::default();
            (0..queued).for_each(|_| phases.queue.add(1));
            (0..served).for_each(|_| phases.app.add(1));
            let key = Key { route: "/".into(), named: false, method: "GET".into(), class };
            Route { key, phases }
        };
        let snapshot = Snapshot {
            workers: vec![
                worker(1, Life::Busy, 4, 1),
                worker(2, Life::Ready, 4, 4),
                worker(3, Life::Booting, 0, 0),
            ],
            requests: vec![running("websocket", 900.0), running("app", 2.0), running("write", 3.5)],
            routes: vec![
                route(Class::Success, 5, 5),
                route(Class::ServerError, 3, 1),
                // An observer from outside sees nobody wait.
                route(Class::Lost, 0, 2),
            ],
            ..Snapshot::default()
        };
        let sums = snapshot.sums();
        assert_eq!((sums.threads, sums.threads_busy, sums.workers_serving), (8, 3, 2));
        assert_eq!((sums.in_flight, sums.websockets, sums.oldest_request_s), (2, 1, Some(3.5)));
        assert_eq!((sums.boot_s, sums.lost), (Some(2.0), 2));
        assert_eq!(sums.workers.values().copied().collect::<Vec<_>>(), [1, 1, 1, 0, 0, 0]);
        let answered: Vec<u64> = sums.answered.values().copied().collect();
        assert_eq!(answered, [0, 5, 0, 0, 3, 2]);
    }

    #[test]
    fn who_can_serve_is_told_from_who_cannot() {
        let mut silent = worker(1, Life::Stuck, 4, 4);
        silent.beat_age_s = Some(SILENT_S + 1.0);
        let table = [
            (vec![], false),
            (vec![worker(1, Life::Booting, 0, 0)], false),
            (vec![worker(1, Life::Draining, 1, 1)], false),
            (vec![worker(1, Life::Stuck, 1, 0)], false),
            (vec![silent], false),
            (vec![worker(1, Life::Busy, 1, 0)], true),
            (vec![worker(1, Life::Condemned, 1, 1)], true),
            (vec![worker(1, Life::Stuck, 2, 1)], true),
            (vec![worker(1, Life::Stuck, 1, 0), worker(2, Life::Ready, 1, 1)], true),
        ];
        for (workers, expected) in table {
            let snapshot = Snapshot { workers, ..Snapshot::default() };
            assert_eq!(snapshot.can_serve().is_ok(), expected, "{:?}", snapshot.workers);
        }
        let none = Snapshot { workers_target: 3, ..Snapshot::default() };
        assert_eq!(none.can_serve().expect_err("none"), "there is no worker; 3 are wanted");
    }
}
