"""`ferricornctl top` on a real terminal beside a real server: what it shows, keys, and how it ends."""

import contextlib
import json
import os
import re
import signal
import threading

import pytest
from observers import observed

from harness import ctl, wait_until
from harness.ctl import CTL
from harness.terminal import Terminal

pytestmark = pytest.mark.only_ferricorn("it is Ferricorn's")


@pytest.fixture
def terminal():
    """Factory: ``terminal(*words, size=..., env=...)`` runs ferricornctl on a terminal."""
    terminals = []

    def start(*words, **options):
        terminals.append(Terminal([CTL, *words], **options))
        return terminals[-1]

    yield start
    for one in terminals:
        one.close()


@pytest.fixture
def busy(server):
    """A server with two requests in flight that need long, while a client asks for another path again and again."""
    running = server("-w", "2", "--threads", "4", "--timeout", "20", app="waits:app")
    stop = threading.Event()

    def ask_again_and_again():
        with contextlib.suppress(OSError, EOFError):
            while not stop.is_set():
                running.get("/items/7?wait=0.01")

    def ask_for_long():
        # The server is stopped, or killed, before it answers.
        with contextlib.suppress(OSError, EOFError):
            running.get("/reports/42?wait=30", timeout=60)

    threads = [threading.Thread(target=ask_for_long) for _ in range(2)]
    threads.append(threading.Thread(target=ask_again_and_again))
    for thread in threads:
        thread.start()
    yield running
    stop.set()
    # Its requests would have it wait.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.process.wait(10)
    for thread in threads:
        thread.join(30)


def rate(text):
    found = re.search(r"([0-9.,]+) req/s", text)
    return float(found[1].replace(",", "")) if found else 0.0


def test_a_server_under_load_is_seen_and_keys_lead_through_it(busy, terminal):
    top = terminal("top", "--interval", "0.3", busy.pid)
    parts = [f"pid {busy.pid}", "workers 2/2", "gthread x4", "Workers (2) by age", "Requests in flight", "/reports/42"]
    # The route of what has finished, and the workers.
    parts += ["/items/:id", *map(str, busy.workers())]
    top.wait_for(lambda text: rate(text) > 1 and all(part in text for part in parts))
    # A request of a while, with its bar.
    top.wait_for(lambda text: re.search(r"█+░+ +1\d\.\ds", text))
    # The oldest request: where it is.
    top.keys("\t\r")
    parts = ["Request ", "GET /reports/42?wait=*", "waits.py:9 in app", "sleeping"]
    top.wait_for(lambda text: all(part in text for part in parts))
    top.keys("\x1b")
    top.wait_for(lambda text: "Workers (2)" in text)
    # Sorted, then held still.
    top.keys("\ts")
    top.wait_for("by requests")
    top.keys("p")
    top.wait_for("PAUSED")
    top.keys("p?")
    top.wait_for("sort the table by its next column")
    top.keys("x\x1b[B\x1b[Z")
    top.wait_for(lambda text: "Help" not in text)
    top.keys("q")
    assert top.wait() == 0
    assert top.is_restored()


def test_it_grows_with_its_terminal(busy, terminal):
    top = terminal("top", "--interval", "0.2", busy.pid)
    top.wait_for(lambda text: "/reports/42" in text and "CLIENT" not in text)
    top.resize(150, 40)
    os.kill(top.process.pid, signal.SIGWINCH)
    top.wait_for(lambda text: all(part in text for part in ("CLIENT", "127.0.0.1:", "CONNS")))
    top.keys("\x03")
    assert top.wait() == 0
    assert top.is_restored()


def test_colours_are_left_out_where_they_are_not_wanted(busy, terminal):
    colour = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-7][;m]|38;[25];)")
    for env, expected in (({}, True), ({"NO_COLOR": "1"}, False)):
        top = terminal("top", "--interval", "0.2", busy.pid, env=env)
        top.wait_for("/reports/42")
        top.keys("q")
        assert top.wait() == 0
        assert bool(colour.search(top.raw)) is expected
    # A terminal that shows ASCII alone gets nothing else.
    top = terminal("top", "--interval", "0.2", busy.pid, env={"LC_ALL": "C"})
    assert top.wait_for("/reports/42").isascii()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(busy, terminal, number):
    top = terminal("top", busy.pid)
    top.wait_for("Workers")
    os.kill(top.process.pid, number)
    assert top.wait() == 128 + number
    assert top.is_restored()


def test_the_end_of_the_server_ends_it_with_a_word(busy, terminal):
    top = terminal("top", busy.pid)
    top.wait_for("Workers")
    busy.kill(signal.SIGKILL)
    assert top.wait() == 1
    assert top.is_restored()
    text = top.text()
    assert f"error: server {busy.pid} (waits:app) has ended" in text and "  try: " in text


