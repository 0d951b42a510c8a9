"""``unblock = "socket"``: a thread comes free because the socket that it waits for is shut."""

import time

import pytest

from harness import request, wait_until

pytestmark = pytest.mark.only_ferricorn("has no such thing")

TIMEOUT = 1
CLASSES = [("-k", "sync"), ("-k", "gthread", "--threads", "2")]


def start(server, *args):
    return server("--timeout", TIMEOUT, "--unblock", "socket", *args, app="stuck:app")


@pytest.mark.parametrize("args", CLASSES, ids=["sync", "gthread"])
def test_the_application_sees_its_connection_close(server, args):
    target = start(server, *args)
    before = target.workers()
    # In gthread on both threads, of which interrupts reach one.
    with target.connect() as one, target.connect() as other:
        one.send(request("/closed"))
        if "gthread" in args:
            other.send(request("/closed"))
            assert other.response().status == 504
        assert one.response().status == 504
    target.wait_log(r"its socket to 127\.0\.0\.1:\d+ was shut", count=2 if "gthread" in args else 1)
    seen = wait_until(lambda: target.get("/seen").body.decode(), what="the end of the call")
    assert set(seen.split()) == {"/closed/NoneType"}, "its own code went on, uninterrupted"
    time.sleep(1.2)
    assert "a spare stands in" not in target.log() and target.workers() == before


def test_who_tries_again_is_interrupted(server):
    target = start(server, "-k", "sync")
    before = target.workers()
    assert target.get("/stuck/patient").status == 504
    assert target.get("/seen").body.decode() == "/stuck/patient"
    assert target.workers() == before


@pytest.mark.parametrize("kind", ["sleep", "loop"])
def test_what_waits_for_no_socket_is_interrupted_at_once(server, kind):
    target = start(server, "-k", "sync")
    assert target.get(f"/stuck/{kind}").status == 504
    begun = time.monotonic()
    assert target.get("/seen").body.decode() == f"/stuck/{kind}"
    assert time.monotonic() - begun < 0.8
    assert "was shut" not in target.log()


def test_the_socket_of_a_client_is_spared(server):
    target = start(server, "-k", "sync")
    with target.connect() as client:
        client.send(request("/client"))
        assert client.response().status == 504
        # It stays, so that the thread goes on waiting for it.
        target.wait_log(r"thread 0 is waiting for 127\.0\.0\.1:\d+ \(poll, descriptor \d+\)", count=2)
        assert target.get("/seen").body.decode() == "/client", "interrupted"
    assert "was shut" not in target.log()
