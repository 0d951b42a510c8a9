//! What a process says of itself: variables, command line, interpreter, container, libraries that it has mapped. Values of variables
//! become salted hashes here and go no further; of a few that name a revision, the value is kept. Not for: files of the application.

use super::distributions;
use super::files::hex;
use ferricorn_core::change::Python;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most bytes of a file in `/proc` that are read. An environment that is longer is cut.
const TEXT_MAX: u64 = 256 << 10;
const MAPS_MAX: u64 = 4 << 20;
/// Most variables that are followed.
const VARIABLES_MAX: usize = 512;
/// Bytes of a revision's name.
const REVISION_MAX: usize = 80;

/// Variables whose values name what is deployed, and are no secrets: of CI systems, platforms and monitoring.
const REVISIONS: [&str; 12] = [
    "GIT_SHA",
    "GIT_COMMIT",
    "SOURCE_VERSION",
    "SOURCE_COMMIT",
    "HEROKU_SLUG_COMMIT",
    "HEROKU_RELEASE_VERSION",
    "K_REVISION",
    "DD_VERSION",
    "OTEL_SERVICE_VERSION",
    "SENTRY_RELEASE",
    "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA",
];

/// Variables that are others in each process or shell, and change nothing.
const VOLATILE: [&str; 24] = [
    "_",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "HOSTNAME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "GUNICORN_PID",
    "GUNICORN_FD",
    "COLUMNS",
    "LINES",
    "WINDOWID",
    "TERM_SESSION_ID",
    "TMUX_PANE",
    "XDG_SESSION_ID",
];

/// What is known of variables.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub(super) hashes: BTreeMap<String, String>,
    pub(super) revisions: BTreeMap<String, String>,
    /// Folders of `PYTHONPATH`.
    pub(super) python_path: Vec<PathBuf>,
    /// Prefixes of environments that some variable names.
    pub(super) prefixes: Vec<PathBuf>,
}

/// Reads the variables that a process was started with; none if they may not be read.
pub(super) fn variables(pid: u32, salt: &str) -> Option<Variables> {
    let mut bytes = read(&format!("/proc/{pid}/environ"), TEXT_MAX)?;
    let found = sorted(&bytes, salt);
    // Nothing of it stays in memory.
    bytes.fill(0);
    Some(found)
}

fn sorted(environ: &[u8], salt: &str) -> Variables {
    let mut found = Variables::default();
    for entry in environ.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        let Some((name, value)) = entry.split_once('=') else { continue };
        match name {
            "PYTHONPATH" => found.python_path = std::env::split_paths(value).collect(),
            "VIRTUAL_ENV" => found.prefixes.push(value.into()),
            // What a shell has started: `/srv/.venv/bin/gunicorn`.
            "_" => found.prefixes.extend(prefix(value)),
            _ => {}
        }
        if REVISIONS.contains(&name) && !value.is_empty() {
            let value = ferricorn_core::units::cut(value, REVISION_MAX);
            found.revisions.insert(name.to_owned(), ferricorn_core::units::printable(value));
        } else if !VOLATILE.contains(&name) && !name.is_empty() && found.hashes.len() < VARIABLES_MAX {
            found.hashes.insert(name.to_owned(), salted(salt, name, value));
        }
    }
    found
}

/// Returns a hash of a value that cannot be tried out without the salt.
pub(super) fn salted(salt: &str, name: &str, value: &str) -> String {
    let mut hash = Sha256::new();
    for text in [salt, name, value] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hex(&hash.finalize())
}

/// Returns the prefix of an environment that has this program in `bin`.
fn prefix(program: &str) -> Option<PathBuf> {
    let path = Path::new(program);
    let name = path.file_name()?.to_str()?;
    let is_ours = ["python", "gunicorn", "ferricorn"].iter().any(|known| name.starts_with(known));
    let bin = path.parent()?;
    (is_ours && path.is_absolute() && bin.ends_with("bin")).then(|| bin.parent().map(Path::to_owned))?
}

