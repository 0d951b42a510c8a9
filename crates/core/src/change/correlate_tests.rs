//! Scenarios of changes and troubles: what is said of which, and on which numbers it rests.

use super::*;
use crate::diagnosis::Cause;
use crate::evidence::Frame;
use crate::histogram::Distribution;
use crate::incident::Incident;

const DEPLOYED: f64 = 10_000.0;
const ROUTE: &str = "GET /report";

/// A service as it lives, in ticks of ten seconds.
struct Scene {
    tally: Tally,
    at: f64,
    changes: Vec<Change>,
    shifts: Vec<Shift>,
    incident: Incident,
    stuck: Vec<(String, u64)>,
}

impl Scene {
    /// Half an hour of quiet before the deploy.
    fn new() -> Self {
        let mut tally = Tally::default();
        tally.turn(DEPLOYED - 1800.0);
        let mut scene = Self {
            tally,
            at: DEPLOYED - 1800.0,
            changes: vec![deploy(DEPLOYED)],
            shifts: Vec::new(),
            incident: Incident { routes: vec![(ROUTE.into(), 3)], ..Incident::default() },
            stuck: Vec::new(),
        };
        scene.run(180, &[("old", 20, 0, 0)]);
        scene
    }

    /// So many ticks, in each of which versions answer fast, slowly, or not.
    fn run(&mut self, ticks: u32, each: &[(&str, u64, u64, u64)]) -> &mut Self {
        for _ in 0..ticks {
            for (version, fast, slow, lost) in each {
                let mut answered = Distribution::default();
                (0..*fast).for_each(|number| answered.add(20_000 + number * 100));
                (0..*slow).for_each(|_| answered.add(3_000_000));
                self.tally.add(version, ROUTE, &answered);
                self.tally.add(version, "GET /", &answered);
                (0..*lost).for_each(|_| self.tally.lose(version, ROUTE));
            }
            self.at += 10.0;
            self.tally.turn(self.at);
        }
        self
    }

    /// The first sign is now.
    fn noted(&mut self) -> &mut Self {
        self.incident.noted_at = self.at;
        self
    }

    fn on_stack(&mut self, file: &str) -> &mut Self {
        self.incident.frames = vec![Frame { file: file.into(), function: "f".into(), ..Frame::default() }];
        self
    }

    fn answer(&self) -> Explained {
        correlate(&Question {
            incident: &self.incident,
            changes: &self.changes,
            known_since: DEPLOYED - 30.0 * 86_400.0,
            tally: &self.tally,
            stuck: &self.stuck,
            shifts: &self.shifts,
            now: self.at,
        })
    }
}

fn deploy(at: f64) -> Change {
    Change {
        at,
        kind: Kind::Deploy,
        name: "deploy 3f2a91c → 8be01d2, 1 file".into(),
        from_id: "old".into(),
        to_id: "new".into(),
        files: vec!["shop/other.py".into(), "shop/views.py".into()],
        distributions: vec!["requests".into()],
        ..Change::default()
    }
}

fn slower_database(since: f64) -> Shift {
    Shift {
        name: "statements of shop".into(),
        metric: Metric::Ratio,
        dependency: true,
        score: 40.0,
        since,
        text: "statements of shop: ×1.0 → ×4.0".into(),
        ..Shift::default()
    }
}

#[test]
fn a_deploy_that_makes_a_route_slow_is_named_while_both_versions_live() {
    let mut scene = Scene::new();
    scene
        .run(1, &[("old", 10, 0, 0), ("new", 2, 4, 1)])
        .noted()
        .run(3, &[("old", 10, 0, 0), ("new", 2, 4, 1)]);
    let found = scene.answer();
    assert_eq!(found.verdict, Verdict::Caused, "{}", found.text);
    assert!(found.p.is_some_and(|p| p > 0.99) && found.surprise < 0.01, "{found:?}");
    insta::assert_snapshot!(found.text, @"caused by deploy 3f2a91c → 8be01d2, 1 file, 10.0s before: at the same time, of requests to workers with what was before 0 of 40 were slow (0.034 s and more) or lost, to those with it 20 of 28 (P[ratio > 2] > 0.999)");
}

