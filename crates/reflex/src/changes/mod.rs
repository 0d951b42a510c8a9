//! What a worker is made of, read from outside at its start, and what is on disk now: code, git's commit, installed distributions,
//! configuration, environment, interpreter. A thread of its own reads, because disks may hang; the engine takes what it has read
//! ([`Chronicle`]) and makes changes of it.
//!
//! Inside: [`scene`] says where to look, [`watcher`] is the thread, [`gather`] puts a fingerprint together of [`files`], [`git`],
//! [`distributions`] and [`process`]. Not for: what a difference means (`core::change`).

mod chronicle;
mod distributions;
mod files;
mod gather;
mod git;
mod process;
mod scene;
mod slots;
mod watcher;

pub(crate) use chronicle::{Chronicle, Keep, service};
pub(crate) use scene::Scene;
pub(crate) use slots::Slots;
