//! What is done about trouble: which action, for which reason, and what stands against it. Rules say what would help; modes say what
//! of it is done and what is only advised; guardrails hold whatever rules say. `(policy, ledger, facts, now) -> proposals`, each with
//! its reason in words.
//!
//! [`file`] reads a policy, [`expression`] is the language of its conditions, [`guard`] what forbids an action, [`ledger`] what was done
//! and may be done still. Not for: doing anything (`reflex::act`), and not for causes ([`crate::diagnosis`]).

mod expression;
mod facts;
mod file;
mod guard;
mod ledger;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use expression::names;
pub use facts::Facts;
pub use file::{BUILTIN, Mistake};
pub use guard::more_would_hurt;
pub use ledger::{AfterThat, Ledger, Outcome};

use crate::hosts;
use expression::Condition;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// How much is done without a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing, and nothing is advised either.
    Observe,
    /// Nothing; what would be done is told.
    #[default]
    Advise,
    /// What costs nobody anything who is not lost already: statements and connections of requests whose time is over, workers taken
    /// back, reloads halted.
    Protect,
    /// What the rules say.
    Act,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Observe, Self::Advise, Self::Protect, Self::Act];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Advise => "advise",
            Self::Protect => "protect",
            Self::Act => "act",
        }
    }

    /// Returns the mode of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// What can be done, the least invasive first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The statement of a worker that is dead is ended in the database.
    #[default]
    CancelOrphan,
    /// The statement that a request waits for is ended in the database; its session and its worker live.
    CancelQuery,
    /// The connection that a request's thread is blocked on is shut.
    ShutSocket,
    /// A route is answered 503 for a while.
    OpenCircuit,
    /// A worker is ended with all its requests.
    KillWorker,
    /// More workers.
    AddWorkers,
    /// Fewer workers: those that were added are taken back.
    RemoveWorkers,
    /// All workers are replaced, one after the other.
    Recycle,
    /// A reload whose new workers are worse is given up; the old ones stay.
    HaltReload,
    /// The arbiter is replaced.
    RestartMaster,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::CancelOrphan,
        Self::CancelQuery,
        Self::ShutSocket,
        Self::OpenCircuit,
        Self::KillWorker,
        Self::AddWorkers,
        Self::RemoveWorkers,
        Self::Recycle,
        Self::HaltReload,
        Self::RestartMaster,
    ];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CancelOrphan => "cancel_orphan",
            Self::CancelQuery => "cancel_query",
            Self::ShutSocket => "shut_socket",
            Self::OpenCircuit => "open_circuit",
            Self::KillWorker => "kill_worker",
            Self::AddWorkers => "add_workers",
            Self::RemoveWorkers => "remove_workers",
            Self::Recycle => "recycle",
            Self::HaltReload => "halt_reload",
            Self::RestartMaster => "restart_master",
        }
    }

    /// Returns the kind of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// It touches one request alone, and one that is lost already.
    pub fn is_about_a_request(self) -> bool {
        matches!(self, Self::CancelOrphan | Self::CancelQuery | Self::ShutSocket)
    }

    /// Other hosts need not be asked: it is about a request, or the worker that is stuck with it.
    pub fn is_a_hosts_own(self) -> bool {
        self.is_about_a_request() || self == Self::KillWorker
    }

    /// It changes how many workers there are.
    fn is_about_numbers(self) -> bool {
        matches!(self, Self::AddWorkers | Self::RemoveWorkers)
    }

    /// How often it may be done at most, unless the policy says otherwise.
    fn budget(self) -> Budget {
        let (count, window_s) = match self {
            Self::CancelOrphan | Self::CancelQuery | Self::ShutSocket => (60, 600.0),
            Self::KillWorker => (10, 600.0),
            Self::AddWorkers | Self::HaltReload => (6, 3600.0),
            Self::RemoveWorkers | Self::OpenCircuit => (12, 3600.0),
            Self::Recycle => (2, 3600.0),
            Self::RestartMaster => (1, 3600.0),
        };
        Budget { count, window_s }
    }

    /// How long it rests after it was done, unless a rule says otherwise, seconds.
    fn rest_s(self) -> f64 {
        match self {
            Self::CancelOrphan | Self::CancelQuery | Self::ShutSocket => 0.0,
            Self::KillWorker => 5.0,
            Self::AddWorkers | Self::RemoveWorkers | Self::HaltReload | Self::OpenCircuit => 60.0,
            Self::Recycle | Self::RestartMaster => 600.0,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// How many.
    pub count: u32,
    /// In how many seconds.
    pub window_s: f64,
}

/// One action of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What.
    pub kind: Kind,
    /// How many workers, where it is about their number.
    pub count: u32,
    /// How long it rests afterwards, seconds.
    pub cooldown_s: Option<f64>,
    /// After how many seconds it is taken back.
    pub revert_after_s: Option<f64>,
}

