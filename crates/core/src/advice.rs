//! Routes ranked by what they cost and by how near their deadline they come, with what the deadline should be. The rule is
//! written down for users in docs/ferricornctl.md ("slow").
//!
//! Not for: why a request is slow ([`crate::diagnosis`]), nor for settings beside deadlines ([`crate::check`]).

use crate::figures::{self, RouteFigures};
use crate::histogram::Distribution;
use crate::route;
use crate::snapshot::{Kind, Route};
use serde::Serialize;

/// Answers that a route needs before anything is said of its deadline.
pub const SAMPLES_MIN: u64 = 100;
/// Answers that a server needs before anything is said of its `timeout`.
pub const SAMPLES_SERVER_MIN: u64 = 1000;
/// A deadline of so many times what a route's slowest requests take leaves room for a bad day.
const ROOM: f64 = 3.0;
/// What finishes today stays below the deadline by this.
const ABOVE_SLOWEST: f64 = 1.2;
/// No deadline is proposed below this.
const DEADLINE_MIN_S: f64 = 1.0;
/// From this share of the deadline on, requests are near it.
const NEAR: f64 = 0.8;
/// Requests that are lost while the others of their route need less than this share of the deadline do not lack time.
const FAR: f64 = 0.5;
/// A deadline so many times what the slowest route needs protects nobody.
const LOOSE: f64 = 20.0;
/// Work that needs more than this does not belong into a request.
const OFFLOAD_S: f64 = 60.0;
/// What a deadline may be without looking odd, seconds; beyond, whole hours.
const STEPS_S: [f64; 20] = [
    1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 600.0,
    900.0, 1800.0, 3600.0,
];

/// What routes are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Their time in the application, all together.
    #[default]
    Time,
    /// How near their deadline they come.
    Deadline,
    /// How many requests they have.
    Count,
}

/// All routes, and what is to be said of the server's `timeout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The routes, the first one first.
    pub rows: Vec<Rank>,
    /// What is to be said of `timeout`.
    pub overall: Overall,
}

/// A route and what is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rank {
    /// Its numbers.
    pub figures: RouteFigures,
    /// Its time in the application, lost requests at the age at which they were given up.
    pub app: Distribution,
    /// Its share of the time of all routes, 0 to 1.
    pub share: f64,
    /// Its deadline, seconds; none without one.
    pub deadline_s: Option<f64>,
    /// How much of its deadline the slowest of a hundred requests need (p99): 1 at the deadline.
    pub nearness: Option<f64>,
    /// What the deadline should be, seconds; none where too few requests have been answered.
    pub should_be_s: Option<f64>,
    /// What is to be said.
    pub verdict: Verdict,
}

/// What is to be said of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Too few answers.
    #[default]
    Few,
    /// All is well.
    Fits,
    /// Requests come near their deadline.
    Near,
    /// Requests are lost at the deadline that need just so much time.
    TooShort,
    /// Requests are lost at the deadline while others need far less: they hang.
    Hangs,
}

/// What is to be said of the server's `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Overall {
    /// Too few answers.
    Few,
    /// It fits, or single routes are to be looked at first.
    Fits,
    /// It is far longer than anything needs.
    Lower {
        /// What it should be, seconds.
        should_be_s: f64,
        /// What the slowest of a hundred requests of the slowest route need, seconds.
        slowest_p99_s: f64,
    },
    /// There is none.
    Missing {
        /// What it should be, seconds.
        should_be_s: f64,
    },
}

/// Ranks routes. `timeout_s` is the server's `timeout`; none without one, or where it is not known.
pub fn rank(routes: &[Route], timeout_s: Option<f64>, by: By) -> Ranking {
    let figures = figures::by_route(routes);
    let all_s: f64 = figures.iter().map(|figures| figures::sum_s(&figures.app())).sum();
    let mut rows: Vec<Rank> = figures.into_iter().map(|figures| of(figures, timeout_s, all_s)).collect();
    rows.sort_by(|one, other| {
        let time = || other.share.total_cmp(&one.share);
        match by {
            By::Time => time(),
            By::Deadline => {
                other.nearness.unwrap_or(0.0).total_cmp(&one.nearness.unwrap_or(0.0)).then_with(time)
            }
            By::Count => other.figures.count.cmp(&one.figures.count).then_with(time),
        }
    });
    let overall = overall(&rows, timeout_s);
    Ranking { rows, overall }
}

