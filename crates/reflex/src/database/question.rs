//! What the observer wants to know: for what the connections of a process wait. Not for: asking.

/// A question about the connections of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// The asker's number for it, which the answer carries.
    pub id: u64,
    /// The pid of the process.
    pub worker: u32,
    /// How long the request has run that the question is about; helps to tell sessions apart that nothing else does.
    pub since_s: Option<f64>,
    /// The connections of the process that lead out of it; those that lead to no database of ours do no harm.
    pub connections: Vec<Connection>,
    /// Connections of the other workers: whose session holds a lock is told where it is one of these.
    pub siblings: Vec<Sibling>,
}

/// A connection of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Its descriptor in the process.
    pub fd: i32,
    /// This end: `ip:port`; empty for unix sockets.
    pub local: String,
    /// The other end: `ip:port`, or the path of a unix socket.
    pub peer: String,
    /// The inode of the other end of a unix socket.
    pub unix_peer_inode: Option<u64>,
}

/// A connection of another worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sibling {
    /// The pid of the worker.
    pub worker: u32,
    /// Its end: `ip:port`; empty for unix sockets.
    pub local: String,
    /// The inode of the other end of a unix socket.
    pub unix_peer_inode: Option<u64>,
}
