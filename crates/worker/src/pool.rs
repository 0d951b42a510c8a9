//! The app threads and what stands in line for them while the loop is taken over.
//!
//! An app thread waits without the interpreter, takes the interpreter, and only then takes a request: a request never
//! waits inside a thread that cannot run. Finished connections go back on a list whose eventfd wakes the loop's owner.
//! No lock here is held while Python is entered.

use crate::app::App;
use crate::conn::Conn;
use crate::reactor::Reactor;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What an app thread is to do next.
#[derive(Debug)]
pub(crate) enum Job {
    /// Run the application for this request.
    Serve(Box<Conn>),
    /// Own the loop.
    Own(Box<Reactor>),
    /// The worker has ended, or has a thread too many.
    Leave,
}

/// The line of waiting requests and the list of finished ones.
#[expect(clippy::vec_box, reason = "a connection stays where it is; only its box changes hands")]
#[derive(Debug)]
pub(crate) struct Pool {
    line: Mutex<Line>,
    /// The main thread waits here, the others at `arrived`.
    arrived_main: Condvar,
    arrived: Condvar,
    done: Mutex<Vec<Box<Conn>>>,
    done_wake: OwnedFd,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Box<Conn>>,
    /// Some have waited at a proxy before: the first is not the one that has waited longest.
    proxied: bool,
    reactor: Option<Box<Reactor>>,
    /// Ticks of the watchdog since the loop has been offered.
    offered_ticks: u32,
    idle: usize,
    /// The main thread is among them, and nothing is meant for it yet.
    main_idle: bool,
    /// Threads that are too many.
    surplus: usize,
    closed: bool,
}

impl Pool {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            line: Mutex::default(),
            arrived_main: Condvar::new(),
            arrived: Condvar::new(),
            done: Mutex::default(),
            done_wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Waits for something to do. Called attached; waits detached.
    pub(crate) fn next<A: App>(&self, app: &A, is_main: bool) -> Job {
        loop {
            app.wait(|| self.wait(is_main));
            let mut line = self.line();
            if !is_main && line.surplus > 0 {
                line.surplus -= 1;
                return Job::Leave;
            }
            if let Some(reactor) = line.reactor.take() {
                return Job::Own(reactor);
            }
            if let Some(conn) = line.waiting.pop_front() {
                return Job::Serve(conn);
            }
            if line.closed {
                return Job::Leave;
            }
        }
    }

