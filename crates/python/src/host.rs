//! The arbiter's [`Host`]: its hooks, logs, forks and workers, in Python's terms.
//!
//! The arbiter's process has one thread that always holds the interpreter, except while it waits. Not for: deciding
//! anything; what a worker is made of (`work`).

use crate::config::{self, Configured, Failure};
use crate::jobs;
use crate::log::{ErrorFile, say};
use crate::prevention;
use crate::work::{self, Access, WorkerSignals};
use ferricorn_arbiter::{
    Bind, CompanionKind, Context, Dispatch, Ended, Fork, Hook, Host, Level, ListenAddress, Listener,
    Observation, Options, WorkerSpec,
};
use ferricorn_cli::{SCOREBOARD_NAME, SETTINGS_NAME};
use ferricorn_core::event::Event;
use ferricorn_offload::Doors;
use ferricorn_reflex::{observer, store};
use ferricorn_settings::{BindAddress, ParsedArgs, Said, Settings, Value, print_config, told};
use ferricorn_sys::daemon::{Daemon, daemonize};
use ferricorn_sys::exit::exit_now;
use ferricorn_sys::poster::Poster;
use ferricorn_sys::shared::SharedMemory;
use ferricorn_sys::signal::Signal;
use ferricorn_worker::Log;
use ferricorn_worker::guardian::{self, Ward};
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::path::PathBuf;
use std::sync::Arc;

/// Gunicorn's exit code of a worker that could not begin.
const BOOT_ERROR: i32 = 3;

/// Makes the Python half: configuration, logger, hooks.
pub(crate) fn server<'py>(
    py: Python<'py>,
    configured: &Configured,
    app: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let (values, defaults) = configured.for_python(py)?;
    py.import("ferricorn.server")?.getattr("Server")?.call1((values, defaults, app))
}

/// Serves until told to stop; returns the arbiter's exit code. In a worker it does not return.
pub(crate) fn serve(
    py: Python<'_>,
    cli: &ParsedArgs,
    configured: Configured,
    server: Bound<'_, PyAny>,
) -> Result<i32, Failure> {
    if configured.settings.daemon {
        leave_terminal(py, &configured.settings)?;
    }
    let file = error_file(&configured.settings, &server)?;
    let options = options(&configured.settings, &server)?;
    let board = SharedMemory::create(SCOREBOARD_NAME).map_err(PyErr::from)?;
    let poster = Poster::create(SETTINGS_NAME, &told(&configured.said)).map_err(PyErr::from)?;
    server.call_method1("prevent", (prevention::facts(py, &configured.settings)?,))?;
    let doors = open_doors(&configured.settings, None)?;
    let (names, role) = (Vec::new(), Role::Requests);
    let mut host = PythonHost { py, cli, configured, server, file, poster, access: None, doors, names, role };
    host.warn();
    match ferricorn_arbiter::run(options, &mut host, board) {
        Ended::Arbiter(code) => Ok(code),
        // What the arbiter has prepared for its own end (its temporary files, its pidfile) is not a child's to clear up.
        Ended::Child(code) => exit_now(code),
        Ended::Jobs => exit_now(host.serve_jobs()),
    }
}

/// Opens what jobs need, unless that is there already or nothing becomes a job.
fn open_doors(settings: &Settings, known: Option<Doors>) -> PyResult<Option<Doors>> {
    if !settings.offload.is_on() {
        return Ok(None);
    }
    Ok(Some(known.map_or_else(Doors::open, Ok)?))
}

/// Returns the configuration file; none where it is a module, or there is none.
fn config_file(said: &Said) -> Option<PathBuf> {
    let Value::Str(location) = said.value("config") else { return None };
    let path = location.strip_prefix("file:").unwrap_or(&location);
    (!path.is_empty() && !path.starts_with("python:")).then(|| PathBuf::from(path))
}

/// Becomes a daemon; the processes on the way there end here.
fn leave_terminal(py: Python<'_>, settings: &Settings) -> PyResult<()> {
    for stream in ["stdout", "stderr"] {
        // What waits in a buffer would be written by every process that has a copy of it.
        py.import("sys")?.getattr(stream)?.call_method0("flush")?;
    }
    match daemonize(settings.enable_stdio_inheritance, || fork(py))? {
        Daemon::Stay => Ok(()),
        Daemon::Leave => exit_now(0),
    }
}

