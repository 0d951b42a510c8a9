//! Where the engine's words go: the store, exports, the log. Each may be missing, and none is waited for.
//! Not for: deciding what is said.

use crate::bus::Own;
use crate::export::{self, Exports, Shared};
use crate::store::{Act, Outgoing, Scribe, Store, StoreError};
use ferricorn_core::change::{Change as Deploy, Mark, Standing};
use ferricorn_core::incident::{Acted, Incident, Outcome, State};
use ferricorn_core::latency::{Key, Phases};
use ferricorn_core::life::Change;
use ferricorn_core::log::Level;
use ferricorn_core::record::{Record, Server};
use ferricorn_core::snapshot::Snapshot;
use ferricorn_settings::Settings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Incidents that are over and still published.
const OVER_MAX: usize = 32;

/// Writes a line to the log.
pub(crate) type Log<'a> = &'a dyn Fn(Level, &str);

/// Everything that an engine tells.
pub(crate) struct Outlet<'a> {
    server: Server,
    scribe: Option<Scribe>,
    folder: Option<&'a Path>,
    exports: Exports,
    shared: Arc<Shared>,
    log: Log<'a>,
    /// What routes have gained in this minute.
    minute: BTreeMap<Key, Phases>,
    /// Those that are over, the oldest first.
    over: Vec<Incident>,
    /// Who we are among other hosts; none if these are told nothing.
    own: Option<Own>,
}

