"""Requests that wait: how long, with the time in a proxy, and for whom."""

import contextlib
import json
import re
import socket
import struct
import subprocess
import time

import pytest

from harness import request, wait_until
from harness.server import CTL

pytestmark = pytest.mark.only_ferricorn("has no line of requests")

# As nginx, Heroku and Apache write it, and the bare forms.
FORMS = {
    "nginx": lambda at: f"t={at:.3f}",
    "seconds": lambda at: f"{at:.6f}",
    "milliseconds": lambda at: str(int(at * 1e3)),
    "apache": lambda at: f"t={int(at * 1e6)}",
}


def sent(at, form="nginx"):
    """The header of a request that a proxy got at this time."""
    return [("X-Request-Start", FORMS[form](at))]


def workers(target):
    text = subprocess.run([CTL, "workers", "--json", str(target.pid)], capture_output=True, text=True, check=True)
    return json.loads(text.stdout)["workers"]


# --- the wait in a proxy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_wait_in_a_proxy_counts(server, form):
    target = server("--queue-timeout", "5", app="stuck:app")
    assert target.get("/hello", headers=sent(time.time() - 3, form)).body == b"hello"
    [worker] = workers(target)
    assert 3.0 <= worker["phases"]["queue"]["sum_s"] <= 3.5
    assert worker["phases"]["total"]["sum_s"] < 1


def test_who_has_waited_too_long_takes_no_thread(server):
    target = server("--queue-timeout", "5", app="stuck:app")
    response = target.get("/hello", headers=sent(time.time() - 6))
    assert (response.status, response.header("Retry-After")) == (503, "1")
    [worker] = workers(target)
    assert (worker["shed"], worker["phases"]["app"]["count"]) == (1, 0)
    assert target.get("/hello", headers=sent(time.time() - 4)).body == b"hello"


def test_the_waits_before_and_here_are_one(server):
    target = server("-k", "sync", "--timeout", "9", "--queue-timeout", "5", app="stuck:app")
    with target.connect() as busy, target.connect() as fresh, target.connect() as old:
        busy.send(request("/sleep?2"))
        time.sleep(0.2)
        fresh.send(request("/hello"))
        time.sleep(0.1)
        begun = time.monotonic()
        old.send(request("/hello", headers=sent(time.time() - 4)))
        assert old.response().status == 503
        assert 0.9 <= time.monotonic() - begun <= 1.6
        assert fresh.response().body == b"hello", "it stood before the other, but had not waited so long"


@pytest.mark.parametrize("value", ["soon", "t=", "0", "t=99999999999999999999", "-1.5", "\xff"])
def test_what_cannot_be_read_does_not_count(server, value):
    target = server("--queue-timeout", "1", app="stuck:app")
    assert target.get("/hello", headers=[("X-Request-Start", value)]).body == b"hello"


@pytest.mark.parametrize("offset", [60, -3700], ids=["in the future", "long ago"])
def test_a_wrong_clock_does_not_count(server, offset):
    target = server("--queue-timeout", "1", app="stuck:app")
    assert target.get("/hello", headers=sent(time.time() + offset)).body == b"hello"
    assert workers(target)[0]["phases"]["queue"]["sum_s"] < 1


def test_a_stranger_is_not_believed(server):
    target = server("--queue-timeout", "1", "--forwarded-allow-ips", "10.0.0.1", app="stuck:app")
    assert target.get("/hello", headers=sent(time.time() - 30)).body == b"hello"


# --- clients that do not wait ---------------------------------------------------------------------------------------------

FORMAT = ("--access-logfile", "-", "--access-logformat", "%(r)s %(s)s %({outcome}x)s %(B)s")
CLASSES = [("-k", "sync"), ("-k", "gthread", "--threads", "2")]


