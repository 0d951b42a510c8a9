//! The observer's process of our own server: reads the scoreboard, hears what workers and the arbiter tell, and drives the engine
//! with both. Ends with the arbiter, or when that wants another one.
//!
//! Not for: what is made of it ([`crate::engine`]), and not for any decision: nothing here touches a worker.

use crate::changes::{Scene, Slots};
use crate::engine::{Acting, Asking, Engine, Hosts, Key, Outlet, policy_of};
use crate::export::Shared;
use crate::rhythm::Rhythm;
use ferricorn_core::event::Event;
use ferricorn_core::life::Lives;
use ferricorn_core::log::Level;
use ferricorn_core::record::Server;
use ferricorn_core::scoreboard::{InFlight, Phase, Scoreboard, State, WorkerSlot};
use ferricorn_core::snapshot::{self, Kind, Running};
use ferricorn_settings::Settings;
use ferricorn_sys::clock;
use ferricorn_sys::events::Hearer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const MS: u64 = 1_000_000;
/// How often the scoreboard is looked at.
const SCAN_NS: u64 = 100 * MS;
/// Requests that have had less of their time are left alone, per cent; and of those without a deadline, those that are younger.
const NEAR_PERCENT: u64 = 45;
const NEAR_NS: u64 = 4500 * MS;

/// The same while all requests of some route are lost.
const EAGER: (u64, u64) = (1, 250 * MS);

/// What the observer needs.
pub struct Context<'a> {
    /// The scoreboard.
    pub board: &'static Scoreboard,
    /// What is told.
    pub hearer: Hearer,
    /// Where records go; none are kept without it.
    pub folder: Option<&'a Path>,
    /// The server's settings.
    pub settings: &'a Settings,
    /// The same in lines `name = value`.
    pub said: &'a str,
    /// The configuration file.
    pub config: Option<&'a Path>,
    /// Where Python looks for modules.
    pub python_path: &'a [PathBuf],
    /// Pid of the arbiter.
    pub parent: i32,
    /// Ferricorn's version.
    pub version: &'a str,
    /// Whether what the server is made of is followed: not by that of jobs, which is made of the same.
    pub follows_changes: bool,
    /// Writes a line to the error log.
    pub log: &'a dyn Fn(Level, &str),
}

/// Observes until the arbiter has ended.
pub fn run(context: &Context<'_>) {
    let server = Server {
        pid: context.parent.unsigned_abs(),
        name: context.settings.proc_name.clone(),
        version: context.version.to_owned(),
        started_ns: context.board.started_ns.load(Relaxed),
        kind: Kind::Ferricorn,
    };
    let mut outlet = match Outlet::open(server.clone(), context.folder, context.settings, context.log) {
        Ok(outlet) => outlet,
        Err(error) => {
            let text = format!("The observer cannot begin: {error}");
            return (context.log)(Level::Error, &text);
        }
    };
    let bytes = outlet.folder().map(|path| path.as_os_str().as_encoded_bytes()).unwrap_or_default();
    context.board.state_dir.store(bytes);
    let shared = outlet.shared();
    let asking = Asking::open(&context.settings.reflex_database, context.log);
    let policy = policy_of(context.settings, context.log);
    let workers = u32::try_from(context.settings.workers).unwrap_or(u32::MAX);
    let acting = Acting::new(policy, server.pid, outlet.folder()).on_board(context.board, workers);
    let hosts = Hosts::open(context.settings, &server, &mut outlet, context.log);
    let now_s = clock::wall_time_s();
    let engine = Engine::new(server, asking, acting, outlet, now_s)
        .among(hosts)
        .boots_within(context.settings.boot_timeout)
        .scales_between(context.settings.workers_between, now_s);
    let engine = if context.follows_changes { engine.following(scene(context), now_s) } else { engine };
    let rhythm = Rhythm::new(clock::now_ns());
    let observer =
        Observer { context, shared, engine, rhythm, lives: Lives::default(), slots: Slots::default() };
    observer.live();
}

fn scene(context: &Context<'_>) -> Scene {
    let said = context.settings.pythonpath.iter().map(PathBuf::from);
    Scene {
        arbiter: context.parent.unsigned_abs(),
        folder: Some(context.settings.chdir.clone()),
        python_path: said.chain(context.python_path.iter().cloned()).collect(),
        config: context.config.map(Path::to_owned),
        settings: context.said.to_owned(),
        preload: context.settings.preload_app,
    }
}

struct Observer<'a> {
    context: &'a Context<'a>,
    shared: Arc<Shared>,
    engine: Engine<'a>,
    rhythm: Rhythm,
    lives: Lives,
    slots: Slots,
}

