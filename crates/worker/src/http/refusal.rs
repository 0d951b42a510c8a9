//! Responses of the server's own: their status and the page that says why.
//!
//! Status codes are Gunicorn 27's (400, 403, 414, 417, 431, 501) with 408, 413, 502, 503 and 504 beside them, and 405 and 426
//! for what asks for a WebSocket and cannot have it. A malformed request gets a page in the shape of Gunicorn's; what a good
//! request can meet (408, 502, 503, 504) is written as its client reads it best, by default as `application/problem+json` (RFC 9457).

use super::error_page::ErrorPage;
use super::reason::reason;
use std::borrow::Cow;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status to answer.
    pub status: u16,
    /// What was wrong, for the page and the log; never echoes more than a short piece of the input.
    pub detail: Cow<'static, str>,
    /// After how many seconds the request may come again, with 503.
    pub retry_s: u32,
}

impl Refusal {
    /// A refusal with a fixed explanation.
    pub const fn new(status: u16, detail: &'static str) -> Self {
        Self { status, detail: Cow::Borrowed(detail), retry_s: 1 }
    }

    /// 400 with a fixed explanation.
    pub const fn bad(detail: &'static str) -> Self {
        Self::new(400, detail)
    }

    /// 400 that quotes at most 64 bytes of the offending input.
    pub fn quoting(detail: &str, input: &[u8]) -> Self {
        let short = &input[..input.len().min(64)];
        let detail = Cow::Owned(format!("{detail}: {:?}", String::from_utf8_lossy(short)));
        Self { detail, ..Self::new(400, "") }
    }

    /// Appends the whole response, head and page, to `out`. The connection closes after it.
    pub fn write(&self, out: &mut Vec<u8>, own: Option<&ErrorPage>) {
        page(out, &Page { form: Form::Html, own, ..Page::new(self.status, &self.detail, false) });
    }
}

/// How a page of ours is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `application/problem+json` (RFC 9457).
    #[default]
    Problem,
    /// The user's error page, or else Gunicorn's.
    Html,
    /// Plain text.
    Text,
}

impl Form {
    /// Returns the form of a number that was made from one.
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Html,
            2 => Self::Text,
            _ => Self::Problem,
        }
    }

    /// Returns what a client with this `Accept` field reads best: what it names first, if that is HTML or plain text.
    pub fn of(accept: &[u8]) -> Self {
        let first = accept.split(|byte| matches!(byte, b',' | b';')).next().unwrap_or_default().trim_ascii();
        match first {
            b"text/html" | b"application/xhtml+xml" => Self::Html,
            b"text/plain" => Self::Text,
            _ => Self::Problem,
        }
    }
}

/// An error response of ours.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Its status.
    pub status: u16,
    /// What happened, in one line.
    pub detail: &'a str,
    /// How it is written.
    pub form: Form,
    /// By which the log knows the request; empty if it does not.
    pub request: &'a str,
    /// Without its body, for HEAD.
    pub head_only: bool,
    /// The user's page for browsers.
    pub own: Option<&'a ErrorPage>,
    /// After how many seconds the request may come again, with 503.
    pub retry_s: u32,
}

impl<'a> Page<'a> {
    /// Returns a page about a request that the log does not know.
    pub const fn new(status: u16, detail: &'a str, head_only: bool) -> Self {
        Self { status, detail, form: Form::Problem, request: "", head_only, own: None, retry_s: 1 }
    }
}

/// Appends an error response of ours that closes the connection.
pub fn page(out: &mut Vec<u8>, page: &Page<'_>) {
    let (status, reason) = (page.status, reason(page.status));
    let (kind, body) = match page.form {
        Form::Problem => ("application/problem+json", problem(page)),
        Form::Html => match page.own {
            Some(own) => ("text/html; charset=utf-8", own.fill(page)),
            None => ("text/html", html(page)),
        },
        Form::Text => {
            let id =
                if page.request.is_empty() { String::new() } else { format!("Request {}\n", page.request) };
            ("text/plain; charset=utf-8", format!("{status} {reason}\n{}\n{id}", page.detail))
        }
    };
    let advice = match status {
        405 => "Allow: GET\r\n".into(),
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".into(),
        503 => format!("Retry-After: {}\r\n", page.retry_s),
        _ => String::new(),
    };
    let id =
        if page.request.is_empty() { String::new() } else { format!("X-Request-Id: {}\r\n", page.request) };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nConnection: close\r\n{advice}{id}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    if !page.head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

fn html(page: &Page<'_>) -> String {
    let reason = reason(page.status);
    let id = if page.request.is_empty() {
        String::new()
    } else {
        format!("\n    <p>Request {}</p>", page.request)
    };
    format!(
        "<html>\n  <head>\n    <title>{reason}</title>\n  </head>\n  <body>\n    <h1><p>{reason}</p></h1>\n    {}{id}\n  </body>\n</html>\n",
        escape(page.detail)
    )
}

fn problem(page: &Page<'_>) -> String {
    let (status, title) = (page.status, reason(page.status));
    let id =
        if page.request.is_empty() { String::new() } else { format!(",\"request_id\":\"{}\"", page.request) };
    format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":\"{}\"{id}}}\n",
        quoted(page.detail)
    )
}

/// Escapes text for a JSON string (RFC 8259 section 7).
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(page_: &Page<'_>) -> String {
        let mut out = Vec::new();
        page(&mut out, page_);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_form_is_what_accept_names_first() {
        assert_eq!(Form::of(b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"), Form::Html);
        assert_eq!(Form::of(b" text/plain;q=0.5"), Form::Text);
        for other in [&b"*/*"[..], b"application/json, text/html", b"", b",", b"text/htmlx"] {
            assert_eq!(Form::of(other), Form::Problem);
        }
    }

    #[test]
    fn a_problem_names_the_request() {
        let page = Page { request: "12-7", ..Page::new(504, "no \"end\"\n", false) };
        let text = written(&page);
        assert!(text.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{text}");
        assert!(
            text.contains("\r\nX-Request-Id: 12-7\r\nContent-Type: application/problem+json\r\n"),
            "{text}"
        );
        let body = r#"{"type":"about:blank","title":"Gateway Timeout","status":504,"detail":"no \"end\"\u000a","request_id":"12-7"}"#;
        assert!(text.ends_with(&format!("\r\n\r\n{body}\n")), "{text}");
        assert!(written(&Page { form: Form::Text, ..page }).ends_with("Request 12-7\n"));
        assert!(written(&Page { form: Form::Html, ..page }).contains("<p>Request 12-7</p>"));
        assert!(written(&Page { head_only: true, ..page }).ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_page_of_the_user_s_is_for_browsers() {
        let own = ErrorPage::parse(b"<p>{status} {request_id}".to_vec()).expect("a page");
        let page = Page { request: "12-7", own: Some(&own), ..Page::new(504, "late", false) };
        let text = written(&Page { form: Form::Html, ..page });
        let end = "\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 11\r\n\r\n<p>504 12-7";
        assert!(text.ends_with(end), "{text}");
        for form in [Form::Problem, Form::Text] {
            assert!(!written(&Page { form, ..page }).contains("<p>"));
        }
    }

    #[test]
    fn the_page_escapes_what_it_quotes() {
        let mut out = Vec::new();
        Refusal::quoting("invalid header", b"<script>").write(&mut out, None);
        let text = String::from_utf8(out).expect("ascii");
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"), "{text}");
        assert!(text.contains("&lt;script&gt;") && !text.contains("<script>"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a blank line");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    }
}
