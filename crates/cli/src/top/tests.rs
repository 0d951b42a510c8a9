//! Frames of a made-up server: what they hold, how they are drawn, and how keys lead through them.

use super::draw::{Paint, draw};
use super::frame::{Frame, frame};
use super::keys::Wish;
use super::reading::Reading;
use super::state::{Cover, Deed, Panel, State};
use super::{details, plain};
use crate::vitals::Vitals;
use ferricorn_core::change::{Mixed, Standing};
use ferricorn_core::diagnosis::{Cause, Finding, Fixes};
use ferricorn_core::histogram::Distribution;
use ferricorn_core::incident::{self, Incident};
use ferricorn_core::latency::{Class, Key, Phases};
use ferricorn_core::life::Life;
use ferricorn_core::record::Request;
use ferricorn_core::scoreboard::State as WorkerState;
use ferricorn_core::snapshot::{Route, Running, SCHEMA, Snapshot, Worker};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

const PAINT: Paint = Paint { colours: true, unicode: false, interval_s: 1.0 };

fn counted(count: u64, us: u64) -> Distribution {
    let mut distribution = Distribution::default();
    (0..count).for_each(|_| distribution.add(us));
    distribution
}

fn route(path: &str, class: Class, count: u64, us: u64) -> Route {
    let key = Key { route: path.into(), named: true, method: "GET".into(), class };
    Route { key, phases: Phases { app: counted(count, us), queue: counted(count, 300), ..Phases::default() } }
}

fn worker(pid: u32, life: Life, requests: u64) -> Worker {
    let mut timed = vec![Distribution::default(); 5];
    timed[3] = counted(requests, 40_000);
    Worker {
        pid,
        age: pid - 4700,
        state: if life == Life::Booting { WorkerState::Booting } else { WorkerState::Ready },
        life,
        uptime_s: 7300.0,
        boot_s: Some(1.0),
        threads: 4,
        threads_free: if life == Life::Stuck { 0 } else { 3 },
        queued: if life == Life::Stuck { 5 } else { 0 },
        connections: 12,
        requests,
        timed,
        ..Worker::default()
    }
}

fn running(pid: u32, number: u64, app_s: f64, deadline_s: Option<f64>, path: &str) -> Running {
    let request = Request {
        id: format!("{pid}-{number}"),
        method: "GET".into(),
        path: path.into(),
        client: "10.0.0.7:5123".into(),
        tid: 9,
        app_s,
        deadline_s,
        ..Request::default()
    };
    Running { pid, number, phase: "app".into(), age_s: app_s, request, ..Running::default() }
}

/// A server of three workers, at two moments a second apart.
fn readings() -> (Reading, Reading) {
    let snapshot = |at_s, served: u64, lost: u64| Snapshot {
        schema: SCHEMA,
        at_s,
        arbiter_pid: 4700,
        name: "shop".into(),
        version: "0.1.0".into(),
        worker_class: "gthread".into(),
        threads: 4,
        timeout_s: Some(30.0),
        uptime_s: at_s,
        workers_target: 3,
        workers: vec![
            worker(4711, Life::Stuck, served),
            worker(4712, Life::Busy, 2 * served),
            worker(4713, Life::Booting, 0),
        ],
        requests: vec![
            running(4711, 12, 31.5, Some(30.0), "/report"),
            running(4711, 13, 24.0, Some(30.0), "/report\u{1b}[2J"),
            running(4712, 90, 0.2, None, "/"),
        ],
        routes: vec![
            route("/", Class::Success, 3 * served, 40_000),
            route("/report", Class::Success, 9, 900_000),
            route("/report", Class::Lost, lost, 30_000_000),
        ],
        ..Snapshot::default()
    };
    let reading = |snapshot: Snapshot, cpu_s| Reading {
        standing: Some(Standing::default()),
        incidents: Some(vec![incident(), Incident { id: "20261126-1".into(), ..Incident::default() }]),
        vitals: [(4711, Vitals { cpu_s, rss: 52_428_800 })].into(),
        doing: [(4711, "waiting for 10.0.0.9:443 (recvfrom, descriptor 14)".to_owned())].into(),
        snapshot,
    };
    (reading(snapshot(7299.0, 100, 2), 10.0), reading(snapshot(7300.0, 140, 3), 10.25))
}

