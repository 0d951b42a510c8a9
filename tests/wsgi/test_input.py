"""``wsgi.input`` gives what ``io.BytesIO`` over the same body would, however the body came."""

import io
import json
import sys

import pytest

from harness import expected, request
from harness.server import APPS

sys.path.insert(0, str(APPS))
from wsgi_input import perform  # noqa: E402

# Large enough to be spooled to a file; Gunicorn reads lines too slowly for that.
LARGE_SIZE = expected(ferricorn=3 << 20, gunicorn=100_000)
LARGE = b"".join(b"line %d of a larger body\n" % number for number in range(120_000))[:LARGE_SIZE]
BODIES = {
    "empty": b"",
    "one": b"x",
    "lf": b"\n",
    "lines": b"one\ntwo\n\nfour",
    "ended": b"one\ntwo\n",
    "crlf": b"one\r\ntwo\rthree\n",
    "binary": bytes(range(256)),
    "no lines": b"y" * 5000,
    "just over 1 KiB": b"a" * 1023 + b"\n" + b"b" * 1025 + b"\nc",
    "large": LARGE,
    "large, no lines": b"z" * LARGE_SIZE,
}
STEPS = [
    "read",
    "read:None",
    "read:-1",
    "read:0,read",
    "read:1,read:2,read:3,read,read",
    "read:100000000,read:1",
    "read:65536,read:65536,read",
    "readline",
    "readline,readline,readline,readline,readline,readline",
    "readline:None,readline:-1,read",
    "readline:0,readline:2,readline:2,readline:100,read",
    "readlines,read",
    "readlines:None,readlines",
    "readlines:-1,readlines",
    "iter,read,readline,readlines,iter",
    "next,next,read:1,next,iter",
    "each,each",
    "read:3,readline,read:2,iter",
    "readline:1000000,read:10,readlines",
]
FRAMINGS = ["length", "chunked", "tiny chunks"]
BOTH = ["sync", "gthread"]


@pytest.fixture(scope="module", params=BOTH)
def running(request, module_server):
    threads = ["--threads", "4"] if request.param == "gthread" else []
    return module_server("-k", request.param, *threads, app="wsgi_input:app")


def message(path, body, framing):
    if framing == "length":
        return request(path, "POST", body=body, close=True)
    size = 30_000 if framing == "chunked" else max(7, len(body) // 500)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return head.encode() + b"".join(b"%X;x=y\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def ask(server, raw):
    with server.connect() as connection:
        connection.send(raw)
        response = connection.response("POST")
    assert response.status == 200
    return json.loads(response.body)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_as_bytesio(running, body, framing):
    wrong = {}
    for steps in STEPS:
        answer = ask(running, message(f"/?{steps}", body, framing))
        right = perform(io.BytesIO(body), steps)
        if answer["steps"] != right:
            wrong[steps] = (answer["steps"], right)
    assert not wrong


@pytest.mark.parametrize("body", [b"one\ntwo\nthree\n", LARGE], ids=["small", "large"])
def test_readlines_with_a_hint_loses_nothing(running, body):
    """PEP 3333 lets the server ignore the hint; Gunicorn does."""
    first, rest = ask(running, message("/?readlines:5,readlines", body, "length"))["steps"]
    lines = body.splitlines(keepends=True)
    assert first[0] >= 1 and first[0] + rest[0] == len(lines)


@pytest.mark.parametrize("steps", ["read:1:2", "readline:1:2"])
def test_too_many_arguments(running, steps):
    assert ask(running, message(f"/?{steps},read", b"body", "length"))["steps"] == ["TypeError", "body"]


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        (request("/", "GET"), None),
        (request("/", "POST", body=b""), "0"),
        (request("/", "POST", body=b"body"), "4"),
        (message("/", b"body", "chunked"), None),
    ],
    ids=["get", "empty", "length", "chunked"],
)
def test_input_terminated(running, raw, length):
    """The end of input is the end of the body: no application need count."""
    answer = ask(running, raw)
    assert (answer["terminated"], answer["length"]) == (True, length)


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PUT", "PATCH"])
def test_any_method_may_have_a_body(running, method):
    raw = message("/?read", b"one\ntwo", "length").replace(b"POST", method.encode(), 1)
    assert ask(running, raw)["steps"] == ["one\ntwo"]


@pytest.mark.parametrize("size", [0, 10, 70_000, 3 << 20])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_unread_body_is_not_the_next_request(running, size, framing):
    """The application looks at none of it, and the connection, if kept, goes on behind it."""
    evil = b"GET /?read HTTP/1.1\r\nHost: evil\r\n\r\n"
    body = (evil * (size // len(evil) + 1))[:size]
    raw = message("/", body, framing).replace(b"Connection: close\r\n", b"", 1)
    with running.connect() as connection:
        connection.send(raw)
        connection.send(request("/?read", "POST", body=b"second", close=True))
        assert json.loads(connection.response().body)["steps"] == []
        try:
            answer = connection.response()
        except EOFError as error:
            assert "HTTP/1.1" not in str(error)
        else:
            assert json.loads(answer.body)["steps"] == ["second"]
        assert connection.at_end()
