//! Where the observer's view of a server comes from. Each source makes the same [`ferricorn_core::snapshot::Snapshot`].
//! Not for: what is done with it.

pub mod gunicorn;
