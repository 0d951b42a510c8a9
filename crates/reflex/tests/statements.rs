//! What a real PostgreSQL says of statements: times against before, and plans.

mod servers;

use ferricorn_core::evidence::Database;
use ferricorn_reflex::database::{Question, Rhythm};
use servers::postgres::{Postgres, Session};
use servers::{Asked, about, skip};
use std::time::{Duration, Instant};

fn of(postgres: &Postgres, session: &Session) -> Question {
    about(&[(session.fd, session.local.expect("TCP"), postgres.address())])
}

fn plan(databases: &[Database]) -> Option<String> {
    let session = databases.first()?.sessions.first()?;
    Some(session.plan.join("\n")).filter(|plan| !plan.is_empty())
}

fn has_gap(databases: &[Database], part: &str) -> bool {
    databases.iter().flat_map(|database| &database.gaps).any(|gap| gap.contains(part))
}

#[test]
fn the_plan_of_a_slow_statement_names_the_index_that_is_missing() {
    let Some(postgres) = Postgres::start(&[]) else { return skip("PostgreSQL is not installed") };
    let owner = Session::tcp(postgres.address(), "tests");
    owner.run("create role reflex login; grant pg_read_all_stats to reflex");
    owner.run(
        "create table orders (id int primary key, status text, note text);
         insert into orders select n, 'geheim', '' from generate_series(1, 20000) n; analyze orders",
    );
    let mut asked = Asked::new(&[format!("{}?plan=1", postgres.url("reflex"))]);
    let slow = Session::tcp(postgres.address(), "tests");
    slow.begin("select pg_sleep(60), * from orders where status = 'geheim' and id > 0");
    let question = of(&postgres, &slow);
    // The role may see statements, and no tables.
    asked.until(&question, |databases| has_gap(databases, "GRANT pg_read_all_data"));
    owner.run("grant select on orders to reflex");
    // Refusals are kept for a while like plans are: a statement of its own.
    let slow = Session::tcp(postgres.address(), "tests");
    slow.begin("select pg_sleep(61), * from orders where status = 'geheim' and id > 0");
    let question = of(&postgres, &slow);
    let databases = asked.until(&question, |databases| plan(databases).is_some());
    assert_eq!(
        plan(&databases).as_deref(),
        Some(
            "Seq Scan on public.orders, about 20000 rows, filter ((orders.id > $1) AND (orders.status = $2::text)); no \
             index begins with status"
        )
    );
    assert!(!format!("{databases:?}").contains("geheim"));

    // With parameters it can be planned from version 16 on.
    let version: i32 = owner.run("show server_version_num")[0].parse().expect("a number");
    let prepared = Session::tcp(postgres.address(), "tests");
    prepared.begin_with("select pg_sleep(63), * from orders where status <> 'a' and length(note) > $1", -1);
    let databases = asked.until(&of(&postgres, &prepared), |databases| {
        plan(databases).is_some() || has_gap(databases, "from version 16 on")
    });
    let lines = plan(&databases).unwrap_or_default();
    assert_eq!(
        version >= 160_000,
        lines.contains("filter ((orders.status <> $2::text) AND (length(orders.note) > $1))"),
        "{databases:?}"
    );

    // More than one statement is never given to the planner.
    let two = Session::tcp(postgres.address(), "tests");
    two.begin("select pg_sleep(62); create table never (id int)");
    let databases =
        asked.until(&of(&postgres, &two), |databases| has_gap(databases, "only single statements"));
    assert_eq!(plan(&databases), None);

    // What waits for a lock is not planned, since that would wait as well; nor is anything that takes one.
    owner.run("create table locked (id int)");
    owner.run("begin; lock table locked");
    let waits = Session::tcp(postgres.address(), "tests");
    waits.begin("select count(*) from locked");
    let databases = asked.until(&of(&postgres, &waits), |databases| {
        databases[0]
            .sessions
            .first()
            .is_some_and(|session| session.wait.starts_with("Lock/") && session.statement_s > 0.6)
    });
    assert_eq!(plan(&databases), None);
}

#[test]
fn plans_are_not_asked_for_unless_that_is_said() {
    let Some(postgres) = Postgres::start(&[]) else { return skip("PostgreSQL is not installed") };
    let mut asked = Asked::new(&[postgres.url("tests")]);
    let slow = Session::tcp(postgres.address(), "tests");
    slow.begin("select pg_sleep(60) from pg_class");
    let databases = asked.until(&of(&postgres, &slow), |databases| {
        databases[0].sessions.first().is_some_and(|session| session.statement_s > 0.6)
    });
    assert_eq!((plan(&databases), has_gap(&databases, "plan")), (None, false));
}

#[test]
fn statements_that_take_longer_than_before_are_told() {
    if !Postgres::can_count() {
        return skip("PostgreSQL, or its pg_stat_statements, is not installed");
    }
    let postgres = Postgres::start(&["shared_preload_libraries=pg_stat_statements"]).expect("installed");
    let owner = Session::tcp(postgres.address(), "tests");
    owner.run(
        "create extension pg_stat_statements; create role reflex login; grant pg_read_all_stats to reflex",
    );
    let rhythm = Rhythm { waits: Duration::from_millis(200), statements: Duration::from_millis(600) };
    let mut asked = Asked::at(&[postgres.url("reflex")], rhythm);
    asked.line("Observer asks");
    let client = Session::tcp(postgres.address(), "tests");
    let question = of(&postgres, &client);
    // What was so before: some "minutes" of short sleeps.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        client.run("select pg_sleep(0.005), 'geheim'");
    }
    let before = asked.ask(question.clone());
    assert_eq!((before[0].statements.len(), before[0].gaps.len()), (0, 0), "{before:?}");
    // And then one long sleep after the other, for longer than anybody waits below.
    (0..400).for_each(|_| client.begin("select pg_sleep(0.1), 'geheim'"));
    let databases = asked.until(&question, |databases| !databases[0].statements.is_empty());
    let [told] = databases[0].statements.as_slice() else { panic!("{databases:?}") };
    assert_eq!(told.query, "select pg_sleep($1), $2");
    assert!(told.calls >= 5 && told.mean_ms >= 2.0 * told.before_ms && told.before_ms > 5.0, "{told:?}");
}

#[test]
fn what_cannot_be_compared_says_how_it_could() {
    let Some(postgres) = Postgres::start(&[]) else { return skip("PostgreSQL is not installed") };
    let owner = Session::tcp(postgres.address(), "tests");
    if owner.run("select count(*) from pg_available_extensions where name = 'pg_stat_statements'") != ["1"] {
        return skip("pg_stat_statements is not installed");
    }
    // Created, and not loaded.
    owner.run("create extension pg_stat_statements");
    let mut asked = Asked::new(&[postgres.url("tests")]);
    let databases = asked.until(&of(&postgres, &owner), |databases| !databases[0].gaps.is_empty());
    assert!(has_gap(&databases, "must be loaded via shared_preload_libraries"), "{databases:?}");
}
