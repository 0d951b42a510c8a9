//! What is kept, for how long, and who gets what.

use super::*;
use crate::rules::Terms;

fn bounds() -> Bounds {
    Bounds { jobs: 3, bytes: 100_000 }
}

fn opened() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::create(folder.path(), "shop", bounds()).expect("a store");
    (folder, store)
}

fn request(number: u8) -> Request {
    let id = ferricorn_core::offload::id([number; 16]);
    Request { id, method: "POST".into(), path: "/reports".into(), body: 4, head: 4, ..Request::default() }
}

const ANY: fn(&str) -> usize = |_| usize::MAX;

/// Keeps it, in a lane that is named after its path where that is not the usual one.
fn take(store: &mut Store, request: &Request, body: &Body, now_s: f64) -> Kept {
    let terms = Terms { retries: 0, retention_s: 60.0 };
    let lane = Some(if request.path == "/reports" { "" } else { request.path.as_str() });
    let told = request.webhook.as_deref();
    let webhooks: Vec<_> = told.into_iter().map(|url| Promise { url, is_own: false }).collect();
    let (attempts_max, retention_s) = (terms.attempts(request), terms.retention_s);
    let entry = Entry { request, head: b"head", body, attempts_max, retention_s, lane, webhooks: &webhooks };
    store.keep(&entry, now_s).expect("kept")
}

fn keep(store: &mut Store, request: &Request, now_s: f64) -> Kept {
    store.begin().expect("begun");
    let kept = take(store, request, &Body::Inline(b"body".to_vec()), now_s);
    store.commit().expect("written");
    kept
}

fn answered(text: &str) -> Outcome {
    let body = text.as_bytes().to_vec();
    let response = Response { status: "201 Created".into(), body: body.len() as u64, ..Response::default() };
    Outcome::Answered(response, Body::Inline(body))
}

fn failed(cause: Fault) -> Outcome {
    Outcome::Failed(Error { cause, detail: "it did not".into(), ..Error::default() }, None)
}

#[test]
fn a_job_goes_from_its_request_to_its_response_and_is_forgotten() {
    let (_folder, mut store) = opened();
    let one = request(1);
    assert!(matches!(keep(&mut store, &one, 10.0), Kept::Status(status) if status.state == State::Queued));
    // A worker that has heard nothing says it again.
    assert!(matches!(keep(&mut store, &one, 11.0), Kept::Status(status) if status.created_at == 10.0));
    assert_eq!(store.held().expect("read").jobs, 1);
    let work = store.claim("me", 8, ANY, 12.0).expect("claimed");
    assert_eq!((work.len(), work[0].attempt, &work[0].request), (1, 1, &one));
    assert!(matches!(&work[0].body, Body::Inline(bytes) if bytes == b"body") && work[0].head == b"head");
    assert!(store.claim("me", 8, ANY, 12.0).expect("claimed").is_empty());
    assert!(store.report(&one.id, &Progress { share: 7.0, note: "x".repeat(900) }).expect("told"));
    let progress = store.status(&one.id).expect("read").expect("a job").progress.expect("told");
    assert_eq!((progress.share, progress.note.len()), (1.0, NOTE_MAX));
    assert!(store.response(&one.id).expect("read").is_none());
    assert!(store.finish(&one.id, 1, &answered("made"), 20.0).expect("written"));
    let status = store.status(&one.id).expect("read").expect("a job");
    assert_eq!((status.state, status.status, status.expires_at), (State::Done, Some(201), Some(80.0)));
    let (response, body) = store.response(&one.id).expect("read").expect("a response");
    assert!(response.status == "201 Created" && matches!(body, Body::Inline(bytes) if bytes == b"made"));
    assert_eq!(store.sweep(79.0).expect("swept"), 0);
    assert_eq!(store.sweep(81.0).expect("swept"), 1);
    assert_eq!(store.status(&one.id).expect("read").expect("a job").state, State::Expired);
    assert!(store.response(&one.id).expect("read").is_none());
    assert_eq!(store.sweep(150.0).expect("swept"), 1);
    assert!(store.status(&one.id).expect("read").is_none());
    assert_eq!(store.held().expect("read"), Held::default());
}

