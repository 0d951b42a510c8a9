//! The rules. Each looks at some facts and says what it finds; with a fact missing it says nothing.

mod offload;

use super::{DatabaseFacts, Facts, Found, Level, Pooler, Proxy};
use crate::prevention::{longest_deadline_s as longest_deadline_of, statement_timeout_ms};
use crate::snapshot::Kind;
use crate::units::{bytes, count, span};

type Rule = fn(&Facts, &mut Vec<Found>);

/// All of them, those that cost most first.
pub(super) const RULES: [Rule; 28] = [
    forwarded_from_anybody,
    database_connections,
    pooler_connections,
    pooler_wait,
    statements_by_pooler,
    statements_without_deadline,
    offload::proxy_leads_elsewhere,
    offload::jobs_on_no_disk,
    offload::broker_open,
    offload::broker_takes_back,
    offload::cut_by_a_stop,
    proxy_gives_up_first,
    proxy_sends_again,
    proxy_keeps_longer,
    no_deadline,
    calls_without_timeout,
    sync_waits,
    one_sync_worker,
    heartbeat_on_disk,
    memory_grows,
    all_replaced_at_once,
    killed_while_stopping,
    mixed_versions,
    code_that_is_not_running,
    records,
    threads_without_effect,
    offload::no_name,
    offload::memory_without_limit,
];

/// From this share on, workers mostly wait.
const MOSTLY: f64 = 0.5;
/// Most lines of code that are named.
const LINES_MAX: usize = 5;

fn add(found: &mut Vec<Found>, level: Level, code: &'static str, texts: [String; 3]) {
    let [what, why, fix] = texts;
    found.push(Found { level, code, what, why, fix });
}

/// The longest deadline that there is, routes without one aside; none if requests have none, or it is not known.
fn longest_deadline_s(facts: &Facts) -> Option<f64> {
    let timeout_s = facts.said.timeout_s.filter(|timeout_s| *timeout_s > 0.0)?;
    let routes = facts.said.route_timeouts_s.iter().flatten();
    Some(routes.map(|(_, seconds)| *seconds).fold(timeout_s, f64::max))
}

fn forwarded_from_anybody(facts: &Facts, found: &mut Vec<Found>) {
    let (Some(allowed), Some(bind)) = (&facts.said.forwarded_allow_ips, &facts.said.bind) else { return };
    let public: Vec<&str> = bind.iter().map(String::as_str).filter(|address| is_public(address)).collect();
    if allowed.iter().any(|part| part == "*") && !public.is_empty() {
        add(
            found,
            Level::Error,
            "security.forwarded_allow_ips",
            [
                format!("forwarded_allow_ips is `*`, and the server listens at {}", public.join(", ")),
                "whoever reaches that address can claim another client address, or that the request came by https".into(),
                "name the proxies: `forwarded_allow_ips = \"10.0.0.5\"`; or listen at 127.0.0.1 or a unix socket".into(),
            ],
        );
    }
}

