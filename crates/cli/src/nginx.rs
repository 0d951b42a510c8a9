//! Reads nginx configuration: which places lead to a server, and how patient nginx is there. From `nginx -T`, which prints all
//! files, or from a file and what it includes.
//!
//! Directives are inherited as nginx does it: from `http` to `server` to `location`, an inner one in place of an outer one. Not
//! for: judging (`core::check`), and not for conditions (`if`, `map`), whose outcome nobody knows beforehand.

mod files;
mod lead;
mod parse;

pub(crate) use files::{from_dump, from_file};
pub(crate) use lead::detours;
pub(crate) use parse::Directive;

use ferricorn_core::check::Proxy;
use std::collections::BTreeMap;

/// nginx's default of all its proxy times, and of `keepalive_timeout` in an upstream (ngx_http_proxy_module,
/// ngx_http_upstream_module).
const TIME_S: f64 = 60.0;
/// The default of `proxy_next_upstream`.
const NEXT: [&str; 2] = ["error", "timeout"];
/// Places that are told at most.
const PLACES_MAX: usize = 200;

/// What is in force at a place.
#[derive(Clone, Debug, Default)]
struct Scope {
    read_timeout_s: Option<f64>,
    send_timeout_s: Option<f64>,
    connect_timeout_s: Option<f64>,
    next_upstream: Option<Vec<String>>,
    http_version: Option<String>,
    /// `Connection` as it is sent; none if nothing is set.
    connection: Option<String>,
    server_name: Option<String>,
}

/// A named group of servers.
#[derive(Clone, Debug, Default)]
struct Upstream {
    servers: Vec<String>,
    keepalive: Option<u64>,
    keepalive_timeout_s: Option<f64>,
}

/// Returns the places that lead to one of these addresses (as in `bind`); all that lead anywhere if none is given.
pub(crate) fn places(tree: &[Directive], addresses: Option<&[String]>) -> Vec<Proxy> {
    let mut upstreams = BTreeMap::new();
    gather_upstreams(tree, &mut upstreams);
    let mut found = Vec::new();
    walk(tree, &Scope::default(), "", &upstreams, &mut found);
    if let Some(addresses) = addresses {
        found.retain(|(_, servers)| {
            servers.iter().any(|server| addresses.iter().any(|own| is_same(server, own)))
        });
    }
    found.into_iter().map(|(proxy, _)| proxy).take(PLACES_MAX).collect()
}

fn gather_upstreams(tree: &[Directive], found: &mut BTreeMap<String, Upstream>) {
    for directive in tree {
        match (directive.name.as_str(), &directive.block) {
            ("upstream", Some(block)) => {
                let mut upstream = Upstream::default();
                for inner in block {
                    let first = inner.words.first();
                    match inner.name.as_str() {
                        "server" if !inner.words.iter().any(|word| word == "down") => {
                            upstream.servers.extend(first.cloned())
                        }
                        "keepalive" => upstream.keepalive = first.and_then(|word| word.parse().ok()),
                        "keepalive_timeout" => {
                            upstream.keepalive_timeout_s = first.and_then(|word| seconds(word))
                        }
                        _ => {}
                    }
                }
                found.insert(directive.words.first().cloned().unwrap_or_default(), upstream);
            }
            (_, Some(block)) => gather_upstreams(block, found),
            _ => {}
        }
    }
}

fn walk(
    block: &[Directive],
    outer: &Scope,
    path: &str,
    upstreams: &BTreeMap<String, Upstream>,
    found: &mut Vec<(Proxy, Vec<String>)>,
) {
    let mut scope = outer.clone();
    // Headers are inherited only by blocks that set none.
    let mut sets_headers = false;
    block.iter().for_each(|directive| scope.take(directive, &mut sets_headers));
    for directive in block {
        match (directive.name.as_str(), &directive.block) {
            ("proxy_pass", None) => {
                if let Some(target) = directive.words.first() {
                    found.push(scope.place(target, path, directive, upstreams));
                }
            }
            ("http" | "server" | "location" | "if" | "limit_except", Some(inner)) => {
                let path = match directive.name.as_str() {
                    "location" => format!("location {}", directive.words.join(" ")),
                    _ => path.to_owned(),
                };
                walk(inner, &scope, &path, upstreams, found);
            }
            _ => {}
        }
    }
}

