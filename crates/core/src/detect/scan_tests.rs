//! The scan over days and weeks of one series: what is an alarm, what becomes usual, and what it survives. What it costs in
//! false alarms is in `simulation`.

use super::{ALPHA, Alarm, EVENTS_MIN, Scan, TICK_S};
use proptest::prelude::*;
use serde_json::json;

const START_S: u64 = 1_699_999_200;
const DAY: u64 = 8640;

/// A scan and its time.
struct Series {
    scan: Scan,
    now_s: u64,
}

impl Series {
    fn new() -> Self {
        let mut scan = Scan::default();
        assert_eq!(scan.tick(1000, START_S), None, "the first call says nothing");
        Self { scan, now_s: START_S }
    }

    fn tick(&mut self, count: u64) -> Option<Alarm> {
        self.now_s += TICK_S;
        self.scan.tick(count, self.now_s)
    }

    /// Lets ticks pass with one event in every `every`th; returns how many of them were an alarm.
    fn live(&mut self, ticks: u64, every: u64) -> usize {
        (1..=ticks).filter(|tick| self.tick(u64::from(tick % every == 0)).is_some()).count()
    }
}

#[test]
fn three_at_once_are_an_alarm_where_there_are_hardly_any() {
    let mut series = Series::new();
    assert_eq!(series.live(2 * DAY, DAY + 1), 0);
    assert_eq!(series.tick(2), None);
    let alarm = series.tick(1).expect("an alarm");
    assert_eq!((alarm.window_s, alarm.count, alarm.began_s), (60, 3, series.now_s));
    assert!(alarm.p > 0.0 && alarm.p < 1e-9 && alarm.expected < 1e-2, "{alarm:?}");
    // It holds as long as the longest window shows it, under its name.
    let later = (1..=90).map_while(|_| series.tick(0)).collect::<Vec<_>>();
    assert_eq!((later.len(), later[88 - 1].began_s), (88, alarm.began_s));
    assert_eq!(series.live(DAY, DAY + 1), 0);
}

#[test]
fn what_comes_all_the_time_is_no_alarm_but_much_more_of_it_is() {
    let mut series = Series::new();
    // Six an hour, and as even as a clock.
    series.live(DAY, 60);
    assert_eq!(series.live(5 * DAY, 60), 0);
    let per_hour = series.scan.per_hour();
    assert!((5.0..6.1).contains(&per_hour), "{per_hour}");
    let delay = (1..=90).find(|tick| series.tick(u64::from(tick % 2 == 0)).is_some());
    assert!((6..=12).contains(&delay.expect("an alarm")), "{delay:?}");
}

#[test]
fn an_incident_is_one_alarm_and_hides_none_that_comes_later() {
    let mut series = Series::new();
    series.live(3 * DAY, 720);
    let mut names = Vec::new();
    // An hour of four a minute, four hours of peace, and again.
    for _ in 0..6 {
        let alarms: Vec<_> = (0..360u64).map(|tick| series.tick(u64::from(tick % 3 != 0))).collect();
        let first = alarms.iter().position(Option::is_some).expect("an alarm");
        assert!(first <= 18, "after {first} ticks");
        assert!(alarms[first..].iter().all(Option::is_some), "goes on");
        names.extend(alarms.into_iter().flatten().map(|alarm| alarm.began_s));
        series.live(90, 720);
        assert_eq!(series.live(4 * 360, 720), 0);
    }
    names.dedup();
    assert_eq!(names.len(), 6);
}

#[test]
fn a_lasting_change_becomes_usual() {
    let mut series = Series::new();
    series.live(3 * DAY, 720);
    assert!(series.live(DAY, 10) > 2000);
    series.live(DAY, 10);
    assert_eq!(series.live(2 * DAY, 10), 0);
}

#[test]
fn a_nightly_heap_is_usual_after_three_weeks() {
    let mut series = Series::new();
    let alarms = [1, 2, 3, 4].map(|_| {
        let nightly = |tick: u64| tick % DAY / 360 == 3 && tick.is_multiple_of(9);
        (0..7 * DAY).filter(|tick| series.tick(u64::from(nightly(*tick))).is_some()).count()
    });
    assert!(alarms[0] > 500 && alarms[1] > 500, "{alarms:?}");
    assert_eq!(alarms[3], 0, "{alarms:?}");
}

