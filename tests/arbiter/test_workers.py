"""Workers: crashes, hangs, replacement, and life without a master."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from harness import wait_until
from harness.load import Load
from harness.server import alive
from harness.wire import request


def test_killed_worker_is_replaced(server):
    target = server("-w", "2")
    victim = target.wait_serving(2)[0]
    os.kill(victim, signal.SIGKILL)
    target.wait_log(rf"Worker \(pid:{victim}\) was sent SIGKILL! Perhaps out of memory\?")
    wait_until(lambda: victim not in target.workers())
    target.wait_workers(2)
    assert target.get().body == b"hello"


def test_worker_that_leaves_is_replaced(server, tmp_path):
    (tmp_path / "leaving.py").write_text("import os\nfrom probe import app as other\n\n"
        "def app(environ, start):\n    if environ['PATH_INFO'] == '/leave':\n        os._exit(5)\n    return other(environ, start)\n")
    target = server(app="leaving:app", path=[tmp_path])
    [victim] = target.wait_serving(1)
    with target.connect() as client:
        client.send(request("/leave"))
        # Gunicorn closes; here the guardian answers.
        assert client.at_end() or client.data.startswith(b"HTTP/1.1 502 ")
    target.wait_log(rf"Worker \(pid:{victim}\) exited with code 5")
    wait_until(lambda: target.workers() not in ([], [victim]))
    assert target.get().body == b"hello"


@pytest.mark.only_ferricorn("forks at once, again and again")
def test_crash_loop_slows_down(server, tmp_path):
    (tmp_path / "crashing.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    target = server(app="crashing:app", path=[tmp_path], ready=False)
    target.wait_log(r"failed early; the next one starts in 0\.8 s")
    started = len(re.findall("Booting worker", target.log()))
    assert started <= 6
    assert target.stop() == 0


def test_frozen_worker_is_replaced(server):
    target = server("--timeout", "1", "-w", "2")
    victim = target.wait_serving(2)[0]
    os.kill(victim, signal.SIGSTOP)
    target.wait_log(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{victim}\)")
    wait_until(lambda: victim not in target.workers())
    target.wait_workers(2)
    assert target.get().body == b"hello"


@pytest.mark.only_ferricorn("kills workers after a pause of the whole host")
def test_a_server_that_was_stopped_as_a_whole_goes_on(server):
    target = server("--timeout", "1", "-w", "2")
    workers = target.wait_serving(2)
    os.killpg(target.pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.killpg(target.pid, signal.SIGCONT)
    time.sleep(1.5)
    assert target.workers() == workers
    assert "WORKER TIMEOUT" not in target.log()
    assert target.get().body == b"hello"


@pytest.mark.only_ferricorn("kills all of them at once")
def test_workers_that_freeze_together_are_replaced_one_by_one(server):
    target = server("--timeout", "2", "-w", "3")
    victims = target.wait_serving(3)
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    first = int(target.wait_log(r"\[CRITICAL\] WORKER TIMEOUT \(pid:(\d+)\)$").group(1))
    target.wait_log("2 more workers give no sign of life; no more than 1 in 2 s are killed, the others wait$")
    # The cause is gone: nobody else is killed.
    spared = [pid for pid in victims if pid != first]
    for pid in spared:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: first not in target.workers())
    time.sleep(2.5)
    assert set(spared) < set(target.wait_workers(3))
    assert target.log().count("WORKER TIMEOUT") == 1
    assert target.get().body == b"hello"


@pytest.mark.only_ferricorn("sync: kills the worker")
@pytest.mark.parametrize("options", [(), ("--threads", "2")])
def test_slow_request_is_no_frozen_worker(server, options):
    target = server("--timeout", "1", *options, config='route_timeouts = {"/sleep": 30}\n')
    before = target.workers()
    assert target.get("/sleep?2.5").body == b"slept"
    assert target.workers() == before
    assert "WORKER TIMEOUT" not in target.log()


@pytest.mark.parametrize("options", [(), ("--threads", "4")])
def test_workers_are_recycled_without_loss(server, options):
    target = server("-w", "2", "--max-requests", "100", "--max-requests-jitter", "20", *options)
    before = target.wait_serving(2)
    with Load(target.address, "/pid", clients=4, rate=300) as load:
        wait_until(lambda: not set(before) & set(target.workers()), 20)
        wait_until(lambda: len(set(load.result.bodies)) >= 4, 20)
    result = load.stop()
    assert result.failures == []
    counts = [result.bodies.count(b"%d" % pid) for pid in before]
    assert all(90 <= count <= 160 for count in counts), counts
    assert "Autorestarting worker after current request." in target.log()


@pytest.mark.only_ferricorn("looks for its parent every 15 s")
def test_workers_do_not_outlive_their_master(server):
    target = server("-w", "2")
    workers = target.wait_serving(2)
    target.kill(signal.SIGKILL)
    wait_until(lambda: not any(map(alive, workers)), 10, "workers gone")


def test_child_processes_of_hooks_are_theirs(server):
    config = (
        "import subprocess\n"
        "def when_ready(server):\n"
        "    for code in range(20):\n"
        "        assert subprocess.run(['sh', '-c', f'exit {code}']).returncode == code\n"
        "    server.log.info('all codes are right')\n"
    )
    target = server("-w", "2", config=config)
    target.wait_log("all codes are right")


@pytest.mark.parametrize("count", [1, 3])
def test_descriptors_do_not_pile_up(server, count):
    target = server("-w", count)
    target.wait_serving(count)
    before = len(os.listdir(f"/proc/{target.pid}/fd"))
    for turn in range(3):
        target.kill(signal.SIGHUP)
        target.wait_log("Handling signal: hup", turn + 1)
        time.sleep(0.5)
        target.wait_serving(count)
    assert len(os.listdir(f"/proc/{target.pid}/fd")) <= before


@pytest.mark.only_ferricorn("each has a heartbeat file of its own")
def test_workers_hold_no_more_than_they_need(server):
    """Neither pidfile nor the master's own pipes, and nothing of a sibling."""
    target = server("-w", "2", bind="unix")
    first, second = target.wait_serving(2)
    one, two = (sorted(os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()) for pid in (first, second))
    kinds = [re.sub(r"\d+", "N", " ".join(links)) for links in (one, two)]
    assert kinds[0] == kinds[1]
