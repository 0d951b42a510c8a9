//! What is done about trouble: asks the policy, has [`crate::act`] do it, writes it down before and after, finds out after a while
//! whether it has helped, and takes back what has not. Whatever is done has a row in the audit before it begins; without a store
//! nothing is done.
//!
//! [`situation`] is what the policy is told, [`resuming`] what the next observer goes on with. Not for: deciding ([`ferricorn_core::policy`]), and not for how things are done.

mod course;
mod resuming;
mod situation;
mod switch;
mod trial;

use super::hosts::Permit;
use super::outlet::Log;
use super::watch::{LAST_SHARE, marked_share};
use super::{Engine, Key};
use crate::act::{Cut, Deed, Done, Hands, UnderWay};
use crate::database::Victim;
use crate::store::Act;
use course::Courses;
use ferricorn_core::change;
use ferricorn_core::diagnosis::{Cause, Diagnosis, Finding, Fixes, reach};
use ferricorn_core::hosts::{Limits, Purse};
use ferricorn_core::incident::{Acted, Outcome, Sign, Trigger};
use ferricorn_core::log::Level;
use ferricorn_core::policy::{
    AfterThat, Facts, Kind, Ledger, Mode, Outcome as Effect, Policy, Proposal, Verdict,
};
use ferricorn_core::scoreboard::Scoreboard;
use ferricorn_settings::Settings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use switch::Switch;
use trial::Trial;

/// How long a route is not served, unless the rule says otherwise, seconds.
const CIRCUIT_S: f64 = 30.0;
/// Under what it is kept what survives.
const KEY: &str = "acting";
/// Actions whose end, or effect, is awaited; the oldest are let go.
const BEGUN_MAX: usize = 64;

/// What was begun, until its effect is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Begun {
    at_s: f64,
    proposal: Proposal,
    target: String,
    incident: String,
    /// The request that it was about.
    request: Option<Key>,
    /// It has come to its end.
    ended: bool,
    /// How to go on with it.
    #[serde(default)]
    succession: Option<UnderWay>,
}

/// What survives the observer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    ledger: Ledger,
    /// What may be done while other hosts cannot be reached.
    purse: Purse,
    begun: BTreeMap<u64, Begun>,
}

impl Kept {
    /// Adds an action that begins.
    fn with(mut self, number: u64, begun: Begun) -> Self {
        self.ledger.done(number, &begun.proposal, begun.at_s);
        if self.begun.len() >= BEGUN_MAX {
            self.begun.pop_first();
        }
        self.begun.insert(number, begun);
        self
    }

    /// Returns the numbers of those that have not come to their end.
    fn open(&self) -> Vec<u64> {
        self.begun.iter().filter(|(_, begun)| !begun.ended).map(|(number, _)| *number).collect()
    }
}

/// Who acts.
#[derive(Debug)]
pub(crate) struct Acting {
    policy: Policy,
    hands: Hands,
    kept: Kept,
    courses: Courses,
    trial: Trial,
    switch: Switch,
    workers_configured: Option<u32>,
}

impl Acting {
    /// Returns who acts on the server with this arbiter by this policy; `folder` has the switch.
    pub(crate) fn new(policy: Policy, arbiter: u32, folder: Option<&Path>) -> Self {
        Self {
            policy,
            hands: Hands::of(arbiter, None),
            kept: Kept::default(),
            courses: Courses::default(),
            trial: Trial::default(),
            switch: Switch::new(folder.map(Path::to_owned)),
            workers_configured: None,
        }
    }

    /// Tells whether nothing may be done.
    pub(super) fn is_off(&self) -> bool {
        self.kept.ledger.is_off()
    }

    /// Returns what may be done while other hosts cannot be reached.
    pub(super) fn purse(&mut self) -> &mut Purse {
        &mut self.kept.purse
    }

    /// Returns what all hosts of the service may do together.
    pub(super) fn of_hosts(&self) -> Limits {
        self.policy.of_hosts()
    }

    /// Returns the master that has come in the place of the one that is observed.
    pub(super) fn successor(&self) -> Option<u32> {
        self.hands.successor()
    }

    /// Tells the arbiter how many workers there are to be.
    pub(super) fn tell_arbiter(&self, deed: &Deed) -> Done {
        self.hands.tell_arbiter(deed)
    }

