//! Three histograms as few bytes: most of their buckets are empty, and most counts are small. LEB128 numbers (as in DWARF 5,
//! 7.6), lowest seven bits first, behind a byte that says which form it is.
//!
//! Not for: JSON, where people read them.

use ferricorn_core::histogram::{BUCKETS, Distribution};
use ferricorn_core::latency::Phases;

/// The form that is written: per histogram its count, its sum, how many buckets are not empty, and for each of those how
/// many it lies behind the one before, and its count.
const FORM: u8 = 1;

/// Returns the bytes of three histograms.
pub(super) fn written(phases: &Phases) -> Vec<u8> {
    let mut bytes = vec![FORM];
    for distribution in [&phases.queue, &phases.app, &phases.write] {
        let full = || distribution.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        put(&mut bytes, distribution.count);
        put(&mut bytes, distribution.sum_us);
        put(&mut bytes, full().count() as u64);
        let mut next = 0;
        for (index, count) in full() {
            put(&mut bytes, (index - next) as u64);
            put(&mut bytes, *count);
            next = index + 1;
        }
    }
    bytes
}

/// Reads them back; none if they are not what [`written`] makes.
pub(super) fn read(bytes: &[u8]) -> Option<Phases> {
    let (form, mut rest) = bytes.split_first()?;
    if *form != FORM {
        return None;
    }
    let mut phases = Phases::default();
    for distribution in [&mut phases.queue, &mut phases.app, &mut phases.write] {
        *distribution = take_one(&mut rest)?;
    }
    rest.is_empty().then_some(phases)
}

fn take_one(rest: &mut &[u8]) -> Option<Distribution> {
    let mut distribution =
        Distribution { count: take(rest)?, sum_us: take(rest)?, ..Distribution::default() };
    let mut next = 0_usize;
    for _ in 0..take(rest)?.min(BUCKETS as u64 + 1) {
        let index = next.checked_add(usize::try_from(take(rest)?).ok()?)?;
        *distribution.buckets.get_mut(index)? = take(rest)?;
        next = index + 1;
    }
    Some(distribution)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn phases(values: &[(u8, u64)]) -> Phases {
        let mut phases = Phases::default();
        for (which, us) in values {
            match which % 3 {
                0 => phases.queue.add(*us),
                1 => phases.app.add(*us),
                _ => phases.write.add(*us),
            }
        }
        phases
    }

    #[test]
    fn a_quiet_minute_is_small() {
        assert_eq!(written(&Phases::default()), [FORM, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let busy: Vec<(u8, u64)> = (0..6000).map(|number| ((number % 3) as u8, 900 + number * 7)).collect();
        assert!(written(&phases(&busy)).len() < 400, "{}", written(&phases(&busy)).len());
    }

    #[test]
    fn what_is_no_histogram_is_none() {
        let good = written(&phases(&[(1, 5), (2, 70_000)]));
        assert!(read(&good).is_some());
        for cut in 0..good.len() {
            assert_eq!(read(&good[..cut]), None, "{cut}");
        }
        assert_eq!(read(&[&good[..], &[0]].concat()), None);
        assert_eq!(read(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "another form");
        // A bucket beyond the last, and a number beyond 64 bits.
        assert_eq!(read(&[FORM, 1, 1, 1, 0xff, 0x7f, 1, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(read(&[FORM, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn everything_comes_back(values in proptest::collection::vec((0u8..3, 0u64..1 << 40), 0..300)) {
            let phases = phases(&values);
            prop_assert_eq!(read(&written(&phases)), Some(phases));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
            let _ = read(&[&[FORM], &bytes[..]].concat());
        }
    }
}
