//! Section "Server Mechanics", the part about requests that break the rules of HTTP.

use super::{OFF, SWITCH, choice, text};
use crate::setting::{DefaultValue, Kind, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "permit_obsolete_folding",
        SWITCH,
        OFF,
        "Accept header fields that go on in the next line.\n\n\
         Proxies read them differently, which attackers use: keep it off.",
    )
    .flags(&["--permit-obsolete-folding"])
    .since("23.0.0"),
    Setting::new(
        "strip_header_spaces",
        SWITCH,
        OFF,
        "Accept spaces between the name of a header field and its colon.\n\n\
         Proxies read them differently, which attackers use: keep it off.",
    )
    .flags(&["--strip-header-spaces"])
    .since("20.0.1"),
    Setting::new(
        "permit_unconventional_http_method",
        SWITCH,
        OFF,
        "Accept methods other than 3 to 20 capital letters, such as `query` or `X#Y`.",
    )
    .flags(&["--permit-unconventional-http-method"])
    .since("22.0.0"),
    Setting::new(
        "permit_unconventional_http_version",
        SWITCH,
        OFF,
        "Accept HTTP versions other than 1.0 to 1.9.",
    )
    .flags(&["--permit-unconventional-http-version"])
    .since("22.0.0"),
    Setting::new("casefold_http_method", SWITCH, OFF, "Turn methods into capital letters.")
        .flags(&["--casefold-http-method"])
        .since("22.0.0"),
    Setting::new(
        "forwarder_headers",
        Kind::Csv,
        DefaultValue::List(&["SCRIPT_NAME", "PATH_INFO"]),
        "Names with an underscore that proxies of `forwarded_allow_ips` may send, or `*` for all.\n\n\
         Commas stand between them. `SCRIPT_NAME` tells the application its place in the site.",
    )
    .flags(&["--forwarder-headers"]),
    Setting::new(
        "header_map",
        choice(&["drop", "refuse", "dangerous"]),
        text("drop"),
        "What happens to other header fields with an underscore in their name.\n\n\
         WSGI cannot tell `X_User` from `X-User`, so a client could pass for its proxy. `drop` leaves the field out, \
         `refuse` answers 400, `dangerous` lets it through.",
    )
    .flags(&["--header-map"])
    .since("22.0.0"),
];
