//! What the arbiter decides about its workers: how many there are, when one is spawned, told to go or killed, how a
//! reload rolls over, and when the server ends. `(state, event, now) -> actions`; the shell round it is the crate
//! `arbiter`.
//!
//! Rules that hold whatever happens: a server that has once been ready never stops because new code is broken; a
//! worker is told to go only when a ready one stands in its place; a crash loop slows down; every wait has an end.
//!
//! Not for: I/O, clocks, the scoreboard (its facts arrive as [`Vital`]s), or the deadlines of single requests, which
//! workers keep themselves.

mod budget;
mod cause;
mod notice;
mod stages;
mod strain;
mod worker;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use cause::{By, Cause};
pub use notice::{Notice, signal_name};
pub use strain::{Pressure, Shortage, Throttled};
pub use worker::Killed;

use crate::scoreboard::{State, WORKERS_MAX};
use budget::Budget;
use std::collections::BTreeMap;
use strain::Strain;
use worker::{Backoff, Leaving, Why, Worker};

/// Most workers that can be asked for: a reload needs places for the new ones beside the old.
pub const TARGET_MAX: usize = WORKERS_MAX * 4 / 5;

const SECOND: u64 = 1_000_000_000;
/// A worker gets this much longer than `graceful_timeout`, which it keeps itself, before it is killed.
const MARGIN_NS: u64 = SECOND / 2;
/// From SIGABRT to SIGKILL.
const ABORT_NS: u64 = SECOND;
/// What is left of a stop after a second signal.
const QUICK_NS: u64 = 2 * SECOND;
/// How long a stop waits for workers that even SIGKILL has not ended.
const UNKILLABLE_NS: u64 = 5 * SECOND;
/// A worker that ends sooner after its start counts as a failure.
const EARLY_NS: u64 = 10 * SECOND;
/// How long a worker that hangs in its boot may take to write its stack.
const STACK_NS: u64 = SECOND / 10;

/// The settings that matter here. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `workers`.
    pub workers: usize,
    /// `timeout`; 0 for none.
    pub timeout_ns: u64,
    /// `graceful_timeout`.
    pub graceful_ns: u64,
    /// `boot_timeout`; 0 for none.
    pub boot_ns: u64,
    /// `reload_soak`: so long the first new workers of a reload serve beside all old ones; 0 for not at all.
    pub soak_ns: u64,
    /// Whether the server runs as a daemon: WINCH then sends all workers away.
    pub daemon: bool,
}

