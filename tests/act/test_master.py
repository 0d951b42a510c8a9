"""A master in the place of a stock Gunicorn's: from outside where its loop stands, by itself where that turns. No visitor notices."""

import contextlib
import os
import re
import signal
import time

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


def stock(case, when, *args, **options):
    if case.host == "ferricorn":
        pytest.skip("a master of its own is not replaced")
    return case(*args, mode=None, policy=RULE.format(when=when), **options)


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
    pidfile = tmp_path / "gunicorn.pid"
    env = {"VERSION_FILE": str(broken)}
    one = stock(case, 'cause == "arbiter.wedged"', "--workers", 1, "--pid", pidfile, env=env)
    broken.write_text("broken")
    os.kill(one.server.pid, signal.SIGSTOP)
    action = one.wait_action("restart_master", "failed", 60)
    assert "has ended without serving" in action["text"]
    assert int(pidfile.read_text()) == one.server.pid
    assert one.server.get("/").status == 200
    os.kill(one.server.pid, signal.SIGCONT)


def told(one, pattern):
    """What the audit says of it."""
    found = (re.search(pattern, row["after"]) for row in one.audit()["actions"])
    return next((each[1] for each in found if each), None)


class Interrupted:
    """A succession whose observer is killed in the middle of it, before a crowd."""

    def __init__(self, case, masters, folder):
        self.pidfile, self.version = folder / "gunicorn.pid", folder / "version"
        self.version.write_text("good")
        args = "--workers", 2, "--pid", self.pidfile
        self.one = stock(case, 'cause == "arbiter.wedged"', *args, env={"VERSION_FILE": str(self.version)})
        self.old, self.masters = self.one.server.pid, masters
        self.crowd = Visitors(self.one.server, "/", 4)

    def begin(self, version="good"):
        """Until the new master was started; of this version are its workers."""
        self.version.write_text(version)
        os.kill(self.old, signal.SIGSTOP)
        self.new = int(wait_until(lambda: told(self.one, r"master (\d+) is started beside"), 40, "a new master"))
        self.masters.append(self.new)

    def kill_observer(self):
        os.kill(self.one.observer(), signal.SIGKILL)
        self.one.server.observer.wait(5)
        assert not self.ends(), "it was over already"

    def observe_again(self, by_pidfile, *words):
        """By the old master's pid, or whoever's pid stands in the file."""
        who = ("--pidfile", self.pidfile) if by_pidfile else ("--pid", self.old)
        self.one.server.attach([*self.one.watched, *words], who)

    def ends(self):
        """How it has ended, by the audit."""
        what = [row["what"].split(":")[0].split()[1] for row in self.one.audit()["actions"]]
        return [how for how in what if how != "begun"]

    def settled(self, how, serving):
        wait_until(lambda: how in self.ends(), 40, f"that it is {how}; there is {self.one.audit()}")
        gone = {self.old, self.new} - {serving}
        wait_until(lambda: not any(map(alive, gone)), 30, "the end of the other")
        assert alive(serving) and int(self.pidfile.read_text()) == serving
        assert not list(self.pidfile.parent.glob("*.wedged"))
        wait_until(lambda: f"(pid:{serving})" in (self.one.server.folder / "observer.log").read_text(), 10, "that it is observed")
        assert set(self.crowd.leave()) == {200}, "a request was lost"
        assert self.one.server.get("/").status == 200
        assert self.ends().count(how) == 1


@pytest.fixture
def interrupted(case, masters, tmp_path):
    return Interrupted(case, masters, tmp_path)


def as_begun(it):
    it.begin("slow")


def as_its_workers_boot(it):
    it.begin("slow")
    wait_until(lambda: children(it.new), 20, "its workers")


def as_its_workers_serve(it):
    it.begin()
    wait_until(lambda: len(children(it.new)) == 2, 20, "its workers")
    # Half of the time that they have to have served.
    time.sleep(1.5)


@pytest.mark.parametrize("by_pidfile", [False, True], ids=["pid", "pidfile"])
@pytest.mark.parametrize("moment", [as_begun, as_its_workers_boot, as_its_workers_serve])
def test_what_a_killed_observer_has_begun_is_finished(interrupted, moment, by_pidfile):
    moment(interrupted)
    interrupted.kill_observer()
    assert alive(interrupted.old) and alive(interrupted.new)
    interrupted.observe_again(by_pidfile)
    interrupted.settled("done", interrupted.new)


@pytest.mark.parametrize("by_pidfile", [False, True], ids=["pid", "pidfile"])
def test_a_new_master_that_has_ended_meanwhile_is_forgotten(interrupted, by_pidfile):
    as_its_workers_boot(interrupted)
    interrupted.kill_observer()
    # Its pidfile stays.
    os.kill(interrupted.new, signal.SIGKILL)
    interrupted.observe_again(by_pidfile)
    interrupted.settled("failed", interrupted.old)
    os.kill(interrupted.old, signal.SIGCONT)


@pytest.mark.parametrize("by_pidfile", [False, True], ids=["pid", "pidfile"])
def test_an_old_master_that_turns_again_meanwhile_stays(interrupted, by_pidfile):
    as_its_workers_boot(interrupted)
    interrupted.kill_observer()
    os.kill(interrupted.old, signal.SIGCONT)
    interrupted.observe_again(by_pidfile)
    interrupted.settled("over", interrupted.old)


def test_an_old_master_that_has_ended_meanwhile_is_not_waited_for(interrupted):
    as_its_workers_serve(interrupted)
    interrupted.kill_observer()
    os.kill(interrupted.old, signal.SIGKILL)
    interrupted.observe_again(by_pidfile=True)
    interrupted.settled("done", interrupted.new)


def test_who_may_do_nothing_by_itself_leaves_both_and_says_so(interrupted):
    as_its_workers_serve(interrupted)
    interrupted.kill_observer()
    interrupted.observe_again(True, "--reflex-mode", "advise")
    wait_until(lambda: "failed" in interrupted.ends(), 20, "a word of it")
    assert told(interrupted.one, "(if both serve, one has to be ended)")
    time.sleep(5)
    assert alive(interrupted.old) and alive(interrupted.new)
    assert set(interrupted.crowd.leave()) == {200}


def test_a_second_observer_leaves_it_to_the_first(interrupted):
    as_its_workers_serve(interrupted)
    server = interrupted.one.server
    first = server.observer
    try:
        server.attach(interrupted.one.watched, ("--pid", interrupted.new))
        interrupted.settled("done", interrupted.new)
        assert not told(interrupted.one, "(another goes on)")
    finally:
        first.terminate()
        first.wait(5)


def test_an_upgrade_whose_observer_was_killed_is_finished(case, masters):
    one = stock(case, 'cause == "deadlock" && state == "open"', "--workers", 1, "--threads", 4, "--timeout", 3)
    one.later("/stuck", 4)
    masters.append(int(wait_until(lambda: told(one, r"master (\d+) was started by"), 40, "a new master")))
    os.kill(one.observer(), signal.SIGKILL)
    one.observe_again()
    wait_until(lambda: one.server.process.poll() is not None, 30, "the end of the old master")
    wait_until(lambda: told(one, r"master (\d+) serves") == str(masters[0]), 10, "the audit's word")
    assert one.server.get("/").status == 200


def test_a_master_whose_loop_turns_replaces_itself(case, masters):
    one = stock(case, 'cause == "deadlock" && state == "open"', "--workers", 1, "--threads", 4, "--timeout", 3)
    one.later("/stuck", 4)
    replaced(one, masters)
    wait_until(lambda: one.server.get("/").status == 200, 10, "an answer")
