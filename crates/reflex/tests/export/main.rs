//! How the observer tells others, against those others: Debian's Prometheus and its promtool, Alertmanager, a receiver of OTLP, raw
//! sockets. The server is a real scoreboard with made-up numbers, and a thread that looks at it as the observer does.
//!
//! Tests of a program that is not installed say so and pass.

mod admin;
mod alertmanager;
mod exposition;
mod otlp;
mod process;
mod prometheus;
mod server;
