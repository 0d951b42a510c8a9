//! Sec-WebSocket-Extensions (RFC 6455 section 9.1) and what is agreed of permessage-deflate (RFC 7692 section 7.1).
//!
//! A field that breaks the grammar is refused. An offer that we do not know or cannot keep is declined, and the next one
//! looked at: they are sent in the order of the client's preference.
//! Not for: compressing (see [`super::compression`]).

use crate::http::refusal::Refusal;
use crate::http::token::{is_token, trim};
use std::fmt::Write;

const MALFORMED: Refusal = Refusal::bad("invalid Sec-WebSocket-Extensions header");

/// What the server wants of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether our messages may refer to earlier ones. They get smaller, but every connection that sends a compressed
    /// message keeps a compressor of some 200 KiB.
    pub takeover: bool,
    /// Largest window of both sides, 9 to 15, as a power of two in bytes.
    pub window_bits: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self { takeover: false, window_bits: 12 }
    }
}

/// What client and server have agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Whether our messages may refer to earlier ones.
    pub server_takeover: bool,
    /// Whether the client's may.
    pub client_takeover: bool,
    /// The window of our messages, 9 to 15.
    pub server_window_bits: u8,
    /// The window of the client's, 8 to 15.
    pub client_window_bits: u8,
}

impl Agreement {
    /// Chooses from the values of the fields, in order: the first offer that can be kept.
    ///
    /// # Errors
    /// 400 for what breaks the grammar.
    pub(super) fn choose<'a>(
        values: impl Iterator<Item = &'a [u8]>,
        policy: &Policy,
    ) -> Result<Option<Self>, Refusal> {
        let mut chosen = None;
        for value in values {
            for offer in split(value, b',')?.into_iter().filter(|offer| !offer.is_empty()) {
                let parts = split(offer, b';')?;
                let (name, parameters) = parts.split_first().ok_or(MALFORMED)?;
                if !is_token(name) {
                    return Err(MALFORMED);
                }
                let parameters =
                    parameters.iter().map(|part| parameter(part)).collect::<Result<Vec<_>, _>>()?;
                if chosen.is_none() && name.eq_ignore_ascii_case(b"permessage-deflate") {
                    chosen = Self::answer(&parameters, policy);
                }
            }
        }
        Ok(chosen)
    }

    /// Returns what is agreed with an offer, or `None` if it is declined.
    fn answer(parameters: &[Parameter<'_>], policy: &Policy) -> Option<Self> {
        let mut agreed = Self {
            server_takeover: policy.takeover,
            client_takeover: true,
            server_window_bits: policy.window_bits,
            client_window_bits: 15,
        };
        for (at, (name, value)) in parameters.iter().enumerate() {
            if parameters[..at].iter().any(|(before, _)| before == name) {
                return None;
            }
            match (*name, value) {
                (b"server_no_context_takeover", None) => agreed.server_takeover = false,
                (b"client_no_context_takeover", None) => agreed.client_takeover = false,
                (b"server_max_window_bits", Some(value)) => {
                    agreed.server_window_bits = window_bits(value)?.min(policy.window_bits);
                }
                (b"client_max_window_bits", None) => agreed.client_window_bits = policy.window_bits,
                (b"client_max_window_bits", Some(value)) => {
                    agreed.client_window_bits = window_bits(value)?.min(policy.window_bits);
                }
                _ => return None,
            }
        }
        // No deflate library compresses with a window of 256 bytes.
        (agreed.server_window_bits > 8).then_some(agreed)
    }

    /// Returns the value of the answer's field. What the client did not offer is not in it: 15 bits go without saying.
    pub(super) fn field(&self) -> String {
        let mut out = "permessage-deflate".to_owned();
        if !self.server_takeover {
            out.push_str("; server_no_context_takeover");
        }
        if !self.client_takeover {
            out.push_str("; client_no_context_takeover");
        }
        for (name, bits) in [
            ("server_max_window_bits", self.server_window_bits),
            ("client_max_window_bits", self.client_window_bits),
        ] {
            if bits < 15 {
                write!(out, "; {name}={bits}").expect("a String takes every text");
            }
        }
        out
    }
}

/// Name and value of a parameter.
type Parameter<'a> = (&'a [u8], Option<Vec<u8>>);

