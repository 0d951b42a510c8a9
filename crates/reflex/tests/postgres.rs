//! What a real PostgreSQL says of connections.

mod servers;

use ferricorn_core::evidence::{Database, Service, Session as Seen};
use ferricorn_reflex::database::{
    Cancelled, Connection, QUESTIONS_MAX, Question, Rhythm, Sibling, Target, Victim, facts,
};
use servers::postgres::{Postgres, Session};
use servers::{Asked, about, skip};
use std::process::Command;
use std::time::Duration;

macro_rules! postgres {
    ($settings:expr) => {
        match Postgres::start($settings) {
            Some(postgres) => postgres,
            None => return skip("PostgreSQL is not installed"),
        }
    };
}

fn find(databases: &[Database], fd: i32) -> Option<&Seen> {
    databases.iter().flat_map(|database| &database.sessions).find(|session| session.fd == Some(fd))
}

fn has_gap(databases: &[Database], part: &str) -> bool {
    databases.iter().flat_map(|database| &database.gaps).any(|gap| gap.contains(part))
}

/// A question about sessions by TCP.
fn of(postgres: &Postgres, sessions: &[&Session]) -> Question {
    let connections =
        sessions.iter().map(|session| (session.fd, session.local.expect("TCP"), postgres.address()));
    about(&connections.collect::<Vec<_>>())
}

/// Gives the observer a role with the rights that it should have.
fn admit(postgres: &Postgres) -> Session {
    let owner = Session::tcp(postgres.address(), "tests");
    owner.run("create role reflex login; grant pg_read_all_stats to reflex; create role app login; create role blind login");
    owner.run(
        "create table accounts (id int primary key, note text); insert into accounts values (1, ''), (2, '')",
    );
    owner.run("grant all on accounts to app");
    owner
}

#[test]
fn a_slow_statement_is_found_by_its_port_without_its_values() {
    let postgres = postgres!(&[]);
    let owner = admit(&postgres);
    let mut asked = Asked::new(&[postgres.url("reflex")]);
    let line = asked.line("what connections wait for");
    assert!(line.starts_with("Observer asks PostgreSQL at 127.0.0.1:"), "{line}");
    assert!(line.contains("CREATE EXTENSION pg_stat_statements in database postgres"), "{line}");

    let slow = Session::tcp(postgres.address(), "app");
    let pid = slow.pid();
    slow.begin("/* route='/geheim' */ select pg_sleep(60), 'geheim', 4711 from accounts where id in (1, 2)");
    let other = Session::tcp(postgres.address(), "app");
    other.run("select 1");
    assert_eq!(asked.databases.serves(&postgres.address().to_string()), Some(Service::Postgres));
    assert_eq!(
        asked.databases.serves(&format!("unix:/tmp/.s.PGSQL.{}", postgres.port)),
        Some(Service::Postgres)
    );
    assert_eq!(asked.databases.serves("127.0.0.1:1"), None);

    let question = of(&postgres, &[&slow, &other]);
    let databases = asked.until(&question, |databases| {
        find(databases, slow.fd).is_some_and(|found| found.wait == "Timeout/PgSleep")
    });
    let found = find(&databases, slow.fd).expect("found");
    assert_eq!((found.pid, found.state.as_str()), (pid, "active"));
    assert_eq!(found.query, "select pg_sleep($1), $2, ... from accounts where id in ($3, ...)");
    assert!(found.statement_s > 0.0 && found.transaction_s >= found.statement_s, "{found:?}");
    let idle = find(&databases, other.fd).expect("found");
    assert_eq!((idle.state.as_str(), idle.query.as_str(), idle.transaction_s), ("idle", "select $1", 0.0));
    let [database] = databases.as_slice() else { panic!("{databases:?}") };
    assert_eq!(database.name, format!("127.0.0.1:{}/postgres", postgres.port));
    // The owner, the two, and our own.
    assert!(database.connections >= 4 && database.connections_max == 100, "{database:?}");
    assert_eq!((&database.activity[0].wait[..], database.activity[0].sessions), ("Timeout/PgSleep", 1));
    assert!(!format!("{databases:?}").contains("geheim"));

    // A session that was ended while its client waits for it.
    owner.run(&format!("select pg_terminate_backend({pid})"));
    let databases = asked.until(&question, |databases| find(databases, slow.fd).is_none());
    assert_eq!(databases[0].missing, [slow.fd]);
    // What leads elsewhere is nobody's business.
    assert_eq!(asked.ask(about(&[(3, ([127, 0, 0, 1], 9).into(), ([127, 0, 0, 1], 6379).into())])), []);
}

