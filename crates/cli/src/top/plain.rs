//! A frame on paper: for a pipe, a file, a message to a colleague. Not for: a screen (`draw`).

use super::draw::ms;
use super::frame::{Frame, RequestLine, RouteLine, WorkerLine};
use crate::table::{self, Align, Cell, Ink};
use crate::units::{bytes, count, printable, rate, span};
use ferricorn_core::life::Life;
use std::io::{self, Write};

/// Most lines of a table.
const ROWS_MAX: usize = 50;

const WORKERS: [(&str, Align); 11] = [
    ("PID", Align::Right),
    ("LIFE", Align::Left),
    ("UP", Align::Right),
    ("BUSY", Align::Right),
    ("QUEUE", Align::Right),
    ("REQ/S", Align::Right),
    ("P99 ms", Align::Right),
    ("CPU", Align::Right),
    ("MEMORY", Align::Right),
    ("OLDEST", Align::Right),
    ("WAITS FOR", Align::Left),
];

const REQUESTS: [(&str, Align); 8] = [
    ("AGE", Align::Right),
    ("GONE", Align::Right),
    ("LEFT", Align::Right),
    ("PHASE", Align::Left),
    ("WORKER", Align::Right),
    ("CLIENT", Align::Left),
    ("METHOD", Align::Left),
    ("PATH", Align::Left),
];

const ROUTES: [(&str, Align); 8] = [
    ("TIME", Align::Right),
    ("COUNT", Align::Right),
    ("REQ/S", Align::Right),
    ("P50 ms", Align::Right),
    ("P99 ms", Align::Right),
    ("LOST", Align::Right),
    ("METHOD", Align::Left),
    ("ROUTE", Align::Left),
];

/// Writes a frame.
pub(super) fn write(frame: &Frame, colours: bool, out: &mut dyn Write) -> io::Result<()> {
    head(frame, out)?;
    for incident in frame.incidents.iter().flatten() {
        let name = Ink::Bad.paint(&printable(&incident.id), colours);
        writeln!(
            out,
            "incident {name}: {} ({} lost)",
            printable(&incident.verdict),
            count(incident.requests_lost)
        )?;
    }
    title("workers", frame.workers.len(), out)?;
    let rows: Vec<_> = frame.workers.iter().take(ROWS_MAX).map(worker).collect();
    table::write(out, WORKERS, &rows, colours)?;
    title("requests in flight", frame.requests.len(), out)?;
    let rows: Vec<_> = frame.requests.iter().take(ROWS_MAX).map(request).collect();
    table::write(out, REQUESTS, &rows, colours)?;
    title("routes", frame.routes.len(), out)?;
    let rows: Vec<_> = frame.routes.iter().take(ROWS_MAX).map(route).collect();
    table::write(out, ROUTES, &rows, colours)?;
    frame.findings.iter().try_for_each(|finding| writeln!(out, "{}", printable(finding)))?;
    frame.gaps.iter().try_for_each(|gap| writeln!(out, "not seen: {}", printable(gap)))
}

fn title(name: &str, lines: usize, out: &mut dyn Write) -> io::Result<()> {
    let shown = if lines > ROWS_MAX { format!(", {ROWS_MAX} shown") } else { String::new() };
    writeln!(out, "\n{name} ({lines}{shown})")
}

fn head(frame: &Frame, out: &mut dyn Write) -> io::Result<()> {
    let (server, sums) = (&frame.server, &frame.sums);
    writeln!(
        out,
        "{} {} {}, arbiter {}, up {}, {} of {} threads",
        server.kind.name(),
        printable(&server.version),
        printable(&server.name),
        server.arbiter_pid,
        span(server.uptime_s),
        printable(&server.worker_class),
        server.threads,
    )?;
    writeln!(
        out,
        "{} of {} workers ready, {} of {} threads busy, {} queued; {} req/s, p50 {} ms, p99 {} ms; {} lost, {} of them now",
        sums.workers_ready,
        sums.workers_target,
        sums.threads_busy,
        sums.threads,
        count(sums.queued),
        sums.requests_per_s.map_or("-".to_owned(), rate),
        ms(sums.p50_ms),
        ms(sums.p99_ms),
        count(sums.lost),
        count(sums.lost_now),
    )
}

fn worker(line: &WorkerLine) -> [Cell; WORKERS.len()] {
    let ink = match line.life {
        Life::Stuck | Life::Condemned => Ink::Bad,
        Life::Booting | Life::Draining => Ink::Warn,
        _ => Ink::Good,
    };
    [
        line.pid.to_string().into(),
        Cell::inked(line.life.name(), ink),
        span(line.uptime_s).into(),
        format!("{}/{}", line.threads_busy, line.threads).into(),
        count(line.queued.into()).into(),
        line.requests_per_s.map_or("-".to_owned(), rate).into(),
        ms(line.p99_ms).into(),
        line.cpu.map_or("-".to_owned(), |cpu| format!("{:.0}%", cpu * 100.0)).into(),
        line.rss_bytes.map_or("-".to_owned(), bytes).into(),
        line.oldest_s.map_or("-".to_owned(), span).into(),
        line.waits_for.as_deref().map_or("-".to_owned(), printable).into(),
    ]
}

fn request(line: &RequestLine) -> [Cell; REQUESTS.len()] {
    let left = match line.deadline_left_s {
        None => "-".into(),
        Some(left_s) if left_s < 0.0 => Cell::inked(format!("-{}", span(-left_s)), Ink::Bad),
        Some(left_s) => span(left_s).into(),
    };
    [
        span(line.age_s).into(),
        line.share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0)).into(),
        left,
        printable(&line.phase).into(),
        line.worker_pid.to_string().into(),
        printable(if line.client.is_empty() { "-" } else { &line.client }).into(),
        printable(&line.method).into(),
        printable(&line.path).into(),
    ]
}

fn route(line: &RouteLine) -> [Cell; ROUTES.len()] {
    [
        format!("{:.0} %", line.time_share * 100.0).into(),
        count(line.count).into(),
        line.requests_per_s.map_or("-".to_owned(), rate).into(),
        ms(line.p50_ms).into(),
        ms(line.p99_ms).into(),
        Cell::inked(count(line.lost), if line.lost > 0 { Ink::Bad } else { Ink::Plain }),
        printable(&line.method).into(),
        printable(&line.route).into(),
    ]
}
