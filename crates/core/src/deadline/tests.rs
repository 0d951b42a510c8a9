//! The ladder rung by rung, and its whole table.

use super::rung::{Facts, Rung, Step};
use super::*;
use std::fmt::Write;

const SECOND: u64 = 1000 * MS;

fn call(thread: usize, id: u64) -> Call {
    Call { thread, id, start_ns: 0, deadline_ns: 10 * SECOND, shielded: false }
}

fn ladder(threads: usize) -> Ladder {
    Ladder::new(Plan::for_threads(threads))
}

/// Goes to just before the end of the grace.
fn answer(ladder: &mut Ladder, calls: &[Call], held: Held) {
    ladder.step(calls, held, 10 * SECOND);
    ladder.step(calls, held, 10 * SECOND + 950 * MS);
}

#[test]
fn a_call_in_time_is_left_alone() {
    let mut ladder = ladder(1);
    assert_eq!(ladder.step(&[call(0, 1)], Held::Nothing, SECOND), []);
    assert_eq!(ladder.next_ns(), 8 * SECOND);
    assert_eq!(ladder.step(&[], Held::Nothing, 9 * SECOND), []);
    assert_eq!(ladder.next_ns(), u64::MAX);
}

#[test]
fn without_a_deadline_nothing_happens() {
    let mut ladder = ladder(1);
    assert_eq!(ladder.step(&[Call { deadline_ns: 0, ..call(0, 1) }], Held::Interpreter, 1000 * SECOND), []);
    assert_eq!(ladder.next_ns(), u64::MAX);
}

#[test]
fn warning_answer_and_interrupts_come_at_their_times() {
    let mut ladder = ladder(4);
    assert_eq!(ladder.step(&[call(1, 7)], Held::Nothing, 8 * SECOND), [Action::Warn { thread: 1, id: 7 }]);
    assert_eq!(ladder.next_ns(), 10 * SECOND);
    assert_eq!(ladder.step(&[call(1, 7)], Held::Nothing, 10 * SECOND), [Action::Answer { thread: 1, id: 7 }]);
    assert_eq!(ladder.next_ns(), 10 * SECOND + 50 * MS);
    for (attempt, at_ms) in [(1, 50), (2, 150)] {
        let interrupt = [Action::Interrupt { thread: 1, id: 7, attempt }];
        assert_eq!(ladder.step(&[call(1, 7)], Held::Nothing, 10 * SECOND + at_ms * MS), interrupt);
        assert_eq!(ladder.next_ns(), 10 * SECOND + (at_ms + 100) * MS);
    }
    assert!(ladder.has_stuck());
    assert_eq!(ladder.step(&[], Held::Nothing, 10 * SECOND + 160 * MS), []);
    assert!(!ladder.has_stuck());
}

#[test]
fn the_next_request_of_a_thread_starts_at_the_bottom() {
    let mut ladder = ladder(4);
    ladder.step(&[call(1, 7)], Held::Nothing, 10 * SECOND);
    let next = Call { start_ns: 10 * SECOND, deadline_ns: 20 * SECOND, ..call(1, 8) };
    assert_eq!(ladder.step(&[next], Held::Nothing, 10 * SECOND + MS), []);
}

#[test]
fn more_time_takes_the_warning_back() {
    let mut ladder = ladder(4);
    ladder.step(&[call(1, 7)], Held::Nothing, 8 * SECOND);
    let extended = Call { deadline_ns: 20 * SECOND, ..call(1, 7) };
    assert_eq!(ladder.step(&[extended], Held::Nothing, 10 * SECOND), []);
    assert_eq!(ladder.next_ns(), 16 * SECOND);
    assert_eq!(ladder.step(&[extended], Held::Nothing, 16 * SECOND), [Action::Warn { thread: 1, id: 7 }]);
}

#[test]
fn a_shield_defers_the_interrupt_and_nothing_else() {
    let mut ladder = ladder(4);
    let shielded = Call { shielded: true, ..call(1, 7) };
    assert_eq!(ladder.step(&[shielded], Held::Nothing, 10 * SECOND), [Action::Answer { thread: 1, id: 7 }]);
    assert_eq!(ladder.step(&[shielded], Held::Nothing, 10 * SECOND + 200 * MS), []);
    let released = ladder.step(&[call(1, 7)], Held::Nothing, 10 * SECOND + 300 * MS);
    assert_eq!(released, [Action::Interrupt { thread: 1, id: 7, attempt: 1 }]);
}

#[test]
fn a_spare_stands_in_until_the_thread_comes_free() {
    let mut ladder = ladder(4);
    answer(&mut ladder, &[call(1, 7)], Held::Nothing);
    assert_eq!(
        ladder.step(&[call(1, 7)], Held::Nothing, 11 * SECOND),
        [Action::Compensate { thread: 1, id: 7 }]
    );
    assert_eq!(ladder.step(&[], Held::Nothing, 12 * SECOND), [Action::Dismiss]);
}

