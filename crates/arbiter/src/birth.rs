//! From fork to work: what a worker's process does before the host takes over.

use crate::host::{Context, Hook, Host, Options, WorkerSpec};
use crate::sockets::{Sockets, open_own};
use ferricorn_core::log::Level;
use ferricorn_core::scoreboard::Scoreboard;
use ferricorn_sys::events::Teller;
use ferricorn_sys::process::become_user;
use ferricorn_sys::proctitle;
use ferricorn_sys::signal::{Blocked, Signal, SignalPipe};
use rustix::process::{PTracer, getpid, getppid, set_parent_process_death_signal, set_ptracer};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

/// Gunicorn's exit code of a worker that could not begin.
const BOOT_ERROR: i32 = 3;

/// What the arbiter leaves to a worker.
pub(crate) struct Heritage {
    pub(crate) options: Options,
    pub(crate) sockets: Sockets,
    pub(crate) handover: (OwnedFd, OwnedFd),
    pub(crate) wake_arbiter: OwnedFd,
    pub(crate) board: &'static Scoreboard,
    pub(crate) teller: Teller,
    pub(crate) parent: i32,
    pub(crate) stack: Option<OwnedFd>,
}

/// Is a worker. The arbiter's own descriptors are closed and its signals put back before; `blocked` ends here.
pub(crate) fn live<H: Host>(host: &mut H, spec: WorkerSpec, heritage: Heritage, blocked: Blocked) -> i32 {
    let Heritage { options, sockets, handover, wake_arbiter, board, teller, parent, stack } = heritage;
    // Log files may be rotated while the application loads.
    let signals = SignalPipe::install(&[Signal::USR1]);
    drop(blocked);
    let pid = getpid().as_raw_pid();
    board.workers[spec.slot].pid.store(pid.unsigned_abs(), Relaxed);
    // Looks only.
    let _ = proctitle::set(&format!("ferricorn: worker [{}]", options.proc_name));
    host.log(Level::Info, &format!("Booting worker with pid: {pid}"));
    let began = signals.and_then(|signals| {
        follow_parent()?;
        Ok(signals)
    });
    let Some(signals) = or_log(host, "prepare", began) else { return BOOT_ERROR };
    let listeners = if options.reuse_port { open_own(&options, host) } else { Ok(sockets.into_current()) };
    let Ok(listeners) = listeners else { return 1 };
    host.hook(Hook::PostFork { spec: &spec, stack: stack.as_ref().map(AsFd::as_fd) });
    let became = become_user(options.uid, options.gid, options.initgroups);
    // The kernel forgets it when the user changes.
    if or_log(host, "become its user", became.and_then(|()| follow_parent())).is_none() {
        return BOOT_ERROR;
    }
    // The observer may look into this process, also where only ancestors may (Yama); without Yama there is no such call.
    let _ = set_ptracer(rustix::process::Pid::from_raw(parent).map_or(PTracer::None, PTracer::ProcessID));
    // It died before we asked to be told.
    if getppid().is_none_or(|now| now.as_raw_pid() != parent) {
        return 0;
    }
    host.work(Context {
        spec,
        parent,
        listeners,
        handover_out: handover.0,
        handover_in: handover.1,
        wake_arbiter,
        board,
        teller,
        signals,
        stack,
    })
}

/// Asks for TERM when the arbiter dies: the worker then finishes what it has.
fn follow_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
}

fn or_log<H: Host, T>(host: &mut H, what: &str, result: io::Result<T>) -> Option<T> {
    result.inspect_err(|error| host.log(Level::Error, &format!("Worker could not {what}: {error}"))).ok()
}
