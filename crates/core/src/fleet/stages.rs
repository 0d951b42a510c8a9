//! What is done after every event, whatever it was: orders that are due, replacements, numbers; what becomes of those
//! that are silent; and how a server stops.

use super::strain::PATIENCE;
use super::worker::Silence;
use super::{
    ABORT_NS, Action, Budget, Fleet, Killed, Leaving, MARGIN_NS, Notice, Order, Plan, QUICK_NS, STACK_NS,
    Stage, Stop, UNKILLABLE_NS, Why, Worker,
};
use std::cmp::Reverse;

/// Begins to abort a worker. One that hangs in its boot is asked first for what it hangs in.
fn hung(worker: &Worker, pid: i32, plan: &Plan, now_ns: u64, out: &mut Vec<Action>) -> Leaving {
    if worker.ready {
        out.push(Action::Say(Notice::Timeout { pid }));
        out.push(Action::Send { pid, order: Order::Abort });
        return Leaving::until(Why::TimedOut, now_ns + ABORT_NS);
    }
    out.push(Action::Say(Notice::NotBooted { pid, limit_ns: plan.boot_ns }));
    out.push(Action::AskStack { pid });
    let abort_at_ns = now_ns + STACK_NS;
    Leaving { why: Why::NotBooted, abort_at_ns: Some(abort_at_ns), kill_at_ns: abort_at_ns + ABORT_NS }
}

impl Fleet {
    /// Brings the workers to where they should be.
    pub(super) fn settle(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        match self.stage {
            Stage::Idle | Stage::Halted => {}
            Stage::Running => {
                self.kill_late(now_ns, out);
                self.turn_over(now_ns, out);
                self.finish_reload(now_ns, out);
                self.count(out);
            }
            Stage::Stopping(_) => {
                self.kill_late(now_ns, out);
                self.finish_stop(now_ns, out);
            }
        }
    }

    /// Somebody who is late may be a matter of the host: it is watched from then on.
    pub(super) fn notice_silence(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        let mut silences = self.workers.values().filter_map(|worker| self.silence(worker, now_ns));
        if matches!(self.stage, Stage::Running) && silences.any(|silence| silence.is_late()) {
            out.push(Action::Measure);
        } else {
            self.strain.relax();
            self.budget.waits(false);
        }
    }

    fn silence(&self, worker: &Worker, now_ns: u64) -> Option<Silence> {
        worker.silence(&self.plan, self.floor_ns, now_ns)
    }

    /// Aborts workers whose heart stands still, as many as the budget allows, those first that are overdue for longest.
    pub(super) fn time_out(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        if !matches!(self.stage, Stage::Running) {
            return;
        }
        let (most, window_ns) = (Budget::most(self.target), Budget::window_ns(&self.plan));
        let mut waiting = 0;
        for age in self.overdue(now_ns, out) {
            let Some(worker) = self.workers.get(&age) else { continue };
            // The end of a reload may have sent it away just now.
            let (Some(pid), Some(_)) = (worker.pid, self.silence(worker, now_ns)) else { continue };
            if !self.budget.spend(most, window_ns, now_ns) {
                waiting += 1;
                continue;
            }
            let Some(worker) = self.workers.get_mut(&age) else { continue };
            let stays = worker.stays();
            worker.leaving = Some(hung(worker, pid, &self.plan, now_ns, out));
            if stays {
                let worker = worker.clone();
                self.failed(&worker, pid, now_ns, out);
            }
        }
        if self.budget.waits(waiting > 0) {
            out.push(Action::Say(Notice::KillsWait { waiting, most, window_ns }));
        }
    }

    /// Returns who has exceeded its limit, and is not spared because of the host.
    fn overdue(&mut self, now_ns: u64, out: &mut Vec<Action>) -> Vec<u32> {
        let mut overdue = Vec::new();
        for (age, worker) in &self.workers {
            let Some(silence) = worker.silence(&self.plan, self.floor_ns, now_ns) else { continue };
            let Some(beyond_ns) = silence.beyond_ns(1) else { continue };
            let (Some(pid), Ok(cause)) = (worker.pid, self.strain.cause(silence.since_ns)) else { continue };
            match cause.filter(|_| silence.beyond_ns(PATIENCE).is_none()) {
                None => overdue.push((beyond_ns, *age)),
                Some(cause) if self.strain.is_news() => {
                    let limit_ns = silence.limit_ns.saturating_mul(PATIENCE);
                    out.push(Action::Say(Notice::Spared { pid, cause, limit_ns }));
                }
                Some(_) => {}
            }
        }
        overdue.sort_by_key(|(beyond_ns, age)| (Reverse(*beyond_ns), *age));
        overdue.into_iter().map(|(_, age)| age).collect()
    }

    /// Aborts those whose stack is known, or will not be, and kills workers that have had their time to leave.
    fn kill_late(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        for worker in self.workers.values_mut() {
            let (Some(leaving), Some(pid), None) = (&mut worker.leaving, worker.pid, worker.killed) else {
                continue;
            };
            if leaving.abort_at_ns.is_some_and(|at| now_ns >= at) {
                leaving.abort_at_ns = None;
                // Late ourselves: it gets the whole of its time all the same.
                leaving.kill_at_ns = leaving.kill_at_ns.max(now_ns + ABORT_NS);
                out.push(Action::TellStack { pid });
                out.push(Action::Send { pid, order: Order::Abort });
            }
            if now_ns >= leaving.kill_at_ns {
                worker.killed = Some(match leaving.why {
                    Why::TimedOut => Killed::TimedOut,
                    Why::NotBooted => Killed::NotBooted,
                    Why::Told | Why::ByItself => Killed::Lingered,
                });
                out.push(Action::Send { pid, order: Order::Kill });
            }
        }
    }

