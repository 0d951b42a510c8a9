//! Section "HTTP/2".

use super::{COUNT, int, text};
use crate::setting::{DefaultValue, Kind, Numeral, Setting, Values};

const NO_HTTP2: &str = "HTTP/2 is not served yet; let a proxy in front speak it";

const fn bounded(min: i64, max: i64) -> Kind {
    Kind::Int { min, max, numeral: Numeral::Decimal }
}

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "http_protocols",
        Kind::Protocols,
        DefaultValue::List(&["h1"]),
        "The protocols to speak, the preferred one first: `h1` (HTTP/1.1) and `h2` (HTTP/2), comma between.",
    )
    .flags(&["--http-protocols"])
    .metavar("STRING")
    .since("25.0.0")
    .only(Values::In(&["['h1']"]), NO_HTTP2),
    Setting::new(
        "http2_cleartext",
        Kind::Choice {
            names: &["off", "prior-knowledge", "upgrade", "both"],
            aliases: &[("true", "prior-knowledge"), ("false", "off")],
            bare: None,
        },
        text("off"),
        "How trusted clients may begin HTTP/2 without TLS.",
    )
    .flags(&["--http2-cleartext"])
    .metavar("STRING")
    .since("26.2.0")
    .not_yet(NO_HTTP2),
    Setting::new(
        "http2_max_concurrent_streams",
        bounded(1, i64::MAX),
        int(100),
        "How many HTTP/2 requests one connection may have open.",
    )
    .flags(&["--http2-max-concurrent-streams"])
    .metavar("INT")
    .since("25.0.0")
    .not_yet(NO_HTTP2),
    Setting::new(
        "http2_initial_window_size",
        bounded(0, (1 << 31) - 1),
        int(65_535),
        "Bytes that an HTTP/2 client may send of one request before it must wait.",
    )
    .flags(&["--http2-initial-window-size"])
    .metavar("INT")
    .since("25.0.0")
    .not_yet(NO_HTTP2),
    Setting::new(
        "http2_max_frame_size",
        bounded(16_384, 16_777_215),
        int(16_384),
        "Bytes of the largest HTTP/2 frame that is accepted.",
    )
    .flags(&["--http2-max-frame-size"])
    .metavar("INT")
    .since("25.0.0")
    .not_yet(NO_HTTP2),
    Setting::new(
        "http2_max_header_list_size",
        COUNT,
        int(65_536),
        "Bytes of all header fields of one HTTP/2 request together; 0 means any size.",
    )
    .flags(&["--http2-max-header-list-size"])
    .metavar("INT")
    .since("25.0.0")
    .not_yet(NO_HTTP2),
];
