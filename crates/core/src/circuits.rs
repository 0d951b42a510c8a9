//! Routes that are not served for a while (circuit breakers): the observer opens a circuit, and every worker answers 503 in the
//! application's place until its time is over. A part of the [`crate::scoreboard`], written by one process alone.
//!
//! Not for: which route ([`crate::policy`]), and not for the answer, which is the worker's.

use crate::scoreboard::{self, Text};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// Words of a route's name, and the bytes that go into them.
const NAME_WORDS: usize = 32;
const NAME_MAX: usize = NAME_WORDS * 8;
/// Circuits that may be open at a time.
pub const OPEN_MAX: usize = 8;

/// The circuits that are open.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Circuits {
    /// Odd while something is written.
    serial: AtomicU32,
    reserved: AtomicU32,
    open: [Circuit; OPEN_MAX],
}

/// One of them; free if its time is over.
#[derive(Debug, Default)]
#[repr(C)]
struct Circuit {
    until_ns: AtomicU64,
    /// Method and pattern, `GET /orders/{id}`.
    route: Text<NAME_WORDS>,
}

impl Circuits {
    /// Changes with every change; 0 if there never was one. What is read in every request.
    pub fn serial(&self) -> u32 {
        self.serial.load(Relaxed)
    }

    /// Opens one; false if there is no room for it, or for its name: one that is cut would mean another route.
    pub fn open(&self, route: &str, until_ns: u64, now_ns: u64) -> bool {
        let same = self.open.iter().find(|one| one.route.is(route.as_bytes()));
        let free = || self.open.iter().find(|one| one.until_ns.load(Relaxed) <= now_ns);
        let Some(one) = same.or_else(free).filter(|_| route.len() <= NAME_MAX) else { return false };
        self.write(|| {
            one.route.store(route.as_bytes());
            one.until_ns.store(until_ns, Relaxed);
        });
        true
    }

    /// Closes that of a route; false if it is not open.
    pub fn close(&self, route: &str, now_ns: u64) -> bool {
        let is_it = |one: &&Circuit| one.route.is(route.as_bytes()) && one.until_ns.load(Relaxed) > now_ns;
        let found = self.open.iter().find(is_it);
        if let Some(one) = found {
            self.write(|| one.until_ns.store(0, Relaxed));
        }
        found.is_some()
    }

    /// Closes all of them.
    pub fn close_all(&self, now_ns: u64) {
        if self.open.iter().any(|one| one.until_ns.load(Relaxed) > now_ns) {
            self.write(|| self.open.iter().for_each(|one| one.until_ns.store(0, Relaxed)));
        }
    }

    fn write(&self, change: impl FnOnce()) {
        let serial = scoreboard::open(&self.serial);
        change();
        self.serial.store(serial, Release);
    }

    /// Returns those that are open, with their end, and the serial number of this; none while something is written.
    pub fn read(&self, now_ns: u64) -> Option<(u32, Vec<(String, u64)>)> {
        let serial = self.serial.load(Acquire);
        let until = |one: &Circuit| one.until_ns.load(Relaxed);
        let open =
            self.open.iter().filter(|one| until(one) > now_ns).map(|one| (one.route.load(), until(one)));
        let open: Vec<(String, u64)> = open.collect();
        fence(Acquire);
        (serial.is_multiple_of(2) && self.serial.load(Relaxed) == serial).then_some((serial, open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuits_are_open_until_their_time_is_over_or_they_are_closed() {
        let circuits = Circuits::default();
        assert_eq!(circuits.read(0), Some((0, vec![])));
        assert!(circuits.open("GET /rates", 100, 10) && circuits.open("GET /rates", 200, 20));
        let (serial, open) = circuits.read(50).expect("whole");
        assert_eq!((serial, open), (circuits.serial(), vec![("GET /rates".to_owned(), 200)]));
        assert_eq!(circuits.read(200).expect("whole").1, []);
        assert!(!circuits.close("GET /rates", 200) && circuits.close("GET /rates", 60));
        assert!(circuits.serial() > serial);
        for number in 0..OPEN_MAX {
            assert!(circuits.open(&format!("GET /{number}"), 300, 100));
        }
        assert!(!circuits.open("GET /more", 300, 100) && circuits.open("GET /more", 400, 300));
        assert!(!circuits.open(&"x".repeat(NAME_MAX + 1), 500, 400));
        circuits.close_all(300);
        assert_eq!(circuits.read(0).expect("whole").1, []);
    }
}
