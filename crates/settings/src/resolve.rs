//! What the settings mean to the server: typed, with their bounds applied.
//! Not for: looking users and groups up, which needs the system's databases.

mod offload;

use crate::address::BindAddress;
use crate::check::{Invalid, check, seconds};
use crate::destination::{Destination, shown_text, url_of};
use crate::network::AllowList;
use crate::said::{Said, Source};
use crate::surroundings::Surroundings;
use crate::value::{Value, quoted};
pub use offload::{Celery, Offload, OffloadRoute, Webhooks};
use std::path::PathBuf;
use std::time::Duration;

/// The settings that the server acts upon. A setting that is served by Python only (hooks, loggers) or not at all is
/// found in [`Settings::said`]. Times of zero mean "no limit", numbers of zero what their documentation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// All that was said, for export to Python and for comparison after a reload.
    pub said: Said,
    /// `wsgi_app`.
    pub wsgi_app: Option<String>,
    /// `bind`.
    pub bind: Vec<BindAddress>,
    /// `backlog`.
    pub backlog: u32,
    /// `workers`.
    pub workers: usize,
    /// `worker_class`, with `sync` and several threads counted as gthread.
    pub worker_class: WorkerClass,
    /// `threads`, at least 1.
    pub threads: usize,
    /// `worker_connections`.
    pub worker_connections: usize,
    /// `max_requests`.
    pub max_requests: u64,
    /// `max_requests_jitter`.
    pub max_requests_jitter: u64,
    /// `timeout`.
    pub timeout: Duration,
    /// `graceful_timeout`.
    pub graceful_timeout: Duration,
    /// `keepalive`; zero closes at once.
    pub keepalive: Duration,
    /// `limit_request_line`, at most 8190; 0 for any length.
    pub limit_request_line: usize,
    /// `limit_request_fields`, from 1 to 32768.
    pub limit_request_fields: usize,
    /// `limit_request_field_size`, at least 1.
    pub limit_request_field_size: usize,
    /// `check_config`.
    pub check_config: bool,
    /// `print_config`.
    pub print_config: bool,
    /// `preload_app`.
    pub preload_app: bool,
    /// Whether files may be sent by the kernel: `sendfile` and the variable `SENDFILE`.
    pub sendfile: bool,
    /// `reuse_port`.
    pub reuse_port: bool,
    /// `chdir`, absolute.
    pub chdir: PathBuf,
    /// `daemon`.
    pub daemon: bool,
    /// `raw_env`, as names and values.
    pub raw_env: Vec<(String, String)>,
    /// `pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `user`.
    pub user: Identity,
    /// `group`.
    pub group: Identity,
    /// `umask`.
    pub umask: u32,
    /// `initgroups`.
    pub initgroups: bool,
    /// `tmp_upload_dir`.
    pub tmp_upload_dir: Option<PathBuf>,
    /// `secure_scheme_headers`, names in upper case.
    pub secure_scheme_headers: Vec<(String, String)>,
    /// `forwarded_allow_ips`. Peers on Unix sockets are trusted beside it.
    pub forwarded_allow_ips: AllowList,
    /// `pythonpath`, its directories in order.
    pub pythonpath: Vec<String>,
    /// `permit_obsolete_folding`.
    pub permit_obsolete_folding: bool,
    /// `strip_header_spaces`.
    pub strip_header_spaces: bool,
    /// `permit_unconventional_http_method`.
    pub permit_unconventional_http_method: bool,
    /// `permit_unconventional_http_version`.
    pub permit_unconventional_http_version: bool,
    /// `casefold_http_method`.
    pub casefold_http_method: bool,
    /// `forwarder_headers`, in upper case.
    pub forwarder_headers: Vec<String>,
    /// `header_map`.
    pub header_map: HeaderMap,
    /// `accesslog`.
    pub accesslog: Option<String>,
    /// `access_log_format`.
    pub access_log_format: String,
    /// `disable_redirect_access_to_syslog`.
    pub disable_redirect_access_to_syslog: bool,
    /// `errorlog`.
    pub errorlog: Option<String>,
    /// `loglevel`.
    pub loglevel: String,
    /// `capture_output`.
    pub capture_output: bool,
    /// `syslog`.
    pub syslog: bool,
    /// `enable_stdio_inheritance`.
    pub enable_stdio_inheritance: bool,
    /// `proc_name`, else `default_proc_name`.
    pub proc_name: String,
    /// `boot_timeout`, or what takes its place; zero for none.
    pub boot_timeout: Duration,
    /// `reload_soak`; zero for none.
    pub reload_soak: Duration,
    /// `header_timeout`.
    pub header_timeout: Duration,
    /// `body_timeout`.
    pub body_timeout: Duration,
    /// `write_timeout`.
    pub write_timeout: Duration,
    /// `request_timeout`; zero for none.
    pub request_timeout: Duration,
    /// `route_timeouts`: routes as they were written, and their times; zero for none.
    pub route_timeouts: Vec<(String, Duration)>,
    /// Whether `unblock` is `socket`.
    pub unblock_socket: bool,
    /// `db_statement_timeout`.
    pub db_statement_timeout: Limit,
    /// `outbound_timeout`.
    pub outbound_timeout: Limit,
    /// `deadline_header`, in lower case.
    pub deadline_header: Option<String>,
    /// `reflex`.
    pub reflex: bool,
    /// `asgi_disconnect_grace_period`; `None` under the names of Uvicorn's classes, which never cancel.
    pub disconnect_grace: Option<Duration>,
    /// `loop_block_limit`.
    pub loop_block_limit: Duration,
    /// `websocket_max_message_size`; the largest number for any size.
    pub websocket_max_message_size: usize,
    /// `websocket_ping_interval`; zero for never.
    pub websocket_ping_interval: Duration,
    /// `websocket_ping_timeout`; zero for none.
    pub websocket_ping_timeout: Duration,
    /// `state_dir`.
    pub state_dir: Option<PathBuf>,
    /// `queue_timeout`; zero for none.
    pub queue_timeout: Duration,
    /// `queue_limit`.
    pub queue_limit: usize,
    /// `body_memory_limit`.
    pub body_memory_limit: usize,
    /// `body_limit`; 0 for any size.
    pub body_limit: u64,
    /// `error_page`, absolute.
    pub error_page: Option<PathBuf>,
    /// `statsd_host` with what belongs to it.
    pub statsd: Option<Statsd>,
    /// `admin_bind`.
    pub admin_bind: Option<BindAddress>,
    /// `otlp_endpoint`.
    pub otlp_endpoint: Option<String>,
    /// `notify`.
    pub notify: Vec<Destination>,
    /// `reflex_mode`; none if nobody has said it.
    pub reflex_mode: Option<String>,
    /// `reflex_policy`.
    pub reflex_policy: Option<PathBuf>,
    /// `workers_min` and `workers_max`, if the number is not fixed.
    pub workers_between: Option<(u32, u32)>,
    /// `reflex_fleet`, as it was said.
    pub reflex_fleet: Option<String>,
    /// `reflex_history`, as it was said.
    pub reflex_history: Option<String>,
    /// `offload` and its like.
    pub offload: Offload,
    /// `reflex_host`.
    pub reflex_host: Option<String>,
    /// `reflex_database`, as it was said.
    pub reflex_database: Vec<String>,
}

