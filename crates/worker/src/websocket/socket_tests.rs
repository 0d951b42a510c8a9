//! The protocol seen from a client that this file plays: which bytes give which events and which answers.

use super::*;
use proptest::prelude::*;

const MAX: usize = 3000;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const AGREED: Agreement = Agreement {
    server_takeover: false,
    client_takeover: true,
    server_window_bits: 12,
    client_window_bits: 12,
};

const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;

/// A frame as a client sends it: masked.
fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, MASK)
}

/// What a socket makes of bytes that arrive in pieces of at most `step`: events, fault, answers.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    fault: Option<Fault>,
    out: Vec<u8>,
    ended: bool,
}

fn run(socket: &mut Socket, input: &[u8], step: usize) -> Outcome {
    let (mut events, mut fault, mut out) = (Vec::new(), None, Vec::new());
    for piece in input.chunks(step.max(1)) {
        socket.feed(piece);
        loop {
            match socket.next_event(&mut out) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(found) => fault = Some(found),
            }
        }
    }
    Outcome { events, fault, out, ended: socket.is_ended() }
}

fn read(input: &[u8]) -> Outcome {
    run(&mut Socket::new(Some(AGREED), MAX), input, input.len())
}

fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

/// Close as the server sends it.
fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    [&[0x88, 2 + reason.len() as u8][..], &code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn the_examples_of_the_rfc() {
    // RFC 6455 section 5.7: a masked text, a fragmented one, a ping, messages of 256 and 65,536 bytes.
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(client(0x81, b"Hello"), hello);
    assert_eq!(read(&hello).events, [text("Hello")]);
    assert_eq!(read(&[client(0x01, b"Hel"), client(0x80, b"lo")].concat()).events, [text("Hello")]);
    let ping = read(&client(0x89, b"Hello"));
    assert_eq!(ping.events, [Event::Ping(b"Hello".to_vec())]);
    assert_eq!(ping.out, b"\x8a\x05Hello");
    for len in [256, 65_536] {
        let data = vec![7; len];
        let outcome = run(&mut Socket::new(None, len), &client(0x82, &data), usize::MAX);
        assert_eq!(outcome.events, [Event::Binary(data)]);
    }
}

#[test]
fn what_is_sent() {
    let mut socket = Socket::new(None, MAX);
    let mut out = b"before".to_vec();
    assert_eq!(socket.text("Hello", &mut out), Ok(()));
    assert_eq!(socket.ping(b"Hello", &mut out), Ok(()));
    assert_eq!(socket.ping(&[0; 126], &mut out), Err(Unsendable::Ping));
    assert_eq!(socket.close(1006, "", &mut out), Err(Unsendable::Code(1006)));
    assert_eq!(socket.close(1001, "away", &mut out), Ok(()));
    assert_eq!(out, [&b"before\x81\x05Hello\x89\x05Hello"[..], &close_frame(1001, "away")].concat());
    for refused in [
        socket.text("late", &mut out),
        socket.binary(b"late", &mut out),
        socket.ping(b"", &mut out),
        socket.close(1000, "", &mut out),
    ] {
        assert_eq!(refused, Err(Unsendable::Closed));
    }
    for (len, header) in [
        (125, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = Vec::new();
        assert_eq!(Socket::new(None, MAX).binary(&vec![1; len], &mut out), Ok(()));
        assert_eq!((&out[..header.len()], out.len()), (&header[..], header.len() + len));
    }
}

#[test]
fn a_reason_is_cut_between_characters() {
    let mut out = Vec::new();
    assert_eq!(Socket::new(None, MAX).close(1000, &"é".repeat(100), &mut out), Ok(()));
    assert_eq!(out, close_frame(1000, &"é".repeat(61)));
    let mut out = Vec::new();
    assert_eq!(Socket::new(None, MAX).close(1005, "unsaid", &mut out), Ok(()));
    assert_eq!(out, [0x88, 0]);
}

#[test]
fn close_is_answered_once_and_ends() {
    let outcome = read(&[client(0x88, b"\x03\xe9away"), client(0x81, b"late")].concat());
    let event = Event::Close { code: 1001, reason: "away".to_owned() };
    assert_eq!(
        outcome,
        Outcome { events: vec![event], fault: None, out: close_frame(1001, ""), ended: true }
    );
    let outcome = read(&client(0x88, b""));
    let event = Event::Close { code: 1005, reason: String::new() };
    assert_eq!(outcome, Outcome { events: vec![event], fault: None, out: vec![0x88, 0], ended: true });
    // Ours came first: what is still under way is delivered, a ping is not answered, the client's Close is the end.
    let mut socket = Socket::new(None, MAX);
    socket.close(1000, "", &mut Vec::new()).expect("open");
    let outcome =
        run(&mut socket, &[client(0x81, b"a"), client(0x89, b""), client(0x88, b"\x03\xe8")].concat(), 1);
    let event = Event::Close { code: 1000, reason: String::new() };
    let events = vec![text("a"), Event::Ping(Vec::new()), event];
    assert_eq!(outcome, Outcome { events, fault: None, out: Vec::new(), ended: true });
}

#[test]
fn faults_close_with_their_code() {
    let invalid = [0xed, 0xa0, 0x80];
    let table: [(Vec<u8>, u16); 15] = [
        (client(0x80, b"continues nothing"), 1002),
        ([client(0x01, b"a"), client(0x81, b"b")].concat(), 1002),
        (client(0x83, b""), 1002),
        (client(0xa1, b""), 1002),
        (vec![0x81, 0x00], 1002),
        (client(0x89, &[0; 126]), 1002),
        (client(0x88, b"\x03"), 1002),
        (client(0x88, b"\x03\xed"), 1002),
        (client(0x88, &[0x03, 0xe8, 0xff]), 1007),
        (client(0x81, &invalid), 1007),
        (client(0x01, &invalid), 1007),
        ([client(0x01, b"\xce"), client(0x00, b""), client(0x80, b"")].concat(), 1007),
        (client(FIN | COMPRESSED | 1, &[0xff; 9]), 1007),
        (client(0x82, &[0; MAX + 1]), 1009),
        ([client(0x02, &[0; MAX]), client(0x80, b"1")].concat(), 1009),
    ];
    for (input, code) in table {
        for step in [1, input.len()] {
            let outcome = run(
                &mut Socket::new(Some(AGREED), MAX),
                &[&input[..], &client(0x81, b"late")].concat(),
                step,
            );
            let fault = outcome.fault.expect("a fault");
            assert_eq!((fault.code, &outcome.events[..], outcome.ended), (code, &[][..], true), "{input:x?}");
            assert_eq!(outcome.out, close_frame(code, fault.reason));
        }
    }
}

#[test]
fn a_fault_is_found_at_the_first_byte_that_shows_it() {
    let mut out = Vec::new();
    let announced = [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4];
    let mut socket = Socket::new(None, MAX);
    socket.feed(&announced[..13]);
    assert_eq!(socket.next_event(&mut out), Ok(None));
    socket.feed(&announced[13..]);
    assert_eq!(socket.next_event(&mut out), Err(Fault { code: 1002, reason: "invalid frame length" }));
    let mut socket = Socket::new(None, MAX);
    let text = client(0x01, "κόσμε\u{10ffff}".as_bytes());
    socket.feed(&text);
    assert_eq!(socket.next_event(&mut out), Ok(None));
    socket.feed(&client(0x80, &[b'a', 0xf4, 0x90])[..8]);
    assert_eq!(socket.next_event(&mut out), Ok(None));
    socket.feed(&client(0x80, &[b'a', 0xf4, 0x90])[8..]);
    assert_eq!(socket.next_event(&mut out), Err(Fault::encoding()));
}

#[test]
fn a_compressed_message_may_not_grow_over_the_limit() {
    let mut payload = Vec::new();
    Deflater::new(&AGREED).write(&[b'a'; MAX + 1], &mut payload);
    let outcome = read(&client(FIN | COMPRESSED | 1, &payload));
    assert_eq!(outcome.fault, Some(Fault::too_big()));
    let mut payload = Vec::new();
    Deflater::new(&AGREED).write(&[b'a'; MAX], &mut payload);
    assert_eq!(read(&client(FIN | COMPRESSED | 1, &payload)).events, [text(&"a".repeat(MAX))]);
}

#[test]
fn control_frames_may_stand_inside_messages() {
    let mut payload = Vec::new();
    Deflater::new(&AGREED).write(b"Hello, hello, hello", &mut payload);
    let (first, second) = payload.split_at(4);
    let input = [
        client(COMPRESSED | 1, first),
        client(0x8a, b"unasked"),
        client(0x89, b"?"),
        client(0x80, second),
        client(0x81, b"plain"),
    ];
    let outcome = read(&input.concat());
    let pong = Event::Pong(b"unasked".to_vec());
    assert_eq!(
        outcome.events,
        [pong, Event::Ping(b"?".to_vec()), text("Hello, hello, hello"), text("plain")]
    );
    assert_eq!(outcome.out, b"\x8a\x01?");
}

#[test]
fn what_is_long_enough_is_compressed() {
    for (server_takeover, min) in [(false, 1024), (true, 128)] {
        let mut socket = Socket::new(Some(Agreement { server_takeover, ..AGREED }), MAX);
        let (mut out, word) = (b"before".to_vec(), "abc ".repeat(min / 4));
        assert_eq!(socket.text(&word[1..], &mut out), Ok(()));
        assert_eq!((out[6], &out[out.len() - min + 1..]), (0x81, &word.as_bytes()[1..]));
        out.truncate(6);
        assert_eq!(socket.text(&word, &mut out), Ok(()));
        assert_eq!((out[6], usize::from(out[7])), (FIN | COMPRESSED | 1, out.len() - 8));
        assert!(out.len() < 30, "{}", out.len());
    }
}

#[test]
fn another_thread_can_go_on() {
    let mut socket = Socket::new(Some(Agreement { server_takeover: true, ..AGREED }), MAX);
    let (mut out, words) = (Vec::new(), "words ".repeat(100));
    assert_eq!(socket.text(&words, &mut out), Ok(()));
    socket.feed(&client(0x01, b"one "));
    assert_eq!(socket.next_event(&mut out), Ok(None));
    let (mut socket, mut out) = std::thread::spawn(move || {
        assert_eq!(socket.text(&words, &mut out), Ok(()));
        (socket, out)
    })
    .join()
    .expect("no panic");
    socket.feed(&client(0x80, b"message"));
    assert_eq!(socket.next_event(&mut out), Ok(Some(text("one message"))));
    let second = &out[2 + usize::from(out[1])..];
    assert!(second.len() < 15, "the second message refers to the first: {second:x?}");
}

#[test]
fn the_input_of_a_burst_is_given_back() {
    let mut socket = Socket::new(None, 1 << 20);
    socket.feed(&client(0x82, &vec![0; 1 << 20]));
    assert!(socket.waiting() > 1 << 20);
    let mut out = Vec::new();
    assert!(matches!(socket.next_event(&mut out), Ok(Some(Event::Binary(_)))));
    assert_eq!(socket.next_event(&mut out), Ok(None));
    assert_eq!(socket.waiting(), 0);
    assert!(socket.input.capacity() <= INPUT_KEPT);
}

/// A message with how it is sent: in how long fragments, compressed or not, with which mask.
#[derive(Clone, Debug)]
struct Sent {
    event: Event,
    fragment: usize,
    compressed: bool,
    mask: [u8; 4],
    ping: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let event = prop_oneof![
        "[a-zé世😀]{0,700}".prop_map(Event::Text),
        proptest::collection::vec(any::<u8>(), 0..1500).prop_map(Event::Binary),
    ];
    (event, 1..300_usize, any::<bool>(), any::<[u8; 4]>(), any::<bool>()).prop_map(
        |(event, fragment, compressed, mask, ping)| Sent { event, fragment, compressed, mask, ping },
    )
}

/// Writes messages as a client would; its pings stand before the last fragment.
fn write(all: &[Sent]) -> (Vec<u8>, Vec<Event>) {
    let mut deflater = Deflater::new(&Agreement { server_takeover: true, ..AGREED });
    let (mut input, mut events) = (Vec::new(), Vec::new());
    for sent in all {
        let (opcode, message) = match &sent.event {
            Event::Text(text) => (1, text.as_bytes()),
            Event::Binary(data) => (2, &data[..]),
            other => panic!("{other:?} is no message"),
        };
        let mut payload = Vec::new();
        if sent.compressed {
            deflater.write(message, &mut payload);
        } else {
            payload.extend_from_slice(message);
        }
        let mut fragments: Vec<&[u8]> = payload.chunks(sent.fragment).collect();
        if fragments.is_empty() {
            fragments.push(b"");
        }
        for (at, fragment) in fragments.iter().enumerate() {
            let last = at + 1 == fragments.len();
            let first = if at == 0 { opcode | if sent.compressed { COMPRESSED } else { 0 } } else { 0 };
            if last && sent.ping {
                input.extend(frame(0x89, b"ping", sent.mask));
                events.push(Event::Ping(b"ping".to_vec()));
            }
            input.extend(frame(first | if last { FIN } else { 0 }, fragment, sent.mask));
        }
        events.push(sent.event.clone());
    }
    (input, events)
}

/// Reads frames as a client would: a server's are whole and not masked.
fn replies(mut out: &[u8]) -> Vec<Event> {
    let mut inflater = Inflater::new(&Agreement { client_takeover: false, ..AGREED });
    let mut events = Vec::new();
    while let [first, second, rest @ ..] = out {
        let (len, size) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), 2),
            len => (usize::from(*len), 0),
        };
        let mut data = rest[size..size + len].to_vec();
        if first & COMPRESSED != 0 {
            let payload = std::mem::take(&mut data);
            inflater.push(&payload, &mut data, MAX).expect("compressed data");
            inflater.finish(&mut data, MAX).expect("compressed data");
        }
        events.push(match first & 0xf {
            1 => Event::Text(String::from_utf8(data).expect("text")),
            2 => Event::Binary(data),
            opcode => panic!("opcode {opcode}"),
        });
        out = &rest[size + len..];
    }
    events
}

