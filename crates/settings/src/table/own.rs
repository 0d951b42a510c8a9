//! Section "Ferricorn": what Gunicorn has no setting for.

use super::{COUNT, int};
use crate::setting::Setting;

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "header_timeout",
        COUNT,
        int(30),
        "Seconds within which a whole request head must have come; 0 means any time.\n\n\
         Else the client gets 408. Waiting costs no thread and no worker.",
    )
    .flags(&["--header-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "body_timeout",
        COUNT,
        int(60),
        "Seconds that may pass between two pieces of a request body; 0 means any time.\n\n\
         Then the client gets 408, and the application is not called.",
    )
    .flags(&["--body-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "write_timeout",
        COUNT,
        int(60),
        "Seconds during which a client may take no byte of its response; 0 means any time.\n\n\
         Then its connection is closed.",
    )
    .flags(&["--write-timeout"])
    .metavar("SECONDS")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "queue_limit",
        COUNT,
        int(1024),
        "How many requests may wait in one worker until one of its threads is free.\n\n\
         Those beyond it get 503 with `Retry-After`.",
    )
    .flags(&["--queue-limit"])
    .metavar("INT")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "body_memory_limit",
        COUNT,
        int(1_048_576),
        "Bytes of the largest request body that is kept in memory.\n\n\
         Larger ones go to a file without a name in `tmp_upload_dir`.",
    )
    .flags(&["--body-memory-limit"])
    .metavar("BYTES")
    .since("0.1.0")
    .ours(),
    Setting::new(
        "body_limit",
        COUNT,
        int(0),
        "Bytes of the largest request body; 0 means any size.\n\n\
         A larger one is answered with 413, without reading it where its length is known beforehand.",
    )
    .flags(&["--body-limit"])
    .metavar("BYTES")
    .since("0.1.0")
    .ours(),
];
