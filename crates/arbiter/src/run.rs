//! The arbiter's life: start, then wait, tell the fleet what has happened, and do what it says.

use crate::birth::{self, Heritage};
use crate::companion::{Companion, Kind};
use crate::host::{Dispatch, Ended, Hook, Host, Observation, Options, WorkerSpec};
use crate::inquest::Inquest;
use crate::notify;
use crate::places::Places;
use crate::sockets::{NotOpen, Sockets};
use crate::stack;
use ferricorn_core::event::Event as Told;
use ferricorn_core::fleet::{Action, Event, ExitStatus, Fleet, Order, Signal as FleetSignal, Vital};
use ferricorn_core::log::Level;
use ferricorn_core::scoreboard::{MAGIC, Scoreboard, State, VERSION};
use ferricorn_sys::clock;
use ferricorn_sys::events::{Hearer, Teller, channel};
use ferricorn_sys::pidfile::Pidfile;
use ferricorn_sys::pressure;
use ferricorn_sys::process::Fork;
use ferricorn_sys::proctitle;
use ferricorn_sys::shared::SharedMemory;
use ferricorn_sys::signal::{Blocked, STACK, Signal, SignalPipe, ignore};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, WaitOptions, WaitStatus, getpid, kill_process, set_parent_process_death_signal, wait, waitpid,
};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

const SECOND_NS: u64 = 1_000_000_000;
/// Longest time that the end waits for each companion.
const COMPANION_NS: u64 = SECOND_NS;

/// The signals that the arbiter acts on.
const SIGNALS: [(Signal, FleetSignal); 10] = [
    (Signal::TERM, FleetSignal::Term),
    (Signal::INT, FleetSignal::Int),
    (Signal::QUIT, FleetSignal::Quit),
    (Signal::HUP, FleetSignal::Hup),
    (Signal::TTIN, FleetSignal::Ttin),
    (Signal::TTOU, FleetSignal::Ttou),
    (Signal::USR1, FleetSignal::Usr1),
    (Signal::USR2, FleetSignal::Usr2),
    (Signal::WINCH, FleetSignal::Winch),
    (Signal::CHILD, FleetSignal::Chld),
];

/// Runs a server until it ends. Also returns in every worker, with what [`Host::work`] has returned.
///
/// The memory of `board` must be new; name it `ferricorn-scoreboard`, which is how `ferricornctl` finds it. The process must
/// have one thread.
pub fn run<H: Host>(options: Options, host: &mut H, board: SharedMemory<Scoreboard>) -> Ended {
    match Arbiter::start(options, host, board) {
        Ok(arbiter) => arbiter.serve(),
        Err(code) => Ended::Arbiter(code),
    }
}

struct Arbiter<'h, H> {
    host: &'h mut H,
    options: Options,
    /// Held for its descriptor, by which others find the scoreboard.
    memory: SharedMemory<Scoreboard>,
    board: &'static Scoreboard,
    pid: i32,
    pidfile: Option<Pidfile>,
    signals: SignalPipe,
    sockets: Sockets,
    handover: (OwnedFd, OwnedFd),
    /// Workers write into the second.
    wake: (OwnedFd, OwnedFd),
    places: Places,
    fleet: Fleet,
    /// Every living worker, by pid.
    workers: BTreeMap<i32, Child>,
    events: VecDeque<Event>,
    channel: (Teller, Hearer),
    companions: [Companion; 3],
    /// INT or QUIT has come: nobody is waited for.
    is_hurried: bool,
    /// The server ends: nobody is started.
    is_ending: bool,
    inquest: Inquest,
}

/// What belongs to one living worker.
struct Child {
    slot: usize,
    /// Until it has booted.
    stack: Option<OwnedFd>,
    /// The same, once it was asked.
    asked: Option<OwnedFd>,
}

/// How it goes on after an action.
enum Next {
    Go,
    Halt(i32),
    /// This is a new worker's process now.
    Born(WorkerSpec, Option<OwnedFd>, Blocked),
    /// This is the process of a companion now.
    Beside(Kind, Blocked),
}

