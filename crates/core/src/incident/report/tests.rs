//! Two made-up incidents, in full: one of which everything was seen, one of which next to nothing.

use super::*;
use crate::evidence::Source;
use crate::incident::{Moment, SCHEMA, Trigger};
use crate::record::Server;
use crate::snapshot::Kind;
use std::collections::BTreeMap;

/// Hours, minutes and seconds; the made-up incidents are of one day.
fn stamp(at: f64) -> String {
    let at = at as u64;
    format!("{:02}:{:02}:{:02}", at / 3600, at / 60 % 60, at % 60)
}

fn at(hour: u32, minute: u32, second: u32) -> f64 {
    f64::from(hour * 3600 + minute * 60 + second)
}

fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame { function: function.into(), file: file.into(), line, ..Frame::default() }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn finding(source: &str, text: &str, weight: u8) -> Finding {
    Finding { source: source.into(), text: text.into(), weight }
}

fn stack() -> Vec<Frame> {
    let query = "SELECT month, sum(amount) FROM report_rows WHERE account_ref = $1 GROUP BY month";
    let packages = "/venv/lib/python3.12/site-packages";
    let mut frames = vec![
        frame("Connection.wait", &format!("{packages}/psycopg/connection.py"), 495),
        Frame {
            locals: BTreeMap::from([("query".to_owned(), format!("{query:?}"))]),
            ..frame("Cursor.execute", &format!("{packages}/psycopg/cursor.py"), 113)
        },
        frame("monthly_totals", "/srv/shop/reports/queries.py", 88),
        frame("generate", "/srv/shop/reports/views.py", 41),
    ];
    frames.extend((0..9).map(|depth| frame("dispatch", &format!("{packages}/flask/app.py"), 900 + depth)));
    frames
}

fn full() -> Incident {
    let moment = |at, text: &str| Moment { at, text: text.into() };
    Incident {
        schema: SCHEMA,
        id: "20261122-7".into(),
        server: Server {
            pid: 400,
            name: "shop".into(),
            version: "0.1.0".into(),
            started_ns: 1,
            kind: Kind::Ferricorn,
        },
        state: State::Mitigated,
        trigger: Some(Trigger::Losses),
        fingerprint: "db.slow_query".into(),
        cause: Cause::DbSlowQuery,
        confidence: 0.96,
        verdict:
            "PostgreSQL reads all of report_rows (48 million rows) for a statement of reports/queries.py:88"
                .into(),
        because: Some(Because {
            cause: Cause::HostDiskOrSwap,
            text: "the table does not fit into memory any more, and each run reads it from the disk".into(),
        }),
        also: vec![Cause::SyncForIo],
        route: "POST /api/reports/generate".into(),
        routes: vec![("POST /api/reports/generate".into(), 11), ("GET /export".into(), 1250)],
        noted_at: at(14, 3, 2),
        diagnosed_at: Some(at(14, 5, 35)),
        opened_at: Some(at(14, 6, 12)),
        last_at: at(14, 9, 40),
        mitigated_at: Some(at(14, 9, 40)),
        closed_at: None,
        requests_lost: 61,
        requests_stuck: 1204,
        workers: (456..464).collect(),
        impact: texts(&[
            "8 of 8 workers were busy with it for 2 min 10 s, so that all other routes waited",
            "p99 over all routes went from 0.41 s to 30.0 s (lost requests included)",
        ]),
        request: Some(Request {
            id: "456-12".into(),
            method: "POST".into(),
            path: "/api/reports/generate".into(),
            query: "account=*".into(),
            client: "10.2.0.17:51432".into(),
            body_bytes: 1900,
            read_s: 0.002,
            queue_s: 0.011,
            app_s: 30.1,
            deadline_s: Some(30.0),
            ..Request::default()
        }),
        worker: Some(Worker {
            pid: 456,
            age: 12,
            generation: 2,
            threads: 1,
            uptime_s: 190.0,
            requests: 37,
            ..Worker::default()
        }),
        source: Source::Outside,
        frames: stack(),
        evidence: vec![
            finding(
                "kernel",
                "its thread sleeps in poll() on descriptor 11, which leads to 10.0.3.5:5432; the connection has been silent for 24.1 s, and all that was sent is acknowledged",
                3,
            ),
            finding(
                "database",
                "backend 25083 (its descriptor 11) is active, waits for IO/DataFileRead, has run for 24.0 s, and is blocked by nobody",
                3,
            ),
            finding("database", "plan: Seq Scan on report_rows, an estimated 48,112,900 rows", 2),
            finding("history", "the statement took 38 ms on average until 14:02, and 31,900 ms since", 1),
        ],
        ruled_out: texts(&[
            "a lock: nobody blocks the backend",
            "too few connections: nobody waits for one",
            "the processor: 0.04 s used in 30.1 s",
        ]),
        not_visible: vec![
            Gap { what: "PgBouncer was not asked".into(), how: "name it in `reflex_databases`".into() },
            Gap { what: "who has changed the statement".into(), how: String::new() },
        ],
        causes: vec![
            Candidate { cause: Cause::DbSlowQuery, confidence: 0.96 },
            Candidate { cause: Cause::DbBigResult, confidence: 0.03 },
        ],
        timeline: vec![
            moment(at(14, 3, 2), "the first slow request: 12 s"),
            moment(at(14, 5, 35), "cause known: db.slow_query, 0.96"),
            moment(at(14, 5, 41), "the first request lost (POST /api/reports/generate)"),
            moment(at(14, 9, 40), "nothing of it has been seen for two minutes"),
        ],
        fixes: Fixes {
            now: texts(&[
                "CREATE INDEX CONCURRENTLY ON report_rows (account_ref)",
                "SELECT pg_cancel_backend(25083)",
            ]),
            next: texts(&["ALTER ROLE web SET statement_timeout = '25s'"]),
            proper: texts(&["answer 202, and make the report in a queue"]),
        },
        ..Incident::default()
    }
}

