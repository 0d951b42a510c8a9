"""What is done about trouble that many requests have: workers added where that helps, and what becomes of it when the observer ends.
Where workers would hurt, and reloads that are halted, are in `scenarios.toml`."""

import os
import signal
import time

import pytest

from harness import ctl, wait_until
from harness.crowd import Visitors

pytestmark = [pytest.mark.only_ferricorn("its own observer"), pytest.mark.timeout(120)]


# Whatever the processors are at: other tests run beside this one.
MORE = """
mode = "act"
[[rule]]
name = "more"
when = 'queued > 0'
do = [{ add_workers = 1, cooldown = "5s" }]
"""


def test_workers_are_added_where_all_threads_wait_for_others(case):
    one = case("--workers", 2, "--timeout", 3, mode=None, policy=MORE)
    crowd = Visitors(one.server, "/waits", 8)
    action = one.wait_action("add_workers", "done", 40)
    assert action["rule"] == "more"
    wait_until(lambda: len(one.server.workers()) == 3, 20, "one worker more")
    # It rests, and half as many again is the most.
    time.sleep(3)
    assert len(one.server.workers()) == 3
    crowd.leave()


def test_a_worker_that_nobody_would_end_is_ended(case):
    one = case("--workers", 1, "--threads", 4, "--timeout", 3, mode="act")
    before = one.server.workers()
    one.later("/stuck", 2)
    if one.host == "ferricorn":
        # Its own deadline frees the threads.
        wait_until(lambda: one.server.get("/").status == 200 and one.incidents(), 20, "an answer")
        assert not [row for row in one.audit()["actions"] if row["what"].startswith("kill_worker")]
        return
    one.wait_action("kill_worker", "done", 60)
    wait_until(lambda: one.server.workers() and one.server.workers() != before, 20, "another worker")
    assert one.server.get("/").status == 200


def test_an_observer_that_ends_in_the_middle_leaves_nothing_unsaid(case, database):
    one = case("--workers", 1, "--timeout", 6)
    answers = one.later("/report")
    wait_until(lambda: one.incidents(), 30, "a note of it")
    observer = one.observer()
    # It is stopped before it acts, and ended then: what it had begun must be told by the next.
    seen = set()
    while not seen and not answers:
        seen = {row["what"] for row in one.audit()["actions"]}
    os.kill(observer, signal.SIGKILL)
    wait_until(lambda: answers, 20, "an answer, whoever observes")
    one.observe_again()
    begun = [row for row in one.audit()["actions"] if row["what"].startswith("cancel_query begun")]
    if begun:
        wait_until(
            lambda: [row for row in one.audit()["actions"] if row["what"].startswith("cancel_query") and "begun" not in row["what"]],
            30,
            "what became of it",
        )
    assert ctl("actions", "--state-dir", one.state).returncode == 0, "the audit is whole"
    assert one.server.get("/orders/1").status == 200
