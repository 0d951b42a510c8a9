//! Where a store lies. Not for: opening it.

use std::path::{Path, PathBuf};

/// The file of the store in its folder. Beside it lie SQLite's own `-wal` and `-shm`.
pub const FILE: &str = "reflex.sqlite";
/// While this file is in the folder, observers do nothing by themselves.
pub const OFF: &str = "reflex.off";

/// Returns where the store goes if `state_dir` is not set: systemd's `STATE_DIRECTORY`, root's `/var/lib/ferricorn`, or
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

/// Returns the path of SQLite's journal of a folder's store.
pub(super) fn wal(folder: &Path) -> PathBuf {
    folder.join(format!("{FILE}-wal"))
}

/// Returns a path as SQLite's URI (RFC 8089), for options that only a URI can have.
pub(super) fn uri(path: &Path, options: &str) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                uri.push(char::from(*byte))
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{uri}?{options}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_the_path_and_nothing_else() {
        let table = [
            ("/var/lib/ferricorn/reflex.sqlite", "file:/var/lib/ferricorn/reflex.sqlite?mode=ro"),
            ("/a b?vfs=x#y%41", "file:/a%20b%3Fvfs%3Dx%23y%2541?mode=ro"),
        ];
        for (path, expected) in table {
            assert_eq!(uri(Path::new(path), "mode=ro"), expected);
        }
    }
}
