//! Rules about pools of connections. A pool without a free connection is a symptom: whoever holds them is the cause, so both are
//! told. Not for: threads as a resource (`rules::also`).

use super::known::{self, Call};
use super::rules::Match;
use super::sight::Sight;
use super::{Because, Cause, external, words};
use crate::evidence::{Frame, Session, Socket, Thread};

/// PgBouncer lets the connection wait.
pub(super) fn pgbouncer(sight: &Sight<'_>) -> Option<Match> {
    let (pooler, wait_s) = sight.pooled()?;
    let what = format!(
        "waits for PgBouncer to find a server connection: {} of {} are in use, {} clients wait",
        pooler.active, pooler.size, pooler.waiting
    );
    let mut found = Match::new(Cause::PoolPgbouncer, 0.97, what).with(
        "pooler",
        3,
        format!("PgBouncer shows its connection as waiting for {wait_s:.1} s"),
    );
    if pooler.wait_timeout_s == 0.0
        || sight.case.request.deadline_s.is_some_and(|deadline_s| pooler.wait_timeout_s > deadline_s)
    {
        let text = format!(
            "query_wait_timeout is {:.0} s: longer than the request's deadline",
            pooler.wait_timeout_s
        );
        found = found.with("pooler", 1, text);
    }
    Some(found)
}

/// The application's own pool is empty.
pub(super) fn exhausted(sight: &Sight<'_>) -> Option<Match> {
    let frame = waiting_for_pool(sight.frames)?;
    if sight.is_busy() {
        return None;
    }
    let waits = |thread: &&Thread| waiting_for_pool(&thread.frames).is_some();
    let at_work = |thread: &&Thread| {
        sight.thread.is_none_or(|own| own.tid != thread.tid)
            && known::has_application(&thread.frames)
            && !waits(thread)
            && thread.frames.first().map(known::call) != Some(Some(Call::Loop))
    };
    let holders: Vec<&Thread> = sight.last.threads.iter().filter(at_work).collect();
    let waiters = sight.last.threads.iter().filter(waits).count();
    let text = format!("its innermost call waits for a connection of a pool ({frame})");
    let base =
        |cause, confidence, what: String| Match::new(cause, confidence, what).with("stack", 3, text.clone());
    let sessions: Vec<&Session> = sight
        .last
        .databases
        .iter()
        .flat_map(|database| &database.sessions)
        .filter(|session| session.fd.is_some())
        .collect();
    let active: Vec<&&Session> = sessions.iter().filter(|session| session.state == "active").collect();
    let sockets: Vec<&Socket> = sight.database_sockets().collect();
    let asking = sockets
        .iter()
        .filter(|socket| socket.tcp.is_some_and(|tcp| tcp.received_ago_s > tcp.sent_ago_s + 0.02))
        .count();
    let most_work = !active.is_empty() && active.len() * 2 >= sessions.len();
    let others_wait = if waiters > 1 { format!("; {waiters} threads wait for one") } else { String::new() };
    if most_work {
        let session = active[0];
        let (cause, verb) = if session.wait.starts_with("Lock") {
            (Cause::DbLock, "wait for a lock")
        } else {
            (Cause::DbSlowQuery, "are at statements")
        };
        let held = format!(
            "{} of the worker's {} connections {verb}, the longest for {:.1} s: {}",
            active.len(),
            sessions.len(),
            active.iter().map(|session| session.statement_s).fold(0.0, f64::max),
            words::or_nothing(&session.query)
        );
        let what = format!("waits for a free connection of a pool, because {held}");
        let found = base(Cause::PoolExhausted, 0.96, what).with("database", 3, held.clone());
        return Some(Match { because: Some(Because { cause, text: held }), ..found });
    }
    let idle = sessions.iter().filter(|session| session.state.starts_with("idle")).count();
    if !sessions.is_empty() && holders.is_empty() && asking == 0 && idle == sessions.len() {
        let oldest = sessions.iter().max_by(|one, other| one.transaction_s.total_cmp(&other.transaction_s));
        let held = oldest.map_or(String::new(), |session| {
            format!(
                "; the oldest is {} for {:.1} s after: {}",
                session.state,
                session.transaction_s,
                words::or_nothing(&session.query)
            )
        });
        let what = format!(
            "waits for a free connection of a pool whose {idle} connections nobody uses and nobody gives back{held}"
        );
        return Some(base(Cause::PoolLeak, 0.95, what).with(
            "database",
            3,
            format!(
                "all {idle} connections of the worker are idle, and no request of it is at the database{held}"
            ),
        ));
    }
    if !holders.is_empty() || asking > 0 {
        let because = external::holder(sight, &holders).or_else(|| {
            (asking > 0).then(|| Because {
                cause: Cause::DbQueryOrLock,
                text: format!("{asking} of its {} connections wait for the database's answer", sockets.len()),
            })
        });
        let held = because
            .as_ref()
            .map_or(String::new(), |because| format!(", because connections are held: {}", because.text));
        let what = format!("waits for a free connection of a pool{held}{others_wait}");
        return Some(Match { because, ..base(Cause::PoolExhausted, 0.9, what) });
    }
    if sockets.is_empty() {
        let what =
            format!("waits for a free connection of a pool{others_wait}; who holds them could not be seen");
        return Some(base(Cause::PoolExhausted, 0.8, what));
    }
    let what = format!(
        "waits for a free connection of a pool, while the {} connections to the database are silent: they were not given back{others_wait}",
        sockets.len()
    );
    let found = base(Cause::PoolLeak, 0.82, what);
    Some(found.with(
        "kernel",
        2,
        format!("none of the worker's {} database connections waits for an answer", sockets.len()),
    ))
}

/// Returns the call that waits for a pool, if that is what a stack does: everything inside it is machinery of waiting.
fn waiting_for_pool(frames: &[Frame]) -> Option<&Frame> {
    let called = known::called(frames);
    let at = called.iter().position(|frame| known::call(frame) == Some(Call::Pool))?;
    let inner = &called[..at];
    let waits =
        |frame: &Frame| matches!(known::call(frame), Some(Call::Machinery | Call::Result | Call::Pool));
    // Making a new connection also leads through the pool, but not into a wait for others.
    (!inner.is_empty() && inner.iter().all(waits)).then(|| &called[at])
}
