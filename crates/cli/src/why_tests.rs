//! What `why` finds by a name, and what it says of a late request whose cause is known.

use crate::command::Format;
use crate::why::{self, Found, Kept};
use ferricorn_core::diagnosis::{Cause, Diagnosis, Finding, Fixes, Gap};
use ferricorn_core::evidence::{Frame, Source};
use ferricorn_core::incident::{Incident, State};
use ferricorn_core::record::{Death, Outcome, Record, Request, SCHEMA, Server, Timeout, Worker};
use ferricorn_core::snapshot::Kind;
use ferricorn_reflex::store::Store;
use tempfile::TempDir;

fn server() -> Server {
    Server { pid: 4700, name: "shop".into(), version: "0.1.0".into(), started_ns: 1, kind: Kind::Ferricorn }
}

fn late(at_s: f64, pid: u32, id: &str) -> Timeout {
    Timeout {
        schema: SCHEMA,
        at_s,
        server: server(),
        worker: Worker { pid, ..Worker::default() },
        request: Request {
            id: id.into(),
            method: "GET".into(),
            path: "/report".into(),
            app_s: 30.0,
            deadline_s: Some(30.0),
            ..Request::default()
        },
        answer: "answered 504".into(),
        answered_by: "worker".into(),
        thread: Outcome::Freed { after_s: 0.05 },
        doing: "waiting for 10.0.0.9:443 (recvfrom, descriptor 14)".into(),
        source: Source::Outside,
        frames: vec![Frame {
            function: "rates".into(),
            file: "/srv/shop/reports.py".into(),
            line: 41,
            locals: [("URL".to_owned(), "'https://rates.example.com'".to_owned())].into(),
            ..Frame::default()
        }],
        evidence: Vec::new(),
        concurrent: Vec::new(),
        diagnosis: None,
        incident: None,
    }
}

fn death(at_s: f64, pid: u32) -> Record {
    Record::Death(Box::new(Death {
        schema: SCHEMA,
        at_s,
        server: server(),
        worker: Worker { pid, ..Worker::default() },
        cause: "it was sent SIGKILL".into(),
        requests: Vec::new(),
        evidence: Vec::new(),
        incident: None,
    }))
}

fn kept() -> (TempDir, Vec<Store>) {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = ["a", "b"].map(|name| Store::create(&folder.path().join(name)).expect("a store"));
    let records = [
        Record::Timeout(Box::new(late(1.0, 4711, "4711-12"))),
        Record::Timeout(Box::new(late(3.0, 4711, "4711-13"))),
        death(2.0, 4711),
        Record::Timeout(Box::new(late(4.0, 4712, "4712-1"))),
    ];
    stores[0].append_all(&records).expect("kept");
    // The pid and the number of another server's request, later.
    stores[1].append(&Record::Timeout(Box::new(late(9.0, 4712, "4712-1")))).expect("kept");
    let incident = Incident { id: "20261126-7".into(), state: State::Note, ..Incident::default() };
    stores[1].save(&incident).expect("kept");
    (folder, stores.into())
}

#[test]
fn a_name_is_an_incidents_a_requests_or_a_workers() {
    let (_folder, stores) = kept();
    let at = |name: &str| match why::find(&stores, name).expect("found") {
        Found::Incident(..) => None,
        Found::Record(record) => Some((record.kind(), record.at_s())),
    };
    assert_eq!(at("20261126-7"), None);
    assert_eq!(at("4711-12"), Some(("timeout", 1.0)));
    assert_eq!(at("4711"), Some(("death", 2.0)), "its death before its late requests");
    assert_eq!(at("4712"), Some(("timeout", 9.0)));
    assert_eq!(at("4712-1"), Some(("timeout", 9.0)), "the newest");
    for name in ["4713", "4711-99", "20261126-8", "", "x\u{1b}"] {
        let failure = why::find(&stores, name).err().expect("nothing");
        assert!(failure.what.starts_with("nothing is known of ") && !failure.what.contains('\u{1b}'));
    }
}

