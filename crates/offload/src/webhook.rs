//! Tells others that a job is over: one signed POST, as Standard Webhooks has it (standardwebhooks.com, 1.0), to an address that may be
//! reached. Not for: when, and how often (`dispatcher`), and not for whom (`store`).

use crate::store::Due;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferricorn_core::offload::{Places, Status};
use ferricorn_core::stamp::rfc3339;
use ferricorn_post::{Judge, Outcome, Poster};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a receiver may take.
const WITHIN: Duration = Duration::from_secs(10);
/// After how long somebody is told again who was not there, seconds; after the last of them never.
const PAUSES_S: [f64; 7] = [5.0, 30.0, 180.0, 900.0, 3600.0, 14_400.0, 43_200.0];
/// Fewest bytes of a key.
const KEY_MIN: usize = 16;
/// How a secret begins that is written in base64.
const PREFIX: &str = "whsec_";
/// The receiver is gone for good (RFC 9110 section 15.5.11).
const GONE: u16 = 410;

/// What webhooks are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Reads one: `whsec_` and base64, or any text.
    ///
    /// # Errors
    /// What is wrong with it; it is not repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(coded) = text.strip_prefix(PREFIX) else { return Ok(Self(text.as_bytes().to_vec())) };
        match STANDARD.decode(coded) {
            Ok(key) if key.len() >= KEY_MIN => Ok(Self(key)),
            Ok(_) => Err(format!("what follows `{PREFIX}` has less than {KEY_MIN} bytes")),
            Err(_) => Err(format!("what follows `{PREFIX}` is no base64")),
        }
    }

    /// Returns the signature of a message.
    fn sign(&self, id: &str, at_s: u64, body: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{at_s}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Who is told, and how.
#[derive(Clone)]
pub struct Webhooks {
    /// Who is told of every job.
    pub url: Option<String>,
    /// What messages are signed with, one signature for each.
    keys: Arc<Vec<Key>>,
    places: Places,
    /// Those of the settings may be anywhere, those that clients name may not.
    own: Arc<Poster>,
    guarded: Arc<Poster>,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

/// What has become of telling.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Why it was not told; none if it was.
    pub error: Option<String>,
    /// After how many seconds it is tried again; none for never.
    pub again_s: Option<f64>,
}

impl Said {
    /// It could not be tried, for the time after so many others.
    pub fn failed(tries: u32) -> Self {
        Self { error: Some("it could not be tried".to_owned()), again_s: pause_s(tries) }
    }
}

/// After how many seconds it is tried again after so many times, and the one that has failed just now.
fn pause_s(tries: u32) -> Option<f64> {
    PAUSES_S.get(tries as usize).copied()
}

impl Webhooks {
    /// Tells `url` of all jobs, if there is one, and of some whom their clients name: at public addresses over TLS, and in any case at those
    /// of which `is_open` says so.
    pub fn new(
        url: Option<String>,
        keys: Vec<Key>,
        places: Places,
        is_open: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        let judge: Judge = Arc::new(move |ip, is_tls| is_open(ip) || is_tls && ferricorn_post::is_public(ip));
        let (own, guarded) = (Arc::new(Poster::new(WITHIN)), Arc::new(Poster::guarded(WITHIN, judge)));
        Self { url, keys: Arc::new(keys), places, own, guarded }
    }

    /// Tells somebody of a job that is over, at `now_s`. Waits for an answer.
    pub fn tell(&self, due: &Due, now_s: f64) -> Said {
        let (fields, body) = self.message(&due.status, now_s);
        let again_s = pause_s(due.tries);
        let poster = if due.is_own { &self.own } else { &self.guarded };
        match poster.post(&due.url, &fields, "application/json", body.as_bytes()) {
            Outcome::Accepted(_) => Said { error: None, again_s: None },
            Outcome::Later { why, after } => {
                let asked_s = after.map_or(0.0, |after| after.as_secs_f64());
                Said { error: Some(why), again_s: again_s.map(|again_s| again_s.max(asked_s)) }
            }
            Outcome::Refused { why, status: None | Some(GONE) } => Said { error: Some(why), again_s: None },
            // Whoever is being deployed answers 404, or what else there is.
            Outcome::Refused { why, .. } => Said { error: Some(why), again_s },
        }
    }

    /// The fields and the body of a message. Whoever gets it twice knows it by its id.
    fn message(&self, status: &Status, now_s: f64) -> (Vec<(String, String)>, String) {
        let ended_s = status.ended_at.unwrap_or(now_s);
        let id = format!("{}.{:.0}", status.id, ended_s * 1e3);
        let data = self.places.told(status, self.places.until(now_s as u64));
        let kind = format!("job.{}", status.state.name());
        let body = json!({"type": kind, "timestamp": rfc3339(ended_s), "data": data}).to_string();
        let signatures: Vec<String> =
            self.keys.iter().map(|key| key.sign(&id, now_s as u64, &body)).collect();
        let fields = [
            ("webhook-id", id),
            ("webhook-timestamp", format!("{:.0}", now_s.floor())),
            ("webhook-signature", signatures.join(" ")),
        ];
        (fields.map(|(name, value)| (name.to_owned(), value)).into(), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferricorn_core::offload::{State, id};

    #[test]
    fn a_message_is_signed_as_the_standard_has_it() {
        // The example of the specification's own libraries.
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(Key::parse("whsec_?").is_err() && Key::parse("whsec_c2hvcnQ=").is_err());
        assert_eq!(Key::parse("any text"), Ok(Key(b"any text".to_vec())));
    }

    #[test]
    fn a_message_says_what_has_become_of_which_job() {
        let keys =
            vec![Key::parse("one of the secrets").expect("a key"), Key::parse("the other").expect("a key")];
        let places = Places { prefix: "/jobs".into(), ..Places::default() };
        let webhooks = Webhooks::new(None, keys, places, |_| false);
        let status = Status {
            id: id([1; 16]),
            state: State::Done,
            ended_at: Some(1_795_764_000.25),
            status: Some(201),
            ..Status::default()
        };
        let (fields, body) = webhooks.message(&status, 1_795_764_007.9);
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["type"], "job.done");
        assert_eq!(body["timestamp"], "2026-11-27T07:20:00.250Z");
        assert_eq!(body["data"]["status"], 201);
        assert_eq!(body["data"]["status_url"], format!("/jobs/{}", status.id));
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(field("webhook-timestamp"), Some("1795764007"));
        assert_eq!(field("webhook-id"), Some(format!("{}.1795764000250", status.id).as_str()));
        assert_eq!(field("webhook-signature").map(|text| text.split(' ').count()), Some(2));
    }
}
