//! An error page of the user's (`error_page`), for browsers in the place of ours: HTML with names in braces.
//!
//! Not for: reading the file, and what the values are.

use super::reason::reason;
use super::refusal::{Page, escape};

/// Largest page in bytes: it is sent at once, to clients whose server has no time to wait.
pub const SIZE_MAX: usize = 64 << 10;

/// An error page: its text in pieces, each with the value that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    pieces: Vec<(String, Option<Value>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Status,
    Title,
    Detail,
    RequestId,
}

/// What a page can name. Any other brace is text: of a style sheet, mostly.
const NAMES: [(&str, Value); 4] = [
    ("{status}", Value::Status),
    ("{title}", Value::Title),
    ("{detail}", Value::Detail),
    ("{request_id}", Value::RequestId),
];

impl ErrorPage {
    /// Reads a page.
    ///
    /// # Errors
    /// It is larger than [`SIZE_MAX`], or no text.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.len() > SIZE_MAX {
            return Err(format!("it is larger than {} KiB", SIZE_MAX >> 10));
        }
        let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        let (mut pieces, mut piece, mut rest) = (Vec::new(), String::new(), text.as_str());
        while let Some(at) = rest.find('{') {
            piece.push_str(&rest[..at]);
            rest = &rest[at..];
            match NAMES.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, value)) => {
                    pieces.push((std::mem::take(&mut piece), Some(*value)));
                    rest = &rest[name.len()..];
                }
                None => {
                    piece.push('{');
                    rest = &rest[1..];
                }
            }
        }
        pieces.push((piece + rest, None));
        Ok(Self { pieces })
    }

    /// Returns the page about one request.
    pub(super) fn fill(&self, page: &Page<'_>) -> String {
        let mut out = String::new();
        for (text, value) in &self.pieces {
            out.push_str(text);
            match value {
                Some(Value::Status) => out.push_str(itoa::Buffer::new().format(page.status)),
                Some(Value::Title) => out.push_str(reason(page.status)),
                Some(Value::Detail) => out.push_str(&escape(page.detail)),
                Some(Value::RequestId) => out.push_str(&escape(page.request)),
                None => {}
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let page = ErrorPage::parse(text.as_bytes().to_vec()).expect("a page");
        page.fill(&Page { request: "7-1", ..Page::new(503, "<late> & \"busy\"", false) })
    }

    #[test]
    fn names_are_replaced_and_braces_stay() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("<h1>{status} {title}</h1>", "<h1>503 Service Unavailable</h1>"),
            ("{detail}", "&lt;late&gt; &amp; &quot;busy&quot;"),
            ("{request_id}{request_id}", "7-17-1"),
            ("p { color: red } {{status}}", "p { color: red } {503}"),
            ("{stat", "{stat"),
            ("é{", "é{"),
            ("{other}{}", "{other}{}"),
        ];
        for (text, expected) in cases {
            assert_eq!(filled(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_page_is_explained() {
        assert_eq!(ErrorPage::parse(vec![b'x'; SIZE_MAX + 1]), Err("it is larger than 64 KiB".to_owned()));
        assert!(ErrorPage::parse(vec![b'x'; SIZE_MAX]).is_ok());
        assert_eq!(ErrorPage::parse(vec![0xff]), Err("it is not UTF-8".to_owned()));
    }
}
