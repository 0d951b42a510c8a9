//! Whether the memory of workers grows with the requests that they have served, and after how many to replace them. The rule is
//! written down for users in docs/prevention.md.
//!
//! Not for: reading memory (`reflex`), and not for workers that were ended for want of it ([`crate::diagnosis`]).

use serde::{Deserialize, Serialize};

/// Workers of which something is kept, those that have ended among them.
pub const COURSES_MAX: usize = 64;
/// Points of each.
pub const POINTS_MAX: usize = 24;
/// Requests between two points, at first.
const EVERY: u64 = 50;
/// The first part of what a worker has served, in which caches fill and modules are loaded, does not count.
const WARM_UP: f64 = 0.25;
/// Points, and requests between the first and the last, from which on something is said.
const ENOUGH_POINTS: usize = 6;
const ENOUGH_REQUESTS: u64 = 500;
/// Less is noise: bytes, and the share of what was there.
const GROWN_MIN: f64 = (8 << 20) as f64;
const GROWN_SHARE: f64 = 0.05;
/// The share of all pairs of points of which the later one is higher.
const RISING: f64 = 0.75;
/// Memory that fills up and stays has a flat second half; what grows on has at least this share of the whole slope there.
const STEADY: f64 = 0.3;
/// A worker may grow by so much of what it had at first before it is replaced.
const ROOM: f64 = 1.0;
/// The share of a limit of memory that workers may fill.
const FILLED: f64 = 0.8;
/// Replacing workers more often costs more than it saves.
const REQUESTS_MIN: f64 = 100.0;

/// A worker at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The worker.
    pub pid: u32,
    /// Its spawn number; 0 where that is not known.
    pub age: u32,
    /// For how long it runs, seconds.
    pub uptime_s: f64,
    /// Requests that it has served.
    pub requests: u64,
    /// Its resident memory, bytes.
    pub rss: u64,
}

/// How much memory a worker had after so many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Requests.
    pub requests: u64,
    /// Bytes.
    pub rss: u64,
}

/// The memory of workers, now and before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Courses {
    workers: Vec<Course>,
}

/// The memory of one worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Course {
    pid: u32,
    age: u32,
    uptime_s: f64,
    every: u64,
    points: Vec<Point>,
}

/// Memory that grows with requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Growth {
    /// Bytes for each request, in the middle of those workers that grow.
    pub per_request: f64,
    /// Workers that grow, and all of which enough is known.
    pub growing: u32,
    /// See there.
    pub known: u32,
    /// One of them: the one that has served most.
    pub pid: u32,
    /// Its memory after its first requests.
    pub from: Point,
    /// Its memory now, or when it ended.
    pub to: Point,
    /// Requests that it serves in a second.
    pub requests_per_s: f64,
}

impl Courses {
    /// Takes workers as they are now.
    pub fn observe(&mut self, samples: &[Sample]) {
        for sample in samples {
            let known =
                self.workers.iter_mut().find(|course| (course.pid, course.age) == (sample.pid, sample.age));
            match known {
                Some(course) => course.take(sample),
                None => {
                    if self.workers.len() >= COURSES_MAX {
                        self.workers.remove(0);
                    }
                    let mut course =
                        Course { pid: sample.pid, age: sample.age, every: EVERY, ..Course::default() };
                    course.take(sample);
                    self.workers.push(course);
                }
            }
        }
    }

    /// Returns how memory grows; none if it does not, in at least half of those workers of which enough is known.
    pub fn growth(&self) -> Option<Growth> {
        let known: Vec<(&Course, Option<f64>)> =
            self.workers.iter().filter_map(|course| Some((course, course.slope()?))).collect();
        let mut slopes: Vec<f64> = known.iter().filter_map(|(_, slope)| *slope).collect();
        if slopes.is_empty() || slopes.len() * 2 < known.len() {
            return None;
        }
        let growing = known.iter().filter(|(_, slope)| slope.is_some()).map(|(course, _)| *course);
        let shown = growing.max_by_key(|course| course.last().requests)?;
        Some(Growth {
            per_request: median(&mut slopes),
            growing: slopes.len() as u32,
            known: known.len() as u32,
            pid: shown.pid,
            from: *shown.warm().first()?,
            to: shown.last(),
            requests_per_s: if shown.uptime_s > 0.0 {
                shown.last().requests as f64 / shown.uptime_s
            } else {
                0.0
            },
        })
    }
}

