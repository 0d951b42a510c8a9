//! Requests that are worked on later, in terms of the settings: what the dispatcher, the server of jobs and the workers of both need
//! to know, and what an application says of the job at hand. Not for: keeping or running jobs (`offload`).

use crate::config::Configured;
use ferricorn_arbiter::Dispatch;
use ferricorn_core::log::Level;
use ferricorn_core::offload::{Ask, Pass, Progress};
use ferricorn_offload::dispatcher::{self, Context, Told};
use ferricorn_offload::store::Bounds;
use ferricorn_offload::{Doors, StoreError};
use ferricorn_settings::{BindAddress, Settings, Source};
use ferricorn_sys::packets;
use ferricorn_worker::{Offload, Options};
use rustix::process::getppid;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What the memory is called that others find a server by: that of jobs is found through its master's.
pub(crate) const SCOREBOARD_NAME: &str = "ferricorn-jobs-scoreboard";
pub(crate) const SETTINGS_NAME: &str = "ferricorn-jobs-settings";
/// A worker is at least this much longer silent than its time before it is given up, seconds.
const PATIENCE_S: u64 = 60;
/// The same where jobs may take any time.
const PATIENCE_MAX: Duration = Duration::from_secs(30 * 86_400);
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
    settings.threads = offload.threads;
    settings.timeout = offload.timeout;
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
    settings.offload.routes.clear();
    settings.offload.prefer.clear();
    configured.routes.clear();
    configured.offloaded.clear();
    configured.offloadable.clear();
}

/// Is the dispatcher, until told to end.
///
/// # Errors
/// The system's, or the store's.
pub(crate) fn dispatch(
    settings: &Settings,
    doors: Doors,
    folder: PathBuf,
    user: u32,
    dispatch: &Dispatch,
    log: &dyn Fn(Level, &str),
) -> Result<(), StoreError> {
    let lost = |error: io::Error| StoreError::Unreachable(folder.clone(), error);
    let offload = &settings.offload;
    let patience = match offload.timeout {
        Duration::ZERO => PATIENCE_MAX,
        time => time + Duration::from_secs(PATIENCE_S),
    };
    let workers = doors.jobs_name().map_err(lost)?;
    let wake = packets::twin(dispatch.signals.fd()).map_err(lost)?;
    let has_term = Cell::new(false);
    let told = Box::new(move || {
        has_term.set(has_term.get() || !dispatch.signals.read().is_empty());
        match () {
            () if getppid().is_none_or(|pid| pid.as_raw_pid() != dispatch.parent) => Told::Orphan,
            () if has_term.get() => Told::Drain,
            () => Told::Nothing,
        }
    });
    dispatcher::run(&Context {
        token: doors.token.clone(),
        counter: doors.into_counter(),
        workers,
        folder,
        service: service(settings),
        bounds: Bounds {
            jobs: offload.jobs_max,
            bytes: offload.bytes_max,
            retention_s: offload.retention.as_secs_f64(),
            attempts: offload.retries + 1,
            attempts_safe: offload.retries.max(2) + 1,
        },
        capacity: offload.workers * offload.threads,
        patience,
        users: vec![rustix::process::geteuid().as_raw(), user],
        told,
        wake,
        log,
    })
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
        if self.pass.is_none() {
            options.offload = Some(Offload {
                routes: configured.offloaded.clone(),
                prefer: configured.offloadable.clone(),
                prefix: configured.settings.offload.prefix.clone(),
                counter: self.counter,
            });
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
