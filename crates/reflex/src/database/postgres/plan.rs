//! How the database would work on a statement that takes long: which large tables it reads as a whole, and which column has no
//! index. Asked for only where the target says `plan=1`: planning calls functions that the statement names, as the role that
//! asks, and needs the right to read its tables.
//!
//! Never runs the statement: `EXPLAIN` without `ANALYZE`, in a transaction that may not write and waits for no lock, and only
//! after the server itself has found the text to be one statement. Not for: statements that wait for a lock.

use super::session::{Activity, get};
use super::standing::{BEGIN, Standing, done};
use ferricorn_core::sql;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// For so long a plan is not asked for again.
const KEPT: Duration = Duration::from_secs(60);
/// Most plans that are kept.
const KEPT_MAX: usize = 32;
/// Most plans that are asked for at a time.
pub(super) const ASKED_MAX: usize = 2;
/// A statement that takes less is not worth a question, seconds.
pub(super) const STATEMENT_MIN_S: f64 = 0.5;
/// Reading a table of fewer rows as a whole is right.
const ROWS_MIN: f64 = 10_000.0;
/// Most lines that are told.
const LINES_MAX: usize = 6;
/// How deep plans are looked into.
const DEPTH_MAX: usize = 64;
/// Without the search path of questions: the statement names its tables as its application does.
const BEGIN_PLAN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 500; SET LOCAL lock_timeout = 50";

/// Plans that were asked for, by the statement's hash.
#[derive(Debug, Default)]
pub(super) struct Plans {
    kept: VecDeque<(u64, Instant, Result<Vec<String>, String>)>,
}

impl Plans {
    /// Returns the plan of a statement, or why there is none.
    pub(super) async fn of(
        &mut self,
        client: &Client,
        standing: &Standing,
        session: &Activity,
        now: Instant,
    ) -> Result<Vec<String>, String> {
        let mut hasher = DefaultHasher::new();
        (&session.text, &session.database).hash(&mut hasher);
        let hash = hasher.finish();
        self.kept.retain(|(_, at, _)| now.saturating_duration_since(*at) < KEPT);
        if let Some((.., plan)) = self.kept.iter().find(|(known, ..)| *known == hash) {
            return plan.clone();
        }
        let plan = match allowed(standing, session) {
            Err(why) => Err(why),
            Ok(()) => {
                let plan = explain(client, standing.version, &session.text).await;
                done(client).await;
                plan
            }
        };
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((hash, now, plan.clone()));
        plan
    }
}

fn allowed(standing: &Standing, session: &Activity) -> Result<(), String> {
    const VERBS: [&str; 7] = ["SELECT", "WITH", "UPDATE", "DELETE", "INSERT", "TABLE", "VALUES"];
    let no = |why: &str| Err(format!("The plan was not asked for: {why}"));
    if standing.view.translated.is_some() {
        return no("something stands between the observer and the database; give it a direct connection");
    }
    if session.database != standing.database {
        return no("the statement belongs to another database than the observer is connected to");
    }
    if session.is_cut {
        return no("the statement's end is not kept by the database; raise track_activity_query_size");
    }
    // The server looks at this as well, and by its own rules.
    let one = session.text.trim_end().trim_end_matches(';');
    if !VERBS.contains(&sql::verb(one).as_str()) || one.contains(';') {
        return no("only single statements that read or write rows have one");
    }
    Ok(())
}

async fn explain(client: &Client, version: i32, text: &str) -> Result<Vec<String>, String> {
    let generic = if version >= 160_000 { ", GENERIC_PLAN" } else { "" };
    let query = format!("EXPLAIN (VERBOSE, FORMAT JSON{generic}) {text}");
    client.batch_execute(BEGIN_PLAN).await.map_err(|error| words(&error))?;
    // Refuses whatever is more than one statement, before any of it is run.
    let statement = client.prepare(&query).await.map_err(|error| words(&error))?;
    if generic.is_empty() && !statement.params().is_empty() {
        return Err("The plan was not asked for: its statement has parameters, and PostgreSQL plans those \
                    without their values from version 16 on"
            .to_owned());
    }
    let answer = client.simple_query(&query).await.map_err(|error| words(&error))?;
    let text = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut scans = Vec::new();
    collect(&plan[0]["Plan"], 0, &mut scans);
    tell(client, &scans).await.map_err(|error| words(&error))
}

/// The server's own words may repeat values: only their kind is told.
fn words(error: &Error) -> String {
    let why = match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            "the observer's role may not read its tables: GRANT pg_read_all_data, or SELECT on them"
                .to_owned()
        }
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => "a table of it is locked".to_owned(),
        Some(code) if *code == SqlState::QUERY_CANCELED => "planning took too long".to_owned(),
        Some(code) => format!("the database refuses it (SQLSTATE {})", code.code()),
        None => "the connection has ended".to_owned(),
    };
    format!("The plan is not known: {why}")
}

/// A table that is read as a whole.
#[derive(Clone, Debug, PartialEq)]
struct Scan {
    schema: String,
    table: String,
    filter: String,
}

