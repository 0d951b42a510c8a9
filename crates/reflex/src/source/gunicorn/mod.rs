//! A stock Gunicorn.
mod control;
mod events;
mod format;
mod heartbeat;
mod process;
mod settings;
mod statsd;
mod tail;
