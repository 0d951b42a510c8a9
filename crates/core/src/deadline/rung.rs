//! How far up the ladder one call is, and the table by which it climbs.

use super::{Call, Plan};

/// A thread that has not come free within the grace is tried so many times less often.
const LOST_PAUSES: u64 = 10;

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    /// In time.
    Running,
    /// Slow; said so.
    Warned,
    /// Answered in the application's place; its thread is asked to come free.
    Answered { since_ns: u64, tried_ns: u64, attempts: u32 },
    /// It has not come free within the grace.
    Lost { tried_ns: u64, attempts: u32 },
}

/// What the table looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) warn_due: bool,
    pub(super) deadline_over: bool,
    pub(super) retry_due: bool,
    pub(super) grace_over: bool,
    pub(super) shielded: bool,
}

/// What is done on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) warn: bool,
    pub(super) answer: bool,
    pub(super) interrupt: Option<u32>,
}

impl Facts {
    pub(super) fn of(plan: &Plan, call: &Call, rung: Rung, now_ns: u64) -> Self {
        let (retry_due, grace_over) = match rung {
            Rung::Running | Rung::Warned => (false, false),
            Rung::Answered { since_ns, attempts: 0, .. } => {
                (now_ns >= since_ns + plan.look_ns, now_ns >= since_ns + plan.grace_ns)
            }
            Rung::Answered { since_ns, tried_ns, .. } => {
                (now_ns >= tried_ns + plan.retry_ns, now_ns >= since_ns + plan.grace_ns)
            }
            Rung::Lost { tried_ns, .. } => (now_ns >= tried_ns + plan.retry_ns * LOST_PAUSES, true),
        };
        Self {
            warn_due: now_ns >= warn_ns(plan, call),
            deadline_over: now_ns >= call.deadline_ns,
            retry_due,
            grace_over,
            shielded: call.shielded,
        }
    }

    /// Interrupts, where that is due and allowed; returns when that was tried last, and how often.
    fn tried(self, tried_ns: u64, attempts: u32, now_ns: u64, step: &mut Step) -> (u64, u32) {
        if !self.retry_due || self.shielded {
            return (tried_ns, attempts);
        }
        step.interrupt = Some(attempts + 1);
        (now_ns, attempts + 1)
    }
}

impl Rung {
    /// The table: one rung at a time, except that a call first seen after its deadline is answered without a warning.
    pub(super) fn next(self, facts: Facts, now_ns: u64) -> (Self, Step) {
        let mut step = Step::default();
        let rung = match self {
            Self::Running | Self::Warned if facts.deadline_over => {
                step.answer = true;
                Self::Answered { since_ns: now_ns, tried_ns: 0, attempts: 0 }
            }
            Self::Running if facts.warn_due => {
                step.warn = true;
                Self::Warned
            }
            // The application has asked for more time.
            Self::Warned if !facts.warn_due => Self::Running,
            Self::Running | Self::Warned => self,
            Self::Answered { since_ns, tried_ns, attempts } => {
                let (tried_ns, attempts) = facts.tried(tried_ns, attempts, now_ns, &mut step);
                if facts.grace_over {
                    Self::Lost { tried_ns, attempts }
                } else {
                    Self::Answered { since_ns, tried_ns, attempts }
                }
            }
            Self::Lost { tried_ns, attempts } => {
                let (tried_ns, attempts) = facts.tried(tried_ns, attempts, now_ns, &mut step);
                Self::Lost { tried_ns, attempts }
            }
        };
        (rung, step)
    }

    #[cfg(test)]
    pub(super) fn is_answered(self) -> bool {
        matches!(self, Self::Answered { .. } | Self::Lost { .. })
    }

    pub(super) fn is_lost(self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// When this call is to be looked at again at the latest. One that is shielded may be released at any time.
    pub(super) fn next_ns(self, plan: &Plan, call: &Call, now_ns: u64) -> u64 {
        let retry =
            |tried_ns, every_ns| if call.shielded { now_ns + plan.retry_ns } else { tried_ns + every_ns };
        match self {
            Self::Running => warn_ns(plan, call),
            Self::Warned => call.deadline_ns,
            Self::Answered { since_ns, attempts: 0, .. } => retry(since_ns, plan.look_ns),
            Self::Answered { since_ns, tried_ns, .. } => {
                retry(tried_ns, plan.retry_ns).min(since_ns + plan.grace_ns)
            }
            Self::Lost { tried_ns, .. } => retry(tried_ns, plan.retry_ns * LOST_PAUSES),
        }
    }
}

fn warn_ns(plan: &Plan, call: &Call) -> u64 {
    let time_ns = call.deadline_ns.saturating_sub(call.start_ns);
    call.start_ns + (u128::from(time_ns) * u128::from(plan.warn_percent) / 100) as u64
}
