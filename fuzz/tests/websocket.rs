//! No bytes panic the WebSocket protocol; how they are cut changes no event; no message and no field goes out broken.

use bolero::check;
use ferricorn_worker::http::head::{Head, Rules, Scan, parse};
use ferricorn_worker::http::response::{Exchange, Response};
use ferricorn_worker::websocket::{Event, Handshake, Policy, Socket};

const MESSAGE_MAX: usize = 4096;

fn request(offer: &[u8], subprotocols: &[u8], rules: &Rules) -> Option<Head> {
    let mut input = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: "
        .to_vec();
    input.extend_from_slice(offer);
    input.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
    input.extend_from_slice(subprotocols);
    input.extend_from_slice(b"\r\n\r\n");
    let found = Scan::default().advance(&input, rules).ok()??;
    let mut head = Head::default();
    parse(&input, &found, rules, false, &mut head).ok()?;
    Some(head)
}

fn socket(compressed: bool) -> Socket {
    let offer: &[u8] = if compressed { b"permessage-deflate; client_max_window_bits" } else { b"" };
    let head = request(offer, b"", &Rules::default()).expect("a request");
    let handshake = Handshake::read(&head, Some(&Policy::default())).expect("valid").expect("a handshake");
    assert_eq!(handshake.compression.is_some(), compressed);
    handshake.socket(MESSAGE_MAX)
}

/// Frames with valid headers, of which random bytes have few: each is made of a byte of flags, one of length, and payload.
fn frames(bytes: &[u8]) -> Vec<u8> {
    const FIRST: [u8; 12] = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0xc1, 0xc2, 0x41, 0x88, 0x89, 0x8a];
    let (mut out, mut rest) = (Vec::new(), bytes);
    while let [flags, len, tail @ ..] = rest {
        let (payload, tail) = tail.split_at(usize::from(*len % 64).min(tail.len()));
        out.extend_from_slice(&[FIRST[usize::from(*flags) % FIRST.len()], 0x80 | payload.len() as u8, 1, 2, 3, 4]);
        out.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key));
        rest = tail;
    }
    out
}

fn read(mut socket: Socket, input: &[u8], step: usize) -> (Vec<Event>, bool) {
    let (mut events, mut fault, mut out) = (Vec::new(), false, Vec::new());
    for piece in input.chunks(step) {
        socket.feed(piece);
        loop {
            match socket.next_event(&mut out) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => fault = true,
            }
        }
        // Of a frame no more than its header and a control frame's payload waits.
        assert!(socket.waiting() < 14 + 125);
    }
    assert_eq!(fault, socket.is_ended() && !matches!(events.last(), Some(Event::Close { .. })));
    for event in &events {
        match event {
            Event::Text(text) => assert!(text.len() <= MESSAGE_MAX),
            Event::Binary(data) => assert!(data.len() <= MESSAGE_MAX),
            Event::Ping(_) | Event::Pong(_) | Event::Close { .. } => {}
        }
    }
    (events, fault)
}

#[test]
fn messages() {
    check!().with_iterations(100_000).for_each(|bytes: &[u8]| {
        for input in [bytes.to_vec(), frames(bytes)] {
            for compressed in [false, true] {
                let whole = read(socket(compressed), &input, input.len().max(1));
                assert_eq!(whole, read(socket(compressed), &input, 1));
                assert_eq!(whole, read(socket(compressed), &input, 7));
            }
        }
    });
}

#[test]
fn offers() {
    const WORDS: [&[u8]; 16] = [
        b"permessage-deflate", b"; ", b", ", b"server_max_window_bits", b"client_max_window_bits", b"=", b"\"", b"\\", b"8",
        b"15", b"12", b"server_no_context_takeover", b"client_no_context_takeover", b" ", b"x", b"\x80",
    ];
    check!().with_iterations(200_000).for_each(|bytes: &[u8]| {
        let rules = Rules::default();
        let spelt: Vec<u8> = bytes.iter().flat_map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).copied().collect();
        for (offer, subprotocols) in [(&spelt[..], bytes), (bytes, &spelt)] {
            let Some(head) = request(offer, subprotocols, &rules) else { continue };
            let Ok(Some(handshake)) = Handshake::read(&head, Some(&Policy::default())) else { continue };
            let mut response = Response::default();
            response.open(Exchange { version: (1, 1), head_only: false, keep_alive: true });
            let subprotocol = handshake.subprotocols.first().map(String::as_bytes);
            handshake.accept(&mut response, subprotocol, [], b"").expect("what was asked for can be answered");
            let lines = 5 + usize::from(handshake.compression.is_some()) + usize::from(subprotocol.is_some());
            assert_eq!(response.output.split(|byte| *byte == b'\n').count() - 1, lines);
            assert!(response.output.ends_with(b"\r\n\r\n"));
        }
    });
}

#[test]
fn replies() {
    check!().with_iterations(50_000).for_each(|bytes: &[u8]| {
        let mut out = Vec::new();
        let mut sender = socket(true);
        let long = bytes.repeat(1 + 2000 / bytes.len().max(1));
        sender.binary(&long, &mut out).expect("open");
        sender.text(&String::from_utf8_lossy(bytes), &mut out).expect("open");
        sender.close(1000, &String::from_utf8_lossy(bytes), &mut out).expect("open");
        // A server's frames are not masked: putting a mask of zeros in makes them a client's.
        let (mut masked, mut rest) = (Vec::new(), &out[..]);
        while let [first, second, tail @ ..] = rest {
            let (len, size) = match second {
                126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), 2),
                len => (usize::from(*len), 0),
            };
            masked.extend_from_slice(&[*first, second | 0x80]);
            masked.extend_from_slice(&tail[..size]);
            masked.extend_from_slice(&[0; 4]);
            masked.extend_from_slice(&tail[size..size + len]);
            rest = &tail[size + len..];
        }
        let (events, fault) = read(socket(true), &masked, masked.len());
        assert!(!fault);
        assert_eq!(events[0], Event::Binary(long));
        assert_eq!(events[1], Event::Text(String::from_utf8_lossy(bytes).into_owned()));
        assert!(matches!(&events[2], Event::Close { code: 1000, reason } if String::from_utf8_lossy(bytes).starts_with(reason)));
    });
}