/// No right to trace, no access to the database: what the kernel says of a socket.
fn little() -> Incident {
    Incident {
        id: "20261122-8".into(),
        server: Server {
            pid: 1,
            name: "ferricorn".into(),
            version: "0.1.0".into(),
            started_ns: 1,
            kind: Kind::Ferricorn,
        },
        state: State::Note,
        cause: Cause::DbQueryOrLock,
        confidence: 0.72,
        verdict: "PostgreSQL at 10.0.3.5:5432 has not answered for 24 s".into(),
        noted_at: at(14, 5, 11),
        last_at: at(14, 5, 11),
        requests_lost: 1,
        requests_stuck: 1,
        workers: vec![7],
        source: Source::Kernel,
        evidence: vec![finding("kernel", "the thread waits for 10.0.3.5:5432", 2)],
        not_visible: vec![
            Gap { what: "the stack: no right to trace the worker".into(), how: "add CAP_SYS_PTRACE".into() },
            Gap {
                what: "the statement: the database was not asked".into(),
                how: "GRANT pg_monitor TO reflex".into(),
            },
        ],
        causes: vec![
            Candidate { cause: Cause::DbQueryOrLock, confidence: 0.72 },
            Candidate { cause: Cause::ExternalNoTimeout, confidence: 0.1 },
        ],
        fixes: Fixes { next: texts(&["ALTER ROLE web SET statement_timeout = '25s'"]), ..Fixes::default() },
        ..Incident::default()
    }
}

