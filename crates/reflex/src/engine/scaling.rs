//! How many workers there are: looks at the load once a second, has [`ferricorn_core::scale`] decide, tells the arbiter. Each change has a
//! row in the audit; what was decided lately, and why, is kept for `ferricornctl why scale`.
//!
//! Not for: deciding.

use super::Engine;
use crate::act::{Deed, Done};
use crate::kernel;
use crate::store::{Act, SCALE, Scaled};
use ferricorn_core::log::Level;
use ferricorn_core::scale::{Decision, Limits, Load, Wish};
use std::collections::BTreeMap;

/// Decisions to change something that are kept.
const CHANGES_MAX: usize = 64;
/// How often what was decided is written down while nothing changes, seconds.
const KEEP_S: f64 = 10.0;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    limits: Option<Limits>,
    kept: Scaled,
    kept_s: f64,
    /// By worker whose requests share a thread: when, and how much its main thread had computed.
    computed: BTreeMap<u32, (f64, f64)>,
}

impl Scaling {
    /// Returns one between two numbers; none changes nothing.
    pub(super) fn between(limits: Option<(u32, u32)>) -> Self {
        let limits = limits.map(|(min, max)| Limits { min, max });
        Self { limits, ..Self::default() }
    }
}

impl Engine<'_> {
    /// Scales between two numbers of workers, if that is wanted.
    pub(crate) fn scales_between(mut self, limits: Option<(u32, u32)>, now_s: f64) -> Self {
        self.scaling = Scaling::between(limits);
        if limits.is_some()
            && let Some(kept) = self.outlet.remembered(SCALE, now_s)
        {
            self.scaling.kept = serde_json::from_value(kept).unwrap_or_default();
        }
        self
    }

    /// Every second.
    pub(super) fn second_scaling(&mut self, wanted: u32, now_s: f64) {
        let Some(limits) = self.scaling.limits else { return };
        let load = self.load(wanted, now_s);
        let decision = match self.acting.is_off() {
            true => {
                let why = "actions are turned off: `ferricornctl on` turns them on".to_owned();
                Decision { at: now_s, wish: Wish::Stay, workers: wanted, why }
            }
            false => self.scaling.kept.scale.on(limits, &load, now_s),
        };
        let deed = match decision.wish {
            Wish::Add(count) => Some(Deed::Add(count)),
            Wish::Remove => Some(Deed::Remove(1)),
            Wish::Stay => None,
        };
        if let Some(deed) = deed {
            self.scale_by(&deed, &decision, now_s);
            let changes = &mut self.scaling.kept.changes;
            if changes.len() >= CHANGES_MAX {
                changes.remove(0);
            }
            changes.push(decision.clone());
        }
        let changed = decision.wish != Wish::Stay;
        self.scaling.kept.last = Some(decision);
        if changed || !(0.0..KEEP_S).contains(&(now_s - self.scaling.kept_s)) {
            self.scaling.kept_s = now_s;
            self.outlet.remember(SCALE, &self.scaling.kept, now_s);
        }
    }

    fn scale_by(&mut self, deed: &Deed, decision: &Decision, now_s: f64) {
        let done = self.acting.tell_arbiter(deed);
        let (level, how) = match &done {
            Done::Yes(text) | Done::Over(text) => (Level::Info, text),
            Done::Failed(text) => (Level::Warning, text),
        };
        let text =
            format!("Scaling from {} workers, {}: {}; {how}", decision.workers, deed.target(), decision.why);
        self.outlet.say(level, &text);
        let act = Act {
            at_us: (now_s * 1e6) as i64,
            who: "observer".to_owned(),
            what: format!("scale: {}", deed.target()),
            why: decision.why.clone(),
            before: format!("{} workers", decision.workers),
            after: how.clone(),
        };
        self.outlet.audit(&act, now_s);
    }

    fn load(&mut self, wanted: u32, now_s: f64) -> Load {
        let facts = &self.facts;
        let ready = facts.ready() as u32;
        let (threads, busy) = match facts.is_nested() {
            false => (facts.threads, facts.busy()),
            true => self.computed(now_s),
        };
        let facts = &self.facts;
        let one = facts.pids().next();
        let memory = one.map(kernel::memory).unwrap_or_default();
        let database = self.recent_database();
        let sockets = self.watches.all().filter_map(|watch| watch.looks.last()).next();
        let of_one = sockets.map_or(1, |look| look.database_sockets().count() as u32);
        Load {
            wanted,
            ready,
            threads,
            busy,
            queued: facts.queued(),
            host_cpu: facts.host_cpu(),
            memory_available: one.and_then(|_| kernel::available(&memory)),
            worker_memory: memory.rss,
            connections: database.map(|database| (database.connections, of_one, database.connections_max)),
            forbidden: self.scarce(""),
        }
    }

    /// Where requests share a thread, what counts is how much of a processor it takes: in hundredths, of as many as there are workers.
    fn computed(&mut self, now_s: f64) -> (u32, u32) {
        let pids: Vec<u32> = self.facts.pids().collect();
        let computed = &mut self.scaling.computed;
        computed.retain(|pid, _| pids.contains(pid));
        let mut busy = 0.0;
        for pid in &pids {
            let cpu_s = kernel::thread(*pid, *pid).cpu_s;
            if let Some((at_s, before_s)) = computed.insert(*pid, (now_s, cpu_s)) {
                busy += ((cpu_s - before_s) / (now_s - at_s).max(0.1)).clamp(0.0, 1.0) * 100.0;
            }
        }
        (pids.len() as u32 * 100, busy as u32)
    }
}
