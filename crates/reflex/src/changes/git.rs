//! The commit that a folder has checked out, and whether its files are others: by git's own files, without git. Reads `.git` as a
//! folder or as a file of a worktree or submodule, loose and packed references (gitrepository-layout(5)), and the index in
//! its versions 2 to 4 (gitformat-index(5)).
//!
//! What is staged and not committed cannot be told from what is committed: that would take reading objects. Not for: history.

use ferricorn_core::change::File;
use sha1_smol::Sha1;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// How far above a folder its repository is looked for.
const ABOVE_MAX: usize = 16;
/// How often one reference may lead to another.
const LINKS_MAX: usize = 5;
/// Most bytes of a reference's file.
const REFERENCE_MAX: u64 = 4096;
/// Most bytes of packed references.
const PACKED_MAX: u64 = 8 << 20;
/// Larger indexes are not read.
const INDEX_MAX: u64 = 8 << 20;
/// Files whose times are others than the index has are read and compared: so many at most.
const READ_MAX: usize = 64;
/// Larger files are not.
const FILE_MAX: u64 = 1 << 20;

/// A repository.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    /// The folder whose files it follows.
    top: PathBuf,
    /// Where `HEAD` and `index` are.
    git: PathBuf,
    /// Where references are that worktrees share.
    common: PathBuf,
}

impl Repository {
    /// Finds the repository of a folder.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let folder = folder.canonicalize().ok()?;
        let (top, git) = folder.ancestors().take(ABOVE_MAX).find_map(|above| {
            let git = resolved(&above.join(".git"))?;
            git.join("HEAD").exists().then(|| (above.to_owned(), git))
        })?;
        let common = text(&git.join("commondir"), REFERENCE_MAX)
            .map_or_else(|| git.clone(), |said| git.join(said.trim()));
        Some(Self { top, git, common })
    }

    /// Returns the commit that is checked out; none of a repository without one, and where references are kept in another way.
    pub(super) fn head(&self) -> Option<String> {
        let mut said = text(&self.git.join("HEAD"), REFERENCE_MAX)?;
        for _ in 0..LINKS_MAX {
            let Some(name) = said.trim().strip_prefix("ref:").map(|name| name.trim().to_owned()) else {
                let commit = said.trim();
                return is_hash(commit).then(|| commit.to_owned());
            };
            if !is_reference(&name) {
                return None;
            }
            said = text(&self.git.join(&name), REFERENCE_MAX)
                .or_else(|| text(&self.common.join(&name), REFERENCE_MAX))
                .or_else(|| self.packed(&name))?;
        }
        None
    }

    fn packed(&self, name: &str) -> Option<String> {
        let all = text(&self.common.join("packed-refs"), PACKED_MAX)?;
        let line = |line: &str| {
            let (hash, reference) = line.split_once(' ')?;
            (reference == name && is_hash(hash)).then(|| hash.to_owned())
        };
        all.lines().filter(|line| !line.starts_with(['#', '^'])).find_map(line)
    }

    /// Tells whether files below a folder are others than git follows; none where that cannot be known. `files` are those that are
    /// there, `whole` if these are all.
    pub(super) fn is_dirty(&self, folder: &Path, files: &[File], whole: bool) -> Option<bool> {
        let below = folder.canonicalize().ok()?.strip_prefix(&self.top).ok()?.to_owned();
        let prefix: String = below.components().filter_map(name).map(|name| format!("{name}/")).collect();
        let path = self.git.join("index");
        let size = fs::metadata(&path).ok()?.size();
        if size > INDEX_MAX {
            return None;
        }
        let index = entries(&bytes(&path, INDEX_MAX)?, &prefix)?;
        let mut unlike = Vec::new();
        for file in files {
            if let Some(entry) = index.get(&format!("{prefix}{}", file.path))
                && !entry.has_times_of(file)
            {
                unlike.push((file, entry));
            }
        }
        let there = |path: &str| files.iter().any(|file| path.strip_prefix(&prefix) == Some(&file.path));
        // A walk leaves folders out: who is not there is asked for by name.
        let gone = |path: &&String| !there(path) && !self.top.join(path.as_str()).exists();
        if whole && index.keys().any(|path| gone(&path)) {
            return Some(true);
        }
        if unlike.len() > READ_MAX {
            return None;
        }
        for (file, entry) in unlike {
            match blob(&self.top.join(&prefix).join(&file.path))? {
                hash if hash == entry.hash => {}
                _ => return Some(true),
            }
        }
        Some(false)
    }

    /// Returns when the index was written, as far as that tells that it is another.
    pub(super) fn index_stamp(&self) -> (u64, i64, i64) {
        fs::metadata(self.git.join("index"))
            .map_or((0, 0, 0), |found| (found.size(), found.mtime(), found.mtime_nsec()))
    }
}

