//! What is known of a Gunicorn as a snapshot: the one that all viewers read. Not for: finding it out.

use super::class::Class;
use super::observe::Gunicorn;
use super::requests::Rules;
use super::tree::Worker;
use ferricorn_core::histogram::Distribution;
use ferricorn_core::latency::Class as Answer;
use ferricorn_core::life::Life;
use ferricorn_core::scoreboard::{State, TIMED};
use ferricorn_core::snapshot::{self, Kind, Route, Running, SCHEMA, Snapshot};
use ferricorn_core::totals::Totals;
use ferricorn_sys::clock;

impl Gunicorn {
    pub(super) fn snapshot(&mut self, running: Vec<Running>, rules: Rules, now_s: f64) -> Snapshot {
        self.miss(&running, rules, now_s);
        for one in &running {
            self.before.entry(one.pid).or_default().push(one.clone());
        }
        let mut workers: Vec<snapshot::Worker> = Vec::new();
        for worker in self.tree.workers.values() {
            workers.push(self.worker(worker, rules));
        }
        self.life = workers.iter().map(|worker| (worker.pid, worker.life)).collect();
        workers.sort_by_key(|worker| (worker.generation, worker.age));
        let master = self.tree.masters.first();
        let routes = self.routes.read();
        let name = self.settings.get("worker_class").map(str::to_owned);
        let shown =
            if self.class == Class::Other { name.unwrap_or_default() } else { self.class.name().to_owned() };
        Snapshot {
            schema: SCHEMA,
            kind: Kind::Gunicorn,
            at_s: clock::wall_time_s(),
            arbiter_pid: master.map_or(0, |master| master.process.pid),
            name: self.settings.get("proc_name").unwrap_or("gunicorn").to_owned(),
            version: self.version.clone(),
            worker_class: shown,
            threads: self.threads(),
            timeout_s: rules.timeout_s,
            uptime_s: master.map_or(0.0, |master| master.process.age_s()),
            workers_target: self.wanted(),
            generation: self.tree.generation,
            workers,
            requests: running,
            recent: self.ledger.finished(now_s),
            totals: totals(&routes),
            routes,
            exits: self.exits.clone(),
            jobs: None,
            backlog: self.requests.connections.backlog,
            reported: self.statsd.as_ref().map(|statsd| statsd.heard.clone()),
            gaps: self.gaps(),
            estimated: self.logs.lacks_durations(),
        }
    }

    fn worker(&self, worker: &Worker, rules: Rules) -> snapshot::Worker {
        let pid = worker.process.pid;
        let running = self.before.get(&pid).map(Vec::as_slice).unwrap_or_default();
        let busy = u32::try_from(running.len()).unwrap_or(u32::MAX);
        let threads = self.threads();
        let connections = self.requests.connections.counts.get(&pid).copied().unwrap_or(0);
        let (requests, statuses) = self.ledger.completed(worker.process.inner);
        snapshot::Worker {
            pid,
            requests,
            statuses,
            age: worker.age,
            generation: worker.generation,
            state: match worker {
                Worker { draining: true, .. } => State::Draining,
                worker if worker.boots() => State::Booting,
                _ => State::Ready,
            },
            life: self.life(worker, running, rules),
            uptime_s: worker.process.age_s(),
            boot_s: worker.boot_s,
            beat_age_s: worker.beat_age_s(),
            threads,
            threads_free: threads.saturating_sub(busy),
            connections: connections.max(busy),
            timed: vec![Distribution::default(); TIMED],
            ..snapshot::Worker::default()
        }
    }

    fn life(&self, worker: &Worker, running: &[Running], rules: Rules) -> Life {
        // Of who has ended it is told once it is known why.
        if worker.gone_s.is_some()
            && !worker.timed_out
            && let Some(life) = self.life.get(&worker.process.pid)
        {
            return *life;
        }
        let late = running.iter().any(|one| one.share().is_some_and(|share| share >= 1.0));
        let silent_s = rules.class.silent_s(rules.timeout_s);
        let silent =
            silent_s.is_some_and(|silent_s| worker.beat_age_s().is_some_and(|age_s| age_s > silent_s));
        match worker {
            worker if worker.boots() => Life::Booting,
            Worker { timed_out: true, .. } | Worker { retiring: true, .. } => Life::Condemned,
            _ if late || silent => Life::Stuck,
            Worker { draining: true, .. } => Life::Draining,
            _ if running.is_empty() => Life::Ready,
            _ => Life::Busy,
        }
    }

    fn gaps(&self) -> Vec<String> {
        let mut gaps = self.settings.gaps.clone();
        gaps.extend(self.logs.gaps());
        gaps.extend(self.requests.connections.gaps.iter().cloned());
        gaps.extend(self.control_gap.clone());
        if self.tree.hidden {
            gaps.push(
                "the workers' descriptors may not be read: heartbeats, and whose a request is, are not known. Run as \
                 their user, or as root"
                    .to_owned(),
            );
        }
        if let Some(why) = &self.requests.degraded {
            gaps.push(format!("stacks cannot be read, so it is not known which requests are slow: {why}"));
        }
        let (_, unix) = self.requests.connections.kinds();
        if unix && !self.class.has_threads() {
            gaps.push(
                "requests over a unix socket in an event loop or hub cannot be seen from outside: bind to 127.0.0.1 instead"
                    .to_owned(),
            );
        }
        gaps.dedup();
        gaps
    }
}

/// Returns what its workers have counted, as far as the log tells.
fn totals(routes: &[Route]) -> Totals {
    let mut totals = Totals::default();
    for Route { key, phases } in routes {
        let count = phases.count();
        totals.requests += count;
        match key.class {
            Answer::Lost => totals.timed_out += count,
            class => totals.statuses[class as usize] += count,
        }
    }
    totals
}
