"""Misbehaving applications: each path breaks PEP 3333 in one way, or raises at one moment.

``/pid``, ``/say?TEXT`` (into the error log) and ``/closed`` (how many iterables were closed) are well behaved.
"""

import os
import sys

OK = "200 OK"
TEXT = [("Content-Type", "text/plain")]
FAULTS = {}


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    return {**FAULTS, **HONEST}[name](environ, start_response)


def fault(function):
    FAULTS[function.__name__.strip("_")] = function
    return function


class Counted:
    """An iterable that counts how often its kind was closed."""

    closed = 0

    def __init__(self, *pieces, at_close=None):
        self.pieces = pieces
        self.at_close = at_close

    def __iter__(self):
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self):
        Counted.closed += 1
        if self.at_close:
            raise self.at_close


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("not even its text")

    __repr__ = __str__


class Foreign(BaseException):
    """What ``except Exception`` does not catch."""


# Raised before a byte of the response has gone out.


@fault
def before_start(environ, start_response):
    raise RuntimeError("before start_response")


@fault
def after_start(environ, start_response):
    start_response(OK, TEXT)
    raise RuntimeError("after start_response")


@fault
def first_next(environ, start_response):
    start_response(OK, TEXT)
    return Counted(RuntimeError("at the first piece"))


@fault
def in_generator(environ, start_response):
    start_response(OK, TEXT)
    raise RuntimeError("in the generator")
    yield b"never"


@fault
def after_empty_piece(environ, start_response):
    """An empty piece is no byte: PEP 3333 lets the head wait for the first that is not empty."""
    start_response(OK, TEXT)
    return Counted(b"", b"", RuntimeError("after an empty piece"))


@fault
def iter_raises(environ, start_response):
    class Sealed:
        def __iter__(self):
            raise RuntimeError("no iterator")

        def close(self):
            Counted.closed += 1

    start_response(OK, TEXT)
    return Sealed()


@fault
def memory_error(environ, start_response):
    raise MemoryError("said the application")


@fault
def recursion(environ, start_response):
    return recursion(environ, start_response)


@fault
def unspeakable(environ, start_response):
    raise Unspeakable


@fault
def stop_iteration(environ, start_response):
    raise StopIteration("stray")


@fault
def os_error(environ, start_response):
    raise FileNotFoundError("a file of the application")


@fault
def broken_pipe(environ, start_response):
    raise BrokenPipeError("a pipe of the application's, not the client's")


@fault
def timeout_error(environ, start_response):
    raise TimeoutError("some service did not answer")


@fault
def system_exit(environ, start_response):
    raise SystemExit(3)


@fault
def sys_exit_zero(environ, start_response):
    sys.exit()


@fault
def keyboard_interrupt(environ, start_response):
    raise KeyboardInterrupt


@fault
def foreign(environ, start_response):
    raise Foreign("not an Exception")


@fault
def generator_exit(environ, start_response):
    raise GeneratorExit


@fault
def system_exit_in_iterator(environ, start_response):
    start_response(OK, TEXT)
    return Counted(SystemExit(4))


# Calls and values that PEP 3333 forbids.


@fault
def twice(environ, start_response):
    start_response(OK, TEXT)
    start_response(OK, TEXT)
    return [b"body"]


@fault
def never_started(environ, start_response):
    return [b"body"]


@fault
def never_started_empty(environ, start_response):
    return []


@fault
def never_started_closed(environ, start_response):
    return Counted(b"body")


@fault
def one_argument(environ, start_response):
    start_response(OK)
    return []


def returns(value):
    def endpoint(environ, start_response):
        start_response(OK, TEXT)
        return value

    return endpoint


class Readable:
    """Something, but no iterable."""

    def read(self, size=-1):
        return b""


RETURNED = {
    "none": None,
    "int": 5,
    "object": Readable(),
    "str": "text",
    "list_of_str": ["text"],
    "list_of_int": [1, 2],
    "list_of_none": [None],
    "bytearray_piece": [bytearray(b"mutable")],
    "memoryview_piece": [memoryview(b"view")],
    "bytes": b"a bytes object is an iterable of int",
    "dict": {"key": "value"},
}
FAULTS |= {f"return_{name}": returns(value) for name, value in RETURNED.items()}