    /// Names the pidfile of a stock Gunicorn.
    pub(crate) fn with_pidfile(self, pidfile: Option<PathBuf>) -> Self {
        Self { hands: self.hands.with_pidfile(pidfile), ..self }
    }

    /// The same on our own server.
    pub(crate) fn on_board(self, board: &'static Scoreboard, workers: u32) -> Self {
        let arbiter = board.arbiter_pid.load(Relaxed);
        Self { hands: Hands::of(arbiter, Some(board)), workers_configured: Some(workers), ..self }
    }
}

impl Engine<'_> {
    /// Something may have to be done about a request.
    pub(super) fn act_on_request(&mut self, key: Key, now_s: f64) {
        let Some(watch) = self.watches.get(key).filter(|watch| watch.diagnosis.is_some()) else { return };
        let running = &watch.running;
        let near = match marked_share(running) {
            Some(share) => share >= LAST_SHARE,
            // Nobody else ends it.
            None => running.share().is_some_and(|share| share >= 1.0),
        };
        let incident = self.desk.of_request(&watch.running.request.id);
        let Some(incident) = incident.map(str::to_owned) else { return };
        if !near && watch.late.is_none() && !self.fates.all_lost(&incident) {
            return;
        }
        let Some(facts) = self.request_facts(key, &incident) else { return };
        for proposal in self.acting.policy.decide(&facts, &self.acting.kept.ledger, now_s) {
            let kind = proposal.step.kind;
            let Some(deed) = self.deed_of_request(key, kind) else { continue };
            // Once for each request; what stood against it may not any more.
            let is_new = proposal.verdict != Verdict::Do
                || self.watches.get_mut(key).is_some_and(|watch| watch.acted.insert(kind));
            let touched = self.watches.get(key).is_some_and(|watch| watch.touched);
            if is_new {
                self.propose(proposal, &deed, &incident, Some(key), now_s);
            }
            // What is helped at the end of its time was lost: the next ones need not wait for that.
            if let Some(watch) = self.watches.get(key).filter(|watch| watch.touched && near && !touched) {
                let request = self.facts.routed(&watch.running.request);
                self.fates.lost(&incident, &request, now_s);
            }
        }
    }

    /// Returns what an action comes to for a request; none if there is nothing that it could take hold of.
    fn deed_of_request(&self, key: Key, kind: Kind) -> Option<Deed> {
        let watch = self.watches.get(key)?;
        match kind {
            Kind::CancelQuery => {
                let case = self.facts.case(watch);
                let (database, session) = reach(&case).session?;
                Victim::of(&database.name, session).map(Deed::Cancel)
            }
            Kind::ShutSocket => {
                let case = self.facts.case(watch);
                let (thread, socket) = reach(&case).socket?;
                Cut::of(key.0, thread, socket).map(Deed::Shut)
            }
            Kind::KillWorker => Some(Deed::End { pid: key.0 }),
            _ => None,
        }
    }

    /// A worker has died: what it had asked databases for may go on there.
    pub(super) fn act_on_orphans(&mut self, pid: u32, now_s: f64) {
        let of_watch = |watch: &super::watch::Watch| {
            let key = (pid, watch.running.number);
            let sessions = watch.looks.last()?.databases.iter().flat_map(|database| {
                let of_worker = database.sessions.iter().filter(|session| session.fd.is_some());
                of_worker.filter_map(|session| Victim::of(&database.name, session))
            });
            Some((key, sessions.collect::<Vec<Victim>>()))
        };
        let mut orphans: Vec<(Key, Victim)> = Vec::new();
        for (key, victims) in self.watches.of_worker(pid).filter_map(of_watch) {
            // Requests of one worker are looked at together: each of its sessions once.
            let new = victims.into_iter().filter(|victim| orphans.iter().all(|(_, known)| known != victim));
            orphans.extend(new.map(|victim| (key, victim)).collect::<Vec<_>>());
        }
        for (key, victim) in orphans {
            let Some(watch) = self.watches.get(key) else { continue };
            let Some(incident) = self.desk.of_request(&watch.running.request.id).map(str::to_owned) else {
                continue;
            };
            let Some(facts) = self.request_facts(key, &incident) else { continue };
            let facts = Facts { orphan: true, ..facts };
            let proposals = self.acting.policy.decide(&facts, &self.acting.kept.ledger, now_s);
            let orphan = proposals.into_iter().find(|proposal| proposal.step.kind == Kind::CancelOrphan);
            if let Some(proposal) = orphan {
                self.propose(proposal, &Deed::Cancel(victim), &incident, Some(key), now_s);
            }
        }
    }

    /// The first new workers of a reload may be worse than the old ones, whatever is wrong with them.
    fn act_on_reload(&mut self, now_s: f64) {
        let Some((verdict, text)) = self.acting.trial.judge(&self.facts) else { return };
        let diagnosis = regression(verdict, &text);
        self.sign(Sign::Server(Trigger::Losses, Box::new(diagnosis)), now_s);
        let incidents = self.desk.incidents();
        let found = incidents.iter().find(|incident| incident.cause == Cause::DeployRegression);
        let Some(incident) = found.map(|incident| incident.id.clone()) else { return };
        let Some(facts) = self.incident_facts(&incident) else { return };
        let facts = Facts { change: Some(verdict.name().to_owned()), ..facts };
        for proposal in self.acting.policy.decide(&facts, &self.acting.kept.ledger, now_s) {
            if proposal.step.kind == Kind::HaltReload {
                let proposal = Proposal { why: text.clone(), ..proposal };
                self.propose(proposal, &Deed::Halt(self.facts.generation), &incident, None, now_s);
            }
        }
    }

    /// Something may have to be done about what many requests have in common.
    fn act_on_incidents(&mut self, now_s: f64) {
        if self.acting.policy.mode() == Mode::Observe {
            return;
        }
        let open: Vec<String> = self
            .desk
            .incidents()
            .into_iter()
            .filter(|incident| incident.is_open())
            .map(|incident| incident.id.clone())
            .collect();
        for id in open {
            let Some(facts) = self.incident_facts(&id) else { continue };
            for proposal in self.acting.policy.decide(&facts, &self.acting.kept.ledger, now_s) {
                let count = proposal.step.count;
                let deed = match proposal.step.kind {
                    Kind::AddWorkers => Deed::Add(count),
                    Kind::RemoveWorkers => Deed::Remove(count),
                    Kind::Recycle => Deed::Recycle,
                    Kind::OpenCircuit => {
                        let seconds = proposal.step.revert_after_s.unwrap_or(CIRCUIT_S) as u32;
                        Deed::Open(facts.route.clone(), seconds)
                    }
                    Kind::RestartMaster => Deed::Restart { wedged: self.wedge.stands() },
                    _ => continue,
                };
                self.propose(proposal, &deed, &id, None, now_s);
            }
        }
    }

    /// Does what was decided, or tells why not.
    fn propose(
        &mut self,
        mut proposal: Proposal,
        deed: &Deed,
        incident: &str,
        request: Option<Key>,
        now_s: f64,
    ) {
        if proposal.verdict == Verdict::Do {
            let limits = self.acting.of_hosts();
            let purse = &mut self.acting.kept.purse;
            match self.hosts.permit(incident, proposal.step.kind, purse, &limits, now_s) {
                Permit::Yes => {}
                Permit::Wait => return,
                Permit::No(why) => proposal.verdict = Verdict::Withheld(why),
            }
        }
        let (outcome, text) = match &proposal.verdict {
            Verdict::Do => (Outcome::Begun, proposal.why.clone()),
            Verdict::Advise(why) => (Outcome::Advised, format!("{}; {why}", proposal.why)),
            Verdict::Withheld(why) => (Outcome::Withheld, why.clone()),
        };
        let mut acted = Acted {
            at: now_s,
            number: 0,
            action: proposal.step.kind.name().to_owned(),
            target: deed.target(),
            rule: proposal.rule.clone(),
            outcome,
            text,
        };
        if outcome == Outcome::Begun {
            let before = self.situation_now();
            let why = format!("incident {incident}, rule {}: {}", proposal.rule, proposal.why);
            let begun = Begun {
                at_s: now_s,
                proposal,
                target: acted.target.clone(),
                incident: incident.to_owned(),
                request,
                ..Begun::default()
            };
            // In one go, and before it is done: who comes after us must know of it, and must not do it once more.
            let row = act("begun", &acted, &why, &before, "");
            let kept = &self.acting.kept;
            let written = self
                .outlet
                .audit_and_remember(&row, KEY, now_s, |number| kept.clone().with(number, begun.clone()));
            match written {
                Some(number) => {
                    acted.number = number;
                    self.acting.kept = std::mem::take(&mut self.acting.kept).with(number, begun);
                }
                None => {
                    acted.outcome = Outcome::Withheld;
                    "it cannot be written down, and what is not written down is not done"
                        .clone_into(&mut acted.text);
                }
            }
        }
        let number = acted.number;
        self.tell_acted(incident, acted.clone(), now_s);
        if number == 0 {
            return;
        }
        if let Some(watch) = request.and_then(|key| self.watches.get_mut(key)) {
            watch.touched = true;
        }
        match self.acting.hands.begin(number, deed, &self.asking, now_s) {
            Some(done) => self.ended(number, &done, now_s),
            None => self.write_down(number, "", now_s),
        }
    }

    /// Something has come to its end.
    fn ended(&mut self, number: u64, done: &Done, now_s: f64) {
        let Some(begun) = self.acting.kept.begun.get_mut(&number) else { return };
        begun.ended = true;
        let begun = begun.clone();
        let (outcome, text) = match done {
            Done::Yes(text) => (Outcome::Done, text),
            Done::Over(text) => (Outcome::Over, text),
            Done::Failed(text) => (Outcome::Failed, text),
        };
        if outcome != Outcome::Done {
            self.acting.kept.ledger.failed(number);
            self.acting.kept.begun.remove(&number);
        }
        self.tell_end(number, &begun, outcome, text, now_s);
    }

    /// Finds out what has helped, and takes back what has not, or has had its time.
    fn follow_up(&mut self, now_s: f64) {
        for number in self.acting.kept.ledger.due_for_verification(now_s) {
            let Some(begun) = self.acting.kept.begun.get(&number).cloned() else {
                self.acting.kept.ledger.failed(number);
                continue;
            };
            let (effect, text) = self.effect_of(&begun, now_s);
            let Acting { policy, kept, .. } = &mut self.acting;
            let after = policy.verified(&mut kept.ledger, number, effect, now_s);
            let outcome = match effect {
                Effect::Better => Outcome::Better,
                Effect::Same => Outcome::Same,
                Effect::Worse => Outcome::Worse,
            };
            self.tell_end(number, &begun, outcome, &text, now_s);
            if after == AfterThat::Undo {
                self.take_back(number, &begun, &text, now_s);
            }
            if begun.proposal.step.revert_after_s.is_none() || after != AfterThat::Keep {
                self.acting.kept.begun.remove(&number);
            }
        }
        for number in self.acting.kept.ledger.due_for_revert(now_s) {
            if let Some(begun) = self.acting.kept.begun.remove(&number) {
                self.take_back(number, &begun, "its time is over", now_s);
            }
        }
    }

    /// Finds out whether an action has helped.
    fn effect_of(&self, begun: &Begun, now_s: f64) -> (Effect, String) {
        match begun.request {
            // It is about that request alone.
            Some(key) if begun.proposal.step.kind.is_about_a_request() => {
                match self.watches.get(key).is_some_and(|watch| watch.late.is_none()) {
                    true => (Effect::Same, "the request is stuck still".to_owned()),
                    false => (Effect::Better, "the request has come to its end".to_owned()),
                }
            }
            _ => self.acting.courses.compare(&begun.incident, begun.at_s, now_s),
        }
    }

    /// Takes an action back, where that means something.
    fn take_back(&mut self, number: u64, begun: &Begun, why: &str, now_s: f64) {
        let deed = match begun.proposal.step.kind {
            Kind::AddWorkers => Deed::Remove(begun.proposal.step.count),
            Kind::OpenCircuit => Deed::Close(begun.target.clone()),
            _ => return,
        };
        self.acting.kept.ledger.reverted(number);
        let done = self.acting.hands.begin(number, &deed, &self.asking, now_s);
        let text = match done {
            Some(Done::Yes(text) | Done::Over(text) | Done::Failed(text)) => format!("{why}: {text}"),
            None => why.to_owned(),
        };
        self.tell_end(number, begun, Outcome::Undone, &text, now_s);
    }

    /// Tells how far an action is: the audit, the incident, the log. False if it could not be written down.
    fn tell_end(&mut self, number: u64, begun: &Begun, outcome: Outcome, text: &str, now_s: f64) -> bool {
        let acted = Acted {
            at: now_s,
            number,
            action: begun.proposal.step.kind.name().to_owned(),
            target: begun.target.clone(),
            rule: begun.proposal.rule.clone(),
            outcome,
            text: text.to_owned(),
        };
        let why = format!("action {number}, incident {}", begun.incident);
        let after = self.situation_now();
        let row = act(outcome.name(), &acted, &why, "", &format!("{text}; {after}"));
        let kept = &self.acting.kept;
        let written = self.outlet.audit_and_remember(&row, KEY, now_s, |_| kept);
        self.tell_acted(&begun.incident.clone(), acted, now_s);
        written.is_some()
    }

    fn tell_acted(&mut self, incident: &str, acted: Acted, now_s: f64) {
        if acted.number > 0 {
            self.outlet.say_acted(incident, &acted, now_s);
        }
        self.sign(Sign::Acted { incident: incident.to_owned(), acted: Box::new(acted) }, now_s);
    }

    /// What may be done by ourselves has changed.
    pub(super) fn keep_acting(&mut self, now_s: f64) {
        self.outlet.remember(KEY, &self.acting.kept, now_s);
    }

    /// Every tick: what has come to its end, and whether anything may be done at all.
    pub(super) fn tick_acting(&mut self, now_s: f64) {
        if let Some(on) = self.acting.switch.turned(now_s) {
            match on {
                true => self.acting.kept.ledger.on(),
                false => {
                    self.acting.kept.ledger.off();
                    self.acting.hands.close_circuits();
                }
            }
            self.outlet.say_switched(on);
            self.outlet.remember(KEY, &self.acting.kept, now_s);
        }
        let ended = self.acting.hands.tick(&self.asking, now_s);
        for number in self.acting.kept.open() {
            self.write_down(number, "", now_s);
        }
        for (number, done) in ended {
            self.ended(number, &done, now_s);
        }
    }

    /// Every second: incidents, and what has become of what was done.
    pub(super) fn second_acting(&mut self, now_s: f64) {
        self.acting.courses.note(&self.desk.incidents(), now_s);
        self.act_on_reload(now_s);
        self.act_on_incidents(now_s);
        self.follow_up(now_s);
    }
}

