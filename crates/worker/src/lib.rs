//! A worker process.
#![forbid(unsafe_code)]
pub mod http;
