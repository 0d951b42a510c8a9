//! Rules about databases: what the session at the other end is at, and what may be said where nobody has asked it. Not for:
//! pools of connections (`pools`).

use super::known::Call;
use super::rules::{LARGE, Match};
use super::sight::{FRESH, Sight};
use super::words;
use super::{Because, Cause};
use crate::evidence::{Frame, Service, Session};

/// Another session holds what the statement needs.
pub(super) fn lock_in_database(sight: &Sight<'_>) -> Option<Match> {
    let (database, session) = sight.session().filter(|(_, session)| session.wait.starts_with("Lock"))?;
    let root = session.blockers.last();
    let holder = root.map_or("a session that could not be seen".to_owned(), |blocker| {
        let whose = blocker.worker.map_or(String::new(), |pid| format!(", a connection of worker {pid}"));
        format!(
            "backend {} ({}, its transaction is {:.1} s old{whose}): {}",
            blocker.pid,
            blocker.state,
            blocker.transaction_s,
            words::or_nothing(&blocker.query)
        )
    });
    let mut found = Match::new(
        Cause::DbLock,
        0.99,
        format!("waits for a lock in {}: {}", database.service.name(), words::or_nothing(&session.query)),
    )
    .with(
        "database",
        3,
        format!("backend {} waits for {} since {:.1} s", session.pid, session.wait, session.statement_s),
    )
    .with("database", 3, format!("the lock is held by {holder}"));
    found.because = Some(Because { cause: Cause::DbLock, text: format!("the lock is held by {holder}") });
    // What requests have in common is who blocks them.
    found.query = root.map(|blocker| blocker.query.clone()).filter(|query| !query.is_empty());
    Some(found)
}

/// The result is large: it comes in all the time.
pub(super) fn result_in_database(sight: &Sight<'_>) -> Option<Match> {
    sight.socket.filter(|_| sight.service().is_database() && sight.came > LARGE)?;
    let tcp = sight.socket.and_then(|socket| socket.tcp).unwrap_or_default();
    let what =
        format!("reads a large result: {}", words::or_nothing(&words::query(sight).unwrap_or_default()));
    let text = format!(
        "{} came in between two looks, {} since the connection was made",
        words::bytes(sight.came),
        words::bytes(tcp.received)
    );
    Some(Match::new(Cause::DbBigResult, 0.95, what).with("kernel", 3, text))
}

/// Objects are made of rows.
pub(super) fn rows(sight: &Sight<'_>) -> Option<Match> {
    let frame = sight.find(|call| call == Call::Rows)?;
    // A fetch that waits for the database is the statement's time, not the rows'.
    if !sight.is_busy() || sight.socket.is_some() {
        return None;
    }
    let received = sight.database_sockets().filter_map(|socket| socket.tcp).map(|tcp| tcp.received).max();
    let mut found = Match::new(Cause::DbBigResult, 0.88, "makes objects of the rows of a large result").with(
        "stack",
        3,
        format!("the processor's time goes into {frame}"),
    );
    if let Some(received) = received {
        found = found.with(
            "kernel",
            2,
            format!("its largest database connection has brought {}", words::bytes(received)),
        );
    }
    Some(found)
}

