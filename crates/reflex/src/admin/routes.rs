//! What the admin endpoint answers. Each answer is of a snapshot as of now: who asks two of them at once sees the same numbers.
//! The JSON is public (docs/metrics.md): add fields, never change one.
//!
//! Not for: computing any number.

use super::problem::Problem;
use crate::export::families::Exposed;
use crate::export::prometheus::Format;
use crate::export::{Changes, Published, Shared};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ferricorn_core::change::{self, Mark};
use ferricorn_core::incident::{Incident, SCHEMA, State as Course};
use ferricorn_core::life::Life;
use ferricorn_core::snapshot::{Snapshot, Worker};
use ferricorn_core::sums::Sums;
use ferricorn_sys::clock;
use rustix::process::{Pid, test_kill_process};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What there is.
const PATHS: [(&str, &str); 9] = [
    ("/metrics", "for Prometheus"),
    ("/healthz", "whether the observer works"),
    ("/readyz", "whether the server takes requests"),
    ("/livez", "whether the server needs to be restarted"),
    ("/snapshot", "the server as JSON"),
    ("/incidents", "incidents as JSON, `?state=open` for some"),
    ("/incidents/ID", "one of them"),
    ("/changes", "what has changed about the service, as JSON"),
    ("/deploys", "POST: marks a change by hand"),
];
/// How long the observer has to keep a mark.
const KEPT_WITHIN: Duration = Duration::from_secs(5);
/// Most bytes of a mark.
const MARK_BYTES_MAX: usize = 4 << 10;

type Answer = Result<Response, Problem>;
type Place = State<Arc<Shared>>;

/// Returns everything that is answered.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/livez", get(livez))
        .route("/snapshot", get(snapshot))
        .route("/incidents", get(incidents))
        .route("/incidents/{id}", get(incident))
        .route("/changes", get(changes))
        .route("/deploys", post(deploy).layer(DefaultBodyLimit::max(MARK_BYTES_MAX)))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(shared)
}

async fn metrics(State(shared): Place, headers: HeaderMap) -> Answer {
    let seen = seen(&shared).await?;
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok());
    let format = Format::wanted(&accept.collect::<Vec<_>>().join(","));
    let figures = shared.figures();
    let exposed = Exposed::new(&seen.snapshot, &seen.incidents, &figures);
    let body = format.write(&exposed.families());
    Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

/// The observer works if it has looked; it is not asked to, for a probe is no reason to.
async fn healthz(State(shared): Place) -> Answer {
    let age_s = shared.latest().map(|published| published.at.elapsed());
    match age_s {
        Some(age) if age < crate::export::STALE => {
            json_of(&json!({ "status": "ok", "snapshot_age_s": age.as_secs_f64() }))
        }
        Some(age) => {
            Err(Problem::unavailable(format!("the observer has not looked for {:.0} s", age.as_secs_f64())))
        }
        None => Err(Problem::unavailable("the observer has not looked at the server yet")),
    }
}

async fn readyz(State(shared): Place) -> Answer {
    let snapshot = seen(&shared).await?.snapshot;
    snapshot.can_serve().map_err(Problem::unavailable)?;
    health(&snapshot, "ready")
}

async fn livez(State(shared): Place) -> Answer {
    let snapshot = seen(&shared).await?.snapshot;
    if !exists(snapshot.arbiter_pid) {
        return Err(Problem::unavailable(format!("its arbiter (pid {}) has ended", snapshot.arbiter_pid)));
    }
    let stays = |worker: &&Worker| !matches!(worker.life, Life::Draining | Life::Exited);
    let workers: Vec<&Worker> = snapshot.workers.iter().filter(stays).collect();
    if !workers.is_empty() && workers.iter().all(|worker| worker.is_all_stuck()) {
        return Err(Problem::unavailable(format!("all {} workers are stuck", workers.len())));
    }
    health(&snapshot, "live")
}

fn health(snapshot: &Snapshot, status: &str) -> Answer {
    let serving = snapshot.sums().workers_serving;
    json_of(
        &json!({ "status": status, "workers_serving": serving, "workers_wanted": snapshot.workers_target }),
    )
}

