//! Whether a stock Gunicorn's arbiter still turns its loop, which sleeps for a second at most (`wait_for_signals`, before that
//! `select`): one that has not gone to sleep for long does nothing any more, though its workers serve. Looked at once a second.
//!
//! Not for: replacing it ([`crate::act`]).

use crate::evidence::Lens;
use crate::{kernel, process};
use ferricorn_core::diagnosis::{Cause, Diagnosis, Finding, Fixes, Subject};
use ferricorn_core::evidence::Frame;
use ferricorn_core::incident::{Sign, Trigger};
use ferricorn_core::snapshot::{Kind, Snapshot};

/// After so many seconds a loop stands: if the process is stopped, if it waits, and if it computes, as one does that loads an
/// application (`preload_app`).
const STOPPED_S: u32 = 10;
const WAITS_S: u32 = 30;
const COMPUTES_S: u32 = 90;
/// How often it is said again, seconds.
const AGAIN_S: u32 = 15;

/// What is known of the arbiter.
#[derive(Debug, Default)]
pub(super) struct Wedge {
    pid: u32,
    /// How often it had gone to sleep, and for how many seconds that has been so.
    switches: Option<u64>,
    seconds: u32,
    /// The same of its workers: where they stand, too, it is not the arbiter's trouble.
    of_workers: u64,
    workers_move: bool,
    stands: bool,
}

impl Wedge {
    /// Returns how often a loop that stands had gone to sleep; none if it turns.
    pub(super) fn stands(&self) -> Option<u64> {
        self.switches.filter(|_| self.stands)
    }

    /// Looks at the arbiter.
    pub(super) fn look(&mut self, snapshot: &Snapshot, lens: &mut Lens) -> Option<Sign> {
        if snapshot.kind != Kind::Gunicorn {
            return None;
        }
        let pid = snapshot.arbiter_pid;
        let switches = process::switches(pid);
        let of_workers = snapshot.workers.iter().filter_map(|worker| process::switches(worker.pid)).sum();
        if switches.is_none() || (self.pid, self.switches) != (pid, switches) {
            *self = Self { pid, switches, of_workers, ..Self::default() };
            return None;
        }
        self.seconds += 1;
        self.workers_move |= of_workers != self.of_workers;
        let state = kernel::state(pid)?;
        let limit_s = match state {
            'T' | 't' => STOPPED_S,
            'R' => COMPUTES_S,
            _ => WAITS_S,
        };
        self.stands = self.seconds >= limit_s && self.workers_move;
        (self.stands && (self.seconds - limit_s).is_multiple_of(AGAIN_S))
            .then(|| Sign::Server(Trigger::Arbiter, Box::new(self.diagnosis(state, lens))))
    }

    fn diagnosis(&self, state: char, lens: &mut Lens) -> Diagnosis {
        let (pid, seconds) = (self.pid, self.seconds);
        let frames = frames(pid, lens);
        let what = match state {
            'T' | 't' => "is stopped (SIGSTOP, a debugger)",
            'R' => "computes",
            'D' => "waits for a disk",
            _ => "waits",
        };
        let at = frames.first().map_or(String::new(), |frame| format!(", at {frame}"));
        let dead: Vec<String> = process::children(pid)
            .into_iter()
            .filter(|child| kernel::state(*child) == Some('Z'))
            .map(|child| child.to_string())
            .collect();
        let mut evidence = vec![Finding {
            source: "kernel".to_owned(),
            text: format!(
                "it has not gone to sleep for {seconds} s, where its loop does every second; its state is {state}"
            ),
            weight: 3,
        }];
        if !dead.is_empty() {
            let text = format!("processes that have ended and that it has not noticed: {}", dead.join(", "));
            evidence.push(Finding { source: "kernel".to_owned(), text, weight: 3 });
        }
        if let Some(frame) = frames.first() {
            evidence.push(Finding {
                source: "stack".to_owned(),
                text: format!("it is at {frame}"),
                weight: 2,
            });
        }
        let stopped = matches!(state, 'T' | 't');
        Diagnosis {
            cause: Cause::ArbiterWedged,
            confidence: if stopped || !dead.is_empty() { 0.97 } else { 0.9 },
            summary: format!("The arbiter (pid {pid}) has done nothing for {seconds} s: it {what}{at}. Its workers serve, and nobody replaces them."),
            evidence,
            subject: Subject { frames, ..Subject::default() },
            fixes: Fixes {
                now: vec![if stopped { format!("kill -CONT {pid}") } else { "restart the service".to_owned() }],
                next: vec!["a rule of your own with do = [\"restart_master\"] replaces it without losing a connection".to_owned()],
                proper: vec!["hooks that run in the arbiter (on_reload, pre_fork, worker_exit, child_exit) must not wait for others".to_owned()],
            },
            ..Diagnosis::default()
        }
    }
}

