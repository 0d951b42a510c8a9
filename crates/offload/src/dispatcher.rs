//! The process that keeps jobs and has them begun. One thread owns the store: it takes what workers ask, writes all that has come
//! together to the disk once, and then answers; so many requests share the wait for the disk. Attempts and long bodies have threads
//! of their own, which only read and write files, and tell.
//!
//! Not for: what is written (`store`), and not for what an attempt is made of (`attempt`).

use crate::StoreError;
use crate::attempt::Attempt;
use crate::elsewhere::{Question, Told as Word, Wanted};
use crate::rules::Rules;
use crate::store::{
    Body, Bounds, Due, Entry, Kept, Outcome, Part, Promise, RELAYED, SWEPT_MAX, Store, Work, named, written,
};
use crate::webhook::{Said, Webhooks};
use ferricorn_core::log::Level;
use ferricorn_core::offload::{
    Answer, Ask, Counts, MESSAGE_MAX, Request, State, Status, WITHDRAWN, webhook_host,
};
use ferricorn_sys::process::start_time;
use ferricorn_sys::{clock, packets};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// Messages taken from one worker before the others have their turn.
const TAKEN_MAX: usize = 256;
/// Answers that wait for a worker to read; one that reads nothing any more is let go.
const UNSENT_MAX: usize = 4096;
/// How often an owner with running jobs says that it lives, and others are looked at; how long its silence is believed, seconds.
const BEAT_S: f64 = 5.0;
const SILENCE_S: f64 = 30.0;
/// How often what was kept long enough is removed, seconds.
const SWEEP_S: f64 = 10.0;
/// How soon that goes on if there was too much for once, seconds.
const AGAIN_S: f64 = 0.1;
/// Files without a job that are younger may get one.
const YOUNG: Duration = Duration::from_secs(3600);
/// Long bodies that are written at a time.
const STORING_MAX: usize = 64;
/// How long nobody is accepted after that has failed, seconds.
const ACCEPT_PAUSE_S: f64 = 1.0;
/// A clock that has moved so far between two looks was set, seconds.
const STEP_S: f64 = 60.0;
/// Questions about jobs of other hosts at a time.
const FINDING_MAX: usize = 64;
/// Those that are told at a time that a job is over; when they are told again if this process ends meanwhile, seconds.
const TELLING_MAX: usize = 16;
const TELLING_S: f64 = 60.0;
/// How long nothing is written after something could not be, seconds.
const PAUSE_S: f64 = 1.0;

/// What a dispatcher needs.
pub struct Context<'a> {
    /// Where workers ask.
    pub counter: OwnedFd,
    /// The name of the listener of those who work on jobs.
    pub workers: Vec<u8>,
    /// What only the server's own processes know.
    pub token: String,
    /// Where jobs are kept.
    pub folder: PathBuf,
    /// Which service they are of.
    pub service: String,
    /// How much is kept.
    pub bounds: Bounds,
    /// What holds for the jobs of which route.
    pub rules: Rules,
    /// Who is told when a job is over, if anybody is.
    pub webhooks: Option<Webhooks>,
    /// How many jobs run at a time.
    pub capacity: usize,
    /// Whether those who are asked hand jobs on: they may know jobs that other hosts have taken.
    pub relayed: bool,
    /// The longest silence of a worker.
    pub patience: Duration,
    /// The users whose processes may ask.
    pub users: Vec<u32>,
    /// Tells whether the server is still there, and whether this process is to take no more jobs.
    pub told: Box<dyn Fn() -> Told + 'a>,
    /// Readable when that has changed.
    pub wake: OwnedFd,
    /// Where all can see what has been counted.
    pub counts: &'a Counts,
    /// Writes a line to the error log.
    pub log: &'a dyn Fn(Level, &str),
}

/// What a dispatcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Go on.
    Nothing,
    /// Begin no more jobs, and end when those that run have, and nobody asks any more.
    Drain,
    /// The same; who asks is another's from now on.
    HandOver,
    /// The server has ended.
    Orphan,
}

/// What threads tell.
enum News {
    /// An attempt is over.
    Ended { id: String, attempt: u32, lane: String, outcome: Outcome, part: PathBuf },
    /// Somebody was told that a job is over, or could not be.
    Told { due: Due, said: Said },
    /// What others know of a job that is not kept here.
    Found { client: u64, seq: u64, word: Word },
    /// A long body is on the disk, or could not be written.
    Stored { client: u64, seq: u64, request: Request, head: Vec<u8>, done: io::Result<()> },
}

/// Keeps and begins jobs until told to end.
///
/// # Errors
/// The store cannot be opened.
pub fn run(context: &Context<'_>) -> Result<(), StoreError> {
    let mut dispatcher = Dispatcher::open(context)?;
    dispatcher.live();
    Ok(())
}

