//! A stock Gunicorn (23 to 27), seen from outside: unchanged, unrestarted, asked nothing but what it answers anybody. What is
//! seen becomes the same snapshot, the same lives and the same events as those of our own server.
//!
//! Each file reads one thing: [`tree`] the processes, [`heartbeat`] their signs of life, [`connections`] the kernel's view of
//! their clients, [`look`] what stacks show of requests, [`requests`] the two together, [`logs`] with [`format`], [`events`] and
//! [`tail`] what is written, [`statsd`] what is sent, [`control`] what the control socket shows, [`settings`] what was
//! configured, [`deaths`] why workers end, [`routes`] the numbers, [`ledger`] the lines of the log that are counted.
//! [`observe`] puts them together, with [`hear`], [`endings`] and [`view`]. What cannot be seen is said in the snapshot's `gaps`.
//!
//! Not for: evidence and diagnosis, which are the same for every source.

mod attach;
mod class;
mod connections;
mod control;
mod deaths;
mod endings;
mod events;
mod format;
mod hear;
mod heartbeat;
mod ledger;
mod logs;
mod look;
mod observe;
mod requests;
mod routes;
mod settings;
mod statsd;
mod tail;
mod tree;
mod view;

pub use attach::{AttachError, Options};
pub use observe::{Gunicorn, Observation};
pub(crate) use tree::Serving;
