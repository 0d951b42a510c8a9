//! The thread's work: connects, does what was ordered, hears what others tell. Not for: what that means.

use super::key::part;
use super::{Address, News, Order, Own, history};
use crate::database::Target;
use crate::store::Outgoing;
use async_nats::HeaderMap;
use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::kv::{self, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::{self, Context, stream};
use async_nats::{Client, ConnectOptions};
use ferricorn_core::hosts::{Beacon, Shared};
use ferricorn_core::log::Level;
use ferricorn_sys::clock;
use futures_util::StreamExt;
use std::error::Error;
use std::future::Future;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How long one thing may take there: an answer that comes later is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long after the start a bus that has not come yet is no news.
const SETTLE: Duration = Duration::from_secs(3);
/// How often it is looked whether the bus has come.
const LOOK: Duration = Duration::from_secs(1);
/// Others may change the budget at the same moment: so often it is tried anew.
const TRIES: u32 = 16;
/// After so long without a word a server is not in the bucket any more.
const BEACON_AGE: Duration = Duration::from_secs(60);
const EVENT_AGE: Duration = Duration::from_secs(7 * 86_400);
/// How large the stream may get, bytes; then the oldest goes.
const STREAM_BYTES: i64 = 256 << 20;
/// The same event within so long is one.
const DUPLICATES: Duration = Duration::from_secs(3600);

const HOSTS: &str = "ferricorn_hosts";
const BUDGETS: &str = "ferricorn_budgets";
pub(super) const STREAM: &str = "FERRICORN";

type Failure = Box<dyn Error + Send + Sync>;

/// What there is in the bus.
struct Opened {
    context: Context,
    hosts: Store,
    budgets: Store,
    watch: kv::Watch,
}

/// Serves until nobody orders anything any more.
pub(super) async fn serve(
    address: &Address,
    own: &Own,
    history: Option<Target>,
    mut orders: Receiver<Order>,
    tell: &Sender<News>,
) {
    let client = match connect(address, own).await {
        Ok(client) => client,
        Err(error) => {
            let text = format!("Other hosts are not heard of: {error}");
            let _ = tell.send(News::Line(Level::Error, text));
            let _ = tell.send(News::Away);
            // Nothing is left to be done, and orders are refused one by one.
            while let Some(order) = orders.recv().await {
                refuse(&order, tell);
            }
            return;
        }
    };
    let mut serving =
        Serving { address, own, client, tell, opened: None, history, said: None, begun: Instant::now() };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let heard = async {
            match &mut serving.opened {
                Some(opened) => opened.watch.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => serving.carry_out(order).await,
                None => return,
            },
            entry = heard => serving.hear(entry),
            _ = looks.tick() => serving.look().await,
        }
    }
}

async fn connect(address: &Address, own: &Own) -> Result<Client, Failure> {
    let options: ConnectOptions = address.options()?;
    let options = options
        .name(format!("ferricorn {} on {}", own.service, own.host))
        .retry_on_initial_connect()
        .connection_timeout(PATIENCE)
        .ping_interval(Duration::from_secs(5))
        .request_timeout(Some(PATIENCE))
        .reconnect_delay_callback(|attempts| Duration::from_millis(100 * attempts.min(20) as u64));
    Ok(options.connect(address.servers.as_slice()).await?)
}

/// Says that nobody knows what became of an order.
fn refuse(order: &Order, tell: &Sender<News>) {
    if let Order::Claim { ticket, .. } = order {
        let _ = tell.send(News::Claimed { ticket: *ticket, answer: None });
    }
}

/// Does something that must not take long.
async fn soon<T, E: Into<Failure>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err("it does not answer".into()),
    }
}

struct Serving<'a> {
    address: &'a Address,
    own: &'a Own,
    client: Client,
    tell: &'a Sender<News>,
    opened: Option<Opened>,
    /// Where the stream is written to; nothing once that has begun.
    history: Option<Target>,
    /// What was said last: why the bus cannot be used, or nothing if it can.
    said: Option<Option<String>>,
    begun: Instant,
}