/// Where its main thread is: the hooks of an application come first.
fn frames(pid: u32, lens: &mut Lens) -> Vec<Frame> {
    let (own, other): (Vec<Frame>, Vec<Frame>) =
        lens.main_stack(pid).into_iter().partition(Frame::is_application);
    own.into_iter().chain(other).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::snapshot::Worker;
    use std::process::{Child, Command};
    use std::thread::sleep;
    use std::time::Duration;

    /// It sleeps a little, again and again.
    fn restless() -> Child {
        let script = "while :; do read -t 0.02 nothing </dev/zero; sleep 0.02; done";
        Command::new("bash").args(["-c", script]).spawn().expect("a child")
    }

    fn signal(child: &Child, signal: rustix::process::Signal) {
        process::Process::open(child.id()).expect("there").send(signal).expect("sent");
    }

    #[test]
    fn a_loop_that_stands_is_told_once_and_one_that_turns_never() {
        let (mut arbiter, mut worker) = (restless(), restless());
        let of = |child: &Child| child.id();
        let snapshot = Snapshot {
            kind: Kind::Gunicorn,
            arbiter_pid: of(&arbiter),
            workers: vec![Worker { pid: of(&worker), ..Worker::default() }],
            ..Snapshot::default()
        };
        let (mut wedge, mut lens) = (Wedge::default(), Lens::default());
        for _ in 0..STOPPED_S * 2 {
            assert!(wedge.look(&snapshot, &mut lens).is_none(), "it turns");
            sleep(Duration::from_millis(100));
        }
        signal(&arbiter, rustix::process::Signal::STOP);
        while kernel::state(arbiter.id()) != Some('T') {
            sleep(Duration::from_millis(5));
        }
        let mut told = Vec::new();
        for _ in 0..STOPPED_S + AGAIN_S {
            told.extend(wedge.look(&snapshot, &mut lens));
            sleep(Duration::from_millis(50));
        }
        assert!(wedge.stands().is_some());
        let [Sign::Server(Trigger::Arbiter, diagnosis)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(diagnosis.cause, Cause::ArbiterWedged);
        signal(&arbiter, rustix::process::Signal::CONT);
        for _ in 0..5 {
            sleep(Duration::from_millis(200));
            assert!(wedge.look(&snapshot, &mut lens).is_none());
        }
        assert!(wedge.stands().is_none());
        for child in [&mut arbiter, &mut worker] {
            child.kill().and_then(|()| child.wait()).expect("ended");
        }
    }

    #[test]
    fn where_the_workers_stand_too_it_is_not_the_arbiters_trouble() {
        let mut arbiter = Command::new("sleep").arg("60").spawn().expect("a child");
        sleep(Duration::from_millis(200));
        signal(&arbiter, rustix::process::Signal::STOP);
        let worker = Worker { pid: arbiter.id(), ..Worker::default() };
        let snapshot = Snapshot {
            kind: Kind::Gunicorn,
            arbiter_pid: arbiter.id(),
            workers: vec![worker],
            ..Snapshot::default()
        };
        let (mut wedge, mut lens) = (Wedge::default(), Lens::default());
        for _ in 0..WAITS_S * 2 {
            assert!(wedge.look(&snapshot, &mut lens).is_none());
        }
        arbiter.kill().and_then(|()| arbiter.wait()).expect("ended");
    }
}
