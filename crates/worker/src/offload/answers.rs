//! What clients are told of their jobs: statuses, fields and bodies. Not for: when.

use super::{Offload, WAIT_MAX_MS};
use crate::conn::{Conn, FileBody};
use crate::http::head::Head;
use crate::http::reason::reason;
use ferricorn_core::offload::{Fault, Response, State, Status};
use serde_json::{Value, json};
use std::os::fd::OwnedFd;

/// What scripts of other origins may read of a head.
const EXPOSED: &str = "Location, Content-Location, Retry-After, ETag, Preference-Applied";
/// What they may ask with, and for how long a browser remembers that, seconds.
const ALLOWED: &str = "Prefer, If-None-Match, Accept, Authorization, Content-Type";
const REMEMBERED_S: &str = "600";
/// After how many seconds a client may ask again.
const RETRY_S: &str = "2";

/// What a client prefers (RFC 7240).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefer {
    /// `respond-async`.
    pub(super) is_async: bool,
    /// `wait`, as far as it is granted.
    pub(super) wait_ms: u64,
}

impl Prefer {
    pub(super) fn of(head: &Head) -> Self {
        let mut prefer = Self::default();
        for (name, value) in head.fields() {
            if !name.eq_ignore_ascii_case(b"prefer") {
                continue;
            }
            for word in value.split(|byte| matches!(byte, b',' | b';')) {
                let word = String::from_utf8_lossy(word.trim_ascii()).to_ascii_lowercase();
                prefer.is_async |= word == "respond-async";
                if let Some(seconds) = word.strip_prefix("wait=").and_then(|text| text.parse::<u64>().ok()) {
                    prefer.wait_ms = seconds.saturating_mul(1000).min(WAIT_MAX_MS);
                }
            }
        }
        prefer
    }
}

/// Answers 202: it is kept.
pub(super) fn accepted(conn: &mut Conn, offload: &Offload, status: &Status) {
    let place = offload.places.status(&status.id, offload.until(&conn.head));
    let mut fields = vec![
        ("Location", place.as_str()),
        ("Content-Location", place.as_str()),
        ("Retry-After", RETRY_S),
        ("Cache-Control", "no-store"),
    ];
    if Prefer::of(&conn.head).is_async {
        fields.push(("Preference-Applied", "respond-async"));
        fields.push(("Vary", "Prefer"));
    }
    let body = told(conn, offload, status);
    respond(conn, offload, 202, &fields, "application/json", &body);
}

/// Tells of a job.
pub(super) fn status(conn: &mut Conn, offload: &Offload, status: &Status) {
    let tag = format!("\"{}\"", status.tag());
    let known = conn.head.field(b"if-none-match").unwrap_or_default();
    if known_tag(known).as_deref() == Some(status.tag().as_str()) {
        return respond(conn, offload, 304, &[("ETag", &tag), ("Cache-Control", "no-cache")], "", b"");
    }
    let body = told(conn, offload, status);
    let result = offload.places.result(&status.id, offload.until(&conn.head));
    let mut fields = vec![("ETag", tag.as_str()), ("Cache-Control", "no-cache")];
    let code = match status.state {
        State::Done => {
            fields.push(("Location", &result));
            303
        }
        State::Expired => 410,
        State::Queued | State::Running => {
            fields.push(("Retry-After", RETRY_S));
            200
        }
        State::Failed | State::Cancelled => 200,
    };
    respond(conn, offload, code, &fields, "application/json", &body);
}

/// Tells of a job as a server-sent event (WHATWG HTML, 9.2), or says with a comment that there is no news.
pub(super) fn event(conn: &mut Conn, offload: &Offload, status: &Status, is_first: bool, is_news: bool) {
    if is_first {
        // Nothing of ours breaks a head.
        let _ = conn.response.code(200);
        for (name, value) in [
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("X-Accel-Buffering", "no"),
        ] {
            let _ = conn.response.field(name.as_bytes(), value.as_bytes());
        }
        share(conn, offload);
        conn.write_head(None);
    }
    if !is_news {
        return conn.response.body(b":\n\n");
    }
    let mut text = format!("event: {}\nid: {}\ndata: ", status.state.name(), status.tag()).into_bytes();
    // One line, which ends with its own line end.
    text.extend_from_slice(&told(conn, offload, status));
    text.push(b'\n');
    conn.response.body(&text);
}

