//! Routes of requests: the pattern that an application's framework has chosen, or what a path is like once everything in it
//! that looks like an identifier is left out. Numbers are kept per route, so there may only be so many.
//!
//! Not for: which requests a setting speaks of ([`crate::pattern`]), and not for asking a framework (`python`).

use std::collections::BTreeMap;

/// The route of requests that were refused (404, 405) and that no framework has named: what scanners ask for has no
/// end.
pub const UNMATCHED: &str = "(unmatched)";
/// The route of everything for which there is no room.
pub const OTHER: &str = "(other)";
/// What stands for a part of a path that is an identifier.
pub const IDENTIFIER: &str = ":id";
/// What stands for a part of a path that has had too many values.
pub const MANY: &str = "*";

/// Most parts of a path that are told apart; what follows is [`MANY`].
const PARTS_MAX: usize = 12;
/// Values that one part of a path may have, below the same parts before it.
const VALUES_MAX: usize = 50;
/// Most parts of all paths that are remembered.
const NODES_MAX: usize = 4096;
/// A part of so many letters and digits mixed is an identifier.
const MIXED_MIN: usize = 16;
/// Hexadecimal digits that make an identifier.
const HEX_MIN: usize = 8;
const PART_MAX: usize = 40;

/// Makes routes of paths, and remembers what it has seen: a place in a path that has more than 50 values becomes `*`.
#[derive(Debug, Default)]
pub struct Paths {
    root: Node,
    nodes: usize,
}

#[derive(Debug, Default)]
struct Node {
    values: BTreeMap<String, Node>,
    /// It has had too many.
    many: bool,
}

impl Paths {
    /// Returns the route of a path, which is cut at its query.
    pub fn route(&mut self, path: &str) -> String {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut route = String::with_capacity(path.len());
        let mut node = &mut self.root;
        for (index, part) in path.split('/').skip(1).enumerate() {
            route.push('/');
            if index == PARTS_MAX {
                route.push_str(MANY);
                break;
            }
            let word = if is_identifier(part) { IDENTIFIER } else { part };
            let full = node.values.len() >= VALUES_MAX || self.nodes >= NODES_MAX;
            let word = if node.values.contains_key(word) {
                word
            } else if node.many || full {
                // Those that came first stay: they are the ones that are asked for.
                node.many = true;
                MANY
            } else {
                word
            };
            if !node.values.contains_key(word) {
                self.nodes += 1;
            }
            route.push_str(word);
            node = node.values.entry(word.to_owned()).or_default();
        }
        if route.is_empty() {
            route.push('/');
        }
        route
    }
}

/// Returns a framework's pattern as it is counted and shown: Django's begin without a slash, unless they are regular
/// expressions.
pub fn named(pattern: &str) -> String {
    if pattern.starts_with(['/', '^']) { pattern.to_owned() } else { format!("/{pattern}") }
}

/// Tells whether a part of a path is one of many of its kind: a number, a UUID, a hash, a date, an address, a token.
fn is_identifier(part: &str) -> bool {
    if part.is_empty() {
        return false;
    }
    if part.len() > PART_MAX || part.contains('@') || part.contains('%') {
        return true;
    }
    // A suffix such as `.json` says what it is, not which.
    let stem = part.split_once('.').map_or(part, |(stem, _)| stem);
    let digits = stem.bytes().filter(u8::is_ascii_digit).count();
    let letters = stem.bytes().filter(u8::is_ascii_alphabetic).count();
    let marks = stem.len() - digits - letters;
    let is_hex = stem.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let numeric = digits > 0 && letters == 0;
    let hex = is_hex && digits > 0 && digits + letters >= HEX_MIN;
    let mixed = stem.len() >= MIXED_MIN && digits >= 2 && letters > 0 && marks <= stem.len() / 4;
    // `v2` is a version, `p123` a product.
    let numbered = digits >= 3 && digits * 2 >= stem.len();
    numeric || hex || mixed || numbered
}

/// Tells whether a path can belong to a framework's pattern: Flask's `/r/<int:n>`, Django's `r/<int:n>/` and `^r/(?P<n>...)$`,
/// Starlette's `/r/{n}`, or a route made by [`Paths`]. A part that varies fits any part; one that takes slashes, any rest.
pub fn fits(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_start_matches('^').trim_end_matches(['$', 'Z']).trim_end_matches('\\');
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut wanted = parts(pattern);
    let mut given = path.trim_matches('/').split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(want), _) if takes_rest(want) => return true,
            (Some(want), Some(part)) if varies(want) || want == part => {}
            _ => return false,
        }
    }
}

/// Returns how many parts of a pattern are words, for choosing the closest of those that fit.
pub fn closeness(pattern: &str) -> usize {
    parts(pattern).filter(|part| !varies(part) && !takes_rest(part)).count()
}

/// Returns a pattern as `route_timeouts` takes it, with `*` for what varies; none for what is no path.
pub fn glob(pattern: &str) -> Option<String> {
    if pattern == UNMATCHED || pattern == OTHER {
        return None;
    }
    let pattern = pattern.trim_start_matches('^').trim_end_matches(['$', 'Z']).trim_end_matches('\\');
    let star = |part| if varies(part) || takes_rest(part) { MANY } else { part };
    let inner: Vec<&str> = parts(pattern).map(star).collect();
    let end = if pattern.len() > 1 && pattern.ends_with('/') { "/" } else { "" };
    Some(format!("/{}{end}", inner.join("/")))
}

