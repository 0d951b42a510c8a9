//! Whether a change explains an incident: counts requests by what their worker is made of, follows what may shift, and asks
//! `core::change` for each incident that is open. Not for: the answer, and not for noticing changes (`changing`).

use super::Engine;
use ferricorn_core::change::{
    Attribute, Change, Metric, Question, Seen, Shift, Shifts, Tally, Which, correlate,
};
use ferricorn_core::evidence::{Database, Overall};
use ferricorn_core::histogram::Distribution;
use ferricorn_core::incident::{Effect, Incident, Moment, State};
use ferricorn_core::latency::{Class, Key, Phases};
use ferricorn_core::record::Request;
use ferricorn_core::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Changes in so long a time before an incident stand in its course, seconds.
const COURSE_S: f64 = 3600.0;
/// For how long before its first sign requests of an incident are looked at for what they have in common, seconds.
const COMMON_S: f64 = 120.0;
/// What takes so many times as long as half of all requests is slow, where a route says nothing else.
const SLOW: f64 = 3.0;
/// Clients whose requests are remembered, good or bad.
const CLIENTS_MAX: usize = 1024;
/// Most bytes of what survives, as JSON; the store takes a little more.
const BYTES_MAX: usize = 900 << 10;
/// For how long, seconds.
const CLIENTS_S: f64 = 900.0;
/// Databases speak for themselves: no statistics of ours are needed. As many deviations as that.
const SURE: f64 = 99.0;
/// For how long their word holds, seconds.
const SAID_S: f64 = 300.0;

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Blaming {
    tally: Tally,
    shifts: Shifts,
    /// What each worker has answered since the last tick, where that is known.
    counted: Vec<(u32, String, Distribution)>,
    /// What databases have said of themselves as a whole, each its last word.
    said: Vec<(f64, Shift)>,
    /// When, from where, and whether that was a bad one.
    clients: VecDeque<(f64, String, bool)>,
    ticked_s: f64,
    /// Incidents that were explained once.
    explained: BTreeSet<String>,
}

impl Blaming {
    /// Begins to count.
    pub(super) fn begin(now_s: f64) -> Self {
        let mut blaming = Self { ticked_s: now_s, ..Self::default() };
        blaming.tally.turn(now_s);
        blaming
    }

    /// Returns what has to survive: a reload ends the observer. None if it is too much to be kept.
    pub(super) fn keep(&self) -> Option<serde_json::Value> {
        let kept = serde_json::json!({"tally": self.tally.kept(), "shifts": self.shifts});
        (kept.to_string().len() <= BYTES_MAX).then_some(kept)
    }

    /// Takes up what was kept; what cannot be read begins anew.
    pub(super) fn resume(&mut self, kept: serde_json::Value, now_s: f64) {
        let part = |name: &str| kept.get(name).cloned().unwrap_or_default();
        self.tally = serde_json::from_value(part("tally")).unwrap_or_default();
        self.shifts = serde_json::from_value(part("shifts")).unwrap_or_default();
        self.tally.turn(now_s);
    }

    /// Takes what databases have said of themselves.
    pub(super) fn hear(&mut self, found: &[Database], at_s: f64) {
        for database in found {
            let name = &database.name;
            self.said.retain(|(_, shift)| shift.name != *name);
            if let Some(overall) = database.overall.filter(Overall::is_slower) {
                // The minute in which it began is not told apart.
                let since = at_s - 60.0 * f64::from(overall.minutes.saturating_sub(1));
                let shift = Shift {
                    name: name.clone(),
                    metric: Metric::Ratio,
                    dependency: true,
                    before: 1.0,
                    now: overall.ratio,
                    score: SURE,
                    since,
                    text: format!("the database {name} as a whole is slower: {overall}"),
                };
                self.said.push((at_s, shift));
            }
            let locks = database.activity.iter().filter(|activity| activity.wait.starts_with("Lock/"));
            let waiting: u32 = locks.map(|activity| activity.sessions).sum();
            self.shifts.take(
                &format!("sessions of {name} that wait for locks"),
                Metric::Count,
                true,
                at_s,
                f64::from(waiting),
            );
            if database.connections_max > 0 {
                let share = f64::from(database.connections) / f64::from(database.connections_max);
                self.shifts.take(&format!("connections of {name}"), Metric::Share, true, at_s, share);
            }
        }
    }

