//! The text files that git tracks, or would after `git add`: what a reader of the repository sees.
//! Not for: build output, which `.gitignore` names.

use std::collections::BTreeMap;
use std::io::{self, Error};
use std::path::Path;
use std::process::Command;
use std::str;

/// Every text file by its path from the root.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the repository at `root`.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = Command::new("git").args(arguments).current_dir(root).output()?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Err(Error::other(format!("git ls-files in {}: {}", root.display(), reason.trim())));
        }
        let mut files = BTreeMap::new();
        for path in output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
            let Ok(path) = str::from_utf8(path) else { continue };
            // A tracked file that has been deleted but not committed, a link to a folder, and binary files are passed by.
            let Ok(bytes) = std::fs::read(root.join(path)) else { continue };
            let Ok(text) = String::from_utf8(bytes) else { continue };
            if !text.contains('\0') {
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Self { files })
    }

    /// Returns the files whose name ends so, e.g. `.rs`.
    pub(super) fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files.iter().map(|(path, text)| (&**path, &**text)).filter(move |(path, _)| path.ends_with(end))
    }
}
