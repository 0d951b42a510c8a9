"""Every request is a task of asyncio: what frameworks do with tasks, timers, threads, processes, context variables."""

import ast
import concurrent.futures
import threading
import time

import pytest

from harness import ASGI, exchange, request

APP = "asgi_tasks:app"
ours = pytest.mark.only_ferricorn
CHECKS = [
    "current_task",
    "task_can_be_cancelled_by_the_application",
    "child_tasks",
    "timeouts",
    "timers",
    "threads",
    "subprocesses",
    "signals",
    "streams",
    "readers_and_writers",
    "exception_handler",
    "locks",
    "async_generators",
    "anyio_groups",
    "anyio_scopes",
    "anyio_threads",
]


@pytest.fixture(scope="module")
def running(module_server):
    return module_server("-k", ASGI, app=APP)


@pytest.mark.parametrize("name", CHECKS)
def test_check(running, name):
    response = running.get(f"/{name}")
    assert (response.status, response.body) == (200, b"'ok'")


@ours("runs in uvloop, or in whatever its class says")
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_checks_in_either_loop(module_server, kind):
    server = module_server("-k", ASGI, "--asgi-loop", kind, app=APP)
    assert server.get("/loop").body == kind.encode()
    for name in CHECKS:
        response = server.get(f"/{name}")
        assert (response.status, response.body) == (200, b"'ok'"), name


def test_checks_side_by_side(running):
    """Not those that need the process to themselves."""
    names = [name for name in CHECKS if name not in ("signals", "exception_handler", "subprocesses")] * 4
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: running.get(f"/{name}").body, names))
    assert answers == [b"'ok'"] * len(names)


# context variables


def variable(response):
    return ast.literal_eval(response.body.decode())


def test_context_is_the_requests_own(running):
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda number: variable(running.get(f"/variable?{number}")), range(40)))
    assert answers == [["unset", str(number), str(number), str(number)] for number in range(40)]


@pytest.mark.parametrize("body", [None, b"body", b"x" * 60_000])
def test_context_on_a_kept_connection(running, body):
    """Nothing of the request before."""
    with running.connect() as client:
        for number in range(4):
            seen = variable(client.request(f"/variable?{number}", "POST", body=body))
            assert seen == ["unset", str(number), str(number), str(number)]


@ours("starts a pipelined request in the context of the one before")
def test_context_of_pipelined_requests(running):
    raw = request("/variable?1") + request("/variable?2", close=True)
    result = exchange(running.address, raw, methods=("GET", "GET"))
    assert [variable(response)[0] for response in result.responses] == ["unset", "unset"]


@ours("watches a connection again in the context of the request that has read a large body")
def test_context_after_a_large_body(running):
    with running.connect() as client:
        for number in range(3):
            assert variable(client.request(f"/variable?{number}", "POST", body=b"x" * 2_000_000))[0] == "unset"


def test_one_context_across_messages(running):
    with running.connect() as client:
        head = request("/token", "POST", headers=[("Content-Length", "4")])
        client.send([head, b"bo", b"dy"], pause=0.03)
        assert client.response().body == b"bodyunset"


# a blocked loop


def test_loop_that_is_blocked_goes_on(running):
    """Who waited meanwhile is served, each with their own answer."""
    blocker = threading.Thread(target=running.get, args=("/blocks?0.4",))
    blocker.start()
    time.sleep(0.1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: running.get("/hello").body, range(24)))
    blocker.join()
    assert answers == [b"hello"] * 24


@pytest.mark.parametrize("seconds", [0, 0.002, 0.03, 0.1])
def test_short_blocks_on_one_connection(running, seconds):
    with running.connect() as client:
        for _ in range(5):
            assert client.request(f"/blocks?{seconds}").body == b"blocked"
            assert client.request("/hello").body == b"hello"
            assert client.request("/current_task").body == b"'ok'"
