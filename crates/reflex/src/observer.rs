//! The observer's process: looks at the scoreboard, captures evidence while requests get late, hears what workers and
//! the arbiter tell, and writes records. Ends with the
//! arbiter, or when that wants another one.
//!
//! Not for: capturing itself (`evidence`), and not for any decision: nothing here touches a worker.

use crate::evidence::look;
use crate::stack::Stacks;
use crate::store::{Scribe, Store, StoreError};
use ferricorn_core::event::{Died, Event, Late, Seen};
use ferricorn_core::evidence::{Evidence, Frame, Source, told};
use ferricorn_core::log::Level;
use ferricorn_core::record::{
    Blocked, Death, Hold, Outcome, Record, Request, SCHEMA, Server, Timeout, Worker,
};
use ferricorn_core::scoreboard::{InFlightView, Scoreboard, State, WorkerSlot};
use ferricorn_core::snapshot::Running;
use ferricorn_sys::clock;
use ferricorn_sys::events::Hearer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

const MS: u64 = 1_000_000;
/// How often the scoreboard is looked at.
const TICK_NS: u64 = 100 * MS;
/// At how many per cent of a request's time it is looked at; the deadline itself is told.
const MARKS: [u32; 3] = [50, 80, 95];
/// How long it takes at most until it is known what became of a late request's thread.
const SETTLED_NS: u64 = 1_500 * MS;
/// One look serves all requests of a worker that are due within this time.
const SHARED_NS: u64 = 50 * MS;
/// Most requests that are watched at a time; beyond that, evidence is not captured.
const WATCHED_MAX: usize = 256;
/// Most neighbours that a record names.
const NEIGHBOURS_MAX: usize = 64;
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
    /// Somebody has named that folder.
    pub folder_is_wanted: bool,
    /// `proc_name`.
    pub name: &'a str,
    /// Pid of the arbiter.
    pub parent: i32,
    /// Ferricorn's version.
    pub version: &'a str,
    /// Writes a line to the error log.
    pub log: &'a dyn Fn(Level, &str),
}

/// Observes until the arbiter has ended.
pub fn run(context: &Context<'_>) {
    let level = if context.folder_is_wanted { Level::Warning } else { Level::Info };
    if context.folder.is_none() {
        (context.log)(level, "Records of timeouts are not kept: this user has no home. Set --state-dir");
    }
    let store = context.folder.and_then(|folder| {
        let store = Store::create(folder);
        let why = |error: &StoreError| {
            let folder = folder.display();
            let message = format!(
                "Records of timeouts are not kept: {folder} cannot be used: {error}. Set --state-dir"
            );
            (context.log)(level, &message);
        };
        store.inspect_err(why).ok()
    });
    let text = if store.is_some() { context.folder } else { None };
    let bytes = text.map(|path| path.as_os_str().as_encoded_bytes()).unwrap_or_default();
    context.board.state_dir.store(bytes);
    let server = Server {
        pid: context.parent.unsigned_abs(),
        name: context.name.to_owned(),
        version: context.version.to_owned(),
        started_ns: context.board.started_ns.load(Relaxed),
    };
    let mut observer = Observer {
        context,
        scribe: store.map(|store| Scribe::new(store, server.clone())),
        server,
        stacks: Stacks::default(),
        watched: BTreeMap::new(),
        held: BTreeMap::new(),
    };
    observer.live();
}

struct Observer<'a> {
    context: &'a Context<'a>,
    scribe: Option<Scribe>,
    server: Server,
    stacks: Stacks,
    /// By worker's pid and request's number.
    watched: BTreeMap<(u32, u64), Watch>,
    /// By worker's pid, where its event loop is held.
    held: BTreeMap<u32, Vec<Frame>>,
}

/// A request that gets late.
#[derive(Default)]
struct Watch {
    evidence: Vec<Evidence>,
    /// When the last of it was captured.
    looked_ns: u64,
    concurrent: Vec<Request>,
    late: Option<Late>,
    seen: Option<Seen>,
    /// Its record is written.
    written: bool,
}

