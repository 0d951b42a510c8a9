//! Watching a Gunicorn: one look at everything, called a few times a second. Not for: finding it (`attach`).

use super::attach::{self, AttachError, Options};
use super::class::Class;
use super::control;
use super::deaths::{self, Memory, Why};
use super::events::Event;
use super::ledger::Ledger;
use super::logs::Logs;
use super::process::Process;
use super::requests::{Requests, Rules};
use super::routes::Routes;
use super::settings::Settings;
use super::statsd::Statsd;
use super::tree::{Tree, Worker};
use ferricorn_core::event::{Died, Late, REQUESTS_MAX};
use ferricorn_core::fleet::ExitStatus;
use ferricorn_core::histogram::Distribution;
use ferricorn_core::life::{Change, Life, Lives};
use ferricorn_core::record;
use ferricorn_core::scoreboard::{Exit, State, TIMED};
use ferricorn_core::snapshot::{self, Kind, Running, SCHEMA, Snapshot};
use ferricorn_sys::clock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often the control socket is asked, seconds; sooner where processes have come or gone.
const CONTROL_S: f64 = 5.0;
/// How long it is waited for the way in which a worker has ended, seconds.
const STATUS_S: f64 = 1.0;
/// How often kills for want of memory are counted anew, seconds.
const MEMORY_S: f64 = 1.0;

/// How long a request that was missed is remembered, in case that its worker ends, seconds.
const ENDING_S: f64 = 3.0;
/// How many.
const ENDING_MAX: usize = 256;
/// A request that was seen so shortly before its deadline has met it, seconds.
const LATE_S: f64 = 0.5;

