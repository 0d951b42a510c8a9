//! The observer, a process beside the server: it sees requests get slow and workers die, finds out from outside where
//! and why, and keeps records. It shares no fate with what it observes: killed, it is started again, and no request notices.
//!
//! [`observer`] is the process, [`evidence`] what is seen at one moment ([`stack`]: Python, [`kernel`]: the rest), [`journal`]
//! the file of records. Not for: answering clients, freeing threads, deciding about workers; and it knows nothing of the server's
//! code but the scoreboard.
#![forbid(unsafe_code)]

pub mod database;
pub mod evidence;
pub mod journal;
mod kernel;
pub mod observer;
pub mod stack;

#[cfg(test)]
mod tests;
