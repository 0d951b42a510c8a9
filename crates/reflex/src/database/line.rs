//! Keeps one connection to one database: opens it, opens it again when it has ended, answers questions on it, looks around
//! while all is calm. What it costs us that a database is not there: a line in the log when it goes and one when it comes.
//!
//! Not for: what is asked ([`Asked`] does that), and not for when.

use super::answer::{Answer, Ask, Wanted};
use super::book::Book;
use super::cancel::{Cancelled, Order, Victim};
use super::outbox::Outbox;
use super::target::Target;
use ferricorn_core::log::Level;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a database may take for one question.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(1500);
/// How soon a connection is tried again, at first and at last.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often databases are looked at while nobody asks.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// What sessions wait for.
    pub waits: Duration,
    /// Times of statements, which become a part of the past that new ones are compared with.
    pub statements: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { waits: Duration::from_secs(15), statements: Duration::from_secs(60) }
    }
}

/// A connection to one kind of database.
pub(super) trait Asked: Sized {
    /// What outlives the connection.
    type Memory: Default;

    /// Connects, and sees what can be seen.
    async fn open(target: &Target, book: &Book, rhythm: Rhythm) -> Result<Self, String>;

    /// What cannot be seen, and what to do about it.
    fn gaps(&self) -> Vec<String>;

    /// Answers. An error means that the connection is of no use any more.
    async fn ask(&mut self, wanted: &[Wanted], memory: &mut Self::Memory) -> Result<Answer, String>;

    /// Ends a statement. An error means that the connection is of no use any more.
    async fn cancel(&mut self, victim: &Victim) -> Result<Cancelled, String>;

    /// Looks at what matters when things get slow.
    async fn calm(&mut self, memory: &mut Self::Memory) -> Result<(), String>;

    /// Returns when the connection has ended; never, if that cannot be noticed.
    async fn ended(&mut self);
}

/// What is there of a connection.
enum State<A> {
    Open(A),
    /// Why not, and when it is tried again.
    Closed {
        why: String,
        tried: Instant,
        pause: Duration,
    },
}

/// Serves until nobody can ask any more.
pub(super) async fn keep<A: Asked>(
    target: Target,
    book: Arc<Book>,
    mut asks: Receiver<Ask>,
    mut orders: Receiver<Order>,
    outbox: Arc<Outbox>,
    rhythm: Rhythm,
) {
    let mut keeper =
        Keeper::<A> { target, book, outbox, rhythm, memory: A::Memory::default(), was_open: None };
    let mut state = keeper.open(PAUSE_MIN).await;
    let mut calm = Instant::now();
    loop {
        let next = match &state {
            State::Open(_) => calm,
            State::Closed { tried, pause, .. } => *tried + *pause,
        };
        tokio::select! {
            ask = asks.recv() => {
                let Some(ask) = ask else { return };
                state = keeper.answer(state, ask).await;
            }
            Some(order) = orders.recv() => state = keeper.obey(state, order).await,
            () = sleep_until(next) => {
                calm = Instant::now() + rhythm.waits;
                state = keeper.look(state).await;
            }
            () = ended(&mut state) => state = keeper.closed("the connection has ended".to_owned(), PAUSE_MIN),
        }
    }
}

async fn ended<A: Asked>(state: &mut State<A>) {
    match state {
        State::Open(line) => line.ended().await,
        State::Closed { .. } => std::future::pending().await,
    }
}

struct Keeper<A: Asked> {
    target: Target,
    book: Arc<Book>,
    outbox: Arc<Outbox>,
    rhythm: Rhythm,
    memory: A::Memory,
    /// What the log knows.
    was_open: Option<bool>,
}

