//! What is written down of a request that has been answered: histograms, flight recorder, access log; and the heartbeat.

use super::{BEAT_NS, Reactor, add};
use crate::conn::Conn;
use crate::options::Level;
use ferricorn_core::scoreboard::{FLIGHTS, Landing, Timed};
use std::sync::atomic::Ordering::Relaxed;

impl Reactor {
    pub(super) fn account(&mut self, conn: &Conn) {
        let (slot, stamps, response) = (self.hub.slot, &conn.stamps, &conn.response);
        let us = |from: u64, to: u64| to.saturating_sub(from) / 1000;
        let (app_us, total_us) = (us(stamps.app_ns, stamps.done_ns), us(stamps.begun_ns, stamps.done_ns));
        slot.timed[Timed::Head as usize].record(us(stamps.begun_ns, stamps.head_ns));
        slot.timed[Timed::Body as usize].record(us(stamps.head_ns, stamps.complete_ns));
        slot.timed[Timed::Queue as usize].record(us(stamps.waits_since_ns(), stamps.app_ns));
        slot.timed[Timed::App as usize].record(app_us);
        slot.timed[Timed::Total as usize].record(total_us);
        add(&slot.requests, 1);
        add(&slot.bytes_sent, response.body_bytes);
        if let Some(class) = slot.statuses.get(usize::from(response.status / 100).wrapping_sub(1)) {
            add(class, 1);
        }
        let flight = &slot.flights[(slot.flight_next.load(Relaxed) % FLIGHTS as u64) as usize];
        add(&slot.flight_next, 1);
        let landing = Landing {
            id: conn.id,
            status: response.status,
            start_ns: stamps.begun_ns,
            total_us,
            app_us,
            bytes: response.body_bytes,
        };
        flight.record(&landing, conn.head.method(), conn.head.get(&conn.head.path));
        if let Some(access) = &mut self.access
            && !conn.logged
        {
            access.line(conn);
        }
        self.completed += 1;
        let limit = self.hub.options.requests_max;
        if limit > 0 && self.completed >= limit && !self.retiring {
            self.retiring = true;
            self.hub.log.log(Level::Info, "Autorestarting worker after current request.");
            slot.retiring.store(1, Relaxed);
            self.hub.wake_arbiter();
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