/// When something is done.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What must hold.
    pub when: Condition,
    /// What must not.
    pub unless: Option<Condition>,
    /// What is done.
    pub steps: Vec<Step>,
    /// Somebody has written it for this server.
    pub is_own: bool,
}

/// What limits all rules.
#[derive(Clone, Debug, PartialEq)]
struct Limits {
    /// By kind, where it is not the usual.
    budgets: Vec<(Kind, Budget)>,
    /// Of all actions that touch more than one request.
    total: Budget,
    /// The same of all hosts of the service together; as much as of one, if nothing else is said.
    fleet: Option<Budget>,
    /// Share of the hosts on which something may be done at once.
    hosts_at_once: f64,
    /// Workers beyond the configured number, and that as a factor of it.
    max_extra: u32,
    max_factor: f64,
    /// Share of the workers that may be touched at once.
    blast_radius: f64,
    /// After so many actions without improvement in so long nothing more is done for as long.
    lockout: Budget,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            budgets: Vec::new(),
            total: Budget { count: 12, window_s: 3600.0 },
            fleet: None,
            hosts_at_once: 0.1,
            max_extra: 4,
            max_factor: 1.5,
            blast_radius: 0.25,
            lockout: Budget { count: 3, window_s: 1800.0 },
        }
    }
}

impl Limits {
    fn budget(&self, kind: Kind) -> Budget {
        let own = self.budgets.iter().find(|(known, _)| *known == kind);
        own.map_or_else(|| kind.budget(), |(_, budget)| *budget)
    }
}

/// Modes, rules, limits.
#[derive(Clone, Debug)]
pub struct Policy {
    mode: Mode,
    rules: Vec<Rule>,
    limits: Limits,
}

/// Whether something is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// It is.
    Do,
    /// It would be in another mode.
    Advise(String),
    /// A guardrail stands against it.
    Withheld(String),
}

/// Something that a rule wants done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// What.
    pub step: Step,
    /// The rule.
    pub rule: String,
    /// Why, in words.
    pub why: String,
    /// Whether it is done.
    pub verdict: Verdict,
}

impl Default for Proposal {
    fn default() -> Self {
        Self {
            step: Step::default(),
            rule: String::new(),
            why: String::new(),
            verdict: Verdict::Advise(String::new()),
        }
    }
}

/// A rule that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Considered {
    /// The rule.
    pub rule: String,
    /// The parts of its condition, each with what it came to: none if it asks for something that is not known.
    pub parts: Vec<(String, Option<bool>)>,
    /// It wants something done.
    pub fits: bool,
    /// What that comes to.
    pub proposals: Vec<Proposal>,
}

impl Policy {
    /// Returns the one that comes with this version.
    pub fn builtin(mode: Mode) -> Self {
        let parsed = file::parse(BUILTIN, false);
        let mut policy = parsed.expect("the policy that is built in is without mistakes: a test reads it");
        policy.mode = mode;
        policy
    }

