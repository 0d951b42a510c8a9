//! A queue with a limit between whoever has something to tell and the thread that sends it. Putting something in never waits: where
//! there is no room, the oldest goes.
//!
//! Not for: sending.

use super::locked;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
    room: usize,
}

#[derive(Debug)]
struct State<T> {
    letters: VecDeque<T>,
    stopped: bool,
}

/// What came of waiting for a letter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    /// One.
    Letter(T),
    /// None came in time.
    Nothing,
    /// None will come any more.
    Stopped,
}

impl<T> Mailbox<T> {
    /// Makes one with room for so many letters.
    pub(crate) fn new(room: usize) -> Self {
        let state = Mutex::new(State { letters: VecDeque::new(), stopped: false });
        Self { state, bell: Condvar::new(), room: room.max(1) }
    }

    /// Puts a letter in, in the place of those that it replaces; returns what had to go for it.
    pub(crate) fn put(&self, letter: T, replaces: impl Fn(&T) -> bool) -> Option<T> {
        let mut state = locked(&self.state);
        state.letters.retain(|waiting| !replaces(waiting));
        let oldest = if state.letters.len() >= self.room { state.letters.pop_front() } else { None };
        state.letters.push_back(letter);
        self.bell.notify_all();
        oldest
    }

    /// Takes the oldest letter; waits for one if there is none.
    pub(crate) fn take(&self, wait: Duration) -> Taken<T> {
        let mut state = self.wait(wait, |state| !state.letters.is_empty());
        match state.letters.pop_front() {
            Some(letter) => Taken::Letter(letter),
            None if state.stopped => Taken::Stopped,
            None => Taken::Nothing,
        }
    }

    /// Waits, unless a letter like that comes or no more will; returns whether the wait was whole.
    pub(crate) fn pause(&self, wait: Duration, until: impl Fn(&T) -> bool) -> bool {
        let state = self.wait(wait, |state| state.letters.iter().any(&until));
        !state.stopped && !state.letters.iter().any(until)
    }

    /// Says that no more letters will come; those that wait are still taken.
    pub(crate) fn stop(&self) {
        locked(&self.state).stopped = true;
        self.bell.notify_all();
    }

    fn wait(
        &self,
        wait: Duration,
        is_enough: impl Fn(&State<T>) -> bool,
    ) -> std::sync::MutexGuard<'_, State<T>> {
        let end = Instant::now() + wait;
        let mut state = locked(&self.state);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if state.stopped || is_enough(&state) || left.is_zero() {
                return state;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_oldest_goes_where_there_is_no_room() {
        let mailbox = Mailbox::new(2);
        let lost: Vec<Option<u32>> = [1, 2, 3].map(|letter| mailbox.put(letter, |_| false)).into();
        assert_eq!(lost, [None, None, Some(1)]);
        assert_eq!(mailbox.put(4, |waiting| *waiting == 2), None);
        mailbox.stop();
        let taken: Vec<Taken<u32>> = (0..3).map(|_| mailbox.take(LONG)).collect();
        assert_eq!(taken, [Taken::Letter(3), Taken::Letter(4), Taken::Stopped]);
    }

    #[test]
    fn waiting_ends_with_time_a_letter_or_the_end() {
        let mailbox = Mailbox::<u32>::new(2);
        assert_eq!(mailbox.take(NOW), Taken::Nothing);
        assert!(mailbox.pause(NOW, |_| true));
        std::thread::scope(|scope| {
            scope.spawn(|| mailbox.put(7, |_| false));
            assert!(!mailbox.pause(LONG, |letter| *letter == 7));
        });
        assert!(mailbox.pause(NOW, |letter| *letter == 8));
        std::thread::scope(|scope| {
            scope.spawn(|| mailbox.stop());
            assert!(!mailbox.pause(LONG, |letter| *letter == 8));
        });
    }
}
