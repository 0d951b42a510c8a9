//! The guardian: what is left of a worker that has died, or cannot move. A process beside the worker that shares its
//! descriptors and the scoreboard, and nothing else.
//!
//! When the worker dies with requests in flight (a segmentation fault, `os._exit`, SIGKILL, the OOM killer) the guardian
//! answers them with 502, gives idle connections to a sibling, and ends. While the worker is stopped (SIGSTOP)
//! it answers 504 at the deadlines that nobody else keeps. It closes nothing: all its descriptors are the worker's.
//!
//! Not for: TLS (it has no keys), or anything while the worker is well.

use crate::climb::LATE_DETAIL;
use crate::handover;
use crate::http::error_page::ErrorPage;
use crate::http::refusal::{Form, Page};
use crate::reactor::{LATE, answer_over};
use crate::run::request_id;
use ferricorn_core::claim::{Claim, Marks, Standing};
use ferricorn_core::scoreboard::{Scoreboard, WorkerSlot};
use ferricorn_sys::clock;
use ferricorn_sys::exit::exit_now;
use ferricorn_sys::process::{Fork, fork_sharing_files, lent};
use ferricorn_sys::proctitle;
use ferricorn_sys::signal::Blocked;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown, shutdown};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

/// The worker's own keeper answers within milliseconds: this much later it is not going to.
const MARGIN_NS: u64 = 40_000_000;
/// How often deadlines are looked for while there are none.
const IDLE_NS: u64 = 1_000_000_000;

const DIED: &str = "The worker that served this request has died.";

/// What the guardian needs.
pub struct Ward<'a> {
    /// The scoreboard.
    pub board: &'static Scoreboard,
    /// The worker's place in it.
    pub slot: usize,
    /// The end of the shared pair into which connections are given.
    pub handover_out: BorrowedFd<'a>,
    /// The user's page for browsers.
    pub error_page: Option<&'a ErrorPage>,
    /// Writes an error to the log, by a descriptor that it opens then: the worker may have closed all others.
    pub log: &'a dyn Fn(&str),
    /// For the process's title.
    pub name: &'a str,
}

/// Starts the guardian of this process, which must have one thread.
///
/// # Errors
/// It has several, or the kernel refuses. The worker can do without.
pub fn start(ward: &Ward<'_>) -> io::Result<()> {
    let pid = getpid();
    let worker = pidfd_open(pid, PidfdFlags::empty())?;
    // Its signals are the worker's business: none of them reaches the guardian.
    let blocked = Blocked::all();
    match fork_sharing_files()? {
        Fork::Parent(_) => {
            // The pidfd stays open for the guardian, whose descriptors are ours.
            std::mem::forget(worker);
            Ok(())
        }
        Fork::Child => {
            std::mem::forget(blocked);
            // Looks only.
            let _ = proctitle::set(&format!("ferricorn: guardian of {} [{}]", pid.as_raw_pid(), ward.name));
            watch(ward, &worker, pid.as_raw_pid().cast_unsigned());
            exit_now(0);
        }
    }
}

/// Waits until the worker has died, and answers for it.
fn watch(ward: &Ward<'_>, worker: &OwnedFd, pid: u32) {
    let slot = &ward.board.workers[ward.slot];
    loop {
        let limit = clock::timespec(patience(slot));
        match poll(&mut [PollFd::new(worker, PollFlags::IN)], Some(&limit)) {
            Ok(0) => answer_late(ward, slot, pid),
            Ok(_) => return bury(ward, slot, pid),
            // Interrupted: once more.
            Err(_) => {}
        }
    }
}

/// Returns how long it is until a deadline is to be looked at.
fn patience(slot: &WorkerSlot) -> u64 {
    let now_ns = clock::now_ns();
    let deadlines =
        slot.in_flight.iter().filter(|record| record.is_busy()).map(|record| record.deadline_ns());
    let due = deadlines.filter(|deadline_ns| *deadline_ns > 0).map(|deadline_ns| deadline_ns + MARGIN_NS);
    // What is over has been looked at, or is at the next beat.
    due.filter(|due_ns| *due_ns > now_ns).min().map_or(IDLE_NS, |due_ns| (due_ns - now_ns).min(IDLE_NS))
}

/// Answers requests whose deadline the worker has let pass: it does not run.
fn answer_late(ward: &Ward<'_>, slot: &WorkerSlot, pid: u32) {
    let now_ns = clock::now_ns();
    for view in slot.in_flight.iter().filter(|record| record.is_busy()).filter_map(|record| record.read()) {
        let over = view.deadline_ns > 0 && now_ns >= view.deadline_ns + MARGIN_NS;
        let Some(client) = slot.clients.get(view.place as usize).filter(|_| over) else { continue };
        let Some((Standing::Owed, id, marks)) = client.read() else { continue };
        if id == view.id & 0xffff_ffff && client.time_out(view.id) == Claim::Answer {
            answer(ward, &marks, LATE, LATE_DETAIL, &request_id(pid, view.id));
            slot.timed_out.fetch_add(1, Relaxed);
        }
    }
}

/// Answers whom the worker owed something.
fn bury(ward: &Ward<'_>, slot: &WorkerSlot, pid: u32) {
    // The arbiter may have given its place back by now; it is the last one to be taken again.
    let (mut answered, mut cut, mut given) = (0, 0, 0);
    let sibling = ward.board.ready_beside(slot).next().is_some();
    for client in slot.clients.iter().take_while(|client| client.is_used()) {
        let Some((standing, id, marks)) = client.read() else { continue };
        match standing {
            Standing::Owed | Standing::Partial => {
                let id = if standing == Standing::Owed { request_id(pid, id) } else { String::new() };
                answer(ward, &marks, 502, DIED, &id);
                answered += 1;
            }
            Standing::Begun => {
                // A client that has gone needs no end.
                let _ = shutdown(lent(marks.fd), Shutdown::Both);
                cut += 1;
            }
            Standing::Idle if sibling => {
                given += usize::from(
                    handover::give_idle(ward.handover_out, lent(marks.fd), marks.listener).is_ok(),
                );
            }
            Standing::Idle | Standing::TimedOut => {}
        }
        client.close();
    }
    if answered + cut > 0 {
        (ward.log)(&format!(
            "Worker (pid:{pid}) has died with requests in flight: {answered} answered 502, {cut} cut, {given} idle \
             connections given to a sibling"
        ));
    }
}

fn answer(ward: &Ward<'_>, marks: &Marks, status: u16, detail: &str, request: &str) {
    let form = Form::from_number(marks.form);
    let page = Page { status, detail, form, request, head_only: marks.head_only, own: ward.error_page };
    answer_over(lent(marks.fd).as_fd(), &page);
}
