//! Rules about other services, and about what other threads make: name servers, connections that come to nothing, TLS, calls
//! tried again, answers that do not come. Not for: databases (`db`) and pools (`pools`).

use super::known::{self, Call};
use super::rules::{Match, diagnose, is_sure};
use super::sight::{FRESH, Sight};
use super::{Because, Case, Cause};
use crate::evidence::{Evidence, Frame, Service, Thread};

/// The confidence in what only a stack tells, where the kernel may not be asked.
const HIDDEN: f64 = 0.85;
/// Bytes of OpenSSL's greeting: a record of 5 and a message padded to 512 (RFC 7685), and one that TCP counts for its own.
const GREETING: u64 = 518;
/// Most other threads that are looked into.
const FOLLOWED_MAX: usize = 16;

/// A name is looked up.
pub(super) fn dns(sight: &Sight<'_>) -> Option<Match> {
    let by_stack = sight.is_in(|call| call == Call::Dns);
    let server = sight.socket.filter(|socket| socket.service == Service::Dns);
    if (!by_stack && server.is_none()) || sight.is_busy() {
        return None;
    }
    let host = sight.local("host").map_or(String::new(), |host| format!(" {host}"));
    let peer = server.map_or(String::new(), |socket| format!(" ({})", socket.peer));
    let what = format!(
        "waits for a name server{peer} to tell the address of{}",
        if host.is_empty() { " a host".to_owned() } else { host }
    );
    let confidence = if by_stack && server.is_some() { 0.98 } else { 0.93 };
    let mut found = Match::new(Cause::ExternalDns, confidence, what);
    if by_stack {
        found = found.with("stack", 3, "its innermost call looks up a name (getaddrinfo)");
    }
    if let Some(socket) = server {
        found = found.with("kernel", 3, format!("it waits for {} by {}", socket.peer, socket.kind));
    }
    Some(found)
}

/// TLS is begun and does not go on.
pub(super) fn tls(sight: &Sight<'_>) -> Option<Match> {
    if sight.service().is_database() || sight.is_busy() {
        return None;
    }
    let by_stack = sight.is_in(|call| call == Call::Tls);
    // A greeting of TLS is some hundred bytes, and what follows is never silence.
    let tcp = sight.socket.filter(|socket| socket.state == "established").and_then(|socket| socket.tcp);
    let usual_port = sight.socket.is_some_and(|socket| socket.peer.ends_with(":443"));
    let greets = |sent| sent == GREETING || usual_port && (200..2000).contains(&sent);
    let by_kernel = tcp.is_some_and(|tcp| tcp.received == 0 && greets(tcp.sent));
    if !by_stack && !by_kernel {
        return None;
    }
    let peer = sight.socket.map_or("a service".to_owned(), |socket| socket.peer.clone());
    let what = format!("waits for {peer} to answer the beginning of TLS");
    let found = Match::new(Cause::ExternalTlsStall, if by_stack { 0.96 } else { 0.7 }, what);
    Some(match by_stack {
        true => found.with("stack", 3, "its innermost call is TLS's handshake"),
        false => found.with("kernel", 2, "the greeting was sent, and nothing has ever come back"),
    })
}

/// A connection is not even made.
pub(super) fn blackhole(sight: &Sight<'_>) -> Option<Match> {
    let socket = sight.socket.filter(|socket| socket.state == "syn-sent");
    // Without the kernel's word the stack tells: nothing else is waited for there.
    let creates = sight.called().first().is_some_and(|frame| frame.function.ends_with("create_connection"));
    let hidden = sight.is_hidden() && creates;
    let connects = sight.syscall() == "connect" || hidden;
    let unmade = sight
        .thread
        .and_then(|thread| thread.peer.as_ref())
        .filter(|peer| peer.contains("not connected yet"));
    if socket.is_none() && !connects && (unmade.is_none() || sight.is_task()) {
        return None;
    }
    let peer = socket
        .map(|socket| socket.peer.clone())
        .or_else(|| unmade.cloned())
        .or_else(|| sight.local("address").or(sight.local("url")).map(str::to_owned))
        .unwrap_or_else(|| "an address".to_owned());
    let peer = peer.trim_end_matches(", not connected yet").to_owned();
    let retries = socket.and_then(|socket| socket.tcp).map_or(String::new(), |tcp| match tcp.retries {
        0 => String::new(),
        count => format!("; the kernel has asked again {count} times"),
    });
    let what = format!("waits for a connection to {peer}, where nobody answers");
    if hidden {
        let text = "its innermost call makes a connection";
        return Some(Match::new(Cause::ExternalConnectBlackhole, HIDDEN, what).with("stack", 3, text));
    }
    Some(Match::new(Cause::ExternalConnectBlackhole, 0.97, what).with(
        "kernel",
        3,
        format!("the connection to {peer} is not made (SYN sent, no answer){retries}"),
    ))
}

