//! Frames (RFC 6455 section 5): headers as a server may read and write them, and masking.
//!
//! `tungstenite` takes a header apart; what a client may not send is refused here.
//! Not for: which frame may follow which (see [`super::socket`]).

use super::event::Fault;
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest header that a server writes.
pub(super) const HEADER_MAX: usize = 10;
/// Longest payload of a control frame.
pub(super) const CONTROL_MAX: usize = 125;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn code(self) -> OpCode {
        match self {
            Self::Continuation => OpCode::Data(Data::Continue),
            Self::Text => OpCode::Data(Data::Text),
            Self::Binary => OpCode::Data(Data::Binary),
            Self::Close => OpCode::Control(Control::Close),
            Self::Ping => OpCode::Control(Control::Ping),
            Self::Pong => OpCode::Control(Control::Pong),
        }
    }
}

/// The header of a frame from a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub kind: Kind,
    /// Whether the message ends with this frame.
    pub last: bool,
    /// Whether the frame begins a compressed message.
    pub compressed: bool,
    pub mask: [u8; 4],
    /// Bytes of payload.
    pub len: u64,
    /// Bytes of this header.
    pub size: usize,
}

/// Reads the header at the beginning of `input`; `None` asks for more bytes. `compression` says whether it was agreed.
pub(super) fn read(input: &[u8], compression: bool) -> Result<Option<Header>, Fault> {
    let mut cursor = Cursor::new(input);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Fault::protocol("invalid opcode"))?;
    let Some((header, len)) = parsed else { return Ok(None) };
    let kind = match header.opcode {
        OpCode::Data(Data::Continue) => Kind::Continuation,
        OpCode::Data(Data::Text) => Kind::Text,
        OpCode::Data(Data::Binary) => Kind::Binary,
        OpCode::Control(Control::Close) => Kind::Close,
        OpCode::Control(Control::Ping) => Kind::Ping,
        OpCode::Control(Control::Pong) => Kind::Pong,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(Fault::protocol("invalid opcode"));
        }
    };
    let begins_message = matches!(kind, Kind::Text | Kind::Binary);
    if header.rsv2 || header.rsv3 || header.rsv1 && !(compression && begins_message) {
        return Err(Fault::protocol("reserved bit set"));
    }
    let size = cursor.position() as usize;
    if len >> 63 != 0 || header.len(len) != size {
        return Err(Fault::protocol("invalid frame length"));
    }
    if kind.is_control() && (!header.is_final || len > CONTROL_MAX as u64) {
        return Err(Fault::protocol("fragmented or too long control frame"));
    }
    let Some(mask) = header.mask else { return Err(Fault::protocol("frame without mask")) };
    Ok(Some(Header { kind, last: header.is_final, compressed: header.rsv1, mask, len, size }))
}

/// Writes the header of a whole message or control frame; returns how many bytes it takes.
pub(super) fn write(out: &mut [u8; HEADER_MAX], kind: Kind, compressed: bool, len: usize) -> usize {
    let header = FrameHeader { opcode: kind.code(), rsv1: compressed, ..FrameHeader::default() };
    header.format(len as u64, &mut out.as_mut_slice()).expect("HEADER_MAX holds every header without a mask");
    header.len(len as u64)
}

/// Undoes masking (RFC 6455 section 5.3).
pub(super) fn unmask(data: &mut [u8], mask: [u8; 4]) {
    // Blocks of a fixed size become vector instructions.
    const BLOCK: usize = 32;
    let pattern: [u8; BLOCK] = std::array::from_fn(|at| mask[at % 4]);
    let (blocks, rest) = data.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for (byte, key) in block.iter_mut().zip(pattern) {
            *byte ^= key;
        }
    }
    for (byte, key) in rest.iter_mut().zip(pattern) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_masked(first: u8, second: u8, rest: &[u8], compression: bool) -> Result<Option<Header>, Fault> {
        read(&[&[first, second | 0x80], rest, &[1, 2, 3, 4]].concat(), compression)
    }

    #[test]
    fn lengths() {
        type Row<'a> = (u8, &'a [u8], u64, usize);
        let table: [Row<'_>; 6] = [
            (0, &[], 0, 6),
            (125, &[], 125, 6),
            (126, &[0, 126], 126, 8),
            (126, &[0xff, 0xff], 0xffff, 8),
            (127, &[0, 0, 0, 0, 0, 1, 0, 0], 0x10000, 14),
            (127, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], u64::MAX >> 1, 14),
        ];
        for (second, rest, len, size) in table {
            let header = read_masked(0x82, second, rest, false).expect("valid").expect("whole");
            assert_eq!((header.len, header.size, header.mask), (len, size, [1, 2, 3, 4]));
            assert!(header.last && header.kind == Kind::Binary && !header.compressed);
        }
        let refused: [(u8, &[u8]); 3] =
            [(126, &[0, 125]), (127, &[0, 0, 0, 0, 0, 0, 0xff, 0xff]), (127, &[0x80, 0, 0, 0, 0, 0, 0, 0])];
        for (second, rest) in refused {
            let fault = read_masked(0x82, second, rest, false).expect_err("refused");
            assert_eq!(fault, Fault::protocol("invalid frame length"));
        }
    }

    #[test]
    fn what_a_client_may_not_send() {
        let table = [
            (0x83, 0, false, "invalid opcode"),
            (0x8b, 0, false, "invalid opcode"),
            (0xc1, 0, false, "reserved bit set"),
            (0xc0, 0, true, "reserved bit set"),
            (0xc9, 0, true, "reserved bit set"),
            (0xa1, 0, true, "reserved bit set"),
            (0x91, 0, true, "reserved bit set"),
            (0x09, 0, false, "fragmented or too long control frame"),
        ];
        for (first, second, compression, reason) in table {
            let fault = read_masked(first, second, &[], compression).expect_err(reason);
            assert_eq!(fault, Fault::protocol(reason));
        }
        let long = read_masked(0x89, 126, &[0, 126], false).expect_err("too long");
        assert_eq!(long, Fault::protocol("fragmented or too long control frame"));
        assert_eq!(read(&[0x81, 0], false).expect_err("unmasked"), Fault::protocol("frame without mask"));
        assert!(read_masked(0xc1, 0, &[], true).expect("valid").expect("whole").compressed);
    }

    #[test]
    fn an_incomplete_header_asks_for_more() {
        let whole = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        for end in 0..whole.len() {
            assert!(read(&whole[..end], false).expect("valid so far").is_none(), "{end}");
        }
        assert!(read(&whole, false).expect("valid").is_some());
    }

    #[test]
    fn masks_of_every_length_and_twice() {
        for len in 0..100 {
            let plain: Vec<u8> = (0..len).collect();
            let mut data = plain.clone();
            unmask(&mut data, [7, 0, 200, 33]);
            let expected: Vec<u8> =
                plain.iter().enumerate().map(|(at, byte)| byte ^ [7, 0, 200, 33][at % 4]).collect();
            assert_eq!(data, expected);
        }
    }
}
