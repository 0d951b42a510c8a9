//! The files of a configuration: as `nginx -T` prints them one after another, or as they lie on the disk. `include` is
//! replaced by what it names. Not for: syntax (`parse`).

use super::parse::{Directive, parse};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Most files, and most bytes of one.
const FILES_MAX: usize = 2000;
const FILE_MAX: u64 = 8 << 20;
/// Files that include files that include files.
const DEPTH_MAX: usize = 16;
/// What `nginx -T` writes before each file.
const HEADER: &str = "# configuration file ";

/// Files by their names.
trait Files {
    fn read(&self, path: &Path) -> Result<String, String>;
    /// Those that fit a pattern, in order.
    fn matching(&self, pattern: &Path) -> Vec<PathBuf>;
}

/// Reads what `nginx -T` has printed.
///
/// # Errors
/// What of it is no configuration.
pub(crate) fn from_dump(dump: &str) -> Result<Vec<Directive>, String> {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut first = None;
    let mut current: Option<PathBuf> = None;
    for line in dump.lines() {
        if let Some(path) = line.strip_prefix(HEADER).and_then(|rest| rest.strip_suffix(':')) {
            first.get_or_insert_with(|| PathBuf::from(path));
            current = Some(PathBuf::from(path));
            continue;
        }
        if let Some(path) = &current {
            let text = files.entry(path.clone()).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    let first = first.ok_or("`nginx -T` has printed no configuration")?;
    read(&Dump(files), &first)
}

/// Reads a file and what it includes.
///
/// # Errors
/// What cannot be read, or is no configuration.
pub(crate) fn from_file(path: &Path) -> Result<Vec<Directive>, String> {
    // What was printed by `nginx -T` may also have been kept.
    let text = Disk.read(path)?;
    if text.contains(HEADER) { from_dump(&text) } else { read(&Disk, path) }
}

fn read(files: &dyn Files, path: &Path) -> Result<Vec<Directive>, String> {
    let prefix = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut left = FILES_MAX;
    one(files, path, &prefix, 0, &mut left)
}

fn one(
    files: &dyn Files,
    path: &Path,
    prefix: &Path,
    depth: usize,
    left: &mut usize,
) -> Result<Vec<Directive>, String> {
    let name = path.display().to_string();
    if depth > DEPTH_MAX || *left == 0 {
        return Err(format!("{name}: files include each other without end"));
    }
    *left -= 1;
    let tree = parse(&files.read(path)?, &name)?;
    included(files, tree, prefix, depth, left)
}

/// Replaces `include`, in blocks too.
fn included(
    files: &dyn Files,
    tree: Vec<Directive>,
    prefix: &Path,
    depth: usize,
    left: &mut usize,
) -> Result<Vec<Directive>, String> {
    let mut whole = Vec::with_capacity(tree.len());
    for mut directive in tree {
        match (directive.name.as_str(), directive.block.take(), directive.words.first()) {
            ("include", None, Some(pattern)) => {
                // Relative to the folder of the main file, wherever the line stands.
                for path in files.matching(&prefix.join(pattern)) {
                    whole.extend(one(files, &path, prefix, depth + 1, left)?);
                }
            }
            (_, Some(block), _) => {
                directive.block = Some(included(files, block, prefix, depth, left)?);
                whole.push(directive);
            }
            _ => whole.push(directive),
        }
    }
    Ok(whole)
}

struct Dump(BTreeMap<PathBuf, String>);

impl Files for Dump {
    fn read(&self, path: &Path) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| format!("{}: it was not printed", path.display()))
    }

    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        self.0
            .keys()
            .filter(|path| fits(&pattern.to_string_lossy(), &path.to_string_lossy()))
            .cloned()
            .collect()
    }
}

struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<String, String> {
        let said = |error: std::io::Error| format!("{}: {error}", path.display());
        if fs::metadata(path).map_err(said)?.len() > FILE_MAX {
            return Err(format!("{}: larger than any configuration", path.display()));
        }
        fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(said)
    }

    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let text = pattern.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            // One that is missing is an error where it is read.
            return vec![pattern.to_owned()];
        }
        // A pattern in a folder's name is rare, and is not looked for.
        let folder = pattern.parent().unwrap_or(Path::new("/"));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = entries
            .filter(|path| path.is_file() && fits(&text, &path.to_string_lossy()))
            .take(FILES_MAX)
            .collect();
        found.sort();
        found
    }
}

/// Compares with a pattern of glob(7) in which a star stands for anything but a slash.
fn fits(pattern: &str, text: &str) -> bool {
    fn at(pattern: &[u8], text: &[u8], steps: &mut usize) -> bool {
        *steps += 1;
        if *steps > 10_000 {
            return false;
        }
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                at(rest, text, steps)
                    || text
                        .split_first()
                        .is_some_and(|(first, after)| *first != b'/' && at(pattern, after, steps))
            }
            (Some((b'?', rest)), Some((first, after))) => *first != b'/' && at(rest, after, steps),
            (Some((wanted, rest)), Some((first, after))) => wanted == first && at(rest, after, steps),
            _ => false,
        }
    }
    at(pattern.as_bytes(), text.as_bytes(), &mut 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_do_not_leave_their_folder() {
        let table = [
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/a.conf", true),
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/x/a.conf", false),
            ("/etc/nginx/sites-enabled/*", "/etc/nginx/sites-enabled/default", true),
            ("/a/?.conf", "/a/b.conf", true),
            ("/a/?.conf", "/a/bb.conf", false),
            ("/a/b", "/a/b", true),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
        assert!(!fits(&format!("{}b", "*a".repeat(50)), &"a".repeat(500)), "given up in time");
    }
}
