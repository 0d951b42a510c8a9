//! The observer against a real Python process. Tests that need one look for `python3`.

use crate::stack::Stacks;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A Python process that says a line and then does what `code` says.
fn python(code: &str) -> Child {
    let python = std::env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut child =
        Command::new(python).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a Python");
    child.stdin.take().expect("its input").write_all(code.as_bytes()).expect("written");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("said");
    child
}

fn end(mut child: Child) {
    child.kill().expect("ended");
    child.wait().expect("reaped");
}

#[test]
fn a_stack_is_read_while_c_code_keeps_the_interpreter() {
    let child = python(
        "import ctypes\n\
         def inner():\n    print('here', flush=True)\n    ctypes.PyDLL(None).usleep(10_000_000)\n\
         def outer():\n    inner()\n\
         outer()\n",
    );
    let stacks = Stacks::default().read(child.id());
    let pid = child.id();
    end(child);
    let stacks = stacks.expect("read");
    let names: Vec<&str> = stacks[0].frames.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(names, ["inner", "outer", "<module>"]);
    assert_eq!(stacks[0].frames[0].line, 4);
    assert!(stacks[0].holds_gil);
    assert!(stacks[0].tid.is_none_or(|tid| tid == pid));
}

#[test]
fn every_thread_is_read_while_they_run() {
    let child = python(
        "import threading, time\n\
         def busy():\n    while True: sum(range(100))\n\
         def wait():\n    time.sleep(60)\n\
         for n in range(3): threading.Thread(target=busy, daemon=True).start()\n\
         for n in range(20): threading.Thread(target=wait, daemon=True).start()\n\
         print('here', flush=True)\n\
         wait()\n",
    );
    let mut stacks = Stacks::default();
    let mut waiting = || {
        let read = stacks.read(child.id()).expect("read");
        assert_eq!(read.len(), 24);
        let tops = read.iter().filter_map(|stack| stack.frames.first());
        tops.filter(|top| top.function == "wait").count()
    };
    // A thread that has been started need not have come that far.
    let begun = Instant::now();
    while waiting() < 21 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the threads do not come to wait");
        thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..20 {
        assert_eq!(waiting(), 21);
    }
    end(child);
}

#[test]
fn who_is_no_python_or_nobody_is_said() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
    let other = Stacks::default().read(child.id());
    child.kill().expect("ended");
    child.wait().expect("reaped");
    assert!(other.is_err_and(|why| !why.is_empty()));
    assert!(Stacks::default().read(u32::MAX >> 1).is_err_and(|why| !why.is_empty()));
}