#[test]
fn a_chain_of_locks_is_followed_to_the_transaction_that_idles() {
    let postgres = postgres!(&[]);
    let _owner = admit(&postgres);
    let mut asked = Asked::new(&[postgres.url("reflex")]);
    let sessions: Vec<Session> = (0..3).map(|_| Session::tcp(postgres.address(), "app")).collect();
    let [root, middle, last] = sessions.as_slice() else { panic!("three") };
    let pids = [root.pid(), middle.pid(), last.pid()];
    root.run("begin; update accounts set note = 'geheim' where id = 1");
    middle.run("begin; update accounts set note = 'geheim' where id = 2");
    middle.begin("update accounts set note = 'b' where id = 1");
    last.begin("update accounts set note = 'c' where id = 2");

    let siblings = vec![Sibling {
        worker: 4242,
        local: root.local.map(|local| local.to_string()).unwrap_or_default(),
        unix_peer_inode: None,
    }];
    let question = Question { siblings, ..of(&postgres, &[last]) };
    let databases = asked.until(&question, |databases| {
        find(databases, last.fd).is_some_and(|found| found.blockers.len() == 2)
    });
    let found = find(&databases, last.fd).expect("found");
    assert_eq!((found.wait.as_str(), found.state.as_str()), ("Lock/transactionid", "active"));
    let [near, far] = found.blockers.as_slice() else { panic!("{found:?}") };
    assert_eq!((near.pid, far.pid), (pids[1], pids[0]));
    assert_eq!((near.waits_for.as_slice(), far.waits_for.as_slice()), (&pids[..1], &[][..]));
    assert_eq!((far.state.as_str(), far.application.as_str()), ("idle in transaction", "shop"));
    assert_eq!(far.query, "begin; update accounts set note = $1 where id = $2");
    assert_eq!(far.client, root.local.map(|local| local.to_string()));
    assert_eq!((near.worker, far.worker), (None, Some(4242)));
    assert!(far.transaction_s > 0.0);
    assert!(!format!("{databases:?}").contains("geheim"));

    root.run("rollback");
    middle.wait().expect("free");
    asked.until(&question, |databases| {
        find(databases, last.fd).is_some_and(|found| found.blockers.iter().map(|b| b.pid).eq([pids[1]]))
    });
}

#[test]
fn a_unix_socket_is_found_by_the_inode_of_its_other_end() {
    let postgres = postgres!(&[]);
    let _owner = admit(&postgres);
    let folder = postgres.folder.path().display().to_string().replace('/', "%2F");
    let url = format!("postgresql://reflex@{folder}:{}/postgres", postgres.port);
    let mut asked = Asked::new(&[url]);
    let path = postgres.socket();
    let sessions: Vec<Session> = (0..2).map(|_| Session::unix(&path, "app")).collect();
    let [holder, slow] = sessions.as_slice() else { panic!("two") };
    let (holder_pid, slow_pid) = (holder.pid(), slow.pid());
    let (holder_end, slow_end) = (peer(holder.inode), peer(slow.inode));
    if slow_end.is_none() {
        return skip("ss (iproute2) does not tell the other ends of unix sockets");
    }
    holder.run("begin; lock table accounts");
    slow.begin("select * from accounts");
    let connection = |fd, inode| Connection {
        fd,
        local: String::new(),
        peer: format!("unix:{}", path.display()),
        unix_peer_inode: inode,
    };
    let question = Question {
        worker: std::process::id(),
        connections: vec![connection(slow.fd, slow_end)],
        siblings: vec![Sibling { worker: 4242, local: String::new(), unix_peer_inode: holder_end }],
        ..Question::default()
    };
    let databases = asked.until(&question, |databases| {
        find(databases, slow.fd).is_some_and(|found| !found.blockers.is_empty())
    });
    let found = find(&databases, slow.fd).expect("found");
    assert_eq!((found.pid, found.wait.as_str()), (slow_pid, "Lock/relation"));
    assert_eq!((found.blockers[0].pid, found.blockers[0].worker), (holder_pid, Some(4242)));
    assert!(!has_gap(&databases, "Descriptor"), "{databases:?}");

    // Where nobody knows the inode, it is one of two, until only one is at work.
    holder.run("rollback");
    slow.wait().expect("free");
    slow.begin("select pg_sleep(60)");
    let unknown = Question { connections: vec![connection(slow.fd, None)], ..question };
    let databases = asked
        .until(&unknown, |databases| find(databases, slow.fd).is_some_and(|found| found.pid == slow_pid));
    assert!(has_gap(&databases, "only one at work"), "{databases:?}");
    holder.begin("select pg_sleep(60)");
    asked.until(&unknown, |databases| has_gap(databases, "2 sessions may be its own"));
}

