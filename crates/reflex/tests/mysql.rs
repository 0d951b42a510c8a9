//! What a real MariaDB says of connections.

mod servers;

use ferricorn_core::evidence::{Database, Service, Session as Seen};
use ferricorn_reflex::database::{Cancelled, Connection, Question, Sibling, Target, Victim, facts};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use servers::mariadb::Mariadb;
use servers::{Asked, about, skip};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

macro_rules! mariadb {
    ($settings:expr) => {
        match Mariadb::start($settings) {
            Some(mariadb) => mariadb,
            None => return skip("MariaDB is not installed"),
        }
    };
}

/// A client with a thread of its own.
struct Session {
    jobs: mpsc::Sender<String>,
    done: mpsc::Receiver<Result<(), Error>>,
    local: SocketAddr,
}

impl Session {
    fn new(mariadb: &Mariadb, user: &str) -> Self {
        let options = mariadb.options(user);
        let (jobs, asked) = mpsc::channel::<String>();
        let (answer, done) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut conn = Conn::new(options).await.expect("connected");
                let query = "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()";
                let host: Option<String> = conn.query_first(query).await.expect("asked");
                // The name of the address, if the server has looked it up.
                let host = host.expect("a host").replace("localhost:", "127.0.0.1:");
                let _ = tell.send(host.parse().unwrap_or_else(|_| ([0; 4], 0).into()));
                while let Ok(query) = asked.recv() {
                    let _ = answer.send(conn.query_drop(query).await);
                }
            });
        });
        Self { jobs, done, local: told.recv().expect("connected") }
    }

    fn begin(&self, query: &str) {
        self.jobs.send(query.to_owned()).expect("its thread lives");
    }

    fn run(&self, query: &str) {
        self.begin(query);
        self.done.recv_timeout(Duration::from_secs(30)).expect(query).expect(query);
    }
}

fn find(databases: &[Database], fd: i32) -> Option<&Seen> {
    databases.iter().flat_map(|database| &database.sessions).find(|session| session.fd == Some(fd))
}

fn has_gap(databases: &[Database], part: &str) -> bool {
    databases.iter().flat_map(|database| &database.gaps).any(|gap| gap.contains(part))
}

/// Gives the observer a user with the right that it should have.
fn admit(mariadb: &Mariadb) {
    let root = Session::new(mariadb, "root");
    root.run("create user reflex@'%' with max_user_connections 5");
    root.run("grant process on *.* to reflex@'%'");
    root.run("grant select on performance_schema.* to reflex@'%'");
    root.run("grant select on sys.* to reflex@'%'");
    root.run("create user blind@'%'");
    root.run("create database shop");
    root.run("create table shop.t (id int primary key, note text) engine=innodb");
    root.run("insert into shop.t values (1, ''), (2, '')");
}

#[test]
fn a_slow_statement_is_found_by_its_port_without_its_values() {
    let mariadb = mariadb!(&[]);
    admit(&mariadb);
    let mut asked = Asked::new(&[mariadb.url("reflex")]);
    asked.line("Observer asks MySQL at 127.0.0.1:");
    assert_eq!(asked.databases.serves(&mariadb.address().to_string()), Some(Service::Mysql));
    assert_eq!(asked.databases.serves(&mariadb.socket().display().to_string()), Some(Service::Mysql));
    let slow = Session::new(&mariadb, "root");
    slow.begin("select sleep(60), \"geheim\", 'it\\'s geheim', 4711 from shop.t");
    let question = about(&[(3, slow.local, mariadb.address())]);
    let databases =
        asked.until(&question, |databases| find(databases, 3).is_some_and(|found| found.state == "active"));
    let found = find(&databases, 3).expect("found");
    assert_eq!(
        (found.wait.as_str(), found.query.as_str()),
        ("User sleep", "select sleep(?), ?, ... from shop.t")
    );
    assert!(found.pid > 0 && found.statement_s >= 0.0);
    let [database] = databases.as_slice() else { panic!("{databases:?}") };
    assert!(database.connections >= 2 && database.connections_max == 151, "{database:?}");
    assert!(!format!("{databases:?}").contains("geheim"));
    // What nobody there knows.
    let gone = about(&[(4, ([127, 0, 0, 1], 1).into(), mariadb.address())]);
    assert_eq!(asked.ask(gone)[0].missing, [4]);
}