    fn client(&mut self, request: &Request, is_bad: bool, now_s: f64) {
        let address = request.client.rsplit_once(':').map_or(request.client.as_str(), |(address, _)| address);
        if address.is_empty() {
            return;
        }
        while self.clients.len() >= CLIENTS_MAX
            || self.clients.front().is_some_and(|(at_s, ..)| now_s - at_s > CLIENTS_S)
        {
            self.clients.pop_front();
        }
        self.clients.push_back((now_s, address.to_owned(), is_bad));
    }
}

impl Engine<'_> {
    /// Takes what each worker has answered since the last tick, by route; nothing where nobody knows.
    pub(crate) fn counted(&mut self, counted: Vec<(u32, String, Distribution)>) {
        self.blaming.counted = counted;
    }

    /// Counts a request that was lost.
    pub(super) fn count_lost(&mut self, request: &Request, pid: u32) {
        let route = request.route.as_deref().unwrap_or(&request.path);
        let route = format!("{} {route}", request.method);
        let id = self.changing.as_ref().map_or("", |changing| changing.chronicle.id_of(pid));
        self.blaming.tally.lose(id, &route);
        let now_s = self.blaming.ticked_s;
        self.blaming.client(request, true, now_s);
    }

    /// Remembers a request that was seen hanging for the first time, before it has ended.
    pub(super) fn count_hung(&mut self, request: &Request, pid: u32, now_s: f64) {
        let route = request.route.as_deref().unwrap_or(&request.path);
        let id = self.changing.as_ref().map_or("", |changing| changing.chronicle.id_of(pid));
        self.blaming.tally.hang(id, &format!("{} {route}", request.method), now_s - request.app_s);
    }

    /// Every ten seconds: counts what has been answered, and takes the numbers that may shift.
    pub(super) fn measure(&mut self, gains: &[(Key, Phases)], snapshot: &Snapshot, now_s: f64) {
        let chronicle = self.changing.as_ref().map(|changing| &changing.chronicle);
        let blaming = &mut self.blaming;
        let counted = std::mem::take(&mut blaming.counted);
        for (pid, route, answered) in &counted {
            let id = chronicle.map_or("", |chronicle| chronicle.id_of(*pid));
            blaming.tally.add(id, route, answered);
        }
        let answered = || gains.iter().filter(|(key, _)| key.class != Class::Lost);
        if counted.is_empty() {
            // Of all workers together: whose they are is known where all are made of the same.
            let id = chronicle.map_or("", |chronicle| chronicle.id_of_all());
            for (key, phases) in answered() {
                blaming.tally.add(id, &format!("{} {}", key.method, key.route), &phases.app);
            }
        }
        blaming.tally.turn(now_s);
        let lasted_s = (now_s - blaming.ticked_s).max(1.0);
        blaming.ticked_s = now_s;
        let requests: u64 = answered().map(|(_, phases)| phases.count()).sum();
        let mut queue = Distribution::default();
        answered().for_each(|(_, phases)| queue.merge(&phases.queue));
        let queue_ms = queue.sum_us as f64 / queue.count.max(1) as f64 / 1e3;
        blaming.shifts.take("requests", Metric::Rate, false, now_s, requests as f64 / lasted_s);
        if !snapshot.estimated {
            blaming.shifts.take("wait for a thread", Metric::Milliseconds, false, now_s, queue_ms);
        }
        if let Some(busy) = self.facts.host_cpu() {
            blaming.shifts.take("processors of the host in use", Metric::Share, true, now_s, busy);
        }
        for running in &snapshot.requests {
            blaming.client(&running.request, super::is_stuck(running), now_s);
        }
    }

    /// Looks at all incidents that are open.
    pub(super) fn blame(&mut self, now_s: f64) {
        let open =
            self.desk.incidents().into_iter().filter(|incident| incident.state == State::Open).cloned();
        let open: Vec<Incident> = open.collect();
        self.blaming.explained.retain(|id| open.iter().any(|incident| incident.id == *id));
        for incident in open {
            let effects = self.explain_change(&incident, now_s);
            self.carry_out(effects, now_s);
        }
    }

    /// An incident that is told for the first time is explained before.
    pub(super) fn with_blame(&mut self, effect: Effect, now_s: f64) -> Effect {
        let Effect::Tell(incident) = effect else { return effect };
        if incident.state != State::Open || self.blaming.explained.contains(&incident.id) {
            return Effect::Tell(incident);
        }
        let effects = self.explain_change(&incident, now_s);
        let mut told = incident;
        for effect in effects {
            match effect {
                Effect::Save(other) if other.id == told.id => {
                    self.outlet.save(&other, now_s);
                    told = other;
                }
                // It is about to be told.
                Effect::Tell(other) if other.id == told.id => told = other,
                Effect::Save(other) => self.outlet.save(&other, now_s),
                Effect::Tell(other) => self.outlet.tell(&other, now_s),
                Effect::Drop(id) => self.outlet.forget(&id, now_s),
            }
        }
        Effect::Tell(told)
    }

    fn explain_change(&mut self, incident: &Incident, now_s: f64) -> Vec<Effect> {
        let Some(changing) = &self.changing else { return Vec::new() };
        self.blaming.explained.insert(incident.id.clone());
        let chronicle = &changing.chronicle;
        let changes: Vec<Change> = chronicle.recent().iter().cloned().collect();
        let mut stuck: BTreeMap<String, u64> = BTreeMap::new();
        for running in self.watches.hanging() {
            let request = self.facts.with_route(running).request;
            let route = format!("{} {}", request.method, request.route.as_deref().unwrap_or(&request.path));
            if incident.routes.iter().any(|(known, _)| *known == route) {
                *stuck.entry(chronicle.id_of(running.pid).to_owned()).or_default() += 1;
            }
        }
        let stuck: Vec<(String, u64)> = stuck.into_iter().collect();
        let is_of_now = |(at_s, _): &&(f64, Shift)| now_s - at_s < SAID_S;
        let said = self.blaming.said.iter().filter(is_of_now).map(|(_, shift)| shift.clone());
        let shifts: Vec<Shift> = said.chain(self.blaming.shifts.shifted(incident.noted_at)).collect();
        let question = Question {
            incident,
            changes: &changes,
            known_since: chronicle.since(),
            tally: &self.blaming.tally,
            stuck: &stuck,
            shifts: &shifts,
            now: now_s,
        };
        let explained = correlate(&question);
        let contrasts = self.in_common(incident, now_s).contrasts();
        let is_near = |change: &&Change| (incident.noted_at - COURSE_S..=now_s).contains(&change.at);
        let moment = |change: &Change| Moment { at: change.at, text: format!("change: {}", change.name) };
        let moments: Vec<Moment> = changes.iter().filter(is_near).map(moment).collect();
        self.desk.explain(&incident.id, explained, contrasts, shifts, moments)
    }

    /// Counts the bad and the good requests of an incident's time by what they may have in common.
    fn in_common(&self, incident: &Incident, now_s: f64) -> Seen {
        let tally = &self.blaming.tally;
        let mut seen = Seen::default();
        let all = Which { from: incident.noted_at - COMMON_S, to: now_s, ..Which::default() };
        let stuck_us = incident.request.as_ref().map_or(0.0, |request| request.app_s * 1e6 / 4.0) as u64;
        let slow_us =
            tally.quantile_us(&all, 0.5).map_or(stuck_us, |us| ((us as f64 * SLOW) as u64).max(stuck_us));
        for route in tally.routes() {
            let routes = std::slice::from_ref(route);
            let counts = tally.counts(&Which { routes, ..all }, slow_us);
            let (bad, good) = (counts.bad, counts.all - counts.bad);
            seen.take(Attribute::Route, route, bad, good);
            seen.take(Attribute::Method, route.split(' ').next().unwrap_or_default(), bad, good);
        }
        for id in tally.versions() {
            let counts = tally.counts(&Which { version: Some(id), ..all }, slow_us);
            let version = self.changing.as_ref().map(|changing| changing.chronicle.version_of(id));
            seen.take(Attribute::Version, &version.unwrap_or_default(), counts.bad, counts.all - counts.bad);
        }
        for (at_s, client, is_bad) in &self.blaming.clients {
            if *at_s >= all.from {
                seen.take(Attribute::Client, client, u64::from(*is_bad), u64::from(!is_bad));
            }
        }
        seen
    }
}
