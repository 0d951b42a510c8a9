//! A hash for short keys and small numbers, in tables that are bounded: a third of the time of the standard one's.

use std::hash::{BuildHasherDefault, Hasher};

/// For `HashMap`.
pub(crate) type BuildFnv = BuildHasherDefault<Fnv>;

/// FNV-1a.
#[derive(Default)]
pub(crate) struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
