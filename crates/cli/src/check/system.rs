//! What the host tells of a server's processes: who stops it, where its files lie, what its observer may do, which variables
//! the application got. Not for: judging.

use ferricorn_core::check::{StateDir, Stop, Tracing};
use rustix::fs::{FsWord, StatVfsMountFlags, statfs, statvfs};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program that is asked may take, and how much it may say.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_MAX: u64 = 32 << 20;
/// Bit of CAP_SYS_PTRACE in a set of capabilities (capabilities(7)).
const SYS_PTRACE: u64 = 1 << 19;
/// `f_type` of tmpfs and ramfs (statfs(2)).
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];
/// `f_type` of other file systems that matter (statfs(2), linux/magic.h), and their names.
const NETWORK_AND_LAYERS: [(FsWord, &str); 6] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x517b, "smb"),
    (0x794c_7630, "overlay"),
    (0x6573_5546, "fuse"),
];
/// Words in the names of variables that speak of databases.
const DATABASES: [&str; 8] =
    ["DATABASE", "POSTGRES", "PGHOST", "PGDATABASE", "MYSQL", "DB_HOST", "DB_URL", "SQLALCHEMY"];

/// Runs a program to its end; returns what it wrote to standard output.
///
/// # Errors
/// It is not there, took too long, or failed: why, in words.
pub(super) fn ask(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    // Both ends are drained, or a program with much to say would wait for ever.
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let drain = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let read = stream.map(|stream| stream.take(ANSWER_MAX).read_to_end(&mut text));
            drop(read);
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = drain(stdout.map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let err = drain(stderr.map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() >= end => {
                // It is our child, and has not been waited for: the pid is its own.
                drop((child.kill(), child.wait()));
                break Err(format!("{program} took longer than {} s", PATIENCE.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => break Err(format!("{program}: {error}")),
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    match status? {
        status if status.success() => Ok(out),
        status => {
            let line = err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            Err(format!("{program}: {status}: {line}"))
        }
    }
}

/// Asks systemd how long it waits for the end of a process; none if the process is in no unit of the system's.
///
/// # Errors
/// It could not be asked.
pub(super) fn stop(pid: u32) -> Result<Option<Stop>, String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let Some(unit) = unit_of(&groups) else { return Ok(None) };
    let text = ask("systemctl", &["show", "--property", "TimeoutStopUSec", "--value", "--", unit])?;
    // Without an end there is nothing to compare with.
    Ok(systemd_span_s(text.trim()).map(|timeout_s| Stop {
        by: format!("systemd ({unit})"),
        timeout_s,
        setting: "`TimeoutStopSec`".to_owned(),
    }))
}

/// Returns the service that a process belongs to; none of a user's own manager, whom only that user may ask.
fn unit_of(groups: &str) -> Option<&str> {
    let path = groups.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })?;
    let unit = path.split('/').rfind(|part| part.ends_with(".service"))?;
    (!path.contains("/user@") && !unit.starts_with("user@")).then_some(unit)
}

/// Reads a span as systemd prints it: `1min 30s`; none of `infinity`.
fn systemd_span_s(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 9] = [
        ("month", 2_629_800.0),
        ("min", 60.0),
        ("ms", 0.001),
        ("us", 0.000_001),
        ("y", 31_557_600.0),
        ("w", 604_800.0),
        ("d", 86_400.0),
        ("h", 3600.0),
        ("s", 1.0),
    ];
    let part = |word: &str| {
        let (name, factor) = UNITS.into_iter().find(|(name, _)| word.ends_with(name))?;
        Some(word.strip_suffix(name)?.parse::<f64>().ok()? * factor)
    };
    let parts: Option<Vec<f64>> = text.split_whitespace().map(part).collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.iter().sum())
}

/// Returns who a process runs as (effective user and group) and its effective capabilities.
fn credentials(pid: u32) -> Option<(u32, u32, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let effective = |name| line(name)?.split_whitespace().nth(1)?.parse().ok();
    let capabilities = u64::from_str_radix(line("CapEff:")?, 16).ok()?;
    Some((effective("Uid:")?, effective("Gid:")?, capabilities))
}

/// Looks whether the observer of an arbiter can read a worker; none if there is no observer.
pub(super) fn tracing(arbiter: u32, worker: u32) -> Option<Tracing> {
    let children = fs::read_to_string(format!("/proc/{arbiter}/task/{arbiter}/children")).ok()?;
    let is_observer = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"ferricorn: reflex"))
    };
    let observer = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_observer)?;
    let (observer_uid, _, capabilities) = credentials(observer)?;
    let (worker_uid, ..) = credentials(worker)?;
    Some(Tracing {
        observer_uid,
        worker_uid,
        user_changed: credentials(arbiter)?.0 != worker_uid,
        may_trace: capabilities & SYS_PTRACE != 0,
    })
}

/// Looks whether a server may write to the folder of its records.
pub(super) fn state_dir(path: &Path, arbiter: u32) -> StateDir {
    let trouble = match (fs::metadata(path), credentials(arbiter)) {
        (Err(error), _) => Some(error.to_string()),
        (Ok(folder), _) if !folder.is_dir() => Some("it is no folder".to_owned()),
        (Ok(_), _) if is_read_only(path) => Some("its file system is mounted read-only".to_owned()),
        (Ok(folder), Some((user, group, _))) => {
            let bit = match (user == folder.uid(), group == folder.gid()) {
                (true, _) => 0o300,
                (_, true) => 0o030,
                _ => 0o003,
            };
            let may = user == 0 || folder.mode() & bit == bit;
            (!may).then(|| {
                format!(
                    "user {user} may not write there (mode {:o}, owner {})",
                    folder.mode() & 0o777,
                    folder.uid()
                )
            })
        }
        (Ok(_), None) => None,
    };
    StateDir { path: path.display().to_string(), trouble, file_system: file_system(path, arbiter) }
}

