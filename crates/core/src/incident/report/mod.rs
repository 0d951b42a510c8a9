//! An incident told in full: what is wrong and how sure that is, what it costs, one of its requests, what the verdict rests
//! on, what was ruled out, what could not be seen, its course, and what to do. Text and Markdown are made of the same sections.
//!
//! Not for: JSON, which is the incident itself, and not for notifications, which are shorter.

mod markdown;
mod page;
mod text;

use super::{Acted, Incident, State};
use crate::change;
use crate::diagnosis::{Because, Candidate, Cause, Diagnosis, Finding, Fixes, Gap};
use crate::evidence::Frame;
use crate::record::{Request, Worker};
use crate::units::{bytes, count, span};
use page::{Line, Page};

/// Workers, routes and causes that are named; the others are counted.
const NAMED_MAX: usize = 5;
/// Most calls of a stack that are told.
const CALLS_MAX: usize = 48;
/// Of calls in libraries that follow each other, so many are told: the first of them, and the last.
const LIBRARY_MAX: usize = 5;
/// Below that, a verdict is where to look and no more.
const SURE: f64 = 0.8;

/// Returns an incident as text. `stamp` writes a moment, in seconds since 1970.
pub fn text(incident: &Incident, stamp: &dyn Fn(f64) -> String) -> String {
    text::written(&page(incident, stamp))
}

/// Returns an incident as Markdown.
pub fn markdown(incident: &Incident, stamp: &dyn Fn(f64) -> String) -> String {
    markdown::written(&page(incident, stamp))
}

/// Returns the cause of one request's trouble as text: the sections that it shares with an incident.
pub fn diagnosis(diagnosis: &Diagnosis) -> String {
    let mut page = Page::default();
    page.add("Verdict", verdict(&Verdict::of_diagnosis(diagnosis)));
    page.add("Evidence", evidence(&diagnosis.evidence));
    page.add("Ruled out", ruled_out(&diagnosis.ruled_out));
    page.add("Not visible", not_visible(&diagnosis.not_visible));
    page.add("Fix", fixes(&diagnosis.fixes));
    page.add("Confidence", confidence(diagnosis.confidence, &diagnosis.runners_up));
    text::written(&page)
}

/// Returns what an incident is, in a line.
pub fn headline(incident: &Incident) -> String {
    let Incident { id, state, cause, route, .. } = incident;
    let route = if route.is_empty() { String::new() } else { format!(" on {route}") };
    format!("Incident {id} ({}): {cause}{route}", state.name())
}

fn page(incident: &Incident, stamp: &dyn Fn(f64) -> String) -> Page {
    let mut page = Page { title: headline(incident), ..Page::default() };
    page.below.push(origin(incident, stamp));
    page.add("Verdict", verdict(&Verdict::of_incident(incident)));
    page.add("Impact", impact(incident, stamp));
    page.add("What changed", changed(incident));
    page.add("The request", request(incident));
    page.add("Where it was", place(incident));
    page.add("Evidence", evidence(&incident.evidence));
    page.add("Ruled out", ruled_out(&incident.ruled_out));
    page.add("Not visible", not_visible(&incident.not_visible));
    let course = incident.timeline.iter().map(|moment| Line::Item(stamp(moment.at), moment.text.clone()));
    page.add("Timeline", course.collect());
    page.add("Actions", actions(incident, stamp));
    page.add("Fix", fixes(&incident.fixes));
    let others: Vec<Candidate> =
        incident.causes.iter().copied().filter(|candidate| candidate.cause != incident.cause).collect();
    page.add("Confidence", confidence(incident.confidence, &others));
    page
}

/// What was done, or would have been.
fn actions(incident: &Incident, stamp: &dyn Fn(f64) -> String) -> Vec<Line> {
    let line = |acted: &Acted| {
        let Acted { at, action, target, rule, outcome, text, .. } = acted;
        Line::Item(stamp(*at), format!("{action} ({target}) {}, by rule {rule}: {text}", outcome.name()))
    };
    incident.actions.iter().map(line).collect()
}

