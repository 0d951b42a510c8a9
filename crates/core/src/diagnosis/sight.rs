//! One request's evidence, put in order for the rules: which thread is its, what that does, how it changes from look to look,
//! which socket it waits for and what the database says of that. Not for: what it means (`rules`).

use super::Case;
use super::known::{self, Call};
use crate::evidence::{Database, Evidence, Frame, Pooler, Service, Session, Socket, Source, Tcp, Thread};

/// Two looks that are nearer to each other say nothing about change.
const APART_S: f64 = 0.05;

/// Who has asked within this share of the request's time has not been waiting for long.
pub(super) const FRESH: f64 = 0.2;
/// A request may have begun so much sooner than it was seen to.
pub(super) const SLACK_S: f64 = 1.0;
/// Looks that are so far apart show whether it goes on.
const ASKS_S: f64 = 1.0;
/// A thread that computes for such a share of the time does little else.
const BUSY: f64 = 0.6;
/// One that waits for something computes less than this.
const TURN: f64 = 0.05;
/// Threads that together compute for such a share of the time have the interpreter's lock between them.
const SATURATED: f64 = 0.85;

/// What is known of a request.
pub(super) struct Sight<'a> {
    pub(super) case: &'a Case<'a>,
    pub(super) last: &'a Evidence,
    /// The thread that works on it; that of the loop where it is a task.
    pub(super) thread: Option<&'a Thread>,
    /// Its calls, the innermost first; of its task where it is one.
    pub(super) frames: &'a [Frame],
    pub(super) source: Source,
    /// It is a task or greenlet whose code keeps its loop.
    pub(super) holds_loop: bool,
    /// It is one that waits for another's code to let go of the loop.
    pub(super) is_behind: bool,
    /// It is a task that waits for an executor's thread, and that is the thread.
    pub(super) in_executor: Option<Executor>,
    /// Nobody tells which thread is its own: this one is at work.
    pub(super) is_guessed: bool,
    /// In how many of the looks it was where it is in the last one.
    pub(super) still: usize,
    /// How many different lines its innermost application call was at.
    pub(super) lines: usize,
    /// Share of the time between the looks that its thread computed; none with one look.
    pub(super) cpu: Option<f64>,
    /// The same of all threads at work of the process together: who computes shares the interpreter with those that do, too.
    pub(super) cpu_all: Option<f64>,
    /// Share of that time that it was ready to and had no processor.
    pub(super) starved: Option<f64>,
    /// The socket that it waits for.
    pub(super) socket: Option<&'a Socket>,
    /// Bytes that have come in by that socket between the looks.
    pub(super) came: u64,
}

/// An executor's thread that works for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Executor {
    tid: u32,
    /// Nobody tells which one it is: out of threads at so many places it was chosen; 0 if it is known.
    pub(super) of: usize,
}

impl<'a> Sight<'a> {
    /// Orders the evidence; nothing without any.
    pub(super) fn of(case: &'a Case<'a>) -> Option<Self> {
        let last = case.looks.last()?;
        let in_executor = executor(last, case);
        let tid = in_executor.map_or(case.request.tid, |executor| executor.tid);
        let tid = if tid == 0 { at_work(case, last).unwrap_or(0) } else { tid };
        let thread = thread_in(last, case, tid);
        let own = thread.map_or(&[][..], |thread| &thread.frames[..]);
        let told = case.told.as_ref();
        let in_loop = case.nested && in_executor.is_none() && known::has_application(own);
        let task = told.filter(|told| case.nested && in_executor.is_none() && told.source == Source::Task);
        // Its own code is on the thread if the task is where the thread is.
        let same = |told: &&super::Told| place(&told.frames).is_some() && place(&told.frames) == place(own);
        let holds_loop = in_loop && task.as_ref().is_none_or(same);
        let is_behind = in_loop && !holds_loop;
        let (frames, source) = match (task, told) {
            (Some(task), _) if !holds_loop => (&task.frames[..], task.source),
            _ if !own.is_empty() && (!case.nested || holds_loop || in_executor.is_some()) => {
                (own, last.source)
            }
            (_, Some(told)) => (&told.frames[..], told.source),
            _ => (own, last.source),
        };
        let seen: Vec<&[Frame]> =
            case.looks.iter().filter_map(|look| Some(&thread_in(look, case, tid)?.frames[..])).collect();
        let mut lines: Vec<u32> = seen
            .iter()
            .filter_map(|frames| frames.iter().find(|frame| frame.is_application()))
            .map(|frame| frame.line)
            .collect();
        lines.sort_unstable();
        lines.dedup();
        let (cpu, starved) = shares(case, tid);
        let cpu_all = all_shares(case, last);
        let mut sight = Self {
            case,
            last,
            thread,
            frames,
            source,
            holds_loop,
            is_behind,
            in_executor,
            is_guessed: case.request.tid == 0 && in_executor.is_none() && tid != 0,
            still: seen.iter().filter(|frames| same_stack(frames, own)).count(),
            lines: lines.len(),
            cpu,
            cpu_all,
            starved,
            socket: None,
            came: 0,
        };
        sight.socket = sight.awaited();
        sight.came = sight.socket.map_or(0, |socket| sight.received_since(socket));
        Some(sight)
    }

