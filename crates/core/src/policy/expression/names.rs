//! What conditions can ask for, with types and words: one table for reading, checking, and the documentation. Not for: values.

use super::{Facts, Type, Value};

/// Gets a value; none if it is not known.
pub(super) type Getter = fn(&Facts) -> Option<Value>;

/// Something that can be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub of: Type,
    /// What it is.
    pub means: &'static str,
    pub(super) get: Getter,
}

macro_rules! table {
    ($($name:literal $of:ident $means:literal $get:expr;)*) => {
        &[$(Name { name: $name, of: Type::$of, means: $means, get: $get }),*]
    };
}

fn number(value: impl Into<f64>) -> Option<Value> {
    Some(Value::Number(value.into()))
}

fn text(value: &str) -> Option<Value> {
    Some(Value::Text(value.to_owned()))
}

const NAMES: &[Name] = table! {
    "cause" Text "code of the cause, `db.lock`" |facts| text(facts.cause.code());
    "because" Text "code of what that is a symptom of" |facts| text(facts.because?.code());
    "confidence" Number "how sure the cause is, 0 to 1" |facts| number(facts.confidence);
    "state" Text "`note`, `open` or `mitigated`" |facts| text(facts.state.name());
    "route" Text "`GET /orders/{id}`" |facts| text(&facts.route);
    "method" Text "the request's method" |facts| text(&facts.method);
    "age" Number "seconds that the request has been in the application" |facts| number(facts.age_s?);
    "deadline" Number "seconds that it may be there" |facts| number(facts.deadline_s?);
    "over" Truth "it is lost, whatever is done: its time is over, or all before it with the same trouble were lost" |facts| Some(Value::Truth(facts.is_over()));
    "lost" Number "requests that the incident has cost" |facts| number(facts.requests_lost as f64);
    "stuck" Number "requests that were seen stuck" |facts| number(facts.requests_stuck as f64);
    "orphan" Truth "its worker is dead, and its statement goes on" |facts| Some(Value::Truth(facts.orphan));
    "worker_class" Text "the setting" |facts| text(&facts.worker_class);
    "stock" Truth "it is a stock Gunicorn" |facts| Some(Value::Truth(facts.stock));
    "workers" Number "workers that serve" |facts| number(facts.workers);
    "young_workers" Number "those that have come in another's place within two minutes" |facts| number(facts.young_workers);
    "threads" Number "threads of all workers" |facts| number(facts.threads);
    "stuck_threads" Number "threads that are at stuck requests" |facts| number(facts.stuck_threads);
    "queued" Number "requests that wait for a thread" |facts| number(facts.queued);
    "host_cpu" Number "share of the host's processors in use, 0 to 1" |facts| number(facts.host_cpu?);
    "memory_available" Number "bytes of memory that are left" |facts| number(facts.memory_available? as f64);
    "worker_memory" Number "bytes that a worker has" |facts| number(facts.worker_memory? as f64);
    "db_connections" Number "connections of the database in use" |facts| number(facts.db_connections?);
    "db_connections_max" Number "how many it allows" |facts| number(facts.db_connections_max?);
    "reloading" Truth "a reload's first new workers are tried" |facts| Some(Value::Truth(facts.reloading));
    "change" Text "`caused`, `likely`, `coincident` or `none`" |facts| text(facts.change.as_deref()?);
    "change_age" Number "seconds since that change" |facts| number(facts.change_age_s?);
    "code_differs" Truth "the code on disk is not what runs" |facts| Some(Value::Truth(facts.code_differs));
    "hosts" Number "hosts with the same trouble within a minute" |facts| number(facts.hosts);
};

/// Returns all of them.
pub fn names() -> &'static [Name] {
    NAMES
}

/// Finds one; else the nearest, if one is near.
pub(super) fn named(word: &str) -> Result<&'static Name, Option<&'static str>> {
    let found = NAMES.iter().find(|name| name.name == word);
    found.ok_or_else(|| nearest(word, NAMES.iter().map(|name| name.name)))
}

/// Returns the word that differs in the fewest letters, if these are few.
pub(super) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const FEW: usize = 3;
    let near = words.map(|other| (distance(word, other), other)).min()?;
    (near.0 <= FEW.min(word.len() / 2)).then_some(near.1)
}

/// In how many letters two words differ (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], at + 1);
        for (index, wanted) in other.iter().enumerate() {
            let best = (corner + usize::from(letter != *wanted)).min(row[index] + 1).min(row[index + 1] + 1);
            corner = std::mem::replace(&mut row[index + 1], best);
        }
    }
    row[other.len()]
}
