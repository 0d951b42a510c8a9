//! Where signs of trouble come together: requests that are stuck, lost, or end after all; workers that die or do not boot; alarms
//! of the detectors. `(state, sign, now) -> effects`: what to store and what to tell. One trouble is one incident; a note
//! becomes an incident when there is too much of it to be chance.
//!
//! Not for: I/O, and not for finding causes ([`crate::diagnosis`]) or measuring chance (`crate::detect`).

use super::fingerprint::fingerprint;
use super::kept::{Kept, route_of};
use super::{Acted, Incident, Moment, SCHEMA, State, Trigger};
use crate::change::{Contrast, Explained, Shift};
use crate::diagnosis::{Cause, Diagnosis, SURE};
use crate::evidence::{Frame, Source};
use crate::record::{Request, Server, Worker};
use std::collections::BTreeMap;

/// Without a sign for so long it has stopped, for the time being.
const CALM_S: f64 = 60.0;
/// After so long without a sign it is over.
const OVER_S: f64 = 900.0;
/// Most troubles that are kept apart at one time; the oldest notes go first.
const KEPT_MAX: usize = 64;
/// Most requests whose trouble is remembered.
const REQUESTS_MAX: usize = 2048;
/// Ends of a worker for want of memory, within [`OVER_S`], that are no accident any more.
const MEMORY_ENDS: u64 = 2;
/// Blocked loops, within [`OVER_S`], that are a habit.
const BLOCKS: u64 = 3;
/// So many stuck requests are more than one that happens to be slow.
const STUCK_MIN: u32 = 2;

/// A request in trouble, explained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Troubled {
    /// The request.
    pub request: Request,
    /// Its worker.
    pub worker: Worker,
    /// Why.
    pub diagnosis: Diagnosis,
    /// How its stack was found out.
    pub source: Source,
    /// Where it is, the innermost call first.
    pub frames: Vec<Frame>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Sign {
    /// A slow or stuck request was looked at. May be said again, with more known.
    Stuck(Box<Troubled>),
    /// A request was answered in the application's place, cut, or lost with its worker.
    Lost {
        /// Its id.
        id: String,
        /// It, for who has not been seen before.
        request: Box<Request>,
        /// Pid of its worker.
        pid: u32,
        /// What its client got.
        answer: String,
    },
    /// A worker has ended without having been told to, for a cause that concerns more than one request.
    Worker {
        /// It.
        worker: Box<Worker>,
        /// Why, and how sure that is.
        diagnosis: Box<Diagnosis>,
        /// In words, for the course.
        text: String,
        /// Nobody is left to serve, or it has happened too often.
        grave: bool,
    },
    /// An event loop was held.
    Blocked(Box<Troubled>),
    /// Something about the server as a whole: the new workers of a reload fail more often than the old ones beside them, or the
    /// arbiter does nothing any more.
    Server(Trigger, Box<Diagnosis>),
    /// More was lost than chance explains.
    Losses {
        /// How many, in how many seconds, and how many were expected.
        text: String,
    },
    /// More workers have died than chance explains.
    Deaths {
        /// How many, in how many seconds.
        text: String,
    },
    /// A route takes longer than it did.
    Latency {
        /// Method and route.
        route: String,
        /// By how much.
        text: String,
    },
    /// So many threads are stuck, of so many; requests wait.
    Capacity {
        /// Threads at stuck requests.
        stuck: u32,
        /// All threads.
        threads: u32,
    },
    /// Something was done about a trouble, or was not.
    Acted {
        /// The trouble.
        incident: String,
        /// What.
        acted: Box<Acted>,
    },
    /// Time passes.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Store it as it is now.
    Save(Box<Incident>),
    /// Tell people: it has been opened, has another cause, has stopped, is over.
    Tell(Box<Incident>),
    /// A note that turned out to be another's: forget it.
    Drop(String),
}

