//! What is written down of a request that is over: histograms, flight recorder, access log; and the heartbeat.

use super::{BEAT_NS, Reactor, add};
use crate::conn::Conn;
use crate::options::Level;
use ferricorn_core::scoreboard::{FLIGHTS, Landing, Timed};
use std::sync::atomic::Ordering::Relaxed;

/// Status of a connection that another protocol has taken over (RFC 9110 section 15.2.2).
const SWITCHED: u16 = 101;

impl Reactor {
    /// Writes down a request that is over.
    pub(super) fn account(&mut self, conn: &mut Conn) {
        self.count(conn);
        self.log_access(conn);
        self.complete();
    }

    /// Counts a request that has been with the application.
    pub(super) fn count(&mut self, conn: &mut Conn) {
        let (slot, stamps) = (self.hub.slot, &conn.stamps);
        let (app_us, total_us) = (us(stamps.app_ns, stamps.done_ns), us(stamps.begun_ns, stamps.done_ns));
        slot.timed[Timed::Head as usize].record(us(stamps.begun_ns, stamps.head_ns));
        slot.timed[Timed::Body as usize].record(us(stamps.head_ns, stamps.complete_ns));
        let queue_us = us(stamps.waits_since_ns(), stamps.app_ns);
        slot.timed[Timed::Queue as usize].record(queue_us);
        add(&slot.requests, 1);
        let cell = self.tally.cell(conn);
        if conn.response.status == SWITCHED {
            // How long a WebSocket was open says nothing of how long the application takes.
            slot.routes.record_unserved(cell, queue_us);
        } else {
            slot.timed[Timed::App as usize].record(app_us);
            slot.timed[Timed::Total as usize].record(total_us);
            slot.routes.record(cell, queue_us, app_us);
            conn.sending = Some((cell, conn.stamps.done_ns));
        }
        self.count_answer(conn, app_us);
    }

    /// Counts a request for `max_requests`.
    pub(super) fn complete(&mut self) {
        self.completed += 1;
        let limit = self.hub.options.requests_max;
        if limit > 0 && self.completed >= limit && !self.retiring {
            self.retiring = true;
            self.hub.log.log(Level::Info, "Autorestarting worker after current request.");
            self.hub.slot.retiring.store(1, Relaxed);
            self.hub.wake_arbiter();
        }
    }

    /// Like [`Self::account`] for a request that has waited for the application and never got there.
    pub(super) fn account_unserved(&mut self, conn: &Conn) {
        let waited_us = us(conn.stamps.waits_since_ns(), conn.stamps.done_ns);
        self.hub.slot.timed[Timed::Queue as usize].record(waited_us);
        let cell = self.tally.cell(conn);
        self.hub.slot.routes.record_unserved(cell, waited_us);
        self.count_answer(conn, 0);
        self.log_access(conn);
    }

    /// Counts the status and the bytes of an answer.
    pub(super) fn count_status(&self, conn: &Conn) {
        let (slot, response) = (self.hub.slot, &conn.response);
        add(&slot.bytes_sent, response.body_bytes);
        if let Some(class) = slot.statuses.get(usize::from(response.status / 100).wrapping_sub(1)) {
            add(class, 1);
        }
    }

    /// The same, and writes the request into the flight recorder.
    fn count_answer(&self, conn: &Conn, app_us: u64) {
        self.count_status(conn);
        let (slot, stamps, response) = (self.hub.slot, &conn.stamps, &conn.response);
        let flight = &slot.flights[(slot.flight_next.load(Relaxed) % FLIGHTS as u64) as usize];
        add(&slot.flight_next, 1);
        let landing = Landing {
            id: conn.id,
            status: response.status,
            start_ns: stamps.begun_ns,
            total_us: us(stamps.begun_ns, stamps.done_ns),
            app_us,
            bytes: response.body_bytes,
        };
        flight.record(&landing, conn.head.method(), conn.head.get(&conn.head.path));
    }

    /// Writes the line of the access log, unless that has been done.
    pub(super) fn log_access(&mut self, conn: &Conn) {
        if let Some(access) = &mut self.access
            && !conn.logged
        {
            access.line(conn);
        }
    }

    pub(super) fn beat(&mut self) {
        self.hub.slot.beat_ns.store(self.now_ns, Relaxed);
        if self.now_ns - self.parent_checked_ns >= BEAT_NS {
            self.parent_checked_ns = self.now_ns;
            if self.hub.parent_changed() && self.drain.is_none() {
                let message = format!("Parent changed, shutting down: <Worker {}>", std::process::id());
                self.hub.log.log(Level::Info, &message);
                self.start_drain(false);
            }
        }
    }
}

pub(super) fn us(from_ns: u64, to_ns: u64) -> u64 {
    to_ns.saturating_sub(from_ns) / 1000
}