/// Forks as Python does: locks and threads of the interpreter are put right in the child.
fn fork(py: Python<'_>) -> io::Result<Fork> {
    let forked = || py.import("os")?.call_method0("fork")?.extract::<i32>();
    match forked().map_err(|error| io::Error::other(error.to_string()))? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Opens the error log, unless a logger in Python writes it.
fn error_file(settings: &Settings, server: &Bound<'_, PyAny>) -> PyResult<Option<Arc<ErrorFile>>> {
    let in_python: bool = server.call_method0("logs_in_python")?.extract()?;
    Ok(if in_python { None } else { Some(Arc::new(ErrorFile::of(settings)?)) })
}

fn options(settings: &Settings, server: &Bound<'_, PyAny>) -> PyResult<Options> {
    let cfg = server.getattr("cfg")?;
    Ok(Options {
        bind: settings.bind.iter().map(bind).collect(),
        backlog: settings.backlog.cast_signed(),
        reuse_port: settings.reuse_port,
        tls: false,
        workers: settings.workers,
        threads: settings.threads,
        worker_class: settings.worker_class.name().to_owned(),
        timeout: settings.timeout,
        graceful_timeout: settings.graceful_timeout,
        boot_timeout: settings.boot_timeout,
        reload_soak: settings.reload_soak,
        pidfile: settings.pidfile.clone(),
        daemon: settings.daemon,
        proc_name: cfg.getattr("proc_name")?.extract()?,
        umask: settings.umask,
        uid: cfg.getattr("uid")?.extract()?,
        gid: cfg.getattr("gid")?.extract()?,
        initgroups: settings.initgroups,
        reflex: settings.reflex,
        offload: settings.offload.is_on(),
    })
}

fn bind(address: &BindAddress) -> Bind {
    match address {
        BindAddress::Tcp { host, port } => Bind::Tcp { host: host.clone(), port: *port },
        BindAddress::Unix { path } => Bind::Unix(path.clone()),
        BindAddress::Fd(number) => Bind::Fd(*number),
    }
}

struct PythonHost<'a, 'py> {
    py: Python<'py>,
    cli: &'a ParsedArgs,
    configured: Configured,
    server: Bound<'py, PyAny>,
    /// `None` where a logger in Python writes the log.
    file: Option<Arc<ErrorFile>>,
    /// The settings, for viewers.
    poster: Poster,
    /// In a worker: opened while it still has the arbiter's privileges.
    access: Option<PyResult<Access>>,
    /// Where jobs come from and go to, if there are any.
    doors: Option<Doors>,
    /// SERVER_NAME and SERVER_PORT of the listeners at which clients come in.
    names: Vec<(String, String)>,
    role: Role,
}

/// What this server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Clients.
    Requests,
    /// The dispatcher, which plays requests of clients that are not waiting.
    Jobs,
}

