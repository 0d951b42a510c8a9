//! What a worker needs to know of the settings, and where its words go. Plain data, filled by the composition root.

use crate::http::error_page::ErrorPage;
use crate::http::head::{Head, Rules};
use crate::offload::Offload;
pub use ferricorn_core::log::Level;
use ferricorn_core::pattern::Route;
use std::net::IpAddr;
use std::path::PathBuf;

/// In what an application works on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A thread of its own, which the worker calls.
    Thread,
    /// A task of an event loop in which the worker's is nested: begun with the head, its body follows.
    Task,
    /// A greenlet of a hub in which the worker's loop is nested.
    Greenlet,
}

impl Unit {
    /// Tells whether the worker's loop is nested in the application's.
    pub fn is_nested(self) -> bool {
        self != Self::Thread
    }

    /// Returns what it is called.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Task => "task",
            Self::Greenlet => "greenlet",
        }
    }
}

/// Settings of a worker. Times are nanoseconds; 0 means "no limit" unless said otherwise.
pub struct Options {
    /// How strictly heads are read.
    pub rules: Rules,
    /// App threads.
    pub threads: usize,
    /// In what the application works on a request.
    pub unit: Unit,
    /// How long a callback may hold the application's loop.
    pub loop_block_ns: u64,
    /// Longest message of a WebSocket in bytes, decompressed.
    pub message_max: usize,
    /// How often a WebSocket is pinged; 0 for never.
    pub ping_interval_ns: u64,
    /// How long its answer may take; 0 for any time.
    pub ping_timeout_ns: u64,
    /// Most open client connections.
    pub connections_max: usize,
    /// Most requests waiting for an app thread.
    pub queue_max: usize,
    /// Idle time of a kept connection; 0 closes after each response.
    pub keepalive_ns: u64,
    /// Time for a whole head.
    pub header_timeout_ns: u64,
    /// Longest pause within a body.
    pub body_timeout_ns: u64,
    /// Longest time without the client taking a byte.
    pub write_timeout_ns: u64,
    /// Time to finish after TERM.
    pub graceful_timeout_ns: u64,
    /// The application's deadline: the call, and each piece of its response.
    pub timeout_ns: u64,
    /// Deadlines of single routes, the first that fits; 0 for none.
    pub route_timeouts: Vec<(Route, u64)>,
    /// The deadline of a whole request, from its first byte.
    pub request_timeout_ns: u64,
    /// Whether the socket that a late request's thread waits for is shut.
    pub unblock_socket: bool,
    /// Longest time that a request waits for an app thread.
    pub queue_timeout_ns: u64,
    /// Requests after which the worker asks to be replaced; 0 for never.
    pub requests_max: u64,
    /// Bytes of a body kept in memory.
    pub body_memory_max: usize,
    /// Largest body in bytes; 0 for any.
    pub body_max: u64,
    /// Where larger bodies go.
    pub upload_dir: PathBuf,
    /// The user's page for browsers, in the place of ours.
    pub error_page: Option<ErrorPage>,
    /// Which requests are answered at once and worked on later.
    pub offload: Option<Offload>,
    /// What a request has to show here, which is a job of another server's client then ([`Pass`](ferricorn_core::offload::Pass)).
    pub pass: Option<String>,
    /// Whether a request is ended like a late one when the dispatcher withdraws it.
    pub ends_withdrawn: bool,
    /// Which peers may speak for their clients (`forwarded_allow_ips`); unix peers always may.
    pub trusts: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl Options {
    /// Tells whether any request has a deadline.
    pub(crate) fn has_deadlines(&self) -> bool {
        let of_requests = self.request_timeout_ns > 0 || self.rules.deadline_header.is_some();
        self.timeout_ns > 0 || of_requests || !self.route_timeouts.is_empty() || self.ends_withdrawn
    }

    /// Tells whether a request is answered without the application, which then cannot ask for its body.
    pub(crate) fn is_kept(&self, head: &Head) -> bool {
        self.offload.as_ref().is_some_and(|offload| offload.errand(head).is_some())
    }

    /// Returns the longest time that the application may take for any request; 0 if there is one that may take any time.
    pub(crate) fn longest_ns(&self) -> u64 {
        let mut times = self.route_timeouts.iter().map(|(_, time_ns)| *time_ns).chain([self.timeout_ns]);
        let longest_ns = times.clone().max().unwrap_or(0);
        if times.any(|time_ns| time_ns == 0) { self.request_timeout_ns } else { longest_ns }
    }

    /// Returns how long the application may take for this request; 0 for any time.
    pub(crate) fn time_for(&self, head: &Head) -> u64 {
        let route = |(route, _): &&(Route, u64)| route.fits(head.method(), head.get(&head.path));
        self.route_timeouts.iter().find(route).map_or(self.timeout_ns, |(_, time_ns)| *time_ns)
    }
}

impl Default for Options {
    /// Gunicorn's defaults, and ours where it has none.
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            rules: Rules::default(),
            threads: 1,
            unit: Unit::Thread,
            loop_block_ns: SECOND / 10,
            message_max: 16 << 20,
            ping_interval_ns: 20 * SECOND,
            ping_timeout_ns: 20 * SECOND,
            connections_max: 1000,
            queue_max: 1024,
            keepalive_ns: 2 * SECOND,
            header_timeout_ns: 30 * SECOND,
            body_timeout_ns: 60 * SECOND,
            write_timeout_ns: 60 * SECOND,
            graceful_timeout_ns: 30 * SECOND,
            timeout_ns: 30 * SECOND,
            route_timeouts: Vec::new(),
            request_timeout_ns: 0,
            unblock_socket: false,
            queue_timeout_ns: 30 * SECOND,
            requests_max: 0,
            body_memory_max: 1 << 20,
            body_max: 0,
            upload_dir: std::env::temp_dir(),
            error_page: None,
            offload: None,
            pass: None,
            ends_withdrawn: false,
            trusts: Box::new(|address| address.is_loopback()),
        }
    }
}

/// The error log. Called by threads that never hold the interpreter: an implementation must not wait for it.
pub trait Log: Send + Sync {
    /// Writes one line.
    fn log(&self, level: Level, message: &str);
    /// Opens the file again, after rotation.
    fn reopen(&self);
}