#[test]
fn an_incident_of_which_all_was_seen() {
    insta::assert_snapshot!(text(&full(), &stamp), @r##"
    Incident 20261122-7 (mitigated): db.slow_query on POST /api/reports/generate
    server shop (pid 400, ferricorn 0.1.0), opened 14:06:12: more requests are lost than chance explains

    VERDICT      PostgreSQL reads all of report_rows (48 million rows) for a statement of
                 reports/queries.py:88
                 cause    db.slow_query, confidence 0.96: a database works on a statement that takes
                          long
                 because  the table does not fit into memory any more, and each run reads it from the
                          disk (host.disk_or_swap)
                 also     worker_class.sync_for_io: every thread waits for somebody else while the host
                          has nothing to do: there are too few of them

    IMPACT       from 14:03:02 to 14:09:40 (6m 38s)
                 61 requests lost, 1,204 seen stuck, on 8 workers (456, 457, 458, 459, 460 and 3 more)
                 routes  POST /api/reports/generate 11, GET /export 1,250

    THE REQUEST  POST /api/reports/generate?account=* (request 456-12) from 10.2.0.17:51432, 1.9 kB of
                 body
                 30.1s of 30.0s in the application, after 2ms to read it and 11ms in line
                 worker 456 (number 12, generation 2): up 3m 10s, served 37 requests, 0 in line for 1
                 app thread

    WHERE IT WAS the innermost call first, read from outside, without the interpreter
                    /venv/lib/python3.12/site-packages/psycopg/connection.py:495 in Connection.wait
                    /venv/lib/python3.12/site-packages/psycopg/cursor.py:113 in Cursor.execute
                        query = "SELECT month, sum(amount) FROM report_rows WHERE account_ref = $1 GROUP BY month"
                 >> /srv/shop/reports/queries.py:88 in monthly_totals
                 >> /srv/shop/reports/views.py:41 in generate
                    /venv/lib/python3.12/site-packages/flask/app.py:900 in dispatch
                    /venv/lib/python3.12/site-packages/flask/app.py:901 in dispatch
                    /venv/lib/python3.12/site-packages/flask/app.py:902 in dispatch
                    /venv/lib/python3.12/site-packages/flask/app.py:903 in dispatch
                    ... 4 more calls in libraries
                    /venv/lib/python3.12/site-packages/flask/app.py:908 in dispatch

    EVIDENCE     +++ kernel    its thread sleeps in poll() on descriptor 11, which leads to
                               10.0.3.5:5432; the connection has been silent for 24.1 s, and all that
                               was sent is acknowledged
                 +++ database  backend 25083 (its descriptor 11) is active, waits for IO/DataFileRead,
                               has run for 24.0 s, and is blocked by nobody
                 ++  database  plan: Seq Scan on report_rows, an estimated 48,112,900 rows
                 +   history   the statement took 38 ms on average until 14:02, and 31,900 ms since

    RULED OUT    a lock: nobody blocks the backend
                 too few connections: nobody waits for one
                 the processor: 0.04 s used in 30.1 s

    NOT VISIBLE  PgBouncer was not asked; to see it: name it in `reflex_databases`
                 who has changed the statement

    TIMELINE     14:03:02  the first slow request: 12 s
                 14:05:35  cause known: db.slow_query, 0.96
                 14:05:41  the first request lost (POST /api/reports/generate)
                 14:09:40  nothing of it has been seen for two minutes

    FIX          now     CREATE INDEX CONCURRENTLY ON report_rows (account_ref)
                 now     SELECT pg_cancel_backend(25083)
                 next    ALTER ROLE web SET statement_timeout = '25s'
                 proper  answer 202, and make the report in a queue

    CONFIDENCE   0.96
                 else 0.03  db.big_result: a statement returns more rows than the request can work on in
                            its time
    "##);
}

#[test]
fn the_same_in_markdown() {
    insta::assert_snapshot!(markdown(&full(), &stamp), @r##"
    # Incident 20261122-7 (mitigated): db.slow_query on POST /api/reports/generate

    server shop (pid 400, ferricorn 0.1.0), opened 14:06:12: more requests are lost than chance explains

    ## Verdict

    PostgreSQL reads all of report_rows (48 million rows) for a statement of reports/queries.py:88

    - **cause** db.slow_query, confidence 0.96: a database works on a statement that takes long
    - **because** the table does not fit into memory any more, and each run reads it from the disk (host.disk_or_swap)
    - **also** worker_class.sync_for_io: every thread waits for somebody else while the host has nothing to do: there are too few of them

    ## Impact

    - from 14:03:02 to 14:09:40 (6m 38s)
    - 61 requests lost, 1,204 seen stuck, on 8 workers (456, 457, 458, 459, 460 and 3 more)
    - **routes** POST /api/reports/generate 11, GET /export 1,250

    ## The request

    - POST /api/reports/generate?account=\* (request 456-12) from 10.2.0.17:51432, 1.9 kB of body
    - 30.1s of 30.0s in the application, after 2ms to read it and 11ms in line
    - worker 456 (number 12, generation 2): up 3m 10s, served 37 requests, 0 in line for 1 app thread

    ## Where it was

    the innermost call first, read from outside, without the interpreter

    ```text
       /venv/lib/python3.12/site-packages/psycopg/connection.py:495 in Connection.wait
       /venv/lib/python3.12/site-packages/psycopg/cursor.py:113 in Cursor.execute
           query = "SELECT month, sum(amount) FROM report_rows WHERE account_ref = $1 GROUP BY month"
    >> /srv/shop/reports/queries.py:88 in monthly_totals
    >> /srv/shop/reports/views.py:41 in generate
       /venv/lib/python3.12/site-packages/flask/app.py:900 in dispatch
       /venv/lib/python3.12/site-packages/flask/app.py:901 in dispatch
       /venv/lib/python3.12/site-packages/flask/app.py:902 in dispatch
       /venv/lib/python3.12/site-packages/flask/app.py:903 in dispatch
       ... 4 more calls in libraries
       /venv/lib/python3.12/site-packages/flask/app.py:908 in dispatch
    ```

    ## Evidence

    - **\+++ kernel** its thread sleeps in poll() on descriptor 11, which leads to 10.0.3.5:5432; the connection has been silent for 24.1 s, and all that was sent is acknowledged
    - **\+++ database** backend 25083 (its descriptor 11) is active, waits for IO/DataFileRead, has run for 24.0 s, and is blocked by nobody
    - **\++ database** plan: Seq Scan on report_rows, an estimated 48,112,900 rows
    - **\+ history** the statement took 38 ms on average until 14:02, and 31,900 ms since

    ## Ruled out

    - a lock: nobody blocks the backend
    - too few connections: nobody waits for one
    - the processor: 0.04 s used in 30.1 s

    ## Not visible

    - PgBouncer was not asked; to see it: name it in \`reflex_databases\`
    - who has changed the statement

    ## Timeline

    - **14:03:02** the first slow request: 12 s
    - **14:05:35** cause known: db.slow_query, 0.96
    - **14:05:41** the first request lost (POST /api/reports/generate)
    - **14:09:40** nothing of it has been seen for two minutes

    ## Fix

    - **now** CREATE INDEX CONCURRENTLY ON report_rows (account_ref)
    - **now** SELECT pg_cancel_backend(25083)
    - **next** ALTER ROLE web SET statement_timeout = '25s'
    - **proper** answer 202, and make the report in a queue

    ## Confidence

    0.96

    - **else 0.03** db.big_result: a statement returns more rows than the request can work on in its time
    "##);
}

#[test]
fn one_of_which_next_to_nothing_was_seen() {
    insta::assert_snapshot!(text(&little(), &stamp), @r##"
    Incident 20261122-8 (note): db.query_or_lock
    server ferricorn (pid 1, ferricorn 0.1.0), noted 14:05:11

    VERDICT      PostgreSQL at 10.0.3.5:5432 has not answered for 24 s
                 cause  db.query_or_lock, confidence 0.72: a database has not answered a statement; it
                        could not be asked why

    IMPACT       seen 14:05:11
                 1 request lost, 1 seen stuck, on worker 7

    EVIDENCE     ++  kernel  the thread waits for 10.0.3.5:5432

    NOT VISIBLE  the stack: no right to trace the worker; to see it: add CAP_SYS_PTRACE
                 the statement: the database was not asked; to see it: GRANT pg_monitor TO reflex

    FIX          next  ALTER ROLE web SET statement_timeout = '25s'

    CONFIDENCE   0.72: a place to look at, not more
                 else 0.10  external.no_timeout: a service does not answer, and the call has no timeout
    "##);
    insta::assert_snapshot!(markdown(&little(), &stamp), @r##"
    # Incident 20261122-8 (note): db.query_or_lock

    server ferricorn (pid 1, ferricorn 0.1.0), noted 14:05:11

    ## Verdict

    PostgreSQL at 10.0.3.5:5432 has not answered for 24 s

    - **cause** db.query_or_lock, confidence 0.72: a database has not answered a statement; it could not be asked why

    ## Impact

    - seen 14:05:11
    - 1 request lost, 1 seen stuck, on worker 7

    ## Evidence

    - **\++ kernel** the thread waits for 10.0.3.5:5432

    ## Not visible

    - the stack: no right to trace the worker; to see it: add CAP_SYS_PTRACE
    - the statement: the database was not asked; to see it: GRANT pg_monitor TO reflex

    ## Fix

    - **next** ALTER ROLE web SET statement_timeout = '25s'

    ## Confidence

    0.72: a place to look at, not more

    - **else 0.10** external.no_timeout: a service does not answer, and the call has no timeout
    "##);
}

#[test]
fn the_cause_of_one_request() {
    let Incident { cause, confidence, verdict, evidence, ruled_out, not_visible, fixes, .. } = full();
    let summary = verdict;
    let one = Diagnosis {
        cause,
        confidence,
        summary,
        evidence,
        ruled_out,
        not_visible,
        fixes,
        ..Diagnosis::default()
    };
    insta::assert_snapshot!(diagnosis(&one), @r##"
    VERDICT      PostgreSQL reads all of report_rows (48 million rows) for a statement of
                 reports/queries.py:88
                 cause  db.slow_query, confidence 0.96: a database works on a statement that takes long

    EVIDENCE     +++ kernel    its thread sleeps in poll() on descriptor 11, which leads to
                               10.0.3.5:5432; the connection has been silent for 24.1 s, and all that
                               was sent is acknowledged
                 +++ database  backend 25083 (its descriptor 11) is active, waits for IO/DataFileRead,
                               has run for 24.0 s, and is blocked by nobody
                 ++  database  plan: Seq Scan on report_rows, an estimated 48,112,900 rows
                 +   history   the statement took 38 ms on average until 14:02, and 31,900 ms since

    RULED OUT    a lock: nobody blocks the backend
                 too few connections: nobody waits for one
                 the processor: 0.04 s used in 30.1 s

    NOT VISIBLE  PgBouncer was not asked; to see it: name it in `reflex_databases`
                 who has changed the statement

    FIX          now     CREATE INDEX CONCURRENTLY ON report_rows (account_ref)
                 now     SELECT pg_cancel_backend(25083)
                 next    ALTER ROLE web SET statement_timeout = '25s'
                 proper  answer 202, and make the report in a queue

    CONFIDENCE   0.96
    "##);
}

#[test]
fn what_others_have_written_stays_text() {
    let mut incident = little();
    incident.verdict = "\u{1b}[2Jgone\n# Verdict".into();
    incident.route = "/<script>alert(1)</script>".into();
    let text = text(&incident, &stamp);
    assert!(!text.contains('\u{1b}') && !text.contains("\n# Verdict"), "{text}");
    assert!(text.contains("\\u{1b}[2Jgone\\n# Verdict"), "{text}");
    let markdown = markdown(&incident, &stamp);
    assert!(!markdown.contains("<script>") && markdown.contains("\\<script\\>"), "{markdown}");
}

/// Both forms say the same: every sentence of one stands in the other.
#[test]
fn text_and_markdown_say_the_same() {
    for incident in [full(), little(), Incident::default()] {
        let words = |text: String| -> Vec<String> {
            let bare = text.replace(['\\', '*', '#', '`', '-'], " ").to_lowercase();
            let mut words: Vec<String> = bare.split_whitespace().map(str::to_owned).collect();
            words.retain(|word| word != "text");
            words.sort();
            words
        };
        assert_eq!(words(text(&incident, &stamp)), words(markdown(&incident, &stamp)));
    }
}