fn incident() -> Incident {
    Incident {
        id: "20261126-7".into(),
        state: incident::State::Open,
        cause: Cause::ExternalNoTimeout,
        confidence: 0.93,
        verdict: "rates.example:443 does not answer, and the call at shop/reports.py:41 has no timeout"
            .into(),
        route: "/report".into(),
        opened_at: Some(7100.0),
        requests_lost: 3,
        requests_stuck: 5,
        impact: vec!["3 requests lost".into()],
        evidence: vec![Finding { source: "kernel".into(), text: "blocked in recvfrom".into(), weight: 3 }],
        fixes: Fixes { proper: vec!["requests.get(url, timeout=(3, 10))".into()], ..Fixes::default() },
        ..Incident::default()
    }
}

fn shown() -> Frame {
    let (before, now) = readings();
    frame(&now, Some(&before))
}

/// Draws a frame, and returns the screen as lines.
fn screen(frame: &Frame, state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
    terminal.draw(|screen| draw(screen, frame, state, PAINT)).expect("drawn");
    let lines = terminal.backend().buffer().content.chunks(usize::from(width));
    let line = |cells: &[ratatui::buffer::Cell]| {
        cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned() + "\n"
    };
    lines.map(line).collect()
}

fn with(change: impl FnOnce(&mut State)) -> State {
    let mut state = State::default();
    change(&mut state);
    state
}

fn follow(state: &mut State, frame: &Frame, wishes: &[Wish]) -> Deed {
    wishes.iter().map(|wish| state.follow(*wish, frame)).last().unwrap_or(Deed::Nothing)
}

#[test]
fn a_frame_is_what_has_changed() {
    let frame = shown();
    let sums = &frame.sums;
    assert_eq!(
        (sums.interval_s, sums.requests_per_s, sums.lost, sums.lost_now),
        (Some(1.0), Some(121.0), 3, 1)
    );
    assert_eq!((sums.workers_ready, sums.workers_target, sums.threads_busy, sums.in_flight), (2, 3, 6, 3));
    let worker = &frame.workers[0];
    assert_eq!(
        (worker.requests_per_s, worker.cpu, worker.rss_bytes),
        (Some(40.0), Some(0.25), Some(52_428_800))
    );
    assert_eq!((worker.oldest_s, frame.workers[1].cpu), (Some(31.5), None));
    assert_eq!(frame.incidents.as_ref().map(Vec::len), Some(1), "what is over is left out");
    let report = frame.routes.iter().find(|line| line.route == "/report").expect("a route");
    assert_eq!((report.count, report.lost, report.lost_now, report.requests_per_s), (12, 3, 1, Some(1.0)));
    // The first frame has no past, and a moment that is told twice has no length.
    let (before, _) = readings();
    let first = frame_alone(&before);
    assert_eq!((first.sums.requests_per_s, first.routes[0].p99_ms, first.workers[0].cpu), (None, None, None));
    let again = super::frame::frame(&before, Some(&before));
    assert_eq!((again.sums.requests_per_s, again.workers[0].requests_per_s), (None, None));
}

fn frame_alone(reading: &Reading) -> Frame {
    super::frame::frame(reading, None)
}

