//! The file of records: one JSON object per line, appended to, with a limit. When it is full it becomes
//! `timeouts.1.jsonl`, and the oldest of [`KEPT`] goes. Several servers may write into one folder.
//!
//! Not for: what stands in a record (`core::record`).

use ferricorn_core::record::Record;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a full file.
const FULL: u64 = 8 << 20;
/// Files that are kept, the current one included.
const KEPT: usize = 4;

/// A folder with records.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
    full: u64,
}

impl Journal {
    /// Opens a folder to write to; makes it, for this user alone, if it is not there.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn create(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let journal = Self { folder: folder.to_owned(), full: FULL };
        journal.open()?;
        Ok(journal)
    }

    /// Returns the records of a folder, the newest first. Lines that are none (a write that was cut short) are left out.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn read(folder: &Path) -> io::Result<Vec<Record>> {
        fs::read_dir(folder)?;
        let mut records = Vec::new();
        for number in (0..KEPT).rev() {
            let text = match fs::read(path(folder, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text?,
            };
            let lines = text.split(|byte| *byte == b'\n');
            records.extend(lines.filter_map(|line| serde_json::from_slice::<Record>(line).ok()));
        }
        records.sort_by(|one, other| other.at_s().total_cmp(&one.at_s()));
        Ok(records)
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The disk's.
    pub fn append(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        // Another server may write here, too: whoever holds the lock of the current file may move it.
        let mut file = self.locked()?;
        let length = file.metadata()?.len();
        if length > 0 && length + line.len() as u64 > self.full {
            self.rotate()?;
            file = self.locked()?;
        }
        file.write_all(&line)
    }

    /// Opens the current file and locks it.
    fn locked(&self) -> io::Result<File> {
        loop {
            let file = self.open()?;
            flock(&file, FlockOperation::LockExclusive)?;
            // It may have been moved while we waited.
            match fs::metadata(path(&self.folder, 0)) {
                Ok(current) if current.ino() != file.metadata()?.ino() => {}
                _ => return Ok(file),
            }
        }
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(path(&self.folder, 0))
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (0..KEPT - 1).rev() {
            match fs::rename(path(&self.folder, number), path(&self.folder, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(if number == 0 { "timeouts.jsonl".to_owned() } else { format!("timeouts.{number}.jsonl") })
}

/// Returns where records go if `state_dir` is not set: systemd's `STATE_DIRECTORY`, root's `/var/lib/ferricorn`, or
/// the user's folder for such things (XDG Base Directory Specification 0.8). `None` for a user without a home.
pub fn default_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folders) = variable("STATE_DIRECTORY") {
        // Several are separated by colons.
        return std::env::split_paths(&folders).next();
    }
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/ferricorn".into());
    }
    let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    state.or_else(|| Some(variable("HOME")?.join(".local/state"))).map(|state| state.join("ferricorn"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::record::{Death, SCHEMA, Server, Worker};

    fn death(at_s: f64) -> Record {
        Record::Death(Box::new(Death {
            schema: SCHEMA,
            at_s,
            server: Server::default(),
            worker: Worker::default(),
            cause: "x".repeat(100),
            requests: Vec::new(),
            evidence: Vec::new(),
            incident: None,
        }))
    }

    #[test]
    fn records_come_back_newest_first_within_bounds() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("state/ferricorn");
        let journal = Journal { full: 4000, ..Journal::create(&below).expect("made") };
        for number in 0..200 {
            journal.append(&death(f64::from(number))).expect("written");
        }
        // A write that was cut short.
        let mut torn = journal.open().expect("open");
        torn.write_all(b"{\"kind\":\"death\",\"sch").expect("written");
        let records = Journal::read(&below).expect("read");
        assert!(records.len() > 20 && records.len() < 200, "{}", records.len());
        let newest: Vec<f64> = records.iter().map(Record::at_s).collect();
        assert!(newest[0] == 199.0);
        assert!(newest.windows(2).all(|pair| pair[0] - pair[1] == 1.0));
        assert_eq!(fs::read_dir(&below).expect("read").count(), KEPT);
        let bytes: u64 =
            (0..KEPT).map(|number| fs::metadata(path(&below, number)).expect("there").len()).sum();
        assert!(bytes <= 4000 * KEPT as u64 + 100, "{bytes}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(Journal::read(Path::new("/nowhere/at/all")).is_err());
        assert!(Journal::create(Path::new("/proc/nothing")).is_err());
    }
}
