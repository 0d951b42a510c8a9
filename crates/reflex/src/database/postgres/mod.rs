//! PostgreSQL: which session is that of a connection, what it waits for, who holds that, how long its statement usually takes.
//!
//! [`standing`] is what may be seen, [`session`] a row of `pg_stat_activity`, [`join`] whose it is, [`blockers`] who holds locks,
//! [`statements`] and [`trend`] what has become slower, [`plan`] how a statement is worked on. Every question is one short
//! transaction that may not write.

mod blockers;
mod facts;
mod join;
mod plan;
mod session;
mod standing;
mod statements;
mod trend;

use super::answer::{Answer, End, Wanted, note};
use super::book::Book;
use super::connect::{Wire, connect, words};
use super::inodes::Inodes;
use super::line::{ANSWER_MAX, Asked, Rhythm};
use super::target::Target;
use ferricorn_core::evidence::{Database, Overall, Service};
use join::Found;
use session::{Activity, Keys, get};
use standing::{BEGIN, Standing, done};
use std::collections::BTreeMap;
use std::time::Instant;
use tokio_postgres::Error;

pub(super) use facts::facts;

/// How often counters of statements are read at most when questions come: so many times in what is a minute else.
const COUNTED_MAX: u32 = 6;

const WAITS: &str = "
SELECT coalesce(a.wait_event_type || '/' || a.wait_event, 'CPU'), count(*)::int FROM pg_stat_activity a
 WHERE a.state = 'active' AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
 GROUP BY 1 ORDER BY 2 DESC LIMIT 20";

/// What its processes are called.
const PROGRAM: &str = "postgres";

/// Everybody may know this sum.
const CONNECTIONS: &str = "SELECT sum(d.numbackends)::int FROM pg_stat_database d";

/// A connection to a PostgreSQL.
pub(super) struct Postgres {
    wire: Wire,
    standing: Standing,
    name: String,
    plan: bool,
    rhythm: Rhythm,
}

/// What outlives the connection.
#[derive(Debug, Default)]
pub(super) struct Memory {
    trend: trend::Trend,
    waits: trend::Waits,
    plans: plan::Plans,
    minute: Option<Instant>,
    /// When statements were last compared, and what came of it.
    compared: Option<(Instant, Vec<ferricorn_core::evidence::Statement>)>,
    /// How all of them did then.
    overall: Option<Overall>,
}

impl Asked for Postgres {
    type Memory = Memory;

    async fn open(target: &Target, book: &Book, rhythm: Rhythm) -> Result<Self, String> {
        let wire = connect(target, book).await?;
        let standing = standing::look(&wire).await.map_err(|error| words(&error))?;
        standing.paths.iter().for_each(|path| book.learn_path(path));
        Ok(Self { wire, standing, name: target.name(), plan: target.plan, rhythm })
    }

    fn gaps(&self) -> Vec<String> {
        self.standing.gaps.clone()
    }

    async fn ask(&mut self, wanted: &[Wanted], memory: &mut Memory) -> Result<Answer, String> {
        let mut answer = Answer {
            about: Database {
                service: Service::Postgres,
                name: self.name.clone(),
                connections_max: self.standing.connections_max,
                gaps: self.standing.gaps.clone(),
                ..Database::default()
            },
            ..Answer::default()
        };
        let begun = Instant::now();
        let sessions = match self.sessions(wanted, memory, &mut answer).await {
            Ok(sessions) => sessions,
            Err(error) => {
                self.pardon(error, "Sessions", &mut answer.about.gaps).await?;
                return Ok(answer);
            }
        };
        // What is found already must not be lost for what is only good to know as well.
        let has_time = || begun.elapsed() < ANSWER_MAX / 3;
        if has_time()
            && let Err(error) = self.compare(memory, &mut answer.about).await
        {
            self.pardon(error, "Times of statements", &mut answer.about.gaps).await?;
        }
        if self.plan && has_time() {
            self.plans(&sessions, memory, &mut answer).await;
        }
        Ok(answer)
    }

    async fn calm(&mut self, memory: &mut Memory) -> Result<(), String> {
        let client = &self.wire.client;
        let looked = async {
            client.batch_execute(BEGIN).await?;
            memory.waits.keep(self.waits().await?);
            done(client).await;
            if memory.minute.is_none_or(|last| last.elapsed() >= self.rhythm.statements)
                && let Some(schema) = &self.standing.statements
            {
                memory.minute = Some(Instant::now());
                client.batch_execute(BEGIN).await?;
                memory.trend.minute(&statements::read(client, schema).await?);
                done(client).await;
            }
            Ok(())
        };
        match looked.await {
            Ok(()) => Ok(()),
            // It is told to who asks.
            Err(error) => self.pardon(error, "", &mut Vec::new()).await,
        }
    }

    async fn ended(&mut self) {
        let _ = (&mut self.wire.ended).await;
    }
}

