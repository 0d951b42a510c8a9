//! Where nginx leads a path in each of its servers: here, elsewhere, or nobody knows. Only what is certain is told: expressions are not
//! evaluated, and whatever may lead a request on in another way makes a place one of which nothing is known.
//!
//! Not for: what is in force at a place (`nginx`), and not for judging (`core::check`).

use super::parse::Directive;
use super::{Upstream, address_of, gather_upstreams, is_same};
use ferricorn_core::check::Detour;
use ferricorn_core::pattern::fits;
use std::collections::BTreeMap;

/// Servers that are told at most.
const SERVERS_MAX: usize = 20;
/// What stands for the text of a star, and for the name of a job.
const ANY: &str = "0f1c6c1be5a94b2f9ab1c2f3d48e5a70";
/// What a place may say that answers by itself, or leads elsewhere; beside directives that begin as those below.
const PLAIN: [&str; 17] = [
    "access_log",
    "add_header",
    "alias",
    "allow",
    "autoindex",
    "charset",
    "default_type",
    "deny",
    "error_log",
    "error_page",
    "etag",
    "expires",
    "index",
    "log_not_found",
    "root",
    "sendfile",
    "set",
];
const PLAIN_STARTS: [&str; 9] =
    ["auth_", "client_", "fastcgi_", "gzip", "keepalive", "limit_", "open_file_cache", "proxy_", "send_"];
/// What may lead a request on, as also what begins or ends as programs do.
const TURNS: [&str; 5] = ["include", "perl", "return", "rewrite", "try_files"];

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq)]
enum Lead<'a> {
    /// It comes to one of the server's addresses, as it is: by this place, with this target.
    Here(&'a Directive, &'a str),
    /// It does not: by which place, if that is known, and to which target, if the proxy does not answer itself.
    Elsewhere(Option<&'a Directive>, Option<&'a str>),
    Unknown,
}

/// How a place says which paths are its own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place<'a> {
    Exact(&'a str),
    /// All that begin so; and whether expressions are left alone then.
    Prefix(&'a str, bool),
    Expression,
    /// Nobody asks for it.
    Named,
}

struct World<'a> {
    upstreams: BTreeMap<String, Upstream>,
    addresses: &'a [String],
}

/// Returns the servers that lead requests of these routes to one of these addresses (as in `bind`), and what is asked below a path
/// elsewhere.
pub(crate) fn detours(tree: &[Directive], addresses: &[String], routes: &[&str], below: &str) -> Vec<Detour> {
    if !is_clear(below) {
        return Vec::new();
    }
    let mut upstreams = BTreeMap::new();
    gather_upstreams(tree, &mut upstreams);
    let world = World { upstreams, addresses };
    let mut servers = Vec::new();
    gather_servers(tree, false, &mut servers);
    let told = servers.into_iter().filter_map(|(server, is_led_on)| {
        let block = server.block.as_deref().unwrap_or_default();
        let is_led_on = is_led_on || leads_on_errors(block);
        let Lead::Elsewhere(place, to) = world.lead(block, &format!("{below}/{ANY}"), is_led_on) else {
            return None;
        };
        let patterns = routes.iter().filter_map(|route| route.split_ascii_whitespace().last());
        let mut paths = patterns.flat_map(|pattern| samples(pattern, block)).filter(|path| is_clear(path));
        let here = paths.find_map(|path| match world.without_expressions(block, &path, is_led_on).0 {
            Lead::Here(place, target) => Some((place, target)),
            _ => None,
        });
        here.map(|(beside, target)| Detour {
            name: "nginx".to_owned(),
            place: named(server, place),
            to: to.map(address_of),
            beside: format!("location {}", beside.words.join(" ")),
            upstream: without_path(target),
        })
    });
    told.take(SERVERS_MAX).collect()
}

/// Tells whether nginx compares a path as it is: it decodes, and takes dots and doubled slashes out.
fn is_clear(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(['%', '?', '#', '\\'])
        && !path.contains("//")
        && !path.split('/').any(|part| part == "." || part == "..")
}

fn named(server: &Directive, place: Option<&Directive>) -> String {
    let block = server.block.as_deref().unwrap_or_default();
    let name = block.iter().find(|directive| directive.name == "server_name");
    let name = name.and_then(|name| name.words.first()).map_or(String::new(), |name| format!(" {name}"));
    let at = place.unwrap_or(server);
    let path = place.map_or(String::new(), |place| format!(", location {}", place.words.join(" ")));
    format!("server{name}{path} ({}:{})", at.file, at.line)
}

