//! Workers whose memory grows, and others that only look like it.

use super::*;
use proptest::prelude::*;

const MB: u64 = 1 << 20;

/// A worker that serves `step` requests between two looks, whose memory is given in MB.
fn worker(pid: u32, step: u64, rss_mb: impl Fn(u64) -> f64) -> Vec<Sample> {
    (1..=200)
        .map(|look| {
            let requests = look * step;
            let rss = (rss_mb(requests) * MB as f64) as u64;
            Sample { pid, age: pid, uptime_s: look as f64 * 10.0, requests, rss }
        })
        .collect()
}

fn seen(workers: &[Vec<Sample>]) -> Courses {
    let mut courses = Courses::default();
    for look in 0..200 {
        let now: Vec<Sample> = workers.iter().filter_map(|samples| samples.get(look)).copied().collect();
        courses.observe(&now);
    }
    courses
}

/// Noise that is the same each time, between -1 and 1.
fn noise(number: u64) -> f64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    mixed as f64 / f64::from(1 << 23) - 1.0
}

#[test]
fn what_grows_is_told_from_what_fills_up() {
    type Case = (&'static str, fn(u64) -> f64, bool);
    let table: [Case; 9] = [
        ("a leak of 10 kB a request", |n| 100.0 + n as f64 * 0.01, true),
        ("the same, with noise", |n| 100.0 + n as f64 * 0.01 + 3.0 * noise(n), true),
        (
            "the same, after a big first request",
            |n| if n < 100 { 60.0 } else { 150.0 + n as f64 * 0.01 },
            true,
        ),
        ("steps", |n| 100.0 + (n / 2000) as f64 * 20.0, true),
        ("flat", |_| 100.0, false),
        ("noise", |n| 100.0 + 10.0 * noise(n), false),
        ("modules and caches", |n| 60.0 + 90.0 * (1.0 - (-(n as f64) / 1000.0).exp()), false),
        ("up to a bound", |n| 100.0 + (n as f64 * 0.02).min(60.0), false),
        ("too little to matter", |n| 100.0 + n as f64 * 0.0002, false),
    ];
    for (name, rss_mb, grows) in table {
        let growth = seen(&[worker(1, 50, rss_mb)]).growth();
        assert_eq!(growth.is_some(), grows, "{name}: {growth:?}");
    }
}

#[test]
fn the_slope_is_that_of_the_leak() {
    let leak = |n: u64| 100.0 + n as f64 * 0.01 + 2.0 * noise(n);
    let growth = seen(&[worker(1, 50, leak), worker(2, 40, leak), worker(3, 20, |_| 90.0)]).growth();
    let growth = growth.expect("two of three grow");
    assert!((growth.per_request / MB as f64 - 0.01).abs() < 0.001, "{growth:?}");
    assert_eq!((growth.growing, growth.known, growth.pid), (2, 3, 1));
    assert!(growth.to.requests > 9_000 && growth.from.requests >= 2000, "{growth:?}");
    assert!((growth.requests_per_s - 5.0).abs() < 0.5, "{growth:?}");
}

#[test]
fn one_of_many_that_grows_says_nothing_of_all() {
    let flat = |_| 90.0;
    let workers = [worker(1, 50, |n| 100.0 + n as f64 * 0.01), worker(2, 50, flat), worker(3, 50, flat)];
    assert_eq!(seen(&workers).growth(), None);
}

#[test]
fn nothing_is_said_too_early() {
    let mut courses = Courses::default();
    for sample in worker(1, 10, |n| 100.0 + n as f64).iter().take(60) {
        courses.observe(&[*sample]);
    }
    assert_eq!(courses.growth(), None);
}

#[test]
fn what_is_proposed_leaves_room() {
    let point = |requests, mb| Point { requests, rss: mb * MB };
    let growth =
        Growth { per_request: 10_240.0, from: point(1000, 100), to: point(9000, 180), ..Growth::default() };
    // Twice the memory after 11,240 requests.
    assert_eq!(growth.max_requests(4, None), 10_000);
    assert_eq!(growth.rss_at(11_240) as u64 / MB, 200);
    // 800 MB for four: 160 each, of which 60 are free.
    assert_eq!(growth.max_requests(4, Some(800 * MB)), 5000);
    // There is no room at all.
    assert_eq!(growth.max_requests(4, Some(100 * MB)), 1000);
    assert_eq!(Growth { from: point(0, 100), ..growth }.max_requests(4, Some(1)), 100);
}

#[test]
fn numbers_are_round() {
    for (number, expected) in
        [(100.0, 100), (199.0, 100), (200.0, 200), (4999.0, 2000), (5000.0, 5000), (99_999.0, 50_000)]
    {
        assert_eq!(rounded_down(number), expected, "{number}");
    }
}

#[test]
fn what_is_kept_has_a_bound() {
    let mut courses = Courses::default();
    for pid in 1..=2 * COURSES_MAX as u32 {
        for sample in worker(pid, 1000, |_| 100.0) {
            courses.observe(&[sample]);
        }
    }
    assert_eq!(courses.workers.len(), COURSES_MAX);
    assert!(courses.workers.iter().all(|course| course.points.len() <= POINTS_MAX));
    assert_eq!(courses.workers[0].pid, COURSES_MAX as u32 + 1);
    let text = serde_json::to_string(&courses).expect("JSON");
    assert!(text.len() < 1 << 18, "{}", text.len());
    assert_eq!(serde_json::from_str::<Courses>(&text).expect("read"), courses);
}

proptest! {
    #[test]
    fn no_numbers_panic(samples in prop::collection::vec((0u32..4, any::<u64>(), any::<u64>()), 0..200)) {
        let mut courses = Courses::default();
        for (pid, requests, rss) in samples {
            courses.observe(&[Sample { pid, requests, rss, ..Sample::default() }]);
            if let Some(growth) = courses.growth() {
                growth.max_requests(pid, Some(rss));
            }
        }
    }
}