#[test]
fn after_a_whole_reload_the_stack_decides() {
    let mut scene = Scene::new();
    scene.run(1, &[("new", 2, 8, 0)]).noted().run(2, &[("new", 2, 8, 0)]);
    let found = scene.answer();
    assert_eq!(found.verdict, Verdict::Likely, "{}", found.text);
    scene.on_stack("/srv/shop/shop/views.py");
    let found = scene.answer();
    assert_eq!(found.verdict, Verdict::Caused, "{}", found.text);
    assert_eq!(found.files[0], "shop/views.py", "what is on the stack comes first");
    scene.on_stack("/srv/v/lib/python3.12/site-packages/requests/api.py");
    assert_eq!(scene.answer().verdict, Verdict::Caused);
    scene.on_stack("/srv/v/lib/python3.12/site-packages/flask/app.py");
    assert_eq!(scene.answer().verdict, Verdict::Likely);
}

#[test]
fn requests_that_hang_and_were_not_counted_yet_count() {
    let mut scene = Scene::new();
    scene.run(1, &[("new", 2, 0, 0)]).noted();
    scene.stuck = vec![("new".into(), 4), ("old".into(), 0)];
    scene.on_stack("/srv/shop/shop/views.py");
    assert_eq!(scene.answer().verdict, Verdict::Caused, "{}", scene.answer().text);
}

#[test]
fn a_benign_deploy_is_not_blamed_for_what_comes_later() {
    let mut scene = Scene::new();
    // Ten minutes with the new version, in which all is well.
    scene.run(60, &[("new", 20, 0, 0)]).noted().run(3, &[("new", 2, 18, 2)]);
    let found = scene.answer();
    assert_eq!(found.verdict, Verdict::None, "{}", found.text);
    assert!(found.text.starts_with("no change explains it, and not deploy 3f2a91c"), "{}", found.text);
    assert!(found.text.contains("1180 of 1180 requests went well"), "{}", found.text);
}

#[test]
fn both_versions_alike_means_that_it_is_neither() {
    let mut scene = Scene::new();
    let both = [("old", 4, 6, 1), ("new", 4, 6, 1)];
    scene.run(1, &both).noted().run(3, &both);
    let found = scene.answer();
    assert_eq!(found.verdict, Verdict::None, "{}", found.text);
    assert!(found.p.is_some_and(|p| p < 0.5));
}

#[test]
fn a_database_that_is_slower_as_a_whole_is_nobodys_deploy() {
    let mut scene = Scene::new();
    scene.run(1, &[("new", 2, 8, 0)]).noted().run(2, &[("new", 2, 8, 0)]);
    scene.shifts = vec![slower_database(DEPLOYED + 5.0)];
    let found = scene.answer();
    assert_eq!(found.verdict, Verdict::Coincident, "{}", found.text);
    // Before the deploy already: even the stack makes it likely at most.
    scene.on_stack("/srv/shop/shop/views.py");
    scene.shifts = vec![slower_database(DEPLOYED - 120.0)];
    let found = scene.answer();
    assert_eq!(found.verdict, Verdict::Likely, "{}", found.text);
    assert!(found.text.contains("this had shifted before it: statements of shop"), "{}", found.text);
}

#[test]
fn what_began_before_is_not_its_effect() {
    let mut scene = Scene::new();
    scene.incident.noted_at = DEPLOYED - 60.0;
    scene.run(3, &[("new", 2, 8, 0)]);
    let found = scene.answer();
    assert_eq!((found.verdict, found.name.as_str()), (Verdict::None, ""));
    assert_eq!(found.text, "no change explains it: none is known before it");
}

