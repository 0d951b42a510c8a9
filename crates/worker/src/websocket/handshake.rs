//! The opening handshake (RFC 6455 section 4.2): is a request one, may it be accepted, and the 101 that accepts it.
//!
//! A request that asks for something else, or speaks HTTP/1.0, is plain HTTP. One that asks for a WebSocket and gets it
//! wrong is refused. Not for: Origin and paths, which are the application's to judge.

use super::extension::{Agreement, Policy};
use super::socket::Socket;
use crate::http::head::{Framing, Head};
use crate::http::refusal::Refusal;
use crate::http::response::{Invalid, Response};
use crate::http::token::{is_token, trim};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What proves that the server knows the protocol (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request for a WebSocket that may be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The subprotocols that the client speaks, by its preference.
    pub subprotocols: Vec<String>,
    /// What is agreed of compression, if anything.
    pub compression: Option<Agreement>,
    accept: String,
}

impl Handshake {
    /// Reads a request. `None` if it asks for no WebSocket. Without a `policy` nothing is compressed.
    ///
    /// # Errors
    /// 400, 405 or 426 for a request that asks for a WebSocket and cannot have it.
    pub fn read(head: &Head, policy: Option<&Policy>) -> Result<Option<Self>, Refusal> {
        if head.version < (1, 1)
            || !lists(head, b"connection", b"upgrade")
            || !lists(head, b"upgrade", b"websocket")
        {
            return Ok(None);
        }
        if head.method() != b"GET" {
            return Err(Refusal::new(405, "a WebSocket handshake is a GET request"));
        }
        if head.framing != Framing::None {
            return Err(Refusal::bad("a WebSocket handshake has no body"));
        }
        if single(head, b"sec-websocket-version") != Some(b"13") {
            return Err(Refusal::new(426, "unsupported Sec-WebSocket-Version"));
        }
        let key =
            single(head, b"sec-websocket-key").ok_or(Refusal::bad("not one Sec-WebSocket-Key header"))?;
        if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
            return Err(Refusal::bad("invalid Sec-WebSocket-Key header"));
        }
        let compression = match policy {
            Some(policy) => Agreement::choose(values(head, b"sec-websocket-extensions"), policy)?,
            None => None,
        };
        let mut hash = sha1_smol::Sha1::from(key);
        hash.update(GUID);
        let accept = STANDARD.encode(hash.digest().bytes());
        Ok(Some(Self { subprotocols: subprotocols(head)?, compression, accept }))
    }

    /// Writes the 101 into a response that is open, with the fields of the application. `common` holds the Server and
    /// Date lines.
    ///
    /// # Errors
    /// A subprotocol or field that would break the head, or that answers in our place. The response can be restarted.
    pub fn accept<'a>(
        &self,
        response: &mut Response,
        subprotocol: Option<&[u8]>,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        common: &[u8],
    ) -> Result<(), Invalid> {
        response.status(b"101 Switching Protocols")?;
        response.field(b"Connection", b"upgrade")?;
        response.field(b"Upgrade", b"websocket")?;
        response.field(b"Sec-WebSocket-Accept", self.accept.as_bytes())?;
        if let Some(agreed) = &self.compression {
            response.field(b"Sec-WebSocket-Extensions", agreed.field().as_bytes())?;
        }
        if let Some(subprotocol) = subprotocol {
            if !is_token(subprotocol) {
                return Err(Invalid::FieldValue("Sec-WebSocket-Protocol".to_owned()));
            }
            response.field(b"Sec-WebSocket-Protocol", subprotocol)?;
        }
        for (name, value) in fields {
            let ours = [&b"sec-websocket-accept"[..], b"sec-websocket-extensions", b"upgrade"];
            if ours.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                return Err(Invalid::FieldName(String::from_utf8_lossy(name).into_owned()));
            }
            // The connection is no longer HTTP's: a length or a framing would say something about a body.
            if !name.eq_ignore_ascii_case(b"connection") {
                response.field(name, value)?;
            }
        }
        response.head(None, common);
        response.finish();
        Ok(())
    }

    /// Returns the protocol's state after the 101. `message_max` is the longest message in bytes, decompressed.
    pub fn socket(&self, message_max: usize) -> Socket {
        Socket::new(self.compression, message_max)
    }
}

/// Tells whether a list of tokens in fields of this name has this one, in any case.
fn lists(head: &Head, name: &[u8], token: &[u8]) -> bool {
    elements(head, name).any(|element| element.eq_ignore_ascii_case(token))
}

fn values<'a>(head: &'a Head, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    head.fields().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn elements<'a>(head: &'a Head, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let pieces = values(head, name).flat_map(|value| value.split(|byte| *byte == b',').map(trim));
    pieces.filter(|element| !element.is_empty())
}

/// Returns the value of a field that is there once.
fn single<'a>(head: &'a Head, name: &'a [u8]) -> Option<&'a [u8]> {
    let mut all = values(head, name);
    all.next().filter(|_| all.next().is_none())
}

