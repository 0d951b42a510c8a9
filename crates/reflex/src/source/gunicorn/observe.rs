//! Watching a Gunicorn: one look at everything, called a few times a second. Not for: finding it (`attach`).

use super::attach::{self, AttachError, Options};
use super::class::Class;
use super::ledger::Ledger;
use super::logs::Logs;
use super::requests::{Requests, Rules};
use super::routes::Routes;
use super::settings::Settings;
use super::statsd::Statsd;
use super::tree::Tree;
use crate::changes::Scene;
use crate::pidfile;
use crate::process::Process;
use crate::stack::Stacks;
use ferricorn_core::event::{Died, Late};
use ferricorn_core::histogram::Distribution;
use ferricorn_core::life::{Change, Life, Lives};
use ferricorn_core::scoreboard::Exit;
use ferricorn_core::snapshot::{Running, Snapshot};
use ferricorn_sys::cgroup::Kills;
use ferricorn_sys::clock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How often the control socket is asked, seconds; sooner where processes have come or gone.
const CONTROL_S: f64 = 5.0;
/// How often kills for want of memory are counted anew, seconds.
const MEMORY_S: f64 = 1.0;

/// A Gunicorn that is watched.
pub struct Gunicorn {
    pub(super) options: Options,
    pub(super) tree: Tree,
    pub(super) settings: Settings,
    pub(super) version: String,
    pub(super) class: Class,
    /// The generation whose class was looked at.
    pub(super) class_of: Option<u32>,
    pub(super) requests: Requests,
    pub(super) logs: Logs,
    pub(super) ledger: Ledger,
    pub(super) routes: Routes,
    pub(super) statsd: Option<Statsd>,
    pub(super) kills: Kills,
    pub(super) memory_s: f64,
    pub(super) lives: Lives,
    pub(super) exits: BTreeMap<Exit, u64>,
    /// What each worker was at the last time.
    pub(super) before: BTreeMap<u32, Vec<Running>>,
    /// Requests that workers were at shortly before that, late or in a worker that is condemned: the answer may have been
    /// the last thing that it did. With when they were missed.
    pub(super) ending: Vec<(Running, f64)>,
    /// What each worker's life was the last time.
    pub(super) life: BTreeMap<u32, Life>,
    pub(super) target: Option<u32>,
    pub(super) controlled_s: f64,
    /// Why the control socket does not answer; none while it does, or where there is none.
    pub(super) control_gap: Option<String>,
}

/// What was seen, and what has happened since the last time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The server.
    pub snapshot: Snapshot,
    /// Requests that were killed with their worker, at their true age.
    pub lost: Vec<Late>,
    /// Workers that have ended without having been told to.
    pub deaths: Vec<Died>,
    /// Lives that have changed.
    pub changes: Vec<Change>,
    /// The server has ended, and how: there is nothing to see any more, unless a pidfile names another.
    pub gone: Option<String>,
}

impl Gunicorn {
    /// Returns where its arbiter writes its pid, as far as that is known.
    pub(crate) fn pidfile(&self) -> Option<PathBuf> {
        self.options.pidfile.clone().or_else(|| self.settings.path("pidfile"))
    }

    /// Returns when its arbiter was started, nanoseconds since the host was: with its pid, its name for ever.
    pub fn started_ns(&self) -> u64 {
        self.tree.masters.first().map_or(0, |master| master.process.started_ns())
    }

    /// Takes what each worker has answered since the last time, by route; nothing where the log does not tell of pids.
    pub(crate) fn by_worker(&mut self) -> Vec<(u32, String, Distribution)> {
        let outer = |inner: u32| {
            let mut workers = self.tree.workers.values();
            workers.find(|worker| worker.process.inner == inner).map(|worker| worker.process.pid)
        };
        let told = self.ledger.by_worker().into_iter();
        told.filter_map(|((pid, route), answered)| Some((outer(pid)?, route, answered))).collect()
    }

    /// Returns where its application is to be found.
    pub(crate) fn scene(&mut self) -> Scene {
        let arbiter = self.tree.masters.first().map_or(0, |master| master.process.pid);
        let said = self.settings.get("pythonpath").unwrap_or_default();
        let said =
            said.split(',').filter(|path| !path.trim().is_empty()).map(|path| PathBuf::from(path.trim()));
        let library = attach::library(arbiter, &mut self.requests).map(PathBuf::from);
        let config = self.settings.get("config").filter(|name| !name.starts_with("python:"));
        let config = config.map(|name| PathBuf::from(name.strip_prefix("file:").unwrap_or(name)));
        let folder = Some(self.settings.folder.clone()).filter(|folder| folder.is_absolute());
        Scene {
            arbiter,
            folder,
            python_path: said.chain(library).collect(),
            config,
            settings: String::new(),
            preload: self.settings.is_on("preload_app"),
        }
    }

