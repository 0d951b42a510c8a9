//! WebSockets (ASGI 3, WebSocket 2.4): what the client sends becomes messages, and messages become frames.

use super::cycle::{Cycle, Stage};
use super::http::{self, fields_of, invalid, unexpected};
use ferricorn_sys::clock;
use ferricorn_worker::Options;
use ferricorn_worker::websocket::{Due, Event, Handshake, Keepalive, Socket};
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::collections::VecDeque;

/// Messages that wait for the application; beyond that nothing is read.
const INBOX_MAX: usize = 16;
/// How long a client has to answer Close.
const CLOSE_NS: u64 = 5_000_000_000;

/// A connection that asks to become a WebSocket, or has.
pub(super) struct WebSocket {
    handshake: Handshake,
    /// Once it is accepted.
    socket: Option<(Socket, Keepalive)>,
    /// `websocket.connect` has been given.
    met: bool,
    /// A response of HTTP is given instead.
    denied: bool,
    inbox: VecDeque<Event>,
    /// Why it has ended, as the application is to know it.
    ended: Option<(u16, String)>,
    /// The application has closed it.
    closed: bool,
}

impl WebSocket {
    pub(super) fn new(handshake: Handshake) -> Self {
        Self {
            handshake,
            socket: None,
            met: false,
            denied: false,
            inbox: VecDeque::new(),
            ended: None,
            closed: false,
        }
    }

    /// Tells whether it is open, or about to close.
    pub(super) fn is_accepted(&self) -> bool {
        self.socket.is_some()
    }
}

/// Returns the next message for the application; `None` if there is none yet.
pub(super) fn next_message<'py>(cycle: &mut Cycle, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
    pump(cycle);
    let is_over = cycle.conn.as_ref().is_none_or(|conn| conn.is_late() || conn.has_left());
    let Some(ws) = &mut cycle.ws else { return Ok(None) };
    let message = PyDict::new(py);
    let kind = intern!(py, "type");
    if !std::mem::replace(&mut ws.met, true) {
        message.set_item(kind, intern!(py, "websocket.connect"))?;
        return Ok(Some(message));
    }
    match ws.inbox.pop_front() {
        Some(Event::Text(text)) if !ws.closed => {
            message.set_item(kind, intern!(py, "websocket.receive"))?;
            message.set_item(intern!(py, "text"), text)?;
            return Ok(Some(message));
        }
        Some(Event::Binary(data)) if !ws.closed => {
            message.set_item(kind, intern!(py, "websocket.receive"))?;
            message.set_item(intern!(py, "bytes"), PyBytes::new(py, &data))?;
            return Ok(Some(message));
        }
        _ => {}
    }
    let (code, reason) = match &ws.ended {
        Some((code, reason)) => (*code, Some(reason)),
        None if ws.closed || ws.denied || is_over => (1006, None),
        None => return Ok(None),
    };
    message.set_item(kind, intern!(py, "websocket.disconnect"))?;
    message.set_item(intern!(py, "code"), code)?;
    if let Some(reason) = reason {
        message.set_item(intern!(py, "reason"), reason)?;
    }
    Ok(Some(message))
}

