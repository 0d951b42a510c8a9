//! The engine of an observer, whatever it observes: takes requests in flight and what is told of them, looks at those that get late,
//! explains them, and brings together what they have in common. Two processes drive it: the observer of our own server
//! (`crate::observer`) and that of a stock Gunicorn (`crate::attached`).
//!
//! Not for: where requests and events come from, and for no decision about a process.

mod acting;
mod asking;
mod blaming;
mod boots;
mod changing;
mod detectors;
mod explain;
mod fates;
mod hosts;
mod lost;
mod outlet;
mod scaling;
mod watch;
mod wedge;

pub(crate) use acting::{Acting, policy_of};
pub(crate) use asking::Asking;
pub(crate) use hosts::Hosts;
pub(crate) use outlet::Outlet;
pub(crate) use watch::Key;

use crate::evidence::{Aim, Lens};
use crate::kernel;
use crate::store::COURSES;
use blaming::Blaming;
use boots::Boots;
use changing::Changing;
use detectors::Detectors;
use explain::Facts;
use fates::Fates;
use ferricorn_core::diagnosis::{Cause, Diagnosis, SURE};
use ferricorn_core::event::Seen;
use ferricorn_core::evidence::{Evidence, Frame};
use ferricorn_core::growth::{Courses, Sample};
use ferricorn_core::incident::{Desk, Effect, Sign, Troubled};
use ferricorn_core::life::{Change, Life};
use ferricorn_core::record::{Blocked, Hold, Outcome, Record, SCHEMA, Server};
use ferricorn_core::snapshot::{Running, Snapshot};
use scaling::Scaling;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use watch::Watches;
use wedge::Wedge;

/// One look serves all requests of a worker that are due within this time, seconds.
const SHARED_S: f64 = 0.05;
/// Most looks in a second, over all workers: a storm of late requests must not make the observer a burden.
const LOOKS_MAX: u32 = 40;
/// How long it takes at most until it is known what became of a late request's thread, seconds.
const SETTLED_S: f64 = 1.5;
/// A loop that was held for less is no trouble.
const HELD_MIN_S: f64 = 1.0;
/// A share of its time from which on a request counts as stuck; and an age, where it has no deadline.
const STUCK_SHARE: f64 = 0.5;
const STUCK_S: f64 = 5.0;
/// How long databases are waited for before a request is explained without them, seconds.
const ANSWER_S: f64 = 1.0;
/// Most lines about where a request was.
const LINES_MAX: usize = 8;

/// The engine.
pub(crate) struct Engine<'a> {
    server: Server,
    lens: Lens,
    watches: Watches,
    /// The last look at each worker, and when it was.
    recent: BTreeMap<u32, (f64, Evidence)>,
    /// By worker's pid, where its event loop is held: what its main thread is at.
    held: BTreeMap<u32, Vec<Frame>>,
    facts: Facts,
    desk: Desk,
    boots: Boots,
    wedge: Wedge,
    detectors: Detectors,
    /// The memory of workers.
    courses: Courses,
    asking: Asking,
    /// None if nobody follows what the service is made of.
    changing: Option<Changing>,
    blaming: Blaming,
    outlet: Outlet<'a>,
    acting: Acting,
    scaling: Scaling,
    fates: Fates,
    hosts: Hosts,
    /// Looks in the current second.
    looks: (u64, u32),
}

impl<'a> Engine<'a> {
    /// Returns an engine for a server; takes up what the last one has left.
    pub(crate) fn new(
        server: Server,
        asking: Asking,
        acting: Acting,
        mut outlet: Outlet<'a>,
        now_s: f64,
    ) -> Self {
        let mut desk = Desk::new(server.clone());
        let mut detectors = Detectors::default();
        desk.resume(outlet.unfinished(now_s));
        if let Some(kept) = outlet.remembered("detectors", now_s) {
            detectors.resume(kept);
        }
        let courses = outlet.remembered(COURSES, now_s).and_then(|kept| serde_json::from_value(kept).ok());
        let mut blaming = Blaming::begin(now_s);
        if let Some(kept) = outlet.remembered("blaming", now_s) {
            blaming.resume(kept, now_s);
        }
        let mut engine = Self {
            server,
            lens: Lens::default(),
            watches: Watches::default(),
            recent: BTreeMap::new(),
            held: BTreeMap::new(),
            facts: Facts::default(),
            desk,
            boots: Boots::default(),
            wedge: Wedge::default(),
            detectors,
            courses: courses.unwrap_or_default(),
            asking,
            changing: None,
            blaming,
            outlet,
            acting,
            scaling: Scaling::default(),
            fates: Fates::default(),
            hosts: Hosts::default(),
            looks: (0, 0),
        };
        engine.resume_acting(now_s);
        engine
    }

