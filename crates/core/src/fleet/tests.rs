//! Scripts: what happens, and every action that follows. Time is in milliseconds; pids are 100 + age.

use super::*;

/// A fleet, its clock, and what its scoreboard would say.
struct Script {
    fleet: Fleet,
    now_ms: u64,
    vitals: BTreeMap<i32, Vital>,
    next_plan: Result<Plan, String>,
    pressure: Pressure,
    late_ns: u64,
}

const MS: u64 = 1_000_000;

impl Script {
    fn new(workers: usize) -> Self {
        let plan = plan(workers);
        Self {
            fleet: Fleet::new(plan.clone()),
            now_ms: 1000,
            vitals: BTreeMap::new(),
            next_plan: Ok(plan),
            pressure: Pressure::default(),
            late_ns: 0,
        }
    }

    /// Carries one line of a script out and returns the actions as words.
    fn line(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let pid = || words[1].parse::<i32>().expect("a pid");
        match words[0] {
            "start" => self.event(Event::Started),
            "wait" => {
                let until_ms = self.now_ms + words[1].parse::<u64>().expect("milliseconds");
                let mut said = Vec::new();
                while self.now_ms < until_ms {
                    self.now_ms += (until_ms - self.now_ms).min(50);
                    let now_ns = self.now_ms * MS;
                    let beating = self.vitals.values_mut().filter(|vital| vital.state != State::Booting);
                    beating.for_each(|vital| vital.beat_ns = now_ns);
                    said.extend(self.look());
                }
                said
            }
            "sleep" => {
                // The whole host stands still.
                self.now_ms += words[1].parse::<u64>().expect("milliseconds");
                self.look()
            }
            "ready" => self.vital(pid(), |vital| vital.state = State::Ready),
            "draining" => self.vital(pid(), |vital| vital.state = State::Draining),
            "retiring" => self.vital(pid(), |vital| vital.retiring = true),
            "exit" => {
                self.vitals.remove(&pid());
                let status = match words[2].strip_prefix("SIG") {
                    Some(number) => ExitStatus::Signal(number.parse().expect("a number")),
                    None => ExitStatus::Code(words[2].parse().expect("a code")),
                };
                self.event(Event::Exited { pid: pid(), status })
            }
            "soak" => {
                let soak_ns = words[1].parse::<u64>().expect("milliseconds") * MS;
                self.next_plan = self.next_plan.clone().map(|plan| Plan { soak_ns, ..plan });
                Vec::new()
            }
            "halt" => self.event(Event::Halted { generation: words[1].parse().expect("a number") }),
            "next" => {
                self.next_plan = match words[1].parse() {
                    Ok(workers) => Ok(plan(workers)),
                    Err(_) => Err(words[1..].join(" ")),
                };
                Vec::new()
            }
            signal => self.event(Event::Signal(match signal {
                "TERM" => Signal::Term,
                "INT" => Signal::Int,
                "HUP" => Signal::Hup,
                "TTIN" => Signal::Ttin,
                "TTOU" => Signal::Ttou,
                "USR1" => Signal::Usr1,
                "USR2" => Signal::Usr2,
                "WINCH" => Signal::Winch,
                other => panic!("no such line: {other}"),
            })),
        }
    }

    fn vital(&mut self, pid: i32, change: impl FnOnce(&mut Vital)) -> Vec<String> {
        change(self.vitals.get_mut(&pid).expect("a living worker"));
        self.vitals
            .values_mut()
            .filter(|vital| vital.pid == pid)
            .for_each(|vital| vital.beat_ns = self.now_ms * MS);
        self.look()
    }

    fn look(&mut self) -> Vec<String> {
        self.event(Event::Vitals { vitals: self.vitals.values().copied().collect(), late_ns: self.late_ns })
    }

    fn event(&mut self, event: Event) -> Vec<String> {
        let mut said = Vec::new();
        for action in self.fleet.on(event, self.now_ms * MS) {
            said.extend(words(&action));
            match action {
                Action::Spawn { age, .. } => {
                    let pid = 100 + age as i32;
                    self.vitals
                        .insert(pid, Vital { pid, state: State::Booting, beat_ns: 0, retiring: false });
                    said.extend(self.event(Event::Spawned { age, pid }));
                }
                Action::Measure => said.extend(self.event(Event::Measured(self.pressure))),
                Action::Reload => {
                    let plan = self.next_plan.clone();
                    said.extend(self.event(Event::Reloaded(plan)));
                }
                _ => {}
            }
        }
        said
    }
}