/// What failed is tried again.
pub(super) fn retry(sight: &Sight<'_>) -> Option<Match> {
    let is_retry = |frame: &Frame| known::call(frame) == Some(Call::Retry);
    let thread_of = |look: &'_ Evidence| -> Option<(bool, bool)> {
        let thread =
            look.threads.iter().find(|thread| sight.thread.is_some_and(|own| own.tid == thread.tid))?;
        let called = known::called(&thread.frames);
        Some((called.iter().any(is_retry), thread.doing.starts_with("sleeping")))
    };
    let (retries, pauses) = if sight.is_task() {
        let sleeps = sight.is_in(|call| matches!(call, Call::Sleep | Call::Retry));
        (sight.frames.iter().any(is_retry), sleeps)
    } else {
        let seen: Vec<(bool, bool)> = sight.case.looks.iter().filter_map(thread_of).collect();
        // An application's own decorator may stand outside of its code.
        let around = sight.frames.iter().any(is_retry);
        (
            around || seen.iter().any(|(retries, _)| *retries),
            seen.iter().any(|(retries, pauses)| (*retries || around) && *pauses),
        )
    };
    // urllib3 calls itself for each attempt.
    let attempts = sight
        .called()
        .iter()
        .filter(|frame| {
            frame.file.ends_with("urllib3/connectionpool.py") && frame.function.ends_with("urlopen")
        })
        .count();
    if !(retries && pauses) && attempts < 2 {
        return None;
    }
    let peer = sight.local("url").or(sight.local("host")).map_or(String::new(), |url| format!(" to {url}"));
    let what = format!("calls a service{peer} again and again, since that fails, and pauses in between");
    let text = match attempts {
        0 | 1 => {
            "its calls lead through a library's loop of attempts, which sleeps between two of them".to_owned()
        }
        many => format!("it is in attempt {many} of the same call"),
    };
    Some(Match::new(Cause::ExternalRetryLoop, 0.92, what).with("stack", 3, text))
}