    /// Says after how long a boot is ended, where that has a limit of its own.
    pub(crate) fn boots_within(mut self, limit: Duration) -> Self {
        self.boots = Boots::within(limit);
        self
    }

    /// Looks at those of the requests in flight that are due; `running` need not have those that are young. Returns in how many
    /// seconds the next one is.
    pub(crate) fn requests(&mut self, running: &[Running], all: All<'_>, now_s: f64) -> f64 {
        self.facts.stuck = stuck(running, self.facts.threads);
        let mut next_s = f64::MAX;
        for request in running {
            let silence = self.facts.silence(request.pid, now_s);
            let hopeless = self.is_eager() && self.fates.is_hopeless(&self.facts.routed(&request.request));
            let due = self.watches.due(request, hopeless);
            let due = due.or_else(|| self.watches.due_by_silence(request, silence?));
            if let Some(percent) = due {
                let request = self.facts.with_route(request);
                self.capture(&request, percent, all, now_s);
            }
            next_s = next_s.min(self.watches.next_s(request).unwrap_or(f64::MAX));
        }
        next_s
    }

    /// Tells whether requests are looked at sooner than usual: all of some route were lost.
    pub(crate) fn is_eager(&self) -> bool {
        self.fates.are_hopeless()
    }

    /// Looks at a request and explains it, unless too much has been looked at in this second.
    fn capture(&mut self, request: &Running, percent: u32, all: All<'_>, now_s: f64) {
        let second = now_s as u64;
        if self.looks.0 != second {
            self.looks = (second, 0);
        }
        let pid = request.pid;
        let recent = self.recent.get(&pid).filter(|(at_s, _)| (0.0..SHARED_S).contains(&(now_s - at_s)));
        let evidence = match recent {
            Some((_, evidence)) => Evidence { percent, ..evidence.clone() },
            None if self.looks.1 >= LOOKS_MAX => return,
            None => {
                self.looks.1 += 1;
                let requests = all(pid);
                let serves = self.asking.serves();
                let evidence = self.lens.look(&Aim { pid, requests: &requests, percent, all: true, serves });
                self.asking.ask(pid, &evidence, request.request.app_s, self.facts.pids());
                self.recent.insert(pid, (now_s, evidence.clone()));
                evidence
            }
        };
        let key = (pid, request.number);
        let waits = self.waits_in_line(request, &evidence);
        let known = self.watches.get(key).and_then(|watch| watch.looks.last());
        // The databases' last word holds until the next.
        let databases = known.map(|look| look.databases.clone()).unwrap_or_default();
        let watch = self.watches.add(request, Evidence { databases, ..evidence }, &all(pid));
        // What databases say soon may be all that matters, and nobody is to be told what is wrong then.
        watch.explain_s = match self.asking.is_asked(pid) && watch.diagnosis.is_none() {
            true => Some(now_s + ANSWER_S),
            false => Some(now_s),
        };
        watch.in_line = waits;
        self.explain_those_due(now_s);
    }

    /// Tells whether a request waits for a thread: those of its worker can be seen, and none is at it.
    fn waits_in_line(&self, request: &Running, evidence: &Evidence) -> bool {
        let id = &request.request.id;
        request.request.tid == 0
            && !self.facts.is_nested()
            && evidence.degraded.is_none()
            && !evidence.threads.iter().any(|thread| thread.request.as_ref() == Some(id))
    }

    /// Explains what has waited long enough for more to be known.
    fn explain_those_due(&mut self, now_s: f64) {
        for key in self.watches.to_explain(now_s) {
            self.explain(key, now_s);
        }
    }