fn plan(workers: usize) -> Plan {
    Plan {
        workers,
        timeout_ns: 4 * SECOND,
        graceful_ns: 3 * SECOND,
        boot_ns: 60 * SECOND,
        soak_ns: 0,
        daemon: false,
    }
}

/// An action as words. `Count` and `Measure` are left out: they come with every other line.
fn words(action: &Action) -> Option<String> {
    Some(match action {
        Action::Spawn { age, generation } => format!("spawn {} g{generation}", 100 + age),
        Action::Send { pid, order } => format!("{order:?} {pid}"),
        Action::Say(notice) => format!("{:?}: {notice}", notice.level()),
        Action::Died { pid, by, .. } => format!("died {pid} by {by:?}"),
        Action::Count(_) | Action::Measure => return None,
        other => format!("{other:?}"),
    })
}

/// Runs a script: lines that begin with `>` are what happens, the others are the actions that follow.
fn check(name: &str, workers: usize, script: &str) {
    let mut run = Script::new(workers);
    let mut got = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| line.starts_with('>')) {
        got.push(line.to_owned());
        got.extend(run.line(&line[1..]));
    }
    let expected: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(got, expected, "{name}: got\n{}\n", got.join("\n"));
}

#[test]
fn a_server_starts_and_stops() {
    check(
        "gracefully",
        2,
        "> start
         spawn 101 g0
         spawn 102 g0
         > ready 101
         Ready
         > ready 102
         > TERM
         Info: Handling signal: term
         CloseListeners
         Terminate 101
         Terminate 102
         > exit 101 0
         ChildExit { pid: 101, age: 1 }
         > exit 102 0
         ChildExit { pid: 102, age: 2 }
         Info: Shutting down: Master
         Halt { exit_code: 0 }
         > TERM
         > wait 100",
    );
    check(
        "a worker that does not go is killed, and the log says by whom",
        1,
        "> start
         spawn 101 g0
         > ready 101
         Ready
         > TERM
         Info: Handling signal: term
         CloseListeners
         Terminate 101
         > wait 3400
         > wait 100
         Kill 101
         > exit 101 SIG9
         Warning: Worker (pid:101) was killed by SIGKILL after its graceful timeout
         died 101 by GracefulTimeout
         ChildExit { pid: 101, age: 1 }
         Info: Shutting down: Master
         Halt { exit_code: 0 }",
    );
    check(
        "a second signal hurries, a third does nothing, and what cannot be killed does not hold the server",
        1,
        "> start
         spawn 101 g0
         > ready 101
         Ready
         > TERM
         Info: Handling signal: term
         CloseListeners
         Terminate 101
         > INT
         Info: Quick shutdown requested
         Quit 101
         > INT
         > wait 1950
         > wait 50
         Kill 101
         > wait 4950
         > wait 50
         Error: Worker (pid:101) does not end even by SIGKILL
         Info: Shutting down: Master
         Halt { exit_code: 0 }",
    );
    check(
        "quickly",
        1,
        "> start
         spawn 101 g0
         > INT
         Info: Handling signal: int
         CloseListeners
         Quit 101
         > exit 101 SIG3
         Warning: Worker (pid:101) was sent SIGQUIT!
         ChildExit { pid: 101, age: 1 }
         Info: Shutting down: Master
         Halt { exit_code: 0 }",
    );
}

#[test]
fn an_application_that_never_loaded_ends_the_server() {
    for (code, reason) in [(3, "Worker failed to boot."), (4, "App failed to load.")] {
        let script = format!(
            "> start
             spawn 101 g0
             spawn 102 g0
             > exit 102 {code}
             Error: Worker (pid:102) exited with code {code}.
             died 102 by Other
             CloseListeners
             Terminate 101
             > exit 101 {code}
             Error: Worker (pid:101) exited with code {code}.
             ChildExit {{ pid: 101, age: 1 }}
             Error: Shutting down: Master
             Error: Reason: {reason}
             Halt {{ exit_code: {code} }}"
        );
        check(reason, 2, &script);
    }
}