fn name(component: Component<'_>) -> Option<&str> {
    component.as_os_str().to_str()
}

/// Returns the folder that `.git` is, or that it names as a file.
fn resolved(git: &Path) -> Option<PathBuf> {
    if git.is_dir() {
        return Some(git.to_owned());
    }
    let said = text(git, REFERENCE_MAX)?;
    let path = said.trim().strip_prefix("gitdir:")?.trim();
    Some(git.parent()?.join(path))
}

fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Tells whether a name may be a reference's: it never leads out of the repository.
fn is_reference(name: &str) -> bool {
    name.starts_with("refs/") && !name.split('/').any(|part| matches!(part, "" | "." | ".."))
}

fn bytes(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    fs::File::open(path).ok()?.take(bytes_max).read_to_end(&mut found).ok()?;
    Some(found)
}

fn text(path: &Path, bytes_max: u64) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes(path, bytes_max)?).into_owned())
}

/// What the index knows of a file.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    seconds: u32,
    nanoseconds: u32,
    size: u32,
    hash: [u8; 20],
}

impl Entry {
    fn has_times_of(&self, file: &File) -> bool {
        let (seconds, nanoseconds) = (file.mtime_ns / 1_000_000_000, file.mtime_ns % 1_000_000_000);
        // Sizes and seconds are cut to 32 bits; some builds of git keep no nanoseconds. A size of 0 means that git is not sure.
        self.size != 0
            && self.size == file.size as u32
            && self.seconds == seconds as u32
            && (self.nanoseconds == 0 || u64::from(self.nanoseconds) == nanoseconds)
    }
}

/// Reads the Python files below a prefix out of an index. None if it is no index that is understood; one of a repository with
/// SHA-256 is not.
fn entries(index: &[u8], prefix: &str) -> Option<BTreeMap<String, Entry>> {
    if index.get(..4)? != b"DIRC" {
        return None;
    }
    let version = word(index, 4)?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let count = word(index, 8)?;
    let mut at = 12;
    let mut path: Vec<u8> = Vec::new();
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let entry = Entry {
            seconds: word(index, at + 8)?,
            nanoseconds: word(index, at + 12)?,
            size: word(index, at + 36)?,
            hash: index.get(at + 40..at + 60)?.try_into().ok()?,
        };
        let flags = u16::from_be_bytes(index.get(at + 60..at + 62)?.try_into().ok()?);
        let begin = at;
        at += if version >= 3 && flags & 0x4000 != 0 { 64 } else { 62 };
        if version == 4 {
            let (strip, length) = varint(index.get(at..)?)?;
            at += length;
            path.truncate(path.len().checked_sub(strip)?);
        } else {
            path.clear();
        }
        let end = at + index.get(at..)?.iter().position(|byte| *byte == 0)?;
        path.extend_from_slice(&index[at..end]);
        // Entries are padded to eight bytes before version 4, with one NUL at least.
        at = if version == 4 { end + 1 } else { begin + (end - begin + 8) / 8 * 8 };
        let is_file = flags >> 12 & 3 == 0;
        if let Ok(text) = std::str::from_utf8(&path)
            && is_file
            && text.starts_with(prefix)
            && text.ends_with(".py")
        {
            found.insert(text.to_owned(), entry);
        }
    }
    Some(found)
}

