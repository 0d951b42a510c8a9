//! The course of incidents: what opens them, what they count, when they end.

use super::*;
use crate::diagnosis::{Because, Diagnosis, Subject};
use proptest::prelude::*;

fn troubled(id: &str, cause: Cause, peer: &str, route: &str, app_s: f64) -> Sign {
    let diagnosis = Diagnosis {
        cause,
        confidence: 0.9,
        summary: format!("{route}: it waits."),
        subject: Subject { peer: Some(peer.to_owned()), ..Subject::default() },
        ..Diagnosis::default()
    };
    let request = Request {
        id: id.to_owned(),
        method: "GET".to_owned(),
        path: route.to_owned(),
        app_s,
        ..Request::default()
    };
    let worker = Worker { pid: 7, ..Worker::default() };
    Sign::Stuck(Box::new(Troubled { request, worker, diagnosis, ..Troubled::default() }))
}

fn lost(id: &str) -> Sign {
    let request = Request {
        id: id.to_owned(),
        method: "GET".to_owned(),
        path: "/r".to_owned(),
        app_s: 30.0,
        ..Request::default()
    };
    Sign::Lost { id: id.to_owned(), request: Box::new(request), pid: 7, answer: "answered 504".to_owned() }
}

/// A desk whose troubles have names, in order.
struct Named {
    desk: Desk,
    next: u32,
}

impl Named {
    fn on(&mut self, sign: Sign, now: f64) -> Vec<Effect> {
        if self.desk.needs_name() {
            self.desk.name_next(format!("20261126-{}", self.next));
            self.next += 1;
        }
        self.desk.on(sign, now)
    }

    fn incidents(&self) -> Vec<&Incident> {
        self.desk.incidents()
    }
}

fn desk() -> Named {
    Named { desk: Desk::new(Server { pid: 1, ..Server::default() }), next: 1 }
}

const API: &str = "10.0.0.9:80";

#[test]
fn one_trouble_is_one_incident_however_many_routes_it_hits() {
    let mut desk = desk();
    for (number, route) in ["/a", "/a", "/b"].iter().enumerate() {
        let id = format!("7-{number}");
        desk.on(troubled(&id, Cause::ExternalNoTimeout, API, route, 24.0), 100.0);
        desk.on(troubled(&id, Cause::ExternalNoTimeout, API, route, 29.0), 105.0);
        desk.on(lost(&id), 106.0);
        // Told twice.
        desk.on(lost(&id), 106.5);
    }
    let [incident] = desk.incidents()[..] else { panic!("{:?}", desk.incidents()) };
    assert_eq!((incident.state, incident.id.as_str()), (State::Note, "20261126-1"));
    assert_eq!((incident.requests_lost, incident.requests_stuck), (3, 3));
    assert_eq!((incident.route.as_str(), incident.routes.len()), ("GET /a", 2));
    assert_eq!((incident.noted_at, incident.diagnosed_at), (100.0, Some(100.0)));
    let effects = desk.on(Sign::Losses { text: "3 in 60 s".to_owned() }, 110.0);
    let told: Vec<&Effect> = effects.iter().filter(|effect| matches!(effect, Effect::Tell(_))).collect();
    assert_eq!(told.len(), 1);
    let [incident] = desk.incidents()[..] else { panic!() };
    assert_eq!(
        (incident.state, incident.trigger, incident.opened_at),
        (State::Open, Some(Trigger::Losses), Some(110.0))
    );
    assert_eq!(desk.desk.of_request("7-2"), Some("20261126-1"));
}

#[test]
fn who_turns_out_to_be_in_another_trouble_is_counted_there() {
    let mut desk = desk();
    desk.on(troubled("7-1", Cause::DbSlowQuery, "db:5432", "/a", 15.0), 100.0);
    desk.on(troubled("7-2", Cause::DbQueryOrLock, "db:5432", "/a", 15.0), 100.0);
    let effects = desk.on(troubled("7-2", Cause::DbSlowQuery, "db:5432", "/a", 24.0), 109.0);
    assert!(effects.contains(&Effect::Drop("20261126-2".to_owned())), "{effects:?}");
    let [incident] = desk.incidents()[..] else { panic!("{:?}", desk.incidents()) };
    assert_eq!((incident.cause, incident.requests_stuck), (Cause::DbSlowQuery, 2));
}