/// The inode of the other end of a unix socket, as `ss` tells it.
fn peer(inode: Option<u64>) -> Option<u64> {
    let output = Command::new("ss").args(["-xnpH"]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let own = inode?.to_string();
    text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [.., _, local, _, peer] = &words[..words.len().min(8)] else { return None };
        (*local == own).then(|| peer.parse().ok())?
    })
}

#[test]
fn a_role_without_rights_is_told_what_it_needs() {
    let postgres = postgres!(&[]);
    let _owner = admit(&postgres);
    let mut asked = Asked::new(&[postgres.url("blind")]);
    let slow = Session::tcp(postgres.address(), "app");
    slow.begin("select pg_sleep(60)");
    let line = asked.line("Observer asks");
    assert!(line.contains("GRANT pg_read_all_stats TO blind"), "{line}");
    let databases = asked.ask(of(&postgres, &[&slow]));
    assert!(has_gap(&databases, "GRANT pg_read_all_stats TO blind"), "{databases:?}");
    assert!(databases[0].missing.is_empty() && databases[0].sessions.is_empty(), "{databases:?}");
}

#[test]
fn behind_a_proxy_the_name_of_a_connection_tells_whose_it_is() {
    let postgres = postgres!(&[]);
    let _owner = admit(&postgres);
    let proxy = servers::proxy(postgres.address());
    let mut asked = Asked::new(&[format!("postgresql://reflex@{proxy}/postgres")]);
    let slow = Session::tcp(proxy, "app");
    let connection = (slow.fd, slow.local.expect("TCP"), proxy);
    let question = about(&[connection]);
    slow.begin("select pg_sleep(60)");
    let databases = asked.until(&question, |databases| has_gap(databases, "changes ports"));
    assert!(databases[0].missing.is_empty() && databases[0].sessions.is_empty(), "{databases:?}");
    let named = Session::tcp(proxy, "app");
    named.run(&format!("set application_name = 'shop:host:w{}'", question.worker));
    named.begin("select pg_sleep(61)");
    let databases = asked.until(&question, |databases| has_gap(databases, "found by application_name"));
    assert_eq!(find(&databases, slow.fd).map(|found| found.query.as_str()), Some("select pg_sleep($1)"));
}

#[test]
fn a_prepared_transaction_that_holds_a_lock_is_named_as_such() {
    let postgres = postgres!(&["max_prepared_transactions=2"]);
    let owner = admit(&postgres);
    let mut asked = Asked::new(&[postgres.url("reflex")]);
    owner.run("begin; update accounts set note = 'x' where id = 1");
    owner.run("prepare transaction 'forgotten'");
    let waits = Session::tcp(postgres.address(), "app");
    waits.begin("update accounts set note = 'y' where id = 1");
    let question = of(&postgres, &[&waits]);
    let databases = asked.until(&question, |databases| {
        find(databases, waits.fd).is_some_and(|found| !found.blockers.is_empty())
    });
    let blocker = &find(&databases, waits.fd).expect("found").blockers[0];
    assert_eq!((blocker.pid, blocker.state.as_str()), (0, "prepared transaction"));
    assert!(has_gap(&databases, "pg_prepared_xacts"), "{databases:?}");
}

#[test]
fn many_questions_at_once_are_answered_together_and_beyond_a_limit_refused() {
    let postgres = postgres!(&[]);
    let _owner = admit(&postgres);
    let mut asked = Asked::new(&[postgres.url("reflex")]);
    asked.line("Observer asks");
    let session = Session::tcp(postgres.address(), "app");
    let taken = (0..10 * QUESTIONS_MAX as u64)
        .filter(|id| asked.databases.ask(Question { id: *id + 1000, ..of(&postgres, &[&session]) }))
        .count();
    assert!((QUESTIONS_MAX..5 * QUESTIONS_MAX).contains(&taken), "{taken}");
    let mut answered = 0;
    servers::wait_for("answers", || {
        let answers = asked.databases.answers();
        assert!(answers.iter().all(|(_, databases)| databases.len() == 1));
        answered += answers.len();
        (answered == taken).then_some(())
    });
}

