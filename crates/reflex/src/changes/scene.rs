//! Where an application is to be found: what its server was told, or what can be seen of a stock Gunicorn. Not for: reading any
//! of it.

use std::path::{Path, PathBuf};

/// Where to look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// Pid of the arbiter.
    pub(crate) arbiter: u32,
    /// The application's folder as it was said: a link may lead elsewhere after a deploy. None if nobody said.
    pub(crate) folder: Option<PathBuf>,
    /// More folders of its code, and those of libraries: `pythonpath`, or what Python itself searches.
    pub(crate) python_path: Vec<PathBuf>,
    /// The configuration file.
    pub(crate) config: Option<PathBuf>,
    /// Lines `name = value` of the settings; empty where they are known from elsewhere.
    pub(crate) settings: String,
    /// The application was loaded by the arbiter: workers run what that has read, whatever is on disk.
    pub(crate) preload: bool,
}

/// Tells whether a folder holds installed distributions, or Python's own modules, and no application.
pub(super) fn is_library(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        matches!(&*name, "site-packages" | "dist-packages")
            || name
                .strip_prefix("python3.")
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    }) || path.extension().is_some_and(|extension| extension == "zip")
}

/// Returns the folder of distributions in a path, if one is on it.
pub(super) fn library_in(path: &str) -> Option<PathBuf> {
    for name in ["/site-packages", "/dist-packages"] {
        if let Some(at) = path.find(name) {
            let end = at + name.len();
            if path[end..].is_empty() || path[end..].starts_with('/') {
                return Some(PathBuf::from(&path[..end]));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_from_applications() {
        let table = [
            ("/srv/shop", false, None),
            (
                "/srv/shop/.venv/lib/python3.12/site-packages",
                true,
                Some("/srv/shop/.venv/lib/python3.12/site-packages"),
            ),
            ("/usr/lib/python3/dist-packages/apt/x.so", true, Some("/usr/lib/python3/dist-packages")),
            ("/usr/lib/python3.11", true, None),
            ("/usr/lib/python311.zip", true, None),
            ("/srv/python3.x", false, None),
            ("/srv/site-packages-old", false, None),
        ];
        for (path, library, within) in table {
            assert_eq!(is_library(Path::new(path)), library, "{path}");
            assert_eq!(library_in(path), within.map(PathBuf::from), "{path}");
        }
    }
}