#[test]
fn a_small_screen_has_the_most_important() {
    insta::assert_snapshot!(screen(&shown(), &State::default(), 80, 24), @r"
    ferricorn 0.1.0 shop  pid 4700  up 2h 01m  gthread x4  timeout 30s      every 1s
    workers 2/3  busy 6/12  queued 5  121 req/s  p50 41.0  p99 41.0 ms  lost 3 (+1)
     Incidents (1) -----------------------------------------------------------------
    20261126-7    3m 20s      3 rates.example:443 does not answer, and the call at s
     Workers (3) by age ------------------------------------------------------------
        PID LIFE       BUSY QUEUE  REQ/S  P99 ms   CPU   MEMORY OLDEST REQUEST
       4711 stuck       4/4     5     40    41.0   25%  52.4 MB 31.5s waiting for 10
       4712 busy        1/4     0     80    41.0     -        - 200ms
       4713 booting     1/4     0    0.0       -     -        -
     Requests in flight (3) by age -------------------------------------------------
        AGE TO DEADLINE    LEFT PHASE      WORKER METHOD  PATH
      31.5s ##########    -1.5s app          4711 GET     /report
      24.0s ########..     6.0s app          4711 GET     /report\u{1b}[2J
      200ms                   - app          4712 GET     /
     Routes (2) by time ------------------------------------------------------------
      TIME     COUNT   REQ/S  P50 ms  P99 ms      LOST METHOD  ROUTE
      85 %        12     1.0  31,457  31,457      3 +1 GET     /report
      15 %       420     120    41.0    41.0         0 GET     /





    q quit  tab next table  up/down move  enter look closer  s sort  p pause  ? help
    ");
}

#[test]
fn a_large_screen_has_more_columns() {
    insta::assert_snapshot!(screen(&shown(), &State::default(), 140, 28), @r"
    ferricorn 0.1.0 shop  pid 4700  up 2h 01m  gthread x4  timeout 30s                                                                  every 1s
    workers 2/3  busy 6/12  queued 5  121 req/s  p50 41.0  p99 41.0 ms  lost 3 (+1)
     Incidents (1) -----------------------------------------------------------------------------------------------------------------------------
    20261126-7    3m 20s      3 rates.example:443 does not answer, and the call at shop/reports.py:41 has no timeout
     Workers (3) by age ------------------------------------------------------------------------------------------------------------------------
        PID LIFE       AGE      UP  BUSY QUEUE  CONNS  REQ/S  P99 ms   CPU   MEMORY OLDEST REQUEST
       4711 stuck       11  2h 01m   4/4     5     12     40    41.0   25%  52.4 MB 31.5s waiting for 10.0.0.9:443 (recvfrom, descriptor 14)
       4712 busy        12  2h 01m   1/4     0     12     80    41.0     -        - 200ms
       4713 booting     13  2h 01m   1/4     0     12    0.0       -     -        -
     Requests in flight (3) by age -------------------------------------------------------------------------------------------------------------
        AGE TO DEADLINE    LEFT PHASE      WORKER CLIENT                METHOD  PATH
      31.5s ##########    -1.5s app          4711 10.0.0.7:5123         GET     /report
      24.0s ########..     6.0s app          4711 10.0.0.7:5123         GET     /report\u{1b}[2J
      200ms                   - app          4712 10.0.0.7:5123         GET     /
     Routes (2) by time ------------------------------------------------------------------------------------------------------------------------
      TIME     COUNT   REQ/S  P50 ms  P99 ms      LOST METHOD  ROUTE
      85 %        12     1.0  31,457  31,457      3 +1 GET     /report
      15 %       420     120    41.0    41.0         0 GET     /









    q quit  tab next table  up/down move  enter look closer  s sort  p pause  ? help
    ");
}

#[test]
fn a_server_at_rest_says_so_and_a_tiny_screen_is_no_trouble() {
    let frame = frame_alone(&Reading::default());
    let text = screen(&frame, &State::default(), 80, 24);
    assert_eq!(text.matches("none").count(), 3 + 1, "three tables, and no timeout: {text}");
    for (width, height) in [(1, 1), (10, 3), (20, 6), (79, 5), (300, 100)] {
        for cover in [Cover::Nothing, Cover::Help] {
            screen(&shown(), &with(|state| state.cover = cover), width, height);
        }
    }
}

#[test]
fn nothing_that_a_client_sends_reaches_the_terminal() {
    let text = screen(&shown(), &State::default(), 140, 28);
    assert!(text.contains("/report\\u{1b}[2J"), "{text}");
    let mut page = Vec::new();
    plain::write(&shown(), false, &mut page).expect("memory");
    assert!(!page.contains(&0x1b));
}

#[test]
fn without_colours_nothing_is_coloured() {
    let colours = |paint| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a screen in memory");
        terminal.draw(|screen| draw(screen, &shown(), &State::default(), paint)).expect("drawn");
        terminal.backend().buffer().content.iter().filter(|cell| cell.fg != Color::Reset).count()
    };
    assert!(colours(PAINT) > 100);
    assert_eq!(colours(Paint { colours: false, ..PAINT }), 0);
}

#[test]
fn keys_lead_through_tables_and_lines() {
    use Wish::*;
    let frame = shown();
    let request = |id: &str| Deed::LookAtRequest { pid: 4711, id: id.into() };
    let route = |route: &str| Deed::ShowRoute { route: route.into(), method: "GET".into() };
    let table: [(&[Wish], Deed); 11] = [
        (&[Quit], Deed::Quit),
        (&[Enter], Deed::LookAtWorker(4711)),
        (&[Down, Enter], Deed::LookAtWorker(4712)),
        (&[Last, Down, Enter], Deed::LookAtWorker(4713)),
        (&[PageDown, Up, Up, Up, Up, Enter], Deed::LookAtWorker(4711)),
        (&[NextPanel, Down, Enter], request("4711-13")),
        (&[NextPanel, NextPanel, Enter], route("/report")),
        (&[PreviousPanel, Enter], Deed::ShowIncident("20261126-7".into())),
        (&[NextPanel, NextPanel, NextPanel, NextPanel, Enter], Deed::LookAtWorker(4711)),
        // The help covers everything, and any key ends it.
        (&[Help, Enter, Enter], Deed::LookAtWorker(4711)),
        (&[Help, Quit], Deed::Quit),
    ];
    for (wishes, expected) in table {
        assert_eq!(follow(&mut State::default(), &frame, wishes), expected, "{wishes:?}");
    }
    // Without incidents there is no table of them to go to.
    let calm = Frame { incidents: Some(Vec::new()), ..frame };
    assert_eq!(follow(&mut State::default(), &calm, &[PreviousPanel, Enter]), route("/report"));
}

#[test]
fn a_chosen_line_stays_chosen_while_lines_move() {
    let mut state = State::default();
    let frame = shown();
    follow(&mut state, &frame, &[Wish::Down]);
    let mut later = frame.clone();
    later.workers.remove(0);
    assert_eq!(state.at(Panel::Workers, &later), Some(0), "it is the first now");
    later.workers.clear();
    assert_eq!(state.at(Panel::Workers, &later), None);
    assert_eq!(follow(&mut state, &later, &[Wish::Enter]), Deed::Nothing);
    later.workers = frame.workers[2..].to_vec();
    assert_eq!(state.at(Panel::Workers, &later), Some(0), "it is gone: what has its place is chosen");
}

#[test]
fn tables_are_sorted_by_one_column_after_another() {
    let frame = shown();
    let mut state = State::default();
    let mut orders = Vec::new();
    for _ in 0..6 {
        orders.push((state.order(Panel::Workers), state.workers(&frame)[0].pid));
        follow(&mut state, &frame, &[Wish::Sort]);
    }
    let expected = [
        ("age", 4711),
        ("requests", 4712),
        ("p99", 4711),
        ("memory", 4711),
        ("processor", 4711),
        ("oldest request", 4711),
    ];
    assert_eq!(orders, expected);
    assert_eq!(state.order(Panel::Workers), "age", "round");
    state.focus = Panel::Requests;
    follow(&mut state, &frame, &[Wish::Sort]);
    let ids: Vec<&str> = state.requests(&frame).iter().map(|line| line.request_id.as_str()).collect();
    assert_eq!(ids, ["4711-12", "4711-13", "4712-90"]);
}

#[test]
fn a_page_is_turned_and_left() {
    use Wish::*;
    let frame = shown();
    let mut state = State::default();
    state.show("Worker 4711".into(), (0..100).map(|number| format!("line {number}")).collect());
    let scroll = |state: &State| match &state.cover {
        Cover::Page { scroll, .. } => Some(*scroll),
        _ => None,
    };
    follow(&mut state, &frame, &[Down, PageDown, Up]);
    assert_eq!(scroll(&state), Some(10));
    assert!(screen(&frame, &state, 80, 24).contains("line 10"));
    follow(&mut state, &frame, &[Last]);
    assert_eq!(scroll(&state), Some(99));
    follow(&mut state, &frame, &[Pause, First]);
    assert_eq!((scroll(&state), state.paused), (Some(0), true));
    follow(&mut state, &frame, &[Back]);
    assert_eq!(scroll(&state), None);
}

#[test]
fn trouble_and_a_pause_stand_in_the_head() {
    let mut state = with(|state| state.paused = true);
    assert!(screen(&shown(), &state, 80, 24).lines().next().is_some_and(|line| line.ends_with("PAUSED")));
    state.trouble = Some("OLD: it did not answer in time".into());
    assert!(screen(&shown(), &state, 80, 24).lines().next().is_some_and(|line| line.ends_with("in time")));
}

#[test]
fn the_help_fits_a_small_screen() {
    insta::assert_snapshot!(screen(&shown(), &with(|state| state.cover = Cover::Help), 80, 24), @r"
    ferricorn 0.1.0 shop  pid 4700  up 2h 01m  gthread x4  timeout 30s      every 1s
    workers 2/3  busy 6/12  queued 5  121 req/s  p50 41.0  p99 41.0 ms  lost 3 (+1)
     Incidents (1) -----------------------------------------------------------------
    20261126-7    3m 20s      3 rates.example:443 does not answer, and the call at s
    - Help -------------------------------------------------------------------------
    |tab, left, right the next table, or the one before                            |
    |up, down, k, j   another line; also page up, page down, home, end, g, G       |
    |enter            look closer: the stacks of a worker, the stack of a request, |
    |                 the numbers of a route, the report of an incident            |
    |esc              back from a closer look                                      |
    |s                sort the table by its next column                            |
    |p, space         hold the screen still, and let it go on                      |
    |?, h             this help                                                    |
    |q, ctrl-c        quit                                                         |
    |                                                                              |
    |REQ/S, P50, P99 and CPU are of the time since the last frame; TIME, COUNT and |
    |LOST since the server started, +N of them in the last frame.                  |
    |A lost request was answered or cut at its deadline, or died with its worker;  |
    |it counts with the age at which it was given up.                              |
    --------------------------------------------------------------------------------



    any key back  q quit
    ");
}

#[test]
fn closer_looks_are_pages() {
    let (_, now) = readings();
    let (title, lines) = details::incident("20261126-7", &now);
    assert_eq!(title, "Incident 20261126-7");
    insta::assert_snapshot!(lines.join("\n"), @r"
    Incident 20261126-7 (open): external.no_timeout on /report
    server  (pid 0, ferricorn ), opened 1970-01-01 01:58:20 +0000

    VERDICT      rates.example:443 does not answer, and the call at shop/reports.py:41 has no timeout
                 cause  external.no_timeout, confidence 0.93: a service does not answer, and the call
                        has no timeout

    IMPACT       since 1970-01-01 00:00:00 +0000; last seen 1970-01-01 00:00:00 +0000, 0ms later
                 3 requests lost, 5 seen stuck

    EVIDENCE     +++ kernel  blocked in recvfrom

    FIX          proper  requests.get(url, timeout=(3, 10))

    CONFIDENCE   0.93
    ");
    let (_, lines) = details::route("/report", "GET", &now);
    insta::assert_snapshot!(lines.join("\n"), @r"
    since the server started 2h 01m ago: 12 requests, 0 answered 5xx, 3 lost

    milliseconds         p50       p90       p99     p99.9       max
    in line             0.32      0.32      0.32      0.32      0.32
    application          917    31,457    31,457    31,457    31,457
    sending                -         -         -         -         -

    `ferricornctl slow` tells what its deadline should be
    ");
    assert_eq!(details::incident("1", &now).1, ["the observer does not tell of it any more"]);
    assert_eq!(details::route("/none", "GET", &now).1, ["it is not counted any more"]);
}

#[test]
fn a_frame_on_paper() {
    let mut page = Vec::new();
    plain::write(&shown(), false, &mut page).expect("memory");
    insta::assert_snapshot!(String::from_utf8(page).expect("text"), @r"
    ferricorn 0.1.0 shop, arbiter 4700, up 2h 01m, gthread of 4 threads
    2 of 3 workers ready, 6 of 12 threads busy, 5 queued; 121 req/s, p50 41.0 ms, p99 41.0 ms; 3 lost, 1 of them now
    incident 20261126-7: rates.example:443 does not answer, and the call at shop/reports.py:41 has no timeout (3 lost)

    workers (3)
     PID  LIFE         UP  BUSY  QUEUE  REQ/S  P99 ms  CPU   MEMORY  OLDEST  WAITS FOR
    4711  stuck    2h 01m   4/4      5     40    41.0  25%  52.4 MB   31.5s  waiting for 10.0.0.9:443 (recvfrom, descriptor 14)
    4712  busy     2h 01m   1/4      0     80    41.0    -        -   200ms  -
    4713  booting  2h 01m   1/4      0    0.0       -    -        -       -  -

    requests in flight (3)
      AGE   GONE   LEFT  PHASE  WORKER  CLIENT         METHOD  PATH
    31.5s  105 %  -1.5s  app      4711  10.0.0.7:5123  GET     /report
    24.0s   80 %   6.0s  app      4711  10.0.0.7:5123  GET     /report\u{1b}[2J
    200ms      -      -  app      4712  10.0.0.7:5123  GET     /

    routes (2)
    TIME  COUNT  REQ/S  P50 ms  P99 ms  LOST  METHOD  ROUTE
    85 %     12    1.0  31,457  31,457     3  GET     /report
    15 %    420    120    41.0    41.0     0  GET     /
    ");
}

#[test]
fn a_frame_for_a_script() {
    let document = serde_json::to_value(shown()).expect("JSON");
    assert_eq!(document["schema"], 1);
    assert_eq!(document["server"]["kind"], "ferricorn");
    assert_eq!(document["workers"][0]["life"], "stuck");
    assert_eq!(document["requests"][0]["request_id"], "4711-12");
    assert_eq!(document["requests"][0]["deadline_left_s"], -1.5);
    assert_eq!(document["incidents"][0]["cause"], "external.no_timeout");
    assert!(document["workers"][2]["cpu"].is_null());
}

#[test]
fn versions_that_differ_stand_in_the_head_and_below_the_text() {
    let mixed = Mixed { text: "mixed versions: aaa in worker 1; bbb in worker 2".into(), ..Mixed::default() };
    let standing = Some(Standing { mixed: Some(mixed), ..Standing::default() });
    let shown = super::frame::frame(&Reading { standing, ..Reading::default() }, None);
    assert_eq!(shown.warning, Some("MIXED VERSIONS"));
    let mut out = Vec::new();
    super::plain::write(&shown, false, &mut out).expect("memory");
    assert!(String::from_utf8_lossy(&out).contains("mixed versions: aaa in worker 1"));
}