impl Course {
    fn take(&mut self, sample: &Sample) {
        self.uptime_s = sample.uptime_s;
        let due =
            self.points.last().is_none_or(|last| sample.requests >= last.requests.saturating_add(self.every));
        if !due {
            return;
        }
        if self.points.len() >= POINTS_MAX {
            let mut is_even = false;
            self.points.retain(|_| {
                is_even = !is_even;
                is_even
            });
            self.every = self.every.saturating_mul(2);
        }
        self.points.push(Point { requests: sample.requests, rss: sample.rss });
    }

    fn last(&self) -> Point {
        self.points.last().copied().unwrap_or_default()
    }

    /// The points after the first requests.
    fn warm(&self) -> &[Point] {
        let warm_at = self.last().requests as f64 * WARM_UP;
        let at = self.points.partition_point(|point| (point.requests as f64) < warm_at);
        &self.points[at..]
    }

    /// Returns by how many bytes it grows with each request, none if it does not; and nothing if too little is known.
    fn slope(&self) -> Option<Option<f64>> {
        let points = self.warm();
        let (first, last) = (points.first()?, points.last()?);
        let served = last.requests.saturating_sub(first.requests);
        if points.len() < ENOUGH_POINTS || served < ENOUGH_REQUESTS {
            return None;
        }
        let (slope, rising) = theil_sen(points);
        let (later, _) = theil_sen(&points[points.len() / 2..]);
        let grown = slope * served as f64;
        let matters = grown >= GROWN_MIN && grown >= GROWN_SHARE * first.rss as f64;
        Some((matters && rising >= RISING && later >= STEADY * slope).then_some(slope))
    }
}

/// Returns the median of the slopes between all pairs of points, which single outliers do not move (Theil and Sen), and the share
/// of them that rise.
fn theil_sen(points: &[Point]) -> (f64, f64) {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (at, one) in points.iter().enumerate() {
        for other in &points[at + 1..] {
            let requests = other.requests.saturating_sub(one.requests).max(1) as f64;
            slopes.push((other.rss as f64 - one.rss as f64) / requests);
        }
    }
    if slopes.is_empty() {
        return (0.0, 0.0);
    }
    let rising = slopes.iter().filter(|slope| **slope > 0.0).count() as f64 / slopes.len() as f64;
    (median(&mut slopes), rising)
}

/// Returns the middle one; there is at least one.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

impl Growth {
    /// Returns after how many requests a worker is to be replaced. `workers` of them share `memory_max` bytes, if there is a limit.
    pub fn max_requests(&self, workers: u32, memory_max: Option<u64>) -> u64 {
        let base = self.from.rss as f64;
        let share = memory_max.map(|max| max as f64 * FILLED / f64::from(workers.max(1)));
        let room = share.map_or(f64::INFINITY, |share| share - base).min(base * ROOM).max(0.0);
        rounded_down((self.from.requests as f64 + room / self.per_request).max(REQUESTS_MIN))
    }

    /// Returns how much memory a worker has by then, bytes.
    pub fn rss_at(&self, requests: u64) -> f64 {
        self.from.rss as f64 + self.per_request * requests.saturating_sub(self.from.requests) as f64
    }
}

/// Returns a number that a person would choose, not above this one.
fn rounded_down(number: f64) -> u64 {
    let power = 10f64.powf(number.log10().floor());
    let step = [5.0, 2.0, 1.0].into_iter().find(|step| step * power <= number);
    (step.unwrap_or(1.0) * power).round() as u64
}

#[cfg(test)]
#[path = "growth_tests.rs"]
mod tests;