impl<'h, H: Host> Arbiter<'h, H> {
    /// Opens everything, in Gunicorn's order; on failure returns the exit code.
    fn start(options: Options, host: &'h mut H, memory: SharedMemory<Scoreboard>) -> Result<Self, i32> {
        let pid = getpid().as_raw_pid();
        let fleet = Fleet::new(options.plan());
        let board = memory.value();
        inscribe(board, pid, fleet.target(), &options);
        host.hook(Hook::NworkersChanged { new: fleet.target(), old: None });
        host.load()?;
        host.log(Level::Info, concat!("Starting ferricorn ", env!("CARGO_PKG_VERSION")));
        let pidfile = options.pidfile.as_deref().map(|path| Pidfile::create(path, pid)).transpose();
        let pidfile = pidfile.map_err(|error| {
            host.log(Level::Error, &error.to_string());
            1
        })?;
        host.hook(Hook::OnStarting);
        let opened = open_descriptors(host).and_then(|descriptors| {
            let sockets = Sockets::open(&options, host, || asked_to_stop(&descriptors.signals))?;
            Ok((descriptors, sockets))
        });
        let (descriptors, sockets) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                pidfile.into_iter().for_each(Pidfile::remove);
                return Err(if why == NotOpen::Stopped { 0 } else { 1 });
            }
        };
        let Descriptors { signals, wake, handover, channel } = descriptors;
        let places = Places::new();
        let (workers, events) = (BTreeMap::new(), VecDeque::from([Event::Started]));
        let arbiter = Self {
            host,
            options,
            memory,
            board,
            pid,
            pidfile,
            signals,
            sockets,
            handover,
            wake,
            places,
            fleet,
            workers,
            events,
            channel,
            companions: Kind::ALL.map(Companion::new),
            is_hurried: false,
            is_ending: false,
            inquest: Inquest::new(),
        };
        Ok(arbiter.booted())
    }

    /// Says that the server listens.
    fn booted(self) -> Self {
        let at = if self.options.reuse_port {
            let own: Vec<String> = self.options.bind.iter().map(ToString::to_string).collect();
            own.join(",")
        } else {
            self.sockets.to_string()
        };
        self.host.log(Level::Debug, "Arbiter booted");
        self.host.log(Level::Info, &format!("Listening at: {at} ({})", self.pid));
        self.host.log(Level::Info, &format!("Using worker: {}", self.options.worker_class));
        self.host.listening(&self.sockets.current());
        self.host.hook(Hook::WhenReady);
        self.show_title();
        self
    }

    fn serve(mut self) -> Ended {
        loop {
            // Before the first worker: it is not to miss anything.
            if let Next::Beside(kind, blocked) = self.start_companions() {
                return self.be_companion(kind, blocked);
            }
            while let Some(event) = self.events.pop_front() {
                for action in self.fleet.on(event, clock::now_ns()) {
                    match self.carry_out(action) {
                        Next::Go => {}
                        Next::Halt(code) => return Ended::Arbiter(code),
                        Next::Born(spec, stack, blocked) => return self.be_worker(spec, stack, blocked),
                        Next::Beside(kind, blocked) => return self.be_companion(kind, blocked),
                    }
                }
            }
            self.board.workers_target.store(self.fleet.target() as u32, Relaxed);
            self.board.generation.store(self.fleet.generation(), Relaxed);
            self.sockets.release(self.fleet.oldest_generation());
            self.inquest.count(clock::now_ns());
            self.wait();
        }
    }

    /// Waits for something to happen and puts it into the queue: signals first, since a signal to the whole process group
    /// explains the exits that follow; then what the scoreboard says, since a worker may have been ready before it died.
    fn wait(&mut self) {
        let patience_ns = self.fleet.patience_ns(clock::now_ns());
        let fds = [self.signals.fd(), self.wake.0.as_fd()];
        let mut late_ns = 0;
        self.host.wait(&mut || late_ns = poll_in(&fds, patience_ns));
        drain(&self.wake.0);
        for signal in self.signals.read() {
            self.is_hurried |= matches!(signal, Signal::INT | Signal::QUIT);
            let told = SIGNALS.iter().find(|(known, _)| *known == signal);
            self.events.extend(told.map(|(_, told)| Event::Signal(*told)));
        }
        let vitals = self.workers.iter_mut().map(|(pid, child)| {
            let slot = &self.board.workers[child.slot];
            let state = slot.state();
            if state != State::Booting {
                child.stack = None;
            }
            Vital {
                pid: *pid,
                state,
                beat_ns: slot.beat_ns.load(Relaxed),
                retiring: slot.retiring.load(Relaxed) != 0,
            }
        });
        let vitals = vitals.collect();
        let generation = self.board.halt.swap(0, Relaxed);
        self.events.extend((generation > 0).then_some(Event::Halted { generation }));
        self.events.push_back(Event::Vitals { vitals, late_ns });
        self.reap();
    }

    fn reap(&mut self) {
        let known: Vec<i32> = self.workers.keys().copied().collect();
        for pid in known {
            match waitpid(Pid::from_raw(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => self.reaped(pid, exit_status(status)),
                // Somebody else has reaped it, a hook perhaps: all that is known is that it is gone.
                Err(Errno::CHILD) => self.reaped(pid, ExitStatus::Code(0)),
                Ok(None) | Err(_) => {}
            }
        }
        for companion in &mut self.companions {
            if let Some(line) = companion.reap(clock::now_ns()) {
                self.host.log(Level::Warning, &line);
            }
        }
        // As process 1 of a container we inherit orphans; elsewhere other children are those of hooks, and theirs to wait
        // for.
        while self.pid == 1
            && let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG)
        {
            let (pid, status) = (pid.as_raw_pid(), exit_status(status));
            if self.workers.contains_key(&pid) {
                self.reaped(pid, status);
            } else {
                let text = format!("Reaped unknown child process (pid:{pid}, status:{status:?})");
                self.host.log(Level::Debug, &text);
            }
        }
    }

    fn reaped(&mut self, pid: i32, status: ExitStatus) {
        if let Some(child) = self.workers.remove(&pid) {
            self.inquest.open(&self.board.workers[child.slot], pid, clock::now_ns());
            self.places.release(self.board, child.slot);
            self.events.push_back(Event::Exited { pid, status });
        }
    }

    fn carry_out(&mut self, action: Action) -> Next {
        match action {
            Action::Spawn { age, generation } => return self.spawn(age, generation),
            Action::Send { pid, order } => self.send(pid, order),
            Action::Measure => self.events.push_back(Event::Measured(pressure::read())),
            Action::AskStack { pid } => self.ask_stack(pid),
            Action::TellStack { pid } => self.tell_stack(pid),
            Action::Say(notice) => self.host.log(notice.level(), &notice.to_string()),
            Action::Died { pid, status, by } => {
                if let Some(found) = self.inquest.close(self.board, pid, status, by) {
                    self.host.log(Level::Error, &found.line);
                    self.channel.0.tell(&found.event);
                }
            }
            Action::NworkersChanged { new, old } => {
                self.host.hook(Hook::NworkersChanged { new, old: Some(old) });
            }
            Action::ChildExit { pid, age } => {
                self.inquest.let_go(self.board, pid);
                self.host.hook(Hook::ChildExit { pid, age });
            }
            Action::OnReload => {
                self.host.hook(Hook::OnReload);
                self.renew_pidfile();
                self.show_title();
            }
            Action::Reload => self.reload(),
            Action::ReloadEnded | Action::Ready => notify::ready(),
            Action::ReopenLogs => {
                self.host.reopen_logs();
                self.companion(Kind::Jobs).send(Signal::USR1);
            }
            Action::Count(count) => self.host.workers(count),
            Action::CloseListeners => {
                notify::stopping();
                self.sockets.close();
                self.is_ending = true;
                self.companion(Kind::Dispatcher).send(Signal::TERM);
                let signal = if self.is_hurried { Signal::QUIT } else { Signal::TERM };
                self.companion(Kind::Jobs).send(signal);
            }
            Action::Halt { exit_code } => {
                self.channel.0.tell(&Told::Ended);
                self.pidfile.take().into_iter().for_each(Pidfile::remove);
                self.host.hook(Hook::OnExit);
                self.see_off();
                return Next::Halt(exit_code);
            }
        }
        Next::Go
    }

    fn send(&mut self, pid: i32, order: Order) {
        let signal = match order {
            Order::Terminate => Signal::TERM,
            Order::Quit => Signal::QUIT,
            Order::Abort => Signal::ABORT,
            Order::Kill => Signal::KILL,
            Order::ReopenLogs => Signal::USR1,
        };
        // A worker that has ended is not reaped before its exit is in the queue: its pid is nobody else's yet.
        if let (Some(target), true) = (Pid::from_raw(pid), self.workers.contains_key(&pid))
            && let Err(error) = kill_process(target, signal)
        {
            self.host.log(Level::Error, &format!("Worker (pid:{pid}) could not be sent {order:?}: {error}"));
        }
    }

    fn ask_stack(&mut self, pid: i32) {
        let Some(child) = self.workers.get_mut(&pid) else { return };
        child.asked = child.stack.take();
        if let Err(error) = stack::ask(pid) {
            self.host
                .log(Level::Error, &format!("Worker (pid:{pid}) could not be asked for its stack: {error}"));
        }
    }

    fn tell_stack(&mut self, pid: i32) {
        let file = self.workers.get_mut(&pid).and_then(|child| child.asked.take());
        for line in stack::told(file.as_ref()) {
            self.host.log(Level::Critical, &format!("  {line}"));
        }
    }

    fn spawn(&mut self, age: u32, generation: u32) -> Next {
        let Some(slot) = self.places.choose(self.board, self.fleet.target()) else {
            self.host.log(Level::Error, "Worker could not be started: there is no place in the scoreboard");
            self.events.push_back(Event::SpawnFailed { age });
            return Next::Go;
        };
        self.board.claim(slot, age, generation, clock::now_ns());
        let spec = WorkerSpec { age, generation, slot };
        self.host.hook(Hook::PreFork(&spec));
        // Without it the worker does as well.
        let stack = stack::create().ok();
        // What arrives meanwhile must not be told to the arbiter by a child that still has its handlers.
        let blocked = Blocked::all();
        match self.host.fork(&spec) {
            Ok(Fork::Child) => return Next::Born(spec, stack, blocked),
            Ok(Fork::Parent(pid)) => {
                self.board.workers[slot].pid.store(pid.unsigned_abs(), Relaxed);
                self.workers.insert(pid, Child { slot, stack, asked: None });
                self.events.push_back(Event::Spawned { age, pid });
            }
            Err(error) => {
                self.host.log(Level::Error, &format!("Worker could not be started: {error}"));
                self.places.release(self.board, slot);
                self.events.push_back(Event::SpawnFailed { age });
            }
        }
        Next::Go
    }

    fn be_worker(self, spec: WorkerSpec, stack: Option<OwnedFd>, blocked: Blocked) -> Ended {
        let Self {
            host,
            options,
            memory,
            board,
            pid,
            signals,
            sockets,
            handover,
            wake,
            workers,
            channel,
            ..
        } = self;
        let (teller, hearer) = channel;
        drop((signals, workers, hearer));
        drop(wake.0);
        let wake_arbiter = wake.1;
        let heritage =
            Heritage { options, sockets, handover, wake_arbiter, board, teller, parent: pid, stack };
        let code = birth::live(host, spec, heritage, blocked);
        // Until here, so that the scoreboard can be found through workers as well.
        drop(memory);
        Ended::Child(code)
    }

    /// Starts a companion that there is to be and that does not run.
    fn start_companions(&mut self) -> Next {
        let now_ns = clock::now_ns();
        let options = &self.options;
        let is_wanted = |kind| if kind == Kind::Observer { options.reflex } else { options.offload };
        let due = |one: &&mut Companion| is_wanted(one.kind()) && one.is_due(now_ns);
        if self.is_ending {
            return Next::Go;
        }
        for companion in self.companions.iter_mut().filter(due) {
            // What arrives meanwhile must not be told to the arbiter by a child that still has its handlers.
            let blocked = Blocked::all();
            match self.host.fork_companion(companion.kind()) {
                Ok(Fork::Child) => return Next::Beside(companion.kind(), blocked),
                Ok(Fork::Parent(pid)) => companion.started(pid, now_ns),
                Err(error) => self.host.log(Level::Error, &companion.could_not(&error, now_ns)),
            }
        }
        Next::Go
    }

    fn companion(&self, kind: Kind) -> &Companion {
        &self.companions[kind as usize]
    }

    /// Waits for those who have something to write: with process 1 of a container every other ends at once.
    fn see_off(&mut self) {
        let patience_ns = self.options.plan().graceful_ns;
        // Jobs have as long as requests; another signal to end ends that. That others have ended is told by the same pipe.
        let is_end = |signal: &Signal| [Signal::TERM, Signal::INT, Signal::QUIT].contains(signal);
        if !self.wait_for(Kind::Jobs, patience_ns, Some(&is_end)) {
            self.companion(Kind::Jobs).send(Signal::QUIT);
        }
        for kind in [Kind::Jobs, Kind::Dispatcher, Kind::Observer] {
            self.wait_for(kind, COMPANION_NS, None);
        }
    }

    /// Waits until a companion has ended, for so long at most; false if that is over, or one of these signals has come.
    fn wait_for(&self, kind: Kind, patience_ns: u64, ends: Option<&dyn Fn(&Signal) -> bool>) -> bool {
        let until_ns = clock::now_ns().saturating_add(patience_ns);
        loop {
            let left_ns = until_ns.saturating_sub(clock::now_ns());
            if self.companion(kind).wait(left_ns, ends.map(|_| self.signals.fd())) {
                return true;
            }
            if left_ns == 0 || ends.is_some_and(|ends| self.signals.read().iter().any(ends)) {
                return false;
            }
        }
    }

    /// Is a companion. The observer's signals stay blocked: it ends with the arbiter, and not before.
    fn be_companion(self, kind: Kind, blocked: Blocked) -> Ended {
        let Self { host, options, memory, board, pid, signals, sockets, handover, wake, channel, .. } = self;
        // Or clients would still be accepted when the server has closed them.
        drop((signals, sockets, handover, wake, channel.0));
        let title = |role: &str| {
            // Looks only.
            let _ = proctitle::set(&format!("ferricorn: {role} [{}]", options.proc_name));
        };
        match kind {
            Kind::Observer => {
                std::mem::forget(blocked);
                title("reflex");
                host.observe(Observation { board, hearer: channel.1, parent: pid });
            }
            Kind::Dispatcher => {
                title("dispatcher");
                for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1] {
                    // A terminal's go to everybody; these are the arbiter's.
                    let _ = ignore(signal.as_raw());
                }
                match SignalPipe::install(&[Signal::TERM, Signal::USR2]) {
                    Ok(signals) => {
                        drop(blocked);
                        host.dispatch(Dispatch { signals, board, parent: pid });
                    }
                    Err(error) => host.log(Level::Error, &format!("The dispatcher of jobs: {error}")),
                }
            }
            Kind::Jobs => {
                // It ends with its arbiter, whatever that ends by.
                let _ = set_parent_process_death_signal(Some(Signal::TERM));
                drop(blocked);
                return Ended::Jobs;
            }
        }
        drop(memory);
        Ended::Child(0)
    }

    fn reload(&mut self) {
        notify::reloading();
        let result = self.host.reload();
        if let Ok(options) = &result {
            self.host.reopen_logs();
            if self.sockets.change(options, self.fleet.generation() + 1, self.host) {
                self.host.log(Level::Info, &format!("Listening at: {}", self.sockets));
                self.host.listening(&self.sockets.current());
            }
            self.options.clone_from(options);
            describe(self.board, options);
            self.channel.0.tell(&Told::Leave);
            // The old one ends with the jobs that it has begun, and the workers that it knows.
            self.companions[Kind::Dispatcher as usize].replace();
            let signal = if self.options.offload { Signal::HUP } else { Signal::TERM };
            self.companion(Kind::Jobs).send(signal);
        }
        self.events.push_back(Event::Reloaded(result.map(|options| options.plan())));
    }

    /// Writes the pidfile where the settings want it now.
    fn renew_pidfile(&mut self) {
        let wanted = self.options.pidfile.as_deref();
        if self.pidfile.as_ref().map(Pidfile::path) != wanted {
            self.pidfile.take().into_iter().for_each(Pidfile::remove);
        }
        // Also where it is already: somebody may have removed it.
        match wanted.map(|path| Pidfile::create(path, self.pid)).transpose() {
            Ok(pidfile) => self.pidfile = pidfile,
            Err(error) => self.host.log(Level::Error, &error.to_string()),
        }
    }

    fn show_title(&self) {
        // Looks only.
        let _ = proctitle::set(&format!("ferricorn: master [{}]", self.options.proc_name));
    }
}