impl Postgres {
    /// Finds the sessions of connections and who holds what they wait for; returns those found, by number.
    async fn sessions(
        &self,
        wanted: &[Wanted],
        memory: &Memory,
        answer: &mut Answer,
    ) -> Result<Vec<(usize, Activity)>, Error> {
        let client = &self.wire.client;
        client.batch_execute(BEGIN).await?;
        let keys = keys(wanted, &self.standing);
        let rows = session::read(client, &keys).await?;
        let at_unix = |row: &&Activity| row.is_unix && keys.ports.contains(&-1);
        let inodes = Inodes::look(rows.iter().filter(at_unix).map(|row| row.pid), PROGRAM);
        let mut found = Vec::new();
        for (one, result) in wanted.iter().zip(join::find(&rows, wanted, &self.standing.view, &inodes)) {
            match result {
                Found::Session(at, doubt) => {
                    answer.gaps.extend(doubt.map(|doubt| (one.key, doubt)));
                    answer.sessions.push((one.key, rows[at].session(one.fd)));
                    found.push((one.key, rows[at].clone()));
                }
                Found::Missing => answer.missing.push(one.key),
                Found::Unclear(gap) => answer.gaps.push((one.key, gap)),
                Found::Nothing => {}
            }
        }
        let waiting = found.iter().filter(|(_, row)| row.waits_for_lock()).map(|(_, row)| row.pid).collect();
        let chains = blockers::follow(client, waiting).await?;
        let inodes = Inodes::look(chains.at_unix_sockets(), PROGRAM);
        for (_, session) in &mut answer.sessions {
            chains.complete(session, &inodes, &mut answer.about.gaps);
        }
        answer.about.activity = memory.waits.compare(&self.waits().await?);
        let row = client.query_typed_one(CONNECTIONS, &[]).await?;
        answer.about.connections = get::<i32>(&row, 0).unwrap_or_default().max(0).cast_unsigned();
        done(client).await;
        Ok(found)
    }

    async fn waits(&self) -> Result<BTreeMap<String, u32>, Error> {
        let rows = self.wire.client.query_typed(WAITS, &[]).await?;
        let waits = rows
            .iter()
            .filter_map(|row| Some((get::<String>(row, 0)?, get::<i32>(row, 1)?.max(0).cast_unsigned())));
        Ok(waits.collect())
    }

    /// Compares the times of statements with those before.
    async fn compare(&self, memory: &mut Memory, about: &mut Database) -> Result<(), Error> {
        let Some(schema) = &self.standing.statements else { return Ok(()) };
        if let Some((at, told)) = &memory.compared
            && at.elapsed() < self.rhythm.statements / COUNTED_MAX
        {
            about.statements.clone_from(told);
            about.overall = memory.overall;
            return Ok(());
        }
        let client = &self.wire.client;
        // Also where it fails: it is not tried again at once.
        memory.compared = Some((Instant::now(), Vec::new()));
        client.batch_execute(BEGIN).await?;
        let counters = statements::read(client, schema).await?;
        memory.overall = memory.trend.overall(&counters);
        about.overall = memory.overall;
        let risen = memory.trend.risen(&counters);
        about.statements = statements::tell(client, schema, &risen).await?;
        memory.compared = Some((Instant::now(), about.statements.clone()));
        done(client).await;
        Ok(())
    }

    /// Adds plans to the sessions that work on a statement for long.
    async fn plans(&self, sessions: &[(usize, Activity)], memory: &mut Memory, answer: &mut Answer) {
        let is_slow = |row: &Activity| {
            row.state == "active" && !row.waits_for_lock() && row.statement_s >= plan::STATEMENT_MIN_S
        };
        let slow = sessions.iter().filter(|(_, row)| is_slow(row)).take(plan::ASKED_MAX);
        for (key, row) in slow {
            match memory.plans.of(&self.wire.client, &self.standing, row, Instant::now()).await {
                Err(gap) => answer.gaps.push((*key, gap)),
                Ok(lines) => {
                    let session = answer.sessions.iter_mut().find(|(known, _)| known == key);
                    session.into_iter().for_each(|(_, session)| session.plan.clone_from(&lines));
                }
            }
        }
    }

    /// What the database refuses becomes a gap; that the connection has ended is an error.
    async fn pardon(&self, error: Error, what: &str, gaps: &mut Vec<String>) -> Result<(), String> {
        if error.as_db_error().is_none() || self.wire.client.is_closed() {
            return Err(words(&error));
        }
        done(&self.wire.client).await;
        note(gaps, format!("{what} could not be read: {}", words(&error)));
        Ok(())
    }
}

/// What to look for.
fn keys(wanted: &[Wanted], standing: &Standing) -> Keys {
    let mut keys = Keys::default();
    for one in wanted {
        match &one.end {
            End::Tcp(address) => keys.ports.push(address.port().into()),
            End::Unix(_) => keys.ports.push(-1),
            End::Pooled { pid, .. } => keys.pids.push(pid.cast_signed()),
            End::Unknown => {}
        }
        // Where addresses are translated, a name may still say whose session it is.
        if standing.view.translated.is_some() && one.sure {
            keys.names.push(format!("%{}", one.worker));
        }
    }
    keys
}
