//! What a loop has beside the rest when it is nested in the application's: events of connections that the application
//! has, and the records of its requests.

use super::{RINGS, Reactor};
use crate::conn::{Conn, Heard};
use ferricorn_core::scoreboard::WorkerSlot;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

/// The part of the loop's state.
#[derive(Debug, Default)]
pub(super) struct News {
    is_nested: bool,
    heard: Vec<(u64, Heard)>,
    /// Counters that ring: the watchdog's bell, the timer.
    rings: Vec<OwnedFd>,
    /// Numbers of records that were in use and are not.
    free: Vec<u32>,
    /// Numbers of records that have ever been in use.
    used: u32,
    has_drained: bool,
}

impl News {
    pub(super) fn heard(&mut self, token: u64, flags: EventFlags) {
        if self.is_nested {
            self.heard.push((token, Heard(flags)));
        }
    }

    pub(super) fn rung(&self, number: usize) {
        if let Some(ring) = self.rings.get(number) {
            // Read by somebody else meanwhile: as good.
            let _ = rustix::io::read(ring, &mut [0; 8]);
        }
    }

    /// Takes the record of a request that is over.
    pub(super) fn release(&mut self, conn: &mut Conn) {
        if self.is_nested
            && let Some(record) = conn.record.take()
        {
            record.leave();
            self.free.push(conn.number);
        }
    }

    fn acquire(&mut self, slot: &'static WorkerSlot, conn: &mut Conn) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        });
        conn.number = number;
        conn.record = slot.in_flight.get(number as usize);
    }
}

impl Reactor {
    /// Makes this loop one within another; what rings in it is given.
    ///
    /// # Errors
    /// A descriptor cannot be watched.
    pub(crate) fn nest(&mut self, rings: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.nested.is_nested = true;
        for (number, ring) in rings.iter().enumerate() {
            epoll::add(&self.epoll, ring, EventData::new_u64(RINGS | number as u64), EventFlags::IN)?;
            self.nested.rings.push(ring.try_clone_to_owned()?);
        }
        Ok(())
    }

    /// Returns the descriptor that is readable while there are events.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Takes the next request that is to be begun, with a record of its own: there are as many as connections.
    pub(crate) fn next_request(&mut self) -> Option<Box<Conn>> {
        let mut conn = self.next_ready()?;
        self.nested.acquire(self.hub.slot, &mut conn);
        self.hub.note_records(self.nested.used);
        conn.lend();
        Some(conn)
    }

    /// Takes what was heard of connections that the application has.
    pub(crate) fn take_heard(&mut self) -> Vec<(u64, Heard)> {
        std::mem::take(&mut self.nested.heard)
    }

    /// Tells, once, that the worker has begun to end.
    pub(crate) fn take_drain_news(&mut self) -> bool {
        self.drain.is_some() && !std::mem::replace(&mut self.nested.has_drained, true)
    }

    /// Says whether this worker takes requests at once, for its siblings.
    pub(crate) fn is_free(&self, free: bool) {
        self.hub.slot.threads_free.store(u32::from(free), Relaxed);
    }
}
