//! The rules for requests that are worked on later (`offload`): none of them says anything where no request is.

use super::{add, bytes};
use crate::check::{Broker, Facts, Found, JobRoute, Level};
use crate::offload::is_idempotent;

/// After how long RabbitMQ takes back a message that nobody has acknowledged, unless it is told otherwise, seconds
/// (`consumer_timeout`). A message may wait for as long behind another.
const CONSUMER_TIMEOUT_S: f64 = 1800.0;
/// By how much whoever waits should wait longer than a job may take, seconds.
const ROOM_S: f64 = 10.0;
const MIB: u64 = 1 << 20;

/// Returns the routes whose requests become jobs.
fn routes(facts: &Facts) -> impl Iterator<Item = &JobRoute> {
    facts.said.offload.iter().chain(&facts.said.offload_prefer).flatten()
}

fn is_on(facts: &Facts) -> bool {
    routes(facts).next().is_some()
}

/// Tells whether this server works on its jobs itself; not where a Celery does, or that is not known.
fn works_here(facts: &Facts) -> bool {
    is_on(facts) && facts.said.offload_broker.as_ref().is_some_and(Vec::is_empty)
}

/// Returns the route whose jobs may take longest: one without an end, if there is one.
fn longest<'a>(routes: impl Iterator<Item = &'a JobRoute>) -> Option<&'a JobRoute> {
    let time = |route: &JobRoute| if route.timeout_s > 0.0 { route.timeout_s } else { f64::INFINITY };
    routes.max_by(|one, other| time(one).total_cmp(&time(other)))
}

/// Tells how long a job of a route may take.
fn time_of(route: &JobRoute) -> String {
    if route.timeout_s > 0.0 { format!("{} s", route.timeout_s) } else { "any time".to_owned() }
}

/// Tells whether a job of a route may be one that is begun once and not again. A route without a method has any.
fn is_begun_once(route: &JobRoute) -> bool {
    let method = route.route.split_once(' ').map_or("POST", |(method, _)| method).to_ascii_uppercase();
    route.retries == 0 && !is_idempotent(&method)
}

pub(super) fn cut_by_a_stop(facts: &Facts, found: &mut Vec<Found>) {
    let Some(graceful_s) = facts.said.graceful_timeout_s.filter(|_| works_here(facts)) else { return };
    let killer = facts.stop.as_ref().filter(|stop| stop.timeout_s < graceful_s);
    let patience_s = killer.map_or(graceful_s, |stop| stop.timeout_s);
    let is_cut = |route: &&JobRoute| route.timeout_s <= 0.0 || route.timeout_s > patience_s;
    let once = longest(routes(facts).filter(is_cut).filter(|route| is_begun_once(route)));
    let Some(route) = once.or_else(|| longest(routes(facts).filter(is_cut))) else { return };
    let has = match killer {
        Some(stop) => format!("{} kills the server {patience_s} s after it is told to stop", stop.by),
        None => format!("a stop or a deploy leaves it {graceful_s} s (graceful_timeout)"),
    };
    let mut fix = if route.timeout_s > 0.0 {
        let graceful_s = graceful_s.max(route.timeout_s.ceil() + ROOM_S);
        let stop = facts.stop.as_ref().filter(|stop| stop.timeout_s < graceful_s + ROOM_S);
        let more = stop.map(|stop| format!(", with {} of {} s or more", stop.setting, graceful_s + ROOM_S));
        format!("`graceful_timeout = {graceful_s}`{}", more.unwrap_or_default())
    } else {
        "give its jobs an end (`timeout=S` behind the route, or `offload_timeout`), and a longer graceful_timeout"
            .to_owned()
    };
    if once.is_some() {
        fix.push_str("; or `retries=N` behind the route, if its requests may be run twice");
    }
    add(
        found,
        if once.is_some() { Level::Warning } else { Level::Hint },
        "offload.stop",
        [
            format!("a job of `{}` may take {}, and {has}", route.route, time_of(route)),
            match once {
                Some(_) => "what still runs then is cut and has failed (worker_died): it is not begun again, and what it was at is half done",
                None => "what still runs then is cut (worker_died), and begun again from its beginning",
            }
            .into(),
            fix,
        ],
    );
}

