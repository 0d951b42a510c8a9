//! Requests that are worked on later, in terms of the settings: what the dispatcher, the server of jobs and the workers of both need
//! to know, and what an application says of the job at hand. Not for: keeping or running jobs (`offload`).

use crate::config::{self, Configured, Failure};
use ferricorn_arbiter::Dispatch;
use ferricorn_core::log::Level;
use ferricorn_core::offload::{Ask, Pass, Places, Progress};
use ferricorn_offload::dispatcher::{self, Context, Told};
use ferricorn_offload::rules::{Rule, Rules, Terms};
use ferricorn_offload::store::Bounds;
use ferricorn_offload::webhook::Webhooks;
use ferricorn_offload::{Doors, StoreError};
use ferricorn_settings::{
    BindAddress, Offload as Settled, OffloadRoute, Settings, Source, WorkerClass, parse_args,
};
use ferricorn_sys::packets;
use ferricorn_sys::signal::Signal;
use ferricorn_worker::{Offload, Options, Route};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::process::{Resource, Rlimit, getppid, getrlimit, setrlimit};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What the memory is called that others find a server by: that of jobs is found through its master's.
pub(crate) const SCOREBOARD_NAME: &str = "ferricorn-jobs-scoreboard";
pub(crate) const SETTINGS_NAME: &str = "ferricorn-jobs-settings";
/// After which silence a server of jobs is given up; late jobs are its own to answer.
const PATIENCE: Duration = Duration::from_secs(7 * 86_400);
/// Jobs that one process waits for at a time, where Celery works on them.
const WAITING: usize = 64;
/// Threads of a relay beside those, for questions and withdrawals.
const ASKED: usize = 16;
/// What the kernel goes by when memory is short (proc(5)), and how much sooner it is to end a worker of jobs.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";
const OOM_MORE: i32 = 300;
/// Requests of this worker that are known to be jobs.
const KNOWN_MAX: usize = 4096;

/// Returns the name of the server that works on jobs.
pub(crate) fn name(of: &str) -> String {
    format!("{of} jobs")
}

/// Returns of whom jobs are: of all servers with a name that was given, one after the other; without one, of those of an application in
/// a folder.
fn service(settings: &Settings) -> String {
    match settings.said.source("proc_name") {
        Source::Default => format!("{} {}", settings.proc_name, settings.chdir.display()),
        _ => settings.proc_name.clone(),
    }
}

/// Makes of a server's settings those of the one that works on its jobs.
pub(crate) fn adapt(configured: &mut Configured, bind: Vec<BindAddress>) {
    let settings = &mut configured.settings;
    let offload = settings.offload.clone();
    settings.bind = bind;
    settings.workers = offload.workers;
    // Those who are asked about jobs of other hosts are not among those who wait.
    settings.threads = threads(&offload) + if offload.celery.is_some() { ASKED } else { 0 };
    settings.timeout = offload.timeout;
    if offload.celery.is_some() {
        // They only wait: Celery ends what takes too long, and what waits in its queue may take its time.
        settings.worker_class = WorkerClass::Gthread;
        settings.timeout = Duration::ZERO;
    }
    settings.proc_name = name(&settings.proc_name);
    settings.limit_request_fields += 1;
    // It is nobody's but its dispatcher's, who asks for no more than there are threads.
    settings.pidfile = None;
    settings.daemon = false;
    settings.reuse_port = false;
    settings.accesslog = None;
    settings.statsd = None;
    settings.admin_bind = None;
    settings.workers_between = None;
    settings.reflex_fleet = None;
    settings.reflex_history = None;
    settings.request_timeout = Duration::ZERO;
    settings.queue_timeout = Duration::ZERO;
    settings.deadline_header = None;
    settings.reload_soak = Duration::ZERO;
    let (offloaded, offloadable) =
        (std::mem::take(&mut configured.offloaded), std::mem::take(&mut configured.offloadable));
    configured.routes = offloaded
        .into_iter()
        .chain(offloadable)
        .zip(offload.all_routes())
        .map(|(route, said)| (route, if offload.celery.is_some() { Duration::ZERO } else { said.timeout }))
        .collect();
    let routes = offload.all_routes().zip(&configured.routes);
    settings.route_timeouts = routes.map(|(said, (_, time))| (said.route.clone(), *time)).collect();
}

