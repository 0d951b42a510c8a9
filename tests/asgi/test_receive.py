"""Bodies as ``receive()`` gives them, in whatever way it is awaited; Expect: 100-continue."""

import ast
import hashlib
import time

import pytest

from harness import ASGI, exchange, request

APP = "asgi_probe:app"
ours = pytest.mark.only_ferricorn
LARGE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(200_000))
BODIES = {
    "empty": b"",
    "one": b"x",
    "crlf": b"one\r\n\r\ntwo\r\n0\r\n\r\n",
    "binary": bytes(range(256)),
    "64 KiB": LARGE[:65536],
    "64 KiB and one": LARGE[:65537],
    "large": LARGE,
}
CHUNKED = b"Transfer-Encoding: chunked\r\n"
WAYS = ["in_task", "in_future", "in_shield", "echo", "never_awaited"]
WAITING_WAYS = ["in_wait_for", "in_anyio"]


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


def post(path, fields=b"", body=b""):
    return b"POST %s HTTP/1.1\r\nHost: test\r\n%s\r\n%s" % (path.encode(), fields, body)


def chunks(body, sizes):
    """The body in chunks of these sizes, over and over."""
    coded, at, index = bytearray(), 0, 0
    while at < len(body):
        piece = body[at : at + sizes[index % len(sizes)]]
        coded += b"%x\r\n%s\r\n" % (len(piece), piece)
        at, index = at + len(piece), index + 1
    return bytes(coded) + b"0\r\n\r\n"


def value(response):
    assert response.status == 200, response
    return ast.literal_eval(response.body.decode())