    /// Reads one: its rules come before those that are built in, one of the same name takes the other's place.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        file::parse(text, true).map(|own| own.over(Self::builtin(Mode::default())))
    }

    /// Returns the same in another mode.
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Returns the mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns what all hosts of the service may do together.
    pub fn of_hosts(&self) -> hosts::Limits {
        let Budget { count, window_s } = self.limits.fleet.unwrap_or(self.limits.total);
        let hosts = self.limits.hosts_at_once;
        hosts::Limits { count, window_s, hosts, at_once_s: ledger::VERIFY_S }
    }

    /// Says what is to be done. The first rule that fits decides for each kind of action; what is decided counts against the budget of
    /// what comes after it.
    pub fn decide(&self, facts: &Facts, ledger: &Ledger, now_s: f64) -> Vec<Proposal> {
        if self.mode == Mode::Observe {
            return Vec::new();
        }
        let mut found: Vec<Proposal> = Vec::new();
        let mut ledger = Cow::Borrowed(ledger);
        for rule in self.rules.iter().filter(|rule| rule.fits(facts)) {
            for step in &rule.steps {
                // Nor is the number of workers moved both ways at once.
                let both_ways = |kind: Kind| kind.is_about_numbers() && step.kind.is_about_numbers();
                let settles = |known: &Proposal| {
                    known.step.kind == step.kind || known.verdict == Verdict::Do && both_ways(known.step.kind)
                };
                if found.iter().any(settles) {
                    continue;
                }
                let proposal = self.proposal(step, rule, facts, &ledger, now_s);
                if proposal.verdict == Verdict::Do && !step.kind.is_about_a_request() {
                    ledger.to_mut().done(0, &proposal, now_s);
                }
                found.push(proposal);
            }
        }
        found
    }

    /// Says of every rule whether it fits, and why.
    pub fn explain(&self, facts: &Facts, ledger: &Ledger, now_s: f64) -> Vec<Considered> {
        let considered = |rule: &Rule| {
            let mut parts = rule.when.parts(facts);
            let unless = rule.unless.iter().flat_map(|condition| condition.parts(facts));
            parts.extend(unless.map(|(text, held)| (format!("unless {text}"), held)));
            let fits = rule.fits(facts);
            let steps = rule.steps.iter().filter(|_| fits);
            let proposals = steps.map(|step| self.proposal(step, rule, facts, ledger, now_s)).collect();
            Considered { rule: rule.name.clone(), parts, fits, proposals }
        };
        self.rules.iter().map(considered).collect()
    }

    fn proposal(&self, step: &Step, rule: &Rule, facts: &Facts, ledger: &Ledger, now_s: f64) -> Proposal {
        let against = guard::against(step, rule, facts, &self.limits, ledger)
            .or_else(|| ledger.against(step.kind, &self.limits, facts, now_s));
        let verdict = match against {
            Some(why) => Verdict::Withheld(why),
            None => self.in_this_mode(step.kind, rule, facts),
        };
        Proposal { step: *step, rule: rule.name.clone(), why: facts.told(), verdict }
    }

    fn in_this_mode(&self, kind: Kind, rule: &Rule, facts: &Facts) -> Verdict {
        let advise = |why: &str| Verdict::Advise(why.to_owned());
        match (self.mode, kind) {
            (Mode::Observe | Mode::Advise, _) => advise("mode advise does nothing by itself"),
            (Mode::Protect, Kind::CancelOrphan | Kind::RemoveWorkers | Kind::HaltReload) => Verdict::Do,
            (Mode::Protect, Kind::CancelQuery | Kind::ShutSocket) if facts.is_over() => Verdict::Do,
            (Mode::Protect, Kind::CancelQuery | Kind::ShutSocket) => {
                advise("mode protect does it once the request's time is over")
            }
            (Mode::Protect, _) => advise("mode protect does not: mode act does"),
            (Mode::Act, Kind::RestartMaster) if !rule.is_own => {
                advise("it needs a rule of your own that names it")
            }
            (Mode::Act, _) => Verdict::Do,
        }
    }

    /// Puts this one's rules before those of another.
    fn over(mut self, below: Self) -> Self {
        let hidden: Vec<String> = self.rules.iter().map(|rule| rule.name.clone()).collect();
        self.rules.extend(below.rules.into_iter().filter(|rule| !hidden.contains(&rule.name)));
        // One without actions was put there to drop another.
        self.rules.retain(|rule| !rule.steps.is_empty());
        self
    }
}

impl Rule {
    /// Tells whether it wants something done. What asks for something that is not known does not hold.
    fn fits(&self, facts: &Facts) -> bool {
        let unless = self.unless.as_ref().and_then(|condition| condition.holds(facts));
        self.when.holds(facts) == Some(true) && unless != Some(true)
    }
}
