//! Nothing that a client says of a job panics, no URL is taken for another host's than the one that would be asked, and nothing but our own
//! signature leads to a job.

use bolero::check;
use ferricorn_core::offload::{Pass, Places, webhook_host};
use ferricorn_core::pattern::Route;

/// Texts of which URLs are made, and tricks with them.
const WORDS: [&str; 24] = [
    "http",
    "https",
    "HTTPS",
    "://",
    "/",
    "\\",
    "@",
    ":",
    "[",
    "]",
    "::1",
    "127.0.0.1",
    "good.example",
    "evil.example",
    "%2f",
    "%40",
    "?",
    "#",
    "..",
    "443",
    "99999",
    " ",
    "é",
    "\t",
];

fn try_url(url: &str) {
    let Ok(host) = webhook_host(url) else { return };
    // What would ask reads the same: behind the scheme there is the host, and then nothing but a port before the path.
    let rest = url.split_once("://").expect("a scheme").1;
    let authority = rest.split(['/', '?', '#']).next().expect("a first part").to_ascii_lowercase();
    let port = match authority.strip_prefix('[') {
        Some(rest) => rest.strip_prefix(&host).and_then(|rest| rest.strip_prefix(']')),
        None => authority.strip_prefix(&host),
    };
    let port = port.expect("the host comes first");
    assert!(port.is_empty() || port.starts_with(':') && port[1..].parse::<u16>().is_ok(), "{url}");
}

#[test]
fn any_url() {
    check!().with_type::<String>().for_each(|text| {
        try_url(text);
        try_url(&format!("https://{text}"));
    });
}

#[test]
fn any_order_of_parts() {
    check!().with_type::<Vec<u8>>().for_each(|bytes| {
        let words: Vec<&str> = bytes.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).collect();
        try_url(&words.concat());
        try_url(&format!("https://{}", words.concat()));
    });
}

#[test]
fn any_place() {
    let secret = Some("a secret of the service".to_owned());
    let places = Places { prefix: "/jobs".into(), secret, lifetime_s: 60 };
    let good = places.status("0123456789abcdef0123456789abcdef", 100);
    let (path, query) = good["/jobs/".len()..].split_once('?').expect("a query");
    check!().with_type::<(Vec<u8>, Vec<u8>, usize, u8)>().for_each(|(rest, other, at, byte)| {
        assert!(places.find(rest, other, 50).is_err());
        assert!(places.find(path.as_bytes(), other, 50).is_err());
        let mut changed = query.as_bytes().to_vec();
        let at = at % changed.len();
        changed[at] = *byte;
        // Digits of a signature may be written in capitals.
        if !changed.eq_ignore_ascii_case(query.as_bytes()) {
            assert!(
                places.find(path.as_bytes(), &changed, 50).is_err(),
                "{}",
                String::from_utf8_lossy(&changed)
            );
        }
    });
    assert!(places.find(path.as_bytes(), query.as_bytes(), 50).is_ok());
}

#[test]
fn any_pass_and_route() {
    check!().with_type::<(String, String, Vec<u8>)>().for_each(|(pass, route, path)| {
        if let Some(pass) = Pass::read(pass) {
            assert_eq!(Pass::read(&pass.value()).as_ref(), Some(&pass));
        }
        if let Ok(route) = Route::parse(route) {
            let _ = route.fits(b"GET", path);
        }
    });
}
