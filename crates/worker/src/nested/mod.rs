//! The loop nested in the application's own (asyncio, gevent's hub), on the worker's main thread.
//!
//! The application's loop watches [`Nested::fds`] and calls [`Nested::turn`] when there is something to do; each request is
//! begun there ([`Tasks::begin`]) and runs in the application's loop from then on. What is late is seen to in the turn,
//! too. When a callback holds the application's loop, the watchdog's thread takes ours over ([`keep`]) until the
//! main thread is back.
//!
//! Not for: applications that are called and return ([`crate::run`]).

mod keep;
mod stage;

use crate::app::{Interpreter, Stop, Tasks};
use crate::climb::Climb;
use crate::conn::Conn;
use crate::http::refusal::Refusal;
use crate::options::{Level, Options};
use crate::reactor::{BATCH_NS, Reactor};
use crate::run::{self, Context, Exit, Hub};
use ferricorn_core::deadline::{Held, Plan};
use ferricorn_sys::clock;
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use stage::Stage;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Most requests begun in one turn, so that those that run get their share.
const BEGIN_MAX: usize = 256;

/// A worker's loop within the application's.
pub struct Nested<A> {
    core: Arc<Core>,
    app: Arc<A>,
    watchdog: Mutex<Option<JoinHandle<()>>>,
    /// Those whose requests are over; reused.
    #[expect(clippy::vec_box, reason = "a connection stays where it is; only its box changes hands")]
    finished: Mutex<Vec<Box<Conn>>>,
}

impl<A> std::fmt::Debug for Nested<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nested").field("stage", &self.core.stage).finish_non_exhaustive()
    }
}

/// What both threads know.
struct Core {
    hub: Arc<Hub>,
    stage: Stage,
    epoll: OwnedFd,
    /// Readable once the watchdog has taken the loop: the application's loop is to call [`Nested::turn`].
    back: OwnedFd,
    timer: OwnedFd,
    /// When the timer rings.
    armed_ns: AtomicU64,
    climb: Mutex<Climb>,
    /// When requests in flight are to be looked at next.
    look_ns: AtomicU64,
}

