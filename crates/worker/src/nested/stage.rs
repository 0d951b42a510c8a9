//! Where a nested loop lies between its turns, and how the watchdog sees that nobody comes to take it.
//!
//! The application's own loop sleeps and works by itself: that no turn comes means nothing as long as there is nothing to
//! do. The watchdog looks every tick. Something to do (the loop's descriptor is readable) that nobody has begun for the whole
//! limit, or a deadline that has passed, means that a callback holds the application's loop. While requests are in flight
//! the watchdog rings from time to time, so that there is something to do.
//!
//! Not for: what is done with a loop that was taken over ([`super::keep`]).

use crate::reactor::Reactor;
use ferricorn_sys::clock;
use ferricorn_sys::slot::Slot;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::thread::{self, Thread};
use std::time::Duration;

const MS: u64 = 1_000_000;
/// A deadline that nobody looks at for so long after it has passed is looked at by the watchdog.
const SLACK_NS: u64 = 5 * MS;
/// Ticks without a turn after which the watchdog waits for something to happen instead.
const CALM_TICKS: u32 = 16;
/// How often it rings then, in limits, while requests are in flight.
const RING_LIMITS: u64 = 5;
/// Longest wait of the main thread for the loop, before it looks again.
const LOOK: Duration = Duration::from_millis(1);

/// The place where the loop lies.
#[derive(Debug)]
pub(crate) struct Stage {
    slot: Slot<Reactor>,
    /// Turns so far.
    turns: AtomicU64,
    /// The next deadline of a request in flight, or the time to warn of it; `u64::MAX` for none.
    due_ns: AtomicU64,
    /// Requests are in flight.
    busy: AtomicBool,
    /// The main thread waits for the loop.
    wanted: AtomicBool,
    closed: AtomicBool,
    main: OnceLock<Thread>,
    /// Part of the loop: the watchdog's ring, and the main thread's call for the loop.
    bell: OwnedFd,
    limit_ns: u64,
}

/// A loop that nobody has taken for too long.
pub(crate) struct Stolen {
    /// The loop.
    pub(crate) reactor: Box<Reactor>,
    /// Since when it was wanted, at the latest.
    pub(crate) since_ns: u64,
}

impl Stage {
    pub(crate) fn new(limit_ns: u64) -> io::Result<Self> {
        Ok(Self {
            slot: Slot::new(),
            turns: AtomicU64::new(0),
            due_ns: AtomicU64::new(u64::MAX),
            busy: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            main: OnceLock::new(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            limit_ns,
        })
    }

    /// Returns what rings in the loop.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn ring(&self) {
        // One that rings already needs no more.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    // ---- The main thread ----

    /// Puts the loop down for a call into the application.
    pub(crate) fn lend(&self, reactor: Box<Reactor>) {
        let before = self.slot.put(reactor);
        debug_assert!(before.is_none(), "there is one loop");
    }

    /// Puts the loop down at the end of a turn. `due_ns` is when it must be looked at because of a request, `busy` tells
    /// whether there are any.
    pub(crate) fn put(&self, reactor: Box<Reactor>, due_ns: u64, busy: bool) {
        self.due_ns.store(due_ns, Relaxed);
        self.busy.store(busy, Relaxed);
        self.turns.fetch_add(1, SeqCst);
        self.lend(reactor);
    }

    /// Takes the loop up, unless the watchdog has.
    pub(crate) fn take(&self) -> Option<Box<Reactor>> {
        self.slot.take()
    }

    /// Has the watchdog give the loop back, and waits for it; `None` if the worker has ended. Detached.
    pub(crate) fn reclaim(&self) -> Option<Box<Reactor>> {
        self.main.get_or_init(thread::current);
        self.wanted.store(true, SeqCst);
        self.ring();
        let reactor = loop {
            if let Some(reactor) = self.slot.take() {
                break Some(reactor);
            }
            if self.closed.load(SeqCst) {
                break None;
            }
            thread::park_timeout(LOOK);
        };
        self.wanted.store(false, SeqCst);
        reactor
    }

    // ---- The watchdog's thread ----

    /// Tells whether the main thread has come back for the loop.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(SeqCst)
    }

    /// Gives the loop back.
    pub(crate) fn give_back(&self, reactor: Box<Reactor>) {
        self.turns.fetch_add(1, SeqCst);
        self.lend(reactor);
        if let Some(main) = self.main.get() {
            main.unpark();
        }
    }

    /// Ends the watch.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.ring();
    }

    /// Waits for a loop that nobody takes, and takes it; `None` when the worker has ended. `epoll` is the loop's descriptor.
    pub(crate) fn watch(&self, epoll: BorrowedFd<'_>) -> Option<Stolen> {
        let tick_ns = (self.limit_ns / 5).clamp(5 * MS, 20 * MS);
        let (mut seen, mut calm, mut rung) = (self.turns.load(SeqCst), 0, false);
        let mut since_ns = clock::now_ns();
        loop {
            if calm < CALM_TICKS {
                thread::sleep(Duration::from_nanos(tick_ns));
            } else {
                self.doze(epoll);
                since_ns = clock::now_ns();
            }
            if self.closed.load(SeqCst) {
                return None;
            }
            let (turns, now_ns) = (self.turns.load(SeqCst), clock::now_ns());
            if turns != seen {
                // One that came of our ring says that the loop lives, not that there is work.
                calm = if rung && turns == seen + 1 { calm + 1 } else { 0 };
                (seen, since_ns, rung) = (turns, now_ns, false);
                continue;
            }
            if !is_readable(epoll, 0) {
                since_ns = now_ns;
                calm += 1;
                if self.busy.load(Relaxed) {
                    // Somebody has to come, now.
                    self.ring();
                    rung = true;
                }
                continue;
            }
            calm = 0;
            let due = now_ns >= self.due_ns.load(Relaxed).saturating_add(SLACK_NS);
            if (due || now_ns.saturating_sub(since_ns) >= self.limit_ns)
                && let Some(reactor) = self.slot.take()
            {
                return Some(Stolen { reactor, since_ns });
            }
        }
    }

    /// Waits for something to do in the loop.
    fn doze(&self, epoll: BorrowedFd<'_>) {
        let limit_ns = if self.busy.load(Relaxed) { self.limit_ns * RING_LIMITS } else { u64::MAX / 4 };
        is_readable(epoll, limit_ns);
    }
}

fn is_readable(epoll: BorrowedFd<'_>, limit_ns: u64) -> bool {
    let limit = clock::timespec(limit_ns);
    // An interrupted wait reads as "nothing yet".
    poll(&mut [PollFd::new(&epoll, PollFlags::IN)], Some(&limit)).is_ok_and(|count| count > 0)
}