#[test]
fn what_was_taken_for_slow_before_the_usual_was_known_is_the_same() {
    let mut desk = desk();
    let unsure = |id: &str, route: &str| match troubled(id, Cause::ExternalTimeoutTooLong, API, route, 4.0) {
        Sign::Stuck(mut troubled) => {
            troubled.diagnosis.confidence = 0.6;
            Sign::Stuck(troubled)
        }
        other => other,
    };
    for id in ["7-1", "7-2", "7-3"] {
        desk.on(unsure(id, "/a"), 100.0);
    }
    let usual = |id: &str| match troubled(id, Cause::TimeoutTooLow, API, "/a", 5.0) {
        Sign::Stuck(mut troubled) => {
            let because = Because { cause: Cause::ExternalTimeoutTooLong, text: String::new() };
            troubled.diagnosis.because = Some(because);
            Sign::Stuck(troubled)
        }
        other => other,
    };
    let effects = desk.on(usual("7-4"), 110.0);
    assert!(effects.contains(&Effect::Drop("20261126-1".to_owned())), "{effects:?}");
    let [incident] = desk.incidents()[..] else { panic!("{:?}", desk.incidents()) };
    assert_eq!(
        (incident.cause, incident.requests_stuck, incident.noted_at),
        (Cause::TimeoutTooLow, 4, 100.0)
    );
    assert_eq!(desk.desk.of_request("7-1"), Some(incident.id.as_str()));
    // What is lost of it later is lost here.
    let id = incident.id.clone();
    desk.on(lost("7-1"), 111.0);
    assert_eq!(
        desk.incidents().iter().map(|one| (&one.id, one.requests_lost)).collect::<Vec<_>>(),
        [(&id, 1)]
    );
    // Of another route it is another matter.
    desk.on(unsure("7-5", "/b"), 112.0);
    desk.on(usual("7-6"), 113.0);
    assert_eq!(desk.incidents().len(), 2);
}

#[test]
fn a_trouble_that_is_known_better_stays_the_same() {
    let mut desk = desk();
    desk.on(troubled("7-1", Cause::DbQueryOrLock, API, "/a", 15.0), 100.0);
    desk.on(troubled("7-1", Cause::DbLock, API, "/a", 16.0), 101.0);
    let [incident] = desk.incidents()[..] else { panic!("{:?}", desk.incidents()) };
    assert_eq!((incident.id.as_str(), incident.cause), ("20261126-1", Cause::DbLock));
    assert_eq!(incident.causes.len(), 1);
}

#[test]
fn people_hear_what_became_of_what_they_were_told() {
    let mut desk = desk();
    for id in ["7-1", "7-2"] {
        desk.on(troubled(id, Cause::DbQueryOrLock, API, "/a", 15.0), 100.0);
    }
    desk.on(Sign::Capacity { stuck: 2, threads: 2 }, 100.5);
    desk.on(troubled("7-1", Cause::DbLock, API, "/a", 16.0), 101.0);
    let effects = desk.on(troubled("7-2", Cause::DbLock, API, "/a", 16.0), 101.0);
    let told: Vec<(State, Cause)> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Tell(incident) => Some((incident.state, incident.cause)),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2);
    assert!(
        told.contains(&(State::Closed, Cause::DbQueryOrLock)) && told.contains(&(State::Open, Cause::DbLock))
    );
    let [incident] = desk.incidents()[..] else { panic!("{:?}", desk.incidents()) };
    assert_eq!((incident.cause, incident.requests_stuck), (Cause::DbLock, 2));
}

#[test]
fn an_incident_stops_comes_back_and_ends() {
    let mut desk = desk();
    desk.on(troubled("7-1", Cause::ExternalNoTimeout, API, "/a", 24.0), 100.0);
    desk.on(lost("7-1"), 106.0);
    desk.on(Sign::Losses { text: String::new() }, 110.0);
    let state = |desk: &Named| desk.incidents().first().map(|incident| incident.state);
    desk.on(Sign::Tick, 165.9);
    assert_eq!(state(&desk), Some(State::Open));
    desk.on(Sign::Tick, 166.0);
    assert_eq!(state(&desk), Some(State::Mitigated));
    desk.on(troubled("7-2", Cause::ExternalNoTimeout, API, "/a", 24.0), 300.0);
    assert_eq!(state(&desk), Some(State::Open));
    desk.on(Sign::Tick, 361.0);
    let effects = desk.on(Sign::Tick, 1200.1);
    assert_eq!(state(&desk), None);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Tell(incident) if incident.state == State::Closed))
    );
}

#[test]
fn a_note_bothers_nobody_and_is_forgotten() {
    let mut desk = desk();
    let effects = desk.on(troubled("7-1", Cause::CpuBound, "", "/export", 24.0), 100.0);
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Save(_))));
    desk.on(Sign::Capacity { stuck: 1, threads: 2 }, 101.0);
    desk.on(Sign::Tick, 500.0);
    assert_eq!(desk.incidents().first().map(|incident| incident.state), Some(State::Note));
    let effects = desk.on(Sign::Tick, 1100.0);
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Tell(_))));
    assert!(desk.incidents().is_empty());
}

#[test]
fn most_threads_stuck_at_once_open_it() {
    let mut desk = desk();
    desk.on(troubled("7-1", Cause::ExternalNoTimeout, API, "/a", 24.0), 100.0);
    desk.on(troubled("7-2", Cause::ExternalNoTimeout, API, "/a", 24.0), 100.0);
    desk.on(Sign::Capacity { stuck: 2, threads: 8 }, 101.0);
    assert_eq!(desk.incidents()[0].state, State::Note);
    desk.on(Sign::Capacity { stuck: 4, threads: 8 }, 102.0);
    assert_eq!(desk.incidents()[0].trigger, Some(Trigger::Capacity));
}

