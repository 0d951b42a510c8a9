//! Which place in the scoreboard a new worker gets. Few places are used (each touched one costs memory), but the one of a
//! worker that has just died is kept for as long as possible: its flight recorder tells what it did last.

use ferricorn_core::scoreboard::{Scoreboard, State, WORKERS_MAX};

/// When each place was given back, in an order of its own.
#[derive(Debug)]
pub(crate) struct Places {
    released: [u64; WORKERS_MAX],
    count: u64,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self { released: [0; WORKERS_MAX], count: 0 }
    }

    /// Returns the free place for a worker of a fleet of `target`, if there is any.
    pub(crate) fn choose(&self, board: &Scoreboard, target: usize) -> Option<usize> {
        let used = board.used().len();
        let next = (used < WORKERS_MAX).then_some(used);
        if used < (2 * target).clamp(8, WORKERS_MAX) {
            return next;
        }
        let free = (0..used).filter(|slot| board.workers[*slot].state() == State::Free);
        free.min_by_key(|slot| self.released[*slot]).or(next)
    }

    /// Gives a place back.
    pub(crate) fn release(&mut self, board: &Scoreboard, slot: usize) {
        self.count += 1;
        self.released[slot] = self.count;
        board.workers[slot].release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_sys::shared::SharedMemory;

    #[test]
    fn the_place_of_the_last_dead_is_taken_last() {
        let memory = SharedMemory::<Scoreboard>::create("test").expect("memory");
        let board = memory.value();
        let mut places = Places::new();
        let taken = |places: &Places, target| {
            let slot = places.choose(board, target);
            slot.inspect(|slot| board.claim(*slot, 1, 0, 0))
        };
        assert_eq!((taken(&places, 1), taken(&places, 1)), (Some(0), Some(1)));
        places.release(board, 0);
        let next: Vec<_> = (0..7).map(|_| taken(&places, 1)).collect();
        assert_eq!(next, [2, 3, 4, 5, 6, 7, 0].map(Some));
        // All of the few are taken: any other will do, as long as there is one.
        let rest: Vec<_> = (8..WORKERS_MAX).map(|_| taken(&places, 1)).collect();
        assert_eq!((rest.first(), rest.last()), (Some(&Some(8)), Some(&Some(WORKERS_MAX - 1))));
        assert_eq!(taken(&places, 1), None);
        places.release(board, 200);
        assert_eq!(taken(&places, 200), Some(200));
    }
}
