//! `ferricornctl why`: an incident or a record in full, in words. Not for: lists of them (`incidents`, `records`), and not for
//! the words of an incident, which others need, too (`core::incident::report`).

use crate::command::Format;
use crate::failure::Failure;
use crate::stores;
use crate::units::{bytes, count, printable, span};
use crate::workers::write_json;
use ferricorn_core::evidence::{Evidence, Frame, Pressure, Thread};
use ferricorn_core::incident::{Incident, report};
use ferricorn_core::record::{Blocked, Death, Outcome, Record, Request, Timeout};
use ferricorn_reflex::store::{RecordFilter, Store};
use ferricorn_sys::clock;
use std::io::{self, Write};

/// Most records of an incident that are named.
const RECORDS_MAX: usize = 3;
/// Most neighbours that are named.
const NEIGHBOURS_MAX: usize = 12;

/// What somebody can ask about.
pub(crate) enum Found {
    /// One trouble of many requests, and what is kept of them.
    Incident(Box<Incident>, Kept),
    /// One late request, dead worker, or held loop.
    Record(Box<Record>),
}

/// The records of an incident.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// How many there were.
    pub seen: u64,
    /// By what the newest can be asked for.
    pub newest: Vec<String>,
}

impl Kept {
    fn of(stores: &[Store], incident: &str) -> Result<Self, Failure> {
        let filter = RecordFilter { incident: Some(incident), limit: RECORDS_MAX, ..RecordFilter::default() };
        let records = stores::read(stores, |store| store.records(&filter))?;
        let name = |record: &Record| {
            record.request().map_or_else(|| record.pid().to_string(), |request| request.id.clone())
        };
        let seen = stores::read(stores, |store| store.records_seen(incident).map(|seen| vec![seen]))?;
        Ok(Self { seen: seen.iter().sum(), newest: records.iter().map(name).collect() })
    }

    /// Adds a line in the form of the report's.
    fn add(&self, page: &mut String) {
        if self.seen > 0 {
            let (newest, others) =
                self.newest.split_first().map_or((String::new(), String::new()), |(newest, rest)| {
                    let others = if rest.is_empty() {
                        String::new()
                    } else {
                        format!("; others: {}", rest.join(", "))
                    };
                    (newest.clone(), others)
                });
            add(page, "");
            add(
                page,
                &format!(
                    "RECORDS      {} written down; the newest: ferricornctl why {newest}{others}",
                    count(self.seen)
                ),
            );
        }
    }
}

/// Finds what somebody knows the name of: an incident, a request, or what is known of a worker: its death before its late
/// requests. Names of incidents begin with a date, which no pid is as long as; should one be, both are looked for.
pub(crate) fn find(stores: &[Store], name: &str) -> Result<Found, Failure> {
    let incidents =
        stores::read(stores, |store| store.incident(name).map(|found| found.into_iter().collect()))?;
    if let Some(incident) = incidents.into_iter().max_by(|one, other| one.last_at.total_cmp(&other.last_at)) {
        let kept = Kept::of(stores, &incident.id)?;
        return Ok(Found::Incident(Box::new(incident), kept));
    }
    let newest = RecordFilter { limit: 1, ..RecordFilter::default() };
    let mut filters = vec![RecordFilter { request: Some(name), ..newest }];
    if let Ok(pid) = name.parse() {
        filters.push(RecordFilter { pid: Some(pid), kind: Some("death"), ..newest });
        filters.push(RecordFilter { pid: Some(pid), ..newest });
    }
    for filter in filters {
        let records = stores::read(stores, |store| store.records(&filter))?;
        if let Some(record) = records.into_iter().max_by(|one, other| one.at_s().total_cmp(&other.at_s())) {
            return Ok(Found::Record(Box::new(record)));
        }
    }
    Err(Failure::new(
        format!("nothing is known of {}", printable(name)),
        "no incident has this name, no request of this id was late and no worker of this pid has died, or its record has been given up for others",
        "`ferricornctl incidents --all` and `ferricornctl timeouts` list what there is",
    ))
}

/// Writes what was found, as it is wanted.
pub(crate) fn write(found: &Found, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match (found, format) {
        (Found::Incident(incident, _), Format::Json) => write_json(incident, out),
        (Found::Incident(incident, kept), Format::Text) => {
            let mut page = report::text(incident, &stamp);
            kept.add(&mut page);
            out.write_all(page.as_bytes())
        }
        (Found::Incident(incident, _), Format::Markdown) => {
            out.write_all(report::markdown(incident, &stamp).as_bytes())
        }
        (Found::Record(record), Format::Json) => write_json(record, out),
        (Found::Record(record), Format::Text) => out.write_all(text(record).as_bytes()),
        // It has no headings: as a block it stays as it is.
        (Found::Record(record), Format::Markdown) => {
            let page = text(record);
            let fence = "`".repeat(page.split(|c| c != '`').map(str::len).max().unwrap_or(0).max(2) + 1);
            write!(out, "{fence}text\n{page}{fence}\n")
        }
    }
}

fn stamp(at_s: f64) -> String {
    clock::stamp(at_s as u64)
}

/// Returns a record in words.
fn text(record: &Record) -> String {
    let mut page = String::new();
    match record {
        Record::Timeout(timeout) => late(&mut page, timeout),
        Record::Death(death) => dead(&mut page, death),
        Record::Blocked(blocked) => held(&mut page, blocked),
    }
    page
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
    of_incident(page, timeout.incident.as_deref());
    if let Some(diagnosis) = &timeout.diagnosis {
        add(page, "");
        // Its lines are safe already.
        page.push_str(&report::diagnosis(diagnosis));
    }
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
    of_incident(page, death.incident.as_deref());
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
    of_incident(page, blocked.incident.as_deref());
    add(page, "");
    add(page, "The stack, the innermost call first:");
    stack(page, &hold.frames);
    if !hold.concurrent.is_empty() {
        add(page, "");
        add(page, "Requests that could not go on meanwhile:");
        requests(page, &hold.concurrent);
    }
}

fn of_incident(page: &mut String, incident: Option<&str>) {
    if let Some(incident) = incident {
        add(page, &format!("incident {incident}: ferricornctl why {incident}"));
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

/// Adds a stack with what is known of its variables; the application's own code is marked.
pub(crate) fn stack(page: &mut String, frames: &[Frame]) {
    if frames.is_empty() {
        add(page, "    not known");
    }
    for frame in frames {
        let mark = if frame.is_application() { '>' } else { ' ' };
        add(page, &format!("  {mark} {frame}"));
        for (name, value) in &frame.locals {
            add(page, &format!("        {name} = {value}"));
        }
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