impl<A: Asked> Keeper<A> {
    async fn open(&mut self, pause: Duration) -> State<A> {
        // Each place has its time; looking around afterwards needs some as well.
        let patience = self.target.patience * self.target.places.len() as u32 + ANSWER_MAX;
        let opened = timeout(patience, A::open(&self.target, &self.book, self.rhythm)).await;
        match opened.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
            Ok(line) => {
                if self.was_open.is_none() {
                    self.say_open(&line);
                }
                State::Open(line)
            }
            Err(why) => self.closed(why, pause),
        }
    }

    fn say_open(&mut self, line: &A) {
        self.was_open = Some(true);
        let (kind, name) = (self.target.service.name(), self.target.name());
        let gaps: String = line.gaps().iter().map(|gap| format!("; {}", lower(gap))).collect();
        let text = format!("Observer asks {kind} at {name} what connections wait for{gaps}");
        self.outbox.log(Level::Info, text);
    }

    fn closed(&mut self, why: String, pause: Duration) -> State<A> {
        if self.was_open != Some(false) {
            self.was_open = Some(false);
            let (kind, name) = (self.target.service.name(), self.target.name());
            let text = format!(
                "Observer cannot ask {kind} at {name}: {why}. Requests do not need it; it is tried again"
            );
            self.outbox.log(Level::Warning, text);
        }
        State::Closed { why, tried: Instant::now(), pause }
    }

    /// It is time: for a look, or for a connection.
    async fn look(&mut self, state: State<A>) -> State<A> {
        match state {
            State::Closed { pause, .. } => self.open((pause * 2).min(PAUSE_MAX)).await,
            State::Open(mut line) => {
                let looked = timeout(ANSWER_MAX, line.calm(&mut self.memory)).await;
                match looked.unwrap_or_else(|_| Err(late())) {
                    Ok(()) => {
                        // One that comes and goes all the time is told once in a while.
                        if self.was_open == Some(false) {
                            self.say_open(&line);
                        }
                        State::Open(line)
                    }
                    Err(why) => self.closed(why, PAUSE_MIN),
                }
            }
        }
    }

    /// Ends a statement, on a connection that has to be there.
    async fn obey(&mut self, state: State<A>, order: Order) -> State<A> {
        let Order { id, victim } = order;
        let State::Open(mut line) = state else {
            let State::Closed { why, .. } = &state else { return state };
            self.outbox.cancelled(id, Cancelled::Refused(why.clone()));
            return state;
        };
        let done = timeout(ANSWER_MAX, line.cancel(&victim)).await.unwrap_or_else(|_| Err(late()));
        match done {
            Ok(done) => {
                self.outbox.cancelled(id, done);
                State::Open(line)
            }
            Err(why) => {
                self.outbox.cancelled(id, Cancelled::Refused(why.clone()));
                self.closed(why, PAUSE_MIN)
            }
        }
    }

    async fn answer(&mut self, state: State<A>, ask: Ask) -> State<A> {
        if ask.reply.is_closed() {
            // It has waited too long for us to connect.
            return state;
        }
        let state = match state {
            // Who asks has a reason: no need to wait for the end of a long pause.
            State::Closed { tried, pause, .. } if tried.elapsed() >= PAUSE_MIN => self.open(pause).await,
            state => state,
        };
        match state {
            State::Closed { why, tried, pause } => {
                // Nobody may wait any more.
                let _ = ask.reply.send(Err(why.clone()));
                State::Closed { why, tried, pause }
            }
            State::Open(mut line) => {
                let answered = timeout(ANSWER_MAX, line.ask(&ask.wanted, &mut self.memory)).await;
                let answered = answered.unwrap_or_else(|_| Err(late()));
                let failed = answered.as_ref().err().cloned();
                let _ = ask.reply.send(answered);
                match failed {
                    None => State::Open(line),
                    Some(why) => self.closed(why, PAUSE_MIN),
                }
            }
        }
    }
}

fn late() -> String {
    format!("it did not answer within {:.1} s", ANSWER_MAX.as_secs_f64())
}

/// A sentence that goes on after a semicolon.
fn lower(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}
