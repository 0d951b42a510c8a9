//! What a database and its poolers allow, asked once: `ferricornctl check` compares it with what the workers may want. Not for:
//! what goes on in it.

use super::book::Book;
use super::target::Target;
use super::{mysql, pgbouncer, postgres};
use ferricorn_core::evidence::Service;
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;

/// How long a database may take.
const FACTS_MAX: Duration = Duration::from_secs(5);

/// What a database allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Which kind.
    pub service: Service,
    /// `host:port/name`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Connections there are; a pooler's clients.
    pub connections: u32,
    /// Connections there can be; a pooler's clients.
    pub connections_max: u32,
    /// How many of these are kept for superusers.
    pub reserved: u32,
    /// Limits on time, of everybody and of roles.
    pub limits: Vec<Limit>,
    /// A pooler's pools.
    pub pools: Vec<Capacity>,
    /// How long a pooler lets clients wait, seconds; 0 for ever.
    pub wait_timeout_s: Option<f64>,
    /// What could not be seen, and what to do about it.
    pub gaps: Vec<String>,
}

/// A limit on time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Whose; empty for everybody.
    pub role: String,
    /// Where; empty for everywhere.
    pub database: String,
    /// `statement_timeout`.
    pub name: String,
    /// As the database writes it: `30s`; `0` for none.
    pub value: String,
}

/// How large a pool can get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// The name under which clients know the database.
    pub database: String,
    /// `session`, `transaction` or `statement`.
    pub mode: String,
    /// Server connections of each user.
    pub size: u32,
    /// As many more after some waiting.
    pub reserve: u32,
    /// Server connections of all users together; 0 for any number.
    pub max: u32,
}

/// Asks each of them; an error says in words why one does not answer. Takes seconds where some are not there.
pub fn facts(targets: &[Target]) -> Vec<(String, Result<Facts, String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return targets.iter().map(|target| (target.name(), Err(error.to_string()))).collect();
        }
    };
    let asked = targets.iter().map(|target| {
        let book = Book::of(target);
        let facts = runtime.block_on(async {
            let limit = target.patience + FACTS_MAX;
            let facts = timeout(limit, async {
                match target.service {
                    Service::Pgbouncer => pgbouncer::facts(target, &book).await,
                    Service::Mysql => mysql::facts(target, &book).await,
                    _ => postgres::facts(target, &book).await,
                }
            });
            facts.await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
        });
        (target.name(), facts)
    });
    let asked = asked.collect();
    // A name that is still being looked up is nobody's concern any more.
    runtime.shutdown_background();
    asked
}
