//! The application as the worker sees it.

use crate::conn::Conn;

/// An application and the interpreter it runs in.
///
/// Threads that call it are *attached* (for Python: they hold the interpreter); they detach for every wait.
pub trait App: Send + Sync + 'static {
    /// Runs the application for the request of `conn` and leaves the response in `conn.response`, finished or aborted.
    /// Must not panic; `thread` is the number of the app thread, 0 for the main thread.
    fn call(&self, conn: Box<Conn>, thread: usize) -> Box<Conn>;

    /// Lets go of the interpreter while `blocking` runs, and takes it again.
    fn wait<R: Send>(&self, blocking: impl FnOnce() -> R + Send) -> R;

    /// Runs `body` on this new thread, attached. False if the interpreter is ending and the thread must not start.
    fn attach(&self, body: impl FnOnce());

    /// Tells the application that the worker stops, or that logs were rotated. Called attached.
    fn notify(&self, stop: Stop);
}

/// What an application is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// INT or QUIT: the worker ends at once.
    Interrupted,
    /// USR1: log files are to be opened again.
    ReopenLogs,
}
