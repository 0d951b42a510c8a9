//! What the observer's loop takes out when it likes: answers, what became of statements that were to end, and lines for the log, which only its own thread may write. A
//! descriptor tells when there is something. Not for: questions.

use super::cancel::Cancelled;
use ferricorn_core::evidence::Database;
use ferricorn_core::log::Level;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most answers that wait; beyond that the oldest is dropped.
pub(super) const ANSWERS_MAX: usize = 64;
/// Most lines that wait.
pub(super) const LINES_MAX: usize = 64;

/// The number of a question, and what was answered.
pub type Answered = (u64, Vec<Database>);

/// Answers and lines on their way.
#[derive(Debug)]
pub(super) struct Outbox {
    bell: OwnedFd,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    answers: VecDeque<Answered>,
    cancelled: VecDeque<(u64, Cancelled)>,
    lines: VecDeque<(Level, String)>,
}

impl Outbox {
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { bell, inside: Mutex::default() })
    }

    pub(super) fn answer(&self, id: u64, databases: Vec<Database>) {
        push(&mut self.lock().answers, (id, databases), ANSWERS_MAX);
        self.ring();
    }

    pub(super) fn cancelled(&self, id: u64, what: Cancelled) {
        push(&mut self.lock().cancelled, (id, what), ANSWERS_MAX);
        self.ring();
    }

    pub(super) fn log(&self, level: Level, text: String) {
        push(&mut self.lock().lines, (level, text), LINES_MAX);
        self.ring();
    }

    pub(super) fn answers(&self) -> Vec<Answered> {
        let mut inside = self.lock();
        let taken = inside.answers.drain(..).collect();
        self.hush(&inside);
        taken
    }

    pub(super) fn all_cancelled(&self) -> Vec<(u64, Cancelled)> {
        let mut inside = self.lock();
        let taken = inside.cancelled.drain(..).collect();
        self.hush(&inside);
        taken
    }

    pub(super) fn lines(&self) -> Vec<(Level, String)> {
        let mut inside = self.lock();
        let taken = inside.lines.drain(..).collect();
        self.hush(&inside);
        taken
    }

    fn ring(&self) {
        // Full means that it rings already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn hush(&self, inside: &Inside) {
        if inside.answers.is_empty() && inside.cancelled.is_empty() && inside.lines.is_empty() {
            // Empty means that it did not ring.
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Queues are as good as before, whoever panicked.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn rings(outbox: &Outbox) -> bool {
        let mut fds = [PollFd::new(outbox, PollFlags::IN)];
        poll(&mut fds, Some(&ferricorn_sys::clock::timespec(0))).expect("polled") == 1
    }

    #[test]
    fn the_bell_rings_while_something_is_inside_and_the_oldest_is_dropped() {
        let outbox = Outbox::new().expect("an eventfd");
        assert!(!rings(&outbox));
        outbox.log(Level::Info, "a line".into());
        for id in 0..=ANSWERS_MAX as u64 {
            outbox.answer(id, Vec::new());
        }
        assert!(rings(&outbox));
        let answers = outbox.answers();
        assert_eq!((answers.len(), answers[0].0), (ANSWERS_MAX, 1));
        assert!(rings(&outbox), "the line is still there");
        assert_eq!(outbox.lines(), [(Level::Info, "a line".to_owned())]);
        assert!(!rings(&outbox) && outbox.lines().is_empty());
        for _ in 0..=LINES_MAX {
            outbox.log(Level::Info, String::new());
        }
        assert_eq!(outbox.lines().len(), LINES_MAX);
    }
}
