//! Python stacks of another process, read out of its memory: the interpreter is not asked and need not run.
//!
//! The process is not stopped for it. A stack that moves may be read torn, so a failed reading is tried again, and only
//! then is the process paused for some milliseconds. Of variables, those of [`locals`] are read and no others.
//! Not for: what the kernel knows.

use crate::object::Objects;
use ferricorn_core::evidence::Frame;
use ferricorn_core::locals;
use py_spy::config::{Config, LockingStrategy};
use py_spy::stack_trace::LocalVariable;
use py_spy::{PythonSpy, StackTrace};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Readings of a stack that moves before the process is paused.
const TRIES: u32 = 4;
/// Most calls of one stack that are kept, the innermost.
const FRAMES_MAX: usize = 60;
/// Makes the library say where variables are without reading any: of a negative number of bytes it formats none. Its own
/// way is to write out all of them, secrets and all.
pub(crate) const ADDRESSES_ONLY: u64 = 1 << 56;
/// Most processes whose layout is remembered.
const KNOWN_MAX: usize = 64;

/// The stack of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Kernel id of the thread, where the interpreter keeps it (CPython 3.11 and newer).
    pub tid: Option<u32>,
    /// Python's number of the thread.
    pub ident: u64,
    /// Whether it holds the interpreter.
    pub holds_gil: bool,
    /// The innermost call first.
    pub frames: Vec<Frame>,
}

/// Reads stacks, and remembers how to read those of processes that it has met.
#[derive(Default)]
pub struct Stacks {
    known: BTreeMap<u32, PythonSpy>,
}

impl Stacks {
    /// Reads the stacks of all Python threads of a process.
    ///
    /// # Errors
    /// Why not, in words: no right, no Python, no such process.
    pub fn read(&mut self, pid: u32) -> Result<Vec<Stack>, String> {
        self.checked(pid, false)
    }

    /// Reads them with the variables of library functions that may be looked at ([`locals::TABLE`]).
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with_locals(&mut self, pid: u32) -> Result<Vec<Stack>, String> {
        self.checked(pid, true)
    }

    fn checked(&mut self, pid: u32, with_locals: bool) -> Result<Vec<Stack>, String> {
        let result = self.try_read(pid, with_locals);
        if result.is_err() {
            // Its pid may have become another's.
            self.known.remove(&pid);
        }
        result
    }

    fn try_read(&mut self, pid: u32, with_locals: bool) -> Result<Vec<Stack>, String> {
        if !self.known.contains_key(&pid) {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            let config = Config { blocking: LockingStrategy::NonBlocking, ..Config::default() };
            let spy = guarded(|| PythonSpy::new(pid.cast_signed(), &config))?;
            self.known.insert(pid, spy);
        }
        let Some(spy) = self.known.get_mut(&pid) else { return Err(String::new()) };
        spy.config.dump_locals = if with_locals { ADDRESSES_ONLY } else { 0 };
        // Without its memory there are no stacks either, so that is said there.
        let mut objects = with_locals.then(|| Objects::of(pid, spy.version.minor).ok()).flatten();
        let mut stack = |trace| stack(trace, objects.as_mut());
        for _ in 0..TRIES {
            if let Ok(traces) = guarded(|| spy.get_stack_traces()) {
                return Ok(traces.into_iter().map(&mut stack).collect());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        spy.config.blocking = LockingStrategy::Lock;
        let traces = guarded(|| spy.get_stack_traces());
        spy.config.blocking = LockingStrategy::NonBlocking;
        Ok(traces?.into_iter().map(stack).collect())
    }

    /// Forgets a process.
    pub fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
    }
}

/// Calls into the library, which reads memory that may hold anything at any moment.
fn guarded<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        // `#`: with what lies behind it.
        Ok(Err(error)) => Err(worded(&format!("{error:#}"))),
        Err(_) => Err("the stack could not be understood".to_owned()),
    }
}

fn worded(error: &str) -> String {
    if error.contains("Permission denied") || error.contains("Operation not permitted") {
        return "no right to read the worker's memory (CAP_SYS_PTRACE, or the worker's user)".to_owned();
    }
    error.lines().next().unwrap_or_default().chars().take(200).collect()
}

fn stack(trace: StackTrace, mut objects: Option<&mut Objects>) -> Stack {
    // An environment is handed on from call to call; the innermost that has it shows it.
    let mut seen = BTreeSet::new();
    let frames = trace.frames.into_iter().take(FRAMES_MAX).map(|found| {
        let variables = found.locals.unwrap_or_default();
        let mut frame = Frame {
            function: found.name,
            file: found.filename,
            line: u32::try_from(found.line).unwrap_or(0),
            ..Frame::default()
        };
        if let Some(objects) = objects.as_deref_mut() {
            frame.locals = looked_at(&frame, &variables, objects, &mut seen);
        }
        frame
    });
    Stack {
        tid: trace.os_thread_id.and_then(|tid| u32::try_from(tid).ok()),
        ident: trace.thread_id,
        holds_gil: trace.owns_gil,
        frames: frames.collect(),
    }
}

fn looked_at(
    frame: &Frame,
    variables: &[LocalVariable],
    objects: &mut Objects,
    seen: &mut BTreeSet<(usize, &'static str)>,
) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for local in locals::of_frame(frame) {
        let Some(variable) = variables.iter().find(|variable| variable.name == local.name) else { continue };
        let keys = local.show.keys();
        if !keys.is_empty() && !seen.insert((variable.addr, local.name)) {
            continue;
        }
        if let Some(value) = objects.value(variable.addr as u64, keys) {
            shown.extend(locals::shown(local, &value));
        }
    }
    shown
}
