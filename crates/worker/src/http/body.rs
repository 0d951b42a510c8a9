//! Request bodies: from bytes on the wire to the body's own bytes (RFC 9112 sections 6 and 7.1).
//!
//! A [`Decoder`] takes what has arrived, hands the body's bytes to a sink and says how much it used. Chunk sizes,
//! extensions and trailers are checked by their grammar, as Gunicorn 27 does: a body that two parsers could cut
//! differently is refused. Trailers are checked and dropped. Not for: keeping the body (see `spool`).

use super::head::{Framing, Rules};
use super::refusal::Refusal;
use super::token::{is_field_byte, is_token, trim};
use memchr::memchr;

/// Decodes one body.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Done,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
}

/// Trailer fields that would change framing, routing or authentication (RFC 9110 section 6.5.1).
const FORBIDDEN_TRAILERS: [&[u8]; 6] =
    [b"host", b"content-length", b"transfer-encoding", b"trailer", b"authorization", b"te"];

impl Decoder {
    /// Begins a body, keeping the line buffer's memory.
    pub fn begin(&mut self, framing: Framing) {
        self.line.clear();
        self.trailers = 0;
        self.state = match framing {
            Framing::None => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
        };
    }

    /// Tells whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Returns how many bytes of body are known to follow without any framing between them.
    pub fn run(&self) -> u64 {
        match self.state {
            State::Length(left) | State::ChunkData(left) => left,
            _ => 0,
        }
    }

    /// Takes the bytes that have arrived; returns how many of them belong to this body.
    ///
    /// # Errors
    /// 400 and 431 for a body whose framing is broken; whatever the sink returns.
    pub fn advance(
        &mut self,
        input: &[u8],
        rules: &Rules,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Refusal>,
    ) -> Result<usize, Refusal> {
        let mut used = 0;
        while used < input.len() && self.state != State::Done {
            let rest = &input[used..];
            used += match self.state {
                State::Length(left) | State::ChunkData(left) => self.data(rest, left, sink)?,
                _ => self.framing_line(rest, rules)?,
            };
        }
        Ok(used)
    }

    fn data(
        &mut self,
        rest: &[u8],
        left: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Refusal>,
    ) -> Result<usize, Refusal> {
        let take = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        sink(&rest[..take])?;
        let left = left - take as u64;
        self.state = match self.state {
            State::Length(_) if left == 0 => State::Done,
            State::Length(_) => State::Length(left),
            _ if left == 0 => State::ChunkEnd,
            _ => State::ChunkData(left),
        };
        Ok(take)
    }

    /// Collects a line of framing (they may arrive in pieces) and acts on it once it is whole.
    fn framing_line(&mut self, rest: &[u8], rules: &Rules) -> Result<usize, Refusal> {
        let (take, whole) = match memchr(b'\n', rest) {
            Some(lf) => (lf + 1, true),
            None => (rest.len(), false),
        };
        self.line.extend_from_slice(&rest[..take]);
        if self.state == State::ChunkEnd && !b"\r\n".starts_with(&self.line) {
            return Err(Refusal::bad("missing line end after a chunk"));
        }
        if self.line.len() > rules.field_size_max {
            return Err(match self.state {
                State::Trailers => Refusal::new(431, "limit request trailer section size"),
                _ => Refusal::bad("chunk size line is too long"),
            });
        }
        if whole {
            let mut line = std::mem::take(&mut self.line);
            let body = line.strip_suffix(b"\r\n").ok_or(Refusal::bad("bare LF as line terminator"))?;
            self.state = self.next(body, rules)?;
            line.clear();
            self.line = line;
        }
        Ok(take)
    }

    fn next(&mut self, line: &[u8], rules: &Rules) -> Result<State, Refusal> {
        match self.state {
            State::ChunkSize => Ok(match chunk_size(line)? {
                0 => State::Trailers,
                size => State::ChunkData(size),
            }),
            State::ChunkEnd => Ok(State::ChunkSize),
            State::Trailers if line.is_empty() => Ok(State::Done),
            State::Trailers => {
                self.trailers += 1;
                if self.trailers > rules.fields_max {
                    return Err(Refusal::new(431, "limit request trailer fields"));
                }
                trailer(line).map(|()| State::Trailers)
            }
            state => Ok(state),
        }
    }
}

/// `chunk-size [ chunk-ext ]` (RFC 9112 section 7.1).
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let end = memchr(b';', line).unwrap_or(line.len());
    let (mut digits, extension) = line.split_at(end);
    if !extension.is_empty() {
        digits = digits.trim_ascii_end();
        if !is_chunk_extension(extension) {
            return Err(Refusal::bad("invalid chunk extension"));
        }
    }
    let hexadecimal = !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
    let parsed = std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    match parsed {
        Some(size) if hexadecimal => Ok(size),
        _ => Err(Refusal::quoting("invalid chunk size", digits)),
    }
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 section 7.1.1).
fn is_chunk_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(after) = skip_space(rest).strip_prefix(b";") else { return false };
        let after = skip_space(after);
        let name_end = after.iter().position(|b| !is_token(&[*b])).unwrap_or(after.len());
        if name_end == 0 {
            return false;
        }
        rest = &after[name_end..];
        let Some(value) = skip_space(rest).strip_prefix(b"=") else { continue };
        let value = skip_space(value);
        let end = match value.first() {
            Some(b'"') => quoted_end(value),
            _ => value.iter().position(|b| !is_token(&[*b])).or(Some(value.len())).filter(|end| *end > 0),
        };
        match end {
            Some(end) => rest = &value[end..],
            None => return false,
        }
    }
    true
}