/// A signal to the arbiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the signals of these names")]
pub enum Signal {
    Term,
    Int,
    Quit,
    Hup,
    Ttin,
    Ttou,
    Usr1,
    Usr2,
    Winch,
    Chld,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What the scoreboard says of one living worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vital {
    /// Its pid.
    pub pid: i32,
    /// What it does.
    pub state: State,
    /// Its last heartbeat.
    pub beat_ns: u64,
    /// Whether it wants to be replaced.
    pub retiring: bool,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Listeners are open: workers may come.
    Started,
    /// A [`Action::Spawn`] was carried out.
    Spawned {
        /// Which.
        age: u32,
        /// The process.
        pid: i32,
    },
    /// A [`Action::Spawn`] was not possible.
    SpawnFailed {
        /// Which.
        age: u32,
    },
    /// Time passes.
    Vitals {
        /// What the scoreboard says of the living workers.
        vitals: Vec<Vital>,
        /// How much later than we wanted we look at it.
        late_ns: u64,
    },
    /// The answer to [`Action::Measure`].
    Measured(Pressure),
    /// A worker was reaped.
    Exited {
        /// The process.
        pid: i32,
        /// How it ended.
        status: ExitStatus,
    },
    /// A signal arrived.
    Signal(Signal),
    /// The new workers of this reload are worse than the old: these are to stay.
    Halted {
        /// Which reload.
        generation: u32,
    },
    /// The answer to [`Action::Reload`]: the new settings, or why there are none.
    Reloaded(Result<Plan, String>),
}

/// What is sent to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Finish what you have, then go (SIGTERM).
    Terminate,
    /// Go (SIGQUIT).
    Quit,
    /// Say where you are stuck, then go (SIGABRT).
    Abort,
    /// SIGKILL.
    Kill,
    /// Open the log files again (SIGUSR1).
    ReopenLogs,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fork a worker; answer with [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// Its number in the order of spawning.
        age: u32,
        /// The reload it belongs to.
        generation: u32,
    },
    /// Send a worker a signal.
    Send {
        /// To whom.
        pid: i32,
        /// Which.
        order: Order,
    },
    /// Somebody is late: see how the host is; answer with [`Event::Measured`].
    Measure,
    /// Have a worker write its stack.
    AskStack {
        /// Whom.
        pid: i32,
    },
    /// Write what came of it to the error log.
    TellStack {
        /// Whose.
        pid: i32,
    },
    /// Write a line to the error log.
    Say(Notice),
    /// Say why a worker has died, and what that has cost.
    Died {
        /// The process that has ended.
        pid: i32,
        /// How.
        status: ExitStatus,
        /// Who ended it.
        by: By,
    },
    /// Run the hook `nworkers_changed`.
    NworkersChanged {
        /// Workers wanted from now on.
        new: usize,
        /// Workers wanted until now.
        old: usize,
    },
    /// Run the hook `child_exit`.
    ChildExit {
        /// The process that has ended.
        pid: i32,
        /// Its number in the order of spawning.
        age: u32,
    },
    /// Run the hook `on_reload`.
    OnReload,
    /// Read the configuration again; answer with [`Event::Reloaded`].
    Reload,
    /// A reload is over.
    ReloadEnded,
    /// Open the arbiter's own log files again.
    ReopenLogs,
    /// The number of workers is now this.
    Count(usize),
    /// The first worker is ready.
    Ready,
    /// Close the listeners: the server stops.
    CloseListeners,
    /// All is done; the process ends with this code.
    Halt {
        /// The exit code.
        exit_code: i32,
    },
}

/// The workers of a server and what is to become of them.
#[derive(Debug)]
pub struct Fleet {
    plan: Plan,
    target: usize,
    generation: u32,
    last_age: u32,
    workers: BTreeMap<u32, Worker>,
    stage: Stage,
    /// A reload to `generation` is under way.
    reloading: bool,
    /// Until then its first new workers are tried; none while none of them is ready.
    soaks_until_ns: Option<u64>,
    ever_ready: bool,
    backoff: Backoff,
    budget: Budget,
    strain: Strain,
    /// When we last looked.
    seen_ns: u64,
    /// Heartbeats count as at least this old: we were suspended ourselves until then.
    floor_ns: u64,
    counted: Option<usize>,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Running,
    Stopping(Stop),
    Halted,
}

#[derive(Debug)]
struct Stop {
    exit_code: i32,
    reason: Option<&'static str>,
    /// The workers were told to quit rather than to finish.
    quick: bool,
    hurried: bool,
    give_up_ns: u64,
}

impl Fleet {
    /// Returns a fleet without workers.
    pub fn new(plan: Plan) -> Self {
        Self {
            target: plan.workers.min(TARGET_MAX),
            plan,
            generation: 0,
            last_age: 0,
            workers: BTreeMap::new(),
            stage: Stage::Idle,
            reloading: false,
            soaks_until_ns: None,
            ever_ready: false,
            backoff: Backoff::default(),
            budget: Budget::default(),
            strain: Strain::default(),
            seen_ns: 0,
            floor_ns: 0,
            counted: None,
        }
    }

    /// Returns how many workers there should be.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Returns the number of the last reload.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the oldest generation that still serves: what it needs must stay.
    pub fn oldest_generation(&self) -> u32 {
        let staying = self.workers.values().filter(|worker| worker.stays());
        staying.map(|worker| worker.generation).min().unwrap_or(self.generation)
    }