    /// The calls inside the application's innermost own one.
    pub(super) fn called(&self) -> &'a [Frame] {
        known::called(self.frames)
    }

    /// Finds the innermost of the application's calls into something known.
    pub(super) fn find(&self, wanted: impl Fn(Call) -> bool) -> Option<&'a Frame> {
        self.called().iter().find(|frame| known::call(frame).is_some_and(&wanted))
    }

    /// Tells whether the innermost call is of this kind, machinery of waiting aside.
    pub(super) fn is_in(&self, wanted: impl Fn(Call) -> bool) -> bool {
        let mut inner = self.called().iter().map(known::call);
        inner.find(|call| *call != Some(Call::Machinery)).flatten().is_some_and(wanted)
    }

    /// It does not compute, and the kernel does not tell what it waits for: only its stack does.
    pub(super) fn is_hidden(&self) -> bool {
        !self.is_task()
            && self.syscall().is_empty()
            && !self.is_running()
            && !self.is_busy()
            && self.socket.is_none()
    }

    /// Its system call has a descriptor, which may not be seen.
    pub(super) fn is_unpointed(&self) -> bool {
        const CALLS: [&str; 8] =
            ["recvfrom", "recvmsg", "read", "poll", "ppoll", "connect", "sendto", "sendmsg"];
        CALLS.contains(&self.syscall()) && self.thread.is_some_and(|thread| thread.fd.is_none())
    }

    /// The innermost call that is known, machinery of waiting aside; of those within it nothing is.
    pub(super) fn nearest(&self) -> Option<Call> {
        self.called().iter().filter_map(known::call).find(|call| *call != Call::Machinery)
    }

    /// The innermost calls of the application's own code, at most three.
    pub(super) fn application(&self) -> Vec<Frame> {
        self.frames.iter().filter(|frame| frame.is_application()).take(3).cloned().collect()
    }

    /// The first value of a variable that the calls show, the innermost first.
    pub(super) fn local(&self, name: &str) -> Option<&'a str> {
        self.frames.iter().find_map(|frame| frame.locals.get(name)).map(String::as_str)
    }

    /// The system call that the thread is in; empty if none, or not known, or not the request's own.
    pub(super) fn syscall(&self) -> &'a str {
        if self.is_task() { "" } else { self.thread.map_or("", |thread| &thread.syscall) }
    }

    /// It waits as a task or greenlet does: its thread is free for others.
    pub(super) fn is_task(&self) -> bool {
        self.case.nested && !self.holds_loop && self.in_executor.is_none()
    }

    /// Its thread computes, or could.
    pub(super) fn is_running(&self) -> bool {
        !self.is_task() && self.thread.is_some_and(|thread| thread.state == "R")
    }

    /// Its thread has computed most of the time, or has taken turns with others that did.
    pub(super) fn is_busy(&self) -> bool {
        let alone = self.cpu.map_or(self.is_running(), |share| share > BUSY);
        !self.is_task() && (alone || self.takes_turns())
    }

    /// Its thread computes whenever others give up the interpreter, which is never idle.
    pub(super) fn takes_turns(&self) -> bool {
        self.thread.is_some_and(|thread| thread.fd.is_none())
            && self.cpu.is_some_and(|share| (TURN..=BUSY).contains(&share))
            && self.cpu_all.is_some_and(|share| share > SATURATED)
    }

    /// The database's view of the connection that it waits for.
    pub(super) fn session(&self) -> Option<(&'a Database, &'a Session)> {
        let fd = self.socket?.fd;
        let of = |database: &'a Database| {
            Some((database, database.sessions.iter().find(|session| session.fd == Some(fd))?))
        };
        self.last.databases.iter().find_map(of)
    }

    /// The pooler that keeps the connection it waits for waiting, and for how long.
    pub(super) fn pooled(&self) -> Option<(&'a Pooler, f64)> {
        let fd = self.socket?.fd;
        let poolers = self.last.databases.iter().filter_map(|database| database.pooler.as_ref());
        let mut waits =
            poolers.flat_map(|pooler| pooler.waits.iter().map(move |(at, wait_s)| (pooler, *at, *wait_s)));
        waits.find(|(_, at, _)| *at == fd).map(|(pooler, _, wait_s)| (pooler, wait_s))
    }

    /// What is at the other end: as the socket says, else as the calls do.
    pub(super) fn service(&self) -> Service {
        let by_socket = self.socket.map_or(Service::Other, |socket| socket.service);
        let driver = || {
            self.called().iter().find_map(|frame| match known::call(frame) {
                Some(Call::Driver(service)) => Some(service),
                _ => None,
            })
        };
        if by_socket == Service::Other { driver().unwrap_or_default() } else { by_socket }
    }

    /// Sockets to databases that the process has.
    pub(super) fn database_sockets(&self) -> impl Iterator<Item = &'a Socket> {
        self.last.database_sockets()
    }

    /// The socket that is waited for: the one in the thread's system call, else the one that has asked and got no answer for
    /// as long as the request has been waiting.
    fn awaited(&self) -> Option<&'a Socket> {
        if !self.is_task()
            && let Some(fd) = self.thread.and_then(|thread| thread.fd)
        {
            return self.last.sockets.iter().find(|socket| socket.fd == fd);
        }
        let waits_in_poll =
            self.is_task() || matches!(self.syscall(), "epoll_wait" | "epoll_pwait" | "select" | "pselect6");
        if !waits_in_poll && !self.is_unpointed() {
            return None;
        }
        // Where the calls say that it waits for something else, no socket is meant.
        let elsewhere = |call| matches!(call, Call::Sleep | Call::Result | Call::Subprocess | Call::Pool);
        if self.is_in(elsewhere) {
            return None;
        }
        let wanted = self.wanted();
        let age_s = self.case.request.app_s;
        let mut candidates: Vec<&Socket> = self
            .last
            .sockets
            .iter()
            .filter(|socket| {
                wanted.is_none_or(|service| socket.service == service || socket.service == Service::Other)
            })
            .filter(|socket| awaits_answer(socket, age_s))
            .collect();
        candidates.sort_by(|one, other| asked_ago_s(other).total_cmp(&asked_ago_s(one)));
        candidates.first().copied().or_else(|| self.asked_last(age_s))
    }

    /// Where the call has a descriptor that may not be seen: the socket that was asked last, within the request's time.
    fn asked_last(&self, age_s: f64) -> Option<&'a Socket> {
        let asked = |socket: &&Socket| {
            socket.tcp.is_some_and(|tcp| tcp.sent > 0 && tcp.sent_ago_s <= age_s + SLACK_S)
        };
        let sockets = self.last.sockets.iter().filter(|_| self.is_unpointed()).filter(asked);
        sockets.min_by(|one, other| asked_ago_s(one).total_cmp(&asked_ago_s(other)))
    }

    /// How long ago something was last sent to who is waited for, at most as long ago as the request began; none if that
    /// cannot be seen.
    pub(super) fn asked_ago_s(&self) -> Option<f64> {
        Some(self.socket?.tcp?.sent_ago_s.min(self.case.request.app_s))
    }

    /// It asks and is answered, again and again: returns the bytes that it has sent between the looks, and their time.
    pub(super) fn asks_on(&self) -> Option<(u64, f64)> {
        let socket = self.socket?;
        let mine = |look: &'a Evidence| {
            let same =
                look.sockets.iter().find(|other| other.fd == socket.fd && other.local == socket.local)?;
            Some((look.at_s, same.tcp?))
        };
        let seen: Vec<(f64, Tcp)> = self.case.looks.iter().filter_map(mine).collect();
        let ((from_s, first), (to_s, last)) = (seen.first()?, seen.last()?);
        let soon_s = self.case.request.app_s * FRESH;
        let always = seen.iter().all(|(_, tcp)| tcp.sent_ago_s < soon_s);
        let grown = last.sent.saturating_sub(first.sent);
        (always && grown > 0 && to_s - from_s >= ASKS_S).then_some((grown, to_s - from_s))
    }

    /// It has waited for another connection in an earlier look, and not for most of its time for this one: calls that were
    /// answered, or given up.
    pub(super) fn has_moved_on(&self) -> bool {
        let Some(own) = self.thread.map(|thread| thread.tid) else { return false };
        let local = |look: &'a Evidence| {
            let fd = look.threads.iter().find(|thread| thread.tid == own)?.fd?;
            Some(look.sockets.iter().find(|socket| socket.fd == fd)?.local.as_str())
        };
        let last = local(self.last);
        let others = self.case.looks.iter().any(|look| {
            let before = local(look);
            before.is_some() && before != last
        });
        let half_s = self.case.request.app_s / 2.0;
        last.is_some() && others && self.asked_ago_s().is_some_and(|ago_s| ago_s < half_s)
    }

    /// The thread that holds the interpreter in every look, always at the same line of the application.
    pub(super) fn keeper(&self) -> Option<&'a Thread> {
        let holder = |look: &'a Evidence| look.threads.iter().find(|thread| thread.holds_gil == Some(true));
        let last = holder(self.last)?;
        let line = place_line(&last.frames)?;
        let keeps = |look: &'a Evidence| {
            holder(look)
                .is_some_and(|thread| thread.tid == last.tid && place_line(&thread.frames) == Some(line))
        };
        (self.case.looks.len() > 1 && self.case.looks.iter().all(keeps)).then_some(last)
    }

    /// What the calls speak to, if they tell.
    fn wanted(&self) -> Option<Service> {
        self.called().iter().find_map(|frame| match known::call(frame)? {
            Call::Driver(service) => Some(service),
            Call::Http => Some(Service::Other),
            _ => None,
        })
    }

    fn received_since(&self, socket: &Socket) -> u64 {
        let received = |look: &Evidence| {
            let same = look.sockets.iter().find(|other| other.fd == socket.fd && other.local == socket.local);
            same.and_then(|socket| socket.tcp).map(|tcp| tcp.received)
        };
        let first = self.case.looks.iter().find_map(received).unwrap_or(0);
        received(self.last).unwrap_or(first).saturating_sub(first)
    }
}

