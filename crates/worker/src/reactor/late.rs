//! Requests whose time is over: answered by the loop in the application's place, and written down when their thread
//! comes back, or never does.

use super::{Reactor, add};
use crate::conn::Conn;
use crate::http::refusal::{Page, page};
use crate::outcome::{GONE, Outcome};
use ferricorn_core::claim::Claim;
use ferricorn_core::scoreboard::InFlightView;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Status of a request that the application did not answer in time (RFC 9110 section 15.6.5).
pub const LATE: u16 = 504;

/// So many bytes any empty socket takes.
const SURE: usize = 16 << 10;

/// An answered request whose thread has not come back.
#[derive(Debug)]
pub(super) struct Late {
    token: u64,
    call: InFlightView,
    socket: Arc<OwnedFd>,
    answered_ns: u64,
    outcome: Outcome,
    /// Of the answer.
    body_bytes: u64,
}

impl Late {
    /// Says on a connection what became of its request.
    fn stamp(&self, conn: &mut Conn) {
        conn.outcome = self.outcome;
        if self.outcome != Outcome::Cut {
            conn.response.status = if self.outcome == Outcome::ClientGone { GONE } else { LATE };
            conn.response.body_bytes = self.body_bytes;
        }
        conn.stamps.done_ns = self.answered_ns;
    }
}

/// Sends a page in the application's place; returns the bytes of its body, or `None` if the client has gone. Nothing of ours
/// is unsent where this is done, so it fits.
pub(crate) fn answer_over(socket: BorrowedFd<'_>, answer: &Page<'_>) -> Option<u64> {
    let mut bytes = Vec::new();
    page(&mut bytes, answer);
    let head = memchr::memmem::find(&bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    make_room(socket, bytes.len());
    let sent = send(socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    let _ = shutdown(socket, Shutdown::Write);
    sent.ok().map(|_| (bytes.len() - head) as u64)
}

/// Sees to it that an empty socket takes an answer at once, of which nothing can be sent later.
pub(super) fn make_room(socket: BorrowedFd<'_>, len: usize) {
    if len > SURE {
        // Where it cannot be had, a large page of the user's may be cut.
        let _ = set_socket_send_buffer_size(socket, 4 * len);
    }
}

impl Reactor {
    /// Answers a request whose time is over, or cuts its response where that has begun. The thread that has the
    /// connection finds out by itself, when it next wants to send.
    pub(crate) fn answer_late(&mut self, call: &InFlightView, detail: &str) -> Claim {
        let claim = self.hub.slot.clients[call.place as usize].time_out(call.id);
        let id = self.hub.request_id(call.id);
        let is_withdrawn = self.is_withdrawn(call.place);
        let Some(place) = self.places.get(call.place as usize) else { return Claim::Over };
        let Some(socket) = place.socket.clone() else { return Claim::Over };
        let token = u64::from(place.generation) << 32 | u64::from(call.place);
        let (outcome, body_bytes) = match claim {
            Claim::Over => return claim,
            Claim::Cut => {
                // A client that has gone has got its cut already.
                let _ = shutdown(&*socket, Shutdown::Both);
                (Outcome::Cut, 0)
            }
            Claim::Answer => {
                let (form, head_only) = (place.form, place.head_only);
                let own = self.hub.options.error_page.as_ref();
                let answer = Page { form, request: &id, own, ..Page::new(LATE, detail, head_only) };
                let sent = answer_over(socket.as_fd(), &answer);
                sent.map_or((Outcome::ClientGone, 0), |bytes| (Outcome::TimedOut, bytes))
            }
        };
        if !is_withdrawn {
            add(&self.hub.slot.timed_out, 1);
        }
        let (call, answered_ns) = (call.clone(), self.now_ns);
        let late = Late { token, call, socket, answered_ns, outcome, body_bytes };
        self.count_late(&late);
        self.late.push(late);
        self.forget(token);
        claim
    }

    /// Counts a request that was answered in the application's place at once: its thread may never come free.
    fn count_late(&mut self, late: &Late) {
        let mut conn = Conn::stand_in(late.socket.clone(), &late.call);
        late.stamp(&mut conn);
        self.count(&mut conn);
        if let Some(record) = self.hub.slot.used_records().iter().find(|record| record.is_of(late.call.id)) {
            record.is_counted(late.call.id);
        }
    }

    /// Takes a connection back; those that were answered meanwhile are written down with the truth, and closed.
    pub(super) fn come_late(&mut self, mut conn: Box<Conn>) -> Option<Box<Conn>> {
        let Some(at) = self.late.iter().position(|late| late.token == conn.token) else { return Some(conn) };
        let late = self.late.swap_remove(at);
        self.write_down(&late, &mut conn);
        None
    }

    /// Writes down the requests whose threads do not come back.
    pub(crate) fn give_up_late(&mut self) {
        for late in std::mem::take(&mut self.late) {
            let mut conn = Conn::stand_in(late.socket.clone(), &late.call);
            self.write_down(&late, &mut conn);
        }
    }

    fn write_down(&mut self, late: &Late, conn: &mut Conn) {
        self.away -= 1;
        late.stamp(conn);
        if late.outcome == Outcome::Cut {
            // What of its response had gone out is known to its thread alone.
            self.count_status(conn);
        }
        self.log_access(conn);
        self.complete();
    }

    /// Returns how many requests are with the application that still wait for their answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.away - self.late.len()
    }

    /// Returns the descriptors of clients that were answered and whose threads have not come back.
    pub(crate) fn late_clients(&self) -> impl Iterator<Item = u32> {
        self.late.iter().map(|late| late.socket.as_raw_fd().unsigned_abs())
    }

    /// Returns how many threads have not come back from requests that are answered.
    pub(crate) fn stuck(&self) -> usize {
        self.late.len()
    }
}
