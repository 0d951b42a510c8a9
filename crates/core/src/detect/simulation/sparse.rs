//! Thirty days of four services that lose between one request in two days and thirty an hour, unevenly: the rate of each
//! hour is drawn from a gamma distribution of shape 1. In between, incidents of four more lost requests per minute for a
//! quarter of an hour, which the detector sees in a copy of its state.

use super::{Random, quantile, runs};
use crate::detect::{Alarm, Scan, TICK_S, control};
use std::collections::BTreeSet;

const TICKS_PER_HOUR: u64 = 360;
/// The beginning of an hour.
const START_S: u64 = 1_699_999_200;
const DAYS: u64 = 30;
const INCIDENTS: u64 = 60;
const INCIDENT_PER_TICK: f64 = 4.0 / 6.0;
const INCIDENT_TICKS: u64 = 90;
/// The first incident comes when the service is known.
const KNOWN_TICKS: u64 = 3 * 24 * TICKS_PER_HOUR;

/// A service and its detector.
struct Service {
    random: Random,
    per_hour: f64,
    rate: f64,
    tick: u64,
    scan: Scan,
}

impl Service {
    fn new(per_hour: f64, seed: u64) -> Self {
        let random = Random(seed.wrapping_mul(7919) ^ per_hour.to_bits());
        Self { random, per_hour, rate: 0.0, tick: 0, scan: Scan::default() }
    }

    /// Lives through one tick; returns the alarm that is on.
    fn live(&mut self, incident: f64) -> Option<Alarm> {
        if self.tick.is_multiple_of(TICKS_PER_HOUR) {
            self.rate = self.per_hour * self.random.exponential() / TICKS_PER_HOUR as f64;
        }
        let count = self.random.poisson(self.rate + incident);
        self.tick += 1;
        self.scan.tick(count, START_S + self.tick * TICK_S)
    }

    /// Has an incident from now on, of which it knows nothing afterwards; returns after how many seconds it was noticed.
    fn suffer(&mut self) -> Option<u64> {
        let random = Random(self.random.next());
        let mut copy = Self { random, scan: self.scan.clone(), ..*self };
        (1..=INCIDENT_TICKS).find(|_| copy.live(INCIDENT_PER_TICK).is_some()).map(|ticks| ticks * TICK_S)
    }
}

#[derive(Default)]
struct Outcome {
    first_day: u64,
    later: u64,
    delays: Vec<u64>,
    missed: u64,
}

fn run(per_hour: f64, seed: u64, outcome: &mut Outcome) {
    let mut service = Service::new(per_hour, seed);
    let ticks = DAYS * 24 * TICKS_PER_HOUR;
    let (mut alarm, mut quiet) = (0, 0);
    let mut next = KNOWN_TICKS;
    while service.tick < ticks {
        let now = service.live(0.0);
        quiet = if now.is_some() { 0 } else { quiet + 1 };
        if let Some(began) = now.map(|alarm| alarm.began_s).filter(|began| *began != alarm) {
            alarm = began;
            let early = service.tick <= 24 * TICKS_PER_HOUR;
            *if early { &mut outcome.first_day } else { &mut outcome.later } += 1;
        }
        if service.tick >= next && quiet > 90 {
            next += (ticks - KNOWN_TICKS) / INCIDENTS;
            match service.suffer() {
                Some(delay) => outcome.delays.push(delay),
                None => outcome.missed += 1,
            }
        }
    }
}

/// A service and what may be: false alarms in thirty days, delays in seconds, incidents missed in per cent.
struct Budget {
    per_hour: f64,
    /// On the first day, nothing is known of the service, and it is noisy.
    first_day: f64,
    later: f64,
    median: u64,
    p90: u64,
    missed: f64,
}

#[test]
fn sparse_counts_keep_their_budgets() {
    let budget = |per_hour, first_day, later, median, p90, missed| Budget {
        per_hour,
        first_day,
        later,
        median,
        p90,
        missed,
    };
    let budgets = [
        budget(0.02, 0.0, 0.0, 50, 90, 0.0),
        budget(0.5, 0.5, 2.0, 50, 120, 0.0),
        budget(6.0, 3.5, 7.0, 100, 200, 0.0),
        // An incident is but eight times its mean, which many of its hours exceed three times.
        budget(30.0, 7.0, 13.0, 330, 800, 25.0),
    ];
    let runs = runs(4);
    println!("per hour | false alarms: day 1, days 2-30 | delay: median, p90 | missed");
    for budget in budgets {
        let mut outcome = Outcome::default();
        (0..runs).for_each(|seed| run(budget.per_hour, seed, &mut outcome));
        let (median, p90) = (quantile(&mut outcome.delays, 0.5), quantile(&mut outcome.delays, 0.9));
        let (first_day, later) = (outcome.first_day as f64 / runs as f64, outcome.later as f64 / runs as f64);
        let incidents = outcome.delays.len() as u64 + outcome.missed;
        let missed = 100.0 * outcome.missed as f64 / incidents as f64;
        let name = budget.per_hour;
        println!(
            "{name:8} | {first_day:4.1} {later:4.1} | {median:4} {p90:4} | {missed:.0} % of {incidents}"
        );
        assert!(incidents >= INCIDENTS * runs, "{name}/h: {incidents} incidents");
        assert!(
            first_day <= budget.first_day && later <= budget.later,
            "{name}/h: {first_day} and {later} alarms"
        );
        assert!(median <= budget.median && p90 <= budget.p90, "{name}/h: {median} s, {p90} s");
        assert!(missed <= budget.missed, "{name}/h: {missed} % missed");
    }
}

/// Forty series of one server that lose 6 an hour each, for a week in which nothing happens.
#[test]
fn many_series_cost_no_more_than_one() {
    const SERIES: usize = 40;
    let mut services: Vec<Service> = (0..SERIES as u64).map(|seed| Service::new(6.0, seed + 100)).collect();
    let (mut alone, mut controlled) = (BTreeSet::new(), BTreeSet::new());
    for tick in 0..8 * 24 * TICKS_PER_HOUR {
        let known = tick > 24 * TICKS_PER_HOUR;
        let alarms = services
            .iter_mut()
            .enumerate()
            .filter_map(|(name, service)| service.live(0.0).filter(|_| known).map(|alarm| (name, alarm)));
        let mut alarms: Vec<_> = alarms.collect();
        alone.extend(alarms.iter().map(|(name, alarm)| (*name, alarm.began_s)));
        control(&mut alarms, SERIES, |(_, alarm)| alarm.p);
        controlled.extend(alarms.iter().map(|(name, alarm)| (*name, alarm.began_s)));
    }
    println!(
        "{SERIES} series, 7 days: {} false alarms, {} of them controlled",
        alone.len(),
        controlled.len()
    );
    assert!(controlled.is_subset(&alone) && alone.len() > 20, "{}", alone.len());
    assert!(controlled.len() * 8 <= alone.len(), "{} of {}", controlled.len(), alone.len());
}