/// The open troubles of a server.
#[derive(Debug, Default)]
pub struct Desk {
    server: Server,
    /// By fingerprint.
    kept: BTreeMap<String, Kept>,
    /// Which trouble a request is in, by its id.
    requests: BTreeMap<String, Assigned>,
    /// The name of the next one.
    id: Option<String>,
    /// How many had to be named here.
    unnamed: u64,
}

#[derive(Clone, Debug)]
struct Assigned {
    fingerprint: String,
    incident: String,
    age_s: f64,
    lost: bool,
}

impl Desk {
    /// Returns a desk without troubles.
    pub fn new(server: Server) -> Self {
        Self { server, ..Self::default() }
    }

    /// Tells whether it needs a name for the next trouble.
    pub fn needs_name(&self) -> bool {
        self.id.is_none()
    }

    /// Gives it one, `20261126-7`, that nobody else has: a sign makes one trouble at most.
    pub fn name_next(&mut self, id: String) {
        self.id = Some(id);
    }

    /// Takes up the troubles that were open when the last observer ended.
    pub fn resume(&mut self, incidents: Vec<Incident>) {
        for incident in incidents.into_iter().take(KEPT_MAX) {
            let routes = incident.routes.iter().cloned().collect();
            let kept = Kept { routes, told: 1.0, ..Kept::default() };
            self.kept.insert(incident.fingerprint.clone(), Kept { incident, ..kept });
        }
    }

    /// Returns all troubles, the heaviest first.
    pub fn incidents(&self) -> Vec<&Incident> {
        let mut all: Vec<&Incident> = self.kept.values().map(|kept| &kept.incident).collect();
        all.sort_by_key(|incident| {
            std::cmp::Reverse((
                incident.state != State::Note,
                incident.requests_lost,
                incident.requests_stuck,
            ))
        });
        all
    }

    /// Returns the trouble of an id.
    pub fn incident(&self, id: &str) -> Option<&Incident> {
        self.kept.values().map(|kept| &kept.incident).find(|incident| incident.id == id)
    }

    fn of_id(&mut self, id: &str) -> Option<&mut Kept> {
        self.kept.values_mut().find(|kept| kept.incident.id == id)
    }

    /// Returns the id of the trouble that a request is in.
    pub fn of_request(&self, id: &str) -> Option<&str> {
        self.assigned(id).map(|assigned| assigned.incident.as_str())
    }

    /// Takes a sign; returns what is to be done. `now` is seconds since 1970.
    pub fn on(&mut self, sign: Sign, now: f64) -> Vec<Effect> {
        let mut dropped = Vec::new();
        match sign {
            Sign::Stuck(troubled) => {
                dropped.extend(self.stuck(&troubled, now));
                dropped.extend(self.absorb(&troubled));
            }
            Sign::Lost { id, request, pid, answer } => self.lost(&id, &request, pid, &answer, now),
            Sign::Worker { worker, diagnosis, text, grave } => {
                self.worker(&worker, &diagnosis, text, grave, now)
            }
            Sign::Blocked(troubled) => self.blocked(&troubled, now),
            Sign::Server(trigger, diagnosis) => self.server(trigger, *diagnosis, now),
            Sign::Losses { text } => self.losses(&text, now),
            Sign::Deaths { text } => self.deaths(&text, now),
            Sign::Latency { route, text } => self.latency(&route, &text, now),
            Sign::Capacity { stuck, threads } => self.capacity(stuck, threads, now),
            Sign::Acted { incident, acted } => {
                if let Some(kept) = self.of_id(&incident) {
                    kept.act(*acted);
                }
            }
            Sign::Tick => {}
        }
        self.age(now);
        let mut effects: Vec<Effect> = dropped.into_iter().map(Effect::Drop).collect();
        effects.extend(self.settle());
        effects
    }

