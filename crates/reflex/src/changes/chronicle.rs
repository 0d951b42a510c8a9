//! The changes of a service as they come: what its workers were made of, one after the other, and what differs. `(what was read, now)
//! -> what to keep`. What it was before the observer was started, or before its server was, comes out of the store.
//!
//! Not for: reading (`watcher`), differences (`core::change`), and not for what they explain.

use super::scene::Scene;
use super::watcher::{Read, Watcher};
use ferricorn_core::change::{Change, Fingerprint, Kind, Live, Standing, compare, standing};
use ferricorn_core::life::Life;
use ferricorn_core::record::Server;
use ferricorn_core::snapshot::Snapshot;
use ferricorn_core::units::hex;
use ferricorn_sys::random;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// Workers that are followed.
const WORKERS_MAX: usize = 512;
/// Changes that are remembered.
const RECENT_MAX: usize = 256;
/// Earlier code that is known again when it comes back.
const EARLIER_MAX: usize = 64;
/// Files that are still being written while workers start make one change with those before, seconds.
const ONE_S: f64 = 60.0;
/// A worker that is seen later after its start may have read other files than there are now, seconds.
const LATE_S: f64 = 5.0;
/// File times are a little coarse, seconds.
const COARSE_S: f64 = 1.0;

/// What is to be kept.
#[derive(Debug, PartialEq)]
pub(crate) enum Keep {
    /// What the service is made of, seen for the first time: the next server is compared with that, however this one ends.
    First,
    /// A change.
    New(Box<Change>),
    /// A change in the place of one that turned out to be a part of it.
    Instead(Box<Change>, Box<Change>),
}

/// What survives observers and servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// Makes hashes of values useless to others.
    salt: String,
    /// Since when the service is known, seconds since 1970.
    since: f64,
    /// What the newest worker is made of, by which id its requests are counted, and when it was started.
    current: Option<Fingerprint>,
    id: String,
    started: f64,
    /// Ids of what has run before.
    earlier: Vec<String>,
    /// The arbiter, and its reload.
    server: (u32, u64),
    generation: u32,
    /// Workers that are made of that, by pid, with their start.
    workers: BTreeMap<u32, f64>,
}

/// A worker.
#[derive(Debug)]
struct Known {
    age: u32,
    generation: u32,
    started: f64,
    seen: f64,
    asked: bool,
    /// It was read, whatever that has told.
    read: bool,
    stays: bool,
    made_of: Option<Arc<Fingerprint>>,
    /// Its id.
    id: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    server: Server,
    preload: bool,
    watcher: Option<Watcher>,
    kept: Kept,
    current: Option<Arc<Fingerprint>>,
    workers: BTreeMap<u32, Known>,
    disk: Option<Arc<Fingerprint>>,
    /// The oldest first.
    recent: VecDeque<Change>,
    /// What was before the newest change, and the reload that brought it.
    base: Option<(Arc<Fingerprint>, u32)>,
    standing: Arc<Standing>,
    stale: bool,
    unsaved: bool,
}

/// Returns the name of a service in the store: servers of one name and folder follow each other.
pub(crate) fn service(server: &Server, scene: &Scene) -> String {
    let folder = scene.folder.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    format!("{} {} {folder}", server.kind, server.name)
}

impl Chronicle {
    /// Begins with what was kept of the service, and its changes, the newest first.
    ///
    /// # Errors
    /// The system has no thread left, or no randomness.
    pub(crate) fn open(
        server: Server,
        scene: Scene,
        kept: Option<Kept>,
        changes: Vec<Change>,
        now_s: f64,
    ) -> io::Result<Self> {
        let mut kept = kept.unwrap_or_default();
        let unsaved = kept.salt.is_empty();
        if unsaved {
            kept.salt = salt()?;
            kept.since = now_s;
        }
        let preload = scene.preload;
        let watcher = Watcher::start(scene, kept.salt.clone())?;
        let mut chronicle = Self { server, preload, kept, unsaved, ..Self::default() };
        chronicle.watcher = Some(watcher);
        chronicle.resume(changes);
        Ok(chronicle)
    }

