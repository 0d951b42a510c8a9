"""A route that only loses requests is not served for a while: its clients hear so at once, and all others are served."""

import time

import pytest

from harness import ctl, wait_until
from harness.crowd import Visitors

pytestmark = [pytest.mark.only_ferricorn("its own observer"), pytest.mark.timeout(120)]

RULE = """
mode = "act"
[[rule]]
name = "dead-partner"
when = 'cause ~ "external.*"'
do = [{ open_circuit = 1, revert_after = "6s", cooldown = "5m" }]
"""
CLASSES = {
    "sync": ["-k", "sync", "--workers", 4],
    "gthread": ["-k", "gthread", "--threads", 4, "--workers", 2],
    "gevent": ["-k", "gevent", "--workers", 1],
    "asgi": ["-k", "asgi", "--workers", 1],
}
APPS = {"asgi": "rates:app"}


@pytest.mark.parametrize("name", CLASSES)
def test_a_route_that_only_loses_requests_is_not_served_for_a_while(case, name):
    if case.host != "ferricorn":
        pytest.skip("a stock Gunicorn cannot leave a route unserved")
    one = case(*CLASSES[name], "--timeout", 2, mode=None, policy=RULE, app=APPS.get(name, "shop:app"))
    crowd = Visitors(one.server, "/rates", 4)
    action = one.wait_action("open_circuit", "done", 60)
    assert action["target"] == "GET /rates"
    begun = time.monotonic()
    answer = one.server.get("/rates")
    assert answer.status == 503 and time.monotonic() - begun < 1.5
    assert 1 <= int(answer.header("retry-after")) <= 6
    assert b"not served for a while" in answer.body
    assert one.server.get("/").status == 200
    undone = one.wait_action("open_circuit", "undone", 30)
    assert "served again" in undone["text"]
    crowd.leave()
    assert 503 in crowd.answers
    # Its connection may be shut before its time is over.
    assert one.server.get("/rates").status in (502, 504), "the application has it again"


def test_off_closes_all(case):
    if case.host != "ferricorn":
        pytest.skip("a stock Gunicorn cannot leave a route unserved")
    policy = RULE.replace('"6s"', '"5m"')
    one = case(*CLASSES["gthread"], "--timeout", 2, mode=None, policy=policy)
    crowd = Visitors(one.server, "/rates", 4)
    one.wait_action("open_circuit", "done", 60)
    crowd.leave()
    assert one.server.get("/rates").status == 503
    ctl("off", "--state-dir", one.state)
    wait_until(lambda: one.server.get("/rates").status != 503, 10, "the application again")
