//! A table spot for one boxed value: who puts it down may find it taken when coming back.
//!
//! This is the whole of the takeover: the worker's loop thread puts the loop down before it enters Python and takes
//! it up after; when Python is slow, the watchdog takes it up instead. One atomic swap each way, no lock.
//! Not for: waiting; see `park`.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};

/// A place that holds a `Box<T>` or nothing.
#[derive(Debug)]
pub struct Slot<T> {
    value: AtomicPtr<T>,
}

// SAFETY: the slot owns its value and hands it out whole, to one thread at a time (swap); a `T` that may be sent
// between threads may therefore be sent through it.
unsafe impl<T: Send> Send for Slot<T> {}
// SAFETY: as above; no method gives out a reference to the value.
unsafe impl<T: Send> Sync for Slot<T> {}

impl<T> Slot<T> {
    /// Returns an empty slot.
    pub const fn new() -> Self {
        Self { value: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Puts a value down. Whatever lay there before is returned.
    pub fn put(&self, value: Box<T>) -> Option<Box<T>> {
        own(self.value.swap(Box::into_raw(value), SeqCst))
    }

    /// Takes the value up, if somebody else has not.
    pub fn take(&self) -> Option<Box<T>> {
        own(self.value.swap(ptr::null_mut(), SeqCst))
    }

    /// Tells whether a value lies there at this moment.
    pub fn is_full(&self) -> bool {
        !self.value.load(SeqCst).is_null()
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

fn own<T>(raw: *mut T) -> Option<Box<T>> {
    // SAFETY: a pointer that is not null came from `Box::into_raw` in `put`, and the swap that returned it has also
    // removed it, so nobody else can turn it into a box again.
    (!raw.is_null()).then(|| unsafe { Box::from_raw(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_of_two_takers_wins() {
        let slot = Slot::new();
        let taken = AtomicU32::new(0);
        for round in 0..1000 {
            assert!(slot.put(Box::new(round)).is_none());
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        if slot.take() == Some(Box::new(round)) {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
        }
        assert_eq!(taken.load(Ordering::Relaxed), 1000);
        assert!(!slot.is_full());
    }
}
