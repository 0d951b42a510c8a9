//! Reads the counters of `pg_stat_statements`, and the texts of those few statements that are told. Not for: comparing them
//! ([`super::trend`]).

use super::session::get;
use super::standing::quoted;
use super::trend::{Count, Key, Risen, STATEMENTS_MAX};
use ferricorn_core::evidence::Statement;
use ferricorn_core::sql;
use std::collections::BTreeMap;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

/// Most bytes that are read of a text.
const TEXT_MAX: i32 = 16 << 10;

/// Reads the counters, without the texts: those are in a file, which would be read as a whole.
pub(super) async fn read(client: &Client, schema: &str) -> Result<BTreeMap<Key, Count>, Error> {
    // The column has another name since version 1.8, of PostgreSQL 13.
    match counters(client, schema, "total_exec_time").await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
            client.batch_execute("ROLLBACK").await?;
            client.batch_execute(super::standing::BEGIN).await?;
            counters(client, schema, "total_time").await
        }
        other => other,
    }
}

async fn counters(client: &Client, schema: &str, time: &str) -> Result<BTreeMap<Key, Count>, Error> {
    let schema = quoted(schema);
    let query = format!(
        "SELECT s.dbid, s.queryid, sum(s.calls)::int8, sum(s.{time})::float8
           FROM {schema}.pg_stat_statements(false) s WHERE s.queryid IS NOT NULL
          GROUP BY 1, 2 ORDER BY 4 DESC LIMIT {STATEMENTS_MAX}"
    );
    let rows = client.query_typed(&query, &[]).await?;
    let counts = rows.iter().filter_map(|row| {
        let key = (get::<u32>(row, 0)?, get::<i64>(row, 1)?);
        let calls = get::<i64>(row, 2)?.max(0).cast_unsigned();
        Some((key, Count { calls, ms: get(row, 3)? }))
    });
    Ok(counts.collect())
}

/// Adds their texts to statements that have risen.
pub(super) async fn tell(client: &Client, schema: &str, risen: &[Risen]) -> Result<Vec<Statement>, Error> {
    if risen.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT s.dbid, s.queryid, left(min(s.query), $2) FROM {}.pg_stat_statements(true) s
          WHERE s.queryid = ANY($1) GROUP BY 1, 2",
        quoted(schema)
    );
    let ids: Vec<i64> = risen.iter().map(|risen| risen.key.1).collect();
    let rows = client.query_typed(&query, &[(&ids, Type::INT8_ARRAY), (&TEXT_MAX, Type::INT4)]).await?;
    let texts: BTreeMap<Key, String> = rows
        .iter()
        .filter_map(|row| Some(((get::<u32>(row, 0)?, get::<i64>(row, 1)?), get::<String>(row, 2)?)))
        .collect();
    let told = risen.iter().filter_map(|risen| {
        let text = texts.get(&risen.key)?;
        Some(Statement {
            query: sql::normalized(text),
            mean_ms: risen.mean_ms,
            before_ms: risen.before_ms,
            calls: risen.calls,
        })
    });
    Ok(told.collect())
}
