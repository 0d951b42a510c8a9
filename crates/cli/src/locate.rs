//! Finds a server's scoreboard from outside: by pid, by pidfile, or by looking at every process that this user may
//! look into. The scoreboard is a memfd, so it is reached through the descriptor of a process that holds it.
//! Not for: reading what stands in it, and servers without one (`source`).

use crate::failure::Failure;
use ferricorn_core::scoreboard::Scoreboard;
use ferricorn_core::snapshot::Kind;
use ferricorn_sys::process::{field, start_time};
use ferricorn_sys::shared::SharedMemory;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The name under which the arbiter makes the scoreboard's memfd; `/proc/PID/fd` shows it.
pub const SCOREBOARD_NAME: &str = "ferricorn-scoreboard";

/// The name under which it hangs out its settings, as lines `name = value`.
pub const SETTINGS_NAME: &str = "ferricorn-settings";
/// Most bytes of these.
const SETTINGS_MAX: u64 = 1 << 20;

/// A server that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The arbiter.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Which server it is.
    pub kind: Kind,
    /// Where its observer answers; none where there is a scoreboard.
    pub socket: Option<PathBuf>,
}

/// Returns every server with a scoreboard whose processes this user may look into, by pid.
pub(crate) fn running() -> Vec<Found> {
    // Workers inherit the arbiter's descriptor: whoever of its holders started first made it.
    let mut holders: BTreeMap<(u64, u64), (u64, u32)> = BTreeMap::new();
    for pid in pids() {
        let Ok(Some(path)) = scoreboard_fd(pid) else { continue };
        let (Ok(file), Some(started)) = (fs::metadata(&path), start_time(pid)) else { continue };
        let first = holders.entry((file.dev(), file.ino())).or_insert((started, pid));
        *first = (*first).min((started, pid));
    }
    // The one that made it is the arbiter.
    let of = |(_, pid)| Found { pid, command: command_line(pid), kind: Kind::Ferricorn, socket: None };
    let mut found: Vec<Found> = holders.into_values().map(of).collect();
    found.sort_by_key(|server| server.pid);
    found
}

/// Returns the folders in which running servers keep their records, as far as this user may look.
pub(crate) fn state_dirs() -> Vec<PathBuf> {
    let boards = running().into_iter().filter_map(|server| open_pid(server.pid, "").ok().flatten());
    boards
        .map(|board| board.value().state_dir.load())
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Returns the only server, or says why there is not one.
pub(crate) fn the_one(servers: &[Found]) -> Result<&Found, Failure> {
    match servers {
        [server] => Ok(server),
        [] => Err(Failure::new(
            "no running server was found",
            "no process that you may look into holds a Ferricorn scoreboard, and no observer answers",
            "start one (`ferricorn APP`), or run this as the server's user: `sudo -u USER ferricornctl ...`",
        )),
        several => {
            let list: Vec<String> = several
                .iter()
                .map(|server| {
                    format!("\n         {:>7}  {:<9}  {}", server.pid, server.kind.name(), server.command)
                })
                .collect();
            Err(Failure::new(
                format!("{} servers are running", several.len()),
                format!("it is not clear which one you mean:{}", list.concat()),
                "name it: `--pid PID` or `--pidfile FILE`",
            ))
        }
    }
}

/// Maps the scoreboard that a process holds; none if it holds none.
pub(crate) fn open_pid(pid: u32, hint: &str) -> Result<Option<SharedMemory<Scoreboard>>, Failure> {
    let what = || format!("process {pid} could not be read");
    let path = match scoreboard_fd(pid) {
        Ok(Some(path)) => path,
        Ok(None) => return Ok(None),
        Err(error) => return Err(unreadable(what(), &error, hint)),
    };
    let file = File::options().read(true).write(true).open(&path);
    let file = file.map_err(|error| unreadable(what(), &error, hint))?;
    SharedMemory::map(OwnedFd::from(file)).map(Some).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => another_version(what(), "its scoreboard has another size"),
        _ => unreadable(what(), &error, hint),
    })
}

/// Returns the failure of a scoreboard that another version wrote.
pub(crate) fn another_version(what: impl Into<String>, why: &str) -> Failure {
    let hint = format!(
        "use the `ferricornctl` of the server's own installation; this one is {}",
        env!("CARGO_PKG_VERSION")
    );
    Failure::new(what, why, hint)
}

