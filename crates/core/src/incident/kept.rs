//! One trouble as the desk keeps it: what weighs, what is shown, and its course. Not for: which signs belong to which trouble
//! (`desk`).

use super::desk::Troubled;
use super::{Acted, Incident, Moment, State, Trigger};
use crate::change::{Contrast, Explained, Shift};
use crate::diagnosis::{Candidate, Cause, Diagnosis, SURE};
use crate::record::Request;
use std::collections::BTreeMap;

/// Most routes that an incident lists.
const ROUTES_MAX: usize = 32;
/// Most moments of its course.
/// Other hosts that are named.
const HOSTS_MAX: usize = 64;
const MOMENTS_MAX: usize = 64;

/// So many actions are no accident any more: people have to hear of it, though little is lost.
const HELPED: usize = 3;
/// Most actions that are told of one incident.
const ACTIONS_MAX: usize = 32;

/// A trouble.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) incident: Incident,
    /// Seconds in trouble per cause, times how sure that was.
    pub(super) scores: BTreeMap<Cause, f64>,
    /// How much the request that is shown tells.
    pub(super) told: f64,
    pub(super) routes: BTreeMap<String, u64>,
    pub(super) ends: u64,
    pub(super) dirty: bool,
    pub(super) tell: bool,
}

impl Kept {
    /// It was too little for anybody to be told.
    pub(super) fn close_note(&mut self, now: f64) {
        self.incident.state = State::Closed;
        self.incident.closed_at = Some(now);
        self.dirty = true;
    }

    pub(super) fn weigh(&mut self, diagnosis: &Diagnosis, seconds: f64) {
        *self.scores.entry(diagnosis.cause).or_default() += seconds * diagnosis.confidence;
        for other in &diagnosis.runners_up {
            *self.scores.entry(other.cause).or_default() +=
                seconds * other.confidence * (1.0 - diagnosis.confidence);
        }
        self.dirty = true;
    }

    /// Shows a request's evidence if it tells more than what is shown.
    pub(super) fn show(&mut self, troubled: &Troubled) {
        let diagnosis = &troubled.diagnosis;
        let told = diagnosis.confidence + 0.01 * diagnosis.evidence.len() as f64;
        if told < self.told && self.incident.request.is_some() {
            return;
        }
        self.told = told;
        let changed = self.incident.cause != diagnosis.cause;
        let incident = &mut self.incident;
        incident.cause = diagnosis.cause;
        incident.confidence = diagnosis.confidence;
        incident.verdict.clone_from(&diagnosis.summary);
        incident.because.clone_from(&diagnosis.because);
        for also in &diagnosis.also {
            if !incident.also.contains(also) {
                incident.also.push(*also);
            }
        }
        if !troubled.request.id.is_empty() {
            incident.request = Some(troubled.request.clone());
        }
        incident.worker = Some(troubled.worker.clone());
        incident.source = troubled.source;
        incident.frames.clone_from(&troubled.frames);
        incident.evidence.clone_from(&diagnosis.evidence);
        incident.ruled_out.clone_from(&diagnosis.ruled_out);
        incident.not_visible.clone_from(&diagnosis.not_visible);
        incident.subject = diagnosis.subject.clone();
        incident.fixes = diagnosis.fixes.clone();
        self.tell |= changed && self.incident.state == State::Open;
        self.dirty = true;
    }

    /// Takes in a note that turned out to be the same.
    pub(super) fn take_in(&mut self, note: Self) {
        for (cause, score) in note.scores {
            *self.scores.entry(cause).or_default() += score;
        }
        for (route, count) in note.routes {
            *self.routes.entry(route).or_default() += count;
        }
        note.incident.workers.iter().for_each(|pid| self.worker(*pid));
        let incident = &mut self.incident;
        incident.requests_stuck += note.incident.requests_stuck;
        incident.requests_lost += note.incident.requests_lost;
        incident.noted_at = incident.noted_at.min(note.incident.noted_at);
        incident.timeline.extend(note.incident.timeline);
        incident.timeline.sort_by(|one, other| one.at.total_cmp(&other.at));
        while incident.timeline.len() > MOMENTS_MAX {
            incident.timeline.remove(MOMENTS_MAX / 2);
        }
        self.dirty = true;
    }

    pub(super) fn seen(&mut self, now: f64) {
        self.incident.last_at = now;
        if self.incident.state == State::Mitigated {
            self.turn(State::Open, now, "it is back");
            self.incident.mitigated_at = None;
        }
        self.dirty = true;
    }

    /// Its cause is known from the first moment on at which it is sure.
    pub(super) fn known(&mut self, confidence: f64, now: f64) {
        if confidence >= SURE {
            self.incident.diagnosed_at.get_or_insert(now);
        }
    }

    pub(super) fn worker(&mut self, pid: u32) {
        if pid > 0 && !self.incident.workers.contains(&pid) && self.incident.workers.len() < ROUTES_MAX {
            self.incident.workers.push(pid);
        }
    }

    pub(super) fn open(&mut self, trigger: Trigger, text: &str, now: f64) {
        if self.incident.state == State::Note {
            self.incident.trigger = Some(trigger);
            self.incident.opened_at = Some(now);
            self.turn(State::Open, now, &format!("incident opened: {text}"));
        }
    }

