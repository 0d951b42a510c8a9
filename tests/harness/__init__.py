"""What the contract tests share: a server of their own, raw HTTP, bounded load, reading of logs.

Not for tests of the Python package or of single crates: those need no running server.
"""

from harness.target import ASGI, COMMAND, FERRICORN, NAME, expected
from harness.ctl import ctl
from harness.server import Server, free_port, wait_until
from harness.wire import Connection, Response, exchange, exchange_many, request

__all__ = [
    "ASGI",
    "COMMAND",
    "FERRICORN",
    "NAME",
    "Connection",
    "Response",
    "Server",
    "ctl",
    "exchange",
    "exchange_many",
    "expected",
    "free_port",
    "request",
    "wait_until",
]
