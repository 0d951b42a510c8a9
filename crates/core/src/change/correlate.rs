//! Whether a change explains an incident: by a comparison, or not at all. Compared are requests of the same routes, of workers
//! with what is new against workers with what was before while both live, else of the time before against the time since. A change
//! that is near in time, and nothing more, is a coincidence, with the chance of it.
//!
//! What it rests on, each with its numbers: the contrast, whether a changed file or distribution is on the stack, whether the new
//! version has served well for a while, and whether something that the service depends on shifted earlier.
//!
//! Not for: causes of single requests ([`crate::diagnosis`]).

use super::odds::{Counts, more_often};
use super::shift::Shift;
use super::tally::{KEPT_S, Tally, Which};
use super::{Change, Kind, compare::normal};
use crate::diagnosis::Cause;
use crate::incident::Incident;
use crate::units::span;
use serde::{Deserialize, Serialize};

/// Changes that are looked at, the newest before the trouble.
const CHANGES_MAX: usize = 4;
/// How long the time before a change is that is compared with, seconds.
const BEFORE_S: f64 = 1800.0;
/// A change may be noticed a little after the first sign of what it has brought, seconds.
const LATE_S: f64 = 15.0;
/// What hung at workers without the change shows that the trouble is older, if it began within so long before it, seconds.
const EVE_S: f64 = 30.0;
/// Requests of the old that a comparison needs, of the new, and how many of these are bad.
const OLD_MIN: u64 = 20;
const NEW_MIN: u64 = 3;
/// What takes so many times as long as 99 of 100 did before is slow, if it also takes such a part of the time of what was seen stuck:
/// a little slower is another matter.
const SLOW: f64 = 1.5;
const SLOW_PART: f64 = 0.25;
/// From here on a contrast is plain; from here on it is to be taken seriously; below the last there is none.
const PLAIN: f64 = 0.99;
const LIKELY: f64 = 0.9;
const NONE: f64 = 0.5;
/// So many good requests of the new, within so long, seconds, before the first sign: it had shown that it works.
const CALM_MIN: u64 = 30;
const CALM_S: f64 = 60.0;
/// Of these so many may have been bad, or twice as many as before.
const CALM_SHARE: f64 = 0.02;
const RATIO_MAX: f64 = 2.0;
/// A service is taken to be known for so long at least, seconds: of one that was just installed nobody knows how often it changes.
const KNOWN_MIN_S: f64 = 86_400.0;
/// Most files of a change that are named.
const FILES_MAX: usize = 8;

/// What is to be said of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does not explain it.
    #[default]
    None,
    /// It was near in time, and that is all.
    Coincident,
    /// A comparison speaks for it.
    Likely,
    /// A comparison shows it plainly.
    Caused,
}

impl Verdict {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Coincident => "coincident",
            Self::Likely => "likely",
            Self::Caused => "caused",
        }
    }
}

/// A change beside an incident, and what the one has to do with the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explained {
    /// The change's name; empty if there was none.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// When it was, seconds since 1970.
    pub at: f64,
    /// What it has to do with the incident.
    pub verdict: Verdict,
    /// The same in a sentence, with the numbers.
    pub text: String,
    /// Its files, those on the stack first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Where somebody reads more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// How sure it is that the new is more than twice as bad as the old; none without a comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// How likely some change is within so short a time by chance.
    pub surprise: f64,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What goes wrong.
    pub incident: &'a Incident,
    /// The service's changes, the oldest first.
    pub changes: &'a [Change],
    /// Since when these are known, seconds since 1970.
    pub known_since: f64,
    /// Requests of the last hour.
    pub tally: &'a Tally,
    /// Requests that hang now, which nothing has counted yet: the id of what their worker is made of, and how many.
    pub stuck: &'a [(String, u64)],
    /// What has shifted.
    pub shifts: &'a [Shift],
    /// Seconds since 1970.
    pub now: f64,
}

