//! Requests whose clients have gone before a thread took them: they take none, and are written down with 499.
//!
//! A reset, or a unix socket closed, is the end of a client. The end of its side alone (FIN) may mean that it has no more
//! to say: it is taken for the end of the client once its request has stood in line for a while.

use super::{Reactor, place};
use crate::conn::Conn;
use crate::outcome::{GONE, Outcome};
use crate::pool::Withdrawn;
use rustix::event::epoll::EventFlags;

/// So long a request stands in line for a client that has ended its side.
const PATIENCE_NS: u64 = 100_000_000;

impl Reactor {
    /// Takes requests out of the line for which nobody waits any more.
    pub(super) fn drop_gone(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        ended.retain(|token| self.waits_for_client(*token));
        // Nothing has been added meanwhile; the memory is kept.
        self.ended = ended;
    }

    /// Tells whether the request stands in line, for a client that has ended its side, and is to stand there longer.
    fn waits_for_client(&mut self, token: u64) -> bool {
        let Some(place) = place(&mut self.places, token) else { return false };
        let gone = place.missed.intersects(EventFlags::HUP | EventFlags::ERR);
        let since_ns = self.now_ns.saturating_sub(PATIENCE_NS);
        match self.hub.pool.withdraw(token, |conn| gone || conn.stamps.complete_ns <= since_ns) {
            Withdrawn::Taken(mut conn) => {
                self.write_off(&mut conn);
                self.come_home(conn);
                self.close(token);
                false
            }
            Withdrawn::Stays => true,
            Withdrawn::Absent => false,
        }
    }

    /// Writes down a request that has lost its client and has not seen the application.
    pub(super) fn write_off(&mut self, conn: &mut Conn) {
        conn.open_response(false);
        conn.response.status = GONE;
        conn.outcome = Outcome::ClientGone;
        conn.stamps.done_ns = self.now_ns;
        self.account_unserved(conn);
    }
}
