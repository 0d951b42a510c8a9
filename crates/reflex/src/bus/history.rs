//! The stream as tables of a PostgreSQL, for questions over months and all hosts: each message becomes a row, once. Any number of observers
//! may do that together; the bus gives each message to one of them, and to another if it is not heard of. Messages wait there for a week.
//!
//! Not for: reading it. docs/hosts.md has the tables, which are public.

use super::News;
use crate::database::{Book, Target, Wire, connect, words};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{AckKind, Context, Message};
use ferricorn_core::log::Level;
use futures_util::StreamExt;
use serde_json::Value;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::time::sleep;

/// Messages that are written in one transaction.
const PORTION: usize = 64;
/// How long it waits for the first of them.
const EXPIRES: Duration = Duration::from_secs(5);
/// Whose messages are not acknowledged within this time has gone: others take them.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long it waits after an error.
const PAUSE: Duration = Duration::from_secs(10);
const CONSUMER: &str = "history";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS ferricorn.incidents (
    service text NOT NULL, host text NOT NULL, id text NOT NULL, at timestamptz NOT NULL,
    state text, cause text, route text, opened_at timestamptz, closed_at timestamptz, requests_lost bigint, body jsonb NOT NULL,
    PRIMARY KEY (service, host, id));
CREATE TABLE IF NOT EXISTS ferricorn.changes (
    service text NOT NULL, host text NOT NULL, id text NOT NULL, at timestamptz NOT NULL,
    kind text, name text, body jsonb NOT NULL,
    PRIMARY KEY (service, host, id));
CREATE TABLE IF NOT EXISTS ferricorn.actions (
    service text NOT NULL, host text NOT NULL, id text NOT NULL, at timestamptz NOT NULL,
    incident text, action text, outcome text, body jsonb NOT NULL,
    PRIMARY KEY (service, host, id));
";
/// $1 service, $2 host, $3 id, $4 at, $5 body.
const INCIDENT: &str = "
INSERT INTO ferricorn.incidents AS known
SELECT $1, $2, $3, to_timestamp($4), b->>'state', b->>'cause', b->>'route', to_timestamp((b->>'opened_at')::float8),
    to_timestamp((b->>'closed_at')::float8), (b->>'requests_lost')::bigint, b
FROM (SELECT $5::text::jsonb AS b) AS said
ON CONFLICT (service, host, id) DO UPDATE SET at = excluded.at, state = excluded.state, cause = excluded.cause,
    route = excluded.route, opened_at = excluded.opened_at, closed_at = excluded.closed_at,
    requests_lost = excluded.requests_lost, body = excluded.body
WHERE known.at <= excluded.at";
const CHANGE: &str = "
INSERT INTO ferricorn.changes
SELECT $1, $2, $3, to_timestamp($4), b->>'kind', b->>'name', b FROM (SELECT $5::text::jsonb AS b) AS said
ON CONFLICT (service, host, id) DO UPDATE SET body = excluded.body";
const ACTION: &str = "
INSERT INTO ferricorn.actions
SELECT $1, $2, $3, to_timestamp($4), b->>'incident', b->'action'->>'action', b->'action'->>'outcome', b
FROM (SELECT $5::text::jsonb AS b) AS said
ON CONFLICT (service, host, id) DO NOTHING";

/// A message as a row.
struct Row {
    statement: &'static str,
    service: String,
    host: String,
    id: String,
    at: f64,
    body: String,
}

impl Row {
    /// None of what has another shape: a newer version's.
    fn of(payload: &[u8]) -> Option<Self> {
        let said: Value = serde_json::from_slice(payload).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let body = said.get("body")?;
        let (statement, id) = match said.get("kind")?.as_str()? {
            "incident" => (INCIDENT, text(body.get("id")?)?),
            "change" => (CHANGE, format!("{}-{}", body.get("at")?.as_f64()?, text(body.get("name")?)?)),
            "action" => {
                let action = body.get("action")?;
                (ACTION, format!("{}-{}", action.get("number")?.as_u64()?, text(action.get("outcome")?)?))
            }
            _ => return None,
        };
        Some(Self {
            statement,
            service: text(said.get("service")?)?,
            host: text(said.get("host")?)?,
            id,
            at: said.get("at")?.as_f64()?,
            // A text in PostgreSQL has no such character, and its JSON has no word for it.
            body: body.to_string().replace("\\u0000", "\\ufffd"),
        })
    }
}