    /// Tells whether a worker is to be replaced.
    fn is_stale(&self, worker: &Worker) -> bool {
        worker.retiring || (self.reloading && worker.generation < self.generation)
    }

    /// Workers beyond the wanted number that a replacement may cost.
    fn surplus(&self) -> usize {
        (self.target / 4).max(1)
    }

    /// Spawns what is missing, replaces what is stale, sends away what is too much; in that order of care: a worker
    /// that serves goes only when enough others are ready.
    fn turn_over(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        // What has not begun to serve is no loss.
        for age in self.ages(|worker| worker.stays() && !worker.ready && self.is_stale(worker)) {
            self.send_away(age, now_ns, out);
        }
        while let Some(age) = self.superfluous(now_ns) {
            self.send_away(age, now_ns, out);
        }
        loop {
            let fresh = self.ages(|worker| worker.stays() && !self.is_stale(worker)).len();
            let staying = self.ages(Worker::stays).len();
            let booting = self.ages(|worker| worker.stays() && !worker.ready).len();
            let wanted = fresh < self.target && staying < self.target + self.surplus();
            if !wanted || !self.backoff.allows(booting, now_ns) {
                return;
            }
            self.last_age += 1;
            let (age, generation) = (self.last_age, self.generation);
            self.workers.insert(age, Worker::new(generation, now_ns));
            out.push(Action::Spawn { age, generation });
        }
    }

    /// Returns the worker to send away next, if there is one too many: a stale one, else the oldest that serves, else the
    /// youngest that is starting.
    fn superfluous(&self, now_ns: u64) -> Option<u32> {
        let ready = self.ages(|worker| worker.stays() && worker.ready);
        let fresh_ready = || ready.iter().filter(|age| !self.is_stale(&self.workers[age])).count();
        let tried = if self.soaks(now_ns) { self.surplus().min(fresh_ready()) } else { 0 };
        if ready.len() > self.target + tried {
            let stale = ready.iter().find(|age| self.is_stale(&self.workers[age]));
            return stale.or(ready.first()).copied();
        }
        let fresh = self.ages(|worker| worker.stays() && !self.is_stale(worker));
        if fresh.len() > self.target {
            return fresh.into_iter().rev().find(|age| !self.workers[age].ready);
        }
        None
    }

    fn finish_reload(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        let mut staying = self.workers.values().filter(|worker| worker.stays());
        let all_new = staying.all(|worker| worker.generation == self.generation);
        let ready = self.workers.values().filter(|worker| worker.stays() && worker.ready).count();
        if self.reloading && all_new && ready >= self.target && !self.soaks(now_ns) {
            self.reloading = false;
            out.push(Action::Say(Notice::ReloadFinished));
            out.push(Action::ReloadEnded);
        }
    }

    fn count(&mut self, out: &mut Vec<Action>) {
        let staying = self.workers.values().filter(|worker| worker.stays()).count();
        if self.counted.replace(staying) != Some(staying) {
            out.push(Action::Count(staying));
        }
    }

    /// Begins to stop: no new connections, and the workers finish (or, `quick`, just go).
    pub(super) fn stop(
        &mut self,
        quick: bool,
        exit_code: i32,
        reason: Option<&'static str>,
        now_ns: u64,
        out: &mut Vec<Action>,
    ) {
        let kill_at_ns = now_ns + self.plan.graceful_ns + MARGIN_NS;
        let give_up_ns = kill_at_ns + UNKILLABLE_NS;
        self.stage = Stage::Stopping(Stop { exit_code, reason, quick, hurried: false, give_up_ns });
        self.reloading = false;
        out.push(Action::CloseListeners);
        self.dismiss(quick, kill_at_ns, out);
    }

    /// A second signal while stopping.
    pub(super) fn hurry(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        let Stage::Stopping(stop) = &mut self.stage else { return };
        if std::mem::replace(&mut stop.hurried, true) {
            return;
        }
        stop.give_up_ns = stop.give_up_ns.min(now_ns + QUICK_NS + UNKILLABLE_NS);
        let quit = !std::mem::replace(&mut stop.quick, true);
        out.push(Action::Say(Notice::QuickShutdown));
        self.dismiss(quit, now_ns + QUICK_NS, out);
    }

    /// Sends all workers away until `kill_at_ns`; with `quit` also those that are finishing.
    fn dismiss(&mut self, quit: bool, kill_at_ns: u64, out: &mut Vec<Action>) {
        let order = if quit { Order::Quit } else { Order::Terminate };
        for worker in self.workers.values_mut() {
            let told = worker.leaving.as_ref();
            let hangs = told.is_some_and(|leaving| leaving.why.hangs());
            if (told.is_none() || quit) && !hangs {
                out.extend(worker.pid.map(|pid| Action::Send { pid, order }));
            }
            let leaving = worker.leaving.get_or_insert(Leaving::until(Why::Told, u64::MAX));
            leaving.kill_at_ns = leaving.kill_at_ns.min(kill_at_ns);
        }
    }

    fn finish_stop(&mut self, now_ns: u64, out: &mut Vec<Action>) {
        let Stage::Stopping(stop) = &self.stage else { return };
        if !self.workers.is_empty() && now_ns < stop.give_up_ns {
            return;
        }
        let (exit_code, reason) = (stop.exit_code, stop.reason);
        for worker in self.workers.values() {
            out.extend(worker.pid.map(|pid| Action::Say(Notice::Unkillable { pid })));
        }
        out.push(Action::Say(Notice::ShuttingDown { failed: exit_code != 0 }));
        out.extend(reason.map(|reason| Action::Say(Notice::Reason { reason })));
        out.push(Action::Halt { exit_code });
        self.stage = Stage::Halted;
    }
}