#[test]
fn who_holds_a_row_is_found() {
    let mariadb = mariadb!(&[]);
    admit(&mariadb);
    let mut asked = Asked::new(&[mariadb.url("reflex")]);
    let [root, middle, last] = [0, 1, 2].map(|_| Session::new(&mariadb, "root"));
    root.run("begin");
    root.run("update shop.t set note = 'geheim' where id = 1");
    middle.run("begin");
    middle.run("update shop.t set note = 'geheim' where id = 2");
    middle.begin("update shop.t set note = 'b' where id = 1");
    last.begin("update shop.t set note = 'c' where id = 2");
    let siblings = vec![Sibling { worker: 4242, local: root.local.to_string(), unix_peer_inode: None }];
    let question = Question { siblings, ..about(&[(3, last.local, mariadb.address())]) };
    let databases =
        asked.until(&question, |databases| find(databases, 3).is_some_and(|found| found.blockers.len() == 2));
    let found = find(&databases, 3).expect("found");
    assert_eq!((found.wait.as_str(), found.state.as_str()), ("Lock/row", "active"));
    let [near, far] = found.blockers.as_slice() else { panic!("{found:?}") };
    assert_eq!((near.waits_for.as_slice(), far.waits_for.as_slice()), (&[far.pid][..], &[][..]));
    assert_eq!((near.state.as_str(), far.state.as_str()), ("active", "idle in transaction"));
    assert_eq!((near.query.as_str(), far.query.as_str()), ("update shop.t set note = ? where id = ?", ""));
    assert!(far.transaction_s > 0.0 && found.transaction_s > 0.0, "{found:?}");
    assert_eq!((near.worker, far.worker), (None, Some(4242)));

    // The lock of a table.
    root.run("create table shop.u (id int)");
    root.run("lock tables shop.u write");
    let table = Session::new(&mariadb, "root");
    table.begin("select * from shop.u");
    let question = about(&[(5, table.local, mariadb.address())]);
    let databases = asked.until(&question, |databases| {
        find(databases, 5).is_some_and(|found| found.wait.starts_with("Lock/Waiting for"))
    });
    assert!(has_gap(&databases, "metadata_lock_info"), "{databases:?}");
}

#[test]
fn a_unix_socket_is_found_by_the_pid_that_the_driver_says() {
    let mariadb = mariadb!(&["--performance-schema=ON"]);
    admit(&mariadb);
    let mut asked = Asked::new(&[mariadb.url("reflex")]);
    let path = mariadb.socket();
    // The command line client, since that says its pid.
    let Some(client) = servers::installed(&["/usr/bin/mariadb"]) else {
        return skip("mariadb is not installed");
    };
    let client = std::process::Command::new(client)
        .args(["--no-defaults", "-u", "root", "-S"])
        .arg(&path)
        .args(["-e", "select sleep(60)"])
        .spawn();
    let mut client = client.expect("started");
    let connection = Connection { fd: 3, peer: path.display().to_string(), ..Connection::default() };
    let question = Question { worker: client.id(), connections: vec![connection], ..Question::default() };
    let databases = asked
        .until(&question, |databases| find(databases, 3).is_some_and(|found| found.wait == "User sleep"));
    client.kill().expect("ended");
    client.wait().expect("ended");
    assert!(has_gap(&databases, "found by the pid"), "{databases:?}");
}

#[test]
fn a_user_without_rights_is_told_what_it_needs() {
    let mariadb = mariadb!(&[]);
    admit(&mariadb);
    let mut asked = Asked::new(&[mariadb.url("blind")]);
    let slow = Session::new(&mariadb, "root");
    slow.begin("select sleep(60)");
    let line = asked.line("Observer asks");
    assert!(line.contains("GRANT PROCESS ON *.* TO 'blind'@'%'"), "{line}");
    let databases = asked.ask(about(&[(3, slow.local, mariadb.address())]));
    assert!(has_gap(&databases, "GRANT PROCESS"), "{databases:?}");
    assert!(databases[0].missing.is_empty(), "{databases:?}");
}

#[test]
fn what_a_server_allows_is_told() {
    let mariadb = mariadb!(&["--max-connections=55", "--max-statement-time=9"]);
    admit(&mariadb);
    let targets = Target::all(&[mariadb.url("reflex"), mariadb.url("nobody")]).expect("targets");
    let told = facts(&targets);
    let facts = told[0].1.as_ref().expect("asked");
    assert_eq!(facts.connections_max, 55);
    assert!(facts.version.contains("MariaDB"), "{facts:?}");
    assert!(
        facts.limits.iter().any(|limit| limit.name == "max_statement_time" && limit.value.starts_with('9')),
        "{facts:?}"
    );
    assert!(told[1].1.as_ref().is_err_and(|why| why.contains("Access denied")), "{:?}", told[1]);
}

#[test]
fn a_statement_is_ended_if_it_is_still_the_one_that_is_meant() {
    let mariadb = mariadb!(&[]);
    admit(&mariadb);
    let mut asked = Asked::new(&[mariadb.url("reflex")]);
    asked.line("what connections wait for");
    let slow = Session::new(&mariadb, "root");
    slow.begin("SELECT SLEEP(60)");
    let question = about(&[(7, slow.local, mariadb.address())]);
    let at_work = |databases: &[Database]| find(databases, 7).is_some_and(|found| found.state == "active");
    let databases = asked.until(&question, at_work);
    let found = find(&databases, 7).expect("found");
    let victim = Victim::of(&databases[0].name, found).expect("it is at work");

    let earlier = Victim { statement_us: victim.statement_us - 10_000_000, ..victim.clone() };
    assert_eq!(asked.cancel(earlier), Cancelled::Over);
    let Cancelled::Refused(why) = asked.cancel(victim.clone()) else { panic!("it has no right to") };
    assert!(why.contains("GRANT CONNECTION ADMIN"), "{why}");
    Session::new(&mariadb, "root").run("grant connection admin on *.* to reflex@'%'");
    // Rights count from the next connection on.
    let mut asked = Asked::new(&[mariadb.url("reflex")]);
    asked.line("what connections wait for");
    assert_eq!(asked.cancel(victim.clone()), Cancelled::Yes);
    slow.done.recv_timeout(Duration::from_secs(30)).expect("ended").expect_err("interrupted");
    assert_eq!(asked.cancel(victim), Cancelled::Over);
}