/// A time that may be left to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// None.
    Off,
    /// What fits the deadline.
    Auto,
    /// So long.
    After(Duration),
}

/// Where statsd listens, and what every metric carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statsd {
    /// Host and port, or a path.
    pub address: BindAddress,
    /// `statsd_prefix`, with the dot that ends it, or empty.
    pub prefix: String,
    /// `dogstatsd_tags`.
    pub tags: String,
}

/// A kind of worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerClass {
    /// One request at a time.
    Sync,
    /// Requests in threads.
    Gthread,
    /// Requests in tasks of an event loop; by the name that was said.
    Asgi(String),
    /// Requests in greenlets; by the name that was said.
    Gevent(String),
    /// Not served: the name that was said.
    Other(String),
}

impl WorkerClass {
    /// Returns the name that Gunicorn shows at start.
    pub fn name(&self) -> &str {
        match self {
            WorkerClass::Sync => "sync",
            WorkerClass::Gthread => "gthread",
            WorkerClass::Asgi(name) | WorkerClass::Gevent(name) | WorkerClass::Other(name) => name,
        }
    }

    fn is_uvicorn(&self) -> bool {
        matches!(self, WorkerClass::Asgi(name) if name.contains("Uvicorn"))
    }

    fn of(name: &str, threads: usize) -> WorkerClass {
        let short = name.strip_prefix("egg:gunicorn#").unwrap_or(name);
        if short == "gthread" || short.ends_with("gthread.ThreadWorker") || short == "ThreadWorker" {
            WorkerClass::Gthread
        } else if short == "sync" || short.ends_with("SyncWorker") {
            if threads > 1 { WorkerClass::Gthread } else { WorkerClass::Sync }
        } else if short == "asgi" || ASGI.iter().any(|class| short.ends_with(class)) {
            WorkerClass::Asgi(name.to_owned())
        } else if GEVENT.contains(&short) || short.ends_with("GeventWorker") {
            WorkerClass::Gevent(name.to_owned())
        } else {
            WorkerClass::Other(name.to_owned())
        }
    }
}

