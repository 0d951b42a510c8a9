//! What every verb prints for one made-up server, as a person and as a script see it.

use crate::run::View;
use crate::{locate, requests, workers};
use ferricorn_core::scoreboard::{Entry, Landing, MAGIC, Scoreboard, State, Timed, VERSION};
use ferricorn_core::snapshot::{self, Snapshot};
use ferricorn_sys::shared::SharedMemory;
use std::io::{self, Write};
use std::sync::atomic::Ordering::Relaxed;

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 10_000 * SECOND;

/// A server with a busy worker, one that drains and one that boots.
fn server() -> Snapshot {
    // Another name than a server's: the scan of `/proc` in other tests must not find it.
    let board: &Scoreboard = SharedMemory::create("render-tests").expect("shared memory").value();
    assert!(!locate::SCOREBOARD_NAME.starts_with("render"));
    board.magic.store(MAGIC, Relaxed);
    board.version.store(VERSION, Relaxed);
    board.arbiter_pid.store(100, Relaxed);
    board.started_ns.store(NOW - 7300 * SECOND, Relaxed);
    board.workers_target.store(2, Relaxed);
    board.generation.store(1, Relaxed);
    busy(board);
    let draining = &board.workers[0];
    board.claim(0, 1, 0, NOW - 7300 * SECOND);
    draining.pid.store(101, Relaxed);
    draining.ready(NOW - 7299 * SECOND);
    draining.state.store(State::Draining as u32, Relaxed);
    let booting = &board.workers[2];
    board.claim(2, 3, 1, NOW - SECOND / 4);
    booting.pid.store(103, Relaxed);
    snapshot::read(board, NOW, 0.0).expect("a scoreboard")
}

fn busy(board: &Scoreboard) {
    let worker = &board.workers[1];
    board.claim(1, 2, 1, NOW - 102 * SECOND);
    worker.pid.store(102, Relaxed);
    worker.ready(NOW - 100 * SECOND);
    worker.threads.store(4, Relaxed);
    worker.threads_free.store(2, Relaxed);
    worker.queued.store(5, Relaxed);
    worker.connections.store(1200, Relaxed);
    worker.taken_over.store(1, Relaxed);
    worker.takeovers.store(9, Relaxed);
    worker.handed_over.store(4, Relaxed);
    worker.requests.store(12_000, Relaxed);
    worker.statuses[1].store(11_998, Relaxed);
    worker.statuses[4].store(2, Relaxed);
    worker.refused.store(3, Relaxed);
    for us in [900, 1000, 1000, 30_000] {
        worker.timed[Timed::App as usize].record(us);
    }
    let entry = |id, age_s: u64, path| Entry {
        id,
        start_ns: NOW - age_s * SECOND,
        deadline_ns: NOW - age_s * SECOND + 30 * SECOND,
        complete_ns: NOW - age_s * SECOND,
        app_ns: NOW - age_s * SECOND,
        place: 0,
        tid: 200 + id as u32,
        fd: 9,
        method: b"GET",
        path,
        query: b"",
        body_bytes: 0,
        client: b"10.0.0.7:5123",
    };
    worker.records.store(5, Relaxed);
    worker.in_flight[0].enter(&entry(1, 2, b"/quick"));
    worker.in_flight[3].enter(&entry(2, 42, b"/stuck?q=\x1b[31m"));
    worker.in_flight[3].writing(4096);
    worker.in_flight[4].enter(&Entry { deadline_ns: 0, client: b"", ..entry(3, 5, b"/no-deadline") });
    let landing = |id, status, ago_s: u64| Landing {
        id,
        status,
        start_ns: NOW - ago_s * SECOND,
        total_us: 1500,
        app_us: 900,
        bytes: 1024,
    };
    worker.flights[0].record(&landing(1, 200, 3), b"GET", b"/a");
    worker.flights[1].record(&landing(2, 404, 2), b"POST", b"/b");
    worker.flights[2].record(&landing(3, 500, 1), b"GET", b"/c");
}

