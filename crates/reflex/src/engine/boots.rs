//! Workers that take long to boot, and workers that are stopped: looked at once a second, since no request tells of them. Not for:
//! killing them, which is their arbiter's.

use super::explain::recorded;
use crate::evidence::{Aim, Lens};
use crate::kernel;
use ferricorn_core::diagnosis::{Because, Case, Cause, Diagnosis, Finding, Subject, diagnose};
use ferricorn_core::evidence::Frame;
use ferricorn_core::incident::Sign;
use ferricorn_core::life::Life;
use ferricorn_core::record::Request;
use ferricorn_core::snapshot::{Kind, Snapshot, Worker};
use std::collections::BTreeMap;
use std::time::Duration;

/// A boot is looked at when it has lasted so long, and again each time that has doubled, seconds.
const BOOT_S: f64 = 8.0;
/// Shares of the time after which a boot is ended: it is looked at, and it is grave if nobody else serves.
const SOON: f64 = 0.6;
const GRAVE: f64 = 0.8;
/// A boot that takes so many times as long as others took is slow.
const BOOT_TIMES: f64 = 3.0;
/// A boot of so long is grave, whoever else serves.
const BOOT_GRAVE_S: f64 = 40.0;
/// A worker that is stopped for so long is noted, and then it is grave if most are; seconds.
const STOPPED_S: u32 = 2;
const STOPPED_GRAVE_S: u32 = 4;

/// What was noticed.
#[derive(Debug, Default)]
pub(super) struct Boots {
    /// When a booting worker is to be looked at, by pid: seconds of its life.
    next_s: BTreeMap<u32, f64>,
    /// For how many seconds a worker has been stopped, by pid.
    stopped: BTreeMap<u32, u32>,
    /// After so long a boot is ended, seconds; a stock Gunicorn does that after `timeout`.
    limit_s: Option<f64>,
}

/// Returns [`BOOT_S`], or a share of the limit if that is less.
fn share_of(limit_s: Option<f64>, share: f64) -> f64 {
    limit_s.map_or(BOOT_S, |limit_s| BOOT_S.min(limit_s * share))
}

impl Boots {
    /// For workers whose boot is ended after so long; zero for never.
    pub(super) fn within(limit: Duration) -> Self {
        Self { limit_s: Some(limit.as_secs_f64()).filter(|limit_s| *limit_s > 0.0), ..Self::default() }
    }

    /// Looks at who boots and who is stopped.
    pub(super) fn look(&mut self, snapshot: &Snapshot, lens: &mut Lens) -> Vec<Sign> {
        let mut signs = Vec::new();
        let usual_s = usual_boot_s(&snapshot.workers);
        let serves =
            snapshot.workers.iter().any(|worker| !matches!(worker.life, Life::Booting | Life::Draining));
        let limit_s = match snapshot.kind {
            Kind::Ferricorn => self.limit_s,
            Kind::Gunicorn => snapshot.timeout_s,
        };
        let grave_s = share_of(limit_s, GRAVE);
        for worker in snapshot.workers.iter().filter(|worker| worker.life == Life::Booting) {
            let soon_s = share_of(limit_s, SOON);
            let least_s = soon_s.max(usual_s.unwrap_or(0.0) * BOOT_TIMES);
            let due_s = *self.next_s.entry(worker.pid).or_insert(least_s);
            if worker.uptime_s >= due_s {
                // No moment from which it is grave is passed over.
                let moments = [grave_s, BOOT_GRAVE_S, worker.uptime_s * 2.0].into_iter();
                let next_s = moments.filter(|at_s| *at_s > worker.uptime_s).fold(f64::MAX, f64::min);
                self.next_s.insert(worker.pid, next_s);
                let diagnosis = slow_boot(worker, lens);
                let text = format!("worker {} has been booting for {:.0} s", worker.pid, worker.uptime_s);
                let grave = worker.uptime_s >= if serves { BOOT_GRAVE_S } else { grave_s };
                let worker = Box::new(recorded(worker));
                signs.push(Sign::Worker { worker, diagnosis: Box::new(diagnosis), text, grave });
            }
        }
        signs.extend(self.stops(snapshot));
        signs
    }

