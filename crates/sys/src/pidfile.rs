//! The file that holds the arbiter's pid. Written whole or not at all, and removed only while it is still ours.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A pidfile of ours.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    pid: i32,
}

/// Why there is none.
#[derive(Debug)]
pub enum PidfileError {
    /// It names a living process.
    Running {
        /// The process.
        pid: i32,
        /// The file.
        path: PathBuf,
    },
    /// Its directory does not exist.
    NoDirectory(PathBuf),
    /// It cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl std::fmt::Display for PidfileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running { pid, path } => {
                write!(f, "Already running on PID {pid} (or pid file '{}' is stale)", path.display())
            }
            Self::NoDirectory(path) => write!(f, "{} doesn't exist. Can't create pidfile.", path.display()),
            Self::Io { path, error } => write!(f, "pid file '{}': {error}", path.display()),
        }
    }
}

impl std::error::Error for PidfileError {}

impl Pidfile {
    /// Writes the file, over one that is stale or already names `pid`.
    pub fn create(path: &Path, pid: i32) -> Result<Self, PidfileError> {
        let failed = |error| PidfileError::Io { path: path.to_owned(), error };
        match running(path).map_err(failed)? {
            Some(running) if running == pid => return Ok(Self { path: path.to_owned(), pid }),
            Some(running) => return Err(PidfileError::Running { pid: running, path: path.to_owned() }),
            None => {}
        }
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            return Err(PidfileError::NoDirectory(directory.to_owned()));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{pid}"));
        let draft = path.with_file_name(name);
        let written = write(&draft, pid).and_then(|()| fs::rename(&draft, path));
        if let Err(error) = written {
            // It may not exist; the first error is the one to tell.
            let _ = fs::remove_file(&draft);
            return Err(failed(error));
        }
        Ok(Self { path: path.to_owned(), pid })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, unless it names somebody else by now.
    pub fn remove(self) {
        if read(&self.path).ok().flatten() == Some(self.pid) {
            // It is gone already, or its directory is no longer ours to write to: nothing can be done about either.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write(path: &Path, pid: i32) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    writeln!(file, "{pid}")
}

fn read(path: &Path) -> io::Result<Option<i32>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the living process that the file names.
fn running(path: &Path) -> io::Result<Option<i32>> {
    let named = read(path)?.filter(|pid| *pid > 0).and_then(Pid::from_raw);
    Ok(named
        .filter(|pid| matches!(test_kill_process(*pid), Ok(()) | Err(Errno::PERM)))
        .map(|pid| pid.as_raw_pid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfile_belongs_to_one_process() {
        let directory = std::env::temp_dir().join(format!("ferricorn-pidfile-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("web.pid");
        let me = std::process::id() as i32;
        // Left behind, or no pid at all: written over.
        for stale in ["2147483647\n", "what\n", ""] {
            fs::write(&path, stale).expect("written");
            let pidfile = Pidfile::create(&path, me).expect("created");
            assert_eq!(fs::read_to_string(&path).expect("readable"), format!("{me}\n"));
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o644);
            // A second time is no error: a reload writes it again.
            Pidfile::create(&path, me).expect("created");
            pidfile.remove();
            assert!(!path.exists());
        }
        fs::write(&path, "1\n").expect("written");
        let refused = Pidfile::create(&path, me).expect_err("somebody runs").to_string();
        assert_eq!(refused, format!("Already running on PID 1 (or pid file '{}' is stale)", path.display()));
        // Not ours any more: it stays.
        Pidfile { path: path.clone(), pid: me }.remove();
        assert!(path.exists());
        let nowhere = directory.join("missing/web.pid");
        let refused = Pidfile::create(&nowhere, me).expect_err("no directory").to_string();
        let missing = directory.join("missing");
        assert_eq!(refused, format!("{} doesn't exist. Can't create pidfile.", missing.display()));
        fs::remove_dir_all(&directory).expect("removed");
    }
}