impl<'py> PythonHost<'_, 'py> {
    /// Says what was set and is not served, or is no setting.
    fn warn(&mut self) {
        for line in std::mem::take(&mut self.configured.warnings) {
            self.log(Level::Warning, &line);
        }
    }

    /// Tells the Python half; what goes wrong there is its own to log, and what cannot be logged there is logged here.
    fn tell(&mut self, method: &str, args: impl PyCallArgs<'py>) {
        if let Err(error) = self.server.call_method1(method, args) {
            self.log(Level::Error, &format!("{method}: {error}"));
        }
    }

    /// Becomes the server that works on jobs; returns its exit code.
    fn serve_jobs(&mut self) -> i32 {
        self.role = Role::Jobs;
        self.try_serve_jobs().unwrap_or_else(|error| {
            self.log(Level::Error, &format!("The server of jobs: {error}"));
            1
        })
    }

    fn try_serve_jobs(&mut self) -> PyResult<i32> {
        let Some(doors) = &self.doors else { return Ok(1) };
        let door = doors.jobs_copy()?.into_raw_fd();
        jobs::adapt(&mut self.configured, vec![BindAddress::Fd(door)]);
        self.relay()?;
        // That the server is ready is its master's to say.
        self.py.import("os")?.getattr("environ")?.call_method1("pop", ("NOTIFY_SOCKET", self.py.None()))?;
        let settings = &self.configured.settings;
        // Who may not be nicer goes on as it is.
        let _ = rustix::process::nice(settings.offload.nice);
        let options = self.options_of_role(options(settings, &self.server)?);
        self.server.call_method1("prevent", (prevention::facts(self.py, settings)?,))?;
        let board = SharedMemory::create(jobs::SCOREBOARD_NAME).map_err(PyErr::from)?;
        self.poster =
            Poster::create(jobs::SETTINGS_NAME, &told(&self.configured.said)).map_err(PyErr::from)?;
        Ok(match ferricorn_arbiter::run(options, self, board) {
            Ended::Arbiter(code) | Ended::Child(code) => code,
            Ended::Jobs => 1,
        })
    }

    /// Puts the relay in the application's place, where Celery works on jobs.
    fn relay(&self) -> PyResult<()> {
        match jobs::relay(self.py, &self.configured.settings)? {
            Some(told) => self.server.call_method1("relay", (told,)).map(drop),
            None => Ok(()),
        }
    }

    fn options_of_role(&self, options: Options) -> Options {
        match self.role {
            Role::Requests => options,
            Role::Jobs => Options { proc_name: jobs::name(&options.proc_name), offload: false, ..options },
        }
    }

    fn try_dispatch(&mut self, dispatch: &Dispatch) -> Result<(), String> {
        let Some(doors) = self.doors.take() else { return Ok(()) };
        let settings = &self.configured.settings;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let folder = settings.state_dir.clone().or_else(store::default_folder);
        let folder = folder.ok_or("there is no folder for jobs: set `state_dir`")?;
        let user: u32 = self
            .server
            .getattr("cfg")
            .and_then(|cfg| cfg.getattr("uid")?.extract())
            .map_err(|error| text(&error))?;
        let file = &self.file;
        let logger = self.server.getattr("log").map(Bound::unbind);
        let log = |level: Level, message: &str| match &logger {
            Ok(logger) if file.is_none() => Python::attach(|py| say(logger.bind(py), level, message)),
            _ => log_afresh(settings, level, message),
        };
        self.py
            .detach(|| jobs::dispatch(&self.configured, doors, folder, user, dispatch, &log))
            .map_err(|error| text(&error))
    }

    fn reload_all(&mut self) -> Result<Options, String> {
        let mut configured = config::load(self.py, self.cli).map_err(|failure| match failure {
            Failure::Said(text, _) => text,
            Failure::Exit(error) => format!("the configuration file ended the process: {error}"),
        })?;
        let said = |error: PyErr| error.value(self.py).to_string();
        match self.role {
            Role::Jobs => jobs::adapt(&mut configured, self.configured.settings.bind.clone()),
            Role::Requests => {
                self.doors = open_doors(&configured.settings, self.doors.take()).map_err(said)?
            }
        }
        let (values, defaults) = configured.for_python(self.py).map_err(said)?;
        self.server.call_method1("reconfigure", (values, defaults)).map_err(said)?;
        let facts = prevention::facts(self.py, &configured.settings).map_err(said)?;
        self.server.call_method1("prevent", (facts,)).map_err(said)?;
        let file = error_file(&configured.settings, &self.server).map_err(said)?;
        let options = options(&configured.settings, &self.server).map_err(said)?;
        let options = self.options_of_role(options);
        self.configured = configured;
        if self.role == Role::Jobs {
            self.relay().map_err(said)?;
        }
        self.file = file;
        if let Err(error) = self.poster.replace(&told(&self.configured.said)) {
            self.log(Level::Warning, &format!("Viewers are not told the new settings: {error}"));
        }
        self.warn();
        Ok(options)
    }

    /// Starts the process that answers for this one when it has died.
    fn be_guarded(&self, context: &Context) -> io::Result<()> {
        let settings = &self.configured.settings;
        let log = |message: &str| match &self.file {
            // Into a logger in Python only Python can write: the observer does.
            None => context.teller.tell(&Event::Say { text: message.to_owned() }),
            Some(_) => log_afresh(settings, Level::Error, message),
        };
        guardian::start(&Ward {
            board: context.board,
            slot: context.spec.slot,
            handover_out: context.handover_out.as_fd(),
            teller: &context.teller,
            still_ns: work::still_ns(settings),
            error_page: self.configured.error_page.as_ref(),
            log: &log,
            name: &settings.proc_name,
        })
    }

    fn try_work(&mut self, context: Context) -> PyResult<i32> {
        // First of all, while there is one thread.
        if let Err(error) = self.be_guarded(&context) {
            let message = format!("Worker has no guardian: {error}; if it dies, its clients get no answer");
            self.log(Level::Warning, &message);
        }
        if self.role == Role::Jobs
            && let Err(error) = jobs::confine(&self.configured.settings)
        {
            self.log(Level::Warning, &format!("Jobs have no `offload_memory_limit`: {error}"));
        }
        let code: i32 =
            self.server.call_method1("boot", (work::class(&self.configured.settings),))?.extract()?;
        let Some(access) = self.access.take() else { return Ok(BOOT_ERROR) };
        if code != 0 {
            return Ok(code);
        }
        // Nothing is written there any more.
        drop(context.stack);
        context.signals.catch(&[Signal::TERM, Signal::INT, Signal::QUIT])?;
        let names = match self.role {
            Role::Requests => {
                context.listeners.iter().map(|listener| server_name(&listener.address)).collect()
            }
            Role::Jobs => self.names.clone(),
        };
        let ties = self.doors.as_ref().map(|doors| jobs::ties(doors, self.role == Role::Jobs)).transpose()?;
        let log: Arc<dyn Log> = match &self.file {
            Some(file) => file.clone(),
            None => work::python_log(&self.server)?,
        };
        let context = ferricorn_worker::Context {
            listeners: context.listeners.into_iter().map(|listener| listener.fd).collect(),
            handover_out: context.handover_out,
            handover_in: context.handover_in,
            signals: Box::new(WorkerSignals(context.signals)),
            wake_arbiter: context.wake_arbiter,
            teller: Arc::new(context.teller),
            board: context.board,
            slot: context.spec.slot,
            parent: context.parent,
            log,
            access: None,
        };
        work::work(self.py, &self.configured, &self.server, names, access?, ties, context)?;
        self.server.call_method0("leave")?;
        Ok(0)
    }
}

