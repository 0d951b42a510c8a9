//! Counts of requests by what their worker was made of and by route, over the last hour: what versions are compared with. In bins of
//! ten seconds, and of a minute where they are older. Everything has a limit; what is beyond it is not counted at all.
//!
//! Not for: the comparison (`correlate`), and not for what is usual over days ([`crate::detect`]).

use super::odds::Counts;
use crate::histogram::{Distribution, bucket, bucket_floor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// For how long counts are kept, seconds.
pub const KEPT_S: f64 = 3600.0;
/// Bins that are as fine as they came; older ones become minutes.
const FINE_MAX: usize = 36;
const MINUTE_S: f64 = 60.0;
/// Versions and routes that are told apart; more are not counted.
const VERSIONS_MAX: usize = 32;
const ROUTES_MAX: usize = 256;

/// Requests that were seen hanging and are remembered one by one; the newest stay.
const HUNG_MAX: usize = 256;

/// Routes that survive a restart, those with most requests; and for how long back, seconds.
const KEPT_ROUTES: usize = 32;
const KEPT_BACK_S: f64 = 1800.0;

/// The counts. What is kept over a restart of the observer is [`Tally::kept`]: at most half a megabyte as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    versions: Vec<String>,
    routes: Vec<String>,
    /// The oldest first; the newest is still being filled.
    bins: VecDeque<Bin>,
    /// What was seen hanging: the number of its worker's version, that of its route, and when it began.
    #[serde(default)]
    hung: VecDeque<(u16, u16, f64)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bin {
    from: f64,
    /// None while it is being filled.
    to: Option<f64>,
    #[serde(with = "pairs")]
    cells: BTreeMap<(u16, u16), Cell>,
}

/// JSON has no keys but texts.
mod pairs {
    use super::{BTreeMap, Cell};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        cells: &BTreeMap<(u16, u16), Cell>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(cells)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<(u16, u16), Cell>, D::Error> {
        Ok(Vec::<((u16, u16), Cell)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// What one version has answered on one route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    /// Buckets of the histogram that are not empty.
    answered: Vec<(u8, u32)>,
    lost: u32,
}

/// Of which requests something is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which<'a> {
    /// Of these routes; of all if there are none.
    pub routes: &'a [String],
    /// Of workers that were made of this; of all if it is not said.
    pub version: Option<&'a str>,
    /// Since then, seconds since 1970.
    pub from: f64,
    /// Until then.
    pub to: f64,
}

impl Tally {
    /// Counts what workers that are made of `version` have answered on a route since the last turn.
    pub fn add(&mut self, version: &str, route: &str, answered: &Distribution) {
        let Some(cell) = self.cell(version, route) else { return };
        for (bucket, count) in answered.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            cell.put(bucket as u8, u32::try_from(*count).unwrap_or(u32::MAX));
        }
    }

    /// Counts a request that was lost.
    pub fn lose(&mut self, version: &str, route: &str) {
        if let Some(cell) = self.cell(version, route) {
            cell.lost = cell.lost.saturating_add(1);
        }
    }

    /// Remembers a request that was seen hanging, and since when: it is counted with the others when it ends, and that may be much
    /// later.
    pub fn hang(&mut self, version: &str, route: &str, began: f64) {
        let Some((version, route)) = self.numbers(version, route) else { return };
        if self.hung.len() >= HUNG_MAX {
            self.hung.pop_front();
        }
        self.hung.push_back((version, route, began));
    }

    /// Returns when the requests began that were seen hanging, of those that began in that time.
    pub fn hung(&self, which: &Which<'_>) -> Vec<f64> {
        let Some(wanted) = self.wanted(which) else { return Vec::new() };
        let meant = self.hung.iter().filter(|(version, route, _)| wanted.has(*version, *route));
        meant.map(|(.., began)| *began).filter(|began| (which.from..=which.to).contains(began)).collect()
    }

    /// A tick is over.
    pub fn turn(&mut self, now: f64) {
        if let Some(newest) = self.bins.back_mut() {
            newest.to = Some(now.max(newest.from));
        }
        self.bins.push_back(Bin { from: now, ..Bin::default() });
        while self.bins.len() > FINE_MAX {
            let minutes = self.bins.len() - FINE_MAX;
            // The newest of the old ones joins the minute before it, or begins one.
            let at = minutes - 1;
            let joins = at > 0 && self.bins[at].end() - self.bins[at - 1].from <= MINUTE_S + 1.0;
            if joins && let Some(bin) = self.bins.remove(at) {
                self.bins[at - 1].join(bin);
            } else {
                break;
            }
        }
        while self.bins.front().is_some_and(|bin| bin.end() < now - KEPT_S) {
            self.bins.pop_front();
        }
        // A clock that was set back begins anew.
        if self.bins.iter().any(|bin| bin.from > now) {
            self.bins.retain(|bin| bin.from <= now);
        }
        self.hung.retain(|(.., began)| (now - KEPT_S..=now).contains(began));
    }

    /// Counts requests, and those of them that took longer than `slow_us` or were lost.
    pub fn counts(&self, which: &Which<'_>, slow_us: u64) -> Counts {
        let slow = bucket(slow_us);
        let mut counts = Counts::default();
        self.each(which, |cell| {
            let lost = u64::from(cell.lost);
            counts.all += lost;
            counts.bad += lost;
            for (bucket, count) in &cell.answered {
                counts.all += u64::from(*count);
                counts.bad += if usize::from(*bucket) > slow { u64::from(*count) } else { 0 };
            }
        });
        counts
    }

    /// Returns the upper edge of the bucket that holds a quantile of what was answered; none if nothing was.
    pub fn quantile_us(&self, which: &Which<'_>, q: f64) -> Option<u64> {
        let mut sums: BTreeMap<u8, u64> = BTreeMap::new();
        self.each(which, |cell| {
            for (bucket, count) in &cell.answered {
                *sums.entry(*bucket).or_default() += u64::from(*count);
            }
        });
        let all: u64 = sums.values().sum();
        let mut seen = 0;
        let reaches = |(_, count): &(&u8, &u64)| {
            seen += **count;
            seen as f64 >= all as f64 * q
        };
        let (bucket, _) = sums.iter().find(reaches)?;
        Some(bucket_floor(usize::from(*bucket) + 1))
    }

    /// Returns since when all that was seen hanging is remembered, seconds since 1970; none if nothing was counted at all.
    pub fn hung_since(&self) -> Option<f64> {
        let oldest = self.hung.front().filter(|_| self.hung.len() >= HUNG_MAX).map(|(.., began)| *began);
        oldest.or_else(|| self.bins.front().map(|bin| bin.from))
    }

    /// Returns the routes that requests were counted of.
    pub fn routes(&self) -> &[String] {
        &self.routes
    }

    /// Returns the versions that requests were counted of.
    pub fn versions(&self) -> &[String] {
        &self.versions
    }

    /// Returns what is worth keeping over a restart: the last half an hour of the routes with most requests.
    pub fn kept(&self) -> Self {
        let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
        for ((_, route), cell) in self.bins.iter().flat_map(|bin| &bin.cells) {
            let answered: u64 = cell.answered.iter().map(|(_, count)| u64::from(*count)).sum();
            *counts.entry(*route).or_default() += answered + u64::from(cell.lost);
        }
        let mut routes: Vec<(u16, u64)> = counts.into_iter().collect();
        routes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let most: Vec<u16> = routes.into_iter().take(KEPT_ROUTES).map(|(route, _)| route).collect();
        let mut kept = self.clone();
        let newest = kept.bins.back().map_or(0.0, |bin| bin.from);
        kept.bins.retain(|bin| bin.end() >= newest - KEPT_BACK_S);
        for bin in &mut kept.bins {
            bin.cells.retain(|(_, route), _| most.contains(route));
        }
        kept
    }

    fn each(&self, which: &Which<'_>, mut see: impl FnMut(&Cell)) {
        let Some(wanted) = self.wanted(which) else { return };
        // A bin belongs to where its middle is.
        let is_within = |bin: &&Bin| (which.from..=which.to).contains(&f64::midpoint(bin.from, bin.end()));
        for bin in self.bins.iter().filter(is_within) {
            bin.cells
                .iter()
                .filter(|((of, route), _)| wanted.has(*of, *route))
                .for_each(|(_, cell)| see(cell));
        }
    }

    /// Which numbers are meant; none if nothing was counted of the version.
    fn wanted(&self, which: &Which<'_>) -> Option<Wanted> {
        let number = |version| self.versions.iter().position(|known| known == version);
        let version = match which.version {
            Some(version) => Some(number(version)? as u16),
            None => None,
        };
        let is_meant = |route: &String| which.routes.is_empty() || which.routes.contains(route);
        Some(Wanted { version, routes: self.routes.iter().map(is_meant).collect() })
    }

    fn numbers(&mut self, version: &str, route: &str) -> Option<(u16, u16)> {
        let version = place(&mut self.versions, version, VERSIONS_MAX)?;
        Some((version, place(&mut self.routes, route, ROUTES_MAX)?))
    }

    fn cell(&mut self, version: &str, route: &str) -> Option<&mut Cell> {
        let numbers = self.numbers(version, route)?;
        if self.bins.is_empty() {
            self.bins.push_back(Bin::default());
        }
        self.bins.back_mut().map(|bin| bin.cells.entry(numbers).or_default())
    }
}

/// What [`Which`] says, in numbers.
struct Wanted {
    version: Option<u16>,
    /// By the route's number.
    routes: Vec<bool>,
}

impl Wanted {
    fn has(&self, version: u16, route: u16) -> bool {
        self.version.is_none_or(|wanted| wanted == version)
            && self.routes.get(usize::from(route)).copied().unwrap_or(false)
    }
}

/// Returns the place of a name, a new one if there is room.
fn place(names: &mut Vec<String>, name: &str, most: usize) -> Option<u16> {
    if let Some(at) = names.iter().position(|known| known == name) {
        return Some(at as u16);
    }
    if names.len() >= most {
        return None;
    }
    names.push(name.to_owned());
    Some(names.len() as u16 - 1)
}

impl Bin {
    fn end(&self) -> f64 {
        self.to.unwrap_or(self.from)
    }

    fn join(&mut self, other: Self) {
        self.to = other.to;
        for (key, cell) in other.cells {
            let own = self.cells.entry(key).or_default();
            own.lost = own.lost.saturating_add(cell.lost);
            cell.answered.into_iter().for_each(|(bucket, count)| own.put(bucket, count));
        }
    }
}

impl Cell {
    fn put(&mut self, bucket: u8, count: u32) {
        match self.answered.iter_mut().find(|(known, _)| *known == bucket) {
            Some((_, known)) => *known = known.saturating_add(count),
            None => self.answered.push((bucket, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(ms: &[u64]) -> Distribution {
        let mut answered = Distribution::default();
        ms.iter().for_each(|ms| answered.add(ms * 1000));
        answered
    }

    #[test]
    fn requests_are_counted_by_version_route_and_time() {
        let mut tally = Tally::default();
        tally.turn(100.0);
        tally.add("old", "GET /a", &took(&[10, 10, 900]));
        tally.lose("old", "GET /a");
        tally.add("old", "GET /b", &took(&[10]));
        tally.turn(110.0);
        tally.add("new", "GET /a", &took(&[900, 900]));
        tally.turn(120.0);
        let a = ["GET /a".to_owned()];
        let all = Which { from: 0.0, to: 1000.0, ..Which::default() };
        let counts = |which: Which<'_>| {
            let counts = tally.counts(&which, 100_000);
            (counts.bad, counts.all)
        };
        assert_eq!(counts(all), (4, 7));
        assert_eq!(counts(Which { version: Some("old"), routes: &a, ..all }), (2, 4));
        assert_eq!(counts(Which { version: Some("new"), ..all }), (2, 2));
        assert_eq!(counts(Which { to: 109.0, ..all }), (2, 5));
        assert_eq!(counts(Which { from: 111.0, ..all }), (2, 2));
        assert_eq!(counts(Which { version: Some("other"), ..all }), (0, 0));
        let usual = tally.quantile_us(&Which { version: Some("old"), ..all }, 0.5).expect("answers");
        assert!((10_000..12_000).contains(&usual), "{usual}");
        assert_eq!(tally.quantile_us(&Which { version: Some("other"), ..all }, 0.5), None);
    }

    #[test]
    fn what_hangs_is_remembered_by_when_it_began() {
        let mut tally = Tally::default();
        tally.turn(100.0);
        tally.hang("old", "GET /a", 95.0);
        tally.hang("old", "GET /b", 96.0);
        tally.hang("new", "GET /a", 104.0);
        let a = ["GET /a".to_owned()];
        let old = Which { version: Some("old"), routes: &a, from: 90.0, to: 100.0 };
        let counts = |tally: &Tally| {
            let other = Which { version: Some("other"), ..old };
            let early = Which { to: 94.0, ..old };
            let all = Which { from: 90.0, to: 110.0, ..Which::default() };
            [old, other, early, all].map(|which| tally.hung(&which).len())
        };
        assert_eq!(counts(&tally), [1, 0, 0, 3]);
        let text = serde_json::to_string(&tally.kept()).expect("JSON");
        assert_eq!(counts(&serde_json::from_str(&text).expect("read")), [1, 0, 0, 3]);
        (0..1000).for_each(|_| tally.hang("new", "GET /a", 105.0));
        assert_eq!((tally.hung.len(), counts(&tally)[0], tally.hung_since()), (HUNG_MAX, 0, Some(105.0)));
        tally.turn(106.0 + KEPT_S);
        assert!(tally.hung.is_empty());
    }

    #[test]
    fn an_hour_is_kept_in_few_bins_and_nothing_is_lost_of_it() {
        let mut tally = Tally::default();
        for tick in 0..720_u32 {
            tally.turn(f64::from(tick) * 10.0);
            tally.add("v", "r", &took(&[10]));
        }
        let end = 7190.0;
        let count = |from: f64| tally.counts(&Which { from, to: end, ..Which::default() }, 1_000_000).all;
        let kept = count(0.0);
        assert!((360..=372).contains(&kept), "{kept}");
        assert!(tally.bins.len() <= FINE_MAX + 64, "{}", tally.bins.len());
        assert!((28..=32).contains(&count(end - 300.0)), "{}", count(end - 300.0));
    }

    #[test]
    fn what_matters_survives_as_json() {
        let mut tally = Tally::default();
        tally.turn(10.0);
        for route in 0..KEPT_ROUTES as u64 + 8 {
            (0..=route).for_each(|_| tally.add("v", &format!("r{route:02}"), &took(&[10])));
        }
        tally.lose("v", "r39");
        tally.turn(20.0);
        let text = serde_json::to_string(&tally.kept()).expect("JSON");
        let again: Tally = serde_json::from_str(&text).expect("read");
        let count = |route: &str| {
            let routes = [route.to_owned()];
            let which = Which { routes: &routes, from: 0.0, to: 99.0, version: Some("v") };
            let counts = again.counts(&which, 1000);
            (counts.bad, counts.all)
        };
        assert_eq!((count("r39"), count("r00")), ((41, 41), (0, 0)));
    }

    #[test]
    fn what_is_beyond_the_limits_is_not_counted() {
        let mut tally = Tally::default();
        tally.turn(1.0);
        (0..300).for_each(|number| tally.add("0", &format!("{number}"), &took(&[1])));
        (0..40).for_each(|number| tally.add(&format!("{number}"), "0", &took(&[1])));
        assert_eq!((tally.versions().len(), tally.routes().len()), (VERSIONS_MAX, ROUTES_MAX));
        // The clock was set back.
        tally.turn(-50.0);
        tally.add("0", "0", &took(&[1]));
        assert!(tally.bins.len() <= 2);
    }
}