struct Client {
    socket: OwnedFd,
    out: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

/// A worker that waits for a job to be another than it knows.
struct Parked {
    client: u64,
    seq: u64,
    id: String,
    tag: Option<String>,
    end: bool,
    until_s: f64,
}

/// An attempt that is being made.
struct Running {
    attempt: u32,
    /// The connection over which it is.
    stream: Arc<UnixStream>,
}

/// Something that is to be written.
enum Task {
    Keep { client: u64, seq: u64, request: Request, head: Vec<u8>, body: Body },
    Cancel { client: u64, seq: u64, id: String },
    Report { id: String, progress: ferricorn_core::offload::Progress },
    Told { due: Due, said: Said },
    Ended { id: String, attempt: u32, outcome: Outcome, part: PathBuf },
}

struct Dispatcher<'a> {
    context: &'a Context<'a>,
    store: Store,
    owner: String,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    tasks: Vec<Task>,
    parked: Vec<Parked>,
    /// Attempts that run, by job.
    running: BTreeMap<String, Running>,
    /// How many run in each lane that has a limit, here and for the dispatcher before.
    lanes: BTreeMap<String, usize>,
    others: BTreeMap<String, usize>,
    /// Long bodies that are being written.
    storing: usize,
    /// Questions to others that are not answered.
    finding: usize,
    /// Those who are being told that a job is over.
    telling: usize,
    news: (Sender<News>, Receiver<News>),
    bell: Arc<OwnedFd>,
    due_s: Option<f64>,
    /// When somebody is to be told next.
    telling_s: Option<f64>,
    beaten_s: f64,
    swept_s: f64,
    /// When it was written last.
    written_s: f64,
    /// Nobody is accepted before.
    accept_after_s: f64,
    not_before_s: f64,
    is_troubled: bool,
    is_draining: bool,
    hands_over: bool,
    room: Vec<u8>,
}

