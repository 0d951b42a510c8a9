//! What a pre-flight may know. Everything may be unknown: an `Option` without a value, never a guess.
//! As JSON these are public (docs/ferricornctl.md): add fields, never change one.

use crate::change::Standing;
use crate::diagnosis::Gap;
use crate::growth::Growth;
use crate::snapshot::Kind;
use serde::{Deserialize, Serialize};

/// What is known of a server and of what stands round it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Which server it is; none where it does not run.
    pub kind: Option<Kind>,
    /// Its settings.
    pub said: Said,
    /// The places of a proxy that lead to it; none if no proxy was looked at.
    pub proxies: Option<Vec<Proxy>>,
    /// Where a proxy leads requests that become jobs to it, and questions about them elsewhere; none if that could not be looked at.
    pub detours: Option<Vec<Detour>>,
    /// The databases that it uses; none if nobody has told of them.
    pub databases: Option<Vec<DatabaseFacts>>,
    /// Who stops it, and how patiently.
    pub stop: Option<Stop>,
    /// Where it runs.
    pub surroundings: Surroundings,
    /// What is seen of the application.
    pub application: Application,
    /// What was seen while it ran.
    pub observed: Observed,
    /// What could not be looked at, and how it could be.
    pub unseen: Vec<Gap>,
}

/// Settings by their names. Times are seconds, 0 for none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "each is the setting of its name")]
pub struct Said {
    pub worker_class: Option<String>,
    pub workers: Option<u32>,
    pub threads: Option<u32>,
    pub timeout_s: Option<f64>,
    pub route_timeouts_s: Option<Vec<(String, f64)>>,
    pub graceful_timeout_s: Option<f64>,
    pub keepalive_s: Option<f64>,
    pub max_requests: Option<u64>,
    pub max_requests_jitter: Option<u64>,
    pub bind: Option<Vec<String>>,
    pub forwarded_allow_ips: Option<Vec<String>>,
    pub reflex: Option<bool>,
    pub request_timeout_s: Option<f64>,
    pub db_statement_timeout: Option<String>,
    pub outbound_timeout: Option<String>,
    pub state_dir: Option<String>,
    /// Whether a `proc_name` was given.
    pub proc_name_given: Option<bool>,
    pub offload: Option<Vec<JobRoute>>,
    pub offload_prefer: Option<Vec<JobRoute>>,
    pub offload_workers: Option<u32>,
    pub offload_memory_limit: Option<u64>,
    pub offload_prefix: Option<String>,
    /// What may be told of `offload_broker`, for each of its URLs; empty if there is none.
    pub offload_broker: Option<Vec<Broker>>,
}

/// Requests that become jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobRoute {
    /// The route: `POST /api/reports/*`.
    pub route: String,
    /// How long an attempt may take, seconds; 0 for any time.
    pub timeout_s: f64,
    /// How often a job that failed is begun again.
    pub retries: u32,
}

/// A broker. Nothing of its URL that could be a secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Broker {
    /// The scheme of its URL: `amqp`.
    pub scheme: String,
    /// Whether it is on another host.
    pub is_elsewhere: Option<bool>,
    /// Whether its URL has a password, or names a certificate of the client's own.
    pub has_password: bool,
}

/// A server of a proxy that leads requests that become jobs here, and questions about them elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Detour {
    /// The proxy: `nginx`.
    pub name: String,
    /// What takes the questions: `server example.org, location /.well-known/ (/etc/nginx/nginx.conf:12)`.
    pub place: String,
    /// Where it leads them: `varnish:6081`; none if it answers them itself.
    pub to: Option<String>,
    /// The place that leads requests here: `location /api`.
    pub beside: String,
    /// Where that leads, as `proxy_pass` takes it: `http://app`.
    pub upstream: String,
}

/// A place of a proxy's configuration that leads to the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Proxy {
    /// The proxy: `nginx`.
    pub name: String,
    /// The place: `server example.org, location /api (/etc/nginx/nginx.conf:12)`.
    pub place: String,
    /// Where it leads.
    pub upstream: String,
    /// How many servers stand behind that name.
    pub servers: u32,
    /// `proxy_read_timeout`, seconds.
    pub read_timeout_s: f64,
    /// `proxy_send_timeout`, seconds.
    pub send_timeout_s: f64,
    /// `proxy_connect_timeout`, seconds.
    pub connect_timeout_s: f64,
    /// For how long it keeps an idle connection to the server, seconds; none if it keeps none.
    pub idle_s: Option<f64>,
    /// The words of `proxy_next_upstream`.
    pub next_upstream: Vec<String>,
}

/// What is known of a database. Given by who can ask it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseFacts {
    /// Its name for people.
    pub name: String,
    /// Connections that it takes.
    pub max_connections: Option<u32>,
    /// Of them, those kept for superusers.
    pub reserved: Option<u32>,
    /// Connections that other programs hold.
    pub used_by_others: Option<u32>,
    /// Connections that one worker may open: the size of its pool with its overflow.
    pub pool_per_worker: Option<u32>,
    /// The pooler before it.
    pub pooler: Option<Pooler>,
}

/// What is known of a pooler (PgBouncer).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pooler {
    /// `query_wait_timeout`, seconds; 0 for none.
    pub query_wait_timeout_s: Option<f64>,
    /// Server connections that it opens for the application: `default_pool_size` with its reserve.
    pub pool_size: Option<u32>,
    /// `max_client_conn`.
    pub max_client_conn: Option<u32>,
}

/// Who stops the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stop {
    /// In words: `systemd (shop.service)`.
    pub by: String,
    /// After how many seconds it kills.
    pub timeout_s: f64,
    /// What sets that: `TimeoutStopSec`.
    pub setting: String,
}

/// Where the server runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Surroundings {
    /// The folder of its records.
    pub state_dir: Option<StateDir>,
    /// The folder of the workers' heartbeat files, where that is on a disk. Gunicorn alone has such files.
    pub heartbeat_on_disk: Option<String>,
    /// Whether its observer can read workers.
    pub tracing: Option<Tracing>,
}

/// The folder of the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StateDir {
    /// Its path; empty if no records are kept.
    pub path: String,
    /// Why nothing can be written there.
    pub trouble: Option<String>,
    /// On what it is: `tmpfs`, `nfs`, `overlay` and others; `other` for what is none of those that have a name here.
    pub file_system: Option<String>,
}

/// Whether the observer can read workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tracing {
    /// The user of the observer.
    pub observer_uid: u32,
    /// The user of the workers.
    pub worker_uid: u32,
    /// Whether the arbiter runs as another user than its workers. The kernel then counts them as not to be looked into.
    pub user_changed: bool,
    /// Whether the observer has CAP_SYS_PTRACE.
    pub may_trace: bool,
}

/// What is seen of the application from outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Application {
    /// The names of environment variables that speak of databases. Never their values.
    pub database_variables: Option<Vec<String>>,
}

/// What was seen while the server ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Observed {
    /// The share of their time in the application that workers have waited, 0 to 1.
    pub waiting_share: Option<f64>,
    /// The share of their time that app threads have been at work, 0 to 1.
    pub utilisation: Option<f64>,
    /// The lines of code whose calls to other services were seen without a timeout.
    pub no_timeout: Option<Vec<String>>,
    /// How the memory of workers grows with their requests; none if it does not, or it is not known.
    pub growth: Option<Growth>,
    /// The memory that all processes of the server may use together, bytes.
    pub memory_max: Option<u64>,
    /// What the workers run beside what is on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}