fn subprotocols(head: &Head) -> Result<Vec<String>, Refusal> {
    let mut all: Vec<String> = Vec::new();
    for element in elements(head, b"sec-websocket-protocol") {
        let name = String::from_utf8_lossy(element);
        if !is_token(element) || all.iter().any(|before| *before == name) {
            return Err(Refusal::bad("invalid Sec-WebSocket-Protocol header"));
        }
        all.push(name.into_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Rules, Scan, parse};
    use crate::http::response::Exchange;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

    fn head(text: &str) -> Head {
        let (rules, mut head) = (Rules::default(), Head::default());
        let text = format!("{}\r\nHost: a\r\n\r\n", text.trim_end().replace('\n', "\r\n"));
        let found = Scan::default().advance(text.as_bytes(), &rules).expect("a head").expect("whole");
        parse(text.as_bytes(), &found, &rules, false, &mut head).expect("a head");
        head
    }

    fn request(first: &str, fields: &[&str]) -> Head {
        head(&format!("{first}\n{}", fields.join("\n")))
    }

    const GOOD: [&str; 4] =
        ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13", KEY];

    fn with(more: &[&str]) -> Head {
        request("GET /chat HTTP/1.1", &[&GOOD[..], more].concat())
    }

    /// Like the good request, with the line at a place changed.
    fn but(at: usize, line: &str) -> Head {
        let mut fields = GOOD;
        fields[at] = line;
        request("GET /chat HTTP/1.1", &fields)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let head = with(&[
            "Sec-WebSocket-Protocol: chat, superchat",
            "Sec-WebSocket-Extensions: permessage-deflate",
        ]);
        let handshake = Handshake::read(&head, None).expect("valid").expect("a handshake");
        assert_eq!(handshake.subprotocols, ["chat", "superchat"]);
        let mut response = Response::default();
        response.open(Exchange { version: (1, 1), head_only: false, keep_alive: true });
        handshake
            .accept(&mut response, Some(b"chat"), [(&b"X-Own"[..], &b"1"[..])], b"Server: s\r\n")
            .expect("valid");
        let expected = "HTTP/1.1 101 Switching Protocols\r\nServer: s\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\nX-Own: 1\r\n\r\n";
        assert_eq!(String::from_utf8(response.output).expect("text"), expected);
        assert!(!response.keep_alive);
    }

    #[test]
    fn compression_is_answered() {
        let head = with(&["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]);
        let handshake =
            Handshake::read(&head, Some(&Policy::default())).expect("valid").expect("a handshake");
        let mut response = Response::default();
        response.open(Exchange { version: (1, 1), head_only: false, keep_alive: true });
        handshake.accept(&mut response, None, [], b"").expect("valid");
        let text = String::from_utf8(response.output).expect("text");
        let line = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
            server_max_window_bits=12; client_max_window_bits=12\r\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_asks_for_no_websocket_is_plain_http() {
        let table = [
            but(0, "Connection: close"),
            but(0, "X-Connection: upgrade"),
            but(1, "Upgrade: h2c"),
            but(1, "Upgrade: websockets"),
            request("GET / HTTP/1.0", &GOOD),
        ];
        for head in table {
            assert_eq!(Handshake::read(&head, None), Ok(None));
        }
        assert!(matches!(Handshake::read(&but(1, "Upgrade: h2c, websocket"), None), Ok(Some(_))));
    }

    #[test]
    fn what_is_refused() {
        let twice = format!("{KEY}\n{KEY}");
        let table = [
            (request("POST / HTTP/1.1", &GOOD), 405),
            (with(&["Content-Length: 1"]), 400),
            (but(2, "Sec-WebSocket-Version: 8"), 426),
            (but(2, "Sec-WebSocket-Version: 13\nSec-WebSocket-Version: 13"), 426),
            (but(2, "X: no version"), 426),
            (but(3, "X: no key"), 400),
            (but(3, &twice), 400),
            (but(3, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"), 400),
            (but(3, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE="), 400),
            (with(&["Sec-WebSocket-Protocol: chat, chat"]), 400),
            (with(&["Sec-WebSocket-Protocol: chat room"]), 400),
            (with(&["Sec-WebSocket-Extensions: ;"]), 400),
        ];
        for (head, status) in table {
            let refusal = Handshake::read(&head, Some(&Policy::default())).expect_err("refused");
            assert_eq!(refusal.status, status, "{refusal:?}");
        }
        let mut out = Vec::new();
        Refusal::new(426, "version").write(&mut out, None);
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{text}");
        assert!(text.contains("\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
    }

    #[test]
    fn an_application_cannot_answer_in_our_place() {
        let handshake = Handshake::read(&with(&[]), None).expect("valid").expect("a handshake");
        type Row<'a> = (Option<&'a [u8]>, &'a [u8], &'a [u8]);
        let bad: [Row<'_>; 4] = [
            (Some(b"a b"), b"X", b"1"),
            (None, b"Sec-WebSocket-Accept", b"1"),
            (None, b"sec-websocket-extensions", b"permessage-deflate"),
            (None, b"X", b"1\r\nY: 2"),
        ];
        for (subprotocol, name, value) in bad {
            let mut response = Response::default();
            response.open(Exchange { version: (1, 1), head_only: false, keep_alive: true });
            assert!(handshake.accept(&mut response, subprotocol, [(name, value)], b"").is_err());
            assert!(response.output.is_empty());
        }
    }
}
