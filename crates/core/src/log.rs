//! Words about logging that all processes share. Not for: writing lines.

/// Severity of a line in the error log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of use to developers.
    Debug,
    /// Life of the process.
    Info,
    /// Something the operator may want to change.
    Warning,
    /// A person should look.
    Error,
    /// A person should look now.
    Critical,
}

impl Level {
    /// Returns its name in Python's logging.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}