fn word(index: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(index.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a number as pack files write offsets (gitformat-pack(5)); and how many bytes it has.
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value: usize = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        if index > 0 {
            value = value.checked_add(1)?;
        }
        value = value.checked_shl(7)? | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Returns the hash that git has for a file's content.
fn blob(path: &Path) -> Option<[u8; 20]> {
    let content = bytes(path, FILE_MAX + 1).filter(|content| content.len() as u64 <= FILE_MAX)?;
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", content.len()).as_bytes());
    hash.update(&content);
    Some(hash.digest().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    const COMMIT: &str = "3f2a91cd5e6f708192a3b4c5d6e7f80910111213";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        folder
    }

    fn head(folder: &Path) -> Option<String> {
        Repository::of(folder)?.head()
    }

    #[test]
    fn the_commit_is_found_however_references_are_kept() {
        let head_line = ("r/.git/HEAD", "ref: refs/heads/main\n");
        let packed =
            format!("# pack-refs with: peeled fully-peeled sorted\n{COMMIT} refs/heads/main\n^{COMMIT}\n");
        let loose = format!("{COMMIT}\n");
        type Files<'a> = Vec<(&'a str, &'a str)>;
        let tables: [(&str, Files<'_>, bool); 7] = [
            (
                "r/app/deep",
                vec![head_line, ("r/.git/refs/heads/main", &loose), ("r/app/deep/a.py", "")],
                true,
            ),
            ("r", vec![head_line, ("r/.git/packed-refs", &packed)], true),
            ("r", vec![("r/.git/HEAD", &loose)], true),
            (
                "w",
                vec![
                    ("w/.git", "gitdir: ../r/.git/worktrees/w\n"),
                    ("r/.git/worktrees/w/HEAD", "ref: refs/heads/main\n"),
                    ("r/.git/worktrees/w/commondir", "../..\n"),
                    ("r/.git/refs/heads/main", &loose),
                ],
                true,
            ),
            ("r", vec![head_line], false),
            ("r", vec![("r/.git/HEAD", "ref: ../../secret\n"), ("secret", &loose)], false),
            ("r", vec![("r/.git/HEAD", "ref: refs/a\n"), ("r/.git/refs/a", "ref: refs/a\n")], false),
        ];
        for (at, files, found) in tables {
            let folder = folder(&files);
            assert_eq!(head(&folder.path().join(at)), found.then(|| COMMIT.to_owned()), "{files:?}");
        }
        assert_eq!(head(Path::new("/nowhere")), None);
    }

    fn git(folder: &Path, words: &[&str]) -> String {
        let options = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"];
        let mut command = Command::new("git");
        let output = command.arg("-C").arg(folder).args(options).args(words).output().expect("git");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn stat(folder: &Path, path: &str) -> File {
        let found = fs::metadata(folder.join(path)).expect("there");
        let mtime_ns = (found.mtime() * 1_000_000_000 + found.mtime_nsec()).unsigned_abs();
        File { path: path.into(), size: found.len(), mtime_ns, content: String::new() }
    }

    #[test]
    fn a_real_repository_is_read_as_git_reads_it() {
        if Command::new("git").arg("--version").output().is_err() {
            return;
        }
        for version in ["2", "3", "4"] {
            let folder = folder(&[("shop/a.py", "x = 1\n"), ("shop/deep/b.py", "y = 1\n"), ("c.txt", "")]);
            let folder = folder.path();
            git(folder, &["init", "-q"]);
            git(folder, &["add", "."]);
            git(folder, &["commit", "-qm", "one"]);
            git(folder, &["update-index", "--index-version", version]);
            let repository = Repository::of(&folder.join("shop")).expect("found");
            assert_eq!(repository.head(), Some(git(folder, &["rev-parse", "HEAD"])), "{version}");
            let shop = folder.join("shop");
            let dirty = |paths: &[&str]| {
                let files: Vec<File> = paths.iter().map(|path| stat(&shop, path)).collect();
                repository.is_dirty(&shop, &files, true)
            };
            let all = ["a.py", "deep/b.py"];
            assert_eq!(dirty(&all), Some(false), "{version}");
            // Touched, written anew with the same, changed, gone; and one that git does not follow.
            fs::write(shop.join("a.py"), "x = 1\n").expect("written");
            fs::write(shop.join("new.py"), "").expect("written");
            assert_eq!(dirty(&["a.py", "deep/b.py", "new.py"]), Some(false));
            fs::write(shop.join("a.py"), "x = 2\n").expect("written");
            assert_eq!(dirty(&all), Some(true));
            git(folder, &["checkout", "-q", "shop/a.py"]);
            assert_eq!(dirty(&all), Some(false));
            fs::remove_file(shop.join("deep/b.py")).expect("removed");
            assert_eq!(dirty(&["a.py"]), Some(true));
            assert_eq!(repository.is_dirty(&shop, &[], false), Some(false), "not all were seen");
            git(folder, &["pack-refs", "--all"]);
            assert_eq!(repository.head(), Some(git(folder, &["rev-parse", "HEAD"])));
        }
    }

    proptest! {
        #[test]
        fn any_index_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 2u8..5, count in 0u8..4) {
            let mut index = b"DIRC\0\0\0".to_vec();
            index.extend([version, 0, 0, 0, count]);
            index.extend(&bytes);
            let _ = entries(&index, "");
            let _ = entries(&bytes, "x/");
            let _ = varint(&bytes);
        }
    }
}
