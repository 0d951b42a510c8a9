//! `ferricornctl`: what operators type to see inside a running server.
//!
//! It reads the server's scoreboard (shared memory that the arbiter and its workers write anyway), the records of late
//! requests, and stacks out of a worker's memory, so that looking costs the server nothing and works while every worker is
//! stuck; of a stock Gunicorn it asks the observer. One verb is one module. Not for: changing a server, and not for
//! computing numbers, which is `core`'s work.
#![forbid(unsafe_code)]

mod access_log;
mod check;
mod command;
mod failure;
mod locate;
mod nginx;
mod records;
#[cfg(test)]
mod render_tests;
mod requests;
mod run;
mod slow;
mod socket;
mod source;
mod stack;
mod table;
mod top;
mod units;
mod vitals;
mod why;
mod workers;

pub use locate::{SCOREBOARD_NAME, SETTINGS_NAME};
pub use run::run;
