//! What an observer knows of other hosts, as it keeps it and `ferricornctl hosts` reads it. Not for: hearing of them.

use super::{Store, StoreError};
use ferricorn_core::hosts::Beacon;
use ferricorn_core::record::Server;
use serde::{Deserialize, Serialize};

/// The name under which it is kept.
pub const HOSTS: &str = "hosts";

/// The others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Neighbours {
    /// Whether they can be reached now.
    pub here: bool,
    /// What this server may do while they cannot: so many actions that touch more than one request, within the budget's time.
    pub part: u32,
    /// All servers that are heard of, this one among them.
    pub servers: Vec<Beacon>,
}

impl Store {
    /// Returns what each observer knows of other hosts, the newest first, with when that was.
    ///
    /// # Errors
    /// The store's.
    pub fn neighbours(&self) -> Result<Vec<(Server, f64, Neighbours)>, StoreError> {
        self.states(HOSTS)
    }
}
