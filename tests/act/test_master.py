"""A master in the place of a stock Gunicorn's: from outside where its loop stands, by itself where that turns. No visitor notices."""

import contextlib
import os
import re
import signal

import pytest

from harness import wait_until
from harness.crowd import Visitors
from harness.server import alive, children

pytestmark = [pytest.mark.only_ferricorn("its own observer"), pytest.mark.timeout(120)]

RULE = """
mode = "act"
[[rule]]
name = "another-master"
when = '{when}'
do = ["restart_master"]
"""


@pytest.fixture
def masters():
    """Pids of masters that have come; they are ended."""
    pids = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not any(map(alive, pids)), 30, "their end")


def stock(case, when, *args):
    if case.host == "ferricorn":
        pytest.skip("a master of its own is not replaced")
    return case(*args, mode=None, policy=RULE.format(when=when))


def replaced(one, masters):
    action = one.wait_action("restart_master", "done", 60)
    masters.append(int(re.search(r"master (\d+) serves", action["text"])[1]))
    wait_until(lambda: one.server.process.poll() is not None, 30, "the end of the old master")
    return masters[0]


def test_a_master_whose_loop_stands_is_replaced(case, masters, tmp_path):
    pidfile = tmp_path / "gunicorn.pid"
    one = stock(case, 'cause == "arbiter.wedged"', "--workers", 2, "--pid", pidfile)
    crowd = Visitors(one.server, "/", 4)
    os.kill(one.server.pid, signal.SIGSTOP)
    # Nobody replaces it.
    os.kill(one.server.workers()[0], signal.SIGKILL)
    master = replaced(one, masters)
    assert one.server.process.returncode == -signal.SIGKILL
    wait_until(lambda: len(children(master)) == 2, 10, "its workers")
    lost = [status for status in crowd.leave() if status != 200]
    # The one whose worker was killed here.
    assert len(lost) <= 4, lost
    assert one.server.get("/").status == 200
    assert int(pidfile.read_text()) == master
    assert not list(tmp_path.glob("*.wedged"))
    # It hears what the old one did not, and is observed.
    os.kill(master, signal.SIGTTIN)
    wait_until(lambda: len(children(master)) == 3, 10, "one worker more")
    wait_until(lambda: f"(pid:{master})" in (tmp_path / "observer.log").read_text(), 10, "that it is observed")
    [incident] = [each for each in one.incidents() if each["cause"] == "arbiter.wedged"]
    assert "is stopped" in incident["verdict"]


def test_a_new_master_that_does_not_serve_changes_nothing(case, tmp_path):
    broken = tmp_path / "version"
    broken.write_text("good")
    if case.host == "ferricorn":
        pytest.skip("a master of its own is not replaced")
    pidfile = tmp_path / "gunicorn.pid"
    policy = RULE.format(when='cause == "arbiter.wedged"')
    env = {"VERSION_FILE": str(broken)}
    one = case("--workers", 1, "--pid", pidfile, mode=None, policy=policy, env=env)
    broken.write_text("broken")
    os.kill(one.server.pid, signal.SIGSTOP)
    action = one.wait_action("restart_master", "failed", 60)
    assert "has ended without serving" in action["text"]
    assert int(pidfile.read_text()) == one.server.pid
    assert one.server.get("/").status == 200
    os.kill(one.server.pid, signal.SIGCONT)


def test_a_master_whose_loop_turns_replaces_itself(case, masters):
    one = stock(case, 'cause == "deadlock" && state == "open"', "--workers", 1, "--threads", 4, "--timeout", 3)
    one.later("/stuck", 4)
    replaced(one, masters)
    wait_until(lambda: one.server.get("/").status == 200, 10, "an answer")
