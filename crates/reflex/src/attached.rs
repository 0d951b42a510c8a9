//! The observer of a stock Gunicorn, a process of its own beside one that knows nothing of it: looks from outside a few times a
//! second, and drives the engine with what it sees. Ends with the Gunicorn, unless a pidfile may name another one later.
//!
//! Not for: how things are seen (`crate::source`), and not for any decision: nothing here touches the Gunicorn.

use crate::engine::{Acting, Asking, Engine, Hosts, Key, Outlet, policy_of};
use crate::export::Shared;
use crate::rhythm::Rhythm;
use crate::source::gunicorn::{AttachError, Gunicorn, Observation, Options};
use ferricorn_core::log::Level;
use ferricorn_core::record::Server;
use ferricorn_core::snapshot::{Running, Snapshot};
use ferricorn_settings::Settings;
use ferricorn_sys::clock;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

const MS: u64 = 1_000_000;
/// How often the Gunicorn is looked at.
const LOOK_NS: u64 = 250 * MS;
/// How often a pidfile is read after the Gunicorn has ended.
const PIDFILE_NS: u64 = 1000 * MS;

/// What the observer needs.
pub struct Context<'a> {
    /// Who is to be observed.
    pub options: Options,
    /// Where records go; none are kept without it.
    pub folder: Option<&'a Path>,
    /// The observer's own settings: databases, where metrics and notifications go.
    pub settings: Settings,
    /// Readable once the observer is to end.
    pub stop: BorrowedFd<'a>,
    /// Writes a line to the observer's log.
    pub log: &'a dyn Fn(Level, &str),
}

/// Observes until the Gunicorn has ended, which is said in words, or until told to stop.
///
/// # Errors
/// There is nobody to observe, or nothing to observe with.
pub fn run(context: &Context<'_>) -> Result<Option<String>, AttachError> {
    let follows = context.options.pidfile.is_some();
    let mut gunicorn = Gunicorn::attach(context.options.clone())?;
    loop {
        let mut first = gunicorn.observe(clock::now_ns());
        let end = match first.gone.take() {
            Some(text) => End::Gone(text),
            None => {
                (context.log)(Level::Info, &begun(&first.snapshot));
                Session::open(context, &mut gunicorn, &first.snapshot)?.live(first, &mut gunicorn)
            }
        };
        match end {
            End::Stopped => return Ok(None),
            End::Gone(text) if !follows => return Ok(Some(text)),
            End::Gone(text) => {
                (context.log)(Level::Warning, &format!("{text}; its pidfile is watched for another"));
                if waits(context, &mut gunicorn) {
                    return Ok(None);
                }
            }
            End::Another => {}
            // With a pidfile it stands there.
            End::Replaced(_) if follows => {}
            End::Replaced(pid) => {
                gunicorn = Gunicorn::attach(Options { pid: Some(pid), ..context.options.clone() })?;
            }
        }
    }
}

/// Waits until the pidfile names another arbiter; true if we are to stop.
fn waits(context: &Context<'_>, gunicorn: &mut Gunicorn) -> bool {
    loop {
        if gunicorn.observe(clock::now_ns()).gone.is_none() {
            return false;
        }
        let mut fds = [PollFd::from_borrowed_fd(context.stop, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&clock::timespec(PIDFILE_NS)));
        if !fds[0].revents().is_empty() {
            return true;
        }
    }
}

fn begun(snapshot: &Snapshot) -> String {
    let Snapshot { arbiter_pid, version, worker_class, workers, .. } = snapshot;
    let version = if version.is_empty() { "of an unknown version" } else { version };
    let timeout =
        snapshot.timeout_s.map_or("without a timeout".to_owned(), |seconds| format!("timeout {seconds} s"));
    let count = workers.len();
    let word = if count == 1 { "worker" } else { "workers" };
    format!(
        "Observing Gunicorn {version} (pid:{arbiter_pid}): {count} {word} of class {worker_class}, {timeout}"
    )
}

/// Why a session is over.
enum End {
    /// We were told to stop.
    Stopped,
    /// The Gunicorn has ended, and how.
    Gone(String),
    /// Its pidfile, or an upgrade by `USR2`, has led to another arbiter.
    Another,
    /// We have put another arbiter in its place.
    Replaced(u32),
}

/// One arbiter, observed.
struct Session<'a> {
    context: &'a Context<'a>,
    shared: Arc<Shared>,
    engine: Engine<'a>,
    rhythm: Rhythm,
    snapshot: Snapshot,
    /// Gaps that have been said.
    gaps: Vec<String>,
}

