//! The end of a growing file, line by line: what is written after it was opened. Rotation by renaming is noticed by the path
//! (the old file is read until those who write to it have turned to the new one), by copying and cutting it by the file
//! having become shorter, or by what was read last not standing there any more. Not for: what the lines say.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most bytes of one file that are read at a time; what is left is read the next time.
const READ_MAX: usize = 1 << 20;
/// Most bytes of a line; what is longer is passed over.
const LINE_MAX: usize = 64 << 10;
/// For how many readings without anything new a file that was renamed is kept.
const QUIET_MAX: u32 = 40;
/// Bytes before the place of reading that are remembered.
const MARK: usize = 64;

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    current: Option<Follow>,
    /// The one that had the path before, with the readings for which nothing came.
    old: Option<(Follow, u32)>,
}

#[derive(Debug)]
struct Follow {
    file: File,
    inode: u64,
    at: u64,
    /// What stands before that.
    mark: Vec<u8>,
    /// When it was last written to.
    written: (i64, i64),
    partial: Vec<u8>,
    /// The line that is being read is too long.
    passing: bool,
}

impl Tail {
    /// Follows a file from its end on. It need not be there yet: then it is read from its beginning.
    pub(super) fn open(path: &Path) -> Self {
        let current = Follow::open(path, SeekFrom::End(0));
        Self { path: path.to_owned(), current, old: None }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether it can be read.
    pub(super) fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Hands on the lines that have come.
    pub(super) fn read(&mut self, mut line: impl FnMut(&str)) {
        if let Some((old, quiet)) = &mut self.old {
            *quiet = if old.read(&mut line) { 0 } else { *quiet + 1 };
            if *quiet > QUIET_MAX {
                self.old = None;
            }
        }
        if let Some(current) = &mut self.current {
            current.read(&mut line);
        }
        let inode = std::fs::metadata(&self.path).ok().map(|metadata| metadata.ino());
        if inode.is_some() && inode != self.current.as_ref().map(|current| current.inode) {
            let next = Follow::open(&self.path, SeekFrom::Start(0));
            if next.is_some() {
                self.old = std::mem::replace(&mut self.current, next).map(|old| (old, 0));
            }
            if let Some(current) = &mut self.current {
                current.read(&mut line);
            }
        }
    }
}

impl Follow {
    fn open(path: &Path, from: SeekFrom) -> Option<Self> {
        // A pipe is not waited for.
        let mut file = OpenOptions::new().read(true).custom_flags(libc_nonblock()).open(path).ok()?;
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let at = file.seek(from).ok()?;
        let written = (metadata.mtime(), metadata.mtime_nsec());
        let mut follow = Self {
            file,
            inode: metadata.ino(),
            at,
            mark: Vec::new(),
            written,
            partial: Vec::new(),
            passing: false,
        };
        follow.mark = follow.before();
        Some(follow)
    }

    /// Returns the bytes before the place of reading.
    fn before(&self) -> Vec<u8> {
        let length = self.at.min(MARK as u64);
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, self.at - length).map(|()| bytes).unwrap_or_default()
    }

    /// Tells whether anything has come.
    fn read(&mut self, line: &mut impl FnMut(&str)) -> bool {
        let Ok(metadata) = self.file.metadata() else { return false };
        let length = metadata.len();
        let written = (metadata.mtime(), metadata.mtime_nsec());
        if written == self.written && length == self.at {
            return false;
        }
        self.written = written;
        if length < self.at || self.before() != self.mark {
            // It was cut, and may have grown again; what was written between is lost.
            (self.at, self.passing) = (0, false);
            self.partial.clear();
        }
        if length == self.at || self.file.seek(SeekFrom::Start(self.at)).is_err() {
            return false;
        }
        let mut bytes = Vec::new();
        if Read::by_ref(&mut self.file).take(READ_MAX as u64).read_to_end(&mut bytes).is_err() {
            return false;
        }
        self.at += bytes.len() as u64;
        self.mark = self.before();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.take(part, line);
        }
        !bytes.is_empty()
    }

    fn take(&mut self, part: &[u8], line: &mut impl FnMut(&str)) {
        let ends = part.ends_with(b"\n");
        if self.partial.len() + part.len() > LINE_MAX {
            self.passing = true;
            self.partial.clear();
        }
        if !self.passing {
            self.partial.extend_from_slice(part);
        }
        if ends {
            if !self.passing {
                line(String::from_utf8_lossy(&self.partial).trim_end_matches(['\n', '\r']));
            }
            self.passing = false;
            self.partial.clear();
        }
    }
}

