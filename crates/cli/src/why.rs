//! `ferricornctl why`: one record in full, in words. Not for: finding records (`records`).

use crate::failure::Failure;
use crate::units::{bytes, printable, span};
use ferricorn_core::evidence::{Evidence, Frame, Pressure, Thread};
use ferricorn_core::record::{Blocked, Death, Outcome, Record, Request, Timeout};
use ferricorn_sys::clock;
use std::io::{self, Write};

/// Most neighbours that are named.
const NEIGHBOURS_MAX: usize = 12;

/// Chooses the record of a request, or what is known of a worker: its death before its late requests.
pub(crate) fn choose<'a>(records: &'a [Record], id: &str) -> Result<&'a Record, Failure> {
    let by_request = |record: &&Record| match record {
        Record::Timeout(timeout) => timeout.request.id == id,
        Record::Blocked(blocked) => blocked.hold.request.as_ref().is_some_and(|request| request.id == id),
        Record::Death(_) => false,
    };
    let of_worker = |record: &&Record| id.parse() == Ok(record.pid());
    let death = |record: &&Record| matches!(record, Record::Death(_)) && of_worker(record);
    let found = records.iter().find(by_request).or_else(|| records.iter().find(death));
    found.or_else(|| records.iter().find(of_worker)).ok_or_else(|| {
        Failure::new(
            format!("there is no record of {}", printable(id)),
            "no request of this id was late and no worker of this pid has died, or its record has been given up for newer ones",
            "`ferricornctl timeouts` lists the records there are",
        )
    })
}

/// Writes a record.
pub(crate) fn text(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let mut page = String::new();
    match record {
        Record::Timeout(timeout) => late(&mut page, timeout),
        Record::Death(death) => dead(&mut page, death),
        Record::Blocked(blocked) => held(&mut page, blocked),
    }
    out.write_all(page.as_bytes())
}

/// Adds a line; what comes from the network or the application cannot steer the terminal.
fn add(page: &mut String, line: &str) {
    page.push_str(&printable(line));
    page.push('\n');
}

fn late(page: &mut String, timeout: &Timeout) {
    let request = &timeout.request;
    add(page, &format!("{} from {}", named(request), or_nobody(&request.client)));
    add(page, &written(timeout.at_s, timeout.worker.pid, &timeout.server));
    add(page, "");
    let deadline = request.deadline_s.map_or(String::new(), |deadline| format!(" of {}", span(deadline)));
    let thread = match timeout.thread {
        Outcome::Freed { after_s } => format!("its thread came free {} later", span(after_s)),
        Outcome::Stuck { after_s } => format!("its thread was still stuck {} later", span(after_s)),
        Outcome::Ended => "its worker has ended".to_owned(),
    };
    let by = if timeout.answered_by == "worker" {
        String::new()
    } else {
        format!(" by its {}", timeout.answered_by)
    };
    add(
        page,
        &format!(
            "after    {}{deadline} in the application: {}{by}; {thread}",
            span(request.app_s),
            timeout.answer
        ),
    );
    let before = format!(
        "before   {} to read it ({} of body), {} in line",
        span(request.read_s),
        bytes(request.body_bytes),
        span(request.queue_s)
    );
    add(page, &before);
    if let Some(route) = &request.route {
        add(page, &format!("route    {route}"));
    }
    add(page, &format!("doing    {}", timeout.doing));
    add(page, "");
    add(page, &format!("The stack, the innermost call first ({}):", timeout.source));
    stack(page, &timeout.frames);
    if !timeout.evidence.is_empty() {
        add(page, "");
        add(page, "On the way:");
        timeout.evidence.iter().for_each(|evidence| seen(page, evidence, &request.id));
    }
    if let Some(last) = timeout.evidence.last() {
        add(page, "");
        surroundings(page, last, timeout.worker.threads, timeout.worker.queued);
        others(page, last, &request.id);
    }
    if !timeout.concurrent.is_empty() {
        add(page, "");
        add(page, "Beside it in this worker:");
        requests(page, &timeout.concurrent);
    }
}

fn dead(page: &mut String, death: &Death) {
    add(page, &format!("Worker {} has died: {}", death.worker.pid, death.cause));
    add(page, &written(death.at_s, death.worker.pid, &death.server));
    add(page, "");
    let lived =
        format!("lived    {}, served {} requests", span(death.worker.uptime_s), death.worker.requests);
    add(page, &lived);
    if death.requests.is_empty() {
        add(page, "cost     no request: it was at none");
    } else {
        add(page, "cost     these requests, which its guardian answered:");
        requests(page, &death.requests);
    }
    for evidence in &death.evidence {
        add(page, "");
        surroundings(page, evidence, death.worker.threads, death.worker.queued);
        others(page, evidence, "");
    }
}

