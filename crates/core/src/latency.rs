//! Durations per route, method and kind of answer, in shared memory: how long requests stood in line, were in the
//! application, and took to be sent. One writer per worker, like its other histograms. A place is a worker's slot, not its
//! process: who comes next goes on counting, so that the sum over all slots only ever grows.
//!
//! Not for: choosing a route's name ([`crate::route`]), nor for what a change of these numbers means.

use crate::histogram::{Distribution, Histogram};
use crate::scoreboard::Text;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// Routes of one worker that have numbers of their own, times methods and kinds of answer.
pub const CELLS: usize = 512;
/// Of these, how many stand ready for what has no room: one for each kind of answer.
const SPARE: usize = Class::ALL.len();

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u32)]
pub enum Class {
    /// 1xx: what has become another protocol.
    #[serde(rename = "1xx")]
    Informational = 0,
    /// 2xx.
    #[serde(rename = "2xx")]
    Success = 1,
    /// 3xx.
    #[serde(rename = "3xx")]
    Redirection = 2,
    /// 4xx.
    #[serde(rename = "4xx")]
    ClientError = 3,
    /// 5xx of the application, or for want of room.
    #[serde(rename = "5xx")]
    ServerError = 4,
    /// Not by the application: its time was over, or its worker died. The duration is its age at that moment.
    #[serde(rename = "lost")]
    Lost = 5,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Lost,
    ];

    /// Returns that of a status.
    pub fn of(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    /// Returns its name in metrics and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Lost => "lost",
        }
    }
}

/// What a cell's numbers are of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The route.
    pub route: String,
    /// Whether a framework has named it; else it was made of paths.
    pub named: bool,
    /// The method.
    pub method: String,
    /// How it was answered.
    pub class: Class,
}

/// The numbers of one [`Key`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Complete request to the application's call.
    pub queue: Distribution,
    /// In the application; for lost requests, until somebody answered in its place, or its worker died.
    pub app: Distribution,
    /// From the end of the application to the last byte that the kernel took.
    pub write: Distribution,
}

impl Phases {
    /// Returns how many requests it is about. Not each has been in the application, and not each source knows of a queue.
    pub fn count(&self) -> u64 {
        self.queue.count.max(self.app.count)
    }

    /// Adds what others have counted.
    pub fn merge(&mut self, other: &Self) {
        self.queue.merge(&other.queue);
        self.app.merge(&other.app);
        self.write.merge(&other.write);
    }

    /// Returns what has been counted since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            queue: self.queue.since(&earlier.queue),
            app: self.app.since(&earlier.app),
            write: self.write.since(&earlier.write),
        }
    }
}

/// The cells of one slot.
#[repr(C)]
pub struct Cells {
    used: AtomicU32,
    reserved: AtomicU32,
    cells: [Cell; CELLS],
}

#[repr(C)]
struct Cell {
    /// 1 once the key is written; it never changes after that.
    ready: AtomicU32,
    class: AtomicU32,
    named: AtomicU32,
    reserved: AtomicU32,
    method: Text<2>,
    route: Text<16>,
    queue: Histogram,
    app: Histogram,
    write: Histogram,
}

impl Cells {
    /// Returns the number of the cell of a key, a new one if there is none and room for one; else the one for
    /// everything of that class. For the slot's one writer; it looks at all of them, so remember what it says.
    pub fn claim(&self, key: &Key) -> usize {
        let used = self.used.load(Relaxed) as usize;
        let found = self.cells[..used.min(CELLS)].iter().position(|cell| cell.is_of(key));
        if let Some(found) = found {
            return found;
        }
        if used < CELLS - SPARE {
            self.cells[used].name(&key.route, key.named, &key.method, key.class);
            self.used.store(used as u32 + 1, Release);
            return used;
        }
        let spare = CELLS - SPARE + key.class as usize;
        if self.cells[spare].ready.load(Relaxed) == 0 {
            self.cells[spare].name(crate::route::OTHER, false, crate::route::MANY, key.class);
        }
        spare
    }

    /// Counts a request that has left the application. For the slot's one writer.
    pub fn record(&self, cell: usize, queue_us: u64, app_us: u64) {
        self.cells[cell].queue.record(queue_us);
        self.cells[cell].app.record(app_us);
    }

    /// Counts one that has never been in it. For the slot's one writer.
    pub fn record_unserved(&self, cell: usize, queue_us: u64) {
        self.cells[cell].queue.record(queue_us);
    }

    /// Counts how long its response took to be sent. For the slot's one writer.
    pub fn record_write(&self, cell: usize, us: u64) {
        self.cells[cell].write.record(us);
    }

