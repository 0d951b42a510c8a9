//! A worker process: the event loop, HTTP/1.1, WebSocket, takeover of a slow loop, app threads, hand-over between siblings.
//!
//! The application is the trait [`App`]; nothing here knows Python. A request's way: [`reactor`] accepts and reads,
//! [`http`] parses, [`conn`] holds it, [`run`] calls the application and [`reactor`] writes the responses of a batch
//! together. Not for: deciding about processes (`core::fleet`), settings (`settings`), or unsafe code (`sys`).
#![forbid(unsafe_code)]

mod access;
mod app;
mod circuits;
mod climb;
mod conn;
mod date;
pub mod guardian;
mod handover;
pub mod http;
mod nested;
mod offload;
mod options;
mod outcome;
mod pool;
mod reactor;
mod run;
mod spool;
mod stage;
mod tally;
pub mod websocket;

pub use access::{AccessFormat, AccessLog};
pub use app::{App, At, Interpreter, Sight, Stop, Tasks, Tell, TellHeld};
pub use conn::{Body, Conn, FileBody, Heard, Peer, Piece};
pub use ferricorn_core::pattern::Route;
pub use nested::Nested;
pub use offload::Offload;
pub use options::{Level, Log, Options, Unit};
pub use reactor::LATE;
pub use run::{Context, Exit, Signals, run};
pub use tally::RouteId;