/// A process of another user exists as well.
fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    sums: Sums,
}

async fn snapshot(State(shared): Place) -> Answer {
    let snapshot = seen(&shared).await?.snapshot;
    json_of(&Whole { sums: snapshot.sums(), snapshot: &snapshot })
}

#[derive(Serialize)]
struct Incidents<'a> {
    schema: u32,
    incidents: Vec<&'a Incident>,
}

async fn incidents(State(shared): Place, RawQuery(query): RawQuery) -> Answer {
    let wanted = course(query.as_deref().unwrap_or_default())?;
    let seen = seen(&shared).await?;
    let incidents =
        seen.incidents.iter().filter(|incident| wanted.is_none_or(|state| incident.state == state));
    json_of(&Incidents { schema: SCHEMA, incidents: incidents.collect() })
}

/// Reads `state=open`; other names are of no meaning yet.
fn course(query: &str) -> Result<Option<Course>, Problem> {
    const ALL: [Course; 4] = [Course::Note, Course::Open, Course::Mitigated, Course::Closed];
    let Some(said) = query.split('&').find_map(|pair| pair.strip_prefix("state=")) else { return Ok(None) };
    let known = ALL.into_iter().find(|state| state.name() == said);
    let names = ALL.map(Course::name).join(", ");
    let unknown = || Problem::new(StatusCode::BAD_REQUEST, format!("`state` must be one of {names}"));
    known.map(Some).ok_or_else(unknown)
}

async fn incident(State(shared): Place, Path(id): Path<String>) -> Answer {
    let seen = seen(&shared).await?;
    match seen.incidents.iter().find(|incident| incident.id == id) {
        Some(incident) => json_of(incident),
        None => {
            Err(Problem::new(StatusCode::NOT_FOUND, "there is no such incident, or it is no longer kept"))
        }
    }
}

#[derive(Serialize)]
struct Known<'a> {
    schema: u32,
    #[serde(flatten)]
    changes: &'a Changes,
    findings: Vec<&'a str>,
}

async fn changes(State(shared): Place) -> Answer {
    let changes = shared.changes();
    json_of(&Known { schema: change::SCHEMA, findings: changes.standing.findings(), changes: &changes })
}

/// Takes a mark, and answers once it is kept.
async fn deploy(State(shared): Place, body: Result<Bytes, BytesRejection>) -> Answer {
    let body = body.map_err(|rejected| Problem::new(rejected.status(), "a mark has at most 4096 bytes"))?;
    let wrong = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let mark: Mark = serde_json::from_slice(&body).map_err(|error| {
        wrong(format!("the body must be JSON such as {{\"name\": \"v1.2\", \"at\": 1795651200, \"link\": \"https://...\"}}, the last two may be left out: {error}"))
    })?;
    let name = shared.latest().map(|published| published.snapshot.name.clone()).unwrap_or_default();
    let marked = mark.change(&name, clock::wall_time_s()).map_err(wrong)?;
    // With the moment at which it was asked for.
    let Some(kept) = shared.mark(Mark { at: Some(marked.at), ..mark }) else {
        return Err(Problem::unavailable("too many marks wait for the observer: try again in a moment"));
    };
    // What is answered survives the observer.
    if !matches!(timeout(KEPT_WITHIN, kept).await, Ok(Ok(true))) {
        return Err(Problem::unavailable(
            "the observer could not keep it: try again in a moment, and see the server's log",
        ));
    }
    let mut answer = json_of(&marked)?;
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}

async fn not_found() -> Problem {
    let paths = PATHS.map(|(path, what)| format!("{path} ({what})")).join(", ");
    Problem::new(StatusCode::NOT_FOUND, format!("there is {paths}"))
}

async fn not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "use GET, and POST for /deploys alone")
}

async fn seen(shared: &Shared) -> Result<Published, Problem> {
    shared
        .fresh()
        .await
        .ok_or_else(|| Problem::unavailable("the observer has not looked at the server lately"))
}

fn json_of(document: &impl Serialize) -> Answer {
    let body = serde_json::to_string(document).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no JSON of it: {error}"))
    })?;
    let fields = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((fields, body).into_response())
}
