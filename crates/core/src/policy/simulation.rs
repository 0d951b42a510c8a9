//! Months of incidents, seeded: whatever happens, and whether actions help, do nothing or harm, budgets are kept, nothing swings, and
//! what is turned off is off. The observer is ended and started again in between.

use super::*;
use crate::diagnosis::Cause;
use crate::incident::State;
use std::collections::VecDeque;

const DAYS: u64 = 30;
const STEP_S: f64 = 30.0;

/// xorshift64*: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }
}

/// Somebody's server, on which one trouble follows the other.
struct Months {
    dice: Dice,
    policy: Policy,
    ledger: Ledger,
    now_s: f64,
    number: u64,
    workers: u32,
    trouble: Option<Facts>,
    /// What was done, and when.
    done: VecDeque<(f64, Kind)>,
    all: u64,
}

impl Months {
    fn new(seed: u64) -> Self {
        let own = "mode = \"act\"\n[[rule]]\nname = \"last\"\nwhen = 'stock && lost > 50 && cause ~ \"deadlock|unknown\"'\n\
                   do = [\"restart_master\"]\n[[rule]]\nname = \"back\"\nwhen = 'state == \"mitigated\"'\ndo = [\"remove_workers\"]";
        Self {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            policy: Policy::parse(own).expect("a policy"),
            ledger: Ledger::default(),
            now_s: 0.0,
            number: 0,
            workers: 4,
            trouble: None,
            done: VecDeque::new(),
            all: 0,
        }
    }

    fn new_trouble(&mut self) -> Facts {
        let cause = Cause::ALL[self.dice.below(Cause::ALL.len() as u64) as usize];
        let also = if self.dice.below(2) == 0 { vec![Cause::SyncForIo] } else { Vec::new() };
        Facts {
            evidence: "20200101-1".into(),
            cause,
            also,
            confidence: 0.5 + self.dice.below(50) as f64 / 100.0,
            state: State::Open,
            age_s: Some(self.dice.below(60) as f64),
            deadline_s: Some(30.0),
            requests_lost: self.dice.below(90),
            requests_stuck: self.dice.below(90),
            orphan: self.dice.below(8) == 0,
            stock: self.dice.below(2) == 0,
            queued: self.dice.below(3) as u32,
            host_cpu: Some(self.dice.below(100) as f64 / 100.0),
            reloading: self.dice.below(6) == 0,
            change: (self.dice.below(3) == 0).then(|| "caused".to_owned()),
            workers: self.workers,
            workers_configured: Some(4),
            hosts: 1 + self.dice.below(4) as u32,
            ..Facts::default()
        }
    }

    fn step(&mut self) {
        self.now_s += STEP_S;
        match self.trouble.take() {
            None if self.dice.below(20) == 0 => self.trouble = Some(self.new_trouble()),
            Some(_) if self.dice.below(60) == 0 => {}
            Some(facts) => {
                let state = if self.dice.below(9) == 0 { State::Mitigated } else { facts.state };
                self.trouble = Some(Facts { workers: self.workers, state, ..facts });
            }
            None => {}
        }
        if self.dice.below(500) == 0 {
            // Another observer takes it up.
            let kept = serde_json::to_string(&self.ledger).expect("JSON");
            self.ledger = serde_json::from_str(&kept).expect("the same");
        }
        for number in self.ledger.due_for_verification(self.now_s) {
            let outcome = [Outcome::Better, Outcome::Same, Outcome::Worse][self.dice.below(3) as usize];
            if self.policy.verified(&mut self.ledger, number, outcome, self.now_s) == AfterThat::Undo {
                self.ledger.reverted(number);
            }
        }
        for number in self.ledger.due_for_revert(self.now_s) {
            self.ledger.reverted(number);
        }
        self.workers = 4 + self.ledger.extra();
        if self.dice.below(20_000) == 0 {
            self.ledger.off();
        } else if self.dice.below(3000) == 0 {
            self.ledger.on();
        }
        self.act();
    }

    fn act(&mut self) {
        let Some(facts) = self.trouble.clone() else { return };
        for proposal in self.policy.decide(&facts, &self.ledger, self.now_s) {
            if proposal.verdict != Verdict::Do {
                continue;
            }
            let kind = proposal.step.kind;
            assert!(!self.ledger.is_off(), "what is off does nothing");
            assert!(self.ledger.locked_out(self.now_s).is_none(), "what is locked does nothing");
            assert!(facts.hosts < 3 || kind.is_about_a_request(), "it is what hosts share");
            let scarce = ["db", "pool", "cpu", "host"].contains(&facts.cause.family());
            assert!(kind != Kind::AddWorkers || !scarce, "more workers for {}", facts.cause);
            self.number += 1;
            self.ledger.done(self.number, &proposal, self.now_s);
            self.done.push_back((self.now_s, kind));
            self.all += 1;
            if self.dice.below(5) == 0 {
                self.ledger.failed(self.number);
            }
            self.workers = 4 + self.ledger.extra();
            assert!(self.workers <= 6, "half as many more at most: {}", self.workers);
            self.budgets_are_kept(kind);
        }
        while self.done.front().is_some_and(|(at, _)| self.now_s - at > 3600.0) {
            self.done.pop_front();
        }
    }

    fn budgets_are_kept(&self, kind: Kind) {
        let within = |window_s: f64| self.done.iter().filter(move |(at, _)| self.now_s - at < window_s);
        let budget = kind.budget();
        let count = within(budget.window_s).filter(|(_, other)| *other == kind).count();
        assert!(count <= budget.count as usize, "{kind}: {count} in {} s", budget.window_s);
        let all = within(3600.0).filter(|(_, other)| !other.is_about_a_request()).count();
        assert!(all <= 12, "{all} in an hour");
        let numbers =
            within(3600.0).filter(|(_, other)| matches!(other, Kind::AddWorkers | Kind::RemoveWorkers));
        let kinds: Vec<Kind> = numbers.map(|(_, other)| *other).collect();
        let turns = kinds.windows(2).filter(|two| two[0] != two[1]).count();
        assert!(turns <= 12, "{turns} turns in an hour");
    }
}

#[test]
fn months_pass_and_every_guardrail_holds() {
    let mut all = 0;
    for seed in 1..9 {
        let mut months = Months::new(seed);
        while months.now_s < (DAYS * 86_400) as f64 {
            months.step();
        }
        all += months.all;
    }
    // It has been tried.
    assert!(all > 1000, "{all}");
}