#[test]
fn time_that_was_missed_is_no_alarm() {
    let mut series = Series::new();
    series.live(DAY, 60);
    // Eight minutes at once, with what is usual in them; then what came in an hour, of which nobody knows when.
    series.now_s += 47 * TICK_S;
    assert_eq!(series.tick(1), None);
    series.now_s += 360 * TICK_S;
    assert_eq!(series.tick(500), None);
    assert_eq!(series.live(DAY, 60), 0);
    // The clock is set back: days, and each time.
    for back_s in [864_000, 3600, 10, 5, u64::MAX] {
        series.now_s = series.now_s.saturating_sub(back_s);
        assert_eq!(series.tick(0), None, "{back_s}");
        assert_eq!(series.live(720, 60), 0, "{back_s}");
    }
    // What was missed for a minute and is too much for a minute is an alarm all the same.
    series.now_s += 5 * TICK_S;
    assert!(series.tick(20).is_some());
}

#[test]
fn its_state_is_small() {
    assert!(size_of::<Scan>() <= 1900, "{}", size_of::<Scan>());
    let mut series = Series::new();
    for _ in 0..4 * 7 * DAY {
        series.tick(u64::MAX);
    }
    let text = serde_json::to_string(&series.scan).expect("JSON");
    assert!(text.len() <= 6000, "{}", text.len());
}

#[test]
fn any_state_is_survived() {
    let broken = [
        ("/events", json!(-1e300)),
        ("/seconds", json!(1e308)),
        ("/next", json!(u64::MAX)),
        ("/lived", json!(u32::MAX)),
        ("/recent/5", json!(u32::MAX)),
        ("/recent", json!([])),
        ("/ticks/last", json!(u64::MAX)),
        ("/hours/spread", json!(-7.0)),
        ("/hours/factor", json!(1e300)),
        ("/hours/known/3", json!(255)),
        ("/hours/total", json!(u32::MAX)),
        ("/hours/open", json!({"hour": u64::MAX, "ticks": u32::MAX, "count": u32::MAX, "alarmed": true})),
    ];
    for (place, value) in broken {
        let mut state = serde_json::to_value(Scan::default()).expect("JSON");
        *state.pointer_mut(place).expect(place) = value;
        let mut scan: Scan = serde_json::from_value(state).expect(place);
        for tick in 0..800 {
            let alarm = scan.tick(tick % 5, START_S + tick * TICK_S);
            assert!(alarm.is_none_or(|alarm| (0.0..ALPHA).contains(&alarm.p)), "{place}");
        }
        assert!(scan.per_hour().is_finite(), "{place}");
    }
}

fn steps() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
    let count = prop_oneof![8 => Just(0), 4 => 0u64..5, 1 => any::<u64>()];
    let gap_s = prop_oneof![8 => Just(TICK_S), 4 => 0u64..2000, 1 => any::<u64>()];
    proptest::collection::vec((count, gap_s, proptest::bool::weighted(0.05)), 1..400)
}

proptest! {
    #[test]
    fn any_series_is_survived_and_goes_on_after_a_restart(steps in steps(), restart in 0usize..400) {
        let (mut scan, mut other, mut now_s) = (Scan::default(), Scan::default(), START_S);
        for (step, (count, gap_s, back)) in steps.into_iter().enumerate() {
            now_s = if back { now_s.saturating_sub(gap_s) } else { now_s.saturating_add(gap_s) };
            if step == restart {
                let text = serde_json::to_string(&scan).expect("JSON");
                other = serde_json::from_str(&text).expect("a scan");
            }
            let alarm = scan.tick(count, now_s);
            let same = other.tick(count, now_s);
            let of = |alarm: &Alarm| (alarm.count, alarm.window_s, alarm.began_s);
            let told = |alarm: &Option<Alarm>| alarm.as_ref().map(of);
            prop_assert_eq!(told(&alarm), told(&same));
            if let Some(alarm) = alarm {
                prop_assert!((0.0..ALPHA).contains(&alarm.p) && alarm.count >= EVENTS_MIN, "{:?}", alarm);
                prop_assert!(alarm.expected.is_finite() && alarm.expected < alarm.count as f64, "{:?}", alarm);
            }
        }
    }

    /// One event every ten minutes, seen by somebody who is away now and then, and whose clock is set back.
    #[test]
    fn gaps_and_jumps_are_no_alarm(gaps in proptest::collection::vec((1u64..120, proptest::bool::weighted(0.1)), 1..100)) {
        let mut series = Series::new();
        series.live(2 * DAY, 60);
        let mut elapsed = 0;
        for (ticks, back) in gaps {
            let before = elapsed / 60;
            elapsed += ticks;
            series.now_s += (ticks - 1) * TICK_S;
            if back {
                series.now_s -= 7200;
            }
            prop_assert_eq!(series.tick(elapsed / 60 - before), None);
        }
    }
}