#[test]
fn what_fails_is_begun_again_only_where_that_is_allowed() {
    let (_folder, mut store) = opened();
    let (unsafe_one, safe_one) = (request(1), Request { method: "GET".into(), ..request(2) });
    keep(&mut store, &unsafe_one, 0.0);
    keep(&mut store, &safe_one, 0.0);
    assert_eq!(store.claim("me", 8, ANY, 1.0).expect("claimed").len(), 2);
    for one in [&unsafe_one, &safe_one] {
        assert!(store.finish(&one.id, 1, &failed(Fault::WorkerDied), 2.0).expect("written"));
    }
    assert_eq!(store.status(&unsafe_one.id).expect("read").expect("a job").state, State::Failed);
    let status = store.status(&safe_one.id).expect("read").expect("a job");
    assert_eq!((status.state, status.due_at), (State::Queued, Some(3.0)));
    assert_eq!(status.error.expect("said").cause, Fault::WorkerDied);
    assert!(store.claim("me", 8, ANY, 2.5).expect("claimed").is_empty());
    // Not begun at all: that is no attempt.
    assert_eq!(store.claim("me", 8, ANY, 3.0).expect("claimed")[0].attempt, 2);
    assert!(store.finish(&safe_one.id, 2, &Outcome::NotBegun, 3.0).expect("written"));
    assert_eq!(store.claim("me", 8, ANY, 4.0).expect("claimed")[0].attempt, 2);
    // An old attempt has no say any more.
    assert!(!store.finish(&safe_one.id, 1, &answered("late"), 4.0).expect("written"));
    store.finish(&safe_one.id, 2, &failed(Fault::Timeout), 5.0).expect("written");
    assert_eq!(store.claim("me", 8, ANY, 7.0).expect("claimed")[0].attempt, 3);
    store.finish(&safe_one.id, 3, &failed(Fault::Timeout), 8.0).expect("written");
    assert_eq!(store.status(&safe_one.id).expect("read").expect("a job").state, State::Failed);
    // Somebody has mended what was wrong.
    assert_eq!(store.retry(&safe_one.id, 9.0).expect("done"), Some(true));
    assert_eq!(store.retry(&safe_one.id, 9.0).expect("done"), Some(false));
    assert_eq!(store.claim("me", 8, ANY, 9.0).expect("claimed")[0].attempt, 4);
}

#[test]
fn there_is_room_for_so_much_and_no_more() {
    let (_folder, mut store) = opened();
    for number in 1..=3 {
        assert!(matches!(keep(&mut store, &request(number), 0.0), Kept::Status(_)));
    }
    assert!(matches!(keep(&mut store, &request(4), 0.0), Kept::Full(_)));
    store.cancel(&request(1).id, false, 1.0).expect("done");
    assert!(matches!(keep(&mut store, &request(4), 1.0), Kept::Status(_)));
    store.cancel(&request(2).id, false, 1.0).expect("done");
    let large = Request { body: 200_000, ..request(5) };
    assert!(matches!(keep(&mut store, &large, 0.0), Kept::Full(text) if text.contains("bytes")));
    // What is taken back was not there.
    let held = store.held().expect("read");
    store.begin().expect("begun");
    take(&mut store, &request(6), &Body::Inline(Vec::new()), 0.0);
    store.roll_back();
    assert_eq!(store.held().expect("read"), held);
}

#[test]
fn a_key_is_one_job_and_another_request_under_it_is_refused() {
    let (_folder, mut store) = opened();
    let keyed =
        |number, sum: &str| Request { key: Some("k".into()), sum: Some(sum.to_owned()), ..request(number) };
    let Kept::Status(first) = keep(&mut store, &keyed(1, "a"), 0.0) else { panic!("a job") };
    assert_eq!(first.attempts_max, 3, "it may be sent again");
    assert!(matches!(keep(&mut store, &keyed(2, "a"), 0.0), Kept::Status(same) if same.id == first.id));
    assert!(matches!(keep(&mut store, &keyed(3, "b"), 0.0), Kept::KeyReused));
}

