//! A diagnosis in words: what was seen, what that rules out, what could not be seen and how it could be. Not for: what to do
//! (`fixes`), and not for whole reports (`incident::report`).

use super::known::{self, Call};
use super::rules::grade;
use super::sight::Sight;
use super::{Case, Cause, Finding, Gap};
use crate::evidence::Source;

/// Says that nothing was seen of a request.
pub(super) fn unseen(case: &Case<'_>) -> String {
    format!("{}: nothing was seen of it", named(case))
}

/// Says what a request does that fits no rule.
pub(super) fn nothing(sight: &Sight<'_>) -> String {
    match sight.thread.map(|thread| thread.doing.as_str()) {
        Some(doing) if !sight.is_task() && !doing.is_empty() => {
            format!("is {doing}, for a reason that is not known")
        }
        _ => "waits for something that could not be seen".to_owned(),
    }
}

/// One sentence about the request.
pub(super) fn summary(sight: &Sight<'_>, what: &str) -> String {
    let behind = if sight.is_behind { ", behind a call that holds the event loop" } else { "" };
    format!("{}: it {what}{behind}.", named(sight.case))
}

fn named(case: &Case<'_>) -> String {
    let request = &case.request;
    let route = request.route.as_deref().unwrap_or(&request.path);
    let name = format!("{} {route}", request.method);
    let name = if name.trim().is_empty() { "A request that could not be read" } else { name.trim() };
    format!("{name}, {:.1} s in the application", request.app_s)
}

/// What kernel and stack say, whatever it means.
pub(super) fn seen(sight: &Sight<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |source: &str, weight, text: String| {
        findings.push(Finding { source: source.to_owned(), text, weight });
    };
    if let Some(thread) = sight.thread.filter(|_| !sight.is_task()) {
        let turns = if sight.takes_turns() { ", in turns with other threads that compute" } else { "" };
        let cpu = sight
            .cpu
            .map_or(String::new(), |share| format!(", {:.0} % of a processor{turns}", share * 100.0));
        add("kernel", 2, format!("thread {} is {}{cpu}", thread.tid, thread.doing));
    }
    if let Some(socket) = sight.socket {
        let owner = socket.owner.as_ref().map_or(String::new(), |owner| format!(" of `{owner}`"));
        let tcp = socket.tcp.map_or(String::new(), |tcp| {
            format!(
                ": {} sent, {} received, silent for {:.1} s",
                bytes(tcp.sent),
                bytes(tcp.received),
                tcp.received_ago_s.min(sight.case.request.app_s.max(tcp.sent_ago_s))
            )
        });
        let state = if socket.state.is_empty() { &socket.kind } else { &socket.state };
        add("kernel", 2, format!("descriptor {} leads to {}{owner} ({state}){tcp}", socket.fd, socket.peer));
    }
    let looks = sight.case.looks.len();
    if let Some(frame) = sight.frames.iter().find(|frame| frame.is_application()).or(sight.frames.first()) {
        let still = if sight.still > 1 {
            format!(", the same in {} of {looks} looks", sight.still)
        } else {
            String::new()
        };
        let inner = sight.called().first().map_or(String::new(), |inner| format!(", inside {inner}"));
        add("stack", 2, format!("it is at {frame}{inner}{still} ({})", grade(sight.source)));
    }
    findings
}

/// The statement that it is at, as the database or the driver's own variables tell it.
pub(super) fn query(sight: &Sight<'_>) -> Option<String> {
    let of_database = sight.session().map(|(_, session)| session.query.clone());
    let names = ["query", "statement", "sql", "operation"];
    let of_stack =
        || names.iter().find_map(|name| sight.local(name)).map(|text| text.trim_matches('\'').to_owned());
    of_database.or_else(of_stack).filter(|query| !query.is_empty())
}

