//! Section "Security": how large a request head may be.

use super::{COUNT, int};
use crate::setting::Setting;

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "limit_request_line",
        COUNT,
        int(4094),
        "Bytes of the longest request line; 0 means any length, and more than 8190 counts as 8190.\n\n\
         A longer line is answered with 414.",
    )
    .flags(&["--limit-request-line"])
    .metavar("INT"),
    Setting::new(
        "limit_request_fields",
        COUNT,
        int(100),
        "How many header fields a request may have; 0, or more than 32768, counts as 32768.\n\n\
         More are answered with 431.",
    )
    .flags(&["--limit-request-fields"])
    .metavar("INT"),
    Setting::new(
        "limit_request_field_size",
        COUNT,
        int(8190),
        "Bytes of the longest header field; 0 counts as 8190, as it does in Gunicorn.\n\n\
         A longer field is answered with 431. Mind the spelling of the flag.",
    )
    .flags(&["--limit-request-field_size"])
    .metavar("INT"),
];
