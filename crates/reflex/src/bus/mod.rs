//! The bus that observers of several hosts share, NATS with JetStream: what each of them tells the others, the budget of all of them,
//! and a stream of everything that has happened. One thread that the observer never waits for; it connects by itself, and again.
//!
//! In the bus are two buckets and a stream, made by whoever comes first: `ferricorn_hosts` (one [`Beacon`] for each server, gone a
//! minute after its last word), `ferricorn_budgets` (one [`Shared`](ferricorn_core::hosts::Shared) for each service, changed by
//! compare-and-swap) and `FERRICORN` (`ferricorn.SERVICE.HOST.KIND`, a week). Who wants them replicated makes them beforehand.
//!
//! Not for: what is made of it (`crate::engine`), and not for what there is to say.

mod address;
mod history;
mod key;
mod serve;

pub use address::{Address, AddressError};

use crate::database::Target;
use crate::store::Outgoing;
use ferricorn_core::hosts::{Beacon, Claim, Limits};
use ferricorn_core::log::Level;
use key::part;
use std::io;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// Orders that wait; more are refused.
const ORDERS_MAX: usize = 64;
/// How long the end waits for what is under way.
const LEAVE: Duration = Duration::from_secs(2);

/// Something to be done there.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Tells the others.
    Tell(Box<Beacon>),
    /// Asks for an action out of the budget of all; `hosts` are there.
    Claim { ticket: u64, claim: Claim, hosts: usize, limits: Limits },
    /// Tells what was done without them, and takes the part for when they cannot be reached.
    Renew { told: Vec<Claim>, hosts: usize, limits: Limits },
    /// Adds to the stream.
    Publish(Vec<Outgoing>),
    /// This server has ended.
    Leave { told: Vec<Claim>, limits: Limits },
}

/// Something that has come from there.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// The bus can be reached.
    Here,
    /// It cannot.
    Away,
    /// What another host tells, or this one has told; by its key, with when that was.
    Told { key: String, at: f64, beacon: Box<Beacon> },
    /// What became of a claim; none if nobody knows.
    Claimed { ticket: u64, answer: Option<Result<(), String>> },
    /// The part for when the others cannot be reached, and the number of the last claim that they were told of.
    Renewed { count: u32, told: u64, at: f64 },
    /// These are in the stream.
    Published(Vec<i64>),
    /// For the log.
    Line(Level, String),
}

/// Who and where we are.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) service: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) started_ns: u64,
}

impl Own {
    /// Tells this server from all others that there are, and were: in a container each has the pid of the one before.
    pub(crate) fn server(&self) -> String {
        format!("{}/{}/{}", self.host, self.pid, self.started_ns)
    }

    /// Returns where in the stream something of this kind is: `incident`, `change`, `action`.
    pub(crate) fn subject(&self, kind: &str) -> String {
        format!("ferricorn.{}.{}.{kind}", part(&self.service), part(&self.host))
    }
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Bus {
    orders: Option<mpsc::Sender<Order>>,
    news: std_mpsc::Receiver<News>,
    thread: Option<JoinHandle<()>>,
}

impl Bus {
    /// Begins to connect; `history` is where the stream is written to.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn start(address: Address, own: Own, history: Option<Target>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (orders, heard) = mpsc::channel(ORDERS_MAX);
        let (tell, news) = std_mpsc::channel();
        let work = move || {
            runtime.block_on(serve::serve(&address, &own, history, heard, &tell));
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(work)?;
        Ok(Self { orders: Some(orders), news, thread: Some(thread) })
    }

    /// Has something done; false if too much waits already. Never waits.
    pub(crate) fn order(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok())
    }

    /// Takes what has come.
    pub(crate) fn news(&self) -> Vec<News> {
        self.news.try_iter().collect()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.orders = None;
        let Some(thread) = self.thread.take() else { return };
        // What was ordered last is done still, if that is possible at all.
        let until = Instant::now() + LEAVE;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            // If it has panicked, that is said already.
            let _ = thread.join();
        }
    }
}
