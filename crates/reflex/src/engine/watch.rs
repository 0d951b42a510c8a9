//! Requests that are getting late: when each is looked at, what was seen of it, and what it came to. Not for: looking
//! ([`crate::evidence`]), and not for what it means (`core::diagnosis`).

use ferricorn_core::diagnosis::{Case, Diagnosis, History, Surroundings, Told};
use ferricorn_core::event::{Late, Seen};
use ferricorn_core::evidence::{Database, Evidence, Source, Thread};
use ferricorn_core::policy::Kind;
use ferricorn_core::record::{Outcome, Request, SCHEMA, Server, Timeout, Worker};
use ferricorn_core::snapshot::Running;
use std::collections::{BTreeMap, BTreeSet};

/// At how many per cent of its time a request is looked at, and how long after that once more: what changes in between tells
/// computing from waiting. The deadline itself is told.
const MARKS: [(u32, f64); 5] = [(50, 0.0), (50, 0.15), (80, 0.0), (80, 0.15), (LAST_PERCENT, 0.0)];
/// The last of them: from there on something is done about a request.
const LAST_PERCENT: u32 = 95;
pub(super) const LAST_SHARE: f64 = LAST_PERCENT as f64 / 100.0;
/// How soon a request is looked at whose route's requests are all lost, and how long after that once more, seconds; how many such
/// looks there are.
pub(super) const EARLY_S: f64 = 0.3;
const EARLY_LOOKS: usize = 2;
/// The ages at which one is looked at that nobody ends, seconds; the first of them once more a little later. Where its time is over
/// sooner than the second, all are so much sooner.
const AGES_S: [f64; 4] = [5.0, 10.0, 20.0, 60.0];
const AGAIN_S: f64 = 0.15;
/// At which shares of the silence after which a worker is killed its requests are looked at. Half of it is nothing unusual: so
/// long do some workers rest between two signs of life.
const SILENCES: [f64; 3] = [0.65, 0.75, 0.9];
/// Most looks at one request that are kept; the first and the last stay.
const LOOKS_MAX: usize = 6;
/// Most requests that are watched at a time; beyond that, evidence is not captured.
const WATCHED_MAX: usize = 256;
/// Most of one worker: each may have dozens of threads, and what one of many late requests is at tells what the others are.
const OF_WORKER_MAX: usize = 16;
/// How long what was seen of a request is kept after its end, seconds.
const LINGER_S: f64 = 3.0;
/// Most threads of executors whose stacks are kept of a look that is not the last.
const EXECUTORS_MAX: usize = 16;
/// Most neighbours that a record names.
const NEIGHBOURS_MAX: usize = 64;

/// A request by its worker's pid and its number there.
pub(crate) type Key = (u32, u64);

/// The requests that are watched.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by: BTreeMap<Key, Watch>,
}

/// A request that gets late.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    pub(super) running: Running,
    pub(super) looks: Vec<Evidence>,
    /// How many of its marks are behind it.
    taken: usize,
    /// How many of the marks of its worker's silence are behind it.
    silences: usize,
    /// The look that comes is made for one of these.
    by_silence: bool,
    /// When its mark was reached whose second look is due; seconds in the application.
    marked_s: f64,
    pub(super) concurrent: Vec<Request>,
    pub(super) late: Option<Late>,
    /// When its time was over, seconds since 1970.
    pub(super) lost_s: Option<f64>,
    pub(super) seen: Option<Seen>,
    pub(super) diagnosis: Option<Diagnosis>,
    /// When it is to be explained; none if that is done.
    pub(super) explain_s: Option<f64>,
    /// It waits for a thread.
    pub(super) in_line: bool,
    /// When it was found not to be in flight any more.
    gone_s: Option<f64>,
    /// Its record is written.
    pub(super) written: bool,
    /// Something was done about it: what is seen from now on is not its trouble any more.
    pub(super) touched: bool,
    /// What was decided about it already.
    pub(super) acted: BTreeSet<Kind>,
}

