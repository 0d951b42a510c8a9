//! Safe types over system calls: the only unsafe code of the project outside Python's own interface.
//! Not for: decisions, logging, or anything that rustix already offers as a safe function.
#![expect(unsafe_code, reason = "this crate exists to hold it")]

pub mod cgroup;
pub mod clock;
pub mod daemon;
pub mod events;
pub mod exit;
pub mod file;
pub mod listener;
pub mod packets;
mod peer;
pub mod pidfile;
pub mod poster;
pub mod pressure;
pub mod process;
pub mod proctitle;
pub mod random;
pub mod shared;
pub mod signal;
pub mod slot;
pub mod sockets;
pub mod task;
pub mod unblock;
