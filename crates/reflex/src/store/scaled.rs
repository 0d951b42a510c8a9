//! What was decided about the number of workers, as an observer keeps it and `ferricornctl why scale` reads it. Not for: deciding.

use super::{Store, StoreError};
use ferricorn_core::record::Server;
use ferricorn_core::scale::{Decision, Scale};
use serde::{Deserialize, Serialize};

/// The name under which it is kept.
pub const SCALE: &str = "scale";

/// What was decided.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scaled {
    /// What the next decision needs.
    pub scale: Scale,
    /// The last decision, whatever it was.
    pub last: Option<Decision>,
    /// The last changes, oldest first.
    pub changes: Vec<Decision>,
}

impl Store {
    /// Returns what was decided, of each server whose number of workers is not fixed, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub fn scaled(&self) -> Result<Vec<(Server, Scaled)>, StoreError> {
        let found = self.states(SCALE)?.into_iter();
        Ok(found.map(|(server, _, scaled)| (server, scaled)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{opened, server};
    use ferricorn_core::scale::Wish;

    #[test]
    fn what_was_decided_is_read_back() {
        let (_folder, store) = opened(Bounds::default());
        assert!(store.scaled().expect("read").is_empty());
        let last = Decision { at: 7.0, wish: Wish::Add(1), workers: 2, why: "busy".into() };
        let kept = Scaled { last: Some(last.clone()), changes: vec![last.clone()], ..Scaled::default() };
        store.remember(&server(4), SCALE, 7.0, &kept).expect("kept");
        store.remember(&server(5), SCALE, 6.0, &"another shape").expect("kept");
        let found = store.scaled().expect("read");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.pid, found[0].1.last.as_ref()), (4, Some(&last)));
    }
}