#[test]
fn a_server_that_was_ready_survives_broken_code_and_slows_down() {
    check(
        "0.1 s, doubling, and a long life resets it",
        1,
        "> start
         spawn 101 g0
         > ready 101
         Ready
         > wait 10000
         > exit 101 SIG9
         Error: Worker (pid:101) was sent SIGKILL! Perhaps out of memory?
         died 101 by Other
         ChildExit { pid: 101, age: 1 }
         spawn 102 g0
         > exit 102 3
         Error: Worker (pid:102) exited with code 3.
         died 102 by Other
         ChildExit { pid: 102, age: 2 }
         Warning: Worker (pid:102) failed early; the next one starts in 0.1 s
         > wait 50
         > wait 50
         spawn 103 g0
         > exit 103 3
         Error: Worker (pid:103) exited with code 3.
         died 103 by Other
         ChildExit { pid: 103, age: 3 }
         Warning: Worker (pid:103) failed early; the next one starts in 0.2 s
         > wait 150
         > wait 50
         spawn 104 g0
         > ready 104
         > wait 9000
         > exit 104 SIG11
         Warning: Worker (pid:104) was sent SIGSEGV!
         died 104 by Other
         ChildExit { pid: 104, age: 4 }
         Warning: Worker (pid:104) failed early; the next one starts in 0.4 s
         > wait 400
         spawn 105 g0
         > ready 105
         > wait 10000
         > exit 105 255
         Error: Worker (pid:105) exited with code 255.
         died 105 by Other
         ChildExit { pid: 105, age: 5 }
         spawn 106 g0
         > exit 106 7
         Error: Worker (pid:106) exited with code 7.
         died 106 by Other
         ChildExit { pid: 106, age: 6 }
         Warning: Worker (pid:106) failed early; the next one starts in 0.1 s",
    );
    check(
        "workers that fail together fail once; after three failures they start one at a time",
        2,
        "> start
         spawn 101 g0
         spawn 102 g0
         > exit 101 7
         Error: Worker (pid:101) exited with code 7.
         died 101 by Other
         ChildExit { pid: 101, age: 1 }
         Warning: Worker (pid:101) failed early; the next one starts in 0.1 s
         > exit 102 7
         Error: Worker (pid:102) exited with code 7.
         died 102 by Other
         ChildExit { pid: 102, age: 2 }
         Warning: Worker (pid:102) failed early; the next one starts in 0.1 s
         > wait 100
         spawn 103 g0
         spawn 104 g0
         > exit 103 7
         Error: Worker (pid:103) exited with code 7.
         died 103 by Other
         ChildExit { pid: 103, age: 3 }
         Warning: Worker (pid:103) failed early; the next one starts in 0.2 s
         > exit 104 7
         Error: Worker (pid:104) exited with code 7.
         died 104 by Other
         ChildExit { pid: 104, age: 4 }
         Warning: Worker (pid:104) failed early; the next one starts in 0.2 s
         > wait 200
         spawn 105 g0
         spawn 106 g0
         > exit 105 7
         Error: Worker (pid:105) exited with code 7.
         died 105 by Other
         ChildExit { pid: 105, age: 5 }
         Warning: Worker (pid:105) failed early; the next one starts in 0.4 s
         > exit 106 7
         Error: Worker (pid:106) exited with code 7.
         died 106 by Other
         ChildExit { pid: 106, age: 6 }
         Warning: Worker (pid:106) failed early; the next one starts in 0.4 s
         > wait 400
         spawn 107 g0
         > wait 500
         > ready 107
         Ready
         spawn 108 g0",
    );
}