impl Ranking {
    /// Leaves the advice out: durations that are estimates carry none.
    pub fn without_advice(mut self) -> Self {
        for rank in &mut self.rows {
            (rank.verdict, rank.should_be_s) = (Verdict::Few, None);
        }
        self.overall = Overall::Few;
        self
    }
}

fn of(figures: RouteFigures, timeout_s: Option<f64>, all_s: f64) -> Rank {
    let app = figures.app();
    let deadline_s = timeout_s.filter(|timeout_s| *timeout_s > 0.0);
    let p99_s = quantile_s(&app, 0.99);
    let mut rank = Rank {
        share: if all_s > 0.0 { figures::sum_s(&app) / all_s } else { 0.0 },
        deadline_s,
        nearness: deadline_s.zip(p99_s).map(|(deadline_s, p99_s)| nearness(p99_s / deadline_s)),
        should_be_s: None,
        verdict: Verdict::Few,
        figures,
        app,
    };
    if rank.figures.answered.app.count >= SAMPLES_MIN {
        rank.verdict = verdict(&rank);
        rank.should_be_s = should_be_s(&rank);
    }
    rank
}

/// A bucket is up to an eighth wide: what was lost at its deadline is not beyond it.
fn nearness(share: f64) -> f64 {
    if share > 1.0 && share <= 1.125 { 1.0 } else { share }
}

fn verdict(rank: &Rank) -> Verdict {
    let Some(deadline_s) = rank.deadline_s else { return Verdict::Fits };
    let needs = quantile_s(&rank.figures.answered.app, 0.99).map_or(0.0, |p99_s| p99_s / deadline_s);
    match lost_at_deadline(rank, deadline_s) {
        0 if needs >= NEAR => Verdict::Near,
        0 => Verdict::Fits,
        _ if needs < FAR => Verdict::Hangs,
        _ => Verdict::TooShort,
    }
}

/// Counts the requests that were given up at the deadline, not before it because their worker died. A bucket is up to an
/// eighth wide.
fn lost_at_deadline(rank: &Rank, deadline_s: f64) -> u64 {
    rank.figures.lost.app.above((deadline_s * 0.85 * 1e6) as u64)
}

/// The rule: three times what the slowest of a thousand answered requests need, and a fifth above the slowest of all, which
/// finishes today. Where requests are lost that need just more time, twice the deadline, since nobody has seen how long they
/// would have taken.
fn should_be_s(rank: &Rank) -> Option<f64> {
    let answered = &rank.figures.answered.app;
    let usual_s = ROOM * quantile_s(answered, 0.999)?;
    let slowest_s = ABOVE_SLOWEST * quantile_s(answered, 1.0)?;
    let unseen_s = match (rank.verdict, rank.deadline_s) {
        (Verdict::TooShort | Verdict::Near, Some(deadline_s)) => 2.0 * deadline_s,
        _ => 0.0,
    };
    Some(rounded_up(usual_s.max(slowest_s).max(unseen_s).max(DEADLINE_MIN_S)))
}

fn overall(rows: &[Rank], timeout_s: Option<f64>) -> Overall {
    let answered: u64 = rows.iter().map(|rank| rank.figures.answered.app.count).fold(0, u64::saturating_add);
    if answered < SAMPLES_SERVER_MIN {
        return Overall::Few;
    }
    // Also what routes with few requests finish today counts.
    let largest = |of: &dyn Fn(&Rank) -> Option<f64>| rows.iter().filter_map(of).fold(0.0, f64::max);
    let slowest_s = ABOVE_SLOWEST * largest(&|rank| quantile_s(&rank.figures.answered.app, 1.0));
    let should_be_s = rounded_up(largest(&|rank| rank.should_be_s).max(slowest_s).max(DEADLINE_MIN_S));
    let Some(timeout_s) = timeout_s.filter(|timeout_s| *timeout_s > 0.0) else {
        return Overall::Missing { should_be_s };
    };
    let enough = |rank: &&Rank| rank.figures.answered.app.count >= SAMPLES_MIN;
    let p99_s = |rank: &Rank| quantile_s(&rank.figures.answered.app, 0.99);
    let slowest_p99_s = rows.iter().filter(enough).filter_map(p99_s).fold(0.0, f64::max);
    if timeout_s >= LOOSE * slowest_p99_s && should_be_s < timeout_s {
        return Overall::Lower { should_be_s, slowest_p99_s };
    }
    Overall::Fits
}