#[test]
fn what_hung_without_it_already_is_not_its_effect() {
    let mut scene = Scene::new();
    scene.on_stack("/srv/shop/shop/views.py");
    // Noticed a moment before the deploy, at workers of the old version.
    scene.incident.noted_at = DEPLOYED - 2.0;
    let bad = [("new", 2, 8, 0)];
    scene.run(3, &bad);
    assert_eq!(scene.answer().verdict, Verdict::Caused, "{}", scene.answer().text);
    scene.tally.hang("old", ROUTE, DEPLOYED - 5.0);
    assert_eq!(scene.answer().verdict, Verdict::Caused, "now and then one hangs: {}", scene.answer().text);
    (0..3).for_each(|_| scene.tally.hang("old", ROUTE, DEPLOYED - 4.0));
    let found = scene.answer();
    assert_eq!(found.verdict, Verdict::Coincident, "{}", found.text);
    assert!(
        found.text.contains("4 requests to workers without it hung already in the 5.0s before it"),
        "{}",
        found.text
    );
    // What hung on another route, or long before, or since, neither.
    let mut scene = Scene::new();
    scene.on_stack("/srv/shop/shop/views.py");
    scene.run(1, &bad).noted().run(2, &bad);
    for (route, began) in [("GET /", -4.0), (ROUTE, -600.0), (ROUTE, 5.0)] {
        (0..4).for_each(|_| scene.tally.hang("old", route, DEPLOYED + began));
    }
    assert_eq!(scene.answer().verdict, Verdict::Caused, "{}", scene.answer().text);
    // Where that many hang all the time, it says nothing either.
    (1..300).rev().for_each(|number| scene.tally.hang("old", ROUTE, DEPLOYED - f64::from(number)));
    assert_eq!(scene.answer().verdict, Verdict::Caused, "{}", scene.answer().text);
}

#[test]
fn without_a_comparison_nothing_is_claimed() {
    let mut scene = Scene::new();
    scene.tally = Tally::default();
    scene.tally.turn(DEPLOYED);
    scene.run(1, &[("new", 2, 8, 0)]).noted().on_stack("/srv/shop/shop/views.py");
    let found = scene.answer();
    assert_eq!((found.verdict, found.p), (Verdict::Coincident, None), "{}", found.text);
    // Of a mark nobody knows which workers have it: time is compared.
    let mut scene = Scene::new();
    scene.changes =
        vec![Change { at: DEPLOYED, kind: Kind::Mark, name: "flag on".into(), ..Change::default() }];
    scene.run(1, &[("old", 2, 8, 0)]).noted().run(2, &[("old", 2, 8, 0)]);
    let found = scene.answer();
    assert_eq!((found.verdict, found.name.as_str()), (Verdict::Likely, "flag on"), "{}", found.text);
}

#[test]
fn a_host_that_is_short_of_something_is_nobodys_deploy() {
    let mut scene = Scene::new();
    scene.run(1, &[("new", 2, 8, 0)]).noted().run(2, &[("new", 2, 8, 0)]);
    scene.incident.cause = Cause::HostDiskOrSwap;
    assert_eq!(scene.answer().verdict, Verdict::Coincident, "{}", scene.answer().text);
}

#[test]
fn who_deploys_often_gets_no_credit_for_being_near() {
    let mut scene = Scene::new();
    scene.run(1, &[("new", 2, 0, 0)]).noted();
    let seldom = scene.answer().surprise;
    let often: Vec<Change> =
        (0..600).map(|number| deploy(DEPLOYED - 4000.0 * f64::from(600 - number))).collect();
    scene.changes = often.into_iter().chain([deploy(DEPLOYED - 600.0)]).collect();
    scene.run(30, &[("new", 2, 0, 0)]);
    assert!(scene.answer().surprise > 0.1 && seldom < 0.001, "{} {seldom}", scene.answer().surprise);
    scene.changes.clear();
    assert_eq!(scene.answer().text, "no change explains it: none is known before it");
    scene.changes.push(deploy(DEPLOYED - 7200.0));
    assert_eq!(
        scene.answer().text,
        "no change explains it: the last one, deploy 3f2a91c → 8be01d2, 1 file, was 2h 00m before"
    );
}