fn unreadable(what: String, error: &std::io::Error, hint: &str) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::new(what, "there is no such process", hint),
        ErrorKind::PermissionDenied => Failure::new(
            what,
            "it belongs to another user",
            "run this as the server's user (`sudo -u USER ferricornctl ...`) or as root",
        ),
        _ => Failure::new(what, error.to_string(), hint),
    }
}

pub(crate) fn read_pidfile(path: &Path) -> Result<u32, Failure> {
    let what = || format!("pidfile {} could not be used", path.display());
    let text = fs::read_to_string(path).map_err(|error| {
        let hint = "give the path that the server's `--pid` names; the file exists while it runs";
        Failure::new(what(), error.to_string(), hint)
    })?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| {
        let start: String = text.trim().chars().take(40).collect();
        Failure::new(
            what(),
            format!("it holds {start:?}, not a pid"),
            "give the server's pidfile, or `--pid PID`",
        )
    })
}

/// Returns the settings that a server has hung out; none if it has not, or may not be looked into.
pub(crate) fn settings(pid: u32) -> Option<String> {
    let path = memfd(pid, SETTINGS_NAME).ok()??;
    let mut text = String::new();
    File::open(path).ok()?.take(SETTINGS_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the path through which the process's scoreboard can be opened.
fn scoreboard_fd(pid: u32) -> std::io::Result<Option<PathBuf>> {
    memfd(pid, SCOREBOARD_NAME)
}

fn memfd(pid: u32, name: &str) -> std::io::Result<Option<PathBuf>> {
    let prefix = format!("/memfd:{name}");
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(entry) = entry else { continue };
        // A descriptor may be closed between the listing and the reading of its link.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if target.as_os_str().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the parent of a process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    field(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, 4)?.parse().ok()
}

pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    crate::units::printable(words.join(" ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn one_server_is_taken_and_none_or_several_are_explained() {
        let server =
            |pid, kind, command: &str| Found { pid, command: command.to_owned(), kind, socket: None };
        let one = [server(7, Kind::Ferricorn, "ferricorn a:app")];
        assert_eq!(the_one(&one).map(|server| server.pid), Ok(7));
        let none = the_one(&[]).expect_err("none");
        assert_eq!(none.what, "no running server was found");
        let several = [
            server(7, Kind::Ferricorn, "ferricorn: master [a]"),
            server(4711, Kind::Gunicorn, "gunicorn b:app"),
        ];
        let failure = the_one(&several).expect_err("several");
        assert_eq!(failure.what, "2 servers are running");
        assert_eq!(
            failure.why,
            "it is not clear which one you mean:\n               7  ferricorn  ferricorn: master [a]\n            4711  gunicorn   gunicorn b:app"
        );
    }

    #[test]
    fn a_pidfile_holds_a_pid_or_the_failure_says_what() {
        let table: [(&str, Result<u32, &str>); 6] = [
            ("123\n", Ok(123)),
            (" 123 ", Ok(123)),
            ("", Err("it holds \"\", not a pid")),
            ("0\n", Err("it holds \"0\", not a pid")),
            ("-1\n", Err("it holds \"-1\", not a pid")),
            ("pid: 5\n", Err("it holds \"pid: 5\", not a pid")),
        ];
        for (text, expected) in table {
            let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
            file.write_all(text.as_bytes()).expect("written");
            let result = read_pidfile(file.path());
            assert_eq!(
                result.as_ref().map_err(|failure| failure.why.as_str()),
                expected.as_ref().map_err(|why| *why)
            );
        }
        let missing = read_pidfile(Path::new("/nowhere/web.pid")).expect_err("missing");
        assert_eq!(missing.what, "pidfile /nowhere/web.pid could not be used");
    }

    #[test]
    fn a_process_without_a_scoreboard_or_without_life_is_told_apart() {
        assert!(
            open_pid(std::process::id(), "hint").expect("readable").is_none(),
            "a test holds no scoreboard"
        );
        // Above the kernel's largest pid.
        let nobody = open_pid(u32::MAX, "hint").map(drop).expect_err("no such process");
        assert_eq!((nobody.why.as_str(), nobody.hint.as_str()), ("there is no such process", "hint"));
    }
}
