//! Where other programs listen that the server tells something: URLs, and kinds of notifications. Not for: sending.
//!
//! What stands behind a URL's host may be a token: [`shown`] leaves it out, and nothing else may be printed.

use std::fmt;

/// Who is told of incidents.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    /// In which form.
    pub form: Form,
    /// Where: an `http` or `https` URL.
    pub url: String,
}

/// A form of notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The incident's JSON.
    Webhook,
    /// Prometheus's Alertmanager.
    Alertmanager,
    /// A message for people, as Slack's incoming webhooks take it.
    Slack,
}

impl Form {
    const ALL: [Self; 3] = [Self::Webhook, Self::Alertmanager, Self::Slack];

    /// Returns its name in the setting, in logs and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Alertmanager => "alertmanager",
            Self::Slack => "slack",
        }
    }
}

impl Destination {
    /// Reads `FORM=URL`, or a URL alone where that tells the form.
    ///
    /// # Errors
    /// What is wrong with it, without the URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = Form::ALL.into_iter().find_map(|form| {
            let url = text.strip_prefix(form.name())?.strip_prefix('=')?;
            Some((form, url))
        });
        let (form, url) = match named {
            Some(named) => named,
            None if !text.contains("://") => {
                return Err("it must be webhook=URL, alertmanager=URL or slack=URL".to_owned());
            }
            None => (form(text), text),
        };
        Ok(Self { form, url: url_of(url)? })
    }
}

/// What a URL without a form is: Slack's hooks have a host of their own, Alertmanager's alerts a path.
fn form(url: &str) -> Form {
    let path = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    match host(url) {
        Some("hooks.slack.com") => Form::Slack,
        _ if path.ends_with("/api/v2/alerts") => Form::Alertmanager,
        _ => Form::Webhook,
    }
}

/// Reads an `http` or `https` URL.
///
/// # Errors
/// What is wrong with it, without the URL.
pub fn url_of(text: &str) -> Result<String, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return Err("the URL must begin with http:// or https://".to_owned());
    }
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err("the URL holds a space or a control character".to_owned());
    }
    match host(text) {
        None => Err("the URL names no host".to_owned()),
        Some(_) => Ok(text.to_owned()),
    }
}

/// The host with its port, without user and password.
fn authority(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (!host.is_empty() && !host.starts_with(':')).then_some(host)
}

fn host(url: &str) -> Option<&str> {
    let authority = authority(url)?;
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(host),
        _ => Some(authority),
    }
}

/// Returns what may be shown of a URL: scheme and host.
pub fn shown(url: &str) -> String {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let authority = authority(url).unwrap_or("...");
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
    let more = if path.trim_end_matches('/').is_empty() { "" } else { "/..." };
    format!("{scheme}://{authority}{more}")
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.form.name(), shown(&self.url))
    }
}

/// Shows no secret either.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns what may be shown of a value of `notify`.
pub(crate) fn shown_text(text: &str) -> String {
    match text.split_once("://") {
        None => "...".to_owned(),
        Some((before, _)) => {
            let (form, scheme) = before.split_once('=').unwrap_or(("", before));
            let url = format!("{scheme}://{}", text.split_once("://").map_or("", |(_, rest)| rest));
            let equals = if form.is_empty() { "" } else { "=" };
            format!("{form}{equals}{}", shown(&url))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_and_shown_without_secrets() {
        let table = [
            ("webhook=https://ops.example/hook?token=s3cret", "webhook=https://ops.example/..."),
            ("webhook=http://me:s3cret@ops.example:81/", "webhook=http://ops.example:81"),
            ("slack=https://hooks.slack.com/services/T0/B0/s3cret", "slack=https://hooks.slack.com/..."),
            ("https://hooks.slack.com/services/T0/B0/s3cret", "slack=https://hooks.slack.com/..."),
            ("https://hooks.slack.com:443/services/s3cret", "slack=https://hooks.slack.com:443/..."),
            ("http://[::1]:9093/api/v2/alerts", "alertmanager=http://[::1]:9093/..."),
            ("alertmanager=http://am:9093", "alertmanager=http://am:9093"),
            ("HTTPS://mattermost.example/hooks/s3cret", "webhook=HTTPS://mattermost.example/..."),
        ];
        for (text, expected) in table {
            let destination = Destination::parse(text).expect(text);
            assert_eq!(destination.to_string(), expected);
            assert_eq!(format!("{destination:?}"), expected);
            assert!(!shown_text(text).contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn what_is_no_destination_is_said_without_it() {
        let table = [
            ("pager", "it must be webhook=URL, alertmanager=URL or slack=URL"),
            ("slack=hooks.slack.com/s3cret", "the URL must begin with http:// or https://"),
            ("ftp://x/s3cret", "the URL must begin with http:// or https://"),
            ("webhook=https://", "the URL names no host"),
            ("webhook=https:///s3cret", "the URL names no host"),
            ("webhook=https://:80/", "the URL names no host"),
            ("webhook=https://a b/", "the URL holds a space or a control character"),
        ];
        for (text, expected) in table {
            assert_eq!(Destination::parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
