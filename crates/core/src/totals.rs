//! What workers count up: requests, answers, bytes, takeovers. The counters of a slot outlive its workers, so that their sum over
//! all slots never goes down, which is what a counter in metrics must not do.
//!
//! Not for: durations ([`crate::latency`]), and not for numbers of the moment ([`crate::sums`]).

use serde::{Deserialize, Serialize};
use std::iter::Sum;

/// Numbers of [`Totals`].
pub const COUNTERS: usize = 13;

/// What one worker has counted, or all of a server's since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests completed.
    pub requests: u64,
    /// Responses by class 1xx to 5xx.
    pub statuses: [u64; 5],
    /// Requests refused before the application.
    pub refused: u64,
    /// Requests refused for want of room.
    pub shed: u64,
    /// Requests answered 504 at their deadline, or cut.
    pub timed_out: u64,
    /// Bytes of responses.
    pub bytes_sent: u64,
    /// Times the loop was taken over.
    pub takeovers: u64,
    /// Connections given to siblings.
    pub handed_over: u64,
    /// Connections taken from siblings.
    pub taken_in: u64,
}

impl Totals {
    /// Returns these numbers, in the order of the fields.
    pub fn of(numbers: [u64; COUNTERS]) -> Self {
        let [requests, one, two, three, four, five, refused, shed, timed_out, bytes_sent, rest @ ..] =
            numbers;
        let [takeovers, handed_over, taken_in] = rest;
        Self {
            requests,
            statuses: [one, two, three, four, five],
            refused,
            shed,
            timed_out,
            bytes_sent,
            takeovers,
            handed_over,
            taken_in,
        }
    }

    fn numbers(&self) -> [u64; COUNTERS] {
        let [one, two, three, four, five] = self.statuses;
        [
            self.requests,
            one,
            two,
            three,
            four,
            five,
            self.refused,
            self.shed,
            self.timed_out,
            self.bytes_sent,
            self.takeovers,
            self.handed_over,
            self.taken_in,
        ]
    }

    /// Returns what has been counted since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let (now, before) = (self.numbers(), earlier.numbers());
        Self::of(std::array::from_fn(|at| now[at].saturating_sub(before[at])))
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| {
            let (sum, one) = (sum.numbers(), one.numbers());
            Self::of(std::array::from_fn(|at| sum[at].saturating_add(one[at])))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_keeps_its_place() {
        let one = Totals::of(std::array::from_fn(|at| at as u64 + 1));
        assert_eq!((one.requests, one.statuses, one.refused, one.taken_in), (1, [2, 3, 4, 5, 6], 7, 13));
        assert_eq!(Totals::of(one.numbers()), one);
        let twice: Totals = [one, one].into_iter().sum();
        assert_eq!(twice.since(&one), one);
        assert_eq!(one.since(&twice), Totals::default());
    }
}