    fn resume(&mut self, changes: Vec<Change>) {
        self.current = self.kept.current.clone().map(Arc::new);
        self.recent = changes.into_iter().take(RECENT_MAX).rev().collect();
        self.stale = true;
    }

    /// Takes a look at who is there.
    pub(crate) fn second(&mut self, snapshot: &Snapshot) {
        let is_there = |pid: u32, known: &Known| {
            snapshot.workers.iter().any(|worker| worker.pid == pid && worker.age == known.age)
        };
        let before = self.workers.len();
        self.workers.retain(|pid, known| is_there(*pid, known));
        self.stale |= before != self.workers.len();
        for worker in &snapshot.workers {
            let stays = !matches!(worker.life, Life::Draining | Life::Condemned | Life::Exited);
            if let Some(known) = self.workers.get_mut(&worker.pid) {
                self.stale |= known.stays != stays || known.generation != worker.generation;
                (known.stays, known.generation) = (stays, worker.generation);
            } else if self.workers.len() < WORKERS_MAX {
                let started = snapshot.at_s - worker.uptime_s;
                let kept = self.kept.workers.get(&worker.pid);
                let is_kept = kept.is_some_and(|kept| (kept - started).abs() < 2.0 * COARSE_S)
                    && self.kept.server == (self.server.pid, self.server.started_ns);
                let made_of = self.current.clone().filter(|_| is_kept);
                let id = if made_of.is_some() { self.kept.id.clone() } else { String::new() };
                let known = Known {
                    id,
                    age: worker.age,
                    generation: worker.generation,
                    started,
                    seen: snapshot.at_s,
                    asked: made_of.is_some(),
                    read: made_of.is_some(),
                    stays,
                    made_of,
                };
                self.workers.insert(worker.pid, known);
                self.stale = true;
            }
        }
        if let Some(watcher) = &self.watcher {
            for (pid, known) in self.workers.iter_mut().filter(|(_, known)| !known.asked) {
                known.asked = watcher.ask(*pid);
            }
        }
    }

    /// Takes what was read meanwhile; returns what is to be kept.
    pub(crate) fn take(&mut self) -> Vec<Keep> {
        let read = self.watcher.as_ref().map(Watcher::read).unwrap_or_default();
        let mut keep = Vec::new();
        for read in read {
            self.stale = true;
            match read {
                Read::Worker(pid, made_of) => keep.extend(self.started(pid, *made_of)),
                // It has ended meanwhile, or its slot had not its pid yet.
                Read::Gone(pid) => drop(self.workers.remove(&pid)),
                Read::Disk(made_of) => self.disk = Some(Arc::new(*made_of)),
            }
        }
        keep
    }

    /// A worker was read.
    fn started(&mut self, pid: u32, mut made_of: Fingerprint) -> Option<Keep> {
        let server = (self.server.pid, self.server.started_ns);
        let known = self.workers.get_mut(&pid)?;
        known.read = true;
        let (started, generation) = (known.started, known.generation);
        let newer = |mtime_ns: u64| mtime_ns as f64 / 1e9 > started + COARSE_S;
        let is_late = known.seen - started > LATE_S;
        if is_late && made_of.code.files.iter().any(|file| newer(file.mtime_ns)) {
            // Nobody knows what it has read.
            return None;
        }
        if let Some(current) = self.current.as_deref().filter(|_| self.preload && self.kept.server == server)
        {
            made_of.code.clone_from(&current.code);
            made_of.distributions.clone_from(&current.distributions);
        }
        let before = self.current.clone();
        let made_of = match &before {
            Some(current) if **current == made_of => current.clone(),
            _ => Arc::new(made_of),
        };
        known.made_of = Some(made_of.clone());
        // Of what was not to be seen the other time nobody knows that it has changed.
        let is_same = before.as_deref().is_some_and(|before| compare(before, &made_of, &[]).is_none());
        let id = if is_same { self.kept.id.clone() } else { made_of.whole_id() };
        known.id.clone_from(&id);
        // One of the past that was read late.
        if before.is_some() && self.kept.server == server && started + COARSE_S < self.kept.started {
            return None;
        }
        let by = match () {
            () if self.kept.server != server => By::Restart,
            () if self.kept.generation != generation => By::Reload,
            () => By::Replacement,
        };
        let keep = match before {
            Some(before) => self.compared(&before, &made_of, pid, by, &id),
            None => Some(Keep::First),
        };
        let is_other = self.current.as_ref() != Some(&made_of);
        if is_other {
            self.kept.current = Some((*made_of).clone());
            self.current = Some(made_of.clone());
        }
        self.kept.id = id;
        self.kept.server = server;
        self.kept.generation = generation;
        self.kept.started = started;
        self.kept.workers = self.who_run(&made_of);
        self.unsaved = true;
        keep
    }

