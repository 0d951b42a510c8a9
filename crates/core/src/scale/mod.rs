//! How many workers there should be, between two limits: more when those that there are have no thread free, fewer when they have had
//! too many for long. `(state, load, now) -> decision`; every decision says why, the one to change nothing, too.
//!
//! More workers help only where requests wait for a thread and what the threads wait for can bear more. So a slow database, an
//! exhausted pool, busy processors, or little memory stand against more, whatever waits. What was taken back and was needed again is
//! kept for longer the next time.
//!
//! Not for: starting or ending anybody (the arbiter does, told by the observer), and not for trouble ([`crate::policy`]).

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// From this share of busy threads on, over [`UP_S`], there are too few.
const FULL: f64 = 0.8;
/// The share of busy threads that fewer workers would still have at most.
const ROOMY: f64 = 0.6;
/// For how long it must have been so that there are too few, seconds.
const UP_S: f64 = 5.0;
/// After a change it is waited until it shows, seconds.
const SETTLE_S: f64 = 5.0;
/// For how long there must have been too many, at first and at most, seconds.
const DOWN_S: f64 = 300.0;
const DOWN_MAX_S: f64 = 3600.0;
/// At most one worker is taken back in this time, seconds.
const DOWN_EVERY_S: f64 = 60.0;
/// What is needed again within this time after it was taken back was taken back too soon, seconds.
const REGRET_S: f64 = 300.0;
/// So much memory must be left for one worker more, in workers.
const HEADROOM: f64 = 1.5;
/// From this share on processors have nothing to give to more workers.
const BUSY_HOST: f64 = 0.9;
/// Loads that are remembered: one a second for the longest time that matters, in steps.
const KEPT_MAX: usize = 4096;

/// Between which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `workers_min`.
    pub min: u32,
    /// `workers_max`.
    pub max: u32,
}

/// How things are at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Workers that are wanted, and those of them that serve.
    pub wanted: u32,
    /// The same that serve.
    pub ready: u32,
    /// Threads of these, or requests that one may be at.
    pub threads: u32,
    /// Threads at work.
    pub busy: u32,
    /// Requests that wait for a thread.
    pub queued: u32,
    /// Share of the host's processors in use.
    pub host_cpu: Option<f64>,
    /// Memory that is left, and what a worker has, bytes.
    pub memory_available: Option<u64>,
    /// The second of these.
    pub worker_memory: Option<u64>,
    /// Connections of the database: in use, of one worker, allowed.
    pub connections: Option<(u32, u32, u32)>,
    /// What more workers would make worse, in words: the cause of an open incident.
    pub forbidden: Option<String>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// So many more.
    Add(u32),
    /// One less.
    Remove,
    /// Nothing.
    Stay,
}

/// What was decided, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When, seconds since 1970.
    pub at: f64,
    /// What.
    pub wish: Wish,
    /// How many workers were wanted then.
    pub workers: u32,
    /// Why.
    pub why: String,
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// When, and how many workers the load needed at least.
    needed: VecDeque<(f64, u32)>,
    /// Since when there have been too few.
    full_since: Option<f64>,
    added_at: Option<f64>,
    removed_at: Option<f64>,
    /// How often what was taken back was taken back too soon.
    regrets: u32,
}

impl Scale {
    /// Decides.
    pub fn on(&mut self, limits: Limits, load: &Load, now: f64) -> Decision {
        self.remember(load, now);
        let (wish, why) = self.wish(limits, load, now);
        match wish {
            Wish::Add(_) => {
                if self.removed_at.is_some_and(|at| now - at < REGRET_S) {
                    self.regrets = (self.regrets + 1).min(8);
                }
                self.added_at = Some(now);
                self.full_since = None;
            }
            Wish::Remove => self.removed_at = Some(now),
            Wish::Stay => {}
        }
        Decision { at: now, wish, workers: load.wanted, why }
    }

    /// For how long there must have been too many.
    fn patience_s(&self) -> f64 {
        (DOWN_S * f64::from(1_u32 << self.regrets)).min(DOWN_MAX_S)
    }

