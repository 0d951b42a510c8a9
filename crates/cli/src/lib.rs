//! `ferricornctl`: what operators type to see inside a running server.
//!
//! It reads the server's scoreboard (shared memory that the arbiter and its workers write anyway), the store of incidents and
//! records, and stacks out of a worker's memory, so that looking costs the server nothing and works while every worker is
//! stuck. One verb is one module. Not for: changing a
//! server, and not for computing numbers, which is `core::snapshot`'s work.
#![forbid(unsafe_code)]

mod access_log;
mod actions;
mod attach;
mod changes;
mod check;
mod command;
mod deploy;
mod failure;
mod hosts;
mod incidents;
mod jobs;
mod locate;
mod nginx;
mod policy;
mod records;
#[cfg(test)]
mod render_tests;
mod requests;
mod run;
mod scaled;
mod slow;
mod socket;
mod source;
mod stack;
mod stores;
mod table;
mod top;
mod vitals;
mod why;
#[cfg(test)]
mod why_tests;
mod workers;

use ferricorn_core::units;
pub use locate::{SCOREBOARD_NAME, SETTINGS_NAME};
pub use run::run;
