//! What the arbiter needs of the program around it, and what it gives to a new worker. Plain data and one trait.

use crate::companion::Kind;
use ferricorn_core::fleet::Plan;
use ferricorn_core::log::Level;
use ferricorn_core::scoreboard::Scoreboard;
use ferricorn_sys::events::{Hearer, Teller};
use ferricorn_sys::listener::{Bind, Listener, Manner};
use ferricorn_sys::process::Fork;
use ferricorn_sys::signal::SignalPipe;
use rustix::process::{getegid, geteuid};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// The settings that the arbiter acts on, under Gunicorn's names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the setting of its name")]
pub struct Options {
    pub bind: Vec<Bind>,
    pub backlog: i32,
    pub reuse_port: bool,
    /// Whether connections are encrypted: the log then says `https`.
    pub tls: bool,
    pub workers: usize,
    pub threads: usize,
    /// As the log shows it.
    pub worker_class: String,
    /// Zero for none.
    pub timeout: Duration,
    pub graceful_timeout: Duration,
    /// Zero for none.
    pub boot_timeout: Duration,
    /// `reload_soak`; zero for none.
    pub reload_soak: Duration,
    pub pidfile: Option<PathBuf>,
    /// Whether the process has become a daemon (see `sys::daemon`, which comes before logs are opened).
    pub daemon: bool,
    pub proc_name: String,
    pub umask: u32,
    /// `user`, as a number; the one that runs the arbiter unless set.
    pub uid: u32,
    /// `group`, as a number.
    pub gid: u32,
    pub initgroups: bool,
    pub reflex: bool,
    /// Whether some requests are worked on later.
    pub offload: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: vec![Bind::Tcp { host: "127.0.0.1".to_owned(), port: 8000 }],
            backlog: 2048,
            reuse_port: false,
            tls: false,
            workers: 1,
            threads: 1,
            worker_class: "sync".to_owned(),
            timeout: Duration::from_secs(30),
            graceful_timeout: Duration::from_secs(30),
            boot_timeout: Duration::from_secs(300),
            reload_soak: Duration::ZERO,
            pidfile: None,
            daemon: false,
            proc_name: "ferricorn".to_owned(),
            umask: 0,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            initgroups: false,
            reflex: false,
            offload: false,
        }
    }
}

impl Options {
    pub(crate) fn plan(&self) -> Plan {
        // A year is as good as for ever, and sums of it stay far from overflowing.
        let ns = |time: Duration| time.min(Duration::from_secs(366 * 86_400)).as_nanos() as u64;
        Plan {
            workers: self.workers,
            timeout_ns: ns(self.timeout),
            graceful_ns: ns(self.graceful_timeout),
            boot_ns: ns(self.boot_timeout),
            soak_ns: ns(self.reload_soak),
            daemon: self.daemon,
        }
    }

    pub(crate) fn manner(&self) -> Manner {
        Manner {
            backlog: self.backlog,
            reuse_port: self.reuse_port,
            umask: self.umask,
            uid: self.uid,
            gid: self.gid,
            tls: self.tls,
        }
    }
}

/// Who a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Its number in the order of spawning: Gunicorn's `worker.age`.
    pub age: u32,
    /// The reload it belongs to.
    pub generation: u32,
    /// Its place in the scoreboard, claimed and in state `Booting`.
    pub slot: usize,
}

/// What a new worker finds.
pub struct Context {
    /// Who it is.
    pub spec: WorkerSpec,
    /// The arbiter's pid: with another parent, the arbiter has died.
    pub parent: i32,
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// The end of the pair that all workers share into which connections are given.
    pub handover_out: OwnedFd,
    /// The end from which they are taken.
    pub handover_in: OwnedFd,
    /// A byte in here makes the arbiter look at the scoreboard: after `ready`, and after `retiring` is set.
    pub wake_arbiter: OwnedFd,
    /// The scoreboard.
    pub board: &'static Scoreboard,
    /// Where the observer is told of what it cannot see.
    pub teller: Teller,
    /// Catches USR1 already. Once the application is loaded, TERM, INT and QUIT are to be caught as well
    /// ([`SignalPipe::catch`]); until then they end the process, as they should.
    pub signals: SignalPipe,
    /// Where it has its stack written at `signal::STACK` until it has booted; then it is to be closed.
    pub stack: Option<OwnedFd>,
}

