//! Where a finished request is counted: the cell of its route, method and kind of answer. What a framework has named is
//! found by number, what only has a path by a hash of it; both are remembered, so that a path is taken apart once.
//!
//! Not for: which requests a setting speaks of ([`crate::route`]), and not for reading the numbers (`core::snapshot`).

use crate::conn::Conn;
use crate::outcome::Outcome;
use ferricorn_core::latency::{Class, Key};
use ferricorn_core::route::{OTHER, Paths, UNMATCHED};
use ferricorn_core::scoreboard::WorkerSlot;
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Mutex, PoisonError};

/// Most routes that frameworks can name in one process; what comes later is known by its path.
const NAMES_MAX: usize = 2048;
/// Paths whose cells are remembered: a power of two. One that is forgotten is taken apart again.
const PATHS_KNOWN: usize = 512;
/// The methods that are told apart (RFC 9110 section 9, RFC 5789).
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
const KINDS: usize = Class::ALL.len();
const UNKNOWN: u16 = u16::MAX;
const NOT_FOUND: u16 = 404;
const NOT_ALLOWED: u16 = 405;

/// A route that a framework has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteId(NonZeroU16);

/// The names of this process.
static NAMES: Mutex<Option<Names>> = Mutex::new(None);

#[derive(Default)]
struct Names {
    ids: HashMap<String, RouteId>,
    names: Vec<String>,
}

impl RouteId {
    /// Returns the number of a name; `None` if there are too many.
    pub fn of(name: &str) -> Option<Self> {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.get_or_insert_default();
        if let Some(id) = names.ids.get(name) {
            return Some(*id);
        }
        let next =
            u16::try_from(names.names.len() + 1).ok().filter(|next| usize::from(*next) <= NAMES_MAX)?;
        let id = Self(NonZeroU16::new(next)?);
        names.ids.insert(name.to_owned(), id);
        names.names.push(name.to_owned());
        Some(id)
    }

    fn name(self) -> String {
        let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.as_ref().map_or(&[][..], |names| &names.names);
        names.get(usize::from(self.0.get()) - 1).cloned().unwrap_or_default()
    }

    fn index(self) -> usize {
        usize::from(self.0.get())
    }
}

/// The part of a loop's state that knows cells.
pub(crate) struct Tally {
    slot: &'static WorkerSlot,
    paths: Paths,
    /// By route (0 is [`UNMATCHED`]), method and kind.
    named: Vec<u16>,
    /// By the hash of path, method and kind.
    known: Box<[(u64, u16); PATHS_KNOWN]>,
}

impl Tally {
    pub(crate) fn new(slot: &'static WorkerSlot) -> Self {
        let known = Box::new([(0, UNKNOWN); PATHS_KNOWN]);
        Self { slot, paths: Paths::default(), named: Vec::new(), known }
    }

    /// Returns the cell of a request that is over.
    pub(crate) fn cell(&mut self, conn: &Conn) -> usize {
        let status = conn.response.status;
        let class = match conn.outcome {
            Outcome::TimedOut | Outcome::Cut => Class::Lost,
            _ => Class::of(status),
        };
        let method = conn.head.method();
        let number = METHODS.iter().position(|known| known.as_bytes() == method).unwrap_or(METHODS.len());
        match (conn.route, status) {
            (Some(route), _) => self.by_number(route.index(), Some(route), number, class),
            (None, NOT_FOUND | NOT_ALLOWED) => self.by_number(0, None, number, class),
            (None, _) => self.by_path(conn.head.get(&conn.head.path), number, class),
        }
    }

    fn by_number(&mut self, index: usize, route: Option<RouteId>, method: usize, class: Class) -> usize {
        let at = (index * (METHODS.len() + 1) + method) * KINDS + class as usize;
        if let Some(cell) = self.named.get(at).filter(|cell| **cell != UNKNOWN) {
            return usize::from(*cell);
        }
        let name = route.map_or_else(|| UNMATCHED.to_owned(), RouteId::name);
        let cell = self.claim(name, route.is_some(), method, class);
        if self.named.len() <= at {
            self.named.resize(at + 1, UNKNOWN);
        }
        self.named[at] = cell;
        usize::from(cell)
    }

    fn by_path(&mut self, path: &[u8], method: usize, class: Class) -> usize {
        let hash = hash(path, (method * KINDS + class as usize) as u64);
        let at = (hash >> 32) as usize % PATHS_KNOWN;
        let (known, cell) = self.known[at];
        if known == hash && cell != UNKNOWN {
            return usize::from(cell);
        }
        let route = self.paths.route(&String::from_utf8_lossy(path));
        let cell = self.claim(route, false, method, class);
        self.known[at] = (hash, cell);
        usize::from(cell)
    }

    fn claim(&self, route: String, named: bool, method: usize, class: Class) -> u16 {
        let method = METHODS.get(method).copied().unwrap_or(OTHER).to_owned();
        self.slot.routes.claim(&Key { route, named, method, class }) as u16
    }
}

/// A hash of eight bytes at a time. Two paths with the same are counted as one, which somebody may bring about: it
/// costs them nothing and gains them nothing.
fn hash(path: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let (words, rest) = path.as_chunks::<8>();
    let mut hash = mix(seed.wrapping_add(FACTOR), path.len() as u64);
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = mix(hash, u64::from_le_bytes(last));
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_numbers_up_to_a_limit() {
        let id = RouteId::of("/reports/<int:number>").expect("room");
        assert_eq!(RouteId::of("/reports/<int:number>"), Some(id));
        assert_eq!(id.name(), "/reports/<int:number>");
        let ids: Vec<Option<RouteId>> =
            (0..NAMES_MAX).map(|number| RouteId::of(&format!("/{number}"))).collect();
        assert_eq!(ids.last(), Some(&None));
        assert_eq!(RouteId::of("/reports/<int:number>"), Some(id), "who has one keeps it");
    }

    #[test]
    fn hashes_tell_paths_apart() {
        let paths = ["", "/", "/a", "/b", "/ab", "/aaaaaaaa", "/aaaaaaab", "/aaaaaaaaa"];
        let mut hashes: Vec<u64> =
            paths.iter().flat_map(|path| [hash(path.as_bytes(), 0), hash(path.as_bytes(), 1)]).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 2 * paths.len());
    }
}