def reset(client):
    """Closes with RST."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


def close(client):
    """Closes with FIN, as nginx does when its own client has gone."""
    client.sock.close()


def wait_line(target, pattern, count=1):
    """Waits until a line of the access log matches ``count`` times."""
    wait_until(lambda: len(re.findall(pattern, target.stdout(), re.MULTILINE)) >= count, what=pattern)


@pytest.fixture(params=CLASSES, ids=["sync", "gthread"])
def full(request, server):
    """A server all of whose threads are busy for two seconds, and how many they are."""
    threads = 1 if request.param[1] == "sync" else 2
    target = server(*request.param, *FORMAT, "--timeout", "5", "--queue-timeout", "3", app="stuck:app")
    clients = [target.connect() for _ in range(threads)]
    yield target, threads, clients
    for client in clients:
        client.sock.close()


def occupy(clients, seconds=2):
    for client in clients:
        client.send(request(f"/sleep?{seconds}"))
    time.sleep(0.2)


@pytest.mark.parametrize("leave", [reset, close])
def test_who_goes_while_waiting_takes_no_thread(full, leave):
    target, threads, clients = full
    occupy(clients)
    for _ in range(3):
        client = target.connect()
        client.send(request("/hello"))
        time.sleep(0.05)
        leave(client)
    # At once, or after a moment; not when a thread is free.
    begun = time.monotonic()
    wait_line(target, r"^GET /hello HTTP/1.1 499 client-gone 0$", 3)
    assert time.monotonic() - begun < 1
    [worker] = workers(target)
    assert (worker["queued"], worker["responses"]["4xx"], worker["phases"]["queue"]["count"]) == (0, 3, 3)
    assert [client.response().body for client in clients] == [b"slept"] * threads
    assert target.get("/hello").body == b"hello"
    wait_until(lambda: workers(target)[0]["phases"]["app"]["count"] == threads + 1, what="counted")


def test_who_leaves_a_unix_socket_is_gone_at_once(server):
    target = server(*FORMAT, "--timeout", "5", app="stuck:app", bind="unix")
    with target.connect() as busy:
        occupy([busy], 1)
        close_early = target.connect()
        close_early.send(request("/hello"))
        time.sleep(0.05)
        close_early.sock.close()
        wait_line(target, r"^GET /hello HTTP/1.1 499 client-gone 0$")
        assert busy.response().body == b"slept"


def test_who_ends_its_side_and_waits_shortly_is_answered(full):
    target, threads, clients = full
    # On a busy machine the wait may come to more than is short.
    for attempt in range(5):
        occupy(clients, 0.24)
        with target.connect() as client:
            client.send(request("/hello"))
            client.sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(EOFError):
                assert client.response().body == b"hello"
                return
        assert [busy.response().body for busy in clients] == [b"slept"] * threads, attempt
    pytest.fail("never answered")


def test_who_ends_its_side_while_it_is_served_is_answered(full):
    target, _, clients = full
    clients[0].send(request("/sleep?0.5"))
    clients[0].sock.shutdown(socket.SHUT_WR)
    assert clients[0].response().body == b"slept"
    wait_line(target, r"^GET /sleep\?0.5 HTTP/1.1 200 - 5$")


def test_who_goes_while_it_is_served_gets_499(full):
    target, threads, clients = full
    occupy(clients[:1], 0.5)
    reset(clients[0])
    wait_line(target, r"^GET /sleep\?0.5 HTTP/1.1 499 client-gone 0$")


def test_who_goes_in_the_middle_keeps_its_status(full):
    target, _, clients = full
    clients[0].send(request("/drip"))
    wait_until(lambda: clients[0]._receive() or b"drop" in clients[0].data, what="the first piece")
    reset(clients[0])
    wait_line(target, r"^GET /drip HTTP/1.1 200 client-gone \d+$")


def test_who_goes_before_the_deadline_gets_499(full):
    target, _, clients = full
    clients[0].send(request("/stuck/sleep"))
    time.sleep(0.2)
    reset(clients[0])
    wait_line(target, r"^GET /stuck/sleep HTTP/1.1 499 client-gone 0$")


# --- what the access log calls it -----------------------------------------------------------------------------------------


def test_the_log_tells_whose_answer_it_was(server):
    target = server("-k", "sync", *FORMAT, "--timeout", "2", "--queue-timeout", "1", app="stuck:app")
    with target.connect() as late, target.connect() as waiting:
        late.send(request("/stuck/sleep"))
        time.sleep(0.2)
        waiting.send(request("/hello"))
        assert (late.response().status, waiting.response().status) == (504, 503)
    with pytest.raises(EOFError):
        target.get("/drip?stop")
    assert target.get("/hello").status == 200
    wait_line(target, r"^GET /stuck/sleep HTTP/1.1 504 timeout [1-9]\d+$")
    wait_line(target, r"^GET /hello HTTP/1.1 503 shed [1-9]\d+$")
    wait_line(target, r"^GET /drip\?stop HTTP/1.1 200 cut \d+$")
    wait_line(target, r"^GET /hello HTTP/1.1 200 - 5$")


def test_the_word_is_a_dash_for_a_logger_in_python(server):
    line = "%(r)s %({REQUEST_METHOD}e)s %({outcome}x)s %({other}x)s"
    target = server("--access-logfile", "-", "--access-logformat", line, app="stuck:app")
    target.get("/hello")
    wait_line(target, r"^GET /hello HTTP/1.1 GET - -$")
