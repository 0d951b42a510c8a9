//! Tables of request heads: bytes in, status out; each whole, and byte by byte.

use super::*;
use proptest::prelude::*;

fn read(input: &[u8], rules: &Rules, trusted: bool) -> Result<Option<Head>, u16> {
    let mut scan = Scan::default();
    let mut head = Head::default();
    match scan.advance(input, rules).map_err(|refusal| refusal.status)? {
        None => Ok(None),
        Some(found) => {
            parse(input, &found, rules, trusted, &mut head).map_err(|refusal| refusal.status)?;
            Ok(Some(head))
        }
    }
}

/// Feeds one byte more each time; the outcome must not depend on how the bytes arrive.
fn read_bytewise(input: &[u8], rules: &Rules) -> Result<Option<Head>, u16> {
    let mut scan = Scan::default();
    for end in 0..=input.len() {
        if let Some(found) = scan.advance(&input[..end], rules).map_err(|refusal| refusal.status)? {
            let mut head = Head::default();
            parse(input, &found, rules, false, &mut head).map_err(|refusal| refusal.status)?;
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn status(input: &str, rules: &Rules) -> u16 {
    let whole = read(input.as_bytes(), rules, false);
    let bytewise = read_bytewise(input.as_bytes(), rules);
    let code = |outcome: Result<Option<Head>, u16>| match outcome {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(status) => status,
    };
    let (whole, bytewise) = (code(whole), code(bytewise));
    assert_eq!(whole, bytewise, "{input:?} whole against byte by byte");
    whole
}

#[test]
fn statuses() {
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(4094 - 14));
    let longer_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(4095 - 14));
    let wide = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(8190 - 5));
    let wider = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(8190 - 4));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(99));
    let too_many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    let table: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n", 0),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.12\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GE / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GE#T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET foo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: v\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: é\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Type: a\r\nContent-Type: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: nothing\r\n\r\n", 417),
        (&long_line, 200),
        (&longer_line, 414),
        (&wide, 200),
        (&wider, 431),
        (&many, 200),
        (&too_many, 431),
    ];
    for (input, expected) in table {
        assert_eq!(status(input, &Rules::default()), *expected, "{input:.120?}");
    }
}

#[test]
fn settings_that_loosen() {
    let table: &[(&str, Rules, u16)] = &[
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Rules { unconventional_method: true, ..Rules::default() }, 200),
        (
            "G / HTTP/2.0\r\nHost: a\r\n\r\n",
            Rules { unconventional_method: true, unconventional_version: true, ..Rules::default() },
            200,
        ),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Rules { strip_header_spaces: true, ..Rules::default() }, 200),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n  b\r\n\r\n",
            Rules { obsolete_folding: true, ..Rules::default() },
            200,
        ),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Rules { obsolete_folding: true, ..Rules::default() }, 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\na_b: c\r\n\r\n",
            Rules { header_map: HeaderMap::Refuse, ..Rules::default() },
            400,
        ),
    ];
    for (input, rules, expected) in table {
        assert_eq!(status(input, rules), *expected, "{input:?}");
    }
}

#[test]
fn folded_values_are_joined_by_a_space() {
    let rules = Rules { obsolete_folding: true, ..Rules::default() };
    let head = read(b"GET / HTTP/1.1\r\nHost: a\r\nX: one\r\n\t two\r\n\r\n", &rules, false);
    let head = head.expect("accepted").expect("complete");
    assert_eq!(head.field(b"x"), Some(&b"one two"[..]));
}

#[test]
fn targets() {
    let table: &[(&str, &str, &str)] = &[
        ("/", "/", ""),
        ("/a%20b?c=d?e", "/a%20b", "c=d?e"),
        ("//x/y", "//x/y", ""),
        ("/a?b#c", "/a", "b"),
        ("/a#c?d", "/a", ""),
        ("http://h:1/p?q", "/p", "q"),
        ("http://h", "", ""),
        ("http://h?q", "", "q"),
    ];
    for (target, path, query) in table {
        let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = read(input.as_bytes(), &Rules::default(), false).expect("accepted").expect("complete");
        assert_eq!(head.get(&head.target), target.as_bytes());
        assert_eq!(
            (head.get(&head.path), head.get(&head.query)),
            (path.as_bytes(), query.as_bytes()),
            "{target}"
        );
    }
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let table: &[(&str, bool)] = &[
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", false),
    ];
    for (input, expected) in table {
        let head = read(input.as_bytes(), &Rules::default(), false).expect("accepted").expect("complete");
        assert_eq!(head.keep_alive, *expected, "{input:?}");
    }
}

#[test]
fn only_a_trusted_peer_says_when_a_request_was_sent() {
    let sent = |fields: &str, trusted| {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        read(input.as_bytes(), &Rules::default(), trusted).expect("accepted").expect("complete").sent_ns
    };
    let field = "x-request-start: t=1700000000.5\r\n";
    assert_eq!(sent(field, true), 1_700_000_000_500_000_000);
    assert_eq!(sent(field, false), 0);
    for other in ["", "X-Request-Start: soon\r\n", "X-Request-Stamp: 1700000000\r\n"] {
        assert_eq!(sent(other, true), 0, "{other}");
    }
}

#[test]
fn only_a_trusted_peer_says_how_long_it_waits() {
    let rules = Rules { deadline_header: Some("x-left-ms".to_owned()), ..Rules::default() };
    let left = |fields: &str, trusted, rules: &Rules| {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        read(input.as_bytes(), rules, trusted).expect("accepted").expect("complete").left_ns
    };
    let field = "X-Left-Ms: 250\r\n";
    assert_eq!(left(field, true, &rules), 250_000_000);
    assert_eq!((left(field, false, &rules), left(field, true, &Rules::default())), (0, 0));
    let shortest = "X-Left-Ms: 300\r\nx-left-ms: 0\r\nX-LEFT-MS: 250\r\nX-Left-Ms: 9000\r\n";
    assert_eq!(left(shortest, true, &rules), 250_000_000);
    for other in ["", "X-Left-Ms: soon\r\n", "X-Left: 250\r\n", "X-Left-Ms: 0\r\n"] {
        assert_eq!(left(other, true, &rules), 0, "{other}");
    }
}

#[test]
fn only_a_trusted_peer_speaks_for_its_client() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nSCRIPT_NAME: /x\r\nA_B: c\r\n\r\n";
    let trusted = read(input, &Rules::default(), true).expect("accepted").expect("complete");
    assert!(trusted.https && trusted.field(b"script_name").is_some() && trusted.field(b"a_b").is_none());
    let stranger = read(input, &Rules::default(), false).expect("accepted").expect("complete");
    assert!(!stranger.https && stranger.field(b"script_name").is_none());
    let torn = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n";
    assert_eq!(read(torn, &Rules::default(), true).err(), Some(400));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_splits_do_not_matter(input in proptest::collection::vec(any::<u8>(), 0..400)) {
        let rules = Rules { obsolete_folding: true, strip_header_spaces: true, ..Rules::default() };
        let whole = read(&input, &rules, true).map(|head| head.is_some());
        let bytewise = read_bytewise(&input, &rules).map(|head| head.is_some());
        prop_assert_eq!(whole, bytewise);
    }

    #[test]
    fn near_valid_heads_do_not_panic(lines in proptest::collection::vec("[ -~\t]{0,30}", 0..6)) {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n"));
        let rules = Rules { obsolete_folding: true, strip_header_spaces: true, ..Rules::default() };
        let _ = read(input.as_bytes(), &rules, true);
        let _ = read(input.as_bytes(), &Rules::default(), false);
    }
}