    /// Takes in what has happened; returns what is to be done. After [`Action::Halt`] nothing ever is.
    pub fn on(&mut self, event: Event, now_ns: u64) -> Vec<Action> {
        let mut out = Vec::new();
        if matches!(self.stage, Stage::Halted) {
            return out;
        }
        self.notice_suspension(now_ns);
        match event {
            Event::Started => self.start(&mut out),
            Event::Spawned { age, pid } => self.spawned(age, pid, &mut out),
            Event::SpawnFailed { age } => {
                let worker = self.workers.remove(&age);
                self.backoff.fail(worker.map_or(now_ns, |worker| worker.spawned_ns), now_ns);
            }
            Event::Vitals { vitals, late_ns } => {
                self.strain.lagged(late_ns);
                self.look(&vitals, now_ns, &mut out);
                self.notice_silence(now_ns, &mut out);
            }
            Event::Measured(pressure) => {
                self.strain.measured(pressure, now_ns);
                self.time_out(now_ns, &mut out);
            }
            Event::Exited { pid, status } => self.exited(pid, status, now_ns, &mut out),
            Event::Signal(signal) => self.signal(signal, now_ns, &mut out),
            Event::Halted { generation } => self.halt_reload(generation, now_ns, &mut out),
            Event::Reloaded(result) => self.reloaded(result, &mut out),
        }
        self.settle(now_ns, &mut out);
        out
    }

    /// Returns how long the caller may wait before it sends [`Event::Vitals`] again.
    pub fn patience_ns(&self, now_ns: u64) -> u64 {
        let deadlines = self.workers.values().filter_map(Worker::next_ns);
        let spawn = self.backoff.holds(now_ns).then_some(self.backoff.not_before_ns);
        let soak = self.soaks_until_ns.filter(|until_ns| self.reloading && *until_ns > now_ns);
        let next = deadlines.chain(spawn).chain(soak).min().map_or(u64::MAX, |at| at.saturating_sub(now_ns));
        self.tick_ns().min(next)
    }

    fn start(&mut self, out: &mut Vec<Action>) {
        if matches!(self.stage, Stage::Idle) {
            self.stage = Stage::Running;
            if self.plan.workers > TARGET_MAX {
                out.push(Action::Say(Notice::TooManyWorkers { wanted: self.plan.workers }));
            }
        }
    }