#[test]
fn the_pause_never_exceeds_thirty_seconds() {
    let mut backoff = Backoff::default();
    let mut now_ns = SECOND;
    let pauses: Vec<u64> = (0..40)
        .map(|_| {
            let pause = backoff.fail(now_ns, now_ns);
            assert!(backoff.holds(now_ns + pause - 1) && !backoff.holds(now_ns + pause));
            now_ns += pause;
            pause / MS
        })
        .collect();
    assert_eq!(pauses[..10], [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
    assert!(pauses[10..].iter().all(|pause| *pause == 30_000));
}

#[test]
fn new_workers_are_tried_beside_all_old_ones() {
    check(
        "nobody objects",
        2,
        "> start
         spawn 101 g0
         spawn 102 g0
         > ready 101
         Ready
         > ready 102
         > soak 5000
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 2, old: 2 }
         OnReload
         spawn 103 g1
         > ready 103
         Info: Reload: new worker (pid:103) serves beside all old ones for 5 s; then these are replaced
         > wait 4900
         > halt 7
         > wait 200
         Terminate 101
         spawn 104 g1
         > halt 1
         > exit 101 0
         ChildExit { pid: 101, age: 1 }
         > ready 104
         Terminate 102
         Info: Reload finished: all workers are new
         ReloadEnded",
    );
    check(
        "they are worse",
        2,
        "> start
         spawn 101 g0
         spawn 102 g0
         > ready 101
         Ready
         > ready 102
         > halt 0
         > soak 5000
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 2, old: 2 }
         OnReload
         spawn 103 g1
         > ready 103
         Info: Reload: new worker (pid:103) serves beside all old ones for 5 s; then these are replaced
         > wait 2000
         > halt 1
         Terminate 103
         Error: Reload halted: the new workers are worse than the old; 2 workers go on serving with the old code. \
         A worker that is replaced from now on gets the new code: correct the application and send HUP again.
         ReloadEnded
         > exit 103 0
         ChildExit { pid: 103, age: 3 }
         > wait 9000
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 2, old: 2 }
         OnReload
         spawn 104 g2
         > ready 104
         Info: Reload: new worker (pid:104) serves beside all old ones for 5 s; then these are replaced",
    );
}

#[test]
fn a_reload_replaces_one_after_the_other() {
    check(
        "good code",
        2,
        "> start
         spawn 101 g0
         spawn 102 g0
         > ready 101
         Ready
         > ready 102
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 2, old: 2 }
         OnReload
         spawn 103 g1
         > ready 103
         Terminate 101
         spawn 104 g1
         > exit 101 0
         ChildExit { pid: 101, age: 1 }
         > ready 104
         Terminate 102
         Info: Reload finished: all workers are new
         ReloadEnded
         > exit 102 0
         ChildExit { pid: 102, age: 2 }",
    );
    check(
        "a configuration that does not load changes nothing",
        1,
        "> start
         spawn 101 g0
         > ready 101
         Ready
         > next invalid value for workers: x
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         Error: Reload failed, nothing has changed: invalid value for workers: x
         ReloadEnded
         > wait 1000",
    );
    check(
        "broken code keeps the old workers",
        2,
        "> start
         spawn 101 g0
         spawn 102 g0
         > ready 101
         Ready
         > ready 102
         > next 3
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 3, old: 2 }
         OnReload
         spawn 103 g1
         spawn 104 g1
         > exit 103 4
         Error: Worker (pid:103) exited with code 4.
         died 103 by Other
         ChildExit { pid: 103, age: 3 }
         Error: Reload abandoned: new worker (pid:103) failed; 2 workers go on serving. Correct the application and \
         send HUP again.
         Terminate 104
         ReloadEnded
         > exit 104 SIG15
         Info: Worker (pid:104) was sent SIGTERM!
         ChildExit { pid: 104, age: 4 }
         > wait 50
         > next 2
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 2, old: 3 }
         OnReload
         spawn 105 g2
         > ready 105
         Terminate 101
         spawn 106 g2
         > ready 106
         Terminate 102
         Info: Reload finished: all workers are new
         ReloadEnded",
    );
    check(
        "fewer workers, and a second reload while the first is under way",
        3,
        "> start
         spawn 101 g0
         spawn 102 g0
         spawn 103 g0
         > ready 101
         Ready
         > ready 102
         > ready 103
         > next 1
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 1, old: 3 }
         OnReload
         Terminate 101
         Terminate 102
         spawn 104 g1
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 1, old: 1 }
         OnReload
         Terminate 104
         spawn 105 g2
         > ready 105
         Terminate 103
         Info: Reload finished: all workers are new
         ReloadEnded",
    );
}

#[test]
fn workers_that_retire_are_replaced_first() {
    check(
        "max_requests of all at once",
        2,
        "> start
         spawn 101 g0
         spawn 102 g0
         > ready 101
         Ready
         > ready 102
         > retiring 101
         spawn 103 g0
         > retiring 102
         > ready 103
         Terminate 101
         spawn 104 g0
         > exit 101 0
         ChildExit { pid: 101, age: 1 }
         > ready 104
         Terminate 102",
    );
    check(
        "somebody else has sent it TERM",
        1,
        "> start
         spawn 101 g0
         > ready 101
         Ready
         > wait 10000
         > draining 101
         spawn 102 g0
         > exit 101 0
         ChildExit { pid: 101, age: 1 }",
    );
}

