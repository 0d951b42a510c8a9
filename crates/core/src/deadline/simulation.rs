//! Thousands of random worker lives: calls that are quick, slow, stuck, that swallow interrupts, hide from them, ask
//! for more time, hold the interpreter or the event loop. After each step the rules that must always hold are checked against what the
//! model knows, not against the ladder's own books.

use super::*;

const SCHEDULES: u64 = 4000;
const STEPS: usize = 300;

struct Model {
    random: u64,
    now_ns: u64,
    last_id: u64,
    plan: Plan,
    ladder: Ladder,
    calls: Vec<Modelled>,
    /// Numbers of threads that exist.
    threads: Vec<usize>,
    compensated: usize,
    dismissed: usize,
    condemned: usize,
    named: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Modelled {
    call: Call,
    ends_ns: u64,
    /// Interrupts it survives.
    swallows: u32,
    answered_ns: Option<u64>,
    interrupted: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut model = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now_ns: 1000 * MS,
            last_id: 0,
            plan: Plan::for_threads(1),
            ladder: Ladder::new(Plan::for_threads(1)),
            calls: Vec::new(),
            threads: Vec::new(),
            compensated: 0,
            dismissed: 0,
            condemned: 0,
            named: Vec::new(),
        };
        let threads = model.below(6) as usize + 1;
        let tasks = model.below(4) == 0;
        model.plan = if tasks { Plan::for_tasks() } else { Plan::for_threads(threads) };
        model.ladder = Ladder::new(model.plan.clone());
        model.threads = (0..if tasks { 40 } else { threads }).collect();
        model
    }

    /// Xorshift.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn begin(&mut self) {
        let busy: Vec<usize> = self.calls.iter().map(|modelled| modelled.call.thread).collect();
        let Some(thread) = self.threads.iter().copied().find(|thread| !busy.contains(thread)) else { return };
        self.last_id += 1;
        let deadline_ns = if self.below(10) == 0 { 0 } else { self.now_ns + 1000 * MS };
        let lasts_ns = match self.below(4) {
            0 => u64::MAX / 2,
            1 => self.below(4000) * MS,
            _ => self.below(50) * MS,
        };
        let swallows = if self.below(3) == 0 { u32::MAX } else { self.below(4) as u32 };
        let call = Call {
            thread,
            id: self.last_id,
            start_ns: self.now_ns,
            deadline_ns,
            shielded: self.below(8) == 0,
        };
        let ends_ns = self.now_ns.saturating_add(lasts_ns);
        self.calls.push(Modelled { call, ends_ns, swallows, answered_ns: None, interrupted: 0 });
    }

    fn live(&mut self) {
        self.now_ns += self.below(120) * MS + 1;
        let now_ns = self.now_ns;
        self.calls.retain(|modelled| modelled.ends_ns > now_ns && modelled.interrupted <= modelled.swallows);
        for _ in 0..self.below(3) {
            self.begin();
        }
        let (extend, unshield) = (self.below(20) == 0, self.below(5) == 0);
        for modelled in &mut self.calls {
            if extend && modelled.call.deadline_ns > now_ns {
                modelled.call.deadline_ns += 500 * MS;
            }
            modelled.call.shielded &= !unshield;
        }
    }

    fn step(&mut self) {
        let held = match self.below(60) {
            0 | 1 => Held::Interpreter,
            2 if self.plan.tasks => Held::Loop,
            _ => Held::Nothing,
        };
        let mut calls: Vec<Call> = self.calls.iter().map(|modelled| modelled.call).collect();
        calls.sort_by_key(|call| call.thread);
        let due_before = self.ladder.next_ns();
        let actions = self.ladder.step(&calls, held, self.now_ns);
        assert!(
            actions.iter().all(|action| *action == Action::Dismiss)
                || due_before <= self.now_ns
                || !calls.is_empty(),
            "something was done before it was due: {actions:?}"
        );
        for action in &actions {
            self.check(*action);
        }
        for modelled in &self.calls {
            let over = modelled.call.deadline_ns > 0 && modelled.call.deadline_ns <= self.now_ns;
            assert_eq!(
                over,
                modelled.answered_ns.is_some(),
                "answered at the deadline, and only then: {modelled:?}"
            );
        }
        assert!(self.compensated - self.dismissed <= self.plan.spares, "more spares than there are");
        assert!(self.ladder.next_ns() > self.now_ns, "a ladder that asks to be looked at again at once");
    }

    fn current(&mut self, thread: usize, id: u64) -> &mut Modelled {
        let found = self.calls.iter_mut().find(|modelled| modelled.call.thread == thread);
        let found = found.expect("a thread that works");
        assert_eq!(found.call.id, id, "meant for another request");
        found
    }

    fn check(&mut self, action: Action) {
        let (now_ns, grace_ns) = (self.now_ns, self.plan.grace_ns);
        match action {
            Action::Warn { thread, id } => assert!(self.current(thread, id).answered_ns.is_none()),
            Action::Answer { thread, id } => {
                let before = self.current(thread, id).answered_ns.replace(now_ns);
                assert_eq!(before, None, "answered twice");
            }
            Action::Interrupt { thread, id, attempt } => {
                let modelled = self.current(thread, id);
                assert!(modelled.answered_ns.is_some(), "interrupted before it was answered");
                assert!(!modelled.call.shielded, "interrupted although it asked not to be");
                modelled.interrupted += 1;
                assert_eq!(modelled.interrupted, attempt);
            }
            Action::Compensate { thread, id } => {
                let since_ns = self.current(thread, id).answered_ns.expect("answered first");
                assert!(now_ns >= since_ns + grace_ns, "given up before its grace was over");
                assert_eq!(self.condemned, 0, "a condemned worker gets no more threads");
                assert!(!self.plan.tasks, "no thread helps a task");
                self.compensated += 1;
                self.threads.push(1000 + self.compensated);
            }
            Action::Dismiss => {
                self.dismissed += 1;
                self.threads.pop();
            }
            Action::Name { thread, id } => {
                let since_ns = self.current(thread, id).answered_ns.expect("answered first");
                assert!(self.plan.tasks && now_ns >= since_ns + grace_ns);
                assert!(!self.named.contains(&id), "named twice");
                self.named.push(id);
            }
            Action::Condemn(reason) => {
                let alone = self.plan.spares == 0 && !self.plan.tasks;
                assert_eq!(reason == Reason::OnlyThread, alone);
                self.condemned += 1;
                assert_eq!(self.condemned, 1, "condemned twice");
            }
        }
    }
}

#[test]
fn the_rules_hold_in_every_life() {
    let (mut answered, mut condemned, mut dismissed, mut named) = (0, 0, 0, 0);
    for seed in 0..SCHEDULES {
        let mut model = Model::new(seed);
        for _ in 0..STEPS {
            model.live();
            model.step();
        }
        answered += model.calls.iter().filter(|modelled| modelled.answered_ns.is_some()).count();
        condemned += model.condemned;
        named += model.named.len();
        // In the end all come free, and so do their stand-ins.
        model.calls.clear();
        model.now_ns += 1;
        model.step();
        assert_eq!(model.compensated, model.dismissed);
        dismissed += model.dismissed;
        assert!(!model.ladder.has_stuck());
    }
    assert!(
        answered > 1000 && condemned > 100 && dismissed > 100 && named > 100,
        "{answered} {condemned} {dismissed} {named}: too tame"
    );
}
