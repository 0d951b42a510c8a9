//! What rules, modes, guardrails and budgets come to, together.

use super::*;
use crate::diagnosis::Cause;
use crate::incident::State;

fn stuck(cause: Cause) -> Facts {
    Facts {
        evidence: "20200101-1".into(),
        cause,
        confidence: 0.95,
        state: State::Open,
        route: "GET /report".into(),
        age_s: Some(31.0),
        deadline_s: Some(30.0),
        requests_stuck: 4,
        requests_lost: 4,
        workers: 4,
        threads: 4,
        stuck_threads: 4,
        queued: 3,
        host_cpu: Some(0.1),
        hosts: 1,
        ..Facts::default()
    }
}

fn decided(policy: &Policy, facts: &Facts, ledger: &Ledger, now_s: f64) -> Vec<String> {
    let told = |proposal: Proposal| match proposal.verdict {
        Verdict::Do => format!("{} by {}", proposal.step.kind, proposal.rule),
        Verdict::Advise(why) => format!("{} advised: {why}", proposal.step.kind),
        Verdict::Withheld(why) => format!("{} withheld: {why}", proposal.step.kind),
    };
    policy.decide(facts, ledger, now_s).into_iter().map(told).collect()
}

fn in_mode(mode: Mode, facts: &Facts) -> Vec<String> {
    decided(&Policy::builtin(mode), facts, &Ledger::default(), 0.0)
}

/// Does the first thing that is proposed; false if nothing is to be done.
fn done(policy: &Policy, facts: &Facts, ledger: &mut Ledger, number: u64, now_s: f64) -> bool {
    let found = policy.decide(facts, ledger, now_s).into_iter().find(|one| one.verdict == Verdict::Do);
    found.inspect(|proposal| ledger.done(number, proposal, now_s)).is_some()
}

#[test]
fn each_mode_does_what_it_says() {
    let query = stuck(Cause::DbSlowQuery);
    assert_eq!(in_mode(Mode::Observe, &query), Vec::<String>::new());
    assert_eq!(in_mode(Mode::Advise, &query), ["cancel_query advised: mode advise does nothing by itself"]);
    assert_eq!(in_mode(Mode::Protect, &query), ["cancel_query by stuck-query"]);
    assert_eq!(in_mode(Mode::Act, &query), ["cancel_query by stuck-query"]);
    // Its time is not over.
    let young = Facts { age_s: Some(20.0), ..query.clone() };
    assert_eq!(in_mode(Mode::Act, &young), Vec::<String>::new());
    // Nor is it for all those before it.
    let hopeless = Facts { hopeless: true, method: "GET".into(), ..young.clone() };
    assert_eq!(in_mode(Mode::Protect, &hopeless), ["cancel_query by stuck-query"]);
    let writes = Facts { method: "POST".into(), ..hopeless };
    assert_eq!(in_mode(Mode::Act, &writes), Vec::<String>::new());
    let unsure = Facts { confidence: 0.6, ..query };
    assert_eq!(in_mode(Mode::Act, &unsure), Vec::<String>::new());
    let external = stuck(Cause::ExternalNoTimeout);
    assert_eq!(in_mode(Mode::Protect, &external), ["shut_socket by stuck-external"]);
    let waits = Facts { also: vec![Cause::SyncForIo], ..stuck(Cause::ExplicitSleep) };
    assert_eq!(in_mode(Mode::Protect, &waits), ["add_workers advised: mode protect does not: mode act does"]);
    assert_eq!(in_mode(Mode::Act, &waits), ["add_workers by io-capacity"]);
    let orphan = Facts { orphan: true, state: State::Note, ..stuck(Cause::Unknown) };
    assert_eq!(in_mode(Mode::Protect, &orphan), ["cancel_orphan by orphan-query"]);
}