#[test]
fn the_number_of_workers_follows_signals() {
    check(
        "up, down, never below one; log files",
        1,
        "> start
         spawn 101 g0
         > ready 101
         Ready
         > TTOU
         Info: Handling signal: ttou
         > TTIN
         Info: Handling signal: ttin
         NworkersChanged { new: 2, old: 1 }
         spawn 102 g0
         > ready 102
         > USR1
         Info: Handling signal: usr1
         ReopenLogs
         ReopenLogs 101
         ReopenLogs 102
         > TTOU
         Info: Handling signal: ttou
         NworkersChanged { new: 1, old: 2 }
         Terminate 101
         > TTIN
         Info: Handling signal: ttin
         NworkersChanged { new: 2, old: 1 }
         spawn 103 g0
         > TTOU
         Info: Handling signal: ttou
         NworkersChanged { new: 1, old: 2 }
         Terminate 103
         > WINCH
         Info: Handling signal: winch
         Debug: SIGWINCH ignored. Not daemonized
         > USR2
         Info: Handling signal: usr2
         Warning: USR2 signal ignored. Binary upgrade is not available.",
    );
    let mut daemon = Script::new(1);
    daemon.fleet.plan.daemon = true;
    daemon.line("start");
    daemon.line("ready 101");
    let expected = [
        "Info: Handling signal: winch",
        "Info: graceful stop of workers",
        "NworkersChanged { new: 0, old: 1 }",
        "Terminate 101",
    ];
    assert_eq!(daemon.line("WINCH"), expected);
    daemon.line("exit 101 0");
    assert_eq!(daemon.line("wait 5000"), [""; 0]);
}

#[test]
fn a_heart_that_stands_still_is_noticed() {
    let mut script = Script::new(1);
    script.line("start");
    script.line("ready 101");
    // No news of it: its beat stays where it was.
    script.vitals.clear();
    assert_eq!(script.line("wait 4000"), [""; 0]);
    let spawned = "spawn 102 g0".to_owned();
    let early = "Warning: Worker (pid:101) failed early; the next one starts in 0.1 s".to_owned();
    let timeout = ["Critical: WORKER TIMEOUT (pid:101)".to_owned(), "Abort 101".to_owned(), early];
    assert_eq!(script.line("wait 50"), timeout);
    assert_eq!(script.line("wait 950"), [spawned]);
    assert_eq!(script.line("wait 50"), ["Kill 101"]);
    let killed = "Error: Worker (pid:101) was killed by SIGKILL after its timeout";
    script.vitals.insert(101, Vital { pid: 101, state: State::Ready, beat_ns: 0, retiring: false });
    assert_eq!(
        script.line("exit 101 SIG9"),
        [killed, "died 101 by Timeout", "ChildExit { pid: 101, age: 1 }"]
    );
}

#[test]
fn nobody_is_judged_by_old_news() {
    let mut script = Script::new(1);
    script.line("start");
    script.line("ready 101");
    let worker = script.vitals.clone();
    script.vitals.clear();
    assert_eq!(script.line("wait 3950"), [""; 0]);
    // It was stopped and goes on: the signal that tells so comes first, then what the scoreboard says.
    script.now_ms += 100;
    assert_eq!(script.event(Event::Signal(Signal::Chld)), ["Debug: Handling signal: chld"]);
    script.vitals = worker;
    assert_eq!(script.line("wait 10000"), [""; 0]);
}