/// Returns the length of the quoted string at the start (RFC 9110 section 5.6.4).
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => {
                if !is_field_byte(*text.get(at + 1)?) {
                    return None;
                }
                at += 2;
            }
            byte if is_field_byte(*byte) => at += 1,
            _ => return None,
        }
    }
    None
}

fn skip_space(bytes: &[u8]) -> &[u8] {
    let at = bytes.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(bytes.len());
    &bytes[at..]
}

fn trailer(line: &[u8]) -> Result<(), Refusal> {
    let colon = memchr(b':', line).ok_or(Refusal::bad("invalid trailer"))?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    let forbidden = FORBIDDEN_TRAILERS.iter().any(|known| name.eq_ignore_ascii_case(known));
    if forbidden || !is_token(name) || !value.iter().all(|byte| is_field_byte(*byte)) {
        return Err(Refusal::quoting("invalid trailer", name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the body and what is left over, or the status.
    fn decode(framing: Framing, input: &[u8], piece: usize) -> Result<(Vec<u8>, Option<Vec<u8>>), u16> {
        let mut decoder = Decoder::default();
        decoder.begin(framing);
        let (mut body, mut used) = (Vec::new(), 0);
        for chunk in input.chunks(piece) {
            if decoder.is_done() {
                break;
            }
            used += decoder
                .advance(chunk, &Rules::default(), &mut |bytes| {
                    body.extend_from_slice(bytes);
                    Ok(())
                })
                .map_err(|refusal| refusal.status)?;
        }
        Ok((body, decoder.is_done().then(|| input[used..].to_vec())))
    }

    #[test]
    fn chunked() {
        let long_line = [b"1;".as_slice(), &b"x".repeat(9000), b"\r\na\r\n0\r\n\r\n"].concat();
        type Row<'a> = (&'a [u8], Result<&'a [u8], u16>);
        let table: &[Row<'_>] = &[
            (b"0\r\n\r\n", Ok(b"")),
            (b"5\r\nhello\r\n0\r\n\r\n", Ok(b"hello")),
            (b"5;a=b\r\nhello\r\n0;x\r\n\r\n", Ok(b"hello")),
            (b"5 ;a=\"q\\\"\"\r\nhello\r\n0\r\n\r\n", Ok(b"hello")),
            (b"A\r\n0123456789\r\n00\r\n\r\n", Ok(b"0123456789")),
            (b"1\r\na\r\n1\r\nb\r\n0\r\nX: y\r\n\r\n", Ok(b"ab")),
            (b"0\r\nHost: y\r\n\r\n", Err(400)),
            (b"0\r\nContent-Length: 1\r\n\r\n", Err(400)),
            (b"0\r\nbad trailer\r\n\r\n", Err(400)),
            (b"0\r\nX: \0\r\n\r\n", Err(400)),
            (b"5\r\nhelloX\r\n", Err(400)),
            (b"5\r\nhello\n0\r\n\r\n", Err(400)),
            (b"5\nhello\r\n0\r\n\r\n", Err(400)),
            (b"0x5\r\nhello\r\n", Err(400)),
            (b"+5\r\nhello\r\n", Err(400)),
            (b"-1\r\nhello\r\n", Err(400)),
            (b" 5\r\nhello\r\n", Err(400)),
            (b"5 \r\nhello\r\n", Err(400)),
            (b"5_0\r\nhello\r\n", Err(400)),
            (b"\r\nhello\r\n", Err(400)),
            (b"5;\r\nhello\r\n", Err(400)),
            (b"5;a=\r\nhello\r\n", Err(400)),
            (b"5;a=\"b\r\nhello\r\n", Err(400)),
            (b"5;a\rb\r\nhello\r\n", Err(400)),
            (b"fffffffffffffffff\r\n", Err(400)),
            (&long_line, Err(400)),
        ];
        for (input, expected) in table {
            for piece in [1, 2, 3, 7, usize::MAX / 2] {
                let outcome = decode(Framing::Chunked, input, piece.min(input.len()));
                let expected = expected.map(|body| (body.to_vec(), Some(Vec::new())));
                assert_eq!(outcome, expected, "{:?} by {piece}", String::from_utf8_lossy(input));
            }
        }
    }

    #[test]
    fn what_follows_a_body_is_left_alone() {
        assert_eq!(decode(Framing::Length(3), b"abcGET", 6), Ok((b"abc".to_vec(), Some(b"GET".to_vec()))));
        assert_eq!(
            decode(Framing::Chunked, b"1\r\na\r\n0\r\n\r\nGET", 100),
            Ok((b"a".to_vec(), Some(b"GET".to_vec())))
        );
        assert_eq!(decode(Framing::Length(4), b"abc", 3), Ok((b"abc".to_vec(), None)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_splits_do_not_matter(
            input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b';'), any::<u8>()], 1..80),
            piece in 1usize..20,
        ) {
            prop_assert_eq!(decode(Framing::Chunked, &input, piece), decode(Framing::Chunked, &input, input.len()));
        }
    }
}