#[test]
fn guardrails_hold_whatever_rules_say() {
    let rule = |action: &str| {
        format!("mode = \"act\"\n[[rule]]\nname = \"mine\"\nwhen = 'true'\ndo = [\"{action}\"]")
    };
    let with = |action: &str, facts: &Facts| {
        let policy = Policy::parse(&rule(action)).expect("a policy");
        decided(&policy, facts, &Ledger::default(), 0.0)[0].clone()
    };
    let calm = || Facts { hosts: 1, ..stuck(Cause::ExplicitSleep) };
    assert_eq!(with("add_workers", &calm()), "add_workers by mine");
    let table: [(&str, Facts, &str); 15] = [
        ("add_workers", stuck(Cause::DbLock), "more workers would make it worse"),
        ("add_workers", stuck(Cause::PoolExhausted), "more workers would make it worse"),
        ("add_workers", stuck(Cause::CpuBound), "more workers would make it worse"),
        ("add_workers", Facts { because: Some(Cause::DbSlowQuery), ..calm() }, "db.slow_query: more workers"),
        (
            "add_workers",
            Facts { scarce: Some("cpu.bound (incident 7)".into()), ..calm() },
            "cpu.bound (incident 7) is open as well: more workers would make it worse",
        ),
        (
            "add_workers",
            Facts { memory_available: Some(1 << 26), worker_memory: Some(1 << 26), ..calm() },
            "MB of memory",
        ),
        (
            "add_workers",
            Facts { db_connections: Some(80), db_connections_max: Some(100), ..calm() },
            "80 of 100",
        ),
        ("add_workers", Facts { workers: 1, ..calm() }, "add_workers by mine"),
        ("remove_workers", calm(), "no workers were added"),
        ("kill_worker", Facts { state: State::Note, ..calm() }, "there is no incident"),
        ("kill_worker", Facts { hosts: 3, ..calm() }, "3 hosts have the same at once"),
        ("recycle", Facts { young_workers: 3, ..calm() }, "more restarts do not help"),
        ("recycle", Facts { code_differs: true, ..calm() }, "new workers would deploy it"),
        ("halt_reload", Facts { stock: true, ..calm() }, "cannot be halted"),
        ("restart_master", Facts { stock: true, ..stuck(Cause::DbLock) }, "somebody else's trouble"),
    ];
    for (action, facts, expected) in table {
        let found = with(action, &facts);
        assert!(found.contains(expected), "{action}: {found}");
    }
    assert_eq!(with("restart_master", &Facts { stock: true, ..calm() }), "restart_master by mine");
}

#[test]
fn budgets_and_rests_are_kept() {
    let (policy, mut ledger) = (Policy::builtin(Mode::Act), Ledger::default());
    let waits = Facts { also: vec![Cause::SyncForIo], workers: 40, ..stuck(Cause::ExplicitSleep) };
    let mut number = 0;
    let mut now_s = 0.0;
    let mut times = Vec::new();
    while now_s < 7200.0 {
        number += 1;
        if done(&policy, &waits, &mut ledger, number, now_s) {
            times.push(now_s);
            // Each helps, and is taken back.
            policy.verified(&mut ledger, number, Outcome::Better, now_s + 60.0);
            ledger.reverted(number);
        }
        now_s += 10.0;
    }
    assert_eq!(times[..6], [0.0, 60.0, 120.0, 180.0, 240.0, 300.0]);
    assert_eq!(times.len(), 12, "six an hour: {times:?}");
    let why = decided(&policy, &waits, &ledger, 3900.0 + 3300.0);
    assert!(why[0].contains("add_workers"), "{why:?}");
}

