//! What a worker was made of when it was started. Two workers with the same fingerprint run the same. Values of variables and
//! settings are in it as salted hashes only, which whoever reads it makes.
//!
//! Not for: reading it off a process, and not for what differs between two (`compare`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most files of an application that are followed.
pub const FILES_MAX: usize = 5000;
/// Most installed distributions.
pub const DISTRIBUTIONS_MAX: usize = 3000;
/// Digits of a commit that people write.
const SHORT: usize = 7;

/// What a worker was made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fingerprint {
    /// The application's code.
    pub code: Code,
    /// Installed distributions as their `dist-info` folders are called, `requests-2.31.0`; in order.
    pub distributions: Vec<String>,
    /// The configuration file.
    pub config: Config,
    /// A hash of the command line; empty where that cannot be seen.
    pub command: String,
    /// Settings, with hashes of their values; empty where they are not known.
    pub settings: BTreeMap<String, String>,
    /// Variables, with hashes of their values.
    pub environment: BTreeMap<String, String>,
    /// The interpreter.
    pub python: Python,
    /// Variables whose values name a revision: `GIT_SHA`.
    pub revisions: BTreeMap<String, String>,
    /// The container that it runs in; empty for none.
    pub container: String,
    /// What could not be seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

/// The application's code.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Code {
    /// The commit that is checked out; empty outside of git.
    pub head: String,
    /// Files that git follows are others than it has them; none where that is not known.
    pub dirty: Option<bool>,
    /// The files of the application that end with `.py`, in order.
    pub files: Vec<File>,
    /// There are more files than are followed, or there was no time to look at all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// A file of the application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, u64, u64, String)", into = "(String, u64, u64, String)")]
pub struct File {
    /// Its path below the application's folder, or a whole one.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// When it was written last, nanoseconds since 1970.
    pub mtime_ns: u64,
    /// A hash of its content; empty where that was not read.
    pub content: String,
}

impl From<(String, u64, u64, String)> for File {
    fn from((path, size, mtime_ns, content): (String, u64, u64, String)) -> Self {
        Self { path, size, mtime_ns, content }
    }
}

impl From<File> for (String, u64, u64, String) {
    fn from(file: File) -> Self {
        (file.path, file.size, file.mtime_ns, file.content)
    }
}

impl File {
    /// Tells whether both are the same file. Content decides where it is known: a file that was only touched is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let times = (self.size, self.mtime_ns) == (other.size, other.mtime_ns);
        match self.content.is_empty() || other.content.is_empty() {
            true => times,
            false => self.content == other.content,
        }
    }
}

/// A configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where it is; empty for none.
    pub path: String,
    /// A hash of its content.
    pub content: String,
}

/// An interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Python {
    /// `3.12`; empty where it cannot be seen.
    pub version: String,
    /// Where its program is.
    pub path: String,
    /// A hash of its size and time: a patch release has the same path.
    pub build: String,
}

impl Fingerprint {
    /// Returns what the code is called: its commit in short, `+` behind it if files differ from that; the revision that a variable
    /// names; or a hash of its files. Empty where nothing is known.
    pub fn version(&self) -> String {
        let revision = || self.revisions.values().next().map(|value| short(value).to_owned());
        let files = || {
            let digest = self.files_digest();
            (!self.code.files.is_empty()).then(|| format!("files-{}", &digest[..SHORT]))
        };
        match self.code.head.is_empty() {
            false => {
                format!("{}{}", short(&self.code.head), if self.code.dirty == Some(true) { "+" } else { "" })
            }
            true => revision().or_else(files).unwrap_or_default(),
        }
    }

    /// Returns what tells this code from other code: commit, revisions, files.
    pub fn code_id(&self) -> String {
        let files = self.files_digest();
        let revisions = self.revisions.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        digest([self.code.head.as_str(), files.as_str()].into_iter().chain(revisions))
    }

    /// Returns what tells all of it from others: code and distributions. An earlier one that comes again is a rollback.
    pub fn id(&self) -> String {
        let code = self.code_id();
        digest([code.as_str()].into_iter().chain(self.distributions.iter().map(String::as_str)))
    }

