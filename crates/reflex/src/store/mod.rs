//! What is kept of a server, in one SQLite file that any number of servers and viewers may have open at once: records,
//! incidents, durations by the minute, lives of workers, the audit, and what an observer wants back after it was started again.
//! It survives `kill -9` of whoever writes (WAL), has limits in size and age ([`Store::maintain`]), and none of its methods
//! waits for long: a store that is broken, locked or full is an error that the caller says once ([`Scribe`]).
//!
//! A server is told from the others that share its folder by pid, name and the start of its arbiter. The file can be read
//! with `sqlite3`; its tables are in `schema`, and are not public: docs/incidents.md says which JSON is.
//!
//! The file is only ever opened by SQLite: another open and close in the same process would drop its locks (fcntl(2)).
//!
//! Not for: finding anything out, and not for showing it (`cli`).

mod audit;
mod bounds;
mod changes;
mod deploys;
mod error;
mod incidents;
mod minutes;
mod neighbours;
mod open;
mod outgoing;
mod place;
mod records;
mod scaled;
mod schema;
mod scribe;
mod sparse;
mod state;
#[cfg(test)]
mod tests;
mod upkeep;

pub use audit::{Act, Chain};
pub use error::StoreError;
pub use incidents::IncidentFilter;
pub use neighbours::{HOSTS, Neighbours};
pub use open::Store;
pub use outgoing::Outgoing;
pub use place::{FILE, OFF, default_folder};
pub use records::RecordFilter;
pub use scaled::{SCALE, Scaled};
pub use scribe::Scribe;
pub use state::COURSES;
