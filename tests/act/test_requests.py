"""What is done about a request whose time is over: its statement or its connection is ended, its worker lives."""

import pytest

from harness import wait_until

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