impl Scope {
    fn take(&mut self, directive: &Directive, sets_headers: &mut bool) {
        let first = directive.words.first().map(String::as_str);
        let time = || first.and_then(seconds);
        match directive.name.as_str() {
            "proxy_read_timeout" => self.read_timeout_s = time(),
            "proxy_send_timeout" => self.send_timeout_s = time(),
            "proxy_connect_timeout" => self.connect_timeout_s = time(),
            "proxy_next_upstream" => self.next_upstream = Some(directive.words.clone()),
            "proxy_http_version" => self.http_version = first.map(str::to_owned),
            "server_name" => self.server_name = first.map(str::to_owned),
            "proxy_set_header" => {
                if !std::mem::replace(sets_headers, true) {
                    self.connection = None;
                }
                if first.is_some_and(|name| name.eq_ignore_ascii_case("connection")) {
                    self.connection = directive.words.get(1).cloned();
                }
            }
            _ => {}
        }
    }

    fn place(
        &self,
        target: &str,
        path: &str,
        directive: &Directive,
        upstreams: &BTreeMap<String, Upstream>,
    ) -> (Proxy, Vec<String>) {
        let address = address_of(target);
        let group = upstreams.get(&address);
        let servers = group.map_or_else(|| vec![address.clone()], |group| group.servers.clone());
        let keeps = self.http_version.as_deref() == Some("1.1") && self.connection.as_deref() == Some("");
        let idle_s = group
            .filter(|group| keeps && group.keepalive.is_some_and(|count| count > 0))
            .map(|group| group.keepalive_timeout_s.unwrap_or(TIME_S));
        let server = self.server_name.as_ref().map_or("server".to_owned(), |name| format!("server {name}"));
        let path = if path.is_empty() { String::new() } else { format!(", {path}") };
        let next = || NEXT.map(str::to_owned).to_vec();
        let proxy = Proxy {
            name: "nginx".to_owned(),
            place: format!("{server}{path} ({}:{})", directive.file, directive.line),
            upstream: address,
            servers: servers.len() as u32,
            read_timeout_s: self.read_timeout_s.unwrap_or(TIME_S),
            send_timeout_s: self.send_timeout_s.unwrap_or(TIME_S),
            connect_timeout_s: self.connect_timeout_s.unwrap_or(TIME_S),
            idle_s,
            next_upstream: self.next_upstream.clone().unwrap_or_else(next),
        };
        (proxy, servers)
    }
}

/// Returns where a `proxy_pass` leads: `host:port`, `unix:/path`, or a group's name.
fn address_of(target: &str) -> String {
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    if let Some(path) = rest.strip_prefix("unix:") {
        // A colon ends the path of the socket, and that of the request begins.
        return format!("unix:{}", path.split(':').next().unwrap_or_default());
    }
    rest.split('/').next().unwrap_or_default().to_owned()
}

/// Tells whether nginx's address and one of `bind` are the same. Listening at all addresses is listening at each.
fn is_same(nginx: &str, bind: &str) -> bool {
    let unix = |text: &str| Some(text.strip_prefix("unix:")?.trim_start_matches("//").to_owned());
    if let (Some(one), Some(other)) = (unix(nginx), unix(bind)) {
        return one == other;
    }
    let tcp = |text: &str| -> Option<(String, u16)> {
        let text = text.trim_start_matches("tcp://");
        let (host, port) = text.rsplit_once(':').unwrap_or((text, "80"));
        Some((host.trim_matches(['[', ']']).to_ascii_lowercase(), port.parse().ok()?))
    };
    let (Some((one, one_port)), Some((other, other_port))) = (tcp(nginx), tcp(bind)) else { return false };
    let any = |host: &str| matches!(host, "" | "*" | "0.0.0.0" | "::");
    let local = |host: &str| host == "localhost" || host == "::1" || host.starts_with("127.");
    // Which of its names a host has is not known here: a port that is bound at all addresses is taken for it.
    one_port == other_port && (one == other || any(&other) || (local(&one) && local(&other)))
}

/// Reads a time of nginx in seconds: `60`, `1m30s`, `500ms`; none of what is no time.
fn seconds(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 8] = [
        ("ms", 0.001),
        ("y", 365.0 * 86_400.0),
        ("M", 30.0 * 86_400.0),
        ("w", 7.0 * 86_400.0),
        ("d", 86_400.0),
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
    ];
    let mut rest = text.trim();
    let mut sum = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let unit = UNITS.into_iter().find(|(name, _)| rest.starts_with(name));
        let (name, factor) = unit.or_else(|| rest.is_empty().then_some(("", 1.0)))?;
        sum += number * factor;
        rest = rest[name.len()..].trim_start();
    }
    Some(sum)
}

#[cfg(test)]
mod tests;
