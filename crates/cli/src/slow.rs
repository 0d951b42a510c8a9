//! `ferricornctl slow`: routes ranked by what they cost and by how near their deadline they come; from a server's own
//! numbers, or from an access log. The JSON's shape is public and written down in `docs/ferricornctl.md`: add fields,
//! never change one.
//!
//! Not for: the ranking and the advice (`core::advice`), and reading a log (`access_log`).

use crate::access_log::{self, Format};
use crate::command::{AccessLog, Slow};
use crate::failure::Failure;
use crate::source::Source;
use crate::stores;
use crate::table::{self, Align, Cell, Ink};
use crate::units::{count, millis, printable, span};
use crate::workers::write_json;
use ferricorn_core::advice::{self, Rank, Ranking, Verdict};
use ferricorn_core::histogram::Distribution;
use ferricorn_core::snapshot::{self, Kind, Route};
use ferricorn_sys::clock;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::time::Duration;

const COLUMNS: [(&str, Align); 12] = [
    ("TIME", Align::Right),
    ("COUNT", Align::Right),
    ("P50 ms", Align::Right),
    ("P95 ms", Align::Right),
    ("P99 ms", Align::Right),
    ("MAX ms", Align::Right),
    ("QUEUE99", Align::Right),
    ("LOST", Align::Right),
    ("NEAR", Align::Right),
    ("SHOULD BE", Align::Right),
    ("METHOD", Align::Left),
    ("ROUTE", Align::Left),
];

/// From this share of the deadline on, a route is worth a look.
const NEAR: f64 = 0.8;

/// Routes with their numbers, and where these come from.
pub(crate) struct Page {
    ranking: Ranking,
    timeout_s: Option<f64>,
    /// In words: `since shop started, 2h 01m ago`.
    period: String,
    /// What has to be known to read the numbers.
    notes: Vec<String>,
    limit: usize,
    kind: Kind,
}

/// Ranks the routes of a server, or of a log. `folder` is where a store lies, if it was named.
pub(crate) fn find(
    options: &Slow,
    folder: Option<&Path>,
    source: impl FnOnce() -> Result<Source, Failure>,
) -> Result<Page, Failure> {
    let given_s = options.timeout.map(|timeout| timeout.as_secs_f64());
    if let Some(log) = &options.log {
        let (routes, period, notes) = of_log(log)?;
        return Ok(page(&routes, given_s, (period, notes), Kind::Ferricorn, options));
    }
    if let Some(since) = options.since {
        return of_store(options, since, folder, source, given_s);
    }
    let snapshot = source()?.read()?;
    let name = if snapshot.name.is_empty() { "the server" } else { &snapshot.name };
    let period = match snapshot.kind {
        Kind::Ferricorn => format!("since {name} started, {} ago", span(snapshot.uptime_s)),
        Kind::Gunicorn => format!("since {name} is observed"),
    };
    let notes = snapshot.gaps.clone();
    let timeout_s = given_s.or(snapshot.timeout_s);
    let mut page = page(&snapshot.routes, timeout_s, (period, notes), snapshot.kind, options);
    if snapshot.estimated {
        page.ranking = page.ranking.without_advice();
        page.notes.push("no advice: durations are estimates".to_owned());
    }
    Ok(page)
}

/// Ranks what the observer has kept. A folder that was named needs no server that runs.
fn of_store(
    options: &Slow,
    since: Duration,
    folder: Option<&Path>,
    source: impl FnOnce() -> Result<Source, Failure>,
    given_s: Option<f64>,
) -> Result<Page, Failure> {
    let source = match (source(), folder) {
        (Ok(source), _) => Some(source),
        (Err(failure), None) => return Err(failure),
        (Err(_), Some(_)) => None,
    };
    let own = source.as_ref().and_then(Source::state_dir);
    let folder = folder.map(Path::to_owned).or(own).ok_or_else(|| {
        Failure::new(
            "the durations of the past could not be read",
            "this server keeps none: it has no observer, or no folder for what that finds",
            "leave out `--since` for its numbers since it started",
        )
    })?;
    let now = clock::wall_time_s() as u64;
    // Whole minutes are kept, and the present one as it is written down.
    let (from, to) = (now.saturating_sub(since.as_secs()) / 60, now / 60 + 1);
    let kept = stores::read(&stores::open(Some(&folder))?, |store| store.minutes(from, to))?;
    let routes = snapshot::routes(kept.into_iter());
    // The one server that runs may be another than those that have kept this.
    let source = source.filter(|source| source.state_dir().as_ref() == Some(&folder));
    let snapshot = source.and_then(|source| source.read().ok()).unwrap_or_default();
    let timeout_s = given_s.or(snapshot.timeout_s);
    let period = format!(
        "of the last {}, of all servers that keep their state in {}",
        span(since.as_secs_f64()),
        folder.display()
    );
    Ok(page(&routes, timeout_s, (period, Vec::new()), snapshot.kind, options))
}