/// Returns a number of seconds that a person would choose, not below this one.
fn rounded_up(seconds: f64) -> f64 {
    let step = STEPS_S.into_iter().find(|step| *step >= seconds);
    step.unwrap_or_else(|| (seconds / 3600.0).ceil() * 3600.0)
}

fn quantile_s(distribution: &Distribution, q: f64) -> Option<f64> {
    distribution.quantile_us(q).map(|us| us as f64 / 1e6)
}

impl Rank {
    /// Returns the route as `route_timeouts` takes it; none for what is no path.
    pub fn setting(&self) -> Option<String> {
        Some(format!("{} {}", self.figures.method, route::glob(&self.figures.route)?))
    }

    /// Says what is to be done, in one sentence; nothing where all is well.
    pub fn advice(&self, kind: Kind) -> Option<String> {
        let (deadline_s, should_be_s) = (self.deadline_s?, self.should_be_s?);
        let needs_s = quantile_s(&self.figures.answered.app, 0.99)?;
        let lost = self.figures.lost_count;
        let raise = || {
            let how = match (kind, self.setting()) {
                (Kind::Ferricorn, Some(route)) => format!(
                    "the timeout should be {should_be_s}: `route_timeouts = {{\"{route}\": {should_be_s}}}`"
                ),
                (Kind::Ferricorn, None) => "the timeout should be".to_owned(),
                (Kind::Gunicorn, _) => {
                    format!("the timeout should be {should_be_s}: `timeout`, which is that of all routes")
                }
            };
            let offload = match (kind, self.setting()) {
                (Kind::Ferricorn, Some(route)) if should_be_s > OFFLOAD_S => {
                    format!(", or better, answer 202 at once: `offload = [\"{route}\"]`")
                }
                (Kind::Ferricorn, Some(route)) => {
                    format!(", or answer 202 at once: `offload = [\"{route}\"]`")
                }
                _ if should_be_s > OFFLOAD_S => {
                    ", or better, answer 202 at once and let a job do the work".to_owned()
                }
                _ => ", or do the work elsewhere and answer at once".to_owned(),
            };
            format!("{how}{offload}")
        };
        match self.verdict {
            Verdict::Few | Verdict::Fits => None,
            Verdict::Near => Some(format!(
                "requests come near their deadline (p99 {} of {deadline_s} s): {}",
                seconds(needs_s),
                raise()
            )),
            Verdict::TooShort => Some(format!(
                "{lost} lost at {deadline_s} s, and those that finish need nearly as long (p99 {}): {}",
                seconds(needs_s),
                raise()
            )),
            Verdict::Hangs => Some(format!(
                "{lost} lost at {deadline_s} s while those that finish need {} (p99): they hang, and more time would not help; \
                 `ferricornctl timeouts` shows where",
                seconds(needs_s)
            )),
        }
    }
}

impl Overall {
    /// Says what is to be done, in one sentence; nothing where all is well.
    pub fn advice(self, timeout_s: Option<f64>) -> Option<String> {
        match self {
            Self::Few | Self::Fits => None,
            Self::Lower { should_be_s, slowest_p99_s } => Some(format!(
                "the timeout should be {should_be_s}: it is {} s, and the slowest route needs {} (p99)",
                timeout_s.unwrap_or_default(),
                seconds(slowest_p99_s)
            )),
            Self::Missing { should_be_s } => Some(format!(
                "the timeout should be {should_be_s}: there is none, so a request that hangs holds its thread for ever"
            )),
        }
    }
}

/// Returns a duration as one reads it in a sentence.
fn seconds(seconds: f64) -> String {
    match seconds {
        0.0..1.0 => format!("{:.0} ms", seconds * 1000.0),
        1.0..10.0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