#[test]
fn of_many_that_fall_silent_together_few_are_killed_at_a_time() {
    let mut script = Script::new(8);
    script.line("start");
    for pid in 101..=108 {
        script.line(&format!("ready {pid}"));
    }
    // 108 was heard of last; three come back before their turn.
    script.line("wait 20000");
    script.vitals.retain(|pid, _| *pid == 108);
    script.line("wait 1000");
    script.vitals.clear();
    assert_eq!(script.line("wait 3000"), [""; 0]);
    let first = [
        "Critical: WORKER TIMEOUT (pid:101)",
        "Abort 101",
        "Critical: WORKER TIMEOUT (pid:102)",
        "Abort 102",
        "Warning: 5 more workers give no sign of life; no more than 2 in 4 s are killed, the others wait",
        "spawn 109 g0",
        "spawn 110 g0",
    ];
    assert_eq!(script.line("wait 50"), first);
    script.line("exit 101 1");
    script.line("exit 102 1");
    script.line("ready 109");
    script.line("ready 110");
    let back = |pid| Vital { pid, state: State::Ready, beat_ns: 0, retiring: false };
    script.vitals.extend([103, 104, 105].map(|pid| (pid, back(pid))));
    assert_eq!(script.line("wait 3950"), [""; 0]);
    let second = [
        "Critical: WORKER TIMEOUT (pid:106)",
        "Abort 106",
        "Critical: WORKER TIMEOUT (pid:107)",
        "Abort 107",
        "spawn 111 g0",
        "spawn 112 g0",
    ];
    assert_eq!(script.line("wait 50")[..4], second[..4]);
}

#[test]
fn a_budget_has_a_window() {
    let table = [(0, 0, 30), (5, 300, 5), (5, 0, 5), (600, 300, 30), (30, 20, 20), (0, 20, 20)];
    for (timeout, boot, window) in table {
        let plan = Plan { timeout_ns: timeout * SECOND, boot_ns: boot * SECOND, ..plan(1) };
        assert_eq!(Budget::window_ns(&plan), window * SECOND);
    }
    assert_eq!([0, 1, 7, 8, 200].map(Budget::most), [1, 1, 1, 2, 50]);
    let mut budget = Budget::default();
    let spent = [0, 1, 2, 9, 10, 11, 12].map(|now_ns| budget.spend(2, 10, now_ns));
    assert_eq!(spent, [true, true, false, false, true, true, false]);
    assert_eq!([true, true, false, true].map(|anybody| budget.waits(anybody)), [true, false, false, true]);
}

#[test]
fn loading_the_application_has_a_limit_of_its_own() {
    let mut script = Script::new(1);
    script.line("start");
    assert_eq!(script.line("wait 60000"), [""; 0]);
    let early = "Warning: Worker (pid:101) failed early; the next one starts in 0.1 s";
    let hangs = ["Critical: Worker (pid:101) has not booted within 60 s", "AskStack { pid: 101 }", early];
    assert_eq!(script.line("wait 50"), hangs);
    assert_eq!(script.fleet.patience_ns(script.now_ms * MS), SECOND / 10);
    assert_eq!(script.line("wait 50"), [""; 0]);
    let aborted = ["TellStack { pid: 101 }", "Abort 101", "spawn 102 g0"];
    assert_eq!(script.line("wait 50"), aborted);
    assert_eq!(script.line("wait 950"), [""; 0]);
    assert_eq!(script.line("wait 50"), ["Kill 101"]);
    let killed = "Error: Worker (pid:101) was killed by SIGKILL after its boot timeout";
    assert_eq!(
        script.line("exit 101 SIG9"),
        [killed, "died 101 by BootTimeout", "ChildExit { pid: 101, age: 1 }"]
    );
    let mut patient = Script::new(1);
    patient.fleet.plan.boot_ns = 0;
    patient.line("start");
    assert_eq!(patient.line("wait 600000"), [""; 0]);
}

#[test]
fn a_boot_that_hangs_ends_a_reload() {
    check(
        "the old one goes on serving",
        1,
        "> start
         spawn 101 g0
         > ready 101
         Ready
         > HUP
         Info: Handling signal: hup
         Info: Hang up: Master
         Reload
         NworkersChanged { new: 1, old: 1 }
         OnReload
         spawn 102 g1
         > wait 60000
         > wait 50
         Critical: Worker (pid:102) has not booted within 60 s
         AskStack { pid: 102 }
         Error: Reload abandoned: new worker (pid:102) failed; 1 workers go on serving. Correct the application and \
         send HUP again.
         ReloadEnded
         > wait 100
         TellStack { pid: 102 }
         Abort 102
         > exit 102 1
         Error: Worker (pid:102) exited with code 1.
         died 102 by BootTimeout
         ChildExit { pid: 102, age: 2 }
         > wait 60000",
    );
    check(
        "a stop meanwhile does not wait for it",
        1,
        "> start
         spawn 101 g0
         > wait 60050
         Critical: Worker (pid:101) has not booted within 60 s
         AskStack { pid: 101 }
         Warning: Worker (pid:101) failed early; the next one starts in 0.1 s
         > TERM
         Info: Handling signal: term
         CloseListeners
         > wait 100
         TellStack { pid: 101 }
         Abort 101
         > exit 101 SIG6
         Warning: Worker (pid:101) was sent SIGABRT!
         died 101 by BootTimeout
         ChildExit { pid: 101, age: 1 }
         Info: Shutting down: Master
         Halt { exit_code: 0 }",
    );
}

