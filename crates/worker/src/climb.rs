//! The shell round `core::deadline`: which calls there are, and what is done about those that are late. A part of
//! keeping the loop ([`crate::run`]); never attached.

use crate::app::{At, Interpreter, Sight};
use crate::options::{Level, Unit};
use crate::reactor::Reactor;
use crate::run::Hub;
use ferricorn_core::claim::Claim;
use ferricorn_core::deadline::{Action, Call, Held, Ladder, Plan, Reason};
use ferricorn_core::event::{Event, Late, Seen};
use ferricorn_core::evidence::{Frame, told as lines_of};
use ferricorn_core::record::Request;
use ferricorn_core::route::named;
use ferricorn_core::scoreboard::{InFlight, InFlightView, REQUESTS_MAX};
use ferricorn_sys::clock;
use ferricorn_sys::task::{Task, doing};
use ferricorn_sys::unblock::{identity, shut_waited};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A call that has lasted so long keeps the loop from going back to an app thread: its deadline has to be seen.
const SLOW_NS: u64 = 20_000_000;
/// A task that stays is cancelled once in so many attempts: every ten seconds, after the grace.
const CANCEL_EVERY: u32 = 10;
/// What the client of a late request is told.
pub(crate) const LATE_DETAIL: &str = "The application did not answer in time.";
/// What the client of a late request got.
pub(crate) const ANSWERED: &str = "answered 504";
/// Most characters of a line of code.
const CODE_MAX: usize = 120;
/// Most lines about where a late request is.
const LINES: usize = 8;
const SECOND: f64 = 1e9;

/// The calls of a worker and what is being done about them.
pub(crate) struct Climb {
    ladder: Ladder,
    calls: Vec<Call>,
    /// There are deadlines at all.
    watched: bool,
    /// When a call that is left out so far is to be looked at.
    later_ns: u64,
}

impl Climb {
    pub(crate) fn new(hub: &Hub, plan: Plan) -> Self {
        let watched = hub.options.has_deadlines();
        Self { ladder: Ladder::new(plan), calls: Vec::new(), watched, later_ns: u64::MAX }
    }

    /// Tells whether a call has lasted so long that its deadline has to be watched.
    pub(crate) fn has_slow(&self, now_ns: u64) -> bool {
        // Also one that has no deadline now, because it waits for its client: it may have one again.
        self.watched && self.calls.iter().any(|call| now_ns.saturating_sub(call.start_ns) >= SLOW_NS)
    }

    /// Returns when to look again.
    pub(crate) fn next_ns(&self) -> u64 {
        self.ladder.next_ns().min(self.later_ns)
    }

    /// Returns how long the loop may sleep.
    pub(crate) fn sleep_ns(&self, now_ns: u64) -> u64 {
        self.next_ns().saturating_sub(now_ns)
    }

    /// Returns when a request is to be looked at for the first time: halfway to its deadline; `u64::MAX` for never.
    pub(crate) fn look_ns(record: &InFlight) -> u64 {
        match (record.app_ns(), record.deadline_ns()) {
            (_, 0) => u64::MAX,
            (app_ns, deadline_ns) => app_ns + deadline_ns.saturating_sub(app_ns) / 2,
        }
    }

    /// Looks at all calls and does what is due; true if a thread more is wanted. `blocked`: something holds the
    /// application's loop at the moment, perhaps not for long.
    pub(crate) fn step<A: Interpreter>(
        &mut self,
        hub: &Arc<Hub>,
        app: &Arc<A>,
        reactor: &mut Reactor,
        held: Held,
        blocked: bool,
    ) -> bool {
        let now_ns = reactor.now_ns();
        self.calls.clear();
        self.later_ns = u64::MAX;
        let records = hub.slot.in_flight[..hub.numbers().min(REQUESTS_MAX)].iter().enumerate();
        for (thread, record) in records.filter(|(_, record)| record.is_busy()) {
            // There may be thousands of tasks, nearly all of them young.
            let look_ns = if hub.options.unit.is_nested() { Self::look_ns(record) } else { 0 };
            if look_ns > now_ns {
                self.later_ns = self.later_ns.min(look_ns);
            } else if let Some(view) = record.read() {
                let InFlightView { id, app_ns, deadline_ns, shielded, .. } = view;
                self.calls.push(Call { thread, id, start_ns: app_ns, deadline_ns, shielded });
            }
        }
        let held = if held == Held::Nothing && !hub.options.unit.is_nested() && app.is_held() {
            Held::Interpreter
        } else {
            held
        };
        let actions = self.ladder.step(&self.calls, held, now_ns);
        let mut more = false;
        for action in actions {
            more |= carry_out(action, blocked, hub, app, reactor);
        }
        more
    }
}

