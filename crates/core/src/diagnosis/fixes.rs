//! What to do about each cause: to end it, so that it costs less the next time, and so that it does not come again. Concrete where
//! the evidence is: the line, the statement, the setting. Not for: doing any of it.

use super::sight::Sight;
use super::{Cause, Diagnosis, Fixes};

/// Returns what to do.
pub(super) fn of(sight: &Sight<'_>, diagnosis: &Diagnosis) -> Fixes {
    let place = diagnosis
        .subject
        .frames
        .first()
        .map_or("the call".to_owned(), |frame| format!("{}:{}", frame.file, frame.line));
    let peer = diagnosis.subject.peer.clone().unwrap_or_else(|| "the service".to_owned());
    let deadline_s = sight.case.request.deadline_s.unwrap_or(30.0);
    let route = sight.case.request.route.clone().unwrap_or_else(|| sight.case.request.path.clone());
    let half_s = (deadline_s / 3.0).max(1.0).round();
    let query = diagnosis.subject.query.clone().unwrap_or_default();
    // The worker's pid begins the request's name.
    let pid = sight.case.request.id.split('-').next().unwrap_or_default();
    let stock = sight.case.server.stock;
    let ours = |setting: &str| (!stock).then(|| setting.to_owned());
    let offload = format!("let {route} answer 202 at once and finish in the background");
    let (now, next, proper): (Vec<String>, Vec<String>, Vec<String>) = match diagnosis.cause {
        Cause::ExternalNoTimeout => (
            vec![format!("look why {peer} does not answer")],
            [format!("give the call at {place} a timeout below the deadline: timeout=(3, {half_s})")]
                .into_iter()
                .chain(ours("unblock = \"socket\" frees threads from such a wait at the deadline"))
                .collect(),
            vec![format!("decide what {route} answers when {peer} does not: a cached value, a 503, or a job in the background")],
        ),
        Cause::ExternalTimeoutTooLong => (
            vec![format!("look why {peer} does not answer")],
            vec![format!("lower the timeout at {place} to less than what is left of {deadline_s:.0} s, for example {half_s} s")],
            vec![format!("decide what {route} answers when {peer} does not")],
        ),
        Cause::ExternalConnectBlackhole => (
            vec![format!("check the address {peer}, its firewall, and whether the service runs there")],
            vec![format!("give the connection at {place} a timeout of its own of a few seconds: timeout=(3, {half_s})")],
            vec!["do not call what is known to be down: a circuit breaker".to_owned()],
        ),
        Cause::ExternalDns => (
            vec!["check the name servers of /etc/resolv.conf from this host".to_owned()],
            vec!["set `options timeout:1 attempts:2` in resolv.conf".to_owned(), "run a caching resolver on the host".to_owned()],
            vec!["keep connections instead of looking up a name for each".to_owned()],
        ),
        Cause::ExternalTlsStall => (
            vec![format!("check TLS at {peer}: openssl s_client -connect {peer}")],
            vec![format!("give the call at {place} a timeout; it also limits the handshake")],
            vec!["keep connections, so that there are fewer handshakes".to_owned()],
        ),
        Cause::ExternalRetryLoop => (
            vec![format!("look why {peer} fails")],
            vec![format!("limit attempts and pauses at {place} by the request's deadline: ferricorn.deadline() tells what is left")],
            vec!["retry in the background, not while a client waits".to_owned()],
        ),
        Cause::DbSlowQuery => (
            vec![format!("EXPLAIN (ANALYZE, BUFFERS) of the statement: {query}")],
            vec![
                format!("statement_timeout = {:.0}s for the application's role: its work ends with the request", (deadline_s * 0.8).max(1.0)),
                "an index for the columns that it filters by, if the plan shows a sequential scan".to_owned(),
            ],
            vec![format!("if it has to take long, {offload}")],
        ),
        Cause::DbBigResult => (
            vec![format!("limit what {place} fetches: LIMIT, pages, only the columns that are needed")],
            vec!["read in pieces (server-side cursor, iterator()) and stream the response".to_owned()],
            vec![format!("exports belong into the background: {offload}")],
        ),
        Cause::DbLock => (
            diagnosis.because.iter().map(|because| format!("end what holds the lock: {}", because.text)).collect(),
            vec![
                "lock_timeout and idle_in_transaction_session_timeout for the application's roles".to_owned(),
                "no call to another service, and no wait for a user, within a transaction".to_owned(),
            ],
            vec!["take locks in one order, and as late as possible".to_owned()],
        ),
        Cause::DbQueryOrLock => (
            vec![format!("ask the database at {peer}: SELECT * FROM pg_stat_activity WHERE state <> 'idle'")],
            vec!["let the observer ask it: --reflex-database URL".to_owned()],
            vec![],
        ),
        Cause::DbDead => (
            vec!["check what stands between the process and the database: a proxy, a firewall that forgets connections".to_owned()],
            vec!["TCP keepalives for the driver: keepalives_idle=30".to_owned()],
            vec![],
        ),
        Cause::PoolExhausted => (
            diagnosis.because.iter().map(|because| format!("see to who holds the connections: {}", because.text)).collect(),
            vec![format!("pool_timeout below the deadline of {deadline_s:.0} s, so that waiting ends with an error that says why")],
            vec!["a pool as large as the worker has threads, as long as workers x pool stays below max_connections".to_owned()],
        ),
        Cause::PoolLeak => (
            vec!["reload the server: new workers have new pools".to_owned()],
            vec![
                "find the code that takes a connection or a session and does not close it: `with engine.connect()`, `finally: close()`".to_owned(),
                "idle_in_transaction_session_timeout for the application's role".to_owned(),
            ],
            vec!["close sessions in one place, at the end of each request".to_owned()],
        ),
        Cause::PoolPgbouncer => (
            vec!["SHOW POOLS; SHOW SERVERS; in PgBouncer's console: who holds the server connections".to_owned()],
            vec![format!("query_wait_timeout below the deadline of {deadline_s:.0} s")],
            vec!["pool_mode = transaction, or a larger default_pool_size, as far as max_connections allows".to_owned()],
        ),
        Cause::CpuBound => (
            vec![format!("profile {place}: py-spy record -p {pid}")],
            vec![format!("if it has to take long, {offload}")],
            vec!["more threads do not help: Python computes on one at a time; more workers do, up to the number of processors".to_owned()],
        ),
        Cause::CpuRegex => (
            vec![format!("limit the length of what is matched at {place}")],
            vec!["avoid nested repetition such as (a+)+; possessive quantifiers and atomic groups exist from Python 3.11 on".to_owned()],
            vec!["match untrusted text with an engine that does not backtrack (re2)".to_owned()],
        ),
        Cause::InfiniteLoop => (vec![format!("look at the loop at {place}: which of its conditions never changes?")], vec!["a limit on the number of rounds".to_owned()], vec![]),
        Cause::Deadlock => (
            vec![format!("look who holds the lock that is waited for at {place}: ferricornctl stack PID shows all threads")],
            vec!["acquire(timeout=...) instead of waiting for ever".to_owned()],
            vec!["take locks in one order everywhere".to_owned()],
        ),
        Cause::ExplicitSleep => (vec![format!("remove the sleep at {place}")], vec!["wait for an event instead of polling".to_owned()], vec![offload]),
        Cause::Subprocess => (
            vec!["look what the process waits for".to_owned()],
            vec![format!("subprocess.run(..., timeout={half_s}) at {place}")],
            vec![offload],
        ),
        Cause::ClientSlow => (
            vec!["put a buffering proxy (nginx) before the server".to_owned()],
            ours("write_timeout ends connections whose client does not read").into_iter().collect(),
            vec!["responses of known length are sent without a thread: set Content-Length, or return a file".to_owned()],
        ),
        Cause::BootSlowImport => (
            vec![format!("what the import at {place} waits for belongs into the first request, or into the background")],
            vec!["preload_app loads the application once".to_owned()],
            vec!["no network at import time".to_owned()],
        ),
        Cause::HostPaused => (vec!["look for what stops processes on this host: suspended machines, freezers, debuggers".to_owned()], vec![], vec![]),
        Cause::HostCpuStarved => (
            vec!["raise the processor quota of the container, or remove its limit".to_owned()],
            vec!["fewer workers than processors of the quota".to_owned()],
            vec![],
        ),
        Cause::HostDiskOrSwap => (
            vec!["look at the disk or the network filesystem: dmesg, iostat -x".to_owned()],
            vec!["no swap for servers; no network filesystem in the way of a request".to_owned()],
            vec![],
        ),
        Cause::TimeoutTooLow => (
            vec![if stock {
                format!("a longer deadline: timeout = {:.0}, which is that of all routes", (deadline_s * 2.0).ceil())
            } else {
                format!("a longer deadline for this route: route_timeouts = {{\"{} {route}\": {:.0}}}", sight.case.request.method, (deadline_s * 2.0).ceil())
            }],
            vec!["ferricornctl slow tells which timeout each route needs".to_owned()],
            vec![offload],
        ),
        Cause::SyncForIo => (
            vec!["worker_class = gthread with more threads".to_owned()],
            vec!["an asynchronous worker class, where the application is asynchronous".to_owned()],
            vec![offload],
        ),
        Cause::BlockingInLoop => (vec![format!("await an asynchronous client at {place}, or run it in a thread")], vec![], vec![]),
        Cause::WorkerMemory => (
            vec!["raise the memory limit, or run fewer workers".to_owned()],
            vec!["max_requests with max_requests_jitter replaces workers before they are too large".to_owned()],
            vec!["find what grows: tracemalloc, memray".to_owned()],
        ),
        // They are found by comparing workers and by watching the arbiter, never in a request.
        Cause::DeployRegression | Cause::ArbiterWedged => (vec![], vec![], vec![]),
        Cause::Unknown => (vec![], vec!["see what was not visible, and make it so".to_owned()], vec![]),
    };
    Fixes { now, next, proper }
}