def same(response, body):
    seen = value(response)
    assert (seen["size"], seen["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    return seen["messages"]


@pytest.mark.parametrize("name", BODIES)
def test_content_length(running, name):
    body = BODIES[name]
    messages = same(running.get("/upload", "POST", body=body, timeout=20), body)
    assert (messages == 1) == (len(body) < 65536) or 65536 <= len(body) <= 65537


@pytest.mark.parametrize("sizes", [(1, 2, 3), (65536,), (7, 100_000), (1 << 23,)], ids=str)
@pytest.mark.parametrize("name", ["empty", "crlf", "binary", "64 KiB", "large"])
def test_chunked(running, name, sizes):
    body = BODIES[name][: 20_000 if sizes[0] == 1 else None]
    with running.connect(20) as client:
        client.send(post("/upload", CHUNKED, chunks(body, sizes)))
        same(client.response(), body)
        assert client.request("/pid").status == 200, "what follows the body is a request of its own"


def test_chunk_extensions_and_trailers(running):
    raw = post("/echo", CHUNKED, b"3;name=value\r\none\r\n3;a\r\ntwo\r\n0\r\nX-Trailer: x\r\n\r\n")
    assert exchange(running.address, raw).responses[0].body == b"onetwo"


@pytest.mark.parametrize("path", ["/messages?1"])
def test_request_without_a_body(running, path):
    message = {"type": "http.request", "body": b"", "more_body": False}
    assert value(running.get(path)) == [message]
    assert value(running.get(path, "POST", body=b"")) == [message]
    assert value(running.get(path, "POST", body=b"abc")) == [{**message, "body": b"abc"}]


def test_pieces_reach_the_application_when_they_come(running):
    """The application answers each before the next is sent."""
    with running.connect() as client:
        client.send(post("/pieces", b"Content-Length: 9\r\n"))
        for piece in (b"one", b"two", b"end"):
            client.send(piece)
            while piece not in client.data:
                assert not client.closed, client.data
                client._receive()
        assert client.response().body == b"onetwoend"


def test_head_before_the_body_is_read(running):
    with running.connect() as client:
        client.send(post("/respond_first", b"Content-Length: 4\r\n"))
        while b"head first" not in client.data:
            client._receive()
        client.send(b"body")
        assert client.response().body == b"head first, body"


def test_slow_upload_with_pauses_of_the_reader(running):
    with running.connect(20) as client:
        client.send(post("/late_read?0.3", b"Content-Length: %d\r\n" % len(LARGE)))
        assert client.send([LARGE[at : at + 500_000] for at in range(0, len(LARGE), 500_000)], pause=0.01)
        same(client.response(), LARGE)


@pytest.mark.parametrize("size", [0, 10, 1_000_000])
def test_body_that_is_not_read(running, size):
    """The client gets its response; what follows is the next request, or the end of the connection."""
    with running.connect() as client:
        client.send(post("/noread", b"Content-Length: %d\r\n" % size, b"x" * size) + request("/pid", close=True))
        assert client.response().body == b"not read"
        if size <= 10:
            assert client.response().status == 200


# in every way


@pytest.mark.parametrize("path", WAYS)
def test_way_of_waiting(running, path):
    assert running.get(f"/{path}", "POST", body=b"body").body == (b"body")
    with running.connect() as client:
        client.send([post(f"/{path}", b"Content-Length: 4\r\n"), b"body"], pause=0.05)
        assert client.response().body == b"body"
        assert client.request(f"/{path}", "POST", body=b"again").body == b"again"


@pytest.mark.parametrize("path", WAITING_WAYS)
def test_waiting_that_is_given_up_loses_nothing(running, path):
    with running.connect() as client:
        pieces = [b"one ", b"two ", b"three"]
        client.send([post(f"/{path}", b"Content-Length: 13\r\n"), *pieces], pause=0.07)
        assert value(client.response()) == {"body": b"".join(pieces), "waited": True}
    with running.connect() as client:
        client.send([post(f"/{path}", CHUNKED), b"4\r\none \r\n9\r", b"\ntwo three\r\n0\r\n", b"\r\n"], pause=0.07)
        assert value(client.response()) == {"body": b"one two three", "waited": True}


def test_two_wait_at_once(running):
    with running.connect() as client:
        client.send([post("/in_two_tasks", b"Content-Length: 12\r\n"), b"one ", b"two ", b"more"], pause=0.05)
        assert client.response().body == b"one two more"
    assert running.get("/in_two_tasks", "POST", body=b"at once").body == b"at once"


def test_send_in_every_way(running):
    for _ in range(3):
        response = running.get("/sends_in_tasks")
        assert (response.status, response.body) == (200, b"one two three")


# Expect: 100-continue

EXPECT = b"Expect: 100-continue\r\nContent-Length: 4\r\n"


def test_continue_when_the_application_first_receives(running):
    with running.connect() as client:
        client.send(post("/echo", EXPECT))
        while not client.data.endswith(b"\r\n\r\n"):
            client._receive()
        assert client.data == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"body")
        response = client.response()
        assert ([interim.status for interim in response.interim], response.body) == ([100], b"body")
        assert client.request("/pid").interim == []


def test_continue_not_before_the_application_receives(running):
    with running.connect() as client:
        begun = time.monotonic()
        client.send(post("/late_read?0.4", EXPECT))
        client._receive()
        assert time.monotonic() - begun > 0.35 and client.data == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"body")
        same(client.response(), b"body")


def test_no_continue_for_who_does_not_read(running):
    """The client then keeps its body to itself, and the connection cannot go on."""
    with running.connect() as client:
        client.send(post("/noread", EXPECT))
        response = client.response()
        assert (response.status, response.interim, response.body) == (200, [], b"not read")


def test_no_continue_after_the_head_of_the_response(running):
    with running.connect() as client:
        client.send([post("/respond_first", EXPECT), b"body"], pause=0.1)
        response = client.response()
        assert (response.interim, response.body) == ([], b"head first, body")


# what is malformed, and what never ends


@pytest.mark.parametrize(
    "body",
    [b"x\r\n", b"5\r\nhello!\r\n0\r\n\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"3\r\nabc\r\n\r\n"],
    ids=["size", "length", "negative", "huge", "empty size"],
)
def test_malformed_chunks(running, body):
    """No application sees it as a whole body."""
    with running.connect() as client:
        client.send(post("/echo", CHUNKED, body))
        try:
            response = client.response()
            assert response.status == 400, response
        except EOFError:
            assert client.data == b""
        assert client.at_end()


@ours("no limit holds while a body is waited for")
def test_client_that_stops_sending(server):
    running = server("-k", ASGI, "--body-timeout", "1", app=APP)
    with running.connect() as client:
        begun = time.monotonic()
        client.send(post("/echo", b"Content-Length: 10\r\n", b"half"))
        assert client.response().status == 408
        assert 0.8 < time.monotonic() - begun < 2.5
        assert client.at_end()
