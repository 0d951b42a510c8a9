//! What the observer has last seen, for everybody in its process who shows or sends it. The observer publishes, others read;
//! who wants newer numbers than there are asks, and the observer, woken, publishes again.
//!
//! Not for: looking at a server, and not for keeping anything but the newest.

use super::figures::{Counts, Fate, Figures};
use super::locked;
use ferricorn_core::change::{Change, Mark, Standing};
use ferricorn_core::incident::Incident;
use ferricorn_core::log::Level;
use ferricorn_core::snapshot::Snapshot;
use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Most lines for the log that wait; more are lost.
const LINES_MAX: usize = 64;
/// Most marks that wait for the observer; more are refused.
pub(crate) const MARKS_MAX: usize = 64;
/// A snapshot that is no older counts as of now: many who ask at once share one.
const FRESH: Duration = Duration::from_millis(50);
/// How long somebody who wants a fresh snapshot waits for it. The observer may be reading a stack, and then the last one must do.
const FRESH_WAIT: Duration = Duration::from_millis(500);
/// An older snapshot is not shown as the server's state: whoever has published it does so no more.
pub(crate) const STALE: Duration = Duration::from_secs(10);

/// What the observer has last seen.
#[derive(Clone, Debug)]
pub struct Published {
    /// The server.
    pub snapshot: Arc<Snapshot>,
    /// Its incidents, those that are over as well, as many as are kept.
    pub incidents: Arc<Vec<Incident>>,
    /// When it was published.
    pub at: Instant,
}

/// The place where the observer publishes.
#[derive(Debug)]
pub struct Shared {
    published: watch::Sender<Option<Published>>,
    wanted: AtomicBool,
    bell: OwnedFd,
    counts: Counts,
    lines: Mutex<VecDeque<(Level, String)>>,
    changes: Mutex<Arc<Changes>>,
    marks: Mutex<VecDeque<(Mark, oneshot::Sender<bool>)>>,
}

/// What has changed about the service, the newest first, and what its workers run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// Changes.
    pub changes: Vec<Change>,
    /// What the workers run.
    pub standing: Arc<Standing>,
}

impl Shared {
    /// Makes an empty place.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            published: watch::Sender::new(None),
            wanted: AtomicBool::new(false),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            counts: Counts::begin(),
            lines: Mutex::new(VecDeque::new()),
            changes: Mutex::default(),
            marks: Mutex::default(),
        }))
    }

    /// Replaces what was seen before. For the observer: at least once a second, and when [`Self::wanted`] says so.
    pub fn publish(&self, snapshot: Arc<Snapshot>, incidents: Vec<Incident>) {
        let published = Published { snapshot, incidents: Arc::new(incidents), at: Instant::now() };
        self.published.send_replace(Some(published));
    }

    /// Counts that the observer has looked at the server.
    pub fn tick(&self) {
        self.counts.tick();
    }

    /// Tells whether somebody waits for a fresh snapshot, and forgets it. For the observer, when [`Self::as_fd`] is readable or at
    /// each look.
    pub fn wanted(&self) -> bool {
        let mut count = [0; 8];
        // Nothing to read is as good as a number.
        let _ = rustix::io::read(&self.bell, &mut count);
        self.wanted.swap(false, SeqCst)
    }

    /// Takes the lines that are to be written to the log. For the observer, at each look: its log belongs to its main thread.
    pub fn lines(&self) -> Vec<(Level, String)> {
        locked(&self.lines).drain(..).collect()
    }

    /// Returns what was last published, however old.
    pub fn latest(&self) -> Option<Published> {
        self.published.borrow().clone()
    }

    /// Returns what the observer says of itself.
    pub fn figures(&self) -> Figures {
        self.counts.read()
    }

    /// Returns what the observer sees now, or what it saw last if it does not answer. None if that is [`STALE`].
    pub(crate) async fn fresh(&self) -> Option<Published> {
        let asked = Instant::now();
        let mut published = self.published.subscribe();
        let is_fresh = |published: &Option<Published>| {
            published.as_ref().is_some_and(|published| published.at + FRESH >= asked)
        };
        if !is_fresh(&published.borrow_and_update()) {
            self.ask();
            // In time or not: what is there then is the newest.
            let _ = tokio::time::timeout(FRESH_WAIT, published.wait_for(is_fresh)).await;
        }
        self.latest().filter(|published| published.at.elapsed() < STALE)
    }

    /// Replaces what is known of changes. For the observer.
    pub(crate) fn show_changes(&self, changes: Vec<Change>, standing: Arc<Standing>) {
        *locked(&self.changes) = Arc::new(Changes { changes, standing });
    }

    /// Returns what is known of changes.
    pub fn changes(&self) -> Arc<Changes> {
        locked(&self.changes).clone()
    }

    /// Takes what somebody has marked; none if too many wait. The answer tells whether it was taken in, and kept.
    pub(crate) fn mark(&self, mark: Mark) -> Option<oneshot::Receiver<bool>> {
        let mut marks = locked(&self.marks);
        if marks.len() >= MARKS_MAX {
            return None;
        }
        let (done, heard) = oneshot::channel();
        marks.push_back((mark, done));
        drop(marks);
        self.ask();
        Some(heard)
    }

    /// Returns the marks that have come, each with whom to tell that it is kept. For the observer, at each look.
    pub(crate) fn marks(&self) -> Vec<(Mark, oneshot::Sender<bool>)> {
        locked(&self.marks).drain(..).collect()
    }

    fn ask(&self) {
        if !self.wanted.swap(true, SeqCst) {
            // It can only be full after 2^64 of these, and then it is readable as well.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    pub(crate) fn count(&self, receiver: &'static str, fate: Fate) {
        self.counts.count(receiver, fate);
    }

    pub(crate) fn say(&self, level: Level, line: String) {
        let mut lines = locked(&self.lines);
        if lines.len() < LINES_MAX {
            lines.push_back((level, line));
        }
    }
}

/// Readable while somebody waits for a fresh snapshot.
impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn block<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(future)
    }

    fn at(at_s: f64) -> Arc<Snapshot> {
        Arc::new(Snapshot { at_s, ..Snapshot::default() })
    }

    #[test]
    fn who_asks_gets_what_is_seen_then() {
        let shared = Shared::new().expect("a place");
        assert!(shared.latest().is_none() && !shared.wanted());
        let observer = {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let mut fds = [PollFd::new(&*shared, PollFlags::IN)];
                let woken = poll(&mut fds, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).expect("polled");
                assert!(woken == 1 && shared.wanted());
                shared.publish(at(2.0), Vec::new());
            })
        };
        let fresh = block(shared.fresh()).expect("fresh");
        observer.join().expect("woken");
        assert_eq!(fresh.snapshot.at_s, 2.0);
        // It is of now, so that nobody is asked again.
        assert_eq!(block(shared.fresh()).expect("still fresh").snapshot.at_s, 2.0);
        assert!(!shared.wanted());
    }

    #[test]
    fn an_observer_that_does_not_answer_holds_nobody_up() {
        let shared = Shared::new().expect("a place");
        assert!(block(shared.fresh()).is_none());
        assert!(shared.wanted());
    }

    #[test]
    fn lines_wait_within_bounds() {
        let shared = Shared::new().expect("a place");
        (0..LINES_MAX + 5).for_each(|number| shared.say(Level::Info, number.to_string()));
        assert_eq!(shared.lines().len(), LINES_MAX);
        assert_eq!(shared.lines(), []);
    }
}
