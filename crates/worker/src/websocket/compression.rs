//! Compressed messages (RFC 7692 section 7.2): deflate streams that end at every message.
//!
//! Not for: what is agreed in the handshake (see [`super::extension`]).

use super::event::Fault;
use super::extension::Agreement;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::RefCell;

/// The end of every message, which is not sent.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Smallest window that the library compresses with; 8 bits decompress with it as well.
const WINDOW_BITS_MIN: u8 = 9;
/// Little work for most of the gain; messages are compressed on the thread that serves others.
const LEVEL: Compression = Compression::new(3);

/// A shorter message is sent as it is. Alone it hardly shrinks, and to begin a stream costs some 10 µs for clearing its tables;
/// one that can refer to those before it shrinks to a few bytes in 2 µs.
const ALONE_MIN: usize = 1024;
const TAKEOVER_MIN: usize = 128;

thread_local! {
    /// The compressor of connections whose messages stand alone. It takes some 200 KiB: one per thread, not per connection.
    static SHARED: RefCell<Option<(u8, Compress)>> = const { RefCell::new(None) };
}

/// Decompresses the messages of one connection.
#[derive(Debug)]
pub(super) struct Inflater {
    window_bits: u8,
    takeover: bool,
    /// Made with the first compressed message; without takeover for each.
    stream: Option<Decompress>,
    /// Whether the message at hand has bytes after the last block that was marked as final.
    open: bool,
}

impl Inflater {
    pub fn new(agreed: &Agreement) -> Self {
        let window_bits = agreed.client_window_bits.max(WINDOW_BITS_MIN);
        Self { window_bits, takeover: agreed.client_takeover, stream: None, open: false }
    }

    /// Appends what `piece` of a message decompresses to. Stops as soon as `data` is longer than `max`.
    pub fn push(&mut self, mut piece: &[u8], data: &mut Vec<u8>, max: usize) -> Result<(), Fault> {
        const CORRUPT: Fault = Fault { code: 1007, reason: "invalid compressed data" };
        if piece.is_empty() {
            return Ok(());
        }
        let bits = self.window_bits;
        let stream = self.stream.get_or_insert_with(|| Decompress::new_with_window_bits(false, bits));
        loop {
            if data.len() == data.capacity() {
                let growth = data.len().max(piece.len().saturating_mul(4)).max(256);
                data.reserve_exact(growth.min(max.saturating_add(1) - data.len()));
            }
            let (read, written) = (stream.total_in(), data.len());
            let status = stream.decompress_vec(piece, data, FlushDecompress::Sync).map_err(|_| CORRUPT)?;
            let read = (stream.total_in() - read) as usize;
            piece = &piece[read..];
            self.open |= read > 0;
            if data.len() > max {
                return Err(Fault::too_big());
            }
            if status == Status::StreamEnd {
                // A final block (section 7.2.3.4) ends the stream: another one follows, and remembers nothing.
                stream.reset(false);
                self.open = false;
            }
            if piece.is_empty() && data.len() < data.capacity() {
                return Ok(());
            }
            if read == 0 && data.len() == written && status != Status::StreamEnd {
                return Err(CORRUPT);
            }
        }
    }

    /// Ends a message.
    pub fn finish(&mut self, data: &mut Vec<u8>, max: usize) -> Result<(), Fault> {
        if std::mem::take(&mut self.open) {
            self.push(&TAIL, data, max)?;
            self.open = false;
        }
        if !self.takeover {
            self.stream = None;
        }
        Ok(())
    }
}

/// Compresses the messages of one connection.
#[derive(Debug)]
pub(super) struct Deflater {
    window_bits: u8,
    takeover: bool,
    /// Made with the first message that is compressed; stays empty without takeover.
    stream: Option<Compress>,
}

impl Deflater {
    pub fn new(agreed: &Agreement) -> Self {
        Self { window_bits: agreed.server_window_bits, takeover: agreed.server_takeover, stream: None }
    }

    /// Tells whether compressing a message of this length is worth its time.
    pub fn pays(&self, len: usize) -> bool {
        len >= if self.takeover { TAKEOVER_MIN } else { ALONE_MIN }
    }

    /// Appends the compressed message to `out`.
    pub fn write(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let bits = self.window_bits;
        let make = || Compress::new_with_window_bits(LEVEL, false, bits);
        if self.takeover {
            return compress(self.stream.get_or_insert_with(make), message, out);
        }
        SHARED.with_borrow_mut(|shared| {
            if shared.as_ref().is_none_or(|(made_for, _)| *made_for != bits) {
                *shared = Some((bits, make()));
            }
            if let Some((_, stream)) = shared {
                stream.reset();
                compress(stream, message, out);
            }
        });
    }
}