/// An answer does not come.
pub(super) fn silent(sight: &Sight<'_>) -> Option<Match> {
    let speaks = sight.is_in(|call| matches!(call, Call::Http | Call::Driver(_)));
    let receives = matches!(
        sight.syscall(),
        "recvfrom"
            | "recvmsg"
            | "read"
            | "poll"
            | "ppoll"
            | "select"
            | "pselect6"
            | "epoll_wait"
            | "epoll_pwait"
    );
    let hidden = sight.is_hidden() && matches!(sight.nearest(), Some(Call::Http | Call::Driver(_)));
    let waits = hidden || (sight.socket.is_some() || speaks) && (sight.is_task() || receives);
    if !waits || sight.service().is_database() || sight.is_busy() {
        return None;
    }
    if sight.socket.is_some_and(|socket| socket.state == "syn-sent" || socket.service == Service::Dns) {
        return None;
    }
    let peer = sight.socket.map(|socket| socket.peer.clone());
    let whom = match (sight.service(), &peer) {
        (Service::Other, Some(peer)) => peer.clone(),
        (Service::Other, None) => sight.local("url").unwrap_or("a service").to_owned(),
        (service, Some(peer)) => format!("{} ({peer})", service.name()),
        (service, None) => service.name().to_owned(),
    };
    let request = &sight.case.request;
    let waited_s = sight.asked_ago_s().unwrap_or(request.app_s);
    // Most of its time has gone elsewhere.
    let fresh = waited_s < request.app_s * FRESH;
    let silence = sight.socket.and_then(|socket| socket.tcp).map(|tcp| {
        format!(
            "{} bytes were sent to {whom}, the last {:.1} s ago; nothing has come since",
            tcp.sent, tcp.sent_ago_s
        )
    });
    let mut found = match patience(sight) {
        Patience::Endless(why) => {
            let what = format!("waits for an answer of {whom}, without a timeout");
            Match::new(Cause::ExternalNoTimeout, 0.96, what).with("kernel", 3, why)
        }
        Patience::For(limit_s, why) => {
            let before_s = (request.app_s - waited_s).max(0.0);
            let outlasts = request.deadline_s.is_none_or(|deadline_s| before_s + limit_s >= deadline_s);
            let what = format!("waits for an answer of {whom}, with a timeout of {limit_s:.1} s");
            let confidence = if outlasts && !fresh { 0.95 } else { 0.6 };
            Match::new(Cause::ExternalTimeoutTooLong, confidence, what).with("kernel", 3, why)
        }
        Patience::Some(why) => {
            let what = format!(
                "waits for an answer of {whom}, with a timeout that is not over after {waited_s:.1} s"
            );
            let confidence = if fresh { 0.6 } else { 0.82 };
            Match::new(Cause::ExternalTimeoutTooLong, confidence, what).with("kernel", 3, why)
        }
        Patience::Unknown => {
            let what = format!("waits for an answer of {whom}; whether it has a timeout could not be seen");
            Match::new(Cause::ExternalNoTimeout, 0.62, what)
        }
    };
    if let Some(silence) = silence {
        found = found.with("kernel", 2, silence);
    }
    if hidden {
        found.confidence = found.confidence.min(HIDDEN);
    }
    Some(found)
}

/// How long a call is ready to wait.
enum Patience {
    /// For ever, and how that is known.
    Endless(String),
    /// So many seconds, and how that is known.
    For(f64, String),
    /// Not for ever, and how that is known.
    Some(String),
    /// That could not be seen.
    Unknown,
}

fn patience(sight: &Sight<'_>) -> Patience {
    let thread = sight.thread.filter(|_| !sight.is_task());
    let call = sight.syscall();
    if matches!(call, "recvfrom" | "recvmsg" | "read")
        && sight.socket.and_then(|socket| socket.non_blocking) != Some(true)
    {
        // CPython waits in poll where a socket has a timeout.
        return Patience::Endless(format!(
            "its thread is in {call} on a socket that blocks: no timeout is set"
        ));
    }
    let waits = matches!(call, "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait");
    if waits && let Some(limit_ms) = thread.and_then(|thread| thread.patience_ms) {
        return match limit_ms {
            ..0 => Patience::Endless(format!("its thread is in {call} without a limit")),
            // Libraries that wake up all the time keep their own clock.
            0..1000 if configured(sight).is_some() => told(sight),
            _ => Patience::For(
                limit_ms as f64 / 1e3,
                format!("its thread is in {call} with a limit of {:.1} s", limit_ms as f64 / 1e3),
            ),
        };
    }
    let blocks = sight.socket.and_then(|socket| socket.non_blocking);
    if waits && sight.is_unpointed() && sight.frames.is_empty() && blocks == Some(true) {
        return Patience::Some(format!(
            "its thread is in {call} on a socket that does not block: so Python waits where a timeout is set"
        ));
    }
    told(sight)
}

/// What the calls' own variables say.
fn told(sight: &Sight<'_>) -> Patience {
    match configured(sight) {
        Some(None) => Patience::Endless("the call was made with timeout=None".to_owned()),
        Some(Some(limit_s)) => {
            Patience::For(limit_s, format!("the call was made with a timeout of {limit_s} s"))
        }
        None => Patience::Unknown,
    }
}

/// The timeout in a call's variables: `None` if there is none to be seen, `Some(None)` if it says that there is no limit.
fn configured(sight: &Sight<'_>) -> Option<Option<f64>> {
    sight.called().iter().find_map(|frame| frame.locals.get("timeout").and_then(|text| seconds(text)))
}

/// Reads a timeout as Python writes it: `None`, `5`, `2.5`, `(3.05, 27)` of which the second is that for reading.
fn seconds(text: &str) -> Option<Option<f64>> {
    let text = text.trim().trim_start_matches('(').trim_end_matches(')');
    let last = text.rsplit(',').map(str::trim).find(|part| !part.is_empty())?;
    if last == "None" {
        return Some(None);
    }
    last.parse::<f64>().ok().filter(|limit| limit.is_finite() && *limit >= 0.0).map(Some)
}

