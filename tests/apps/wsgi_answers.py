"""Applications that use start_response, write() and iterables in every way that PEP 3333 or Gunicorn allows."""

import os
import sys
import time

OK = "200 OK"
TEXT = [("Content-Type", "text/plain")]
PATHS = {}


def app(environ, start_response):
    return PATHS[environ["PATH_INFO"].strip("/")](environ, start_response)


def path(function):
    PATHS[function.__name__.strip("_")] = function
    return function


@path
def pid(environ, start_response):
    start_response(OK, TEXT)
    return [b"%d" % os.getpid()]


# start_response


@path
def replaced(environ, start_response):
    """A second head, given with exc_info before any byte went out, replaces all of the first."""
    start_response(OK, [*TEXT, ("X-First", "1"), ("Content-Length", "3"), ("Set-Cookie", "a=1")])
    try:
        raise ValueError("changed its mind")
    except ValueError:
        start_response("503 Later", [("X-Second", "2")], sys.exc_info())
    return [b"sorry"]


@path
def replaced_by_keyword(environ, start_response):
    start_response(OK, TEXT)
    try:
        raise ValueError("changed its mind")
    except ValueError:
        start_response(status="503 Later", headers=[("X-Second", "2")], exc_info=sys.exc_info())
    return [b"sorry"]


@path
def replaced_in_iterator(environ, start_response):
    start_response(OK, TEXT)
    yield b""
    try:
        raise ValueError("changed its mind")
    except ValueError:
        start_response("503 Later", [("X-Second", "2")], sys.exc_info())
    yield b"sorry"


@path
def exc_info_first(environ, start_response):
    """The first call may have exc_info too."""
    try:
        raise ValueError("right away")
    except ValueError:
        start_response("503 Later", [("X-Second", "2")], sys.exc_info())
    return [b"sorry"]


@path
def exc_info_none(environ, start_response):
    start_response(OK, TEXT, None)
    return [b"body"]


@path
def second_after_refused(environ, start_response):
    """A head that was refused is none: the application may try again."""
    try:
        start_response("nonsense", TEXT)
    except Exception:
        start_response("400 Bad", TEXT)
    return [b"body"]


def headers_as(kind):
    def endpoint(environ, start_response):
        start_response(OK, kind({"X-One": "1", "X-Two": "2"}))
        return [b"body"]

    return endpoint


class Heads(list):
    """A list of a framework's own."""


PATHS |= {
    "headers_list": headers_as(lambda pairs: list(pairs.items())),
    "headers_tuple": headers_as(lambda pairs: tuple(pairs.items())),
    "headers_items": headers_as(lambda pairs: pairs.items()),
    "headers_generator": headers_as(lambda pairs: (pair for pair in pairs.items())),
    "headers_list_of_lists": headers_as(lambda pairs: [list(pair) for pair in pairs.items()]),
    "headers_subclass": headers_as(lambda pairs: Heads(pairs.items())),
}


@path
def headers_changed_later(environ, start_response):
    """Gunicorn looks at the list once, in start_response."""
    headers = [("X-One", "1")]
    start_response(OK, headers)
    headers.append(("X-Two", "2"))
    return [b"body"]


@path
def status(environ, start_response):
    start_response(environ["QUERY_STRING"].replace("+", " "), TEXT)
    return [b"body"]


@path
def header(environ, start_response):
    """One field, named by the query: ``name=value``."""
    name, _, value = environ["QUERY_STRING"].partition("=")
    start_response(OK, [(name, value.replace("+", " ")), ("X-Last", "yes")])
    return [b"body"]


@path
def length(environ, start_response):
    """``/length?SAID:PIECE,PIECE``: a Content-Length, and pieces of so many bytes."""
    said, _, sizes = environ["QUERY_STRING"].partition(":")
    start_response(OK, [*TEXT, ("Content-Length", said)])
    return (b"x" * int(size) for size in sizes.split(",") if size)


# write()


@path
def write_only(environ, start_response):
    write = start_response(OK, TEXT)
    write(b"one ")
    write(b"")
    write(b"two")
    return []


@path
def write_then_pieces(environ, start_response):
    start_response(OK, TEXT)(b"one ")
    yield b"two "
    yield b"three"


@path
def write_in_iterator(environ, start_response):
    write = start_response(OK, TEXT)
    yield b"one "
    write(b"two ")
    yield b"three"


@path
def write_with_length(environ, start_response):
    write = start_response(OK, [("Content-Length", "7")])
    write(b"one ")
    write(b"two and more")
    return [b"and more"]


