//! ASGI 3: requests as tasks of an asyncio loop, in which the worker's own loop is nested.
//!
//! [`Driver`] is what asyncio calls, [`Asgi`] what the worker's loop calls. A request becomes a scope ([`scope`]), a
//! [`Cycle`] with its `receive` and `send`, and a task. The asyncio half is `ferricorn/asgi.py`. Not for: HTTP as bytes.

mod app;
mod awaitable;
mod cycle;
mod driver;
mod ending;
mod http;
mod scope;
mod spawn;
mod websocket;

pub(crate) use app::{Asgi, AsgiParts};
pub(crate) use driver::Driver;