/// Returns a hash of a command line; none of a title in its place. And the prefixes of environments that it names.
pub(super) fn command(pid: u32, salt: &str) -> (Option<String>, Vec<PathBuf>) {
    let bytes = read(&format!("/proc/{pid}/cmdline"), TEXT_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split('\0').filter(|word| !word.is_empty()).collect();
    let is_title =
        words.len() < 2 || words[0].starts_with("gunicorn: ") || words[0].starts_with("ferricorn: ");
    let prefixes = words.iter().take(3).filter_map(|word| prefix(word)).collect();
    ((!is_title).then(|| salted(salt, "cmdline", &words.join("\0"))), prefixes)
}

/// Returns where a process's root is from here: nothing where it is ours, as outside of containers.
pub(super) fn root(pid: u32) -> PathBuf {
    let theirs = PathBuf::from(format!("/proc/{pid}/root"));
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    match (identity(Path::new("/")), identity(&theirs.join("."))) {
        (Some(own), Some(other)) if own != other => theirs,
        _ => PathBuf::new(),
    }
}

/// Returns a path of a process's, whose root is this, as we reach it.
pub(super) fn under(root: &Path, path: &Path) -> PathBuf {
    if root.as_os_str().is_empty() {
        return path.to_owned();
    }
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Tells whether a process is there, and has not ended.
pub(super) fn lives(pid: u32) -> bool {
    let stat = read(&format!("/proc/{pid}/stat"), TEXT_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&stat);
    text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Returns the working folder of a process.
pub(super) fn folder(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Returns the interpreter of a process, and its prefix.
pub(super) fn python(pid: u32, root: &Path) -> (Python, Option<PathBuf>) {
    let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else { return (Python::default(), None) };
    // A program that was replaced while it runs.
    let text = program.to_string_lossy();
    let path = text.strip_suffix(" (deleted)").unwrap_or(&text).to_owned();
    let found = fs::metadata(under(root, Path::new(&path)));
    let build = found.map(|found| salted("", "build", &format!("{} {}", found.len(), found.mtime())));
    let name = path.rsplit('/').next().unwrap_or_default();
    let version = name.strip_prefix("python").filter(|version| version.starts_with("3.")).unwrap_or_default();
    let prefix = prefix(&path);
    (Python { version: version.to_owned(), build: build.unwrap_or_default(), path }, prefix)
}

/// Returns the folders of distributions that a process has mapped something from.
pub(super) fn libraries(pid: u32) -> BTreeSet<PathBuf> {
    let maps = read(&format!("/proc/{pid}/maps"), MAPS_MAX).unwrap_or_default();
    distributions::mapped(&String::from_utf8_lossy(&maps))
}

/// Returns the beginning of the id of the container that a process is in; empty outside of one.
pub(super) fn container(pid: u32) -> String {
    let text = |name: &str| read(&format!("/proc/{pid}/{name}"), TEXT_MAX).unwrap_or_default();
    // With a namespace of its own the control group is `/`, and the mounts tell.
    let found =
        ["cgroup", "mountinfo"].iter().find_map(|name| container_in(&String::from_utf8_lossy(&text(name))));
    found.unwrap_or_default()
}

/// `/docker/ID`, `docker-ID.scope`, `cri-containerd-ID.scope`, `/var/lib/docker/containers/ID/hostname`
fn container_in(text: &str) -> Option<String> {
    const DIGITS: usize = 64;
    let is_digit = |character: char| character.is_ascii_digit() || ('a'..='f').contains(&character);
    let runs = text.split(|character| !is_digit(character));
    runs.filter(|run| run.len() == DIGITS).map(|run| run[..12].to_owned()).next()
}

fn read(path: &str, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_never_leave_but_names_and_revisions_do() {
        let environ = b"HOME=/root\0DATABASE_URL=postgres://me:s3cret@db/x\0GIT_SHA=3f2a91c\0SHLVL=2\0_=/srv/v/bin/gunicorn\0PYTHONPATH=/a:/b\0broken\0";
        let found = sorted(environ, "salt");
        let names: Vec<&str> = found.hashes.keys().map(String::as_str).collect();
        assert_eq!(names, ["DATABASE_URL", "HOME", "PYTHONPATH"]);
        assert!(!format!("{found:?}").contains("s3cret"));
        assert_eq!(found.revisions.get("GIT_SHA").map(String::as_str), Some("3f2a91c"));
        assert_eq!(found.python_path, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(found.prefixes, [PathBuf::from("/srv/v")]);
        assert_ne!(found.hashes, sorted(environ, "other").hashes);
        assert_eq!(found.hashes, sorted(environ, "salt").hashes);
        let many: Vec<u8> =
            (0..VARIABLES_MAX + 9).flat_map(|number| format!("V{number}=1\0").into_bytes()).collect();
        assert_eq!(sorted(&many, "").hashes.len(), VARIABLES_MAX);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        assert!(variables(pid, "x").is_some_and(|found| !found.hashes.is_empty()));
        assert_eq!(variables(u32::MAX >> 1, "x").map(|found| found.hashes), None);
        assert_eq!(root(pid), PathBuf::new());
        assert!(folder(pid).is_some_and(|folder| folder.is_absolute()));
        let (python, prefix) = python(pid, Path::new(""));
        assert!(!python.path.is_empty() && python.version.is_empty() && prefix.is_none());
    }

    #[test]
    fn containers_have_ids() {
        let id = "0123456789ab".repeat(6)[..64].to_owned();
        let table = [
            (format!("0::/system.slice/docker-{id}.scope\n"), Some("0123456789ab")),
            (format!("12:pids:/kubepods/burstable/pod1234/{id}\n"), Some("0123456789ab")),
            ("0::/user.slice\n".to_owned(), None),
        ];
        for (text, expected) in table {
            assert_eq!(container_in(&text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn programs_name_their_environment() {
        let table = [
            ("/srv/v/bin/python3.12", Some("/srv/v")),
            ("/srv/v/bin/gunicorn", Some("/srv/v")),
            ("/srv/v/bin/sh", None),
            ("bin/python", None),
            ("/srv/python", None),
        ];
        for (program, expected) in table {
            assert_eq!(prefix(program), expected.map(PathBuf::from), "{program}");
        }
    }
}
