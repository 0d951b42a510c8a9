//! The requests in flight: connections on which a request waits ([`super::connections`]), joined with what the stacks of
//! their workers show ([`super::look`]). Stacks are read where a request is older than a second and it is not known which it
//! is, once a second per worker at most, and less often the longer that does not help.
//!
//! Over TCP the kernel's counts give the age. A worker of class `sync` beats before it takes a request, so its last beat is
//! when the application began, over whatever socket. Over unix sockets, where nothing is counted, other classes' requests
//! are those that a thread is seen at, as old as the connection that is open longest, or as they have been seen.
//!
//! Not for: evidence of why a request is slow, and not for what becomes of it.

use super::class::Class;
use super::connections::{Connection, Connections};
use super::look::{Shown, What, shown};
use super::routes::Routes;
use super::tree::{Tree, Worker};
use crate::stack::Stacks;
use ferricorn_core::record::{Request, request_id};
use ferricorn_core::snapshot::Running;
use std::collections::{BTreeMap, VecDeque};

/// From this age on it is found out which request it is, seconds.
const LOOK_S: f64 = 1.0;
/// A worker's stacks are read at most so often, seconds.
const AGAIN_S: f64 = 1.0;
/// And so seldom where that does not help.
const AGAIN_MAX_S: f64 = 30.0;
/// Workers whose stacks are read at one time.
const LOOKS_MAX: usize = 4;
/// A request is slow for its route after three times its 99th percentile, and not before this, seconds.
const SLOW_S: f64 = 5.0;
/// Requests that have ended and whose line in the log is awaited.
const ENDED_MAX: usize = 256;
/// For how long, seconds.
const ENDED_S: f64 = 3.0;

/// What holds for all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) class: Class,
    pub(super) timeout_s: Option<f64>,
}

/// A request that was seen in flight, and is not any more.
#[derive(Debug)]
pub(super) struct Ended {
    method: String,
    path: String,
    age_s: f64,
    at_s: f64,
}

/// What is known of a connection's request.
#[derive(Debug, Default)]
struct Known {
    what: Option<What>,
    reads: bool,
    /// Readings that have not shown it.
    tries: u32,
    next_s: f64,
    age_s: f64,
}

/// A thread that is at a request of which nothing is counted.
#[derive(Debug)]
struct Streak {
    number: u64,
    since_s: f64,
    what: What,
}

/// The requests.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) connections: Connections,
    pub(super) stacks: Stacks,
    /// By number of the connection.
    known: BTreeMap<u64, Known>,
    /// By worker and Python's number of the thread.
    streaks: BTreeMap<(u32, u64), Streak>,
    looked: BTreeMap<u32, f64>,
    ended: VecDeque<Ended>,
    /// Why stacks could not be read the last time.
    pub(super) degraded: Option<String>,
    /// The class that a stack has shown.
    pub(super) class: Option<Class>,
    /// `timeout`, that a stack has shown.
    pub(super) timeout_s: Option<f64>,
    streak_numbers: u64,
}

impl Requests {
    /// Looks at connections, and at stacks where that is due; returns the requests in flight, the oldest first.
    pub(super) fn look(
        &mut self,
        tree: &mut Tree,
        rules: Rules,
        routes: &mut Routes,
        now_s: f64,
        changed: bool,
    ) -> Vec<Running> {
        self.connections.look(tree, now_s, changed);
        // A worker beats before it takes a connection, and here we know who has taken which.
        tree.beats(now_s);
        self.look_at_stacks(tree, rules, now_s);
        self.let_go(now_s);
        let mut running: Vec<Running> = self.counted(tree, rules, now_s);
        running.extend(self.uncounted(rules, now_s));
        for one in &mut running {
            self.set_pace(one, rules, routes);
        }
        running.sort_by(|one, other| other.age_s.total_cmp(&one.age_s));
        self.settle(now_s);
        running
    }

    /// Forgets a worker that has ended; what it was at is told elsewhere.
    pub(super) fn forget(&mut self, pid: u32) {
        self.stacks.forget(pid);
        self.looked.remove(&pid);
        self.streaks.retain(|(worker, _), _| *worker != pid);
        let mine = |connection: &Connection| connection.owner == Some(pid);
        let numbers: Vec<u64> =
            self.connections.waiting.values().filter(|one| mine(one)).map(|one| one.number).collect();
        self.connections.waiting.retain(|_, connection| !mine(connection));
        for number in numbers {
            self.known.remove(&number);
        }
    }

    /// Reads a stack of a worker for its class.
    pub(super) fn look_at_class(&mut self, pid: u32) {
        match self.stacks.read_with_locals(pid) {
            Ok(stacks) => {
                self.degraded = None;
                let main: Vec<_> =
                    stacks.into_iter().filter(|stack| stack.tid.is_none_or(|tid| tid == pid)).collect();
                let seen = shown(pid, &main);
                self.class = seen.class.or(self.class);
                self.timeout_s = seen.timeout_s.or(self.timeout_s);
            }
            Err(why) => self.degraded = Some(why),
        }
    }