/// How the names of classes end that serve ASGI applications: Gunicorn's, Uvicorn's, and those that users derive from them.
const ASGI: [&str; 3] = ["ASGIWorker", "UvicornWorker", "UvicornH11Worker"];

/// Names of the worker class whose requests run in greenlets. Gunicorn's two of gevent's own server count as it.
const GEVENT: [&str; 5] = [
    "gevent",
    "gevent_wsgi",
    "gevent_pywsgi",
    "gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "GeventPyWSGIWorker",
];

/// Tells whether a worker class of this name is served.
pub(crate) fn is_served_class(name: &str) -> bool {
    !matches!(WorkerClass::of(name, 1), WorkerClass::Other(_))
}

/// What happens to header fields with an underscore in their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMap {
    /// The field is left out.
    Drop,
    /// The request is refused.
    Refuse,
    /// The field is let through.
    Dangerous,
}

/// A user or group to run as, not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

impl Settings {
    /// Returns the value of any setting by its name, in shape; an unknown name has none.
    pub fn value(&self, name: &str) -> Value {
        self.said.value(name)
    }
}

/// Finds out what the settings mean.
///
/// # Errors
/// When a value makes no sense, such as an address that cannot be read.
pub fn resolve(said: &Said, surroundings: &Surroundings<'_>) -> Result<Settings, Invalid> {
    let read = Reading { said };
    let threads = read.count::<usize>("threads").max(1);
    let class = WorkerClass::of(&read.value("worker_class").shown(), threads);
    let is_nested = matches!(class, WorkerClass::Asgi(_) | WorkerClass::Gevent(_));
    let chdir = read.text("chdir").map_or_else(|| surroundings.directory.to_owned(), PathBuf::from);
    Ok(Settings {
        wsgi_app: read.text("wsgi_app"),
        bind: read.each("bind", |text| BindAddress::parse(text).map_err(|error| error.to_string()))?,
        backlog: read.count("backlog"),
        workers: read.count("workers"),
        disconnect_grace: (!class.is_uvicorn()).then(|| read.seconds("asgi_disconnect_grace_period")),
        worker_class: class,
        threads,
        worker_connections: read.count("worker_connections"),
        max_requests: read.count("max_requests"),
        max_requests_jitter: read.count("max_requests_jitter"),
        timeout: read.seconds("timeout"),
        graceful_timeout: read.seconds("graceful_timeout"),
        keepalive: read.seconds("keepalive"),
        limit_request_line: read.count::<usize>("limit_request_line").min(8190),
        limit_request_fields: within(read.count("limit_request_fields"), 32_768),
        limit_request_field_size: match read.count("limit_request_field_size") {
            0 => 8190,
            size => size,
        },
        check_config: read.flag("check_config"),
        print_config: read.flag("print_config"),
        preload_app: read.flag("preload_app"),
        sendfile: sendfile(&read.value("sendfile"), surroundings),
        reuse_port: read.flag("reuse_port"),
        daemon: read.flag("daemon"),
        raw_env: read.each("raw_env", pair)?,
        pidfile: read.text("pidfile").map(PathBuf::from),
        user: read.identity("user", surroundings.user)?,
        group: read.identity("group", surroundings.group)?,
        umask: read.count("umask"),
        initgroups: read.flag("initgroups"),
        tmp_upload_dir: read.text("tmp_upload_dir").map(PathBuf::from),
        secure_scheme_headers: read.pairs("secure_scheme_headers")?,
        forwarded_allow_ips: read.networks("forwarded_allow_ips")?,
        pythonpath: read.pythonpath(),
        permit_obsolete_folding: read.flag("permit_obsolete_folding"),
        strip_header_spaces: read.flag("strip_header_spaces"),
        permit_unconventional_http_method: read.flag("permit_unconventional_http_method"),
        permit_unconventional_http_version: read.flag("permit_unconventional_http_version"),
        casefold_http_method: read.flag("casefold_http_method"),
        forwarder_headers: read.list("forwarder_headers").iter().map(|name| name.to_uppercase()).collect(),
        header_map: match read.text("header_map").as_deref() {
            Some("dangerous") => HeaderMap::Dangerous,
            Some("refuse") => HeaderMap::Refuse,
            _ => HeaderMap::Drop,
        },
        accesslog: read.text("accesslog"),
        access_log_format: read.text("access_log_format").unwrap_or_default(),
        disable_redirect_access_to_syslog: read.flag("disable_redirect_access_to_syslog"),
        errorlog: read.text("errorlog"),
        loglevel: read.text("loglevel").unwrap_or_default().to_lowercase(),
        capture_output: read.flag("capture_output"),
        syslog: read.flag("syslog"),
        enable_stdio_inheritance: read.flag("enable_stdio_inheritance"),
        proc_name: read.text("proc_name").or(read.text("default_proc_name")).unwrap_or_default(),
        boot_timeout: read.boot_timeout(),
        reload_soak: read.seconds("reload_soak"),
        header_timeout: read.seconds("header_timeout"),
        body_timeout: read.seconds("body_timeout"),
        write_timeout: read.seconds("write_timeout"),
        request_timeout: read.seconds("request_timeout"),
        route_timeouts: read.times("route_timeouts"),
        unblock_socket: read.text("unblock").as_deref() == Some("socket"),
        db_statement_timeout: read.limit("db_statement_timeout"),
        outbound_timeout: read.limit("outbound_timeout"),
        deadline_header: read.said_text("deadline_header", field_name)?,
        reflex: read.flag("reflex"),
        loop_block_limit: Duration::from_millis(read.count("loop_block_limit")),
        websocket_max_message_size: match read.count("websocket_max_message_size") {
            0 => usize::MAX,
            size => size,
        },
        websocket_ping_interval: read.seconds("websocket_ping_interval"),
        websocket_ping_timeout: read.seconds("websocket_ping_timeout"),
        state_dir: read.text("state_dir").map(PathBuf::from),
        queue_timeout: read.seconds("queue_timeout"),
        queue_limit: read.count("queue_limit"),
        body_memory_limit: read.count("body_memory_limit"),
        body_limit: read.count("body_limit"),
        error_page: read.text("error_page").map(|path| chdir.join(path)),
        statsd: read.statsd(),
        admin_bind: read.admin_bind()?,
        otlp_endpoint: read.said_text("otlp_endpoint", |text| url_of(&text))?,
        notify: read.notify()?,
        reflex_mode: read.text("reflex_mode").filter(|_| said.source("reflex_mode") != Source::Default),
        reflex_policy: read.text("reflex_policy").map(PathBuf::from),
        workers_between: read.workers_between()?,
        reflex_fleet: read.text("reflex_fleet"),
        reflex_history: read.text("reflex_history"),
        offload: read.offload(is_nested, threads)?,
        reflex_host: read.text("reflex_host"),
        reflex_database: read.list("reflex_database"),
        chdir,
        said: said.clone(),
    })
}