    /// Returns the workers that are made of this.
    fn who_run(&self, made_of: &Arc<Fingerprint>) -> BTreeMap<u32, f64> {
        let runs = |known: &Known| known.made_of.as_ref().is_some_and(|own| Arc::ptr_eq(own, made_of));
        let those = self.workers.iter().filter(|(_, known)| runs(known));
        those.map(|(pid, known)| (*pid, known.started)).collect()
    }

    fn compared(
        &mut self,
        before: &Arc<Fingerprint>,
        made_of: &Arc<Fingerprint>,
        pid: u32,
        by: By,
        to_id: &str,
    ) -> Option<Keep> {
        let (at, generation) = self.workers.get(&pid).map(|known| (known.started, known.generation))?;
        let (from_id, to_id) = (self.kept.id.clone(), to_id.to_owned());
        let named = |mut change: Change| {
            change.details.push(by.words().to_owned());
            let (from_id, to_id, server) = (from_id.clone(), to_id.clone(), self.server.name.clone());
            Change { at, worker: Some(pid), server, from_id, to_id, ..change }
        };
        let Some(change) = compare(before, made_of, &self.kept.earlier).map(named) else {
            let (name, detail) = match by {
                By::Replacement => return None,
                By::Reload => ("reload", "all workers are new, and nothing else"),
                By::Restart => ("restart", "the server is new, and nothing else"),
            };
            let change = Change {
                schema: ferricorn_core::change::SCHEMA,
                kind: Kind::Restart,
                name: name.to_owned(),
                details: vec![detail.to_owned()],
                from: before.version(),
                to: made_of.version(),
                ..Change::default()
            };
            let change = Change { at, worker: Some(pid), server: self.server.name.clone(), ..change };
            self.remember(change.clone());
            return Some(Keep::New(Box::new(change)));
        };
        let id = before.id();
        let last = self.recent.back().filter(|last| !matches!(last.kind, Kind::Mark)).cloned();
        let goes_on = |last: &Change| (0.0..ONE_S).contains(&(at - last.at)) && by == By::Replacement;
        if let Some((base, of)) = self.base.clone()
            && let Some(last) = last.filter(|last| of == generation && goes_on(last))
            && let Some(whole) = compare(&base, made_of, &self.kept.earlier)
        {
            let change = Change {
                at: last.at,
                worker: last.worker,
                server: last.server.clone(),
                from_id: last.from_id.clone(),
                to_id,
                details: whole.details.iter().chain(last.details.last()).cloned().collect(),
                ..whole
            };
            self.recent.pop_back();
            self.remember(change.clone());
            return Some(Keep::Instead(Box::new(last), Box::new(change)));
        }
        self.kept.earlier.retain(|known| *known != id);
        if self.kept.earlier.len() >= EARLIER_MAX {
            self.kept.earlier.remove(0);
        }
        self.kept.earlier.push(id);
        self.base = Some((before.clone(), generation));
        self.remember(change.clone());
        Some(Keep::New(Box::new(change)))
    }

    /// Takes what somebody has marked.
    pub(crate) fn mark(&mut self, change: Change) -> Keep {
        self.remember(change.clone());
        Keep::New(Box::new(change))
    }

