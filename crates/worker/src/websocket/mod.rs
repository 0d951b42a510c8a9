//! WebSocket (RFC 6455) with compressed messages (RFC 7692) as bytes: handshake, frames, messages, keepalive.
//!
//! Server side only. Pure: no socket, no clock, no Python. A connection's way: [`Handshake`] reads the request and
//! writes the 101; [`Socket`] then takes the bytes that arrive, gives [`Event`]s, and appends what is to be sent to the
//! caller's buffer; [`Keepalive`] says when to ping and when to give up.
//! Not for: limiting how many events wait for the application; that is the caller's, by not asking for the next one.

mod compression;
mod event;
mod extension;
mod frame;
mod handshake;
mod keepalive;
mod socket;

pub use event::{Event, Fault, Unsendable, is_close_code};
pub use extension::{Agreement, Policy};
pub use handshake::Handshake;
pub use keepalive::{Due, Keepalive};
pub use socket::Socket;