impl Serving<'_> {
    fn tell(&self, news: News) {
        // Nobody hears it any more: the end is near.
        let _ = self.tell.send(news);
    }

    fn here(&mut self) {
        if self.said != Some(None) {
            let text = format!("Other hosts are heard of by NATS at {}", self.address.shown());
            self.tell(News::Line(Level::Info, text));
            self.said = Some(None);
        }
        self.tell(News::Here);
    }

    fn away(&mut self, error: &dyn std::fmt::Display) {
        let why = Some(error.to_string());
        let is_news = self.said.as_ref() != Some(&why) && self.begun.elapsed() > SETTLE;
        if is_news {
            let line = format!(
                "Other hosts are not heard of: NATS at {} cannot be used: {error}. Until then this host does by itself only what is left of its own part, and a quarter of its budgets",
                self.address.shown()
            );
            self.tell(News::Line(Level::Warning, line));
            self.said = Some(why);
        }
        self.tell(News::Away);
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Opens what there is, once there is a connection.
    async fn look(&mut self) {
        if !self.is_connected() {
            self.away(&"there is no connection");
        } else if self.opened.is_none() {
            match open(&self.client).await {
                Ok(opened) => {
                    if let Some(target) = self.history.take() {
                        // It ends with the runtime.
                        tokio::spawn(history::write(opened.context.clone(), target, self.tell.clone()));
                    }
                    self.opened = Some(opened);
                    self.here();
                }
                Err(error) => self.away(&error),
            }
        }
    }

    fn hear(&mut self, entry: Option<Result<kv::Entry, kv::WatcherError>>) {
        match entry {
            Some(Ok(entry)) if entry.operation == Operation::Put => {
                let Ok(beacon) = serde_json::from_slice::<Beacon>(&entry.value) else { return };
                let at = entry.created.unix_timestamp_nanos() as f64 / 1e9;
                self.tell(News::Told { key: entry.key, at, beacon: Box::new(beacon) });
            }
            Some(Ok(entry)) => {
                self.tell(News::Told { key: entry.key, at: 0.0, beacon: Box::default() });
            }
            // It begins anew.
            Some(Err(_)) | None => self.opened = None,
        }
    }

    async fn carry_out(&mut self, order: Order) {
        let Some(opened) = self.opened.as_ref().filter(|_| self.is_connected()) else {
            return refuse(&order, self.tell);
        };
        let done = match &order {
            Order::Tell(beacon) => put_beacon(opened, self.own, beacon).await,
            Order::Claim { ticket, claim, hosts, limits } => {
                let change =
                    |shared: &mut Shared| shared.claim(claim.clone(), *hosts, limits, clock::wall_time_s());
                let answer = swap(opened, self.own, change).await;
                let (answer, done) = match answer {
                    Ok(answer) => (Some(answer), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                self.tell(News::Claimed { ticket: *ticket, answer });
                done
            }
            Order::Renew { told, hosts, limits } => {
                let at = clock::wall_time_s();
                let change = |shared: &mut Shared| shared.renew(&self.own.server(), told, *hosts, limits, at);
                let told = told.iter().map(|claim| claim.number).max().unwrap_or(0);
                swap(opened, self.own, change).await.map(|count| self.tell(News::Renewed { count, told, at }))
            }
            Order::Publish(events) => publish(opened, events)
                .await
                .map(|()| self.tell(News::Published(events.iter().map(|event| event.number).collect()))),
            Order::Leave { told, limits } => {
                let change = |shared: &mut Shared| {
                    shared.leave(&self.own.server(), told, limits, clock::wall_time_s());
                };
                let left = swap(opened, self.own, change).await;
                let gone = soon(opened.hosts.delete(self.own.beacon_key())).await;
                left.and(gone)
            }
        };
        match done {
            Ok(()) => self.here(),
            Err(error) => self.away(&error),
        }
    }
}

impl Own {
    fn beacon_key(&self) -> String {
        format!("{}.{}.{}", part(&self.service), part(&self.host), self.pid)
    }
}

async fn open(client: &Client) -> Result<Opened, Failure> {
    let context = jetstream::new(client.clone());
    let hosts = bucket(HOSTS, BEACON_AGE, "Ferricorn: servers and what goes wrong there");
    let budgets = bucket(BUDGETS, Duration::ZERO, "Ferricorn: what all hosts of a service may do");
    soon(context.get_or_create_stream(hosts)).await?;
    soon(context.get_or_create_stream(budgets)).await?;
    let hosts = soon(context.get_key_value(HOSTS)).await?;
    let budgets = soon(context.get_key_value(BUDGETS)).await?;
    let events = stream::Config {
        name: STREAM.to_owned(),
        description: Some("Ferricorn: incidents, changes, actions".to_owned()),
        subjects: vec!["ferricorn.>".to_owned()],
        max_age: EVENT_AGE,
        max_bytes: STREAM_BYTES,
        duplicate_window: DUPLICATES,
        ..stream::Config::default()
    };
    soon(context.get_or_create_stream(events)).await?;
    let watch = soon(hosts.watch_with_history(">")).await?;
    Ok(Opened { context, hosts, budgets, watch })
}

/// Returns the stream that is a bucket (NATS ADR-8). The library makes one only where the server tells of its account as versions
/// from 2.10 on do; Debian 12 has 2.9.
fn bucket(name: &str, max_age: Duration, description: &str) -> stream::Config {
    stream::Config {
        name: format!("KV_{name}"),
        description: Some(description.to_owned()),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age,
        max_bytes: 16 << 20,
        discard: stream::DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        num_replicas: 1,
        ..stream::Config::default()
    }
}

async fn put_beacon(opened: &Opened, own: &Own, beacon: &Beacon) -> Result<(), Failure> {
    let body = serde_json::to_vec(beacon)?;
    soon(opened.hosts.put(own.beacon_key(), body.into())).await.map(drop)
}

/// Changes the budget of the service, and returns what came of it. Whoever is second begins anew, with what the first has left.
async fn swap<T>(opened: &Opened, own: &Own, change: impl Fn(&mut Shared) -> T) -> Result<T, Failure> {
    let key = part(&own.service);
    for _ in 0..TRIES {
        let entry = soon(opened.budgets.entry(key.clone())).await?;
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let kept = entry.filter(|entry| entry.operation == Operation::Put);
        let mut shared = match kept {
            // What cannot be read is not written over: it is a newer version's.
            Some(entry) => serde_json::from_slice::<Shared>(&entry.value)?,
            None => Shared::default(),
        };
        let answer = change(&mut shared);
        let body = serde_json::to_vec(&shared)?;
        match timeout(PATIENCE, opened.budgets.update(&key, body.into(), revision)).await {
            Ok(Ok(_)) => return Ok(answer),
            Ok(Err(error)) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err("it does not answer".into()),
        }
    }
    Err("too many hosts change the budget at the same time".into())
}

async fn publish(opened: &Opened, events: &[Outgoing]) -> Result<(), Failure> {
    let mut answers = Vec::with_capacity(events.len());
    for event in events {
        // What arrives twice is dropped there.
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, event.id.as_str());
        let body = event.body.clone().into();
        let sent = opened.context.publish_with_headers(event.subject.clone(), headers, body);
        answers.push(soon(sent).await?);
    }
    for answer in answers {
        soon(answer.into_future()).await?;
    }
    Ok(())
}
