//! How many workers may be killed at a time because they give no sign of life. When many fall silent together, the cause
//! mostly lies outside of them (a file server, a full disk, a starved host): killing all would end what they could still
//! finish, and the new ones would hang at the same place. Not for: workers that are told to go.

use super::{Plan, SECOND};
use std::collections::VecDeque;

/// One in so many, as in a reload: what a server can lack without being overrun.
const SHARE: usize = 4;
/// Time for the others to come back before the next is killed: that after which they count as silent, but no more than
/// this. Whoever gives requests ten minutes does not want to be without workers for ten minutes.
const WINDOW_NS: u64 = 30 * SECOND;

/// The kills of late.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent_ns: VecDeque<u64>,
    /// That somebody waits was said, and holds still.
    said: bool,
}

impl Budget {
    /// Returns how many workers of so many may be killed within [`Budget::window_ns`].
    pub(super) fn most(target: usize) -> usize {
        (target / SHARE).max(1)
    }

    pub(super) fn window_ns(plan: &Plan) -> u64 {
        let limits = [plan.timeout_ns, plan.boot_ns, WINDOW_NS];
        limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(WINDOW_NS)
    }

    /// Takes one kill out of the budget, if there is one left.
    pub(super) fn spend(&mut self, most: usize, window_ns: u64, now_ns: u64) -> bool {
        self.spent_ns.retain(|at| now_ns.saturating_sub(*at) < window_ns);
        let left = self.spent_ns.len() < most;
        if left {
            self.spent_ns.push_back(now_ns);
        }
        left
    }

    /// Notes whether somebody waits for the next kill; tells whether that is news.
    pub(super) fn waits(&mut self, anybody: bool) -> bool {
        !std::mem::replace(&mut self.said, anybody) && anybody
    }
}