    /// Takes what changes have to do with an incident; and changes, as moments of its course. Returns what is to be done.
    pub fn explain(
        &mut self,
        id: &str,
        change: Explained,
        contrast: Vec<Contrast>,
        shifts: Vec<Shift>,
        moments: Vec<Moment>,
    ) -> Vec<Effect> {
        let Some(kept) = self.of_id(id) else { return Vec::new() };
        kept.explain(change, contrast, shifts, moments);
        self.settle()
    }

    /// Takes in which other hosts have an incident, too.
    pub fn join(&mut self, id: &str, hosts: &[String], now: f64) -> Vec<Effect> {
        let Some(kept) = self.of_id(id) else { return Vec::new() };
        kept.join(hosts, now);
        self.settle()
    }

    /// Ends all troubles: their server is not there any more, which is said in words.
    pub fn close(&mut self, text: &str, now: f64) -> Vec<Effect> {
        for kept in self.kept.values_mut() {
            if kept.incident.state == State::Note {
                kept.close_note(now);
            } else {
                kept.turn(State::Closed, now, text);
            }
        }
        self.settle()
    }

    /// Returns what has changed, and lets go of what is over.
    fn settle(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for kept in self.kept.values_mut() {
            if std::mem::take(&mut kept.dirty) {
                kept.settle();
                effects.push(Effect::Save(Box::new(kept.incident.clone())));
            }
            if std::mem::take(&mut kept.tell) {
                effects.push(Effect::Tell(Box::new(kept.incident.clone())));
            }
        }
        self.kept.retain(|_, kept| kept.incident.state != State::Closed);
        effects
    }

    fn stuck(&mut self, troubled: &Troubled, now: f64) -> Option<String> {
        let id = &troubled.request.id;
        let fingerprint = fingerprint(&troubled.diagnosis, &troubled.request);
        let before = self.assigned(id).cloned();
        let moved = before.as_ref().filter(|before| before.fingerprint != fingerprint);
        let renamed = moved.is_some_and(|before| self.rename(&before.fingerprint, &fingerprint));
        let left = moved.filter(|_| !renamed).and_then(|before| self.take_back(before, &troubled.request));
        let known = renamed || before.as_ref().is_some_and(|before| before.fingerprint == fingerprint);
        let lost = before.as_ref().is_some_and(|before| before.lost);
        let age_s = troubled.request.app_s;
        let kept = self.kept_of(&fingerprint, &troubled.diagnosis, now);
        let incident = kept.incident.id.clone();
        self.remember(id, Assigned { fingerprint: fingerprint.clone(), incident, age_s, lost });
        let kept = self.kept_of(&fingerprint, &troubled.diagnosis, now);
        if !known {
            kept.incident.requests_stuck += 1;
            kept.incident.requests_lost += u64::from(lost);
            *kept.routes.entry(route_of(&troubled.request)).or_default() += 1;
        }
        let gained_s = age_s - before.as_ref().filter(|_| known).map_or(0.0, |before| before.age_s);
        kept.weigh(&troubled.diagnosis, gained_s.max(0.1));
        kept.show(troubled);
        kept.seen(now);
        kept.worker(troubled.worker.pid);
        if kept.incident.diagnosed_at.is_none()
            && troubled.diagnosis.confidence >= SURE
            && troubled.diagnosis.cause != Cause::Unknown
        {
            kept.incident.diagnosed_at = Some(now);
            let text =
                format!("cause known: {} ({:.2})", troubled.diagnosis.cause, troubled.diagnosis.confidence);
            kept.note(now, text);
        }
        let mut left = left?;
        if left.incident.state == State::Note {
            return Some(left.incident.id);
        }
        // It was told to people, who have to hear what became of it.
        let kept = self.kept_of(&fingerprint, &troubled.diagnosis, now);
        let trigger = left.incident.trigger.unwrap_or(Trigger::Losses);
        kept.open(trigger, &format!("what was taken for incident {} is this", left.incident.id), now);
        left.turn(State::Closed, now, &format!("it turned out to be incident {}", kept.incident.id));
        self.kept.insert(before?.fingerprint, left);
        None
    }

