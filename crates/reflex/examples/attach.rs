//! Watches a stock Gunicorn and prints what is seen, one JSON object per period: for the tests of that source, and for looking
//! at it by hand. `attach --pid PID | --pidfile F [--access-log F] [--error-log F] [--statsd HOST:PORT] [--every SECONDS]`
//!
//! Not for users: that is `ferricornctl attach`.
#![expect(clippy::print_stderr, reason = "a program that prints")]

use ferricorn_reflex::source::gunicorn::{Gunicorn, Observation, Options};
use ferricorn_sys::clock;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut options = Options::default();
    let mut every = Duration::from_secs(1);
    let mut words = std::env::args().skip(1);
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        match flag.as_str() {
            "--pid" => options.pid = value.parse().ok(),
            "--pidfile" => options.pidfile = Some(value.into()),
            "--access-log" => options.access_log = Some(value.into()),
            "--error-log" => options.error_log = Some(value.into()),
            "--statsd" => options.statsd = Some(value),
            "--every" => every = Duration::from_secs_f64(value.parse().unwrap_or(1.0)),
            _ => {
                eprintln!("unknown flag {flag}");
                return ExitCode::from(2);
            }
        }
    }
    let mut gunicorn = match Gunicorn::attach(options) {
        Ok(gunicorn) => gunicorn,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut told = Observation::default();
    let mut printed = Instant::now();
    loop {
        let now = gunicorn.observe(clock::now_ns());
        told.lost.extend(now.lost);
        told.deaths.extend(now.deaths);
        told.changes.extend(now.changes);
        let ends = now.gone.is_some();
        (told.snapshot, told.gone) = (now.snapshot, now.gone);
        if printed.elapsed() >= every || ends {
            printed = Instant::now();
            let line = serde_json::to_string(&std::mem::take(&mut told)).unwrap_or_default();
            let mut out = std::io::stdout().lock();
            // Whoever reads may have gone.
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return ExitCode::SUCCESS;
            }
            if ends {
                return ExitCode::SUCCESS;
            }
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