/// What new workers that fail more often than old ones come to.
fn regression(verdict: change::Verdict, text: &str) -> Diagnosis {
    let confidence = if verdict == change::Verdict::Caused { 0.95 } else { 0.8 };
    let next = "compare what the new workers raise (the error log names their pids) with what was changed";
    Diagnosis {
        cause: Cause::DeployRegression,
        confidence,
        summary: format!("The new workers of a reload are worse than the old ones: {text}."),
        evidence: vec![Finding { source: "history".to_owned(), text: text.to_owned(), weight: 3 }],
        fixes: Fixes {
            now: vec!["put the code back as it was, and reload".to_owned()],
            next: vec![next.to_owned()],
            proper: vec!["let a few workers try new code first: reload_soak".to_owned()],
        },
        ..Diagnosis::default()
    }
}

fn act(how: &str, acted: &Acted, why: &str, before: &str, after: &str) -> Act {
    Act {
        at_us: (acted.at * 1e6) as i64,
        who: "observer".to_owned(),
        what: format!("{} {how}: {}", acted.action, acted.target),
        why: why.to_owned(),
        before: before.to_owned(),
        after: after.to_owned(),
    }
}

/// Reads the policy that the settings name; what is wrong with it is said, and the one that is built in is used without acting.
pub(crate) fn policy_of(settings: &Settings, log: Log<'_>) -> Policy {
    let mode = settings.reflex_mode.as_deref().and_then(Mode::of);
    let Some(path) = &settings.reflex_policy else { return Policy::builtin(mode.unwrap_or_default()) };
    let read = fs::read_to_string(path).map_err(|error| vec![error.to_string()]);
    let parsed = read.and_then(|text| {
        Policy::parse(&text).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())
    });
    match parsed {
        Ok(policy) => match mode {
            Some(mode) => policy.in_mode(mode),
            None => policy,
        },
        Err(mistakes) => {
            let text = format!(
                "The policy {} cannot be used, and nothing is done by itself: {}. See `ferricornctl policy check`",
                path.display(),
                mistakes.join("; ")
            );
            log(Level::Error, &text);
            Policy::builtin(Mode::Advise)
        }
    }
}
