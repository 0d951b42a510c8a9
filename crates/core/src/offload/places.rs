//! Where clients find their jobs: paths below a prefix, signed if there is a secret, so that they lead nowhere after a while. Not for:
//! what is said there.

use super::{Status, is_id};
use crate::units::hex;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

/// Bytes of a signature: 128 bits that nobody guesses.
const SIGNATURE: usize = 16;

/// Where jobs are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Under which path, without a slash at its end.
    pub prefix: String,
    /// What their URLs are signed with, if they are.
    pub secret: Option<String>,
    /// For how many seconds a signed URL leads there; 0 for ever.
    pub lifetime_s: u64,
}

/// What is found at a path below the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// How a job stands.
    Status(String),
    /// What it has come to.
    Result(String),
}

/// What is told of a job, with where it is found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told<'a> {
    #[serde(flatten)]
    status: &'a Status,
    status_url: String,
    result_url: String,
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// It is none, or its signature is not ours.
    Unknown,
    /// Its time is over.
    Late,
}

impl Places {
    /// Returns until when a URL is good that is made now, seconds since 1970; 0 for ever.
    pub fn until(&self, now_s: u64) -> u64 {
        if self.lifetime_s == 0 { 0 } else { now_s.saturating_add(self.lifetime_s) }
    }

    /// Returns where it is told how a job stands.
    pub fn status(&self, id: &str, until: u64) -> String {
        format!("{}/{id}{}", self.prefix, self.query(id, until))
    }

    /// Returns where the response of a job is.
    pub fn result(&self, id: &str, until: u64) -> String {
        format!("{}/{id}/result{}", self.prefix, self.query(id, until))
    }

    /// Returns what is told of a job, with URLs that are good until then.
    pub fn told<'a>(&self, status: &'a Status, until: u64) -> Told<'a> {
        let (status_url, result_url) = (self.status(&status.id, until), self.result(&status.id, until));
        Told { status, status_url, result_url }
    }

    fn query(&self, id: &str, until: u64) -> String {
        let Some(mac) = self.mac(id, until) else { return String::new() };
        let bytes = mac.finalize().into_bytes();
        let signature = hex(&bytes[..SIGNATURE]);
        format!("?until={until}&signature={signature}")
    }

    fn mac(&self, id: &str, until: u64) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::new_from_slice(self.secret.as_ref()?.as_bytes()).ok()?;
        mac.update(format!("ferricorn job {id} {until}").as_bytes());
        Some(mac)
    }

    /// Finds out what is at a path behind the prefix and its slash, and until when it is good.
    ///
    /// # Errors
    /// Nothing is.
    pub fn find(&self, rest: &[u8], query: &[u8], now_s: u64) -> Result<(Place, u64), Nowhere> {
        let rest = str::from_utf8(rest).map_err(|_| Nowhere::Unknown)?;
        let (id, of_result) = rest.strip_suffix("/result").map_or((rest, false), |id| (id, true));
        if !is_id(id) {
            return Err(Nowhere::Unknown);
        }
        let until = self.checked(id, query, now_s)?;
        let id = id.to_owned();
        Ok((if of_result { Place::Result(id) } else { Place::Status(id) }, until))
    }

    fn checked(&self, id: &str, query: &[u8], now_s: u64) -> Result<u64, Nowhere> {
        if self.secret.is_none() {
            return Ok(0);
        }
        let (mut until, mut signature) = (None, None);
        for part in str::from_utf8(query).unwrap_or_default().split('&') {
            match part.split_once('=') {
                Some(("until", value)) => until = value.parse().ok(),
                Some(("signature", value)) => signature = bytes(value),
                _ => {}
            }
        }
        let (Some(until), Some(signature)) = (until, signature) else { return Err(Nowhere::Unknown) };
        let mac = self.mac(id, until).ok_or(Nowhere::Unknown)?;
        mac.verify_truncated_left(&signature).map_err(|_| Nowhere::Unknown)?;
        if until > 0 && now_s > until { Err(Nowhere::Late) } else { Ok(until) }
    }
}

/// Reads the bytes of a signature.
fn bytes(hex: &str) -> Option<[u8; SIGNATURE]> {
    let mut bytes = [0; SIGNATURE];
    // A sign before a digit would be read as well.
    if hex.len() != 2 * SIGNATURE || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_795_764_000;

    fn find(places: &Places, url: &str, now_s: u64) -> Result<(Place, u64), Nowhere> {
        let rest = url.strip_prefix("/jobs/").expect("below the prefix");
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        places.find(path.as_bytes(), query.as_bytes(), now_s)
    }

    #[test]
    fn a_signed_url_leads_there_for_its_time_and_no_other_does() {
        let secret = Some("a secret of the service".to_owned());
        let places = Places { prefix: "/jobs".into(), secret, lifetime_s: 60 };
        let until = places.until(NOW);
        let (status, result) = (places.status(ID, until), places.result(ID, until));
        assert_eq!(find(&places, &status, NOW), Ok((Place::Status(ID.into()), until)));
        assert_eq!(find(&places, &result, NOW + 60), Ok((Place::Result(ID.into()), until)));
        assert_eq!(find(&places, &status, NOW + 61), Err(Nowhere::Late));
        let other = status.replace("0123", "0124");
        let longer = status.replace(&format!("until={until}"), &format!("until={}", until + 1));
        let short = &status[..status.len() - 1];
        let bare = format!("/jobs/{ID}");
        for url in [other.as_str(), &longer, short, &bare, &format!("{bare}?until={until}&signature=é")] {
            assert_eq!(find(&places, url, NOW), Err(Nowhere::Unknown), "{url}");
        }
        let of_another = Places { secret: Some("another secret of it".into()), ..places.clone() };
        assert_eq!(find(&of_another, &status, NOW), Err(Nowhere::Unknown));
        let for_ever = Places { lifetime_s: 0, ..places };
        let url = for_ever.status(ID, for_ever.until(NOW));
        assert_eq!(find(&for_ever, &url, u64::MAX), Ok((Place::Status(ID.into()), 0)));
    }

    #[test]
    fn without_a_secret_the_id_is_enough() {
        let places = Places { prefix: "/jobs".into(), ..Places::default() };
        assert_eq!(places.status(ID, places.until(NOW)), format!("/jobs/{ID}"));
        assert_eq!(find(&places, &format!("/jobs/{ID}/result"), NOW), Ok((Place::Result(ID.into()), 0)));
        for path in ["x", "..", "0123456789ABCDEF0123456789abcdef", "0123456789abcdef0123456789abcdef/x"] {
            assert_eq!(places.find(path.as_bytes(), b"", NOW), Err(Nowhere::Unknown), "{path}");
        }
        assert_eq!(places.find(b"\xff", b"", NOW), Err(Nowhere::Unknown));
    }
}
