"""Deadlines of greenlets: a late one is answered and killed, and nobody else notices; what blocks the hub, too."""

import json
import re
import subprocess
import time

import pytest

from harness import Connection, request, wait_until
from harness.crowd import together
from harness.load import Load
from harness.server import CTL

pytestmark = pytest.mark.only_ferricorn("a late request is never answered; a blocked hub costs the worker")

TIMEOUT = 1
SLACK = 0.6
# Waits that gevent knows, and calls that keep its hub.
WAITS = ["sleep", "deadlock", "recv", "peer", "get"]
BLOCKS = ["loop", "regex", "hold", "mutex"]


def start(server, *args, workers=1, app="stuck:app", **options):
    target = server("-k", "gevent", "-w", workers, "--timeout", TIMEOUT, *args, app=app, **options)
    target.wait_serving(workers)
    return target


@pytest.fixture(scope="module")
def target(module_server):
    return start(module_server)


def late(target, path):
    begun = time.monotonic()
    response = target.get(path)
    took = time.monotonic() - begun
    assert response.status == 504
    assert TIMEOUT - 0.05 <= took <= TIMEOUT + SLACK, took
    return response


def seen(target):
    return target.get("/seen").body.decode().split()


# --- who waits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WAITS)
def test_who_waits_too_long_is_answered_and_killed(target, kind):
    before = target.workers()
    with Load(target.address, "/hello", clients=4, rate=100) as load:
        time.sleep(0.2)
        late(target, f"/stuck/{kind}")
        wait_until(lambda: f"/stuck/{kind}" in seen(target), what=f"RequestTimeout in {kind}")
        time.sleep(0.2)
    result = load.stop()
    assert result.failures == []
    assert set(result.bodies) == {b"hello"}
    assert result.quantile(0.95) < 0.1 and max(result.seconds) < 0.5
    assert target.workers() == before
    assert "Traceback" not in target.log()


def test_a_hundred_are_late_together(server):
    target = start(server)
    answers, seconds = together(target, ["/stuck/sleep"] * 100)
    assert {answer.status for answer in answers} == {504}
    assert max(seconds) < TIMEOUT + 1.5
    wait_until(lambda: seen(target).count("/stuck/sleep") == 100, what="a hundred killed")
    _, seconds = together(target, ["/sleep?0.5"] * 100)
    assert max(seconds) < 2


def test_cleaning_up_happens_after_the_answer(server):
    target = start(server, app="green_late:app")
    begun = time.monotonic()
    assert target.get("/finally").status == 504
    assert time.monotonic() - begun < TIMEOUT + SLACK
    # It waits in its `finally`, for others that go on.
    wait_until(lambda: target.get("/told").body == b"RequestTimeout", 0.5, "the finally block")
    wait_until(lambda: target.get("/told").body == b"RequestTimeout cleaned", what="the end of the finally block")


def test_what_a_request_has_spawned_lives_on(server):
    target = start(server, app="green_late:app")
    assert target.get("/spawner").status == 504
    wait_until(lambda: b"spawned" in target.get("/told").body, what="the end of what was spawned")


def test_who_does_not_let_itself_be_killed_harms_nobody(server):
    target = start(server, "--graceful-timeout", "1")
    before = target.workers()
    late(target, "/stuck/swallow")
    _, seconds = together(target, ["/sleep?0.3"] * 20)
    assert max(seconds) < 1.5
    time.sleep(1)
    assert target.workers() == before
    assert target.stop() == 0


def test_a_stream_that_stops_is_cut(target):
    assert target.get("/drip").body == b"drop" * 5
    with target.connect() as client:
        begun = time.monotonic()
        client.send(request("/drip?stop"))
        with pytest.raises(EOFError, match="drop"):
            client.response()
        assert 2.5 <= time.monotonic() - begun <= 3.0 + SLACK
    wait_until(lambda: "/drip" in seen(target) or "GET /drip" in target.log(), what="the end of the stream")


def test_a_client_that_does_not_read_is_given_up(server):
    """It waits in the hub; neither its deadline nor its greenlet's wait costs others anything."""
    target = start(server, "--write-timeout", "2")
    with Connection(target.address) as client:
        client.send(request("/size?50000000"))
        for _ in range(30):
            begun = time.monotonic()
            assert target.get("/hello").body == b"hello"
            assert time.monotonic() - begun < 0.5
            time.sleep(0.1)
        time.sleep(0.5)
        with pytest.raises(EOFError):
            client.response()


# --- what the application can say ------------------------------------------------------------------------------------------


def test_each_greenlet_has_its_own_deadline(target):
    with target.connect() as early, target.connect() as more:
        more.send(request("/extended"))
        time.sleep(0.5)
        early.send(request("/stuck/sleep"))
        time.sleep(0.2)
        assert 0.9 <= float(target.get("/left").body) <= 1.0
        assert more.response().body == b"1.0 3.0"
        assert early.response().status == 504


