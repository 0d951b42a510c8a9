"""What is done about a request whose time is over: its statement or its connection is ended, its worker lives. A lock
and a silent service are rows of `scenarios.toml`."""

import os
import signal

import pytest

from harness import ctl, wait_until

pytestmark = [pytest.mark.only_ferricorn("its own observer"), pytest.mark.timeout(90)]


def test_a_stuck_statement_is_ended_and_its_worker_lives(case, database):
    one = case("--workers", 1, "--timeout", 4)
    before = one.server.workers()
    answers = one.later("/report")
    action = one.wait_action("cancel_query", "done|better")
    assert action["rule"] == "stuck-query" and action["number"] > 0
    wait_until(lambda: answers, 20, "an answer")
    # Ours answers at the deadline; the stock one has the application's own error, a moment before the kill.
    assert answers == [504 if one.host == "ferricorn" else 500]
    wait_until(lambda: database.active("pg_sleep") == 0, 10, "the statement's end")
    assert one.server.get("/orders/4").status == 200
    assert one.server.workers() == before
    assert "WORKER TIMEOUT" not in one.server.log() or one.host == "ferricorn"
    # What was done stands in the audit, from before it began.
    audit = ctl("actions", "--json", "--state-dir", one.state)
    assert audit.returncode == 0, audit.stderr
    what = [row["what"] for row in one.audit()["actions"]][::-1]
    assert [word.split(":")[0] for word in what[:2]] == ["cancel_query begun", "cancel_query done"], what
    report = ctl("why", one.incidents()[0]["id"], "--state-dir", one.state).stdout
    assert "cancel_query (backend" in report and "by rule stuck-query" in report, report


def test_what_is_only_advised_is_not_done(case, database):
    one = case("--workers", 1, "--timeout", 4, mode=None)
    answers = one.later("/report")
    action = one.wait_action("cancel_query", "advised")
    assert "mode advise" in action["text"] and action["number"] == 0
    wait_until(lambda: answers, 20, "an answer")
    assert database.active("pg_sleep") == 1, "it goes on"
    assert one.audit()["actions"] == []


def test_the_statement_of_a_worker_that_is_dead_is_ended(case, database):
    one = case("--workers", 1, "--timeout", 20, mode="protect")
    answers = one.later("/report")
    wait_until(lambda: one.incidents(), 30, "a note of it")
    # By anybody: the kernel, for want of memory, say.
    os.kill(one.server.workers()[0], signal.SIGKILL)
    one.wait_action("cancel_orphan", "done|better")
    wait_until(lambda: database.active("pg_sleep") == 0, 10, "the statement's end")
    assert answers in ([0], [502])


def test_what_is_turned_off_does_nothing(case, database):
    one = case("--workers", 1, "--timeout", 4)
    assert ctl("off", "--state-dir", one.state).stdout == f"{one.state}: off: nothing is done by itself\n"
    wait_until(lambda: "Actions are turned off" in one.server.log(), 5, "the observer's word")
    answers = one.later("/report")
    action = one.wait_action("cancel_query", "withheld")
    assert "ferricornctl on" in action["text"]
    wait_until(lambda: answers, 20, "an answer")
    assert database.active("pg_sleep") == 1
    assert ctl("on", "--state-dir", one.state).returncode == 0
    wait_until(lambda: "Actions are turned on" in one.server.log(), 5, "the observer's word")
    one.later("/report")
    one.wait_action("cancel_query", "done|better")
