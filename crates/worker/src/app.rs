//! The application as the worker sees it.

use crate::conn::{Conn, Heard};
use ferricorn_core::evidence::{Frame, Source};
use std::sync::Arc;
use std::time::Duration;

/// The interpreter that an application runs in, as the keeper of a loop needs it.
///
/// Threads that call it are *attached* (for Python: they hold the interpreter) where that is said; they detach for every wait.
pub trait Interpreter: Send + Sync + 'static {
    /// Lets go of the interpreter while `blocking` runs, and takes it again.
    fn wait<R: Send>(&self, blocking: impl FnOnce() -> R + Send) -> R;

    /// Finds out where the application is in a request. Never waits: what is found is told later, from another thread, or
    /// never if the thread has moved on. `over`: nobody waits for the request any more, so that its thread may be disturbed.
    fn look(&self, at: At, over: bool, tell: Tell);

    /// Tells whether a thread of the application's has kept the interpreter from others for long. Never waits.
    fn is_held(&self) -> bool;

    /// Raises in the application where it is at a request that was answered in its place, if it still is. Never waits.
    fn interrupt(&self, late: At);

    /// Gives the application a last chance to say something before its process ends with threads that are stuck. Never
    /// waits, never attached: what is said is said within [`ABORT`], by the main thread if that is free.
    fn abort(&self);

    /// Tells the application that the worker stops, or that logs were rotated. Called attached.
    fn notify(&self, stop: Stop);
}

/// An application that is called, on as many threads as there are.
pub trait App: Interpreter {
    /// Runs the application for the request of `conn` and leaves the response in `conn.response`, finished or aborted.
    /// Must not panic; `thread` is the number of the app thread, 0 for the main thread.
    fn call(&self, conn: Box<Conn>, thread: usize) -> Box<Conn>;

    /// Runs `body` on this new thread, attached. False if the interpreter is ending and the thread must not start.
    fn attach(&self, body: impl FnOnce());
}

/// An application that works on many requests on one thread, under a loop of its own (asyncio, gevent's hub). All calls but
/// those of [`Interpreter`] come from that thread, attached.
pub trait Tasks: Interpreter {
    /// Starts work on a request, whose connection is the application's until it is among the [`finished`](Self::finished).
    fn begin(self: &Arc<Self>, conn: Box<Conn>);

    /// Says that something has happened to a connection that the application has: bytes, room for bytes, its end.
    fn heard(&self, token: u64, what: Heard);

    /// Finds out what holds the application's loop. Never waits, never attached: what is found is told later, from another
    /// thread.
    fn look_at_loop(self: &Arc<Self>, tell: TellHeld);

    /// Takes the connections whose requests are over, and sends what others have gathered.
    fn finished(&self, into: &mut Vec<Box<Conn>>);

    /// Says that the worker is to end: who can say good-bye to its client does.
    fn drain(&self);

    /// Ends the loop: the worker has, `quick` without patience for what the application still does.
    fn end(&self, quick: bool);

    /// Asks for a call of [`Nested::turn`](crate::Nested::turn) once what is ready in the loop has run.
    fn turn_soon(&self);
}

/// Takes what was found out.
pub type Tell = Box<dyn FnOnce(Sight) + Send>;

/// Takes what holds an application's loop: the number of the request, 0 if it is none, and where it is.
pub type TellHeld = Box<dyn FnOnce(u64, Sight) + Send>;

/// Where the application is in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// How that was found out.
    pub source: Source,
    /// The stack of the thread, the innermost call first.
    pub frames: Vec<Frame>,
    /// The kernel's id of the executor's thread that its task waits for; 0 for none.
    pub executor: u32,
    /// The pattern of the request's route, where the framework tells.
    pub route: Option<String>,
}

/// What is left of a process after [`App::abort`].
pub const ABORT: Duration = Duration::from_secs(1);

/// A thread and the request that it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Number of the app thread.
    pub thread: usize,
    /// Its kernel id.
    pub tid: u32,
    /// The request.
    pub request: u64,
}

/// What an application is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// INT or QUIT: the worker ends at once.
    Interrupted,
    /// USR1: log files are to be opened again.
    ReopenLogs,
}
