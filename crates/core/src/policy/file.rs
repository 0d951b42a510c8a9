//! Reads a policy: TOML with conditions in it. Not for: what it says ([`super::Policy`]).

use super::expression::{Condition, Wrong};
use super::{Budget, Kind, Limits, Mode, Policy, Rule, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use toml::{Spanned, Value};

/// The policy that comes with this version.
pub const BUILTIN: &str = include_str!("builtin.toml");
/// Most bytes of a file, rules in it, and actions of a rule.
const TEXT_MAX: usize = 256 << 10;
const RULES_MAX: usize = 256;
const STEPS_MAX: usize = 8;
/// Most workers that a step asks for.
const COUNT_MAX: i64 = 64;

/// A mistake in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Where it is, from 1 on.
    pub line: usize,
    /// In which column, from 1 on.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.text)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mode: Option<Spanned<String>>,
    #[serde(default)]
    budget: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    limits: FileLimits,
    #[serde(default)]
    rule: Vec<Spanned<FileRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLimits {
    extra_workers: Option<Spanned<u32>>,
    worker_factor: Option<Spanned<f64>>,
    at_once: Option<Spanned<String>>,
    hosts_at_once: Option<Spanned<String>>,
    lockout: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    name: Spanned<String>,
    when: Option<Spanned<String>>,
    unless: Option<Spanned<String>>,
    #[serde(default, rename = "do")]
    steps: Vec<Spanned<Value>>,
    enabled: Option<bool>,
}

/// Reads a policy; `is_own` tells whether a user has written it.
pub(super) fn parse(text: &str, is_own: bool) -> Result<Policy, Vec<Mistake>> {
    let mut reader = Reader { text, is_own, mistakes: Vec::new() };
    if text.len() > TEXT_MAX {
        reader.wrong(0, format!("a policy has at most {} kB", TEXT_MAX >> 10));
        return Err(reader.mistakes);
    }
    let file: File = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            reader.wrong(at, error.message().trim_end_matches('\n').replace('\n', "; "));
            return Err(reader.mistakes);
        }
    };
    let policy = reader.policy(file);
    if reader.mistakes.is_empty() { Ok(policy) } else { Err(reader.mistakes) }
}