/// The name of a header field, in lower case (RFC 9110, section 5.1).
fn field_name(text: String) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.len() <= FIELD_NAME_MAX && text.bytes().all(is_token) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("it is no name of a header field: {}", quoted(&text)))
}

/// Most bytes of a header field's name that is a setting.
const FIELD_NAME_MAX: usize = 128;

/// Returns the number, or the largest one in place of "none" and of more.
fn within(number: usize, max: usize) -> usize {
    if number == 0 { max } else { number.min(max) }
}

/// Any value forbids it, even a true one: so does Gunicorn.
fn sendfile(value: &Value, surroundings: &Surroundings<'_>) -> bool {
    let variable = (surroundings.variable)("SENDFILE");
    let allowed =
        variable.is_none_or(|text| ["y", "1", "yes", "true"].contains(&text.to_lowercase().as_str()));
    *value == Value::None && allowed
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("environment setting {} invalid", quoted(text)))
}

/// Reads values whose kind is known to fit, for the table and [`crate::merge`] saw to that.
struct Reading<'a> {
    said: &'a Said,
}

impl Reading<'_> {
    fn value(&self, name: &str) -> Value {
        // A caller may have put something in without merging; what does not fit counts as not said.
        check(name, self.said.value(name)).unwrap_or_else(|_| Said::default().value(name))
    }

    fn invalid(&self, name: &str, reason: String) -> Invalid {
        let error = Invalid::new(name, &self.said.value(name), reason);
        Invalid { origin: Some(self.said.source(name)), ..error }
    }

    fn count<T: TryFrom<i64> + Bounded>(&self, name: &str) -> T {
        match self.value(name) {
            Value::Int(number) => T::try_from(number).unwrap_or(T::MOST),
            _ => T::MOST,
        }
    }

    fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs(self.count(name))
    }

    /// Unless somebody has said what it is to be, whoever has given workers more time, or any, meant loading as well:
    /// there is no other setting for it in Gunicorn.
    fn boot_timeout(&self) -> Duration {
        let (boot, timeout) = (self.seconds("boot_timeout"), self.seconds("timeout"));
        match self.said.source("boot_timeout") {
            Source::Default if timeout.is_zero() => Duration::ZERO,
            Source::Default => boot.max(timeout),
            _ => boot,
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.value(name) == Value::Bool(true)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(texts) => texts,
            _ => Vec::new(),
        }
    }

    fn each<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Invalid> {
        let texts = self.list(name);
        texts.iter().map(|text| read(text).map_err(|reason| self.invalid(name, reason))).collect()
    }

    fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, Invalid> {
        match self.value(name) {
            Value::Map(pairs) => {
                Ok(pairs.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect())
            }
            _ => Err(self.invalid(name, "names and values must be strings".to_owned())),
        }
    }

    fn times(&self, name: &str) -> Vec<(String, Duration)> {
        let Value::Map(pairs) = self.value(name) else {
            return Vec::new();
        };
        pairs.into_iter().filter_map(|(name, text)| Some((name, seconds(&text)?))).collect()
    }

    fn limit(&self, name: &str) -> Limit {
        match self.text(name).as_deref() {
            Some("auto") => Limit::Auto,
            Some(text) => seconds(text).map_or(Limit::Off, Limit::After),
            None => Limit::Off,
        }
    }

    fn networks(&self, name: &str) -> Result<AllowList, Invalid> {
        let texts = self.list(name);
        AllowList::parse(texts.iter().map(String::as_str))
            .map_err(|error| self.invalid(name, error.to_string()))
    }

    fn said_text<T>(
        &self,
        name: &str,
        read: impl Fn(String) -> Result<T, String>,
    ) -> Result<Option<T>, Invalid> {
        let text = self.text(name).filter(|text| !text.is_empty());
        text.map(|text| read(text).map_err(|reason| self.invalid(name, reason))).transpose()
    }

    fn statsd(&self) -> Option<Statsd> {
        let text = self.text("statsd_host")?;
        // Older versions of Gunicorn took `unix:8125` for a host of that name, and that has stayed.
        let port = text.strip_prefix("unix:").and_then(|digits| digits.parse().ok());
        let address = match port {
            Some(port) => BindAddress::Tcp { host: "unix".to_owned(), port },
            None => BindAddress::with_port(&text, 8125).ok()?,
        };
        let prefix = self.text("statsd_prefix").unwrap_or_default();
        let prefix = prefix.trim_end_matches('.');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        Some(Statsd { address, prefix, tags: self.text("dogstatsd_tags").unwrap_or_default() })
    }

    fn workers_between(&self) -> Result<Option<(u32, u32)>, Invalid> {
        let number = |name: &str| self.count::<u32>(name);
        let (min, max) = (number("workers_min"), number("workers_max"));
        if max == 0 {
            return Ok(None);
        }
        let min = if min == 0 { number("workers") } else { min };
        if min > max {
            return Err(
                self.invalid("workers_max", format!("there are {min} workers at least, which is more"))
            );
        }
        Ok(Some((min.max(1), max)))
    }

    fn admin_bind(&self) -> Result<Option<BindAddress>, Invalid> {
        self.said_text("admin_bind", |text| {
            // No port is so well known that it could be guessed.
            let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
            match BindAddress::parse(&text).map_err(|error| error.to_string())? {
                BindAddress::Fd(_) => Err("it must be HOST:PORT or unix:PATH".to_owned()),
                BindAddress::Tcp { .. } if !has_port => Err("it needs a port: HOST:PORT".to_owned()),
                address => Ok(address),
            }
        })
    }

    fn notify(&self) -> Result<Vec<Destination>, Invalid> {
        self.each("notify", Destination::parse).map_err(|error| {
            // What it holds may be a token.
            let texts = self.list("notify").iter().map(|text| shown_text(text)).collect();
            Invalid { value: Value::List(texts).shown(), ..error }
        })
    }

    fn identity(&self, name: &str, own: u32) -> Result<Identity, Invalid> {
        match self.value(name) {
            Value::Str(text) => Ok(Identity::Name(text)),
            Value::Int(number) => u32::try_from(number)
                .map(Identity::Id)
                .map_err(|_| self.invalid(name, format!("no such {name}: {number}"))),
            _ => Ok(Identity::Id(own)),
        }
    }

    fn pythonpath(&self) -> Vec<String> {
        let text = self.text("pythonpath").unwrap_or_default();
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
    }
}

/// The largest number of a type: what a setting means that is larger still.
trait Bounded {
    const MOST: Self;
}

impl Bounded for u32 {
    const MOST: u32 = u32::MAX;
}

impl Bounded for u64 {
    const MOST: u64 = u64::MAX;
}

impl Bounded for usize {
    const MOST: usize = usize::MAX;
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
