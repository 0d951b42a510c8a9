//! What can be seen of a worker at one moment, from outside: the Python stack of every thread, what the kernel says of it, sockets,
//! children, memory, pressure. Not for: when to look (`observer`), and what it means (`core::diagnosis`).

mod children;
mod code;
mod services;

use crate::kernel;
use crate::stack::{Stack, Stacks};
use code::Code;
use ferricorn_core::evidence::{Evidence, Frame, Service, Socket, Source, Thread};
use ferricorn_core::snapshot::Running;
use ferricorn_sys::clock;
use ferricorn_sys::sockets::{self, Owner};
use services::Services;
use std::collections::BTreeMap;

/// Looks at processes, and remembers of them what does not change.
#[derive(Default)]
pub struct Lens {
    stacks: Stacks,
    owners: BTreeMap<u64, Owner>,
    services: Services,
    code: Code,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aim<'a> {
    /// The process.
    pub pid: u32,
    /// The requests that it is at.
    pub requests: &'a [Running],
    /// Per cent of a request's time that are over.
    pub percent: u32,
    /// Threads that are at no request are wanted, too.
    pub all: bool,
    /// Whether this is served at a peer, where that is known from elsewhere.
    pub serves: Option<&'a dyn Serves>,
}

/// Knows what is served at an address.
pub trait Serves {
    /// Returns it, if it is known.
    fn at(&self, peer: &str) -> Option<Service>;
}

impl std::fmt::Debug for dyn Serves + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Serves")
    }
}

impl Lens {
    /// Looks at a process.
    pub fn look(&mut self, aim: &Aim<'_>) -> Evidence {
        let pid = aim.pid;
        let (mut found, degraded) = match self.stacks.read_with_locals(pid) {
            Ok(found) => (found, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        found.iter_mut().for_each(|stack| self.code.show(pid, &mut stack.frames));
        Evidence {
            percent: aim.percent,
            at_s: clock::wall_time_s(),
            source: if degraded.is_none() { Source::Outside } else { Source::Kernel },
            degraded,
            threads: threads(aim, &found),
            sockets: self.sockets(aim),
            children: children::of(pid),
            databases: Vec::new(),
            memory: kernel::memory(pid),
            pressure: kernel::strain(aim.pid),
        }
    }

    /// Reads the stack of a process's main thread; empty if it cannot be read.
    pub fn main_stack(&mut self, pid: u32) -> Vec<Frame> {
        let threads =
            threads(&Aim { pid, all: true, ..Aim::default() }, &self.stacks.read(pid).unwrap_or_default());
        let mut frames = threads
            .into_iter()
            .find(|thread| thread.tid == pid)
            .map(|thread| thread.frames)
            .unwrap_or_default();
        self.code.show(pid, &mut frames);
        frames
    }

    /// Adds the code to calls that a worker has told of itself.
    pub(crate) fn show_code(&mut self, pid: u32, frames: &mut [Frame]) {
        self.code.show(pid, frames);
    }

    /// Forgets a process that has ended.
    pub fn forget(&mut self, pid: u32) {
        self.stacks.forget(pid);
        self.services.forget(pid);
        self.code.forget(pid);
    }

    fn sockets(&mut self, aim: &Aim<'_>) -> Vec<Socket> {
        let (mut sockets, _) = sockets::leading_out(aim.pid, &mut self.owners).unwrap_or_default();
        // Pairs without a name lead to our own processes.
        sockets.retain(|socket| socket.kind != "unix" || !socket.peer.is_empty());
        for socket in &mut sockets {
            let known = aim.serves.and_then(|serves| serves.at(&socket.peer));
            socket.service = known.unwrap_or_else(|| self.services.of(aim.pid, socket));
        }
        sockets
    }
}

/// Returns the threads that are wanted, those at requests first.
fn threads(aim: &Aim<'_>, found: &[Stack]) -> Vec<Thread> {
    let pid = aim.pid;
    // Whose thread a request has, only stacks tell.
    let nameless = found.is_empty() && aim.requests.iter().any(|running| running.request.tid == 0);
    let at = |tid: u32| aim.requests.iter().find(|running| running.request.tid == tid);
    let of = |tid: u32| {
        let running = at(tid);
        let stack = found.iter().find(|stack| belongs(stack, tid, pid, running));
        // Threads without Python are the server's own.
        let wanted =
            running.is_some() || nameless || (aim.all && stack.is_some_and(|stack| !stack.frames.is_empty()));
        wanted.then(|| Thread {
            request: running.map(|running| running.request.id.clone()),
            holds_gil: stack.map(|stack| stack.holds_gil),
            frames: stack.map(|stack| stack.frames.clone()).unwrap_or_default(),
            ..kernel::thread(pid, tid)
        })
    };
    let mut threads: Vec<Thread> = kernel::threads(pid).into_iter().filter_map(of).collect();
    threads.sort_by_key(|thread| (thread.request.is_none(), thread.tid));
    threads
}

/// Tells whether a stack is that of a thread. CPython 3.10 does not keep kernel ids: there the number counts that the
/// thread has written down.
fn belongs(stack: &Stack, tid: u32, pid: u32, running: Option<&Running>) -> bool {
    match (stack.tid, running) {
        (Some(known), _) => known == tid,
        (None, Some(running)) if running.ident != 0 => running.ident == stack.ident,
        (None, _) => tid == pid && stack.frames.iter().any(is_entry),
    }
}

/// The main thread begins where the program does.
fn is_entry(frame: &Frame) -> bool {
    frame.function == "<module>" && frame.file.contains("/bin/")
}
