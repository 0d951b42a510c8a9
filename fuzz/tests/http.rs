//! No bytes panic the parsers; how bytes are cut never changes what they mean; no application breaks a response head.

use bolero::check;
use ferricorn_worker::http::body::Decoder;
use ferricorn_worker::http::head::{Framing, Head, HeaderMap, Rules, Scan, parse};
use ferricorn_worker::http::request_start;
use ferricorn_worker::http::response::{Exchange, Response};
use ferricorn_worker::http::time_left;

fn rules(loose: bool) -> Rules {
    Rules {
        obsolete_folding: loose,
        strip_header_spaces: loose,
        unconventional_method: loose,
        unconventional_version: loose,
        header_map: if loose { HeaderMap::Dangerous } else { HeaderMap::Refuse },
        ..Rules::default()
    }
}

/// What a head means, or the status of its refusal.
type Meaning = Result<Option<(usize, Vec<u8>, Framing, bool)>, u16>;

fn read(input: &[u8], step: usize, rules: &Rules) -> Meaning {
    let mut scan = Scan::default();
    let mut end = 0;
    loop {
        end = (end + step).min(input.len());
        if let Some(found) = scan.advance(&input[..end], rules).map_err(|refusal| refusal.status)? {
            let mut head = Head::default();
            parse(input, &found, rules, true, &mut head).map_err(|refusal| refusal.status)?;
            let names = head.fields().flat_map(|(name, value)| [name, b":", value, b"\n"].concat()).collect();
            return Ok(Some((found.end, names, head.framing, head.keep_alive)));
        }
        if end == input.len() {
            return Ok(None);
        }
    }
}

/// Random bytes seldom look like HTTP; this turns each byte into a piece of it.
fn spell(bytes: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 32] = [
        b"GET ", b"POST ", b"/", b"/a?b#c", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r",
        b": ", b":", b" ", b"\t", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked", b"gzip", b", ", b"5", b"0",
        b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"X_Y: z\r\n", b"a", b"\x80", b"\0", b";", b"=", b"\"",
        b"hello", b"%41",
    ];
    bytes.iter().flat_map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).copied().collect()
}

#[test]
fn heads() {
    check!().with_iterations(300_000).for_each(|bytes: &[u8]| {
        for input in [bytes.to_vec(), spell(bytes), [b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec(), spell(bytes)].concat()] {
            for loose in [false, true] {
                let rules = rules(loose);
                let whole = read(&input, input.len().max(1), &rules);
                assert_eq!(whole, read(&input, 1, &rules));
                assert_eq!(whole, read(&input, 7, &rules));
            }
        }
    });
}

#[test]
fn request_starts() {
    const LETTERS: &[u8; 16] = b"0123456789.t=, -";
    check!().with_iterations(300_000).for_each(|bytes: &[u8]| {
        let spelt: Vec<u8> = bytes.iter().map(|byte| LETTERS[usize::from(*byte) % 16]).collect();
        for value in [bytes, &spelt] {
            if let Some(sent_ns) = request_start::parse(value) {
                assert!(value.iter().all(|byte| LETTERS.contains(byte)));
                assert!(request_start::age_ns(sent_ns, u64::MAX).is_none_or(|age_ns| age_ns < u64::MAX));
            }
        }
    });
}

#[test]
fn times_left() {
    const LETTERS: &[u8; 16] = b"0123456789.,m -s";
    check!().with_iterations(300_000).for_each(|bytes: &[u8]| {
        let spelt: Vec<u8> = bytes.iter().map(|byte| LETTERS[usize::from(*byte) % 16]).collect();
        for value in [bytes, &spelt] {
            if let Some(left_ns) = time_left::parse(value) {
                assert!(value.iter().all(u8::is_ascii_digit));
                assert!((1_000_000..u64::MAX / 1000).contains(&left_ns));
            }
        }
    });
}

fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), u16> {
    let mut decoder = Decoder::default();
    decoder.begin(Framing::Chunked);
    let (mut body, mut used) = (Vec::new(), 0);
    while !decoder.is_done() && used < input.len() {
        let piece = &input[used..(used + step).min(input.len())];
        used += decoder
            .advance(piece, &Rules::default(), &mut |bytes| {
                body.extend_from_slice(bytes);
                Ok(())
            })
            .map_err(|refusal| refusal.status)?;
    }
    Ok((body, used, decoder.is_done()))
}

#[test]
fn chunked_bodies() {
    check!().with_iterations(300_000).for_each(|bytes: &[u8]| {
        for input in [bytes.to_vec(), spell(bytes)] {
            let whole = decode(&input, input.len().max(1));
            assert_eq!(whole, decode(&input, 1));
            if let Ok((body, used, _)) = whole {
                assert!(body.len() <= used && used <= input.len());
            }
        }
    });
}

#[test]
fn responses() {
    check!().with_iterations(300_000).for_each(|bytes: &[u8]| {
        let mut parts = bytes.splitn(6, |byte| *byte == 0xff);
        let mut part = || parts.next().unwrap_or_default();
        let flags = part().first().copied().unwrap_or_default();
        let version = if flags & 1 == 0 { (1, 1) } else { (1, 0) };
        let mut response = Response::default();
        response.open(Exchange { version, head_only: flags & 2 != 0, keep_alive: flags & 4 != 0 });
        if response.status(part()).is_err() {
            response.restart();
            response.status(b"200 OK").expect("a valid status");
        }
        let mut fields = 0;
        for _ in 0..2 {
            fields += usize::from(response.field(part(), part()).is_ok());
        }
        response.head((flags & 8 != 0).then_some(3), b"");
        response.body(part());
        response.finish();
        let end = memchr::memmem::find(&response.output, b"\r\n\r\n").expect("the head ends");
        let head = &response.output[..end];
        assert!(head.starts_with(b"HTTP/1."));
        let line_ends = memchr::memchr_iter(b'\n', head).count();
        assert!(line_ends <= fields + 3, "a field broke out of its line");
        assert!(head.iter().enumerate().all(|(at, byte)| *byte != b'\n' || head[at - 1] == b'\r'));
    });
}