#[test]
fn what_does_not_help_rests_longer_and_then_all_of_it_stops() {
    let (policy, mut ledger) = (Policy::builtin(Mode::Act), Ledger::default());
    let leak = stuck(Cause::PoolLeak);
    assert!(done(&policy, &leak, &mut ledger, 1, 0.0));
    assert!(ledger.due_for_verification(59.0).is_empty());
    assert_eq!(ledger.due_for_verification(60.0), [1]);
    assert_eq!(policy.verified(&mut ledger, 1, Outcome::Same, 60.0), AfterThat::Keep);
    assert!(!done(&policy, &leak, &mut ledger, 2, 601.0), "the rest is twice as long");
    assert!(done(&policy, &leak, &mut ledger, 2, 1201.0));
    assert_eq!(policy.verified(&mut ledger, 2, Outcome::Worse, 1261.0), AfterThat::Keep);
    let query = stuck(Cause::DbSlowQuery);
    assert!(done(&policy, &query, &mut ledger, 3, 1262.0));
    policy.verified(&mut ledger, 3, Outcome::Same, 1330.0);
    assert!(ledger.locked_out(1331.0).is_some_and(|why| why.contains("have not helped")));
    assert!(!done(&policy, &query, &mut ledger, 4, 1400.0));
    assert!(done(&policy, &query, &mut ledger, 4, 1330.0 + 1801.0));
    // A second time it was worse: only a person allows it again.
    let mut ledger = Ledger::default();
    for number in 1..3_u32 {
        let now_s = f64::from(number) * 40_000.0;
        assert!(done(&policy, &leak, &mut ledger, number.into(), now_s));
        policy.verified(&mut ledger, number.into(), Outcome::Worse, now_s + 60.0);
    }
    let later = 900_000.0;
    assert!(decided(&policy, &leak, &ledger, later)[0].contains("has made it worse 2 times"));
    ledger.on();
    assert!(done(&policy, &leak, &mut ledger, 9, later));
}

#[test]
fn workers_that_made_it_worse_are_taken_back() {
    let (policy, mut ledger) = (Policy::builtin(Mode::Act), Ledger::default());
    let waits = Facts { also: vec![Cause::SyncForIo], ..stuck(Cause::ExplicitSleep) };
    for (number, outcome, then) in
        [(1, Outcome::Better, AfterThat::Keep), (2, Outcome::Worse, AfterThat::Undo)]
    {
        let now_s = number as f64 * 1000.0;
        assert!(done(&policy, &waits, &mut ledger, number, now_s));
        assert_eq!(policy.verified(&mut ledger, number, outcome, now_s + 60.0), then);
    }
    assert_eq!(ledger.extra(), 2);
    ledger.reverted(2);
    assert_eq!((ledger.extra(), ledger.due_for_revert(1599.0)), (1, vec![]));
    assert_eq!(ledger.due_for_revert(1600.0), [1]);
    ledger.reverted(1);
    assert_eq!((ledger.extra(), ledger.due_for_revert(9999.0)), (0, vec![]));
}

#[test]
fn off_is_off_at_once_and_survives() {
    let (policy, mut ledger) = (Policy::builtin(Mode::Act), Ledger::default());
    let query = stuck(Cause::DbSlowQuery);
    assert!(done(&policy, &query, &mut ledger, 1, 0.0));
    ledger.off();
    assert!(decided(&policy, &query, &ledger, 0.0)[0].contains("`ferricornctl on`"));
    let kept = serde_json::to_string(&ledger).expect("JSON");
    let mut ledger: Ledger = serde_json::from_str(&kept).expect("the same");
    assert!(ledger.is_off() && !done(&policy, &query, &mut ledger, 2, 9999.0));
    ledger.on();
    assert!(done(&policy, &query, &mut ledger, 2, 9999.0));
}

#[test]
fn workers_are_ended_one_after_the_other() {
    let (policy, mut ledger) = (Policy::builtin(Mode::Act), Ledger::default());
    let hopeless = Facts { stock: true, ..stuck(Cause::Deadlock) };
    assert!(done(&policy, &hopeless, &mut ledger, 1, 0.0));
    assert!(!done(&policy, &hopeless, &mut ledger, 2, 30.0), "one of four at once");
    assert!(done(&policy, &hopeless, &mut ledger, 2, 61.0));
    let many = Facts { workers: 12, ..hopeless };
    assert!(done(&policy, &many, &mut ledger, 3, 67.0));
}

