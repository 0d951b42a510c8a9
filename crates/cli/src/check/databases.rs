//! What is known of databases: from a file, and asked of them, where they may be. Not for: judging (`core::check`).

use super::gather::unseen;
use crate::command::Check;
use crate::failure::Failure;
use ferricorn_core::check::{DatabaseFacts, Facts, Pooler};
use ferricorn_core::evidence::Service;
use ferricorn_reflex::database::{self, Target};
use std::fs;
use std::path::Path;

/// Notes what is known of databases, and which could not be asked.
pub(super) fn databases(facts: &mut Facts, options: &Check) -> Result<(), Failure> {
    let told = options.databases.as_deref().map(of_file).transpose()?;
    let targets = Target::all(&options.reflex_databases)
        .map_err(|wrong| Failure::new(wrong.what, wrong.why, wrong.hint))?;
    let mut found = Vec::new();
    for (name, answer) in database::facts(&targets) {
        match answer {
            Ok(answer) => found.push(answer),
            Err(why) => {
                unseen(facts, format!("the database {name}: {why}"), "see that it can be reached from here")
            }
        }
    }
    let asked = joined(&found);
    facts.databases = match told {
        None if asked.is_empty() => None,
        told => Some(merged(told.unwrap_or_default(), asked)),
    };
    if facts.databases.is_none() && targets.is_empty() {
        gap(facts);
    }
    Ok(())
}

fn of_file(path: &Path) -> Result<Vec<DatabaseFacts>, Failure> {
    let what = || format!("the facts of databases in {} could not be used", path.display());
    let hint = "it is a list of objects with `name`, `max_connections`, `pool_per_worker` and `pooler`; docs/ferricornctl.md has them all";
    let text = fs::read_to_string(path).map_err(|error| Failure::new(what(), error.to_string(), hint))?;
    serde_json::from_str(&text).map_err(|error| Failure::new(what(), error.to_string(), hint))
}

fn gap(facts: &mut Facts) {
    let names = facts.application.database_variables.as_deref().unwrap_or_default().join(", ");
    let what = match names.as_str() {
        "" => "databases: their connections and poolers".to_owned(),
        names => format!("the database of {names}: its connections and poolers"),
    };
    unseen(facts, what, "`--reflex-database URL`, or `--database-facts FILE`");
}

/// Puts poolers before the databases that they lead to; one that leads to none of those that were asked stands alone.
fn joined(answers: &[database::Facts]) -> Vec<DatabaseFacts> {
    let (poolers, databases): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.service == Service::Pgbouncer);
    let mut found: Vec<DatabaseFacts> = databases
        .iter()
        .map(|answer| DatabaseFacts {
            name: answer.name.clone(),
            max_connections: Some(answer.connections_max),
            reserved: Some(answer.reserved),
            ..DatabaseFacts::default()
        })
        .collect();
    for answer in poolers {
        let leads = |name: &str| {
            let name = name.rsplit('/').next().unwrap_or_default();
            answer.pools.iter().any(|pool| pool.database == name)
        };
        match found.iter_mut().find(|database| database.pooler.is_none() && leads(&database.name)) {
            Some(database) => database.pooler = Some(pooler(answer)),
            None => found.push(DatabaseFacts {
                name: answer.name.clone(),
                pooler: Some(pooler(answer)),
                ..DatabaseFacts::default()
            }),
        }
    }
    found
}

fn pooler(answer: &database::Facts) -> Pooler {
    let connections = |pool: &database::Capacity| {
        let size = pool.size.saturating_add(pool.reserve);
        if pool.max > 0 { size.min(pool.max) } else { size }
    };
    Pooler {
        query_wait_timeout_s: answer.wait_timeout_s,
        pool_size: answer.pools.iter().map(connections).max(),
        max_client_conn: Some(answer.connections_max),
    }
}

/// What was told counts more than what was asked, of a database with the same name.
fn merged(told: Vec<DatabaseFacts>, asked: Vec<DatabaseFacts>) -> Vec<DatabaseFacts> {
    let mut all = told;
    for other in asked {
        let Some(known) = all.iter_mut().find(|known| known.name == other.name) else {
            all.push(other);
            continue;
        };
        known.max_connections = known.max_connections.or(other.max_connections);
        known.reserved = known.reserved.or(other.reserved);
        known.pooler = known.pooler.take().or(other.pooler);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(service: Service, name: &str, pools: &[(&str, u32)]) -> database::Facts {
        let pools = pools.iter().map(|(database, size)| database::Capacity {
            database: (*database).to_owned(),
            size: *size,
            reserve: 5,
            ..database::Capacity::default()
        });
        database::Facts {
            service,
            name: name.to_owned(),
            connections_max: 100,
            reserved: 3,
            pools: pools.collect(),
            wait_timeout_s: Some(120.0),
            ..database::Facts::default()
        }
    }

    #[test]
    fn poolers_stand_before_the_databases_that_they_lead_to() {
        let found = joined(&[
            answer(Service::Pgbouncer, "pool:6432/", &[("shop", 20), ("other", 40)]),
            answer(Service::Postgres, "db:5432/shop", &[]),
            answer(Service::Mysql, "db:3306/", &[]),
            answer(Service::Pgbouncer, "pool:6433/", &[("else", 10)]),
        ]);
        let names: Vec<_> = found.iter().map(|each| (each.name.as_str(), each.pooler.is_some())).collect();
        assert_eq!(names, [("db:5432/shop", true), ("db:3306/", false), ("pool:6433/", true)]);
        let pooler = found[0].pooler.as_ref().expect("it has one");
        assert_eq!((pooler.pool_size, pooler.max_client_conn), (Some(45), Some(100)));
        assert_eq!((found[0].max_connections, found[2].max_connections), (Some(100), None));
    }

    #[test]
    fn what_was_told_counts_more() {
        let told = DatabaseFacts { name: "db".into(), reserved: Some(9), ..DatabaseFacts::default() };
        let asked = DatabaseFacts { max_connections: Some(50), reserved: Some(3), ..told.clone() };
        let found = merged(vec![told], vec![asked, DatabaseFacts::default()]);
        assert_eq!((found.len(), found[0].reserved, found[0].max_connections), (2, Some(9), Some(50)));
    }
}