fn held(page: &mut String, blocked: &Blocked) {
    let hold = &blocked.hold;
    let place = hold.frames.iter().find(|frame| frame.is_application()).map(ToString::to_string);
    add(page, &format!("A {}", hold.told(place.as_deref())));
    add(page, &written(blocked.at_s, blocked.worker.pid, &blocked.server));
    add(page, "");
    add(page, &format!("doing    {}", hold.doing));
    add(page, "");
    add(page, "The stack, the innermost call first:");
    stack(page, &hold.frames);
    if !hold.concurrent.is_empty() {
        add(page, "");
        add(page, "Requests that could not go on meanwhile:");
        requests(page, &hold.concurrent);
    }
}

fn written(at_s: f64, worker: u32, server: &ferricorn_core::record::Server) -> String {
    let at = clock::stamp(at_s as u64);
    format!("{at}, worker {worker} of server {} ({}, ferricorn {})", server.pid, server.name, server.version)
}

fn named(request: &Request) -> String {
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    format!("{} {}{query} (request {})", request.method, request.path, request.id)
}

fn or_nobody(client: &str) -> &str {
    if client.is_empty() { "a unix socket" } else { client }
}

/// Adds a stack; the application's own code is marked.
pub(crate) fn stack(page: &mut String, frames: &[Frame]) {
    if frames.is_empty() {
        add(page, "    not known");
    }
    for frame in frames {
        let mark = if frame.is_application() { '>' } else { ' ' };
        add(page, &format!("  {mark} {frame}"));
    }
}

fn seen(page: &mut String, evidence: &Evidence, id: &str) {
    let thread = evidence.threads.iter().find(|thread| thread.request.as_deref() == Some(id));
    let what = thread.map_or("nothing was seen of its thread".to_owned(), |thread| {
        let place = thread.frames.iter().find(|frame| frame.is_application()).or(thread.frames.first());
        let place = place.map_or(String::new(), |frame| format!(", at {frame}"));
        format!("{}{place}; {:.2} s of processor", doing(thread), thread.cpu_s)
    });
    add(page, &format!("  at {:>3} %  {what}", evidence.percent));
    if let Some(why) = &evidence.degraded {
        add(page, &format!("            no stack from outside: {why}"));
    }
}

/// Returns what a thread does, with what belongs to it.
pub(crate) fn doing(thread: &Thread) -> String {
    let gil = if thread.holds_gil == Some(true) { ", holds the interpreter" } else { "" };
    format!("{}{gil}", thread.doing)
}

fn surroundings(page: &mut String, evidence: &Evidence, threads: u32, queued: u32) {
    let memory = &evidence.memory;
    let known = |number: Option<u64>| number.map_or("unknown".to_owned(), bytes);
    let group = memory.cgroup.map_or(String::new(), |group| {
        let limit = memory.cgroup_max.map_or("no limit".to_owned(), |max| format!("limit {}", bytes(max)));
        format!(", its control group {} ({limit})", bytes(group))
    });
    add(
        page,
        &format!(
            "worker   {threads} app threads, {queued} requests in line, memory {}{group}",
            known(memory.rss)
        ),
    );
    let Pressure { cpu, memory, io, throttled_s } = evidence.pressure;
    let share = |name: &str, share: Option<f64>| share.map(|share| format!("{name} {share:.0} %"));
    let mut waits: Vec<String> =
        [share("processor", cpu), share("memory", memory), share("disk", io)].into_iter().flatten().collect();
    waits.extend(throttled_s.filter(|s| *s > 0.0).map(|s| format!("held back by its quota for {}", span(s))));
    if !waits.is_empty() {
        add(page, &format!("waits    on this host for: {}", waits.join(", ")));
    }
}

/// Adds the stacks of other threads that hold the interpreter or work for the application.
fn others(page: &mut String, evidence: &Evidence, id: &str) {
    for thread in evidence.threads.iter().filter(|thread| thread.request.as_deref() != Some(id)) {
        let request = thread.request.as_ref().map_or(String::new(), |request| format!(", request {request}"));
        add(page, "");
        add(page, &format!("Thread {} ({}{request}) is {}:", thread.tid, thread.name, doing(thread)));
        stack(page, &thread.frames);
    }
}

fn requests(page: &mut String, requests: &[Request]) {
    for request in requests.iter().take(NEIGHBOURS_MAX) {
        add(page, &format!("  {:>7}  {}", span(request.app_s), named(request)));
    }
    if requests.len() > NEIGHBOURS_MAX {
        add(page, &format!("  and {} more", requests.len() - NEIGHBOURS_MAX));
    }
}
