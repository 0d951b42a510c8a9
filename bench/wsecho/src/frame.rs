//! The part of RFC 6455 that an echo needs: whole, masked text messages out, unmasked frames in.
//!
//! Not a general codec: no fragments, no extensions. A server that answers with either fails the measurement.

use std::io::{Error, Result};
use std::ops::Range;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What a frame is (RFC 6455, section 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Text = 0x1,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

/// A complete frame at the beginning of some bytes.
#[derive(PartialEq, Eq, Debug)]
pub struct Frame {
    pub kind: Kind,
    /// Where its payload lies.
    pub payload: Range<usize>,
}

/// Appends a frame as clients send it: complete, masked with `mask`.
pub fn encode(out: &mut Vec<u8>, kind: Kind, payload: &[u8], mask: [u8; 4]) {
    out.push(FIN | kind as u8);
    match payload.len() {
        length @ 0..126 => out.push(MASKED | length as u8),
        length @ 126..=0xffff => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Finds the frame that `bytes` begin with; `None` if more must arrive.
pub fn decode(bytes: &[u8]) -> Result<Option<Frame>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let kind = match *first {
        0x81 => Kind::Text,
        0x88 => Kind::Close,
        0x89 => Kind::Ping,
        0x8a => Kind::Pong,
        other => return Err(Error::other(format!("a frame that begins with {other:#04x}"))),
    };
    let (length, head) = match *second {
        length @ 0..126 => (u64::from(length), 2),
        126 => match rest.first_chunk::<2>() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        _ => return Err(Error::other("a masked frame from the server")),
    };
    let end = usize::try_from(length).ok().and_then(|length| length.checked_add(head));
    let end = end.ok_or_else(|| Error::other("a frame without end"))?;
    Ok((bytes.len() >= end).then_some(Frame { kind, payload: head..end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_frame_is_masked() {
        // The example of RFC 6455, section 5.7.
        let mut out = Vec::new();
        encode(&mut out, Kind::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn lengths() {
        for (length, head) in [(0, 2), (125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10)] {
            let mut masked = Vec::new();
            encode(&mut masked, Kind::Text, &vec![b'x'; length], [0; 4]);
            assert_eq!(masked.len(), head + 4 + length);
            // As a server sends it: the bit and the key removed.
            let mut plain = masked[..head].to_vec();
            plain[1] &= !MASKED;
            plain.resize(head + length, b'x');
            assert_eq!(decode(&plain[..plain.len() - 1]).unwrap(), None);
            let frame = decode(&plain).unwrap();
            assert_eq!(frame, Some(Frame { kind: Kind::Text, payload: head..head + length }));
        }
    }

    #[test]
    fn what_no_echo_looks_like() {
        for bytes in [&[0x01, 0x00][..], &[0xc1, 0x00], &[0x82, 0x00], &[0x81, 0x80]] {
            assert!(decode(bytes).is_err(), "{bytes:x?}");
        }
        assert!(decode(&[0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