/// Reads what has arrived, as far as the application keeps up, and sends what has to be answered. Ends the connection if
/// that is due.
pub(super) fn pump(cycle: &mut Cycle) {
    let Some(ws) = &mut cycle.ws else { return };
    let (Some(conn), Some((socket, keepalive))) = (&mut cycle.conn, &mut ws.socket) else { return };
    while ws.inbox.len() < INBOX_MAX {
        match socket.next_event(&mut conn.response.output) {
            Ok(Some(Event::Close { code, reason })) => {
                ws.ended.get_or_insert((code, reason));
            }
            Ok(Some(Event::Ping(_) | Event::Pong(_))) => {}
            Ok(Some(message)) => {
                // What comes after the end is nobody's.
                if ws.ended.is_none() && !ws.closed {
                    ws.inbox.push_back(message);
                }
            }
            Err(fault) => {
                // The client may be in the middle of what it was not to send.
                conn.lingers();
                ws.ended.get_or_insert((fault.code, fault.reason.to_owned()));
            }
            Ok(None) if socket.is_ended() => break,
            Ok(None) => {
                let arrived = conn.take_bytes();
                if arrived.is_empty() {
                    break;
                }
                keepalive.heard();
                socket.feed(&arrived);
            }
        }
    }
    if conn.pending() > 0 {
        let _ = conn.send();
    }
    let gone = conn.is_gone() || conn.has_left() && !conn.may_have_bytes();
    if gone {
        ws.ended.get_or_insert((1006, String::new()));
    }
    if gone || socket.is_ended() {
        cycle.over();
    }
}

/// Takes one message of the application's.
pub(super) fn send(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = message.py();
    let kind = http::kind(message)?;
    let kind = kind.to_str()?;
    let Some(ws) = &mut cycle.ws else { return Ok(()) };
    if ws.closed || ws.denied && cycle.stage == Stage::Over {
        return Err(PyRuntimeError::new_err(format!(
            "Unexpected ASGI message '{kind}', after sending 'websocket.close' or response already completed."
        )));
    }
    if ws.denied {
        return match kind {
            "websocket.http.response.body" => http::body(cycle, message),
            _ => Err(unexpected("'websocket.http.response.body'", kind)),
        };
    }
    let gone = cycle.conn.as_ref().is_none_or(|conn| conn.is_late() || conn.is_gone());
    if gone || ws.ended.is_some() {
        return Err(PyConnectionResetError::new_err("the client has left the WebSocket"));
    }
    match (&ws.socket, kind) {
        (None, "websocket.accept") => accept(cycle, message),
        (None, "websocket.close") => deny(cycle, py),
        (None, "websocket.http.response.start") => {
            ws.denied = true;
            http::start(cycle, message)
        }
        (None, _) => {
            Err(unexpected("'websocket.accept', 'websocket.close', or 'websocket.http.response.start'", kind))
        }
        (Some(_), "websocket.send") => data(cycle, message),
        (Some(_), "websocket.close") => {
            let code = message.get_item(intern!(py, "code"))?.map_or(Ok(1000), |code| code.extract())?;
            let reason: Option<String> =
                message.get_item(intern!(py, "reason"))?.map_or(Ok(None), |reason| reason.extract())?;
            let reason = reason.unwrap_or_default();
            ws.closed = true;
            close(cycle, code, &reason)
                .map_err(|code| PyValueError::new_err(format!("{code} may not be sent as a close code")))?;
            if let Some(ws) = &mut cycle.ws {
                ws.ended.get_or_insert((code, reason));
            }
            cycle.wake(py);
            Ok(())
        }
        (Some(_), _) => Err(unexpected("'websocket.send' or 'websocket.close'", kind)),
    }
}

fn accept(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = message.py();
    let options =
        |options: &Options| (options.message_max, options.ping_interval_ns, options.ping_timeout_ns);
    let (message_max, interval_ns, timeout_ns) = cycle.options().map_or((16 << 20, 0, 0), options);
    let (Some(ws), Some(conn)) = (&mut cycle.ws, &mut cycle.conn) else { return Ok(()) };
    let subprotocol: Option<String> =
        message.get_item(intern!(py, "subprotocol"))?.map_or(Ok(None), |name| name.extract())?;
    let headers = match message.get_item(intern!(py, "headers"))? {
        Some(headers) => fields_of(&headers)?,
        None => Vec::new(),
    };
    let fields = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let accepted = conn.accept(&ws.handshake, subprotocol.as_ref().map(String::as_bytes), fields);
    if accepted.is_err() {
        conn.response.restart();
    }
    accepted.map_err(invalid)?;
    conn.is_websocket();
    let keepalive = Keepalive::new(interval_ns, timeout_ns, clock::now_ns());
    ws.socket = Some((ws.handshake.socket(message_max), keepalive));
    cycle.stage = Stage::Body;
    cycle.watch_over(py);
    Ok(())
}

