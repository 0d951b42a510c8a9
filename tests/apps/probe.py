"""An application that tells what it was given. Each path is one question."""

import hashlib
import json
import os
import threading
import time

LOCK = threading.Lock()


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").split("/")[0] or "hello"
    return PATHS.get(name, echo)(environ, start_response)


def reply(start_response, body, status="200 OK", headers=()):
    head = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers]
    start_response(status, head)
    return [body]


def hello(environ, start_response):
    return reply(start_response, b"hello")


def pid(environ, start_response):
    return reply(start_response, b"%d" % os.getpid())


def thread(environ, start_response):
    return reply(start_response, b"%d" % threading.get_ident())


def echo(environ, start_response):
    """The request as the application sees it, without what differs from connection to connection."""
    keys = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "RAW_URI", "SERVER_PROTOCOL")
    seen = {key: environ.get(key) for key in keys}
    seen["scheme"] = environ["wsgi.url_scheme"]
    seen["headers"] = {key: value for key, value in sorted(environ.items()) if key.startswith(("HTTP_", "CONTENT_"))}
    seen["body"] = environ["wsgi.input"].read().decode("latin-1")
    return reply(start_response, json.dumps(seen).encode())


def environ_(environ, start_response):
    """Every variable whose value is plain, and the type of the others."""
    plain = {key: value for key, value in environ.items() if isinstance(value, (str, int, bool, tuple))}
    types = {key: type(value).__name__ for key, value in environ.items() if key not in plain}
    return reply(start_response, json.dumps({"plain": plain, "types": types}).encode())


def variable(environ, start_response):
    """Variables of the process's environment, by name in the query."""
    return reply(start_response, os.environ.get(environ["QUERY_STRING"], "").encode())


def identity(environ, start_response):
    seen = {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "cwd": os.getcwd()}
    return reply(start_response, json.dumps(seen).encode())


def sleep(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"] or 1))
    return reply(start_response, b"slept")


def burn(environ, start_response):
    """Python code that never waits."""
    end = time.monotonic() + float(environ["QUERY_STRING"])
    count = 0
    while time.monotonic() < end:
        count += 1
    return reply(start_response, b"burnt")


def lock(environ, start_response):
    """Everybody waits for the one that sleeps with the lock."""
    with LOCK:
        time.sleep(float(environ["QUERY_STRING"]))
    return reply(start_response, b"locked")


def upload(environ, start_response):
    """Length and checksum of the body, read as an application would."""
    digest, size = hashlib.sha256(), 0
    while chunk := environ["wsgi.input"].read(65536):
        digest.update(chunk)
        size += len(chunk)
    return reply(start_response, f"{size} {digest.hexdigest()}".encode())


def size(environ, start_response):
    """A body of as many bytes as the query says, length unknown to the server."""
    count = int(environ["QUERY_STRING"])

    def pieces():
        left = count
        while left:
            piece = b"x" * min(left, 10_000)
            left -= len(piece)
            yield piece

    start_response("200 OK", [("Content-Type", "text/plain")])
    return pieces()


def whole(environ, start_response):
    """The same, given in one piece."""
    return reply(start_response, b"x" * int(environ["QUERY_STRING"]))


def status(environ, start_response):
    """The status in the query, with a body that some of them must not have."""
    start_response(environ["QUERY_STRING"].replace("+", " "), [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"body"]


def noread(environ, start_response):
    """Leaves the body alone."""
    return reply(start_response, b"not read")


PATHS = {
    "hello": hello,
    "pid": pid,
    "thread": thread,
    "echo": echo,
    "environ": environ_,
    "variable": variable,
    "identity": identity,
    "sleep": sleep,
    "burn": burn,
    "lock": lock,
    "upload": upload,
    "size": size,
    "whole": whole,
    "status": status,
    "noread": noread,
}