/// Returns the method and the pattern of a route's name, `GET /orders/{id}`; none for what is no path, or any.
pub fn split(route: &str) -> Option<(&str, &str)> {
    let (method, pattern) = route.split_once(' ')?;
    let is_one = glob(pattern).is_some_and(|glob| glob == "/" || closeness(pattern) > 0);
    (!method.is_empty() && is_one).then_some((method, pattern))
}

/// The parts of a pattern; a slash within brackets separates nothing.
fn parts(pattern: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    pattern.trim_matches('/').split(move |character| {
        match character {
            '<' | '{' | '(' | '[' => depth += 1,
            '>' | '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        character == '/' && depth <= 0
    })
}

fn varies(part: &str) -> bool {
    part == MANY || part.starts_with(':') || part.contains(['<', '{', '(', '['])
}

fn takes_rest(part: &str) -> bool {
    part.contains("<path:") || part.contains(":path}") || part.contains(".*") || part.contains(".+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_are_left_out() {
        let table = [
            ("/", "/"),
            ("", "/"),
            ("/reports/7", "/reports/:id"),
            ("/reports/7/pdf?page=2", "/reports/:id/pdf"),
            ("/users/", "/users/"),
            ("/api/v2/users/me", "/api/v2/users/me"),
            ("/u/5f2a9c31e4b0", "/u/:id"),
            ("/o/123e4567-e89b-12d3-a456-426614174000/x", "/o/:id/x"),
            ("/t/2026-11-26", "/t/:id"),
            ("/mail/me@example.com", "/mail/:id"),
            ("/k/eyJhbGciOiJIUzI1NiJ9", "/k/:id"),
            ("/product/p12345", "/product/:id"),
            ("/static/app.css", "/static/app.css"),
            ("/decade", "/decade"),
            ("/files/a%20b", "/files/:id"),
            ("/blog/how-to-serve-python", "/blog/how-to-serve-python"),
            ("/1/2/3/4/5/6/7/8/9/10/11/12/13/14", "/:id/:id/:id/:id/:id/:id/:id/:id/:id/:id/:id/:id/*"),
        ];
        for (path, route) in table {
            assert_eq!(Paths::default().route(path), route, "{path}");
        }
    }

    #[test]
    fn what_has_too_many_values_becomes_one() {
        let mut paths = Paths::default();
        let words = |n: u32| {
            let letter = |n: u32| char::from(b'a' + (n % 26) as u8);
            format!("/blog/{}{}{}", letter(n), letter(n / 26), letter(n / 676))
        };
        let routes: std::collections::BTreeSet<String> = (0..5000).map(|n| paths.route(&words(n))).collect();
        assert_eq!(routes.len(), VALUES_MAX + 1);
        assert!(routes.contains("/blog/*"));
        assert_eq!(paths.route("/about"), "/about", "elsewhere there is room");
        assert_eq!(paths.route(&words(0)), words(0), "who came first stays");
    }

    #[test]
    fn patterns_of_frameworks_fit_paths() {
        let table = [
            ("/reports/<int:number>", "/reports/7", true),
            ("/reports/<int:number>", "/reports/7/pdf", false),
            ("reports/<int:number>/", "/reports/7/", true),
            ("^reports/(?P<number>[0-9]{1,3})/$", "/reports/7/", true),
            ("/items/{item_id}", "/items/x", true),
            ("/files/{path:path}", "/files/a/b/c", true),
            ("/files/<path:name>", "/files/a/b", true),
            ("/reports/:id", "/reports/7", true),
            ("/blog/*", "/blog/x", true),
            ("/", "/", true),
            ("/", "/x", false),
            ("/a", "/b", false),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
        assert!(closeness("/reports/new") > closeness("/reports/<int:number>"));
    }

    #[test]
    fn patterns_become_settings() {
        let table = [
            ("/reports/<int:number>", Some("/reports/*")),
            ("reports/<int:number>/", Some("/reports/*/")),
            ("^reports/(?P<number>[0-9]{1,3})/$", Some("/reports/*/")),
            ("/items/{item_id}/pdf", Some("/items/*/pdf")),
            ("/reports/:id", Some("/reports/*")),
            ("/", Some("/")),
            ("", Some("/")),
            (UNMATCHED, None),
            (OTHER, None),
        ];
        for (pattern, expected) in table {
            assert_eq!(glob(pattern).as_deref(), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_route_fits_its_path(path in "(/[a-z0-9.@-]{0,20}){1,12}") {
            let route = Paths::default().route(&path);
            prop_assert!(fits(&route, &path), "{} {}", route, path);
        }

        #[test]
        fn any_path_has_a_route(paths in proptest::collection::vec("/(\\PC|/|[0-9a-f]){0,60}", 1..40)) {
            let mut known = Paths::default();
            for path in &paths {
                let route = known.route(path);
                prop_assert!(route.starts_with('/'));
                prop_assert!(route.split('/').count() <= PARTS_MAX + 2);
            }
            prop_assert!(known.nodes <= NODES_MAX + PARTS_MAX * paths.len());
        }
    }

    #[test]
    fn what_is_no_path_or_any_is_no_route_by_name() {
        assert_eq!(split("GET /orders/{id}"), Some(("GET", "/orders/{id}")));
        assert_eq!(split("GET /"), Some(("GET", "/")));
        for name in ["", "GET", "GET /*", "GET /<path:rest>", "GET /{id}", &format!("GET {OTHER}")] {
            assert_eq!(split(name), None, "{name}");
        }
    }
}
