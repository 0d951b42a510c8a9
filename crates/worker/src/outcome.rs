//! How a request has ended where the application's answer is not the whole story: what the access log's status alone
//! cannot tell.

/// Status of a request whose client had gone before a byte of its response could be sent. None of HTTP's: it is for logs,
/// and nginx's number for the same.
pub(crate) const GONE: u16 = 499;

/// How a request has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the application's answer.
    #[default]
    Answered,
    /// Answered 504 in the application's place, or 503 in that of a worker that is stopped.
    TimedOut,
    /// Its response was cut at the deadline.
    Cut,
    /// Its client has gone.
    ClientGone,
    /// Refused for want of a thread.
    Shed,
}

impl Outcome {
    /// Returns its name in the access log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Answered => "-",
            Self::TimedOut => "timeout",
            Self::Cut => "cut",
            Self::ClientGone => "client-gone",
            Self::Shed => "shed",
        }
    }
}
