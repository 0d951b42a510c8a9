//! Requests that are lost and workers that die: what is known of them, and what is written down. Not for: requests that are
//! only late (`mod`), and not for what they have in common (`core::incident`).

use super::explain;
use super::watch::{Key, Watch};
use super::{All, Engine, LINES_MAX, SETTLED_S, SHARED_S};
use ferricorn_core::diagnosis::{Cause, Diagnosis};
use ferricorn_core::event::{Died, Late};
use ferricorn_core::evidence::{Evidence, Source, told};
use ferricorn_core::incident::{Sign, Troubled};
use ferricorn_core::record::{Death, Outcome, Record, Request, SCHEMA};
use ferricorn_core::scoreboard::Exit;
use ferricorn_core::snapshot::Running;
use std::collections::BTreeMap;

impl Engine<'_> {
    /// A request was answered in the application's place.
    pub(crate) fn late(&mut self, late: &Late, at_s: f64, all: All<'_>, now_s: f64) {
        let key = (late.pid, late.id);
        let stale = self
            .watches
            .get(key)
            .and_then(|watch| watch.looks.last())
            .is_none_or(|look| now_s - look.at_s > 2.0 * SHARED_S);
        // If it has come free by now, there is nothing to see.
        let mut running = if stale { all(late.pid).into_iter() } else { Vec::new().into_iter() };
        if let Some(request) = running.find(|running| running.number == late.id) {
            let request = self.facts.with_route(&request);
            self.capture(&request, 100, all, now_s);
        }
        let watch = self.watches.entry(key);
        if watch.running.pid == 0 {
            watch.running = Running {
                pid: late.pid,
                number: late.id,
                request: late.request.clone(),
                ..Running::default()
            };
        }
        watch.late = Some(late.clone());
        watch.lost_s = Some(at_s);
        self.lost(&late.request, late.pid, &late.answer, now_s);
        // What is lost with a worker that was ended for something else tells nothing of the next one.
        if !matches!(late.by.as_str(), "kernel" | "nobody") {
            self.count_fate(&late.request, late.pid, now_s);
        }
        self.act_on_request(key, now_s);
    }

    /// A request was lost, whoever has answered it.
    pub(crate) fn lost(&mut self, request: &Request, pid: u32, answer: &str, now_s: f64) {
        self.detectors.lose();
        self.explain_orphan(request, pid, now_s);
        let request = self.facts.routed(request);
        self.count_lost(&request, pid);
        let (id, request) = (request.id.clone(), Box::new(request));
        self.sign(Sign::Lost { id, request, pid, answer: answer.to_owned() }, now_s);
    }

    /// A request was lost for what it was at: those that follow it may be, too.
    fn count_fate(&mut self, request: &Request, pid: u32, now_s: f64) {
        // What we have touched tells nothing of the others.
        let touched =
            self.watches.of_worker(pid).any(|watch| watch.running.request.id == request.id && watch.touched);
        let incident = self.desk.of_request(&request.id).and_then(|id| self.desk.incident(id));
        // A process that is stopped, a host without a processor: the next request may find another.
        let of_host = incident.is_some_and(|incident| incident.cause.family() == "host");
        if let Some(incident) = incident.map(|incident| incident.id.clone()).filter(|_| !touched && !of_host)
        {
            self.fates.lost(&incident, &self.facts.routed(request), now_s);
        }
    }

    /// A request that nobody has looked at is lost for the same reason as one like it, or as the one that has kept its worker
    /// longest.
    fn explain_orphan(&mut self, request: &Request, pid: u32, now_s: f64) {
        let is_known = |watch: &Watch| watch.running.request.id == request.id && watch.diagnosis.is_some();
        if self.watches.of_worker(pid).any(is_known) {
            return;
        }
        let (request, worker) = (self.facts.routed(request), self.facts.worker(pid));
        let Some(keeper) = self.watches.like(pid, &request) else { return };
        let Some(diagnosis) = keeper.diagnosis.clone() else { return };
        let (source, frames) = keeper.place();
        self.sign(Sign::Stuck(Box::new(Troubled { request, worker, diagnosis, source, frames })), now_s);
    }

    /// Requests that nobody has looked at were lost for what their worker has died of, if that is known. For want of memory, all
    /// were: the kernel ends who has most of it, whatever that is at.
    fn explain_orphans(&mut self, died: &Died, diagnosis: &Diagnosis, now_s: f64) {
        if diagnosis.cause == Cause::Unknown {
            return;
        }
        let pid = died.worker.pid;
        let mut orphans: BTreeMap<String, Request> =
            died.requests.iter().map(|request| (request.id.clone(), request.clone())).collect();
        for watch in self.watches.of_worker(pid).filter(|watch| watch.lost_s.is_some()) {
            orphans.insert(watch.running.request.id.clone(), watch.running.request.clone());
        }
        let with_it: Vec<&str> = match died.exit {
            Exit::OutOfMemory => died.requests.iter().map(|request| request.id.as_str()).collect(),
            _ => Vec::new(),
        };
        for watch in self.watches.of_worker(pid).filter(|watch| watch.diagnosis.is_some()) {
            let id = watch.running.request.id.as_str();
            if !with_it.contains(&id) {
                orphans.remove(id);
            }
        }
        for request in orphans.into_values() {
            let (request, worker) = (self.facts.routed(&request), self.facts.worker(pid));
            let diagnosis = diagnosis.clone();
            let troubled =
                Troubled { request, worker, diagnosis, source: Source::Kernel, frames: Vec::new() };
            self.sign(Sign::Stuck(Box::new(troubled)), now_s);
        }
    }

    /// A worker has died: what was looked at last tells most of it.
    pub(crate) fn died(&mut self, died: Died, now_s: f64) {
        let pid = died.worker.pid;
        self.detectors.die();
        let evidence: Vec<Evidence> =
            self.watches.of_worker(pid).filter_map(|watch| watch.looks.last().cloned()).collect();
        let answered: Vec<String> = self
            .watches
            .of_worker(pid)
            .filter(|watch| watch.lost_s.is_some())
            .map(|watch| watch.running.request.id.clone())
            .collect();
        for request in died.requests.iter().filter(|request| !answered.contains(&request.id)) {
            self.lost(request, pid, "lost with its worker", now_s);
            if died.exit == Exit::Timeout {
                self.count_fate(request, pid, now_s);
            }
        }
        if died.exit != Exit::Planned {
            let at = self.watches.keeper(pid).and_then(|watch| watch.diagnosis.as_ref());
            let diagnosis = explain::death(&died, at);
            self.explain_orphans(&died, &diagnosis, now_s);
            let text = format!("worker {pid} has died: {}", died.cause);
            let grave = self.facts.ready() == 0 && died.exit == Exit::OutOfMemory;
            let worker = Box::new(died.worker.clone());
            self.sign(Sign::Worker { worker, diagnosis: Box::new(diagnosis), text, grave }, now_s);
        }
        self.settle_all(now_s, |key, watch| (key.0 == pid && watch.late.is_some()).then_some(Outcome::Ended));
        self.act_on_orphans(pid, now_s);
        self.watches.forget(pid);
        self.forget(pid);
        self.outlet.record(Record::Death(Box::new(Death {
            schema: SCHEMA,
            at_s: now_s,
            server: self.server.clone(),
            worker: died.worker,
            cause: died.cause,
            requests: died.requests,
            evidence: evidence.into_iter().rev().take(1).collect(),
            incident: None,
        })));
    }

    /// Writes the records of late requests whose thread has come free, or has had time enough to. `alive` are the requests in
    /// flight, `ended` tells workers that are not there any more.
    pub(crate) fn settle(&mut self, alive: &[Key], now_s: f64, ended: impl Fn(u32) -> bool) {
        self.settle_all(now_s, |key, watch| {
            let after_s = (now_s - watch.late.as_ref().and(watch.lost_s)?).max(0.0);
            match alive.contains(key) {
                false if ended(key.0) => Some(Outcome::Ended),
                false => Some(Outcome::Freed { after_s }),
                true if after_s >= SETTLED_S => Some(Outcome::Stuck { after_s }),
                true => None,
            }
        });
        for id in self.watches.keep(alive, now_s) {
            if let Some(incident) = self.desk.of_request(&id).map(str::to_owned) {
                self.fates.survived(&incident);
            }
        }
    }

    pub(super) fn settle_all(&mut self, now_s: f64, outcome: impl Fn(&Key, &Watch) -> Option<Outcome>) {
        let mut records = Vec::new();
        for (key, watch) in self.watches.iter_mut().filter(|(_, watch)| !watch.written) {
            let Some(outcome) = outcome(key, watch) else { continue };
            watch.written = true;
            if let Some(late) = watch.late.take() {
                let at_s = watch.lost_s.unwrap_or(now_s);
                let worker = self.facts.worker(key.0);
                let mut record = watch.record(&late, outcome, worker, &self.server, at_s);
                record.incident = self.desk.of_request(&record.request.id).map(str::to_owned);
                records.push(Record::Timeout(Box::new(record)));
            }
        }
        records.into_iter().for_each(|record| self.outlet.record(record));
    }

    /// Returns lines for the log about a request that was lost.
    pub(crate) fn told_of(&self, late: &Late) -> Vec<String> {
        let Request { id, method, path, client, app_s, .. } = &late.request;
        let client = if client.is_empty() { String::new() } else { format!(" from {client}") };
        let (pid, answer, doing) = (late.pid, &late.answer, &late.doing);
        // Of others it says of what their worker has died.
        let (by, doing) = match late.by.as_str() {
            "guardian" => (" by the guardian of its worker", format!("its thread is {doing}")),
            _ => ("", doing.clone()),
        };
        let mut lines = vec![
            format!(
                "  {method} {path} (request {id}){client}, {app_s:.1} s in the application: {answer}{by} (pid:{pid})"
            ),
            format!("  request {id}: {doing}"),
        ];
        let last = self.watches.get((pid, late.id)).and_then(|watch| watch.looks.last());
        let thread =
            last.and_then(|last| last.threads.iter().find(|thread| thread.request.as_ref() == Some(id)));
        let frames = thread.map(|thread| told(&thread.frames, "", |_| None)).unwrap_or_default();
        lines.extend(frames.iter().take(LINES_MAX).map(|line| format!("  request {id}: {line}")));
        lines
    }
}
