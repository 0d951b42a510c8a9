"""Clients that send slowly, or not at all: they cost a connection, not a worker, and get 408 in the end."""

import time

import pytest
from raw_cases import post

from harness import request

REASON = "a slow client holds a thread, and no limit but the worker's own timeout ends it"


@pytest.fixture(scope="module")
def impatient(module_server):
    return module_server("-k", "sync", "--header-timeout", "1", "--body-timeout", "1", "--timeout", "3")


@pytest.mark.only_ferricorn(REASON)
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET", id="request line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: te", id="field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: test\r\n", id="no empty line"),
        pytest.param(post(b"Content-Length: 10\r\n", b"hello"), id="body"),
        pytest.param(post(b"Transfer-Encoding: chunked\r\n", b"a\r\nhel"), id="chunk"),
        pytest.param(post(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n"), id="next chunk"),
    ],
)
def test_408(impatient, raw):
    with impatient.connect() as client:
        begun = time.monotonic()
        client.send(raw)
        response = client.response()
        assert (response.status, response.reason) == (408, "Request Timeout")
        assert response.header("Connection") == "close"
        assert client.at_end()
        assert 0.8 < time.monotonic() - begun < 2.5


@pytest.mark.only_ferricorn(REASON)
def test_head_by_drops_is_limited_as_a_whole(impatient):
    """One byte now and then does not extend the time for the head."""
    with impatient.connect() as client:
        begun = time.monotonic()
        for byte in b"GET / HTTP/1.1\r\nHost: test\r\nX-Long: " + b"a" * 100:
            if not client.send(bytes([byte])) or time.monotonic() - begun > 3:
                break
            time.sleep(0.1)
        assert client.response().status == 408


@pytest.mark.only_ferricorn(REASON)
def test_body_that_goes_on_is_not_cut(impatient):
    """The limit is for a pause, not for the whole body."""
    with impatient.connect() as client:
        client.send([post(b"Content-Length: 8\r\n")] + [b"a"] * 8, pause=0.3)
        assert client.response().status == 200


@pytest.mark.only_ferricorn(REASON)
def test_slow_clients_hold_no_worker(impatient):
    """One worker, one thread; forty clients that send half a request; everybody else is served at once."""
    clients = [impatient.connect() for _ in range(40)]
    try:
        for index, client in enumerate(clients):
            client.send(post(b"Content-Length: 10\r\n", b"h") if index % 2 else b"GET / HTTP/1.1\r\n")
        for _ in range(20):
            begun = time.monotonic()
            assert impatient.get("/").body == b"hello"
            assert time.monotonic() - begun < 0.5
    finally:
        for client in clients:
            client.sock.close()


@pytest.mark.only_ferricorn(REASON)
def test_silent_connection_holds_no_worker(impatient):
    """A browser's spare connection."""
    with impatient.connect(), impatient.connect():
        begun = time.monotonic()
        assert impatient.get("/").body == b"hello"
        assert time.monotonic() - begun < 0.5


@pytest.mark.only_ferricorn(REASON)
def test_slow_reader_holds_no_worker(impatient):
    """A response that its client does not read blocks nobody once the application has given all of it."""
    with impatient.connect() as client:
        client.send(request("/status?200+OK"))
        client.send(request("/whole?30000000"))
        time.sleep(0.3)
        for _ in range(10):
            assert impatient.get("/").body == b"hello"


def test_worker_outlives_slow_clients(server):
    target = server("-k", "gthread", "--threads", "2", "--timeout", "10")
    before = target.workers()
    for _ in range(5):
        with target.connect() as client:
            client.send(b"GET / HT")
    assert target.get("/").body == b"hello"
    assert target.workers() == before
