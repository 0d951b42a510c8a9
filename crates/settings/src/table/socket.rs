//! Section "Server Socket": where connections come in.

use super::{COUNT, int};
use crate::setting::{DefaultValue, Kind, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new(
        "bind",
        Kind::List,
        DefaultValue::List(&["127.0.0.1:8000"]),
        "The address to listen at: `HOST`, `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or `fd://N`.\n\n\
         Give it several times to listen at several addresses. Without a port it is 8000; without a host it is every \
         IPv4 address. If the environment variable `PORT` is set, the default is `0.0.0.0:$PORT`.",
    )
    .flags(&["-b", "--bind"])
    .metavar("ADDRESS"),
    Setting::new(
        "backlog",
        COUNT,
        int(2048),
        "How many connections the kernel keeps waiting until a worker accepts them.\n\n\
         Clients beyond it are made to try again. The kernel has a limit of its own, `net.core.somaxconn`.",
    )
    .flags(&["--backlog"])
    .metavar("INT"),
];
