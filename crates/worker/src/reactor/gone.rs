//! Requests for which nobody waits any more before a thread has taken them: their clients have gone, or the guardian has
//! answered while this process stood still. They take none, and are written down with 499, or 503.
//!
//! A reset, or a unix socket closed, is the end of a client. The end of its side alone (FIN) may mean that it has no more
//! to say: it is taken for the end of the client once its request has stood in line for a while.
//!
//! Where jobs are worked on, a request that was withdrawn is ended in the application as well: as a late one, without being one.

use super::{Reactor, place};
use crate::conn::Conn;
use crate::outcome::{GONE, Outcome};
use crate::pool::Withdrawn;
use ferricorn_core::offload::WITHDRAWN;
use ferricorn_core::scoreboard::REQUESTS_MAX;
use rustix::event::epoll::EventFlags;
use rustix::net::{RecvFlags, recv};
use std::os::fd::{AsFd, BorrowedFd};

/// Status of a request for which there was no thread (RFC 9110 section 15.6.4).
pub(crate) const BUSY: u16 = 503;

/// So long a request stands in line for a client that has ended its side.
const PATIENCE_NS: u64 = 100_000_000;

/// Tells whether the dispatcher has said, behind the request, that nobody wants it any more.
fn says_so(socket: BorrowedFd<'_>) -> bool {
    let mut word = [0; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    recv(socket, &mut word, flags).is_ok_and(|(count, _)| count == 1) && word == [WITHDRAWN]
}

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
            Withdrawn::Taken(conn) => {
                self.pass_over(conn);
                false
            }
            Withdrawn::Stays => true,
            Withdrawn::Absent => {
                let is_withdrawn = gone && place.away && self.hub.options.ends_withdrawn;
                if !(is_withdrawn && place.socket.as_ref().is_some_and(|socket| says_so(socket.as_fd()))) {
                    return false;
                }
                place.withdrawn = true;
                // One that is just entering the application is looked for again.
                !self.end_withdrawn(token as u32)
            }
        }
    }

    /// The time of a request in the application is over; false if it is not there yet.
    fn end_withdrawn(&mut self, place: u32) -> bool {
        let (hub, now_ns) = (&self.hub, self.now_ns);
        let records = hub.slot.in_flight[..hub.numbers().min(REQUESTS_MAX)].iter();
        let mut found = records.filter(|record| record.is_busy()).filter_map(|record| {
            let view = record.read().filter(|view| view.place == place)?;
            Some(record.expire(view.id, view.deadline_ns, now_ns))
        });
        let is_ended = found.next().unwrap_or(false);
        self.expired |= is_ended;
        is_ended
    }

    /// Tells, once, whether requests in flight are to be looked at before it is time.
    pub(crate) fn take_expired(&mut self) -> bool {
        std::mem::take(&mut self.expired)
    }

    /// Tells whether a request that is away was withdrawn.
    pub(crate) fn is_withdrawn(&self, place: u32) -> bool {
        self.places.get(place as usize).is_some_and(|place| place.withdrawn)
    }

    /// Lets go of a waiting request that is away, and of its connection.
    pub(crate) fn pass_over(&mut self, mut conn: Box<Conn>) {
        let token = conn.token;
        self.write_off(&mut conn);
        self.come_home(conn);
        self.close(token);
    }

    /// Writes down a request for which nobody waits and that has not seen the application.
    pub(super) fn write_off(&mut self, conn: &mut Conn) {
        let answered = conn.is_late();
        conn.open_response(false);
        (conn.response.status, conn.outcome) =
            if answered { (BUSY, Outcome::TimedOut) } else { (GONE, Outcome::ClientGone) };
        conn.stamps.done_ns = self.now_ns;
        self.account_unserved(conn);
    }
}
