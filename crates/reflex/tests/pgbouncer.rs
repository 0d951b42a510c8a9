//! What a real PgBouncer says of its clients, and the PostgreSQL behind it.

mod servers;

use ferricorn_core::evidence::{Database, Service, Session as Seen};
use ferricorn_reflex::database::{Connection, Question, Sibling, Target, facts};
use servers::pgbouncer::Pgbouncer;
use servers::postgres::{Postgres, Session};
use servers::{Asked, about, skip};

macro_rules! pooler {
    () => {{
        let Some(postgres) = Postgres::start(&[]) else { return skip("PostgreSQL is not installed") };
        match Pgbouncer::start(&postgres) {
            // The pooler ends first.
            Some(pooler) => (pooler, postgres),
            None => return skip("PgBouncer is not installed"),
        }
    }};
}

fn find(databases: &[Database], fd: i32) -> Option<&Seen> {
    databases.iter().flat_map(|database| &database.sessions).find(|session| session.fd == Some(fd))
}

fn of(pooler: &Pgbouncer, sessions: &[&Session]) -> Question {
    let connections =
        sessions.iter().map(|session| (session.fd, session.local.expect("TCP"), pooler.address()));
    about(&connections.collect::<Vec<_>>())
}

#[test]
fn the_way_leads_through_the_pooler_to_the_session() {
    let (pooler, postgres) = pooler!();
    let mut asked = Asked::new(&[postgres.url("tests"), pooler.url()]);
    assert_eq!(asked.databases.serves(&pooler.address().to_string()), Some(Service::Pgbouncer));
    asked.line("Observer asks PgBouncer");
    let [slow, waits, idle] = [0, 1, 2].map(|_| Session::tcp(pooler.address(), "tests"));
    let pid = slow.pid();
    idle.run("select 1");
    slow.begin("select pg_sleep(60), 'geheim'");
    let question = of(&pooler, &[&slow, &waits, &idle]);
    asked.until(&question, |databases| find(databases, slow.fd).is_some_and(|found| found.state == "active"));
    waits.begin("select 2");
    let waiting =
        |databases: &[Database]| find(databases, waits.fd).is_some_and(|found| found.statement_s > 0.1);
    let databases = asked.until(&question, waiting);

    let [database, before] = databases.as_slice() else { panic!("{databases:#?}") };
    assert_eq!((database.service, before.service), (Service::Postgres, Service::Pgbouncer));
    let found = find(&databases[..1], slow.fd).expect("behind the pooler");
    assert_eq!((found.pid, found.wait.as_str()), (pid, "Timeout/PgSleep"));
    assert_eq!(found.query, "select pg_sleep($1), $2");
    let pooler_said = database.pooler.as_ref().expect("a pooler");
    assert_eq!((pooler_said.waiting, pooler_said.active, pooler_said.size), (1, 1, 1));
    assert_eq!((pooler_said.wait_timeout_s, pooler_said.paused), (120.0, false));
    let [(fd, seconds)] = pooler_said.waits.as_slice() else { panic!("{pooler_said:?}") };
    assert!(*fd == waits.fd && *seconds > 0.1);
    assert_eq!(before.pooler, None, "it is told once");
    let found = find(&databases[1..], waits.fd).expect("in the queue");
    assert_eq!((found.state.as_str(), found.wait.as_str()), ("waiting", "Pooler/ServerConnection"));
    assert_eq!(find(&databases[1..], idle.fd).map(|found| found.state.as_str()), Some("idle"));
    assert_eq!(before.connections_max, 77);

    // Who waits alone has nothing behind the pooler.
    let databases = asked.ask(of(&pooler, &[&waits]));
    let [alone] = databases.as_slice() else { panic!("{databases:#?}") };
    assert!(
        alone.service == Service::Pgbouncer
            && alone.pooler.as_ref().is_some_and(|pooler| pooler.waits.len() == 1)
    );
}

#[test]
fn a_lock_is_held_by_a_worker_behind_the_same_pooler() {
    let (pooler, postgres) = pooler!();
    let owner = Session::tcp(postgres.address(), "tests");
    owner.run("create table t (id int); insert into t values (1)");
    let mut asked = Asked::new(&[pooler.url(), postgres.url("tests")]);
    let holder = Session::tcp(pooler.address(), "tests");
    holder.run("begin; update t set id = 2");
    owner.begin("update t set id = 3");
    let local = holder.local.map(|local| local.to_string());
    let siblings = vec![Sibling { worker: 4242, local: local.clone().expect("TCP"), unix_peer_inode: None }];
    let connection = (owner.fd, owner.local.expect("TCP"), postgres.address());
    let question = Question { siblings, ..about(&[connection]) };
    let databases = asked.until(&question, |databases| {
        find(databases, owner.fd).is_some_and(|found| !found.blockers.is_empty())
    });
    let blocker = &find(&databases, owner.fd).expect("found").blockers[0];
    assert_eq!((blocker.client.clone(), blocker.worker), (local, Some(4242)));
    assert_eq!(blocker.state, "idle in transaction");
    assert_eq!(databases.len(), 1, "the pooler is not on the way: {databases:#?}");
}

#[test]
fn clients_at_the_poolers_unix_socket_are_known_by_their_pid() {
    let (pooler, _postgres) = pooler!();
    let mut asked = Asked::new(&[pooler.url()]);
    let slow = Session::unix(&pooler.socket, "tests");
    slow.begin("select pg_sleep(60)");
    let connection = Connection {
        fd: slow.fd,
        local: String::new(),
        peer: pooler.socket.display().to_string(),
        unix_peer_inode: None,
    };
    // That it is this socket has to be known: other folders have one of this name.
    assert_eq!(asked.databases.serves(&connection.peer), None);
    let url = format!(
        "pgbouncer://stats@{}:{}/",
        pooler.socket.parent().expect("a folder").display().to_string().replace('/', "%2F"),
        pooler.port
    );
    let mut at_socket = Asked::new(&[url]);
    let question =
        Question { worker: std::process::id(), connections: vec![connection], ..Question::default() };
    assert_eq!(asked.ask(question.clone()), []);
    let databases = at_socket
        .until(&question, |databases| find(databases, slow.fd).is_some_and(|found| found.state == "active"));
    assert!(find(&databases, slow.fd).is_some_and(|found| found.pid != 0));
}

#[test]
fn what_a_pooler_allows_is_told_and_who_may_not_ask_is_told_why() {
    let (pooler, postgres) = pooler!();
    Session::tcp(pooler.address(), "tests").run("select 1");
    let stranger = pooler.url().replace("stats", "tests");
    let targets = Target::all(&[pooler.url(), stranger, postgres.url("tests")]).expect("targets");
    let told = facts(&targets);
    let facts = told[0].1.as_ref().expect("asked");
    assert_eq!((facts.connections_max, facts.wait_timeout_s), (77, Some(120.0)));
    assert!(facts.version.starts_with("PgBouncer "), "{facts:?}");
    let pool = facts.pools.iter().find(|pool| pool.database == "postgres").expect("a pool");
    assert_eq!((pool.mode.as_str(), pool.size, pool.max), ("transaction", 1, 0));
    assert!(told[1].1.as_ref().is_err_and(|why| why.contains("stats_users")), "{:?}", told[1]);
}
