//! Values of Python objects, read out of another process's memory: numbers, strings, tuples, lists, and the entries of
//! dictionaries that are asked for. Only what is asked for is read, by `core::locals`.
//!
//! The layouts are those of CPython 3.9 to 3.15 on 64-bit machines with the interpreter lock (Include/cpython/*.h of each).
//! Each object's type is looked at before its contents, so that another layout is seen as "something else". Memory may
//! change while it is read: everything is checked, and nothing believed. Not for: finding objects (`stack`).

use ferricorn_core::locals::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Most characters of a string that are read.
const TEXT_MAX: usize = 8192;
/// Most items of a tuple or list that are read.
const ITEMS_MAX: usize = 4;
/// Most entries of a dictionary that are looked at.
const ENTRIES_MAX: usize = 1024;
/// Longest key of a dictionary that anybody asks for.
const KEY_MAX: usize = 32;
/// Objects within objects.
const DEPTH_MAX: u32 = 3;
/// Bytes of the name of a type.
const TYPE_NAME_MAX: usize = 64;

const INT: u64 = 1 << 24;
const LIST: u64 = 1 << 25;
const TUPLE: u64 = 1 << 26;
const BYTES: u64 = 1 << 27;
const STR: u64 = 1 << 28;
const DICT: u64 = 1 << 29;

/// The memory of a process that runs Python.
pub(crate) struct Objects {
    memory: File,
    /// CPython 3.x.
    minor: u64,
    types: BTreeMap<u64, Type>,
}

#[derive(Clone)]
struct Type {
    name: String,
    flags: u64,
}

impl Objects {
    /// Opens the memory of a process that runs CPython 3.`minor`.
    pub(crate) fn of(pid: u32, minor: u64) -> io::Result<Self> {
        Ok(Self { memory: File::open(format!("/proc/{pid}/mem"))?, minor, types: BTreeMap::new() })
    }

    /// Reads an object; of a dictionary, the entries of these keys. None if it could not be read.
    pub(crate) fn value(&mut self, at: u64, keys: &[&str]) -> Option<Value> {
        self.read(at, keys, 0)
    }