    fn spawned(&mut self, age: u32, pid: i32, out: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&age) {
            worker.pid = Some(pid);
            // It was sent away before it had a pid.
            if worker.leaving.is_some() {
                out.push(Action::Send { pid, order: Order::Terminate });
            }
        }
    }

    /// How often heartbeats, and boots, are looked at.
    fn tick_ns(&self) -> u64 {
        let limits = [self.plan.timeout_ns, self.plan.boot_ns];
        let shortest = limits.into_iter().filter(|limit| *limit > 0).min();
        shortest.map_or(SECOND, |limit| SECOND.min(limit / 4).max(SECOND / 20))
    }

    /// A heartbeat that is late because the whole host stood still is nobody's fault.
    fn notice_suspension(&mut self, now_ns: u64) {
        let expected = self.seen_ns.saturating_add(self.tick_ns());
        if self.seen_ns != 0 && now_ns > expected.saturating_add(self.plan.timeout_ns / 2) {
            self.floor_ns = now_ns;
        }
        self.seen_ns = now_ns;
    }

    /// Reads the heartbeats.
    fn look(&mut self, vitals: &[Vital], now_ns: u64, out: &mut Vec<Action>) {
        let graceful_ns = self.plan.graceful_ns;
        for vital in vitals {
            let Some(worker) = self.workers.values_mut().find(|worker| worker.pid == Some(vital.pid)) else {
                continue;
            };
            worker.beat_ns = worker.beat_ns.max(vital.beat_ns);
            worker.retiring |= vital.retiring;
            if !matches!(vital.state, State::Ready | State::Draining) {
                continue;
            }
            if !worker.ready {
                worker.ready = true;
                let is_new = self.reloading && worker.generation == self.generation;
                if is_new && self.plan.soak_ns > 0 && self.soaks_until_ns.is_none() {
                    self.soaks_until_ns = Some(now_ns + self.plan.soak_ns);
                    out.push(Action::Say(Notice::ReloadSoaks { pid: vital.pid, soak_ns: self.plan.soak_ns }));
                }
                worker.beat_ns = worker.beat_ns.max(now_ns);
                if !std::mem::replace(&mut self.ever_ready, true) {
                    out.push(Action::Ready);
                }
            }
            // Somebody else has told it to go.
            if vital.state == State::Draining && worker.leaving.is_none() {
                let kill_at_ns = now_ns + graceful_ns + MARGIN_NS;
                worker.leaving = Some(Leaving::until(Why::ByItself, kill_at_ns));
            }
            if worker.stays() {
                self.backoff.survived(worker.spawned_ns, now_ns);
            }
        }
    }

    fn exited(&mut self, pid: i32, status: ExitStatus, now_ns: u64, out: &mut Vec<Action>) {
        let found = self.workers.iter().find(|(_, worker)| worker.pid == Some(pid)).map(|(age, _)| *age);
        let Some((age, worker)) = found.and_then(|age| Some((age, self.workers.remove(&age)?))) else {
            return;
        };
        out.extend(Notice::of_exit(pid, status, worker.killed).map(Action::Say));
        out.extend(By::of(&worker, status).map(|by| Action::Died { pid, status, by }));
        let expected = matches!(&worker.leaving, Some(leaving) if leaving.why != Why::ByItself);
        let running = matches!(self.stage, Stage::Running);
        if let (ExitStatus::Code(code @ (3 | 4)), false, false, true) =
            (status, expected, self.ever_ready, running)
        {
            let reason = if code == 3 { "Worker failed to boot." } else { "App failed to load." };
            self.stop(false, code, Some(reason), now_ns, out);
            return;
        }
        out.push(Action::ChildExit { pid, age });
        if !expected {
            self.failed(&worker, pid, now_ns, out);
        }
    }

    /// A worker has ended, or is about to, that nobody had sent away.
    fn failed(&mut self, worker: &Worker, pid: i32, now_ns: u64, out: &mut Vec<Action>) {
        let early = !worker.ready || now_ns.saturating_sub(worker.spawned_ns) < EARLY_NS;
        if !early || !matches!(self.stage, Stage::Running) {
            return;
        }
        let delay_ns = self.backoff.fail(worker.spawned_ns, now_ns);
        if self.reloading && worker.generation == self.generation {
            self.abandon_reload(pid, now_ns, out);
        } else {
            out.push(Action::Say(Notice::FailedEarly { pid, delay_ms: delay_ns / 1_000_000 }));
        }
    }

    /// New workers fail: the old ones stay, those of the new that are not ready go.
    fn abandon_reload(&mut self, pid: i32, now_ns: u64, out: &mut Vec<Action>) {
        self.reloading = false;
        let old = self.workers.values().filter(|worker| worker.stays() && worker.ready).count();
        out.push(Action::Say(Notice::ReloadAbandoned { pid, serving: old }));
        let generation = self.generation;
        let booting = self.ages(|worker| worker.stays() && !worker.ready && worker.generation == generation);
        for age in booting {
            self.send_away(age, now_ns, out);
        }
        out.push(Action::ReloadEnded);
    }

    /// The first new workers are worse: all old ones are there still, and stay; the new ones go.
    fn halt_reload(&mut self, generation: u32, now_ns: u64, out: &mut Vec<Action>) {
        if generation != self.generation || !self.soaks(now_ns) {
            return;
        }
        self.reloading = false;
        let new = self.ages(|worker| worker.stays() && worker.generation == generation);
        for age in new {
            self.send_away(age, now_ns, out);
        }
        let serving = self.ages(|worker| worker.stays() && worker.ready).len();
        out.push(Action::Say(Notice::ReloadHalted { serving }));
        out.push(Action::ReloadEnded);
    }

    /// Tells whether the first new workers of a reload are tried beside all old ones.
    fn soaks(&self, now_ns: u64) -> bool {
        let tried = || self.soaks_until_ns.is_none_or(|until_ns| now_ns < until_ns);
        self.reloading && self.plan.soak_ns > 0 && tried()
    }

    fn reloaded(&mut self, result: Result<Plan, String>, out: &mut Vec<Action>) {
        if !matches!(self.stage, Stage::Running) {
            return;
        }
        let plan = match result {
            Ok(plan) => plan,
            Err(error) => {
                out.push(Action::Say(Notice::ReloadRefused { error }));
                out.push(Action::ReloadEnded);
                return;
            }
        };
        if plan.workers > TARGET_MAX {
            out.push(Action::Say(Notice::TooManyWorkers { wanted: plan.workers }));
        }
        let old = std::mem::replace(&mut self.target, plan.workers.min(TARGET_MAX));
        self.plan = plan;
        self.generation += 1;
        self.reloading = true;
        self.soaks_until_ns = None;
        // New code gets a fresh chance.
        self.backoff = Backoff::default();
        out.push(Action::NworkersChanged { new: self.target, old });
        out.push(Action::OnReload);
    }

    fn signal(&mut self, signal: Signal, now_ns: u64, out: &mut Vec<Action>) {
        if let Stage::Stopping(_) = self.stage {
            match signal {
                Signal::Term | Signal::Int | Signal::Quit => self.hurry(now_ns, out),
                Signal::Usr1 => self.reopen_logs(out),
                _ => {}
            }
            return;
        }
        out.push(Action::Say(Notice::Handling(signal)));
        match signal {
            Signal::Term => self.stop(false, 0, None, now_ns, out),
            Signal::Int | Signal::Quit => self.stop(true, 0, None, now_ns, out),
            Signal::Hup => {
                out.push(Action::Say(Notice::HangUp));
                out.push(Action::Reload);
            }
            Signal::Ttin => self.scale((self.target + 1).min(TARGET_MAX), out),
            Signal::Ttou if self.target > 1 => self.scale(self.target - 1, out),
            Signal::Usr1 => self.reopen_logs(out),
            Signal::Usr2 => out.push(Action::Say(Notice::NoUpgrade)),
            Signal::Winch if self.plan.daemon => {
                out.push(Action::Say(Notice::WorkersSentAway));
                self.scale(0, out);
            }
            Signal::Winch => out.push(Action::Say(Notice::NoDaemon)),
            Signal::Ttou | Signal::Chld => {}
        }
    }

    fn scale(&mut self, new: usize, out: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.target, new);
        if old != new {
            out.push(Action::NworkersChanged { new, old });
        }
    }

    fn reopen_logs(&self, out: &mut Vec<Action>) {
        out.push(Action::ReopenLogs);
        let pids = self.workers.values().filter_map(|worker| worker.pid);
        out.extend(pids.map(|pid| Action::Send { pid, order: Order::ReopenLogs }));
    }

    fn ages(&self, which: impl Fn(&Worker) -> bool) -> Vec<u32> {
        self.workers.iter().filter(|(_, worker)| which(worker)).map(|(age, _)| *age).collect()
    }

    /// Tells a worker to finish and go.
    fn send_away(&mut self, age: u32, now_ns: u64, out: &mut Vec<Action>) {
        let kill_at_ns = now_ns + self.plan.graceful_ns + MARGIN_NS;
        if let Some(worker) = self.workers.get_mut(&age) {
            worker.leaving = Some(Leaving::until(Why::Told, kill_at_ns));
            out.extend(worker.pid.map(|pid| Action::Send { pid, order: Order::Terminate }));
        }
    }
}