    /// Returns what tells all of it from others, settings and variables as well: requests are counted by it.
    pub fn whole_id(&self) -> String {
        let pairs = |map: &BTreeMap<String, String>| {
            digest(map.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]))
        };
        let (id, settings, environment) = (self.id(), pairs(&self.settings), pairs(&self.environment));
        let python = [&self.python.version, &self.python.path, &self.python.build];
        let rest = [&id, &settings, &environment, &self.config.content, &self.command];
        digest(rest.into_iter().chain(python).map(String::as_str))
    }

    /// Tells whether both run the same code.
    pub fn has_code_of(&self, other: &Self) -> bool {
        self.code.head == other.code.head
            && self.revisions == other.revisions
            && self.code.changed_to(&other.code).is_empty()
    }

    fn files_digest(&self) -> String {
        let stamp = |file: &File| match file.content.is_empty() {
            true => format!("{} {}", file.size, file.mtime_ns),
            false => file.content.clone(),
        };
        let stamps: Vec<(&str, String)> =
            self.code.files.iter().map(|file| (file.path.as_str(), stamp(file))).collect();
        digest(stamps.iter().flat_map(|(path, stamp)| [*path, stamp.as_str()]))
    }
}

impl Code {
    /// Returns the paths of files that are others in `new`, are new, or gone; in order. Where not all were seen, what one of both
    /// lacks says nothing.
    pub fn changed_to<'a>(&'a self, new: &'a Self) -> Vec<&'a str> {
        let by_path = |code: &'a Self| -> BTreeMap<&'a str, &'a File> {
            code.files.iter().map(|file| (file.path.as_str(), file)).collect()
        };
        let (before, after) = (by_path(self), by_path(new));
        let mut changed: Vec<&str> = Vec::new();
        let is_whole = !self.partial && !new.partial;
        for (path, file) in &after {
            if before.get(path).map_or(is_whole, |old| !old.is_same(file)) {
                changed.push(path);
            }
        }
        changed.extend(before.keys().filter(|path| is_whole && !after.contains_key(*path)));
        changed.sort_unstable();
        changed
    }
}

/// Returns a commit as people write it; of anything else the beginning.
fn short(text: &str) -> &str {
    let is_hash = text.len() >= 2 * SHORT && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    crate::units::cut(text, if is_hash { SHORT } else { 40 })
}

/// Returns a hash that tells texts apart, and is no secret: 128 bits of FNV-1a (draft-eastlake-fnv), with the length of each text.
pub(crate) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut take = |byte: u8| hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    for text in texts {
        (text.len() as u64).to_le_bytes().into_iter().for_each(&mut take);
        text.bytes().for_each(&mut take);
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, mtime_ns: u64, content: &str) -> File {
        File { path: path.into(), size: 1, mtime_ns, content: content.into() }
    }

    fn of(head: &str, files: &[File]) -> Fingerprint {
        Fingerprint {
            code: Code { head: head.into(), files: files.to_vec(), ..Code::default() },
            ..Fingerprint::default()
        }
    }

    #[test]
    fn a_touched_file_is_the_same_and_another_one_is_not() {
        let before = of("", &[file("a.py", 1, "x"), file("b.py", 1, "y"), file("c.py", 1, "")]);
        let touched = of("", &[file("a.py", 2, "x"), file("b.py", 2, "y"), file("c.py", 1, "z")]);
        assert!(before.has_code_of(&touched));
        assert!(before.code.changed_to(&touched.code).is_empty());
        let after = of("", &[file("a.py", 2, "x"), file("c.py", 2, ""), file("d.py", 1, "")]);
        assert_eq!(before.code.changed_to(&after.code), ["b.py", "c.py", "d.py"]);
        assert!(!before.has_code_of(&after));
        assert_ne!(before.code_id(), after.code_id());
    }

    #[test]
    fn a_version_has_the_name_that_people_use() {
        let commit = "3f2a91cd5e6f708192a3b4c5d6e7f80910111213";
        let mut one = of(commit, &[]);
        assert_eq!(one.version(), "3f2a91c");
        one.code.dirty = Some(true);
        assert_eq!(one.version(), "3f2a91c+");
        let mut other = of("", &[file("a.py", 1, "x")]);
        assert!(other.version().starts_with("files-"), "{}", other.version());
        other.revisions.insert("DD_VERSION".into(), "v1.2.3".into());
        assert_eq!(other.version(), "v1.2.3");
        assert_eq!(Fingerprint::default().version(), "");
    }

    #[test]
    fn texts_are_told_apart_by_their_borders() {
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        assert_ne!(digest(["a"]), digest(["a", ""]));
        // An empty input is FNV's own offset basis.
        assert_eq!(digest([]), "6c62272e07bb014262b821756295c58d");
    }

    #[test]
    fn the_json_comes_back() {
        let one = of("abc", &[file("a.py", 7, "x")]);
        let text = serde_json::to_string(&one).expect("JSON");
        assert!(text.contains(r#"["a.py",1,7,"x"]"#), "{text}");
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).expect("read"), one);
        assert_eq!(serde_json::from_str::<Fingerprint>("{}").expect("read"), Fingerprint::default());
    }
}