/// Finds all servers of HTTP, and whether errors of theirs may be led on by what stands outside of them.
fn gather_servers<'a>(block: &'a [Directive], is_led_on: bool, found: &mut Vec<(&'a Directive, bool)>) {
    let is_led_on = is_led_on || leads_on_errors(block);
    for directive in block {
        match (directive.name.as_str(), &directive.block) {
            ("http", Some(inner)) => gather_servers(inner, is_led_on, found),
            ("server", Some(_)) => found.push((directive, is_led_on)),
            _ => {}
        }
    }
}

/// Tells whether an error may be answered by another place, with the path as it was.
fn leads_on_errors(block: &[Directive]) -> bool {
    let pages = block.iter().filter(|directive| directive.name == "error_page");
    pages.flat_map(|page| &page.words).any(|word| word.starts_with('@') || word.contains('$'))
}

/// Returns paths that a pattern of Offload fits, among them some of each place that is within it.
fn samples(pattern: &str, block: &[Directive]) -> Vec<String> {
    let whole = pattern.replace('*', ANY);
    let Some((start, rest)) = pattern.split_once('*') else { return vec![whole] };
    let rest = rest.replace('*', ANY);
    let places = block.iter().filter_map(place_of).filter_map(|place| match place {
        Place::Exact(path) => Some(path.to_owned()),
        Place::Prefix(path, _) if path.starts_with(start) => {
            Some(format!("{}/{ANY}{rest}", path.trim_end_matches('/')))
        }
        _ => None,
    });
    places.filter(|path| fits(pattern.as_bytes(), path.as_bytes())).chain([whole]).collect()
}

fn place_of(directive: &Directive) -> Option<Place<'_>> {
    if directive.name != "location" || directive.block.is_none() {
        return None;
    }
    let first = directive.words.first()?.as_str();
    // The sign may stand before the path without a space between.
    let end = first.find(|character| !"=~^*".contains(character)).unwrap_or(first.len());
    let (sign, glued) = first.split_at(end);
    let path = if glued.is_empty() { directive.words.get(1).map_or("", String::as_str) } else { glued };
    Some(match sign {
        "=" => Place::Exact(path),
        "^~" => Place::Prefix(path, true),
        "" if path.starts_with('@') => Place::Named,
        "" => Place::Prefix(path, false),
        _ => Place::Expression,
    })
}