#[test]
fn an_only_thread_condemns_its_worker_once() {
    let mut ladder = ladder(1);
    answer(&mut ladder, &[call(0, 7)], Held::Nothing);
    assert_eq!(ladder.step(&[call(0, 7)], Held::Nothing, 11 * SECOND), [Action::Condemn(Reason::OnlyThread)]);
    assert!(ladder.is_condemned());
    let later = ladder.step(&[call(0, 7)], Held::Nothing, 30 * SECOND);
    assert!(!later.contains(&Action::Condemn(Reason::OnlyThread)));
}

#[test]
fn spent_spares_condemn() {
    let mut ladder = ladder(2);
    let calls: Vec<Call> = (0..3).map(|thread| call(thread, thread as u64 + 1)).collect();
    answer(&mut ladder, &calls, Held::Nothing);
    let lost = ladder.step(&calls, Held::Nothing, 11 * SECOND);
    assert_eq!(lost.last(), Some(&Action::Condemn(Reason::SparesSpent)));
    assert_eq!(lost.len(), 3, "two spares, then the end: {lost:?}");
}

#[test]
fn a_held_interpreter_condemns_although_there_are_spares() {
    let mut ladder = ladder(4);
    answer(&mut ladder, &[call(1, 7)], Held::Interpreter);
    assert_eq!(
        ladder.step(&[call(1, 7)], Held::Interpreter, 11 * SECOND),
        [Action::Condemn(Reason::InterpreterHeld)]
    );
}

#[test]
fn an_interpreter_that_is_held_later_condemns_later() {
    let mut ladder = ladder(4);
    ladder.step(&[call(1, 7)], Held::Nothing, 10 * SECOND);
    ladder.step(&[call(1, 7)], Held::Nothing, 11 * SECOND);
    let held = ladder.step(&[call(1, 7)], Held::Interpreter, 12 * SECOND);
    assert!(held.contains(&Action::Condemn(Reason::InterpreterHeld)), "{held:?}");
}

#[test]
fn the_whole_table() {
    let answered = Rung::Answered { since_ns: 1, tried_ns: 1, attempts: 1 };
    let lost = Rung::Lost { tried_ns: 1, attempts: 1 };
    let mut table = String::new();
    for rung in [Rung::Running, Rung::Warned, answered, lost] {
        for bits in 0..32 {
            let facts = Facts {
                warn_due: bits & 1 > 0,
                deadline_over: bits & 2 > 0,
                retry_due: bits & 4 > 0,
                grace_over: bits & 8 > 0,
                shielded: bits & 16 > 0,
            };
            if is_possible(rung, facts) {
                let (next, step) = rung.next(facts, 2);
                writeln!(table, "{} | {} -> {}{}", name(rung), told(facts), name(next), done(step))
                    .expect("memory");
            }
        }
    }
    assert_eq!(table, include_str!("table.txt"), "the table has changed; if it was meant to:\n{table}");
}

/// Combinations that [`Facts::of`] can make.
fn is_possible(rung: Rung, facts: Facts) -> bool {
    let order = facts.warn_due || !facts.deadline_over;
    match rung {
        Rung::Running | Rung::Warned => order && !facts.retry_due && !facts.grace_over,
        Rung::Answered { .. } => facts.warn_due && facts.deadline_over,
        Rung::Lost { .. } => facts.warn_due && facts.deadline_over && facts.grace_over,
    }
}

fn name(rung: Rung) -> &'static str {
    match rung {
        Rung::Running => "running",
        Rung::Warned => "warned",
        Rung::Answered { .. } => "answered",
        Rung::Lost { .. } => "lost",
    }
}

fn told(facts: Facts) -> String {
    let words = [
        (facts.warn_due, "slow"),
        (facts.deadline_over, "over"),
        (facts.retry_due, "retry"),
        (facts.grace_over, "grace over"),
        (facts.shielded, "shielded"),
    ];
    let said: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    said.join(", ")
}

fn done(step: Step) -> String {
    let mut text = String::new();
    for (is, word) in [(step.warn, "warn"), (step.answer, "answer"), (step.interrupt.is_some(), "interrupt")]
    {
        if is {
            text.push_str(", ");
            text.push_str(word);
        }
    }
    text
}

#[test]
fn a_task_that_does_not_end_is_named_once_and_costs_nobody_else() {
    let mut ladder = Ladder::new(Plan::for_tasks());
    let calls = [call(3, 7), call(5, 9)];
    answer(&mut ladder, &calls, Held::Nothing);
    let named = [Action::Name { thread: 3, id: 7 }, Action::Name { thread: 5, id: 9 }];
    assert_eq!(ladder.step(&calls, Held::Nothing, 11 * SECOND), named);
    let later = ladder.step(&calls, Held::Nothing, 30 * SECOND);
    assert!(later.iter().all(|action| matches!(action, Action::Interrupt { .. })), "{later:?}");
    assert_eq!(ladder.step(&[], Held::Nothing, 31 * SECOND), []);
}

#[test]
fn a_held_loop_condemns_once_a_request_is_lost() {
    let mut ladder = Ladder::new(Plan::for_tasks());
    answer(&mut ladder, &[call(3, 7)], Held::Loop);
    assert_eq!(ladder.step(&[call(3, 7)], Held::Loop, 11 * SECOND), [Action::Condemn(Reason::LoopHeld)]);
}