fn libc_nonblock() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(tail: &mut Tail) -> Vec<String> {
        let mut lines = Vec::new();
        tail.read(|line| lines.push(line.to_owned()));
        lines
    }

    fn appending(path: &Path) -> File {
        OpenOptions::new().append(true).create(true).open(path).expect("opened")
    }

    #[test]
    fn lines_come_once_and_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = appending(&path);
        file.write_all(b"before\n").expect("written");
        let mut tail = Tail::open(&path);
        assert!(lines(&mut tail).is_empty());
        file.write_all(b"one\ntw").expect("written");
        assert_eq!(lines(&mut tail), ["one"]);
        file.write_all(b"o\r\n\n").expect("written");
        assert_eq!(lines(&mut tail), ["two", ""]);
        assert!(lines(&mut tail).is_empty());
    }

    #[test]
    fn rotation_by_renaming_loses_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = appending(&path);
        let mut tail = Tail::open(&path);
        file.write_all(b"a\n").expect("written");
        std::fs::rename(&path, folder.path().join("log.1")).expect("renamed");
        file.write_all(b"b\n").expect("written");
        assert_eq!(lines(&mut tail), ["a", "b"], "nobody has made a new one yet");
        let mut new = appending(&path);
        file.write_all(b"c\n").expect("written");
        new.write_all(b"d\n").expect("written");
        assert_eq!(lines(&mut tail), ["c", "d"]);
        file.write_all(b"e\n").expect("written");
        new.write_all(b"f\n").expect("written");
        assert_eq!(lines(&mut tail), ["e", "f"], "somebody has not turned to the new one");
        for _ in 0..=QUIET_MAX {
            assert!(lines(&mut tail).is_empty());
        }
        assert!(tail.old.is_none());
    }

    #[test]
    fn a_file_that_is_cut_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = appending(&path);
        let mut tail = Tail::open(&path);
        file.write_all(b"one\ntwo\nthree\n").expect("written");
        assert_eq!(lines(&mut tail).len(), 3);
        file.set_len(0).expect("cut");
        file.write_all(b"four\n").expect("written");
        assert_eq!(lines(&mut tail), ["four"]);
        // As long as it was, and longer.
        for text in ["five\n", "six\nseven\n"] {
            file.set_len(0).expect("cut");
            file.write_all(text.as_bytes()).expect("written");
            assert_eq!(lines(&mut tail).join("\n"), text.trim_end());
        }
    }

    #[test]
    fn long_lines_are_passed_over_and_much_is_read_in_parts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = appending(&path);
        let mut tail = Tail::open(&path);
        file.write_all(&vec![b'x'; 3 * LINE_MAX]).expect("written");
        assert!(lines(&mut tail).is_empty());
        file.write_all(b"x\nshort\n").expect("written");
        assert_eq!(lines(&mut tail), ["short"]);
        file.write_all(&b"0123456789abcde\n".repeat(READ_MAX / 16 + 10)).expect("written");
        assert_eq!((lines(&mut tail).len(), lines(&mut tail).len()), (READ_MAX / 16, 10));
    }

    #[test]
    fn a_file_that_is_none_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut tail = Tail::open(&folder.path().join("log"));
        assert!(!tail.is_open() && lines(&mut tail).is_empty());
        appending(&folder.path().join("log")).write_all(b"first\n").expect("written");
        assert_eq!(lines(&mut tail), ["first"], "from its beginning");
        assert!(!Tail::open(Path::new("/dev/null")).is_open());
        assert!(!Tail::open(folder.path()).is_open());
    }
}
