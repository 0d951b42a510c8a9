"""`ferricornctl slow` beside a real server: ranks, losses, and what a deadline should be."""

import json
import threading

import pytest
from observers import observed

from harness import ctl, wait_until

pytestmark = pytest.mark.only_ferricorn("it is Ferricorn's")
TIMEOUT_S = 1
THREADS = 12


def ask(server, paths):
    """Asks for each path once, several at a time."""
    paths = list(paths)
    statuses = []

    def work():
        while True:
            try:
                path = paths.pop()
            except IndexError:
                return
            statuses.append(server.get(path).status)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return statuses


@pytest.fixture(scope="module")
def asked(module_server):
    """A server one of whose routes hangs now and then, one is near its deadline, and one is quick."""
    running = module_server("-w", "1", "--threads", THREADS, "--timeout", TIMEOUT_S, app="waits:app")
    quick = [f"/items/{number}" for number in range(200)]
    near = [f"/near/{number}?wait=0.7" for number in range(100)] + ["/near/1?wait=3"] * 2
    hangs = [f"/hangs/{number}" for number in range(110)] + ["/hangs/1?wait=3"] * 3
    statuses = ask(running, quick + near + hangs)
    assert statuses.count(504) == 5 and statuses.count(200) == 410
    wait_until(lambda: sum(route["count"] for route in slow(running)["routes"]) == 415, what="all are counted")
    return running


def slow(server, *words):
    outcome = ctl("slow", "--json", *words, server.pid)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    return json.loads(outcome.stdout)


def test_each_route_gets_its_verdict(asked):
    document = slow(asked)
    assert document["timeout_s"] == TIMEOUT_S
    routes = {route["route"]: route for route in document["routes"]}
    near, hangs, quick = routes["/near/:id"], routes["/hangs/:id"], routes["/items/:id"]
    assert (near["count"], near["lost"], near["verdict"], near["should_be_s"]) == (102, 2, "too_short", 3.0)
    assert 'route_timeouts = {"GET /near/*": 3}' in near["advice"]
    assert (hangs["count"], hangs["lost"], hangs["verdict"]) == (113, 3, "hangs")
    assert "they hang" in hangs["advice"]
    assert (quick["count"], quick["lost"], quick["verdict"], quick["advice"]) == (200, 0, "fits", None)
    assert near["p50_ms"] >= 700 and near["nearness"] >= 0.95
    assert abs(sum(route["time_share"] for route in routes.values()) - 1) < 1e-9


def test_routes_are_ranked_as_asked(asked):
    order = [route["route"] for route in slow(asked, "--by", "count")["routes"]]
    assert order == ["/items/:id", "/hangs/:id", "/near/:id"]
    assert [route["route"] for route in slow(asked)["routes"]][0] == "/near/:id"
    assert slow(asked, "--by", "deadline")["routes"][-1]["route"] == "/items/:id"
    assert len(slow(asked, "--limit", "1")["routes"]) == 1
    # Against another deadline, nothing is near it.
    assert max(route["nearness"] for route in slow(asked, "--timeout", "100")["routes"]) < 0.05


def test_a_table_for_people(asked):
    text = ctl("slow", "--limit", "2", asked.pid).stdout
    lines = text.splitlines()
    assert lines[0].startswith("since waits:app started, ") and lines[0].endswith("timeout 1 s")
    assert lines[1].split()[0] == "TIME" and lines[2].endswith("GET     /near/:id")
    assert "and 1 more; `--limit 3` shows all" in lines
    assert any(line.startswith("GET /near/:id: 2 lost at 1 s") for line in lines), text


@pytest.mark.timeout(120)
def test_it_looks_back_into_what_the_observer_has_kept(server, tmp_path):
    state = tmp_path / "state"
    running = server("-w", "1", "--threads", THREADS, "--timeout", "30", "--state-dir", state, app="waits:app")

    def kept():
        # What came before the observer's first look is not of any minute.
        assert running.get("/items/7").status == 200
        return slow(running, "--since", "1h")["routes"]

    (route,) = wait_until(kept, 90, "the minute is kept")
    assert route["route"] == "/items/:id" and route["count"] > 1
    assert slow(running, "--since", "1h")["timeout_s"] == 30
    running.stop()
    # Nothing needs to run for that.
    outcome = ctl("slow", "--since", "1h", "--state-dir", state)
    assert outcome.returncode == 0, outcome.stderr
    assert "/items/:id" in outcome.stdout and outcome.stdout.startswith("of the last 1h 00m, ")
    assert "timeout" not in outcome.stdout.splitlines()[0]
    outcome = ctl("slow", "--since", "1h", "--state-dir", tmp_path / "missing")
    assert outcome.returncode == 1 and "  try: " in outcome.stderr


def test_a_gunicorns_routes_are_its_observers(tmp_path):
    with observed(tmp_path) as (arbiter, _):
        outcome = ctl("slow", "--json", arbiter.pid, "--state-dir", tmp_path)
        document = json.loads(outcome.stdout)
        counts = {route["route"]: (route["count"], route["lost"]) for route in document["routes"]}
        assert counts == {"/": (197, 0), "/report": (1, 1)}
        assert document["notes"] == ["the database was not asked"]