#[test]
fn jobs_of_the_dead_are_taken_over_and_those_of_others_left_alone() {
    let (folder, mut store) = opened();
    let safe = Request { method: "PUT".into(), ..request(1) };
    keep(&mut store, &safe, 0.0);
    keep(&mut store, &request(2), 0.0);
    store.beat("dead", 1.0).expect("told");
    store.claim("dead", 8, ANY, 1.0).expect("claimed");
    let mut other = Store::create(folder.path(), "other", bounds()).expect("a store");
    assert!(other.adopt(|_, _| true, 20.0).expect("done").is_empty());
    assert!(other.status(&safe.id).expect("read").is_none(), "another service's job is none");
    assert!(store.adopt(|_, beat| beat < 0.5, 20.0).expect("done").is_empty());
    assert_eq!(store.adopt(|name, beat| name == "dead" && beat == 1.0, 20.0).expect("done").len(), 2);
    assert_eq!(store.status(&safe.id).expect("read").expect("a job").state, State::Queued);
    let lost = store.status(&request(2).id).expect("read").expect("a job");
    assert_eq!((lost.state, lost.error.expect("said").cause), (State::Failed, Fault::Interrupted));
}

#[test]
fn long_bodies_are_files_that_go_with_their_job() {
    let (folder, mut store) = opened();
    let one = Request { body: 70_000, ..request(1) };
    let path = store.file(&one.id, Part::Request);
    written(&path, &mut &vec![b'x'; 70_000][..]).expect("written");
    take(&mut store, &one, &Body::File, 0.0);
    fs::write(folder.path().join(BODIES).join(format!("{}.request", request(9).id)), "left")
        .expect("written");
    assert!(matches!(store.claim("me", 1, ANY, 0.0).expect("claimed")[0].body, Body::File));
    assert_eq!(store.tidy(Duration::ZERO).expect("done"), 1);
    assert!(path.exists());
    store.finish(&one.id, 1, &answered("made"), 1.0).expect("written");
    assert!(!path.exists(), "what was asked is not needed any more");
    assert!(store.held().expect("read").bytes < 1000, "{:?}", store.held().expect("read"));
    drop(store);
    let viewer = Store::open(folder.path()).expect("a store");
    assert_eq!(viewer.list(Some(State::Done), 5).expect("read").len(), 1);
    assert_eq!(viewer.depth().expect("read").counts[State::Done as usize], (State::Done, 1));
}

#[test]
fn no_more_jobs_of_a_lane_are_taken_than_there_is_room_for() {
    let (_folder, mut store) = opened();
    for number in 1..=2 {
        keep(&mut store, &Request { path: "/big".into(), ..request(number) }, f64::from(number));
    }
    keep(&mut store, &request(3), 3.0);
    let one = |lane: &str| if lane == "/big" { 1 } else { 9 };
    let none = |lane: &str| if lane == "/big" { 0 } else { 9 };
    assert_eq!(store.next_due(ANY).expect("read"), Some(1.0));
    assert_eq!(store.next_due(none).expect("read"), Some(3.0), "a full lane is not waited for");
    let ids = |work: Vec<Work>| work.into_iter().map(|work| (work.request.id, work.lane)).collect::<Vec<_>>();
    let taken = ids(store.claim("me", 9, one, 9.0).expect("claimed"));
    assert_eq!(taken, [(request(1).id, "/big".to_owned()), (request(3).id, String::new())]);
    assert!(store.claim("me", 9, none, 9.0).expect("claimed").is_empty());
    // The rules are others now.
    store
        .line_up(true, |_, path| if path == "/reports" { "small".into() } else { String::new() })
        .expect("done");
    assert_eq!(ids(store.claim("me", 9, none, 9.0).expect("claimed")), [(request(2).id, String::new())]);
    assert!(store.run_by_others("me").expect("read").is_empty());
    let counts = [("small".to_owned(), 1)];
    assert_eq!(store.run_by_others("other").expect("read").into_iter().collect::<Vec<_>>(), counts);
    // One that is begun again stands in line as the rules have it by then.
    store.finish(&request(2).id, 1, &failed(Fault::Timeout), 10.0).expect("written");
    store.retry(&request(2).id, 11.0).expect("done");
    store.line_up(false, |_, path| if path == "/big" { "/big".into() } else { String::new() }).expect("done");
    assert!(store.claim("me", 9, none, 12.0).expect("claimed").is_empty());
    assert_eq!(ids(store.claim("me", 9, one, 12.0).expect("claimed")), [(request(2).id, "/big".to_owned())]);
}