impl World<'_> {
    /// Finds what becomes of a path as nginx does (ngx_http_core_module, `location`).
    fn lead<'a>(&self, server: &'a [Directive], path: &str, is_led_on: bool) -> Lead<'a> {
        let (lead, is_final) = self.without_expressions(server, path, is_led_on);
        let mut expressions =
            server.iter().filter(|directive| place_of(directive) == Some(Place::Expression)).peekable();
        if is_final || expressions.peek().is_none() {
            return lead;
        }
        // Which of them takes it, if any, is not known; but all of them may do the same.
        let Lead::Elsewhere(_, to) = lead else { return Lead::Unknown };
        let is_same =
            |place| matches!(self.lead_of(place, is_led_on), Lead::Elsewhere(_, other) if other == to);
        if expressions.all(is_same) { Lead::Elsewhere(None, to) } else { Lead::Unknown }
    }

    /// The same as if there were no expressions, and whether these are left alone.
    fn without_expressions<'a>(
        &self,
        server: &'a [Directive],
        path: &str,
        is_led_on: bool,
    ) -> (Lead<'a>, bool) {
        if server.iter().any(|directive| turns(directive) || is_if_that_turns(directive)) {
            return (Lead::Unknown, true);
        }
        let places = || server.iter().filter_map(|directive| Some((place_of(directive)?, directive)));
        if let Some((_, exact)) = places().find(|(place, _)| *place == Place::Exact(path)) {
            return (self.lead_of(exact, is_led_on), true);
        }
        let fitting = places().filter_map(|(place, directive)| match place {
            Place::Prefix(start, alone) if path.starts_with(start) => Some((start.len(), alone, directive)),
            _ => None,
        });
        match fitting.max_by_key(|(length, ..)| *length) {
            Some((_, alone, directive)) => (self.lead_of(directive, is_led_on), alone),
            None if is_led_on => (Lead::Unknown, false),
            None => (Lead::Elsewhere(None, None), false),
        }
    }

    fn lead_of<'a>(&self, place: &'a Directive, is_led_on: bool) -> Lead<'a> {
        let block = place.block.as_deref().unwrap_or_default();
        let mut passes = block.iter().filter(|directive| directive.name == "proxy_pass");
        let target = passes.next().and_then(|directive| directive.words.first()).map(String::as_str);
        let is_unclear = target.is_some_and(|target| target.contains('$'))
            || block.iter().any(|directive| turns(directive) && !is_refusal(directive))
            || block.iter().any(is_if_that_turns);
        if is_unclear {
            return Lead::Unknown;
        }
        if let Some(target) = target {
            let address = address_of(target);
            if self.is_own(&address) {
                let is_unclear = block.iter().any(turns) || makes_another_path(place, target, &address);
                return if is_unclear { Lead::Unknown } else { Lead::Here(place, target) };
            }
            if self.is_perhaps_own(&address) {
                return Lead::Unknown;
            }
        }
        if is_led_on || leads_on_errors(block) || !block.iter().all(is_plain) {
            return Lead::Unknown;
        }
        Lead::Elsewhere(Some(place), target)
    }

    fn servers(&self, address: &str) -> Vec<String> {
        self.upstreams.get(address).map_or_else(|| vec![address.to_owned()], |group| group.servers.clone())
    }

    fn is_own(&self, address: &str) -> bool {
        self.servers(address).iter().any(|server| self.addresses.iter().any(|own| is_same(server, own)))
    }

    /// Tells whether an address may be one of the server's under another name: of the host, or of a folder.
    fn is_perhaps_own(&self, address: &str) -> bool {
        let file = |address: &str| Some(address.strip_prefix("unix:")?.rsplit('/').next()?.to_owned());
        let port = |address: &str| address.rsplit_once(':').map_or("80", |(_, port)| port).to_owned();
        let is_name = |server: &str| {
            let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
            !host.starts_with('[') && host.contains(char::is_alphabetic)
        };
        self.servers(address).iter().any(|server| {
            self.addresses.iter().any(|own| match (file(server), file(own)) {
                (Some(server), Some(own)) => server == own,
                (None, None) => is_name(server) && port(server) == port(own),
                _ => false,
            })
        })
    }
}

/// Returns a target that leads on every path as it is.
fn without_path(target: &str) -> String {
    let scheme = target.split_once("://").map_or("http", |(scheme, _)| scheme);
    format!("{scheme}://{}", address_of(target))
}

/// Tells whether a target has a path that takes the place of another one's beginning.
fn makes_another_path(place: &Directive, target: &str, address: &str) -> bool {
    let rest = target.split_once("://").and_then(|(_, rest)| rest.strip_prefix(address));
    // Between a socket and the path of the request stands a colon.
    let Some(path) = rest.map(|rest| rest.trim_start_matches(':')) else { return true };
    !path.is_empty() && !matches!(place_of(place), Some(Place::Prefix(start, _)) if start == path)
}

fn turns(directive: &Directive) -> bool {
    let name = directive.name.as_str();
    TURNS.contains(&name) || name.contains("_by_lua") || name.starts_with("js_")
}

/// Tells whether it only answers, or makes one certain path of all: that of a job is another.
fn is_refusal(directive: &Directive) -> bool {
    let first = directive.words.first().map(String::as_str).unwrap_or_default();
    let last = directive.words.last().map(String::as_str).unwrap_or_default();
    match directive.name.as_str() {
        "return" => first.parse::<u16>().is_ok_and(|code| !(300..400).contains(&code)),
        "try_files" => {
            let path = last.split('?').next().unwrap_or_default();
            path.starts_with('=') || path.starts_with('/') && !path.contains('$')
        }
        _ => false,
    }
}

/// Tells whether it is a condition under which a request may be led on; one that only refuses some leads none here.
fn is_if_that_turns(directive: &Directive) -> bool {
    let block = directive.block.as_deref().unwrap_or_default();
    directive.name == "if" && !block.iter().all(|inner| inner.name == "set" || is_refusal(inner))
}

fn is_plain(directive: &Directive) -> bool {
    let name = directive.name.as_str();
    let Some(block) = &directive.block else {
        let is_known = PLAIN.contains(&name) || PLAIN_STARTS.iter().any(|start| name.starts_with(start));
        return is_known || is_refusal(directive);
    };
    match name {
        "if" | "types" => true,
        "limit_except" => block.iter().all(|inner| ["allow", "deny"].contains(&&*inner.name)),
        _ => false,
    }
}

#[cfg(test)]
#[path = "lead_tests.rs"]
mod tests;
