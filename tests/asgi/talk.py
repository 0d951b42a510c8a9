"""Conversations by the library ``websockets``, and what applications have left for tests. Not for frames by hand."""

import ast

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import wait_until


def dial(server, path, **options):
    """A conversation; without compression unless it is asked for."""
    options.setdefault("compression", None)
    return connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None, **options)


def end(socket):
    """Reads to the end; returns the messages, code and reason."""
    messages = []
    try:
        while True:
            messages.append(socket.recv(timeout=5))
    except ConnectionClosed:
        return messages, socket.close_code, socket.close_reason


def left(server, name):
    """What a request of that name has left; None if nothing."""
    return ast.literal_eval(server.get(f"/left?{name}").body.decode())


def wait_left(server, name, seconds=5.0):
    """Waits for something."""
    return wait_until(lambda: left(server, name), seconds, f"what {name} leaves")