pub(super) fn no_name(facts: &Facts, found: &mut Vec<Found>) {
    if !is_on(facts) || facts.said.proc_name_given != Some(false) {
        return;
    }
    add(
        found,
        Level::Hint,
        "offload.name",
        [
            "jobs belong to the application and its folder: no name was given".into(),
            "a deploy into a new folder does not find the jobs of the last one: those that wait are not worked on, and their URLs are 404".into(),
            "`proc_name = \"shop\"`, or `--name shop`: another name for each service".into(),
        ],
    );
}

pub(super) fn jobs_on_no_disk(facts: &Facts, found: &mut Vec<Found>) {
    let Some(dir) = facts.surroundings.state_dir.as_ref().filter(|_| is_on(facts)) else { return };
    let (path, kind) = (&dir.path, dir.file_system.as_deref().unwrap_or_default());
    let network = "SQLite is not safe where files and their locks are on another host: its database may break, and all jobs with it";
    let local = "`state_dir` names a folder on a disk of this host, or on a volume that is";
    let (level, place, why, fix) = match kind {
        "nfs" | "cifs" | "smb" | "smb2" => {
            (Level::Error, format!("on a network file system ({kind})"), network, local.to_owned())
        }
        "tmpfs" | "ramfs" => (
            Level::Warning,
            format!("in memory ({kind})"),
            "a 202 says that a request is kept: after the next start of the machine or the container none is there",
            "`state_dir` names a folder on a disk; systemd makes one by `StateDirectory=`".to_owned(),
        ),
        "overlay" => (
            Level::Warning,
            "on an overlay, as the layer of a container is one".to_owned(),
            "a 202 says that a request is kept: a deploy makes a new container, and that has none of them",
            format!("a volume at {path}, or a `state_dir` that is on one"),
        ),
        "fuse" => (
            Level::Hint,
            "on a file system of some program (fuse), which may be one of the network".to_owned(),
            network,
            format!("see what it is (`findmnt -T {path}`); {local}"),
        ),
        _ => return,
    };
    let what = format!("jobs are kept in {path}, which is {place}");
    add(found, level, "offload.state_dir", [what, why.into(), fix]);
}

pub(super) fn proxy_leads_elsewhere(facts: &Facts, found: &mut Vec<Found>) {
    let Some(prefix) = facts.said.offload_prefix.as_deref().filter(|_| is_on(facts)) else { return };
    for detour in facts.detours.iter().flatten() {
        let (level, leads, unless) = match &detour.to {
            Some(to) => {
                (Level::Warning, format!("leads to {to}"), format!(", unless {to} leads them back here"))
            }
            None => (Level::Error, "answers itself".to_owned(), String::new()),
        };
        add(
            found,
            level,
            "offload.proxy",
            [
                format!(
                    "{} {leads} what asks for jobs below {prefix} ({}), and what becomes one comes here ({})",
                    detour.name, detour.place, detour.beside
                ),
                format!("clients get a 202 with a URL, and find neither state nor result there{unless}"),
                format!("`location {prefix}/ {{ proxy_pass {}; }}` in that server", detour.upstream),
            ],
        );
    }
}

/// Returns the scheme with TLS of one without, of those that are known.
fn with_tls(scheme: &str) -> Option<&'static str> {
    match scheme {
        "redis" => Some("rediss"),
        "amqp" | "pyamqp" | "librabbitmq" => Some("amqps"),
        _ => None,
    }
}

