//! WSGI in greenlets: the worker's loop nested in gevent's hub, a greenlet for each request.
//!
//! [`HubDriver`] is what gevent calls, [`Green`] what the worker's loop calls. In its greenlet a request is handled as in a
//! thread ([`Wsgi`](crate::wsgi::Wsgi)); only where that would wait for the client, it waits in the hub. The gevent half is
//! `ferricorn/greenlets.py`.

mod app;
mod driver;

pub(crate) use app::Green;
pub(crate) use driver::HubDriver;
