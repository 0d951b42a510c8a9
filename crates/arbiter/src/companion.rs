//! Processes beside the workers that the arbiter keeps running: whether each runs, and when it is started again. Not for: starting
//! them, and not for what they do.

use ferricorn_sys::clock;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use std::os::fd::BorrowedFd;

const SECOND_NS: u64 = 1_000_000_000;
/// One that ends sooner after its start has failed.
const EARLY_NS: u64 = 10 * SECOND_NS;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Looks at slow requests and dead workers.
    Observer,
    /// Keeps requests that are worked on later, and has them begun.
    Dispatcher,
    /// A server of the same application that works on those alone.
    Jobs,
}

impl Kind {
    /// Every one, in the order in which they are started.
    pub(crate) const ALL: [Self; 3] = [Self::Observer, Self::Dispatcher, Self::Jobs];

    fn name(self) -> &'static str {
        match self {
            Self::Observer => "observer",
            Self::Dispatcher => "dispatcher of jobs",
            Self::Jobs => "server of jobs",
        }
    }

    /// The shortest and the longest pause between two starts: requests do not wait for an observer, and they do for the others.
    fn pauses_ns(self) -> (u64, u64) {
        match self {
            Self::Observer => (SECOND_NS, 60 * SECOND_NS),
            Self::Dispatcher | Self::Jobs => (SECOND_NS / 10, 2 * SECOND_NS),
        }
    }

    /// What its end means for others.
    fn consequence(self) -> &'static str {
        match self {
            Self::Observer => "requests did not notice",
            Self::Dispatcher => "no job is lost",
            Self::Jobs => "jobs that ran are begun again or given up, as they may be",
        }
    }
}

/// One of them as the arbiter knows it.
#[derive(Debug)]
pub(crate) struct Companion {
    kind: Kind,
    pid: Option<i32>,
    /// Those that were told to end and that another has taken the place of.
    former: Vec<i32>,
    started_ns: u64,
    not_before_ns: u64,
    pause_ns: u64,
}

impl Companion {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, pid: None, former: Vec::new(), started_ns: 0, not_before_ns: 0, pause_ns: 0 }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Tells whether it is to be started, if there is to be one.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.pid.is_none() && now_ns >= self.not_before_ns
    }

    pub(crate) fn started(&mut self, pid: i32, now_ns: u64) {
        self.pid = Some(pid);
        self.started_ns = now_ns;
    }

    /// It could not be started: returns what is to be said.
    pub(crate) fn could_not(&mut self, error: &std::io::Error, now_ns: u64) -> String {
        self.failed(now_ns);
        format!("The {} could not be started: {error}", self.kind.name())
    }

    /// The next attempt waits, longer each time.
    fn failed(&mut self, now_ns: u64) {
        let (least_ns, most_ns) = self.kind.pauses_ns();
        self.pause_ns = (self.pause_ns * 2).clamp(least_ns, most_ns);
        self.not_before_ns = now_ns + self.pause_ns;
    }

    /// Sends it a signal, if it runs.
    pub(crate) fn send(&self, signal: Signal) {
        if let Some(pid) = self.pid.and_then(Pid::from_raw) {
            // Not reaped yet: its pid is nobody else's.
            let _ = kill_process(pid, signal);
        }
    }

    /// Tells it to end when it has done what it is at; another takes its place now.
    pub(crate) fn replace(&mut self) {
        self.send(Signal::USR2);
        self.former.extend(self.pid.take());
    }

    /// Waits until it has ended (true), for so long at most, or until a signal comes or `woken` is readable.
    pub(crate) fn wait(&self, patience_ns: u64, woken: Option<BorrowedFd<'_>>) -> bool {
        let pid = self.pid.and_then(Pid::from_raw);
        let Some(fd) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return true };
        let mut fds = vec![PollFd::new(&fd, PollFlags::IN)];
        fds.extend(woken.map(|woken| PollFd::from_borrowed_fd(woken, PollFlags::IN)));
        // Interrupted is as good as woken.
        let _ = poll(&mut fds, Some(&clock::timespec(patience_ns)));
        !fds[0].revents().is_empty()
    }

    /// Notices that it has ended; returns what is to be said of that.
    pub(crate) fn reap(&mut self, now_ns: u64) -> Option<String> {
        self.former.retain(|pid| matches!(waitpid(Pid::from_raw(*pid), WaitOptions::NOHANG), Ok(None)));
        let pid = self.pid?;
        let ended = match waitpid(Pid::from_raw(pid), WaitOptions::NOHANG) {
            Ok(None) => return None,
            Ok(Some((_, status))) => status.exit_status() == Some(0),
            // Somebody else has reaped it.
            Err(_) => false,
        };
        self.pid = None;
        // It was told to leave.
        if ended {
            return None;
        }
        if now_ns.saturating_sub(self.started_ns) < EARLY_NS {
            self.failed(now_ns);
        } else {
            self.pause_ns = 0;
        }
        let (name, consequence) = (self.kind.name(), self.kind.consequence());
        Some(format!("The {name} (pid:{pid}) has ended and is started again; {consequence}"))
    }
}
