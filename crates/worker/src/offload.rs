//! Requests that are answered at once and worked on later, on the worker's side: which they are, the conversation with the
//! dispatcher, and what clients are told (RFC 7240, RFC 9110 section 15.3.3). One thread of its own has all these connections; the
//! loop gives them to it and gets them back answered. Costs a worker without such routes nothing.
//!
//! Not for: keeping or running jobs (the crate `offload`).

mod answers;
mod office;

pub(crate) use office::Office;

use crate::http::head::Head;
use answers::Prefer;
use ferricorn_core::offload::{Nowhere, Place, Places};
use ferricorn_core::pattern::Route;
use ferricorn_sys::clock;

/// Longest time that a client can have itself told later, milliseconds.
const WAIT_MAX_MS: u64 = 60_000;

/// Which requests become jobs, and where clients ask for them.
#[derive(Debug, Default)]
pub struct Offload {
    /// Requests that always do.
    pub routes: Vec<Route>,
    /// Those that do when the client says `Prefer: respond-async`.
    pub prefer: Vec<Route>,
    /// Where jobs are found.
    pub places: Places,
    /// Hosts at which clients may have themselves told that a job is over; `*` stands for any text.
    pub webhook_hosts: Vec<String>,
    /// Origins whose scripts may read answers about jobs; `*` for all.
    pub cors_origins: Vec<String>,
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
    /// Its URL is not good any more.
    Late,
    /// It asks in a way that makes no sense here.
    NotAllowed,
    /// A browser asks whether a script may ask (CORS).
    Preflight,
}

impl Offload {
    /// Returns what is to be done about a request; none if it is the application's.
    pub(crate) fn errand(&self, head: &Head) -> Option<Errand> {
        let (method, path) = (head.method(), head.get(&head.path));
        let is_preflight = method == b"OPTIONS" && head.field(b"access-control-request-method").is_some();
        if let Some(rest) = self.below(path) {
            let allows = is_preflight && !self.cors_origins.is_empty();
            return Some(if allows { Errand::Preflight } else { self.asked(method, rest, head) });
        }
        // Another protocol is spoken at once or not at all, and a browser waits for the answer to its question.
        if head.field(b"upgrade").is_some() || is_preflight {
            return None;
        }
        let fits = |routes: &[Route]| routes.iter().any(|route| route.fits(method, path));
        let prefer = || Prefer::of(head);
        if fits(&self.routes) {
            let prefer = prefer();
            return Some(Errand::Keep { wait_ms: if prefer.is_async { prefer.wait_ms } else { 0 } });
        }
        let prefer = fits(&self.prefer).then(prefer).filter(|prefer| prefer.is_async)?;
        Some(Errand::Keep { wait_ms: prefer.wait_ms })
    }

    /// Returns what of a path is behind the prefix and its slash, if it is below that.
    fn below<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        path.strip_prefix(self.places.prefix.as_bytes())?.strip_prefix(b"/")
    }

    /// Reads what is asked below the prefix: `ID` or `ID/result`.
    fn asked(&self, method: &[u8], rest: &[u8], head: &Head) -> Errand {
        match (self.places.find(rest, head.get(&head.query), now_s()), method) {
            (Err(Nowhere::Unknown), _) => Errand::Absent,
            (Err(Nowhere::Late), _) => Errand::Late,
            (Ok((Place::Result(id), _)), b"GET" | b"HEAD") => Errand::Take { id },
            (Ok((Place::Status(id), _)), b"GET") if wants_events(head) => Errand::Follow { id },
            (Ok((Place::Status(id), _)), b"GET" | b"HEAD") => {
                Errand::Look { id, wait_ms: Prefer::of(head).wait_ms }
            }
            (Ok((Place::Status(id), _)), b"DELETE") => Errand::Cancel { id },
            _ => Errand::NotAllowed,
        }
    }

    /// Returns until when the URLs are good that are told in answer to a request: whoever has come by one gets no longer ones.
    fn until(&self, head: &Head) -> u64 {
        // Whether it was still good has been looked at when it came.
        let rest = self.below(head.get(&head.path));
        let found = rest.and_then(|rest| self.places.find(rest, head.get(&head.query), 0).ok());
        found.map_or_else(|| self.places.until(now_s()), |(_, until)| until)
    }
}

fn now_s() -> u64 {
    clock::wall_ns() / 1_000_000_000
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
            places: Places { prefix: "/.well-known/ferricorn/jobs".into(), ..Places::default() },
            cors_origins: vec!["https://app.example".into()],
            ..Offload::default()
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
        let preflight = "Access-Control-Request-Method: DELETE";
        assert_eq!(errand(&format!("OPTIONS {at} HTTP/1.1\r\n{preflight}")), Some(Errand::Preflight));
        assert_eq!(errand(&format!("OPTIONS {at} HTTP/1.1")), Some(Errand::NotAllowed));
        assert_eq!(
            errand(&format!("OPTIONS /slow/1 HTTP/1.1\r\nPrefer: respond-async\r\n{preflight}")),
            None
        );
        let secret = Some("a secret of the service".to_owned());
        let signed = Offload {
            places: Places { secret, lifetime_s: 60, ..offload.places.clone() },
            ..Offload::default()
        };
        let good = signed.places.status(id, signed.places.until(now_s()));
        let late = signed.places.status(id, now_s() - 1);
        for (url, expected) in [(&good, look(0)), (&late, Some(Errand::Late)), (&at, Some(Errand::Absent))] {
            assert_eq!(signed.errand(&head(&format!("GET {url} HTTP/1.1"))), expected, "{url}");
        }
        for url in [&good, &late] {
            // An answer that took its time leads nowhere for longer.
            let until: u64 = url.split(['=', '&']).nth(1).and_then(|text| text.parse().ok()).expect("a time");
            assert_eq!(signed.until(&head(&format!("GET {url} HTTP/1.1"))), until);
        }
        assert!(signed.until(&head("POST /api/reports/1 HTTP/1.1")) >= now_s() + 59);
    }
}
