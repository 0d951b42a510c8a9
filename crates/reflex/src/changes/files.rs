//! The Python files of an application: their sizes and times, and hashes of their content, which are read once for each size and
//! time. What is no application's code is left out: hidden folders, virtual environments, installed packages, `node_modules`.
//! Every walk has limits; what is beyond them makes the result partial.
//!
//! Not for: libraries (`distributions`), and not for git.

use super::scene::is_library;
use ferricorn_core::change::{FILES_MAX, File};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most entries of folders that are looked at in one walk.
const ENTRIES_MAX: usize = 40_000;
/// How deep folders are followed.
const DEPTH_MAX: usize = 16;
/// How long one walk may take.
const WALK_MAX: Duration = Duration::from_secs(2);
/// Larger files are told by size and time alone.
const FILE_MAX: u64 = 1 << 20;
/// Most bytes that are read in one walk; the next one goes on.
const READ_MAX: u64 = 32 << 20;
/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;
/// Digits of a hash that are kept.
const DIGITS: usize = 16;
/// Folders that are no application's code.
const SKIPPED: [&str; 3] = ["node_modules", "__pycache__", "site-packages"];

/// A folder whose files are an application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// Where it is.
    pub(super) path: PathBuf,
    /// How its files are named: what stands before their path below it.
    pub(super) label: String,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<File>,
    pub(super) partial: bool,
}

/// What is known of files that were read: size, time, number, hash.
#[derive(Debug, Default)]
pub(super) struct Contents {
    known: BTreeMap<PathBuf, (u64, u64, u64, String)>,
}

/// One walk, and what is left of its limits.
struct Walk<'a> {
    contents: &'a mut Contents,
    read: BTreeMap<PathBuf, (u64, u64, u64, String)>,
    found: Found,
    entries: usize,
    bytes: u64,
    end: Instant,
}

impl Contents {
    /// Looks at all files below these folders.
    pub(super) fn walk(&mut self, roots: &[Root]) -> Found {
        let end = Instant::now() + WALK_MAX;
        let mut walk = Walk {
            contents: self,
            read: BTreeMap::new(),
            found: Found::default(),
            entries: 0,
            bytes: 0,
            end,
        };
        for root in roots {
            walk.folder(&root.path, &root.label, 0);
        }
        let Walk { read, mut found, .. } = walk;
        // What is gone is forgotten with it.
        self.known = read;
        found.files.sort_by(|one, other| one.path.cmp(&other.path));
        found.files.dedup_by(|one, other| one.path == other.path);
        found
    }
}

impl Walk<'_> {
    fn folder(&mut self, path: &Path, label: &str, depth: usize) {
        let Ok(entries) = fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            self.entries += 1;
            let full = self.entries > ENTRIES_MAX || self.found.files.len() >= FILES_MAX;
            if full || Instant::now() > self.end {
                self.found.partial = true;
                return;
            }
            let name = entry.file_name();
            // What is no UTF-8 is no module.
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            let below = || if label.is_empty() { name.to_owned() } else { format!("{label}/{name}") };
            if kind.is_dir() {
                if depth < DEPTH_MAX && is_code(&entry.path(), name) {
                    self.folder(&entry.path(), &below(), depth + 1);
                }
            } else if name.ends_with(".py") {
                self.file(&entry.path(), below());
            }
        }
    }

    fn file(&mut self, path: &Path, name: String) {
        // A link is what it leads to.
        let Ok(found) = fs::metadata(path) else { return };
        if !found.is_file() {
            return;
        }
        let nanoseconds = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
        let (size, mtime_ns, inode) = (found.len(), nanoseconds.unsigned_abs(), found.ino());
        let known = self
            .contents
            .known
            .get(path)
            .filter(|known| (known.0, known.1, known.2) == (size, mtime_ns, inode));
        let content = match known {
            Some(known) => known.3.clone(),
            None if size > FILE_MAX || self.bytes + size > READ_MAX => String::new(),
            None => {
                self.bytes += size;
                hash(path, FILE_MAX).unwrap_or_default()
            }
        };
        if !content.is_empty() {
            self.read.insert(path.to_owned(), (size, mtime_ns, inode, content.clone()));
        }
        self.found.files.push(File { path: name, size, mtime_ns, content });
    }
}

/// Tells whether a folder may hold code of the application.
fn is_code(path: &Path, name: &str) -> bool {
    !SKIPPED.contains(&name) && !is_library(Path::new(name)) && !path.join("pyvenv.cfg").exists()
}

/// Returns a hash of a file's content; none if it cannot be read.
pub(super) fn hash(path: &Path, bytes_max: u64) -> Option<String> {
    let mut file = fs::File::open(path).ok()?.take(bytes_max);
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).ok()?;
        if count == 0 {
            return Some(hex(&hash.finalize()));
        }
        hash.update(&piece[..count]);
    }
}

/// Returns the first digits of a hash.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text: String = ferricorn_core::units::hex(bytes);
    text.truncate(DIGITS);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &Found) -> Vec<&str> {
        found.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn an_applications_files_are_found_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "x = 1\n").expect("written");
        };
        let others = [
            "README.md",
            ".git/hook.py",
            "node_modules/x/y.py",
            "env/pyvenv.cfg",
            "env/x.py",
            "a/__pycache__/x.py",
            "lib/python3.12/x.py",
            "site-packages/x.py",
        ];
        others.into_iter().chain(["app.py", "shop/views.py", "shop/deep/er.py"]).for_each(write);
        let root = Root { path: folder.path().to_owned(), label: String::new() };
        let mut contents = Contents::default();
        let found = contents.walk(std::slice::from_ref(&root));
        assert_eq!(names(&found), ["app.py", "shop/deep/er.py", "shop/views.py"]);
        assert!(!found.partial && found.files.iter().all(|file| file.content.len() == DIGITS));
        // A second root within the first, under its own name.
        let other = Root { path: folder.path().join("shop"), label: "lib".into() };
        assert_eq!(names(&contents.walk(&[other])), ["lib/deep/er.py", "lib/views.py"]);
        assert_eq!(contents.known.len(), 2, "what is not seen any more is forgotten");
        assert!(contents.walk(&[Root { path: "/nowhere".into(), label: String::new() }]).files.is_empty());
    }

    #[test]
    fn too_many_files_make_it_partial() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..FILES_MAX + 1 {
            fs::write(folder.path().join(format!("m{number}.py")), "").expect("written");
        }
        let root = Root { path: folder.path().to_owned(), label: String::new() };
        let found = Contents::default().walk(&[root]);
        assert!(found.partial && found.files.len() == FILES_MAX, "{}", found.files.len());
    }

    #[test]
    fn content_is_read_again_when_it_may_be_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.py");
        let root = [Root { path: folder.path().to_owned(), label: String::new() }];
        let mut contents = Contents::default();
        let mut content = |text: &str| {
            fs::write(&path, text).expect("written");
            contents.walk(&root).files[0].content.clone()
        };
        let (one, other) = (content("x = 1\n"), content("x = 22\n"));
        assert_ne!(one, other);
        assert_eq!(content("x = 1\n"), one);
    }
}
