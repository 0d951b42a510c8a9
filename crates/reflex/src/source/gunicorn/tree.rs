//! The processes of a Gunicorn: arbiters (two while `USR2` upgrades it) and their workers. A worker is a child of an arbiter
//! that shares a heartbeat file with it; other children (what the application has started, the dirty arbiter, the control
//! server's) are left alone. Not for: what workers do (`requests`), and why they end (`deaths`).

use super::heartbeat::{Beat, Found, Heartbeat};
use crate::process::{self, Process, children};
use ferricorn_core::fleet::{ExitStatus, signal_name};
use std::collections::{BTreeMap, BTreeSet};

/// Most workers that are watched.
pub(super) const WORKERS_MAX: usize = 512;
/// Arbiters of one server: each upgrade has two.
const MASTERS_MAX: usize = 4;
/// How long it is waited for the way in which a process has ended, seconds.
pub(super) const STATUS_S: f64 = 1.0;
/// How long a child may take to show that it is a worker, seconds.
const PATIENCE_S: f64 = 5.0;

/// An arbiter.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) process: Process,
    /// Reloads and upgrades that were seen before it.
    pub(super) generation: u32,
    /// Children that are no workers, with when each was started.
    others: BTreeSet<(u32, u64)>,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) process: Process,
    pub(super) master: u32,
    /// Spawn number: the arbiter's where its control socket tells, else in the order in which they were seen.
    pub(super) age: u32,
    pub(super) generation: u32,
    heartbeat: Option<Heartbeat>,
    /// The last beat, when it was read, and by then how long ago it was.
    pub(super) beat: Option<Beat>,
    /// Seconds from its start to its first beat, to the accuracy of looking; none while it boots, and of who was there
    /// before us.
    pub(super) boot_s: Option<f64>,
    /// It has been seen without a beat.
    booted_under_us: bool,
    /// The arbiter has found it silent for too long.
    pub(super) timed_out: bool,
    /// It has served its requests and is to be replaced.
    pub(super) retiring: bool,
    /// It was told to go.
    pub(super) draining: bool,
    /// When it was missed, by the monotonic clock.
    pub(super) gone_s: Option<f64>,
    /// How it has ended, by the log.
    pub(super) logged: Option<ExitStatus>,
}

impl Worker {
    /// Tells whether it loads the application still.
    pub(super) fn boots(&self) -> bool {
        self.beat == Some(Beat::Never)
    }

    /// Returns the seconds since its last beat; none before the first, and where that may not be seen.
    pub(super) fn beat_age_s(&self) -> Option<f64> {
        if let Some(Beat::Ago(age_s)) = self.beat { Some(age_s) } else { None }
    }

    /// Returns how it has ended.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.process.status().or(self.logged)
    }

    fn look(&mut self, now_s: f64) {
        let Some(heartbeat) = &self.heartbeat else { return };
        self.beat = heartbeat.read(now_s).or(self.beat);
        match self.beat {
            Some(Beat::Never) => self.booted_under_us = true,
            Some(Beat::Ago(ago_s)) if self.booted_under_us && self.boot_s.is_none() => {
                self.boot_s = Some((self.process.age_s() - ago_s).max(0.0));
            }
            _ => {}
        }
    }
}

/// The workers of one master, of which it is asked who serves.
#[derive(Debug)]
pub(crate) struct Serving(Tree);

impl Serving {
    /// None if the master has ended.
    pub(crate) fn of(master: &Process) -> Option<Self> {
        Process::open(master.pid).filter(|again| again.started == master.started).map(|it| Self(Tree::of(it)))
    }

    /// Returns how many of its workers have loaded the application. Where their heartbeats may not be seen, that is not known of
    /// any.
    pub(crate) fn count(&mut self, now_s: f64) -> usize {
        self.0.look(now_s);
        let serves = |worker: &&Worker| worker.gone_s.is_none() && worker.beat_age_s().is_some();
        self.0.workers.values().filter(serves).count()
    }
}

/// The processes.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) masters: Vec<Master>,
    pub(super) workers: BTreeMap<u32, Worker>,
    /// Reloads and upgrades that were seen.
    pub(super) generation: u32,
    /// The descriptors of a child may not be seen.
    pub(super) hidden: bool,
    /// When the last arbiter was missed.
    ended_s: Option<f64>,
    last_age: u32,
}

impl Tree {
    /// Begins with an arbiter.
    pub(super) fn of(master: Process) -> Self {
        let master = Master { process: master, generation: 0, others: BTreeSet::new() };
        Self { masters: vec![master], ..Self::default() }
    }

    /// Looks at all processes. `now_s` is the monotonic clock. Returns whether anybody has come or gone.
    pub(super) fn look(&mut self, now_s: f64) -> bool {
        let mut changed = false;
        for at in 0..self.masters.len() {
            let pid = self.masters[at].process.pid;
            for child in children(pid) {
                changed |= self.meet(at, pid, child);
            }
        }
        for worker in self.workers.values_mut() {
            // The beat of who has gone stays as old as it was.
            if worker.gone_s.is_none() {
                worker.look(now_s);
                if !worker.process.lives() {
                    worker.gone_s = Some(now_s);
                    changed = true;
                }
            }
        }
        let before = self.masters.len();
        // The last one stays until its end is told.
        if self.lives() {
            self.masters.retain(|master| master.process.lives());
        } else {
            self.ended_s.get_or_insert(now_s);
        }
        changed || before != self.masters.len()
    }

    /// Reads all heartbeats.
    pub(super) fn beats(&mut self, now_s: f64) {
        self.workers
            .values_mut()
            .filter(|worker| worker.gone_s.is_none())
            .for_each(|worker| worker.look(now_s));
    }