    /// Returns the files of a process's stack, for finding where Gunicorn is installed.
    pub(super) fn files(&mut self, pid: u32) -> Vec<String> {
        let stacks = self.stacks.read(pid).unwrap_or_default();
        self.stacks.forget(pid);
        stacks.into_iter().flat_map(|stack| stack.frames).map(|frame| frame.file).collect()
    }

    /// Finds how long the request took that a line of the log without a duration tells of.
    pub(super) fn took_s(&mut self, method: &str, path: &str) -> Option<f64> {
        let at = self.ended.iter().position(|ended| ended.method == method && ended.path == path)?;
        self.ended.remove(at).map(|ended| ended.age_s)
    }

    /// Reads the stacks of workers that are at requests of which it is not known which they are.
    fn look_at_stacks(&mut self, tree: &Tree, rules: Rules, now_s: f64) {
        let mut due: Vec<u32> = Vec::new();
        for connection in self.connections.waiting.values() {
            let Some(pid) = connection.owner.filter(|_| now_s - connection.since_s >= LOOK_S) else {
                continue;
            };
            let known = self.known.entry(connection.number).or_default();
            // Threads of which nothing is counted are followed from look to look.
            let followed = !connection.counted
                && rules.class != Class::Sync
                && self.streaks.range((pid, 0)..).next().is_some_and(|((worker, _), _)| *worker == pid);
            if (known.what.is_none() && now_s >= known.next_s || followed) && !due.contains(&pid) {
                due.push(pid);
            }
        }
        let rested = |pid: &u32| self.looked.get(pid).is_none_or(|looked_s| now_s - looked_s >= AGAIN_S);
        let lives = |pid: &u32| tree.workers.get(pid).is_some_and(|worker| worker.gone_s.is_none());
        due.retain(|pid| rested(pid) && lives(pid));
        // Who has waited longest comes first.
        due.sort_by(|one, other| {
            let looked = |pid: &u32| self.looked.get(pid).copied().unwrap_or(0.0);
            looked(one).total_cmp(&looked(other))
        });
        for pid in due.into_iter().take(LOOKS_MAX) {
            self.looked.insert(pid, now_s);
            match self.stacks.read_with_locals(pid) {
                Ok(stacks) => {
                    self.degraded = None;
                    self.join(pid, shown(pid, &stacks), rules, now_s);
                }
                Err(why) => {
                    self.degraded = Some(why);
                    self.join(pid, Shown::default(), rules, now_s);
                }
            }
        }
    }

    /// Joins what the stacks of a worker show with its connections: by the client's port, and where that says nothing, what
    /// is left over with what is left over.
    fn join(&mut self, pid: u32, mut shown: Shown, rules: Rules, now_s: f64) {
        let mine = self.connections.waiting.values().filter(|one| one.owner == Some(pid));
        let mut mine: Vec<&Connection> = mine.collect();
        mine.sort_by(|one, other| one.since_s.total_cmp(&other.since_s));
        let mut rest = Vec::new();
        for connection in &mine {
            let port = connection.peer.map(|peer| peer.port());
            let at = shown.requests.iter().position(|what| port.is_some() && what.port == port);
            let known = self.known.entry(connection.number).or_default();
            match at {
                Some(at) => known.what = Some(shown.requests.swap_remove(at)),
                None if known.what.is_none() => rest.push(connection.number),
                None => {}
            }
        }
        // Behind a proxy that speaks the PROXY protocol, or over a unix socket, the port is not the connection's.
        let counted = mine.iter().all(|connection| connection.counted);
        if (rules.class == Class::Sync || counted) && rest.len() == 1 && shown.requests.len() == 1 {
            let what = shown.requests.pop();
            rest.retain(|number| {
                self.known.get_mut(number).is_some_and(|known| {
                    known.what = what.clone();
                    false
                })
            });
        }
        for number in rest {
            let known = self.known.entry(number).or_default();
            known.reads = shown.reads && shown.requests.is_empty();
            known.tries += 1;
            known.next_s = now_s + (AGAIN_S * f64::from(1_u32 << known.tries.min(6))).min(AGAIN_MAX_S);
        }
        if !counted && rules.class != Class::Sync && rules.class.has_threads() {
            let oldest_s = mine.iter().find(|one| !one.counted).map_or(now_s, |one| one.since_s);
            self.follow(pid, shown.requests, oldest_s, now_s);
        }
    }

    /// Follows threads of which nothing is counted.
    fn follow(&mut self, pid: u32, at: Vec<What>, oldest_s: f64, now_s: f64) {
        let before = std::mem::take(&mut self.streaks);
        let (mine, others) = before.into_iter().partition(|((worker, _), _)| *worker == pid);
        let mut mine: BTreeMap<(u32, u64), Streak> = mine;
        self.streaks = others;
        for what in at {
            let key = (pid, what.ident);
            let same = mine.remove(&key).filter(|streak| streak.what == what);
            let streak = same.unwrap_or_else(|| {
                self.streak_numbers += 1;
                Streak { number: 1 << 40 | self.streak_numbers, since_s: oldest_s, what }
            });
            self.streaks.insert(key, streak);
        }
        for (_, streak) in mine {
            self.end(&streak.what, now_s - streak.since_s, now_s);
        }
    }

