//! What comes out of a WebSocket and what can go wrong in it: words that the caller and the protocol share.
//!
//! Not for: the rules that lead to them (see [`super::socket`]).

/// What the client has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message of text.
    Text(String),
    /// A message of bytes.
    Binary(Vec<u8>),
    /// A ping; the pong is in the output already.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The end, with 1005 for a Close without code. If it was not ours that the client answers, the answer is in the
    /// output. The server closes the connection when the output is sent.
    Close {
        /// Why.
        code: u16,
        /// The same in words, mostly none.
        reason: String,
    },
}

/// How the client broke the protocol or a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The code that was sent in Close.
    pub code: u16,
    /// The reason that was sent with it.
    pub reason: &'static str,
}

impl Fault {
    pub(super) const fn protocol(reason: &'static str) -> Self {
        Self { code: 1002, reason }
    }

    pub(super) const fn encoding() -> Self {
        Self { code: 1007, reason: "invalid UTF-8" }
    }

    pub(super) const fn too_big() -> Self {
        Self { code: 1009, reason: "message too big" }
    }
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// Close was sent: nothing may follow it.
    Closed,
    /// A code that may not stand in Close.
    Code(u16),
    /// The payload of a ping is longer than 125 bytes.
    Ping,
}

/// Tells whether a code may stand in Close (RFC 6455 section 7.4 and IANA's registry).
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
