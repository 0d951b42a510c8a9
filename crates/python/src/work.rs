//! A worker process: from a fork to its exit code. Puts settings, application, logs and the loop together.
//!
//! Not for: forking and supervising (`arbiter`), serving (`worker`).

use crate::asgi::{Asgi, AsgiParts, Driver};
use crate::config::Configured;
use crate::dump;
use crate::green::{Green, HubDriver};
use crate::jobs::Ties;
use crate::log::{PythonLog, log_path};
use crate::observe::Observer;
use crate::wsgi::{Wsgi, WsgiParts};
use ferricorn_core::scoreboard::CLIENTS_MAX;
use ferricorn_settings::{HeaderMap, Settings, WorkerClass};
use ferricorn_sys::signal::SignalPipe;
use ferricorn_worker::http::head::{self, Rules};
use ferricorn_worker::{AccessFormat, AccessLog, Context, Level, Log, Options, Signals, Unit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// Serves in a worker whose application is loaded, until told to stop. `names` are SERVER_NAME and SERVER_PORT of each
/// listener; `context` gives the rest.
///
/// # Errors
/// The worker cannot be put together (a log file that cannot be opened, no memory for the loop).
pub(crate) fn work(
    py: Python<'_>,
    configured: &Configured,
    server: &Bound<'_, PyAny>,
    names: Vec<(String, String)>,
    access: Access,
    ties: Option<Ties>,
    mut context: Context,
) -> PyResult<()> {
    let settings = &configured.settings;
    if let Err(error) = dump::arm(py) {
        context
            .log
            .log(Level::Warning, &format!("Threads that keep the interpreter cannot be seen: {error}"));
    }
    context.access = access.ours;
    let observer = Observer::of(server, access.in_python)?;
    let class = class(settings);
    if class == "asgi" {
        return work_asgi(py, configured, server, names, observer, ties, context);
    }
    let is_green = class == "gevent";
    let multithread = settings.threads > 1 || is_green;
    let multiprocess = settings.workers > 1;
    let script_name = std::env::var("SCRIPT_NAME").unwrap_or_default();
    let environs: Vec<Py<PyDict>> =
        server.call_method1("environs", (names, multithread, multiprocess))?.extract()?;
    let wrapper =
        settings.sendfile.then(|| py.import("ferricorn.wsgi")?.getattr("FileWrapper")).transpose()?;
    let parts = WsgiParts {
        application: server.getattr("worker")?.getattr("wsgi")?.unbind(),
        bases: environs,
        script_name,
        file_wrapper: wrapper.map(Bound::unbind),
        log: server.getattr("log")?.unbind(),
        observer,
        write_timeout_ns: nanoseconds(settings.write_timeout),
        notify: server.getattr("notify")?.unbind(),
    };
    let mut options = options_of(configured, server, ties)?;
    let wsgi = Wsgi::new(py, parts)?;
    if is_green {
        options.unit = Unit::Greenlet;
        let hub = server.getattr("loop")?;
        let (driver, worker) =
            HubDriver::start(py, Green::new(wsgi, hub.clone().unbind()), options, context)?;
        hub.call_method1("run", (driver,))?;
        worker.leave();
        return Ok(());
    }
    ferricorn_worker::run(Arc::new(wsgi), options, context)?;
    Ok(())
}

/// Serves an ASGI application, whose event loop has been made and whose lifespan has started.
fn work_asgi(
    py: Python<'_>,
    configured: &Configured,
    server: &Bound<'_, PyAny>,
    names: Vec<(String, String)>,
    observer: Option<Observer>,
    ties: Option<Ties>,
    context: Context,
) -> PyResult<()> {
    let event_loop = server.getattr("loop")?;
    let parts = AsgiParts {
        event_loop: event_loop.clone().unbind(),
        names,
        log: server.getattr("log")?.unbind(),
        notify: server.getattr("notify")?.unbind(),
        observer,
        grace_ns: configured.settings.disconnect_grace.map(nanoseconds),
    };
    let mut options = options_of(configured, server, ties)?;
    options.unit = Unit::Task;
    // No WSGI: an underscore and a hyphen are told apart.
    options.rules.header_map = head::HeaderMap::Dangerous;
    let (driver, worker) = Driver::start(py, Asgi::new(py, parts)?, options, context)?;
    event_loop.call_method1("run", (driver,))?;
    worker.leave();
    Ok(())
}

/// Returns which kind of worker the settings ask for.
pub(crate) fn class(settings: &Settings) -> &'static str {
    match &settings.worker_class {
        WorkerClass::Asgi(_) => "asgi",
        WorkerClass::Gevent(_) => "gevent",
        _ => "threads",
    }
}

