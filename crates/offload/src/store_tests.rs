//! What is kept, for how long, and who gets what.

use super::*;

fn bounds() -> Bounds {
    Bounds { jobs: 3, bytes: 100_000, retention_s: 60.0, attempts_safe: 3, attempts: 1 }
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

fn keep(store: &mut Store, request: &Request, now_s: f64) -> Kept {
    store.begin().expect("begun");
    let kept = store.keep(request, b"head", &Body::Inline(b"body".to_vec()), now_s).expect("kept");
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
    let work = store.claim("me", 8, 12.0).expect("claimed");
    assert_eq!((work.len(), work[0].attempt, &work[0].request), (1, 1, &one));
    assert!(matches!(&work[0].body, Body::Inline(bytes) if bytes == b"body") && work[0].head == b"head");
    assert!(store.claim("me", 8, 12.0).expect("claimed").is_empty());
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
    assert_eq!(store.claim("me", 8, 1.0).expect("claimed").len(), 2);
    for one in [&unsafe_one, &safe_one] {
        assert!(store.finish(&one.id, 1, &failed(Fault::WorkerDied), 2.0).expect("written"));
    }
    assert_eq!(store.status(&unsafe_one.id).expect("read").expect("a job").state, State::Failed);
    let status = store.status(&safe_one.id).expect("read").expect("a job");
    assert_eq!((status.state, status.due_at), (State::Queued, Some(3.0)));
    assert_eq!(status.error.expect("said").cause, Fault::WorkerDied);
    assert!(store.claim("me", 8, 2.5).expect("claimed").is_empty());
    // Not begun at all: that is no attempt.
    assert_eq!(store.claim("me", 8, 3.0).expect("claimed")[0].attempt, 2);
    assert!(store.finish(&safe_one.id, 2, &Outcome::NotBegun, 3.0).expect("written"));
    assert_eq!(store.claim("me", 8, 4.0).expect("claimed")[0].attempt, 2);
    // An old attempt has no say any more.
    assert!(!store.finish(&safe_one.id, 1, &answered("late"), 4.0).expect("written"));
    store.finish(&safe_one.id, 2, &failed(Fault::Timeout), 5.0).expect("written");
    assert_eq!(store.claim("me", 8, 7.0).expect("claimed")[0].attempt, 3);
    store.finish(&safe_one.id, 3, &failed(Fault::Timeout), 8.0).expect("written");
    assert_eq!(store.status(&safe_one.id).expect("read").expect("a job").state, State::Failed);
    // Somebody has mended what was wrong.
    assert_eq!(store.retry(&safe_one.id, 9.0).expect("done"), Some(true));
    assert_eq!(store.retry(&safe_one.id, 9.0).expect("done"), Some(false));
    assert_eq!(store.claim("me", 8, 9.0).expect("claimed")[0].attempt, 4);
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
    store.keep(&request(6), b"h", &Body::Inline(Vec::new()), 0.0).expect("kept");
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
    store.claim("dead", 8, 1.0).expect("claimed");
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
    store.keep(&one, b"head", &Body::File, 0.0).expect("kept");
    fs::write(folder.path().join(BODIES).join(format!("{}.request", request(9).id)), "left")
        .expect("written");
    assert!(matches!(store.claim("me", 1, 0.0).expect("claimed")[0].body, Body::File));
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