fn origin(incident: &Incident, stamp: &dyn Fn(f64) -> String) -> String {
    let server = &incident.server;
    let begin = match (incident.opened_at, incident.trigger) {
        (Some(at), Some(trigger)) => format!("opened {}: {}", stamp(at), trigger.means()),
        (Some(at), None) => format!("opened {}", stamp(at)),
        (None, _) => format!("noted {}", stamp(incident.noted_at)),
    };
    format!("server {} (pid {}, {} {}), {begin}", server.name, server.pid, server.kind, server.version)
}

/// What a verdict is made of, whoever gives it.
struct Verdict<'a> {
    sentence: &'a str,
    cause: Cause,
    confidence: f64,
    because: Option<&'a Because>,
    also: &'a [Cause],
    blame: Option<String>,
}

impl<'a> Verdict<'a> {
    fn of_incident(incident: &'a Incident) -> Self {
        Self {
            sentence: &incident.verdict,
            cause: incident.cause,
            confidence: incident.confidence,
            because: incident.because.as_ref(),
            also: &incident.also,
            blame: incident.blame(),
        }
    }

    fn of_diagnosis(diagnosis: &'a Diagnosis) -> Self {
        Self {
            sentence: &diagnosis.summary,
            cause: diagnosis.cause,
            confidence: diagnosis.confidence,
            because: diagnosis.because.as_ref(),
            also: &diagnosis.also,
            blame: None,
        }
    }
}

fn verdict(verdict: &Verdict<'_>) -> Vec<Line> {
    let means = |cause: Cause| format!("{cause}: {}", cause.means());
    let sentence = if verdict.sentence.is_empty() { verdict.cause.means() } else { verdict.sentence };
    let mut lines = vec![Line::Says(sentence.to_owned())];
    let Verdict { cause, confidence, .. } = verdict;
    let cause = format!("{cause}, confidence {confidence:.2}: {}", cause.means());
    lines.push(Line::Item("cause".into(), cause));
    lines.extend(
        verdict
            .because
            .map(|because| Line::Item("because".into(), format!("{} ({})", because.text, because.cause))),
    );
    lines.extend(verdict.blame.iter().map(|blame| Line::Item("change".into(), blame.clone())));
    lines.extend(verdict.also.iter().map(|cause| Line::Item("also".into(), means(*cause))));
    lines
}

fn impact(incident: &Incident, stamp: &dyn Fn(f64) -> String) -> Vec<Line> {
    let end = incident.last_at.max(incident.noted_at);
    let took = span(end - incident.noted_at);
    let (from, to) = (stamp(incident.noted_at), stamp(end));
    let time = match incident.state {
        State::Note => format!("seen {from}"),
        State::Open => format!("since {from}; last seen {to}, {took} later"),
        State::Mitigated | State::Closed => format!("from {from} to {to} ({took})"),
    };
    let workers: Vec<String> = incident.workers.iter().map(u32::to_string).collect();
    let workers = match workers.len() {
        0 => String::new(),
        1 => format!(", on worker {}", workers[0]),
        many => format!(", on {many} workers ({})", named(&workers)),
    };
    let cost = format!(
        "{} lost, {} seen stuck{workers}",
        many(incident.requests_lost, "request"),
        count(incident.requests_stuck)
    );
    let mut lines = vec![Line::Says(time), Line::Says(cost)];
    let routes: Vec<String> =
        incident.routes.iter().map(|(route, hit)| format!("{route} {}", count(*hit))).collect();
    if !routes.is_empty() {
        lines.push(Line::Item("routes".into(), named(&routes)));
    }
    if !incident.hosts.is_empty() {
        lines.push(Line::Item("also on".into(), named(&incident.hosts)));
    }
    lines
}

/// What changes have to do with it; what its requests have in common; what else has shifted.
fn changed(incident: &Incident) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(explained) = &incident.change {
        lines.push(Line::Says(sentence(&explained.text)));
        if !explained.files.is_empty() && explained.verdict > change::Verdict::None {
            lines.push(Line::Item("files".into(), named(&explained.files)));
        }
        lines.extend(explained.link.iter().map(|link| Line::Item("more".into(), link.clone())));
    }
    lines.extend(incident.contrast.iter().map(|contrast| Line::Item("in common".into(), contrast.text())));
    lines.extend(incident.shifts.iter().map(|shift| Line::Item("shifted".into(), shift.text.clone())));
    lines
}

/// Makes a sentence of words.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn many(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{} {what}s", count(number)) }
}