/// What was looked for and is not so.
pub(super) fn ruled_out(sight: &Sight<'_>, cause: Cause) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rule = |family: &str, holds: bool, text: String| {
        if cause.family() != family && cause.code() != family && holds {
            lines.push(text);
        }
    };
    if let Some(share) = sight.cpu.filter(|_| !sight.is_task()) {
        rule(
            "cpu",
            share < 0.1 && cause != Cause::InfiniteLoop,
            format!("computing: its thread used {:.0} % of a processor", share * 100.0),
        );
        rule("external", share > 0.6, "waiting for another service: its thread computes".to_owned());
    }
    let blocked = sight.session().is_some_and(|(_, session)| session.wait.starts_with("Lock"));
    rule(
        "db.lock",
        sight.session().is_some() && !blocked && cause.family() == "db",
        "a lock in the database: nobody blocks it".to_owned(),
    );
    let others = sight.last.sockets.iter().filter(|socket| !socket.service.is_database()).count();
    rule(
        "external",
        others == 0 && !sight.last.sockets.is_empty() && cause.family() != "external",
        "another service: the process has connections to databases alone".to_owned(),
    );
    rule(
        "pool",
        !sight.frames.is_empty() && sight.find(|call| call == Call::Pool).is_none(),
        "an empty pool: it has its connection, or needs none".to_owned(),
    );
    let pressure = &sight.last.pressure;
    let calm =
        pressure.cpu.is_some_and(|share| share < 20.0) && pressure.memory.is_none_or(|share| share < 5.0);
    rule(
        "host",
        calm,
        format!(
            "a host that is short of something: processor {:.0} %, memory {:.0} %, disk {:.0} % of the time",
            pressure.cpu.unwrap_or(0.0),
            pressure.memory.unwrap_or(0.0),
            pressure.io.unwrap_or(0.0)
        ),
    );
    if let Some(history) =
        sight.case.history.filter(|history| history.count >= 20 && cause != Cause::TimeoutTooLow)
    {
        let deadline_s = sight.case.request.deadline_s.unwrap_or(f64::MAX);
        rule(
            "config",
            history.p99_s < deadline_s / 2.0,
            format!(
                "a deadline that is too short: 99 % of {} requests of this route ended within {:.2} s",
                history.count, history.p99_s
            ),
        );
    }
    lines
}

/// What could not be seen, and how it could be.
pub(super) fn gaps(case: &Case<'_>, sight: Option<&Sight<'_>>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut add = |what: &str, how: &str| gaps.push(Gap { what: what.to_owned(), how: how.to_owned() });
    let Some(sight) = sight else {
        add(
            "the process",
            "the observer looks at 50 % of a request's time: it may have been too busy, or have been started later",
        );
        return gaps;
    };
    let refused = case.looks.iter().any(|look| look.degraded.is_some());
    if refused {
        add(
            "stacks from outside",
            "give the observer CAP_SYS_PTRACE (docker run --cap-add SYS_PTRACE), or run workers as its own user",
        );
    }
    if sight.frames.is_empty() && !refused && sight.source == Source::Kernel {
        add(
            "where the request is in Python",
            "a task that waits is known to its interpreter alone; CPython 3.14 shows it from outside",
        );
    }
    if case.nested && sight.is_task() && sight.source != Source::Task {
        add(
            "what its task waits for",
            "the interpreter tells it at 80 % of the time; a stock server never does",
        );
    }
    if sight.in_executor.is_some_and(|executor| executor.of > 1) {
        add(
            "which thread of its executor works for it: where most of them are was taken",
            "the interpreter tells it at 80 % of the time; a stock server never does",
        );
    }
    if sight.is_guessed && refused {
        add(
            "which thread works for it: one that is not idle was taken",
            "the stacks tell, and only who may trace the process can read them",
        );
    }
    if sight.service().is_database() && sight.last.databases.is_empty() {
        add(
            "what the database does",
            "let the observer ask it: --reflex-database URL, with a role that has pg_read_all_stats",
        );
    }
    for gap in sight.last.databases.iter().flat_map(|database| &database.gaps) {
        gaps.push(Gap { what: gap.clone(), how: String::new() });
    }
    let driver = sight.called().iter().any(|frame| known::call(frame) == Some(Call::Http));
    if driver && sight.socket.is_none() {
        gaps.push(Gap {
            what: "the connection that it waits for".to_owned(),
            how: "the kernel tells sockets of processes that the observer may look into".to_owned(),
        });
    }
    gaps
}

/// A statement, or what stands for none.
pub(super) fn or_nothing(query: &str) -> &str {
    if query.is_empty() { "(its text could not be seen)" } else { query }
}

/// Bytes for people.
pub(super) fn bytes(number: u64) -> String {
    match number {
        0..1000 => format!("{number} B"),
        1000..1_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number as f64 / 1e6),
        _ => format!("{:.1} GB", number as f64 / 1e9),
    }
}