fn render(show: impl FnOnce(&View<'_>, &mut dyn Write) -> io::Result<()>) -> String {
    let snapshot = server();
    let mut out = Vec::new();
    show(&View { snapshot: &snapshot, standing: None, colours: false }, &mut out).expect("memory");
    String::from_utf8(out).expect("text")
}

fn json(show: impl FnOnce(&View<'_>, &mut dyn Write) -> io::Result<()>) -> serde_json::Value {
    serde_json::from_str(&render(show)).expect("JSON")
}

#[test]
fn workers_for_a_person() {
    let expected = "\
PID  AGE  STATE         UP  BOOT  REQUESTS  REQ/S  BUSY  QUEUED  CONNS  P50 ms  P99 ms  5XX  TAKEN  HANDED
101    1  draining  2h 01m  1.0s         0    0.0   0/0       0      0       -       -    0      0       0
102    2  ready     1m 42s  2.0s    12,000    120   2/4       5  1,200    1.02    30.7    2     9*       4
103    3  booting    250ms     -         0      -   0/0       0      0       -       -    0      0       0
arbiter 100, up 2h 01m: 1 of 2 workers ready, 2 of 4 threads busy, 5 queued, 1,200 connections; \
12,000 requests, 2 answered 5xx, 3 refused, 0 shed, 0 timed out
";
    assert_eq!(render(workers::table), expected);
}

#[test]
fn requests_for_a_person() {
    let expected = concat!(
        "  AGE  PHASE  WORKER  TID    LEFT  CLIENT         METHOD  PATH\n",
        "42.0s  write     102  202  -12.0s  10.0.0.7:5123  GET     /stuck?q=\\u{1b}[31m\n",
        " 5.0s  app       102  203       -  -              GET     /no-deadline\n",
        " 2.0s  app       102  201   28.0s  10.0.0.7:5123  GET     /quick\n",
    );
    assert_eq!(render(requests::table), expected);
}

#[test]
fn recent_requests_for_a_person() {
    let expected = concat!(
        " AGO  STATUS  TOTAL ms  APP ms    BODY  WORKER  METHOD  PATH\n",
        "1.0s     500      1.50    0.90  1.0 kB     102  GET     /c\n",
        "2.0s     404      1.50    0.90  1.0 kB     102  POST    /b\n",
    );
    assert_eq!(render(|view, out| requests::recent_table(view, 2, out)), expected);
}

#[test]
fn a_server_at_rest_says_so() {
    let snapshot = Snapshot { requests: Vec::new(), recent: Vec::new(), ..server() };
    let view = View { snapshot: &snapshot, standing: None, colours: false };
    let mut out = Vec::new();
    requests::table(&view, &mut out).expect("memory");
    requests::recent_table(&view, 5, &mut out).expect("memory");
    assert_eq!(out, b"no request is running in the application\nno request has finished yet\n");
}

#[test]
fn colours_change_no_text() {
    let snapshot = server();
    let mut out = Vec::new();
    workers::table(&View { snapshot: &snapshot, standing: None, colours: true }, &mut out).expect("memory");
    let mut text = String::from_utf8(out).expect("text");
    assert!(text.contains("\x1b[32m") || text.contains("\x1b[33m"), "{text:?}");
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        text = text.replace(code, "");
    }
    assert_eq!(text, render(workers::table));
}

#[test]
fn workers_for_a_script() {
    let document = json(workers::json);
    assert_eq!(document["schema"], 1);
    assert_eq!(
        document["server"],
        serde_json::json!({"arbiter_pid": 100, "uptime_s": 7300.0, "workers_target": 2, "generation": 1})
    );
    let nothing =
        serde_json::json!({"count": 0, "sum_s": 0.0, "p50_ms": null, "p90_ms": null, "p99_ms": null});
    let expected = serde_json::json!({
        "pid": 102, "age": 2, "generation": 1, "state": "ready", "version": null,
        "uptime_s": 102.0, "boot_s": 2.0, "beat_age_s": 100.0,
        "threads": 4, "threads_busy": 2, "queued": 5, "connections": 1200, "taken_over": true,
        "requests": 12000, "requests_per_s": 120.0,
        "responses": {"1xx": 0, "2xx": 11998, "3xx": 0, "4xx": 0, "5xx": 2},
        "refused": 3, "shed": 0, "timed_out": 0, "bytes_sent": 0, "takeovers": 9, "handed_over": 4, "taken_in": 0,
        "phases": {
            "head": nothing, "body": nothing, "queue": nothing, "total": nothing,
            "app": {"count": 4, "sum_s": 0.0329, "p50_ms": 1.024, "p90_ms": 30.72, "p99_ms": 30.72},
        },
    });
    assert_eq!(document["workers"][1], expected);
    let booting = &document["workers"][2];
    assert_eq!(booting["state"], "booting");
    for field in ["boot_s", "beat_age_s", "requests_per_s"] {
        assert!(booting[field].is_null(), "{field}");
    }
}

#[test]
fn requests_for_a_script() {
    let document = json(requests::json);
    let expected = serde_json::json!({
        "id": 2, "request_id": "102-2", "worker_pid": 102, "tid": 202, "phase": "write", "age_s": 42.0, "deadline_left_s": -12.0,
        "client": "10.0.0.7:5123", "method": "GET", "path": "/stuck?q=\u{1b}[31m", "route": null, "bytes_sent": 4096,
    });
    assert_eq!(document["requests"][0], expected);
    assert_eq!(document["requests"].as_array().map(Vec::len), Some(3));
    assert!(document["requests"][1]["deadline_left_s"].is_null());
}

#[test]
fn recent_requests_for_a_script() {
    let document = json(|view, out| requests::recent_json(view, 2, out));
    let expected = serde_json::json!([
        {"id": 3, "request_id": "102-3", "worker_pid": 102, "status": 500, "ago_s": 1.0, "total_ms": 1.5, "app_ms": 0.9, "bytes": 1024,
         "method": "GET", "path": "/c"},
        {"id": 2, "request_id": "102-2", "worker_pid": 102, "status": 404, "ago_s": 2.0, "total_ms": 1.5, "app_ms": 0.9, "bytes": 1024,
         "method": "POST", "path": "/b"},
    ]);
    assert_eq!(document["recent"], expected);
}