    /// Returns how long requests were in the application, and nothing else of them: a third of what there is to read.
    pub fn answered(&self) -> impl Iterator<Item = (Key, Distribution)> {
        self.named().filter_map(|cell| Some((cell.key()?, cell.app.read())))
    }

    /// Returns all numbers.
    pub fn read(&self) -> impl Iterator<Item = (Key, Phases)> {
        self.named().filter_map(Cell::read)
    }

    fn named(&self) -> impl Iterator<Item = &Cell> {
        let used = (self.used.load(Acquire) as usize).min(CELLS - SPARE);
        let spare = if used == CELLS - SPARE { &self.cells[used..] } else { &[] };
        self.cells[..used].iter().chain(spare)
    }
}

impl Cell {
    fn is_of(&self, key: &Key) -> bool {
        self.class.load(Relaxed) == key.class as u32
            && (self.named.load(Relaxed) != 0) == key.named
            && self.method.is(key.method.as_bytes())
            && self.route.is(key.route.as_bytes())
    }

    fn name(&self, route: &str, named: bool, method: &str, class: Class) {
        self.route.store(route.as_bytes());
        self.method.store(method.as_bytes());
        self.named.store(u32::from(named), Relaxed);
        self.class.store(class as u32, Relaxed);
        self.ready.store(1, Release);
    }

    fn key(&self) -> Option<Key> {
        if self.ready.load(Acquire) == 0 {
            return None;
        }
        let class = Class::ALL.get(self.class.load(Relaxed) as usize).copied()?;
        let named = self.named.load(Relaxed) != 0;
        Some(Key { route: self.route.load(), named, method: self.method.load(), class })
    }

    fn read(&self) -> Option<(Key, Phases)> {
        let key = self.key()?;
        let phases = Phases { queue: self.queue.read(), app: self.app.read(), write: self.write.read() };
        Some((key, phases))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a test with zeroed cells, as shared memory begins: on a stack with room for them.
    fn with_cells(test: impl FnOnce(&Cells) + Send) {
        let cell = || Cell {
            ready: AtomicU32::new(0),
            class: AtomicU32::new(0),
            named: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            method: Text::default(),
            route: Text::default(),
            queue: Histogram::default(),
            app: Histogram::default(),
            write: Histogram::default(),
        };
        let run = move || {
            let cells = std::array::from_fn(|_| cell());
            test(&Cells { used: AtomicU32::new(0), reserved: AtomicU32::new(0), cells });
        };
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().stack_size(64 << 20);
            builder.spawn_scoped(scope, run).expect("a thread");
        });
    }

    fn key(route: &str, class: Class) -> Key {
        Key { route: route.to_owned(), named: true, method: "GET".to_owned(), class }
    }

    #[test]
    fn each_key_has_its_numbers_and_keeps_them() {
        with_cells(|cells| {
            let one = cells.claim(&key("/a", Class::Success));
            let other = cells.claim(&key("/a", Class::Lost));
            assert_ne!(one, other);
            assert_eq!(cells.claim(&key("/a", Class::Success)), one);
            assert_ne!(cells.claim(&Key { named: false, ..key("/a", Class::Success) }), one);
            cells.record(one, 5, 1000);
            cells.record_write(one, 7);
            cells.record_unserved(other, 9);
            let read: Vec<(Key, Phases)> = cells.read().collect();
            assert_eq!(read[0].0, key("/a", Class::Success));
            assert_eq!((read[0].1.app.sum_us, read[0].1.write.count, read[1].1.queue.sum_us), (1000, 1, 9));
            assert_eq!((read[2].1.app.count, read.len()), (0, 3));
        });
    }

    #[test]
    fn what_has_no_room_is_counted_together() {
        with_cells(|cells| {
            for number in 0..2 * CELLS {
                let class = if number % 2 == 0 { Class::Success } else { Class::Lost };
                cells.record(cells.claim(&key(&format!("/{number}"), class)), 0, 1);
            }
            let read: Vec<(Key, Phases)> = cells.read().collect();
            assert_eq!(read.iter().map(|(_, phases)| phases.app.count).sum::<u64>(), 2 * CELLS as u64);
            let others: Vec<_> = read.iter().filter(|(key, _)| key.route == crate::route::OTHER).collect();
            assert_eq!(others.len(), 2);
            // A long route is cut where it is kept, and found again.
            let long = "/x".repeat(200);
            assert_eq!(cells.claim(&key(&long, Class::Lost)), CELLS - SPARE + Class::Lost as usize);
        });
    }

    #[test]
    fn a_long_route_is_found_again() {
        with_cells(|cells| {
            let long = "/x".repeat(200);
            assert_eq!(cells.claim(&key(&long, Class::Lost)), cells.claim(&key(&long, Class::Lost)));
        });
    }
}
