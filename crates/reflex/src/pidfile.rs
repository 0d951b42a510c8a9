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

/// Returns where it is while it is aside.
pub(crate) fn aside(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.wedged", path.display()))
}

/// Puts it aside, if that process's pid stands there. Whoever cannot write there any more has lost it anyway, here and below.
pub(crate) fn put_aside(path: &Path, pid: u32) {
    if read(path) == Ok(pid) {
        let _ = fs::rename(path, aside(path));
    }
}

/// Puts it back, if it is that process's.
pub(crate) fn put_back(path: &Path, pid: u32) {
    if read(&aside(path)) == Ok(pid) {
        let _ = fs::rename(aside(path), path);
    }
}

/// Removes it where it is aside, if it is that process's.
pub(crate) fn drop_aside(path: &Path, pid: u32) {
    if read(&aside(path)) == Ok(pid) {
        let _ = fs::remove_file(aside(path));
    }
}

/// Returns the pid of the process that is meant: that in the file; where there is none, or it has ended, and the file of another was put
/// aside, that of the other.
pub(crate) fn meant(path: &Path, lives: impl Fn(u32) -> bool) -> Result<u32, String> {
    let named = read(path);
    if matches!(named, Ok(pid) if lives(pid)) {
        return named;
    }
    read(&aside(path)).ok().filter(|pid| lives(*pid)).map_or(named, Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_aside_and_back_for_the_process_that_it_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gunicorn.pid");
        let seen = || (read(&path).ok(), read(&aside(&path)).ok());
        let meant = |living: &[u32]| meant(&path, |pid| living.contains(&pid)).ok();
        assert_eq!(meant(&[1]), None);
        fs::write(&path, "1\n").expect("written");
        put_aside(&path, 2);
        assert_eq!((seen(), meant(&[1])), ((Some(1), None), Some(1)));
        put_aside(&path, 1);
        assert_eq!((seen(), meant(&[1])), ((None, Some(1)), Some(1)));
        fs::write(&path, "2\n").expect("written");
        assert_eq!([meant(&[1, 2]), meant(&[1]), meant(&[])], [Some(2), Some(1), Some(2)]);
        drop_aside(&path, 3);
        put_back(&path, 3);
        assert_eq!(seen(), (Some(2), Some(1)));
        put_back(&path, 1);
        assert_eq!(seen(), (Some(1), None));
        put_aside(&path, 1);
        drop_aside(&path, 1);
        assert_eq!(seen(), (None, None));
    }
}
