//! What was done, and what may be done still: budgets, rests, whether it has helped, lock-outs, the switch. Survives the observer.
//! Not for: what forbids an action by itself ([`super::guard`]).

use super::{Facts, Kind, Limits, Proposal};
use crate::hosts::CUT_OFF;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// After so long it is found out whether an action has helped, seconds.
pub(super) const VERIFY_S: f64 = 60.0;
/// Actions that are remembered, and for how long: longer than any budget's time.
const KEPT_MAX: usize = 4096;
const KEPT_S: f64 = 86_400.0;
/// A rest is doubled so often at most.
const DOUBLED_MAX: u32 = 6;
/// After so many that made it worse a person has to allow it again.
const WORSE_MAX: u32 = 2;
/// Workers that were ended within this time count as ended at once, seconds.
const AT_ONCE_S: f64 = 60.0;

/// Whether an action has helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It has.
    Better,
    /// It has changed nothing.
    Same,
    /// It has made it worse.
    Worse,
}

/// What is done once that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterThat {
    /// Nothing.
    Keep,
    /// It is taken back.
    Undo,
}

/// An action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    number: u64,
    at_s: f64,
    kind: Kind,
    count: u32,
    rest_s: f64,
    revert_s: Option<f64>,
    outcome: Option<Outcome>,
    /// It was not possible, or was taken back: it counts against budgets all the same.
    void: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    entries: VecDeque<Entry>,
    /// How often in a row it did not help, by kind.
    vain: BTreeMap<Kind, u32>,
    worse: BTreeMap<Kind, u32>,
    /// Until a person allows them again.
    disabled: BTreeSet<Kind>,
    locked_until_s: Option<f64>,
    /// Somebody has turned it off.
    off: bool,
}

impl Ledger {
    /// Returns how many workers there are that were added.
    pub fn extra(&self) -> u32 {
        self.entries.iter().filter(|entry| !entry.void).fold(0, |extra: u32, entry| match entry.kind {
            Kind::AddWorkers => extra + entry.count,
            Kind::RemoveWorkers => extra.saturating_sub(entry.count),
            _ => extra,
        })
    }

    /// Turns everything off: from now on nothing is done.
    pub fn off(&mut self) {
        self.off = true;
    }

    /// Turns it on again. It is a person's word: what was locked or disabled is not any more.
    pub fn on(&mut self) {
        *self = Self { entries: std::mem::take(&mut self.entries), ..Self::default() };
    }

    /// Tells whether it is off.
    pub fn is_off(&self) -> bool {
        self.off
    }

    /// Says why nothing is done at all, if so.
    pub fn locked_out(&self, now_s: f64) -> Option<String> {
        if self.off {
            return Some("actions are turned off: `ferricornctl on` turns them on".to_owned());
        }
        let left_s = self.locked_until_s? - now_s;
        (left_s > 0.0).then(|| {
            format!("the last actions have not helped: nothing is done for {left_s:.0} s, or until `ferricornctl on`")
        })
    }

    /// Says what stands against an action for what was done before.
    pub(super) fn against(&self, kind: Kind, limits: &Limits, facts: &Facts, now_s: f64) -> Option<String> {
        let workers = facts.workers;
        // Others may do the same at the same time, and none knows of the other.
        let least = |budget: super::Budget| match facts.cut_off {
            true => super::Budget { count: budget.count / CUT_OFF, ..budget },
            false => budget,
        };
        let alone = if facts.cut_off { ", while other hosts cannot be reached" } else { "" };
        if let Some(why) = self.locked_out(now_s) {
            return Some(why);
        }
        if self.disabled.contains(&kind) {
            return Some(format!(
                "{kind} has made it worse {WORSE_MAX} times: `ferricornctl on` allows it again"
            ));
        }
        let of_kind = || self.entries.iter().filter(|entry| entry.kind == kind);
        if let Some(last) = of_kind().next_back() {
            let doubled = self.vain.get(&kind).copied().unwrap_or(0).min(DOUBLED_MAX);
            let left_s = last.at_s + last.rest_s * f64::from(1_u32 << doubled) - now_s;
            if left_s > 0.0 {
                return Some(format!("{kind} rests for {left_s:.0} s more"));
            }
        }
        let within = |entry: &&Entry, window_s: f64| now_s - entry.at_s < window_s;
        let budget = least(limits.budget(kind));
        if of_kind().filter(|entry| within(entry, budget.window_s)).count() >= budget.count as usize {
            return Some(format!(
                "{kind} was done {} times in {:.0} s: that is its budget{alone}",
                budget.count, budget.window_s
            ));
        }
        let total = least(limits.total);
        let invasive = self.entries.iter().filter(|entry| !entry.kind.is_about_a_request());
        if !kind.is_about_a_request()
            && invasive.filter(|entry| within(entry, total.window_s)).count() >= total.count as usize
        {
            return Some(format!(
                "{} actions were done in {:.0} s: that is the budget of all{alone}",
                total.count, total.window_s
            ));
        }
        let at_once = (f64::from(workers) * limits.blast_radius).floor().max(1.0) as usize;
        let ended = of_kind().filter(|entry| within(entry, AT_ONCE_S)).count();
        (kind == Kind::KillWorker && ended >= at_once)
            .then(|| format!("{ended} of {workers} workers were ended within a minute: no more at once"))
    }

