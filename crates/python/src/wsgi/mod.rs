//! WSGI (PEP 3333): from a parsed request to an environ, from what the application returns to a response.

mod app;
mod environ;
mod input;
mod respond;
mod socket;
mod start;

pub(crate) use app::{Seat, Wsgi, WsgiParts, log_failure, log_failure_at, replace};
pub(crate) use environ::method;
pub(crate) use start::Room;