#[test]
fn workers_that_die_and_routes_that_slow_down_open_them_too() {
    let mut desk = desk();
    let memory = Diagnosis { cause: Cause::WorkerMemory, confidence: 0.95, ..Diagnosis::default() };
    let end = |pid| Sign::Worker {
        worker: Box::new(Worker { pid, ..Worker::default() }),
        diagnosis: Box::new(memory.clone()),
        text: "killed".to_owned(),
        grave: false,
    };
    desk.on(end(7), 100.0);
    assert_eq!(desk.incidents()[0].state, State::Note);
    desk.on(end(8), 130.0);
    assert_eq!((desk.incidents()[0].trigger, desk.incidents()[0].workers.len()), (Some(Trigger::Workers), 2));
    desk.on(Sign::Latency { route: "GET /slow".to_owned(), text: "p99 0.1 s to 2 s".to_owned() }, 140.0);
    let slow = desk
        .incidents()
        .into_iter()
        .find(|incident| incident.trigger == Some(Trigger::Latency))
        .expect("there");
    assert_eq!((slow.route.as_str(), slow.cause), ("GET /slow", Cause::Unknown));
}

#[test]
fn open_incidents_go_on_after_a_restart() {
    let mut first = desk();
    first.on(troubled("7-1", Cause::ExternalNoTimeout, API, "/a", 24.0), 100.0);
    first.on(lost("7-1"), 106.0);
    first.on(Sign::Losses { text: String::new() }, 110.0);
    let stored: Vec<Incident> = first.incidents().into_iter().cloned().collect();
    let mut second = desk();
    second.next = 2;
    second.desk.resume(stored);
    second.on(troubled("7-9", Cause::ExternalNoTimeout, API, "/a", 24.0), 120.0);
    let [incident] = second.incidents()[..] else { panic!() };
    assert_eq!((incident.id.as_str(), incident.requests_stuck, incident.requests_lost), ("20261126-1", 2, 1));
}

proptest! {
    /// Whatever happens in whatever order: limits hold, counts stay sound, ids are not given twice.
    #[test]
    fn the_desk_stays_in_order(signs in proptest::collection::vec((0..6u8, 0..90u32, 0..6u8, 0.0..50.0f64), 1..300)) {
        let mut desk = desk();
        let mut now = 0.0;
        for (kind, number, cause, step) in signs {
            now += step;
            let cause = Cause::ALL[usize::from(cause) * 4];
            let sign = match kind {
                0 | 1 => troubled(&format!("7-{number}"), cause, &format!("{number}"), "/a", step),
                2 => lost(&format!("7-{number}")),
                3 => Sign::Losses { text: String::new() },
                4 => Sign::Capacity { stuck: number, threads: 8 },
                _ => Sign::Tick,
            };
            desk.on(sign, now);
            let incidents = desk.incidents();
            let ids: std::collections::BTreeSet<&str> = incidents.iter().map(|incident| incident.id.as_str()).collect();
            prop_assert_eq!(ids.len(), incidents.len());
            for incident in incidents {
                prop_assert!(incident.requests_lost <= incident.requests_stuck);
                prop_assert!(incident.timeline.len() <= 64);
                prop_assert!(incident.opened_at.is_some() == (incident.state != State::Note));
            }
        }
    }
}

#[test]
fn what_is_done_about_an_incident_is_told_once_and_then_goes_on() {
    let mut desk = Desk::new(Server::default());
    desk.name_next("20200101-1".into());
    desk.on(Sign::Stuck(Box::default()), 10.0);
    let act = |desk: &mut Desk, number, outcome| {
        let acted = Acted {
            at: 11.0,
            number,
            action: "cancel_query".into(),
            target: "backend 7 of db".into(),
            rule: "stuck-query".into(),
            outcome,
            text: "why".into(),
        };
        desk.on(Sign::Acted { incident: "20200101-1".into(), acted: Box::new(acted) }, 11.0).len()
    };
    for (number, outcome, effects) in [
        (0, Outcome::Advised, 1),
        (0, Outcome::Advised, 0),
        (0, Outcome::Withheld, 1),
        (1, Outcome::Begun, 1),
        (1, Outcome::Done, 1),
        (1, Outcome::Better, 1),
        (2, Outcome::Begun, 1),
    ] {
        assert_eq!(act(&mut desk, number, outcome), effects, "{number} {outcome:?}");
    }
    let incident = desk.incidents()[0].clone();
    let told: Vec<(u64, Outcome)> =
        incident.actions.iter().map(|acted| (acted.number, acted.outcome)).collect();
    assert_eq!(told, [(0, Outcome::Withheld), (1, Outcome::Better), (2, Outcome::Begun)]);
    // What was only thought of is no part of its course.
    let course = incident.timeline.iter().filter(|moment| moment.text.starts_with("cancel_query")).count();
    assert_eq!(course, 4);
    assert_eq!(incident.state, State::Note);
    for number in 3..99 {
        act(&mut desk, number, Outcome::Begun);
    }
    let opened = desk.incidents()[0].clone();
    assert_eq!((opened.state, opened.trigger), (State::Open, Some(Trigger::Losses)));
    assert_eq!(desk.incidents()[0].actions.len(), 32);
}
