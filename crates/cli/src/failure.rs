//! What went wrong, in three parts: what happened, why, and what to do about it.
//! Not for: usage errors, which `clap` words.

use std::io::{self, Write};

/// Everything worked.
pub(crate) const OK: i32 = 0;
/// `check` has found what needs doing.
pub(crate) const FOUND: i32 = 1;
/// No server was found, or it could not be read.
pub(crate) const UNREADABLE: i32 = 1;
/// The command line was not understood.
pub(crate) const USAGE: i32 = 2;

/// A failure that a person reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What did not work.
    pub what: String,
    /// The reason.
    pub why: String,
    /// What the person can do.
    pub hint: String,
}

impl Failure {
    /// Returns a failure of three parts.
    pub(crate) fn new(what: impl Into<String>, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), hint: hint.into() }
    }

    /// Writes the three parts, one per line.
    pub(crate) fn write(&self, err: &mut dyn Write) -> io::Result<()> {
        writeln!(err, "error: {}", self.what)?;
        writeln!(err, "  why: {}", self.why)?;
        writeln!(err, "  try: {}", self.hint)
    }
}