fn options_of(configured: &Configured, server: &Bound<'_, PyAny>, ties: Option<Ties>) -> PyResult<Options> {
    let mut options = options(&configured.settings);
    options.route_timeouts =
        configured.routes.iter().map(|(route, time)| (route.clone(), nanoseconds(*time))).collect();
    options.error_page = configured.error_page.clone();
    options.requests_max = server.call_method0("max_requests")?.extract()?;
    if let Some(ties) = ties {
        ties.tie(configured, &mut options);
    }
    Ok(options)
}

/// Returns how long requests may stand in line in a worker that makes no progress.
pub(crate) fn still_ns(settings: &Settings) -> u64 {
    let limits = [settings.queue_timeout, settings.timeout].map(nanoseconds);
    limits.into_iter().filter(|limit_ns| *limit_ns > 0).min().unwrap_or(0)
}

/// Makes the error log of a worker whose logger is in Python.
///
/// # Errors
/// No thread can be started.
pub(crate) fn python_log(server: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Log>> {
    Ok(Arc::new(PythonLog::start(server.getattr("log")?.unbind())?))
}

/// Who writes the access log.
pub(crate) struct Access {
    ours: Option<AccessLog>,
    in_python: bool,
}

/// Opens the access log.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn access_log(settings: &Settings, server: &Bound<'_, PyAny>) -> PyResult<Access> {
    if server.call_method0("logs_in_python")?.extract()? {
        let in_python = server.call_method0("tells_of_requests")?.extract()?;
        return Ok(Access { ours: None, in_python });
    }
    let Some(name) = &settings.accesslog else { return Ok(Access { ours: None, in_python: false }) };
    // A format with atoms that only Python knows (environ, response headers) is Python's to write.
    let format = AccessFormat::compile(&settings.access_log_format);
    let in_python = format.is_none();
    let ours = format.map(|format| AccessLog::open(format, log_path(Some(name)))).transpose()?;
    Ok(Access { ours, in_python })
}

fn options(settings: &Settings) -> Options {
    let allowed = settings.forwarded_allow_ips.clone();
    Options {
        rules: rules(settings),
        threads: settings.threads,
        unit: Unit::Thread,
        loop_block_ns: nanoseconds(settings.loop_block_limit).max(1),
        message_max: settings.websocket_max_message_size,
        ping_interval_ns: nanoseconds(settings.websocket_ping_interval),
        ping_timeout_ns: nanoseconds(settings.websocket_ping_timeout),
        connections_max: settings.worker_connections.clamp(1, CLIENTS_MAX),
        queue_max: settings.queue_limit,
        keepalive_ns: nanoseconds(settings.keepalive),
        header_timeout_ns: nanoseconds(settings.header_timeout),
        body_timeout_ns: nanoseconds(settings.body_timeout),
        write_timeout_ns: nanoseconds(settings.write_timeout),
        graceful_timeout_ns: nanoseconds(settings.graceful_timeout),
        timeout_ns: nanoseconds(settings.timeout),
        route_timeouts: Vec::new(),
        request_timeout_ns: nanoseconds(settings.request_timeout),
        unblock_socket: settings.unblock_socket,
        queue_timeout_ns: nanoseconds(settings.queue_timeout),
        requests_max: 0,
        body_memory_max: settings.body_memory_limit,
        body_max: settings.body_limit,
        error_page: None,
        offload: None,
        pass: None,
        ends_withdrawn: false,
        upload_dir: settings.tmp_upload_dir.clone().unwrap_or_else(std::env::temp_dir),
        trusts: Box::new(move |address| allowed.allows(address)),
    }
}

fn rules(settings: &Settings) -> Rules {
    Rules {
        request_line_max: settings.limit_request_line,
        fields_max: settings.limit_request_fields,
        field_size_max: settings.limit_request_field_size,
        unconventional_method: settings.permit_unconventional_http_method,
        unconventional_version: settings.permit_unconventional_http_version,
        casefold_method: settings.casefold_http_method,
        obsolete_folding: settings.permit_obsolete_folding,
        strip_header_spaces: settings.strip_header_spaces,
        header_map: match settings.header_map {
            HeaderMap::Drop => head::HeaderMap::Drop,
            HeaderMap::Refuse => head::HeaderMap::Refuse,
            HeaderMap::Dangerous => head::HeaderMap::Dangerous,
        },
        forwarder_headers: settings.forwarder_headers.clone(),
        secure_scheme_headers: settings.secure_scheme_headers.clone(),
        deadline_header: settings.deadline_header.clone(),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

/// The pipe of signals, as the loop wants it.
pub(crate) struct WorkerSignals(pub(crate) SignalPipe);

impl Signals for WorkerSignals {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    fn read(&self) -> Vec<i32> {
        self.0.read().into_iter().map(|signal| signal.as_raw()).collect()
    }
}
