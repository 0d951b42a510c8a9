//! The error log from Rust: Gunicorn's lines written straight to the file, or, where the user has a logger of his
//! own, handed to it.
//!
//! A worker's loop must not wait for the interpreter to say something, so a logger in Python is fed by a thread of
//! its own. The arbiter has no threads and always holds the interpreter: it calls the logger itself. Nor does anybody wait
//! for whoever reads the log: lines that a full pipe does not take are counted, not written.

use ferricorn_settings::Settings;
use ferricorn_sys::clock;
use ferricorn_worker::{Level, Log};
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};

/// Lines that may wait for a logger in Python; beyond that they are dropped, the server is not held up.
const WAITING_MAX: usize = 10_000;

/// How long a full pipe is waited for, once; until it takes a line again there is no further wait.
const PATIENCE_NS: u64 = 100_000_000;
/// A pipe that can be written to takes as much as this at once.
const PIECE: usize = 4096;

/// The error log as a file of ours.
#[derive(Debug)]
pub(crate) struct ErrorFile {
    path: Option<PathBuf>,
    least: Level,
    out: Mutex<Out>,
}

/// Where lines go.
#[derive(Debug)]
struct Out {
    fd: OwnedFd,
    /// Lines that nobody took since the last that somebody did.
    lost: u64,
}

impl Out {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, lost: 0 }
    }

    fn write(&mut self, least: Level, line: &str) {
        if self.lost > 0 && self.takes() {
            let text = format!("Lines of this log that were lost because nobody took them: {}", self.lost);
            let said = Level::Warning < least || self.put(&formatted(Level::Warning, &text));
            self.lost = if said { 0 } else { self.lost };
        }
        if !self.put(line) {
            self.lost += 1;
        }
    }

    /// Writes a line; returns whether it was taken.
    fn put(&self, line: &str) -> bool {
        // A log that cannot be written must not stop the server.
        line.as_bytes().chunks(PIECE).all(|piece| self.takes() && rustix::io::write(&self.fd, piece).is_ok())
    }

    /// Tells whether a write would not block; a file always takes what it gets.
    fn takes(&self) -> bool {
        let patience = clock::timespec(if self.lost == 0 { PATIENCE_NS } else { 0 });
        let mut waiting = [PollFd::new(&self.fd, PollFlags::OUT)];
        !matches!(poll(&mut waiting, Some(&patience)), Ok(0))
    }
}

impl ErrorFile {
    /// Opens the file that the settings name, to append to.
    pub(crate) fn of(settings: &Settings) -> io::Result<Self> {
        Self::open(log_path(settings.errorlog.as_deref()), level(&settings.loglevel))
    }

    fn open(path: Option<PathBuf>, least: Level) -> io::Result<Self> {
        let out = Mutex::new(Out::new(target(path.as_ref())?));
        Ok(Self { path, least, out })
    }
}

/// Returns a log's file; `None` for the terminal's stream.
pub(crate) fn log_path(name: Option<&str>) -> Option<PathBuf> {
    name.filter(|name| *name != "-").map(PathBuf::from)
}

fn target(path: Option<&PathBuf>) -> io::Result<OwnedFd> {
    match path {
        Some(path) => Ok(OpenOptions::new().append(true).create(true).open(path)?.into()),
        None => io::stderr().as_fd().try_clone_to_owned(),
    }
}

impl Log for ErrorFile {
    fn log(&self, level: Level, message: &str) {
        if level < self.least {
            return;
        }
        let line = formatted(level, message);
        self.out.lock().unwrap_or_else(PoisonError::into_inner).write(self.least, &line);
    }

    fn reopen(&self) {
        if let Ok(out) = target(self.path.as_ref()) {
            *self.out.lock().unwrap_or_else(PoisonError::into_inner) = Out::new(out);
        }
    }
}

fn formatted(level: Level, message: &str) -> String {
    let at = clock::stamp(clock::wall_seconds());
    format!("[{at}] [{}] [{}] {message}\n", std::process::id(), level.name())
}

/// Reads `loglevel`; what it does not know is info, as in Gunicorn.
fn level(name: &str) -> Level {
    match name.to_ascii_lowercase().as_str() {
        "debug" => Level::Debug,
        "warning" => Level::Warning,
        "error" => Level::Error,
        "critical" => Level::Critical,
        _ => Level::Info,
    }
}

/// Says one line through a logger in Python. Called attached.
pub(crate) fn say(logger: &Bound<'_, PyAny>, level: Level, message: &str) {
    let method = level.name().to_ascii_lowercase();
    // The message is no format: it may quote a client's bytes.
    if let Err(error) = logger.call_method1(method.as_str(), ("%s", message)) {
        error.write_unraisable(logger.py(), Some(logger));
    }
}

/// A logger in Python, fed by a thread.
#[derive(Debug)]
pub(crate) struct PythonLog {
    lines: mpsc::SyncSender<(Level, String)>,
}

impl PythonLog {
    /// Starts the thread that feeds the logger.
    pub(crate) fn start(logger: Py<PyAny>) -> io::Result<Self> {
        let (lines, waiting) = mpsc::sync_channel::<(Level, String)>(WAITING_MAX);
        std::thread::Builder::new().name("ferricorn-log".into()).spawn(move || {
            while let Ok((level, message)) = waiting.recv() {
                Python::attach(|py| say(logger.bind(py), level, &message));
            }
        })?;
        Ok(Self { lines })
    }
}

impl Log for PythonLog {
    fn log(&self, level: Level, message: &str) {
        let _ = self.lines.try_send((level, message.to_owned()));
    }

    fn reopen(&self) {
        // The application is told of USR1 and reopens its own files.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_gunicorns_shape() {
        let dir = std::env::temp_dir().join(format!("ferricorn-log-{}", std::process::id()));
        let log = ErrorFile::open(Some(dir.clone()), Level::Info).expect("a file");
        log.log(Level::Debug, "unseen");
        log.log(Level::Critical, "WORKER TIMEOUT (pid:1)");
        let text = std::fs::read_to_string(&dir).expect("written");
        std::fs::remove_file(&dir).expect("removed");
        let (date, rest) = text.split_at(27);
        assert!(date.starts_with("[20") && date.ends_with(']'), "{text}");
        assert_eq!(rest, format!(" [{}] [CRITICAL] WORKER TIMEOUT (pid:1)\n", std::process::id()));
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up() {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        let out = Mutex::new(Out::new(write));
        let log = ErrorFile { path: None, least: Level::Info, out };
        let begun_ns = clock::now_ns();
        for _ in 0..1000 {
            log.log(Level::Info, &"x".repeat(1000));
        }
        assert!(clock::now_ns() - begun_ns < 20 * PATIENCE_NS, "it was waited for more than once");
        let mut bytes = vec![0; 1 << 20];
        while rustix::io::ioctl_fionread(&read).expect("a pipe") > 0 {
            rustix::io::read(&read, &mut bytes).expect("read");
        }
        log.log(Level::Info, "once more");
        let count = rustix::io::read(&read, &mut bytes).expect("read");
        let text = String::from_utf8_lossy(&bytes[..count]);
        let (lost, last) = text.split_once('\n').expect("two lines");
        assert!(
            lost.contains("[WARNING] Lines of this log that were lost because nobody took them: 9"),
            "{text}"
        );
        assert!(last.ends_with("[INFO] once more\n"), "{text}");
    }
}