fn page(
    routes: &[Route],
    timeout_s: Option<f64>,
    (period, notes): (String, Vec<String>),
    kind: Kind,
    options: &Slow,
) -> Page {
    let ranking = advice::rank(routes, timeout_s, options.by);
    Page { ranking, timeout_s, period, notes, limit: options.limit, kind }
}

fn of_log(log: &AccessLog) -> Result<(Vec<Route>, String, Vec<String>), Failure> {
    let name = printable(&log.path.display().to_string());
    let what = || format!("the access log {name} could not be used");
    let format = log.format.as_deref().map(Format::compile).transpose().map_err(|why| {
        Failure::new(
            "the format could not be used",
            why,
            "give the server's own `access_log_format`, with `%(D)s` in it",
        )
    })?;
    let unreadable = |error: io::Error| {
        Failure::new(what(), error.to_string(), "give the file that the server's `accesslog` names")
    };
    let found = if log.path == Path::new("-") {
        access_log::read(io::stdin().lock(), format)
    } else {
        File::open(&log.path)
            .and_then(|file| access_log::read(BufReader::with_capacity(256 << 10, file), format))
    };
    let found = found.map_err(unreadable)?;
    if found.used == 0 {
        return Err(unused(&what(), &found));
    }
    let mut notes = Vec::new();
    if let (Some("D"), None) = (found.unit, &log.format) {
        notes.push(
            "durations were read as microseconds, `%(D)s`; `--format '%(M)s'` reads milliseconds".to_owned(),
        );
    }
    match found.lines - found.used {
        0 => {}
        rest => notes.push(format!(
            "{} of {} lines did not fit and were left out",
            count(rest),
            count(found.lines)
        )),
    }
    Ok((found.routes, format!("of {} lines of {name}", count(found.used)), notes))
}

fn unused(what: &str, found: &access_log::Log) -> Failure {
    if found.lines == 0 {
        return Failure::new(what, "it is empty", "give the file that the server's `accesslog` names");
    }
    if found.without_duration > 0 {
        return Failure::new(
            what,
            "its lines are of the default format, which has no duration",
            "add `%(D)s` to `access_log_format`; `ferricornctl slow` without a log needs none",
        );
    }
    Failure::new(
        what,
        format!("none of its {} lines fits the format, or none has a duration", count(found.lines)),
        "give the server's own format: `--format '...'`, with `%(D)s` in it",
    )
}

/// Writes the table and the advice.
pub(crate) fn table(page: &Page, colours: bool, out: &mut dyn Write) -> io::Result<()> {
    let timeout = page.timeout_s.map_or(String::new(), |timeout_s| format!(", timeout {timeout_s} s"));
    writeln!(out, "{}{timeout}", page.period)?;
    let rows = &page.ranking.rows;
    if rows.is_empty() {
        writeln!(out, "no request was counted")?;
    } else {
        let cells: Vec<_> = rows.iter().take(page.limit).map(row).collect();
        table::write(out, COLUMNS, &cells, colours)?;
    }
    if let more @ 1.. = rows.len().saturating_sub(page.limit) {
        writeln!(out, "and {more} more; `--limit {}` shows all", rows.len())?;
    }
    let overall = page.ranking.overall.advice(page.timeout_s).map(|advice| ("timeout".to_owned(), advice));
    let named = |rank: &Rank| {
        Some((format!("{} {}", rank.figures.method, rank.figures.route), rank.advice(page.kind)?))
    };
    let advice: Vec<_> = overall.into_iter().chain(rows.iter().take(page.limit).filter_map(named)).collect();
    if !advice.is_empty() {
        writeln!(out)?;
    }
    for (about, text) in advice {
        writeln!(out, "{}: {}", printable(&about), printable(&text))?;
    }
    page.notes.iter().try_for_each(|note| writeln!(out, "note: {}", printable(note)))
}

fn row(rank: &Rank) -> [Cell; COLUMNS.len()] {
    let app = |q| millis(rank.app.quantile_us(q));
    let lost = rank.figures.lost_count;
    let near = rank.nearness.map_or("-".to_owned(), |nearness| format!("{:.0} %", nearness * 100.0));
    let is_bad = matches!(rank.verdict, Verdict::TooShort | Verdict::Hangs);
    let ink = match rank.nearness {
        _ if is_bad => Ink::Bad,
        Some(NEAR..) => Ink::Warn,
        _ => Ink::Plain,
    };
    [
        format!("{:.1} %", rank.share * 100.0).into(),
        count(rank.figures.count).into(),
        app(0.50).into(),
        app(0.95).into(),
        app(0.99).into(),
        app(1.0).into(),
        millis(rank.figures.queue().quantile_us(0.99)).into(),
        Cell::inked(count(lost), if lost > 0 { Ink::Bad } else { Ink::Plain }),
        Cell::inked(near, ink),
        rank.should_be_s.map_or("-".to_owned(), |should_be_s| format!("{should_be_s} s")).into(),
        printable(&rank.figures.method).into(),
        printable(&rank.figures.route).into(),
    ]
}

