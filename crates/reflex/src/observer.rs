//! The observer's process of our own server: reads the scoreboard, hears what workers and the arbiter tell, and drives the engine
//! with both. Ends with the arbiter, or when that wants another one.
//!
//! Not for: what is made of it ([`crate::engine`]), and not for any decision: nothing here touches a worker.

use crate::engine::{Engine, Key, Outlet};
use crate::export::{self, Shared};
use crate::kernel;
use crate::store::{Store, StoreError};
use ferricorn_core::event::{Event, Late};
use ferricorn_core::evidence::told;
use ferricorn_core::log::Level;
use ferricorn_core::record::{Request, Server};
use ferricorn_core::scoreboard::{InFlight, Phase, Scoreboard, State, WorkerSlot};
use ferricorn_core::snapshot::{self, Running};
use ferricorn_settings::Settings;
use ferricorn_sys::clock;
use ferricorn_sys::events::Hearer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use std::env;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// How often the scoreboard is looked at.
const SCAN_NS: u64 = 100 * MS;
/// Requests that have had less of their time are left alone, per cent; and of those without a deadline, those that are younger.
const NEAR_PERCENT: u64 = 45;
const NEAR_NS: u64 = 4500 * MS;
/// How often a whole snapshot is published, though nobody asks.
const PUBLISH_NS: u64 = 5 * SECOND;
/// The detectors' beat.
const GAINS_NS: u64 = 10 * SECOND;
/// How often what has to survive is written down.
const KEEP_NS: u64 = 60 * SECOND;
/// Who wakes so much later than wanted, and was not kept by others on a processor, has been stopped.
const PAUSE_NS: u64 = 2 * SECOND;
/// Most lines about where a request was.
const LINES_MAX: usize = 8;

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
    /// Pid of the arbiter.
    pub parent: i32,
    /// Ferricorn's version.
    pub version: &'a str,
    /// Writes a line to the error log.
    pub log: &'a dyn Fn(Level, &str),
}

/// Observes until the arbiter has ended.
pub fn run(context: &Context<'_>) {
    let shared = match Shared::new() {
        Ok(shared) => shared,
        Err(error) => {
            let text = format!("The observer cannot begin: {error}");
            return (context.log)(Level::Error, &text);
        }
    };
    let store = open(context);
    let folder = context.folder.filter(|_| store.is_some());
    let bytes = folder.map(|path| path.as_os_str().as_encoded_bytes()).unwrap_or_default();
    context.board.state_dir.store(bytes);
    let server = Server {
        pid: context.parent.unsigned_abs(),
        name: context.settings.proc_name.clone(),
        version: context.version.to_owned(),
        started_ns: context.board.started_ns.load(Relaxed),
    };
    let config = export::Config::of(context.settings, folder, server.pid, &|name| env::var(name).ok());
    let exports = export::start(config, &shared);
    let outlet = Outlet::new(server.clone(), store, Some(exports), shared.clone(), context.log);
    let engine = Engine::new(server, outlet, clock::wall_time_s());
    let observer = Observer { context, shared, engine, due: Due::default(), waited_ns: 0 };
    observer.live();
}

fn open(context: &Context<'_>) -> Option<Store> {
    let level = if context.settings.state_dir.is_some() { Level::Warning } else { Level::Info };
    let Some(folder) = context.folder else {
        (context.log)(level, "Records of timeouts are not kept: this user has no home. Set --state-dir");
        return None;
    };
    let why = |error: &StoreError| {
        let folder = folder.display();
        let text =
            format!("Records of timeouts are not kept: {folder} cannot be used: {error}. Set --state-dir");
        (context.log)(level, &text);
    };
    Store::create(folder).inspect_err(why).ok()
}

struct Observer<'a> {
    context: &'a Context<'a>,
    shared: Arc<Shared>,
    engine: Engine<'a>,
    due: Due,
    /// How long we have waited for a processor in all, when last asked.
    waited_ns: u64,
}

/// When what is done now and then is done next, by the monotonic clock.
#[derive(Debug, Default)]
struct Due {
    second_ns: u64,
    publish_ns: u64,
    gains_ns: u64,
    keep_ns: u64,
}