def test_without_a_terminal_it_writes_one_frame(busy):
    wait_until(lambda: len(json.loads(ctl("requests", "--json", busy.pid).stdout)["requests"]) >= 2)
    outcome = ctl("top", "--once", "--interval", "0.5", busy.pid)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "\x1b" not in outcome.stdout
    for part in ("workers (2)", "requests in flight", "routes (", "/reports/42", "/items/:id"):
        assert part in outcome.stdout, outcome.stdout
    # A pipe is no terminal either.
    assert ctl("top", "--interval", "0.2", busy.pid).stdout.startswith("ferricorn ")


def test_every_viewer_shows_the_same_numbers(server):
    """With nobody there, nothing changes between two looks."""
    running = server("-w", "2", "--threads", "4", app="waits:app")
    for _ in range(20):
        running.get("/items/7?wait=0.01")
    for _ in range(3):
        running.get("/broken?status=500")
    wait_until(lambda: json.loads(ctl("top", "--json", "--interval", "0.1", running.pid).stdout)["sums"]["threads_busy"] == 0)
    top = json.loads(ctl("top", "--json", "--interval", "0.1", running.pid).stdout)
    slow = json.loads(ctl("slow", "--json", running.pid).stdout)
    workers = json.loads(ctl("workers", "--json", running.pid).stdout)
    snapshot = json.loads(ctl("snapshot", running.pid).stdout)
    summary = ctl("workers", running.pid).stdout.splitlines()[-1]
    shown = {(route["method"], route["route"]): route for route in top["routes"]}
    ranked = {(route["method"], route["route"]): route for route in slow["routes"]}
    counted = {}
    for route in snapshot["routes"]:
        key = (route["method"], route["route"])
        counted[key] = counted.get(key, 0) + route["app"]["count"]
    assert sorted(shown) == sorted(ranked) == sorted(counted)
    for key, route in shown.items():
        assert route["count"] == ranked[key]["count"] == counted[key]
        assert route["lost"] == ranked[key]["lost"]
        assert route["time_share"] == ranked[key]["time_share"]
    assert sum(counted.values()) == sum(worker["requests"] for worker in workers["workers"]) == 23
    assert "23 requests, 3 answered 5xx" in summary
    for field in ("threads_busy", "queued", "connections"):
        assert top["sums"][field] == sum(worker[field] for worker in workers["workers"])
    threads = top["sums"]["threads"]
    assert f"{top['sums']['threads_busy']} of {threads} threads busy" in summary


def test_a_gunicorn_is_watched_through_its_observer(tmp_path, terminal):
    incident = {
        "schema": 1, "id": "20261126-7", "server": {"pid": 1, "name": "shop", "version": "23"}, "state": "open",
        "trigger": "losses", "fingerprint": "x", "cause": "external.no_timeout", "confidence": 0.93,
        "verdict": "rates.example:443 does not answer", "route": "/report", "routes": [], "noted_at": 0.0,
        "diagnosed_at": None, "opened_at": 1_699_999_990.0, "last_at": 0.0, "mitigated_at": None, "closed_at": None,
        "requests_lost": 3, "requests_stuck": 5, "workers": [], "impact": ["3 requests lost"], "request": None,
        "worker": None, "source": "outside", "frames": [], "evidence": [], "ruled_out": [], "not_visible": [],
        "causes": [], "subject": {}, "timeline": [], "fixes": {"now": [], "next": [], "proper": ["a timeout"]},
    }  # fmt: skip
    with observed(tmp_path) as (arbiter, observer):
        observer.documents["/incidents"]["incidents"].append(incident)
        top = terminal("top", "--interval", "0.2", arbiter.pid, "--state-dir", tmp_path)
        parts = ["20261126-7", "gunicorn 23.0.0 shop", "rates.example:443 does not answer", "/report", "lost 1"]
        top.wait_for(lambda text: all(part in text for part in parts))
        top.keys("\x1b[Z\r")
        parts = ["Incident 20261126-7", "confidence 0.93", "a timeout"]
        top.wait_for(lambda text: all(part in text for part in parts))
        # What an observer says now and then does not end it, and is told.
        good = observer.documents["/snapshot"]
        observer.documents["/snapshot"] = None
        top.keys("\x1b")
        top.wait_for("OLD: ")
        observer.documents["/snapshot"] = {**good, "at_s": good["at_s"] + 1}
        top.wait_for(lambda text: "OLD: " not in text)
        arbiter.kill()
        assert top.wait() == 1
        assert top.is_restored() and "has ended" in top.text()
