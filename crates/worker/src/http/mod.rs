//! HTTP/1.1 as bytes: request heads, body framing, response heads, refusals. Pure: no socket, no clock, no Python.

pub mod body;
pub mod error_page;
pub mod head;
pub mod reason;
pub mod refusal;
pub mod request_start;
pub mod response;
pub mod time_left;
pub mod token;
