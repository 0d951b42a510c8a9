"""What keeps a worker or a thread busy, one path for each way; ``?seconds`` says for how long."""

import ctypes
import os
import tempfile
import time

import probe


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").split("/")[0]
    return PATHS.get(name, probe.app)(environ, start_response)


def seconds(environ):
    return float(environ["QUERY_STRING"])


def hold(environ, start_response):
    """C code that keeps the interpreter: no other thread of this process runs Python meanwhile."""
    ctypes.PyDLL(None).usleep(int(seconds(environ) * 1e6))
    return probe.reply(start_response, b"held")


def drip(environ, start_response):
    """A response that comes piece by piece."""
    pause = seconds(environ) / 5

    def pieces():
        for _ in range(5):
            yield b"drop"
            time.sleep(pause)

    start_response("200 OK", [("Content-Type", "text/plain")])
    return pieces()


def peer(environ, start_response):
    """Who serves whom: pid, address and port of the client, body."""
    body = environ["wsgi.input"].read().decode()
    parts = (os.getpid(), environ["REMOTE_ADDR"], environ.get("REMOTE_PORT", ""), body)
    return probe.reply(start_response, " ".join(map(str, parts)).encode())


def file(environ, start_response):
    """As many bytes as the query says, from a file."""
    size = int(environ["QUERY_STRING"])
    content = tempfile.TemporaryFile()
    content.write(b"x" * size)
    content.seek(0)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](content)


class Closing:
    """One piece, and a ``close()`` that takes a millisecond, as a framework's does that has much to clean up."""

    def __init__(self, piece):
        self.piece = piece

    def __iter__(self):
        yield self.piece

    def close(self):
        time.sleep(0.001)


def closing(environ, start_response):
    """As many bytes as the query says, all at once."""
    size = int(environ["QUERY_STRING"] or 1)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(size))])
    return Closing(b"x" * size)


PATHS = {"hold": hold, "drip": drip, "peer": peer, "file": file, "closing": closing}