    /// A route always takes as long as that: what was taken for slow before it was known how long is usual is the same. Returns notes
    /// that are none any more.
    fn absorb(&mut self, troubled: &Troubled) -> Vec<String> {
        let Some(because) = &troubled.diagnosis.because else { return Vec::new() };
        if troubled.diagnosis.cause != Cause::TimeoutTooLow {
            return Vec::new();
        }
        let route = route_of(&troubled.request);
        let is_same = |kept: &Kept| {
            let incident = &kept.incident;
            // The first requests of a route are told by their paths.
            let of_route = kept.routes.get(&route).copied().unwrap_or(0);
            let is_of_route = of_route * 2 > kept.routes.values().sum();
            incident.state == State::Note
                && incident.cause == because.cause
                && incident.confidence < SURE
                && is_of_route
        };
        let found: Vec<String> =
            self.kept.iter().filter(|(_, kept)| is_same(kept)).map(|(name, _)| name.clone()).collect();
        let fingerprint = fingerprint(&troubled.diagnosis, &troubled.request);
        let mut absorbed = Vec::new();
        for name in found {
            let Some(note) = self.kept.remove(&name) else { continue };
            let Some(kept) = self.kept.get_mut(&fingerprint) else { continue };
            let into = kept.incident.id.clone();
            for assigned in self.requests.values_mut().filter(|assigned| assigned.fingerprint == name) {
                assigned.fingerprint.clone_from(&fingerprint);
                assigned.incident.clone_from(&into);
            }
            absorbed.push(note.incident.id.clone());
            kept.take_in(note);
        }
        absorbed
    }

    /// What is known of a trouble's only request changes its fingerprint: it is the same trouble. False if it is not alone, or if
    /// there is such a trouble already.
    fn rename(&mut self, before: &str, fingerprint: &str) -> bool {
        let is_alone = |kept: &Kept| kept.incident.requests_stuck == 1 && kept.ends == 0;
        if self.kept.contains_key(fingerprint) || !self.kept.get(before).is_some_and(is_alone) {
            return false;
        }
        let Some(mut kept) = self.kept.remove(before) else { return false };
        kept.scores.clear();
        kept.told = 0.0;
        kept.incident.fingerprint = fingerprint.to_owned();
        self.kept.insert(fingerprint.to_owned(), kept);
        true
    }

    /// A request turned out to be in another trouble than was thought; returns what is no trouble without it.
    fn take_back(&mut self, before: &Assigned, request: &Request) -> Option<Kept> {
        let kept = self.kept.get_mut(&before.fingerprint)?;
        let incident = &mut kept.incident;
        incident.requests_stuck = incident.requests_stuck.saturating_sub(1);
        incident.requests_lost = incident.requests_lost.saturating_sub(u64::from(before.lost));
        if let Some(count) = kept.routes.get_mut(&route_of(request)) {
            *count = count.saturating_sub(1);
        }
        kept.routes.retain(|_, count| *count > 0);
        kept.dirty = true;
        if incident.requests_stuck > 0 || kept.ends > 0 {
            return None;
        }
        self.kept.remove(&before.fingerprint)
    }

    fn lost(&mut self, id: &str, request: &Request, pid: u32, answer: &str, now: f64) {
        if self.requests.get(id).is_some_and(|assigned| assigned.lost) {
            return;
        }
        let unseen = || {
            let troubled = Troubled {
                request: request.clone(),
                worker: Worker { pid, ..Worker::default() },
                ..Troubled::default()
            };
            Box::new(Troubled {
                diagnosis: Diagnosis {
                    summary: format!("{}: nothing was seen of it.", route_of(request)),
                    ..Diagnosis::default()
                },
                ..troubled
            })
        };
        if self.assigned(id).is_none() {
            self.stuck(&unseen(), now);
        }
        let Some(assigned) = self.requests.get_mut(id) else { return };
        assigned.lost = true;
        let fingerprint = assigned.fingerprint.clone();
        let Some(kept) = self.kept.get_mut(&fingerprint) else { return };
        kept.incident.requests_lost += 1;
        kept.seen(now);
        kept.note(
            now,
            format!(
                "{}: {answer} after {:.1} s (request {id}, worker {pid})",
                route_of(request),
                request.app_s
            ),
        );
    }

