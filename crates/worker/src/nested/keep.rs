//! Keeping the loop while a callback holds the application's: nothing can be begun here, but siblings can take requests,
//! and what is late is answered.

use super::Core;
use super::stage::Stolen;
use crate::app::Tasks;
use crate::options::Level;
use crate::reactor::Reactor;
use crate::run;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Longest sleep with requests in line: how often somebody looks for an idle sibling.
const LOOK_NS: u64 = 2_000_000;

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

fn keep<A: Tasks>(core: &Core, app: &Arc<A>, stolen: Stolen) {
    let (hub, mut reactor) = (&core.hub, stolen.reactor);
    reactor.is_free(false);
    reactor.poll(0);
    reactor.turn();
    while !core.stage.is_wanted() {
        run::line_up(hub, &mut reactor);
        run::relieve(hub, &mut reactor);
        run::expire(hub, &mut reactor);
        core.look(app, &mut reactor, true);
        reactor.flush();
        reactor.flush_log();
        if reactor.is_finished() || reactor.is_overdue() {
            core.stage.close();
            return run::wind_up(hub, &**app, reactor);
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
        reactor.poll(sleep_ns);
        reactor.turn();
    }
    give_back(core, reactor, stolen.since_ns);
}

fn give_back(core: &Core, mut reactor: Box<Reactor>, since_ns: u64) {
    let hub = &core.hub;
    let line = hub.pool.pull_all();
    let waited = line.len();
    line.into_iter().for_each(|conn| reactor.put_back(conn));
    hub.slot.queued.store(0, Relaxed);
    reactor.is_free(true);
    let seconds = reactor.now_ns().saturating_sub(since_ns) as f64 / 1e9;
    let message = format!("The event loop was blocked for {seconds:.1} s; {waited} requests waited in line");
    hub.log.log(Level::Warning, &message);
    core.stage.give_back(reactor);
}