    /// Tells whether an arbiter is left.
    pub(super) fn lives(&self) -> bool {
        self.masters.iter().any(|master| master.process.lives())
    }

    /// Looks at a child; true if it is new among the workers or arbiters.
    fn meet(&mut self, at: usize, master: u32, pid: u32) -> bool {
        let known =
            self.workers.contains_key(&pid) || self.masters.iter().any(|master| master.process.pid == pid);
        if known || self.workers.len() >= WORKERS_MAX {
            return false;
        }
        let Some(stat) = process::stat(pid).filter(|stat| stat.state != 'Z') else { return false };
        if self.masters[at].others.contains(&(pid, stat.started)) {
            return false;
        }
        let taken: BTreeSet<u64> =
            self.workers.values().filter_map(|worker| worker.heartbeat.as_ref().map(|it| it.inode)).collect();
        let same_program = process::command_line(pid) == process::command_line(master)
            || process::command_line(pid).first().is_some_and(|word| word.starts_with("gunicorn: "));
        let Some(process) = Process::open(pid) else { return false };
        // It soon has a heartbeat of its own worker's.
        if same_program && is_successor(pid, self.masters[at].process.inner) {
            return self.succeed(process);
        }
        match Heartbeat::find(pid, &taken) {
            // The dirty arbiter has those of its own workers, which the arbiter does not know.
            Found::It(heartbeat)
                if Heartbeat::inodes(master).is_none_or(|shared| shared.contains(&heartbeat.inode)) =>
            {
                self.adopt(process, at, Some(heartbeat))
            }
            Found::Hidden if same_program => {
                self.hidden = true;
                self.adopt(process, at, None)
            }
            _ => {
                // Who has just begun may have a heartbeat, or another program, in a moment.
                if process.age_s() > PATIENCE_S {
                    let others = &mut self.masters[at].others;
                    // These are few; if they are not, they are met again.
                    if others.len() > WORKERS_MAX {
                        others.clear();
                    }
                    others.insert((pid, stat.started));
                }
                false
            }
        }
    }

    fn adopt(&mut self, process: Process, at: usize, heartbeat: Option<Heartbeat>) -> bool {
        self.last_age += 1;
        let master = &self.masters[at];
        let worker = Worker {
            master: master.process.pid,
            age: self.last_age,
            generation: master.generation.max(self.generation),
            process,
            heartbeat,
            beat: None,
            boot_s: None,
            booted_under_us: false,
            timed_out: false,
            retiring: false,
            draining: false,
            gone_s: None,
            logged: None,
        };
        self.workers.insert(worker.process.pid, worker);
        true
    }

    /// Takes in the arbiter that `USR2` has started.
    fn succeed(&mut self, process: Process) -> bool {
        if self.masters.len() >= MASTERS_MAX {
            return false;
        }
        self.generation += 1;
        self.masters.push(Master { process, generation: self.generation, others: BTreeSet::new() });
        true
    }

    /// Finds the worker that knows itself by this pid, as logs do.
    pub(super) fn named(&mut self, inner: u32) -> Option<&mut Worker> {
        let mut named = self.workers.values_mut().filter(|worker| worker.process.inner == inner);
        named.find(|worker| worker.gone_s.is_none() || worker.logged.is_none())
    }

    /// Changes what is known of the worker that knows itself by this pid, if there is one.
    pub(super) fn with(&mut self, inner: u32, change: impl FnOnce(&mut Worker)) {
        self.named(inner).map(change);
    }

    /// Finds the arbiter that knows itself by this pid.
    pub(super) fn master(&self, inner: u32) -> Option<u32> {
        let mut named = self.masters.iter().filter(|master| master.process.inner == inner);
        named.next().map(|master| master.process.pid)
    }

    /// Says how the last arbiter has ended; none while there is one, and until that is known or has been waited for.
    pub(super) fn epitaph(&self, now_s: f64) -> Option<String> {
        let master = self.masters.first().filter(|_| !self.lives())?;
        let status = master.process.status();
        if status.is_none() && self.ended_s.is_none_or(|ended_s| now_s - ended_s < STATUS_S) {
            return None;
        }
        let how = match status {
            Some(ExitStatus::Code(0)) => "in order".to_owned(),
            Some(ExitStatus::Code(code)) => format!("with exit code {code}"),
            Some(ExitStatus::Signal(signal)) => format!("by {}", signal_name(signal)),
            None => "in a way that cannot be seen from outside".to_owned(),
        };
        Some(format!("the arbiter (pid {}) has ended {how}", master.process.pid))
    }

    /// Notes that an arbiter has told all its workers to go.
    pub(super) fn drain(&mut self, master: u32) {
        self.workers
            .values_mut()
            .filter(|worker| worker.master == master)
            .for_each(|worker| worker.draining = true);
    }

    /// Notes that an arbiter has told its oldest worker to go.
    pub(super) fn drain_oldest(&mut self, master: u32) {
        // It may have gone by now, which has not been told yet.
        let staying = self.workers.values_mut().filter(|worker| worker.master == master && !worker.draining);
        if let Some(worker) = staying.min_by_key(|worker| worker.age) {
            worker.draining = true;
        }
    }

    /// Forgets a worker whose end has been told.
    pub(super) fn forget(&mut self, pid: u32) -> Option<Worker> {
        self.workers.remove(&pid)
    }
}

/// Tells whether a process is the arbiter that another has started to follow it.
fn is_successor(pid: u32, master: u32) -> bool {
    let variables = process::environment(pid, &["GUNICORN_PID"]).unwrap_or_default();
    variables.get("GUNICORN_PID").is_some_and(|value| *value == master.to_string())
}
