//! Who has done what, and why: rows that are only ever added. Each has a SHA-256 over itself and the hash before it, and the
//! ends of the chain are written down, so that a row that was changed, put in, or taken out is found. Who may write the file
//! can make a whole new chain; against that helps only a copy of `last_hash` elsewhere.
//!
//! Not for: what is decided, which `core` does.

use super::state::as_body;
use super::{Store, StoreError};
use ferricorn_core::record::Server;
use ferricorn_core::units::cut;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Bytes of each text of an act.
const TEXT_MAX: usize = 1 << 10;

/// Something that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Act {
    /// When, microseconds since 1970.
    pub at_us: i64,
    /// Who did it: `observer`, a user's name.
    pub who: String,
    /// What.
    pub what: String,
    /// Why: a reason, or the name of what is known (an incident, a request).
    pub why: String,
    /// How it was before.
    pub before: String,
    /// How it is now.
    pub after: String,
}

/// What the chain of acts is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Every act is as it was written.
    Whole {
        /// How many are kept.
        acts: u64,
    },
    /// From this number on it is not.
    Broken {
        /// The first act that is not as it was written, or is missing.
        at: i64,
    },
}

/// Where the chain begins and ends.
struct Ends {
    first: i64,
    first_before: String,
    last: i64,
    last_hash: String,
}

impl Store {
    /// Adds an act; returns its number. Long texts are cut.
    ///
    /// # Errors
    /// The store's.
    pub fn audit(&self, act: &Act) -> Result<i64, StoreError> {
        let act = short(act);
        self.write(|connection| self.add_act(connection, &act))
    }

    /// Adds an act, and keeps under a name what follows from its number: both, or neither, whenever we are ended.
    ///
    /// # Errors
    /// The store's.
    pub fn audit_and_remember<T: Serialize>(
        &self,
        act: &Act,
        server: &Server,
        key: &str,
        now_s: f64,
        value: impl Fn(i64) -> T,
    ) -> Result<i64, StoreError> {
        let act = short(act);
        self.write(|connection| {
            let seq = self.add_act(connection, &act)?;
            self.keep_value(connection, server, key, now_s, &as_body(&value(seq))?)?;
            Ok(seq)
        })
    }

    fn add_act(&self, connection: &Connection, act: &Act) -> Result<i64, StoreError> {
        let before = ends(connection)?;
        let seq = before.last + 1;
        let hash = hash(&before.last_hash, seq, act);
        let query = "INSERT INTO audit (seq, at_us, who, what, why, before, after, hash) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let row = params![seq, act.at_us, act.who, act.what, act.why, act.before, act.after, hash];
        connection.prepare_cached(query)?.execute(row)?;
        keep_ends(connection, &Ends { last: seq, last_hash: hash, ..before })?;
        self.drop_oldest(connection)?;
        Ok(seq)
    }

    /// Returns acts with their numbers, the newest first and at most so many.
    ///
    /// # Errors
    /// The store's.
    pub fn acts(&self, limit: usize) -> Result<Vec<(i64, Act)>, StoreError> {
        let query = "SELECT seq, at_us, who, what, why, before, after FROM audit ORDER BY seq DESC LIMIT ?1";
        let mut statement = self.connection().prepare_cached(query)?;
        let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], act)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Looks at every act whether it is as it was written.
    ///
    /// # Errors
    /// The store's.
    pub fn verify(&self) -> Result<Chain, StoreError> {
        let ends = ends(self.connection())?;
        let query = "SELECT seq, at_us, who, what, why, before, after, hash FROM audit ORDER BY seq";
        let mut statement = self.connection().prepare_cached(query)?;
        let mut rows = statement.query([])?;
        let (mut next, mut before) = (ends.first, ends.first_before);
        while let Some(row) = rows.next()? {
            let (seq, act) = act(row)?;
            let kept: String = row.get("hash")?;
            if seq != next || kept != hash(&before, seq, &act) {
                return Ok(Chain::Broken { at: next });
            }
            (next, before) = (seq + 1, kept);
        }
        if next != ends.last + 1 || before != ends.last_hash {
            return Ok(Chain::Broken { at: next });
        }
        Ok(Chain::Whole { acts: (next - ends.first).unsigned_abs() })
    }

    /// Gives up acts beyond the bound; the chain begins behind them.
    fn drop_oldest(&self, connection: &Connection) -> Result<(), StoreError> {
        let ends = ends(connection)?;
        let first = ends.last - i64::try_from(self.bounds().audit_rows).unwrap_or(i64::MAX) + 1;
        if first <= ends.first {
            return Ok(());
        }
        let query = "SELECT hash FROM audit WHERE seq = ?1";
        let hash: Option<String> =
            connection.prepare_cached(query)?.query_row([first - 1], |row| row.get(0)).optional()?;
        // Where it is missing already, the chain stays broken.
        let first_before = hash.unwrap_or_default();
        connection.execute("DELETE FROM audit WHERE seq < ?1", [first])?;
        keep_ends(connection, &Ends { first, first_before, ..ends })
    }
}

fn ends(connection: &Connection) -> Result<Ends, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT first, first_before, last, last_hash FROM chain WHERE one = 1")?;
    let ends = statement.query_row([], |row| {
        let (first_before, last_hash) = (row.get(1)?, row.get(3)?);
        Ok(Ends { first: row.get(0)?, first_before, last: row.get(2)?, last_hash })
    });
    let none = Ends { first: 1, first_before: String::new(), last: 0, last_hash: String::new() };
    Ok(ends.optional()?.unwrap_or(none))
}