/// Does what is due; true if a thread more is wanted.
fn carry_out<A: Interpreter>(
    action: Action,
    blocked: bool,
    hub: &Arc<Hub>,
    app: &Arc<A>,
    reactor: &mut Reactor,
) -> bool {
    // The record of a call that is over by now is another's, or nobody's.
    let view = |thread: usize, id: u64| hub.slot.in_flight[thread].read().filter(|view| view.id == id);
    match action {
        Action::Warn { thread, id } => {
            if let Some(view) = view(thread, id) {
                hub.log.log(Level::Warning, &format!("Slow request: {}", told(hub, &view, reactor.now_ns())));
                look(Level::Warning, 1, thread, &view, &doing_of(&view, blocked, hub), hub, &**app);
            }
        }
        Action::Answer { thread, id } => {
            if let Some(view) = view(thread, id)
                && let Some(doing) = answer(&view, blocked, hub, reactor)
            {
                look(Level::Critical, LINES, thread, &view, &doing, hub, &**app);
            }
        }
        Action::Interrupt { thread, id, attempt } => {
            if let Some(view) = view(thread, id) {
                // The application's own exception first; after that, both.
                let shut = hub.options.unblock_socket && unblock(&view, hub, reactor);
                // A task that is cleaning up is not cancelled again and again.
                let again = blocked || !hub.options.unit.is_nested() || attempt % CANCEL_EVERY == 1;
                if again && (!shut || attempt > 1) {
                    app.interrupt(At { thread, tid: view.tid, request: id });
                }
            }
        }
        Action::Compensate { thread, id } => {
            let request = hub.request_id(id);
            let message =
                format!("Thread {thread} does not come free from request {request}: a spare stands in");
            hub.log.log(Level::Error, &message);
            hub.slot.threads.fetch_add(1, Relaxed);
            return true;
        }
        Action::Dismiss => hub.dismiss(),
        Action::Name { id, .. } => {
            let request = hub.request_id(id);
            let unit = hub.options.unit.noun();
            let message = format!(
                "The {unit} of request {request} does not end: it has swallowed its cancellation, or waits for a thread"
            );
            hub.log.log(Level::Error, &message);
        }
        Action::Condemn(reason) => condemn(reason, hub),
    }
    false
}

/// Answers a late request and says so; returns what its thread is doing, or nothing if somebody else has answered.
fn answer(view: &InFlightView, blocked: bool, hub: &Hub, reactor: &mut Reactor) -> Option<String> {
    if reactor.is_withdrawn(view.place) {
        // A task may have heard before that its client has gone.
        let _ = reactor.answer_late(view, LATE_DETAIL);
        let ended = "its job was withdrawn: it is ended";
        hub.log.log(Level::Info, &format!("{}: {ended}", told(hub, view, reactor.now_ns())));
        return None;
    }
    // Before: the end of its client's connection may move it.
    let doing = doing_of(view, blocked, hub);
    let done = match reactor.answer_late(view, LATE_DETAIL) {
        Claim::Answer => ANSWERED,
        Claim::Cut => "response cut",
        Claim::Over => return None,
    };
    hub.teller.tell(&late(process::id(), view, done, "worker", &doing, reactor.now_ns()));
    // Gunicorn's line, for those who wait for it.
    hub.log.log(Level::Critical, &format!("WORKER TIMEOUT (pid:{})", process::id()));
    let more = if hub.keeps_records() {
        format!("; more: ferricornctl why {}", hub.request_id(view.id))
    } else {
        String::new()
    };
    let message = format!("  {}: {done}{more}", told(hub, view, reactor.now_ns()));
    hub.log.log(Level::Critical, &message);
    Some(doing)
}

/// What the observer is told of a late request of the worker with this pid.
pub(crate) fn late(pid: u32, view: &InFlightView, answer: &str, by: &str, doing: &str, now_ns: u64) -> Event {
    Event::Late(Box::new(Late {
        pid,
        id: view.id,
        request: Request::of(pid, view, now_ns),
        at_ns: now_ns,
        answer: answer.to_owned(),
        by: by.to_owned(),
        doing: doing.to_owned(),
    }))
}

