//! Who answers a request. The app thread that has its response, or the keeper of the loop at the deadline: one word of
//! shared memory per connection decides, so that the client gets one answer, whatever happens at the same moment.
//!
//! Not for: the answers.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// What a connection is owed. The word: low half of the request's number, then how far its answer is (32 bits each).
#[repr(C)]
#[derive(Debug)]
pub struct Client {
    word: AtomicU64,
}

/// What was found when a request's time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing has been answered; from now on nobody else does.
    Answer,
    /// The response has begun: it can only be cut.
    Cut,
    /// It is answered, or another request has its place.
    Over,
}

impl Client {
    const UNUSED: u64 = 0;
    const IDLE: u64 = 1;
    const OWED: u64 = 2;
    const BEGUN: u64 = 3;
    const TIMED_OUT: u64 = 4;

    fn word(id: u64, state: u64) -> u64 {
        id << 32 | state
    }

    pub(crate) fn was_used(&self) -> bool {
        self.word.load(Relaxed) != Self::UNUSED
    }

    /// Says that nothing is owed here.
    pub fn clear(&self) {
        self.word.store(Self::IDLE, Relaxed);
    }

    /// Says that request `id` waits for its response; `begun` if it cannot be answered by anybody else, because bytes
    /// of an earlier response are still to be sent.
    pub fn owe(&self, id: u64, begun: bool) {
        self.word.store(Self::word(id, if begun { Self::BEGUN } else { Self::OWED }), Release);
    }

    /// Claims the answer to request `id` for the application. False if somebody else has answered.
    pub fn begin(&self, id: u64) -> bool {
        let (owed, begun) = (Self::word(id, Self::OWED), Self::word(id, Self::BEGUN));
        match self.word.compare_exchange(owed, begun, AcqRel, Acquire) {
            Ok(_) => true,
            Err(word) => word == begun,
        }
    }

    /// Tells whether the application still may answer request `id`.
    pub fn is_open(&self, id: u64) -> bool {
        let word = self.word.load(Acquire);
        word == Self::word(id, Self::OWED) || word == Self::word(id, Self::BEGUN)
    }

    /// Claims the answer to request `id`, whose time is over.
    pub fn time_out(&self, id: u64) -> Claim {
        let late = Self::word(id, Self::TIMED_OUT);
        match self.word.compare_exchange(Self::word(id, Self::OWED), late, AcqRel, Acquire) {
            Ok(_) => Claim::Answer,
            Err(word) if word == Self::word(id, Self::BEGUN) => {
                self.word.store(late, Release);
                Claim::Cut
            }
            Err(_) => Claim::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn client() -> Client {
        Client { word: AtomicU64::new(0) }
    }

    #[test]
    fn the_first_to_claim_answers() {
        let client = client();
        client.owe(1, false);
        assert!(client.begin(1) && client.begin(1), "a response in several pieces");
        assert_eq!(client.time_out(1), Claim::Cut);
        assert!(!client.begin(1) && !client.is_open(1));
        client.owe(2, false);
        assert_eq!(client.time_out(2), Claim::Answer);
        assert!(!client.begin(2));
        assert_eq!(client.time_out(2), Claim::Over);
    }

    #[test]
    fn a_late_thread_finds_that_the_place_is_another_s() {
        let client = client();
        client.owe(1, false);
        client.time_out(1);
        client.clear();
        assert!(!client.begin(1) && !client.is_open(1));
        client.owe(2, false);
        assert!(!client.begin(1) && !client.is_open(1));
        assert_eq!(client.time_out(1), Claim::Over);
        assert!(client.is_open(2));
    }

    #[test]
    fn behind_an_unsent_response_there_is_only_the_cut() {
        let client = client();
        client.owe(3, true);
        assert_eq!(client.time_out(3), Claim::Cut);
    }

    #[test]
    fn of_two_at_once_one_wins() {
        let (client, won) = (client(), AtomicUsize::new(0));
        for id in 1..2000 {
            client.owe(id, false);
            std::thread::scope(|scope| {
                scope.spawn(|| won.fetch_add(usize::from(client.begin(id)), Relaxed));
                // Cut: the other had begun, and has won.
                won.fetch_add(usize::from(client.time_out(id) == Claim::Answer), Relaxed);
            });
            assert_eq!(won.swap(0, Relaxed), 1);
        }
    }
}
