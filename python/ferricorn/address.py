"""Reads the addresses that settings hold: ``HOST:PORT``, ``unix:PATH``, ``fd://N``.

Only for Python code that asks ``cfg.address``; the listeners themselves are parsed and bound in Rust.
"""

from __future__ import annotations

import socket

Address = str | int | tuple[str, int]


def parse(netloc: str, default_port: str = "8000") -> Address:
    """Returns a path for a Unix socket, a number for a descriptor, else ``(host, port)``."""
    if netloc.startswith("unix:"):
        return netloc.removeprefix("unix:").removeprefix("//")
    if netloc.startswith("fd://"):
        number = netloc.removeprefix("fd://")
        try:
            return int(number)
        except ValueError:
            raise RuntimeError(f"{number!r} is not a valid file descriptor.") from None
    netloc = netloc.removeprefix("tcp://")
    host, port = netloc or "0.0.0.0", default_port
    if "[" in netloc and "]" in netloc:
        host, _, rest = netloc.partition("[")[2].partition("]")
        port = rest[1:] if rest.startswith(":") else default_port
    elif ":" in netloc:
        host, port = netloc.split(":")[:2]
    try:
        return host.lower(), int(port)
    except ValueError:
        raise RuntimeError(f"{port!r} is not a valid port number.") from None


def is_ipv6(host: str) -> bool:
    """Tells whether ``host`` is a literal IPv6 address."""
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return False
    return True
