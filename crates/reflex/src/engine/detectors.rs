//! The detectors of a server, fed every ten seconds with what its numbers have gained: lost requests, deaths of workers, durations per
//! route. What they find becomes signs for the desk. Not for: the statistics (`core::detect`).

use ferricorn_core::detect::{self, Among, Scan, Slow, Slowdown};
use ferricorn_core::histogram::Distribution;
use ferricorn_core::incident::Sign;
use ferricorn_core::latency::{Class, Key, Phases};
use ferricorn_core::snapshot::{Route, Snapshot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most routes that have a detector of their own; those that came first.
const ROUTES_MAX: usize = 512;
/// Most routes whose detectors survive a restart, those with most requests.
const KEPT_MAX: usize = 48;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Detectors {
    kept: Kept,
    /// The numbers as they were when last looked at; none before the first time.
    before: Option<BTreeMap<Key, Phases>>,
    lost: u64,
    dead: u64,
    deaths_began_s: u64,
    slow_began_s: BTreeMap<String, u64>,
}

/// What survives a restart of the observer.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    losses: Scan,
    deaths: Scan,
    slow: BTreeMap<String, (u64, Slow)>,
}

impl Detectors {
    /// Counts a request that was lost. Not taken from the gains: there a request counts when its thread comes free, which may be never.
    pub(super) fn lose(&mut self) {
        self.lost += 1;
    }

    /// Counts a worker that has died.
    pub(super) fn die(&mut self) {
        self.dead += 1;
    }

    /// Returns what the routes have gained since the last call; nothing the first time.
    pub(super) fn gains(&mut self, routes: &[Route]) -> Vec<(Key, Phases)> {
        let now: BTreeMap<Key, Phases> =
            routes.iter().map(|route| (route.key.clone(), route.phases.clone())).collect();
        let Some(before) = self.before.replace(now) else { return Vec::new() };
        let nothing = Phases::default();
        let gain = |route: &Route| {
            let gained = route.phases.since(before.get(&route.key).unwrap_or(&nothing));
            (gained.count() > 0).then(|| (route.key.clone(), gained))
        };
        routes.iter().filter_map(gain).collect()
    }

    /// Takes ten seconds' gains; returns what they mean.
    pub(super) fn tick(&mut self, gains: &[(Key, Phases)], snapshot: &Snapshot, now_s: u64) -> Vec<Sign> {
        let requests: u64 = gains.iter().map(|(_, phases)| phases.count()).sum();
        let workers = snapshot.workers.len() as u64;
        let mut signs = Vec::new();
        if let Some(alarm) = self.kept.losses.tick(std::mem::take(&mut self.lost), now_s)
            // In ten seconds of an outage few requests come to any end: those of the window are more.
            && alarm.matters(Among::Requests(requests))
        {
            let text = format!(
                "{} requests lost in {}, {:.2} expected (p = {:.0e})",
                alarm.count,
                spell(alarm.window_s),
                alarm.expected,
                alarm.p
            );
            // Said as long as it goes on: what joins it is a part of it.
            signs.push(Sign::Losses { text });
        }
        if let Some(alarm) = self.kept.deaths.tick(std::mem::take(&mut self.dead), now_s)
            && alarm.matters(Among::Workers(workers))
            && self.deaths_began_s != alarm.began_s
        {
            self.deaths_began_s = alarm.began_s;
            signs.push(Sign::Deaths {
                text: format!("{} workers died in {}", alarm.count, spell(alarm.window_s)),
            });
        }
        signs.extend(self.latency(gains, now_s));
        signs
    }