impl<'a> Dispatcher<'a> {
    fn open(context: &'a Context<'a>) -> Result<Self, StoreError> {
        let mut store = Store::create(&context.folder, &context.service, context.bounds)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| StoreError::Unreachable(context.folder.clone(), error.into()))?;
        if let Err(error) = store.tidy(YOUNG) {
            (context.log)(Level::Warning, &format!("Offload: {error}"));
        }
        store.begin()?;
        store.line_up(true, |method, path| context.rules.lane(method, path).to_owned())?;
        store.commit()?;
        let due_s = store.next_due(|lane| context.rules.room(lane))?;
        let telling_s = store.next_webhook()?;
        let waiting = store.held()?.jobs;
        if waiting > 0 {
            (context.log)(Level::Info, &format!("Offload: {waiting} jobs are not over yet"));
        }
        Ok(Self {
            context,
            store,
            owner: owner(context.relayed),
            clients: BTreeMap::new(),
            next_client: 0,
            tasks: Vec::new(),
            parked: Vec::new(),
            running: BTreeMap::new(),
            lanes: BTreeMap::new(),
            others: BTreeMap::new(),
            storing: 0,
            finding: 0,
            telling: 0,
            news: channel(),
            bell: Arc::new(bell),
            due_s,
            telling_s,
            beaten_s: 0.0,
            swept_s: 0.0,
            written_s: 0.0,
            accept_after_s: 0.0,
            not_before_s: 0.0,
            is_troubled: false,
            is_draining: false,
            hands_over: false,
            room: vec![0; MESSAGE_MAX * 2],
        })
    }

    fn live(&mut self) {
        loop {
            self.wait();
            let told = (self.context.told)();
            self.is_draining |= told != Told::Nothing;
            self.hands_over |= told == Told::HandOver;
            if self.hands_over {
                // They say again to the next one what is not answered.
                self.send_all();
                self.clients.clear();
                self.parked.clear();
            } else {
                self.accept();
            }
            self.hear_clients();
            self.hear_threads();
            let now_s = clock::wall_time_s();
            self.write(now_s);
            self.answer_parked(now_s);
            self.send_all();
            let is_idle =
                self.running.is_empty() && self.storing + self.telling == 0 && self.tasks.is_empty();
            if self.is_draining && is_idle && (told == Told::Orphan || self.clients.is_empty()) {
                return;
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) {
        let now_s = clock::wall_time_s();
        let mut until_s = now_s + 1.0;
        if let Some(due_s) = self.due_s.filter(|_| self.has_room()) {
            // One that cannot be taken now is not asked for all the time.
            until_s = until_s.min(due_s.max(self.written_s + AGAIN_S));
        }
        if let Some(telling_s) = self.telling_s.filter(|_| self.may_tell()) {
            until_s = until_s.min(telling_s.max(self.written_s + AGAIN_S));
        }
        until_s = self.parked.iter().map(|parked| parked.until_s).fold(until_s, f64::min);
        until_s = until_s.max(self.not_before_s);
        let timeout = clock::timespec(((until_s - now_s).clamp(0.0, 1.0) * 1e9) as u64);
        let mut fds =
            vec![PollFd::new(&*self.bell, PollFlags::IN), PollFd::new(&self.context.wake, PollFlags::IN)];
        if !self.hands_over && now_s >= self.accept_after_s {
            fds.push(PollFd::new(&self.context.counter, PollFlags::IN));
        }
        for client in self.clients.values() {
            let flags = if client.out.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            fds.push(PollFd::new(&client.socket, flags));
        }
        // Interrupted is as good as woken.
        let _ = poll(&mut fds, Some(&timeout));
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
    }

    fn has_room(&self) -> bool {
        !self.is_draining && self.running.len() < self.context.capacity
    }

    fn may_tell(&self) -> bool {
        !self.is_draining && self.context.webhooks.is_some() && self.telling < TELLING_MAX
    }

    /// Tells whether somebody is to be told by now.
    fn is_to_tell(&self, now_s: f64) -> bool {
        self.may_tell() && self.telling_s.is_some_and(|telling_s| telling_s <= now_s)
    }

    /// Returns how many more jobs of a lane may be begun.
    fn room_of(&self, lane: &str) -> usize {
        let running = |lanes: &BTreeMap<String, usize>| lanes.get(lane).copied().unwrap_or_default();
        self.context.rules.room(lane).saturating_sub(running(&self.lanes) + running(&self.others))
    }

    fn accept(&mut self) {
        loop {
            match packets::accept_of(self.context.counter.as_fd(), &self.context.users) {
                Ok(Some(socket)) => {
                    self.next_client += 1;
                    self.clients.insert(self.next_client, Client { socket, out: VecDeque::new() });
                }
                Ok(None) => return,
                Err(error) => {
                    // Too many files are open: some will be closed.
                    self.accept_after_s = clock::wall_time_s() + ACCEPT_PAUSE_S;
                    return (self.context.log)(Level::Error, &format!("Offload: accept: {error}"));
                }
            }
        }
    }

    fn hear_clients(&mut self) {
        let mut gone = Vec::new();
        let mut room = std::mem::take(&mut self.room);
        let numbers: Vec<u64> = self.clients.keys().copied().collect();
        for number in numbers {
            for _ in 0..TAKEN_MAX {
                let Some(client) = self.clients.get(&number) else { break };
                match packets::receive(client.socket.as_fd(), &mut room) {
                    Ok(None) => break,
                    Ok(Some((length, file))) if length > 0 => {
                        if let Some((seq, ask, tail)) = packets::read::<Ask>(&room[..length]) {
                            self.ask(number, seq, ask, tail, file);
                        }
                    }
                    Ok(Some(_)) | Err(_) => {
                        gone.push(number);
                        break;
                    }
                }
            }
        }
        self.room = room;
        self.dismiss(&gone);
    }

    /// Lets clients go that are not there any more, with what they wait for.
    fn dismiss(&mut self, gone: &[u64]) {
        self.clients.retain(|number, _| !gone.contains(number));
        self.parked.retain(|parked| !gone.contains(&parked.client));
    }

    fn ask(&mut self, client: u64, seq: u64, ask: Ask, tail: &[u8], file: Option<OwnedFd>) {
        match ask {
            Ask::Keep(request) => {
                let Some((head, body)) = tail.split_at_checked(request.head) else {
                    return self.answer(client, seq, &Answer::Full { detail: "a message was cut".into() });
                };
                match file {
                    // This process has no descriptor left for it.
                    None if body.len() as u64 != request.body => {
                        let detail = "its body could not be taken".to_owned();
                        self.answer(client, seq, &Answer::Full { detail });
                    }
                    None => {
                        let body = Body::Inline(body.to_vec());
                        self.tasks.push(Task::Keep { client, seq, request, head: head.to_vec(), body });
                    }
                    Some(file) => self.store_body(client, seq, request, head.to_vec(), file),
                }
            }
            Ask::Look { id, tag, end, wait_ms } if self.is_elsewhere(&id) => {
                let wait = Duration::from_millis(wait_ms);
                self.find(client, seq, id, Wanted::Status { tag, end, wait });
            }
            Ask::Take { id } if self.is_elsewhere(&id) => self.find(client, seq, id, Wanted::Response),
            Ask::Look { id, tag, end, wait_ms } => {
                let until_s = clock::wall_time_s() + wait_ms as f64 / 1000.0;
                self.parked.push(Parked { client, seq, id, tag, end, until_s });
            }
            Ask::Take { id } => self.take(client, seq, &id),
            Ask::Cancel { id } => self.tasks.push(Task::Cancel { client, seq, id }),
            Ask::Report { id, progress } => self.tasks.push(Task::Report { id, progress }),
        }
    }

    /// Tells whether a job can only be one that another host has taken.
    fn is_elsewhere(&self, id: &str) -> bool {
        self.context.relayed && matches!(self.store.status(id), Ok(None))
    }

    fn question(&self, id: &str) -> Question {
        let Context { token, workers, .. } = self.context;
        Question { id: id.to_owned(), token: token.clone(), relays: workers.clone() }
    }

    /// Asks others for a job that is not kept here.
    fn find(&mut self, client: u64, seq: u64, id: String, wanted: Wanted) {
        let full = |detail: &str| Answer::Full { detail: detail.to_owned() };
        if self.finding >= FINDING_MAX {
            return self.answer(client, seq, &full("too many ask for jobs of other hosts"));
        }
        let question = self.question(&id);
        let (told, bell) = (self.news.0.clone(), self.bell.clone());
        let body = move || {
            let word = question.told(&wanted);
            let _ = told.send(News::Found { client, seq, word });
            ring(&bell);
        };
        match thread::Builder::new().name("offload-find".into()).spawn(body) {
            Ok(_) => self.finding += 1,
            Err(error) => self.answer(client, seq, &full(&error.to_string())),
        }
    }

    /// Tells those who work on a job that nobody wants it any more.
    fn let_go(&self, id: &str, attempt: u32) {
        if let Some(running) = self.running.get(id) {
            self.hang_up(running);
        }
        self.withdraw(id, attempt);
    }

    /// Tells the thread of an attempt, and its worker, that nobody wants it any more.
    fn hang_up(&self, running: &Running) {
        // A relay looks for the end alone.
        if !self.context.relayed {
            let _ = send(&*running.stream, &[WITHDRAWN], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        let _ = shutdown(&*running.stream, Shutdown::Both);
    }

    /// Tells a Celery that works on a job that nobody wants it any more, up to this attempt.
    fn withdraw(&self, id: &str, attempt: u32) {
        if !self.context.relayed {
            return;
        }
        let question = self.question(id);
        // Without a thread for it, it is worked on for nobody.
        let _ = thread::Builder::new()
            .name("offload-cancel".into())
            .spawn(move || question.withdraw(attempt.max(1)));
    }

    /// Has a long body written to the disk; nobody waits for that.
    fn store_body(&mut self, client: u64, seq: u64, request: Request, head: Vec<u8>, file: OwnedFd) {
        if matches!(self.store.status(&request.id), Ok(Some(_))) {
            // Said again: it is there, and may be read just now.
            return self.tasks.push(Task::Keep { client, seq, request, head, body: Body::File });
        }
        if self.storing >= STORING_MAX {
            let detail = "too many long requests come at once".to_owned();
            return self.answer(client, seq, &Answer::Full { detail });
        }
        let path = self.store.file(&request.id, Part::Request);
        // Another dispatcher may have been told of the same.
        let own = self.store.file(&format!("{}.{}", request.id, std::process::id()), Part::Request);
        let (told, bell) = (self.news.0.clone(), self.bell.clone());
        self.storing += 1;
        let body = move || {
            let copying = AssertUnwindSafe(|| copied(&file, &own, request.body));
            let done = catch_unwind(copying)
                .unwrap_or_else(|_| Err(io::Error::other("its body could not be copied")))
                .and_then(|()| fs::rename(&own, &path))
                .and_then(|()| named(&path));
            if done.is_err() {
                // Of most there is none.
                let _ = fs::remove_file(&own);
            }
            let _ = told.send(News::Stored { client, seq, request, head, done });
            ring(&bell);
        };
        if let Err(error) = thread::Builder::new().name("offload-body".into()).spawn(body) {
            self.storing -= 1;
            self.answer(client, seq, &Answer::Full { detail: error.to_string() });
        }
    }

    fn hear_threads(&mut self) {
        while let Ok(news) = self.news.1.try_recv() {
            match news {
                News::Ended { id, attempt, lane, outcome, part } => {
                    if let Some(count) = self.lanes.get_mut(&lane) {
                        *count = count.saturating_sub(1);
                    }
                    if self.running.get(&id).is_some_and(|running| running.attempt == attempt) {
                        self.running.remove(&id);
                    }
                    self.tasks.push(Task::Ended { id, attempt, outcome, part });
                }
                News::Told { due, said } => {
                    self.telling -= 1;
                    self.tasks.push(Task::Told { due, said });
                }
                News::Found { client, seq, word: (answer, body, file) } => {
                    self.finding -= 1;
                    self.put(client, packets::written(seq, &answer, &[&body]), file);
                }
                News::Stored { client, seq, request, head, done } => {
                    self.storing -= 1;
                    match done {
                        Ok(()) => {
                            self.tasks.push(Task::Keep { client, seq, request, head, body: Body::File })
                        }
                        Err(error) => {
                            self.drop_body(&request.id);
                            self.answer(client, seq, &Answer::Full { detail: error.to_string() });
                        }
                    }
                }
            }
        }
    }

    /// Writes all that has come, begins what is due, and then answers.
    fn write(&mut self, now_s: f64) {
        // One that was set back does not count.
        if (0.0..=PAUSE_S).contains(&(self.not_before_s - now_s)) && now_s < self.not_before_s {
            return;
        }
        let is_due = self.has_room() && self.due_s.is_some_and(|due_s| due_s <= now_s);
        let tells = self.is_to_tell(now_s);
        let beats = now_s - self.beaten_s >= BEAT_S || now_s < self.beaten_s;
        let sweeps = now_s - self.swept_s >= SWEEP_S || now_s < self.swept_s;
        if self.tasks.is_empty() && !is_due && !tells && !beats && !sweeps {
            return;
        }
        let tasks = std::mem::take(&mut self.tasks);
        let moved_s = if self.written_s > 0.0 { now_s - self.written_s } else { 0.0 };
        self.written_s = now_s;
        match self.write_all(&tasks, (beats, sweeps), moved_s, now_s) {
            Ok((answers, work, due)) => {
                self.trouble(None);
                for task in &tasks {
                    if let Task::Told { due, said } = task {
                        self.report_told(due, said);
                    }
                }
                for (client, seq, answer) in answers {
                    self.answer(client, seq, &answer);
                }
                for one in work {
                    self.begin(one);
                }
                for one in due {
                    self.tell(one);
                }
                self.due_s = self.store.next_due(|lane| self.room_of(lane)).ok().flatten();
                self.telling_s = self.store.next_webhook().ok().flatten();
                self.count_all();
            }
            Err(error) => {
                self.store.roll_back();
                self.not_before_s = now_s + PAUSE_S;
                self.trouble(Some(&error.to_string()));
                for task in tasks {
                    match task {
                        // Its client may come again, or go elsewhere.
                        Task::Keep { client, seq, request, .. } => {
                            self.drop_body(&request.id);
                            self.answer(client, seq, &Answer::Full { detail: error.to_string() });
                        }
                        Task::Report { .. } => {}
                        other => self.tasks.push(other),
                    }
                }
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "answers to whom, what is to be begun, and who is to be told")]
    fn write_all(
        &mut self,
        tasks: &[Task],
        (beats, sweeps): (bool, bool),
        moved_s: f64,
        now_s: f64,
    ) -> Result<(Vec<(u64, u64, Answer)>, Vec<Work>, Vec<Due>), StoreError> {
        let mut answers = Vec::new();
        self.store.begin()?;
        if moved_s < -1.0 {
            self.store.hasten(now_s)?;
        }
        for task in tasks {
            match task {
                // Its client has been told that it is not kept.
                Task::Keep { request, .. }
                    if request.until_ms > 0 && now_s * 1e3 > request.until_ms as f64 =>
                {
                    self.drop_body(&request.id);
                }
                Task::Keep { client, seq, request, head, body } => {
                    let answer = match self.keep(request, head, body, now_s)? {
                        Kept::Status(status) => {
                            add(&self.context.counts.taken, u64::from(status.id == request.id));
                            Answer::Status(status)
                        }
                        Kept::Full(detail) => {
                            add(&self.context.counts.refused, 1);
                            Answer::Full { detail }
                        }
                        Kept::KeyReused => Answer::KeyReused,
                    };
                    // It may be another job's that it is answered with, or nobody's.
                    self.drop_body(&request.id);
                    answers.push((*client, *seq, answer));
                }
                Task::Cancel { client, seq, id } => {
                    let status = self.store.cancel(id, self.context.relayed, now_s)?;
                    if let Some(status) = status.as_ref().filter(|status| status.state == State::Cancelled) {
                        add(&self.context.counts.cancelled, 1);
                        self.let_go(id, status.attempts);
                    }
                    answers.push((*client, *seq, told(status)));
                }
                Task::Report { id, progress } => drop(self.store.report(id, progress)?),
                Task::Ended { id, attempt, outcome, part } => {
                    self.ended(id, *attempt, outcome, part, now_s)?
                }
                Task::Told { due, said } => {
                    let again_at = said.again_s.map(|again_s| now_s + again_s);
                    self.store.tried(due, said.error.as_deref(), again_at, now_s)?;
                }
            }
        }
        if sweeps {
            let swept = self.store.sweep(now_s)?;
            self.swept_s = if swept == SWEPT_MAX { now_s - SWEEP_S + AGAIN_S } else { now_s };
        }
        if beats {
            if !self.running.is_empty() {
                self.store.beat(&self.owner, now_s)?;
            }
            // Withdrawn by somebody else, over the store; and perhaps wanted again.
            let running: Vec<(String, u32)> =
                self.running.iter().map(|(id, running)| (id.clone(), running.attempt)).collect();
            for (id, attempt) in running {
                let is_wanted =
                    |status: &Status| status.state == State::Running && status.attempts == attempt;
                match self.store.status(&id)? {
                    Some(status) if is_wanted(&status) => {}
                    // It was taken over as not begun: whoever hands it on asks for the same attempt.
                    Some(status) if status.attempts < attempt => {
                        self.running.get(&id).into_iter().for_each(|running| self.hang_up(running));
                    }
                    _ => self.let_go(&id, attempt),
                }
            }
            let own = &self.owner;
            let adopted = self.store.adopt(
                |name, beat_s| name != own && moved_s < STEP_S && is_dead(name, beat_s, now_s),
                now_s,
            )?;
            for id in &adopted {
                if let Some(status) = self.store.status(id)? {
                    self.count_end(&status, !self.context.relayed);
                }
            }
            if !adopted.is_empty() {
                let text =
                    format!("Offload: {} jobs of a dispatcher that has died are taken over", adopted.len());
                (self.context.log)(Level::Warning, &text);
            }
            self.beaten_s = now_s;
        }
        let room = self.context.capacity.saturating_sub(self.running.len());
        let mut work = Vec::new();
        if self.has_room() {
            if self.context.rules.has_lanes() {
                let rules = &self.context.rules;
                self.store.line_up(false, |method, path| rules.lane(method, path).to_owned())?;
                self.others = self.store.run_by_others(&self.owner)?;
            }
            work = self.store.claim(&self.owner, room, |lane| self.room_of(lane), now_s)?;
            if !work.is_empty() {
                self.store.beat(&self.owner, now_s)?;
            }
        }
        let mut due = Vec::new();
        if self.is_to_tell(now_s) {
            due = self.store.claim_webhooks(TELLING_MAX - self.telling, now_s + TELLING_S, now_s)?;
        }
        self.store.commit()?;
        Ok((answers, work, due))
    }

    fn keep(&mut self, request: &Request, head: &[u8], body: &Body, now_s: f64) -> Result<Kept, StoreError> {
        let Context { rules, webhooks, .. } = self.context;
        let terms = rules.terms(&request.method, &request.path);
        let told = webhooks.iter().flat_map(|webhooks| [(&webhooks.url, true), (&request.webhook, false)]);
        let webhooks: Vec<Promise<'_>> =
            told.filter_map(|(url, is_own)| Some(Promise { url: url.as_deref()?, is_own })).collect();
        let entry = Entry {
            request,
            head,
            body,
            attempts_max: terms.attempts(request),
            retention_s: terms.retention_s,
            // Another has its own rules by now, and puts it in line.
            lane: (!self.is_draining).then(|| rules.lane(&request.method, &request.path)),
            webhooks: &webhooks,
        };
        self.store.keep(&entry, now_s)
    }

    /// Tells somebody that a job is over, in a thread of its own.
    fn tell(&mut self, due: Due) {
        let Some(webhooks) = &self.context.webhooks else { return };
        let (webhooks, told, bell) = (webhooks.clone(), self.news.0.clone(), self.bell.clone());
        let body = move || {
            let telling = AssertUnwindSafe(|| webhooks.tell(&due, clock::wall_time_s()));
            let said = catch_unwind(telling).unwrap_or_else(|_| Said::failed(due.tries));
            let _ = told.send(News::Told { due, said });
            ring(&bell);
        };
        // Without a thread it is told later.
        if thread::Builder::new().name("offload-webhook".into()).spawn(body).is_ok() {
            self.telling += 1;
        }
    }

    fn report_told(&self, due: &Due, said: &Said) {
        let counts = self.context.counts;
        let Some(why) = &said.error else { return add(&counts.told, 1) };
        let host = webhook_host(&due.url).unwrap_or_default();
        let next = match said.again_s {
            Some(again_s) => format!("it is told again in {again_s:.0} s"),
            None => {
                add(&counts.untold, 1);
                "it is given up".to_owned()
            }
        };
        let line = format!("Job {}: its webhook at {host} was not told: {why}; {next}", due.status.id);
        (self.context.log)(Level::Warning, &line);
    }

    /// Writes down what an attempt has come to, and puts its long body where it is looked for.
    fn ended(
        &mut self,
        id: &str,
        attempt: u32,
        outcome: &Outcome,
        part: &PathBuf,
        now_s: f64,
    ) -> Result<(), StoreError> {
        let is_wanted = self.store.finish(id, attempt, outcome, now_s)?;
        let keeps =
            matches!(outcome, Outcome::Answered(_, Body::File) | Outcome::Failed(_, Some((_, Body::File))));
        if keeps && is_wanted {
            let path = self.store.file(id, Part::Response);
            match fs::rename(part, &path) {
                // It was there already when this could not be written down.
                Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {}
                other => other.map_err(|error| StoreError::Unreachable(path.clone(), error))?,
            }
            named(&path).map_err(|error| StoreError::Unreachable(path.clone(), error))?;
        } else if keeps {
            let _ = fs::remove_file(part);
        }
        let status = if is_wanted { self.store.status(id)? } else { None };
        if let Some(status) = &status {
            self.count_end(status, matches!(outcome, Outcome::Failed(..)));
        }
        if let (Outcome::Failed(error, _), Some(status)) = (outcome, &status) {
            let next = if status.state.is_over() { "it is given up" } else { "it is begun again" };
            let line = format!(
                "Job {id}: {} {}: attempt {attempt} of {}: {}; {next}",
                status.method, status.path, status.attempts_max, error.detail
            );
            (self.context.log)(Level::Warning, &line);
        }
        Ok(())
    }

    /// Removes the long body of a request that has become no job.
    fn drop_body(&self, id: &str) {
        if matches!(self.store.status(id), Ok(None)) {
            // Of most there is none.
            let _ = fs::remove_file(self.store.file(id, Part::Request));
        }
    }

    fn count_end(&self, status: &Status, has_failed: bool) {
        let counts = self.context.counts;
        let lasted_s = status.ended_at.zip(status.started_at).map_or(0.0, |(end_s, since_s)| end_s - since_s);
        match status.state {
            State::Done => {
                add(&counts.done, 1);
                add(&counts.ran_us, (lasted_s.max(0.0) * 1e6) as u64);
            }
            State::Failed => {
                let cause = status.error.as_ref().map(|error| error.cause).unwrap_or_default();
                add(&counts.failed[cause as usize], 1);
            }
            State::Queued if has_failed => add(&counts.retried, 1),
            _ => {}
        }
    }

    /// Shows how much there is.
    fn count_all(&self) {
        // Another has taken this one's place.
        if self.is_draining {
            return;
        }
        let (counts, running) = (self.context.counts, self.running.len() as u64);
        let held = self.store.held().unwrap_or_default();
        counts.waiting.store(held.jobs.saturating_sub(running), Relaxed);
        counts.running.store(running, Relaxed);
        counts.bytes.store(held.bytes, Relaxed);
        let oldest_s = self.store.oldest().ok().flatten().unwrap_or_default();
        counts.oldest_ms.store((oldest_s * 1e3) as u64, Relaxed);
    }

    /// Begins an attempt in a thread of its own.
    fn begin(&mut self, work: Work) {
        let (id, attempt, lane) = (work.request.id.clone(), work.attempt, work.lane.clone());
        let Context { token, patience, relayed, .. } = self.context;
        let one = Attempt::of(work, &self.store, token, *patience, *relayed);
        let part = one.part.clone();
        let not_begun = |part| Task::Ended { id: id.clone(), attempt, outcome: Outcome::NotBegun, part };
        let stream = match packets::stream_to(&self.context.workers) {
            Ok(socket) => Arc::new(UnixStream::from(socket)),
            Err(_) => return self.tasks.push(not_begun(part)),
        };
        let (told, bell) = (self.news.0.clone(), self.bell.clone());
        let (own, of, in_lane) = (stream.clone(), id.clone(), lane.clone());
        let body = move || {
            let making = AssertUnwindSafe(|| one.make(&own));
            let outcome = catch_unwind(making).unwrap_or_else(|_| one.lost());
            let _ = told.send(News::Ended { id: of, attempt, lane: in_lane, outcome, part: one.part });
            ring(&bell);
        };
        match thread::Builder::new().name("offload-job".into()).spawn(body) {
            Ok(_) => {
                if !lane.is_empty() {
                    *self.lanes.entry(lane).or_default() += 1;
                }
                let before = self.running.insert(id.clone(), Running { attempt, stream });
                if let Some(before) = before {
                    // Withdrawn and begun again by somebody else, over the store.
                    self.hang_up(&before);
                    self.withdraw(&id, before.attempt);
                }
            }
            Err(_) => self.tasks.push(not_begun(part)),
        }
    }

    fn take(&mut self, client: u64, seq: u64, id: &str) {
        let found = self.store.response(id);
        let (answer, body, file) = match found {
            Ok(Some((response, Body::Inline(body)))) => (Answer::Response(response), body, None),
            Ok(Some((response, Body::File))) => match File::open(self.store.file(id, Part::Response)) {
                Ok(file) => (Answer::Response(response), Vec::new(), Some(OwnedFd::from(file))),
                Err(_) => (Answer::Absent, Vec::new(), None),
            },
            Ok(None) => match self.store.status(id) {
                Ok(status) => (told(status), Vec::new(), None),
                Err(error) => (Answer::Full { detail: error.to_string() }, Vec::new(), None),
            },
            Err(error) => (Answer::Full { detail: error.to_string() }, Vec::new(), None),
        };
        self.put(client, packets::written(seq, &answer, &[&body]), file);
    }

    /// Answers who waits for a job that is another than it knows, or has waited long enough.
    fn answer_parked(&mut self, now_s: f64) {
        let parked = std::mem::take(&mut self.parked);
        for one in parked {
            let answer = match self.store.status(&one.id) {
                Ok(Some(status)) => {
                    if !status.is_news(one.tag.as_deref(), one.end) && now_s < one.until_s {
                        self.parked.push(one);
                        continue;
                    }
                    Answer::Status(Box::new(status))
                }
                Ok(None) => Answer::Absent,
                Err(error) => Answer::Full { detail: error.to_string() },
            };
            self.answer(one.client, one.seq, &answer);
        }
    }

    fn answer(&mut self, client: u64, seq: u64, answer: &Answer) {
        self.put(client, packets::written(seq, answer, &[]), None);
    }

    fn put(&mut self, client: u64, bytes: Vec<u8>, file: Option<OwnedFd>) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.out.push_back((bytes, file));
        }
    }

    fn send_all(&mut self) {
        let mut gone = Vec::new();
        for (number, client) in &mut self.clients {
            while let Some((bytes, file)) = client.out.front() {
                match packets::send(client.socket.as_fd(), bytes, file.as_ref().map(AsFd::as_fd)) {
                    Ok(true) => drop(client.out.pop_front()),
                    Ok(false) => break,
                    Err(_) => {
                        client.out.clear();
                        gone.push(*number);
                    }
                }
            }
            if client.out.len() > UNSENT_MAX {
                gone.push(*number);
            }
        }
        self.dismiss(&gone);
    }

    /// Says once that nothing can be written, and once that it can again.
    fn trouble(&mut self, why: Option<&str>) {
        match why {
            Some(why) if !self.is_troubled => {
                (self.context.log)(Level::Error, &format!("Offload: nothing can be kept for now: {why}"));
            }
            None if self.is_troubled => (self.context.log)(Level::Info, "Offload: jobs are kept again"),
            _ => {}
        }
        self.is_troubled = why.is_some();
    }
}

fn add(cell: &AtomicU64, by: u64) {
    cell.fetch_add(by, Relaxed);
}

fn told(status: Option<Status>) -> Answer {
    status.map_or(Answer::Absent, |status| Answer::Status(Box::new(status)))
}

/// Copies a body that has to be so long.
fn copied(file: &OwnedFd, to: &Path, length: u64) -> io::Result<()> {
    // Opened anew: whoever else has it reads at places of its own.
    let mut from = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if written(to, &mut from)? == length {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

fn ring(bell: &OwnedFd) {
    // A full counter rings as well.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// Returns the name of this process, which no other has: where its numbers count, its number, and when it was started.
fn owner(relayed: bool) -> String {
    let pid = std::process::id();
    let end = if relayed { RELAYED } else { "" };
    format!("{}-{pid}-{}{end}", space(), start_time(pid).unwrap_or_default())
}

/// Returns the space in which numbers of processes count here.
fn space() -> String {
    let link = fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
    link.unwrap_or_default().chars().filter(char::is_ascii_digit).collect()
}

/// Tells whether an owner is dead: its process is gone, or where that cannot be seen, it has been silent for too long.
fn is_dead(name: &str, beat_s: f64, now_s: f64) -> bool {
    let mut words = name.split('-');
    let (of, pid, since) = (words.next(), words.next(), words.next());
    if of == Some(space().as_str())
        && let Some(pid) = pid.and_then(|pid| pid.parse().ok())
    {
        return start_time(pid).map(|ticks| ticks.to_string()).as_deref() != since;
    }
    now_s - beat_s > SILENCE_S
}

#[cfg(test)]
#[path = "dispatcher_tests.rs"]
mod tests;