    fn read(&mut self, at: u64, keys: &[&str], depth: u32) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        let kind = self.kind(self.word(at.checked_add(8)?)?)?;
        Some(match kind.name.as_str() {
            "NoneType" => Value::None,
            "bool" => Value::Bool(self.int(at)? != 0),
            "float" => Value::Float(f64::from_bits(self.word(at.checked_add(16)?)?)),
            // A variable that an inner function sees, too.
            "cell" => return self.read(self.word(at.checked_add(16)?)?, keys, depth + 1),
            _ if kind.flags & INT != 0 => Value::Int(self.int(at)?),
            _ if kind.flags & STR != 0 => Value::Text(self.text(at)?),
            _ if kind.flags & BYTES != 0 => Value::Text(self.bytes(at)?),
            _ if kind.flags & TUPLE != 0 => {
                // The hash is kept before the items since CPython 3.14.
                let items = at.checked_add(if self.minor >= 14 { 32 } else { 24 })?;
                Value::List(self.items(at, items, keys, depth)?)
            }
            _ if kind.flags & LIST != 0 => {
                let items = self.word(at.checked_add(24)?)?;
                Value::List(self.items(at, items, keys, depth)?)
            }
            _ if kind.flags & DICT != 0 && !keys.is_empty() => Value::Entries(self.entries(at, keys, depth)?),
            _ => Value::Object(kind.name),
        })
    }

    fn bytes_at<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.memory.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    fn word(&self, at: u64) -> Option<u64> {
        self.bytes_at(at).map(u64::from_ne_bytes)
    }

    fn many(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.memory.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    /// Reads a type: `tp_name` and `tp_flags`.
    fn kind(&mut self, at: u64) -> Option<Type> {
        if let Some(known) = self.types.get(&at) {
            return Some(known.clone());
        }
        let name = self.word(at.checked_add(24)?)?;
        let mut bytes = [0; TYPE_NAME_MAX];
        let length = self.memory.read_at(&mut bytes, name).ok()?;
        let name = bytes[..length].split(|byte| *byte == 0).next()?;
        let name = std::str::from_utf8(name).ok()?.rsplit('.').next()?.to_owned();
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let found = Type { name, flags: self.word(at.checked_add(168)?)? };
        if is_name {
            self.types.insert(at, found.clone());
        }
        is_name.then_some(found)
    }

    fn size(&self, at: u64) -> Option<usize> {
        usize::try_from(self.word(at.checked_add(16)?)?).ok()
    }

    fn int(&self, at: u64) -> Option<i64> {
        let head = self.word(at.checked_add(16)?)?;
        // Before CPython 3.12 the number of digits is negative where the number is.
        let (digits, negative) = if self.minor >= 12 {
            (head >> 3, head & 3 == 2)
        } else {
            (head.cast_signed().unsigned_abs(), head.cast_signed() < 0)
        };
        let digit = |index: u64| {
            let at = at.checked_add(24 + index * 4)?;
            self.bytes_at(at).map(|bytes| i64::from(u32::from_ne_bytes(bytes)))
        };
        let value = match digits {
            0 => 0,
            1 => digit(0)?,
            2 => digit(0)? | digit(1)? << 30,
            _ => return None,
        };
        Some(if negative { -value } else { value })
    }

    /// Reads a string: `PyASCIIObject`, `PyCompactUnicodeObject`.
    fn text(&self, at: u64) -> Option<String> {
        let state = u32::from_ne_bytes(self.bytes_at(at.checked_add(32)?)?);
        let (kind, compact, ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
        let old = self.minor < 12;
        let data = match (compact, ascii) {
            (1, 1) => at.checked_add(if old { 48 } else { 40 })?,
            (1, _) => at.checked_add(if old { 72 } else { 56 })?,
            // Of a class that is derived from str.
            _ => self.word(at.checked_add(if old { 72 } else { 56 })?)?,
        };
        let length = self.size(at)?.min(TEXT_MAX);
        Some(match kind {
            1 => self.many(data, length)?.into_iter().map(char::from).collect(),
            2 => {
                let bytes = self.many(data, length * 2)?;
                let units = bytes.chunks_exact(2).map(|unit| u16::from_ne_bytes([unit[0], unit[1]]));
                char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
            4 => {
                let bytes = self.many(data, length * 4)?;
                let codes =
                    bytes.chunks_exact(4).filter_map(|code| code.try_into().ok().map(u32::from_ne_bytes));
                codes.map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
            _ => return None,
        })
    }

    fn bytes(&self, at: u64) -> Option<String> {
        let bytes = self.many(at.checked_add(32)?, self.size(at)?.min(TEXT_MAX))?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn items(&mut self, at: u64, items: u64, keys: &[&str], depth: u32) -> Option<Vec<Value>> {
        let count = self.size(at)?.min(ITEMS_MAX);
        let pointers = self.many(items, count * 8)?;
        let mut values = Vec::with_capacity(count);
        for pointer in pointers.chunks_exact(8).filter_map(|word| word.try_into().ok()) {
            values.push(self.read(u64::from_ne_bytes(pointer), keys, depth + 1)?);
        }
        Some(values)
    }

    /// Reads entries of a dictionary: its table is walked, and the keys compared.
    fn entries(&mut self, at: u64, keys: &[&str], depth: u32) -> Option<Vec<(String, Value)>> {
        // The values of objects' own dictionaries lie elsewhere; nobody asks for those.
        if self.word(at.checked_add(40)?)? != 0 {
            return None;
        }
        let table = self.word(at.checked_add(32)?)?;
        let (first, size, count) = self.table(table)?;
        let bytes = self.many(first, count.min(ENTRIES_MAX) * size)?;
        let mut found = Vec::new();
        for entry in bytes.chunks_exact(size) {
            // With a hash before them, or without.
            let word = |at: usize| {
                entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
            };
            let (key, value) = (word(size - 16), word(size - 8));
            if key == 0 || value == 0 {
                continue;
            }
            let Some(name) = self.key(key).filter(|name| keys.contains(&name.as_str())) else { continue };
            if let Some(value) = self.read(value, &[], depth + 1) {
                found.push((name, value));
            }
        }
        Some(found)
    }

    /// Returns where the entries of a table begin, the size of one, and how many there are.
    fn table(&self, at: u64) -> Option<(u64, usize, usize)> {
        if self.minor >= 11 {
            let head: [u8; 32] = self.bytes_at(at)?;
            let (index_bytes, kind) = (u32::from(head[9]), head[10]);
            let count = u64::from_ne_bytes(head[24..32].try_into().ok()?);
            let first = at.checked_add(32)?.checked_add(1_u64.checked_shl(index_bytes)?)?;
            return Some((first, if kind == 0 { 24 } else { 16 }, usize::try_from(count).ok()?));
        }
        let size = self.word(at.checked_add(8)?)?;
        let index = match size {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => return None,
        };
        let count = self.word(at.checked_add(32)?)?;
        Some((at.checked_add(40)?.checked_add(size * index)?, 24, usize::try_from(count).ok()?))
    }

    /// Reads a key, if it is a string that anybody could ask for: plain, and short. At one go, for there are many.
    fn key(&mut self, at: u64) -> Option<String> {
        let head: [u8; 48 + KEY_MAX] = self.bytes_at(at)?;
        let word = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let kind = self.kind(word(8)?)?;
        let (length, state) = (usize::try_from(word(16)?).ok()?, word(32)? as u32);
        // Compact, ASCII.
        if kind.flags & STR == 0 || length > KEY_MAX || state >> 5 & 3 != 3 {
            return None;
        }
        let data = if self.minor < 12 { 48 } else { 40 };
        String::from_utf8(head.get(data..data + length)?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_of_no_python_is_nothing() {
        let mut objects = Objects::of(std::process::id(), 13).expect("one's own");
        let words = vec![u64::MAX; 64];
        for at in [0, 8, u64::MAX, u64::MAX - 7, words.as_ptr() as u64] {
            assert_eq!(objects.value(at, &["a"]), None);
        }
        let mut wild: Vec<u64> = (0..64).collect();
        wild[1] = wild.as_ptr() as u64;
        assert_eq!(objects.value(wild.as_ptr() as u64, &["a"]), None);
    }

    proptest! {
        /// Memory that points into itself, as that of a process that runs on while it is read.
        #[test]
        fn no_memory_is_too_wild(words in proptest::collection::vec(any::<u16>(), 64..256), minor in 9_u64..16) {
            let mut memory = vec![0_u64; words.len()];
            let base = memory.as_ptr() as u64;
            for (word, wild) in memory.iter_mut().zip(&words) {
                // A pointer into it, a small number, or the flags of a type.
                *word = match wild % 3 {
                    0 => base + u64::from(wild / 3) % (words.len() as u64 * 8),
                    1 => u64::from(wild / 3),
                    _ => 1 << (20 + wild % 12),
                };
            }
            let mut objects = Objects::of(std::process::id(), minor).expect("one's own");
            for at in 0..words.len() as u64 {
                let _ = objects.value(base + at * 8, &["a"]);
            }
        }
    }
}