    fn latency(&mut self, gains: &[(Key, Phases)], now_s: u64) -> Vec<Sign> {
        let mut ticks: BTreeMap<String, (Distribution, u64)> = BTreeMap::new();
        for (key, phases) in gains {
            let (answered, lost) = ticks.entry(format!("{} {}", key.method, key.route)).or_default();
            match key.class {
                Class::Lost => *lost += phases.count(),
                _ => answered.merge(&phases.app),
            }
        }
        let mut found: Vec<(String, Slowdown)> = Vec::new();
        let tested = ticks.len();
        for (route, (answered, lost)) in ticks {
            if !self.kept.slow.contains_key(&route) && self.kept.slow.len() >= ROUTES_MAX {
                continue;
            }
            let (count, slow) = self.kept.slow.entry(route.clone()).or_default();
            *count += answered.count;
            found.extend(slow.tick(&answered, lost, now_s).map(|slowdown| (route, slowdown)));
        }
        detect::control(&mut found, tested, |(_, slowdown)| slowdown.alarm.p);
        let mut signs = Vec::new();
        for (route, slowdown) in found {
            let began_s = slowdown.alarm.began_s;
            if self.slow_began_s.insert(route.clone(), began_s) == Some(began_s) {
                continue;
            }
            let text = format!(
                "{} of {} requests in {} took longer than {:.3} s, which {:.1} % do usually",
                slowdown.alarm.count,
                slowdown.requests,
                spell(slowdown.alarm.window_s),
                slowdown.slow_us as f64 / 1e6,
                slowdown.usual_share * 100.0
            );
            signs.push(Sign::Latency { route, text });
        }
        if self.slow_began_s.len() > ROUTES_MAX {
            self.slow_began_s.clear();
        }
        signs
    }

    /// Returns what is worth keeping over a restart.
    pub(super) fn keep(&self) -> serde_json::Value {
        let mut slow: Vec<_> = self.kept.slow.iter().collect();
        slow.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let slow: BTreeMap<_, _> = slow.into_iter().take(KEPT_MAX).collect();
        serde_json::json!({"losses": self.kept.losses, "deaths": self.kept.deaths, "slow": slow})
    }

    /// Takes up what was kept; what cannot be read begins anew.
    pub(super) fn resume(&mut self, kept: serde_json::Value) {
        self.kept = serde_json::from_value(kept).unwrap_or_default();
    }
}

fn spell(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(route: &str, class: Class, durations_us: &[u64]) -> Route {
        let key = Key { route: route.to_owned(), named: true, method: "GET".to_owned(), class };
        let mut phases = Phases::default();
        durations_us.iter().for_each(|us| {
            phases.queue.add(0);
            phases.app.add(*us);
        });
        Route { key, phases }
    }

    #[test]
    fn gains_are_what_came_since_the_last_time() {
        let mut detectors = Detectors::default();
        let first = [route("/a", Class::Success, &[100; 5])];
        assert!(detectors.gains(&first).is_empty(), "what was there before is not news");
        let second = [route("/a", Class::Success, &[100; 7]), route("/b", Class::Lost, &[6_000_000])];
        let gains = detectors.gains(&second);
        let told: Vec<(&str, u64)> =
            gains.iter().map(|(key, phases)| (key.route.as_str(), phases.app.count)).collect();
        assert_eq!(told, [("/a", 2), ("/b", 1)]);
        assert!(detectors.gains(&second).is_empty());
    }

    #[test]
    fn three_losses_out_of_nothing_are_an_alarm_and_it_survives_a_restart() {
        let mut detectors = Detectors::default();
        let snapshot = Snapshot::default();
        for tick in 0..20 {
            assert!(detectors.tick(&[], &snapshot, 1000 + tick * 10).is_empty());
        }
        let mut again = Detectors::default();
        again.resume(serde_json::from_str(&detectors.keep().to_string()).expect("JSON"));
        (0..3).for_each(|_| again.lose());
        let signs = again.tick(&[], &snapshot, 1200);
        assert!(matches!(&signs[..], [Sign::Losses { .. }]), "{signs:?}");
        let mut broken = Detectors::default();
        broken.resume(serde_json::json!({"losses": 3}));
    }
}
