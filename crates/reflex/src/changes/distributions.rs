//! Installed distributions, by the names of their `dist-info` and `egg-info` folders (PyPA's "Recording installed projects",
//! PEP 376): one listing of each folder that Python looks into. Not for: what is in them.

use super::scene::library_in;
use ferricorn_core::change::DISTRIBUTIONS_MAX;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 20_000;
/// Most versions of Python below `lib`.
const PYTHONS_MAX: usize = 16;
/// Bytes of a distribution's name and version.
const NAME_MAX: usize = 128;

/// Returns the distributions in these folders, in order.
pub(super) fn installed(folders: &[PathBuf]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for folder in folders.iter().collect::<BTreeSet<_>>() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
        found.extend(entries.filter_map(|entry| distribution(entry.file_name().to_str()?)));
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(DISTRIBUTIONS_MAX);
    found
}

fn distribution(name: &str) -> Option<String> {
    let text = match name.strip_suffix(".dist-info") {
        Some(text) => text,
        // `name-version-py3.11.egg-info`, or without the last.
        None => {
            let text = name.strip_suffix(".egg-info")?;
            text.rsplit_once("-py").map_or(text, |(before, _)| before)
        }
    };
    // What pip moves away while it works begins with a tilde.
    (text.contains('-') && text.len() <= NAME_MAX && !text.starts_with('~')).then(|| text.to_owned())
}

/// Returns the folders of distributions below a prefix such as a virtual environment's.
pub(super) fn below(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for library in ["lib", "lib64"].map(|name| prefix.join(name)) {
        let entries = fs::read_dir(library).into_iter().flatten().flatten();
        let is_python = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("python3"))
        };
        let pythons = entries.map(|entry| entry.path()).filter(is_python).take(PYTHONS_MAX);
        for python in pythons {
            let names = ["site-packages", "dist-packages"].map(|name| python.join(name));
            found.extend(names.into_iter().filter(|path| path.is_dir()));
        }
    }
    found
}

/// Returns the folders of distributions out of which a process has mapped something; `maps` is what the kernel says of its memory.
pub(super) fn mapped(maps: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| line.find('/').map(|at| line[at..].to_owned());
    maps.lines().filter_map(path).filter_map(|path| library_in(&path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_name_distributions() {
        let table = [
            ("requests-2.31.0.dist-info", Some("requests-2.31.0")),
            ("zope.interface-6.1-py3.11.egg-info", Some("zope.interface-6.1")),
            ("PyGObject-3.42.2.egg-info", Some("PyGObject-3.42.2")),
            ("requests", None),
            ("~equests-2.31.0.dist-info", None),
            (".dist-info", None),
        ];
        for (name, expected) in table {
            assert_eq!(distribution(name), expected.map(str::to_owned), "{name}");
        }
    }

    #[test]
    fn what_is_installed_is_listed_once_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let site = folder.path().join("lib/python3.12/site-packages");
        for name in ["b-2.dist-info", "a-1.dist-info", "b"] {
            fs::create_dir_all(site.join(name)).expect("made");
        }
        assert_eq!(below(folder.path()), std::slice::from_ref(&site));
        assert_eq!(installed(&[site.clone(), site.clone(), "/nowhere".into()]), ["a-1", "b-2"]);
        for number in 0..DISTRIBUTIONS_MAX {
            fs::create_dir(site.join(format!("x{number}-1.dist-info"))).expect("made");
        }
        assert_eq!(installed(&[site]).len(), DISTRIBUTIONS_MAX);
    }

    #[test]
    fn maps_tell_where_libraries_are() {
        let maps = "7f00-7f01 r-xp 0000 08:01 12 /srv/v/lib/python3.12/site-packages/numpy/x.so\n\
                    7f02-7f03 r-xp 0000 08:01 13 /usr/lib/libc.so.6\n\
                    7f04-7f05 rw-p 0000 00:00 0 [heap]\n";
        let found: Vec<PathBuf> = mapped(maps).into_iter().collect();
        assert_eq!(found, [PathBuf::from("/srv/v/lib/python3.12/site-packages")]);
    }
}