impl Observer<'_> {
    /// Observes until the arbiter has ended or wants another observer.
    fn live(mut self) {
        let arbiter =
            Pid::from_raw(self.context.parent).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut wait_ns = SCAN_NS;
        loop {
            let asleep_ns = clock::now_ns();
            let hearer = self.context.hearer.as_fd();
            let mut fds = vec![
                PollFd::from_borrowed_fd(hearer, PollFlags::IN),
                PollFd::new(&*self.shared, PollFlags::IN),
            ];
            fds.extend(arbiter.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let _ = poll(&mut fds, Some(&clock::timespec(wait_ns)));
            if let Some(stopped_s) = self.rhythm.stopped_s(asleep_ns + wait_ns, clock::now_ns()) {
                self.engine.paused(stopped_s, clock::wall_time_s());
            }
            let mut ended = getppid().is_none_or(|pid| pid.as_raw_pid() != self.context.parent);
            let mut leaves = false;
            for event in self.context.hearer.hear() {
                leaves |= event == Event::Leave;
                ended |= event == Event::Ended;
                self.hear(event);
            }
            // Writing may take its time: when the next look is due is found out after it.
            self.now_and_then();
            self.engine.tick(clock::wall_time_s());
            wait_ns = self.scan();
            if (ended || leaves)
                && let Ok(snapshot) =
                    snapshot::read(self.context.board, clock::now_ns(), clock::wall_time_s())
            {
                self.engine.counted(self.slots.gained(self.context.board));
                self.engine.last_gains(&snapshot);
            }
            if ended {
                return self.engine.end("the server has ended", clock::wall_time_s());
            }
            if leaves {
                return self.engine.finish(clock::wall_time_s());
            }
        }
    }

    /// Looks at the requests in flight; returns how long it can wait until the next look.
    fn scan(&mut self) -> u64 {
        let (now_ns, now_s) = (clock::now_ns(), clock::wall_time_s());
        let board = self.context.board;
        let near = if self.engine.is_eager() { EAGER } else { (NEAR_PERCENT, NEAR_NS) };
        let mut old = Vec::new();
        let mut alive: Vec<Key> = Vec::new();
        let working = |slot: &&WorkerSlot| matches!(slot.state(), State::Ready | State::Draining);
        for slot in board.used().iter().filter(working) {
            let pid = slot.pid.load(Relaxed);
            for record in slot.used_records() {
                let Some(number) = record.number() else { continue };
                alive.push((pid, number));
                // Of thousands nearly all are young: they are not read.
                if record.has_lasted(now_ns, near.0, near.1)
                    && let Some(view) = record.read()
                    && view.phase != Phase::WebSocket as u32
                {
                    old.push(Running::of(pid, &view, now_ns));
                }
            }
        }
        let next_s = self.engine.requests(&old, &|pid| running(board, pid), now_s);
        let ended = |pid: u32| slot(board, pid).is_none_or(|slot| slot.state() == State::Free);
        self.engine.settle(&alive, now_s, ended);
        let next_ns = (next_s.clamp(0.0, 1.0) * 1e9) as u64;
        let spent_ns = clock::now_ns().saturating_sub(now_ns);
        next_ns.min(SCAN_NS).saturating_sub(spent_ns).max(MS)
    }

    fn hear(&mut self, event: Event) {
        let board = self.context.board;
        let now_s = clock::wall_time_s();
        match event {
            Event::Late(late) => {
                let at_s = now_s - clock::now_ns().saturating_sub(late.at_ns) as f64 / 1e9;
                self.engine.late(&late, at_s, &|pid| running(board, pid), now_s);
                // The log of a worker that is stopped is still.
                if late.by != "worker" {
                    for line in self.engine.told_of(&late) {
                        (self.context.log)(Level::Critical, &line);
                    }
                }
            }
            Event::Seen(seen) => self.engine.seen(seen, now_s),
            Event::Died(died) => {
                self.lives.explain(died.worker.pid, died.exit, died.cause.clone());
                self.engine.died(died, now_s);
            }
            Event::Holds { pid } => self.engine.holds(pid),
            Event::Held { pid, hold } => self.engine.held(pid, *hold, now_s),
            Event::Say { text } => (self.context.log)(Level::Error, &text),
            Event::Leave | Event::Ended => {}
        }
    }

    /// Does what is due once a second, or less often.
    fn now_and_then(&mut self) {
        let (now_ns, now_s) = (clock::now_ns(), clock::wall_time_s());
        let board = self.context.board;
        let due = self.rhythm.due(now_ns);
        if due.second
            && let Ok(snapshot) = snapshot::read_workers(board, now_ns, now_s)
        {
            self.engine.changes(&self.lives.observe(&snapshot), now_s);
            self.engine.second(&snapshot, now_s);
        }
        let wanted = self.shared.wanted();
        if (wanted || due.publish || due.gains)
            && let Ok(snapshot) = snapshot::read(board, now_ns, now_s)
        {
            if due.gains {
                self.engine.counted(self.slots.gained(board));
                self.engine.ten_seconds(&snapshot, now_s);
            }
            self.engine.publish(snapshot);
        }
        if due.keep {
            self.engine.keep(now_s);
        }
    }
}

fn slot(board: &'static Scoreboard, pid: u32) -> Option<&'static WorkerSlot> {
    board.used().iter().find(|slot| slot.pid.load(Relaxed) == pid)
}

/// Returns all that a worker is at.
fn running(board: &'static Scoreboard, pid: u32) -> Vec<Running> {
    let now_ns = clock::now_ns();
    let records = slot(board, pid).map(WorkerSlot::used_records).unwrap_or_default();
    let views = records.iter().filter(|record| record.is_busy()).filter_map(InFlight::read);
    views.map(|view| Running::of(pid, &view, now_ns)).collect()
}
