//! Questions go out once and come back sorted. The databases here are tasks that answer as they are told to.

use super::super::answer::{Pool, Server};
use super::super::question::Sibling;
use super::super::target::Target;
use super::*;

fn desk(url: &str, answer: impl Fn(Vec<Wanted>) -> Option<Answer> + Send + 'static) -> Desk {
    let target = Target::all(&[url.to_owned()]).expect("a target").remove(0);
    let (asks, mut asked) = mpsc::channel::<Ask>(1);
    tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            if let Some(answer) = answer(ask.wanted) {
                let _ = ask.reply.send(Ok(answer));
            }
        }
    });
    Desk { name: target.name(), book: Arc::new(Book::of(&target)), asks }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(work)
}

fn question(id: u64, worker: u32, connections: &[(i32, &str, &str)]) -> Question {
    let connection = |(fd, local, peer): &(i32, &str, &str)| Connection {
        fd: *fd,
        local: (*local).to_owned(),
        peer: (*peer).to_owned(),
        unix_peer_inode: None,
    };
    Question { id, worker, connections: connections.iter().map(connection).collect(), ..Question::default() }
}

/// A session for each connection: its pid is the port's.
fn sessions(wanted: &[Wanted]) -> Vec<(usize, Session)> {
    let pid = |end: &End| match end {
        End::Tcp(address) => Some(u32::from(address.port())),
        End::Pooled { pid, .. } => Some(*pid),
        _ => None,
    };
    let session = |one: &Wanted| {
        Some((one.key, Session { pid: pid(&one.end)?, fd: Some(one.fd), ..Session::default() }))
    };
    wanted.iter().filter_map(session).collect()
}

fn postgres(wanted: Vec<Wanted>) -> Option<Answer> {
    let about = Database { service: Service::Postgres, name: "db".into(), ..Database::default() };
    Some(Answer { about, sessions: sessions(&wanted), ..Answer::default() })
}

