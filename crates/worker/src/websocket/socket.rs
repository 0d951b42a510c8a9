//! The messages of one WebSocket (RFC 6455 sections 5 to 7): bytes in, events out; messages in, bytes out.
//!
//! A message is unmasked, decompressed and checked piece by piece as it arrives, so that its limit and its encoding hold
//! from the first byte that breaks them. Pings and Close are answered here.
//! Not for: the handshake (see [`super::handshake`]), time (see [`super::keepalive`]), the connection.

use super::compression::{Deflater, Inflater};
use super::event::{Event, Fault, Unsendable, is_close_code};
use super::extension::Agreement;
use super::frame::{self, CONTROL_MAX, HEADER_MAX, Header, Kind};

/// How much memory an empty input buffer keeps.
const INPUT_KEPT: usize = 64 << 10;

/// The protocol's state on one connection.
#[derive(Debug)]
pub struct Socket {
    message_max: usize,
    inflater: Option<Inflater>,
    deflater: Option<Deflater>,
    input: Vec<u8>,
    /// How far `input` has been read.
    at: usize,
    /// The data frame whose payload is arriving.
    frame: Option<Frame>,
    /// The message whose frames are arriving.
    message: Option<Message>,
    close_sent: bool,
    /// Nothing that arrives means anything anymore.
    ended: bool,
}

#[derive(Debug)]
struct Frame {
    left: u64,
    /// Turned to the next byte.
    mask: [u8; 4],
    last: bool,
}

#[derive(Debug)]
struct Message {
    text: bool,
    compressed: bool,
    data: Vec<u8>,
    /// How much of `data` is known to be UTF-8.
    checked: usize,
}

impl Socket {
    /// Begins after the handshake. `message_max` is the longest message in bytes, decompressed.
    pub fn new(compression: Option<Agreement>, message_max: usize) -> Self {
        Self {
            message_max,
            inflater: compression.as_ref().map(Inflater::new),
            deflater: compression.as_ref().map(Deflater::new),
            input: Vec::new(),
            at: 0,
            frame: None,
            message: None,
            close_sent: false,
            ended: false,
        }
    }