    fn remember(&mut self, change: Change) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        // Marks may be of any time.
        let at = self.recent.partition_point(|known| known.at <= change.at);
        self.recent.insert(at, change);
    }

    /// Returns the changes that are remembered, the oldest first.
    pub(crate) fn recent(&self) -> &VecDeque<Change> {
        &self.recent
    }

    /// Returns since when the service is known.
    pub(crate) fn since(&self) -> f64 {
        self.kept.since
    }

    /// Returns the id of all that a worker is made of; empty where that is not known.
    pub(crate) fn id_of(&self, pid: u32) -> &str {
        self.workers.get(&pid).map_or("", |known| known.id.as_str())
    }

    /// Returns the same of all workers that stay; empty if they differ, or it is not known.
    pub(crate) fn id_of_all(&self) -> &str {
        let mut ids = self.workers.values().filter(|known| known.stays).map(|known| known.id.as_str());
        let first = ids.next().unwrap_or_default();
        if ids.all(|id| id == first) { first } else { "" }
    }

    /// Returns what an id stands for, as people call it.
    pub(crate) fn version_of(&self, id: &str) -> String {
        let made_of =
            self.workers.values().find(|known| known.id == id).and_then(|known| known.made_of.as_ref());
        made_of.map(|made_of| made_of.version()).unwrap_or_default()
    }

    /// Returns what all workers that stay are made of, as people call it; empty if they differ.
    pub(crate) fn version_of_all(&self) -> String {
        self.version_of(self.id_of_all())
    }

    /// Tells whether the code on disk, as of the last look, is not what the workers run: a reload would deploy it.
    pub(crate) fn code_differs(&self) -> bool {
        self.standing.pending.is_some()
    }

    /// Returns what the workers run beside what is on disk; and what it was, if it has become another.
    pub(crate) fn standing(&mut self) -> (Arc<Standing>, Option<Arc<Standing>>) {
        if !std::mem::take(&mut self.stale) {
            return (self.standing.clone(), None);
        }
        let live: Vec<Live<'_>> = self
            .workers
            .iter()
            .filter(|(_, known)| known.stays)
            .map(|(pid, known)| Live {
                pid: *pid,
                generation: known.generation,
                started: known.started,
                made_of: known.made_of.as_deref(),
            })
            .collect();
        // Who was not read yet will be in a moment.
        let is_waited_for = self.workers.values().any(|known| known.stays && !known.read);
        let disk = self.disk.as_deref().filter(|_| !is_waited_for);
        let now = Arc::new(standing(&live, disk, self.preload));
        let before = std::mem::replace(&mut self.standing, now.clone());
        (now.clone(), (before != now).then_some(before))
    }

    /// Returns what has to survive, if it has changed since it was saved.
    pub(crate) fn unsaved(&self) -> Option<&Kept> {
        self.unsaved.then_some(&self.kept)
    }

    /// It is written down.
    pub(crate) fn saved(&mut self) {
        self.unsaved = false;
    }
}

/// How a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Restart,
    Reload,
    Replacement,
}

impl By {
    fn words(self) -> &'static str {
        match self {
            Self::Restart => "came with a start of the server",
            Self::Reload => "came with a reload",
            Self::Replacement => "came with a worker that was replaced; others may run what was before",
        }
    }
}