    fn remember(&mut self, load: &Load, now: f64) {
        let of_one = (load.threads.max(1) / load.ready.max(1)).max(1);
        let needed = f64::from(load.busy + load.queued) / (f64::from(of_one) * ROOMY);
        self.needed.push_back((now, needed.ceil() as u32));
        let oldest = now - self.patience_s();
        while self.needed.len() > KEPT_MAX || self.needed.front().is_some_and(|(at, _)| *at < oldest) {
            self.needed.pop_front();
        }
        let full = load.queued > 0 || f64::from(load.busy) >= FULL * f64::from(load.threads.max(1));
        self.full_since = full.then_some(self.full_since.unwrap_or(now));
    }

    fn wish(&self, limits: Limits, load: &Load, now: f64) -> (Wish, String) {
        let Load { wanted, ready, threads, busy, queued, .. } = load;
        let seen = format!("{busy} of {threads} threads are busy, {queued} requests wait for one");
        if *wanted < limits.min {
            return (Wish::Add(limits.min - wanted), format!("workers_min is {}", limits.min));
        }
        if *wanted > limits.max {
            return (Wish::Remove, format!("workers_max is {}", limits.max));
        }
        if ready < wanted {
            return (Wish::Stay, format!("{} of {wanted} workers boot still", wanted - ready));
        }
        let changed_at = self.added_at.into_iter().chain(self.removed_at).fold(f64::MIN, f64::max);
        if now - changed_at < SETTLE_S {
            return (Wish::Stay, "the last change has not shown yet".to_owned());
        }
        match self.full_since {
            Some(since) if now - since >= UP_S => self.more(limits, load, &seen, now - since),
            Some(_) => (Wish::Stay, format!("{seen}, for less than {UP_S} s")),
            None => self.fewer(limits, load, &seen, now),
        }
    }

    fn more(&self, limits: Limits, load: &Load, seen: &str, lasts_s: f64) -> (Wish, String) {
        let stay = |why: String| (Wish::Stay, format!("{seen}, for {lasts_s:.0} s; but {why}"));
        if load.wanted >= limits.max {
            return stay(format!("workers_max is {}", limits.max));
        }
        if let Some(cause) = &load.forbidden {
            return stay(format!("more workers would make it worse: {cause}"));
        }
        if let Some(share) = load.host_cpu.filter(|share| *share > BUSY_HOST) {
            return stay(format!("the processors are at {:.0} %", share * 100.0));
        }
        let mut most = (load.wanted / 4).max(1).min(limits.max - load.wanted);
        if let (Some(left), Some(one)) = (load.memory_available, load.worker_memory) {
            let fits = (left as f64 / (one.max(1) as f64 * HEADROOM)) as u32;
            if fits == 0 {
                let mb = |bytes: u64| bytes / 1_000_000;
                return stay(format!("{} MB of memory are left, and a worker has {} MB", mb(left), mb(one)));
            }
            most = most.min(fits);
        }
        if let Some((used, of_one, allowed)) = load.connections {
            let fits = (allowed * 4 / 5).saturating_sub(used) / of_one.max(1);
            if fits == 0 {
                return stay(format!(
                    "the database has {used} of {allowed} connections, and a worker {of_one}"
                ));
            }
            most = most.min(fits);
        }
        (Wish::Add(most), format!("{seen}, for {lasts_s:.0} s"))
    }

    fn fewer(&self, limits: Limits, load: &Load, seen: &str, now: f64) -> (Wish, String) {
        let patience_s = self.patience_s();
        // The largest need in all that time counts.
        let most = self.needed.iter().map(|(_, needed)| *needed).max().unwrap_or(0).max(limits.min);
        let known_s = self.needed.front().map_or(0.0, |(at, _)| now - at);
        if most >= load.wanted {
            return (
                Wish::Stay,
                format!("{seen}; the last {:.0} s needed {most} workers", known_s.min(patience_s)),
            );
        }
        let since = self.added_at.map_or(known_s, |at| known_s.min(now - at));
        if since < patience_s - 1.0 {
            return (
                Wish::Stay,
                format!(
                    "{seen}; {most} workers would do, and did for {since:.0} s of the {patience_s:.0} s that it takes"
                ),
            );
        }
        if self.removed_at.is_some_and(|at| now - at < DOWN_EVERY_S) {
            return (Wish::Stay, format!("{seen}; one was taken back less than {DOWN_EVERY_S} s ago"));
        }
        (
            Wish::Remove,
            format!(
                "the last {patience_s:.0} s needed {most} workers at most, and there are {}",
                load.wanted
            ),
        )
    }
}