def test_no_interrupt_is_a_greenlets_own(server):
    target = start(server, workers=1)
    before = target.workers()
    with target.connect() as shielded:
        shielded.send(request("/shielded"))
        time.sleep(0.1)
        late(target, "/stuck/sleep")
        wait_until(lambda: "/stuck/sleep" in seen(target), 0.4, "its own end, in another greenlet's block")
        assert shielded.response().status == 504
    wait_until(lambda: "/shielded" in seen(target), what="interrupted after the block")
    order = seen(target)
    assert order.index("/shielded/done") < order.index("/shielded")
    assert target.workers() == before


# --- who blocks the hub ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BLOCKS)
def test_who_blocks_the_hub_is_answered_beside_siblings(server, kind):
    target = start(server, workers=2)
    with Load(target.address, "/hello", clients=4, rate=100) as load:
        time.sleep(0.3)
        late(target, f"/stuck/{kind}")
        time.sleep(2.0)
    result = load.stop()
    assert result.failures == []
    assert set(result.bodies) == {b"hello"}
    assert max(result.seconds) < 1.5, "an instant request waited for the one that blocks"
    target.wait_serving(2)
    _, seconds = together(target, ["/sleep?0.3"] * 20)
    assert max(seconds) < 1.5


@pytest.mark.parametrize("kind", ["loop", "regex"])
def test_who_computes_is_freed_in_place(server, kind):
    target = start(server)
    before = target.workers()
    with target.connect() as waiting:
        # It sleeps well within its time, and must not be hit.
        waiting.send(request("/sleep?0.2"))
        time.sleep(0.1)
        late(target, f"/stuck/{kind}")
        wait_until(lambda: f"/stuck/{kind}" in seen(target), what="freed")
        assert waiting.response().status in (200, 504)
    assert seen(target) == [f"/stuck/{kind}"]
    assert target.workers() == before


def test_only_who_is_late_is_hit(server):
    """Greenlets that compute now and then, late ones among them: `RequestTimeout` in none but those."""
    # Who is not late waits behind those that compute for most of a second.
    target = start(server, "--timeout", "5", config='route_timeouts = {"/stuck/*": 0.2, "/edge": 0.1}\n')
    with Load(target.address, "/hello", clients=4, rate=100) as load:
        for _ in range(6):
            answers, _ = together(target, ["/stuck/sleep"] * 3 + ["/edge"] * 4 + ["/stuck/loop"])
            assert {answer.status for answer in answers} <= {200, 504}
    assert load.stop().failures == []
    assert set(seen(target)) <= {"/stuck/sleep", "/stuck/loop", "/edge"}
    assert "Traceback" not in target.log()


def test_a_worker_that_cannot_be_freed_is_replaced(server):
    target = start(server, workers=2)
    before = target.workers()
    late(target, "/stuck/mutex")
    line = target.wait_log(r"Worker \(pid:(\d+)\) is to be replaced", seconds=5)
    wait_until(lambda: int(line[1]) in before and int(line[1]) not in target.workers(), what="another worker")
    target.wait_serving(2)


# --- what is known afterwards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("sleep", r"in sleep: time\.sleep\(LONG\)"),
        ("recv", r"in recv: QUIET\.recv\(1\)"),
        ("get", r"in get: queue\.Queue\(\)\.get\(\)"),
        ("loop", r"in loop: (while True:|pass)"),
    ],
)
def test_the_log_tells_where(server, kind, place):
    target = start(server)
    request_id = late(target, f"/stuck/{kind}").header("X-Request-Id")
    line = rf"\[CRITICAL\]   request {request_id}: "
    target.wait_log(line + r"at .*stuck\.py:\d+ " + place + "$")
    assert re.search(rf"\[CRITICAL\] .*GET /stuck/{kind} \(request {request_id}\).*answered 504", target.log())


def test_the_record_has_the_greenlets_stack(server):
    target = start(server, "--state-dir", "state")
    with target.connect() as other:
        # Sleeps elsewhere at the same time, in the same thread.
        other.send(request("/stuck/get"))
        time.sleep(0.1)
        request_id = late(target, "/stuck/sleep").header("X-Request-Id")
        other.response()

    def record():
        command = [CTL, "timeouts", "--json", "--state-dir", target.folder / "state"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [each for each in json.loads(text)["records"] if each.get("request", {}).get("id") == request_id]

    [found] = wait_until(record, what="the record")
    functions = [frame["function"] for frame in found["frames"] if frame["file"].endswith("stuck.py")]
    assert functions[0] == "sleep" and "get" not in functions, found["frames"]


def test_a_query_that_hangs_is_given_up(server, dsn):
    config = "def post_fork(server, worker):\n    from psycogreen.gevent import patch_psycopg\n    patch_psycopg()\n"
    target = start(server, app="slow_queries:app", config=config, env={"TEST_DSN": dsn})
    before = target.workers()
    answers, _ = together(target, ["/psycopg", "/psycopg2"] * 5)
    assert {answer.status for answer in answers} == {504}

    def ended():
        return sorted(target.get("/seen").body.split())

    # psycopg2 closes a connection whose wait was broken off, and says so where the connection is left.
    wait_until(lambda: ended() == [b"InterfaceError"] * 5 + [b"RequestTimeout"] * 5, what="ten killed")
    assert target.workers() == before
