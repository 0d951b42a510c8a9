//! Requests that are answered at once and worked on later, on the worker's side: which they are, the conversation with the
//! dispatcher, and what clients are told (RFC 7240, RFC 9110 section 15.3.3). One thread of its own has all these connections; the
//! loop gives them to it and gets them back answered. Costs a worker without such routes nothing.
//!
//! Not for: keeping or running jobs (the crate `offload`).

mod answers;
mod office;

pub(crate) use office::Office;

use crate::http::head::Head;
use crate::route::Route;
use answers::Prefer;
use ferricorn_core::offload::is_id;

/// Longest time that a client can have itself told later, milliseconds.
const WAIT_MAX_MS: u64 = 60_000;

/// Which requests become jobs, and where clients ask for them.
#[derive(Debug, Default)]
pub struct Offload {
    /// Requests that always do.
    pub routes: Vec<Route>,
    /// Those that do when the client says `Prefer: respond-async`.
    pub prefer: Vec<Route>,
    /// Under which path jobs are found, without a slash at its end.
    pub prefix: String,
    /// The name of the dispatcher's listener.
    pub counter: Vec<u8>,
}

/// What is to be done for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Make its request a job; its client waits for the end so long.
    Keep { wait_ms: u64 },
    /// Tell it of a job.
    Look { id: String, wait_ms: u64 },
    /// Tell it of a job again and again, whenever something changes (server-sent events).
    Follow { id: String },
    /// Give it what a job has come to.
    Take { id: String },
    /// Withdraw a job.
    Cancel { id: String },
    /// There is no such thing.
    Absent,
    /// It asks in a way that makes no sense here.
    NotAllowed,
}

impl Offload {
    /// Returns what is to be done about a request; none if it is the application's.
    pub(crate) fn errand(&self, head: &Head) -> Option<Errand> {
        let (method, path) = (head.method(), head.get(&head.path));
        if let Some(rest) = path.strip_prefix(self.prefix.as_bytes())
            && let Some(rest) = rest.strip_prefix(b"/")
        {
            return Some(asked(method, rest, head));
        }
        let fits = |routes: &[Route]| routes.iter().any(|route| route.fits(method, path));
        // Another protocol is spoken at once or not at all.
        if head.field(b"upgrade").is_some() {
            return None;
        }
        let prefer = || Prefer::of(head);
        if fits(&self.routes) {
            let prefer = prefer();
            return Some(Errand::Keep { wait_ms: if prefer.is_async { prefer.wait_ms } else { 0 } });
        }
        let prefer = fits(&self.prefer).then(prefer).filter(|prefer| prefer.is_async)?;
        Some(Errand::Keep { wait_ms: prefer.wait_ms })
    }

    /// Returns where a job is found.
    fn place(&self, id: &str) -> String {
        format!("{}/{id}", self.prefix)
    }
}

/// Reads what is asked under the prefix: `ID` or `ID/result`.
fn asked(method: &[u8], rest: &[u8], head: &Head) -> Errand {
    let rest = str::from_utf8(rest).unwrap_or_default();
    let (id, of_result) = rest.strip_suffix("/result").map_or((rest, false), |id| (id, true));
    if !is_id(id) {
        return Errand::Absent;
    }
    let id = id.to_owned();
    match method {
        b"GET" | b"HEAD" if of_result => Errand::Take { id },
        b"GET" if wants_events(head) => Errand::Follow { id },
        b"GET" | b"HEAD" => Errand::Look { id, wait_ms: Prefer::of(head).wait_ms },
        b"DELETE" if !of_result => Errand::Cancel { id },
        _ => Errand::NotAllowed,
    }
}

fn wants_events(head: &Head) -> bool {
    let accept = head.field(b"accept").unwrap_or_default();
    accept.split(|byte| matches!(byte, b',' | b';')).any(|kind| kind.trim_ascii() == b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Rules, Scan, parse};

    fn head(lines: &str) -> Head {
        let (rules, mut head) = (Rules::default(), Head::default());
        let text = format!("{lines}\r\nHost: a\r\n\r\n");
        let found = Scan::default().advance(text.as_bytes(), &rules).expect("a head").expect("whole");
        parse(text.as_bytes(), &found, &rules, false, &mut head).expect("a head");
        head
    }

    #[test]
    fn errands_are_told_by_route_preference_and_path() {
        let route = |text| Route::parse(text).expect("a route");
        let offload = Offload {
            routes: vec![route("POST /api/reports/*")],
            prefer: vec![route("/slow/*")],
            prefix: "/.well-known/ferricorn/jobs".into(),
            counter: Vec::new(),
        };
        let errand = |lines: &str| offload.errand(&head(lines));
        let id = "0123456789abcdef0123456789abcdef";
        let look = |wait_ms| Some(Errand::Look { id: id.into(), wait_ms });
        let at = format!("/.well-known/ferricorn/jobs/{id}");
        assert_eq!(errand("POST /api/reports/1 HTTP/1.1"), Some(Errand::Keep { wait_ms: 0 }));
        let waits = "POST /api/reports/1 HTTP/1.1\r\nPrefer: respond-async, wait=5";
        assert_eq!(errand(waits), Some(Errand::Keep { wait_ms: 5000 }));
        assert_eq!(errand("POST /api/reports/1 HTTP/1.1\r\nUpgrade: websocket"), None);
        assert_eq!(errand("GET /api/reports/1 HTTP/1.1"), None);
        assert_eq!(errand("GET /slow/1 HTTP/1.1"), None);
        assert_eq!(
            errand("GET /slow/1 HTTP/1.1\r\nprefer: RESPOND-ASYNC"),
            Some(Errand::Keep { wait_ms: 0 })
        );
        assert_eq!(errand(&format!("GET {at} HTTP/1.1")), look(0));
        assert_eq!(errand(&format!("GET {at} HTTP/1.1\r\nPrefer: wait=900")), look(WAIT_MAX_MS));
        let follows = format!("GET {at} HTTP/1.1\r\nAccept: text/event-stream");
        assert_eq!(errand(&follows), Some(Errand::Follow { id: id.into() }));
        assert_eq!(errand(&format!("GET {at}/result HTTP/1.1")), Some(Errand::Take { id: id.into() }));
        assert_eq!(errand(&format!("DELETE {at} HTTP/1.1")), Some(Errand::Cancel { id: id.into() }));
        assert_eq!(errand(&format!("PUT {at} HTTP/1.1")), Some(Errand::NotAllowed));
        assert_eq!(errand(&format!("DELETE {at}/result HTTP/1.1")), Some(Errand::NotAllowed));
        for other in ["x", "..", "0123456789ABCDEF0123456789abcdef", &format!("{id}/x")] {
            let line = format!("GET /.well-known/ferricorn/jobs/{other} HTTP/1.1");
            assert_eq!(errand(&line), Some(Errand::Absent), "{line}");
        }
        assert_eq!(errand("GET /.well-known/ferricorn/jobsx HTTP/1.1"), None);
    }
}