fn keep_ends(connection: &Connection, ends: &Ends) -> Result<(), StoreError> {
    let query =
        "INSERT OR REPLACE INTO chain (one, first, first_before, last, last_hash) VALUES (1, ?1, ?2, ?3, ?4)";
    let row = params![ends.first, ends.first_before, ends.last, ends.last_hash];
    connection.prepare_cached(query)?.execute(row)?;
    Ok(())
}

/// Returns the hash of an act behind another's, as hexadecimal digits. Every text has its length before it, so that nothing
/// can move from one into the next.
fn hash(before: &str, seq: i64, act: &Act) -> String {
    let mut digest = Sha256::new();
    digest.update(seq.to_le_bytes());
    digest.update(act.at_us.to_le_bytes());
    for text in [before, &act.who, &act.what, &act.why, &act.before, &act.after] {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    ferricorn_core::units::hex(&digest.finalize())
}

fn act(row: &Row<'_>) -> rusqlite::Result<(i64, Act)> {
    let act = Act {
        at_us: row.get("at_us")?,
        who: row.get("who")?,
        what: row.get("what")?,
        why: row.get("why")?,
        before: row.get("before")?,
        after: row.get("after")?,
    };
    Ok((row.get("seq")?, act))
}

fn short(act: &Act) -> Act {
    let cut = |text: &String| cut(text, TEXT_MAX).to_owned();
    Act {
        at_us: act.at_us,
        who: cut(&act.who),
        what: cut(&act.what),
        why: cut(&act.why),
        before: cut(&act.before),
        after: cut(&act.after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bounds::Bounds;
    use crate::store::tests::{opened, server};

    fn acted(number: i64) -> Act {
        Act {
            at_us: number,
            who: "observer".into(),
            what: "cancelled a query".into(),
            why: "20261126-7".into(),
            before: "active".into(),
            after: "cancelled".into(),
        }
    }

    #[test]
    fn acts_are_numbered_and_chained() {
        let (folder, store) = opened(Bounds::default());
        assert_eq!(store.verify().expect("read"), Chain::Whole { acts: 0 });
        // Two that share a folder make one chain.
        let other = Store::create(folder.path()).expect("a second server");
        for number in 1..=6 {
            let store = if number % 2 == 0 { &other } else { &store };
            assert_eq!(store.audit(&acted(number)).expect("kept"), number);
        }
        assert_eq!(store.verify().expect("read"), Chain::Whole { acts: 6 });
        let newest = store.acts(2).expect("read");
        assert_eq!(newest, [(6, acted(6)), (5, acted(5))]);
    }

    #[test]
    fn every_edit_is_found() {
        let table = [
            ("UPDATE audit SET who = 'me' WHERE seq = 3", 3),
            ("UPDATE audit SET at_us = 7 WHERE seq = 1", 1),
            // A text that moves from one column into the next.
            ("UPDATE audit SET who = 'observ', what = 'ercancelled a query' WHERE seq = 2", 2),
            ("DELETE FROM audit WHERE seq = 2", 2),
            ("DELETE FROM audit WHERE seq = 1", 1),
            ("DELETE FROM audit WHERE seq = 4", 4),
            ("DELETE FROM audit", 1),
            (
                "INSERT INTO audit SELECT 5, at_us, who, what, why, before, after, hash FROM audit WHERE seq = 4",
                5,
            ),
            ("UPDATE audit SET hash = 'x' WHERE seq = 4", 4),
            ("UPDATE chain SET last_hash = 'x'", 5),
        ];
        for (edit, at) in table {
            let (_folder, store) = opened(Bounds::default());
            (1..=4).for_each(|number| assert_eq!(store.audit(&acted(number)).expect("kept"), number));
            store.connection().execute(edit, []).expect("edited");
            assert_eq!(store.verify().expect("read"), Chain::Broken { at }, "{edit}");
        }
    }

    #[test]
    fn the_oldest_go_and_the_chain_holds() {
        let (_folder, store) = opened(Bounds { audit_rows: 5, ..Bounds::default() });
        for number in 1..=12 {
            store.audit(&acted(number)).expect("kept");
        }
        assert_eq!(store.verify().expect("read"), Chain::Whole { acts: 5 });
        assert_eq!(store.acts(100).expect("read").last().map(|(seq, _)| *seq), Some(8));
        store.connection().execute("DELETE FROM audit WHERE seq = 8", []).expect("edited");
        assert_eq!(store.verify().expect("read"), Chain::Broken { at: 8 });
    }

    #[test]
    fn long_texts_are_cut_where_a_character_ends() {
        let (_folder, store) = opened(Bounds::default());
        store.audit(&Act { why: "é".repeat(TEXT_MAX), ..acted(1) }).expect("kept");
        assert_eq!(store.acts(1).expect("read")[0].1.why.len(), TEXT_MAX);
        assert_eq!(store.verify().expect("read"), Chain::Whole { acts: 1 });
    }

    #[test]
    fn an_act_and_what_follows_from_it_are_kept_together_or_not_at_all() {
        let (_folder, store) = opened(Bounds::default());
        let keep = |value: &dyn Fn(i64) -> String| {
            store.audit_and_remember(&acted(1), &server(1), "acting", 1.0, value)
        };
        assert_eq!(keep(&|number| format!("after {number}")).expect("kept"), 1);
        keep(&|_| "x".repeat(2 << 20)).expect_err("too much");
        assert_eq!(store.verify().expect("read"), Chain::Whole { acts: 1 });
        let kept: Option<String> = store.remembered(&server(1), "acting").expect("read");
        assert_eq!(kept.as_deref(), Some("after 1"));
    }
}