proptest! {
    #[test]
    fn messages_arrive_however_they_are_cut(all in proptest::collection::vec(sent(), 0..5), step in 1..50_usize) {
        let (input, events) = write(&all);
        for step in [1, step, usize::MAX] {
            let outcome = run(&mut Socket::new(Some(AGREED), MAX), &input, step);
            prop_assert_eq!(&outcome.events, &events);
            prop_assert!(outcome.fault.is_none() && !outcome.ended);
        }
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        input in proptest::collection::vec(any::<u8>(), 0..300),
        step in 1..50_usize,
    ) {
        let outcome = |step| {
            let mut outcome = run(&mut Socket::new(Some(AGREED), MAX), &input, step);
            // What is neither deflate nor UTF-8 is found to be either first, and says so in Close.
            if let Some(fault) = outcome.fault.as_mut().filter(|fault| fault.code == 1007) {
                let close = close_frame(1007, fault.reason).len();
                outcome.out.truncate(outcome.out.len() - close);
                fault.reason = "";
            }
            outcome
        };
        let whole = outcome(usize::MAX);
        for step in [1, step] {
            prop_assert_eq!(&outcome(step), &whole);
        }
    }

    #[test]
    fn what_is_sent_is_what_a_client_reads(all in proptest::collection::vec(sent(), 0..5)) {
        let mut socket = Socket::new(Some(AGREED), MAX);
        let mut out = Vec::new();
        for sent in &all {
            let done = match &sent.event {
                Event::Text(text) => socket.text(text, &mut out),
                Event::Binary(data) => socket.binary(data, &mut out),
                other => panic!("{other:?} is no message"),
            };
            prop_assert_eq!(done, Ok(()));
        }
        let events: Vec<Event> = all.iter().map(|sent| sent.event.clone()).collect();
        prop_assert_eq!(replies(&out), events);
    }
}