/// `name[fd=pid,...]` of each.
fn line(databases: &[Database]) -> String {
    let session = |session: &Session| format!("{}={}", session.fd.unwrap_or(-1), session.pid);
    let database = |database: &Database| {
        let sessions: Vec<String> = database.sessions.iter().map(session).collect();
        format!("{}[{}]", database.name, sessions.join(","))
    };
    databases.iter().map(database).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_connection_of_two_questions_is_asked_about_once_and_told_to_both() {
    let questions = [
        question(1, 7, &[(3, "10.0.0.9:700", "10.0.0.1:5432"), (4, "10.0.0.9:701", "10.0.0.1:5432")]),
        question(2, 7, &[(3, "10.0.0.9:700", "10.0.0.1:5432"), (5, "10.0.0.9:702", "10.0.0.5:6379")]),
        question(3, 7, &[(5, "10.0.0.9:702", "10.0.0.5:6379"), (6, "", "10.0.0.1:5432")]),
        question(4, 8, &[]),
    ];
    let answers = run(async {
        let desk = desk("postgresql://u@10.0.0.1:5432/x", |wanted| {
            assert_eq!(wanted.iter().map(|one| one.fd).collect::<Vec<_>>(), [3, 4]);
            assert!(wanted.iter().all(|one| one.sure && one.worker == 7));
            postgres(wanted)
        });
        round(&[desk], &questions).await
    });
    let told: Vec<(u64, String)> = answers.iter().map(|(id, databases)| (*id, line(databases))).collect();
    let expected = [(1, "db[3=700,4=701]"), (2, "db[3=700]"), (3, "db[]"), (4, "")];
    assert_eq!(told, expected.map(|(id, line)| (id, line.to_owned())));
}

#[test]
fn a_process_has_a_limit() {
    let connections: Vec<(i32, &str, &str)> =
        (0..=CONNECTIONS_MAX as i32).map(|fd| (fd, "10.0.0.9:700", "10.0.0.1:5432")).collect();
    let questions = [question(1, 7, &connections)];
    assert_eq!(items(&questions).0.len(), CONNECTIONS_MAX);
}

#[test]
fn who_does_not_answer_is_a_gap_for_those_whose_connections_lead_there() {
    let questions = [
        question(1, 7, &[(3, "10.0.0.9:700", "10.0.0.1:5432")]),
        question(2, 7, &[(4, "10.0.0.9:701", "10.0.0.2:5432")]),
    ];
    let answers = run(async {
        let silent = desk("postgresql://u@10.0.0.1:5432/x", |_| None);
        let other = desk("postgresql://u@10.0.0.2:5432/y", postgres);
        round(&[silent, other], &questions).await
    });
    let gaps = ["PostgreSQL at 10.0.0.1:5432/x cannot be asked: it is not asked any more"];
    // The port is right for both: so the other one is asked about it as well, and knows it.
    assert_eq!(line(&answers[0].1), "10.0.0.1:5432/x[] db[3=700]");
    assert_eq!(answers[0].1[0].gaps, gaps);
    assert_eq!(line(&answers[1].1), "db[4=701]");
}

#[test]
fn a_pooler_leads_to_the_session_and_goes_with_its_database() {
    let server = |pid, port: u16| Server {
        pid,
        address: Some(([10, 0, 0, 1], 5432).into()),
        from: Some(([10, 0, 0, 2], port).into()),
    };
    let pooler = move |wanted: Vec<Wanted>| {
        let client = |one: &Wanted| Client {
            key: one.key,
            pool: Some(usize::from(one.fd == 4)),
            wait_s: (one.fd == 4).then_some(2.5),
            server: (one.fd == 3).then(|| server(77, 900)),
            ..Client::default()
        };
        let pool = |waiting| Pool { waiting, size: 5, ..Pool::default() };
        let holder =
            Holder { server: server(88, 901), client: Some(([10, 0, 0, 9], 999).into()), worker: None };
        Some(Answer {
            about: Database { service: Service::Pgbouncer, name: "pool".into(), ..Database::default() },
            sessions: sessions(&wanted),
            pooled: Some(Pooled {
                clients: wanted.iter().map(client).collect(),
                pools: vec![pool(0), pool(9)],
                holders: vec![holder],
                wait_timeout_s: 120.0,
            }),
            ..Answer::default()
        })
    };
    let database = |wanted: Vec<Wanted>| {
        let mut answer = postgres(wanted)?;
        for (_, session) in &mut answer.sessions {
            let blocker =
                |pid, client: &str| Blocker { pid, client: Some(client.into()), ..Blocker::default() };
            session.blockers =
                vec![blocker(88, "10.0.0.2:901"), blocker(89, "10.0.0.2:902"), blocker(90, "unix:5")];
        }
        Some(answer)
    };
    let siblings = vec![
        Sibling { worker: 21, local: "10.0.0.9:999".into(), unix_peer_inode: None },
        Sibling { worker: 22, local: String::new(), unix_peer_inode: Some(5) },
    ];
    let connections = [(3, "10.0.0.9:700", "10.0.0.2:6432"), (4, "10.0.0.9:701", "10.0.0.2:6432")];
    let both = Question { siblings, ..question(1, 7, &connections) };
    let questions = [both, question(2, 7, &connections[1..])];
    let answers = run(async {
        let pooler = desk("pgbouncer://u@10.0.0.2:6432/", pooler);
        round(&[pooler, desk("postgresql://u@10.0.0.1:5432/x", database)], &questions).await
    });
    assert_eq!(line(&answers[0].1), "db[3=77] pool[4=701]");
    let said = answers[0].1[0].pooler.as_ref().expect("a pooler");
    assert_eq!((said.waiting, said.size, said.waits.as_slice()), (9, 5, &[(4, 2.5)][..]));
    assert_eq!(answers[0].1[1].pooler, None);
    let owners: Vec<(Option<u32>, &str)> = answers[0].1[0].sessions[0]
        .blockers
        .iter()
        .map(|blocker| (blocker.worker, blocker.client.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(owners, [(Some(21), "10.0.0.9:999"), (None, "10.0.0.2:902"), (Some(22), "unix:5")]);
    // Who only waits has no database behind it.
    assert_eq!(line(&answers[1].1), "pool[4=701]");
    assert!(answers[1].1[0].pooler.is_some());
}
