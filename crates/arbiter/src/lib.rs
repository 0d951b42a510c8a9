//! The master process: the shell round `core::fleet`. It owns listeners, pidfile, signals and the scoreboard's memory,
//! forks workers and reaps them. One thread, one poll; it never waits for a worker.
//!
//! Not for: decisions (the fleet's), Python (the [`Host`]'s), requests (the worker's).
#![forbid(unsafe_code)]

mod birth;
mod companion;
mod host;
mod inquest;
mod notify;
mod places;
mod run;
mod sockets;
mod stack;

pub use companion::Kind as CompanionKind;
pub use ferricorn_core::log::Level;
pub use ferricorn_sys::listener::{Bind, ListenAddress, Listener};
pub use ferricorn_sys::process::Fork;
pub use host::{Context, Dispatch, Ended, Hook, Host, Observation, Options, WorkerSpec};
pub use run::run;