/// Makes new memory a scoreboard.
fn inscribe(board: &Scoreboard, pid: i32, target: usize, options: &Options) {
    describe(board, options);
    board.version.store(VERSION, Relaxed);
    board.arbiter_pid.store(pid.unsigned_abs(), Relaxed);
    board.started_ns.store(clock::now_ns(), Relaxed);
    board.workers_target.store(target as u32, Relaxed);
    board.magic.store(MAGIC, Relaxed);
}

/// Says what the settings are, for viewers.
fn describe(board: &Scoreboard, options: &Options) {
    board.name.store(options.proc_name.as_bytes());
    board.release.store(env!("CARGO_PKG_VERSION").as_bytes());
    board.worker_class.store(options.worker_class.as_bytes());
    board.threads.store(u32::try_from(options.threads).unwrap_or(u32::MAX), Relaxed);
    board.timeout_ns.store(options.plan().timeout_ns, Relaxed);
    board.jobs.is_on.store(options.offload.into(), Relaxed);
}

/// What the processes of a server share beside listeners.
struct Descriptors {
    signals: SignalPipe,
    wake: (OwnedFd, OwnedFd),
    handover: (OwnedFd, OwnedFd),
    channel: (Teller, Hearer),
}

/// Catches signals and makes the pipes between arbiter and workers, between workers, and to the observer.
fn open_descriptors<H: Host>(host: &mut H) -> Result<Descriptors, NotOpen> {
    let open = || -> io::Result<_> {
        // Without `daemon`, a window that changes its size is nobody's business, but Gunicorn's log says so.
        let signals = SignalPipe::install(&SIGNALS.map(|(signal, _)| signal))?;
        // A worker that does not listen yet when it is asked must not end by it.
        ignore(STACK)?;
        let wake = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let handover = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Descriptors { signals, wake, handover, channel: channel()? })
    };
    open().map_err(|error| {
        host.log(Level::Error, &format!("The arbiter could not start: {error}"));
        NotOpen::Failed
    })
}