/// Writes until the runtime ends.
pub(super) async fn write(context: Context, target: Target, tell: Sender<News>) {
    let mut said: Option<String> = None;
    loop {
        let Err(error) = session(&context, &target, &tell, &mut said).await;
        if said.as_ref() != Some(&error) {
            let line = format!(
                "The history is not written to {}: {error}; what happens waits in the stream",
                target.name()
            );
            let _ = tell.send(News::Line(Level::Warning, line));
            said = Some(error);
        }
        sleep(PAUSE).await;
    }
}

async fn session(
    context: &Context,
    target: &Target,
    tell: &Sender<News>,
    said: &mut Option<String>,
) -> Result<std::convert::Infallible, String> {
    let wire = connect(target, &Book::of(target)).await?;
    prepare(&wire).await.map_err(|error| words(&error))?;
    let stream = context.get_stream(super::serve::STREAM).await.map_err(|error| error.to_string())?;
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_wait: ACK_WAIT,
        ..pull::Config::default()
    };
    let consumer =
        stream.get_or_create_consumer(CONSUMER, config).await.map_err(|error| error.to_string())?;
    let _ = tell.send(News::Line(Level::Info, format!("The history is written to {}", target.name())));
    *said = None;
    loop {
        let batch = consumer.batch().max_messages(PORTION).expires(EXPIRES).messages().await;
        let mut batch = batch.map_err(|error| error.to_string())?;
        let mut messages: Vec<Message> = Vec::new();
        while let Some(message) = batch.next().await {
            messages.push(message.map_err(|error| error.to_string())?);
        }
        if messages.is_empty() {
            // A connection that is gone shows at the next question.
            wire.client.simple_query("SELECT 1").await.map_err(|error| words(&error))?;
            continue;
        }
        let refused = keep(&wire, &messages).await.map_err(|error| words(&error))?;
        for why in refused {
            let line = format!("A message of the stream is left out of the history: {why}");
            let _ = tell.send(News::Line(Level::Warning, line));
        }
        for message in &messages {
            message.ack_with(AckKind::Ack).await.map_err(|error| error.to_string())?;
        }
    }
}

async fn prepare(wire: &Wire) -> Result<(), tokio_postgres::Error> {
    let known = wire.client.query_one("SELECT to_regnamespace('ferricorn') IS NOT NULL", &[]).await?;
    if !known.try_get::<_, bool>(0)? {
        wire.client.batch_execute("CREATE SCHEMA IF NOT EXISTS ferricorn").await?;
    }
    wire.client.batch_execute(TABLES).await
}

/// All of them or none, but for those whose data the database refuses: they would be refused for ever, and all others with them.
/// Returns why they are.
async fn keep(wire: &Wire, messages: &[Message]) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut refused = Vec::new();
    wire.client.batch_execute("BEGIN").await?;
    for row in messages.iter().filter_map(|message| Row::of(&message.payload)) {
        let Row { statement, service, host, id, at, body } = &row;
        wire.client.batch_execute("SAVEPOINT message").await?;
        match wire.client.execute(*statement, &[service, host, id, at, body]).await {
            Ok(_) => {}
            Err(error) if is_of_data(&error) => {
                refused.push(words(&error));
                wire.client.batch_execute("ROLLBACK TO message").await?;
            }
            Err(error) => {
                let _ = wire.client.batch_execute("ROLLBACK").await;
                return Err(error);
            }
        }
    }
    wire.client.batch_execute("COMMIT").await.map(|()| refused)
}

/// Tells whether the data are wrong, and not the database (class 22 of its errors).
fn is_of_data(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("22"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_rows_and_others_none() {
        let row = |text: &str| Row::of(text.as_bytes()).map(|row| (row.id, row.body));
        let incident = r#"{"schema":1,"kind":"incident","host":"web-1","service":"shop","at":7.5,"body":{"id":"20261127-1","route":"a\u0000b"}}"#;
        let (id, body) = row(incident).expect("a row");
        assert_eq!((id.as_str(), body.as_str()), ("20261127-1", r#"{"id":"20261127-1","route":"a\ufffdb"}"#));
        let action = r#"{"kind":"action","host":"h","service":"s","at":7,"body":{"incident":"1","action":{"number":4,"outcome":"done"}}}"#;
        assert_eq!(row(action).expect("a row").0, "4-done");
        let change = r#"{"kind":"change","host":"h","service":"s","at":7,"body":{"at":6.5,"name":"v2"}}"#;
        assert_eq!(row(change).expect("a row").0, "6.5-v2");
        for none in
            ["", "[]", "{}", r#"{"kind":"incident","body":{}}"#, r#"{"kind":"other","body":{"id":"1"}}"#]
        {
            assert!(row(none).is_none(), "{none}");
        }
    }
}
