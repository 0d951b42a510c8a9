//! The detector of slow requests over hours of one route: what is an alarm, what becomes usual, and what it survives. What it
//! costs in false alarms is in `simulation`.

use super::{ALPHA, Among, Slow, Slowdown, TICK_S};
use crate::histogram::Distribution;
use proptest::prelude::*;
use serde_json::json;

const START_S: u64 = 1_699_999_200;
const HOUR: u64 = 360;

/// A route whose usual durations are 100 ms, and 300 ms in one of 200 requests.
struct Route {
    slow: Slow,
    now_s: u64,
}

impl Route {
    fn known() -> Self {
        let mut route = Self { slow: Slow::default(), now_s: START_S };
        assert_eq!(route.live(2 * HOUR, &usual()), 0);
        route
    }

    fn tick(&mut self, answered: &Distribution, lost: u64) -> Option<Slowdown> {
        self.now_s += TICK_S;
        self.slow.tick(answered, lost, self.now_s)
    }

    /// Lets ticks pass; returns how many of them were an alarm.
    fn live(&mut self, ticks: u64, answered: &Distribution) -> usize {
        (0..ticks).filter(|_| self.tick(answered, 0).is_some()).count()
    }

    /// Returns after how many ticks there is an alarm.
    fn delay(&mut self, answered: &Distribution, lost: u64) -> Option<usize> {
        (1..=90).find(|_| self.tick(answered, lost).is_some())
    }
}

fn requests(of: &[(u64, u64)]) -> Distribution {
    let mut answered = Distribution::default();
    for (count, us) in of {
        (0..*count).for_each(|_| answered.add(*us));
    }
    answered
}

fn usual() -> Distribution {
    requests(&[(199, 100_000), (1, 300_000)])
}

#[test]
fn a_tenth_that_takes_long_is_noticed_in_three_ticks() {
    let mut route = Route::known();
    let worse = requests(&[(180, 100_000), (20, 500_000)]);
    assert_eq!((route.tick(&worse, 0), route.tick(&worse, 0)), (None, None));
    let slowdown = route.tick(&worse, 0).expect("an alarm");
    let began_s = route.now_s;
    assert_eq!((slowdown.alarm.window_s, slowdown.requests, slowdown.alarm.count), (60, 1200, 63));
    assert_eq!(slowdown.alarm.began_s, began_s);
    assert!(slowdown.slow_us > 100_000 && slowdown.slow_us < 115_000, "{}", slowdown.slow_us);
    assert!((slowdown.usual_share - 0.005).abs() < 1e-4, "{}", slowdown.usual_share);
    assert!((slowdown.alarm.expected - 6.0).abs() < 0.1 && slowdown.alarm.p < ALPHA, "{slowdown:?}");
    let later = route.tick(&worse, 0).expect("goes on");
    assert_eq!(later.alarm.began_s, began_s);
    assert!(route.live(60, &usual()) < 60);
    assert_eq!(route.live(HOUR, &usual()), 0);
}

#[test]
fn lost_requests_are_slow_ones() {
    let mut route = Route::known();
    assert_eq!(route.delay(&usual(), 20), Some(3));
    let mut route = Route::known();
    assert_eq!(route.delay(&Distribution::default(), 1), Some(6), "nothing is answered any more");
    // Where they are usual, they are not slow enough.
    let mut route = Route { slow: Slow::default(), now_s: START_S };
    assert_eq!((0..720).filter(|_| route.tick(&usual(), 20).is_some()).count(), 0);
    assert_eq!(route.delay(&usual(), 30), None);
    assert_eq!(route.delay(&usual(), 150), Some(4));
}

#[test]
fn what_is_no_alarm() {
    let cases = [
        ("a hiccup of two ticks", vec![requests(&[(200, 3_000_000)]); 2]),
        ("all a little slower", vec![requests(&[(200, 112_500)]); 300]),
        ("twice as many slow ones", vec![requests(&[(196, 100_000), (4, 300_000)]); 300]),
        ("ten times the traffic", vec![requests(&[(1990, 100_000), (10, 300_000)]); 300]),
        ("two slow ones, and hardly anything else", vec![requests(&[(1, 900_000)]); 2]),
        ("nothing", vec![Distribution::default(); 300]),
    ];
    for (what, ticks) in cases {
        let mut route = Route::known();
        assert_eq!(ticks.iter().filter(|answered| route.tick(answered, 0).is_some()).count(), 0, "{what}");
        assert_eq!(route.live(HOUR, &usual()), 0, "{what}, afterwards");
    }
}

#[test]
fn nothing_is_said_before_enough_is_known() {
    let mut route = Route { slow: Slow::default(), now_s: START_S };
    let few = requests(&[(1, 100_000)]);
    // 90 requests in a quarter of an hour.
    assert_eq!(route.live(11 * 90, &few), 0);
    assert_eq!((route.slow.usual_us(0.5), route.delay(&requests(&[(1, 900_000)]), 0)), (Some(106_496), None));
    assert_eq!(Slow::default().usual_us(0.5), None);
}

