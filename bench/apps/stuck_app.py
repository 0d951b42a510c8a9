"""An application with an instant route and routes that hang in the ways real ones do."""

import ctypes
import threading
import time

SECONDS = 10
_HELD = threading.Lock()
_HELD.acquire()


def _sleep():
    """Waits outside Python: a slow database."""
    time.sleep(SECONDS)


def _burn():
    """Computes in Python: other threads get the interpreter every 5 ms."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        sum(range(1000))


def _lock():
    """Waits for a lock that nobody releases."""
    _HELD.acquire(timeout=SECONDS)


def _gil():
    """Waits in C without letting the interpreter go: a bad extension module."""
    ctypes.PyDLL(None).sleep(SECONDS)


_STUCK = {"/sleep": _sleep, "/burn": _burn, "/lock": _lock, "/gil": _gil}


def app(environ, start_response):
    work = _STUCK.get(environ["PATH_INFO"])
    if work is not None:
        work()
    body = b"done"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
