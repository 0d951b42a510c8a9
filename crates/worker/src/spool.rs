//! A request body while it arrives: in memory up to a limit, then in a temporary file without a name.

use crate::conn::Body;
use crate::http::refusal::Refusal;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;

/// Limits of a body.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Bytes kept in memory.
    pub memory_max: usize,
    /// Largest body; 0 for any.
    pub body_max: u64,
    /// Where larger bodies go.
    pub dir: &'a Path,
}

/// Collects a body.
#[derive(Debug, Default)]
pub struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
}

impl Spool {
    /// Adds bytes.
    ///
    /// # Errors
    /// 413 over the limit; 503 if the temporary file cannot be written (disk full).
    pub fn write(&mut self, bytes: &[u8], limits: Limits<'_>) -> Result<(), Refusal> {
        self.len += bytes.len() as u64;
        if limits.body_max > 0 && self.len > limits.body_max {
            return Err(too_large());
        }
        if self.file.is_none() && self.memory.len() + bytes.len() <= limits.memory_max {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        self.write_file(bytes, limits.dir).map_err(|error| Refusal {
            detail: format!("cannot keep the request body in {}: {error}", limits.dir.display()).into(),
            ..Refusal::new(503, "")
        })
    }

    fn write_file(&mut self, bytes: &[u8], dir: &Path) -> std::io::Result<()> {
        if self.file.is_none() {
            let mut file = tempfile::tempfile_in(dir)?;
            file.write_all(&std::mem::take(&mut self.memory))?;
            self.file = Some(file);
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }

    /// Returns the bytes so far, while they are in memory.
    pub fn memory(&self) -> Option<&[u8]> {
        self.file.is_none().then_some(&self.memory[..])
    }

    /// Takes the bytes so far out of memory: of a body that somebody else collects from now on.
    pub fn take(&mut self) -> Vec<u8> {
        self.len = 0;
        std::mem::take(&mut self.memory)
    }

    /// Ends the body and returns it; the spool is empty again.
    pub fn finish(&mut self) -> Body {
        let len = std::mem::take(&mut self.len);
        match self.file.take() {
            Some(mut file) => match file.rewind() {
                Ok(()) => Body::File { file, len },
                Err(_) => Body::Empty,
            },
            None if len == 0 => Body::Empty,
            None => Body::Memory(std::mem::take(&mut self.memory)),
        }
    }

    /// Forgets what has arrived.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The refusal of a body over `body_limit`.
pub fn too_large() -> Refusal {
    Refusal::new(413, "request body is too large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn moves_to_a_file_over_the_limit() {
        let dir = std::env::temp_dir();
        let limits = Limits { memory_max: 4, body_max: 8, dir: &dir };
        let mut spool = Spool::default();
        spool.write(b"abc", limits).expect("memory");
        assert_eq!(spool.memory(), Some(&b"abc"[..]));
        spool.write(b"def", limits).expect("file");
        assert_eq!(spool.memory(), None);
        assert_eq!(spool.write(b"ghi", limits).map_err(|refusal| refusal.status), Err(413));
        let Body::File { mut file, .. } = spool.finish() else { panic!("expected a file") };
        let mut text = String::new();
        file.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "abcdef");
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_503() {
        let limits = Limits { memory_max: 0, body_max: 0, dir: Path::new("/nonexistent") };
        assert_eq!(Spool::default().write(b"x", limits).map_err(|refusal| refusal.status), Err(503));
    }
}