fn parameter(part: &[u8]) -> Result<Parameter<'_>, Refusal> {
    let Some(equals) = part.iter().position(|byte| *byte == b'=') else {
        return if is_token(part) { Ok((part, None)) } else { Err(MALFORMED) };
    };
    let (name, value) = (trim(&part[..equals]), trim(&part[equals + 1..]));
    let value = match value {
        [b'"', quoted @ .., b'"'] => unquoted(quoted),
        plain => plain.to_vec(),
    };
    // A quoted value must be a token as well (RFC 6455 section 9.1).
    if is_token(name) && is_token(&value) { Ok((name, Some(value))) } else { Err(MALFORMED) }
}

/// Splits at a separator that is not inside quotes; the pieces are trimmed.
fn split(value: &[u8], separator: u8) -> Result<Vec<&[u8]>, Refusal> {
    let (mut pieces, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if *byte == separator && !quoted => {
                pieces.push(trim(&value[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(trim(&value[start..]));
    if quoted { Err(MALFORMED) } else { Ok(pieces) }
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    let keep = |byte: &&u8| {
        escaped = !escaped && **byte == b'\\';
        !escaped
    };
    value.iter().filter(keep).copied().collect()
}

/// 8 to 15, without leading zeros (RFC 7692 section 7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Policy = Policy { takeover: true, window_bits: 15 };

    fn answer(values: &[&str], policy: &Policy) -> Result<Option<String>, u16> {
        Agreement::choose(values.iter().map(|value| value.as_bytes()), policy)
            .map(|agreed| agreed.map(|agreed| agreed.field()))
            .map_err(|refusal| refusal.status)
    }

    #[test]
    fn offers_and_answers() {
        let server = "permessage-deflate; server_no_context_takeover; server_max_window_bits=12";
        let both = format!("{server}; client_max_window_bits=12");
        let table: [(&[&str], Option<&str>, Option<&str>); 14] = [
            (&["permessage-deflate"], Some("permessage-deflate"), Some(server)),
            (&["permessage-deflate; client_max_window_bits"], Some("permessage-deflate"), Some(&both)),
            (&["permessage-deflate; client_max_window_bits=15"], Some("permessage-deflate"), Some(&both)),
            (
                &["permessage-deflate; client_max_window_bits=8"],
                Some("permessage-deflate; client_max_window_bits=8"),
                Some(
                    "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits=8",
                ),
            ),
            (
                &["permessage-deflate;server_max_window_bits=\"1\\0\";server_no_context_takeover"],
                Some("permessage-deflate; server_no_context_takeover; server_max_window_bits=10"),
                Some("permessage-deflate; server_no_context_takeover; server_max_window_bits=10"),
            ),
            (
                &["Permessage-Deflate; client_no_context_takeover"],
                Some("permessage-deflate; client_no_context_takeover"),
                Some(
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
                ),
            ),
            // Declined, alone or in favour of the next.
            (&["permessage-deflate; server_max_window_bits=8"], None, None),
            (&["permessage-deflate; server_max_window_bits"], None, None),
            (&["permessage-deflate; server_max_window_bits=16"], None, None),
            (&["permessage-deflate; server_max_window_bits=09"], None, None),
            (&["permessage-deflate; client_no_context_takeover; client_no_context_takeover"], None, None),
            (
                &["permessage-deflate; server_no_context_takeover=1, permessage-deflate"],
                Some("permessage-deflate"),
                Some(server),
            ),
            (&["x-webkit-deflate-frame; a=\"b,;c\"", ""], None, None),
            (
                &["bbf; unknown", "permessage-deflate; x, permessage-deflate"],
                Some("permessage-deflate"),
                Some(server),
            ),
        ];
        for (values, wide, narrow) in table {
            if values[0].contains("b,;c") {
                // A quoted value that is no token breaks the grammar, though it is split rightly.
                assert_eq!(answer(values, &WIDE), Err(400));
                continue;
            }
            assert_eq!(answer(values, &WIDE), Ok(wide.map(str::to_owned)), "{values:?}");
            assert_eq!(answer(values, &Policy::default()), Ok(narrow.map(str::to_owned)), "{values:?}");
        }
    }

    #[test]
    fn malformed_fields_are_refused() {
        for value in
            [";", "a b", "a;", "a; =1", "a; b=", "a; b=\"", "a; b=\"\"", "a; b=c d", "a; b;; c", "a=b"]
        {
            assert_eq!(answer(&[value], &WIDE), Err(400), "{value}");
            assert_eq!(answer(&["permessage-deflate", value], &WIDE), Err(400), "{value}");
        }
    }
}
