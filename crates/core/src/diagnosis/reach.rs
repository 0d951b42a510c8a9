//! What a stuck request can be taken hold of by, from outside and without ending its worker: the statement that it waits for, the
//! connection that its thread is blocked on. Not for: whether that is wise ([`crate::policy`]).

use super::Case;
use super::sight::Sight;
use crate::evidence::{Database, Session, Socket, Thread};

/// What there is to take hold of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach<'a> {
    /// The statement that it waits for: its database, and the session there.
    pub session: Option<(&'a Database, &'a Session)>,
    /// The connection that its own thread is blocked on, in a system call that names it. Nobody else's request uses it then.
    pub socket: Option<(&'a Thread, &'a Socket)>,
}

/// Finds it in what was seen of a request.
pub fn reach<'a>(case: &'a Case<'a>) -> Reach<'a> {
    let Some(sight) = Sight::of(case) else { return Reach::default() };
    let blocked =
        sight.thread.filter(|thread| thread.fd.is_some() && !sight.is_task() && !sight.is_running());
    let own = |socket: &&Socket| blocked.is_some_and(|thread| thread.fd == Some(socket.fd));
    Reach {
        session: sight.session().filter(|(_, session)| session.state == "active"),
        socket: sight.socket.filter(own).and_then(|socket| Some((blocked?, socket))),
    }
}
