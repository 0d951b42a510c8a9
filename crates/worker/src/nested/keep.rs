//! Keeping the loop while a callback holds the application's: nothing can be begun here, but siblings can take requests,
//! and what is late is answered. What held it, and who waited behind it, is written down.

use super::Core;
use super::stage::Stolen;
use crate::app::{Sight, Tasks};
use crate::options::Level;
use crate::reactor::Reactor;
use crate::run::{self, Hub};
use ferricorn_core::deadline::Held;
use ferricorn_core::event::Event;
use ferricorn_core::record::{Hold, Request};
use ferricorn_core::scoreboard::InFlightView;
use ferricorn_sys::task::{Task, doing};
use std::process;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest sleep with requests in line: how often somebody looks for an idle sibling.
const LOOK_NS: u64 = 2_000_000;
/// So long a loop is blocked until the log says so; the end is always said.
const SAY_NS: u64 = 1_000_000_000;
/// Most requests named that could not go on.
const CONCURRENT_MAX: usize = 32;
/// How long a call may take to come free after the time that any request may take.
const GRACE_NS: u64 = 1_000_000_000;
const SECOND: f64 = 1e9;

/// The watchdog's thread. Never attached.
pub(super) fn watch<A: Tasks>(core: &Arc<Core>, app: &Arc<A>) {
    while let Some(stolen) = core.stage.watch(core.epoll()) {
        let slot = core.hub.slot;
        slot.taken_over.store(1, Relaxed);
        slot.takeovers.store(slot.takeovers.load(Relaxed) + 1, Relaxed);
        // Whoever has the application's loop next comes for ours.
        let _ = rustix::io::write(&core.back, &1u64.to_ne_bytes());
        keep(core, app, stolen);
        slot.taken_over.store(0, Relaxed);
    }
}

/// What is known of a loop that is held.
struct Blockade {
    since_ns: u64,
    /// What holds it: the number of the request, 0 for none of them.
    found: Arc<Mutex<Option<(u64, Sight)>>>,
    doing: String,
    waited: usize,
    given_before: u64,
    said: bool,
}

impl Blockade {
    fn begin<A: Tasks>(core: &Arc<Core>, app: &Arc<A>, since_ns: u64) -> Self {
        let found = Arc::new(Mutex::new(None));
        let (told, asked) = (found.clone(), core.clone());
        app.look_at_loop(Box::new(move |id, sight| {
            // If the main thread has come back by now, this is not what held the loop.
            if !asked.stage.is_wanted() {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, sight));
            }
        }));
        let pid = process::id();
        core.hub.teller.tell(&Event::Holds { pid });
        let doing = doing(Task { pid: None, tid: pid }).to_string();
        let given_before = core.hub.slot.handed_over.load(Relaxed);
        Self { since_ns, found, doing, waited: 0, given_before, said: false }
    }

    /// Puts down what is known so far.
    fn hold(&self, hub: &Hub, now_ns: u64) -> Hold {
        let (id, frames) = match &*self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((id, sight)) => (*id, sight.frames.clone()),
            None => (0, Vec::new()),
        };
        let pid = process::id();
        let request = |view: &InFlightView| Request::of(pid, view, now_ns);
        let mine = hub.slot.requests().find(|view| view.id == id);
        let busy = hub.slot.used_records().iter().filter(|record| record.is_busy()).count();
        let line_ns = hub.pool.load().since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
        Hold {
            lasted_s: now_ns.saturating_sub(self.since_ns) as f64 / SECOND,
            begun: busy.saturating_sub(usize::from(mine.is_some())),
            request: mine.as_ref().map(request),
            frames,
            doing: self.doing.clone(),
            waited: self.waited,
            waited_s: line_ns as f64 / SECOND,
            given: (hub.slot.handed_over.load(Relaxed) - self.given_before) as usize,
            concurrent: {
                let others = hub.slot.requests().filter(|view| view.id != id);
                others.take(CONCURRENT_MAX).map(|view| request(&view)).collect()
            },
        }
    }

    /// Says what is kept from the other requests: nothing yet, as long as any request may take.
    fn held<A: Tasks>(&self, core: &Core, app: &A, now_ns: u64) -> Held {
        let longest_ns = core.hub.options.longest_ns();
        if longest_ns == 0 || now_ns.saturating_sub(self.since_ns) < longest_ns + GRACE_NS {
            Held::Nothing
        } else if app.is_held() {
            Held::Interpreter
        } else {
            Held::Loop
        }
    }

    fn say(&mut self, hub: &Hub, hold: &Hold) {
        let place = hold.frames.iter().find(|frame| frame.is_application()).or(hold.frames.first());
        hub.log.log(Level::Warning, &format!("A {}", hold.told(place.map(ToString::to_string).as_deref())));
        self.said = true;
    }
}

fn keep<A: Tasks>(core: &Arc<Core>, app: &Arc<A>, stolen: Stolen) {
    let (hub, mut reactor) = (&core.hub, stolen.reactor);
    let mut blockade = Blockade::begin(core, app, stolen.since_ns);
    reactor.is_free(false);
    reactor.poll(0);
    reactor.turn();
    while !core.stage.is_wanted() {
        blockade.waited += run::line_up(hub, &mut reactor);
        run::relieve(hub, &mut reactor);
        run::expire(hub, &mut reactor);
        let held = blockade.held(core, &**app, reactor.now_ns());
        core.look(app, &mut reactor, held, true);
        reactor.flush();
        reactor.flush_log();
        if reactor.is_finished() || reactor.is_overdue() {
            core.stage.close();
            return run::wind_up(hub, &**app, reactor);
        }
        if !blockade.said && reactor.now_ns().saturating_sub(blockade.since_ns) >= SAY_NS {
            let hold = blockade.hold(hub, reactor.now_ns());
            blockade.say(hub, &hold);
        }
        let waiting = hub.pool.load().waiting;
        hub.slot.queued.store(waiting as u32, Relaxed);
        // Who waits in the listen queue would wait as long, but a sibling may be free.
        reactor.accept_if(!hub.has_idle_sibling());
        let mut sleep_ns =
            reactor.sleep_ns().min(core.look_ns.load(Relaxed).saturating_sub(reactor.now_ns()));
        if waiting > 0 {
            sleep_ns = sleep_ns.min(LOOK_NS);
        }
        if !blockade.said {
            sleep_ns = sleep_ns.min(SAY_NS);
        }
        reactor.poll(sleep_ns);
        reactor.turn();
    }
    give_back(core, reactor, blockade);
}

fn give_back(core: &Core, mut reactor: Box<Reactor>, mut blockade: Blockade) {
    let hub = &core.hub;
    let hold = blockade.hold(hub, reactor.now_ns());
    blockade.say(hub, &hold);
    hub.teller.tell(&Event::Held { pid: process::id(), hold: Box::new(hold) });
    hub.pool.pull_all().into_iter().for_each(|conn| reactor.put_back(conn));
    hub.slot.queued.store(0, Relaxed);
    reactor.is_free(true);
    core.stage.give_back(reactor);
}
