//! When to ping a client, and when to give it up. Time is an argument.
//!
//! Any byte counts as a sign of life, not only a pong: a client that is sending a long message cannot put one into it.
//! Not for: writing the ping or closing; the caller does what is due.

/// What to do at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this time, in nanoseconds; `u64::MAX` if nothing ever.
    Wait(u64),
    /// Send a ping, then ask again.
    Ping,
    /// The client has not answered a ping, or a Close: close the connection.
    Lost,
}

/// The keepalive of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    interval_ns: u64,
    timeout_ns: u64,
    ping_at_ns: u64,
    /// By when something must have been heard; `u64::MAX` if nothing is waited for.
    lost_at_ns: u64,
    closing: bool,
}

impl Keepalive {
    /// Begins at the handshake. An interval of 0 sends no pings; a timeout of 0 waits for answers without end.
    pub fn new(interval_ns: u64, timeout_ns: u64, now_ns: u64) -> Self {
        let ping_at_ns = after(now_ns, interval_ns);
        Self { interval_ns, timeout_ns, ping_at_ns, lost_at_ns: u64::MAX, closing: false }
    }

    /// Bytes have arrived.
    pub fn heard(&mut self) {
        if !self.closing {
            self.lost_at_ns = u64::MAX;
        }
    }

    /// Close was sent: from now on only the client's Close is waited for, `timeout_ns` long.
    pub fn closing(&mut self, timeout_ns: u64, now_ns: u64) {
        self.closing = true;
        self.ping_at_ns = u64::MAX;
        self.lost_at_ns = after(now_ns, timeout_ns);
    }

    /// Says what is due. `reading` is false while the caller leaves the client's bytes unread: a client that cannot be
    /// heard is not lost.
    pub fn due(&mut self, now_ns: u64, reading: bool) -> Due {
        if !reading && !self.closing {
            self.lost_at_ns = u64::MAX;
        }
        if now_ns >= self.lost_at_ns {
            return Due::Lost;
        }
        if now_ns >= self.ping_at_ns {
            self.ping_at_ns = after(now_ns, self.interval_ns);
            self.lost_at_ns = self.lost_at_ns.min(after(now_ns, self.timeout_ns));
            return Due::Ping;
        }
        Due::Wait(self.ping_at_ns.min(self.lost_at_ns))
    }
}

/// A span of 0 never ends.
fn after(now_ns: u64, span_ns: u64) -> u64 {
    if span_ns == 0 { u64::MAX } else { now_ns.saturating_add(span_ns) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_client_is_lost_a_timeout_after_the_first_unanswered_ping() {
        let mut keepalive = Keepalive::new(20, 30, 100);
        assert_eq!(keepalive.due(119, true), Due::Wait(120));
        assert_eq!(keepalive.due(120, true), Due::Ping);
        assert_eq!(keepalive.due(120, true), Due::Wait(140));
        assert_eq!(keepalive.due(141, true), Due::Ping);
        assert_eq!(keepalive.due(142, true), Due::Wait(150));
        assert_eq!(keepalive.due(150, true), Due::Lost);
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let mut keepalive = Keepalive::new(20, 30, 0);
        for round in 1..10 {
            assert_eq!(keepalive.due(round * 20, true), Due::Ping);
            keepalive.heard();
            assert_eq!(keepalive.due(round * 20 + 1, true), Due::Wait(round * 20 + 20));
        }
    }

    #[test]
    fn who_is_not_read_is_not_lost() {
        let mut keepalive = Keepalive::new(20, 20, 0);
        assert_eq!(keepalive.due(20, true), Due::Ping);
        assert_eq!(keepalive.due(45, false), Due::Ping);
        assert_eq!(keepalive.due(64, true), Due::Wait(65));
        assert_eq!(keepalive.due(65, true), Due::Lost);
    }

    #[test]
    fn zero_switches_off() {
        assert_eq!(Keepalive::new(0, 20, 5).due(u64::MAX - 1, true), Due::Wait(u64::MAX));
        let mut patient = Keepalive::new(20, 0, 0);
        assert_eq!(patient.due(20, true), Due::Ping);
        assert_eq!(patient.due(40, true), Due::Ping);
    }

    #[test]
    fn a_close_is_waited_for_whatever_else_arrives() {
        let mut keepalive = Keepalive::new(20, 20, 0);
        keepalive.closing(10, 15);
        keepalive.heard();
        assert_eq!(keepalive.due(20, false), Due::Wait(25));
        assert_eq!(keepalive.due(25, false), Due::Lost);
    }
}