    fn worker(&mut self, worker: &Worker, diagnosis: &Diagnosis, text: String, grave: bool, now: f64) {
        let fingerprint = fingerprint(diagnosis, &Request::default());
        let kept = self.kept_of(&fingerprint, diagnosis, now);
        kept.ends += 1;
        kept.weigh(diagnosis, 1.0);
        let troubled = Troubled {
            diagnosis: diagnosis.clone(),
            frames: diagnosis.subject.frames.clone(),
            worker: worker.clone(),
            ..Troubled::default()
        };
        // What was seen of a request tells more than the end of its worker.
        if kept.incident.request.is_none() {
            kept.show(&troubled);
        }
        kept.seen(now);
        kept.worker(worker.pid);
        kept.note(now, text.clone());
        kept.known(diagnosis.confidence, now);
        let often = diagnosis.cause == Cause::WorkerMemory && kept.ends >= MEMORY_ENDS;
        if grave || often {
            kept.open(Trigger::Workers, &text, now);
        }
    }

    fn server(&mut self, trigger: Trigger, diagnosis: Diagnosis, now: f64) {
        let fingerprint = fingerprint(&diagnosis, &Request::default());
        let text = diagnosis.summary.clone();
        let troubled = Troubled { diagnosis, ..Troubled::default() };
        let kept = self.kept_of(&fingerprint, &troubled.diagnosis, now);
        kept.ends += 1;
        kept.weigh(&troubled.diagnosis, 1.0);
        kept.told = 0.0;
        kept.show(&troubled);
        kept.seen(now);
        kept.known(troubled.diagnosis.confidence, now);
        kept.open(trigger, &text, now);
    }

    fn blocked(&mut self, troubled: &Troubled, now: f64) {
        let fingerprint = fingerprint(&troubled.diagnosis, &troubled.request);
        let kept = self.kept_of(&fingerprint, &troubled.diagnosis, now);
        kept.ends += 1;
        kept.weigh(&troubled.diagnosis, 1.0);
        kept.show(troubled);
        kept.seen(now);
        kept.worker(troubled.worker.pid);
        *kept.routes.entry(route_of(&troubled.request)).or_default() += 1;
        kept.known(troubled.diagnosis.confidence, now);
        kept.note(now, troubled.diagnosis.summary.clone());
        if kept.ends >= BLOCKS {
            kept.open(Trigger::Blocked, &format!("an event loop was held {} times", kept.ends), now);
        }
    }

    /// The troubles that have lost requests lately are what the alarm is about: those that have a fair share of them.
    fn losses(&mut self, text: &str, now: f64) {
        let recent = |kept: &Kept| kept.incident.requests_lost > 0 && now - kept.incident.last_at < OVER_S;
        let most = self
            .kept
            .values()
            .filter(|kept| recent(kept))
            .map(|kept| kept.incident.requests_lost)
            .max()
            .unwrap_or(0);
        for kept in self.kept.values_mut().filter(|kept| recent(kept)) {
            if kept.incident.requests_lost * 5 >= most {
                kept.open(Trigger::Losses, text, now);
            }
        }
    }

    fn deaths(&mut self, text: &str, now: f64) {
        let recent = |kept: &&mut Kept| kept.ends > 0 && now - kept.incident.last_at < OVER_S;
        if let Some(kept) = self.kept.values_mut().filter(recent).max_by_key(|kept| kept.ends) {
            kept.open(Trigger::Workers, text, now);
        }
    }

