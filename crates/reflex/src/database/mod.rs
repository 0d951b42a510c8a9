//! Databases, asked what a worker's connections wait for.
//!
//! [`target`] is a database as it was said, [`url`] reads that, with [`surroundings`] and [`passfile`] for what libpq looks for
//! elsewhere.

mod passfile;
mod surroundings;
mod target;
mod url;

pub use target::Target;
pub use url::Wrong;