    /// Forgets threads whose worker has no such connection any more, so that nobody looks at it.
    fn let_go(&mut self, now_s: f64) {
        let open =
            |pid: u32| self.connections.waiting.values().any(|one| one.owner == Some(pid) && !one.counted);
        let (here, gone) =
            std::mem::take(&mut self.streaks).into_iter().partition(|((pid, _), _)| open(*pid));
        let gone: BTreeMap<(u32, u64), Streak> = gone;
        self.streaks = here;
        for streak in gone.into_values() {
            self.end(&streak.what, now_s - streak.since_s, now_s);
        }
    }

    fn counted(&mut self, tree: &Tree, rules: Rules, now_s: f64) -> Vec<Running> {
        let mut running = Vec::new();
        for connection in self.connections.waiting.values() {
            let counts = connection.counted || rules.class == Class::Sync;
            let worker = connection.owner.and_then(|pid| tree.workers.get(&pid));
            // Whose it is shows soon; where that may not be seen, it is nobody's.
            if !counts || worker.is_none() && !tree.hidden {
                continue;
            }
            let age_s = (now_s - connection.since_s).max(0.0);
            let known = self.known.entry(connection.number).or_default();
            known.age_s = age_s;
            running.push(one(connection, known, worker, rules, age_s));
        }
        running
    }

    fn uncounted(&self, rules: Rules, now_s: f64) -> Vec<Running> {
        let of = |((pid, ident), streak): (&(u32, u64), &Streak)| {
            let age_s = (now_s - streak.since_s).max(0.0);
            Running {
                pid: *pid,
                number: streak.number,
                phase: "app".to_owned(),
                age_s,
                fd: -1,
                ident: *ident,
                request: request(*pid, streak.number, Some(&streak.what), String::new(), (0.0, age_s), rules),
                ..Running::default()
            }
        };
        self.streaks.iter().map(of).collect()
    }

    fn set_pace(&self, running: &mut Running, rules: Rules, routes: &mut Routes) {
        let has_deadline = running.request.deadline_s.is_some();
        running.unenforced = has_deadline && !rules.class.is_enforced();
        running.kills_worker = has_deadline && rules.class.is_enforced();
        if running.age_s >= LOOK_S && !running.request.path.is_empty() {
            let usual_s = routes.usual_s(&running.request.method, &running.request.path);
            running.slow_s = Some(usual_s.map_or(SLOW_S, |usual_s| SLOW_S.max(3.0 * usual_s)));
        }
    }

    /// Forgets connections on which nothing waits any more, and remembers what they were at.
    fn settle(&mut self, now_s: f64) {
        let here: Vec<u64> = self.connections.waiting.values().map(|connection| connection.number).collect();
        let gone: Vec<u64> = self.known.keys().copied().filter(|number| !here.contains(number)).collect();
        for number in gone {
            if let Some(Known { what: Some(what), age_s, .. }) = self.known.remove(&number) {
                self.end(&what, age_s, now_s);
            }
        }
        while self.ended.front().is_some_and(|ended| now_s - ended.at_s > ENDED_S) {
            self.ended.pop_front();
        }
    }

    fn end(&mut self, what: &What, age_s: f64, at_s: f64) {
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { method: what.method.clone(), path: what.path.clone(), age_s, at_s });
    }
}

/// Returns a request as a snapshot has it.
fn one(connection: &Connection, known: &Known, worker: Option<&Worker>, rules: Rules, age_s: f64) -> Running {
    let pid = connection.owner.unwrap_or(0);
    let what = known.what.as_ref();
    let phase = match what {
        _ if connection.writes => "write",
        None if known.reads => "read",
        _ => "app",
    };
    // Who runs one request at a time beat before he took it.
    let begun_s = worker.and_then(Worker::beat_age_s).filter(|_| rules.class == Class::Sync);
    let app_s = begun_s.unwrap_or(age_s);
    let waited_s = (age_s - app_s).max(0.0);
    let client = connection.peer.map(|peer| peer.to_string()).unwrap_or_default();
    Running {
        pid,
        number: connection.number,
        phase: phase.to_owned(),
        age_s: age_s.max(app_s),
        fd: connection.fd,
        ident: what.map_or(0, |what| what.ident),
        request: request(pid, connection.number, what, client, (waited_s, app_s), rules),
        ..Running::default()
    }
}

fn request(
    pid: u32,
    number: u64,
    what: Option<&What>,
    client: String,
    (queue_s, app_s): (f64, f64),
    rules: Rules,
) -> Request {
    let What { method, path, query, tid, .. } = what.cloned().unwrap_or_default();
    let tid = if tid == 0 && rules.class == Class::Sync { pid } else { tid };
    Request {
        id: request_id(pid, number),
        method,
        path,
        query,
        route: None,
        client,
        body_bytes: 0,
        tid,
        read_s: 0.0,
        queue_s,
        app_s,
        deadline_s: rules.timeout_s,
    }
}