/// It waits for what another thread makes: that thread's trouble is its own.
pub(super) fn result(sight: &Sight<'_>) -> Option<Match> {
    if !sight.is_in(|call| call == Call::Result) || sight.is_busy() {
        return None;
    }
    let own = sight.thread.map(|thread| thread.tid);
    let wanted = sight.local("func");
    let makes = |thread: &&Thread| {
        let innermost = thread.frames.first().map(known::call);
        let waits_itself = innermost == Some(Some(Call::Loop));
        // One that stands in a queue for work is at none.
        Some(thread.tid) != own && known::has_application(&thread.frames) && !waits_itself
    };
    let named = |thread: &&Thread| {
        wanted.is_none_or(|name| {
            thread.frames.iter().any(|frame| frame.is_application() && frame.function.ends_with(name))
        })
    };
    let others: Vec<&Thread> = sight.last.threads.iter().filter(makes).take(FOLLOWED_MAX).collect();
    let best = others.iter().filter(|thread| named(thread)).map(|thread| follow(sight, thread));
    let best = best.max_by(|one, other| one.confidence.total_cmp(&other.confidence));
    match best {
        Some(other) if other.cause != Cause::Unknown => {
            let what = format!("waits for another thread of its process, which {}", other.summary);
            let text = format!("the thread that it waits for: {}", other.summary);
            let confidence =
                if is_sure(other.confidence) { other.confidence - 0.04 } else { other.confidence * 0.9 };
            let mut found = Match::new(other.cause, confidence, what).with("stack", 2, text);
            found.findings.extend(other.findings);
            found.query = other.query;
            Some(found)
        }
        Some(_) => None,
        None if others.is_empty() && !sight.is_task() => {
            let text =
                "no other thread of its process runs the application's code: nobody is there to make it";
            let what = "waits for a result that nobody makes";
            Some(Match::new(Cause::Deadlock, 0.8, what).with("stack", 2, text))
        }
        None => None,
    }
}

/// Another thread's diagnosis, in the words that matter here.
pub(super) struct Other {
    pub(super) cause: Cause,
    pub(super) confidence: f64,
    pub(super) summary: String,
    pub(super) findings: Vec<super::Finding>,
    query: Option<String>,
}

/// Finds out what another thread of the process is at.
pub(super) fn follow(sight: &Sight<'_>, thread: &Thread) -> Other {
    let case = Case {
        request: crate::record::Request {
            tid: thread.tid,
            id: String::new(),
            route: None,
            ..sight.case.request.clone()
        },
        nested: false,
        told: None,
        client_fd: None,
        history: None,
        ..sight.case.clone()
    };
    let diagnosis = diagnose(&case);
    Other {
        cause: diagnosis.cause,
        confidence: diagnosis.confidence,
        summary: without_subject(&diagnosis.summary),
        findings: diagnosis.evidence,
        query: diagnosis.subject.query,
    }
}

/// The summary of a sub-case begins with who it is about.
fn without_subject(summary: &str) -> String {
    summary.split_once(": it ").map_or(summary, |(_, rest)| rest).trim_end_matches('.').to_owned()
}

/// What others of the process do who hold something: their most certain trouble.
pub(super) fn holder(sight: &Sight<'_>, threads: &[&Thread]) -> Option<Because> {
    let others = threads.iter().take(FOLLOWED_MAX).map(|thread| follow(sight, thread));
    let best = others
        .filter(|other| other.cause != Cause::Unknown)
        .max_by(|one, other| one.confidence.total_cmp(&other.confidence))?;
    Some(Because { cause: best.cause, text: format!("one of them {}", best.summary) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_python_writes_them() {
        let table = [
            ("None", Some(None)),
            ("5", Some(Some(5.0))),
            ("2.5", Some(Some(2.5))),
            ("(3.05, 27)", Some(Some(27.0))),
            ("(3.05, None)", Some(None)),
            ("<Timeout at 0x7f>", None),
            ("nan", None),
            ("-1", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
