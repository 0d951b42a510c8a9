//! `ferricornctl top`: a server as it lives, on one screen: its workers, the requests in flight, its routes, its incidents.
//!
//! [`reading`] looks at a server at one moment, [`frame`] makes of two such moments what is shown, [`state`] is what the
//! person at the keyboard has chosen ([`keys`]), [`draw`] puts both on a screen, [`plain`] on paper, [`run`] is the loop. Not
//! for: changing a server, and not for computing numbers, which is `core::figures`' work.

mod details;
mod draw;
mod frame;
mod keys;
mod layout;
mod plain;
mod reading;
mod run;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use run::{interactive, once};
