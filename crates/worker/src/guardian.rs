//! The guardian: what is left of a worker that has died, or cannot move. A process beside the worker that shares its
//! descriptors and the scoreboard, and nothing else.
//!
//! When the worker dies with requests in flight (a segmentation fault, `os._exit`, SIGKILL, the OOM killer) the guardian
//! answers them with 502, gives idle connections to a sibling, and ends. While the worker is stopped (SIGSTOP)
//! it answers 504 at the deadlines that nobody else keeps, and 503 to what stands in line. It closes nothing: all its descriptors
//! are the worker's.
//!
//! Not for: TLS (it has no keys), or anything while the worker is well.

use crate::climb::{ANSWERED, LATE_DETAIL, late};
use crate::handover;
use crate::http::error_page::ErrorPage;
use crate::http::refusal::{Form, Page};
use crate::reactor::{BUSY, LATE, answer_over};
use ferricorn_core::claim::{Claim, Marks, Standing};
use ferricorn_core::record::request_id;
use ferricorn_core::scoreboard::{Scoreboard, WorkerSlot};
use ferricorn_sys::clock;
use ferricorn_sys::events::Teller;
use ferricorn_sys::exit::exit_now;
use ferricorn_sys::process::{Fork, fork_sharing_files, lent};
use ferricorn_sys::proctitle;
use ferricorn_sys::signal::Blocked;
use ferricorn_sys::task::{Task, doing};
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
/// A loop beats once a second at least: that it stands still is known after two.
const STILL_MIN_NS: u64 = 2_000_000_000;

const DIED: &str = "The worker that served this request has died.";
const STANDS_STILL: &str = "The worker that was to serve this request stands still.";

/// What the guardian needs.
pub struct Ward<'a> {
    /// The scoreboard.
    pub board: &'static Scoreboard,
    /// The worker's place in it.
    pub slot: usize,
    /// The end of the shared pair into which connections are given.
    pub handover_out: BorrowedFd<'a>,
    /// Where the observer is told of what it cannot see.
    pub teller: &'a Teller,
    /// How long requests stand in line while the worker makes no progress; 0 for any time.
    pub still_ns: u64,
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
    let mut suspect_ns = 0;
    loop {
        let limit = clock::timespec(if suspect_ns > 0 { MARGIN_NS } else { patience(ward, slot) });
        match poll(&mut [PollFd::new(worker, PollFlags::IN)], Some(&limit)) {
            Ok(0) => {
                answer_late(ward, slot, pid);
                let still_ns = stands_still(ward, slot);
                // Seen twice: the whole host may have stood still, and us with it.
                if still_ns > 0 && still_ns == suspect_ns {
                    answer_waiting(ward, slot, pid);
                }
                suspect_ns = if still_ns == suspect_ns { 0 } else { still_ns };
            }
            Ok(_) => return bury(ward, slot, pid),
            // Interrupted: once more.
            Err(_) => {}
        }
    }
}

/// Returns the last heartbeat of a loop that stands still; 0 if it does not.
fn stands_still(ward: &Ward<'_>, slot: &WorkerSlot) -> u64 {
    let beat_ns = slot.beat_ns.load(Relaxed);
    if still_from(ward, beat_ns).is_some_and(|from_ns| clock::now_ns() >= from_ns) { beat_ns } else { 0 }
}

/// Returns when a loop whose last heartbeat this is counts as standing still; `None` for never, or before it has begun.
fn still_from(ward: &Ward<'_>, beat_ns: u64) -> Option<u64> {
    (ward.still_ns > 0 && beat_ns > 0).then(|| beat_ns + ward.still_ns.max(STILL_MIN_NS) + MARGIN_NS)
}

/// Returns how long it is until a deadline, or the heartbeat, is to be looked at.
fn patience(ward: &Ward<'_>, slot: &WorkerSlot) -> u64 {
    let now_ns = clock::now_ns();
    let deadlines =
        slot.used_records().iter().filter(|record| record.is_busy()).map(|record| record.deadline_ns());
    let due = deadlines.filter(|deadline_ns| *deadline_ns > 0).map(|deadline_ns| deadline_ns + MARGIN_NS);
    let due = due.chain(still_from(ward, slot.beat_ns.load(Relaxed)));
    // What is over has been looked at, or is at the next beat.
    due.filter(|due_ns| *due_ns > now_ns).min().map_or(IDLE_NS, |due_ns| (due_ns - now_ns).min(IDLE_NS))
}

/// Answers requests whose deadline the worker has let pass: it does not run.
fn answer_late(ward: &Ward<'_>, slot: &WorkerSlot, pid: u32) {
    let now_ns = clock::now_ns();
    for view in
        slot.used_records().iter().filter(|record| record.is_busy()).filter_map(|record| record.read())
    {
        let over = view.deadline_ns > 0 && now_ns >= view.deadline_ns + MARGIN_NS;
        let Some(client) = slot.clients.get(view.place as usize).filter(|_| over) else { continue };
        let Some((Standing::Owed, id, marks)) = client.read() else { continue };
        if id == view.id & 0xffff_ffff && client.time_out(view.id) == Claim::Answer {
            answer(ward, &marks, LATE, LATE_DETAIL, &request_id(pid, view.id));
            slot.timed_out.fetch_add(1, Relaxed);
            let doing = doing(Task { pid: Some(pid), tid: view.tid }).to_string();
            ward.teller.tell(&late(pid, &view, ANSWERED, "guardian", &doing, now_ns));
        }
    }
}

/// Answers requests that have not reached the application: the worker does not run, and would serve them too late.
fn answer_waiting(ward: &Ward<'_>, slot: &WorkerSlot, pid: u32) {
    let busy =
        slot.used_records().iter().filter(|record| record.is_busy()).filter_map(|record| record.read());
    let busy: Vec<u64> = busy.map(|view| view.id & 0xffff_ffff).collect();
    let mut answered = 0;
    for client in slot.clients.iter().take_while(|client| client.is_used()) {
        let Some((Standing::Owed, id, marks)) = client.read() else { continue };
        if !busy.contains(&id) && client.time_out(id) == Claim::Answer {
            answer(ward, &marks, BUSY, STANDS_STILL, &request_id(pid, id));
            slot.shed.fetch_add(1, Relaxed);
            answered += 1;
        }
    }
    if answered > 0 {
        (ward.log)(&format!("Worker (pid:{pid}) stands still: {answered} waiting requests answered {BUSY}"));
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
    let page = Page { form, request, own: ward.error_page, ..Page::new(status, detail, marks.head_only) };
    answer_over(lent(marks.fd).as_fd(), &page);
}