    /// Takes bytes that have arrived. They wait until [`Self::next_event`] reads them.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.ended {
            return;
        }
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// Returns how many bytes wait to be read. More than a frame's head only if the caller does not ask for events.
    pub fn waiting(&self) -> usize {
        self.input.len() - self.at
    }

    /// Tells whether Close was sent; nothing may be sent after it.
    pub fn is_closing(&self) -> bool {
        self.close_sent
    }

    /// Tells whether the connection is to be closed when the output is sent: after a fault, or Close from both sides.
    /// What the client still sends is to be read and thrown away for a while, or closing could take our Close from it.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Returns the next event in what has arrived, or `None`. What has to be answered is answered in `out`: a caller that
    /// limits what is unsent looks at it before it asks again, because every ping adds a pong.
    ///
    /// # Errors
    /// The client broke the protocol. Close is in `out`; no event will follow.
    pub fn next_event(&mut self, out: &mut Vec<u8>) -> Result<Option<Event>, Fault> {
        if self.ended {
            return Ok(None);
        }
        let read = self.read(out);
        if let Err(fault) = &read {
            // It changes nothing if Close was sent before.
            let _ = self.close(fault.code, fault.reason, out);
            self.end();
        }
        read
    }

    fn read(&mut self, out: &mut Vec<u8>) -> Result<Option<Event>, Fault> {
        loop {
            if self.frame.is_some() {
                match self.payload()? {
                    Progress::Message(event) => return Ok(Some(event)),
                    Progress::Frame => {}
                    Progress::Pending => return Ok(None),
                }
            }
            let Some(header) = frame::read(&self.input[self.at..], self.inflater.is_some())? else {
                self.release();
                return Ok(None);
            };
            match header.kind {
                Kind::Text | Kind::Binary | Kind::Continuation => self.begin(&header)?,
                Kind::Close | Kind::Ping | Kind::Pong => {
                    let start = self.at + header.size;
                    let end = start + header.len as usize;
                    let Some(payload) = self.input.get(start..end) else { return Ok(None) };
                    let mut payload = payload.to_vec();
                    frame::unmask(&mut payload, header.mask);
                    self.at = end;
                    return self.control(header.kind, payload, out).map(Some);
                }
            }
        }
    }

    /// Begins a data frame.
    fn begin(&mut self, header: &Header) -> Result<(), Fault> {
        match (&self.message, header.kind) {
            (None, Kind::Continuation) => return Err(Fault::protocol("continuation without message")),
            (Some(_), Kind::Text | Kind::Binary) => return Err(Fault::protocol("message inside message")),
            _ => {}
        }
        let message = self.message.get_or_insert_with(|| Message {
            text: header.kind == Kind::Text,
            compressed: header.compressed,
            data: Vec::new(),
            checked: 0,
        });
        let room = self.message_max.saturating_sub(message.data.len()) as u64;
        if !message.compressed && header.len > room {
            return Err(Fault::too_big());
        }
        self.frame = Some(Frame { left: header.len, mask: header.mask, last: header.last });
        self.at += header.size;
        Ok(())
    }

    /// Reads what has arrived of the payload of a data frame.
    fn payload(&mut self) -> Result<Progress, Fault> {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else {
            return Ok(Progress::Frame);
        };
        let arrived = (self.input.len() - self.at).min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        let piece = &mut self.input[self.at..self.at + arrived];
        match &mut self.inflater {
            Some(inflater) if message.compressed => {
                frame::unmask(piece, frame.mask);
                inflater.push(piece, &mut message.data, self.message_max)?;
            }
            _ => {
                let start = message.data.len();
                message.data.extend_from_slice(piece);
                frame::unmask(&mut message.data[start..], frame.mask);
            }
        }
        self.at += arrived;
        frame.left -= arrived as u64;
        frame.mask.rotate_left(arrived % 4);
        let (whole, last) = (frame.left == 0, frame.last);
        if !(whole && last) {
            message.check()?;
            if !whole {
                self.release();
                return Ok(Progress::Pending);
            }
            self.frame = None;
            return Ok(Progress::Frame);
        }
        if let Some(inflater) = &mut self.inflater
            && message.compressed
        {
            inflater.finish(&mut message.data, self.message_max)?;
        }
        self.frame = None;
        match self.message.take() {
            Some(Message { text: false, data, .. }) => Ok(Progress::Message(Event::Binary(data))),
            Some(Message { data, .. }) => {
                let text = String::from_utf8(data).map_err(|_| Fault::encoding())?;
                Ok(Progress::Message(Event::Text(text)))
            }
            None => Ok(Progress::Frame),
        }
    }

    fn control(&mut self, kind: Kind, payload: Vec<u8>, out: &mut Vec<u8>) -> Result<Event, Fault> {
        match kind {
            Kind::Close => self.closed(&payload, out),
            Kind::Ping => {
                if !self.close_sent {
                    write_frame(out, Kind::Pong, &payload);
                }
                Ok(Event::Ping(payload))
            }
            _ => Ok(Event::Pong(payload)),
        }
    }

    /// The client's Close: answered with the same code, unless it is the answer to ours.
    fn closed(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Event, Fault> {
        let (code, reason) = match payload {
            [] => (1005, ""),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !is_close_code(code) {
                    return Err(Fault::protocol("invalid close code"));
                }
                (code, std::str::from_utf8(reason).map_err(|_| Fault::encoding())?)
            }
            [_] => return Err(Fault::protocol("half a close code")),
        };
        if !self.close_sent {
            write_frame(out, Kind::Close, &payload[..payload.len().min(2)]);
            self.close_sent = true;
        }
        self.end();
        Ok(Event::Close { code, reason: reason.to_owned() })
    }

    /// Sends a message of text.
    ///
    /// # Errors
    /// After Close.
    pub fn text(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), Unsendable> {
        self.send(Kind::Text, text.as_bytes(), out)
    }

    /// Sends a message of bytes.
    ///
    /// # Errors
    /// After Close.
    pub fn binary(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Unsendable> {
        self.send(Kind::Binary, data, out)
    }

    /// Sends a ping of at most 125 bytes.
    ///
    /// # Errors
    /// After Close, or a payload that is too long.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Unsendable> {
        if payload.len() > CONTROL_MAX {
            return Err(Unsendable::Ping);
        }
        self.check_open()?;
        write_frame(out, Kind::Ping, payload);
        Ok(())
    }

    /// Sends Close and waits for the client's. 1005 sends it without a code; a reason that is too long is cut.
    ///
    /// # Errors
    /// After Close, or a code that may not be sent.
    pub fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) -> Result<(), Unsendable> {
        self.check_open()?;
        if code == 1005 {
            write_frame(out, Kind::Close, b"");
        } else if is_close_code(code) {
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend_from_slice(cut(reason, CONTROL_MAX - 2).as_bytes());
            write_frame(out, Kind::Close, &payload);
        } else {
            return Err(Unsendable::Code(code));
        }
        self.close_sent = true;
        Ok(())
    }

    fn check_open(&self) -> Result<(), Unsendable> {
        if self.close_sent { Err(Unsendable::Closed) } else { Ok(()) }
    }

    fn send(&mut self, kind: Kind, data: &[u8], out: &mut Vec<u8>) -> Result<(), Unsendable> {
        self.check_open()?;
        match &mut self.deflater {
            Some(deflater) if deflater.pays(data.len()) => {
                // The length is known afterwards: the header takes its place, the message moves up to it.
                let start = out.len();
                out.resize(start + HEADER_MAX, 0);
                deflater.write(data, out);
                let mut header = [0; HEADER_MAX];
                let size = frame::write(&mut header, kind, true, out.len() - start - HEADER_MAX);
                out[start..start + size].copy_from_slice(&header[..size]);
                out.drain(start + size..start + HEADER_MAX);
            }
            _ => write_frame(out, kind, data),
        }
        Ok(())
    }

    /// Gives back the memory of what has been read.
    fn release(&mut self) {
        if self.at == self.input.len() {
            self.input.clear();
            self.input.shrink_to(INPUT_KEPT);
            self.at = 0;
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.input = Vec::new();
        self.at = 0;
        self.frame = None;
        self.message = None;
    }
}

enum Progress {
    /// More bytes are needed.
    Pending,
    /// The frame is read, its message goes on.
    Frame,
    Message(Event),
}

impl Message {
    /// Checks as much of a text as has arrived; a character may be cut at the end.
    fn check(&mut self) -> Result<(), Fault> {
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.data[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_some() => return Err(Fault::encoding()),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }
}

/// Cuts a text to at most so many bytes, between characters.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

fn write_frame(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    let mut header = [0; HEADER_MAX];
    let size = frame::write(&mut header, kind, false, payload.len());
    out.reserve(size + payload.len());
    out.extend_from_slice(&header[..size]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