impl Observer<'_> {
    /// Observes until the arbiter has ended or wants another observer.
    fn live(&mut self) {
        let arbiter =
            Pid::from_raw(self.context.parent).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut wait_ns = TICK_NS;
        loop {
            let hearer = self.context.hearer.as_fd();
            let mut fds = vec![PollFd::from_borrowed_fd(hearer, PollFlags::IN)];
            fds.extend(arbiter.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let _ = poll(&mut fds, Some(&clock::timespec(wait_ns)));
            let orphan = getppid().is_none_or(|pid| pid.as_raw_pid() != self.context.parent);
            let mut leaves = orphan;
            for event in self.context.hearer.hear() {
                leaves |= event == Event::Leave;
                self.hear(event);
            }
            self.keep(Scribe::tick);
            wait_ns = self.scan();
            if leaves {
                return self.finish();
            }
        }
    }

    /// Looks at all requests in flight; returns how long it can wait until the next look.
    fn scan(&mut self) -> u64 {
        let now_ns = clock::now_ns();
        let mut next_ns = now_ns + TICK_NS;
        let mut alive = Vec::new();
        for slot in self.context.board.used() {
            if !matches!(slot.state(), State::Ready | State::Draining) {
                continue;
            }
            let pid = slot.pid.load(Relaxed);
            let views: Vec<InFlightView> = slot.requests().collect();
            for view in &views {
                alive.push((pid, view.id));
                let Some(due_ns) = self.attend(pid, view, &views, now_ns) else { continue };
                next_ns = next_ns.min(due_ns);
            }
        }
        self.settle(&alive);
        next_ns.saturating_sub(clock::now_ns()).max(MS)
    }

    /// Captures evidence about a request if that is due; returns when the next is.
    fn attend(&mut self, pid: u32, view: &InFlightView, all: &[InFlightView], now_ns: u64) -> Option<u64> {
        let time_ns = view.deadline_ns.checked_sub(view.app_ns).filter(|_| view.deadline_ns > 0)?;
        let mark_ns = |percent: u32| view.app_ns + time_ns / 100 * u64::from(percent);
        let watch = self.watched.get(&(pid, view.id));
        let taken = watch.map_or(0, |watch| watch.evidence.last().map_or(0, |last| last.percent));
        let percent = MARKS.into_iter().rfind(|percent| *percent > taken && now_ns >= mark_ns(*percent));
        if let Some(percent) = percent
            && self.watched.len() < WATCHED_MAX
        {
            self.capture(pid, view.id, percent, all);
        }
        let taken = percent.unwrap_or(taken);
        MARKS.into_iter().find(|percent| *percent > taken).map(mark_ns)
    }

    fn capture(&mut self, pid: u32, id: u64, percent: u32, all: &[InFlightView]) {
        let now_ns = clock::now_ns();
        let of_worker = self.watched.range((pid, 0)..=(pid, u64::MAX));
        let recent = of_worker.map(|(_, watch)| watch).find(|watch| now_ns - watch.looked_ns < SHARED_NS);
        let evidence = match recent.and_then(|watch| watch.evidence.last()) {
            Some(recent) => Evidence { percent, ..recent.clone() },
            None => {
                let running: Vec<Running> = all.iter().map(|view| Running::of(pid, view, now_ns)).collect();
                look(&mut self.stacks, pid, &running, percent, true)
            }
        };
        let watch = self.watched.entry((pid, id)).or_default();
        // Only the last one has what the other threads did: a record has a limit.
        if let Some(last) = watch.evidence.last_mut() {
            last.threads.retain(|thread| thread.request.is_some());
        }
        watch.evidence.push(evidence);
        watch.looked_ns = now_ns;
        let neighbours = all.iter().filter(|view| view.id != id).take(NEIGHBOURS_MAX);
        watch.concurrent = neighbours.map(|view| Request::of(pid, view, now_ns)).collect();
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Late(late) => self.late(*late),
            Event::Seen(seen) => {
                if let Some(watch) = self.watched.get_mut(&(seen.pid, seen.id)) {
                    watch.seen = Some(seen);
                }
            }
            Event::Died(died) => self.died(died),
            Event::Holds { pid } => self.holds(pid),
            Event::Held { pid, hold } => self.held(pid, *hold),
            Event::Say { text } => (self.context.log)(Level::Error, &text),
            Event::Leave => {}
        }
    }

    fn late(&mut self, late: Late) {
        let (pid, id) = (late.pid, late.id);
        let now_ns = clock::now_ns();
        let stale = self.watched.get(&(pid, id)).is_none_or(|watch| now_ns - watch.looked_ns > 2 * SHARED_NS);
        if stale && let Some(slot) = self.slot(pid) {
            let views: Vec<InFlightView> = slot.requests().collect();
            // If it has come free by now, there is nothing to see.
            if views.iter().any(|view| view.id == id) {
                self.capture(pid, id, 100, &views);
            }
        }
        if late.by != "worker" {
            self.say(&late);
        }
        self.watched.entry((pid, id)).or_default().late = Some(late);
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
        let threads = self.watched.get(&(late.pid, late.id)).and_then(|watch| watch.evidence.last());
        let frames = threads
            .and_then(|last| last.threads.iter().find(|thread| thread.request.as_ref() == Some(id)))
            .map(|thread| told(&thread.frames, "", |_| None));
        for line in frames.iter().flatten().take(LINES_MAX) {
            log(&format!("request {id}: {line}"));
        }
    }

    fn died(&mut self, died: Died) {
        let pid = died.worker.pid;
        let mine = self.watched.range((pid, 0)..=(pid, u64::MAX));
        let evidence: Vec<Evidence> = mine.filter_map(|(_, watch)| watch.evidence.last().cloned()).collect();
        self.settle_all(|key, watch| (key.0 == pid && watch.late.is_some()).then_some(Outcome::Ended));
        self.watched.retain(|key, _| key.0 != pid);
        self.held.remove(&pid);
        self.stacks.forget(pid);
        self.write(Record::Death(Box::new(Death {
            schema: SCHEMA,
            at_s: clock::wall_time_s(),
            server: self.server.clone(),
            worker: died.worker,
            cause: died.cause,
            requests: died.requests,
            evidence: evidence.into_iter().rev().take(1).collect(),
            incident: None,
        })));
    }

    /// Sees what holds an event loop, in case that the worker cannot.
    fn holds(&mut self, pid: u32) {
        let evidence = look(&mut self.stacks, pid, &[], 0, true);
        let main = evidence.threads.into_iter().find(|thread| thread.tid == pid);
        self.held.insert(pid, main.map(|thread| thread.frames).unwrap_or_default());
    }

    fn held(&mut self, pid: u32, mut hold: Hold) {
        let frames = self.held.remove(&pid).unwrap_or_default();
        if hold.frames.is_empty() {
            hold.frames = frames;
        }
        let worker = self.slot(pid).map(|slot| Worker::of(slot, clock::now_ns()));
        self.write(Record::Blocked(Box::new(Blocked {
            schema: SCHEMA,
            at_s: clock::wall_time_s(),
            server: self.server.clone(),
            worker: worker.unwrap_or(Worker { pid, ..Worker::default() }),
            hold,
            incident: None,
        })));
    }

    fn slot(&self, pid: u32) -> Option<&'static WorkerSlot> {
        self.context.board.used().iter().find(|slot| slot.pid.load(Relaxed) == pid)
    }

    /// Writes the records of late requests whose thread has come free, or has had time enough to.
    fn settle(&mut self, alive: &[(u32, u64)]) {
        let now_ns = clock::now_ns();
        let board = self.context.board;
        let has_ended = |pid: u32| {
            let is_it = |slot: &&WorkerSlot| slot.pid.load(Relaxed) == pid && slot.state() != State::Free;
            !board.used().iter().any(|slot| is_it(&slot))
        };
        self.settle_all(|key, watch| {
            let after_ns = now_ns.saturating_sub(watch.late.as_ref()?.at_ns);
            let after_s = (after_ns / 1000) as f64 / 1e6;
            match alive.contains(key) {
                false if has_ended(key.0) => Some(Outcome::Ended),
                false => Some(Outcome::Freed { after_s }),
                true if after_ns >= SETTLED_NS => Some(Outcome::Stuck { after_s }),
                true => None,
            }
        });
        self.watched.retain(|key, _| alive.contains(key));
    }

    fn settle_all(&mut self, outcome: impl Fn(&(u32, u64), &Watch) -> Option<Outcome>) {
        let mut records = Vec::new();
        for (key, watch) in &mut self.watched {
            if watch.written {
                continue;
            }
            let Some(outcome) = outcome(key, watch) else { continue };
            watch.written = true;
            records.extend(watch.late.take().map(|late| (key.0, late, outcome, std::mem::take(watch))));
            watch.written = true;
        }
        for (pid, late, outcome, watch) in records {
            let record = self.record(pid, late, outcome, watch);
            self.write(Record::Timeout(Box::new(record)));
        }
    }

    fn record(&self, pid: u32, late: Late, outcome: Outcome, watch: Watch) -> Timeout {
        let id = &late.request.id;
        let last = watch.evidence.iter().rev();
        let outside = last
            .flat_map(|evidence| &evidence.threads)
            .find(|thread| thread.request.as_ref() == Some(id) && !thread.frames.is_empty())
            .map(|thread| (Source::Outside, thread.frames.clone()));
        let route = watch.seen.as_ref().and_then(|seen| seen.route.clone());
        let seen = watch.seen.filter(|seen| !seen.frames.is_empty()).map(|seen| (seen.source, seen.frames));
        // From outside, a request whose tasks wait looks like the loop that waits for them all.
        let in_tasks = seen.as_ref().is_some_and(|(source, _)| *source == Source::Task);
        let found = if in_tasks { seen } else { outside.or(seen) };
        let (source, frames) = found.unwrap_or((Source::Kernel, Vec::new()));
        let worker = self.slot(pid).map(|slot| Worker::of(slot, clock::now_ns()));
        let age_s = clock::now_ns().saturating_sub(late.at_ns) as f64 / 1e9;
        Timeout {
            schema: SCHEMA,
            at_s: clock::wall_time_s() - age_s,
            server: self.server.clone(),
            worker: worker.unwrap_or(Worker { pid, ..Worker::default() }),
            request: Request { route, ..late.request },
            answer: late.answer,
            answered_by: late.by,
            thread: outcome,
            doing: late.doing,
            source,
            frames,
            evidence: watch.evidence,
            concurrent: watch.concurrent,
            diagnosis: None,
            incident: None,
        }
    }

    fn write(&mut self, record: Record) {
        if let Some(scribe) = &mut self.scribe {
            scribe.record(record);
        }
    }

    /// Has the scribe write, and says what it has to say.
    fn keep(&mut self, write: impl FnOnce(&mut Scribe, f64) -> Option<(Level, String)>) {
        let said = self.scribe.as_mut().and_then(|scribe| write(scribe, clock::wall_time_s()));
        if let Some((level, text)) = said {
            (self.context.log)(level, &text);
        }
    }

    /// What is known is written down.
    fn finish(&mut self) {
        self.settle_all(|_, watch| watch.late.is_some().then_some(Outcome::Ended));
        self.keep(Scribe::end);
    }
}
