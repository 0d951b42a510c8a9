//! What each worker of our own server has answered, by route: the differences of its slot's numbers from one reading to the next. Slots
//! outlive workers and go on counting, so that a gain belongs to the worker that had the slot at both readings.
//!
//! Not for: the sums of all workers (`core::snapshot`).

use ferricorn_core::histogram::Distribution;
use ferricorn_core::latency::Class;
use ferricorn_core::scoreboard::{Scoreboard, State, WorkerSlot};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// Slots, times routes, methods and kinds of answer, that are remembered.
const CELLS_MAX: usize = 4096;

/// Buckets that are not empty.
type Sparse = Vec<(u8, u64)>;

/// The last reading.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// By slot: the pid of its worker.
    pids: BTreeMap<usize, u32>,
    /// By slot, route and kind of answer.
    before: BTreeMap<(usize, String, Class), Sparse>,
}

impl Slots {
    /// Returns what workers have answered since the last reading, with pid and route.
    pub(crate) fn gained(&mut self, board: &Scoreboard) -> Vec<(u32, String, Distribution)> {
        let mut gained = Vec::new();
        for (number, slot) in board.used().iter().enumerate().filter(|(_, slot)| slot.state() != State::Free)
        {
            self.read(number, slot, &mut gained);
        }
        gained
    }

    fn read(&mut self, number: usize, slot: &WorkerSlot, gained: &mut Vec<(u32, String, Distribution)>) {
        let pid = slot.pid.load(Relaxed);
        let is_same = self.pids.insert(number, pid) == Some(pid);
        // What is lost the engine knows itself, and at once.
        let answered = slot.routes.answered().filter(|(key, _)| key.class != Class::Lost);
        for (key, now) in answered {
            let route = format!("{} {}", key.method, key.route);
            let cell = (number, route.clone(), key.class);
            let is_known = self.before.contains_key(&cell);
            if !is_known && self.before.len() >= CELLS_MAX {
                continue;
            }
            let before = self.before.insert(cell, sparse(&now)).unwrap_or_default();
            let gain = now.since(&dense(&before));
            if is_same && gain.count > 0 {
                gained.push((pid, route, gain));
            }
        }
    }
}

fn sparse(distribution: &Distribution) -> Sparse {
    let buckets = distribution.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
    buckets.map(|(bucket, count)| (bucket as u8, *count)).collect()
}

fn dense(sparse: &Sparse) -> Distribution {
    let mut distribution = Distribution::default();
    for (bucket, count) in sparse {
        distribution.buckets[usize::from(*bucket)] = *count;
        distribution.count += count;
    }
    distribution
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_few_buckets() {
        let mut distribution = Distribution::default();
        [1, 5, 1000, 4_000_000_000].into_iter().for_each(|us| distribution.add(us));
        let again = dense(&sparse(&distribution));
        assert_eq!((again.count, &again.buckets), (4, &distribution.buckets));
        assert_eq!(distribution.since(&again).count, 0);
    }
}
