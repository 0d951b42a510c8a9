//! Ends of workers, and of the requests that end with them. Not for: why (`deaths`).

use super::deaths::{self, Why};
use super::observe::{Gunicorn, Observation};
use super::requests::Rules;
use super::tree::{STATUS_S, Worker};
use ferricorn_core::event::{Died, Late, REQUESTS_MAX};
use ferricorn_core::fleet::ExitStatus;
use ferricorn_core::life::Life;
use ferricorn_core::record;
use ferricorn_core::scoreboard::Exit;
use ferricorn_core::snapshot::Running;

/// How long a request that was missed is remembered, in case that its worker ends, seconds.
const ENDING_S: f64 = 3.0;
/// How many.
const ENDING_MAX: usize = 256;
/// A request that was seen so shortly before its deadline has met it, seconds.
const LATE_S: f64 = 0.5;

impl Gunicorn {
    /// Tells of workers that have ended, once it is known how.
    pub(super) fn bury(&mut self, now_s: f64, now_ns: u64, observation: &mut Observation) {
        let told = |worker: &Worker| {
            worker.gone_s.is_some_and(|gone_s| worker.status().is_some() || now_s - gone_s >= STATUS_S)
        };
        let ended: Vec<u32> =
            self.tree.workers.values().filter(|worker| told(worker)).map(|one| one.process.pid).collect();
        for pid in ended {
            let moved = self.kills.have_moved();
            let timeout_s = self.timeout_s();
            let Some(worker) = self.tree.workers.get_mut(&pid) else { continue };
            let why = deaths::why(worker, timeout_s, moved);
            let seen = matches!(self.life.get(&pid), Some(Life::Stuck | Life::Condemned));
            if why.exit == Some(Exit::Timeout) && !seen {
                // Nobody ends so without having been condemned: that is told first, and the end the next time.
                worker.timed_out = true;
                continue;
            }
            let Some(worker) = self.tree.forget(pid) else { continue };
            let mut running = self.before.remove(&pid).unwrap_or_default();
            if why.exit == Some(Exit::Timeout) {
                running
                    .extend(self.ending.iter().filter(|(one, _)| one.pid == pid).map(|(one, _)| one.clone()));
            }
            self.ending.retain(|(one, _)| one.pid != pid);
            self.life.remove(&pid);
            self.requests.forget(pid);
            if why.exit == Some(Exit::OutOfMemory) {
                self.kills.told();
            }
            if let Some(exit) = why.exit {
                *self.exits.entry(exit).or_default() += 1;
                self.lives.explain(pid, exit, why.words.clone());
            }
            if why.exit == Some(Exit::Planned) {
                continue;
            }
            let requests = self.lose(&worker, &why, running, now_s, now_ns, observation);
            observation.deaths.push(Died {
                worker: self.recorded(&worker),
                cause: why.words,
                // Not known: somebody's doing, most likely.
                exit: why.exit.unwrap_or(Exit::Signal),
                requests,
            });
        }
    }

    /// Tells of the requests that have ended with a worker.
    fn lose(
        &mut self,
        worker: &Worker,
        why: &Why,
        running: Vec<Running>,
        now_s: f64,
        now_ns: u64,
        observation: &mut Observation,
    ) -> Vec<record::Request> {
        let late_s = self.timeout_s().filter(|_| why.exit == Some(Exit::Timeout) && self.class.is_enforced());
        let answer = match worker.status() {
            Some(ExitStatus::Signal(_)) => "connection reset",
            Some(ExitStatus::Code(_)) if why.exit == Some(Exit::Timeout) => {
                "answered 500 by its worker as it was aborted"
            }
            _ => "lost",
        };
        let by = match why.exit {
            Some(Exit::Timeout | Exit::GracefulTimeout) => "arbiter",
            Some(Exit::OutOfMemory) => "kernel",
            _ => "nobody",
        };
        let mut requests = Vec::new();
        for one in running {
            let mut request = one.request;
            // It was killed after its time, and it was seen last a little before that.
            if let Some(late_s) = late_s {
                request.app_s = request.app_s.max(late_s);
            }
            self.ledger.lost(
                worker.process.inner,
                &request.method,
                &request.path,
                request.app_s,
                &mut self.routes,
                now_s,
            );
            if requests.len() < REQUESTS_MAX {
                requests.push(request.clone());
            }
            observation.lost.push(Late {
                pid: one.pid,
                id: one.number,
                request,
                at_ns: now_ns,
                answer: answer.to_owned(),
                by: by.to_owned(),
                doing: why.words.clone(),
            });
        }
        requests
    }

    fn recorded(&self, worker: &Worker) -> record::Worker {
        record::Worker {
            pid: worker.process.pid,
            age: worker.age,
            generation: worker.generation,
            threads: self.threads(),
            queued: 0,
            uptime_s: worker.process.age_s(),
            requests: self.ledger.completed(worker.process.inner).0,
        }
    }

    /// Remembers requests that are not in flight any more, where they may have ended with their worker.
    pub(super) fn miss(&mut self, running: &[Running], rules: Rules, now_s: f64) {
        self.ending.retain(|(_, missed_s)| now_s - missed_s <= ENDING_S);
        for (pid, before) in std::mem::take(&mut self.before) {
            let condemned = self.tree.workers.get(&pid).is_some_and(|worker| worker.timed_out);
            for one in before {
                let here = running.iter().any(|now| now.pid == pid && now.number == one.number);
                let late = rules.class.is_enforced() && one.left_s().is_some_and(|left_s| left_s < LATE_S);
                if !here && (condemned || late) && self.ending.len() < ENDING_MAX {
                    self.ending.push((one, now_s));
                }
            }
        }
    }
}