#[test]
fn a_database_that_goes_and_comes_costs_a_line_each() {
    let mut postgres = postgres!(&[]);
    let _owner = admit(&postgres);
    let rhythm = Rhythm { waits: Duration::from_millis(300), ..Rhythm::default() };
    let mut asked = Asked::at(&[postgres.url("reflex")], rhythm);
    asked.line("Observer asks");
    let slow = Session::tcp(postgres.address(), "app");
    let question = of(&postgres, &[&slow]);
    asked.until(&question, |databases| find(databases, slow.fd).is_some());
    postgres.stop();
    asked.line("Observer cannot ask PostgreSQL at 127.0.0.1:");
    let databases = asked.ask(question.clone());
    assert!(has_gap(&databases, "cannot be asked: "), "{databases:?}");
    asked.ask(question);
    postgres.again();
    let slow = Session::tcp(postgres.address(), "app");
    let question = of(&postgres, &[&slow]);
    asked.until(&question, |databases| find(databases, slow.fd).is_some());
    servers::wait_for("the line that says so", || {
        asked.lines.extend(asked.databases.lines());
        (asked.lines.len() > 2).then_some(())
    });
    let lines: Vec<&str> = asked.lines.iter().map(|(_, line)| &line[..20]).collect();
    assert_eq!(lines, ["Observer asks Postgr", "Observer cannot ask ", "Observer asks Postgr"]);
}

#[test]
fn what_a_database_allows_is_told() {
    let postgres = postgres!(&["statement_timeout=7s"]);
    let owner = admit(&postgres);
    owner.run("alter role app set idle_in_transaction_session_timeout = '30s'");
    let targets =
        Target::all(&[postgres.url("reflex"), "postgresql://u@127.0.0.1:1/x".to_owned()]).expect("targets");
    let told = facts(&targets);
    let facts = told[0].1.as_ref().expect("asked");
    assert_eq!((facts.connections_max, facts.reserved), (100, 3));
    assert!(facts.connections >= 2 && facts.version.starts_with(|c: char| c.is_ascii_digit()), "{facts:?}");
    let limits: Vec<String> = facts
        .limits
        .iter()
        .filter(|limit| limit.value != "0ms" && limit.value != "0")
        .map(|limit| format!("{}:{}={}", limit.role, limit.name, limit.value))
        .collect();
    assert_eq!(limits, [":statement_timeout=7000ms", "app:idle_in_transaction_session_timeout=30s"]);
    assert!(told[1].1.as_ref().is_err_and(|why| why.contains("refused")), "{:?}", told[1]);
}

#[test]
fn a_statement_is_ended_by_its_three_marks_and_no_other() {
    let postgres = postgres!(&[]);
    let owner = admit(&postgres);
    let mut asked = Asked::new(&[postgres.url("reflex")]);
    asked.line("what connections wait for");
    let slow = Session::tcp(postgres.address(), "app");
    slow.begin("select pg_sleep(60)");
    let question = of(&postgres, &[&slow]);
    let is_at_work = |databases: &[Database]| {
        find(databases, slow.fd).is_some_and(|found| found.wait == "Timeout/PgSleep")
    };
    let victim = |databases: &[Database]| {
        let found = find(databases, slow.fd).expect("found");
        Victim::of(&databases[0].name, found).expect("it is at work")
    };
    let first = victim(&asked.until(&question, is_at_work));

    let Cancelled::Refused(why) = asked.cancel(first.clone()) else { panic!("it has no right to") };
    assert!(why.contains("GRANT pg_signal_backend TO reflex"), "{why}");
    owner.run("grant pg_signal_backend to reflex");
    // Of the same backend, and not the one that is meant.
    let earlier = Victim { statement_us: first.statement_us - 1, ..first.clone() };
    let other = Victim { session_us: first.session_us - 1, ..first.clone() };
    for wrong in [earlier, other] {
        assert_eq!(asked.cancel(wrong), Cancelled::Over);
    }
    assert_eq!(asked.cancel(first.clone()), Cancelled::Yes);
    slow.wait().expect_err("ended by the database");
    assert_eq!(asked.cancel(first), Cancelled::Over);

    // The session lives on, and who reads the observer's answer still finds it.
    slow.begin("select pg_sleep(60)");
    let second = victim(&asked.until(&question, is_at_work));
    assert_eq!(asked.cancel(second), Cancelled::Yes);
    assert!(slow.wait().is_err());
    let nowhere = Victim { database: "another".into(), ..Victim::default() };
    assert!(!asked.databases.cancel(1, nowhere), "nobody asks that one");
}
