//! The first new workers of a reload, beside the old ones, on the same traffic at the same time. Not for: what is done about it.

use crate::engine::explain::Facts;
use ferricorn_core::change::{Counts, Verdict, judge};
use std::collections::BTreeMap;

/// What each worker had answered when new ones began to serve.
#[derive(Debug, Default)]
pub(super) struct Trial {
    generation: u32,
    before: BTreeMap<u32, Counts>,
}

impl Trial {
    /// Compares the new workers with the old ones since the first of them serves; nothing without both.
    pub(super) fn judge(&mut self, facts: &Facts) -> Option<(Verdict, String)> {
        if !facts.is_reloading() {
            self.before.clear();
            return None;
        }
        let answered = |worker: &ferricorn_core::snapshot::Worker| Counts {
            all: worker.requests,
            bad: worker.statuses[4],
        };
        if self.generation != facts.generation || self.before.is_empty() {
            self.generation = facts.generation;
            self.before = facts.workers().map(|worker| (worker.pid, answered(worker))).collect();
        }
        let (mut new, mut old) = (Counts::default(), Counts::default());
        for worker in facts.workers() {
            let before = self.before.get(&worker.pid).copied().unwrap_or_default();
            let now = answered(worker);
            let group = if worker.generation == facts.generation { &mut new } else { &mut old };
            group.all += now.all.saturating_sub(before.all);
            group.bad += now.bad.saturating_sub(before.bad);
        }
        let text = format!(
            "{} of {} requests have failed in the new workers, {} of {} in the old ones at the same time",
            new.bad, new.all, old.bad, old.all
        );
        let verdict = judge(new, old);
        (verdict != Verdict::None).then_some((verdict, text))
    }
}
