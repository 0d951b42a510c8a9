//! The end of a worker: signals, and letting go of clients so that none is lost: those in the listen queue, those that
//! are being served, those that keep an idle connection.

use super::{Drain, Reactor, SECOND_NS, place};
use crate::conn::State;
use crate::options::Level;
use ferricorn_core::scoreboard::State as WorkerState;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;

/// How long idle connections are kept for a last request after TERM (Gunicorn 27.0.1).
const DRAIN_IDLE_NS: u64 = 2 * SECOND_NS;
/// Most connections taken out of one listen queue by a worker that ends.
const ACCEPT_REST_MAX: usize = 4096;

/// Signal numbers of Linux, the same on every architecture this builds for.
mod libc_signal {
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const USR1: i32 = 10;
    pub(super) const TERM: i32 = 15;
}

impl Reactor {
    pub(super) fn signals(&mut self) {
        for signal in self.hub.signals.read() {
            match signal {
                libc_signal::TERM => self.start_drain(false),
                libc_signal::INT | libc_signal::QUIT => self.start_drain(true),
                libc_signal::USR1 => self.reopen_logs(),
                _ => {}
            }
        }
    }

    fn reopen_logs(&mut self) {
        self.hub.log.reopen();
        self.hub.reopen.store(true, Relaxed);
        if let Some(access) = &mut self.access
            && let Err(error) = access.reopen()
        {
            self.hub.log.log(Level::Error, &format!("cannot reopen the access log: {error}"));
        }
    }

    pub(super) fn start_drain(&mut self, quick: bool) {
        let grace_ns = if quick { SECOND_NS / 10 } else { self.hub.options.graceful_timeout_ns };
        let until_ns = self.now_ns + grace_ns;
        match &mut self.drain {
            Some(drain) => {
                drain.quick |= quick;
                drain.until_ns = drain.until_ns.min(until_ns);
            }
            None => {
                // First of all, so that of several workers that go at once the last one sees that it is.
                self.hub.slot.state.store(WorkerState::Draining as u32, Relaxed);
                fence(SeqCst);
                self.drain = Some(Drain { since_ns: self.now_ns, until_ns, quick });
                self.ending.store(true, Relaxed);
                self.accept_if(false);
                if !quick && !self.hub.has_ready_sibling() {
                    self.accept_rest();
                }
                // Who comes from now on is refused at once, or goes to a sibling.
                self.listeners.clear();
            }
        }
    }

    /// Accepts what waits in the listen queues and in the pair: whom the kernel has let in for us is served.
    fn accept_rest(&mut self) {
        while self.take_one() {}
        for number in 0..self.listeners.len() {
            for _ in 0..ACCEPT_REST_MAX {
                let before = self.connections;
                self.accept(number);
                if self.connections == before {
                    break;
                }
            }
        }
    }

    /// Lets go of connections that wait for nothing: to a sibling that stays, or closed after a while.
    pub(super) fn drain_step(&mut self) {
        let Some(drain) = self.drain else { return };
        self.accept_if(false);
        let sibling = !drain.quick && self.hub.has_ready_sibling();
        let idle_over = drain.quick || self.now_ns >= drain.since_ns + DRAIN_IDLE_NS;
        for index in 0..self.places.len() {
            let place = &self.places[index];
            let token = u64::from(place.generation) << 32 | index as u64;
            let Some(conn) = &place.conn else { continue };
            let idle = conn.state == State::Head && conn.pending() == 0;
            if idle && sibling {
                self.give_idle(token);
            } else if idle && idle_over && conn.is_untouched() {
                self.close(token);
            }
        }
    }

    fn give_idle(&mut self, token: u64) {
        let taken = place(&mut self.places, token).and_then(|place| place.conn.take());
        let Some(conn) = taken else { return };
        self.away += 1;
        if let Err(conn) = self.give(conn) {
            self.come_home(conn);
        }
    }
}
