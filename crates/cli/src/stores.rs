//! Where what went wrong is kept: the store of a folder, or those of all folders that this user knows of.
//! Not for: what is read from them.

use crate::failure::Failure;
use crate::locate;
use ferricorn_reflex::store::{Store, StoreError, default_folder};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Opens the store of a folder, or those of running servers and of this user's default folder. A folder without one has none.
pub(crate) fn open(folder: Option<&Path>) -> Result<Vec<Store>, Failure> {
    let asked = folder.is_some();
    let mut stores = Vec::new();
    for folder in folders(folder) {
        match Store::open(&folder) {
            Ok(store) => stores.push(store),
            Err(StoreError::Missing(_)) => {}
            // Nobody has said that there is such a folder.
            Err(error) if !asked && error.kind() == Some(ErrorKind::NotFound) => {}
            Err(error) => return Err(unreadable(&folder, &error)),
        }
    }
    Ok(stores)
}

/// Returns the folder that was asked for, or those of running servers and this user's default folder.
pub(crate) fn folders(asked: Option<&Path>) -> BTreeSet<PathBuf> {
    match asked {
        Some(folder) => BTreeSet::from([folder.to_owned()]),
        None => locate::state_dirs().into_iter().chain(default_folder()).collect(),
    }
}

/// Reads the same from each store.
pub(crate) fn read<T>(
    stores: &[Store],
    read: impl Fn(&Store) -> Result<Vec<T>, StoreError>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    for store in stores {
        all.extend(read(store).map_err(|error| unreadable(store.folder(), &error))?);
    }
    Ok(all)
}

fn unreadable(folder: &Path, error: &StoreError) -> Failure {
    let hint = match error {
        StoreError::Newer { .. } => "use the `ferricornctl` of the server that writes there",
        StoreError::Older { .. } => "start a server of this version, or use the `ferricornctl` of the other",
        StoreError::Damaged(_) => "stop its servers, move `reflex.sqlite` away, and start them again",
        StoreError::Busy => "try again in a moment",
        error if error.kind() == Some(ErrorKind::PermissionDenied) => {
            "run this as the server's user (`sudo -u USER ferricornctl ...`) or as root"
        }
        _ => "give the folder that the server's `state_dir` names: `--state-dir DIR`",
    };
    Failure::new(format!("the records in {} could not be read", folder.display()), error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_store_has_no_records_and_no_folder_is_a_failure() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(open(Some(folder.path())).expect("none").is_empty());
        let failure = open(Some(&folder.path().join("nowhere"))).expect_err("no folder");
        assert!(failure.why.contains("nowhere/reflex.sqlite: No such file"), "{}", failure.why);
        drop(Store::create(folder.path()).expect("a store"));
        assert_eq!(open(Some(folder.path())).expect("one").len(), 1);
        std::fs::write(
            folder.path().join("reflex.sqlite"),
            "no database, and longer than a header ".repeat(9),
        )
        .expect("written");
        let failure = open(Some(folder.path())).expect_err("damaged");
        assert!(failure.hint.contains("move `reflex.sqlite` away"), "{failure:?}");
    }
}