impl<'a> Session<'a> {
    fn open(context: &'a Context<'a>, gunicorn: &mut Gunicorn, first: &Snapshot) -> io::Result<Self> {
        let server = Server {
            pid: first.arbiter_pid,
            name: first.name.clone(),
            version: first.version.clone(),
            started_ns: gunicorn.started_ns(),
            kind: first.kind,
        };
        let settings = Settings { proc_name: first.name.clone(), ..context.settings.clone() };
        let mut outlet = Outlet::open(server.clone(), context.folder, &settings, context.log)?;
        let shared = outlet.shared();
        let asking = Asking::open(&settings.reflex_database, context.log);
        let policy = policy_of(&settings, context.log);
        let acting = Acting::new(policy, server.pid, outlet.folder()).with_pidfile(gunicorn.pidfile());
        let hosts = Hosts::open(&settings, &server, &mut outlet, context.log);
        let now_s = clock::wall_time_s();
        let engine = Engine::new(server, asking, acting, outlet, now_s)
            .among(hosts)
            .following(gunicorn.scene(), now_s);
        let rhythm = Rhythm::new(clock::now_ns());
        Ok(Self { context, shared, engine, rhythm, snapshot: Snapshot::default(), gaps: Vec::new() })
    }

    /// Observes until something ends.
    fn live(mut self, first: Observation, gunicorn: &mut Gunicorn) -> End {
        let arbiter = first.snapshot.arbiter_pid;
        let mut seen = first;
        loop {
            let wanted_ns = clock::now_ns() + LOOK_NS;
            let gone = seen.gone.take();
            if gone.is_some() || seen.snapshot.arbiter_pid != arbiter {
                let text = gone.clone().unwrap_or_else(|| {
                    format!("arbiter {} has come in the place of {arbiter}", seen.snapshot.arbiter_pid)
                });
                self.take(seen, gunicorn);
                self.engine.counted(gunicorn.by_worker());
                self.engine.last_gains(&self.snapshot);
                self.engine.end(&text, clock::wall_time_s());
                return match (gone, self.engine.successor()) {
                    (Some(_), Some(pid)) => End::Replaced(pid),
                    (Some(text), None) => End::Gone(text),
                    (None, _) => End::Another,
                };
            }
            self.take(seen, gunicorn);
            let now_ns = clock::now_ns();
            let mut fds = [
                PollFd::from_borrowed_fd(self.context.stop, PollFlags::IN),
                PollFd::from_borrowed_fd(self.shared.as_fd(), PollFlags::IN),
            ];
            let _ = poll(&mut fds, Some(&clock::timespec(wanted_ns.saturating_sub(now_ns).max(MS))));
            if !fds[0].revents().is_empty() {
                self.engine.counted(gunicorn.by_worker());
                self.engine.last_gains(&self.snapshot);
                self.engine.finish(clock::wall_time_s());
                return End::Stopped;
            }
            if let Some(stopped_s) = self.rhythm.stopped_s(wanted_ns.max(now_ns), clock::now_ns()) {
                self.engine.paused(stopped_s, clock::wall_time_s());
            }
            seen = gunicorn.observe(clock::now_ns());
        }
    }

    /// Takes what was seen.
    fn take(&mut self, seen: Observation, gunicorn: &mut Gunicorn) {
        let (now_ns, now_s) = (clock::now_ns(), clock::wall_time_s());
        self.snapshot = seen.snapshot;
        let snapshot = &self.snapshot;
        let running = |pid: u32| -> Vec<Running> {
            snapshot.requests.iter().filter(|request| request.pid == pid).cloned().collect()
        };
        for gap in snapshot.gaps.iter().filter(|gap| !self.gaps.contains(gap)) {
            (self.context.log)(Level::Warning, &format!("Not seen: {gap}"));
        }
        self.gaps.clone_from(&snapshot.gaps);
        let alive: Vec<Key> = snapshot.requests.iter().map(|request| (request.pid, request.number)).collect();
        self.engine.requests(&snapshot.requests, &running, now_s);
        for late in &seen.lost {
            let at_s = now_s - now_ns.saturating_sub(late.at_ns) as f64 / 1e9;
            self.engine.late(late, at_s, &running, now_s);
            for line in self.engine.told_of(late) {
                (self.context.log)(Level::Error, &line);
            }
        }
        for died in seen.deaths {
            let text = format!("Worker (pid:{}) has died: {}", died.worker.pid, died.cause);
            (self.context.log)(Level::Error, &text);
            self.engine.died(died, now_s);
        }
        self.engine.changes(&seen.changes, now_s);
        let ended = |pid: u32| !snapshot.workers.iter().any(|worker| worker.pid == pid);
        self.engine.settle(&alive, now_s, ended);
        let due = self.rhythm.due(now_ns);
        let by_worker = if due.gains { gunicorn.by_worker() } else { Vec::new() };
        if due.second {
            self.engine.second(snapshot, now_s);
        }
        if due.gains {
            self.engine.counted(by_worker);
            self.engine.ten_seconds(snapshot, now_s);
        }
        // It is all there: nothing is saved by publishing less.
        self.shared.wanted();
        self.engine.publish(snapshot.clone());
        if due.keep {
            self.engine.keep(now_s);
        }
        self.engine.tick(now_s);
    }
}
