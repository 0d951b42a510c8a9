//! Who owns the loop, and the watchdog that takes it over from a slow call.
//!
//! 1. Before the owner enters Python (or waits for the interpreter) it puts the loop on the stage and counts the epoch up.
//! 2. After, it takes the loop back. Usually that is all: two atomic swaps a request.
//! 3. The watchdog wakes every [`TICK`]. A loop that lies there under the same epoch for a whole tick is taken: the
//!    watchdog's thread runs it from now on, without ever needing the interpreter.
//! 4. The slow owner finds the stage empty when it comes back, and becomes an app thread like any other.
//!
//! A take between the reading of the epoch and the swap can hit a fresh call; that costs one needless takeover.
//! An idle owner (no epoch for [`CALM_TICKS`]) lets the watchdog sleep; the next `put` wakes it.

use crate::pool::Pool;
use crate::reactor::Reactor;
use ferricorn_sys::slot::Slot;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

/// How long a call may take before the loop is taken over: one to two of these. Much shorter costs more than it gives.
pub(crate) const TICK: Duration = Duration::from_millis(1);
const CALM_TICKS: u32 = 16;

/// The place where the loop lies while its owner is in Python.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    slot: Slot<Reactor>,
    epoch: AtomicU64,
    asleep: AtomicBool,
    watchdog: OnceLock<Thread>,
}

impl Stage {
    /// Puts the loop down. Only its owner does.
    pub(crate) fn put(&self, reactor: Box<Reactor>) {
        self.epoch.store(self.epoch.load(SeqCst).wrapping_add(1), SeqCst);
        let before = self.slot.put(reactor);
        debug_assert!(before.is_none(), "there is one loop");
        if self.asleep.load(SeqCst) {
            self.wake();
        }
    }

    /// Takes the loop up, unless the watchdog has.
    pub(crate) fn take(&self) -> Option<Box<Reactor>> {
        self.slot.take()
    }

    #[cold]
    fn wake(&self) {
        self.asleep.store(false, SeqCst);
        if let Some(watchdog) = self.watchdog.get() {
            watchdog.unpark();
        }
    }

    /// Waits for a slow owner and takes its loop. Called by the watchdog's thread; returns `None` when
    /// the worker has ended. A loop that was offered to the app threads and that none has taken counts as slow too.
    pub(crate) fn watch(&self, pool: &Pool) -> Option<Box<Reactor>> {
        self.watchdog.get_or_init(thread::current);
        let (mut seen, mut calm) = (self.epoch.load(SeqCst), 0);
        loop {
            thread::park_timeout(TICK);
            if pool.is_closed() {
                return None;
            }
            if let Some(reactor) = pool.overdue() {
                return Some(reactor);
            }
            let epoch = self.epoch.load(SeqCst);
            if epoch != seen {
                (seen, calm) = (epoch, 0);
            } else if self.slot.is_full() {
                if let Some(reactor) = self.slot.take() {
                    return Some(reactor);
                }
            } else if !pool.is_offered() {
                calm += 1;
            }
            if calm > CALM_TICKS {
                self.asleep.store(true, SeqCst);
                if self.epoch.load(SeqCst) == seen && !self.slot.is_full() && !pool.is_closed() {
                    thread::park();
                }
                self.asleep.store(false, SeqCst);
                calm = 0;
            }
        }
    }

    /// Wakes the watchdog so that it sees that the worker has ended.
    pub(crate) fn close(&self) {
        self.wake();
    }
}
