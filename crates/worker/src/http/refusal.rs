//! Requests that never reach an application: their status and the page that says why.
//!
//! Status codes are Gunicorn 27's (400, 403, 414, 417, 431, 501) with 408, 413 and 503 beside them; the page has the
//! shape of Gunicorn's error page, with the reason phrase that belongs to the status (RFC 9110 section 15).

use std::borrow::Cow;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status to answer.
    pub status: u16,
    /// What was wrong, for the page and the log; never echoes more than a short piece of the input.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a fixed explanation.
    pub const fn new(status: u16, detail: &'static str) -> Self {
        Self { status, detail: Cow::Borrowed(detail) }
    }

    /// 400 with a fixed explanation.
    pub const fn bad(detail: &'static str) -> Self {
        Self::new(400, detail)
    }

    /// 400 that quotes at most 64 bytes of the offending input.
    pub fn quoting(detail: &str, input: &[u8]) -> Self {
        let short = &input[..input.len().min(64)];
        Self { status: 400, detail: Cow::Owned(format!("{detail}: {:?}", String::from_utf8_lossy(short))) }
    }

    /// Appends the whole response, head and page, to `out`. The connection closes after it.
    pub fn write(&self, out: &mut Vec<u8>, head_only: bool) {
        page(out, self.status, &self.detail, head_only);
    }
}

/// Appends an error response of ours that closes the connection.
pub fn page(out: &mut Vec<u8>, status: u16, detail: &str, head_only: bool) {
    let reason = reason(status);
    let body = format!(
        "<html>\n  <head>\n    <title>{reason}</title>\n  </head>\n  <body>\n    <h1><p>{reason}</p></h1>\n    {}\n  </body>\n</html>\n",
        escape(detail)
    );
    let retry = if status == 503 { "Retry-After: 1\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nConnection: close\r\n{retry}Content-Type: text/html\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    if !head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

/// Returns the reason phrase of a status that this server makes itself (RFC 9110 section 15).
pub fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

fn escape(text: &str) -> String {
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

    #[test]
    fn the_page_escapes_what_it_quotes() {
        let mut out = Vec::new();
        Refusal::quoting("invalid header", b"<script>").write(&mut out, false);
        let text = String::from_utf8(out).expect("ascii");
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"), "{text}");
        assert!(text.contains("&lt;script&gt;") && !text.contains("<script>"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a blank line");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    }
}
