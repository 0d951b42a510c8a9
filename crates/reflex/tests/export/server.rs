//! A server that is none: a scoreboard with numbers, and whoever publishes what stands in it.

use ferricorn_core::diagnosis::Cause;
use ferricorn_core::incident::{Incident, State as Course, Trigger};
use ferricorn_core::latency::{Class, Key};
use ferricorn_core::scoreboard::{Entry, Exit, MAGIC, Scoreboard, Timed, VERSION};
use ferricorn_core::snapshot::{Snapshot, read};
use ferricorn_reflex::export::{Config, Exports, Shared, start};
use ferricorn_sys::clock;
use ferricorn_sys::shared::SharedMemory;
use rustix::event::{PollFd, PollFlags, poll};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MS: u64 = 1_000_000;
/// A route that everybody has to escape.
pub const ODD_ROUTE: &str = "/odd/\"quoted\"\\d+/{ä}";

pub struct Server {
    pub board: &'static Scoreboard,
    pub shared: Arc<Shared>,
    pub exports: Option<Exports>,
    incidents: Arc<Mutex<Vec<Incident>>>,
    end: Arc<AtomicBool>,
    observer: Option<JoinHandle<()>>,
}

/// Starts a server with everything that can be counted.
pub fn serve(config: Config) -> Server {
    let board = SharedMemory::<Scoreboard>::create("exports").expect("memory").value();
    fill(board);
    let shared = Shared::new().expect("a place");
    let incidents = Arc::new(Mutex::new(vec![incident("20261126-7", Course::Open, Cause::DbLock)]));
    let end = Arc::new(AtomicBool::new(false));
    let observer = {
        let (shared, incidents, end) = (shared.clone(), incidents.clone(), end.clone());
        std::thread::spawn(move || observe(board, &shared, &incidents, &end))
    };
    wait_for("a look", || shared.latest());
    let exports = start(config, &shared);
    Server { board, shared, exports: Some(exports), incidents, end, observer: Some(observer) }
}

/// As the observer does: at least once a second, and when somebody asks.
fn observe(board: &Scoreboard, shared: &Shared, incidents: &Mutex<Vec<Incident>>, end: &AtomicBool) {
    while !end.load(Relaxed) {
        let mut fds = [PollFd::new(shared, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&clock::timespec(50 * MS)));
        shared.wanted();
        shared.tick();
        let snapshot = read(board, clock::now_ns(), clock::wall_time_s()).expect("a scoreboard");
        shared.publish(Arc::new(snapshot), incidents.lock().expect("whole").clone());
    }
}

impl Server {
    /// Returns what stands in the scoreboard.
    pub fn snapshot(&self) -> Snapshot {
        read(self.board, clock::now_ns(), clock::wall_time_s()).expect("a scoreboard")
    }

    /// Stops looking, as an observer that hangs.
    pub fn look_away(&mut self) {
        self.end.store(true, Relaxed);
        self.observer.take().into_iter().for_each(|thread| thread.join().expect("ended"));
    }

    /// Returns the URL of `admin_bind`.
    pub fn url(&self) -> String {
        let exports = self.exports.as_ref().expect("running");
        let address = wait_for("an address", || exports.admin_address());
        format!("http://{address}")
    }

    pub fn incidents(&self, incidents: Vec<Incident>) {
        *self.incidents.lock().expect("whole") = incidents;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.look_away();
    }
}

/// Tries until there is something.
pub fn wait_for<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = get() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no {what} within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn incident(id: &str, state: Course, cause: Cause) -> Incident {
    Incident {
        id: id.to_owned(),
        state,
        cause,
        trigger: Some(Trigger::Losses),
        verdict: format!("trouble {id}"),
        route: "POST /transfer".to_owned(),
        opened_at: Some(clock::wall_time_s() - 60.0),
        requests_lost: 5,
        ..Incident::default()
    }
}

fn fill(board: &Scoreboard) {
    let now_ns = clock::now_ns();
    board.magic.store(MAGIC, Relaxed);
    board.version.store(VERSION, Relaxed);
    board.arbiter_pid.store(std::process::id(), Relaxed);
    board.started_ns.store(now_ns.saturating_sub(3_600_000 * MS), Relaxed);
    board.workers_target.store(2, Relaxed);
    board.generation.store(3, Relaxed);
    board.threads.store(4, Relaxed);
    board.name.store(b"shop");
    board.release.store(b"0.1.0");
    board.worker_class.store(b"gthread");
    board.exits[Exit::OutOfMemory as usize].store(2, Relaxed);
    board.exits[Exit::Planned as usize].store(8, Relaxed);
    for slot in 0..2 {
        fill_worker(board, slot, now_ns);
    }
    let routes = [
        ("/reports/<int:id>", "GET", Class::Success, 400, 7),
        ("/reports/<int:id>", "GET", Class::Lost, 3, 30_000_001),
        (ODD_ROUTE, "POST", Class::ServerError, 20, 900),
        ("/", "GET", Class::Redirection, 5, 0),
    ];
    for (number, (route, method, class, count, us)) in routes.into_iter().enumerate() {
        let cells = &board.workers[number % 2].routes;
        let key = Key { route: route.to_owned(), named: true, method: method.to_owned(), class };
        let cell = cells.claim(&key);
        for nth in 0..count {
            // Spread over several octaves, so that no two buckets are alike.
            cells.record(cell, nth * 3, us + nth * nth * 5);
            cells.record_write(cell, nth);
        }
        cells.record_unserved(cell, 5_000_000);
    }
}

fn fill_worker(board: &Scoreboard, number: usize, now_ns: u64) {
    let slot = &board.workers[number];
    let base = number as u64 + 1;
    // Somebody was there before, and has ended.
    board.claim(number, number as u32 + 1, 0, now_ns);
    slot.requests.store(1_000 * base, Relaxed);
    slot.statuses[1].store(900 * base, Relaxed);
    slot.bytes_sent.store(1 << 33, Relaxed);
    slot.shed.store(2, Relaxed);
    slot.release();
    board.claim(number, number as u32 + 3, 3, now_ns.saturating_sub(60_000 * MS));
    slot.pid.store(4_711 + number as u32, Relaxed);
    slot.threads.store(4, Relaxed);
    slot.threads_free.store(1, Relaxed);
    slot.queued.store(2, Relaxed);
    slot.connections.store(17, Relaxed);
    slot.taken_over.store(number as u32, Relaxed);
    slot.timed[Timed::App as usize].record(5_000);
    slot.ready(now_ns.saturating_sub(58_500 * MS));
    // It is looked at for as long as a test takes, and is to be alive then.
    slot.beat_ns.store(now_ns + 3_600_000 * MS, Relaxed);
    let counters =
        [&slot.requests, &slot.statuses[4], &slot.refused, &slot.shed, &slot.timed_out, &slot.takeovers];
    for (counter, more) in counters.into_iter().zip(1..) {
        counter.fetch_add(more * base, Relaxed);
    }
    slot.records.store(1, Relaxed);
    slot.used_records()[0].enter(&Entry {
        id: 9,
        start_ns: now_ns.saturating_sub(2_500 * MS * base),
        complete_ns: now_ns.saturating_sub(2_400 * MS * base),
        app_ns: now_ns.saturating_sub(2_300 * MS * base),
        deadline_ns: now_ns + 3_600_000 * MS,
        tid: 1,
        fd: 9,
        place: 0,
        method: b"GET",
        path: b"/reports/7",
        query: b"",
        body_bytes: 0,
        client: b"10.0.0.7:4711",
    });
}