    fn wait(&self, is_main: bool) {
        let mut line = self.line();
        line.idle += 1;
        if line.idle == 1 || self.has_finished() {
            self.wake();
        }
        while line.waiting.is_empty()
            && line.reactor.is_none()
            && !line.closed
            && (is_main || line.surplus == 0)
        {
            line.main_idle |= is_main;
            let arrived = if is_main { &self.arrived_main } else { &self.arrived };
            line = arrived.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.idle -= 1;
        line.main_idle &= !is_main;
    }

    /// Puts a request at the end of the line.
    pub(crate) fn push(&self, conn: Box<Conn>) {
        let mut line = self.line();
        line.proxied |= conn.stamps.proxied_ns > 0;
        line.waiting.push_back(conn);
        self.call_one(&mut line);
    }

    /// Wakes a thread: the main one if it is free, for it can be freed from almost anything it gets stuck in.
    fn call_one(&self, line: &mut Line) {
        if std::mem::take(&mut line.main_idle) {
            self.arrived_main.notify_one()
        } else {
            self.arrived.notify_one()
        }
    }

    /// Takes the first of the line back, to give it to a sibling or to refuse it.
    pub(crate) fn pull(&self) -> Option<Box<Conn>> {
        self.line().waiting.pop_front()
    }

    /// Takes one out of the line that has waited since this moment or longer.
    pub(crate) fn pull_before(&self, since_ns: u64) -> Option<Box<Conn>> {
        let mut line = self.line();
        // Without a proxy that tells, the first of the line has waited longest.
        let among = if line.proxied { line.waiting.len() } else { 1 };
        let mut waiting = line.waiting.iter().take(among);
        let at = waiting.position(|conn| conn.stamps.waits_since_ns() <= since_ns)?;
        line.waiting.remove(at)
    }

    /// Takes one out of the line whose sender waits no more.
    pub(crate) fn pull_unawaited(&self, now_ns: u64) -> Option<Box<Conn>> {
        let mut line = self.line();
        let at = line.waiting.iter().position(|conn| conn.is_unawaited(now_ns))?;
        line.waiting.remove(at)
    }

    /// Takes the request of a connection out of the line if it is to go.
    pub(crate) fn withdraw(&self, token: u64, goes: impl FnOnce(&Conn) -> bool) -> Withdrawn {
        let mut line = self.line();
        match line.waiting.iter().position(|conn| conn.token == token) {
            None => Withdrawn::Absent,
            Some(at) if !goes(&line.waiting[at]) => Withdrawn::Stays,
            Some(at) => line.waiting.remove(at).map_or(Withdrawn::Absent, Withdrawn::Taken),
        }
    }

    /// Puts a request back at the front.
    pub(crate) fn unpull(&self, conn: Box<Conn>) {
        let mut line = self.line();
        line.waiting.push_front(conn);
        self.call_one(&mut line);
    }

    /// Returns how many requests wait, since when the first does, and how many threads wait for work.
    pub(crate) fn load(&self) -> Load {
        let line = self.line();
        let since_ns = line.waiting.front().map(|conn| conn.stamps.complete_ns);
        Load { waiting: line.waiting.len(), since_ns, idle: line.idle }
    }

    /// Takes the whole line back.
    pub(crate) fn pull_all(&self) -> VecDeque<Box<Conn>> {
        std::mem::take(&mut self.line().waiting)
    }

    /// Gives the loop to the next thread that is free.
    pub(crate) fn offer(&self, reactor: Box<Reactor>) {
        let mut line = self.line();
        line.reactor = Some(reactor);
        line.offered_ticks = 0;
        self.call_one(&mut line);
    }

    /// Tells whether the loop is offered and nobody has taken it yet.
    pub(crate) fn is_offered(&self) -> bool {
        self.line().reactor.is_some()
    }

    /// Takes back a loop that no thread has taken for a whole tick. Called at every tick.
    pub(crate) fn overdue(&self) -> Option<Box<Reactor>> {
        let mut line = self.line();
        line.offered_ticks = line.offered_ticks.saturating_add(1);
        if line.offered_ticks > 1 { line.reactor.take() } else { None }
    }

    /// Hands a finished connection to the owner of the loop, who learns of it when this thread asks for its next job:
    /// one wake tells of both, the connection and the free thread.
    pub(crate) fn finished(&self, conn: Box<Conn>) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
    }

    /// The same for a connection that no app thread has had.
    pub(crate) fn give_back(&self, conn: Box<Conn>) {
        self.finished(conn);
        self.wake();
    }

    fn has_finished(&self) -> bool {
        !self.done.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn wake(&self) {
        // A full counter already wakes; nothing else can fail here.
        let _ = rustix::io::write(&self.done_wake, &1u64.to_ne_bytes());
    }

    /// Takes the finished connections.
    #[expect(clippy::vec_box, reason = "as above")]
    pub(crate) fn take_finished(&self) -> Vec<Box<Conn>> {
        let _ = rustix::io::read(&self.done_wake, &mut [0; 8]);
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the descriptor that is readable while there are finished connections.
    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.done_wake.as_fd()
    }

    /// Sends one app thread home.
    pub(crate) fn dismiss(&self) {
        self.line().surplus += 1;
        self.arrived.notify_all();
    }

    /// Sends every app thread home.
    pub(crate) fn close(&self) {
        self.line().closed = true;
        self.arrived_main.notify_all();
        self.arrived.notify_all();
    }

    /// Tells whether the worker has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.line().closed
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has come of taking a request out of the line.
#[derive(Debug)]
pub(crate) enum Withdrawn {
    /// Here it is.
    Taken(Box<Conn>),
    /// It is not to go yet.
    Stays,
    /// It does not stand there.
    Absent,
}

/// How busy the app threads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Requests in line.
    pub(crate) waiting: usize,
    /// Since when the first of them waits.
    pub(crate) since_ns: Option<u64>,
    /// Threads that wait for work.
    pub(crate) idle: usize,
}
