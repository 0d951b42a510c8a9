//! Closer looks, as lines of text: the stacks of a worker, the stack of a request, the numbers of a route, an incident's
//! report. Not for: the words of that report (`core::incident`).

use super::reading::Reading;
use crate::failure::Failure;
use crate::stack;
use crate::units::{bytes, count, millis, printable, span};
use ferricorn_core::figures;
use ferricorn_core::incident::report;
use ferricorn_reflex::evidence::Lens;
use ferricorn_sys::clock;

/// Most lines of a page.
const LINES_MAX: usize = 5000;

/// A title and its lines.
pub(super) type Page = (String, Vec<String>);

fn page(title: String, text: &[u8]) -> Page {
    let lines = String::from_utf8_lossy(text);
    (title, lines.lines().take(LINES_MAX).map(str::to_owned).collect())
}

/// Looks at a worker: at all its Python threads.
pub(super) fn worker(lens: &mut Lens, pid: u32, reading: &Reading) -> Page {
    let requests: Vec<_> =
        reading.snapshot.requests.iter().filter(|running| running.pid == pid).cloned().collect();
    let title = format!("Worker {pid}");
    match stack::look(lens, pid, &requests) {
        Ok(process) => {
            let mut text = Vec::new();
            // Writing into memory cannot fail.
            let _ = stack::text(&[process], &mut text);
            page(title, &text)
        }
        Err(failure) => page(title, told(&failure).as_bytes()),
    }
}

/// Looks at a request: at its thread.
pub(super) fn request(lens: &mut Lens, pid: u32, id: &str, reading: &Reading) -> Page {
    let Some(running) = reading.snapshot.requests.iter().find(|running| running.request.id == id) else {
        return page(format!("Request {id}"), b"it has finished");
    };
    let request = &running.request;
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    let mut text = format!("{} {}{query}\n", printable(&request.method), printable(&request.path));
    let client = if request.client.is_empty() { "a unix socket" } else { &request.client };
    text += &format!("from     {}\n", printable(client));
    let deadline = request.deadline_s.map_or(String::new(), |deadline_s| format!(" of {}", span(deadline_s)));
    text += &format!("in app   {}{deadline}\n", span(request.app_s));
    text += &format!(
        "before   {} to read it ({} of body), {} in line\n",
        span(request.read_s),
        bytes(request.body_bytes),
        span(request.queue_s)
    );
    if let Some(route) = &request.route {
        text += &format!("route    {}\n", printable(route));
    }
    let mut text = text.into_bytes();
    match stack::look(lens, pid, std::slice::from_ref(running)) {
        Ok(process) => {
            let _ = stack::text(&[process.only(id)], &mut text);
        }
        Err(failure) => text.extend_from_slice(format!("\n{}", told(&failure)).as_bytes()),
    }
    page(format!("Request {id}"), &text)
}

fn told(failure: &Failure) -> String {
    format!(
        "{}\n  why: {}\n  try: {}\n",
        printable(&failure.what),
        printable(&failure.why),
        printable(&failure.hint)
    )
}

/// Shows the durations of a route since the server started.
pub(super) fn route(route: &str, method: &str, reading: &Reading) -> Page {
    let all = figures::by_route(&reading.snapshot.routes);
    let title = format!("{method} {route}");
    let Some(found) = all.iter().find(|found| found.route == route && found.method == method) else {
        return page(title, b"it is not counted any more");
    };
    let mut text = format!(
        "since the server started {} ago: {} requests, {} answered 5xx, {} lost\n\n",
        span(reading.snapshot.uptime_s),
        count(found.count),
        count(found.server_errors),
        count(found.lost_count),
    );
    text += "milliseconds         p50       p90       p99     p99.9       max\n";
    let mut write = found.answered.write.clone();
    write.merge(&found.lost.write);
    for (name, distribution) in [("in line", found.queue()), ("application", found.app()), ("sending", write)]
    {
        let at = |q| millis(distribution.quantile_us(q));
        text += &format!(
            "{name:<14}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
    text += "\n`ferricornctl slow` tells what its deadline should be\n";
    page(title, text.as_bytes())
}

/// Shows an incident.
pub(super) fn incident(id: &str, reading: &Reading) -> Page {
    let title = format!("Incident {id}");
    let Some(incident) = reading.incidents.iter().flatten().find(|incident| incident.id == id) else {
        return page(title, b"the observer does not tell of it any more");
    };
    page(title, report::text(incident, &|at_s| clock::stamp(at_s as u64)).as_bytes())
}
