//! Why the store did not do what was asked, in words that end a sentence.
//! Not for: saying it to somebody; whoever uses the store does, once.

use rusqlite::ErrorCode;
use std::io;
use std::path::PathBuf;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none in the folder.
    #[error("there is no store in {}", .0.display())]
    Missing(PathBuf),
    /// The folder or the file cannot be reached.
    #[error("{}: {source}", .path.display())]
    Unreachable {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A later version of Ferricorn has written it.
    #[error(
        "a newer Ferricorn has written this store (schema {found}, this version knows {known}): use that version, or another folder"
    )]
    Newer {
        /// Its schema.
        found: u32,
        /// The last one that is known here.
        known: u32,
    },
    /// An earlier version of Ferricorn has written it, and nobody has migrated it yet.
    #[error(
        "an older Ferricorn has written this store (schema {found}, this version reads {known}): it is brought up to date when a server of this version starts"
    )]
    Older {
        /// Its schema.
        found: u32,
        /// The one that is known here.
        known: u32,
    },
    /// The folder cannot be written to, and what its last writer has left can only be read by writing.
    #[error(
        "the last writer has left a journal behind that can only be read by somebody who may write in {}",
        .0.display()
    )]
    Unfinished(PathBuf),
    /// Somebody else has kept it locked for too long, or reads it without end.
    #[error("another process keeps the store in use")]
    Busy,
    /// The disk is full, or the store and nothing in it can go.
    #[error("{0}")]
    Full(&'static str),
    /// Its bytes are not those of a database.
    #[error("the store is damaged ({0}): move `reflex.sqlite` away, and the next start begins a new one")]
    Damaged(String),
    /// It may only be read.
    #[error("the store cannot be written to")]
    ReadOnly,
    /// What should be kept is larger than anything sensible.
    #[error("{what} of {bytes} bytes is too large to be kept")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large.
        bytes: usize,
    },
    /// The disk, or something unexpected.
    #[error("{0}")]
    Sqlite(rusqlite::Error),
    /// What should be kept cannot be written as JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl StoreError {
    /// Returns the kind of the system's reason, where there is one.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Missing(_) => Some(io::ErrorKind::NotFound),
            Self::Unreachable { source, .. } => Some(source.kind()),
            Self::Unfinished(_) => Some(io::ErrorKind::PermissionDenied),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full("no space is left for the store"),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            _ => Self::Sqlite(error),
        }
    }
}