/// Writes to the error log, opened for that: by a process that nobody tells of rotation.
fn log_afresh(settings: &Settings, level: Level, message: &str) {
    if let Ok(file) = ErrorFile::of(settings) {
        file.log(level, message);
    }
}

/// SERVER_NAME and SERVER_PORT.
fn server_name(address: &ListenAddress) -> (String, String) {
    match address {
        ListenAddress::Tcp(address) => (address.ip().to_string(), address.port().to_string()),
        ListenAddress::Unix(path) => (path.to_string_lossy().into_owned(), String::new()),
    }
}

impl Host for PythonHost<'_, '_> {
    fn log(&mut self, level: Level, message: &str) {
        // To the user there is one server, which says the same.
        let level = if self.role == Role::Jobs && level == Level::Info { Level::Debug } else { level };
        match &self.file {
            Some(file) => file.log(level, message),
            None => match self.server.getattr("log") {
                Ok(logger) => say(&logger, level, message),
                Err(error) => error.write_unraisable(self.py, Some(&self.server)),
            },
        }
    }

    fn hook(&mut self, hook: Hook<'_>) {
        // To the user there is one server.
        let of_workers = matches!(hook, Hook::PreFork(_) | Hook::PostFork { .. } | Hook::ChildExit { .. });
        if self.role == Role::Jobs && !of_workers {
            return;
        }
        match hook {
            Hook::NworkersChanged { new, old } => self.tell("nworkers_changed", (new, old)),
            Hook::OnStarting => self.tell("call_hook", ("on_starting",)),
            Hook::WhenReady => self.tell("call_hook", ("when_ready",)),
            Hook::PreFork(spec) => self.tell("pre_fork", (spec.age,)),
            Hook::PostFork { stack, .. } => {
                self.access = Some(work::access_log(&self.configured.settings, &self.server));
                self.tell("post_fork", (stack.map(|fd| fd.as_raw_fd()),));
            }
            Hook::ChildExit { pid, .. } => self.tell("child_exit", (pid,)),
            Hook::OnReload => self.tell("call_hook", ("on_reload",)),
            Hook::OnExit => self.tell("call_hook", ("on_exit",)),
        }
    }