#[test]
fn ones_own_rules_come_first() {
    let text = r#"
mode = "act"
[budget]
cancel_query = "1/h"
total = "2/1h"
[limits]
extra_workers = 1
worker_factor = 2.0
at_once = "50%"
lockout = "5/1h"
[[rule]]
name = "stuck-query"
when = 'cause == "db.lock"'
do = ["cancel_query"]
[[rule]]
name = "leak"
enabled = false
"#;
    let policy = Policy::parse(text).expect("a policy");
    let names: Vec<&str> = policy.rules().iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        ["stuck-query", "orphan-query", "stuck-external", "hopeless-worker", "io-capacity", "bad-reload"]
    );
    let mut ledger = Ledger::default();
    assert_eq!(policy.decide(&stuck(Cause::DbSlowQuery), &ledger, 0.0), []);
    assert!(done(&policy, &stuck(Cause::DbLock), &mut ledger, 1, 0.0));
    assert!(decided(&policy, &stuck(Cause::DbLock), &ledger, 9.0)[0].contains("was done 1 times in 3600 s"));
    let waits = Facts { also: vec![Cause::SyncForIo], workers: 1, ..stuck(Cause::ExplicitSleep) };
    assert!(done(&policy, &waits, &mut ledger, 2, 0.0));
    let more = Facts { workers: 2, ..waits };
    assert!(
        decided(&policy, &more, &ledger, 99.0)[0].contains("2 more than the 1"),
        "{:?}",
        decided(&policy, &more, &ledger, 99.0)
    );
    // Each rule, and each part of its condition.
    let considered = policy.explain(&stuck(Cause::DbSlowQuery), &ledger, 0.0);
    let first = considered.iter().find(|one| one.rule == "stuck-external").expect("there");
    assert!(!first.fits && first.parts.len() == 3 && first.parts[0].1 == Some(false), "{first:?}");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let mistakes = |text: &str| {
        let found = Policy::parse(text).expect_err("wrong");
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let rule = |when: &str, steps: &str| format!("[[rule]]\nname = \"a\"\nwhen = '{when}'\ndo = {steps}\n");
    let table = [
        (
            "mode = \"actt\"".to_owned(),
            "line 1, column 8: there is no such mode: observe, advise, protect, act",
        ),
        ("[budget]\nkill = \"6/h\"".to_owned(), "line 2, column 8: there is no action kill"),
        ("[budget]\ntotal = \"6\"".to_owned(), "line 2, column 9: a budget is a number in a time"),
        (
            rule("caus == \"x\"", "[\"recycle\"]"),
            "line 3, column 9: there is nothing called `caus`; did you mean `cause`?",
        ),
        (
            rule("cause == \"db.lok\"", "[\"recycle\"]"),
            "line 3, column 18: no cause is called `db.lok`; did you mean `db.lock`?",
        ),
        (rule("cause > 5", "[\"recycle\"]"), "line 3, column 9: this is a text, and a number is wanted here"),
        (
            rule("age", "[\"recycle\"]"),
            "line 3, column 9: this is a number, and true or false is wanted here",
        ),
        (rule("age > 5 queued > 1", "[\"recycle\"]"), "`&&` or `||` is missing"),
        (rule("age > 5x", "[\"recycle\"]"), "`x` is no unit"),
        (rule("(age > 5", "[\"recycle\"]"), "`)` is missing here"),
        (
            rule("true", "[\"reboot\"]"),
            "line 4, column 7: there is no action reboot: there are cancel_orphan",
        ),
        (rule("true", "[{ add_workers = 0 }]"), "add_workers takes a number from 1 to 64"),
        (rule("true", "[]"), "rule a does nothing"),
        ("[[rule]]\nname = \"a\"".to_owned(), "rule a has no `when`"),
        ("[[rules]]".to_owned(), "unknown field `rules`"),
        ("mode = ".to_owned(), "line 1"),
    ];
    for (text, expected) in table {
        let found = mistakes(&text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
    let two = rule("true", "[\"recycle\"]").repeat(2);
    assert!(mistakes(&two).contains("two rules called a"));
}
