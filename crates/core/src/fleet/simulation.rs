//! Thousands of random lives of a server: workers that boot, fail, crash, hang, linger; an operator who sends every
//! signal; a host that sleeps. After each step the rules that must always hold are checked against what the model of
//! the processes knows, not against the fleet's own books.

use super::*;
use std::collections::VecDeque;

const MS: u64 = 1_000_000;
const SCHEDULES: u64 = 2000;
const STEPS: usize = 250;
const BOOT_NS: u64 = 6 * SECOND;

/// A process of the model.
#[derive(Debug)]
struct Process {
    generation: u32,
    spawned_ns: u64,
    /// When its boot ends, and how: ready, or this exit code.
    boot_ns: u64,
    boot_code: Option<i32>,
    ready: bool,
    beat_ns: u64,
    retiring: bool,
    /// Neither beats nor listens, except to SIGKILL.
    hung: bool,
    /// TERM, QUIT or ABRT was sent.
    told: bool,
    /// When it will end.
    ends: Option<(u64, ExitStatus)>,
    kill_sent: bool,
    /// It was asked for its stack.
    asked: bool,
    term_ns: Option<u64>,
}

struct Model {
    seed: u64,
    random: u64,
    now_ns: u64,
    fleet: Fleet,
    processes: BTreeMap<i32, Process>,
    /// Exit code that new code boots with.
    broken: Option<i32>,
    /// No more accidents.
    calm: bool,
    /// Since when nobody gets a processor, and for how long that was so all in all.
    starving_since_ns: Option<u64>,
    starved_ns: u64,
    ever_ready: bool,
    halts: usize,
    stopping: bool,
    /// The model's own idea of how many there should be.
    target: usize,
    failed_ns: Option<u64>,
    /// When workers were given up for silent, of late.
    given_up_ns: Vec<u64>,
    events: VecDeque<Event>,
    trace: Vec<String>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut model = Self {
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now_ns: SECOND,
            fleet: Fleet::new(plan(1)),
            processes: BTreeMap::new(),
            broken: None,
            calm: false,
            starving_since_ns: None,
            starved_ns: 0,
            ever_ready: false,
            halts: 0,
            stopping: false,
            target: 0,
            failed_ns: None,
            given_up_ns: Vec::new(),
            events: VecDeque::new(),
            trace: Vec::new(),
        };
        let workers = model.below(6) as usize + 1;
        model.fleet = Fleet::new(plan(workers));
        model.target = workers;
        model.send(Event::Started);
        model
    }

    /// Xorshift.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn accident(&mut self, of: u64) -> bool {
        self.chance(of) && !self.calm
    }

    #[track_caller]
    fn must(&self, holds: bool, rule: &str) {
        let last = self.trace.len().saturating_sub(40);
        assert!(
            holds,
            "seed {}: {rule}\n{}\n{:#?}",
            self.seed,
            self.trace[last..].join("\n"),
            self.processes
        );
    }

    /// Tells the fleet what has happened, does what it wants, and tells it what came of that.
    fn send(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            self.trace.push(format!("{:>8} ms  <- {event:?}", self.now_ns / MS));
            match event {
                Event::SpawnFailed { .. } => self.failed_ns = Some(self.now_ns),
                // A reload begins anew: earlier failures are forgiven.
                Event::Reloaded(Ok(_)) => self.failed_ns = None,
                _ => {}
            }
            for action in self.fleet.on(event, self.now_ns) {
                self.trace.push(format!("{:>8} ms     {action:?}", self.now_ns / MS));
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        self.must(self.halts == 0, "nothing happens after the halt");
        match action {
            Action::Spawn { age, generation } => self.spawn(age, generation),
            Action::Send { pid, order } => self.order(pid, order),
            Action::NworkersChanged { new, old } => {
                self.must(old == self.target, "the old number is the one told before");
                self.target = new;
            }
            Action::Reload => {
                let workers = self.below(6) as usize + 1;
                let result = if self.chance(5) { Err("no".to_owned()) } else { Ok(plan(workers)) };
                self.broken = if self.chance(3) { Some(3) } else { None };
                self.events.push_back(Event::Reloaded(result));
            }
            Action::CloseListeners => self.stopping = true,
            Action::Halt { exit_code } => {
                self.halts += 1;
                self.must(self.halts == 1, "never two halts");
                self.must(
                    exit_code == 0 || !self.ever_ready,
                    "a server that was ready never stops by itself",
                );
            }
            Action::Measure => {
                let ms = self.now_ns / MS;
                let throttled = Throttled { periods: ms, cut: ms, stopped_ns: self.starved_ns };
                let pressure = Pressure { throttled: Some(throttled), percent: None };
                self.events.push_back(Event::Measured(pressure));
            }
            Action::AskStack { pid } => {
                self.must(self.processes.contains_key(&pid), "only a living worker is asked for its stack");
                let Some(process) = self.processes.get_mut(&pid) else { return };
                let since_ns = self.now_ns - process.spawned_ns;
                let in_time = process.ready || since_ns <= BOOT_NS;
                // Whoever is asked is to go.
                let again = std::mem::replace(&mut process.asked, true);
                process.told = true;
                self.must(!in_time && !again, "who hangs in its boot is asked, once");
            }
            Action::TellStack { pid } => {
                let asked = self.processes.get(&pid).is_some_and(|process| process.asked);
                self.must(asked, "a stack that was asked for is told");
            }
            Action::Say(Notice::Timeout { pid } | Notice::NotBooted { pid, .. }) => {
                self.judge(pid);
                let (now_ns, window_ns) = (self.now_ns, plan(0).timeout_ns);
                self.given_up_ns.retain(|at| now_ns - at < window_ns);
                self.given_up_ns.push(now_ns);
                let most = (self.target / 4).max(1);
                self.must(self.given_up_ns.len() <= most, "few are killed at a time for being silent");
            }
            Action::Ready => {
                self.must(!self.ever_ready, "ready for the first time once");
                self.ever_ready = true;
            }
            _ => {}
        }
    }

    /// Somebody is given up for silent.
    fn judge(&self, pid: i32) {
        let Some(process) = self.processes.get(&pid) else { return };
        let (since_ns, limit_ns) = match process.ready {
            true => (process.beat_ns, plan(0).timeout_ns),
            false => (process.spawned_ns, BOOT_NS),
        };
        let silent_ns = self.now_ns - since_ns;
        self.must(silent_ns > limit_ns, "nobody is given up before its time");
        let starved = self.starving_since_ns.is_some_and(|starving_ns| starving_ns <= since_ns);
        self.must(!starved || silent_ns > 3 * limit_ns, "on a starved host everybody has more time");
    }

    fn spawn(&mut self, age: u32, generation: u32) {
        self.must(!self.stopping, "a server that stops spawns nobody");
        let rested = self.failed_ns.is_none_or(|at| self.now_ns >= at + 100 * MS);
        self.must(rested, "after a failure there is a pause");
        let staying = self.processes.values().filter(|process| !process.told).count();
        let limit = self.target + (self.target / 4).max(1);
        self.must(staying < limit, "no more workers than a replacement needs");
        if self.accident(40) {
            return self.events.push_back(Event::SpawnFailed { age });
        }
        let pid = 100 + age as i32;
        let boot_code =
            if self.accident(12) { Some([1, 3, 4, 7][self.below(4) as usize]) } else { self.broken };
        let boot_ns = self.now_ns + self.below(3000) * MS;
        let hung = self.accident(40);
        let process = Process {
            generation,
            spawned_ns: self.now_ns,
            boot_ns,
            boot_code,
            ready: false,
            beat_ns: 0,
            retiring: false,
            hung,
            told: false,
            ends: None,
            kill_sent: false,
            asked: false,
            term_ns: None,
        };
        self.processes.insert(pid, process);
        self.events.push_back(Event::Spawned { age, pid });
    }

    fn order(&mut self, pid: i32, order: Order) {
        self.must(self.processes.contains_key(&pid), "signals go to living workers only");
        let serving = self.serving();
        let (now_ns, lingers) = (self.now_ns, self.below(5000) * MS);
        let target = self.target;
        let stopping = self.stopping;
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let serves = process.ready && !process.told && process.ends.is_none();
        let end = match order {
            Order::ReopenLogs => return,
            Order::Terminate if process.ready => (now_ns + lingers, ExitStatus::Code(0)),
            Order::Terminate => (now_ns, ExitStatus::Signal(15)),
            Order::Quit => (now_ns + lingers / 10, ExitStatus::Code(0)),
            Order::Abort => (now_ns, ExitStatus::Signal(6)),
            Order::Kill => (now_ns, ExitStatus::Signal(9)),
        };
        let double_kill = order == Order::Kill && std::mem::replace(&mut process.kill_sent, true);
        process.told = true;
        process.term_ns.get_or_insert(now_ns);
        if !process.hung || order == Order::Kill {
            let sooner = process.ends.is_none_or(|(at, _)| end.0 < at);
            process.ends = if sooner { Some(end) } else { process.ends };
        }
        self.must(!double_kill, "nobody is killed twice");
        let enough = serving > target || !serves || stopping || order != Order::Terminate;
        self.must(enough, "a worker that serves goes only when enough others are ready");
    }

    /// Workers that serve, as the model knows it.
    fn serving(&self) -> usize {
        self.processes.values().filter(|process| process.ready && !process.told).count()
    }

    /// Lets time pass, as the arbiter would: no longer than the fleet has patience for.
    fn pass(&mut self) {
        let patience_ns = self.fleet.patience_ns(self.now_ns).max(MS);
        let nap = match self.below(60) {
            0 => self.below(20_000) * MS,
            1..20 => patience_ns,
            _ => self.below(patience_ns) + 1,
        };
        self.now_ns += nap;
        if self.starving_since_ns.is_some() {
            self.starved_ns += nap;
        }
        self.live();
        let (starves, eats) = (self.accident(200), self.chance(60) || self.calm);
        self.starving_since_ns = match self.starving_since_ns {
            None => starves.then_some(self.now_ns),
            since => since.filter(|_| !eats),
        };
        let alive = self.processes.iter().map(|(pid, process)| Vital {
            pid: *pid,
            state: match (process.ready, process.told) {
                (false, _) => State::Booting,
                (true, false) => State::Ready,
                (true, true) => State::Draining,
            },
            beat_ns: process.beat_ns,
            retiring: process.retiring,
        });
        let vitals = alive.collect();
        self.send(Event::Vitals { vitals, late_ns: nap.saturating_sub(patience_ns) });
        self.reap();
    }

    /// What the processes have done by now.
    fn live(&mut self) {
        let (now_ns, starving) = (self.now_ns, self.starving_since_ns.is_some());
        let pids: Vec<i32> = self.processes.keys().copied().collect();
        for pid in pids {
            let (hangs, crashes, retires) = (self.accident(400), self.accident(150), self.chance(60));
            let Some(process) = self.processes.get_mut(&pid) else { continue };
            if process.hung || process.ends.is_some_and(|(at, _)| at <= now_ns) {
                continue;
            }
            if !process.ready && now_ns >= process.boot_ns && process.ends.is_none() {
                match process.boot_code {
                    Some(code) => process.ends = Some((now_ns, ExitStatus::Code(code))),
                    None => process.ready = true,
                }
            }
            if process.ready && !starving {
                process.beat_ns = now_ns;
                process.retiring |= retires;
                process.hung = hangs;
            }
            if crashes {
                process.ends = Some((now_ns, ExitStatus::Signal(11)));
            }
        }
    }

    fn reap(&mut self) {
        let now_ns = self.now_ns;
        let dead = |process: &Process| process.ends.is_some_and(|(at, _)| at <= now_ns);
        let pids: Vec<i32> =
            self.processes.iter().filter(|(_, one)| dead(one)).map(|(pid, _)| *pid).collect();
        for pid in pids {
            let Some(process) = self.processes.remove(&pid) else { continue };
            let Some((_, status)) = process.ends else { continue };
            let early = !process.ready || now_ns - process.spawned_ns < EARLY_NS;
            if early && !process.told {
                self.failed_ns = Some(now_ns);
            }
            let generation = process.generation;
            self.must(generation <= self.fleet.generation(), "nobody is newer than the last reload");
            self.send(Event::Exited { pid, status });
        }
    }

    fn operate(&mut self) {
        let signal = match self.below(50) {
            0..6 => Signal::Hup,
            6..9 => Signal::Ttin,
            9..12 => Signal::Ttou,
            12 => Signal::Usr1,
            13 => Signal::Winch,
            14 => Signal::Usr2,
            _ => return,
        };
        self.send(Event::Signal(signal));
    }

    /// A whole life.
    fn run(mut self) {
        for _ in 0..STEPS {
            if self.halts > 0 {
                return;
            }
            self.pass();
            self.operate();
        }
        self.recover();
        let signal = [Signal::Term, Signal::Int, Signal::Quit][self.below(3) as usize];
        let asked_ns = self.now_ns;
        self.send(Event::Signal(signal));
        while self.halts == 0 {
            self.pass();
            let limit = plan(0).graceful_ns + MARGIN_NS + 2 * UNKILLABLE_NS + 20 * SECOND;
            self.must(self.now_ns - asked_ns < limit, "a stop has an end");
            if self.chance(20) {
                self.send(Event::Signal(Signal::Int));
            }
        }
        self.must(self.processes.is_empty(), "every worker is reaped");
    }

    /// With good code and no accidents, the wanted number serves after a while.
    fn recover(&mut self) {
        self.broken = None;
        self.calm = true;
        let until_ns = self.now_ns + 400 * SECOND;
        let mut whole = false;
        while self.now_ns < until_ns && self.halts == 0 && !whole {
            self.pass();
            whole = self.serving() == self.target;
        }
        self.must(whole || self.stopping, "the wanted number of workers comes back");
    }
}

fn plan(workers: usize) -> Plan {
    Plan {
        workers,
        timeout_ns: 4 * SECOND,
        graceful_ns: 3 * SECOND,
        boot_ns: BOOT_NS,
        soak_ns: [0, 2 * SECOND][workers % 2],
        daemon: true,
    }
}

#[test]
fn the_rules_hold_in_every_life() {
    let first: u64 = std::env::var("FLEET_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in first..first + SCHEDULES {
        Model::new(seed).run();
    }
}
