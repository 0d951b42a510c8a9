"""Gives the logs something to say. The query of ``/answer`` is ``status&pieces&name=value…``."""

import logging
import os
import sys
import time
from urllib.parse import parse_qsl, unquote_plus

OK = "200 OK"
TEXT = [("Content-Type", "text/plain")]


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").split("/")[0]
    return PATHS.get(name, hello)(environ, start_response)


def hello(environ, start_response):
    start_response(OK, [*TEXT, ("Content-Length", "5")])
    return [b"hello"]


def answer(environ, start_response):
    status, pieces, *fields = environ["QUERY_STRING"].split("&")
    start_response(unquote_plus(status), parse_qsl("&".join(fields), encoding="latin-1"))
    return (b"x" * int(size) for size in pieces.split(",") if size)


def write(environ, start_response):
    write = start_response(OK, TEXT)
    write(b"12345")
    return [b"678"]


def file(environ, start_response):
    start_response(OK, TEXT)
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))


def sleep(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return hello(environ, start_response)


def fail(environ, start_response):
    raise RuntimeError("application failed")


def fail_late(environ, start_response):
    start_response(OK, TEXT)
    yield b"sent"
    raise RuntimeError("application failed late")


def prints(environ, start_response):
    """By Python's streams, by descriptor, and from a child."""
    print("printed on stdout", flush=True)
    print("printed on stderr", file=sys.stderr, flush=True)
    os.write(1, b"written to 1\n")
    os.write(2, b"written to 2\n")
    os.spawnl(os.P_WAIT, "/bin/echo", "echo", "said by a child")
    environ["wsgi.errors"].write("said to wsgi.errors\n")
    return hello(environ, start_response)


def loggers(environ, start_response):
    """By the application's own loggers, and by Gunicorn's, which many applications write to."""
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logging.getLogger("gunicorn.error"), level)("own %s", level)
    logging.getLogger("my.app").warning("warned by %s", "the application")
    logging.getLogger("gunicorn.access").info("own access line")
    return hello(environ, start_response)


PATHS = {
    "answer": answer,
    "write": write,
    "file": file,
    "sleep": sleep,
    "fail": fail,
    "fail_late": fail_late,
    "prints": prints,
    "loggers": loggers,
}
