//! The observer's side of it: one thread that asks, and that nobody waits for. It ends with its owner.
//!
//! Not for: what the answers mean.

use super::answer::Ask;
use super::book::Book;
use super::cancel::{Cancelled, Order, Victim};
use super::line::{Rhythm, keep};
use super::mysql::Mysql;
use super::outbox::{Answered, Outbox};
use super::pace::Pace;
use super::pgbouncer::Pgbouncer;
use super::postgres::Postgres;
use super::question::Question;
use super::round::{Desk, round};
use super::target::Target;
use ferricorn_core::evidence::Service;
use ferricorn_core::log::Level;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// Most questions that wait; beyond that they are refused.
pub const QUESTIONS_MAX: usize = 64;
/// Most statements of one database that wait to be ended.
const ORDERS_MAX: usize = 16;
/// Most questions that are asked in one round.
const ROUND_MAX: usize = 16;

/// Databases that can be asked.
#[derive(Debug)]
pub struct Databases {
    questions: Option<mpsc::Sender<Question>>,
    /// By name of the database.
    orders: Vec<(String, mpsc::Sender<Order>)>,
    /// Dropped, it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    books: Vec<Arc<Book>>,
    outbox: Arc<Outbox>,
    thread: Option<JoinHandle<()>>,
}

impl Databases {
    /// Begins to ask; the thread connects by itself, and again where that fails. Without targets there is none.
    ///
    /// # Errors
    /// When the system has no descriptor or no thread left.
    pub fn start(targets: Vec<Target>) -> io::Result<Self> {
        Self::start_at(targets, Rhythm::default())
    }

    /// Begins to ask, and looks at databases as often as is said here while nobody asks.
    ///
    /// # Errors
    /// As above.
    pub fn start_at(targets: Vec<Target>, rhythm: Rhythm) -> io::Result<Self> {
        let outbox = Arc::new(Outbox::new()?);
        let books: Vec<Arc<Book>> = targets.iter().map(|target| Arc::new(Book::of(target))).collect();
        let mut databases = Self {
            questions: None,
            orders: Vec::new(),
            stop: None,
            books: books.clone(),
            outbox: outbox.clone(),
            thread: None,
        };
        if targets.is_empty() {
            return Ok(databases);
        }
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (stop, stopped) = oneshot::channel();
        let mut heard = Vec::new();
        for target in &targets {
            let (orders, hears) = mpsc::channel(ORDERS_MAX);
            databases.orders.push((target.name(), orders));
            heard.push(hears);
        }
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(targets, books, heard, asked, outbox, rhythm) => {}
                    _ = stopped => {}
                }
            });
            // A name that is still being looked up is nobody's concern any more.
            runtime.shutdown_background();
        };
        databases.thread = Some(std::thread::Builder::new().name("databases".to_owned()).spawn(work)?);
        databases.questions = Some(questions);
        databases.stop = Some(stop);
        Ok(databases)
    }

    /// Tells what is at the other end of a socket (`ip:port`, or the path of a unix socket), if it is one of ours.
    pub fn serves(&self, peer: &str) -> Option<Service> {
        self.books.iter().find(|book| book.serves(peer)).map(|book| book.service)
    }

    /// Asks; false if too many questions wait already, or there is nobody to ask. Never waits.
    pub fn ask(&self, question: Question) -> bool {
        self.questions.as_ref().is_some_and(|questions| questions.try_send(question).is_ok())
    }

    /// Has a statement ended; false if that database is none of these, or too many wait already. Never waits: what became of it is
    /// told under this number.
    pub fn cancel(&self, id: u64, victim: Victim) -> bool {
        let orders = self.orders.iter().find(|(name, _)| *name == victim.database).map(|(_, orders)| orders);
        orders.is_some_and(|orders| orders.try_send(Order { id, victim }).is_ok())
    }

    /// Takes what became of statements that were to end.
    pub fn cancelled(&self) -> Vec<(u64, Cancelled)> {
        self.outbox.all_cancelled()
    }

    /// Takes the answers that have come.
    pub fn answers(&self) -> Vec<Answered> {
        self.outbox.answers()
    }

    /// Takes lines for the log.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.outbox.lines()
    }
}

/// Readable while there are answers or lines.
impl AsFd for Databases {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outbox.as_fd()
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // If it has panicked, that is said already.
            let _ = thread.join();
        }
    }
}

async fn serve(
    targets: Vec<Target>,
    books: Vec<Arc<Book>>,
    heard: Vec<mpsc::Receiver<Order>>,
    mut questions: mpsc::Receiver<Question>,
    outbox: Arc<Outbox>,
    rhythm: Rhythm,
) {
    let each = targets.into_iter().zip(books).zip(heard);
    let opened = each.map(|((target, book), orders)| open(target, book, orders, &outbox, rhythm));
    let desks: Vec<Desk> = opened.collect();
    let begun = Instant::now();
    let mut pace = Pace::default();
    while let Some(first) = questions.recv().await {
        // More may come meanwhile, and are asked together.
        sleep(pace.wait(begun.elapsed())).await;
        pace.take(begun.elapsed());
        let mut batch = vec![first];
        while batch.len() < ROUND_MAX
            && let Ok(more) = questions.try_recv()
        {
            batch.push(more);
        }
        for (id, databases) in round(&desks, &batch).await {
            outbox.answer(id, databases);
        }
    }
}

fn open(
    target: Target,
    book: Arc<Book>,
    orders: mpsc::Receiver<Order>,
    outbox: &Arc<Outbox>,
    rhythm: Rhythm,
) -> Desk {
    // One question at a time: who is not done with it gets no other.
    let (asks, asked) = mpsc::channel::<Ask>(1);
    let name = target.name();
    let (desk, outbox) = (Desk { name, book: book.clone(), asks }, outbox.clone());
    match target.service {
        Service::Pgbouncer => {
            drop(tokio::spawn(keep::<Pgbouncer>(target, book, asked, orders, outbox, rhythm)))
        }
        Service::Mysql => drop(tokio::spawn(keep::<Mysql>(target, book, asked, orders, outbox, rhythm))),
        _ => drop(tokio::spawn(keep::<Postgres>(target, book, asked, orders, outbox, rhythm))),
    }
    desk
}