/// Sees to it that this worker of jobs leaves others their memory: it gets no more than it may have, and where the machine has none left,
/// the kernel ends it before those who answer clients.
///
/// # Errors
/// The limit cannot be set. That the kernel prefers others is no error.
pub(crate) fn confine(settings: &Settings) -> io::Result<()> {
    let score = fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let _ = fs::write(OOM_SCORE, (score.unwrap_or_default() + OOM_MORE).min(1000).to_string());
    let limit = settings.offload.memory_max;
    if limit == 0 || settings.offload.celery.is_some() {
        return Ok(());
    }
    let Rlimit { maximum, .. } = getrlimit(Resource::Data);
    let current = Some(maximum.map_or(limit, |maximum| limit.min(maximum)));
    Ok(setrlimit(Resource::Data, Rlimit { current, maximum })?)
}

/// How many jobs each process works on, or waits for, at a time.
fn threads(offload: &Settled) -> usize {
    if offload.celery.is_some() { offload.threads.max(WAITING) } else { offload.threads }
}

/// What a relay to Celery is made of; none where jobs are worked on here.
///
/// # Errors
/// Python's.
pub(crate) fn relay<'py>(py: Python<'py>, settings: &Settings) -> PyResult<Option<Bound<'py, PyDict>>> {
    let offload = &settings.offload;
    let Some(celery) = &offload.celery else { return Ok(None) };
    let told = PyDict::new(py);
    told.set_item("broker", &celery.broker)?;
    told.set_item("results", &celery.results)?;
    told.set_item("queue", &celery.queue)?;
    told.set_item("timeout", offload.timeout.as_secs_f64())?;
    told.set_item("timeout_max", offload.longest_timeout().as_secs_f64())?;
    told.set_item("retention", offload.longest_retention().as_secs_f64())?;
    let routes = offload.all_routes().map(|route| (route.route.clone(), route.timeout.as_secs_f64()));
    told.set_item("routes", routes.collect::<Vec<_>>())?;
    Ok(Some(told))
}