impl Watches {
    /// Returns the percentage at which a request is to be looked at now, if that is due. Of a route whose requests are all lost, it is so
    /// early.
    pub(super) fn due(&self, running: &Running, hopeless: bool) -> Option<u32> {
        let key = (running.pid, running.number);
        let watch = self.by.get(&key);
        if hopeless && watch.is_none_or(|watch| watch.looks.len() < EARLY_LOOKS) && !self.is_full(running.pid)
        {
            let after_s = watch.map_or(EARLY_S, |watch| watch.marked_s + EARLY_S);
            return (running.request.app_s >= after_s).then_some(0);
        }
        if watch.is_none() && self.is_full(running.pid) || running.phase == "websocket" {
            return None;
        }
        let (taken, marked_s) = watch.map_or((0, 0.0), |watch| (watch.taken, watch.marked_s));
        let app_s = running.request.app_s;
        let reached = |at: usize| match marked_share(running) {
            Some(share) => MARKS.get(at).is_some_and(|(percent, after_s)| {
                share * 100.0 >= f64::from(*percent) && (*after_s == 0.0 || app_s >= marked_s + after_s)
            }),
            None => ages_s(running).get(at).is_some_and(|age_s| app_s >= *age_s),
        };
        reached(taken).then(|| marked_share(running).map_or(0, |share| (share * 100.0) as u32))
    }

    /// The same by a worker's silence, as a share of that for which it is killed.
    pub(super) fn due_by_silence(&mut self, running: &Running, share: f64) -> Option<u32> {
        let key = (running.pid, running.number);
        let reached = SILENCES.iter().filter(|mark| share >= **mark).count();
        if reached == 0 {
            if let Some(watch) = self.by.get_mut(&key) {
                watch.silences = 0;
            }
            return None;
        }
        if !self.by.contains_key(&key) && self.is_full(running.pid) {
            return None;
        }
        let watch = self.by.entry(key).or_default();
        if watch.silences >= reached {
            return None;
        }
        watch.silences = reached;
        watch.by_silence = true;
        Some((share * 100.0) as u32)
    }

    /// Returns in how many seconds the next look at a request is due, if there is one.
    pub(super) fn next_s(&self, running: &Running) -> Option<f64> {
        let watch = self.by.get(&(running.pid, running.number));
        let (taken, marked_s) = watch.map_or((0, 0.0), |watch| (watch.taken, watch.marked_s));
        let at_s = match marked_whole_s(running) {
            Some(whole_s) => {
                let (percent, after_s) = MARKS.get(taken)?;
                let mark_s = whole_s * f64::from(*percent) / 100.0;
                if *after_s > 0.0 { marked_s + after_s } else { mark_s }
            }
            None => *ages_s(running).get(taken)?,
        };
        Some((at_s - running.request.app_s).max(0.0))
    }

    /// Keeps what was seen of a request, with its neighbours.
    pub(super) fn add(&mut self, running: &Running, look: Evidence, all: &[Running]) -> &mut Watch {
        let watch = self.by.entry((running.pid, running.number)).or_default();
        watch.running = Running { request: watch.merged(&running.request), ..running.clone() };
        if !std::mem::take(&mut watch.by_silence) {
            watch.pass(running);
        }
        if watch.looks.is_empty() {
            watch.marked_s = running.request.app_s;
        }
        let neighbours =
            all.iter().filter(|other| other.pid == running.pid && other.number != running.number);
        watch.concurrent = neighbours.take(NEIGHBOURS_MAX).map(|other| other.request.clone()).collect();
        // A process that ends shows nothing: what was seen before tells more.
        if look.degraded.is_some() && watch.looks.iter().any(|look| look.degraded.is_none()) {
            return watch;
        }
        // Only the last one has what the other threads did: a record has a limit.
        if let Some(last) = watch.looks.last_mut() {
            let keeps = |thread: &Thread| thread.holds_gil == Some(true);
            last.threads.retain(|thread| thread.request.is_some() || keeps(thread) || thread.is_executor());
            // How much the others have computed is all that is asked of them.
            let others = last.threads.iter_mut().filter(|thread| thread.request.is_none() && !keeps(thread));
            others.skip(EXECUTORS_MAX).for_each(|thread| thread.frames.clear());
            last.children.clear();
        }
        if watch.looks.len() >= LOOKS_MAX {
            watch.looks.remove(1);
        }
        watch.looks.push(look);
        watch
    }

