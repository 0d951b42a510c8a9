"""Clients that send or read slowly take no thread: neither many of them, nor for long."""

import hashlib
import time

import pytest

from harness import Connection, request, wait_until
from harness.load import Load

THREADED = pytest.param(("-k", "gthread", "--threads", "2"), id="gthread")
SINGLE = pytest.param(("-k", "sync"), id="sync")
HOLDS = pytest.mark.only_ferricorn("a slow client holds a thread")
MANY = 100
LARGE = 8_000_000


class Crowd:
    """Many connections; closed at the end."""

    def __init__(self, target, count):
        self.connections = [target.connect(20.0) for _ in range(count)]

    def __enter__(self):
        return self.connections

    def __exit__(self, *_):
        for connection in self.connections:
            connection.sock.close()


def instant(target, count=50):
    """``count`` instant requests, all answered, almost all at once."""
    seconds = []
    for _ in range(count):
        begun = time.monotonic()
        assert target.get("/hello").body == b"hello"
        seconds.append(time.monotonic() - begun)
    assert sorted(seconds)[int(count * 0.9)] < 0.5


HEAD = request("/echo?slow")
POST = request("/upload", "POST", body=b"0123456789")
CHUNKED = b"POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED += b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"
DIGEST = f"10 {hashlib.sha256(b'0123456789').hexdigest()}".encode()


@HOLDS
@pytest.mark.parametrize("args", [SINGLE, THREADED])
@pytest.mark.parametrize(
    ("raw", "cut", "body"),
    [
        pytest.param(HEAD, 3, None, id="method"),
        pytest.param(HEAD, len(HEAD) - 1, None, id="head"),
        pytest.param(POST, len(POST) - 10, DIGEST, id="no body yet"),
        pytest.param(POST, len(POST) - 1, DIGEST, id="body"),
        pytest.param(CHUNKED, len(CHUNKED) - 12, DIGEST, id="chunk"),
        pytest.param(CHUNKED, len(CHUNKED) - 2, DIGEST, id="last line"),
    ],
)
def test_unfinished_requests(server, args, raw, cut, body):
    """Others are served meanwhile; and when the slow ones have sent all, they are served too."""
    target = server("-w", "1", *args)
    with Crowd(target, MANY) as slow:
        for connection in slow:
            connection.send(raw[:cut])
        instant(target)
        for connection in slow:
            connection.send(raw[cut:])
        for connection in slow:
            response = connection.response()
            assert response.status == 200
            assert body is None or response.body == body


@HOLDS
@pytest.mark.parametrize("args", [SINGLE, THREADED])
def test_bodies_by_drops(server, args):
    """Requests that arrive byte by byte beside load; every one becomes whole."""
    target = server("-w", "1", *args)
    with Crowd(target, MANY) as slow, Load(target.address, rate=50) as load:
        for at in range(len(CHUNKED)):
            for connection in slow:
                connection.send(CHUNKED[at : at + 1])
        assert [connection.response().body for connection in slow] == [DIGEST] * MANY
    result = load.stop()
    assert result.failures == []
    assert result.quantile(0.9) < 0.5


@HOLDS
@pytest.mark.parametrize("args", [SINGLE, THREADED])
@pytest.mark.parametrize("path", ["whole", "file", "closing"])
def test_large_responses_that_nobody_reads(server, args, path):
    """Once the application has given all of it, the rest is the loop's work. In the end each is whole."""
    target = server("-w", "1", *args, app="slow_calls:app")
    if path == "closing":
        # How long that takes is known by experience.
        assert [target.get("/closing?1").status for _ in range(20)] == [200] * 20
    with Crowd(target, 20) as slow:
        for connection in slow:
            connection.send(request(f"/{path}?{LARGE}", close=True))
        instant(target)
        for connection in slow:
            body = read_to_end(connection).body
            assert len(body) == LARGE and body.strip(b"x") == b""


@pytest.mark.parametrize("path", ["size", "whole", "file"])
def test_a_thread_is_left(server, path):
    """Three of four threads feed clients that do not read: the fourth serves the others."""
    target = server("-w", "1", "-k", "gthread", "--threads", "4", app="slow_calls:app")
    with Crowd(target, 3) as slow:
        for connection in slow:
            connection.send(request(f"/{path}?{LARGE * 3}", close=True))
        # The heads come once the application has begun.
        for connection in slow:
            wait_until(lambda connection=connection: received_head(connection), 5.0, "head")
        instant(target)
        for connection in slow:
            body = read_to_end(connection).body
            assert len(body) == LARGE * 3 and body.strip(b"x") == b""


def read_to_end(connection):
    """The response on a connection that the server closes after it; large ones take long piece by piece."""
    pieces = [connection.data]
    while chunk := connection.sock.recv(1 << 20):
        pieces.append(chunk)
    connection.data, connection.closed = b"".join(pieces), True
    return connection.response()


def received_head(connection):
    connection.data += connection.sock.recv(1 << 12)
    return b"\r\n\r\n" in connection.data


@pytest.mark.only_ferricorn("it has no write_timeout")
@pytest.mark.parametrize("path", ["size", "whole", "file"])
def test_write_timeout(server, path):
    """A client that takes nothing for so long is disconnected, and its thread serves others."""
    target = server("-w", "1", "-k", "sync", "--write-timeout", "1", app="slow_calls:app")
    with Crowd(target, 4) as slow:
        for connection in slow:
            connection.send(request(f"/{path}?{LARGE * 4}"))
            assert wait_until(lambda connection=connection: received_head(connection), 15.0, "head")
        begun = time.monotonic()
        assert target.get("/hello", timeout=15.0).body == b"hello"
        assert time.monotonic() - begun < 4.5
        time.sleep(max(0.0, begun + 4.5 - time.monotonic()))
        for connection in slow:
            with pytest.raises(EOFError):
                connection.response()


@pytest.mark.only_ferricorn("it has no write_timeout")
@pytest.mark.parametrize("path", ["size", "whole", "file"])
def test_write_timeout_spares_who_reads(server, path):
    """A client that reads slowly, but reads, gets all of it, however long that takes."""
    target = server("-w", "1", "-k", "sync", "--write-timeout", "1", app="slow_calls:app")
    with Connection(target.address, 10.0) as connection:
        connection.send(request(f"/{path}?{LARGE * 2}", close=True))
        for _ in range(8):
            read_some(connection, LARGE // 5)
            # A slow reader is what this is about.
            time.sleep(0.4)
        body = read_to_end(connection).body
        assert len(body) == LARGE * 2 and body.strip(b"x") == b""


def read_some(connection, count):
    got = bytearray()
    while len(got) < count:
        chunk = connection.sock.recv(1 << 16)
        if not chunk:
            break
        got += chunk
    connection.data += bytes(got)