#[test]
fn a_host_that_slept_is_no_workers_fault() {
    let mut script = Script::new(1);
    script.line("start");
    script.line("ready 101");
    // Nobody beats while the host sleeps, and the worker gets a whole period more.
    assert_eq!(script.line("sleep 3600000"), [""; 0]);
    script.vitals.clear();
    assert_eq!(script.line("wait 4000"), [""; 0]);
    assert_eq!(script.line("wait 50")[0], "Critical: WORKER TIMEOUT (pid:101)");
}

#[test]
fn on_a_host_without_processors_silence_has_three_times_its_limit() {
    let mut script = Script::new(2);
    script.line("start");
    script.line("ready 101");
    script.line("ready 102");
    script.vitals.clear();
    // Throttled from the first second of the silence on.
    let throttled = |script: &mut Script, seconds: u64| {
        let mut said = Vec::new();
        for _ in 0..seconds * 20 {
            let before = script.pressure.throttled.unwrap_or_default();
            let (periods, cut, stopped_ns) =
                (before.periods + 1, before.cut + 1, before.stopped_ns + 50 * MS);
            script.pressure.throttled = Some(Throttled { periods, cut, stopped_ns });
            said.extend(script.line("wait 50"));
        }
        said
    };
    assert_eq!(throttled(&mut script, 4), [""; 0]);
    let spared = "Warning: Worker (pid:101) gives no sign of life, but its control group is over its limit of \
                  processor time and mostly stopped: it gets up to 12 s";
    assert_eq!(throttled(&mut script, 8), [spared]);
    assert_eq!(script.line("wait 50")[0], "Critical: WORKER TIMEOUT (pid:101)");

    let mut recovered = Script::new(1);
    recovered.line("start");
    recovered.line("ready 101");
    recovered.vitals.clear();
    throttled(&mut recovered, 5);
    // The limit is gone, the worker is silent still: half of the time known is 3 s after the first measurement.
    assert_eq!(recovered.line("wait 1000"), [""; 0]);
    assert_eq!(recovered.line("wait 2000")[0], "Critical: WORKER TIMEOUT (pid:101)");
}

#[test]
fn an_arbiter_that_wakes_late_blames_nobody() {
    let mut script = Script::new(1);
    script.line("start");
    script.line("ready 101");
    script.vitals.clear();
    script.late_ns = 40 * MS;
    let spared = "Warning: Worker (pid:101) gives no sign of life, but the master, too, mostly gets no processor: it gets \
                  up to 12 s";
    assert_eq!(script.line("wait 12000"), [spared]);
    // Nobody is killed by what was measured once, at the very look that found it late.
    let mut sudden = Script::new(1);
    sudden.line("start");
    sudden.line("ready 101");
    sudden.vitals.clear();
    sudden.line("wait 1900");
    assert_eq!(sudden.line("sleep 2900"), [""; 0]);
    assert_eq!(sudden.line("wait 50")[0], "Critical: WORKER TIMEOUT (pid:101)");
}

#[test]
fn signals_have_their_python_names() {
    let table =
        [(1, "SIGHUP"), (6, "SIGABRT"), (9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM"), (31, "SIGSYS")];
    for (number, name) in table {
        assert_eq!(signal_name(number), name);
    }
    for number in [0, -1, 32, 64] {
        assert_eq!(signal_name(number), format!("signal {number}"));
    }
}

#[test]
fn nobody_waits_longer_than_the_next_deadline() {
    let mut script = Script::new(1);
    script.line("start");
    script.line("ready 101");
    assert_eq!(script.fleet.patience_ns(script.now_ms * MS), SECOND);
    script.line("exit 101 1");
    assert_eq!(script.fleet.patience_ns(script.now_ms * MS), SECOND / 10);
    script.line("wait 100");
    script.fleet.plan.timeout_ns = SECOND;
    assert_eq!(script.fleet.patience_ns(script.now_ms * MS), SECOND / 4);
}