fn salt() -> io::Result<String> {
    Ok(hex(&random::bytes()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::change::{Code, File};
    use ferricorn_core::snapshot::Worker;

    fn code(head: &str) -> Fingerprint {
        let file = File { path: "app.py".into(), size: 1, mtime_ns: 1, content: head.into() };
        Fingerprint {
            code: Code { head: head.into(), files: vec![file], ..Code::default() },
            ..Fingerprint::default()
        }
    }

    fn chronicle(started_ns: u64, kept: Kept) -> Chronicle {
        let server = Server { pid: 1, name: "shop".into(), started_ns, ..Server::default() };
        let mut chronicle = Chronicle { server, kept, ..Chronicle::default() };
        chronicle.resume(Vec::new());
        chronicle
    }

    /// Workers as pid, generation and start.
    fn seen(at_s: f64, workers: &[(u32, u32, f64)]) -> Snapshot {
        let worker = |(pid, generation, started): &(u32, u32, f64)| Worker {
            pid: *pid,
            age: *pid,
            generation: *generation,
            uptime_s: at_s - started,
            life: Life::Ready,
            ..Worker::default()
        };
        Snapshot { at_s, workers: workers.iter().map(worker).collect(), ..Snapshot::default() }
    }

    fn name(keep: Option<Keep>) -> Option<String> {
        match keep? {
            Keep::First => None,
            Keep::New(change) => Some(change.name),
            Keep::Instead(_, change) => Some(format!("instead: {}", change.name)),
        }
    }

    #[test]
    fn a_reload_with_other_code_is_one_change() {
        let mut chronicle = chronicle(7, Kept::default());
        chronicle.second(&seen(100.0, &[(1, 0, 99.0), (2, 0, 99.0)]));
        assert_eq!(name(chronicle.started(1, code("aaa"))), None, "the first is what there is");
        assert_eq!(name(chronicle.started(2, code("aaa"))), None);
        chronicle.second(&seen(200.0, &[(1, 0, 99.0), (2, 0, 99.0), (3, 1, 199.0), (4, 1, 199.5)]));
        let first = chronicle.started(3, code("bbb"));
        assert_eq!(name(first).as_deref(), Some("deploy aaa → bbb, 1 file"));
        assert_eq!(name(chronicle.started(4, code("bbb"))), None);
        // And back; then nothing but a reload.
        chronicle.second(&seen(300.0, &[(5, 2, 299.0)]));
        assert_eq!(name(chronicle.started(5, code("aaa"))).as_deref(), Some("rollback bbb → aaa, 1 file"));
        chronicle.second(&seen(400.0, &[(6, 3, 399.0)]));
        assert_eq!(name(chronicle.started(6, code("aaa"))).as_deref(), Some("reload"));
        let names: Vec<&str> = chronicle.recent().iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["deploy aaa → bbb, 1 file", "rollback bbb → aaa, 1 file", "reload"]);
        assert_eq!(chronicle.recent()[0].at, 199.0);
    }

    #[test]
    fn files_that_come_while_workers_start_are_one_change() {
        let mut chronicle = chronicle(7, Kept::default());
        chronicle.second(&seen(100.0, &[(1, 0, 99.0)]));
        chronicle.started(1, code("aaa"));
        chronicle.second(&seen(200.0, &[(2, 1, 199.0), (3, 1, 200.0)]));
        assert_eq!(name(chronicle.started(2, code("bbb"))).as_deref(), Some("deploy aaa → bbb, 1 file"));
        let whole = name(chronicle.started(3, code("ccc")));
        assert_eq!(whole.as_deref(), Some("instead: deploy aaa → ccc, 1 file"));
        assert_eq!(chronicle.recent().len(), 1);
    }

    #[test]
    fn a_worker_that_was_replaced_makes_versions_mixed() {
        let mut chronicle = chronicle(7, Kept::default());
        chronicle.second(&seen(100.0, &[(1, 0, 99.0), (2, 0, 99.0)]));
        chronicle.started(1, code("aaa"));
        chronicle.started(2, code("aaa"));
        chronicle.disk = Some(Arc::new(code("bbb")));
        chronicle.stale = true;
        assert!(chronicle.standing().0.pending.is_some());
        chronicle.second(&seen(200.0, &[(2, 0, 99.0), (3, 0, 199.0)]));
        assert!(name(chronicle.started(3, code("bbb"))).is_some());
        chronicle.stale = true;
        let (standing, before) = chronicle.standing();
        assert!(standing.mixed.is_some() && standing.pending.is_none() && before.is_some());
        assert_eq!(chronicle.standing().1, None, "nothing is news twice");
    }

    #[test]
    fn a_later_observer_and_a_later_server_know_what_was() {
        let mut first = chronicle(7, Kept::default());
        first.second(&seen(100.0, &[(1, 0, 99.0)]));
        first.started(1, code("aaa"));
        let kept: Kept =
            serde_json::from_str(&serde_json::to_string(&first.kept).expect("JSON")).expect("read");
        // The same worker, whatever is on disk by now.
        let mut second = chronicle(7, kept.clone());
        second.second(&seen(500.0, &[(1, 0, 99.1)]));
        assert_eq!((second.id_of(1), second.id_of(9)), (code("aaa").whole_id().as_str(), ""));
        assert_eq!(
            (second.id_of_all(), second.version_of(second.id_of(1)).as_str()),
            (second.id_of(1), "aaa")
        );
        // Another server, with other code or without.
        for (head, expected) in [("bbb", "deploy aaa → bbb, 1 file"), ("aaa", "restart")] {
            let mut later = chronicle(8, kept.clone());
            later.second(&seen(600.0, &[(1, 0, 599.0)]));
            assert_eq!(later.id_of(1), "");
            assert_eq!(name(later.started(1, code(head))).as_deref(), Some(expected));
        }
    }

    #[test]
    fn who_was_started_before_anybody_looked_is_known_if_no_file_is_newer() {
        let mut of_old_files = chronicle(7, Kept::default());
        of_old_files.second(&seen(100.0, &[(1, 0, 50.0)]));
        of_old_files.started(1, code("aaa"));
        assert!(!of_old_files.id_of(1).is_empty());
        let mut newer = code("aaa");
        newer.code.files[0].mtime_ns = 60_000_000_000;
        let mut chronicle = chronicle(7, Kept::default());
        chronicle.second(&seen(100.0, &[(1, 0, 50.0)]));
        assert_eq!(chronicle.started(1, newer), None);
        assert_eq!(chronicle.id_of(1), "");
    }

    #[test]
    fn what_was_not_to_be_seen_once_makes_no_other_version() {
        let mut chronicle = chronicle(7, Kept::default());
        chronicle.second(&seen(100.0, &[(1, 0, 99.0), (2, 0, 99.0)]));
        let mut seen_more = code("aaa");
        seen_more.environment.insert("HOME".into(), "x".into());
        chronicle.started(1, code("aaa"));
        assert_eq!(name(chronicle.started(2, seen_more.clone())), None);
        assert_eq!(chronicle.id_of(1), chronicle.id_of(2));
        // And the change that comes then is between what requests are counted by.
        chronicle.second(&seen(200.0, &[(1, 0, 99.0), (3, 0, 199.0)]));
        let Some(Keep::New(change)) = chronicle.started(3, code("bbb")) else { panic!("a change") };
        assert_eq!(
            (change.from_id.as_str(), change.to_id.as_str()),
            (chronicle.id_of(1), chronicle.id_of(3))
        );
    }

    #[test]
    fn with_preload_a_reload_brings_no_code() {
        let mut chronicle = chronicle(7, Kept::default());
        chronicle.preload = true;
        chronicle.second(&seen(100.0, &[(1, 0, 99.0)]));
        chronicle.started(1, code("aaa"));
        chronicle.second(&seen(200.0, &[(2, 1, 199.0)]));
        assert_eq!(name(chronicle.started(2, code("bbb"))).as_deref(), Some("reload"));
    }

    #[test]
    fn marks_stand_in_their_place_in_time() {
        let mut chronicle = chronicle(7, Kept::default());
        for at in [10.0, 30.0, 20.0] {
            chronicle.mark(Change { at, kind: Kind::Mark, ..Change::default() });
        }
        let times: Vec<f64> = chronicle.recent().iter().map(|change| change.at).collect();
        assert_eq!(times, [10.0, 20.0, 30.0]);
        (0..RECENT_MAX).for_each(|_| drop(chronicle.mark(Change { at: 40.0, ..Change::default() })));
        assert_eq!(chronicle.recent().len(), RECENT_MAX);
    }
}
