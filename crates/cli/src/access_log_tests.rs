//! Lines, formats, and logs as tables.

use super::*;

fn line(method: &str, path: &str, status: u16, took_us: u64) -> Line {
    Line {
        method: method.into(),
        path: path.into(),
        status: Some(status),
        took_us: Some(took_us),
        lost: false,
    }
}

const COMBINED: &str =
    r#"10.0.0.7 - - [26/Nov/2026:18:00:00 +0000] "GET /a?x=1 HTTP/1.1" 200 5 "-" "curl/8""#;

#[test]
fn lines_are_read_by_their_format() {
    let table = [
        ("%(D)s", format!("{COMBINED} 1234"), Some(line("GET", "/a?x=1", 200, 1234))),
        ("%(L)s", format!("{COMBINED} 0.001234"), Some(line("GET", "/a?x=1", 200, 1234))),
        ("%(M)s", format!("{COMBINED} 12"), Some(line("GET", "/a?x=1", 200, 12_000))),
        // A unix socket has no client: the line begins with a blank.
        ("%(D)s", format!("{} 7", &COMBINED["10.0.0.7".len()..]), Some(line("GET", "/a?x=1", 200, 7))),
        ("%(D)s", COMBINED.to_owned(), None),
        ("%(D)s", format!("{COMBINED} 0.001234"), None),
        ("%(D)s", format!("{COMBINED} 12ms"), None),
        ("%(D)s", String::new(), None),
        ("%(m)s %(U)s %(s)s %(T)s", "POST /b c 503 2".into(), Some(line("POST", "/b c", 503, 2_000_000))),
        ("%(s)s %(D)s %(T)s %(r)s", "200 1500 0 GET / HTTP/1.1".into(), Some(line("GET", "/", 200, 1500))),
        ("%(s)s %(T)s %(D)s %(r)s", "200 0 1500 GET / HTTP/1.1".into(), Some(line("GET", "/", 200, 1500))),
        // Atoms side by side.
        ("%(s)s%(U)s%%%(D)s", "200/a%15".into(), Some(line("", "/a", 200, 15))),
        // A request that never came so far.
        (
            "%(D)s",
            r#"- - - [x] "-" 400 - "-" "-" -"#.into(),
            Some(Line { method: "-".into(), status: Some(400), ..Line::default() }),
        ),
        (
            "%(r)s %(s)s %(D)s",
            "GET /r H 504 30".into(),
            Some(Line { lost: true, ..line("GET", "/r", 504, 30) }),
        ),
        // Where it is told who has answered, that counts.
        ("%(r)s %(s)s %({outcome}x)s %(D)s", "GET /r H 504 - 30".into(), Some(line("GET", "/r", 504, 30))),
        (
            "%(r)s %(s)s %({outcome}x)s %(D)s",
            "GET /r H 200 cut 30".into(),
            Some(Line { lost: true, ..line("GET", "/r", 200, 30) }),
        ),
        (
            "%(r)s %(s)s %({Outcome}x)s %(D)s",
            "GET /r HTTP/1.1 504 timeout 30000000".into(),
            Some(Line { lost: true, ..line("GET", "/r", 504, 30_000_000) }),
        ),
    ];
    for (format, text, expected) in table {
        assert_eq!(Format::compile(format).expect(format).read(&text), expected, "{format} {text}");
    }
}

#[test]
fn a_client_cannot_forge_a_field() {
    let format = Format::compile("%(D)s").expect("compiled");
    // Gunicorn escapes quotes with backslashes, and does not escape those.
    for agent in [r#"\" 200 5"#, r#"a\" 99"#, r#"x\" \"GET /b HTTP/1.1\" 500 1 \"-"#, "back\\", "\" \"", ""] {
        let text = format!(r#"- - - [x] "GET /a HTTP/1.1" 200 5 "-" "{agent}" 1234"#);
        assert_eq!(format.read(&text), Some(line("GET", "/a", 200, 1234)), "{agent}");
    }
    // A line that fits in very many ways, and in the end in none, is given up in time.
    let wild = format!("{}x", r#"" 200 5 "-" "" 1 "#.repeat(2000));
    assert_eq!(format.read(&wild), None);
}

#[test]
fn a_format_that_tells_too_little_is_refused() {
    let table = [
        (DEFAULT, "it has no duration: `%(D)s`, `%(L)s`, `%(M)s` or `%(T)s`"),
        ("%(s)s %(D)s", "it has no path: `%(r)s` or `%(U)s`"),
        ("%(r)s %D", "no atom such as `%(r)s` begins at `%D`"),
        ("%(r)s %(D", "no atom such as `%(r)s` begins at `%(D`"),
        ("", "it has no duration: `%(D)s`, `%(L)s`, `%(M)s` or `%(T)s`"),
    ];
    for (format, why) in table {
        assert_eq!(Format::compile(format).expect_err(format), why);
    }
}

#[test]
fn a_log_becomes_durations_per_route() {
    let mut text = String::new();
    for number in 0..10 {
        text +=
            &format!("- - - [x] \"GET /r/{number} HTTP/1.1\" 200 5 \"-\" \"-\" {}\r\n", 1000 * (number + 1));
    }
    text += "- - - [x] \"GET /wp-login.php HTTP/1.1\" 404 5 \"-\" \"-\" 0.000300\n";
    text += "- - - [x] \"GET /wp-admin.php HTTP/1.1\" 404 5 \"-\" \"-\" 300\n";
    text += "Traceback (most recent call last):\n";
    text += &"x".repeat(3 * LINE_MAX);
    text += &format!("\n{COMBINED}\n");
    let log = read(text.as_bytes(), None).expect("read");
    assert_eq!((log.lines, log.used, log.without_duration, log.unit), (15, 12, 1, Some("D")));
    let told: Vec<_> = log
        .routes
        .iter()
        .map(|route| {
            (route.key.route.as_str(), route.key.class, route.phases.app.count, route.phases.app.sum_us)
        })
        .collect();
    assert_eq!(told, [("(unmatched)", Class::ClientError, 2, 600), ("/r/:id", Class::Success, 10, 55_000)]);
}

#[test]
fn a_log_of_another_format_tells_what_it_lacks() {
    let log = read(format!("{COMBINED}\n{COMBINED}").as_bytes(), None).expect("read");
    assert_eq!((log.lines, log.used, log.without_duration), (2, 0, 2));
    let log = read("{\"json\": 1}\n".as_bytes(), None).expect("read");
    assert_eq!((log.lines, log.used, log.without_duration), (1, 0, 0));
}

#[test]
fn routes_without_end_are_counted_together() {
    let mut text = String::new();
    for number in 0..3 * KEYS_MAX {
        text += &format!("M{number} /a 200 1\n");
    }
    let log = read(text.as_bytes(), Some(Format::compile("%(m)s %(U)s %(s)s %(D)s").expect("compiled")))
        .expect("read");
    assert_eq!(log.used, 3 * KEYS_MAX as u64);
    assert_eq!(log.routes.len(), KEYS_MAX + 1);
}
