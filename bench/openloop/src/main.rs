//! An open-loop HTTP client: sends GET requests at a constant rate, whether or not earlier ones have been answered.
//!
//! Each latency is counted from the instant at which the request was meant to start, so a server that stops for a
//! second is charged for every request of that second. A client that waits for its answers (wrk) skips them.
//! One thread polls its busy sockets; between requests it sleeps. Prints one line of JSON.
//!
//! Not a general client: no TLS, no chunked bodies, no redirects. A response without Content-Length is a failure.
#![forbid(unsafe_code)]

mod connection;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use connection::{Connection, Progress};

const USAGE: &str =
    "usage: openloop ADDRESS PATH --rate N --seconds N --connections N [--warmup SECONDS] [--poll-us N]";
/// How long a request may take before it counts as failed. Also bounds how long the program outlives its schedule.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sleeping overshoots by about this much; the rest of a wait is spun.
const SLEEP_SLACK: Duration = Duration::from_micros(150);

/// What the command line asks for.
struct Plan {
    address: SocketAddr,
    path: String,
    rate: f64,
    seconds: f64,
    warmup: f64,
    connections: usize,
    /// Pause between two looks at the sockets while an answer is due; zero spins.
    poll: Duration,
}

impl Plan {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Plan> {
        let mut plan = Plan {
            address: args.next()?.parse().ok()?,
            path: args.next()?,
            rate: 0.0,
            seconds: 0.0,
            warmup: 0.0,
            connections: 0,
            poll: Duration::ZERO,
        };
        while let Some(name) = args.next() {
            let value = args.next()?;
            match name.as_str() {
                "--rate" => plan.rate = value.parse().ok()?,
                "--seconds" => plan.seconds = value.parse().ok()?,
                "--warmup" => plan.warmup = value.parse().ok()?,
                "--connections" => plan.connections = value.parse().ok()?,
                "--poll-us" => plan.poll = Duration::from_micros(value.parse().ok()?),
                _ => return None,
            }
        }
        (plan.rate > 0.0 && plan.seconds > 0.0 && plan.connections > 0).then_some(plan)
    }
}

/// What came of the requests.
#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    failed: u64,
    /// Kept-alive connections that the server closed just as they were used again.
    retried: u64,
    /// The first reason of a failure: enough to know where to look.
    reason: Option<String>,
}

impl Tally {
    fn fail(&mut self, requests: u64, reason: String) {
        self.failed += requests;
        self.reason.get_or_insert(reason);
    }

    fn print(mut self, elapsed: Duration) {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let rank = (self.latencies.len() as f64 * share).ceil() as usize;
            self.latencies.get(rank.max(1) - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
        };
        let reason = self.reason.as_deref().unwrap_or("").replace(['"', '\\'], "'");
        println!(
            "{{\"answered\": {}, \"failed\": {}, \"retried\": {}, \"elapsed_s\": {:.3}, \"p50_ms\": {:.4}, \
             \"p99_ms\": {:.4}, \"p999_ms\": {:.4}, \"max_ms\": {:.4}, \"reason\": \"{reason}\"}}",
            self.latencies.len(),
            self.failed,
            self.retried,
            elapsed.as_secs_f64(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
        );
    }
}

/// The sockets and the schedule.
struct Client {
    plan: Plan,
    start: Instant,
    connections: Vec<Connection>,
    /// First in, first out: the load visits every connection, hence every worker.
    free: VecDeque<usize>,
    busy: Vec<usize>,
    next: u64,
    total: u64,
    tally: Tally,
}

impl Client {
    fn new(plan: Plan) -> Client {
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", plan.path, plan.address);
        let connections: Vec<_> =
            (0..plan.connections).map(|_| Connection::new(plan.address, request.clone())).collect();
        let total = (plan.rate * (plan.warmup + plan.seconds)) as u64;
        Client {
            start: Instant::now() + Duration::from_millis(20),
            free: (0..connections.len()).collect(),
            busy: Vec::with_capacity(connections.len()),
            connections,
            next: 0,
            total,
            tally: Tally::default(),
            plan,
        }
    }

    fn intended(&self, request: u64) -> Instant {
        self.start + Duration::from_secs_f64(request as f64 / self.plan.rate)
    }

    fn run(mut self) {
        let give_up = self.intended(self.total) + PATIENCE;
        while (self.next < self.total || !self.busy.is_empty()) && Instant::now() < give_up {
            self.send_due();
            self.read_answers();
            self.pause();
        }
        let open = self.busy.len() as u64 + (self.total - self.next);
        if open > 0 {
            self.tally.fail(open, "no answer".to_owned());
        }
        let elapsed = self.start.elapsed();
        self.tally.print(elapsed);
    }

    fn send_due(&mut self) {
        while self.next < self.total {
            let intended = self.intended(self.next);
            if intended > Instant::now() {
                return;
            }
            let Some(index) = self.free.pop_front() else { return };
            self.next += 1;
            match self.connections[index].send(intended) {
                Ok(()) => self.busy.push(index),
                Err(error) => {
                    self.tally.fail(1, error.to_string());
                    self.free.push_back(index);
                }
            }
        }
    }

    fn read_answers(&mut self) {
        let recorded_from = self.start + Duration::from_secs_f64(self.plan.warmup);
        let mut slot = 0;
        while let Some(&index) = self.busy.get(slot) {
            let connection = &mut self.connections[index];
            match connection.poll(PATIENCE) {
                Ok(Progress::Waiting) => {
                    slot += 1;
                    continue;
                }
                Ok(Progress::Retried) => {
                    self.tally.retried += 1;
                    slot += 1;
                    continue;
                }
                Ok(Progress::Answered) => {
                    if connection.intended >= recorded_from {
                        self.tally.latencies.push(connection.intended.elapsed());
                    }
                }
                Err(error) => {
                    connection.drop_stream();
                    self.tally.fail(1, error.to_string());
                }
            }
            self.busy.swap_remove(slot);
            self.free.push_back(index);
        }
    }

    fn pause(&self) {
        if !self.busy.is_empty() {
            if !self.plan.poll.is_zero() {
                std::thread::sleep(self.plan.poll);
            }
            return;
        }
        let wait = self.intended(self.next).saturating_duration_since(Instant::now());
        if self.next < self.total && wait > SLEEP_SLACK * 2 {
            std::thread::sleep(wait - SLEEP_SLACK);
        }
    }
}

fn main() -> ExitCode {
    let Some(plan) = Plan::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    Client::new(plan).run();
    ExitCode::SUCCESS
}
