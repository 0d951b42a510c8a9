//! What can be seen of a worker at one moment, from outside: the Python stack of every thread, what the kernel says of
//! it, memory, pressure. Not for: when to look (`observer`), and what it means.

use crate::kernel;
use crate::stack::{Stack, Stacks};
use ferricorn_core::evidence::{Evidence, Source, Thread};
use ferricorn_core::snapshot::Running;

/// Looks at a process. `requests` are those that it is at, `all` asks for threads that are at none, too.
pub fn look(stacks: &mut Stacks, pid: u32, requests: &[Running], percent: u32, all: bool) -> Evidence {
    let (found, degraded) = match stacks.read(pid) {
        Ok(found) => (found, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let at = |tid: u32| requests.iter().find(|running| running.request.tid == tid);
    let mut threads: Vec<Thread> = kernel::threads(pid)
        .into_iter()
        .filter_map(|tid| {
            let running = at(tid);
            let stack = found.iter().find(|stack| belongs(stack, tid, pid, running));
            // Threads without Python are the server's own.
            let wanted = running.is_some() || (all && stack.is_some_and(|stack| !stack.frames.is_empty()));
            wanted.then(|| Thread {
                request: running.map(|running| running.request.id.clone()),
                holds_gil: stack.map(|stack| stack.holds_gil),
                frames: stack.map(|stack| stack.frames.clone()).unwrap_or_default(),
                ..kernel::thread(pid, tid)
            })
        })
        .collect();
    threads.sort_by_key(|thread| (thread.request.is_none(), thread.tid));
    Evidence {
        percent,
        source: if degraded.is_none() { Source::Outside } else { Source::Kernel },
        degraded,
        threads,
        memory: kernel::memory(pid),
        pressure: kernel::strain(),
        ..Evidence::default()
    }
}

/// Tells whether a stack is that of a thread. CPython 3.10 does not keep kernel ids: there the number counts that the
/// thread has written down.
fn belongs(stack: &Stack, tid: u32, pid: u32, running: Option<&Running>) -> bool {
    match (stack.tid, running) {
        (Some(known), _) => known == tid,
        (None, Some(running)) => running.ident != 0 && running.ident == stack.ident,
        (None, None) => tid == pid && stack.tid.is_none() && stack.frames.iter().any(is_entry),
    }
}

/// The main thread begins where the program does.
fn is_entry(frame: &ferricorn_core::evidence::Frame) -> bool {
    frame.function == "<module>" && frame.file.contains("/bin/")
}
