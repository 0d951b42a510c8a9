"""Instant requests beside slow ones: none fails, and none waits as long as one application thread somewhere is free.

In continuous integration the machine is noisy and time is short; ``SLOW_FULL=1`` runs a minute and measures strictly.
"""

import os
import threading
import time

import pytest

from harness.load import Load

FULL = bool(os.environ.get("SLOW_FULL"))
SECONDS = 60 if FULL else 10
QUANTILE, LIMIT = (0.99, 0.05) if FULL else (0.9, 0.5)
SLOW = 2.5
EVERY = 3.0
pytestmark = pytest.mark.timeout(SECONDS + 50)
RATE = 100

CLASSES = {"sync": ("-k", "sync"), "gthread": ("-k", "gthread", "--threads", "4")}


class Slow:
    """Slow requests, each on a thread and a connection of its own."""

    def __init__(self, target):
        self.target = target
        self.threads = []
        self.wrong = []
        self.seconds = []

    def begin(self, path):
        self.threads.append(threading.Thread(target=self._one, args=(path,), daemon=True))
        self.threads[-1].start()

    def _one(self, path):
        begun = time.monotonic()
        try:
            response = self.target.get(path, timeout=20.0)
        except (OSError, EOFError, AssertionError) as error:
            self.wrong.append(f"{path}: {error!r}")
            return
        self.seconds.append(time.monotonic() - begun)
        if response.status != 200:
            self.wrong.append(f"{path}: {response.status}")

    def join(self):
        for thread in self.threads:
            thread.join(30.0)
        assert not self.wrong
        assert len(self.seconds) == len(self.threads)


def loads(target):
    """Half of the instant requests on new connections, half on kept ones."""
    return [Load(target.address, clients=4, rate=RATE / 2, keep=keep) for keep in (False, True)]


def check(load, least):
    result = load.stop()
    assert result.failures == []
    assert len(result.seconds) >= least, "the load itself was stalled"
    assert set(result.bodies) == {b"hello"}
    assert result.quantile(QUANTILE) < LIMIT, f"kept={load.keep}, worst {max(result.seconds):.3f} s"


def beside(target, paths, seconds=SECONDS):
    """One slow request every few seconds, never two at once."""
    slow = Slow(target)
    fresh, kept = loads(target)
    with fresh, kept:
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end:
            begun = time.monotonic()
            slow.begin(paths[turn % len(paths)])
            turn += 1
            slow.threads[-1].join(30.0)
            time.sleep(max(0.0, min(begun + EVERY, end) - time.monotonic()))
    slow.join()
    for load in (fresh, kept):
        check(load, seconds * RATE / 2 * 0.5)


@pytest.mark.parametrize("args", CLASSES.values(), ids=CLASSES)
def test_one_slow_request_at_a_time(server, args):
    target = server("-w", "2", *args, app="slow_calls:app")
    target.wait_workers(2)
    beside(target, [f"/{name}?{SLOW}" for name in ("sleep", "burn", "lock", "drip")])


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(CLASSES["sync"], id="sync"),
        pytest.param(
            CLASSES["gthread"],
            id="gthread",
            marks=pytest.mark.only_ferricorn("requests that the stuck process has accepted wait for it"),
        ),
    ],
)
def test_interpreter_held(server, args):
    """C code that does not release the interpreter: the whole process is stuck, its sibling is not."""
    target = server("-w", "2", *args, app="slow_calls:app")
    target.wait_workers(2)
    beside(target, [f"/hold?{SLOW}"], SECONDS if FULL else 2 * EVERY)


@pytest.mark.parametrize(
    ("args", "count"),
    [
        pytest.param(CLASSES["sync"], 1, id="sync"),
        pytest.param(
            CLASSES["gthread"],
            7,
            id="gthread",
            marks=pytest.mark.only_ferricorn("a worker takes connections that its sibling has free threads for"),
        ),
    ],
)
@pytest.mark.parametrize("name", ["sleep", "drip"])
def test_one_thread_left(server, args, count, name):
    """All threads but one are busy: neither the slow requests nor the instant ones wait for a thread."""
    target = server("-w", "2", *args, app="slow_calls:app")
    target.wait_workers(2)
    slow = Slow(target)
    fresh, kept = loads(target)
    with fresh, kept:
        for _ in range(count):
            slow.begin(f"/{name}?{SLOW}")
        slow.join()
    assert max(slow.seconds) < SLOW + 1.5, "a slow request waited for another although a thread was free"
    for load in (fresh, kept):
        check(load, SLOW * RATE / 2 * 0.5)


@pytest.mark.parametrize("args", CLASSES.values(), ids=CLASSES)
def test_no_loss_while_nobody_is_free(server, args):
    """Every thread is busy for a while: requests wait, and then all of them are answered."""
    target = server("-w", "2", *args, app="slow_calls:app")
    target.wait_workers(2)
    slow = Slow(target)
    fresh, kept = loads(target)
    with fresh, kept:
        for _ in range(12):
            slow.begin("/sleep?1")
        slow.join()
        time.sleep(0.5)
    for load in (fresh, kept):
        result = load.stop()
        assert result.failures == []
        assert set(result.bodies) == {b"hello"}