fn collect(node: &Value, depth: usize, scans: &mut Vec<Scan>) {
    let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
    if node["Node Type"] == "Seq Scan" {
        let scan = Scan { schema: text("Schema"), table: text("Relation Name"), filter: text("Filter") };
        if !scans.contains(&scan) && scans.len() < LINES_MAX {
            scans.push(scan);
        }
    }
    if depth < DEPTH_MAX {
        let below = node["Plans"].as_array();
        below.into_iter().flatten().for_each(|node| collect(node, depth + 1, scans));
    }
}

/// How many rows a table has, and its columns, each with whether an index begins with it.
const TABLE: &str = "
SELECT c.reltuples::float8, a.attname::text,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indkey[0] = a.attnum)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE n.nspname = $1 AND c.relname = $2 LIMIT 1600";

async fn tell(client: &Client, scans: &[Scan]) -> Result<Vec<String>, Error> {
    done(client).await;
    client.batch_execute(BEGIN).await?;
    let mut lines = Vec::new();
    for scan in scans {
        let rows =
            client.query_typed(TABLE, &[(&scan.schema, Type::TEXT), (&scan.table, Type::TEXT)]).await?;
        let count = rows.first().and_then(|row| get::<f64>(row, 0)).unwrap_or_default();
        let columns: BTreeMap<String, bool> =
            rows.iter().filter_map(|row| Some((get::<String>(row, 1)?, get::<bool>(row, 2)?))).collect();
        lines.extend(line(scan, count, &columns));
    }
    if lines.is_empty() {
        lines.push(format!("No table of {ROWS_MIN} rows or more is read as a whole"));
    }
    Ok(lines)
}

/// `Seq Scan on shop.orders, about 1200000 rows, filter (orders.status = $1); no index begins with status`
fn line(scan: &Scan, rows: f64, columns: &BTreeMap<String, bool>) -> Option<String> {
    if rows < ROWS_MIN {
        return None;
    }
    let mut line = format!("Seq Scan on {}.{}, about {rows:.0} rows", scan.schema, scan.table);
    if !scan.filter.is_empty() {
        let filter = sql::normalized(&scan.filter);
        let words: Vec<&str> = filter
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .collect();
        let bare = |name: &&String| words.contains(&name.as_str());
        let missing: Vec<&str> = columns
            .iter()
            .filter(|(_, is_led)| !**is_led)
            .map(|(name, _)| name)
            .filter(bare)
            .map(String::as_str)
            .collect();
        line.push_str(&format!(", filter {filter}"));
        if !missing.is_empty() {
            line.push_str(&format!("; no index begins with {}", missing.join(" or ")));
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_one_statement_of_our_database_is_planned() {
        let standing = Standing { database: "shop".into(), ..Standing::default() };
        let session =
            |text: &str| Activity { text: text.into(), database: "shop".into(), ..Activity::default() };
        for text in ["select 1", " (SELECT 1) ;", "with a as (select 1) select 2", "update t set a = 1"] {
            assert_eq!(allowed(&standing, &session(text)), Ok(()), "{text}");
        }
        for text in
            ["select 1; drop table t", "vacuum t", "analyze select 1", "explain analyze delete from t", ""]
        {
            assert!(allowed(&standing, &session(text)).is_err(), "{text}");
        }
        let cut = Activity { is_cut: true, ..session("select 1") };
        let other = Activity { database: "other".into(), ..session("select 1") };
        assert!(allowed(&standing, &cut).is_err() && allowed(&standing, &other).is_err());
    }

    #[test]
    fn large_tables_that_are_read_as_a_whole_are_told_with_the_index_that_is_not_there() {
        let plan = serde_json::json!({
            "Node Type": "Hash Join",
            "Plans": [
                {"Node Type": "Seq Scan", "Relation Name": "orders", "Schema": "shop",
                 "Filter": "((orders.status = 'geheim'::text) AND (orders.customer_id = 42))"},
                {"Node Type": "Hash", "Plans": [{"Node Type": "Seq Scan", "Relation Name": "kinds", "Schema": "shop"}]},
                {"Node Type": "Index Scan", "Relation Name": "lines", "Schema": "shop"},
            ],
        });
        let mut scans = Vec::new();
        collect(&plan, 0, &mut scans);
        assert_eq!(scans.iter().map(|scan| scan.table.as_str()).collect::<Vec<_>>(), ["orders", "kinds"]);
        let columns = [("customer_id", true), ("id", true), ("status", false), ("note", false)];
        let columns = columns.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect();
        assert_eq!(
            line(&scans[0], 1_200_000.0, &columns).as_deref(),
            Some(
                "Seq Scan on shop.orders, about 1200000 rows, filter ((orders.status = $1::text) AND (orders.customer_id = \
                 $2)); no index begins with status"
            )
        );
        assert_eq!(
            line(&scans[1], 50_000.0, &columns).as_deref(),
            Some("Seq Scan on shop.kinds, about 50000 rows")
        );
        assert_eq!(line(&scans[1], 100.0, &columns), None);
    }
}
