"""Deadlines of tasks: a late one is answered and ended, and nobody else notices; what blocks the loop is named."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import request, wait_until
from harness.crowd import together
from harness.load import Load
from harness.server import CTL

pytestmark = pytest.mark.only_ferricorn("a late request is never answered; a blocked loop costs the worker")

TIMEOUT = 1
SLACK = 0.6
# Waits of tasks, and calls that keep their loop.
WAITS = ["sleep", "event", "recv", "group", "limited", "thread"]
BLOCKS = ["blocking", "loop", "regex", "mutex"]


def start(server, *args, workers=1, app="asgi_late:app", **options):
    target = server("-k", "asgi", "-w", workers, "--timeout", TIMEOUT, *args, app=app, **options)
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
    return target.get("/seen").body.decode().split("\n")


# --- who waits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WAITS)
def test_who_waits_too_long_is_answered_and_cancelled(target, kind):
    before = target.workers()
    with Load(target.address, "/hello", clients=4, rate=100) as load:
        time.sleep(0.2)
        late(target, f"/stuck/{kind}")
        wait_until(lambda: f"/stuck/{kind} CancelledError" in seen(target), what=f"the end of {kind}")
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
    wait_until(lambda: seen(target).count("/stuck/sleep CancelledError") == 100, what="a hundred cancelled")
    _, seconds = together(target, ["/nap?0.5"] * 100)
    assert max(seconds) < 2


def test_cleaning_up_happens_after_the_answer(server):
    target = start(server)
    begun = time.monotonic()
    assert target.get("/cleans").status == 504
    assert time.monotonic() - begun < TIMEOUT + SLACK
    wait_until(lambda: "/cleans ends" in seen(target), 3, "the end of the finally block")
    assert seen(target) == ["/cleans begins", "/cleans ends", "/cleans CancelledError"]


def test_who_swallows_its_cancellation_is_named_and_harms_nobody(server):
    target = start(server, "--graceful-timeout", "1")
    before = target.workers()
    request_id = late(target, "/stuck/swallow").header("X-Request-Id")
    target.wait_log(rf"The task of request {request_id} does not end: it has swallowed its cancellation")
    _, seconds = together(target, ["/nap?0.3"] * 20)
    assert max(seconds) < 1.5
    assert target.workers() == before
    assert target.stop() == 0


def test_a_stream_that_makes_progress_is_not_cut(target):
    assert target.get("/drip").body == b"drop" * 5


def test_a_stream_that_stops_is_cut(target):
    with target.connect() as client:
        begun = time.monotonic()
        client.send(request("/drip?stop"))
        with pytest.raises(EOFError, match="drop"):
            client.response()
        assert 2.5 <= time.monotonic() - begun <= 3.0 + SLACK
    wait_until(lambda: "/drip CancelledError" in seen(target), what="the end of the stream")


def test_a_websocket_has_no_deadline(target):
    with connect(f"ws://127.0.0.1:{target.port}/echo") as socket:
        time.sleep(TIMEOUT + 0.5)
        socket.send("still there")
        assert socket.recv(timeout=2) == "still there"


def test_request_timeout_limits_streams_and_websockets(server):
    target = start(server, "--request-timeout", "2", "--timeout", "5")
    with target.connect() as client:
        begun = time.monotonic()
        client.send(request("/drip"))
        with pytest.raises(EOFError):
            client.response()
        assert 1.9 <= time.monotonic() - begun <= 2 + SLACK
    begun = time.monotonic()
    with connect(f"ws://127.0.0.1:{target.port}/echo") as socket, pytest.raises(ConnectionClosed):
        while True:
            socket.send("x")
            socket.recv(timeout=3)
            time.sleep(0.1)
    assert 1.9 <= time.monotonic() - begun <= 3


# --- what the application can say ------------------------------------------------------------------------------------------


def test_each_task_has_its_own_deadline(target):
    with target.connect() as early, target.connect() as more:
        more.send(request("/extended"))
        time.sleep(0.5)
        early.send(request("/stuck/sleep"))
        time.sleep(0.2)
        assert 0.9 <= float(target.get("/left_in_a_thread").body) <= 1.0
        assert more.response().body == b"1.0 3.0"
        assert early.response().status == 504


def test_no_interrupt_is_a_tasks_own(server):
    target = start(server)
    with target.connect() as shielded:
        shielded.send(request("/shielded"))
        time.sleep(0.1)
        late(target, "/stuck/sleep")
        wait_until(lambda: "/stuck/sleep CancelledError" in seen(target), 0.4, "its own end, in another's block")
        assert shielded.response().status == 504
    wait_until(lambda: "/shielded CancelledError" in seen(target), what="cancelled after the block")
    order = seen(target)
    assert order.index("/shielded done") < order.index("/shielded CancelledError")


# --- who blocks the loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BLOCKS)
def test_who_blocks_the_loop_is_answered_beside_siblings(server, kind):
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
    _, seconds = together(target, ["/nap?0.3"] * 20)
    assert max(seconds) < 1.5


@pytest.mark.parametrize("kind", ["blocking", "loop", "regex"])
def test_who_blocks_the_loop_is_freed_in_place(server, kind):
    target = start(server)
    before = target.workers()
    with target.connect() as waiting:
        # It is done well within its time, and must not be hit.
        waiting.send(request("/nap?0.2"))
        time.sleep(0.1)
        late(target, f"/stuck/{kind}")
        wait_until(lambda: f"/stuck/{kind} RequestTimeout" in seen(target), what="freed")
        assert waiting.response().status in (200, 504)
    assert seen(target) == [f"/stuck/{kind} RequestTimeout"]
    assert target.workers() == before


def test_a_worker_that_cannot_be_freed_is_replaced(server):
    target = start(server, workers=2)
    before = target.workers()
    late(target, "/stuck/mutex")
    line = target.wait_log(r"Worker \(pid:(\d+)\) is to be replaced: a stuck call holds (its event loop|the interpreter)", seconds=5)
    wait_until(lambda: int(line[1]) in before and int(line[1]) not in target.workers(), what="another worker")
    target.wait_serving(2)


def test_clients_of_a_killed_worker_are_answered(server):
    target = start(server)
    with target.connect() as waiting:
        waiting.send(request("/nap?20"))
        time.sleep(0.2)
        assert target.get("/stuck/kill").status == 502
        assert waiting.response().status == 502
    target.wait_serving(1)
    assert target.get("/hello").body == b"hello"


def test_clients_of_a_stopped_worker_are_answered(server):
    target = start(server)
    [worker] = target.workers()
    with target.connect() as waiting:
        waiting.send(request("/nap?20"))
        time.sleep(0.2)
        begun = time.monotonic()
        os.kill(worker, signal.SIGSTOP)
        assert waiting.response().status == 504
        assert time.monotonic() - begun < TIMEOUT + SLACK


# --- what is known afterwards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("sleep", r"in sleep: await asyncio\.sleep\(LONG\)"),
        ("recv", r"in recv: await asyncio\.get_running_loop\(\)\.sock_recv"),
        ("group", r"in sleep: await asyncio\.sleep\(LONG\)"),
        ("limited", r"in limited: await anyio\.sleep\(LONG\)"),
        ("thread", r"in napping: time\.sleep\(2\.5\)"),
        ("blocking", r"in blocking: time\.sleep\(LONG\)"),
        ("loop", r"in loop: (while True:|pass)"),
        ("mutex", r"in mutex: libc\.pthread_mutex_lock\(lock\)"),
    ],
)
def test_the_log_tells_where(server, kind, place):
    target = start(server)
    request_id = late(target, f"/stuck/{kind}").header("X-Request-Id")
    line = rf"\[CRITICAL\]   request {request_id}: "
    target.wait_log(line + r"at .*asgi_late\.py:\d+ " + place)
    assert re.search(rf"\[CRITICAL\] .*GET /stuck/{kind} \(request {request_id}\).*answered 504", target.log())


def records(target, kind):
    command = [CTL, "timeouts", "--json", "--state-dir", target.folder / "state"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [each for each in json.loads(text)["records"] if each["kind"] == kind]


def test_the_record_has_the_tasks_stack(server):
    target = start(server, "--state-dir", "state")
    with target.connect() as other:
        # Waits elsewhere at the same time, in the same thread.
        other.send(request("/stuck/event"))
        time.sleep(0.1)
        request_id = late(target, "/stuck/sleep").header("X-Request-Id")
        other.response()

    def mine():
        return [each for each in records(target, "timeout") if each["request"]["id"] == request_id]

    [found] = wait_until(mine, what="the record")
    functions = [frame["function"] for frame in found["frames"] if frame["file"].endswith("asgi_late.py")]
    assert functions[0] == "sleep" and "event" not in functions, found["frames"]


def test_what_a_task_waits_for_is_known(server):
    """The interpreter tells what calls hold in their variables, and which thread of an executor works for a task."""
    target = start(server, "--state-dir", "state")

    def found(path):
        request_id = late(target, path).header("X-Request-Id")
        mine = lambda: [each for each in records(target, "timeout") if each["request"]["id"] == request_id]  # noqa: E731
        [record] = wait_until(mine, what="the record")
        return record["diagnosis"], [frame.get("locals", {}) for frame in record["frames"]]

    diagnosis, variables = found("/stuck/asks")
    assert diagnosis["cause"] == "external.timeout_too_long", diagnosis
    assert {"timeout": "120"} in variables or {"timeout": "120.0"} in variables, variables
    diagnosis, _ = found("/stuck/thread")
    assert diagnosis["cause"] == "explicit_sleep" and diagnosis["confidence"] > 0.9, diagnosis
    assert any("nanosleep" in evidence["text"] for evidence in diagnosis["evidence"]), "the executor's own thread was seen"
    diagnosis, variables = found("/stuck/sleep")
    assert diagnosis["cause"] == "explicit_sleep" and {"delay": "60"} in variables, (diagnosis, variables)


def test_a_blocking_call_is_named_with_who_waited(server):
    target = start(server, "--state-dir", "state", "--timeout", "10")
    crowd = [target.connect() for _ in range(7)]
    try:
        for client in crowd[:2]:
            client.send(request("/nap?0.3"))
        time.sleep(0.1)
        with target.connect() as blocking:
            blocking.send(request("/block?0.7"))
            time.sleep(0.2)
            for client in crowd[2:]:
                client.send(request("/hello"))
            assert blocking.response().body == b"blocked"
        assert [client.response().body for client in crowd] == [b"slept"] * 2 + [b"hello"] * 5
    finally:
        for client in crowd:
            client.sock.close()
    line = target.wait_log(
        r"A blocking call in the event loop for (0\.\d) s: GET /block \(request \S+\)"
        r" at .*asgi_late\.py:\d+ in block; (\d+) requests waited, up to (0\.\d) s; (\d) that had begun could not go on"
    )
    assert 0.6 <= float(line[1]) <= 0.9 and int(line[2]) == 5 and float(line[3]) >= 0.4 and int(line[4]) == 2
    [record] = wait_until(lambda: records(target, "blocked"), what="a record")
    assert record["request"]["path"] == "/block" and record["frames"][0]["function"] == "block"
    text = subprocess.run(
        [CTL, "timeouts", "--state-dir", target.folder / "state"], capture_output=True, text=True, check=True
    ).stdout
    assert "/block" in text


def test_requests_shows_tasks_and_websockets(target):
    def running():
        command = [CTL, "requests", "--json", "--pid", str(target.pid)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {(each["path"], each["phase"]) for each in json.loads(text)["requests"]}

    with connect(f"ws://127.0.0.1:{target.port}/echo"), target.connect() as client:
        client.send(request("/nap?0.8"))
        wait_until(lambda: {("/echo", "websocket"), ("/nap", "app")} <= running(), 2, "both")
        assert client.response().body == b"slept"
    wait_until(lambda: running() == set(), 2, "nobody")


def test_reload_says_good_bye(server):
    """Who is busy is let finish, a WebSocket is told that the service restarts."""
    target = start(server, "--timeout", "30")
    [before] = target.workers()
    with connect(f"ws://127.0.0.1:{target.port}/echo") as socket, target.connect() as client:
        client.send(request("/drip"))
        time.sleep(0.3)
        target.kill(signal.SIGHUP)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 1012
        assert client.response().body == b"drop" * 5
    wait_until(lambda: target.workers() and before not in target.workers(), what="another worker")


def test_connections_are_limited(server):
    target = start(server, "--worker-connections", "5", "--timeout", "30")
    begun = time.monotonic()
    answers, _ = together(target, ["/nap?0.5"] * 15)
    assert {answer.status for answer in answers} == {200}
    assert time.monotonic() - begun > 1.3