/// What was found about one change.
#[derive(Debug, Default)]
struct Case {
    before: bool,
    /// Requests hung without it, a moment before.
    eve: Option<String>,
    contrast: Option<Contrasted>,
    local: Option<String>,
    calm: Option<(Counts, f64)>,
    shifted_before: Option<String>,
    elsewhere: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Contrasted {
    old: Counts,
    new: Counts,
    p: f64,
    /// Both lived at the same time.
    live: bool,
    slow_us: u64,
}

/// Returns what explains an incident best; that nothing does is an answer, too.
pub fn correlate(question: &Question<'_>) -> Explained {
    let onset = onset(question.incident);
    let is_before = |change: &&Change| change.is_news() && change.at <= onset + LATE_S;
    let near = |change: &&Change| change.at >= onset - KEPT_S;
    let last = question.changes.iter().rev().find(is_before);
    let candidates = question.changes.iter().rev().filter(is_before).filter(near).take(CHANGES_MAX);
    let judged = candidates.map(|change| judge(question, change, onset));
    // Of equals the newest, which comes first.
    let best = judged.fold(None, |best: Option<Explained>, next| match best {
        Some(best) if best.verdict >= next.verdict => Some(best),
        _ => Some(next),
    });
    best.unwrap_or_else(|| nothing(last, onset))
}

/// Returns when the trouble began: what was seen stuck then had begun before.
fn onset(incident: &Incident) -> f64 {
    incident.noted_at
}

fn nothing(last: Option<&Change>, onset: f64) -> Explained {
    let text = match last {
        Some(change) => {
            format!(
                "no change explains it: the last one, {}, was {} before",
                change.name,
                span(onset - change.at)
            )
        }
        None => "no change explains it: none is known before it".to_owned(),
    };
    Explained { text, ..Explained::default() }
}

fn judge(question: &Question<'_>, change: &Change, onset: f64) -> Explained {
    let case = look(question, change, onset);
    let surprise = surprise(question, onset - change.at);
    let verdict = verdict(&case);
    let text = told(change, &case, verdict, surprise, onset);
    Explained {
        name: change.name.clone(),
        kind: change.kind,
        at: change.at,
        verdict,
        text,
        files: files(change, question.incident),
        link: change.link.clone(),
        p: case.contrast.map(|contrast| contrast.p),
        surprise,
    }
}

fn look(question: &Question<'_>, change: &Change, onset: f64) -> Case {
    let earlier = |shift: &&Shift| shift.dependency && shift.since < change.at - LATE_S;
    // What began after the change and is everybody's: the change of one application has not slowed a whole database.
    let elsewhere =
        |shift: &&Shift| shift.dependency && shift.since >= change.at - LATE_S && is_shared(shift);
    let named = |shift: &Shift| shift.text.clone();
    Case {
        before: onset < change.at - LATE_S,
        eve: eve(question, change),
        contrast: contrast(question, change),
        local: local(change, question.incident),
        calm: calm(question, change, onset),
        shifted_before: question.shifts.iter().find(earlier).map(named),
        elsewhere: question.shifts.iter().find(elsewhere).map(named).or_else(|| outside(question.incident)),
    }
}

/// Tells whether a shift concerns more than one statement of one application.
fn is_shared(shift: &Shift) -> bool {
    shift.metric == super::Metric::Ratio && shift.score > 0.0
}

/// What the incident's own evidence says lies outside of the application: who holds a lock, a host that is short of something.
fn outside(incident: &Incident) -> Option<String> {
    let is_outside =
        matches!(incident.cause, Cause::HostPaused | Cause::HostCpuStarved | Cause::HostDiskOrSwap);
    is_outside.then(|| format!("its cause lies outside of the application: {}", incident.cause.means()))
}

/// The incident's routes. Of routes that nothing was counted of, all requests are compared.
fn routes(question: &Question<'_>) -> Vec<String> {
    let known = question.incident.routes.iter().map(|(route, _)| route.clone());
    known.filter(|route| question.tally.routes().contains(route)).collect()
}

/// Whether requests hung without the change already, in the moment before it, and more in that time than usual. By time, and not by
/// share: what was answered is counted in steps of ten seconds, and this may have begun two before. The first of them begins the
/// moment, and is not counted: something hangs now and then.
fn eve(question: &Question<'_>, change: &Change) -> Option<String> {
    if change.from_id.is_empty() || change.from_id == change.to_id {
        return None;
    }
    let routes = routes(question);
    let version = Some(change.from_id.as_str());
    let from = (change.at - BEFORE_S).max(question.tally.hung_since()?);
    let began = question.tally.hung(&Which { routes: &routes, from, to: change.at, version });
    let is_of_eve = |began: &&f64| **began >= change.at - EVE_S;
    let first = began.iter().filter(is_of_eve).copied().reduce(f64::min)?;
    let hung = began.iter().filter(is_of_eve).count() as u64;
    let rate = |bad: u64, lasted_s: f64| Counts { all: (lasted_s.max(0.0) * 1e3) as u64 + bad, bad };
    let usual = rate(began.len() as u64 - hung, first - from);
    let is_more = hung > 1 && more_often(rate(hung - 1, change.at - first), usual) >= LIKELY;
    is_more.then(|| {
        format!(
            "{hung} requests to workers without it hung already in the {} before it",
            span(change.at - first)
        )
    })
}

fn contrast(question: &Question<'_>, change: &Change) -> Option<Contrasted> {
    let routes = routes(question);
    let by_version = !change.to_id.is_empty() && question.tally.versions().contains(&change.to_id);
    let stuck = |version: Option<&str>| -> Counts {
        let of = question.stuck.iter().filter(|(id, _)| version.is_none_or(|version| id == version));
        let count = of.map(|(_, count)| count).sum();
        Counts { all: count, bad: count }
    };
    let before = Which { routes: &routes, from: change.at - BEFORE_S, to: change.at, version: None };
    let since = Which { routes: &routes, from: change.at, to: question.now, version: None };
    let (old, new) = match by_version {
        true => (
            Which { version: Some(&change.from_id), ..before },
            Which { version: Some(&change.to_id), from: change.at - LATE_S, ..since },
        ),
        false => (before, since),
    };
    let slow_us = slow_us(question, &old)?;
    let count = |which: &Which<'_>| question.tally.counts(which, slow_us);
    let hangs = stuck(new.version);
    let new_counts = count(&new) + hangs;
    if new_counts.all < NEW_MIN {
        return None;
    }
    let compared = |old: Counts, live| {
        (old.all >= OLD_MIN).then(|| Contrasted {
            old,
            new: new_counts,
            p: more_often(new_counts, old),
            live,
            slow_us,
        })
    };
    let live = by_version
        .then(|| Which { from: change.at, ..Which { version: Some(&change.from_id), ..since } })
        .map(|which| count(&which) + stuck(which.version))
        .and_then(|old| compared(old, true));
    live.or_else(|| compared(count(&old), false))
}

/// Returns what counts as slow, by what was usual.
fn slow_us(question: &Question<'_>, usual: &Which<'_>) -> Option<u64> {
    let usual = question.tally.quantile_us(usual, 0.99)? as f64 * SLOW;
    let stuck_s = question.incident.request.as_ref().map_or(0.0, |request| request.app_s);
    Some(usual.max(stuck_s * 1e6 * SLOW_PART) as u64)
}

/// Whether the new version has served well before the first sign.
fn calm(question: &Question<'_>, change: &Change, onset: f64) -> Option<(Counts, f64)> {
    let lasted_s = onset - change.at;
    if lasted_s < CALM_S {
        return None;
    }
    let routes = routes(question);
    let by_version = question.tally.versions().contains(&change.to_id);
    let before = Which { routes: &routes, from: change.at - BEFORE_S, to: change.at, version: None };
    let slow_us = slow_us(question, &before)?;
    let version = by_version.then_some(change.to_id.as_str());
    // Without the last moments, in which it may have begun unnoticed.
    let since = Which { routes: &routes, from: change.at, to: onset - LATE_S, version };
    let (old, new) = (question.tally.counts(&before, slow_us), question.tally.counts(&since, slow_us));
    let is_good = new.share() <= (RATIO_MAX * old.share()).max(CALM_SHARE);
    (new.all >= CALM_MIN && is_good).then_some((new, lasted_s))
}

/// A changed file, or a file of a changed distribution, that is on the incident's stack.
fn local(change: &Change, incident: &Incident) -> Option<String> {
    let frames = || incident.frames.iter().chain(&incident.subject.frames);
    let is_of = |path: &str, file: &str| path == file || path.ends_with(&format!("/{file}"));
    let on_stack = |file: &&String| frames().any(|frame| is_of(&frame.file, file));
    if let Some(file) = change.files.iter().find(on_stack) {
        return Some(format!("{file} is changed and on the stack"));
    }
    let package = |path: &str| -> Option<String> {
        let (_, rest) = path.split_once("/site-packages/").or_else(|| path.split_once("/dist-packages/"))?;
        Some(normal(rest.split(['/', '.']).next()?))
    };
    let is_called =
        |name: &&String| frames().any(|frame| package(&frame.file).as_deref() == Some(name.as_str()));
    change.distributions.iter().find(is_called).map(|name| format!("{name} is changed and on the stack"))
}

fn files(change: &Change, incident: &Incident) -> Vec<String> {
    let mut files: Vec<&String> = change.files.iter().collect();
    let on_stack = |file: &str| incident.frames.iter().any(|frame| frame.file.ends_with(file));
    files.sort_by_key(|file| !on_stack(file));
    files.into_iter().take(FILES_MAX).cloned().collect()
}

/// How likely some change is within so short a time before anything, by how often this service changes (a Poisson process).
fn surprise(question: &Question<'_>, ago_s: f64) -> f64 {
    let known_s = (question.now - question.known_since).max(KNOWN_MIN_S);
    let changes = question.changes.iter().filter(|change| change.is_news()).count();
    let rate = (changes as f64 + 0.5) / known_s;
    1.0 - (-rate * ago_s.max(0.0)).exp()
}

fn verdict(case: &Case) -> Verdict {
    let Some(contrast) = case.contrast else {
        return if case.before || case.calm.is_some() { Verdict::None } else { Verdict::Coincident };
    };
    if case.before || case.calm.is_some() || contrast.p < NONE {
        return Verdict::None;
    }
    let bad_enough = contrast.new.bad >= NEW_MIN;
    let found = match (contrast.live, contrast.p) {
        _ if !bad_enough => Verdict::Coincident,
        // Both at once, on the same routes: what else there may be has hit both.
        (true, PLAIN..) => Verdict::Caused,
        (true, LIKELY..) => Verdict::Likely,
        (false, PLAIN..) if case.local.is_some() => Verdict::Caused,
        (false, LIKELY..) => Verdict::Likely,
        _ => Verdict::Coincident,
    };
    let discounted = |verdict| match verdict {
        Verdict::Caused => Verdict::Likely,
        _ => Verdict::Coincident,
    };
    if case.shifted_before.is_some() {
        return discounted(found);
    }
    // The stack does not help: a changed file is there with or without the change.
    if case.eve.is_some() && !contrast.live {
        return Verdict::Coincident;
    }
    // Before against since: what is everybody's trouble is not told apart from the change by that, unless the stack does.
    if case.elsewhere.is_some() && !contrast.live {
        return if case.local.is_some() { discounted(found) } else { Verdict::Coincident };
    }
    found
}

fn told(change: &Change, case: &Case, verdict: Verdict, surprise: f64, onset: f64) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Some(Contrasted { old, new, p, live, slow_us }) = case.contrast {
        let longer = format!("slow ({:.3} s and more) or lost", slow_us as f64 / 1e6);
        let odds = if p > 0.999 { "> 0.999".to_owned() } else { format!("{p:.2}") };
        parts.push(match live {
            true => format!(
                "at the same time, of requests to workers with what was before {old} were {longer}, to those with it {new} (P[ratio > 2] {odds})"
            ),
            false => format!("before it {old} requests were {longer}, since then {new} (P[ratio > 2] {odds})"),
        });
    } else {
        parts.push("there is nothing to compare: too few requests before or since".to_owned());
    }
    parts.extend(case.local.clone());
    if case.before {
        parts.push("the trouble had begun before it".to_owned());
    }
    parts.extend(case.eve.clone());
    if let Some((counts, lasted_s)) = case.calm {
        let good = counts.all - counts.bad;
        parts.push(format!(
            "with it, {good} of {} requests went well in the {} before",
            counts.all,
            span(lasted_s)
        ));
    }
    parts.extend(case.shifted_before.iter().map(|shift| format!("this had shifted before it: {shift}")));
    parts.extend(case.elsewhere.iter().cloned());
    let ago = if onset >= change.at {
        format!("{} before", span(onset - change.at))
    } else {
        "at the same time".to_owned()
    };
    let chance = format!("by chance some change is so near with a probability of {surprise:.2}");
    let name = &change.name;
    let head = match verdict {
        Verdict::Caused => format!("caused by {name}, {ago}"),
        Verdict::Likely => format!("likely {name}, {ago}"),
        Verdict::Coincident => format!("coincident: {name}, {ago}; {chance}"),
        Verdict::None => format!("no change explains it, and not {name}, {ago}"),
    };
    format!("{head}: {}", parts.join("; "))
}
