//! A stock Gunicorn.
mod control;
mod deaths;
mod events;
mod format;
mod heartbeat;
mod logs;
mod process;
mod routes;
mod settings;
mod statsd;
mod tail;
mod tree;