impl<'a> Outlet<'a> {
    /// Opens the store in a folder, and begins to tell others. Without a folder nothing is kept.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub(crate) fn open(
        server: Server,
        folder: Option<&'a Path>,
        settings: &Settings,
        log: Log<'a>,
    ) -> io::Result<Self> {
        let shared = Shared::new()?;
        // Whoever has named a folder wants to know.
        let level = if settings.state_dir.is_some() { Level::Warning } else { Level::Info };
        let store = open_store(folder, level, log);
        let folder = folder.filter(|_| store.is_some());
        let config = export::Config::of(settings, folder, server.pid, &|name| env::var(name).ok());
        let exports = export::start(config, &shared);
        let scribe = store.map(|store| Scribe::new(store, server.clone()));
        Ok(Self {
            server,
            scribe,
            folder,
            exports,
            shared,
            log,
            minute: BTreeMap::new(),
            over: Vec::new(),
            own: None,
        })
    }

    /// Returns the folder in which things are kept, if they are.
    pub(crate) fn folder(&self) -> Option<&'a Path> {
        self.folder
    }

    /// Returns the place where things are published.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    fn write<T>(
        &mut self,
        now_s: f64,
        work: impl FnOnce(&Store, &Server) -> Result<T, StoreError>,
    ) -> Option<T> {
        let server = &self.server;
        self.scribe.as_mut()?.write(now_s, |store| work(store, server))
    }

    /// Returns the incidents that an earlier observer of this server has left open.
    pub(crate) fn unfinished(&mut self, now_s: f64) -> Vec<Incident> {
        let found = self.write(now_s, Store::unfinished).unwrap_or_default();
        self.exports.resume(&found);
        found
    }

    /// Returns what was kept under a name.
    pub(crate) fn remembered(&mut self, name: &str, now_s: f64) -> Option<serde_json::Value> {
        self.write(now_s, |store, server| store.remembered(server, name)).flatten()
    }

    /// Returns what other servers have kept under a name.
    pub(crate) fn remembered_by_others<T: DeserializeOwned>(
        &mut self,
        name: &str,
        now_s: f64,
    ) -> Vec<(Server, T)> {
        self.write(now_s, |store, server| store.remembered_by_others(server, name)).unwrap_or_default()
    }

    /// Keeps in the name of another server what it has to know.
    pub(crate) fn remember_for(&mut self, other: &Server, name: &str, value: &impl Serialize, now_s: f64) {
        self.write(now_s, |store, _| store.remember(other, name, now_s, value));
    }

    /// Returns the incidents that the observer of another server has left open.
    pub(crate) fn unfinished_of(&mut self, other: &Server, now_s: f64) -> Vec<Incident> {
        self.write(now_s, |store, _| store.unfinished(other)).unwrap_or_default()
    }

    /// Writes down what is done; its number, or none if it could not be written.
    pub(crate) fn audit(&mut self, act: &Act, now_s: f64) -> Option<u64> {
        self.write(now_s, |store, _| store.audit(act)).map(i64::unsigned_abs)
    }

    /// Writes down what is done together with what has to survive of it, which may depend on its number; that number, or none if it
    /// could not be written.
    pub(crate) fn audit_and_remember<T: Serialize>(
        &mut self,
        act: &Act,
        name: &str,
        now_s: f64,
        value: impl Fn(u64) -> T,
    ) -> Option<u64> {
        let value = |number: i64| value(number.unsigned_abs());
        let written =
            self.write(now_s, |store, server| store.audit_and_remember(act, server, name, now_s, value));
        written.map(i64::unsigned_abs)
    }

    /// Says that something was done.
    pub(crate) fn say_acted(&mut self, incident: &str, acted: &Acted, now_s: f64) {
        let Acted { number, action, target, outcome, text, .. } = acted;
        let level = match outcome {
            Outcome::Failed | Outcome::Worse => Level::Warning,
            _ => Level::Info,
        };
        let text =
            format!("Action {number}, {action} ({target}), {}: {text}; incident {incident}", outcome.name());
        (self.log)(level, &text);
        let matter = format!("{number}-{}", outcome.name());
        self.stream("action", &matter, &serde_json::json!({"incident": incident, "action": acted}), now_s);
    }

    /// Says that actions were turned on or off.
    pub(crate) fn say_switched(&self, on: bool) {
        let text =
            if on { "Actions are turned on" } else { "Actions are turned off: nothing is done by itself" };
        (self.log)(Level::Warning, text);
    }

    /// Returns a name for the next incident.
    pub(crate) fn next_id(&mut self, now_s: f64) -> Option<String> {
        self.write(now_s, |store, _| store.next_id(now_s))
    }

    /// Stores an incident as it is now.
    pub(crate) fn save(&mut self, incident: &Incident, now_s: f64) {
        self.write(now_s, |store, _| store.save(incident));
        if incident.state == State::Closed && incident.opened_at.is_some() {
            if self.over.len() >= OVER_MAX {
                self.over.remove(0);
            }
            self.over.push(incident.clone());
        }
    }

    /// Forgets what turned out to be none.
    pub(crate) fn forget(&mut self, id: &str, now_s: f64) {
        self.write(now_s, |store, _| store.forget_incident(id));
    }

    /// Tells people of an incident: receivers of notifications, and who reads the log.
    pub(crate) fn tell(&mut self, incident: &Incident, now_s: f64) {
        self.stream("incident", &incident.id, incident, now_s);
        self.exports.incident_changed(incident);
        let Incident { id, verdict, cause, confidence, .. } = incident;
        let blame = incident.blame().map_or(String::new(), |blame| format!("; {blame}"));
        let (level, text) = match incident.state {
            State::Open => (
                Level::Error,
                format!(
                    "Incident {id}: {verdict} ({cause}, {confidence:.2}{blame}); more: ferricornctl why {id}"
                ),
            ),
            State::Mitigated => (Level::Info, format!("Incident {id}: no sign of it any more ({cause})")),
            State::Closed => (Level::Info, format!("Incident {id}: over ({cause})")),
            State::Note => return,
        };
        (self.log)(level, &text);
    }

    /// Writes a line to the log.
    pub(crate) fn say(&self, level: Level, text: &str) {
        (self.log)(level, text);
    }

    /// Keeps a record.
    pub(crate) fn record(&mut self, record: Record) {
        if let Some(scribe) = &mut self.scribe {
            scribe.record(record);
        }
    }

    /// Keeps what has changed in the lives of workers.
    pub(crate) fn changes(&mut self, changes: &[Change], now_s: f64) {
        if !changes.is_empty() {
            self.write(now_s, |store, server| store.append_changes(server, changes));
        }
    }

    /// Returns what a service was made of.
    pub(crate) fn service<T: DeserializeOwned>(&mut self, service: &str, now_s: f64) -> Option<T> {
        self.write(now_s, |store, _| store.service(service)).flatten()
    }

    /// Returns the changes of a service since a moment, the newest first.
    pub(crate) fn deploys(&mut self, service: &str, since_s: f64, limit: usize, now_s: f64) -> Vec<Deploy> {
        self.write(now_s, |store, _| store.deploys(Some(service), since_s, limit)).unwrap_or_default()
    }

    /// Keeps a change of a service, in the place of one that was a part of it. False if it could not be written; without a store
    /// nothing is.
    pub(crate) fn keep_deploy(
        &mut self,
        service: &str,
        change: &Deploy,
        instead_of: Option<&Deploy>,
        now_s: f64,
    ) -> bool {
        let kept = self.write(now_s, |store, _| store.keep_deploy(service, change, instead_of)).is_some();
        self.stream("change", &format!("{}-{}", change.at, change.name), change, now_s);
        kept || self.scribe.is_none()
    }

    /// Keeps what a service is made of; false if it could not be written.
    pub(crate) fn keep_service(&mut self, service: &str, kept: &impl Serialize, now_s: f64) -> bool {
        self.write(now_s, |store, _| store.keep_service(service, now_s, kept)).is_some()
    }

    /// Shows others what has changed, and what the workers run.
    pub(crate) fn show_changes(&self, changes: Vec<Deploy>, standing: Arc<Standing>) {
        self.shared.show_changes(changes, standing);
    }

    /// Returns what others have marked.
    pub(crate) fn marks(&self) -> Vec<(Mark, oneshot::Sender<bool>)> {
        self.shared.marks()
    }

    /// Other hosts are told from now on, as this one.
    pub(crate) fn stream_as(&mut self, own: Own) {
        self.own = Some(own);
    }

    /// Puts something on its way to other hosts. What it is about and when makes it one.
    fn stream(&mut self, kind: &str, matter: &str, body: &impl Serialize, now_s: f64) {
        let Some(own) = self.own.clone() else { return };
        let (subject, at_us) = (own.subject(kind), (now_s * 1e6) as u64);
        let id = format!("{}/{kind}/{matter}/{at_us}", own.server());
        let Own { service, host, .. } = own;
        let body = serde_json::json!({
            "schema": ferricorn_core::hosts::SCHEMA, "kind": kind, "host": host, "service": service, "at": now_s, "body": body,
        });
        self.write(now_s, |store, _| store.send(&subject, matter, &id, &body.to_string()));
    }

    /// Returns what waits to go to other hosts.
    pub(crate) fn outgoing(&mut self, limit: usize, now_s: f64) -> Vec<Outgoing> {
        self.write(now_s, |store, _| store.outgoing(limit)).unwrap_or_default()
    }

    /// These have arrived there.
    pub(crate) fn arrived(&mut self, numbers: &[i64], now_s: f64) {
        if !numbers.is_empty() {
            self.write(now_s, |store, _| store.arrived(numbers));
        }
    }

    /// Adds up what routes have gained.
    pub(crate) fn gained(&mut self, gains: &[(Key, Phases)]) {
        for (key, phases) in gains {
            self.minute.entry(key.clone()).or_default().merge(phases);
        }
    }

    /// Keeps the minute that is over.
    pub(crate) fn minute(&mut self, now_s: f64) {
        let gained: Vec<(Key, Phases)> = std::mem::take(&mut self.minute).into_iter().collect();
        if !gained.is_empty() {
            self.write(now_s, |store, server| store.add_minute(server, (now_s / 60.0) as u64, &gained));
        }
    }

    /// Keeps what has to survive a restart, under a name.
    pub(crate) fn remember(&mut self, name: &str, value: &impl Serialize, now_s: f64) {
        self.write(now_s, |store, server| store.remember(server, name, now_s, value));
    }

    /// Shows others what there is now.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>, incidents: &[&Incident]) {
        let shown = incidents.iter().copied().chain(self.over.iter().rev());
        self.shared.publish(snapshot, shown.cloned().collect());
    }

    /// Writes down what has come, and says what there is to say.
    pub(crate) fn tick(&mut self, now_s: f64) {
        self.shared.tick();
        if let Some((level, text)) = self.scribe.as_mut().and_then(|scribe| scribe.tick(now_s)) {
            (self.log)(level, &text);
        }
        for (level, text) in self.shared.lines() {
            (self.log)(level, &text);
        }
    }

    /// Writes down what is left.
    pub(crate) fn end(&mut self, now_s: f64) {
        if let Some((level, text)) = self.scribe.as_mut().and_then(|scribe| scribe.end(now_s)) {
            (self.log)(level, &text);
        }
    }
}

fn open_store(folder: Option<&Path>, level: Level, log: Log<'_>) -> Option<Store> {
    let Some(folder) = folder else {
        log(level, "Records of timeouts are not kept: this user has no home. Set --state-dir");
        return None;
    };
    let why = |error: &StoreError| {
        let folder = folder.display();
        let text =
            format!("Records of timeouts are not kept: {folder} cannot be used: {error}. Set --state-dir");
        log(level, &text);
    };
    Store::create(folder).inspect_err(why).ok()
}
