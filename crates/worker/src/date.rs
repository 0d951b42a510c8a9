//! The Server and Date lines, formatted once a second per thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Lines {
    second: u64,
    text: Vec<u8>,
}

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines { second: 0, text: Vec::new() }) };
}

/// Calls `use_lines` with `Server: ferricorn`, `Date: …` (RFC 9110 section 5.6.7) as two field lines.
pub fn with_lines<R>(use_lines: impl FnOnce(&[u8]) -> R) -> R {
    let second = ferricorn_sys::clock::wall_seconds();
    LINES.with_borrow_mut(|lines| {
        if lines.second != second {
            lines.second = second;
            lines.text = lines_at(UNIX_EPOCH + Duration::from_secs(second)).into_bytes();
        }
        use_lines(&lines.text)
    })
}

fn lines_at(time: SystemTime) -> String {
    format!("Server: ferricorn\r\nDate: {}\r\n", httpdate::fmt_http_date(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imf_fixdate() {
        assert_eq!(lines_at(UNIX_EPOCH), "Server: ferricorn\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
    }
}