/// Returns on what a folder is, as the server sees it: in a container of its own that is another than here.
fn file_system(path: &Path, arbiter: u32) -> Option<String> {
    let seen = Path::new("/proc").join(arbiter.to_string()).join("root").join(path.strip_prefix("/").ok()?);
    Some(name_of(statfs(&seen).ok()?.f_type).to_owned())
}

fn name_of(kind: FsWord) -> &'static str {
    match IN_MEMORY.iter().position(|known| *known == kind) {
        Some(0) => "tmpfs",
        Some(_) => "ramfs",
        None => NETWORK_AND_LAYERS.iter().find(|(known, _)| *known == kind).map_or("other", |(_, name)| name),
    }
}

fn is_read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|about| about.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Returns the folder of a Gunicorn worker's heartbeat file if that is on a disk; none if it is in memory, or cannot be seen.
pub(super) fn heartbeat_on_disk(worker: u32) -> Option<String> {
    let entries = fs::read_dir(format!("/proc/{worker}/fd")).ok()?.flatten();
    let file = entries.filter_map(|entry| Some((fs::read_link(entry.path()).ok()?, entry.path())));
    let is_heartbeat = |target: &Path| {
        target.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wgunicorn-"))
    };
    let (target, path) = file.into_iter().find(|(target, _)| is_heartbeat(target))?;
    let kind = statfs(&path).ok()?.f_type;
    let in_memory = IN_MEMORY.contains(&kind);
    (!in_memory).then(|| target.parent().map(|folder| folder.display().to_string())).flatten()
}

/// Returns the names of a process's environment variables, as it was started with; never their values.
pub(super) fn variables(pid: u32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let name = |entry: &[u8]| {
        String::from_utf8_lossy(entry.split(|byte| *byte == b'=').next().unwrap_or_default()).into_owned()
    };
    Some(bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).map(name).collect())
}

/// Tells whether the name of a variable speaks of a database.
pub(super) fn is_database(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    DATABASES.iter().any(|word| upper.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_service_is_found_in_its_group() {
        let table = [
            ("0::/system.slice/shop.service\n", Some("shop.service")),
            ("0::/system.slice/shop.service/worker\n", Some("shop.service")),
            ("1:name=systemd:/system.slice/shop.service\n", Some("shop.service")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service\n", None),
            ("0::/user.slice/user-0.slice/session-3.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ];
        for (groups, unit) in table {
            assert_eq!(unit_of(groups), unit, "{groups}");
        }
    }

    #[test]
    fn spans_of_systemd_are_read() {
        let table = [
            ("1min 30s", Some(90.0)),
            ("40s", Some(40.0)),
            ("2h", Some(7200.0)),
            ("500ms", Some(0.5)),
            ("infinity", None),
            ("", None),
        ];
        for (text, seconds) in table {
            assert_eq!(systemd_span_s(text), seconds, "{text}");
        }
    }

    #[test]
    fn programs_are_asked_within_limits() {
        assert_eq!(ask("sh", &["-c", "echo yes"]).as_deref(), Ok("yes\n"));
        let failed = ask("sh", &["-c", "echo why >&2; exit 3"]).expect_err("failed");
        assert!(failed.ends_with("exit status: 3: why"), "{failed}");
        assert!(ask("no-such-program-here", &[]).is_err());
        // More than a pipe holds.
        assert_eq!(ask("sh", &["-c", "head -c 300000 /dev/zero"]).map(|text| text.len()), Ok(300_000));
    }

    #[test]
    fn a_folder_is_looked_at_as_the_servers_user_sees_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let me = std::process::id();
        assert_eq!(state_dir(folder.path(), me).trouble, None);
        assert!(state_dir(&folder.path().join("missing"), me).trouble.is_some());
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        assert_eq!(state_dir(&file, me).trouble.as_deref(), Some("it is no folder"));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).expect("set");
        let is_root = credentials(me).expect("this process").0 == 0;
        assert_eq!(state_dir(folder.path(), me).trouble.is_none(), is_root);
    }

    #[test]
    fn file_systems_have_names() {
        let me = std::process::id();
        assert_eq!(file_system(Path::new("/proc"), me).as_deref(), Some("other"));
        assert_eq!(file_system(Path::new("/no/such/folder"), me), None);
        assert_eq!(file_system(Path::new("no/absolute/one"), me), None);
        assert_eq!(file_system(Path::new("/"), u32::MAX), None);
        let table =
            [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0xff53_4d42, "cifs"), (0xef53, "other")];
        for (kind, name) in table {
            assert_eq!(name_of(kind), name);
        }
        if statfs("/dev/shm").is_ok_and(|about| about.f_type == IN_MEMORY[0]) {
            assert_eq!(state_dir(Path::new("/dev/shm"), me).file_system.as_deref(), Some("tmpfs"));
        }
    }

    #[test]
    fn variables_are_told_by_their_names() {
        let names = variables(std::process::id()).expect("this process");
        assert!(names.iter().all(|name| !name.contains('=')));
        for (name, expected) in
            [("DATABASE_URL", true), ("shop_database_url", true), ("PATH", false), ("DEBUG", false)]
        {
            assert_eq!(is_database(name), expected, "{name}");
        }
        assert_eq!(heartbeat_on_disk(std::process::id()), None);
        assert_eq!(tracing(std::process::id(), std::process::id()), None);
    }
}