#[test]
fn who_waits_for_the_end_of_a_job_is_told_once_for_each_end() {
    let (_folder, mut store) = opened();
    let one = Request { webhook: Some("https://a.example/hook".into()), ..request(1) };
    keep(&mut store, &one, 0.0);
    assert!(matches!(keep(&mut store, &one, 0.5), Kept::Status(_)), "said again");
    store.claim("me", 9, ANY, 1.0).expect("claimed");
    assert_eq!(store.next_webhook().expect("read"), None);
    store.finish(&one.id, 1, &failed(Fault::Timeout), 2.0).expect("written");
    assert_eq!(store.next_webhook().expect("read"), Some(2.0));
    let due = store.claim_webhooks(9, 62.0, 3.0).expect("claimed");
    assert_eq!((due.len(), due[0].status.id.as_str(), due[0].tries), (1, one.id.as_str(), 0));
    assert_eq!(due[0].status.state, State::Failed);
    assert!(store.claim_webhooks(9, 62.0, 3.0).expect("claimed").is_empty(), "somebody is at it");
    store.tried(&due[0], Some("it answered 500"), Some(8.0), 3.0).expect("written");
    let again = store.claim_webhooks(9, 68.0, 8.0).expect("claimed");
    assert_eq!(again[0].tries, 1);
    // Nobody knows what became of the first one: it counts for nothing any more.
    store.tried(&due[0], None, None, 9.0).expect("written");
    store.tried(&again[0], None, None, 9.0).expect("written");
    let told = store.webhooks(&one.id).expect("read");
    assert_eq!((told[0].tries, told[0].told_at, told[0].due_at), (2, Some(9.0), None));
    assert_eq!(store.next_webhook().expect("read"), None);
    store.retry(&one.id, 10.0).expect("done");
    store.cancel(&one.id, false, 11.0).expect("done");
    // Who was told of the end before says so only now.
    let mut before = again[0].clone();
    before.tries = 0;
    store.tried(&before, None, None, 11.5).expect("written");
    let last = store.claim_webhooks(9, 72.0, 12.0).expect("claimed");
    assert_eq!((last.len(), last[0].status.state), (1, State::Cancelled));
    // It outlives its job until it is told, with what was to be told.
    store.sweep(80.0).expect("swept");
    store.sweep(200.0).expect("swept");
    assert!(store.status(&one.id).expect("read").is_none());
    let late = store.claim_webhooks(9, 300.0, 250.0).expect("claimed");
    assert_eq!((late.len(), late[0].status.state), (1, State::Cancelled));
    store.tried(&late[0], Some("it answered 500"), Some(400.0), 251.0).expect("written");
    store.sweep(401.0 + UNTOLD_S).expect("swept");
    assert!(store.webhooks(&one.id).expect("read").is_empty(), "nobody tells any more");
}

#[test]
fn jobs_of_an_older_version_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = Connection::open(folder.path().join(FILE)).expect("a database");
    old.execute_batch(JOBS).expect("made");
    old.pragma_update(None, "user_version", 1).expect("said");
    let facts = serde_json::json!({"id": request(1).id, "method": "POST", "path": "/old"}).to_string();
    let query = "INSERT INTO jobs (id, service, state, method, path, facts, created, due, attempts_max, bytes, kept) \
                 VALUES (?1, 'shop', 0, 'POST', '/old', ?2, 1.0, 1.0, 1, 400, 60.0)";
    old.execute(query, params![request(1).id, facts]).expect("kept");
    old.execute("INSERT INTO requests (number, head, body) VALUES (1, x'68', x'62')", []).expect("kept");
    drop(old);
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Old)));
    let store = Store::create(folder.path(), "shop", bounds()).expect("a store");
    assert_eq!(store.claim("me", 9, ANY, 2.0).expect("claimed")[0].request.path, "/old");
    assert!(Store::open(folder.path()).is_ok());
    store.connection.pragma_update(None, "user_version", 99).expect("said");
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Version(99))));
}
