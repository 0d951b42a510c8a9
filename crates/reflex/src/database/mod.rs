//! Databases, asked what a worker's connections wait for: which session belongs to a connection, on what it waits, who holds that,
//! what stands in a pooler's queue, and what takes longer than it used to; and told to end a statement. Values of statements never leave
//! these modules.
//!
//! From outside: [`Target`] is a database as it was said, [`Databases`] the thread that asks, [`Question`] what it is asked, and
//! [`facts`] what a database allows.
//!
//! Inside: [`url`], [`resolve`], [`surroundings`] and [`passfile`] read what was said; [`connect`] and [`tls`] open connections, [`line`] keeps
//! them; [`book`] knows which sockets lead to whom; [`round`] makes of questions one for each database, at the [`pace`] that
//! they can bear; [`postgres`], [`pgbouncer`] and [`mysql`] ask; [`outbox`] is where answers wait.
//!
//! Not for: deciding when to ask, and not for what the answers mean.

mod answer;
mod book;
mod cancel;
mod connect;
mod databases;
mod facts;
mod inodes;
mod line;
mod mysql;
mod outbox;
mod pace;
mod passfile;
mod pgbouncer;
mod postgres;
mod question;
mod resolve;
mod round;
mod surroundings;
mod target;
mod tls;
mod url;

pub(crate) use book::Book;
pub use cancel::{Cancelled, Victim};
pub(crate) use connect::{Wire, connect, words};
pub use databases::{Databases, QUESTIONS_MAX};
pub use facts::{Capacity, Facts, Limit, facts};
pub use line::Rhythm;
pub use outbox::Answered;
pub use question::{Connection, Question, Sibling};
pub use target::Target;
pub use url::{TARGETS_MAX, Wrong};
