//! A server for tests that keeps the requests it gets and answers what it was told to. Not for: anything but tests.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    fields: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// An answer to give.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answer { status: u16, fields: String, body: String },
    Nothing,
    Never,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, fields: String::new(), body: String::new() }
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        match self {
            Self::Answer { status, fields, body } => {
                Self::Answer { status, fields: format!("{fields}{name}: {value}\r\n"), body }
            }
            other => other,
        }
    }

    pub(crate) fn body(self, text: &str) -> Self {
        match self {
            Self::Answer { status, fields, .. } => Self::Answer { status, fields, body: text.to_owned() },
            other => other,
        }
    }

    /// The connection ends without an answer.
    pub(crate) fn nothing() -> Self {
        Self::Nothing
    }

    /// The connection stays without an answer.
    pub(crate) fn never() -> Self {
        Self::Never
    }
}

/// Answers with what it has been given, one after the other, and with 200 after that.
pub(crate) struct Server {
    port: u16,
    requests: Receiver<Request>,
}

impl Server {
    pub(crate) fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, requests) = channel();
        // It ends with the test's process.
        std::thread::spawn(move || serve(&listener, replies.into(), &sender));
        Self { port, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn next(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(30)).expect("a request")
    }

    /// Tells whether nobody has asked anything for a moment.
    pub(crate) fn is_quiet(&self) -> bool {
        self.requests.recv_timeout(Duration::from_millis(200)).is_err()
    }
}

fn serve(listener: &TcpListener, mut replies: VecDeque<Reply>, sender: &Sender<Request>) {
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let Some(request) = read(&stream) else { continue };
        let reply = replies.pop_front().unwrap_or(Reply::status(200));
        let _ = sender.send(request);
        match reply {
            Reply::Nothing => {}
            Reply::Never => kept.push(stream),
            Reply::Answer { status, fields, body } => {
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {status} Whatever\r\nContent-Length: {length}\r\nConnection: close\r\n{fields}\r\n{body}"
                );
                let _ = stream.write_all(text.as_bytes());
            }
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        fields.push((name.to_lowercase(), value.to_owned()));
    }
    let length = fields.iter().find(|(name, _)| name == "content-length").and_then(|(_, n)| n.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, body, fields })
}