/// What the observer finds.
pub struct Observation {
    /// The scoreboard.
    pub board: &'static Scoreboard,
    /// What it is told.
    pub hearer: Hearer,
    /// The arbiter's pid.
    pub parent: i32,
}

/// What the dispatcher of jobs finds.
pub struct Dispatch {
    /// TERM tells it to begin no more jobs, and to end when those that run have and nobody asks any more; USR2 that another takes its
    /// place.
    pub signals: SignalPipe,
    /// The scoreboard.
    pub board: &'static Scoreboard,
    /// The arbiter's pid.
    pub parent: i32,
}

/// A server hook that is due.
#[derive(Clone, Copy, Debug)]
pub enum Hook<'a> {
    /// `nworkers_changed`; `old` is `None` at the start.
    NworkersChanged {
        /// Workers wanted.
        new: usize,
        /// Workers wanted before.
        old: Option<usize>,
    },
    /// `on_starting`.
    OnStarting,
    /// `when_ready`.
    WhenReady,
    /// `pre_fork`.
    PreFork(&'a WorkerSpec),
    /// `post_fork`: in the worker, before it drops privileges.
    PostFork {
        /// Which.
        spec: &'a WorkerSpec,
        /// As [`Context::stack`].
        stack: Option<BorrowedFd<'a>>,
    },
    /// `child_exit`: the worker is reaped.
    ChildExit {
        /// Its pid.
        pid: i32,
        /// Its number.
        age: u32,
    },
    /// `on_reload`.
    OnReload,
    /// `on_exit`.
    OnExit,
}

/// The program around the arbiter. Failures of hooks are the host's to log; nothing here may panic.
pub trait Host {
    /// Writes a line to the error log.
    fn log(&mut self, level: Level, message: &str);

    /// Runs a hook.
    fn hook(&mut self, hook: Hook<'_>);

    /// Called once, after the first `nworkers_changed` and before anything is opened: the place for `preload_app`.
    ///
    /// # Errors
    /// The exit code, if the server cannot start.
    fn load(&mut self) -> Result<(), i32> {
        Ok(())
    }

    /// Says where the server listens: at the start, and when a reload has changed it.
    fn listening(&mut self, listeners: &[&Listener]) {
        let _ = listeners;
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// Why it cannot be used; everything stays as it was.
    fn reload(&mut self) -> Result<Options, String>;

    /// Opens log files again. Also called after a reload.
    fn reopen_logs(&mut self);

    /// Forks. Signals are blocked meanwhile.
    ///
    /// # Errors
    /// The system's.
    fn fork(&mut self, worker: &WorkerSpec) -> io::Result<Fork>;

    /// Is the worker; returns its exit code. Called in the child alone, with its privileges dropped.
    fn work(&mut self, context: Context) -> i32;

    /// Forks a process that is no worker. Signals are blocked meanwhile.
    ///
    /// # Errors
    /// The system's.
    fn fork_companion(&mut self, kind: Kind) -> io::Result<Fork>;

    /// Is the observer, until the arbiter has ended or tells it to leave. Called in the child alone.
    fn observe(&mut self, context: Observation);

    /// Is the dispatcher of jobs, until told to end. Called in the child alone.
    fn dispatch(&mut self, context: Dispatch) {
        drop(context);
    }

    /// Calls `wait`, which may take a second, with whatever the host's own threads need meanwhile.
    fn wait(&mut self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }

    /// Says how many workers there are whenever that has changed: Gunicorn's `N workers` with its metric.
    fn workers(&mut self, count: usize) {
        let _ = count;
    }
}

/// Which process has come back from [`run`](crate::run), and the code it should end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The arbiter; all is cleared up.
    Arbiter(i32),
    /// A process that it has started.
    Child(i32),
    /// A process that it has started, and that is to be a server of its own now: the one that works on jobs.
    Jobs,
}

impl Ended {
    /// Returns the exit code.
    pub fn code(self) -> i32 {
        match self {
            Self::Arbiter(code) | Self::Child(code) => code,
            Self::Jobs => 0,
        }
    }
}
