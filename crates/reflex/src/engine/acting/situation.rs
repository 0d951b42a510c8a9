//! What the policy is told of a request, an incident, and the server round them. Not for: what it makes of that.

use super::super::{Engine, Key};
use crate::kernel;
use ferricorn_core::evidence::Database;
use ferricorn_core::policy::{Facts, more_would_hurt};

/// Workers that are younger have only just been started, seconds.
const YOUNG_S: f64 = 120.0;

impl Engine<'_> {
    /// Returns what is known of a request and of the incident that it is part of.
    pub(super) fn request_facts(&self, key: Key, incident: &str) -> Option<Facts> {
        let watch = self.watches.get(key)?;
        let (request, diagnosis) = (&watch.running.request, watch.diagnosis.as_ref()?);
        let of_incident = self.incident_facts(incident)?;
        let last = watch.looks.last();
        let database = last.and_then(|look| look.databases.first());
        let connections = last.map(|look| look.database_sockets().count() as u32);
        Some(Facts {
            cause: diagnosis.cause,
            confidence: diagnosis.confidence,
            because: diagnosis.because.as_ref().map(|because| because.cause),
            also: diagnosis.also.clone(),
            route: self.facts.routed(request).route.clone().unwrap_or_else(|| request.path.clone()),
            method: request.method.clone(),
            age_s: Some(request.app_s),
            deadline_s: watch.running.help_by_s().or(request.deadline_s),
            db_connections: database.map(|database| database.connections),
            db_connections_max: database.map(|database| database.connections_max).filter(|most| *most > 0),
            worker_connections: connections,
            // Of two looks the second tells whether anything has changed.
            hopeless: watch.looks.len() > 1 && self.fates.all_lost(incident),
            ..of_incident
        })
    }

    /// Returns what is known of an incident.
    pub(super) fn incident_facts(&self, id: &str) -> Option<Facts> {
        let incident = self.desk.incident(id)?;
        let database = self.recent_database();
        Some(Facts {
            db_connections: database.map(|database| database.connections),
            db_connections_max: database.map(|database| database.connections_max).filter(|most| *most > 0),
            ..self.beside(Facts::of(incident))
        })
    }

    /// Adds what is known of the server alone.
    fn beside(&self, of_incident: Facts) -> Facts {
        let facts = &self.facts;
        let one = facts.pids().next();
        let memory = one.map(kernel::memory).unwrap_or_default();
        Facts {
            stock: facts.is_stock(),
            worker_class: facts.worker_class().to_owned(),
            workers: facts.ready() as u32,
            young_workers: facts.replaced_within(YOUNG_S) as u32,
            workers_configured: self.acting.workers_configured,
            threads: facts.threads,
            stuck_threads: facts.stuck,
            queued: facts.queued(),
            host_cpu: facts.host_cpu(),
            memory_available: one.and_then(|_| kernel::available(&memory)),
            worker_memory: memory.rss,
            reloading: facts.is_reloading(),
            hosts: self.hosts.with(&of_incident.evidence),
            cut_off: self.hosts.is_cut_off(),
            scarce: self.scarce(&of_incident.evidence),
            code_differs: self.changing.as_ref().is_some_and(|changing| changing.chronicle.code_differs()),
            ..of_incident
        }
    }

    /// Returns an incident that is open, other than this one, for which more workers would make it worse: its cause and its name.
    pub(in crate::engine) fn scarce(&self, but: &str) -> Option<String> {
        let found = self.desk.incidents().into_iter().find(|incident| {
            let because = incident.because.as_ref().map(|because| because.cause);
            incident.id != but && incident.is_open() && more_would_hurt(incident.cause, because)
        })?;
        Some(format!("{} (incident {})", found.cause, found.id))
    }

    pub(in crate::engine) fn recent_database(&self) -> Option<&Database> {
        let looks = self.watches.all().filter_map(|watch| watch.looks.last());
        looks.flat_map(|look| &look.databases).find(|database| database.connections_max > 0)
    }

    /// How things are, in a line for the audit.
    pub(super) fn situation_now(&self) -> String {
        let facts = &self.facts;
        format!(
            "{} workers serve, {} of {} threads are stuck, {} requests wait",
            facts.ready(),
            facts.stuck,
            facts.threads,
            facts.queued()
        )
    }
}
