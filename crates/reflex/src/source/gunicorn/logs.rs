//! The logs of a Gunicorn: which files they are, and what has been written to them. Files are named by whoever attaches, by the
//! settings, or are found among what the processes have open. Not for: what is made of it.

use super::events::{self, Event};
use super::format::{self, Format, Line};
use super::settings::Settings;
use super::tail::Tail;
use crate::process;
use std::path::{Path, PathBuf};

/// Files that are followed.
const FILES_MAX: usize = 4;
/// Bytes of a file's end from which it is guessed what it is.
const GUESS_BYTES: u64 = 16 << 10;

/// What stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Requests alone: nobody's name or path there is taken for an event.
    Access,
    /// Events, and requests too if they look like those.
    Any,
}

#[derive(Debug)]
struct Followed {
    tail: Tail,
    role: Role,
    /// By its lines, where the settings do not say.
    guessed: Option<Format>,
}

/// The logs.
#[derive(Debug, Default)]
pub(super) struct Logs {
    files: Vec<Followed>,
    format: Option<Format>,
    /// Of the lines so far: those with a duration, and those without.
    pub(super) with_duration: u64,
    pub(super) without_duration: u64,
    /// There is an error log that is read, and an access log.
    pub(super) has_events: bool,
    pub(super) has_requests: bool,
    /// A file is read into which nothing had been written: it may be either.
    may_have: bool,
}

/// What has been written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) requests: Vec<Line>,
    pub(super) events: Vec<Event>,
}

impl Logs {
    /// Finds the logs of an arbiter and opens them at their ends.
    pub(super) fn find(
        access: Option<&Path>,
        error: Option<&Path>,
        settings: &Settings,
        pids: &[u32],
    ) -> Self {
        let mut logs =
            Self { format: settings.get("access_log_format").and_then(Format::of), ..Self::default() };
        let theirs = |path: PathBuf| pids.first().map_or(path.clone(), |pid| process::reachable(*pid, &path));
        let access = access.map(Path::to_owned).or(settings.path("accesslog").map(theirs));
        let error = error.map(Path::to_owned).or(settings.path("errorlog").map(theirs));
        if access != error {
            logs.has_requests |= logs.follow(access.as_deref(), Role::Access);
        }
        let follows = logs.follow(error.as_deref(), Role::Any);
        (logs.has_events, logs.has_requests) = (follows, logs.has_requests || follows && access == error);
        for pid in pids {
            for (path, appends) in open_logs(*pid) {
                let path = process::reachable(*pid, &path);
                let (events, requests) = looked_at(&path);
                // Where nothing has been written yet, it may become either.
                let may_be =
                    events || requests || appends && path.metadata().is_ok_and(|file| file.len() == 0);
                if may_be && !(logs.has_events && logs.has_requests) {
                    logs.follow(Some(&path), if events || !requests { Role::Any } else { Role::Access });
                    logs.has_events |= events;
                    logs.has_requests |= requests;
                    logs.may_have |= !events && !requests;
                }
            }
        }
        logs
    }

    /// Follows a file; tells whether it can be read.
    fn follow(&mut self, path: Option<&Path>, role: Role) -> bool {
        let Some(path) = path else { return false };
        if self.files.len() >= FILES_MAX || self.files.iter().any(|followed| followed.tail.path() == path) {
            return false;
        }
        let tail = Tail::open(path);
        let is_open = tail.is_open();
        self.files.push(Followed { tail, role, guessed: None });
        is_open
    }

    /// Tells whether requests are logged without the time that they took.
    pub(super) fn lacks_durations(&self) -> bool {
        self.with_duration == 0 && self.without_duration > 0
    }

    /// Returns what could not be read.
    pub(super) fn gaps(&self) -> Vec<String> {
        let mut gaps: Vec<String> = self
            .files
            .iter()
            .filter(|followed| !followed.tail.is_open())
            .map(|followed| format!("the log {} cannot be read", followed.tail.path().display()))
            .collect();
        if !self.has_requests && !self.may_have {
            gaps.push(
                "no access log is read: requests that go well are not counted. Name it with --access-log, or set accesslog"
                    .to_owned(),
            );
        } else if self.lacks_durations() {
            gaps.push(
                "the access log has no durations: those below a second are counted as nothing. Put %(D)s into \
                 access_log_format"
                    .to_owned(),
            );
        }
        if !self.has_events && !self.may_have {
            gaps.push(
                "no error log is read: reloads and planned ends of workers are seen late or not at all. Name it with \
                 --error-log, or set errorlog"
                    .to_owned(),
            );
        }
        gaps
    }

