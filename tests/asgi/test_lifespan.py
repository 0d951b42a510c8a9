"""The application's start and stop: ``lifespan`` with everything that may go wrong in it, and the setting for it."""

import ast
import time

import pytest

from harness import ASGI, FERRICORN, expected, request, wait_until

APP = "asgi_lifespan:app"
ours = pytest.mark.only_ferricorn
STARTUP, SHUTDOWN = "{'type': 'lifespan.startup'}", "{'type': 'lifespan.shutdown'}"


@pytest.fixture
def start(server, tmp_path):
    """Starts a server whose lifespan goes as said; ``trace()`` tells what it has written."""

    def run(lifespan, *args, app=APP, **options):
        trace = tmp_path / "trace"
        env = {"LIFESPAN": lifespan, "TRACE": str(trace)}
        running = server("-k", ASGI, *args, app=app, env=env, **options)
        running.trace = lambda: trace.read_text().splitlines() if trace.exists() else []
        running.how = trace.with_name("trace.how")
        return running

    return run


def served(server, path="/scope"):
    """Waits for an answer: stock Gunicorn listens before its worker has started."""

    def answer():
        try:
            return server.get(path)
        except (EOFError, OSError):
            return None

    response = wait_until(answer, 10, "an answer")
    assert response.status == 200, response
    return ast.literal_eval(response.body.decode())


def test_start_and_stop(start):
    running = start("good")
    seen = served(running)
    assert ast.literal_eval(seen["lifespan"]) == {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
    }
    assert (seen["state"], seen["variable"]) == ({"answer": 42}, "unset")
    assert served(running, "/same") == {"loop": True, "thread": True, "task": False, "main": True}
    assert running.trace() == [STARTUP]
    assert running.stop() == 0
    assert running.trace() == [STARTUP, SHUTDOWN, "end"]
    order = ["Waiting for application startup", "Application startup complete", "Waiting for application shutdown"]
    places = [running.log().find(text) for text in [*order, "Application shutdown complete"]]
    assert -1 not in places and places == sorted(places)


@ours("waits for workers that do not hear it, and kills them")
@pytest.mark.parametrize("number", [2, 3], ids=["INT", "QUIT"])
def test_stop_by_other_signals(start, number):
    """Quickly, but with the application's shutdown."""
    running = start("good")
    served(running)
    running.stop(number, 5)
    assert running.trace() == [STARTUP, SHUTDOWN, "end"]


def test_nothing_is_served_before_the_start_is_complete(start):
    running = start("slow")
    served(running)
    assert running.trace()[0] == STARTUP
    running.stop()
    assert running.trace() == [STARTUP, SHUTDOWN]


def test_shutdown_comes_after_the_last_request(start):
    running = start("good")
    served(running)
    with running.connect() as client:
        client.send(request("/sleep?0.6"))
        time.sleep(0.2)
        running.kill(15)
        assert client.response().body == b"slept"
    assert running.wait() == 0
    assert running.trace() == [STARTUP, "request ends", SHUTDOWN, "end"]


@pytest.mark.parametrize("lifespan", ["unsupported", "asserts", "raises_on_startup"])
def test_application_without_lifespan(start, lifespan):
    """By default an error means that it knows none."""
    running = start(lifespan)
    assert served(running)["state"] == {}
    assert "lifespan" in running.log() and "Traceback" not in running.log()
    assert running.stop() == 0


def test_application_that_returns_from_its_lifespan(start):
    running = start("returns")
    assert served(running)["state"] == {}
    assert running.stop() == 0
    assert "Traceback" not in running.log()


@pytest.mark.parametrize("lifespan", ["returns_after_startup", "raises_after_startup"])
def test_lifespan_that_ends_early(start, lifespan):
    """Requests go on, and the stop does not wait for an answer."""
    running = start(lifespan)
    assert served(running)["state"] == {}
    begun = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - begun < 4
    assert running.trace() == [STARTUP]


@pytest.mark.parametrize("lifespan", ["failed", "failed_without_reason"])
def test_startup_failed(start, lifespan):
    """The server ends, and says why; Gunicorn's worker code for that is 3."""
    running = start(lifespan, ready=False)
    assert running.wait() == 3
    assert lifespan != "failed" or "no database today" in running.log()


@ours("has no setting for it with this worker class")
@pytest.mark.parametrize("lifespan", ["unsupported", "raises_on_startup"])
def test_lifespan_on(start, lifespan):
    """An error is an error."""
    running = start(lifespan, "--asgi-lifespan", "on", ready=False)
    assert running.wait() == 3
    assert "Traceback" in running.log() and "RuntimeError" in running.log()


@ours("has no setting for it with this worker class")
def test_lifespan_off(start):
    running = start("good", "--asgi-lifespan", "off")
    assert served(running) == {"state": {}, "lifespan": None, "variable": "unset"}
    assert running.stop() == 0
    assert running.trace() == []


@pytest.mark.parametrize(
    ("lifespan", "said"),
    [
        ("shutdown_failed", "could not say goodbye"),
        ("raises_on_shutdown", expected(ferricorn="at shutdown", gunicorn="")),
    ],
)
def test_shutdown_failed(start, lifespan, said):
    """Uvicorn, by default, hides an error."""
    running = start(lifespan)
    served(running)
    assert running.stop() == 0
    assert running.trace() == [STARTUP, SHUTDOWN]
    assert said in running.log()


def test_tasks_of_the_lifespan(start):
    running = start("works_beside")
    first = served(running, "/beats")
    wait_until(lambda: served(running, "/beats") > first + 3, 3, "the task beside")
    running.stop()
    assert running.trace() == [STARTUP, SHUTDOWN, "task cancelled"]


def test_every_worker_has_its_own(start):
    running = start("good", "-w", "2")
    wait_until(lambda: running.trace() == [STARTUP] * 2, 10, "two starts")
    running.stop()
    assert sorted(running.trace()) == sorted([STARTUP, SHUTDOWN, "end"] * 2)


def test_hup_stops_the_old_after_the_new_has_started(start):
    running = start("good")
    old = served(running, "/pid")
    running.kill(1)
    wait_until(lambda: served(running, "/pid") != old, 10, "a new worker")
    wait_until(lambda: len(running.trace()) >= 4, 10, "the old worker's end")
    assert sorted(running.trace()) == sorted([STARTUP, STARTUP, SHUTDOWN, "end"])
    if FERRICORN:
        assert running.trace()[:2] == [STARTUP, STARTUP]


@ours("stops the old workers, and then itself")
@pytest.mark.parametrize("lifespan", ["failed", "failed_without_reason"])
def test_failed_start_at_hup_keeps_the_old_workers(start, lifespan):
    running = start("good")
    old = served(running, "/pid")
    running.how.write_text(lifespan)
    running.kill(1)
    if lifespan == "failed":
        running.wait_log("no database today")
    time.sleep(1.5)
    for _ in range(20):
        assert served(running, "/pid") == old
    running.how.write_text("good")
    running.kill(1)
    wait_until(lambda: served(running, "/pid") != old, 15, "a new worker once it can start")


def test_old_applications_are_called_twice(start):
    """ASGI 2."""
    running = start("good", app="asgi_lifespan:old")
    assert served(running)["state"] == {"answer": 42}
    running.stop()
    assert running.trace() == [STARTUP, SHUTDOWN, "end"]