/// The database works.
pub(super) fn statement(sight: &Sight<'_>) -> Option<Match> {
    let works = |session: &Session| session.state == "active" && !session.wait.starts_with("Lock");
    let (database, session) = sight.session().filter(|(_, session)| works(session))?;
    if session.wait == "Client/ClientWrite" {
        let what = format!(
            "does not read the result of its statement fast enough: {}",
            words::or_nothing(&session.query)
        );
        let text = format!("backend {} waits until its client has read", session.pid);
        return Some(Match::new(Cause::DbBigResult, 0.9, what).with("database", 3, text));
    }
    let wait =
        if session.wait.is_empty() { "computes".to_owned() } else { format!("waits for {}", session.wait) };
    let what =
        format!("waits for {} to answer: {}", database.service.name(), words::or_nothing(&session.query));
    let text = format!(
        "backend {} has been working on the statement for {:.1} s ({wait}) and is blocked by nobody",
        session.pid, session.statement_s
    );
    // Of many statements one is always at work.
    let fresh = session.statement_s < sight.case.request.app_s * FRESH;
    let confidence = if fresh { 0.6 } else { 0.97 };
    let mut found = Match::new(Cause::DbSlowQuery, confidence, what).with("database", 3, text);
    for line in session.plan.iter().take(3) {
        found = found.with("database", 2, format!("plan: {line}"));
    }
    for statement in database.statements.iter().filter(|statement| statement.query == session.query) {
        let text = format!(
            "the statement took {:.0} ms on average before, {:.0} ms now",
            statement.before_ms, statement.mean_ms
        );
        found = found.with("database", 3, text);
    }
    match &database.overall {
        Some(overall) if overall.is_slower() => {
            found = found.with("database", 3, format!("the database as a whole is slower: {overall}"));
        }
        Some(overall) => {
            let text = format!("the database as a whole is not slower: {overall}");
            found = found.with("database", 1, text);
        }
        None => {}
    }
    Some(found)
}

/// The database has forgotten the connection, or waits itself.
pub(super) fn dead_session(sight: &Sight<'_>) -> Option<Match> {
    // Something between the two is a better reading where there is a pooler.
    if sight.service() == Service::Pgbouncer {
        return None;
    }
    let fd = sight.socket?.fd;
    if let Some(database) = sight.last.databases.iter().find(|database| database.missing.contains(&fd)) {
        let what = format!("waits for a session that {} does not have any more", database.service.name());
        let text = format!("it knows no session at the other end of descriptor {fd}");
        return Some(Match::new(Cause::DbDead, 0.93, what).with("database", 3, text));
    }
    let (database, session) = sight.session().filter(|(_, session)| session.state.starts_with("idle"))?;
    // An answer that came between the two questions looks the same once, and not twice.
    let earlier =
        sight.case.looks.iter().flat_map(|look| &look.databases).flat_map(|database| &database.sessions);
    let was_idle = |other: &Session| {
        (other.pid, other.fd) == (session.pid, session.fd)
            && other.state.starts_with("idle")
            && other.statement_s < session.statement_s
    };
    if !earlier.into_iter().any(was_idle) {
        return None;
    }
    let what = format!("waits for {}, which waits for it", database.service.name());
    let text = format!("backend {} of this connection is {}", session.pid, session.state);
    Some(Match::new(Cause::DbDead, 0.85, what).with("database", 3, text))
}

/// It is a database; that is all that can be said.
pub(super) fn query_or_lock(sight: &Sight<'_>) -> Option<Match> {
    if sight.is_hidden() && sight.called().first().is_some_and(hands_over) {
        let what = "waits for a database to answer a statement";
        let text = "its innermost call hands a statement to a driver in C";
        return Some(Match::new(Cause::DbQueryOrLock, 0.8, what).with("stack", 3, text));
    }
    let service = Some(sight.service()).filter(|service| service.is_database())?;
    let waits = sight.socket.is_some() || sight.is_in(|call| matches!(call, Call::Driver(_)));
    if !waits || sight.is_busy() || sight.socket.is_some_and(|socket| socket.state == "syn-sent") {
        return None;
    }
    let peer = sight.socket.map_or(String::new(), |socket| format!(" ({})", socket.peer));
    let what = format!("waits for {}{peer} to answer a statement", service.name());
    let confidence = if sight.socket.is_some() { 0.88 } else { 0.75 };
    Some(Match::new(Cause::DbQueryOrLock, confidence, what))
}

/// Tells whether a call gives a statement to a driver that may be written in C: what is within it is not on the stack.
fn hands_over(frame: &Frame) -> bool {
    const CALLS: [(&str, &str); 4] = [
        ("/sqlalchemy/engine/default.py", "do_execute"),
        ("/sqlalchemy/engine/default.py", "do_executemany"),
        ("/django/db/backends/utils.py", "_execute"),
        ("/django/db/backends/utils.py", "_executemany"),
    ];
    let function = frame.function.rsplit('.').next().unwrap_or_default();
    CALLS.iter().any(|(file, name)| frame.file.ends_with(file) && function == *name)
}
