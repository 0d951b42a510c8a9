//! `ferricornctl stack`: where the Python threads of a process are, now. Not for: what was (`why`).

use crate::command::Server;
use crate::failure::Failure;
use crate::source::Source;
use crate::units::printable;
use crate::why;
use crate::workers::write_json;
use ferricorn_core::evidence::{Evidence, Thread};
use ferricorn_core::snapshot::{Running, Worker};
use ferricorn_reflex::evidence::{Aim, Lens};
use serde::Serialize;
use std::io::{self, Write};

/// A process and what was seen of it.
#[derive(Serialize)]
pub(crate) struct Process {
    pid: u32,
    #[serde(flatten)]
    evidence: Evidence,
}

/// Looks at a process; at all workers where it is an arbiter.
pub(crate) fn find(pid: u32) -> Result<Vec<Process>, Failure> {
    // Without a scoreboard it is no process of ours, and has threads all the same.
    let snapshot = Source::open(&Server::Pid(pid), None).and_then(|source| source.read()).unwrap_or_default();
    let is_wanted = |worker: &&Worker| worker.pid == pid || snapshot.arbiter_pid == pid;
    let of = |worker: &Worker| {
        let mine = snapshot.requests.iter().filter(|running| running.pid == worker.pid);
        (worker.pid, mine.cloned().collect())
    };
    let mut targets: Vec<(u32, Vec<Running>)> = snapshot.workers.iter().filter(is_wanted).map(of).collect();
    if targets.is_empty() {
        targets.push((pid, Vec::new()));
    }
    let mut lens = Lens::default();
    let found: Vec<Process> =
        targets.iter().map(|(pid, requests)| process(&mut lens, *pid, requests)).collect();
    let nothing = found.iter().all(|process| process.evidence.threads.is_empty());
    match found.iter().find_map(|process| process.evidence.degraded.as_ref()) {
        Some(why) if nothing => Err(unreadable(pid, why)),
        _ => Ok(found),
    }
}

/// Looks at one process again and again; `requests` are those that it is at.
pub(crate) fn look(lens: &mut Lens, pid: u32, requests: &[Running]) -> Result<Process, Failure> {
    let found = process(lens, pid, requests);
    match &found.evidence.degraded {
        Some(why) if found.evidence.threads.is_empty() => Err(unreadable(pid, why)),
        _ => Ok(found),
    }
}

fn process(lens: &mut Lens, pid: u32, requests: &[Running]) -> Process {
    Process { pid, evidence: lens.look(&Aim { pid, requests, all: true, ..Aim::default() }) }
}

fn unreadable(pid: u32, why: &str) -> Failure {
    Failure::new(
        format!("the stacks of process {pid} could not be read"),
        why,
        "run this as root, or as the process's user; check the pid: `pgrep -af ferricorn`",
    )
}

impl Process {
    /// Leaves out all threads but that of a request, if that is known.
    pub(crate) fn only(mut self, request: &str) -> Self {
        let is_its = |thread: &Thread| thread.request.as_deref() == Some(request);
        if self.evidence.threads.iter().any(is_its) {
            self.evidence.threads.retain(is_its);
        }
        self
    }
}

/// Writes what was seen.
pub(crate) fn text(processes: &[Process], out: &mut dyn Write) -> io::Result<()> {
    for (index, process) in processes.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "Process {} ({})", process.pid, process.evidence.source)?;
        if let Some(why) = &process.evidence.degraded {
            writeln!(out, "  no stack from outside: {}", printable(why))?;
        }
        for thread in &process.evidence.threads {
            let request =
                thread.request.as_ref().map_or(String::new(), |request| format!(", request {request}"));
            let name = printable(&thread.name);
            writeln!(
                out,
                "\nThread {} ({name}{request}) is {}:",
                thread.tid,
                printable(&why::doing(thread))
            )?;
            let mut page = String::new();
            why::stack(&mut page, &thread.frames);
            out.write_all(page.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes the JSON document.
pub(crate) fn json(processes: &[Process], out: &mut dyn Write) -> io::Result<()> {
    write_json(&Document { schema: 1, processes }, out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    processes: &'a [Process],
}