    /// Explains a request with all that is known of it.
    fn explain(&mut self, key: Key, now_s: f64) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        watch.explain_s = None;
        let Some(watch) = self.watches.get(key).filter(|watch| !watch.in_line && !watch.touched) else {
            return;
        };
        let diagnosis = self.facts.diagnose(watch);
        // A request that comes free while it is looked at shows half of what it was at.
        let known = watch.diagnosis.as_ref().filter(|known| known.confidence >= SURE);
        let diagnosis = match known {
            Some(known) if diagnosis.cause == Cause::Unknown => known.clone(),
            _ => diagnosis,
        };
        let (source, frames) = watch.place();
        let request = self.facts.with_route(&watch.running).request;
        let worker = self.facts.worker(key.0);
        if watch.diagnosis.is_none() {
            self.count_hung(&request, key.0, now_s);
        }
        let troubled = Troubled { request, worker, diagnosis: diagnosis.clone(), source, frames };
        if let Some(watch) = self.watches.get_mut(key) {
            watch.diagnosis = Some(diagnosis);
        }
        self.sign(Sign::Stuck(Box::new(troubled)), now_s);
        self.act_on_request(key, now_s);
    }

    /// Gives a sign to the desk, and does what it says.
    fn sign(&mut self, sign: Sign, now_s: f64) {
        if self.desk.needs_name()
            && let Some(id) = self.outlet.next_id(now_s)
        {
            self.desk.name_next(id);
        }
        let effects = self.desk.on(sign, now_s);
        self.carry_out(effects, now_s);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now_s: f64) {
        for effect in effects {
            // Who is told of an incident is told what it comes from.
            let effect = self.with_blame(effect, now_s);
            match effect {
                Effect::Save(incident) => self.outlet.save(&incident, now_s),
                Effect::Tell(incident) => self.outlet.tell(&incident, now_s),
                Effect::Drop(id) => self.outlet.forget(&id, now_s),
            }
        }
    }

    /// The interpreter has told where a request is.
    pub(crate) fn seen(&mut self, mut seen: Seen, now_s: f64) {
        let key = (seen.pid, seen.id);
        self.lens.show_code(seen.pid, &mut seen.frames);
        if let Some(watch) = self.watches.get_mut(key) {
            watch.seen = Some(seen);
            self.explain(key, now_s);
        }
    }

    /// Something holds a worker's event loop: sees what, in case that the worker cannot.
    pub(crate) fn holds(&mut self, pid: u32) {
        let frames = self.lens.main_stack(pid);
        self.held.insert(pid, frames);
    }

    /// It does not any more.
    pub(crate) fn held(&mut self, pid: u32, mut hold: Hold, now_s: f64) {
        let frames = self.held.remove(&pid).unwrap_or_default();
        if hold.frames.is_empty() {
            hold.frames = frames;
        }
        let worker = self.facts.worker(pid);
        if hold.lasted_s >= HELD_MIN_S {
            let computes = |diagnosis: &&Diagnosis| {
                diagnosis.cause.family() == "cpu"
                    || matches!(diagnosis.cause, Cause::DbBigResult | Cause::InfiniteLoop)
            };
            let behind =
                self.watches.of_worker(pid).filter_map(|watch| watch.diagnosis.as_ref()).find(computes);
            let troubled = explain::held(&hold, &worker, behind);
            self.sign(Sign::Blocked(Box::new(troubled)), now_s);
        }
        let blocked = Blocked {
            schema: SCHEMA,
            at_s: now_s,
            server: self.server.clone(),
            worker,
            hold,
            incident: None,
        };
        self.outlet.record(Record::Blocked(Box::new(blocked)));
    }

    fn forget(&mut self, pid: u32) {
        self.held.remove(&pid);
        self.recent.remove(&pid);
        self.lens.forget(pid);
        self.boots.forget(pid);
    }

    /// Lives of workers have changed.
    pub(crate) fn changes(&mut self, changes: &[Change], now_s: f64) {
        for change in changes.iter().filter(|change| change.life == Life::Exited) {
            self.forget(change.pid);
        }
        self.outlet.changes(changes, now_s);
    }

    /// Once a second: server and workers, with or without their requests and routes.
    pub(crate) fn second(&mut self, snapshot: &Snapshot, now_s: f64) {
        self.facts.update(snapshot, now_s);
        // Tasks are many on one.
        self.fates.among(if self.facts.is_nested() { 0 } else { self.facts.threads });
        self.courses.observe(&samples(snapshot));
        if let Some(changing) = &mut self.changing {
            changing.chronicle.second(snapshot);
        }
        for sign in self.boots.look(snapshot, &mut self.lens) {
            self.sign(sign, now_s);
        }
        if let Some(sign) = self.wedge.look(snapshot, &mut self.lens) {
            self.sign(sign, now_s);
        }
        if !self.facts.is_nested() {
            self.sign(Sign::Capacity { stuck: self.facts.stuck, threads: self.facts.threads }, now_s);
        }
        self.sign(Sign::Tick, now_s);
        self.second_hosts(now_s);
        self.second_acting(now_s);
        self.second_scaling(snapshot.workers_target, now_s);
    }

    /// Returns the master that has come in the place of the one that is observed.
    pub(crate) fn successor(&self) -> Option<u32> {
        self.acting.successor()
    }

    /// Shows others a whole snapshot.
    pub(crate) fn publish(&self, mut snapshot: Snapshot) {
        for running in &mut snapshot.requests {
            *running = self.facts.with_route(running);
        }
        self.outlet.publish(Arc::new(snapshot), &self.desk.incidents());
    }

    /// Every ten seconds: what has been gained since, for the detectors.
    pub(crate) fn ten_seconds(&mut self, snapshot: &Snapshot, now_s: f64) {
        let gains = self.detectors.gains(&snapshot.routes);
        self.outlet.gained(&gains);
        self.measure(&gains, snapshot, now_s);
        for sign in self.detectors.tick(&gains, snapshot, now_s as u64) {
            self.sign(sign, now_s);
        }
        self.facts.learn(&snapshot.routes);
        self.blame(now_s);
    }

    /// At the end: what has been gained since the last ten seconds were over is kept, too.
    pub(crate) fn last_gains(&mut self, snapshot: &Snapshot) {
        let gains = self.detectors.gains(&snapshot.routes);
        self.outlet.gained(&gains);
        self.measure(&gains, snapshot, snapshot.at_s);
    }

    /// Takes what databases have answered.
    fn hear_databases(&mut self, now_s: f64) {
        for (pid, at_s, found) in self.asking.answers() {
            self.blaming.hear(&found, at_s);
            for key in self.watches.answered(pid, at_s, &found) {
                self.explain(key, now_s);
            }
        }
        for (level, text) in self.asking.lines() {
            self.outlet.say(level, &text);
        }
    }

    /// Every tick: takes what has been answered, writes down what has come.
    pub(crate) fn tick(&mut self, now_s: f64) {
        self.hear_databases(now_s);
        self.hear_changes(now_s);
        self.tick_hosts(now_s);
        self.explain_those_due(now_s);
        self.tick_acting(now_s);
        self.outlet.tick(now_s);
    }

    /// Every minute, and at the end: what has to survive.
    pub(crate) fn keep(&mut self, now_s: f64) {
        self.outlet.minute(now_s);
        self.outlet.remember("detectors", &self.detectors.keep(), now_s);
        self.outlet.remember(COURSES, &self.courses, now_s);
        self.keep_service(now_s);
        if self.hosts.is_among_others() {
            self.keep_acting(now_s);
        }
        if let Some(blaming) = self.blaming.keep() {
            self.outlet.remember("blaming", &blaming, now_s);
        }
    }

    /// What is known is written down.
    pub(crate) fn finish(&mut self, now_s: f64) {
        self.settle_all(now_s, |_, watch| watch.late.is_some().then_some(Outcome::Ended));
        self.keep(now_s);
        self.outlet.end(now_s);
    }

    /// The server is not there any more: with it, its incidents are over.
    pub(crate) fn end(&mut self, text: &str, now_s: f64) {
        let effects = self.desk.close(text, now_s);
        self.carry_out(effects, now_s);
        self.leave_hosts();
        self.finish(now_s);
    }

    /// The observer itself has been stopped for so long; whoever did that may have stopped everybody.
    pub(crate) fn paused(&mut self, lasted_s: f64, now_s: f64) {
        self.facts.paused = Some((now_s, lasted_s));
    }
}

