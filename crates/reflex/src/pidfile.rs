//! The file in which a stock Gunicorn's master writes its pid, and how it is put aside, so that another master may write its own.
//! Not for: which file that is (`source`), and when it is put aside ([`crate::act`]).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most bytes that are read.
const BYTES_MAX: u64 = 4096;

/// Reads the pid in a file.
pub(crate) fn read(path: &Path) -> Result<u32, String> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|_| "there is no pid in it".to_owned())
}

/// A pidfile that was put aside, so that another master may write its own.
#[derive(Debug)]
pub(crate) struct Moved {
    path: PathBuf,
    aside: PathBuf,
}

impl Moved {
    /// None if that process's pid does not stand there.
    pub(crate) fn of(path: &Path, pid: u32) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let aside = PathBuf::from(format!("{}.wedged", path.display()));
        (text.trim() == pid.to_string() && fs::rename(path, &aside).is_ok())
            .then(|| Self { path: path.to_owned(), aside })
    }

    pub(crate) fn back(self) {
        // Whoever cannot write there any more has lost it anyway.
        let _ = fs::rename(&self.aside, &self.path);
    }

    pub(crate) fn drop_old(self) {
        let _ = fs::remove_file(&self.aside);
    }
}
