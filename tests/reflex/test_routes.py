"""Numbers per route: which route a request is counted under, and that none is counted twice or not at all."""

import json
import os
import signal
import subprocess

import pytest

from harness import ASGI, wait_until
from harness.server import CTL

pytestmark = pytest.mark.only_ferricorn("has no numbers per route")


def snapshot(target):
    done = subprocess.run([CTL, "snapshot", str(target.pid)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def routes(target):
    """(route, named by a framework, method, class) -> requests."""
    return {
        (each["route"], each["named"], each["method"], each["class"]): each["queue"]["count"]
        for each in snapshot(target)["routes"]
    }


def counted(target, expected):
    wait_until(lambda: routes(target) == expected, what=f"{expected}, not {routes(target)}")


def test_flask_names_its_routes(server):
    target = server(app="flasksite:app")
    for path in ("/json", "/json", "/nothing-here-at-all/7"):
        target.get(path)
    target.get("/missing.php", method="POST")
    named = {key: count for key, count in routes(target).items() if key[1]}
    assert named[("/json", True, "GET", "2xx")] == 2
    assert all(key[0].startswith("/") for key in named)


def test_django_names_its_routes(server, tmp_path):
    target = server(app="djangosite.wsgi:application", env={"DJANGOSITE_FOLDER": str(tmp_path)})
    for path in ("/", "/where/a/b", "/where/c", "/nowhere"):
        # Django knows its host.
        target.get(path, host="127.0.0.1")
    counted(
        target,
        {
            ("/", True, "GET", "2xx"): 1,
            ("/where/<path:rest>", True, "GET", "2xx"): 2,
            ("(unmatched)", False, "GET", "4xx"): 1,
        },
    )


def test_django_names_its_routes_over_asgi(server):
    target = server("-k", ASGI, app="asgi_django:app")
    target.get("/")
    target.get("/nowhere")
    assert {key for key in routes(target) if key[1]} == {("/", True, "GET", "2xx")}


def test_fastapi_names_its_routes(server):
    target = server("-k", ASGI, app="asgi_fastapi:app")
    for path in ("/items/1", "/items/2", "/items/x"):
        target.get(path)
    found = {key: count for key, count in routes(target).items() if key[0] == "/items/{number}"}
    assert sum(found.values()) == 3
    assert all(key[1] for key in found)


@pytest.mark.parametrize("args", [("-k", "sync"), ("-k", "gthread", "--threads", "3"), ("-k", "gevent")], ids=lambda a: a[1])
def test_paths_stand_in_for_routes(server, args):
    target = server(*args, app="probe:app")
    for path in ("/a/1", "/a/2", "/b/0f8fad5b-d9cb-469f-a165-70867728950e?x=1"):
        assert target.get(path).status == 200
    counted(target, {("/a/:id", False, "GET", "2xx"): 2, ("/b/:id", False, "GET", "2xx"): 1})
    durations = [each for each in snapshot(target)["routes"] if each["route"] == "/a/:id"]
    [numbers] = durations
    assert numbers["app"]["count"] == 2 and numbers["write"]["count"] == 2
    assert sum(count for _, count in numbers["app"]["buckets"]) == 2


def test_lost_requests_count_at_their_age(server):
    target = server("--timeout", "1", "--state-dir", "state", app="stuck:app")
    assert target.get("/stuck/sleep").status == 504
    assert target.get("/stuck/exit").status == 502
    assert target.get("/hello").status == 200
    counted(
        target,
        {
            ("/stuck/sleep", False, "GET", "lost"): 1,
            ("/stuck/exit", False, "GET", "lost"): 1,
            ("/hello", False, "GET", "2xx"): 1,
        },
    )
    [slept] = [each for each in snapshot(target)["routes"] if each["route"] == "/stuck/sleep"]
    assert 0.99e6 <= slept["app"]["sum_us"] < 1.6e6
    assert snapshot(target)["exits"] == {"code": 1}


def test_numbers_outlive_their_worker(server):
    target = server("-w", "1", app="probe:app")
    for _ in range(5):
        target.get("/a")
    [pid] = target.workers()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: target.workers() not in ([], [pid]), what="another worker")
    for _ in range(3):
        target.get("/a")
    counted(target, {("/a", False, "GET", "2xx"): 8})
    target.kill(signal.SIGHUP)
    target.wait_log("Reload finished")
    target.get("/a")
    counted(target, {("/a", False, "GET", "2xx"): 9})
    wait_until(lambda: snapshot(target)["exits"] == {"planned": 1, "signal": 1}, what="the ends of both")