@path
def write_by_keyword(environ, start_response):
    write = start_response(OK, headers=TEXT)
    write(bytes(b"body"))
    return ()


@path
def write_much(environ, start_response):
    write = start_response(OK, TEXT)
    for _ in range(40):
        write(b"x" * 100_000)
    return []


KEPT = []


@path
def write_kept(environ, start_response):
    KEPT[:] = [start_response(OK, TEXT), environ["wsgi.input"], environ["gunicorn.socket"]]
    return [b"kept"]


@path
def write_used_later(environ, start_response):
    """What was kept of a request that is over must not reach anybody."""
    try:
        KEPT[0](b"ghost")
        told = b"nothing"
    except Exception:
        told = b"an error"
    start_response(OK, TEXT)
    return [told]


# iterables


class OldProtocol:
    """Iterable only by __getitem__."""

    def __getitem__(self, index):
        return (b"one ", b"two")[index]


class Sized:
    """Says how many pieces it has."""

    def __iter__(self):
        return iter([b"one ", b"two"])

    def __len__(self):
        return 2


class Bytes(bytes):
    """A bytes object of a framework's own."""


class Pieces(list):
    """A list with a close()."""

    closed = 0

    def close(self):
        Pieces.closed += 1


def returns(make):
    def endpoint(environ, start_response):
        start_response(OK, TEXT)
        return make()

    return endpoint


ITERABLES = {
    "list": lambda: [b"one ", b"two"],
    "tuple": lambda: (b"one ", b"two"),
    "generator": lambda: (piece for piece in (b"one ", b"two")),
    "iterator": lambda: iter([b"one ", b"two"]),
    "set": lambda: {b"one two"},
    "dict_of_bytes": lambda: {b"one ": 1, b"two": 2},
    "map": lambda: map(bytes, [b"one ", b"two"]),
    "old_protocol": OldProtocol,
    "sized": Sized,
    "empty_pieces": lambda: [b"", b"one ", b"", b"two", b""],
    "bytes_subclass": lambda: [Bytes(b"one "), Bytes(b"two")],
    "list_subclass": lambda: Pieces([b"one ", b"two"]),
    "callable_sentinel": lambda: iter(iter([b"one ", b"two", b"", b"never"]).__next__, b""),
}
PATHS |= {f"iterable_{name}": returns(make) for name, make in ITERABLES.items()}


class Counted:
    """Counts what of it was asked for, and whether it was closed."""

    asked = 0
    closed = 0

    def __init__(self, count, piece, pause=0.0):
        self.count, self.piece, self.pause = count, piece, pause
        Counted.asked = 0

    def __iter__(self):
        for _ in range(self.count):
            Counted.asked += 1
            time.sleep(self.pause)
            yield self.piece

    def close(self):
        Counted.closed += 1


def counted(status, count, piece=b"piece", pause=0.0):
    def endpoint(environ, start_response):
        start_response(status, TEXT)
        return Counted(count, piece, pause)

    return endpoint


PATHS |= {
    "counted": counted(OK, 3),
    "counted_204": counted("204 No Content", 3),
    "counted_304": counted("304 Not Modified", 3),
    "counted_none": counted(OK, 0),
    "endless": counted(OK, 1_000_000, b"x" * 10_000, 0.001),
}


@path
def counts(environ, start_response):
    start_response(OK, TEXT)
    return [b"%d %d" % (Counted.closed, Pieces.closed)]


@path
def steps(environ, start_response):
    """Each piece on its way before the next is asked for: the second waits for the file that the query names."""
    start_response(OK, TEXT)
    yield b"first"
    end = time.monotonic() + 5
    while not os.path.exists(environ["QUERY_STRING"]) and time.monotonic() < end:
        time.sleep(0.01)
    yield b"second" if os.path.exists(environ["QUERY_STRING"]) else b"too late"


@path
def written_steps(environ, start_response):
    write = start_response(OK, TEXT)
    for piece in steps(environ, lambda *_: None):
        write(piece)
    return []


# wsgi.early_hints


@path
def hints(environ, start_response):
    hint = environ["wsgi.early_hints"]
    hint([("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
    hint([(b"Link", b"</c.png>; rel=preload")])
    start_response(OK, TEXT)
    hint([("X-Before-The-Head", "yes")])
    yield b"one "
    hint([("X-Too-Late", "yes")])
    yield b"two"


@path
def bad_hint(environ, start_response):
    name, _, value = environ["QUERY_STRING"].partition("=")
    environ["wsgi.early_hints"]([(name.replace("%20", " "), value.replace("CRLF", "\r\n"))])
    start_response(OK, TEXT)
    return [b"body"]