#[test]
fn a_long_stack_is_told_in_its_turns() {
    let library = |number: u32| frame("f", "/venv/lib/python3.12/site-packages/x.py", number);
    let mut incident = little();
    incident.frames = (0..100).map(library).collect();
    incident.frames[40] = frame("mine", "/srv/a.py", 1);
    let text = text(&incident, &stamp);
    let told = text.lines().filter(|line| line.contains(".py:")).count();
    assert_eq!(told, LIBRARY_MAX + 1 + LIBRARY_MAX, "{text}");
    assert!(text.contains("... 35 more calls in libraries") && text.contains("... 52 more calls"), "{text}");
    assert!(text.contains(">> /srv/a.py:1 in mine"));
}

#[test]
fn what_changed_has_a_section_of_its_own() {
    use crate::change::{Attribute, Contrast, Explained, Kind, Shift, Verdict};
    let contrast = Contrast {
        attribute: Attribute::Route,
        value: "GET /report".into(),
        bad: 12,
        bad_of: 12,
        good: 30,
        good_of: 900,
    };
    let change = Explained {
        name: "deploy 3f2a91c → 8be01d2, 1 file".into(),
        kind: Kind::Deploy,
        verdict: Verdict::Caused,
        text:
            "caused by deploy 3f2a91c → 8be01d2, 1 file, 12.0s before: before it 3 of 812 requests were slow"
                .into(),
        files: texts(&["shop/views.py"]),
        ..Explained::default()
    };
    let shift = Shift { text: "requests: 10.0/s → 40.0/s".into(), ..Shift::default() };
    let blamed = Incident { change: Some(change), contrast: vec![contrast], shifts: vec![shift], ..full() };
    let page = text(&blamed, &stamp);
    let section = page.split("\n\n").find(|section| section.starts_with("WHAT CHANGED")).expect("a section");
    insta::assert_snapshot!(section, @"
    WHAT CHANGED Caused by deploy 3f2a91c → 8be01d2, 1 file, 12.0s before: before it 3 of 812 requests
                 were slow.
                 files      shop/views.py
                 in common  route GET /report: 12 of 12 slow or lost requests, 30 of 900 others
                 shifted    requests: 10.0/s → 40.0/s
    ");
    assert!(page.contains("change   caused by deploy 3f2a91c → 8be01d2, 1 file"), "{page}");
    assert!(markdown(&blamed, &stamp).contains("## What changed"));
    // That none does is said, too; and nothing where nobody has looked.
    let none =
        Explained { text: "no change explains it: none is known before it".into(), ..Explained::default() };
    let page = text(&Incident { change: Some(none), ..full() }, &stamp);
    assert!(
        page.contains("WHAT CHANGED No change explains it: none is known before it.")
            && !page.contains("change   ")
    );
    assert!(!text(&full(), &stamp).contains("WHAT CHANGED"));
}
