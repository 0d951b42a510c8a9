"""Memory that grows with requests is found beside the running server, with a number of requests after which to replace workers."""

import json
import threading
import time

import pytest

from harness import ctl, wait_until

pytestmark = [pytest.mark.only_ferricorn("it is Ferricorn's"), pytest.mark.timeout(180)]


def findings(target):
    outcome = ctl("check", "--json", target.pid)
    document = json.loads(outcome.stdout)
    return {found["code"]: found for found in document["findings"]}, document["facts"]["observed"]


def serve(target, path, until, pause=0.01):
    """About a hundred requests a second, on one connection."""
    with target.connect() as connection:
        while not until.is_set():
            connection.request(path)
            time.sleep(pause)


def test_a_leak_is_found_and_a_flat_server_left_alone(server, tmp_path):
    args = ["-k", "gthread", "-w", "1", "--threads", "2", "--keep-alive", "75"]
    leaky, flat = (
        server(*args, "--state-dir", tmp_path / name, "--name", name, app="leaky:app") for name in ("leaky", "flat")
    )
    over = threading.Event()
    loads = [threading.Thread(target=serve, args=(target, path, over)) for target, path in ((leaky, "/leak"), (flat, "/flat"))]
    for load in loads:
        load.start()
    try:
        # The observer writes once a minute.
        found = wait_until(lambda: findings(leaky)[0].get("worker.memory_grows"), 150, "the leak")
    finally:
        over.set()
        for load in loads:
            load.join()
    growth = findings(leaky)[1]["growth"]
    assert 15_000 < growth["per_request"] < 30_000 and growth["pid"] in leaky.workers()
    assert growth["from"]["requests"] < growth["to"]["requests"] and growth["from"]["rss"] < growth["to"]["rss"]
    assert "`max_requests = " in found["fix"] and f"worker {growth['pid']} had" in found["what"]
    assert findings(flat)[1]["growth"] is None