    /// Adds what databases have said of a worker to the looks that they were asked about, and returns whose these are.
    pub(super) fn answered(&mut self, pid: u32, at_s: f64, found: &[Database]) -> Vec<Key> {
        let mut keys = Vec::new();
        for (key, watch) in self.by.range_mut((pid, 0)..=(pid, u64::MAX)) {
            let since = watch.looks.iter_mut().filter(|look| look.at_s >= at_s);
            // A later look has the last word until its own question is answered.
            let known: Vec<&mut Evidence> = since.collect();
            if !known.is_empty() {
                keys.push(*key);
            }
            known.into_iter().for_each(|look| look.databases = found.to_vec());
        }
        keys
    }

    pub(super) fn get(&self, key: Key) -> Option<&Watch> {
        self.by.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Watch> {
        self.by.get_mut(&key)
    }

    /// Returns a request's watch; a new one for who has not been looked at.
    pub(super) fn entry(&mut self, key: Key) -> &mut Watch {
        self.by.entry(key).or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Watch> {
        self.by.values()
    }

    pub(super) fn of_worker(&self, pid: u32) -> impl Iterator<Item = &Watch> {
        self.by.range((pid, 0)..=(pid, u64::MAX)).map(|(_, watch)| watch)
    }

    /// Tells whether no further request of a worker can be watched.
    fn is_full(&self, pid: u32) -> bool {
        self.by.len() >= WATCHED_MAX || self.of_worker(pid).count() >= OF_WORKER_MAX
    }

    /// Returns the one that has been explained and has kept a worker longest.
    pub(super) fn keeper(&self, pid: u32) -> Option<&Watch> {
        self.like(pid, &Request::default())
    }

    /// Returns one that has been explained, of the same route if there is one, and of these the one that has kept the worker
    /// longest.
    pub(super) fn like(&self, pid: u32, request: &Request) -> Option<&Watch> {
        let same = |watch: &Watch| {
            let other = &watch.running.request;
            (&other.method, &other.route) == (&request.method, &request.route) && request.route.is_some()
        };
        let explained = self.of_worker(pid).filter(|watch| watch.diagnosis.is_some());
        explained.max_by(|one, other| {
            let age_s = |watch: &Watch| watch.running.request.app_s;
            same(one).cmp(&same(other)).then(age_s(one).total_cmp(&age_s(other)))
        })
    }

    /// Returns those that are to be explained now.
    pub(super) fn to_explain(&self, now_s: f64) -> Vec<Key> {
        let is_due = |watch: &Watch| watch.explain_s.is_some_and(|at_s| at_s <= now_s);
        self.by.iter().filter(|(_, watch)| is_due(watch)).map(|(key, _)| *key).collect()
    }

    /// Returns the requests that hang: they are in flight, and nobody has answered them.
    pub(super) fn hanging(&self) -> impl Iterator<Item = &Running> {
        let hangs = |watch: &&Watch| watch.lost_s.is_none() && watch.gone_s.is_none();
        self.by.values().filter(hangs).map(|watch| &watch.running)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Watch)> {
        self.by.iter_mut()
    }

    /// Lets go of requests that have not been in flight for a while: word of what became of one may come late. Returns the ids of
    /// those that have come to their end by themselves.
    pub(super) fn keep(&mut self, alive: &[Key], now_s: f64) -> Vec<String> {
        let mut survived = Vec::new();
        self.by.retain(|key, watch| {
            if alive.contains(key) {
                watch.gone_s = None;
                return true;
            }
            let stays = now_s - *watch.gone_s.get_or_insert(now_s) < LINGER_S;
            if !stays && watch.lost_s.is_none() && !watch.touched {
                survived.push(watch.running.request.id.clone());
            }
            stays
        });
        survived
    }

    /// Lets go of those of a worker.
    pub(super) fn forget(&mut self, pid: u32) {
        self.by.retain(|(of, _), _| *of != pid);
    }
}

/// Returns the time of which the marks are parts, seconds: that until the deadline, less where help has to come before it.
fn marked_whole_s(running: &Running) -> Option<f64> {
    let by_s = running.help_by_s()?;
    Some(if running.kills_worker { by_s / LAST_SHARE } else { by_s })
}

/// Returns which part of that is over.
pub(super) fn marked_share(running: &Running) -> Option<f64> {
    marked_whole_s(running).map(|whole_s| running.request.app_s / whole_s)
}

/// The first mark that lies beyond what a request has reached. Two looks that should be apart are not made at once.
fn first_beyond(running: &Running) -> usize {
    let app_s = running.request.app_s;
    match marked_share(running) {
        Some(share) => {
            let beyond = MARKS
                .iter()
                .position(|(percent, _)| f64::from(*percent) > share * 100.0)
                .unwrap_or(MARKS.len());
            // The second look of the last mark reached is still to come.
            let has_second = beyond > 0 && MARKS[beyond - 1].1 > 0.0;
            if has_second { beyond - 1 } else { beyond }
        }
        None => ages_s(running).iter().filter(|age_s| **age_s <= app_s).count(),
    }
}

/// Returns the ages at which a request is looked at that nobody ends, seconds.
fn ages_s(running: &Running) -> [f64; 5] {
    let [first, over, late, last] = AGES_S;
    let sooner = running.request.deadline_s.map_or(1.0, |deadline_s| (deadline_s / over).min(1.0));
    [first * sooner, first * sooner + AGAIN_S, over * sooner, late * sooner, last * sooner]
}

impl Watch {
    /// A mark has been reached.
    fn pass(&mut self, running: &Running) {
        let reached = first_beyond(running);
        self.taken = if self.taken >= reached { self.taken + 1 } else { reached };
        if MARKS.get(self.taken).is_some_and(|(_, after_s)| *after_s > 0.0) {
            self.marked_s = running.request.app_s;
        }
    }

    /// What was found out of a request in the meantime is kept.
    fn merged(&self, request: &Request) -> Request {
        let route = self.seen.as_ref().and_then(|seen| seen.route.clone());
        Request { route: route.or_else(|| request.route.clone()), ..request.clone() }
    }

    /// Returns what the rules need to know of the request.
    pub(super) fn case(&self, nested: bool, history: Option<History>, server: Surroundings) -> Case<'_> {
        let told = self.seen.as_ref().filter(|seen| !seen.frames.is_empty());
        Case {
            request: self.merged(&self.running.request),
            client_fd: (self.running.fd > 0).then_some(self.running.fd),
            writes: self.running.phase == "write",
            nested,
            looks: &self.looks,
            told: told.map(|seen| Told {
                source: seen.source,
                frames: seen.frames.clone(),
                executor: seen.executor,
            }),
            history,
            server,
        }
    }

    /// Returns how its stack was found out and where it was.
    pub(super) fn place(&self) -> (Source, Vec<ferricorn_core::evidence::Frame>) {
        let id = &self.running.request.id;
        let outside = self
            .looks
            .iter()
            .rev()
            .flat_map(|look| &look.threads)
            .find(|thread| thread.request.as_ref() == Some(id) && !thread.frames.is_empty())
            .map(|thread| (Source::Outside, thread.frames.clone()));
        let seen = self.seen.as_ref().filter(|seen| !seen.frames.is_empty());
        let seen = seen.map(|seen| (seen.source, seen.frames.clone()));
        // From outside, a request whose tasks wait looks like the loop that waits for them all.
        let in_tasks = seen.as_ref().is_some_and(|(source, _)| *source == Source::Task);
        let found = if in_tasks { seen } else { outside.or(seen) };
        found.unwrap_or((Source::Kernel, Vec::new()))
    }

    /// Makes the record of a request whose time was over.
    pub(super) fn record(
        &self,
        late: &Late,
        outcome: Outcome,
        worker: Worker,
        server: &Server,
        at_s: f64,
    ) -> Timeout {
        let (source, frames) = self.place();
        Timeout {
            schema: SCHEMA,
            at_s,
            server: server.clone(),
            worker,
            request: self.merged(&late.request),
            answer: late.answer.clone(),
            answered_by: late.by.clone(),
            thread: outcome,
            doing: late.doing.clone(),
            source,
            frames,
            evidence: self.looks.clone(),
            concurrent: self.concurrent.clone(),
            diagnosis: self.diagnosis.clone(),
            incident: None,
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
