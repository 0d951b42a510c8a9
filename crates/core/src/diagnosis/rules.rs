//! The rules, in their order: the first that fits names the cause, those after it are what else it might be. Each looks
//! at direct evidence alone. The confidences were set by the signatures measured in the study of stuck workers.
//!
//! Not for: words (`words`, `fixes`), and not for what calls mean (`known`).

use super::known::Call;
use super::sight::{FRESH, Sight};
use super::{
    Because, Candidate, Case, Cause, Diagnosis, Finding, SURE, Subject, Surroundings, db, external, fixes,
    host, pools, words,
};
use crate::evidence::{Frame, Source};

/// A share of its time at which a route's completed requests are near their deadline.
const NEAR: f64 = 0.6;
/// Completed requests that make a history.
const HISTORY_MIN: u64 = 8;
/// So many leave no doubt.
const HISTORY_SURE: u64 = 20;
/// Bytes that came in while a statement was waited for: a result that is large, not a question that is hard.
pub(super) const LARGE: u64 = 512 << 10;
/// Bytes of one connection in all that are a large result by themselves, whatever else it has brought.
pub(super) const HUGE: u64 = 32 << 20;
/// Two causes that are nearer to each other are not told apart.
const CLOSE: f64 = 0.05;
/// Most causes that are named beside the first.
const RUNNERS_MAX: usize = 3;

/// A cause that fits, and what it rests on.
#[derive(Debug, Default)]
pub(super) struct Match {
    pub(super) cause: Cause,
    pub(super) confidence: f64,
    /// What holds the request, as the rest of a sentence that begins with "it".
    pub(super) what: String,
    pub(super) findings: Vec<Finding>,
    pub(super) because: Option<Because>,
    pub(super) query: Option<String>,
    /// Where it is in the application, where that is not the request's own code.
    pub(super) frames: Vec<Frame>,
}

impl Match {
    pub(super) fn new(cause: Cause, confidence: f64, what: impl Into<String>) -> Self {
        Self { cause, confidence, what: what.into(), ..Self::default() }
    }

    pub(super) fn with(mut self, source: &str, weight: u8, text: impl Into<String>) -> Self {
        self.findings.push(Finding { source: source.to_owned(), text: text.into(), weight });
        self
    }
}