/// Returns a look's thread of the request.
fn thread_in<'a>(look: &'a Evidence, case: &Case<'_>, tid: u32) -> Option<&'a Thread> {
    let by_request = || look.threads.iter().find(|thread| thread.request.as_ref() == Some(&case.request.id));
    // Tasks share theirs.
    look.threads.iter().find(|thread| tid != 0 && thread.tid == tid).or_else(by_request)
}

/// Finds a thread that may be the request's where nobody tells which is: one that computes, else one that waits for something
/// that no idle thread waits for.
fn at_work(case: &Case<'_>, last: &Evidence) -> Option<u32> {
    if case.nested || last.degraded.is_none() {
        return None;
    }
    // The process's first thread accepts.
    let first = last.threads.iter().map(|thread| thread.tid).min()?;
    let others = || last.threads.iter().filter(|thread| thread.tid != first);
    let busy = others().find(|thread| shares(case, thread.tid).0.is_some_and(|share| share > BUSY));
    let waits = |thread: &&Thread| {
        !matches!(thread.syscall.as_str(), "" | "futex" | "epoll_wait" | "epoll_pwait" | "pselect6")
    };
    busy.or_else(|| others().find(waits)).map(|thread| thread.tid)
}

/// Finds the executor's thread that a task waits for: the one that the interpreter has named, else one that is where it said,
/// else, before it says anything and where it never does, one of those that have not moved on between the looks.
fn executor(last: &Evidence, case: &Case<'_>) -> Option<Executor> {
    if !case.nested {
        return None;
    }
    let at_work =
        || last.threads.iter().filter(|thread| thread.tid != case.request.tid && thread.is_executor());
    // A handler tells of the loop's own thread.
    let of_loop = |told: &super::Told| told.source != Source::Task;
    if case.told.as_ref().is_some_and(|told| of_loop(told) && known::has_application(&told.frames)) {
        return None;
    }
    if let Some(told) = case.told.as_ref().filter(|told| !of_loop(told)) {
        let found = if told.executor != 0 {
            last.threads.iter().find(|thread| thread.tid == told.executor)
        } else {
            at_work().find(|thread| place(&thread.frames) == place(&told.frames))
        }?;
        return Some(Executor { tid: found.tid, of: 0 });
    }
    // Code that holds the loop comes first.
    if thread_in(last, case, case.request.tid).is_some_and(|thread| known::has_application(&thread.frames)) {
        return None;
    }
    let before = |look: &Evidence, thread: &Thread| {
        let same = look.threads.iter().find(|other| other.tid == thread.tid);
        same.is_some_and(|other| place(&other.frames) == place(&thread.frames))
    };
    let stays = |thread: &&Thread| case.looks.iter().all(|look| before(look, thread));
    let found: Vec<&Thread> = at_work().filter(stays).collect();
    let mut places: Vec<_> = found.iter().map(|thread| place(&thread.frames)).collect();
    // Where most of them are; one place is as good as known.
    let count = |wanted| places.iter().filter(|place| **place == wanted).count();
    let most = found.iter().max_by_key(|thread| count(place(&thread.frames)))?;
    let tid = most.tid;
    places.sort_unstable();
    places.dedup();
    Some(Executor { tid, of: places.len() })
}