/// Refuses the WebSocket, as `websocket.close` before `websocket.accept` means it.
fn deny(cycle: &mut Cycle, py: Python<'_>) -> PyResult<()> {
    let (Some(ws), Some(conn)) = (&mut cycle.ws, &mut cycle.conn) else { return Ok(()) };
    ws.closed = true;
    conn.response.code(403).map_err(invalid)?;
    conn.write_head(Some(0));
    conn.response.finish();
    cycle.over();
    cycle.wake(py);
    Ok(())
}

fn data(cycle: &mut Cycle, message: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = message.py();
    let (Some(ws), Some(conn)) = (&mut cycle.ws, &mut cycle.conn) else { return Ok(()) };
    let Some((socket, _)) = &mut ws.socket else { return Ok(()) };
    let out = &mut conn.response.output;
    let given = |name| Ok::<_, PyErr>(message.get_item(name)?.filter(|value| !value.is_none()));
    let sent = if let Some(data) = given(intern!(py, "bytes"))? {
        match data.cast::<PyBytes>() {
            Ok(data) => socket.binary(data.as_bytes(), out),
            Err(_) => socket.binary(&http::other_bytes(&data)?, out),
        }
    } else if let Some(text) = given(intern!(py, "text"))? {
        let text = text.cast::<PyString>().map_err(|_| PyTypeError::new_err("\"text\" is a str"))?;
        socket.text(text.to_str()?, out)
    } else {
        return Err(PyValueError::new_err("websocket.send has \"bytes\" or \"text\""));
    };
    sent.map_err(|_| PyConnectionResetError::new_err("the WebSocket is closing"))
}

/// Sends Close; the code back if it may not be sent.
fn close(cycle: &mut Cycle, code: u16, reason: &str) -> Result<(), u16> {
    let (Some(ws), Some(conn)) = (&mut cycle.ws, &mut cycle.conn) else { return Ok(()) };
    let Some((socket, keepalive)) = &mut ws.socket else { return Ok(()) };
    if socket.is_closing() {
        return Ok(());
    }
    socket.close(code, reason, &mut conn.response.output).map_err(|_| code)?;
    keepalive.closing(CLOSE_NS, clock::now_ns());
    let _ = conn.send();
    Ok(())
}

/// Says good-bye because the worker ends.
pub(super) fn drain(cycle: &mut Cycle, py: Python<'_>) {
    // A code that may always be sent.
    let _ = close(cycle, 1012, "");
    let Some(ws) = &mut cycle.ws else { return };
    if ws.is_accepted() && ws.ended.is_none() {
        ws.ended = Some((1012, String::new()));
    }
    cycle.wake(py);
}

/// The task is over: with an error, or without.
pub(super) fn leave(cycle: &mut Cycle, failed: bool) {
    // A code that may always be sent.
    let _ = close(cycle, if failed { 1011 } else { 1000 }, "");
}

/// Pings the client if that is due, or gives it up.
pub(super) fn tend(cycle: &mut Cycle, py: Python<'_>, now_ns: u64) {
    let Some(ws) = &mut cycle.ws else { return };
    let (Some(conn), Some((socket, keepalive))) = (&mut cycle.conn, &mut ws.socket) else { return };
    match keepalive.due(now_ns, ws.inbox.len() < INBOX_MAX) {
        Due::Wait(_) => {}
        Due::Ping => {
            // After Close none is due.
            let _ = socket.ping(b"", &mut conn.response.output);
            let _ = conn.send();
        }
        Due::Lost => {
            ws.ended.get_or_insert((1006, String::new()));
            conn.give_up();
            cycle.over();
            cycle.wake(py);
        }
    }
}
