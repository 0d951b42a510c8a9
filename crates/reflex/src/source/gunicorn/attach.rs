//! Finding the Gunicorn that is meant, and what it is: by the pid or pidfile that was given, its version, class and settings.
//! Not for: watching it (`observe`).

use super::class::Class;
use super::heartbeat::{Found, Heartbeat};
use super::requests::Requests;
use super::settings::Settings;
use super::tree::Tree;
use crate::pidfile;
use crate::process::{self, Process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What is attached to, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The arbiter; or one of its workers, which leads to it.
    pub pid: Option<u32>,
    /// Where its pid stands. If another arbiter's stands there later, that is followed.
    pub pidfile: Option<PathBuf>,
    /// Its access log, where that is not to be found.
    pub access_log: Option<PathBuf>,
    /// Its error log, where that is not to be found.
    pub error_log: Option<PathBuf>,
    /// `HOST:PORT` to listen on for what it sends by statsd.
    pub statsd: Option<String>,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Neither pid nor pidfile was given.
    #[error("neither a pid nor a pidfile was named")]
    Nobody,
    /// The pidfile has no pid.
    #[error("the pidfile {path} cannot be used: {why}")]
    PidFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The one that was named.
        pid: u32,
    },
    /// It is another program.
    #[error("process {pid} is no Gunicorn: it is `{name}`, and none of its children is a worker")]
    NotGunicorn {
        /// The one that was named.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// It is too old.
    #[error("process {pid} is Gunicorn {version}; 22 and newer can be seen")]
    TooOld {
        /// The one that was named.
        pid: u32,
        /// Its version.
        version: String,
    },
    /// The observer itself has not what it needs.
    #[error("the observer cannot begin: {0}")]
    System(#[from] std::io::Error),
    /// The address for statsd cannot be used.
    #[error("nothing can be received by statsd at {address}: {error}")]
    Statsd {
        /// The address.
        address: String,
        /// Why not.
        error: std::io::Error,
    },
}

/// Returns the arbiter that is meant.
pub(super) fn master(options: &Options) -> Result<Process, AttachError> {
    let pid = match (options.pid, &options.pidfile) {
        (Some(pid), _) => pid,
        (None, Some(path)) => pidfile::meant(path, |pid| Process::open(pid).is_some())
            .map_err(|why| AttachError::PidFile { path: path.clone(), why })?,
        (None, None) => return Err(AttachError::Nobody),
    };
    let named = Process::open(pid).ok_or(AttachError::NoProcess { pid })?;
    let above = process::stat(pid).map_or(0, |stat| stat.parent);
    // A worker shares its heartbeat with its arbiter.
    let is_worker = Heartbeat::inodes(pid)
        .zip(Heartbeat::inodes(above))
        .is_some_and(|(own, all)| own.len() == 1 && own.is_subset(&all));
    Ok(if is_worker { Process::open(above).unwrap_or(named) } else { named })
}

/// Tells whether a process is a Gunicorn at all: by its words, its children, or its heartbeats.
pub(super) fn check(master: &Process, tree: &Tree) -> Result<(), AttachError> {
    let pid = master.pid;
    let named = process::command_line(pid).iter().any(|word| word.contains("gunicorn"));
    let alone = matches!(Heartbeat::find(pid, &BTreeSet::new()), Found::It(_));
    if named || alone || !tree.workers.is_empty() {
        return Ok(());
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
    Err(AttachError::NotGunicorn { pid, name })
}

/// Returns the version of Gunicorn that a process runs, by its files.
pub(super) fn version(pid: u32, requests: &mut Requests) -> Option<String> {
    let folder = library(pid, requests)?;
    let text =
        fs::read_to_string(process::reachable(pid, Path::new(&format!("{folder}/gunicorn/__init__.py"))))
            .ok()?;
    version_of(&text)
}

/// Returns the folder in which a process's Gunicorn is installed.
pub(super) fn library(pid: u32, requests: &mut Requests) -> Option<String> {
    let files = requests.files(pid);
    let package =
        files.iter().find_map(|file| file.split_once("/gunicorn/").map(|(before, _)| before.to_owned()));
    // Without a right to read its stack: from where its program is.
    let program = || {
        let words = process::command_line(pid);
        let program = words.iter().find(|word| word.ends_with("/bin/gunicorn"))?;
        let library = Path::new(program).parent()?.parent()?.join("lib");
        let folders = fs::read_dir(process::reachable(pid, &library)).ok()?.flatten();
        let mut pythons = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
        let folder = library.join(pythons.next()?.file_name()).join("site-packages");
        Some(folder.to_string_lossy().into_owned())
    };
    package.or_else(program)
}

/// `version_info = (27, 0, 1)`
fn version_of(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("version_info"))?;
    let (_, numbers) = line.split_once('(')?;
    let numbers: Vec<&str> =
        numbers.split(')').next()?.split(',').map(|part| part.trim().trim_matches(['"', '\''])).collect();
    let plain = numbers.iter().all(|part| !part.is_empty() && part.len() < 16 && part.is_ascii());
    plain.then(|| numbers.join("."))
}

/// Refuses versions whose heartbeat is another.
pub(super) fn check_version(pid: u32, version: &str) -> Result<(), AttachError> {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < 22) {
        return Err(AttachError::TooOld { pid, version: version.to_owned() });
    }
    Ok(())
}

/// Returns the class of its workers: by a stack, which is the truth; else by what was set.
pub(super) fn class(tree: &Tree, settings: &Settings, requests: &mut Requests) -> Class {
    let ready = tree.workers.values().find(|worker| worker.gone_s.is_none() && !worker.boots());
    if let Some(worker) = ready {
        requests.look_at_class(worker.process.pid);
    }
    let named = Class::of_name(settings.get("worker_class").unwrap_or("sync"), settings.number("threads", 1));
    requests.class.unwrap_or(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_package() {
        assert_eq!(version_of("#\nversion_info = (27, 0, 1)\n__version__ = 1\n").as_deref(), Some("27.0.1"));
        assert_eq!(version_of("version_info = (26, 0, '0rc1')").as_deref(), Some("26.0.0rc1"));
        assert_eq!(version_of("version = 1"), None);
        assert!(check_version(1, "21.2.0").is_err());
        assert!(check_version(1, "23.0.0").is_ok() && check_version(1, "?").is_ok());
    }

    #[test]
    fn what_is_no_gunicorn_is_said() {
        let refused = |options: Options| master(&options).expect_err("nobody").to_string();
        assert!(refused(Options::default()).contains("neither"));
        assert!(refused(Options { pid: Some(u32::MAX >> 1), ..Options::default() }).contains("no process"));
        let folder = tempfile::tempdir().expect("a folder");
        let pidfile = folder.path().join("pid");
        let options = || Options { pidfile: Some(pidfile.clone()), ..Options::default() };
        assert!(refused(options()).contains("cannot be used"));
        fs::write(&pidfile, "x\n").expect("written");
        assert!(refused(options()).contains("no pid in it"));
        fs::write(&pidfile, format!("{}\n", std::process::id())).expect("written");
        let own = master(&options()).expect("this process");
        assert_eq!(own.pid, std::process::id());
    }
}