fn doing_of(view: &InFlightView, blocked: bool, hub: &Hub) -> String {
    let thread = doing(Task { pid: None, tid: view.tid });
    match (hub.options.unit, blocked) {
        (Unit::Thread, _) => thread.to_string(),
        (Unit::Task, false) => "waiting in its event loop".to_owned(),
        (Unit::Task, true) => format!("in an event loop whose thread is {thread}"),
        (Unit::Greenlet, false) => "waiting in its hub".to_owned(),
        (Unit::Greenlet, true) => format!("in a hub whose thread is {thread}"),
    }
}

/// Shuts the socket that a late request's thread waits for; false if there is none.
fn unblock(view: &InFlightView, hub: &Hub, reactor: &Reactor) -> bool {
    let is_client = |file| {
        let claims = hub.slot.clients.iter().take_while(|client| client.is_used());
        let open = claims.filter_map(|client| client.read()).map(|(_, _, marks)| marks.fd);
        open.chain(reactor.late_clients()).any(|fd| identity(fd) == Some(file))
    };
    let request = hub.request_id(view.id);
    match shut_waited(view.tid, is_client) {
        Ok(Some(peer)) => {
            let message = format!("  request {request}: its socket to {peer} was shut");
            hub.log.log(Level::Critical, &message);
            true
        }
        Ok(None) => false,
        Err(error) => {
            hub.log
                .log(Level::Warning, &format!("  request {request}: its socket could not be shut: {error}"));
            false
        }
    }
}

/// Says where a request is: for what its thread waits, as the kernel sees it, and soon where in the application.
fn look<A: Interpreter>(
    level: Level,
    lines: usize,
    thread: usize,
    view: &InFlightView,
    doing: &str,
    hub: &Hub,
    app: &A,
) {
    let request = hub.request_id(view.id);
    let subject = match hub.options.unit {
        Unit::Thread => format!("thread {thread}"),
        unit => format!("its {}", unit.noun()),
    };
    hub.log.log(level, &format!("  request {request}: {subject} is {doing}"));
    let (log, teller, id, over) = (hub.log.clone(), hub.teller.clone(), view.id, level == Level::Critical);
    let deadline_ns = view.deadline_ns;
    let tell = move |sight: Sight| {
        let sight = Sight { route: sight.route.as_deref().map(named), ..sight };
        let folder = std::env::current_dir().unwrap_or_default();
        let mut found = lines_of(&sight.frames, &folder.to_string_lossy(), line_of_code);
        found.extend(sight.route.as_ref().map(|route| format!("route {route}")));
        let Sight { source, frames, executor, route } = sight;
        // What was asked before the deadline and is answered after it would replace what is seen there.
        if over || clock::now_ns() < deadline_ns {
            teller.tell(&Event::Seen(Seen { pid: process::id(), id, source, frames, executor, route }));
        }
        let left_out = found.len().saturating_sub(lines);
        for line in found.iter().take(lines) {
            log.log(level, &format!("  request {request}: {line}"));
        }
        if left_out > 0 && lines > 1 {
            log.log(level, &format!("  request {request}: {left_out} more"));
        }
    };
    let at = At { thread, tid: view.tid, request: view.id };
    app.look(at, over, Box::new(tell));
}

/// Reads the line of code that a frame is at, if its file is there. Not on the loop's thread.
fn line_of_code(frame: &Frame) -> Option<String> {
    let file = fs::File::open(&frame.file).ok()?;
    let line = BufReader::new(file).lines().nth((frame.line as usize).checked_sub(1)?)?.ok()?;
    Some(line.trim().chars().take(CODE_MAX).collect())
}

fn condemn(reason: Reason, hub: &Hub) {
    let message = format!("Worker (pid:{}) is to be replaced: {reason}", process::id());
    hub.log.log(Level::Error, &message);
    hub.slot.retiring.store(1, Relaxed);
    hub.wake_arbiter();
}

/// Who asked for what, and for how long it has been running.
fn told(hub: &Hub, view: &InFlightView, now_ns: u64) -> String {
    let seconds = |since_ns: u64, until_ns: u64| until_ns.saturating_sub(since_ns) as f64 / SECOND;
    let client = if view.client.is_empty() { String::new() } else { format!(" from {}", view.client) };
    format!(
        "{} {} (request {}){client}, {:.1} s of {:.1} s in the application",
        view.method,
        view.path,
        hub.request_id(view.id),
        seconds(view.app_ns, now_ns),
        seconds(view.app_ns, view.deadline_ns),
    )
}
