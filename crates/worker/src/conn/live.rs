//! What a connection does while the application has its request: the body arrives in pieces, as they are asked for, and
//! the client may leave.
//!
//! Nothing is read that nobody asks for: a client that sends more than the application takes waits.

use super::{Body, Conn, READ_FIRST};
use crate::http::error_page::ErrorPage;
use crate::http::head::Rules;
use crate::http::refusal::{Page, Refusal, page};
use crate::options::Options;
use crate::spool::too_large;
use ferricorn_sys::clock;
use rustix::event::epoll::EventFlags;

/// Bytes of an unwanted body that are dropped at most, so that the connection can go on.
const SKIP_MAX: usize = 256 << 10;

/// What the loop has heard of a connection that the application has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard(pub(crate) EventFlags);

/// What of a request's body can be had without waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of it; the last if nothing follows.
    Data {
        /// The bytes; none for the end of a body that ends without any.
        bytes: Vec<u8>,
        /// More follows.
        more: bool,
    },
    /// Nothing yet.
    Wait,
    /// The client has gone before its end.
    Gone,
}

impl Conn {
    /// Takes note of what the loop has heard.
    pub fn hear(&mut self, heard: Heard) {
        self.heard(heard.0);
    }

    /// Returns what the loop calls this connection.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Returns the number of its request's record.
    pub fn number(&self) -> usize {
        self.number as usize
    }

    /// Gives the client up: what is unsent is dropped.
    pub fn give_up(&mut self) {
        self.unheard = !self.gone && !self.response.is_flushed();
        self.response.abort();
        self.lost();
    }

    /// Tells whether nothing of the request's body is still to arrive.
    pub fn is_consumed(&self) -> bool {
        self.decoder.is_done()
    }

    /// Notes how the client stands as the application gets the request.
    pub(crate) fn lend(&mut self) {
        self.half_closed = self.has_ended();
    }

    /// Tells whether the client has left. One that had ended its side before its request was begun may still wait.
    pub fn has_left(&self) -> bool {
        self.gone || self.has_ended() && !self.half_closed
    }

    /// Takes the next piece of the request's body.
    ///
    /// # Errors
    /// The body is broken or too large; the connection can only close.
    pub fn piece(&mut self, options: &Options) -> Result<Piece, Refusal> {
        let mut bytes = match self.take_body() {
            Body::Memory(bytes) => bytes,
            // Before it was all there, the application got it.
            Body::Empty | Body::File { .. } => self.spool.take(),
        };
        loop {
            if self.decoder.is_done() {
                if self.stamps.complete_ns < self.stamps.app_ns {
                    self.stamps.complete_ns = clock::now_ns();
                }
                return Ok(Piece::Data { bytes, more: false });
            }
            if self.at < self.input.len() {
                let sink = &mut |piece: &[u8]| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                };
                let used = self.decoder.advance(&self.input[self.at..], &options.rules, sink)?;
                self.at += used;
                self.streamed += bytes.len() as u64;
                if options.body_max > 0 && self.streamed > options.body_max {
                    return Err(too_large());
                }
                continue;
            }
            if !bytes.is_empty() {
                return Ok(Piece::Data { bytes, more: true });
            }
            if self.eof || self.gone {
                return Ok(Piece::Gone);
            }
            if !self.readable {
                return Ok(Piece::Wait);
            }
            self.read_more();
        }
    }

    /// Drops what the application has left of the request's body, as far as it has arrived; tells whether that was all.
    pub(crate) fn skip_body(&mut self, rules: &Rules) -> bool {
        let mut left = SKIP_MAX;
        while !self.decoder.is_done() {
            if self.at >= self.input.len() {
                if !self.readable || self.eof || left == 0 {
                    return false;
                }
                self.read_more();
                left = left.saturating_sub(self.input.len());
                continue;
            }
            match self.decoder.advance(&self.input[self.at..], rules, &mut |_: &[u8]| Ok(())) {
                Ok(used) => self.at += used,
                Err(_) => return false,
            }
        }
        true
    }

    /// Tells the client to send its body, if it waits for that; once.
    pub fn greet(&mut self) {
        if self.head.expect_continue && !self.response.has_head() {
            self.head.expect_continue = false;
            self.response.interim(b"HTTP/1.1 100 Continue\r\n", b"");
        }
    }

    /// Says that it is a WebSocket now: from now on only the deadline of the whole request holds, not that of its sender,
    /// who has waited for the handshake.
    pub fn is_websocket(&mut self) {
        (self.time_ns, self.awaited_ns) = (0, 0);
        if let Some(record) = self.record {
            record.set_deadline(self.until_ns);
            record.is_websocket();
        }
    }

    /// Says that the client may still be sending: what it sends is dropped for a while after the response.
    pub fn lingers(&mut self) {
        self.lingering = true;
    }

    /// Tells whether the client may still be sending.
    pub(crate) fn is_lingering(&self) -> bool {
        self.lingering || !self.is_consumed()
    }

    /// Puts a refusal in the place of the response; where bytes of that have gone out, the connection closes instead.
    pub(crate) fn refuse(&mut self, refusal: &Refusal, request: &str, own: Option<&ErrorPage>) {
        if !self.response.take_back() {
            return self.response.abort();
        }
        let (form, detail, retry_s) = (self.head.form, &*refusal.detail, refusal.retry_s);
        self.response.replace(refusal.status, |out, head_only| {
            page(out, &Page { form, request, own, retry_s, ..Page::new(refusal.status, detail, head_only) });
        });
    }

    /// Takes what has arrived, as bytes: for protocols that have taken the connection over. Empty if nothing has.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        if self.at >= self.input.len() && self.readable && !self.eof {
            self.read_more();
        }
        let bytes = self.input.split_off(self.at.min(self.input.len()));
        self.input.clear();
        self.at = 0;
        bytes
    }

    /// Tells whether another [`Self::take_bytes`] may find something.
    pub fn may_have_bytes(&self) -> bool {
        self.readable && !self.eof
    }

    fn read_more(&mut self) {
        self.input.clear();
        self.at = 0;
        let wanted = usize::try_from(self.decoder.run()).unwrap_or(usize::MAX);
        self.read_at_least(wanted.clamp(READ_FIRST, super::READ_MORE));
    }
}
