//! Who answers a request: the app thread that has its response, the keeper of the loop at the deadline, or the guardian of
//! a worker that is dead or stopped. One word of shared memory per connection decides, so that the client gets one answer,
//! whatever happens at the same moment.
//!
//! Not for: the answers.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// What a connection is owed.
#[repr(C)]
#[derive(Debug)]
pub struct Client {
    word: AtomicU64,
}

/// How far the answer to a connection's request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of a request has been read.
    Idle,
    /// A part of a request has been read.
    Partial,
    /// A complete request waits for its answer.
    Owed,
    /// Its answer has begun.
    Begun,
    /// It was answered in the application's place.
    TimedOut,
}

/// What is known of a connection beside its standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Descriptor of its socket.
    pub fd: u32,
    /// Number of the listener it came in by.
    pub listener: u8,
    /// How its client reads a page of ours best, as a number of the worker's.
    pub form: u8,
    /// Its request is HEAD.
    pub head_only: bool,
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

/// The word from its low end: standing (4 bits), HEAD (1), form (2), listener (5), descriptor (20), number of the request
/// (32).
mod bits {
    pub(super) const STANDING: u64 = 0xf;
    pub(super) const HEAD: u64 = 1 << 4;
    pub(super) const FORM: u32 = 5;
    pub(super) const LISTENER: u32 = 7;
    pub(super) const FD: u32 = 12;
    pub(super) const FD_MAX: u32 = (1 << 20) - 1;
    pub(super) const ID: u32 = 32;
    /// Nobody has ever been here.
    pub(super) const UNUSED: u64 = 0;
    /// Nobody is here.
    pub(super) const CLOSED: u64 = 1;
    pub(super) const IDLE: u64 = 2;
    pub(super) const PARTIAL: u64 = 3;
    pub(super) const OWED: u64 = 4;
    pub(super) const BEGUN: u64 = 5;
    pub(super) const TIMED_OUT: u64 = 6;
}

impl Marks {
    fn word(self, id: u64, standing: u64) -> u64 {
        let head = if self.head_only { bits::HEAD } else { 0 };
        id << bits::ID
            | u64::from(self.fd.min(bits::FD_MAX)) << bits::FD
            | u64::from(self.listener & 0x1f) << bits::LISTENER
            | u64::from(self.form & 3) << bits::FORM
            | head
            | standing
    }
}

impl Client {
    /// Tells whether anybody has ever been here.
    pub fn is_used(&self) -> bool {
        self.word.load(Relaxed) != bits::UNUSED
    }

    /// Says that nobody is here. Before the socket is closed: its number may then be anything's.
    pub fn close(&self) {
        self.word.store(bits::CLOSED, Release);
    }

    /// Says how a connection stands. `Owed` and `Begun` are about request `id`.
    pub fn set(&self, standing: Standing, id: u64, marks: Marks) {
        let standing = match standing {
            Standing::Idle => bits::IDLE,
            Standing::Partial => bits::PARTIAL,
            Standing::Owed => bits::OWED,
            Standing::Begun => bits::BEGUN,
            Standing::TimedOut => bits::TIMED_OUT,
        };
        self.word.store(marks.word(id, standing), Release);
    }

    /// Returns how the connection stands; `None` if nobody is here. The descriptor is missing if it is too large a number.
    pub fn read(&self) -> Option<(Standing, u64, Marks)> {
        let word = self.word.load(Acquire);
        let standing = match word & bits::STANDING {
            bits::IDLE => Standing::Idle,
            bits::PARTIAL => Standing::Partial,
            bits::OWED => Standing::Owed,
            bits::BEGUN => Standing::Begun,
            bits::TIMED_OUT => Standing::TimedOut,
            _ => return None,
        };
        let fd = (word >> bits::FD) as u32 & bits::FD_MAX;
        let marks = Marks {
            fd,
            listener: (word >> bits::LISTENER) as u8 & 0x1f,
            form: (word >> bits::FORM) as u8 & 3,
            head_only: word & bits::HEAD != 0,
        };
        (fd < bits::FD_MAX).then_some((standing, word >> bits::ID, marks))
    }

    /// Claims the answer to request `id` for the application. False if somebody else has answered.
    pub fn begin(&self, id: u64) -> bool {
        match self.move_on(id, bits::OWED, bits::BEGUN) {
            Ok(()) => true,
            Err(standing) => standing == Some(bits::BEGUN),
        }
    }