    fn latency(&mut self, route: &str, text: &str, now: f64) {
        let hits = |kept: &&mut Kept| kept.routes.contains_key(route) && now - kept.incident.last_at < OVER_S;
        let heaviest = self.kept.values_mut().filter(hits).max_by_key(|kept| kept.incident.requests_stuck);
        if let Some(kept) = heaviest {
            return kept.open(Trigger::Latency, text, now);
        }
        // Slow, but no single request so slow that it was looked at.
        let summary = format!("{route} takes longer than it did: {text}.");
        let diagnosis = Diagnosis { summary, confidence: 0.3, ..Diagnosis::default() };
        let (method, path) = route.split_once(' ').unwrap_or(("", route));
        let request = Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() };
        let kept = self.kept_of(&fingerprint(&diagnosis, &request), &diagnosis, now);
        *kept.routes.entry(route.to_owned()).or_default() += 1;
        kept.seen(now);
        kept.open(Trigger::Latency, text, now);
    }

    fn capacity(&mut self, stuck: u32, threads: u32, now: f64) {
        if stuck < STUCK_MIN || stuck * 2 < threads {
            return;
        }
        let recent =
            |kept: &&mut Kept| now - kept.incident.last_at < CALM_S && kept.incident.requests_stuck > 0;
        let heaviest = self.kept.values_mut().filter(recent).max_by_key(|kept| kept.incident.requests_stuck);
        if let Some(kept) = heaviest {
            let text = format!("{stuck} of {threads} threads are stuck at once");
            kept.open(Trigger::Capacity, &text, now);
        }
    }

    fn kept_of(&mut self, fingerprint: &str, diagnosis: &Diagnosis, now: f64) -> &mut Kept {
        if !self.kept.contains_key(fingerprint) {
            if self.kept.len() >= KEPT_MAX {
                self.give_up_one();
            }
            let id = self.id.take().unwrap_or_else(|| {
                self.unnamed += 1;
                format!("0-{}", self.unnamed)
            });
            let incident = Incident {
                schema: SCHEMA,
                id,
                server: self.server.clone(),
                fingerprint: fingerprint.to_owned(),
                cause: diagnosis.cause,
                noted_at: now,
                last_at: now,
                ..Incident::default()
            };
            let mut kept = Kept { incident, ..Kept::default() };
            kept.note(now, format!("first seen: {}", diagnosis.summary));
            self.kept.insert(fingerprint.to_owned(), kept);
        }
        self.kept.entry(fingerprint.to_owned()).or_default()
    }

    /// Makes room: the note that has been silent longest, else the incident.
    fn give_up_one(&mut self) {
        let order = |kept: &Kept| (kept.incident.state != State::Note, kept.incident.last_at);
        let oldest = self.kept.iter().min_by(|(_, one), (_, other)| {
            let (one, other) = (order(one), order(other));
            one.0.cmp(&other.0).then(one.1.total_cmp(&other.1))
        });
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.kept.remove(&key);
        }
    }

    /// Returns the trouble that a request is in, if that still goes on: another may have its fingerprint by now.
    fn assigned(&self, id: &str) -> Option<&Assigned> {
        let assigned = self.requests.get(id)?;
        let kept = self.kept.get(&assigned.fingerprint)?;
        (kept.incident.id == assigned.incident).then_some(assigned)
    }

    fn remember(&mut self, id: &str, assigned: Assigned) {
        if self.requests.len() >= REQUESTS_MAX {
            // Ids begin with a pid and count up: no order of age. All are forgotten, which at worst counts one twice.
            self.requests.clear();
        }
        self.requests.insert(id.to_owned(), assigned);
    }

    fn age(&mut self, now: f64) {
        for kept in self.kept.values_mut() {
            let silent_s = now - kept.incident.last_at;
            match kept.incident.state {
                State::Open if silent_s >= CALM_S => {
                    kept.turn(State::Mitigated, now, "no sign of it for a minute")
                }
                State::Mitigated if silent_s >= OVER_S => kept.turn(State::Closed, now, "over"),
                State::Note if silent_s >= OVER_S => kept.close_note(now),
                _ => {}
            }
        }
    }
}
