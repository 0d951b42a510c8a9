//! Section "SSL": encryption between client and server.

use super::{NONE, OFF, PATH, STR, SWITCH, int};
use crate::setting::{DefaultValue, Kind, Numeral, Setting};

pub(super) const NO_TLS: &str = "TLS is not served yet; let a proxy in front terminate it";

pub(super) const ROWS: &[Setting] = &[
    Setting::new("keyfile", PATH, NONE, "The file with the private key.")
        .flags(&["--keyfile"])
        .metavar("FILE")
        .not_yet(NO_TLS),
    Setting::new("certfile", PATH, NONE, "The file with the certificate, and those that lead to its root.")
        .flags(&["--certfile"])
        .metavar("FILE")
        .not_yet(NO_TLS),
    Setting::new(
        "ssl_version",
        Kind::Anything,
        int(2),
        "The version of the protocol. Gunicorn ignores it since 21.0; `ssl_context` takes its place.",
    )
    .flags(&["--ssl-version"])
    .not_yet(NO_TLS),
    Setting::new(
        "cert_reqs",
        Kind::Int { min: 0, max: i64::MAX, numeral: Numeral::Source },
        int(0),
        "Whether clients need a certificate: 0 no, 1 if they have one it must be right, 2 yes.",
    )
    .flags(&["--cert-reqs"])
    .not_yet(NO_TLS),
    Setting::new(
        "ca_certs",
        PATH,
        NONE,
        "The file with the authorities that certificates of clients must come from.",
    )
    .flags(&["--ca-certs"])
    .metavar("FILE")
    .not_yet(NO_TLS),
    Setting::new(
        "suppress_ragged_eofs",
        SWITCH,
        DefaultValue::Bool(true),
        "Take a connection that ends without TLS's farewell for ended, not for broken.",
    )
    .flags(&["--suppress-ragged-eofs"])
    .not_yet(NO_TLS),
    Setting::new(
        "do_handshake_on_connect",
        SWITCH,
        OFF,
        "Shake hands when a connection is accepted, not when it is first read.",
    )
    .flags(&["--do-handshake-on-connect"])
    .not_yet(NO_TLS),
    Setting::new("ciphers", STR, NONE, "The ciphers to offer, in OpenSSL's notation.")
        .flags(&["--ciphers"])
        .not_yet(NO_TLS),
];
