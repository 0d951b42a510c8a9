//! What may be told of a broker without its URL, in which passwords stand. Not for: connecting to one.

use crate::secret::HIDDEN;
use std::net::IpAddr;

/// Most letters of a scheme.
const SCHEME_MAX: usize = 32;
/// Most URLs of one setting that are looked at.
const URLS_MAX: usize = 64;
/// What stands for the name of another host.
const ELSEWHERE: &str = "...";

/// What may be told of a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broker {
    /// The scheme of its URL: `amqp`; empty if it has none.
    pub scheme: String,
    /// Whether it is on another host than this; none where its URL does not say so clearly.
    pub is_elsewhere: Option<bool>,
    /// Whether its URL has a password, or names a certificate of the client's own.
    pub has_password: bool,
}

impl Broker {
    /// Looks at each of the URLs that a setting names, with semicolons between.
    pub fn all(urls: &str) -> Vec<Self> {
        let urls = urls.split(';').map(str::trim).filter(|url| !url.is_empty());
        urls.take(URLS_MAX).map(Self::of).collect()
    }

    fn of(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", HIDDEN));
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
        let is_scheme = scheme.len() <= SCHEME_MAX && scheme.bytes().all(is_letter);
        let scheme = if is_scheme { scheme.to_ascii_lowercase() } else { String::new() };
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let password = user.and_then(|user| user.split_once(':')).map_or("", |(_, password)| password);
        let query = after.to_ascii_lowercase();
        // Whoever writes a password as it is may have a slash in it: where the host begins is not clear then.
        let is_clear = !after.contains('@');
        let is_elsewhere = if scheme.ends_with("+socket") { Some(false) } else { is_elsewhere(place) };
        Self {
            scheme,
            is_elsewhere: is_elsewhere.filter(|_| is_clear),
            has_password: !password.is_empty()
                || !is_clear
                || ["password", "certfile"].iter().any(|word| query.contains(word)),
        }
    }

    /// Returns a URL that tells the same, and nothing else.
    pub(crate) fn shown(&self) -> String {
        let user = if self.has_password { format!(":{HIDDEN}@") } else { String::new() };
        let place = match self.is_elsewhere {
            Some(false) => "localhost",
            Some(true) => ELSEWHERE,
            None => HIDDEN,
        };
        format!("{}://{user}{place}", self.scheme)
    }
}

/// Tells whether a host, perhaps with a port, is another than this; none of what is no host. Without a name it is this one.
fn is_elsewhere(place: &str) -> Option<bool> {
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => {
            let (host, port) = place.split_once(':').unwrap_or((place, ""));
            if !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            host
        }
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(!(address.is_loopback() || address.is_unspecified()));
    }
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    (is_name && !place.starts_with('[')).then(|| !(host.is_empty() || host.eq_ignore_ascii_case("localhost")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_whether_it_has_a_password() {
        let table = [
            ("redis://cache/0", "redis", Some(true), false),
            ("redis://:geheim@cache:6379/0", "redis", Some(true), true),
            ("REDISS://user:geheim@10.0.0.5", "rediss", Some(true), true),
            ("amqp://shop@rabbit/", "amqp", Some(true), false),
            ("amqp://shop:@rabbit/", "amqp", Some(true), false),
            ("amqps://rabbit/?ssl_certfile=/a&ssl_keyfile=/b", "amqps", Some(true), true),
            ("amqp://shop:geheim@/jobs", "amqp", Some(false), true),
            ("redis://", "redis", Some(false), false),
            ("redis://localhost", "redis", Some(false), false),
            ("redis://127.0.0.2:6379", "redis", Some(false), false),
            ("redis://[::1]:6379/0", "redis", Some(false), false),
            ("redis://[fd00::1]:6379/0", "redis", Some(true), false),
            ("redis+socket:///run/redis.sock", "redis+socket", Some(false), false),
            ("redis://cache/0?password=geheim", "redis", Some(true), true),
            // Where such a password ends is not clear.
            ("redis://:ge/heim@localhost/0", "redis", None, true),
            ("redis://:ge?heim@localhost/0", "redis", None, true),
            ("redis://cache/0?password=geh@eim", "redis", None, true),
            ("redis://:ge@heim@localhost/0", "redis", Some(false), true),
            ("redis://[geheim/0", "redis", None, false),
            ("redis://ge heim/0", "redis", None, false),
            ("geheim", "", None, false),
            ("ge heim://geheim", "", Some(true), false),
            ("ä://ü:ö@ß", "", None, true),
        ];
        for (url, scheme, is_elsewhere, has_password) in table {
            let expected = Broker { scheme: scheme.to_owned(), is_elsewhere, has_password };
            assert_eq!(Broker::all(url), std::slice::from_ref(&expected), "{url}");
            let shown = expected.shown();
            assert!(!shown.contains("heim"), "{shown}");
            assert_eq!(Broker::all(&shown), std::slice::from_ref(&expected), "{shown}");
        }
        assert!(Broker::all("").is_empty() && Broker::all(" ; ").is_empty());
        let several: Vec<_> = Broker::all("redis://a;redis://localhost").iter().map(Broker::shown).collect();
        assert_eq!(several, ["redis://...", "redis://localhost"]);
    }
}
