//! A server that sends every message back: `cargo run --release --example websocket_echo [PORT]`, for conformance tests.
//!
//! One thread per connection and loopback only. Not for: showing how the worker serves WebSockets; it has its own loop.
#![forbid(unsafe_code)]

use ferricorn_worker::http::head::{Head, Rules, Scan, parse};
use ferricorn_worker::http::refusal::Refusal;
use ferricorn_worker::http::response::{Exchange, Response};
use ferricorn_worker::websocket::{Event, Handshake, Policy, Socket};
use std::io::{self, Error, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

/// The longest message, as the conformance tests need it.
const MESSAGE_MAX: usize = 64 << 20;
const IDLE_MAX: Duration = Duration::from_secs(60);

fn main() -> io::Result<()> {
    let port = env::args().nth(1).map_or(Ok(9001), |port| port.parse()).map_err(Error::other)?;
    let takeover = env::args().nth(2).is_some_and(|word| word == "takeover");
    let policy = Policy { takeover, window_bits: 15 };
    for connection in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let connection = connection?;
        // A client that goes away in the middle is its own affair.
        thread::spawn(move || serve(connection, &policy));
    }
    Ok(())
}

fn serve(mut connection: TcpStream, policy: &Policy) -> io::Result<()> {
    connection.set_read_timeout(Some(IDLE_MAX))?;
    connection.set_nodelay(true)?;
    let (handshake, rest) = match open(&mut connection, policy)? {
        Ok(opened) => opened,
        Err(refusal) => {
            let mut page = Vec::new();
            refusal.write(&mut page, None);
            return connection.write_all(&page);
        }
    };
    let mut response = Response::default();
    response.open(Exchange { version: (1, 1), head_only: false, keep_alive: true });
    let subprotocol = handshake.subprotocols.first().map(String::as_bytes);
    handshake
        .accept(&mut response, subprotocol, [], b"")
        .map_err(|invalid| Error::other(invalid.to_string()))?;
    connection.write_all(&response.output)?;
    let mut socket = handshake.socket(MESSAGE_MAX);
    socket.feed(&rest);
    let (mut buffer, mut out) = (vec![0; 64 << 10], Vec::new());
    loop {
        answer(&mut socket, &mut out);
        connection.write_all(&out)?;
        out.clear();
        if socket.is_ended() {
            // The server closes first (RFC 6455 section 7.1.1); what is still under way would reset the connection.
            connection.shutdown(Shutdown::Write)?;
            while connection.read(&mut buffer)? > 0 {}
            return Ok(());
        }
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            len => socket.feed(&buffer[..len]),
        }
    }
}

/// Reads the request; what came after it belongs to the WebSocket.
fn open(connection: &mut TcpStream, policy: &Policy) -> io::Result<Result<(Handshake, Vec<u8>), Refusal>> {
    let (rules, mut scan, mut head) = (Rules::default(), Scan::default(), Head::default());
    let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let len = connection.read(&mut buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        input.extend_from_slice(&buffer[..len]);
        let found = match scan.advance(&input, &rules) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let read = parse(&input, &found, &rules, false, &mut head)
            .and_then(|()| Handshake::read(&head, Some(policy)));
        let asked =
            read.and_then(|asked| asked.ok_or(Refusal::new(426, "this server speaks WebSocket only")));
        return Ok(asked.map(|handshake| (handshake, input.split_off(found.end))));
    }
}

fn answer(socket: &mut Socket, out: &mut Vec<u8>) {
    while let Ok(Some(event)) = socket.next_event(out) {
        // After Close there is nobody to send to.
        let _ = match event {
            Event::Text(text) => socket.text(&text, out),
            Event::Binary(data) => socket.binary(&data, out),
            Event::Ping(_) | Event::Pong(_) | Event::Close { .. } => Ok(()),
        };
    }
}