/// The application's innermost place.
fn place(frames: &[Frame]) -> Option<(&str, &str)> {
    let frame = frames.iter().find(|frame| frame.is_application())?;
    let function = frame.function.rsplit('.').next().unwrap_or_default();
    Some((function, &frame.file))
}

fn place_line(frames: &[Frame]) -> Option<(&str, u32)> {
    let frame = frames.iter().find(|frame| frame.is_application())?;
    Some((&frame.file, frame.line))
}

fn same_stack(one: &[Frame], other: &[Frame]) -> bool {
    let key = |frame: &Frame| (frame.line, frame.function.clone(), frame.file.clone());
    !one.is_empty() && one.len() == other.len() && one.iter().map(key).eq(other.iter().map(key))
}

/// Shares of the time between the first look and the last that the thread computed, and was kept from it.
fn shares(case: &Case<'_>, tid: u32) -> (Option<f64>, Option<f64>) {
    let seen: Vec<(f64, &Thread)> =
        case.looks.iter().filter_map(|look| Some((look.at_s, thread_in(look, case, tid)?))).collect();
    let (Some((from_s, first)), Some((to_s, last))) = (seen.first(), seen.last()) else {
        return (None, None);
    };
    let wall_s = to_s - from_s;
    if wall_s < APART_S {
        return (None, None);
    }
    let share = |from: f64, to: f64| Some(((to - from) / wall_s).clamp(0.0, 1.0));
    (share(first.cpu_s, last.cpu_s), share(first.cpu_wait_s, last.cpu_wait_s))
}