struct Reader<'a> {
    text: &'a str,
    is_own: bool,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn wrong(&mut self, at: usize, text: impl Into<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.mistakes.push(Mistake { line, column, text: text.into() });
    }

    fn policy(&mut self, file: File) -> Policy {
        let mode = file.mode.map_or(Mode::default(), |name| {
            Mode::of(name.get_ref()).unwrap_or_else(|| {
                let known: Vec<&str> = Mode::ALL.iter().map(|mode| mode.name()).collect();
                self.wrong(name.span().start, format!("there is no such mode: {}", known.join(", ")));
                Mode::default()
            })
        });
        let limits = self.limits(file.limits, file.budget);
        if let Some(rule) = file.rule.get(RULES_MAX) {
            self.wrong(rule.span().start, format!("a policy has at most {RULES_MAX} rules"));
        }
        let mut rules: Vec<Rule> = Vec::new();
        for rule in file.rule.into_iter().take(RULES_MAX) {
            let at = rule.span().start;
            let rule = self.rule(rule.into_inner(), at);
            if let Some(rule) = rule {
                if rules.iter().any(|known| known.name == rule.name) {
                    self.wrong(at, format!("there are two rules called {}", rule.name));
                }
                rules.push(rule);
            }
        }
        Policy { mode, rules, limits }
    }

    fn limits(&mut self, file: FileLimits, budgets: BTreeMap<String, Spanned<String>>) -> Limits {
        let mut limits = Limits::default();
        for (name, budget) in budgets {
            let at = budget.span().start;
            let Some(read) = per(budget.get_ref()) else {
                self.wrong(at, "a budget is a number in a time, such as \"6/h\" or \"10/10m\"");
                continue;
            };
            match (name.as_str(), Kind::of(&name)) {
                ("total", _) => limits.total = read,
                ("fleet", _) => limits.fleet = Some(read),
                (_, Some(kind)) => limits.budgets.push((kind, read)),
                _ => self.wrong(at, format!("there is no action {name}: {}", kinds())),
            }
        }
        if let Some(most) = file.extra_workers {
            limits.max_extra = *most.get_ref();
        }
        if let Some(factor) = file.worker_factor {
            match *factor.get_ref() {
                number if (1.0..=16.0).contains(&number) => limits.max_factor = number,
                _ => self.wrong(factor.span().start, "worker_factor is from 1 to 16"),
            }
        }
        if let Some(share) = file.at_once {
            match percent(share.get_ref()) {
                Some(number) => limits.blast_radius = number,
                None => self.wrong(share.span().start, "at_once is a share of the workers, such as \"25%\""),
            }
        }
        if let Some(share) = file.hosts_at_once {
            match percent(share.get_ref()) {
                Some(number) => limits.hosts_at_once = number,
                None => {
                    self.wrong(share.span().start, "hosts_at_once is a share of the hosts, such as \"10%\"")
                }
            }
        }
        if let Some(lockout) = file.lockout {
            match per(lockout.get_ref()) {
                Some(read) if read.count > 0 => limits.lockout = read,
                _ => self.wrong(
                    lockout.span().start,
                    "lockout is a number of actions in a time, such as \"3/30m\"",
                ),
            }
        }
        limits
    }

    fn rule(&mut self, rule: FileRule, at: usize) -> Option<Rule> {
        let name = rule.name.into_inner();
        if rule.enabled == Some(false) {
            let never = Condition::parse("false").ok()?;
            return Some(Rule { name, when: never, unless: None, steps: Vec::new(), is_own: self.is_own });
        }
        let Some(when) = rule.when else {
            self.wrong(at, format!("rule {name} has no `when`"));
            return None;
        };
        if rule.steps.is_empty() {
            self.wrong(at, format!("rule {name} does nothing: it has no `do`"));
        }
        if let Some(step) = rule.steps.get(STEPS_MAX) {
            self.wrong(step.span().start, format!("a rule has at most {STEPS_MAX} actions"));
        }
        let steps = rule.steps.into_iter().take(STEPS_MAX).filter_map(|step| self.step(&step)).collect();
        let unless = rule.unless.and_then(|unless| self.condition(&unless));
        let when = self.condition(&when)?;
        Some(Rule { name, when, unless, steps, is_own: self.is_own })
    }

    fn condition(&mut self, condition: &Spanned<String>) -> Option<Condition> {
        let read = Condition::parse(condition.get_ref());
        // Behind the quote, or the three of them.
        let from = condition.span().start;
        let quotes = if self.text[from..].starts_with("'''") || self.text[from..].starts_with("\"\"\"") {
            3
        } else {
            1
        };
        read.map_err(|Wrong { at, text }| self.wrong(from + quotes + at, text)).ok()
    }

    fn step(&mut self, step: &Spanned<Value>) -> Option<Step> {
        let at = step.span().start;
        match step.get_ref() {
            Value::String(name) => {
                let step = Kind::of(name).map(|kind| Step { kind, count: 1, ..Step::default() });
                if step.is_none() {
                    self.wrong(at, format!("there is no action {name}: {}", kinds()));
                }
                step
            }
            Value::Table(table) => self.table(table, at),
            _ => {
                self.wrong(
                    at,
                    "an action is its name, or a table such as { add_workers = 1, cooldown = \"60s\" }",
                );
                None
            }
        }
    }

    fn table(&mut self, table: &toml::Table, at: usize) -> Option<Step> {
        let mut step: Option<Step> = None;
        let (mut cooldown_s, mut revert_after_s) = (None, None);
        for (name, value) in table {
            let time = || value.as_str().and_then(seconds);
            match (name.as_str(), Kind::of(name), value.as_integer()) {
                ("cooldown", ..) if time().is_some() => cooldown_s = time(),
                ("revert_after", ..) if time().is_some() => revert_after_s = time(),
                ("cooldown" | "revert_after", ..) => {
                    self.wrong(at, format!("{name} is a time, such as \"60s\""))
                }
                (_, Some(kind), Some(count @ 1..=COUNT_MAX)) if step.is_none() => {
                    step = Some(Step { kind, count: count as u32, ..Step::default() });
                }
                (_, Some(_), _) => {
                    self.wrong(
                        at,
                        format!("{name} takes a number from 1 to {COUNT_MAX}, and an action stands alone"),
                    );
                }
                _ => self.wrong(at, format!("there is no action {name}: {}", kinds())),
            }
        }
        if step.is_none() {
            self.wrong(at, "the action is missing");
        }
        Some(Step { cooldown_s, revert_after_s, ..step? })
    }
}

fn kinds() -> String {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    format!("there are {}", names.join(", "))
}

/// Reads `10/5m`, `6/h`.
fn per(text: &str) -> Option<Budget> {
    let (count, window) = text.split_once('/')?;
    let window = window.trim();
    let whole = if window.starts_with(|c: char| c.is_ascii_digit()) {
        window.to_owned()
    } else {
        format!("1{window}")
    };
    let window_s = seconds(&whole).filter(|seconds| *seconds > 0.0)?;
    Some(Budget { count: count.trim().parse().ok()?, window_s })
}

/// Reads `90s`, `5m`, `2h`, `1d`.
fn seconds(text: &str) -> Option<f64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let factor = match text[at..].trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    text[..at].parse::<f64>().ok().map(|number| number * factor)
}

/// Reads `25%`.
fn percent(text: &str) -> Option<f64> {
    let number: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (number > 0.0 && number <= 100.0).then_some(number / 100.0)
}