#[test]
fn an_incident_names_its_records() {
    let (_folder, stores) = kept();
    let mut record = late(5.0, 4711, "4711-20");
    record.incident = Some("20261126-7".into());
    let records = [21, 22, 23, 24].map(|number| {
        record.request.id = format!("4711-{number}");
        record.at_s += 1.0;
        Record::Timeout(Box::new(record.clone()))
    });
    stores[1].append_all(&records).expect("kept");
    let found = why::find(&stores, "20261126-7").expect("found");
    let last =
        "\nRECORDS      4 written down; the newest: ferricornctl why 4711-24; others: 4711-23, 4711-22\n";
    assert!(written(&found, Format::Text).ends_with(last), "{}", written(&found, Format::Text));
}

fn written(found: &Found, format: Format) -> String {
    let mut out = Vec::new();
    why::write(found, format, &mut out).expect("memory");
    String::from_utf8(out).expect("text")
}

fn explained() -> Found {
    let diagnosis = Diagnosis {
        cause: Cause::ExternalNoTimeout,
        confidence: 0.93,
        summary: "rates.example.com:443 has not answered for 29 s, and requests.get has no timeout".into(),
        evidence: vec![Finding {
            source: "kernel".into(),
            text: "recvfrom on descriptor 14, without a limit".into(),
            weight: 3,
        }],
        ruled_out: vec!["the processor: 0.01 s used".into()],
        not_visible: vec![Gap { what: "who listens there".into(), how: "run as root".into() }],
        fixes: Fixes { next: vec!["requests.get(URL, timeout=(3, 10))".into()], ..Fixes::default() },
        ..Diagnosis::default()
    };
    let record = Timeout {
        diagnosis: Some(diagnosis),
        incident: Some("20261126-7".into()),
        ..late(0.0, 4711, "4711-12")
    };
    Found::Record(Box::new(Record::Timeout(Box::new(record))))
}

#[test]
fn a_late_request_says_why() {
    let text = written(&explained(), Format::Text).replace(&ferricorn_sys::clock::stamp(0), "[AT]");
    insta::assert_snapshot!(text, @r##"
    GET /report (request 4711-12) from a unix socket
    [AT], worker 4711 of server 4700 (shop, ferricorn 0.1.0)

    after    30.0s of 30.0s in the application: answered 504; its thread came free 50ms later
    before   0ms to read it (0 B of body), 0ms in line
    doing    waiting for 10.0.0.9:443 (recvfrom, descriptor 14)
    incident 20261126-7: ferricornctl why 20261126-7

    VERDICT      rates.example.com:443 has not answered for 29 s, and requests.get has no timeout
                 cause  external.no_timeout, confidence 0.93: a service does not answer, and the call
                        has no timeout

    EVIDENCE     +++ kernel  recvfrom on descriptor 14, without a limit

    RULED OUT    the processor: 0.01 s used

    NOT VISIBLE  who listens there; to see it: run as root

    FIX          next  requests.get(URL, timeout=(3, 10))

    CONFIDENCE   0.93

    The stack, the innermost call first (read from outside, without the interpreter):
      > /srv/shop/reports.py:41 in rates
            URL = 'https://rates.example.com'
    "##);
}

#[test]
fn every_form_can_be_had() {
    let text = written(&explained(), Format::Text);
    assert_eq!(written(&explained(), Format::Markdown), format!("```text\n{text}```\n"));
    let json: serde_json::Value = serde_json::from_str(&written(&explained(), Format::Json)).expect("JSON");
    assert_eq!(
        (&json["kind"], &json["diagnosis"]["cause"]),
        (&"timeout".into(), &"external.no_timeout".into())
    );
    let incident = Found::Incident(
        Box::new(Incident { id: "20261126-7".into(), ..Incident::default() }),
        Kept::default(),
    );
    assert!(written(&incident, Format::Text).starts_with("Incident 20261126-7 (note): unknown\n"));
    assert!(written(&incident, Format::Markdown).starts_with("# Incident 20261126-7 (note): unknown\n"));
    let json: serde_json::Value = serde_json::from_str(&written(&incident, Format::Json)).expect("JSON");
    assert_eq!(json["id"], "20261126-7");
}