    /// Finds a Gunicorn and looks at what it is. Nothing of it is changed.
    ///
    /// # Errors
    /// It is not there, is something else, or is too old.
    pub fn attach(options: Options) -> Result<Self, AttachError> {
        let statsd = match &options.statsd {
            None => None,
            Some(address) => Some(
                Statsd::open(address)
                    .map_err(|error| AttachError::Statsd { address: address.clone(), error })?,
            ),
        };
        let master = attach::master(&options)?;
        let pid = master.pid;
        let mut tree = Tree::of(Process::open(pid).ok_or(AttachError::NoProcess { pid })?);
        tree.look(seconds(clock::now_ns()));
        attach::check(&master, &tree)?;
        let mut requests = Requests::default();
        let version = attach::version(pid, &mut requests).unwrap_or_default();
        attach::check_version(pid, &version)?;
        let mut gunicorn = Self {
            options,
            tree,
            settings: Settings::default(),
            version,
            class: Class::default(),
            class_of: None,
            requests,
            logs: Logs::default(),
            ledger: Ledger::default(),
            routes: Routes::default(),
            statsd,
            kills: Kills::of(pid),
            memory_s: 0.0,
            lives: Lives::default(),
            exits: BTreeMap::new(),
            before: BTreeMap::new(),
            ending: Vec::new(),
            life: BTreeMap::new(),
            target: None,
            controlled_s: f64::NEG_INFINITY,
            control_gap: None,
        };
        gunicorn.configure(pid);
        Ok(gunicorn)
    }

    /// Reads settings and opens logs.
    fn configure(&mut self, pid: u32) {
        self.settings = Settings::of(pid);
        self.ask_config();
        self.open_logs(pid);
    }

    pub(super) fn open_logs(&mut self, pid: u32) {
        let worker = self.tree.workers.keys().next().copied();
        let pids: Vec<u32> = [Some(pid), worker].into_iter().flatten().collect();
        let (access, error) = (self.options.access_log.as_deref(), self.options.error_log.as_deref());
        self.logs = Logs::find(access, error, &self.settings, &pids);
    }

    /// Looks at everything. `now_ns` is the monotonic clock. To be called two to four times a second: what happens between
    /// two looks is seen by the logs alone.
    pub fn observe(&mut self, now_ns: u64) -> Observation {
        let now_s = seconds(now_ns);
        if !self.tree.lives() {
            self.follow_pidfile();
        }
        let changed = self.tree.look(now_s);
        let written = self.logs.read();
        for event in written.events {
            self.hear(event);
        }
        if let Some(statsd) = &mut self.statsd {
            statsd.hear();
        }
        self.look_at_class();
        if changed || now_s - self.controlled_s >= CONTROL_S {
            self.ask(now_s);
        }
        self.requests.connections.assume(self.settings.get("bind").unwrap_or("127.0.0.1:8000"));
        let rules = Rules { class: self.class, timeout_s: self.timeout_s() };
        let running = self.requests.look(&mut self.tree, rules, &mut self.routes, now_s, changed);
        let mut observation = Observation::default();
        self.bury(now_s, now_ns, &mut observation);
        self.ledger.take(written.requests, &mut self.requests, &mut self.routes, now_s);
        if now_s - self.memory_s >= MEMORY_S
            && self.tree.workers.values().all(|worker| worker.gone_s.is_none())
        {
            self.memory_s = now_s;
            self.kills.take();
        }
        observation.snapshot = self.snapshot(running, rules, now_s);
        observation.changes = self.lives.observe(&observation.snapshot);
        // Workers may outlive their arbiter for a while, and how they ended is told a little later.
        observation.gone = self.tree.epitaph(now_s).filter(|_| self.tree.workers.is_empty());
        observation
    }

    /// Returns what reads the stacks of its workers, which remembers how to: for whoever gathers evidence of them.
    pub fn stacks(&mut self) -> &mut Stacks {
        &mut self.requests.stacks
    }

    /// Begins anew with the arbiter that the pidfile names now.
    fn follow_pidfile(&mut self) {
        let Some(path) = &self.options.pidfile else { return };
        let known = self.tree.masters.first().map(|master| (master.process.pid, master.process.started));
        let next = pidfile::read(path).ok().and_then(Process::open);
        let Some(next) = next.filter(|next| Some((next.pid, next.started)) != known) else { return };
        let pid = next.pid;
        let generation = self.tree.generation + 1;
        self.tree = Tree::of(next);
        self.tree.generation = generation;
        self.requests = Requests::default();
        self.class_of = None;
        self.kills = Kills::of(pid);
        self.version = attach::version(pid, &mut self.requests).unwrap_or_default();
        self.configure(pid);
    }

    pub(super) fn timeout_s(&self) -> Option<f64> {
        self.settings.timeout_s(self.requests.timeout_s)
    }

    pub(super) fn wanted(&self) -> u32 {
        let heard = self.statsd.as_ref().and_then(|statsd| statsd.heard.workers);
        let living =
            self.tree.workers.values().filter(|worker| worker.gone_s.is_none() && !worker.draining).count();
        let default = if self.settings.hidden { u32::try_from(living).unwrap_or(1) } else { 1 };
        self.target.or(heard).unwrap_or_else(|| self.settings.number("workers", default))
    }

    /// Looks at a stack for the worker class, once for each generation.
    fn look_at_class(&mut self) {
        let generation = self.tree.generation;
        let ready = self.tree.workers.values().any(|worker| !worker.boots() && worker.gone_s.is_none());
        if self.class_of != Some(generation) && ready {
            self.class_of = Some(generation);
            self.requests.class = None;
            self.class = attach::class(&self.tree, &self.settings, &mut self.requests);
        } else if self.class_of.is_none() {
            let name = self.settings.get("worker_class").unwrap_or("sync");
            self.class = Class::of_name(name, self.settings.number("threads", 1));
        } else if let Some(class) = self.requests.class {
            self.class = class;
        }
    }

    pub(super) fn threads(&self) -> u32 {
        if self.class == Class::Gthread { self.settings.number("threads", 1) } else { 1 }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