    /// Tells whether request `id` is the application's: to answer, or answered by it.
    pub fn is_open(&self, id: u64) -> bool {
        matches!(standing_of(self.word.load(Acquire), id), Some(bits::OWED | bits::BEGUN | bits::IDLE))
    }

    /// Claims the answer to request `id`, whose time is over.
    pub fn time_out(&self, id: u64) -> Claim {
        if self.move_on(id, bits::OWED, bits::TIMED_OUT).is_ok() {
            Claim::Answer
        } else if self.move_on(id, bits::BEGUN, bits::TIMED_OUT).is_ok() {
            Claim::Cut
        } else {
            Claim::Over
        }
    }

    /// Changes the standing of request `id`; returns what stands there instead if that is not `from`.
    fn move_on(&self, id: u64, from: u64, to: u64) -> Result<(), Option<u64>> {
        let mut word = self.word.load(Acquire);
        loop {
            let standing = standing_of(word, id);
            if standing != Some(from) {
                return Err(standing);
            }
            let next = word & !bits::STANDING | to;
            match self.word.compare_exchange_weak(word, next, AcqRel, Acquire) {
                Ok(_) => return Ok(()),
                Err(other) => word = other,
            }
        }
    }
}

/// How request `id` stands in a word; `None` if the word is about another.
fn standing_of(word: u64, id: u64) -> Option<u64> {
    (word >> bits::ID == id & 0xffff_ffff).then_some(word & bits::STANDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const MARKS: Marks = Marks { fd: 77, listener: 3, form: 2, head_only: true };

    fn client() -> Client {
        Client { word: AtomicU64::new(0) }
    }

    impl Client {
        fn owe(&self, id: u64) {
            self.set(Standing::Owed, id, MARKS);
        }
    }

    #[test]
    fn a_connection_reads_back_as_written() {
        let client = client();
        assert!(!client.is_used() && client.read().is_none());
        for standing in
            [Standing::Idle, Standing::Partial, Standing::Owed, Standing::Begun, Standing::TimedOut]
        {
            client.set(standing, 9, MARKS);
            assert_eq!(client.read(), Some((standing, 9, MARKS)));
        }
        client.set(Standing::Owed, 9, Marks { fd: u32::MAX, ..MARKS });
        assert_eq!(client.read(), None, "a descriptor that does not fit is none");
        assert!(client.begin(9));
        client.close();
        assert!(client.is_used() && client.read().is_none());
    }

    #[test]
    fn the_first_to_claim_answers() {
        let client = client();
        client.owe(1);
        assert!(client.begin(1) && client.begin(1), "a response in several pieces");
        assert_eq!(client.time_out(1), Claim::Cut);
        assert!(!client.begin(1) && !client.is_open(1));
        client.owe(2);
        assert_eq!(client.time_out(2), Claim::Answer);
        assert!(!client.begin(2));
        assert_eq!(client.time_out(2), Claim::Over);
    }

    #[test]
    fn an_answer_that_is_complete_cannot_be_cut() {
        let client = client();
        client.owe(1);
        assert!(client.begin(1));
        client.set(Standing::Idle, 1, MARKS);
        assert!(client.is_open(1));
        assert_eq!(client.time_out(1), Claim::Over);
    }

    #[test]
    fn a_late_thread_finds_that_the_place_is_another_s() {
        let client = client();
        client.owe(1);
        client.time_out(1);
        client.close();
        assert!(!client.begin(1) && !client.is_open(1));
        client.owe(2);
        assert!(!client.begin(1) && !client.is_open(1));
        assert_eq!(client.time_out(1), Claim::Over);
        assert!(client.is_open(2));
    }

    #[test]
    fn behind_an_unsent_response_there_is_only_the_cut() {
        let client = client();
        client.set(Standing::Begun, 3, MARKS);
        assert_eq!(client.time_out(3), Claim::Cut);
    }

    #[test]
    fn of_two_at_once_one_wins() {
        let (client, won) = (client(), AtomicUsize::new(0));
        for id in 1..2000 {
            client.owe(id);
            std::thread::scope(|scope| {
                scope.spawn(|| won.fetch_add(usize::from(client.begin(id)), Relaxed));
                // Cut: the other had begun, and has won.
                won.fetch_add(usize::from(client.time_out(id) == Claim::Answer), Relaxed);
            });
            assert_eq!(won.swap(0, Relaxed), 1);
        }
    }
}