impl<A: Tasks> Nested<A> {
    /// Makes the loop and its watchdog, and says that the worker serves. On the main thread.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub fn start(app: Arc<A>, options: Options, context: Context) -> io::Result<Self> {
        let limit_ns = options.loop_block_ns;
        let (hub, listeners, access) = run::hub(options, context)?;
        hub.slot.threads.store(1, Relaxed);
        hub.slot.threads_free.store(1, Relaxed);
        let stage = Stage::new(limit_ns)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let mut reactor = Box::new(Reactor::new(hub.clone(), listeners, access)?);
        reactor.nest(&[stage.bell(), timer.as_fd()])?;
        let core = Arc::new(Core {
            climb: Mutex::new(Climb::new(&hub, Plan::for_tasks())),
            epoll: reactor.fd().try_clone_to_owned()?,
            back: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            timer,
            armed_ns: AtomicU64::new(0),
            look_ns: AtomicU64::new(u64::MAX),
            stage,
            hub,
        });
        core.hub.slot.ready(clock::now_ns());
        core.hub.wake_arbiter();
        core.rest(reactor);
        let (watched, kept) = (core.clone(), app.clone());
        let body = move || keep::watch(&watched, &kept);
        let watchdog = thread::Builder::new().name("ferricorn-loop".into()).spawn(body)?;
        Ok(Self { core, app, watchdog: Mutex::new(Some(watchdog)), finished: Mutex::default() })
    }

    /// Returns the descriptors that are readable while [`Self::turn`] has something to do.
    pub fn fds(&self) -> [i32; 2] {
        [self.core.epoll.as_raw_fd(), self.core.back.as_raw_fd()]
    }

    /// Does what there is to do: takes back what is finished, sends, reads, begins requests. Attached. Returns whether
    /// there is more, for another turn once what is ready in the application's loop has run.
    pub fn turn(&self) -> bool {
        let core = &*self.core;
        let Some(mut reactor) = core.stage.take().or_else(|| self.reclaim()) else { return false };
        self.take_back(&mut reactor);
        reactor.flush();
        reactor.poll(0);
        reactor.turn();
        for (token, what) in reactor.take_heard() {
            self.app.heard(token, what);
        }
        if reactor.take_drain_news() {
            self.app.drain();
        }
        let mut reactor = match self.begin_all(reactor) {
            Some(reactor) => reactor,
            // Taken over in the middle; the next turn gets it back.
            None => return false,
        };
        self.take_back(&mut reactor);
        core.see_to_late(&self.app, &mut reactor);
        reactor.flush();
        reactor.flush_log();
        if core.hub.take_reopen() {
            self.app.notify(Stop::ReopenLogs);
        }
        if reactor.is_finished() {
            self.finish(reactor);
            return false;
        }
        reactor.accept_if(true);
        let more = reactor.has_ready();
        core.rest(reactor);
        more
    }

    /// Begins what is ready. The application's code runs in it, so that the loop is lent meanwhile.
    fn begin_all(&self, mut reactor: Box<Reactor>) -> Option<Box<Reactor>> {
        let core = &*self.core;
        let mut sent_ns = reactor.now_ns();
        for _ in 0..BEGIN_MAX {
            let Some(mut conn) = reactor.next_request() else { break };
            run::enter(&core.hub, &mut conn);
            let now_ns = conn.stamps.app_ns;
            if now_ns > sent_ns + BATCH_NS {
                self.take_back(&mut reactor);
                reactor.flush();
                sent_ns = now_ns;
            }
            core.look_by(&conn);
            core.stage.lend(reactor);
            self.app.begin(conn);
            reactor = core.stage.take()?;
        }
        Some(reactor)
    }

    fn take_back(&self, reactor: &mut Reactor) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        self.app.finished(&mut finished);
        for conn in finished.drain(..) {
            let now_ns = conn.stamps.done_ns.max(reactor.now_ns());
            reactor.check_in(conn, now_ns);
        }
    }

    /// Gets the loop back from the watchdog.
    #[cold]
    fn reclaim(&self) -> Option<Box<Reactor>> {
        let mut count = [0; 8];
        // Empty if the watchdog is just about to say so.
        let _ = rustix::io::read(&self.core.back, &mut count);
        self.app.wait(|| self.core.stage.reclaim())
    }

    fn finish(&self, mut reactor: Box<Reactor>) {
        let hub = &self.core.hub;
        reactor.flush();
        let quick = reactor.drain().is_some_and(|drain| drain.quick);
        let cut = reactor.unanswered();
        if cut > 0 && !quick {
            let message = format!("Worker graceful timeout (pid:{}): {cut} requests cut", std::process::id());
            hub.log.log(Level::Warning, &message);
        }
        reactor.give_up_late();
        reactor.flush_log();
        drop(reactor);
        hub.set_exit(if quick { Exit::Quick } else { Exit::Graceful });
        self.core.stage.close();
        self.app.end(quick);
    }

    /// Waits for the watchdog, once the application's loop has ended; tells how the worker has.
    pub fn leave(&self) -> Exit {
        self.core.stage.close();
        let watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Its panic is its own.
        self.app.wait(|| watchdog.map(JoinHandle::join).map(drop));
        let exit = self.core.hub.exit().unwrap_or(Exit::Graceful);
        if exit == Exit::Quick {
            self.app.notify(Stop::Interrupted);
        }
        exit
    }

    /// Returns the worker's settings.
    pub fn options(&self) -> &Options {
        &self.core.hub.options
    }

    /// Says that the application has made a piece of its response, or got one of the request.
    pub fn progressed(&self, conn: &Conn) {
        conn.has_progressed();
        self.core.look_by(conn);
    }

    /// Refuses a request that the application has, for its client's mistake.
    pub fn refuse(&self, conn: &mut Conn, refusal: &Refusal) {
        self.core.hub.refused(refusal, &conn.client);
        conn.refuse(refusal, &self.core.hub.request_id(conn.id), self.options().error_page.as_ref());
    }
}

impl Core {
    /// Puts the loop down until the next turn; sees to it that there is one when time asks for it.
    fn rest(&self, reactor: Box<Reactor>) {
        let now_ns = reactor.now_ns();
        let look_ns = self.look_ns.load(Relaxed);
        let until_ns = (now_ns + reactor.sleep_ns()).min(look_ns);
        let armed_ns = self.armed_ns.load(Relaxed);
        if until_ns < armed_ns || armed_ns <= now_ns {
            self.arm(until_ns.max(now_ns + 1));
        }
        let busy = reactor.away() > 0;
        self.stage.put(reactor, look_ns, busy);
    }

    fn arm(&self, until_ns: u64) {
        let spec = Itimerspec { it_interval: clock::timespec(0), it_value: clock::timespec(until_ns) };
        // A time of day of the monotonic clock, and a descriptor that is a timer: cannot fail.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec);
        self.armed_ns.store(until_ns, Relaxed);
    }

    /// Notes when a request that begins is to be looked at.
    fn look_by(&self, conn: &Conn) {
        if let Some(record) = conn.record {
            let due_ns = Climb::look_ns(record);
            if due_ns < self.look_ns.load(Relaxed) {
                self.look_ns.store(due_ns, Relaxed);
            }
        }
    }

    /// Looks at the requests in flight, if it is time.
    fn see_to_late<A: Interpreter>(&self, app: &Arc<A>, reactor: &mut Reactor) {
        if reactor.now_ns() >= self.look_ns.load(Relaxed) || reactor.take_expired() {
            self.look(app, reactor, Held::Nothing, false);
        }
    }

    fn look<A: Interpreter>(&self, app: &Arc<A>, reactor: &mut Reactor, held: Held, blocked: bool) {
        let mut climb = self.climb.lock().unwrap_or_else(PoisonError::into_inner);
        climb.step(&self.hub, app, reactor, held, blocked);
        self.look_ns.store(climb.next_ns(), Relaxed);
    }

    fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