/// Returns what a Celery worker needs of the settings; `app` takes the place of theirs.
///
/// # Errors
/// They are not to be had, or name no broker or no application.
#[pyfunction]
pub(crate) fn offload_settings(py: Python<'_>, app: Option<String>) -> PyResult<Bound<'_, PyDict>> {
    let wrong = |text: String| PyRuntimeError::new_err(text);
    py.import("ferricorn._alias")?.call_method0("install")?;
    let cli = parse_args(&[], Source::CommandLine).map_err(|error| wrong(error.message))?;
    let configured = config::load(py, &cli).map_err(|failure| match failure {
        Failure::Said(text, _) => wrong(text),
        Failure::Exit(error) => error,
    })?;
    let Some(told) = relay(py, &configured.settings)? else {
        let text = "no broker is configured: gunicorn.conf.py here, or GUNICORN_CMD_ARGS, has to name `offload_broker`";
        return Err(wrong(text.to_owned()));
    };
    let Some(app) = app.or(configured.app) else {
        let text =
            "no application is named: set `wsgi_app` in gunicorn.conf.py, or the variable FERRICORN_APP";
        return Err(wrong(text.to_owned()));
    };
    let Settings { chdir, pythonpath, raw_env, .. } = &configured.settings;
    told.set_item("chdir", chdir.display().to_string())?;
    told.set_item("pythonpath", pythonpath)?;
    told.set_item("env", raw_env.iter().cloned().collect::<BTreeMap<_, _>>())?;
    told.set_item("app", app)?;
    told.set_item("asgi", matches!(configured.settings.worker_class, WorkerClass::Asgi(_)))?;
    Ok(told)
}

/// Is the dispatcher, until told to end.
///
/// # Errors
/// The system's, or the store's.
pub(crate) fn dispatch(
    configured: &Configured,
    doors: Doors,
    folder: PathBuf,
    user: u32,
    dispatch: &Dispatch,
    log: &dyn Fn(Level, &str),
) -> Result<(), StoreError> {
    let lost = |error: io::Error| StoreError::Unreachable(folder.clone(), error);
    let settings = &configured.settings;
    let offload = &settings.offload;
    let workers = doors.jobs_name().map_err(lost)?;
    let wake = packets::twin(dispatch.signals.fd()).map_err(lost)?;
    let heard = Cell::new(Told::Nothing);
    let told = Box::new(move || {
        for signal in dispatch.signals.read() {
            heard.set(if signal == Signal::USR2 { Told::HandOver } else { Told::Drain });
        }
        let is_orphan = getppid().is_none_or(|pid| pid.as_raw_pid() != dispatch.parent);
        if is_orphan { Told::Orphan } else { heard.get() }
    });
    dispatcher::run(&Context {
        token: doors.token.clone(),
        counter: doors.into_counter(),
        workers,
        folder,
        service: service(settings),
        bounds: Bounds { jobs: offload.jobs_max, bytes: offload.bytes_max },
        rules: rules(configured),
        webhooks: webhooks(configured),
        capacity: offload.workers * threads(offload),
        relayed: offload.celery.is_some(),
        patience: PATIENCE,
        users: vec![rustix::process::geteuid().as_raw(), user],
        told,
        wake,
        counts: &dispatch.board.jobs,
        log,
    })
}

fn rules(configured: &Configured) -> Rules {
    let offload = &configured.settings.offload;
    let terms = |retries, retention: Duration| Terms { retries, retention_s: retention.as_secs_f64() };
    let routes = configured.offloaded.iter().chain(&configured.offloadable);
    let rule = |(route, said): (&Route, &OffloadRoute)| Rule {
        route: route.clone(),
        name: said.route.clone(),
        terms: terms(said.retries, said.retention),
        concurrency: said.concurrency,
    };
    Rules {
        each: routes.zip(offload.all_routes()).map(rule).collect(),
        other: terms(offload.retries, offload.retention),
    }
}

fn webhooks(configured: &Configured) -> Option<Webhooks> {
    let said = configured.settings.offload.webhooks.as_ref()?;
    let (keys, networks) = (configured.webhook_keys.clone(), said.networks.clone());
    let is_ours = move |ip| networks.allows(ip);
    Some(Webhooks::new(said.url.clone(), keys, places(&configured.settings), is_ours))
}

fn places(settings: &Settings) -> Places {
    let offload = &settings.offload;
    Places {
        prefix: offload.prefix.clone(),
        secret: offload.url_secret.clone(),
        lifetime_s: offload.url_lifetime.as_secs(),
    }
}

/// What ties a worker to the dispatcher.
pub(crate) struct Ties {
    counter: Vec<u8>,
    /// What requests have to show, in a worker of jobs.
    pass: Option<String>,
}

/// Returns what ties a worker of jobs, or one of clients, to the dispatcher.
///
/// # Errors
/// The system's.
pub(crate) fn ties(doors: &Doors, of_jobs: bool) -> io::Result<Ties> {
    let counter = doors.counter_name()?;
    if of_jobs {
        // There is one in a process.
        let _ = COUNTER.set(counter.clone());
    }
    Ok(Ties { counter, pass: of_jobs.then(|| doors.token.clone()) })
}

impl Ties {
    /// Says it in the options of the worker.
    pub(crate) fn tie(self, configured: &Configured, options: &mut Options) {
        let said = &configured.settings.offload;
        if self.pass.is_none() {
            options.offload = Some(Offload {
                routes: configured.offloaded.clone(),
                prefer: configured.offloadable.clone(),
                places: places(&configured.settings),
                webhook_hosts: said.webhooks.iter().flat_map(|webhooks| webhooks.hosts.clone()).collect(),
                cors_origins: said.cors_origins.clone(),
                counter: self.counter,
            });
        }
        if self.pass.is_some() {
            // Who is replaced cuts the jobs that take longer than others are given to end.
            options.requests_max = 0;
            // A relay ends by itself, and tells Celery.
            options.ends_withdrawn = said.celery.is_none();
        }
        options.pass = self.pass;
    }
}

// ---- What an application says ----

/// Where reports go, in a worker of jobs.
static COUNTER: OnceLock<Vec<u8>> = OnceLock::new();
/// Over which connection.
static SOCKET: Mutex<Option<OwnedFd>> = Mutex::new(None);
/// Which requests are jobs, the newest ones.
static JOBS: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that a request is a job.
pub(crate) fn is_one(request: u64, job: &Pass) {
    let mut jobs = locked(&JOBS);
    jobs.insert(request, job.id.clone());
    while jobs.len() > KNOWN_MAX {
        jobs.pop_first();
    }
}

/// Tells the dispatcher how far a request is, if it is a job; tells whether it is one. Never waits: what cannot be told now is not
/// told.
pub(crate) fn report(request: u64, share: f64, note: &str) -> bool {
    let Some(counter) = COUNTER.get() else { return false };
    let Some(id) = locked(&JOBS).get(&request).cloned() else { return false };
    let ask = Ask::Report { id, progress: Progress { share, note: note.to_owned() } };
    let message = packets::written(0, &ask, &[]);
    let mut socket = locked(&SOCKET);
    for _ in 0..2 {
        if socket.is_none() {
            *socket = packets::connect_to(counter).ok();
        }
        let Some(open) = &*socket else { return true };
        match packets::send(open.as_fd(), &message, None) {
            Ok(_) => return true,
            // The dispatcher is another by now.
            Err(_) => *socket = None,
        }
    }
    true
}