/// Tells whether others than this host may reach an address.
fn is_public(address: &str) -> bool {
    if address.starts_with("unix:") || address.starts_with("fd://") {
        return false;
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches("tcp://").trim_matches(['[', ']']);
    !(host == "localhost" || host == "::1" || host.starts_with("127."))
}

/// Connections that all workers together may open, and how that is counted.
fn wanted(facts: &Facts, database: &DatabaseFacts) -> Option<(u64, String, bool)> {
    let workers = u64::from(facts.said.workers?);
    if let Some(pool) = database.pool_per_worker {
        return Some((
            workers * u64::from(pool),
            format!("{workers} workers with a pool of {pool} each"),
            true,
        ));
    }
    let threads = facts.said.threads.filter(|_| !has_tasks(facts))?;
    let text =
        format!("{workers} workers of {threads} threads, where each thread holds a connection as in Django");
    Some((workers * u64::from(threads.max(1)), text, false))
}

fn has_tasks(facts: &Facts) -> bool {
    let class = facts.said.worker_class.as_deref().unwrap_or_default().to_ascii_lowercase();
    ["asgi", "uvicorn", "gevent", "eventlet", "tornado"].iter().any(|name| class.contains(name))
}

fn database_connections(facts: &Facts, found: &mut Vec<Found>) {
    for database in facts.databases.iter().flatten() {
        let Some(max) = database.max_connections else { continue };
        let kept =
            u64::from(database.reserved.unwrap_or(0)) + u64::from(database.used_by_others.unwrap_or(0));
        let room = u64::from(max).saturating_sub(kept);
        let pool = database.pooler.as_ref().and_then(|pooler| pooler.pool_size);
        let (need, how, known) = match (&database.pooler, pool) {
            (Some(_), Some(pool)) => (u64::from(pool), format!("PgBouncer with a pool of {pool}"), true),
            // How many it opens is not known.
            (Some(_), None) => continue,
            (None, _) => match wanted(facts, database) {
                Some(wanted) => wanted,
                None => continue,
            },
        };
        if need <= room {
            continue;
        }
        let of = if kept > 0 { format!("{room} of {max}") } else { max.to_string() };
        add(
            found,
            if known { Level::Error } else { Level::Warning },
            "database.connections",
            [
                format!("{}: {need} connections may be wanted ({how}), and {of} are there", named(&database.name)),
                "under load, and during a reload when old and new workers run side by side, connections are refused".into(),
                "make pools smaller, put PgBouncer between them, or raise max_connections; more workers would make it worse"
                    .into(),
            ],
        );
    }
}

fn named(name: &str) -> &str {
    if name.is_empty() { "the database" } else { name }
}

fn poolers(facts: &Facts) -> impl Iterator<Item = (&DatabaseFacts, &Pooler)> {
    let databases = facts.databases.iter().flatten();
    databases.filter_map(|database| Some((database, database.pooler.as_ref()?)))
}

fn pooler_connections(facts: &Facts, found: &mut Vec<Found>) {
    for (database, pooler) in poolers(facts) {
        let (Some(max), Some((need, how, known))) = (pooler.max_client_conn, wanted(facts, database)) else {
            continue;
        };
        if need > u64::from(max) {
            add(
                found,
                if known { Level::Error } else { Level::Warning },
                "pooler.max_client_conn",
                [
                    format!(
                        "PgBouncer of {}: {need} clients may come ({how}), and it takes {max}",
                        named(&database.name)
                    ),
                    "those beyond are refused with \"no more connections allowed\"".into(),
                    format!("`max_client_conn = {}`: its clients cost little", need.next_multiple_of(100)),
                ],
            );
        }
    }
}

fn pooler_wait(facts: &Facts, found: &mut Vec<Found>) {
    for (database, pooler) in poolers(facts) {
        let (Some(wait_s), Some(deadline_s)) = (pooler.query_wait_timeout_s, longest_deadline_s(facts))
        else {
            continue;
        };
        if wait_s != 0.0 && wait_s < deadline_s {
            continue;
        }
        let waits = if wait_s == 0.0 { "waits for ever".to_owned() } else { format!("waits {wait_s} s") };
        add(
            found,
            Level::Warning,
            "pooler.query_wait_timeout",
            [
                format!(
                    "PgBouncer of {} {waits} for a free connection, and the longest deadline is {deadline_s} s",
                    named(&database.name)
                ),
                "when all are in use, requests hold their threads until they are late, and the application never learns why"
                    .into(),
                format!("`query_wait_timeout = {}` in pgbouncer.ini", (deadline_s / 3.0).ceil().max(1.0)),
            ],
        );
    }
}

fn proxies(facts: &Facts) -> impl Iterator<Item = &Proxy> {
    facts.proxies.iter().flatten()
}

fn proxy_gives_up_first(facts: &Facts, found: &mut Vec<Found>) {
    let Some(deadline_s) = longest_deadline_s(facts) else { return };
    for proxy in proxies(facts).filter(|proxy| proxy.read_timeout_s <= deadline_s) {
        add(
            found,
            Level::Warning,
            "proxy.read_timeout",
            [
                format!(
                    "{} waits {} s for an answer ({}), and the longest deadline is {deadline_s} s",
                    proxy.name, proxy.read_timeout_s, proxy.place
                ),
                "the client gets the proxy's 504 first; the application works on for nobody, and no page names the request".into(),
                format!("`proxy_read_timeout {}s;` there, or a shorter timeout", deadline_s.ceil() + 5.0),
            ],
        );
    }
}

fn proxy_sends_again(facts: &Facts, found: &mut Vec<Found>) {
    let deadline_s = longest_deadline_s(facts);
    for proxy in proxies(facts).filter(|proxy| proxy.servers > 1) {
        let has = |word: &str| proxy.next_upstream.iter().any(|known| known == word);
        let first = deadline_s.is_some_and(|deadline_s| proxy.read_timeout_s <= deadline_s);
        let when = match (has("http_504"), has("timeout") && first) {
            (true, _) => "was answered with 504 at its deadline",
            (false, true) => "the proxy gave up on",
            _ => continue,
        };
        let any = has("non_idempotent");
        let which = if any { "any request, a POST as well," } else { "a request" };
        add(
            found,
            if any { Level::Error } else { Level::Warning },
            "proxy.next_upstream",
            [
                format!("{} sends {which} that {when} to the next server ({})", proxy.name, proxy.place),
                "a slow request then makes every server slow in turn, and what it does is done several times"
                    .into(),
                "`proxy_next_upstream error;` there".into(),
            ],
        );
    }
}

fn proxy_keeps_longer(facts: &Facts, found: &mut Vec<Found>) {
    let Some(keepalive_s) = facts.said.keepalive_s else { return };
    // Gunicorn's sync workers close every connection after its response.
    let closes = facts.kind == Some(Kind::Gunicorn) && facts.said.worker_class.as_deref() == Some("sync");
    for proxy in proxies(facts).filter(|_| !closes) {
        let Some(idle_s) = proxy.idle_s.filter(|idle_s| keepalive_s <= *idle_s) else { continue };
        add(
            found,
            Level::Warning,
            "proxy.keepalive",
            [
                format!(
                    "{} keeps idle connections for {idle_s} s, and the server closes them after {keepalive_s} s ({})",
                    proxy.name, proxy.place
                ),
                "a request that is sent just when the server closes gets 502, unless it may be sent again"
                    .into(),
                format!("`keepalive = {}`, more than the proxy has", idle_s.ceil() + 15.0),
            ],
        );
    }
}

fn no_deadline(facts: &Facts, found: &mut Vec<Found>) {
    if facts.said.timeout_s == Some(0.0) {
        add(
            found,
            Level::Warning,
            "timeout.none",
            [
                "timeout is 0: requests have no deadline".into(),
                "one that hangs holds its thread for ever, and its client learns nothing".into(),
                "`timeout = 30`, and `route_timeouts` for the few that need more; `ferricornctl slow` says how much".into(),
            ],
        );
    }
}

/// Tells how a server limits statements of the application; none if it does not.
fn statement_limit(facts: &Facts) -> Option<&str> {
    facts.said.db_statement_timeout.as_deref().filter(|limit| *limit != "off")
}

/// What a statement may take, milliseconds; none if `auto` has no deadline to follow, or it is not known.
fn statement_ms(facts: &Facts) -> Option<u64> {
    match statement_limit(facts)? {
        "auto" => {
            let routes = facts.said.route_timeouts_s.iter().flatten().map(|(_, seconds)| *seconds);
            let request_s = facts.said.request_timeout_s.unwrap_or(0.0);
            longest_deadline_of(facts.said.timeout_s?, routes, request_s).map(statement_timeout_ms)
        }
        seconds => Some((seconds.parse::<f64>().ok()? * 1000.0) as u64),
    }
}

fn statements_by_pooler(facts: &Facts, found: &mut Vec<Found>) {
    let Some(limit) = statement_limit(facts) else { return };
    for (database, _) in poolers(facts) {
        let milliseconds = statement_ms(facts).map_or("MILLISECONDS".to_owned(), |ms| ms.to_string());
        add(
            found,
            Level::Warning,
            "database.statement_timeout",
            [
                format!(
                    "db_statement_timeout is {limit}, and has no effect on {}: its connections go by PgBouncer",
                    named(&database.name)
                ),
                "PgBouncer refuses or ignores what PGOPTIONS says; a stuck statement runs on after its request"
                    .into(),
                format!(
                    "set it for the application's role: `ALTER ROLE the_role SET statement_timeout = {milliseconds}`, and for the \
                     database server: `ALTER SYSTEM SET client_connection_check_interval = '1s'`"
                ),
            ],
        );
    }
}

fn statements_without_deadline(facts: &Facts, found: &mut Vec<Found>) {
    let known = facts.said.timeout_s.is_some() && facts.said.route_timeouts_s.is_some();
    if known && statement_limit(facts) == Some("auto") && statement_ms(facts).is_none() {
        add(
            found,
            Level::Warning,
            "database.statement_timeout_auto",
            [
                "db_statement_timeout is auto, and has no effect: some requests have no deadline".into(),
                "it is a little under the longest deadline, and timeout, or that of a route, is 0".into(),
                "`request_timeout`, which limits all requests, or seconds in place of auto".into(),
            ],
        );
    }
}

fn calls_without_timeout(facts: &Facts, found: &mut Vec<Found>) {
    let Some(lines) = facts.observed.no_timeout.as_ref().filter(|lines| !lines.is_empty()) else { return };
    let mut named: Vec<&str> = lines.iter().map(String::as_str).take(LINES_MAX).collect();
    let more = format!("and {} more", lines.len().saturating_sub(LINES_MAX));
    if lines.len() > LINES_MAX {
        named.push(&more);
    }
    add(
        found,
        Level::Warning,
        "requests.no_timeout",
        [
            format!("calls to other services have no timeout: {}", named.join("; ")),
            "they were seen in late requests; when the service does not answer, each holds its thread to the deadline".into(),
            if facts.kind == Some(Kind::Ferricorn) && facts.said.outbound_timeout.as_deref() == Some("off") {
                "give each call its own: `requests.get(url, timeout=(3.05, 10))`; or all of them what is left of the request: \
                 `outbound_timeout = \"auto\"`"
                    .into()
            } else {
                "give each call its own: `requests.get(url, timeout=(3.05, 10))`".into()
            },
        ],
    );
}

fn sync_waits(facts: &Facts, found: &mut Vec<Found>) {
    let is_sync = facts.said.worker_class.as_deref() == Some("sync") && facts.said.threads.unwrap_or(1) <= 1;
    let Some(share) = facts.observed.waiting_share.filter(|share| is_sync && *share > MOSTLY) else { return };
    let busy = facts.observed.utilisation;
    add(
        found,
        if busy.is_some_and(|busy| busy >= MOSTLY) { Level::Warning } else { Level::Hint },
        "worker.sync_waits",
        [
            format!(
                "workers wait for {:.0} % of their time in the application{}, and each runs one request at a time",
                share * 100.0,
                busy.map_or(String::new(), |busy| format!(
                    " (they are at work for {:.0} % of all time)",
                    busy * 100.0
                ))
            ),
            "while one waits for a database or a service, the processor has nothing to do and requests queue"
                .into(),
            "`worker_class = \"gthread\"` with `threads = 4` or more, if the application may run in threads"
                .into(),
        ],
    );
}

fn one_sync_worker(facts: &Facts, found: &mut Vec<Found>) {
    let said = &facts.said;
    let alone = said.worker_class.as_deref() == Some("sync") && said.threads.unwrap_or(1) <= 1;
    if alone && said.workers == Some(1) {
        add(
            found,
            Level::Warning,
            "worker.single",
            [
                "one worker runs one request at a time".into(),
                "every slow request keeps all others waiting, health checks too".into(),
                "`workers = 2` or more, or `threads`".into(),
            ],
        );
    }
}

fn heartbeat_on_disk(facts: &Facts, found: &mut Vec<Found>) {
    let Some(folder) = &facts.surroundings.heartbeat_on_disk else { return };
    add(
        found,
        Level::Warning,
        "worker.tmp_dir",
        [
            format!("the workers' heartbeat files are on a disk ({folder})"),
            "when that disk is slow, workers seem silent, and the arbiter kills them in the middle of their requests".into(),
            "`worker_tmp_dir = \"/dev/shm\"`".into(),
        ],
    );
}

fn memory_grows(facts: &Facts, found: &mut Vec<Found>) {
    let Some(growth) = &facts.observed.growth else { return };
    let workers = facts.said.workers.unwrap_or(growth.known).max(1);
    let max = growth.max_requests(workers, facts.observed.memory_max);
    // Who replaces workers about as early already has done what there is to do.
    if facts.said.max_requests.is_some_and(|said| (1..=2 * max).contains(&said)) {
        return;
    }
    let of = if growth.growing == growth.known {
        String::new()
    } else {
        format!("; so do {} of {} workers that have served long enough", growth.growing, growth.known)
    };
    let rss = growth.rss_at(max) as u64;
    let after = if growth.requests_per_s > 0.0 {
        format!(", about every {} at the pace of that worker", span(max as f64 / growth.requests_per_s))
    } else {
        String::new()
    };
    let limit = match facts.observed.memory_max {
        Some(_) => String::new(),
        None => format!(
            "; and a limit of memory for the service, as `MemoryMax={}M` of its unit",
            ((rss * u64::from(workers) * 3 / 2) >> 20).next_multiple_of(100)
        ),
    };
    add(
        found,
        Level::Warning,
        "worker.memory_grows",
        [
            format!(
                "a worker's memory grows by {} with each request: worker {} had {} after {} requests and {} after {}{of}",
                bytes(growth.per_request as u64),
                growth.pid,
                bytes(growth.from.rss),
                count(growth.from.requests),
                bytes(growth.to.rss),
                count(growth.to.requests),
            ),
            "it does not stop: one day the kernel ends a worker in the middle of its requests, or the host swaps".into(),
            format!(
                "`max_requests = {max}` and `max_requests_jitter = {}` replace workers at about {} each{after}{limit}; the leak itself is \
                 found by tracemalloc",
                (max / 10).max(1),
                bytes(rss)
            ),
        ],
    );
}

fn all_replaced_at_once(facts: &Facts, found: &mut Vec<Found>) {
    let said = &facts.said;
    if let (Some(max @ 1..), Some(0), Some(2..)) = (said.max_requests, said.max_requests_jitter, said.workers)
    {
        add(
            found,
            Level::Warning,
            "worker.max_requests_jitter",
            [
                format!("max_requests is {max}, and max_requests_jitter 0"),
                "workers that share the load evenly are replaced all at the same time, and all boot at once"
                    .into(),
                format!("`max_requests_jitter = {}`", (max / 10).max(1)),
            ],
        );
    }
}

fn killed_while_stopping(facts: &Facts, found: &mut Vec<Found>) {
    let (Some(graceful_s), Some(stop)) = (facts.said.graceful_timeout_s, &facts.stop) else { return };
    if graceful_s >= stop.timeout_s {
        add(
            found,
            Level::Warning,
            "stop.graceful_timeout",
            [
                format!(
                    "requests get {graceful_s} s to finish when the server stops, and {} kills it after {} s",
                    stop.by, stop.timeout_s
                ),
                "what still runs then is cut off, without the answer that its client would get".into(),
                format!("{} of {} s or more, or a shorter graceful_timeout", stop.setting, graceful_s + 10.0),
            ],
        );
    }
}

fn mixed_versions(facts: &Facts, found: &mut Vec<Found>) {
    let Some(mixed) = facts.observed.standing.as_ref().and_then(|standing| standing.mixed.as_ref()) else {
        return;
    };
    let named = |(version, pids): &(String, Vec<u32>)| format!("{version} ({})", pids.len());
    let versions: Vec<String> = mixed.groups.iter().map(named).collect();
    add(
        found,
        Level::Warning,
        "deploy.mixed_versions",
        [
            format!("workers run different code: {}", versions.join(", ")),
            "a worker that is replaced reads the files that are there then: part of the requests meets other code".into(),
            "reload (HUP), so that all workers run the same; put new files into place and reload in one step".into(),
        ],
    );
}

fn code_that_is_not_running(facts: &Facts, found: &mut Vec<Found>) {
    let Some(pending) = facts.observed.standing.as_ref().and_then(|standing| standing.pending.as_ref())
    else {
        return;
    };
    add(
        found,
        Level::Hint,
        "deploy.pending",
        [
            pending.text.clone(),
            "a reload for another reason, and each worker that is replaced, brings it in".into(),
            "reload (HUP) if it is meant to run, or put the files back".into(),
        ],
    );
}

fn records(facts: &Facts, found: &mut Vec<Found>) {
    if facts.said.reflex == Some(false) {
        add(
            found,
            Level::Hint,
            "reflex.off",
            [
                "the observer is off (`reflex`)".into(),
                "nobody finds out where late requests and dead workers were, and no records are kept".into(),
                "leave `--no-reflex` out; requests do not depend on the observer".into(),
            ],
        );
        return;
    }
    if let Some(dir) = &facts.surroundings.state_dir
        && let Some(trouble) = &dir.trouble
    {
        let place = if dir.path.is_empty() {
            "no folder for records".to_owned()
        } else {
            format!("records in {}", dir.path)
        };
        add(
            found,
            Level::Warning,
            "state.dir",
            [
                format!("{place}: {trouble}"),
                "what is found out about late requests and dead workers is not kept".into(),
                "`state_dir` names a folder that the server's user may write to; systemd makes one by `StateDirectory=`".into(),
            ],
        );
    }
    let Some(tracing) = facts.surroundings.tracing.filter(|tracing| !tracing.may_trace) else { return };
    if tracing.worker_uid != tracing.observer_uid || tracing.user_changed {
        add(
            found,
            Level::Warning,
            "state.trace",
            [
                format!(
                    "workers run as user {}, and the observer (user {}) has no CAP_SYS_PTRACE",
                    tracing.worker_uid, tracing.observer_uid
                ),
                "it cannot read their stacks: records will say what a thread waits for, and not where in the code".into(),
                "give the container or the unit that capability (`cap_add: [SYS_PTRACE]`), or start the server as the workers' \
                 user"
                    .into(),
            ],
        );
    }
}

fn threads_without_effect(facts: &Facts, found: &mut Vec<Found>) {
    let (Some(class), Some(threads @ 2..)) = (facts.said.worker_class.as_deref(), facts.said.threads) else {
        return;
    };
    let (what, why) = if has_tasks(facts) {
        (
            format!("threads is {threads}, and workers of class {class} do not use them"),
            "they run as many requests as they have connections",
        )
    } else if class == "sync" {
        (
            format!("worker_class is sync, and threads is {threads}"),
            "with more than one thread the server runs gthread, and the application must be safe in threads",
        )
    } else {
        return;
    };
    let fix = if class == "sync" { "say `worker_class = \"gthread\"`" } else { "leave `threads` out" };
    add(found, Level::Hint, "worker.threads", [what, why.into(), fix.into()]);
}
