//! The observer, a process beside the server: it sees requests get slow and workers die, finds out from outside where
//! and why, and keeps records. It shares no fate with what it observes: killed, it is started again, and no request notices.
//!
//! [`observer`] is the process, [`evidence`] what is seen at one moment ([`stack`]: Python, [`kernel`]: the rest), [`store`]
//! what is kept, [`export`] and [`admin`] how others are told. Not for: answering clients, freeing threads, deciding about
//! workers; and it knows nothing of the server's
//! code but the scoreboard.
#![forbid(unsafe_code)]

mod act;
pub mod admin;
pub mod attached;
pub mod bus;
mod changes;
pub mod database;
mod engine;
pub mod evidence;
pub mod export;
mod kernel;
mod object;
pub mod observer;
mod pidfile;
mod process;
mod rhythm;
pub mod source;
pub mod stack;
pub mod store;

#[cfg(test)]
mod tests;