/// A Gunicorn that is watched.
pub struct Gunicorn {
    options: Options,
    tree: Tree,
    settings: Settings,
    version: String,
    class: Class,
    /// The generation whose class was looked at.
    class_of: Option<u32>,
    requests: Requests,
    logs: Logs,
    ledger: Ledger,
    routes: Routes,
    statsd: Option<Statsd>,
    memory: Memory,
    memory_s: f64,
    lives: Lives,
    exits: BTreeMap<Exit, u64>,
    /// What each worker was at the last time.
    before: BTreeMap<u32, Vec<Running>>,
    /// Requests that workers were at shortly before that, late or in a worker that is condemned: the answer may have been
    /// the last thing that it did. With when they were missed.
    ending: Vec<(Running, f64)>,
    /// What each worker's life was the last time.
    life: BTreeMap<u32, Life>,
    target: Option<u32>,
    controlled_s: f64,
    /// Why the control socket does not answer; none while it does, or where there is none.
    control_gap: Option<String>,
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
            memory: Memory::of(pid),
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
            self.memory.forget();
        }
        observation.snapshot = self.snapshot(running, rules, now_s);
        observation.changes = self.lives.observe(&observation.snapshot);
        // Workers may outlive their arbiter for a while, and how they ended is told a little later.
        observation.gone = self.tree.epitaph().filter(|_| self.tree.workers.is_empty());
        observation
    }

    /// Begins anew with the arbiter that the pidfile names now.
    fn follow_pidfile(&mut self) {
        let Some(path) = &self.options.pidfile else { return };
        let known = self.tree.masters.first().map(|master| (master.process.pid, master.process.started));
        let next = attach::read_pidfile(path).ok().and_then(Process::open);
        let Some(next) = next.filter(|next| Some((next.pid, next.started)) != known) else { return };
        let pid = next.pid;
        let generation = self.tree.generation + 1;
        self.tree = Tree::of(next);
        self.tree.generation = generation;
        self.requests = Requests::default();
        self.class_of = None;
        self.memory = Memory::of(pid);
        self.version = attach::version(pid, &mut self.requests).unwrap_or_default();
        self.configure(pid);
    }

    /// Takes what the error log says.
    fn hear(&mut self, event: Event) {
        let tree = &mut self.tree;
        match event {
            Event::Starting(version) => self.version = version,
            Event::Timeout(pid) => {
                let silent_s = tree.named(pid).and_then(|worker| worker.beat_age_s());
                tree.with(pid, |worker| worker.timed_out = true);
                // It is found out within a second.
                let learned_s = silent_s.filter(|_| self.requests.timeout_s.is_none()).map(f64::floor);
                self.requests.timeout_s =
                    self.requests.timeout_s.or(learned_s.filter(|learned_s| *learned_s >= 1.0));
            }
            Event::Ended(pid, status) => tree.with(pid, |worker| worker.logged = Some(status)),
            Event::Retiring(pid) => tree.with(pid, |worker| worker.retiring = true),
            Event::Exiting(pid) => tree.with(pid, |worker| worker.draining |= !worker.timed_out),
            // Those that come after a reload are not meant by it, though they may have been seen before it was read.
            Event::Booting(pid) => {
                let generation = tree.generation;
                tree.with(pid, |worker| (worker.draining, worker.generation) = (false, generation));
            }
            Event::Signal(master, name) => self.signalled(master, &name),
            Event::Stopping(master) => {
                if let Some(master) = tree.master(master) {
                    tree.drain(master);
                }
            }
            Event::Class(_) | Event::Listening(_) => {}
        }
    }

    fn signalled(&mut self, master: u32, name: &str) {
        let Some(master) = self.tree.master(master) else { return };
        match name {
            "hup" => {
                self.tree.generation += 1;
                self.tree.drain(master);
                // The settings may be others now, the number of workers among them.
                self.settings = Settings::of(master);
                (self.target, self.controlled_s, self.class_of) = (None, f64::NEG_INFINITY, None);
            }
            "term" | "int" | "quit" => self.tree.drain(master),
            "ttin" => self.target = Some(self.wanted() + 1),
            "ttou" => {
                let before = self.wanted();
                self.target = Some(before.saturating_sub(1).max(1));
                if before > 1 {
                    self.tree.drain_oldest(master);
                }
            }
            _ => {}
        }
    }

    fn timeout_s(&self) -> Option<f64> {
        self.settings.timeout_s(self.requests.timeout_s)
    }

    fn wanted(&self) -> u32 {
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

    fn ask_config(&mut self) {
        let Some(path) = self.settings.control.clone() else { return };
        let pid = self.tree.masters.first().map(|master| u64::from(master.process.inner));
        // Another server of the same user takes the same path.
        let ours = control::ask(&path, "show stats").is_ok_and(|stats| stats["pid"].as_u64() == pid);
        if let Ok(config) = control::ask(&path, "show config")
            && ours
        {
            self.settings.shown(&config);
        }
    }

    /// Asks the control socket for what only the arbiter knows.
    fn ask(&mut self, now_s: f64) {
        let first = self.controlled_s == f64::NEG_INFINITY;
        self.controlled_s = now_s;
        self.control_gap = None;
        let Some(path) = self.settings.control.clone() else { return };
        let pid = self.tree.masters.first().map_or(0, |master| master.process.inner);
        let stats = match control::ask(&path, "show stats") {
            Ok(stats) => stats,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                self.control_gap = Some(format!(
                    "the control socket {path} may not be used: run as Gunicorn's user, or as root"
                ));
                return;
            }
            // It comes and goes: it is closed while a worker is forked, and versions before 25.1 have none.
            Err(_) => return,
        };
        if stats["pid"].as_u64() != Some(u64::from(pid)) {
            return;
        }
        if first {
            self.ask_config();
        }
        if let Some(target) = stats["workers_target"].as_u64().and_then(|target| u32::try_from(target).ok()) {
            self.target = Some(target);
        }
        for shown in
            control::ask(&path, "show workers").map(|data| control::workers(&data)).unwrap_or_default()
        {
            self.tree.with(shown.pid, |worker| {
                worker.age = shown.age;
                worker.timed_out |= shown.aborted;
            });
        }
    }

    /// Tells of workers that have ended, once it is known how.
    fn bury(&mut self, now_s: f64, now_ns: u64, observation: &mut Observation) {
        let told = |worker: &Worker| {
            worker.gone_s.is_some_and(|gone_s| worker.status().is_some() || now_s - gone_s >= STATUS_S)
        };
        let ended: Vec<u32> =
            self.tree.workers.values().filter(|worker| told(worker)).map(|one| one.process.pid).collect();
        let moved = if ended.is_empty() { None } else { self.memory.has_moved() };
        for pid in ended {
            let Some(worker) = self.tree.forget(pid) else { continue };
            let why = deaths::why(&worker, self.timeout_s(), moved);
            let mut running = self.before.remove(&pid).unwrap_or_default();
            if why.exit == Some(Exit::Timeout) {
                running
                    .extend(self.ending.iter().filter(|(one, _)| one.pid == pid).map(|(one, _)| one.clone()));
            }
            self.ending.retain(|(one, _)| one.pid != pid);
            self.life.remove(&pid);
            self.requests.forget(pid);
            if let Some(exit) = why.exit {
                *self.exits.entry(exit).or_default() += 1;
                self.lives.explain(pid, exit, why.words.clone());
            }
            if why.exit == Some(Exit::Planned) {
                continue;
            }
            let requests = self.lose(&worker, &why, running, now_s, now_ns, observation);
            observation.deaths.push(Died {
                worker: self.recorded(&worker),
                cause: why.words,
                // Not known: somebody's doing, most likely.
                exit: why.exit.unwrap_or(Exit::Signal),
                requests,
            });
        }
    }

    /// Tells of the requests that have ended with a worker.
    fn lose(
        &mut self,
        worker: &Worker,
        why: &Why,
        running: Vec<Running>,
        now_s: f64,
        now_ns: u64,
        observation: &mut Observation,
    ) -> Vec<record::Request> {
        let late_s = self.timeout_s().filter(|_| why.exit == Some(Exit::Timeout) && self.class.is_enforced());
        let answer = match worker.status() {
            Some(ExitStatus::Signal(_)) => "connection reset",
            Some(ExitStatus::Code(_)) if why.exit == Some(Exit::Timeout) => {
                "answered 500 by its worker as it was aborted"
            }
            _ => "lost",
        };
        let mut requests = Vec::new();
        for one in running {
            let mut request = one.request;
            // It was killed after its time, and it was seen last a little before that.
            if let Some(late_s) = late_s {
                request.app_s = request.app_s.max(late_s);
            }
            self.ledger.lost(
                worker.process.inner,
                &request.method,
                &request.path,
                request.app_s,
                &mut self.routes,
                now_s,
            );
            if requests.len() < REQUESTS_MAX {
                requests.push(request.clone());
            }
            observation.lost.push(Late {
                pid: one.pid,
                id: one.number,
                request,
                at_ns: now_ns,
                answer: answer.to_owned(),
                by: "arbiter".to_owned(),
                doing: why.words.clone(),
            });
        }
        requests
    }

    fn recorded(&self, worker: &Worker) -> record::Worker {
        record::Worker {
            pid: worker.process.pid,
            age: worker.age,
            generation: worker.generation,
            threads: self.threads(),
            queued: 0,
            uptime_s: worker.process.age_s(),
            requests: 0,
        }
    }

    fn threads(&self) -> u32 {
        if self.class == Class::Gthread { self.settings.number("threads", 1) } else { 1 }
    }

    fn snapshot(&mut self, running: Vec<Running>, rules: Rules, now_s: f64) -> Snapshot {
        self.miss(&running, rules, now_s);
        for one in &running {
            self.before.entry(one.pid).or_default().push(one.clone());
        }
        let mut workers: Vec<snapshot::Worker> = Vec::new();
        for worker in self.tree.workers.values() {
            workers.push(self.worker(worker, rules));
        }
        self.life = workers.iter().map(|worker| (worker.pid, worker.life)).collect();
        workers.sort_by_key(|worker| (worker.generation, worker.age));
        let master = self.tree.masters.first();
        let name = self.settings.get("worker_class").map(str::to_owned);
        let shown =
            if self.class == Class::Other { name.unwrap_or_default() } else { self.class.name().to_owned() };
        Snapshot {
            schema: SCHEMA,
            kind: Kind::Gunicorn,
            at_s: clock::wall_time_s(),
            arbiter_pid: master.map_or(0, |master| master.process.pid),
            name: self.settings.get("proc_name").unwrap_or("gunicorn").to_owned(),
            version: self.version.clone(),
            worker_class: shown,
            threads: self.threads(),
            timeout_s: rules.timeout_s,
            uptime_s: master.map_or(0.0, |master| master.process.age_s()),
            workers_target: self.wanted(),
            generation: self.tree.generation,
            workers,
            requests: running,
            recent: self.ledger.finished(now_s),
            routes: self.routes.read(),
            exits: self.exits.clone(),
            backlog: self.requests.connections.backlog,
            reported: self.statsd.as_ref().map(|statsd| statsd.heard.clone()),
            gaps: self.gaps(),
        }
    }

    /// Remembers requests that are not in flight any more, where they may have ended with their worker.
    fn miss(&mut self, running: &[Running], rules: Rules, now_s: f64) {
        self.ending.retain(|(_, missed_s)| now_s - missed_s <= ENDING_S);
        for (pid, before) in std::mem::take(&mut self.before) {
            let condemned = self.tree.workers.get(&pid).is_some_and(|worker| worker.timed_out);
            for one in before {
                let here = running.iter().any(|now| now.pid == pid && now.number == one.number);
                let late = rules.class.is_enforced() && one.left_s().is_some_and(|left_s| left_s < LATE_S);
                if !here && (condemned || late) && self.ending.len() < ENDING_MAX {
                    self.ending.push((one, now_s));
                }
            }
        }
    }

    fn worker(&self, worker: &Worker, rules: Rules) -> snapshot::Worker {
        let pid = worker.process.pid;
        let running = self.before.get(&pid).map(Vec::as_slice).unwrap_or_default();
        let busy = u32::try_from(running.len()).unwrap_or(u32::MAX);
        let threads = self.threads();
        let connections = self.requests.connections.counts.get(&pid).copied().unwrap_or(0);
        snapshot::Worker {
            pid,
            age: worker.age,
            generation: worker.generation,
            state: match worker {
                Worker { draining: true, .. } => State::Draining,
                worker if worker.boots() => State::Booting,
                _ => State::Ready,
            },
            life: self.life(worker, running, rules),
            uptime_s: worker.process.age_s(),
            boot_s: worker.boot_s,
            beat_age_s: worker.beat_age_s(),
            threads,
            threads_free: threads.saturating_sub(busy),
            connections: connections.max(busy),
            timed: vec![Distribution::default(); TIMED],
            ..snapshot::Worker::default()
        }
    }

    fn life(&self, worker: &Worker, running: &[Running], rules: Rules) -> Life {
        // Of who has ended it is told once it is known why.
        if worker.gone_s.is_some()
            && let Some(life) = self.life.get(&worker.process.pid)
        {
            return *life;
        }
        let late = running.iter().any(|one| one.share().is_some_and(|share| share >= 1.0));
        let silent_s = rules.class.silent_s(rules.timeout_s);
        let silent =
            silent_s.is_some_and(|silent_s| worker.beat_age_s().is_some_and(|age_s| age_s > silent_s));
        match worker {
            worker if worker.boots() => Life::Booting,
            Worker { timed_out: true, .. } | Worker { retiring: true, .. } => Life::Condemned,
            _ if late || silent => Life::Stuck,
            Worker { draining: true, .. } => Life::Draining,
            _ if running.is_empty() => Life::Ready,
            _ => Life::Busy,
        }
    }

    fn gaps(&self) -> Vec<String> {
        let mut gaps = self.settings.gaps.clone();
        gaps.extend(self.logs.gaps());
        gaps.extend(self.requests.connections.gaps.iter().cloned());
        gaps.extend(self.control_gap.clone());
        if self.tree.hidden {
            gaps.push(
                "the workers' descriptors may not be read: heartbeats, and whose a request is, are not known. Run as \
                 their user, or as root"
                    .to_owned(),
            );
        }
        if let Some(why) = &self.requests.degraded {
            gaps.push(format!("stacks cannot be read, so it is not known which requests are slow: {why}"));
        }
        let (_, unix) = self.requests.connections.kinds();
        if unix && !self.class.has_threads() {
            gaps.push(
                "requests over a unix socket in an event loop or hub cannot be seen from outside: bind to 127.0.0.1 instead"
                    .to_owned(),
            );
        }
        gaps.dedup();
        gaps
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