    pub(super) fn turn(&mut self, state: State, now: f64, text: &str) {
        self.incident.state = state;
        match state {
            State::Mitigated => self.incident.mitigated_at = Some(now),
            State::Closed => self.incident.closed_at = Some(now),
            _ => {}
        }
        self.note(now, text.to_owned());
        self.dirty = true;
        self.tell = true;
    }

    /// Something was done about it. What is said again of the same action takes the place of what was said before.
    pub(super) fn act(&mut self, acted: Acted) {
        let actions = &mut self.incident.actions;
        let same = |other: &Acted| match acted.number {
            0 => {
                other.number == 0
                    && (&other.action, &other.rule, &other.target)
                        == (&acted.action, &acted.rule, &acted.target)
            }
            number => other.number == number,
        };
        let is_new = match actions.iter_mut().find(|other| same(other)) {
            Some(known) => std::mem::replace(known, acted.clone()).outcome != acted.outcome,
            None => {
                if actions.len() >= ACTIONS_MAX {
                    actions.remove(0);
                }
                actions.push(acted.clone());
                true
            }
        };
        let helped = self.incident.actions.iter().filter(|other| other.number > 0).count();
        if is_new && helped >= HELPED && self.incident.state == State::Note {
            let text = format!("{helped} times something had to be done, else more would have been lost");
            self.open(Trigger::Losses, &text, acted.at);
        }
        if is_new && acted.number > 0 {
            let Acted { at, action, target, outcome, text, .. } = acted;
            self.note(at, format!("{action} ({target}) {}: {text}", outcome.name()));
        }
        self.dirty |= is_new;
    }

    /// Adds a moment; of too many, those in the middle are given up.
    pub(super) fn note(&mut self, at: f64, text: String) {
        let timeline = &mut self.incident.timeline;
        if timeline.len() >= MOMENTS_MAX {
            timeline.remove(MOMENTS_MAX / 2);
        }
        timeline.push(Moment { at, text });
    }

    /// Takes what changes have to do with it. It is told anew if another change is blamed.
    pub(super) fn explain(
        &mut self,
        change: Explained,
        contrast: Vec<Contrast>,
        shifts: Vec<Shift>,
        moments: Vec<Moment>,
    ) {
        let incident = &mut self.incident;
        let before = incident.blame();
        let is_same = incident.change.as_ref() == Some(&change);
        if !is_same || incident.contrast != contrast || incident.shifts != shifts {
            (incident.change, incident.contrast, incident.shifts) = (Some(change), contrast, shifts);
            self.dirty = true;
        }
        let blame = self.incident.blame();
        if blame.is_some() && blame != before {
            self.tell |= self.incident.state == State::Open;
        }
        for moment in moments {
            let timeline = &mut self.incident.timeline;
            if !timeline.contains(&moment) && timeline.len() < MOMENTS_MAX {
                let at = timeline.partition_point(|known| known.at <= moment.at);
                timeline.insert(at, moment);
                self.dirty = true;
            }
        }
    }

    /// Takes in who else has it. Who has had it once is not forgotten.
    pub(super) fn join(&mut self, hosts: &[String], now: f64) {
        let new: Vec<String> =
            hosts.iter().filter(|host| !self.incident.hosts.contains(host)).cloned().collect();
        if new.is_empty() || self.incident.hosts.len() >= HOSTS_MAX {
            return;
        }
        self.note(now, format!("the same on {}", new.join(", ")));
        self.incident.hosts.extend(new);
        self.dirty = true;
    }

    /// Computes what follows from the rest.
    pub(super) fn settle(&mut self) {
        let mut routes: Vec<(String, u64)> =
            self.routes.iter().map(|(route, count)| (route.clone(), *count)).collect();
        routes.sort_by_key(|(route, count)| (std::cmp::Reverse(*count), route.clone()));
        routes.truncate(ROUTES_MAX);
        let incident = &mut self.incident;
        incident.route = routes.first().map(|(route, _)| route.clone()).unwrap_or_default();
        incident.routes = routes;
        let whole: f64 = self.scores.values().sum();
        let share = |(cause, score): (&Cause, &f64)| Candidate {
            cause: *cause,
            confidence: score / whole.max(f64::MIN_POSITIVE),
        };
        let mut causes: Vec<Candidate> = self.scores.iter().map(share).collect();
        causes.sort_by(|one, other| other.confidence.total_cmp(&one.confidence));
        incident.causes = causes;
        incident.impact = impact(incident);
    }
}

/// What it has cost so far, in sentences.
fn impact(incident: &Incident) -> Vec<String> {
    let mut lines = Vec::new();
    let lasted_s = (incident.last_at - incident.noted_at).max(0.0);
    let count =
        |number: u64, one: &str| if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") };
    if incident.requests_lost > 0 || incident.requests_stuck > 0 {
        lines.push(format!(
            "{} lost, {} seen stuck, within {lasted_s:.0} s",
            count(incident.requests_lost, "request"),
            count(incident.requests_stuck, "request")
        ));
    }
    if incident.routes.len() > 1 {
        let named: Vec<String> =
            incident.routes.iter().take(4).map(|(route, count)| format!("{route} ({count})")).collect();
        lines.push(format!("routes: {}", named.join(", ")));
    }
    if !incident.workers.is_empty() {
        lines.push(count(incident.workers.len() as u64, "worker") + " hit");
    }
    lines
}

pub(super) fn route_of(request: &Request) -> String {
    let route = request.route.as_deref().unwrap_or(&request.path);
    format!("{} {route}", request.method).trim().to_owned()
}
