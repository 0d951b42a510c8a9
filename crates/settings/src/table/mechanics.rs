//! Section "Server Mechanics": the process, its identity, its files, and the proxies in front of it.

use super::{EMPTY, LOCALHOST, NONE, OFF, PATH, STR, SWITCH, int, of, text};
use crate::setting::{Circumstance, DefaultValue, Kind, Numeral, Setting, Values};

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "preload_app",
        SWITCH,
        OFF,
        "Import the application before workers are forked.\n\n\
         Workers then start faster and share memory. A reload does not see new code.",
    )
    .flags(&["--preload"]),
    Setting::new(
        "sendfile",
        Kind::Flag { sets: false },
        NONE,
        "The flag forbids that files are sent by the kernel, without a copy through the worker.\n\n\
         Any value in the configuration file forbids it as well, even `True`, as in Gunicorn. Without one, the \
         environment variable `SENDFILE` (`y`, `yes`, `1`, `true`, or anything else for no) decides.",
    )
    .flags(&["--no-sendfile"])
    .since("19.2"),
    Setting::new(
        "reuse_port",
        SWITCH,
        OFF,
        "Give every worker a listening socket of its own for the same port (`SO_REUSEPORT`).",
    )
    .flags(&["--reuse-port"])
    .since("19.8"),
    Setting::new(
        "chdir",
        Kind::Dir,
        of(Circumstance::Directory),
        "The directory to change to before the application is loaded; modules are found there first.",
    )
    .flags(&["--chdir"]),
    Setting::new("daemon", SWITCH, OFF, "Detach from the terminal and run in the background.")
        .flags(&["-D", "--daemon"]),
    Setting::new(
        "raw_env",
        Kind::List,
        EMPTY,
        "An environment variable for the application, as `NAME=VALUE`.\n\nGive it several times for several.",
    )
    .flags(&["-e", "--env"])
    .metavar("ENV"),
    Setting::new("pidfile", PATH, NONE, "The file to write the server's process id to.")
        .flags(&["-p", "--pid"])
        .metavar("FILE"),
    Setting::new(
        "worker_tmp_dir",
        PATH,
        NONE,
        "Where Gunicorn's workers keep the file that shows that they live.",
    )
    .flags(&["--worker-tmp-dir"])
    .metavar("DIR")
    .inert("signs of life are kept in shared memory, so that no slow disk can pass for a hung worker"),
    Setting::new(
        "user",
        Kind::User,
        of(Circumstance::User),
        "The user, by name or number, that workers run as. Needs a server that is started as root.",
    )
    .flags(&["-u", "--user"])
    .metavar("USER"),
    Setting::new(
        "group",
        Kind::Group,
        of(Circumstance::Group),
        "The group, by name or number, that workers run as. Needs a server that is started as root.",
    )
    .flags(&["-g", "--group"])
    .metavar("GROUP"),
    Setting::new(
        "umask",
        Kind::Int { min: 0, max: i64::MAX, numeral: Numeral::Mode },
        int(0),
        "Which permissions files and Unix sockets of the server are made without.\n\n\
         The flag takes octal numbers with a leading zero, as in `022`; Python source writes `0o022`.",
    )
    .flags(&["-m", "--umask"])
    .metavar("INT"),
    Setting::new(
        "initgroups",
        SWITCH,
        OFF,
        "Give workers the further groups of their user too, not only `group`.",
    )
    .flags(&["--initgroups"])
    .since("19.7"),
    Setting::new(
        "tmp_upload_dir",
        PATH,
        NONE,
        "Where request bodies larger than `body_memory_limit` are stored while they are needed.\n\n\
         Without one it is the system's directory for temporary files.",
    )
    .metavar("DIR"),
    Setting::new(
        "pythonpath",
        STR,
        NONE,
        "Directories, with commas between them, where modules are found before all others.",
    )
    .flags(&["--pythonpath"])
    .metavar("STRING"),
    Setting::new(
        "paste",
        STR,
        NONE,
        "A PasteDeploy file to take the application from, as `FILE` or `FILE#NAME`.",
    )
    .flags(&["--paste", "--paster"])
    .metavar("STRING")
    .not_yet(NO_PASTE),
    Setting::new(
        "raw_paste_global_conf",
        Kind::List,
        EMPTY,
        "A global value for the PasteDeploy file, as `NAME=VALUE`. Give it several times for several.",
    )
    .flags(&["--paste-global"])
    .metavar("CONF")
    .since("19.7")
    .not_yet(NO_PASTE),
];

const NO_PASTE: &str = "PasteDeploy files are not read yet; name the application as MODULE:NAME";
const NO_PROXY_PROTOCOL: &str = "the PROXY protocol is not served yet";
const NO_UWSGI: &str = "the uwsgi protocol is not served yet; let the proxy speak HTTP";

pub(super) const PROXIES: &[Setting] = &[
    Setting::new(
        "secure_scheme_headers",
        Kind::Dict,
        DefaultValue::Map(&[
            ("X-FORWARDED-PROTOCOL", "ssl"),
            ("X-FORWARDED-PROTO", "https"),
            ("X-FORWARDED-SSL", "on"),
        ]),
        "Header fields by which a proxy says that its client came by HTTPS, and the value that says so.\n\n\
         They count from `forwarded_allow_ips` only. Fields that contradict each other are answered with 400.",
    ),
    Setting::new(
        "forwarded_allow_ips",
        Kind::Networks,
        LOCALHOST,
        "Which proxies are believed what they say of their clients: addresses and networks, or `*` for all.\n\n\
         Commas stand between them. Peers on a Unix socket are always believed. The environment variable \
         `FORWARDED_ALLOW_IPS` changes the default.",
    )
    .flags(&["--forwarded-allow-ips"])
    .metavar("STRING"),
    Setting::new(
        "proxy_protocol",
        Kind::Choice {
            names: &["off", "v1", "v2", "auto"],
            aliases: &[("false", "off"), ("0", "off"), ("none", "off"), ("true", "auto"), ("1", "auto")],
            bare: Some("auto"),
        },
        text("off"),
        "Whether connections open with a PROXY protocol header, and of which version. The bare flag means `auto`.",
    )
    .flags(&["--proxy-protocol"])
    .metavar("MODE")
    .not_yet(NO_PROXY_PROTOCOL),
    Setting::new(
        "proxy_allow_ips",
        Kind::Networks,
        LOCALHOST,
        "Which peers may send a PROXY protocol header: addresses and networks, or `*` for all.",
    )
    .flags(&["--proxy-allow-from"])
    .not_yet(NO_PROXY_PROTOCOL),
    Setting::new(
        "protocol",
        STR,
        text("http"),
        "What clients speak: `http`, or nginx's binary `uwsgi`.",
    )
    .flags(&["--protocol"])
    .metavar("STRING")
    .only(Values::In(&["http"]), NO_UWSGI),
    Setting::new(
        "uwsgi_allow_ips",
        Kind::Networks,
        LOCALHOST,
        "Which peers may speak uwsgi: addresses, or `*` for all.",
    )
    .flags(&["--uwsgi-allow-from"])
    .not_yet(NO_UWSGI),
    Setting::new(
        "root_path",
        STR,
        text(""),
        "The path under which a proxy publishes an ASGI application, which learns it as `root_path`.",
    )
    .flags(&["--root-path"])
    .metavar("STRING")
    .since("24.0.0"),
];