#[test]
fn an_incident_does_not_become_usual_for_hours() {
    let mut route = Route::known();
    let worse = requests(&[(100, 100_000), (100, 2_000_000)]);
    let before = route.slow.usual_us(0.99);
    assert!(route.live(5 * HOUR, &worse) >= 5 * HOUR as usize - 2);
    assert_eq!(route.slow.usual_us(0.99), before);
    // Whoever lives with it for six hours wants to hear of what is worse than this.
    route.live(2 * HOUR, &worse);
    assert_eq!(route.live(2 * HOUR, &worse), 0);
    assert!(route.slow.usual_us(0.99) > Some(2_000_000));
    assert_eq!(route.delay(&requests(&[(200, 9_000_000)]), 0), Some(3));
}

#[test]
fn time_that_was_missed_is_no_alarm() {
    let mut route = Route::known();
    let worse = requests(&[(10, 900_000)]);
    // Three bad ticks, each too long after the other.
    for gap_s in [610, 86_400, 700] {
        route.now_s += gap_s;
        assert_eq!(route.tick(&worse, 0), None, "{gap_s}");
    }
    for back_s in [864_000, 3600, 20, u64::MAX] {
        route.now_s = route.now_s.saturating_sub(back_s);
        assert_eq!(route.tick(&worse, 0), None, "{back_s}");
    }
    // A quiet route is asked when there is something: the same requests, minutes apart.
    let mut route = Route::known();
    let delay = (1..9).find(|_| {
        route.now_s += 50;
        route.tick(&worse, 0).is_some()
    });
    assert_eq!(delay, Some(3));
}

#[test]
fn its_state_is_small() {
    assert!(size_of::<Slow>() <= 4096, "{}", size_of::<Slow>());
    let mut answered = Distribution::default();
    (0..240).for_each(|bucket| answered.buckets[bucket] = u64::MAX / 240);
    let mut slow = Slow::default();
    for tick in 0..400 {
        slow.tick(&answered, u64::MAX, START_S + tick * TICK_S);
    }
    let text = serde_json::to_string(&slow).expect("JSON");
    assert!(text.len() <= 16_384, "{}", text.len());
    let text = serde_json::to_string(&Route::known().slow).expect("JSON");
    assert!(text.len() <= 4096, "{}", text.len());
}

#[test]
fn any_state_is_survived() {
    let broken = [
        ("/baseline/weights/62", json!(-1e30)),
        ("/baseline/lost", json!(1e300)),
        ("/baseline/usual/slow_us", json!(u64::MAX)),
        ("/baseline/usual/share", json!(-1e30)),
        ("/baseline/ticks", json!(u32::MAX)),
        ("/baseline/now/counts/62", json!(u32::MAX)),
        ("/recent/3", json!([u32::MAX, u32::MAX, u32::MAX, true])),
        ("/recent/4", json!([0, u32::MAX, u32::MAX, true])),
        ("/next", json!(u64::MAX)),
        ("/ticks/last", json!(u64::MAX)),
        ("/episode/age", json!(u32::MAX)),
    ];
    for (place, value) in broken {
        let mut state = serde_json::to_value(Route::known().slow).expect("JSON");
        *state.pointer_mut(place).expect(place) = value;
        let mut route = Route { slow: serde_json::from_value(state).expect(place), now_s: START_S };
        for tick in 0..400 {
            let slowdown = route.tick(&requests(&[(tick % 7, 900_000), (3, 100_000)]), tick % 3);
            assert!(slowdown.is_none_or(|slowdown| (0.0..ALPHA).contains(&slowdown.alarm.p)), "{place}");
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(u64, u64, u64, bool)>> {
    let us = prop_oneof![6 => 1000u64..200_000, 3 => 200_000u64..40_000_000, 1 => any::<u64>()];
    let lost = prop_oneof![8 => Just(0), 2 => 0u64..5, 1 => any::<u64>()];
    let gap_s = prop_oneof![8 => Just(TICK_S), 3 => 0u64..2000, 1 => any::<u64>()];
    proptest::collection::vec((us, lost, gap_s, proptest::bool::weighted(0.05)), 1..60)
}

proptest! {
    #[test]
    fn any_series_is_survived_and_goes_on_after_a_restart(steps in steps(), restart in 0usize..60) {
        let mut route = Route::known();
        let mut other = route.slow.clone();
        for (step, (us, lost, gap_s, back)) in steps.into_iter().enumerate() {
            let now_s = route.now_s;
            route.now_s = if back { now_s.saturating_sub(gap_s) } else { now_s.saturating_add(gap_s) };
            if step == restart {
                let text = serde_json::to_string(&route.slow).expect("JSON");
                other = serde_json::from_str(&text).expect("a detector");
            }
            let answered = requests(&[(50, 100_000), (3, us)]);
            let slowdown = route.slow.tick(&answered, lost, route.now_s);
            let same = other.tick(&answered, lost, route.now_s);
            let told = |slowdown: &Option<Slowdown>| {
                let alarm = slowdown.as_ref().map(|slowdown| &slowdown.alarm);
                alarm.map(|alarm| (alarm.count, alarm.window_s, alarm.began_s))
            };
            prop_assert_eq!(told(&slowdown), told(&same));
            if let Some(slowdown) = slowdown {
                let alarm = &slowdown.alarm;
                prop_assert!((0.0..ALPHA).contains(&alarm.p) && alarm.expected.is_finite(), "{:?}", alarm);
                prop_assert!(alarm.count <= slowdown.requests && alarm.matters(Among::Requests(slowdown.requests)));
            }
        }
    }
}