    fn load(&mut self) -> Result<(), i32> {
        // For jobs it was loaded before the fork.
        if !self.configured.settings.preload_app || self.role == Role::Jobs {
            return Ok(());
        }
        match self.server.call_method0("preload").and_then(|code| code.extract()) {
            Ok(0) => Ok(()),
            Ok(code) => Err(code),
            Err(error) => {
                self.log(Level::Error, &error.to_string());
                Err(1)
            }
        }
    }

    fn listening(&mut self, listeners: &[&Listener]) {
        if self.role == Role::Jobs {
            return;
        }
        self.names = listeners.iter().map(|listener| server_name(&listener.address)).collect();
        let descriptors: Vec<i32> = listeners.iter().map(|listener| listener.fd.as_raw_fd()).collect();
        self.tell("set_listeners", (descriptors,));
    }

    fn reload(&mut self) -> Result<Options, String> {
        self.reload_all()
    }

    fn reopen_logs(&mut self) {
        if let Some(file) = &self.file {
            file.reopen();
        }
        self.tell("notify", ("reopen",));
    }

    fn fork(&mut self, _: &WorkerSpec) -> io::Result<Fork> {
        let forked = fork(self.py)?;
        if let Fork::Parent(pid) = forked {
            self.tell("forked", (pid,));
        }
        Ok(forked)
    }

    fn fork_companion(&mut self, _: CompanionKind) -> io::Result<Fork> {
        fork(self.py)
    }

    fn dispatch(&mut self, dispatch: Dispatch) {
        if let Err(why) = self.try_dispatch(&dispatch) {
            self.log(Level::Error, &format!("Offload: {why}; requests that would become jobs get 503"));
            // Not at once again.
            std::thread::sleep(std::time::Duration::from_secs(5));
        }
    }

    fn observe(&mut self, observation: Observation) {
        let settings = &self.configured.settings;
        let folder = settings.state_dir.clone().or_else(store::default_folder);
        let logger = self.server.getattr("log").map(Bound::unbind);
        let in_python = self.file.is_none();
        let log = |level: Level, message: &str| match &logger {
            Ok(logger) if in_python => Python::attach(|py| say(logger.bind(py), level, message)),
            _ => log_afresh(settings, level, message),
        };
        let follows_changes = self.role == Role::Requests;
        let said = print_config(&self.configured.said);
        let config = config_file(&self.configured.said);
        let python_path: Vec<PathBuf> =
            self.py.import("sys").and_then(|sys| sys.getattr("path")?.extract()).unwrap_or_default();
        self.py.detach(|| {
            observer::run(&observer::Context {
                board: observation.board,
                hearer: observation.hearer,
                folder: folder.as_deref(),
                settings,
                said: &said,
                config: config.as_deref(),
                python_path: &python_path,
                parent: observation.parent,
                version: env!("CARGO_PKG_VERSION"),
                follows_changes,
                log: &log,
            });
        });
    }

    fn work(&mut self, context: Context) -> i32 {
        self.try_work(context).unwrap_or_else(|error| {
            self.log(Level::Error, &format!("Worker could not start: {error}"));
            BOOT_ERROR
        })
    }

    fn wait(&mut self, wait: &mut (dyn FnMut() + Send)) {
        // The application's threads, if it was preloaded and has any, run meanwhile.
        self.py.detach(wait);
        if let Err(error) = self.py.check_signals() {
            self.log(Level::Error, &format!("Exception in a signal handler: {error}"));
        }
    }

    fn workers(&mut self, count: usize) {
        match self.file {
            Some(_) => self.log(Level::Debug, &format!("{count} workers")),
            None => self.tell("count_workers", (count,)),
        }
    }
}