    /// An action begins; `number` is its own.
    pub fn done(&mut self, number: u64, proposal: &Proposal, now_s: f64) {
        while self.entries.len() >= KEPT_MAX
            || self.entries.front().is_some_and(|entry| now_s - entry.at_s > KEPT_S)
        {
            self.entries.pop_front();
        }
        let step = proposal.step;
        self.entries.push_back(Entry {
            number,
            at_s: now_s,
            kind: step.kind,
            count: step.count.max(1),
            rest_s: step.cooldown_s.unwrap_or_else(|| step.kind.rest_s()),
            revert_s: step.revert_after_s.map(|after_s| now_s + after_s),
            outcome: None,
            void: false,
        });
    }

    /// It was not possible, or there was nothing to do any more.
    pub fn failed(&mut self, number: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) {
            entry.void = true;
        }
    }

    /// Returns the actions whose effect is to be found out now.
    pub fn due_for_verification(&self, now_s: f64) -> Vec<u64> {
        let is_due =
            |entry: &&Entry| entry.outcome.is_none() && !entry.void && now_s - entry.at_s >= VERIFY_S;
        self.entries.iter().filter(is_due).map(|entry| entry.number).collect()
    }

    /// Returns the actions that are to be taken back now.
    pub fn due_for_revert(&self, now_s: f64) -> Vec<u64> {
        let is_due = |entry: &&Entry| !entry.void && entry.revert_s.is_some_and(|at_s| now_s >= at_s);
        self.entries.iter().filter(is_due).map(|entry| entry.number).collect()
    }

    /// It was taken back.
    pub fn reverted(&mut self, number: u64) {
        self.failed(number);
    }

    /// It is known whether it has helped.
    pub(crate) fn judge(
        &mut self,
        number: u64,
        outcome: Outcome,
        lockout: super::Budget,
        now_s: f64,
    ) -> AfterThat {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) else {
            return AfterThat::Keep;
        };
        entry.outcome = Some(outcome);
        let kind = entry.kind;
        if outcome == Outcome::Better {
            self.vain.remove(&kind);
            return AfterThat::Keep;
        }
        *self.vain.entry(kind).or_default() += 1;
        if outcome == Outcome::Worse {
            let worse = self.worse.entry(kind).or_default();
            *worse += 1;
            if *worse >= WORSE_MAX {
                self.disabled.insert(kind);
            }
        }
        let judged = || self.entries.iter().rev().filter(|entry| entry.outcome.is_some());
        let recent = judged().take(lockout.count as usize);
        let vain =
            |entry: &Entry| entry.outcome != Some(Outcome::Better) && now_s - entry.at_s < lockout.window_s;
        if judged().count() >= lockout.count as usize && recent.clone().all(vain) {
            self.locked_until_s = Some(now_s + lockout.window_s);
        }
        // Nothing else can be taken back.
        let undone = outcome == Outcome::Worse && kind == Kind::AddWorkers;
        if undone { AfterThat::Undo } else { AfterThat::Keep }
    }
}

impl super::Policy {
    /// Takes in whether an action has helped; returns what is to be done with it.
    pub fn verified(&self, ledger: &mut Ledger, number: u64, outcome: Outcome, now_s: f64) -> AfterThat {
        ledger.judge(number, outcome, self.limits.lockout, now_s)
    }
}
