"""Well-behaved endpoints behind ``wsgiref.validate``: what the validator dislikes raises, and so is a 500."""

import hashlib
import json
from wsgiref.validate import validator

TEXT = ("Content-Type", "text/plain; charset=utf-8")


class Pieces:
    """An iterable that must be closed; the validator complains if it is not."""

    closed = 0

    def __init__(self, *pieces):
        self._pieces = iter(pieces)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._pieces)

    def close(self):
        Pieces.closed += 1


def listed(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "6")])
    return [b"abc", b"def"]


def single(environ, start_response):
    start_response("200 OK", [TEXT])
    return [b"abcdef"]


def generated(environ, start_response):
    start_response("200 OK", [TEXT])
    return (piece for piece in (b"abc", b"", b"def"))


def late(environ, start_response):
    """Calls start_response in the generator, at the first piece."""
    start_response("200 OK", [TEXT])
    yield b"abcdef"


def closing(environ, start_response):
    start_response("200 OK", [TEXT])
    return Pieces(b"abc", b"def")


def written(environ, start_response):
    write = start_response("200 OK", [TEXT])
    write(b"abc")
    write(b"d")
    return [b"ef"]


def empty(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "0")])
    return []


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def moved(environ, start_response):
    start_response("302 Found", [TEXT, ("Location", "/elsewhere"), ("Content-Length", "0")])
    return []


def cookies(environ, start_response):
    start_response("200 OK", [TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Latin", "caf\xe9")])
    return [b"abcdef"]


def complaint(environ, start_response):
    environ["wsgi.errors"].write("validated complaint\n")
    environ["wsgi.errors"].writelines(["and ", "another\n"])
    environ["wsgi.errors"].flush()
    return single(environ, start_response)


def digest(environ, start_response):
    """How much came and its checksum, read in the way that the query names."""
    stream = environ["wsgi.input"]
    data = READERS[environ["QUERY_STRING"]](stream)
    body = json.dumps([len(data), hashlib.sha256(data).hexdigest()]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _all(read):
    return b"".join(iter(read, b""))


READERS = {
    "read": lambda stream: _all(lambda: stream.read(8192)),
    "readline": lambda stream: _all(stream.readline),
    "readlines": lambda stream: b"".join(stream.readlines()),
    "iter": lambda stream: b"".join(stream),
}

PATHS = {
    "list": listed,
    "single": single,
    "generator": generated,
    "late": late,
    "closing": closing,
    "write": written,
    "empty": empty,
    "204": no_content,
    "304": not_modified,
    "302": moved,
    "cookies": cookies,
    "complaint": complaint,
    "digest": digest,
}

# One validator for each: it wraps what start_response and the iterable do.
VALIDATED = {name: validator(endpoint) for name, endpoint in PATHS.items()}


def app(environ, start_response):
    return VALIDATED[environ["PATH_INFO"].strip("/")](environ, start_response)