/// Names the first of several.
fn named(all: &[String]) -> String {
    let first = &all[..all.len().min(NAMED_MAX)];
    match all.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn request(incident: &Incident) -> Vec<Line> {
    let Some(request) = &incident.request else { return Vec::new() };
    let Request { id, method, path, query, client, body_bytes, read_s, queue_s, app_s, .. } = request;
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    let client = if client.is_empty() { "a unix socket" } else { client };
    let deadline = request.deadline_s.map_or(String::new(), |deadline| format!(" of {}", span(deadline)));
    let mut lines = vec![
        Line::Says(format!(
            "{method} {path}{query} (request {id}) from {client}, {} of body",
            bytes(*body_bytes)
        )),
        Line::Says(format!(
            "{}{deadline} in the application, after {} to read it and {} in line",
            span(*app_s),
            span(*read_s),
            span(*queue_s)
        )),
    ];
    lines.extend(incident.worker.as_ref().map(|worker| {
        let Worker { pid, age, generation, threads, queued, uptime_s, requests, .. } = worker;
        Line::Says(format!(
            "worker {pid} (number {age}, generation {generation}): up {}, served {}, {queued} in line for {}",
            span(*uptime_s),
            many(*requests, "request"),
            many(u64::from(*threads), "app thread"),
        ))
    }));
    lines
}

fn place(incident: &Incident) -> Vec<Line> {
    if incident.frames.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![Line::Says(format!("the innermost call first, {}", incident.source))];
    let frames = &incident.frames[..incident.frames.len().min(CALLS_MAX)];
    // Application and libraries take turns: of what lies between two lines of the application, the ends say enough.
    for calls in frames.chunk_by(|one, other| one.is_application() == other.is_application()) {
        if calls[0].is_application() || calls.len() <= LIBRARY_MAX {
            calls.iter().for_each(|frame| call(&mut lines, frame));
            continue;
        }
        let (first, rest) = calls.split_at(LIBRARY_MAX - 1);
        first.iter().for_each(|frame| call(&mut lines, frame));
        let left_out = rest.len() - 1;
        if left_out > 0 {
            let text = format!("... {left_out} more calls in libraries");
            lines.push(Line::Call { application: false, text });
        }
        rest.last().into_iter().for_each(|frame| call(&mut lines, frame));
    }
    match incident.frames.len() - frames.len() {
        0 => {}
        more => lines.push(Line::Call { application: false, text: format!("... {more} more calls") }),
    }
    lines
}

fn call(lines: &mut Vec<Line>, frame: &Frame) {
    lines.push(Line::Call { application: frame.is_application(), text: frame.to_string() });
    lines.extend(frame.locals.iter().map(|(name, value)| Line::Of(format!("{name} = {value}"))));
}

fn evidence(findings: &[Finding]) -> Vec<Line> {
    let line = |finding: &Finding| {
        let weight = "+".repeat(usize::from(finding.weight.clamp(1, 3)));
        Line::Item(format!("{weight:<3} {}", finding.source), finding.text.clone())
    };
    findings.iter().map(line).collect()
}

fn ruled_out(reasons: &[String]) -> Vec<Line> {
    reasons.iter().cloned().map(Line::Says).collect()
}

fn not_visible(gaps: &[Gap]) -> Vec<Line> {
    let line = |gap: &Gap| match gap.how.is_empty() {
        true => Line::Says(gap.what.clone()),
        false => Line::Says(format!("{}; to see it: {}", gap.what, gap.how)),
    };
    gaps.iter().map(line).collect()
}

fn fixes(fixes: &Fixes) -> Vec<Line> {
    let steps = [("now", &fixes.now), ("next", &fixes.next), ("proper", &fixes.proper)];
    steps
        .into_iter()
        .flat_map(|(when, texts)| texts.iter().map(move |text| Line::Step(when, text.clone())))
        .collect()
}

fn confidence(confidence: f64, others: &[Candidate]) -> Vec<Line> {
    let caution = if confidence < SURE { ": a place to look at, not more" } else { "" };
    let mut lines = vec![Line::Says(format!("{confidence:.2}{caution}"))];
    lines.extend(others.iter().take(NAMED_MAX).map(|other| {
        let text = format!("{}: {}", other.cause, other.cause.means());
        Line::Item(format!("else {:.2}", other.confidence), text)
    }));
    lines
}

#[cfg(test)]
mod tests;