pub(super) fn broker_open(facts: &Facts, found: &mut Vec<Found>) {
    let is_open = |broker: &&Broker| {
        let is_known = with_tls(&broker.scheme).is_some() || ["rediss", "amqps"].contains(&&*broker.scheme);
        let is_safe = broker.has_password && with_tls(&broker.scheme).is_none();
        is_known && !is_safe && broker.is_elsewhere == Some(true)
    };
    let brokers = || facts.said.offload_broker.iter().flatten().filter(|_| is_on(facts)).filter(is_open);
    // The one that lacks most.
    let lacks =
        |broker: &&Broker| u8::from(!broker.has_password) * 2 + u8::from(with_tls(&broker.scheme).is_some());
    let Some(broker) = brokers().max_by_key(lacks) else { return };
    let tls = with_tls(&broker.scheme);
    let encrypted = tls.map(|scheme| format!("TLS (`{scheme}://`)"));
    let (lacks, why, fix) = match (broker.has_password, encrypted) {
        (true, Some(tls)) => (
            "no TLS",
            "whoever is on the way there reads requests and the password, and can have the application called with any request",
            tls,
        ),
        (true, None) => return,
        (false, tls) => (
            if tls.is_some() { "no password and no TLS" } else { "no password" },
            "whoever reaches it can have the application called with any request, as any client",
            tls.map_or("a password in it".to_owned(), |tls| format!("a password in it, and {tls}")),
        ),
    };
    add(
        found,
        // The way there may be nobody's but ours.
        if broker.has_password { Level::Hint } else { Level::Warning },
        "offload.broker",
        [
            format!(
                "the broker of jobs is on another host, and its URL has {lacks} (`{}://`)",
                broker.scheme
            ),
            why.into(),
            format!("`offload_broker` with {fix}; the same for `offload_results`"),
        ],
    );
}

pub(super) fn broker_takes_back(facts: &Facts, found: &mut Vec<Found>) {
    let is_rabbit = |broker: &Broker| broker.scheme == "amqps" || with_tls(&broker.scheme) == Some("amqps");
    if !facts.said.offload_broker.iter().flatten().any(is_rabbit) {
        return;
    }
    let is_long = |route: &JobRoute| route.timeout_s <= 0.0 || route.timeout_s > CONSUMER_TIMEOUT_S / 2.0;
    let Some(route) = longest(routes(facts)).filter(|route| is_long(route)) else { return };
    add(
        found,
        Level::Warning,
        "offload.consumer_timeout",
        [
            format!(
                "a job of `{}` may take {}, and RabbitMQ takes back after {CONSUMER_TIMEOUT_S} s what no worker has acknowledged, \
                 unless its consumer_timeout is another",
                route.route,
                time_of(route)
            ),
            "it gives a job that may be begun again to a second worker while the first is at it; jobs should have less than half of that".into(),
            if route.timeout_s > 0.0 {
                let milliseconds = (route.timeout_s.ceil() + ROOM_S) * 2000.0;
                format!("`consumer_timeout = {milliseconds}` in rabbitmq.conf, or a shorter time for jobs")
            } else {
                "give its jobs an end: `timeout=S` behind the route, or `offload_timeout`; 900 s and less fit RabbitMQ as it comes".into()
            },
        ],
    );
}

pub(super) fn memory_without_limit(facts: &Facts, found: &mut Vec<Found>) {
    let said = &facts.said;
    let (Some(max), Some(0), Some(workers), Some(of_jobs)) =
        (facts.observed.memory_max, said.offload_memory_limit, said.workers, said.offload_workers)
    else {
        return;
    };
    let of_jobs = of_jobs.max(1);
    let share = max / (u64::from(workers) + u64::from(of_jobs)) / MIB;
    // Less than nothing would mean no limit.
    if share == 0 || !works_here(facts) {
        return;
    }
    add(
        found,
        Level::Hint,
        "offload.memory",
        [
            format!("the server may use {} of memory, and each process of jobs may take all of it", bytes(max)),
            "one greedy job can have the kernel end processes: those that work on jobs first, with all that they are at".into(),
            format!(
                "`offload_memory_limit = {}`: {share} MiB, an equal share for {workers} workers and {of_jobs} processes of jobs; who asks for \
                 more gets `MemoryError`",
                share * MIB
            ),
        ],
    );
}
