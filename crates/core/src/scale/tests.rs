//! Courses of load, and what becomes of the number of workers.

use super::*;
use proptest::prelude::*;

type Change = fn(Load) -> Load;

const LIMITS: Limits = Limits { min: 2, max: 8 };

/// A server with four threads a worker, to which so many requests come at a time.
struct Server {
    scale: Scale,
    workers: u32,
    now: f64,
    turns: Vec<(f64, Wish)>,
}

impl Server {
    fn new() -> Self {
        Self { scale: Scale::default(), workers: 2, now: 1000.0, turns: Vec::new() }
    }

    fn load(&self, requests: u32) -> Load {
        let threads = self.workers * 4;
        Load {
            wanted: self.workers,
            ready: self.workers,
            threads,
            busy: requests.min(threads),
            queued: requests.saturating_sub(threads),
            ..Load::default()
        }
    }

    fn pass(&mut self, seconds: u32, load: impl Fn(&Self) -> Load) -> Decision {
        let mut last = None;
        for _ in 0..seconds {
            self.now += 1.0;
            let decision = self.scale.on(LIMITS, &load(self), self.now);
            match decision.wish {
                Wish::Add(count) => self.workers += count,
                Wish::Remove => self.workers -= 1,
                Wish::Stay => {}
            }
            if decision.wish != Wish::Stay {
                self.turns.push((self.now, decision.wish));
            }
            last = Some(decision);
        }
        last.expect("some time")
    }
}

#[test]
fn load_brings_workers_and_calm_takes_them_back_slowly() {
    let mut server = Server::new();
    server.pass(600, |server| server.load(3));
    assert_eq!(server.workers, 2);
    server.pass(60, |server| server.load(20));
    // Twenty at a time: below 80 % of the threads of seven.
    assert_eq!(server.workers, 7);
    server.pass(299, |server| server.load(3));
    assert_eq!(server.workers, 7);
    server.pass(200, |server| server.load(3));
    // One at once, and then one a minute.
    assert_eq!(server.workers, 3);
    server.pass(600, |server| server.load(3));
    assert_eq!(server.workers, 2);
    let apart = server.turns.iter().filter(|(_, wish)| *wish == Wish::Remove).collect::<Vec<_>>();
    assert!(apart.windows(2).all(|two| two[1].0 - two[0].0 >= DOWN_EVERY_S), "{apart:?}");
}

#[test]
fn what_was_needed_again_is_kept_longer() {
    let mut server = Server::new();
    let mut waits = Vec::new();
    for _ in 0..3 {
        server.pass(30, |server| server.load(10));
        let begun = server.now;
        while server.workers > 3 {
            server.pass(1, |server| server.load(2));
        }
        waits.push(server.now - begun);
    }
    assert!(waits[1] > waits[0] * 1.5 && waits[2] > waits[1] * 1.5, "{waits:?}");
}

#[test]
fn what_more_workers_would_make_worse_stands_against_them() {
    let full = |server: &Server| server.load(99);
    let table: [(&str, Change); 5] = [
        ("it worse: db.slow_query", |load| Load { forbidden: Some("db.slow_query".into()), ..load }),
        ("processors are at 97 %", |load| Load { host_cpu: Some(0.97), ..load }),
        ("100 MB of memory are left", |load| Load {
            memory_available: Some(100_000_000),
            worker_memory: Some(90_000_000),
            ..load
        }),
        ("79 of 100 connections", |load| Load { connections: Some((79, 5, 100)), ..load }),
        ("boot still", |load| Load { ready: 1, ..load }),
    ];
    for (text, change) in table {
        let mut server = Server::new();
        let last = server.pass(120, |server| change(full(server)));
        assert!(last.why.contains(text) && server.workers == 2, "{text}: {last:?}");
    }
    let mut server = Server::new();
    let last = server.pass(120, full);
    assert!(last.why.contains("workers_max is 8") && server.workers == 8, "{last:?}");
    // The limits themselves, whatever the load.
    let mut server = Server { workers: 1, ..Server::new() };
    assert_eq!(server.pass(1, |server| server.load(0)).wish, Wish::Add(1));
    let mut server = Server { workers: 9, ..Server::new() };
    assert_eq!(server.pass(1, |server| server.load(0)).wish, Wish::Remove);
}

#[test]
fn every_decision_says_why() {
    let mut server = Server::new();
    let quiet = server.pass(30, |server| server.load(3)).why;
    insta::assert_snapshot!(quiet, @"3 of 8 threads are busy, 0 requests wait for one; the last 29 s needed 2 workers");
    let soon = server.pass(2, |server| server.load(9)).why;
    insta::assert_snapshot!(soon, @"8 of 8 threads are busy, 1 requests wait for one, for less than 5 s");
}

proptest! {
    #[test]
    fn limits_hold_and_nothing_swings(loads in prop::collection::vec((0_u32..60, 1_u32..400), 1..40)) {
        let mut server = Server::new();
        for (requests, seconds) in loads {
            server.pass(seconds, |server| server.load(requests));
            prop_assert!((LIMITS.min..=LIMITS.max).contains(&server.workers));
        }
        // However the load swings: turns from less to more and back again are few in any hour.
        let turns: Vec<f64> = server
            .turns
            .windows(2)
            .filter(|two| matches!(two[0].1, Wish::Add(_)) != matches!(two[1].1, Wish::Add(_)))
            .map(|two| two[1].0)
            .collect();
        for from in &turns {
            let within = turns.iter().filter(|at| (0.0..3600.0).contains(&(**at - from))).count();
            prop_assert!(within <= 16, "{within} turns in an hour: {:?}", server.turns);
        }
    }
}
