"""A worker that hangs while it loads the application: the log says where, and it is replaced, or a reload abandoned."""

import os
import re
import signal

import pytest

from harness import wait_until

pytestmark = pytest.mark.only_ferricorn("never notices a boot that hangs")

HANGING = """
import os, time

def wait_for_rates():
    if os.path.exists({flag!r}):
        os.remove({flag!r})
        {call}

wait_for_rates()
from probe import app
"""
CALLS = {
    "sleep": "time.sleep(60)",
    "loop": "while True: pass",
    # C code that keeps the interpreter and does not look for signals.
    "hold": "sum(range(10**11))",
}


@pytest.fixture
def flag(tmp_path):
    """A file that makes the next worker hang; it takes it away."""
    path = tmp_path / "hang"
    path.touch()
    return path


def write(folder, flag, kind="sleep"):
    (folder / "rates.py").write_text(HANGING.format(flag=str(flag), call=CALLS[kind]))
    (folder / "hanging.py").write_text("from rates import app\n")


def test_booting_has_its_own_limit(server, tmp_path):
    """Neither `timeout` counts while the application loads, nor `boot_timeout` afterwards."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1.5)\nfrom probe import app\n")
    target = server("--timeout", "1", "--boot-timeout", "10", app="slow:app", path=[tmp_path])
    target.wait_serving(1)
    target.kill(signal.SIGHUP)
    target.wait_log("Reload finished")
    assert target.get("/sleep?0.5").body == b"slept"
    assert "CRITICAL" not in target.log()


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("worker_class", ["sync", "gevent"])
def test_the_log_says_where_a_boot_hangs(server, tmp_path, flag, kind, worker_class):
    write(tmp_path, flag, kind)
    target = server("-k", worker_class, "--boot-timeout", "1", app="hanging:app", path=[tmp_path], ready=False)
    pid = target.wait_log(r"\[CRITICAL\] Worker \(pid:(\d+)\) has not booted within 1 s$").group(1)
    place = re.escape(str(tmp_path / "rates.py"))
    target.wait_log(rf"\[CRITICAL\]   at {place}:\d+ in wait_for_rates$")
    target.wait_log(rf"\[CRITICAL\]   at {place}:9 in <module>$")
    target.wait_log(rf"\[CRITICAL\]   at {re.escape(str(tmp_path))}/hanging\.py:1 in <module>$")
    assert "importlib" not in target.log()
    wait_until(lambda: int(pid) not in target.workers())
    target.wait_log("was killed by SIGKILL after its boot timeout" if kind == "hold" else rf"\(pid:{pid}\) exited with code 1\.")
    target.wait_serving(1)
    assert target.get().body == b"hello"


def test_a_hook_that_hangs_is_told_too(server, tmp_path, flag):
    config = (
        "import os, time\n"
        "def post_fork(server, worker):\n"
        f"    if os.path.exists({str(flag)!r}):\n"
        f"        os.remove({str(flag)!r})\n"
        "        time.sleep(60)\n"
    )
    target = server("--boot-timeout", "1", config=config, ready=False)
    target.wait_log(r"\[CRITICAL\]   at .*settings\.py:5 in post_fork$")
    target.wait_log("was sent SIGABRT!")
    target.wait_serving(1)


def test_a_reload_whose_boot_hangs_is_abandoned(server, tmp_path, flag):
    flag.unlink()
    write(tmp_path, flag)
    target = server("-w", "2", "--boot-timeout", "1", app="hanging:app", path=[tmp_path])
    before = target.wait_serving(2)
    flag.touch()
    target.kill(signal.SIGHUP)
    target.wait_log(r"Reload abandoned: new worker \(pid:\d+\) failed; 2 workers go on serving")
    target.wait_log("in wait_for_rates$")
    wait_until(lambda: target.workers() == before)
    assert target.get().body == b"hello"


def test_a_stopped_worker_says_nothing(server, tmp_path, flag):
    write(tmp_path, flag)
    target = server("--boot-timeout", "1", app="hanging:app", path=[tmp_path], ready=False)
    pid = int(target.wait_log(r"Booting worker with pid: (\d+)").group(1))
    os.kill(pid, signal.SIGSTOP)
    target.wait_log(r"\[CRITICAL\]   it does not say where it is$")
    target.wait_log("was killed by SIGKILL after its boot timeout")


def test_nothing_of_it_stays_open(server):
    target = server("-w", "2")
    pids = target.wait_serving(2)
    for pid in (target.pid, *pids):
        wait_until(lambda pid=pid: "ferricorn-stack" not in " ".join(links(pid)), what=f"closed in {pid}")


def links(pid):
    return [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
