//! When requests are looked at, and how much is kept.

use super::*;

fn running(app_s: f64, deadline_s: Option<f64>) -> Running {
    let request = Request { app_s, deadline_s, ..Request::default() };
    Running { pid: 7, number: 1, phase: "app".to_owned(), request, ..Running::default() }
}

/// Lets a request grow older by a tenth of a second at a time; returns when it was looked at.
fn looked_at(deadline_s: Option<f64>, until_s: f64) -> Vec<f64> {
    looked_at_where(Running::default(), deadline_s, until_s)
}

/// The same of requests with another end.
fn looked_at_where(end: Running, deadline_s: Option<f64>, until_s: f64) -> Vec<f64> {
    let mut watches = Watches::default();
    let mut looks = Vec::new();
    for tick in 0..(until_s * 10.0) as u32 {
        let Running { unenforced, kills_worker, .. } = end;
        let now = Running { unenforced, kills_worker, ..running(f64::from(tick) / 10.0, deadline_s) };
        if watches.due(&now, false).is_some() {
            looks.push(now.request.app_s);
            watches.add(&now, Evidence::default(), &[]);
        }
    }
    looks
}

#[test]
fn a_request_is_looked_at_twice_at_half_time_and_before_its_end() {
    assert_eq!(looked_at(Some(30.0), 31.0), [15.0, 15.2, 24.0, 24.2, 28.5]);
    assert_eq!(looked_at(Some(2.0), 3.0), [1.0, 1.2, 1.6, 1.8, 1.9]);
    assert_eq!(looked_at(None, 70.0), [5.0, 5.2, 10.0, 20.0, 60.0]);
    assert!(looked_at(Some(30.0), 14.0).is_empty());
    let unended = Running { unenforced: true, ..Running::default() };
    assert_eq!(looked_at_where(unended.clone(), Some(30.0), 70.0), [5.0, 5.2, 10.0, 20.0, 60.0]);
    assert_eq!(looked_at_where(unended, Some(6.0), 70.0), [3.0, 3.2, 6.0, 12.0, 36.0]);
    // The last look is the last before the kill at which there is time for anything.
    let killed = Running { kills_worker: true, ..Running::default() };
    assert_eq!(looked_at_where(killed.clone(), Some(30.0), 31.0), [15.0, 15.2, 24.0, 24.2, 28.5]);
    assert_eq!(looked_at_where(killed, Some(4.0), 5.0).last(), Some(&3.5));
}

#[test]
fn who_is_seen_late_is_looked_at_once_for_all_that_was_missed() {
    let mut watches = Watches::default();
    let late = running(29.0, Some(30.0));
    assert_eq!(watches.due(&late, false), Some(96));
    watches.add(&late, Evidence::default(), &[]);
    assert_eq!(watches.due(&late, false), None);
    assert_eq!(watches.next_s(&late), None);
}

#[test]
fn the_next_look_is_known() {
    let mut watches = Watches::default();
    assert_eq!(watches.next_s(&running(10.0, Some(30.0))), Some(5.0));
    watches.add(&running(15.0, Some(30.0)), Evidence::default(), &[]);
    let next_s = watches.next_s(&running(15.1, Some(30.0))).expect("a second look");
    assert!((next_s - 0.05).abs() < 1e-9, "{next_s}");
    assert_eq!(watches.next_s(&Running { number: 2, ..running(3.0, None) }), Some(2.0));
}

#[test]
fn a_look_at_a_process_that_ends_replaces_nothing() {
    let mut watches = Watches::default();
    let refused = || Evidence { degraded: Some("it has ended".to_owned()), ..Evidence::default() };
    let late = running(29.0, Some(30.0));
    assert_eq!(watches.add(&late, refused(), &[]).looks.len(), 1, "nothing else was seen");
    let seen = Evidence { percent: 80, ..Evidence::default() };
    assert_eq!(watches.add(&late, seen, &[]).looks.len(), 2);
    let looks = &watches.add(&late, refused(), &[]).looks;
    assert_eq!((looks.len(), looks[1].percent), (2, 80));
}

#[test]
fn requests_of_a_silent_worker_are_looked_at_before_it_is_killed() {
    let mut watches = Watches::default();
    let mut looks = Vec::new();
    for percent in (0..100).step_by(5) {
        let now = running(f64::from(percent) / 100.0, None);
        if let Some(percent) = watches.due_by_silence(&now, f64::from(percent) / 100.0) {
            watches.add(&now, Evidence::default(), &[]);
            looks.push(percent);
        }
    }
    assert_eq!(looks, [65, 75, 90]);
    assert_eq!(watches.next_s(&running(1.0, None)), Some(4.0), "its own marks are before it");
    assert_eq!(watches.due_by_silence(&running(2.0, None), 0.1), None);
    assert_eq!(watches.due_by_silence(&running(3.0, None), 0.7), Some(70), "another silence");
}

#[test]
fn who_was_not_looked_at_is_like_another_of_its_route() {
    let mut watches = Watches::default();
    let of = |number, route: &str, app_s| {
        let request = Request { route: Some(route.to_owned()), app_s, ..Request::default() };
        Running { pid: 7, number, request, ..Running::default() }
    };
    for (number, route, app_s) in [(1, "/a", 9.0), (2, "/b", 5.0), (3, "/b", 6.0), (4, "/b", 7.0)] {
        let watch = watches.add(&of(number, route, app_s), Evidence::default(), &[]);
        watch.diagnosis = (number != 4).then(Diagnosis::default);
    }
    let like = |route: &str| watches.like(7, &of(9, route, 0.0).request).map(|watch| watch.running.number);
    assert_eq!(
        (like("/b"), like("/c"), watches.keeper(7).map(|watch| watch.running.number)),
        (Some(3), Some(1), Some(1))
    );
    assert!(watches.like(8, &Request::default()).is_none());
}

#[test]
fn looks_and_requests_have_limits() {
    let mut watches = Watches::default();
    for percent in 0..20 {
        let look = Evidence { percent, ..Evidence::default() };
        watches.add(&running(29.0, Some(30.0)), look, &[]);
    }
    let kept: Vec<u32> =
        watches.of_worker(7).flat_map(|watch| &watch.looks).map(|look| look.percent).collect();
    assert_eq!((kept.len(), kept[0], kept[LOOKS_MAX - 1]), (LOOKS_MAX, 0, 19));
    for (pid, number) in (7..60).flat_map(|pid| (2..50).map(move |number| (pid, number))) {
        let other = Running { pid, number, ..running(29.0, Some(30.0)) };
        if watches.due(&other, false).is_some() {
            watches.add(&other, Evidence::default(), &[]);
        }
    }
    assert_eq!((watches.of_worker(7).count(), watches.by.len()), (OF_WORKER_MAX, WATCHED_MAX));
}
