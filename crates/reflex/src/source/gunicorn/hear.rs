//! What a Gunicorn says of itself and is asked: the events of its error log, and its control socket. Not for: reading these
//! (`events`, `control`).

use super::control;
use super::events::Event;
use super::observe::Gunicorn;
use super::settings::Settings;

impl Gunicorn {
    /// Takes what the error log says.
    pub(super) fn hear(&mut self, event: Event) {
        let tree = &mut self.tree;
        match event {
            Event::Starting(version) => self.version = version,
            Event::Timeout(pid) => {
                let silent_s = tree.named(pid).and_then(|worker| worker.beat_age_s());
                tree.with(pid, |worker| worker.timed_out = true);
                // It is found out within a second.
                let learned_s = silent_s.filter(|_| self.requests.timeout_s.is_none()).map(f64::floor);
                self.requests.timeout_s =
                    self.requests.timeout_s.or(learned_s.filter(|learned_s| *learned_s >= 1.0));
            }
            Event::Ended(pid, status) => tree.with(pid, |worker| worker.logged = Some(status)),
            Event::Retiring(pid) => tree.with(pid, |worker| worker.retiring = true),
            Event::Exiting(pid) => tree.with(pid, |worker| worker.draining |= !worker.timed_out),
            // Those that come after a reload are not meant by it, though they may have been seen before it was read.
            Event::Booting(pid) => {
                let generation = tree.generation;
                tree.with(pid, |worker| (worker.draining, worker.generation) = (false, generation));
            }
            Event::Signal(master, name) => self.signalled(master, &name),
            Event::Stopping(master) => {
                if let Some(master) = tree.master(master) {
                    tree.drain(master);
                }
            }
            Event::Class(_) | Event::Listening(_) => {}
        }
    }

    fn signalled(&mut self, master: u32, name: &str) {
        let Some(master) = self.tree.master(master) else { return };
        match name {
            "hup" => {
                self.tree.generation += 1;
                self.tree.drain(master);
                // The settings may be others now, the number of workers among them.
                let logs = self.settings.logs();
                self.settings = Settings::of(master);
                if self.settings.logs() != logs {
                    self.open_logs(master);
                }
                (self.target, self.controlled_s, self.class_of) = (None, f64::NEG_INFINITY, None);
            }
            "term" | "int" | "quit" => self.tree.drain(master),
            "ttin" => self.target = Some(self.wanted() + 1),
            "ttou" => {
                let before = self.wanted();
                self.target = Some(before.saturating_sub(1).max(1));
                if before > 1 {
                    self.tree.drain_oldest(master);
                }
            }
            _ => {}
        }
    }

    pub(super) fn ask_config(&mut self) {
        let Some(path) = self.settings.control.clone() else { return };
        let pid = self.tree.masters.first().map(|master| u64::from(master.process.inner));
        // Another server of the same user takes the same path.
        let ours = control::ask(&path, "show stats").is_ok_and(|stats| stats["pid"].as_u64() == pid);
        if let Ok(config) = control::ask(&path, "show config")
            && ours
        {
            self.settings.shown(&config);
        }
    }

    /// Asks the control socket for what only the arbiter knows.
    pub(super) fn ask(&mut self, now_s: f64) {
        let first = self.controlled_s == f64::NEG_INFINITY;
        self.controlled_s = now_s;
        self.control_gap = None;
        let Some(path) = self.settings.control.clone() else { return };
        let pid = self.tree.masters.first().map_or(0, |master| master.process.inner);
        let stats = match control::ask(&path, "show stats") {
            Ok(stats) => stats,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                self.control_gap = Some(format!(
                    "the control socket {path} may not be used: run as Gunicorn's user, or as root"
                ));
                return;
            }
            // It comes and goes: it is closed while a worker is forked, and versions before 25.1 have none.
            Err(_) => return,
        };
        if stats["pid"].as_u64() != Some(u64::from(pid)) {
            return;
        }
        if first {
            self.ask_config();
        }
        if let Some(target) = stats["workers_target"].as_u64().and_then(|target| u32::try_from(target).ok()) {
            self.target = Some(target);
        }
        for shown in
            control::ask(&path, "show workers").map(|data| control::workers(&data)).unwrap_or_default()
        {
            self.tree.with(shown.pid, |worker| {
                worker.age = shown.age;
                worker.timed_out |= shown.aborted;
            });
        }
    }
}