/// Returns the requests that a worker is at.
pub(crate) type All<'a> = &'a dyn Fn(u32) -> Vec<Running>;

/// Counts requests that are as slow as those that are looked at and have a thread. Where it is not known which have, there are no
/// more than threads.
fn stuck(running: &[Running], threads: u32) -> u32 {
    let count = |wanted: fn(&Running) -> bool| {
        running.iter().filter(|running| is_stuck(running) && wanted(running)).count() as u32
    };
    match count(|running| running.request.tid != 0) {
        0 => count(|_| true).min(threads),
        at_threads => at_threads,
    }
}

/// Tells whether a request is as slow as those that are looked at.
fn is_stuck(running: &Running) -> bool {
    match running.enforced_share() {
        Some(share) => share >= STUCK_SHARE,
        None => running.request.app_s >= STUCK_S,
    }
}

/// The memory of those workers that serve.
fn samples(snapshot: &Snapshot) -> Vec<Sample> {
    let serving = snapshot.workers.iter().filter(|worker| matches!(worker.life, Life::Ready | Life::Busy));
    let sample = |worker: &ferricorn_core::snapshot::Worker| {
        let rss = kernel::rss(worker.pid)?;
        let (pid, age, uptime_s, requests) = (worker.pid, worker.age, worker.uptime_s, worker.requests);
        Some(Sample { pid, age, uptime_s, requests, rss })
    };
    serving.filter_map(sample).collect()
}