    fn stops(&mut self, snapshot: &Snapshot) -> Vec<Sign> {
        let is_stopped = |worker: &&Worker| matches!(kernel::state(worker.pid), Some('T' | 't'));
        let stopped: Vec<&Worker> = snapshot.workers.iter().filter(is_stopped).collect();
        self.stopped.retain(|pid, _| stopped.iter().any(|worker| worker.pid == *pid));
        let most = stopped.len() * 2 >= snapshot.workers.len();
        let mut signs = Vec::new();
        for worker in &stopped {
            let pid = worker.pid;
            let seconds = self.stopped.entry(pid).or_default();
            *seconds += 1;
            if *seconds != STOPPED_S && *seconds != STOPPED_GRAVE_S {
                continue;
            }
            let text = format!(
                "worker {pid} is stopped: {} of {} workers are",
                stopped.len(),
                snapshot.workers.len()
            );
            let finding = Finding {
                source: "kernel".to_owned(),
                text: "its state is T: stopped by a signal, a debugger or a freezer".to_owned(),
                weight: 3,
            };
            let diagnosis = Diagnosis {
                cause: Cause::HostPaused,
                confidence: 0.97,
                summary: format!(
                    "{} of {} workers are stopped (SIGSTOP, a debugger, a freezer).",
                    stopped.len(),
                    snapshot.workers.len()
                ),
                evidence: vec![finding],
                ..Diagnosis::default()
            };
            let grave = most && *seconds >= STOPPED_GRAVE_S;
            let worker = Box::new(recorded(worker));
            signs.push(Sign::Worker { worker, diagnosis: Box::new(diagnosis), text, grave });
        }
        signs
    }

    pub(super) fn forget(&mut self, pid: u32) {
        self.next_s.remove(&pid);
        self.stopped.remove(&pid);
    }
}

/// How long the boots of those took that have booted: the median.
fn usual_boot_s(workers: &[Worker]) -> Option<f64> {
    let mut boots: Vec<f64> = workers.iter().filter_map(|worker| worker.boot_s).collect();
    boots.sort_by(f64::total_cmp);
    boots.get(boots.len() / 2).copied()
}

fn slow_boot(worker: &Worker, lens: &mut Lens) -> Diagnosis {
    let pid = worker.pid;
    let look = lens.look(&Aim { pid, all: true, ..Aim::default() });
    let frames: Vec<Frame> = look
        .threads
        .iter()
        .find(|thread| thread.tid == pid)
        .map(|thread| thread.frames.clone())
        .unwrap_or_default();
    let request = Request { tid: pid, app_s: worker.uptime_s, ..Request::default() };
    // The same rules tell what its main thread is at.
    let main = diagnose(&Case { request, looks: &[look.clone(), look], ..Case::default() });
    let at = frames
        .iter()
        .find(|frame| frame.is_application())
        .map_or(String::new(), |frame| format!(", at {frame}"));
    let what = main.summary.split_once(": it ").map_or("", |(_, rest)| rest).trim_end_matches('.').to_owned();
    let knows = main.cause != Cause::Unknown;
    Diagnosis {
        cause: Cause::BootSlowImport,
        confidence: if frames.is_empty() { 0.85 } else { 0.96 },
        summary: format!(
            "Worker {pid} has been loading the application for {:.0} s{at}{}.",
            worker.uptime_s,
            if knows { format!(": it {what}") } else { String::new() }
        ),
        evidence: main.evidence.clone(),
        not_visible: main.not_visible.clone(),
        because: knows.then(|| Because { cause: main.cause, text: format!("the import {what}") }),
        subject: Subject {
            peer: main.subject.peer.clone(),
            query: None,
            frames: frames.iter().filter(|frame| frame.is_application()).take(3).cloned().collect(),
        },
        fixes: main.fixes.clone(),
        ..Diagnosis::default()
    }
}