type Rule = fn(&Sight<'_>) -> Option<Match>;

/// All of them.
const RULES: &[Rule] = &[
    host::paused,
    host::starved,
    host::disk,
    client,
    interpreter_kept,
    db::lock_in_database,
    db::result_in_database,
    db::rows,
    db::rows_unseen,
    crowded,
    goes_on,
    db::statement,
    pools::pgbouncer,
    pools::exhausted,
    db::dead_session,
    db::query_or_lock,
    external::dns,
    external::tls,
    external::blackhole,
    external::retry,
    external::silent,
    subprocess,
    regex,
    endless,
    computes,
    sleeps,
    external::result,
    deadlock,
    host::memory,
];

/// Finds the cause of a request's trouble.
pub fn diagnose(case: &Case<'_>) -> Diagnosis {
    let Some(sight) = Sight::of(case) else {
        return Diagnosis {
            summary: words::unseen(case),
            not_visible: words::gaps(case, None),
            ..Diagnosis::default()
        };
    };
    let mut matches: Vec<Match> = RULES.iter().filter_map(|rule| rule(&sight)).collect();
    if let Some(low) = too_low(&sight, matches.first()) {
        matches.insert(0, low);
    }
    // Of one family the first is meant; a later rule is a weaker reading of the same.
    let mut candidates: Vec<Candidate> = Vec::new();
    for found in &matches {
        if candidates.iter().all(|candidate| candidate.cause != found.cause) {
            candidates.push(Candidate { cause: found.cause, confidence: found.confidence });
        }
    }
    let mut chosen = if matches.is_empty() {
        Match::new(Cause::Unknown, 0.3, words::nothing(&sight))
    } else {
        matches.remove(0)
    };
    chosen.confidence = settled(&sight, chosen.confidence, candidates.get(1));
    let runners_up =
        candidates.into_iter().filter(|other| other.cause != chosen.cause).take(RUNNERS_MAX).collect();
    finish(&sight, chosen, runners_up)
}

/// How sure it is, given how well it was looked at: one look is less than two, and rivals are doubts.
fn settled(sight: &Sight<'_>, confidence: f64, second: Option<&Candidate>) -> f64 {
    let looks = if sight.case.looks.len() > 1 { 0.0 } else { 0.08 };
    let rival =
        second.is_some_and(|second| (confidence - second.confidence).abs() < CLOSE && confidence < 0.9);
    let doubt = if rival { 0.05 } else { 0.0 };
    // Perhaps another request's thread.
    let one_of_many = sight.is_guessed || sight.in_executor.is_some_and(|executor| executor.of > 1);
    let guess = if one_of_many { 0.15 } else { 0.0 };
    (confidence - looks - doubt - guess).clamp(0.05, 0.99)
}

fn finish(sight: &Sight<'_>, chosen: Match, runners_up: Vec<Candidate>) -> Diagnosis {
    let mut evidence = words::seen(sight);
    evidence.extend(chosen.findings);
    evidence.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    let subject = Subject {
        peer: sight.socket.map(|socket| socket.peer.clone()).filter(|peer| !peer.is_empty()),
        query: chosen.query.or_else(|| words::query(sight)),
        frames: if chosen.frames.is_empty() { sight.application() } else { chosen.frames },
    };
    let mut diagnosis = Diagnosis {
        cause: chosen.cause,
        confidence: (chosen.confidence * 100.0).round() / 100.0,
        summary: words::summary(sight, &chosen.what),
        evidence,
        ruled_out: words::ruled_out(sight, chosen.cause),
        not_visible: words::gaps(sight.case, Some(sight)),
        because: chosen.because,
        also: also(sight, chosen.cause),
        runners_up,
        subject,
        fixes: super::Fixes::default(),
    };
    diagnosis.fixes = fixes::of(sight, &diagnosis);
    diagnosis
}

/// What is true besides.
fn also(sight: &Sight<'_>, cause: Cause) -> Vec<Cause> {
    let mut also = Vec::new();
    if sight.holds_loop || sight.is_behind {
        also.push(Cause::BlockingInLoop);
    }
    let server = &sight.case.server;
    let waits = matches!(cause.family(), "external" | "explicit_sleep" | "subprocess" | "db");
    if waits && too_few_threads(server) {
        also.push(Cause::SyncForIo);
    }
    also
}

/// Most threads wait for somebody, and requests wait for threads, while the host has nothing to do.
fn too_few_threads(server: &Surroundings) -> bool {
    let most = server.threads > 0 && server.stuck * 2 >= server.threads;
    let idle = server.host_cpu.is_none_or(|share| share < 0.5);
    let threads = matches!(server.worker_class.as_str(), "sync" | "gthread");
    most && idle && threads && server.queued > 0
}

/// Its calls to others come to their ends, one after the other; what it lacks is not an answer, but threads for those behind it.
fn crowded(sight: &Sight<'_>) -> Option<Match> {
    let server = &sight.case.server;
    let ends = sight.case.history.is_some_and(|history| history.count >= HISTORY_MIN);
    if external::retry(sight).is_some()
        || sight.service().is_database()
        || sight.is_busy()
        || !ends
        || !too_few_threads(server)
        || !sight.has_moved_on()
    {
        return None;
    }
    let peer = sight.socket.map_or("others", |socket| &socket.peer);
    let what = format!(
        "waits for {peer}, call after call, as all threads do, and {} wait for a thread",
        server.queued
    );
    let text = format!(
        "{} of {} threads are at slow requests, and {} wait in line; the calls themselves end: it was seen at another one",
        server.stuck, server.threads, server.queued
    );
    Some(Match::new(Cause::SyncForIo, 0.82, what).with("host", 3, text))
}

/// The route always takes that long.
fn too_low(sight: &Sight<'_>, found: Option<&Match>) -> Option<Match> {
    let deadline_s = sight.case.request.deadline_s?;
    let history = sight.case.history.filter(|history| history.count >= HISTORY_MIN)?;
    if history.p50_s < NEAR * deadline_s {
        return None;
    }
    let usual = format!(
        "{} requests of this route came to their end: half of them within {:.1} s, 99 % within {:.1} s; the deadline is {deadline_s:.1} s",
        history.count, history.p50_s, history.p99_s
    );
    let what = format!(
        "takes as long as its route always does, and the deadline of {deadline_s:.1} s is too short for that"
    );
    let because = found.map(|found| Because {
        cause: found.cause,
        text: format!("its time goes where it always goes: it {}", found.what),
    });
    let confidence = if history.count >= HISTORY_SURE { 0.85 } else { 0.8 };
    Some(Match { because, ..Match::new(Cause::TimeoutTooLow, confidence, what).with("history", 3, usual) })
}

/// It makes one call after another, and each is answered: what it does is too much for its time.
fn goes_on(sight: &Sight<'_>) -> Option<Match> {
    let deadline_s = sight.case.request.deadline_s?;
    // Answers that make it ask again are none.
    let works = !sight.is_busy() && external::retry(sight).is_none();
    let (bytes, seconds) = sight.asks_on().filter(|_| works)?;
    let peer = sight.socket.map_or("a service", |socket| &socket.peer);
    let what = format!(
        "makes one call after another to {peer}, and each is answered: all of them need more than {deadline_s:.1} s"
    );
    let text = format!(
        "{} were sent to {peer} in {seconds:.1} s; whenever it was looked at, the last call was less than {:.1} s old",
        words::bytes(bytes),
        sight.case.request.app_s * FRESH
    );
    Some(Match::new(Cause::TimeoutTooLow, 0.7, what).with("kernel", 3, text))
}

/// The client does not send, or does not read.
fn client(sight: &Sight<'_>) -> Option<Match> {
    let thread = sight.thread.filter(|_| !sight.is_task())?;
    let by_fd = sight.case.client_fd.is_some() && thread.fd == sight.case.client_fd;
    let client = &sight.case.request.client;
    let by_peer = !client.is_empty() && thread.peer.as_ref() == Some(client);
    if sight.case.writes && sight.is_unpointed() {
        let what = "waits for its client to read the response";
        let text =
            format!("what was sent to {client} is not acknowledged, and the thread is {}", thread.doing);
        return Some(Match::new(Cause::ClientSlow, 0.9, what).with("kernel", 3, text));
    }
    if !by_fd && !by_peer {
        return None;
    }
    let sends = matches!(thread.syscall.as_str(), "sendto" | "sendmsg" | "write" | "sendfile");
    let what = if sends {
        "waits for its client to read the response"
    } else {
        "waits for its client to send the request, or to read the response"
    };
    let text = format!("the thread is {}, which is the client's own connection", thread.doing);
    Some(Match::new(Cause::ClientSlow, 0.97, what).with("kernel", 3, text))
}

/// A call of another thread never lets go of the interpreter, and this one stands in line for it.
fn interpreter_kept(sight: &Sight<'_>) -> Option<Match> {
    let own = sight.thread?;
    let keeper = sight.keeper().filter(|keeper| keeper.tid != own.tid && own.syscall == "futex")?;
    let other = external::follow(sight, keeper);
    if !matches!(other.cause, Cause::CpuRegex | Cause::CpuBound) {
        return None;
    }
    let what =
        format!("waits for the interpreter, which another thread does not let go of: that {}", other.summary);
    let text = format!("thread {} holds the interpreter in every look, at the same line", keeper.tid);
    let confidence = (other.confidence - 0.04).max(0.0);
    let mut found = Match::new(other.cause, confidence, what).with("stack", 3, text);
    found.findings.extend(other.findings);
    found.frames = keeper.frames.iter().filter(|frame| frame.is_application()).take(3).cloned().collect();
    Some(found)
}

fn subprocess(sight: &Sight<'_>) -> Option<Match> {
    let by_call = matches!(sight.syscall(), "wait4" | "waitid");
    let by_stack = sight.is_in(|call| call == Call::Subprocess);
    if !by_call && !by_stack {
        return None;
    }
    let child = sight.last.children.iter().max_by(|one, other| one.age_s.total_cmp(&other.age_s));
    let mut found = Match::new(
        Cause::Subprocess,
        if by_call && by_stack { 0.97 } else { 0.92 },
        "waits for a process that it has started",
    );
    if let Some(child) = child {
        found.what = format!("waits for the process `{}` (pid {})", child.name, child.pid);
        let text = format!(
            "the process `{}` has run for {:.1} s, used {:.1} s of processor, and is {}",
            child.name, child.age_s, child.cpu_s, child.doing
        );
        found = found.with("kernel", 3, text);
    }
    Some(found)
}

fn regex(sight: &Sight<'_>) -> Option<Match> {
    if !sight.is_busy() {
        return None;
    }
    let by_stack = sight.is_in(|call| call == Call::Regex);
    // A compiled pattern is called without a call of Python's in between.
    let by_code = sight.called().is_empty()
        && sight.lines <= 1
        && sight.frames.first().is_some_and(|frame| has_regex(&frame.code));
    if !by_stack && !by_code {
        return None;
    }
    let place = sight.application().first().map_or(String::new(), |frame| format!(" at {frame}"));
    let what = format!("runs a regular expression that does not come to its end{place}");
    let confidence = if by_stack { 0.93 } else { 0.86 };
    let text = "the processor's time goes into matching a regular expression, and the line does not change"
        .to_owned();
    Some(Match::new(Cause::CpuRegex, confidence, what).with("stack", 3, text))
}

/// Tells whether a line of code matches something.
fn has_regex(code: &str) -> bool {
    const CALLS: [&str; 9] = [
        ".match(",
        ".search(",
        ".fullmatch(",
        ".findall(",
        ".finditer(",
        ".sub(",
        ".subn(",
        "re.split(",
        "re.",
    ];
    CALLS.iter().any(|call| code.contains(call))
}

/// Code that goes round in a `while`.
fn endless(sight: &Sight<'_>) -> Option<Match> {
    let frame = sight.frames.first().filter(|frame| frame.is_application() && sight.is_busy())?;
    if frame.within != "while" {
        return None;
    }
    let what = format!("goes round in a loop that does not end, at {frame}");
    let text = format!("its thread computes, always in `{}`, within a `while` loop", frame.function);
    let confidence = if sight.case.looks.len() > 1 { 0.82 } else { 0.7 };
    Some(Match::new(Cause::InfiniteLoop, confidence, what).with("stack", 2, text))
}

fn computes(sight: &Sight<'_>) -> Option<Match> {
    if !sight.is_busy() {
        return None;
    }
    let place = sight.application().first().map_or(String::new(), |frame| format!(" at {frame}"));
    let share = sight.cpu.map_or(String::new(), |share| format!(" ({:.0} % of a processor)", share * 100.0));
    let confidence = if sight.frames.is_empty() { 0.85 } else { 0.9 };
    Some(Match::new(Cause::CpuBound, confidence, format!("computes{place}")).with(
        "kernel",
        3,
        format!("its thread computes{share}, and waits for nothing"),
    ))
}

fn sleeps(sight: &Sight<'_>) -> Option<Match> {
    let thread = sight.thread;
    let by_call = matches!(sight.syscall(), "clock_nanosleep" | "nanosleep")
        || thread.is_some_and(|thread| !sight.is_task() && thread.doing.starts_with("sleeping"));
    let by_stack = sight.is_in(|call| call == Call::Sleep);
    let by_code =
        sight.is_hidden() && sight.frames.first().is_some_and(|frame| frame.code.contains("sleep("));
    if by_code && !by_stack {
        let what = format!("sleeps at {}", sight.frames[0]);
        return Some(Match::new(Cause::ExplicitSleep, 0.85, what).with(
            "stack",
            3,
            "its line of code sleeps",
        ));
    }
    if !by_call && !by_stack {
        return None;
    }
    let place = sight.application().first().map_or(String::new(), |frame| format!(" at {frame}"));
    let what = format!("sleeps{place}");
    let confidence = if sight.called().is_empty() || by_stack { 0.96 } else { 0.85 };
    Some(Match::new(Cause::ExplicitSleep, confidence, what).with("kernel", 3, "it waits for the time alone"))
}

/// It waits for a lock that nobody will release.
fn deadlock(sight: &Sight<'_>) -> Option<Match> {
    let thread = sight.thread.filter(|thread| thread.syscall == "futex" && !sight.is_task())?;
    let forever = thread.patience_ms.is_none_or(|patience_ms| patience_ms < 0);
    let own = sight
        .called()
        .iter()
        .all(|frame| super::known::call(frame).is_some_and(|call| call == Call::Machinery));
    if !forever || (!own && !sight.frames.is_empty()) {
        return None;
    }
    let waits = |other: &&crate::evidence::Thread| {
        let free = other.frames.is_empty() || super::known::call(&other.frames[0]) == Some(Call::Loop);
        other.tid != thread.tid
            && other.syscall == "futex"
            && super::known::has_application(&other.frames)
            && !free
    };
    let others = sight.last.threads.iter().filter(waits).count();
    let place = sight.application().first().map_or(String::new(), |frame| format!(" at {frame}"));
    let what = format!("waits for a lock that is not released{place}");
    let still = sight.still == sight.case.looks.len() && sight.still > 1;
    let confidence = match (sight.frames.is_empty(), others > 0, still) {
        (true, ..) => 0.55,
        (_, true, true) => 0.95,
        (_, false, true) => 0.86,
        _ => 0.75,
    };
    let mut found = Match::new(Cause::Deadlock, confidence, what).with(
        "kernel",
        3,
        "its thread waits for a lock without a time limit and has not moved",
    );
    if others > 0 {
        let text =
            format!("{others} other threads of its process wait for locks in the application's code, too");
        found = found.with("stack", 3, text);
    }
    Some(found)
}

/// Tells whether a cause is known well enough to say so.
pub(super) fn is_sure(confidence: f64) -> bool {
    confidence >= SURE
}

/// How a stack was found out matters for how much it says.
pub(super) fn grade(source: Source) -> &'static str {
    match source {
        Source::Outside => "read from outside",
        Source::Interpreter | Source::Task => "asked of the interpreter",
        Source::Faulthandler => "written by the thread itself",
        Source::Kernel => "not known",
    }
}