/// Returns the tag that a client says it knows, without quotes; of several the first.
pub(super) fn known_tag(field: &[u8]) -> Option<String> {
    let text = str::from_utf8(field).ok()?;
    let first = text.split(',').next()?.trim();
    let first = first.strip_prefix("W/").unwrap_or(first);
    Some(first.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// Gives what the application has made, as it has made it.
pub(super) fn response(
    conn: &mut Conn,
    offload: &Offload,
    made: &Response,
    body: &[u8],
    file: Option<OwnedFd>,
) {
    let head_only = conn.head.method() == b"HEAD";
    if file.is_none() && body.len() as u64 != made.body {
        // This process has no descriptor left for it.
        let later = [("Retry-After", RETRY_S)];
        return problem(conn, offload, 503, "the response cannot be read just now", &later, "");
    }
    // What was kept could be sent once: it can be again.
    let _ = conn.response.status(made.status.as_bytes());
    let latin = |text: &str| text.chars().map(|letter| letter as u8).collect::<Vec<u8>>();
    for (name, value) in &made.fields {
        let _ = conn.response.field(name.as_bytes(), &latin(value));
    }
    // The application may have said itself who may read it.
    if !made.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("access-control-allow-origin")) {
        share(conn, offload);
    }
    let promised = made.promised.as_ref().filter(|_| head_only);
    if let Some(promised) = promised {
        let _ = conn.response.field(b"Content-Length", promised.as_bytes());
    }
    conn.write_head(promised.is_none().then_some(made.body));
    match file {
        Some(file) if !head_only => {
            let left = conn.response.accept(made.body);
            conn.file = Some(FileBody { file, offset: 0, left });
        }
        _ => conn.response.body(body),
    }
    conn.response.finish();
}

/// Says why there is nothing to give.
pub(super) fn nothing(conn: &mut Conn, offload: &Offload, status: &Status) {
    let later = [("Retry-After", RETRY_S)];
    let mut say = |code, detail: &str, fields: &[(&str, &str)]| {
        problem(conn, offload, code, detail, fields, &status.id);
    };
    match status.state {
        State::Queued | State::Running | State::Done => say(404, "the job is not over yet", &later),
        State::Cancelled => say(410, "the job was cancelled", &[]),
        State::Expired => say(410, "what the job has come to is not kept any more", &[]),
        State::Failed => {
            let error = status.error.clone().unwrap_or_default();
            let code = match error.cause {
                Fault::Timeout => 504,
                Fault::Application => 500,
                Fault::WorkerDied | Fault::Interrupted => 502,
            };
            say(code, &error.detail, &[]);
        }
    }
}

/// Answers with a problem (RFC 9457); `id` is the job's, or empty.
pub(super) fn problem(
    conn: &mut Conn,
    offload: &Offload,
    code: u16,
    detail: &str,
    fields: &[(&str, &str)],
    id: &str,
) {
    let mut body = json!({"type": "about:blank", "title": reason(code), "status": code, "detail": detail});
    if !id.is_empty() {
        body["job"] = Value::from(id);
    }
    let mut fields = fields.to_vec();
    fields.push(("Cache-Control", "no-store"));
    respond(conn, offload, code, &fields, "application/problem+json", &line(&body));
}

/// Answers without a body.
pub(super) fn empty(conn: &mut Conn, offload: &Offload, code: u16) {
    respond(conn, offload, code, &[], "", b"");
}

/// Tells a browser how scripts may ask (Fetch, CORS-preflight).
pub(super) fn preflight(conn: &mut Conn, offload: &Offload) {
    let fields = [
        ("Access-Control-Allow-Methods", "GET, HEAD, DELETE"),
        ("Access-Control-Allow-Headers", ALLOWED),
        ("Access-Control-Max-Age", REMEMBERED_S),
    ];
    respond(conn, offload, 204, &fields, "", b"");
}

/// What is told of a job, as JSON.
fn told(conn: &Conn, offload: &Offload, status: &Status) -> Vec<u8> {
    let told = offload.places.told(status, offload.until(&conn.head));
    line(&serde_json::to_value(told).unwrap_or_default())
}

/// Lets scripts of the client's origin read the answer, where that is wanted (Fetch, CORS).
fn share(conn: &mut Conn, offload: &Offload) {
    if offload.cors_origins.is_empty() {
        return;
    }
    // Another origin would get another answer.
    let _ = conn.response.field(b"Vary", b"Origin");
    let Some(origin) = conn.head.field(b"origin").map(<[u8]>::to_vec) else { return };
    if offload.cors_origins.iter().any(|allowed| allowed.as_bytes() == origin) {
        let _ = conn.response.field(b"Access-Control-Allow-Origin", &origin);
        let _ = conn.response.field(b"Access-Control-Allow-Credentials", b"true");
    } else if offload.cors_origins.iter().any(|allowed| allowed == "*") {
        let _ = conn.response.field(b"Access-Control-Allow-Origin", b"*");
    } else {
        return;
    }
    let _ = conn.response.field(b"Access-Control-Expose-Headers", EXPOSED.as_bytes());
}

fn line(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn respond(conn: &mut Conn, offload: &Offload, code: u16, fields: &[(&str, &str)], kind: &str, body: &[u8]) {
    // Nothing of ours breaks a head.
    let _ = conn.response.code(code);
    for (name, value) in fields {
        let _ = conn.response.field(name.as_bytes(), value.as_bytes());
    }
    if !kind.is_empty() {
        let _ = conn.response.field(b"Content-Type", kind.as_bytes());
    }
    share(conn, offload);
    conn.write_head(Some(body.len() as u64));
    conn.response.body(body);
    conn.response.finish();
}
