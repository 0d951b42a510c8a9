"""Requests that wait: how long, with the time in a proxy, and for whom."""

import json
import subprocess
import time

import pytest

from harness import request
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