/// Waits a second; tells whether a signal has ended the start meanwhile.
fn asked_to_stop(signals: &SignalPipe) -> bool {
    let until_ns = clock::now_ns() + SECOND_NS;
    loop {
        let left_ns = until_ns.saturating_sub(clock::now_ns());
        if left_ns == 0 {
            return false;
        }
        poll_in(&[signals.fd()], left_ns);
        if signals.read().iter().any(|signal| [Signal::TERM, Signal::INT, Signal::QUIT].contains(signal)) {
            return true;
        }
    }
}

/// Waits until one of these is readable, for so long at most; returns how much longer than that it took.
fn poll_in(fds: &[BorrowedFd<'_>], patience_ns: u64) -> u64 {
    let until_ns = clock::now_ns().saturating_add(patience_ns);
    let mut waiting: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let patience = clock::timespec(patience_ns);
    // Interrupted is as good as woken.
    let _ = poll(&mut waiting, Some(&patience));
    clock::now_ns().saturating_sub(until_ns)
}

fn drain(pipe: &OwnedFd) {
    let mut bytes = [0; 256];
    while matches!(rustix::io::read(pipe, &mut bytes), Ok(count) if count == bytes.len()) {}
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    match status.terminating_signal() {
        Some(signal) => ExitStatus::Signal(signal),
        None => ExitStatus::Code(status.exit_status().unwrap_or(0)),
    }
}
