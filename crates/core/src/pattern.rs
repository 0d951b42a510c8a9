//! Which requests a setting speaks of: `POST /api/reports/*`, or a path alone for every method. Not for: what frameworks call routes
//! ([`crate::route`]).

/// A method, or any, and a pattern of paths in which `*` stands for any text, slashes too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    method: Option<String>,
    pattern: String,
}

impl Route {
    /// Reads one.
    ///
    /// # Errors
    /// What it should look like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let (method, pattern) = match (words.next(), words.next(), words.next()) {
            (Some(pattern), None, None) => (None, pattern),
            (Some(method), Some(pattern), None) => (Some(method.to_ascii_uppercase()), pattern),
            _ => (None, ""),
        };
        if !pattern.starts_with(['/', '*']) {
            return Err(format!("a route is `/path/*` or `METHOD /path/*`, not `{text}`"));
        }
        Ok(Self { method: method.filter(|method| method != "*"), pattern: pattern.to_owned() })
    }

    /// Tells whether a request is meant. The path is compared as it was sent.
    pub fn fits(&self, method: &[u8], path: &[u8]) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.as_bytes() == method)
            && fits(self.pattern.as_bytes(), path)
    }
}

/// Compares with a pattern in which `*` stands for any text. Goes back to the last star only: linear in practice, and
/// never worse than the product of both lengths.
pub fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos, mut star) = (0, 0, None);
    while pos < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, pos));
                at += 1;
            }
            Some(byte) if *byte == text[pos] => {
                at += 1;
                pos += 1;
            }
            _ => {
                let Some((star_at, from)) = star else { return false };
                star = Some((star_at, from + 1));
                at = star_at + 1;
                pos = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_fit_by_method_and_pattern() {
        let cases = [
            ("POST /api/reports/*", "POST", "/api/reports/7/pdf", true),
            ("post /api/reports/*", "POST", "/api/reports/", true),
            ("POST /api/reports/*", "GET", "/api/reports/7", false),
            ("POST /api/reports/*", "POST", "/api/report", false),
            ("/slow", "GET", "/slow", true),
            ("/slow", "GET", "/slow/", false),
            ("* /a*b*c", "PUT", "/a1b2bc", true),
            ("/a*b*c", "PUT", "/a1b2bd", false),
            ("*", "GET", "/", true),
        ];
        for (route, method, path, fits) in cases {
            let parsed = Route::parse(route).expect(route);
            assert_eq!(parsed.fits(method.as_bytes(), path.as_bytes()), fits, "{route} {method} {path}");
        }
    }

    #[test]
    fn what_is_no_route_is_explained() {
        for text in ["", "reports", "POST reports", "POST /a /b"] {
            assert!(Route::parse(text).expect_err(text).contains("METHOD /path/*"), "{text}");
        }
    }
}
