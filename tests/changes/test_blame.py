"""Whether a change explains an incident: the one that does is named, and one that was only near is not blamed."""

import os
import signal
import time

import pytest
from services import Visitors

from harness import wait_until

pytestmark = [pytest.mark.only_ferricorn("notices no changes"), pytest.mark.timeout(300)]
QUIET_S = 35
"""As long as it takes until enough requests were counted."""


def explained(service, seconds=60):
    """The newest incident whose relation to changes is known."""

    def found():
        incidents = [each for each in service.incidents() if each.get("change")]
        return incidents and incidents[0]

    return wait_until(found, seconds, f"an incident in {service.log()}")


def test_a_deploy_that_makes_a_route_slow_is_named(service):
    with Visitors(service, "/report/{}"):
        time.sleep(QUIET_S)
        first = service.project.head
        second = service.project.release("two", pause=4.0)
        os.kill(service.pid, signal.SIGHUP)
        incident = explained(service)
        change = wait_until(lambda: blamed(service), 40, f"the deploy is blamed: {incident['change']}")
    assert change["name"] == f"deploy {first} → {second}, 1 file"
    assert change["verdict"] in ("caused", "likely") and change["p"] > 0.9
    assert change["files"] == ["shop/views.py"]
    report = service.why(incident["id"])
    assert "\nWHAT CHANGED" in report and f"deploy {first} → {second}, 1 file" in " ".join(report.split())
    assert "change: deploy" in report.split("TIMELINE")[1]
    assert "## What changed" in service.why(incident["id"], "--format", "markdown")


def blamed(service):
    changes = [each["change"] for each in service.incidents() if each.get("change")]
    return next((each for each in changes if each["verdict"] in ("caused", "likely")), None)


def test_a_worker_with_other_code_is_compared_with_its_siblings(service):
    with Visitors(service, "/report/{}"):
        time.sleep(QUIET_S)
        # Beyond the deadline of 6 s.
        second = service.project.release("two", pause=8.0)
        os.kill(service.workers()[0], signal.SIGKILL)
        change = wait_until(lambda: blamed(service), 100, "the deploy is blamed")
    assert change["name"].endswith(f"→ {second}, 1 file")
    assert "at the same time, of requests to workers with what was before" in change["text"], change


def test_a_benign_deploy_before_an_unrelated_slowdown_is_not_blamed(service):
    with Visitors(service, "/report/{}"):
        time.sleep(QUIET_S)
        service.project.release("two")
        os.kill(service.pid, signal.SIGHUP)
        wait_until(lambda: [each for each in service.changes() if each["kind"] == "deploy"], 20, "the deploy")
        time.sleep(90)
        service.project.trouble.write_text("4.0")
        incident = explained(service)
        time.sleep(15)
    found = next(each for each in service.incidents() if each["id"] == incident["id"])
    assert found["change"]["verdict"] == "none", found["change"]
    assert found["change"]["text"].startswith("no change explains it"), found["change"]
    assert "No change explains it" in service.why(incident["id"])