impl Observer<'_> {
    /// Observes until the arbiter has ended or wants another observer.
    fn live(mut self) {
        let arbiter =
            Pid::from_raw(self.context.parent).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut wait_ns = SCAN_NS;
        let now_ns = clock::now_ns();
        self.due = Due { second_ns: 0, publish_ns: 0, gains_ns: 0, keep_ns: now_ns + KEEP_NS };
        loop {
            let asleep_ns = clock::now_ns();
            let hearer = self.context.hearer.as_fd();
            let mut fds = vec![
                PollFd::from_borrowed_fd(hearer, PollFlags::IN),
                PollFd::new(&*self.shared, PollFlags::IN),
            ];
            fds.extend(arbiter.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let _ = poll(&mut fds, Some(&clock::timespec(wait_ns)));
            self.woken(asleep_ns + wait_ns);
            let orphan = getppid().is_none_or(|pid| pid.as_raw_pid() != self.context.parent);
            let mut leaves = orphan;
            for event in self.context.hearer.hear() {
                leaves |= event == Event::Leave;
                self.hear(event);
            }
            wait_ns = self.scan();
            if leaves {
                return self.engine.finish(clock::wall_time_s());
            }
            self.now_and_then();
            self.engine.tick(clock::wall_time_s());
        }
    }

    /// Notices that we were stopped: whoever stopped us may have stopped everybody.
    fn woken(&mut self, wanted_ns: u64) {
        let late_ns = clock::now_ns().saturating_sub(wanted_ns);
        if late_ns < PAUSE_NS {
            return;
        }
        let waited_ns = kernel::waited_ns().unwrap_or_default();
        let stopped_ns = late_ns.saturating_sub(waited_ns.saturating_sub(self.waited_ns));
        if stopped_ns >= PAUSE_NS {
            self.engine.paused(stopped_ns as f64 / 1e9, clock::wall_time_s());
        }
    }

    /// Looks at the requests in flight; returns how long it can wait until the next look.
    fn scan(&mut self) -> u64 {
        let (now_ns, now_s) = (clock::now_ns(), clock::wall_time_s());
        let board = self.context.board;
        let mut near = Vec::new();
        let mut alive: Vec<Key> = Vec::new();
        let working = |slot: &&WorkerSlot| matches!(slot.state(), State::Ready | State::Draining);
        for slot in board.used().iter().filter(working) {
            let pid = slot.pid.load(Relaxed);
            for record in slot.used_records() {
                let Some(number) = record.number() else { continue };
                alive.push((pid, number));
                // Of thousands nearly all are young: they are not read.
                if record.has_lasted(now_ns, NEAR_PERCENT, NEAR_NS)
                    && let Some(view) = record.read()
                    && view.phase != Phase::WebSocket as u32
                {
                    near.push(Running::of(pid, &view, now_ns));
                }
            }
        }
        let next_s = self.engine.requests(&near, &|pid| running(board, pid), now_s);
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
                if late.by != "worker" {
                    self.say(&late);
                }
            }
            Event::Seen(seen) => self.engine.seen(seen, now_s),
            Event::Died(died) => self.engine.died(died, now_s),
            Event::Holds { pid } => self.engine.holds(pid),
            Event::Held { pid, hold } => self.engine.held(pid, *hold, now_s),
            Event::Say { text } => (self.context.log)(Level::Error, &text),
            Event::Leave => {}
        }
    }

    /// Writes to the log what a worker that is stopped cannot write.
    fn say(&self, late: &Late) {
        let Request { id, method, path, client, app_s, .. } = &late.request;
        let client = if client.is_empty() { String::new() } else { format!(" from {client}") };
        let log = |text: &str| (self.context.log)(Level::Critical, &format!("  {text}"));
        let answer = &late.answer;
        log(&format!(
            "{method} {path} (request {id}){client}, {app_s:.1} s in the application: {answer} by the {} of its worker (pid:{})",
            late.by, late.pid
        ));
        log(&format!("request {id}: its thread is {}", late.doing));
        let frames = self.engine.last_frames((late.pid, late.id), id).unwrap_or_default();
        for line in told(frames, "", |_| None).into_iter().take(LINES_MAX) {
            log(&format!("request {id}: {line}"));
        }
    }

    /// Does what is due once a second, or less often.
    fn now_and_then(&mut self) {
        let (now_ns, now_s) = (clock::now_ns(), clock::wall_time_s());
        let board = self.context.board;
        if passed(&mut self.due.second_ns, SECOND, now_ns)
            && let Ok(snapshot) = snapshot::read_workers(board, now_ns, now_s)
        {
            self.waited_ns = kernel::waited_ns().unwrap_or_default();
            self.engine.second(&snapshot, now_s);
        }
        let wanted = self.shared.wanted();
        let publish = passed(&mut self.due.publish_ns, PUBLISH_NS, now_ns);
        let gains = passed(&mut self.due.gains_ns, GAINS_NS, now_ns);
        if (wanted || publish || gains)
            && let Ok(snapshot) = snapshot::read(board, now_ns, now_s)
        {
            if gains {
                self.engine.ten_seconds(&snapshot, now_s);
            }
            self.engine.publish(snapshot);
        }
        if passed(&mut self.due.keep_ns, KEEP_NS, now_ns) {
            self.engine.keep(now_s);
        }
    }
}

/// Tells whether something is due, and sets when it is next. What was missed is not made up for.
fn passed(due_ns: &mut u64, every_ns: u64, now_ns: u64) -> bool {
    let is_due = now_ns >= *due_ns;
    if is_due {
        *due_ns = now_ns + every_ns;
    }
    is_due
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