/// Writes the JSON document.
pub(crate) fn json(page: &Page, out: &mut dyn Write) -> io::Result<()> {
    let overall = page.ranking.overall;
    let document = Document {
        schema: 1,
        period: &page.period,
        timeout_s: page.timeout_s,
        overall: OverallJson { overall, advice: overall.advice(page.timeout_s) },
        routes: page
            .ranking
            .rows
            .iter()
            .take(page.limit)
            .map(|rank| RouteJson::of(rank, page.kind))
            .collect(),
        notes: &page.notes,
    };
    write_json(&document, out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    period: &'a str,
    timeout_s: Option<f64>,
    overall: OverallJson,
    routes: Vec<RouteJson<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct OverallJson {
    #[serde(flatten)]
    overall: advice::Overall,
    advice: Option<String>,
}

#[derive(Serialize)]
struct RouteJson<'a> {
    route: &'a str,
    named: bool,
    method: &'a str,
    count: u64,
    lost: u64,
    server_errors: u64,
    time_s: f64,
    time_share: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
    queue_p99_ms: Option<f64>,
    deadline_s: Option<f64>,
    nearness: Option<f64>,
    should_be_s: Option<f64>,
    verdict: Verdict,
    advice: Option<String>,
}

impl<'a> RouteJson<'a> {
    fn of(rank: &'a Rank, kind: Kind) -> Self {
        let ms = |distribution: &Distribution, q| distribution.quantile_us(q).map(|us| us as f64 / 1e3);
        Self {
            route: &rank.figures.route,
            named: rank.figures.named,
            method: &rank.figures.method,
            count: rank.figures.count,
            lost: rank.figures.lost_count,
            server_errors: rank.figures.server_errors,
            time_s: ferricorn_core::figures::sum_s(&rank.app),
            time_share: rank.share,
            p50_ms: ms(&rank.app, 0.50),
            p95_ms: ms(&rank.app, 0.95),
            p99_ms: ms(&rank.app, 0.99),
            max_ms: ms(&rank.app, 1.0),
            queue_p99_ms: ms(&rank.figures.queue(), 0.99),
            deadline_s: rank.deadline_s,
            nearness: rank.nearness,
            should_be_s: rank.should_be_s,
            verdict: rank.verdict,
            advice: rank.advice(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::advice::By;
    use ferricorn_core::latency::{Class, Key, Phases};

    fn routes() -> Vec<Route> {
        let of = |path: &str, class, count: u64, us: u64| {
            let mut phases = Phases::default();
            (0..count).for_each(|_| {
                phases.app.add(us);
                phases.queue.add(us / 100);
            });
            let key = Key { route: path.into(), named: true, method: "GET".into(), class };
            Route { key, phases }
        };
        vec![
            of("/", Class::Success, 12_000, 20_000),
            of("/reports/<int:n>", Class::Success, 400, 19_000_000),
            of("/reports/<int:n>", Class::Lost, 7, 30_000_000),
            of("/new\u{1b}[2J", Class::Success, 3, 1_000),
        ]
    }

    fn shown(limit: usize) -> Page {
        let options = Slow { by: By::Time, limit, timeout: None, since: None, log: None };
        let words = ("since shop started, 2h 01m ago".into(), vec!["a note".into()]);
        page(&routes(), Some(30.0), words, Kind::Ferricorn, &options)
    }

    #[test]
    fn routes_for_a_person() {
        let mut out = Vec::new();
        table(&shown(20), false, &mut out).expect("memory");
        insta::assert_snapshot!(String::from_utf8(out).expect("text"), @r#"
    since shop started, 2h 01m ago, timeout 30 s
      TIME   COUNT  P50 ms  P95 ms  P99 ms  MAX ms  QUEUE99  LOST   NEAR  SHOULD BE  METHOD  ROUTE
    97.0 %     407  20,971  20,971  31,457  31,457      327     7  100 %       90 s  GET     /reports/<int:n>
     3.0 %  12,000    20.5    20.5    20.5    20.5     0.21     0    0 %        1 s  GET     /
     0.0 %       3    1.02    1.02    1.02    1.02     0.01     0    0 %          -  GET     /new\u{1b}[2J

    GET /reports/<int:n>: 7 lost at 30 s, and those that finish need nearly as long (p99 21 s): the timeout should be 90: `route_timeouts = {"GET /reports/*": 90}`, or better, answer 202 at once: `offload = ["GET /reports/*"]`
    note: a note
    "#);
        let mut out = Vec::new();
        table(&shown(1), false, &mut out).expect("memory");
        assert!(String::from_utf8_lossy(&out).contains("and 2 more; `--limit 3` shows all\n"));
    }

    #[test]
    fn routes_for_a_script() {
        let mut out = Vec::new();
        json(&shown(20), &mut out).expect("memory");
        let document: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!((document["schema"].as_u64(), document["timeout_s"].as_f64()), (Some(1), Some(30.0)));
        assert_eq!(document["overall"]["verdict"], "fits");
        let route = &document["routes"][0];
        assert_eq!((route["count"].as_u64(), route["lost"].as_u64()), (Some(407), Some(7)));
        assert_eq!((&route["verdict"], &route["should_be_s"]), (&"too_short".into(), &90.0.into()));
        assert!(document["routes"][2]["should_be_s"].is_null());
    }
}