    /// Reads what has been written since the last time.
    pub(super) fn read(&mut self) -> Written {
        let mut written = Written::default();
        for followed in &mut self.files {
            let (role, guessed, known) = (followed.role, &mut followed.guessed, self.format.as_ref());
            followed.tail.read(|line| match request(line, known, guessed) {
                Some(request) => written.requests.push(request),
                None if role == Role::Any => written.events.extend(events::read(line)),
                None => {}
            });
        }
        self.has_events |= !written.events.is_empty();
        self.has_requests |= !written.requests.is_empty();
        for request in &written.requests {
            match request.us {
                Some(_) => self.with_duration += 1,
                None => self.without_duration += 1,
            }
        }
        written
    }
}

/// Reads a line as a request: by the format of the settings, by the one that was guessed, by one that is now, or wherever a
/// request line stands in it.
fn request(line: &str, known: Option<&Format>, guessed: &mut Option<Format>) -> Option<Line> {
    let read = |format: &Format| format.read(line);
    if let Some(found) = known.and_then(read).or(guessed.as_ref().and_then(read)) {
        return Some(found);
    }
    if let Some(format) = Format::guess(line) {
        let found = format.read(line);
        *guessed = Some(format);
        return found;
    }
    format::anywhere(line)
}

/// Returns the files that a process has open for writing and that may be logs; and whether it appends to each.
fn open_logs(pid: u32) -> Vec<(PathBuf, bool)> {
    let flags = |fd: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
        i32::from_str_radix(flags.trim(), 8).unwrap_or(0)
    };
    // O_WRONLY or O_RDWR; O_APPEND.
    let opened = |fd: i32| Some(flags(fd)).filter(|flags| flags & 3 != 0).map(|flags| flags & 0o2000 != 0);
    let is_path =
        |path: &str| path.starts_with('/') && !path.ends_with(" (deleted)") && !path.starts_with("/dev/");
    let files = process::descriptors(pid).unwrap_or_default().into_iter().filter(|(_, path)| is_path(path));
    let mut found: Vec<(PathBuf, bool)> =
        files.filter_map(|(fd, path)| Some((PathBuf::from(path), opened(fd)?))).collect();
    found.dedup();
    found
}

/// Tells whether the last lines of a file are events, and whether they are requests.
fn looked_at(path: &Path) -> (bool, bool) {
    use std::io::{Read, Seek, SeekFrom};
    let read = || {
        let mut file = std::fs::File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(GUESS_BYTES))).ok()?;
        let mut bytes = Vec::new();
        file.take(GUESS_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let requests = text.lines().any(|line| Format::guess(line).is_some() || format::anywhere(line).is_some());
    let events = text.lines().any(|line| events::read(line).is_some());
    (events, requests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const EVENT: &str = "[2026-11-26 10:00:00 +0000] [7] [CRITICAL] WORKER TIMEOUT (pid:9)\n";
    const REQUEST: &str = "1.2.3.4 - - [26/Nov/2026:10:00:00 +0000] \"GET /a HTTP/1.1\" 200 1 \"-\" \"WORKER TIMEOUT (pid:9)\"\n";

    #[test]
    fn a_clients_words_are_no_events() {
        let folder = tempfile::tempdir().expect("a folder");
        let (access, error) = (folder.path().join("access"), folder.path().join("error"));
        for path in [&access, &error] {
            std::fs::write(path, "").expect("written");
        }
        let mut logs = Logs::find(Some(&access), Some(&error), &Settings::default(), &[]);
        for path in [&access, &error] {
            let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("opened");
            file.write_all(format!("{EVENT}{REQUEST}").as_bytes()).expect("written");
        }
        let written = logs.read();
        assert_eq!(written.events, [Event::Timeout(9)], "of the error log alone");
        assert_eq!(written.requests.len(), 2);
        assert!(logs.gaps().iter().any(|gap| gap.contains("no durations")), "{:?}", logs.gaps());
    }

    #[test]
    fn logs_are_found_among_what_a_process_has_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("both.log");
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).expect("opened");
        file.write_all(format!("{EVENT}{REQUEST}").as_bytes()).expect("written");
        let mut logs = Logs::find(None, None, &Settings::default(), &[std::process::id()]);
        file.write_all(format!("{EVENT}{REQUEST}").as_bytes()).expect("written");
        let written = logs.read();
        assert_eq!((written.events.len(), written.requests.len()), (1, 1));
        assert!(logs.has_events && logs.has_requests);
    }

    #[test]
    fn without_logs_that_is_said() {
        let logs = Logs::find(None, Some(Path::new("/nowhere/log")), &Settings::default(), &[]);
        let gaps = logs.gaps().join("\n");
        for part in ["/nowhere/log cannot be read", "no access log", "no error log"] {
            assert!(gaps.contains(part), "{gaps}");
        }
    }
}