fn compress(stream: &mut Compress, mut message: &[u8], out: &mut Vec<u8>) {
    if message.is_empty() {
        // The library writes no second end after the one before (section 7.2.3.6).
        return out.push(0);
    }
    loop {
        // More than the end of a message takes, or it would be written twice.
        out.reserve((message.len() / 2).max(64));
        let read = stream.total_in();
        stream
            .compress_vec(message, out, FlushCompress::Sync)
            .expect("a deflate stream that is not finished");
        message = &message[(stream.total_in() - read) as usize..];
        if message.is_empty() && out.len() < out.capacity() {
            break;
        }
    }
    debug_assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREED: Agreement = Agreement {
        server_takeover: true,
        client_takeover: true,
        server_window_bits: 15,
        client_window_bits: 15,
    };

    fn inflate(inflater: &mut Inflater, payload: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
        let mut data = Vec::new();
        inflater.push(payload, &mut data, max)?;
        inflater.finish(&mut data, max)?;
        Ok(data)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7692 sections 7.2.3.1 to 7.2.3.6: one block, takeover, no compression, final block, two blocks, empty.
        let table: [(&[u8], &[u8]); 7] = [
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello"),
            (&[0xf2, 0x00, 0x11, 0x00, 0x00], b"Hello"),
            (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], b"Hello"),
            (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], b"Hello"),
            (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], b"Hello"),
            (&[0x00], b""),
            (&[], b""),
        ];
        let mut inflater = Inflater::new(&AGREED);
        for (payload, message) in table {
            assert_eq!(inflate(&mut inflater, payload, 5), Ok(message.to_vec()), "{payload:x?}");
        }
        // A final block without the byte that the RFC has after it.
        assert_eq!(
            inflate(&mut inflater, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5),
            Ok(b"Hello".to_vec())
        );
        assert_eq!(
            inflate(&mut inflater, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5),
            Ok(b"Hello".to_vec())
        );
    }

    #[test]
    fn messages_go_round_for_every_window_and_takeover() {
        let text: Vec<u8> = (0..40_000_u32).flat_map(|n| (n % 977).to_string().into_bytes()).collect();
        for bits in WINDOW_BITS_MIN..=15 {
            for takeover in [false, true] {
                let agreed = Agreement {
                    server_takeover: takeover,
                    client_takeover: takeover,
                    server_window_bits: bits,
                    client_window_bits: bits,
                };
                let (mut deflater, mut inflater) = (Deflater::new(&agreed), Inflater::new(&agreed));
                for message in [&text[..], b"", &text[..100], &text[..100], &text] {
                    let mut payload = b"before".to_vec();
                    deflater.write(message, &mut payload);
                    assert_eq!(inflate(&mut inflater, &payload[6..], text.len()).as_deref(), Ok(message));
                }
            }
        }
    }

    #[test]
    fn takeover_remembers_the_message_before() {
        let sizes = |takeover| {
            let mut deflater = Deflater::new(&Agreement { server_takeover: takeover, ..AGREED });
            [0, 1].map(|_| {
                let mut out = Vec::new();
                deflater.write(b"{\"symbol\":\"ABC\",\"price\":104.25,\"volume\":1200}", &mut out);
                out.len()
            })
        };
        let [first, second] = sizes(false);
        assert_eq!(first, second);
        let [first, second] = sizes(true);
        assert!(second < first / 2, "{first} {second}");
    }

    #[test]
    fn stops_at_the_limit() {
        let mut bomb = Vec::new();
        Deflater::new(&AGREED).write(&vec![0; 32 << 20], &mut bomb);
        let mut data = Vec::new();
        let fault = Inflater::new(&AGREED).push(&bomb, &mut data, 1 << 20).expect_err("too big");
        assert_eq!(fault, Fault::too_big());
        assert!(data.capacity() <= (1 << 20) + 1, "{}", data.capacity());
        let exact = inflate(&mut Inflater::new(&AGREED), &bomb, 32 << 20).expect("as long as the limit");
        assert_eq!(exact.len(), 32 << 20);
    }

    #[test]
    fn corrupt_data_is_refused() {
        let mut inflater = Inflater::new(&AGREED);
        assert_eq!(inflate(&mut inflater, &[0xff; 20], 100).map_err(|fault| fault.code), Err(1007));
    }
}