/// The sum of the shares of all threads that are seen in the last two looks that are apart.
fn all_shares(case: &Case<'_>, last: &Evidence) -> Option<f64> {
    let first = case.looks.iter().rev().find(|look| last.at_s - look.at_s >= APART_S)?;
    let computed = last.threads.iter().filter_map(|thread| {
        let before = first.threads.iter().find(|other| other.tid == thread.tid)?;
        // Who keeps the interpreter's lock keeps it while it waits for a processor, too.
        Some((thread.cpu_s + thread.cpu_wait_s - before.cpu_s - before.cpu_wait_s).max(0.0))
    });
    Some(computed.sum::<f64>() / (last.at_s - first.at_s))
}

/// Tells whether the last that happened on a connection is that something was sent, within the request's time: it waits for
/// an answer. One that has never got any waits for its first.
fn awaits_answer(socket: &Socket, age_s: f64) -> bool {
    const LITTLE_S: f64 = 0.02;
    if socket.state == "syn-sent" {
        return true;
    }
    let Some(tcp) = socket.tcp else { return socket.kind == "udp" };
    let asked = tcp.received_ago_s > tcp.sent_ago_s + LITTLE_S || tcp.received == 0;
    asked && tcp.sent_ago_s <= age_s + SLACK_S && socket.state == "established"
}

fn asked_ago_s(socket: &Socket) -> f64 {
    match (&socket.tcp, socket.state.as_str()) {
        // Who has not even got through comes first.
        (_, "syn-sent") => f64::MAX,
        (Some(tcp), _) => tcp.sent_ago_s,
        (None, _) => 0.0,
    }
}
