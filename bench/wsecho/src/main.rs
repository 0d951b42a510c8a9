//! A closed-loop WebSocket client: every connection sends a text message, waits for its echo, sends the next.
//!
//! No two messages are the same and every echo is compared. One thread polls all sockets without sleeping, so it
//! wants a core of its own. Prints one line of JSON.
//!
//! Not an open loop: a latency is what a client waits that has company, the length of the queue at full load.
#![forbid(unsafe_code)]

mod connection;
mod frame;

use std::io::Result;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use connection::Connection;

const USAGE: &str = "usage: wsecho ADDRESS PATH --connections N --bytes N --seconds N";
/// How long an echo may take before the run counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A message carries the numbers of its connection and of itself, in hexadecimal.
const BYTES_MIN: usize = 24;

/// What the command line asks for.
struct Plan {
    address: SocketAddr,
    path: String,
    connections: usize,
    bytes: usize,
    seconds: f64,
}

impl Plan {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Plan> {
        let (address, path) = (args.next()?.parse().ok()?, args.next()?);
        let mut plan = Plan { address, path, connections: 0, bytes: 0, seconds: 0.0 };
        while let Some(name) = args.next() {
            let value = args.next()?;
            match name.as_str() {
                "--connections" => plan.connections = value.parse().ok()?,
                "--bytes" => plan.bytes = value.parse().ok()?,
                "--seconds" => plan.seconds = value.parse().ok()?,
                _ => return None,
            }
        }
        (plan.connections > 0 && plan.bytes >= BYTES_MIN && plan.seconds > 0.0).then_some(plan)
    }
}

/// The echoes of one run.
struct Tally {
    latencies: Vec<Duration>,
    elapsed: Duration,
}

impl Tally {
    fn print(mut self) {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let rank = (self.latencies.len() as f64 * share).ceil() as usize;
            self.latencies.get(rank.max(1) - 1).map_or(0, |latency| latency.as_micros())
        };
        println!(
            "{{\"requests\": {}, \"duration_us\": {}, \"p50_us\": {}, \"p99_us\": {}, \"max_us\": {}}}",
            self.latencies.len(),
            self.elapsed.as_micros(),
            at(0.5),
            at(0.99),
            at(1.0),
        );
    }
}

fn run(plan: &Plan) -> Result<Tally> {
    let open = |number| Connection::open(plan.address, &plan.path, plan.bytes, number);
    let mut connections = (0..plan.connections).map(open).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(plan.seconds);
    let mut latencies = Vec::with_capacity(1 << 20);
    for connection in &mut connections {
        connection.send()?;
    }
    while Instant::now() < end {
        for connection in &mut connections {
            if connection.poll(PATIENCE)? {
                latencies.push(connection.sent.elapsed());
                connection.send()?;
            }
        }
    }
    // Messages still under way are dropped: the next run has connections of its own.
    Ok(Tally { latencies, elapsed: start.elapsed() })
}

fn main() -> ExitCode {
    let Some(plan) = Plan::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&plan) {
        Ok(tally) => {
            tally.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
