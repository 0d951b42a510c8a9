//! Who holds the lock that a session waits for, and who holds the one that that waits for, up to the root of it all.
//! Not for: whose sessions these are.

use super::session::{self, Activity, Keys};
use crate::database::answer::note;
use crate::database::inodes::Inodes;
use ferricorn_core::evidence::{Blocker, Session};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Client, Error};

/// How many waits long a chain is followed.
const DEPTH_MAX: usize = 8;
/// Most sessions that are told of one that waits.
pub(super) const BLOCKERS_MAX: usize = 16;

/// Who waits for whom.
#[derive(Debug, Default)]
pub(super) struct Chains {
    sessions: BTreeMap<u32, Activity>,
    waits_for: BTreeMap<u32, Vec<u32>>,
}

/// Follows the waits of these sessions.
pub(super) async fn follow(client: &Client, waiting: Vec<u32>) -> Result<Chains, Error> {
    let mut chains = Chains::default();
    let mut level = waiting;
    for _ in 0..DEPTH_MAX {
        level.retain(|pid| *pid != 0 && !chains.waits_for.contains_key(pid));
        level.truncate(BLOCKERS_MAX);
        if level.is_empty() {
            break;
        }
        let pids: Vec<i32> = level.iter().map(|pid| pid.cast_signed()).collect();
        let found = session::blocking(client, &pids).await?;
        let holders: BTreeSet<u32> = found.values().flatten().copied().collect();
        chains.waits_for.extend(found);
        let new = holders.into_iter().filter(|pid| *pid != 0 && !chains.sessions.contains_key(pid));
        let pids = new.take(BLOCKERS_MAX).map(u32::cast_signed).collect();
        let rows = session::read(client, &Keys { pids, ..Keys::default() }).await?;
        level = rows.iter().filter(|row| row.waits_for_lock()).map(|row| row.pid).collect();
        chains.sessions.extend(rows.into_iter().map(|row| (row.pid, row)));
    }
    Ok(chains)
}

impl Chains {
    /// The pids of the sessions at unix sockets: only from outside can be told whose they are.
    pub(super) fn at_unix_sockets(&self) -> impl Iterator<Item = u32> {
        self.sessions.values().filter(|session| session.is_unix).map(|session| session.pid)
    }

    /// Adds to a session that waits who holds what it waits for, the nearest first.
    pub(super) fn complete(&self, session: &mut Session, inodes: &Inodes, gaps: &mut Vec<String>) {
        let none = Vec::new();
        let holders = |pid: u32| self.waits_for.get(&pid).unwrap_or(&none);
        let mut seen = BTreeSet::from([session.pid]);
        let mut next: Vec<u32> = holders(session.pid).clone();
        while !next.is_empty() && session.blockers.len() < BLOCKERS_MAX {
            let mut after = Vec::new();
            for pid in next {
                if session.blockers.len() == BLOCKERS_MAX || !seen.insert(pid) {
                    continue;
                }
                session.blockers.push(self.blocker(pid, holders(pid), inodes));
                after.extend_from_slice(holders(pid));
            }
            next = after;
        }
        if session.blockers.iter().any(|blocker| blocker.pid == 0) {
            note(
                gaps,
                "A transaction that is prepared for two-phase commit holds a lock: SELECT * FROM pg_prepared_xacts says which",
            );
        }
    }

    fn blocker(&self, pid: u32, waits_for: &[u32], inodes: &Inodes) -> Blocker {
        match self.sessions.get(&pid) {
            Some(row) => row.blocker(waits_for, inodes.one_of(pid)),
            // PostgreSQL says 0 for what has no session.
            None if pid == 0 => Blocker { state: "prepared transaction".to_owned(), ..Blocker::default() },
            None => Blocker { pid, waits_for: waits_for.to_vec(), ..Blocker::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_told_from_the_nearest_to_the_root_and_rings_end() {
        let mut chains = Chains::default();
        for (pid, holders) in [(1, vec![2, 3]), (2, vec![3]), (3, vec![4, 0]), (4, vec![1])] {
            chains.waits_for.insert(pid, holders);
            let row =
                Activity { pid, state: format!("s{pid}"), text: "select 5".into(), ..Activity::default() };
            chains.sessions.insert(pid, row);
        }
        let mut session = Session { pid: 1, ..Session::default() };
        let mut gaps = Vec::new();
        chains.complete(&mut session, &Inodes::default(), &mut gaps);
        let told: Vec<String> =
            session.blockers.iter().map(|b| format!("{} {} {:?}", b.pid, b.state, b.waits_for)).collect();
        assert_eq!(told, ["2 s2 [3]", "3 s3 [4, 0]", "4 s4 [1]", "0 prepared transaction []"]);
        assert_eq!((session.blockers[0].query.as_str(), gaps.len()), ("select $1", 1));
    }

    #[test]
    fn a_crowd_is_cut() {
        let mut chains = Chains::default();
        chains.waits_for.insert(1, (2..100).collect());
        let mut session = Session { pid: 1, ..Session::default() };
        chains.complete(&mut session, &Inodes::default(), &mut Vec::new());
        assert_eq!(session.blockers.len(), BLOCKERS_MAX);
    }
}
