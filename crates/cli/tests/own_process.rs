//! The whole way from arguments to output, with this test's own process in the part of the server.
//! One test: the process may hold one scoreboard only.

use ferricorn_cli::{SCOREBOARD_NAME, run};
use ferricorn_core::scoreboard::{MAGIC, Scoreboard, VERSION};
use ferricorn_sys::clock::now_ns;
use ferricorn_sys::shared::SharedMemory;
use std::io::{self, Write};
use std::sync::atomic::Ordering::Relaxed;

struct Outcome {
    status: i32,
    out: String,
    err: String,
}

fn ctl(line: &str) -> Outcome {
    let argv: Vec<String> = format!("ferricornctl {line}").split_whitespace().map(str::to_owned).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = run(&argv, &mut out, &mut err, false, &|_| Err(String::new()));
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome { status, out: text(out), err: text(err) }
}

/// A writer whose reader has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_server_is_found_read_and_shown() {
    let pid = std::process::id();
    let before = ctl(&format!("workers --pid {pid}"));
    assert_eq!((before.status, before.out.as_str()), (1, ""));
    assert!(before.err.contains("\n  why: it is not a Ferricorn"), "{}", before.err);
    assert!(before.err.contains("\n  try: "), "{}", before.err);

    let memory = SharedMemory::<Scoreboard>::create(SCOREBOARD_NAME).expect("shared memory");
    let unfilled = ctl(&format!("workers --pid {pid}"));
    assert_eq!(unfilled.status, 1);
    assert!(unfilled.err.contains("not filled it in yet"), "{}", unfilled.err);

    let board = memory.value();
    board.magic.store(MAGIC, Relaxed);
    board.version.store(VERSION + 1, Relaxed);
    let newer = ctl(&format!("workers --pid {pid}"));
    assert_eq!(newer.status, 1);
    assert!(newer.err.contains(&format!("its layout has number {}", VERSION + 1)), "{}", newer.err);

    board.version.store(VERSION, Relaxed);
    board.arbiter_pid.store(pid, Relaxed);
    board.started_ns.store(now_ns(), Relaxed);
    board.claim(7, 1, 0, now_ns());
    board.workers[7].pid.store(4711, Relaxed);
    let shown = ctl(&format!("workers --pid {pid}"));
    assert_eq!((shown.status, shown.err.as_str()), (0, ""));
    assert!(shown.out.contains("4711") && shown.out.contains("booting"), "{}", shown.out);

    let mut pidfile = tempfile::NamedTempFile::new().expect("a temporary file");
    writeln!(pidfile, "{pid}").expect("written");
    let by_file = ctl(&format!("workers --json {}", pidfile.path().display()));
    assert_eq!(by_file.status, 0);
    let document: serde_json::Value = serde_json::from_str(&by_file.out).expect("JSON");
    assert_eq!(document["workers"][0]["pid"], 4711);

    // Other servers may run on this machine: then both are listed.
    let the_one = ctl("requests");
    match the_one.status {
        0 => assert_eq!(the_one.out, "no request is running in the application\n"),
        _ => assert!(the_one.err.contains(&format!(" {pid}  ")), "{}", the_one.err),
    }

    let argv = ["ferricornctl", "workers", "--pid", &pid.to_string()].map(str::to_owned);
    let mut err = Vec::new();
    assert_eq!(
        run(&argv, &mut Gone, &mut err, false, &|_| Err(String::new())),
        0,
        "a reader that has seen enough is no failure"
    );
    assert!(err.is_empty());
}

#[test]
fn help_goes_to_the_output_and_usage_to_the_errors() {
    let help = ctl("--help");
    assert_eq!((help.status, help.err.as_str()), (0, ""));
    for word in ["workers", "requests", "Examples:", "Exit status:"] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
    let version = ctl("--version");
    assert_eq!(
        (version.status, version.out.as_str()),
        (0, concat!("ferricornctl ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let usage = ctl("wrokers");
    assert_eq!((usage.status, usage.out.as_str()), (2, ""));
    assert!(usage.err.contains("workers"), "the nearest verb is named: {}", usage.err);
    assert_eq!(ctl("").status, 2);
}