def starts(status, headers):
    def endpoint(environ, start_response):
        start_response(status, headers)
        return [b"body"]

    return endpoint


STATUSES = {
    "bytes": b"200 OK",
    "int": 200,
    "none": None,
    "empty": "",
    "words": "OK",
    "two_digits": "20 OK",
    "four_digits": "2000 OK",
    "no_space": "200OK",
    "crlf": "200 OK\r\nX-Injected: yes",
    "lf": "200 OK\nX-Injected: yes",
    "nul": "200 O\0K",
    "not_latin_1": "200 \u20ac",
}
FAULTS |= {f"status_{name}": starts(status, TEXT) for name, status in STATUSES.items()}

HEADERS = {
    "none": None,
    "int": 7,
    "item_none": [None],
    "item_short": [("X-One",)],
    "item_long": [("X-One", "1", "2")],
    "name_bytes": [(b"X-One", "1")],
    "name_int": [(1, "1")],
    "name_empty": [("", "1")],
    "name_space": [("X One", "1")],
    "name_colon": [("X-One:", "1")],
    "name_crlf": [("X-One\r\nX-Injected", "1")],
    "name_not_ascii": [("X-\xe9", "1")],
    "value_bytes": [("X-One", b"1")],
    "value_int": [("X-One", 1)],
    "value_none": [("X-One", None)],
    "value_crlf": [("X-One", "1\r\nX-Injected: yes")],
    "value_lf": [("X-One", "1\nX-Injected: yes")],
    "value_cr": [("X-One", "1\rX-Injected: yes")],
    "value_nul": [("X-One", "1\0")],
    "value_not_latin_1": [("X-One", "\u20ac")],
    "length_word": [("Content-Length", "many")],
    "length_empty": [("Content-Length", "")],
}
FAULTS |= {f"header_{name}": starts(OK, headers) for name, headers in HEADERS.items()}


# Raised after bytes have gone out.


@fault
def piece_then_error(environ, start_response):
    start_response(OK, TEXT)
    return Counted(b"sent", RuntimeError("after a piece"))


@fault
def length_piece_then_error(environ, start_response):
    start_response(OK, [*TEXT, ("Content-Length", "100")])
    return Counted(b"sent", RuntimeError("after a piece"))


@fault
def write_then_error(environ, start_response):
    start_response(OK, TEXT)(b"sent")
    raise RuntimeError("after write")


@fault
def piece_then_exit(environ, start_response):
    start_response(OK, TEXT)
    return Counted(b"sent", SystemExit(5))


@fault
def piece_then_str(environ, start_response):
    start_response(OK, TEXT)
    return Counted(b"sent", "text")


@fault
def write_then_none(environ, start_response):
    start_response(OK, TEXT)(b"sent")


@fault
def exc_info_too_late(environ, start_response):
    start_response(OK, TEXT)(b"sent")
    try:
        raise RuntimeError("found out too late")
    except RuntimeError:
        start_response("500 Error", TEXT, sys.exc_info())
    return [b"never sent"]


@fault
def start_too_late(environ, start_response):
    start_response(OK, TEXT)
    yield b"sent"
    start_response(OK, TEXT)


# Raised when all of the response has been given.


@fault
def close_raises(environ, start_response):
    start_response(OK, TEXT)
    return Counted(b"all of it", at_close=RuntimeError("in close"))


@fault
def close_exits(environ, start_response):
    start_response(OK, [*TEXT, ("Content-Length", "9")])
    return Counted(b"all of it", at_close=SystemExit(6))


def pid(environ, start_response):
    start_response(OK, TEXT)
    return [b"%d" % os.getpid()]


def say(environ, start_response):
    environ["wsgi.errors"].write(f"said {environ['QUERY_STRING']}\n")
    return pid(environ, start_response)


def closed(environ, start_response):
    start_response(OK, TEXT)
    return [b"%d" % Counted.closed]


HONEST = {"pid": pid, "say": say, "closed": closed}
