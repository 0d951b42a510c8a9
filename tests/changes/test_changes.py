"""What has changed about a service is noticed without any set-up, under the name that people use."""

import json
import os
import signal
import subprocess
import time

import pytest

from harness import ctl, wait_until

pytestmark = [pytest.mark.only_ferricorn("notices no changes"), pytest.mark.timeout(180)]


def the_one(service, before=0):
    """The only change since there were so many."""
    changes = wait_until(lambda: service.changes()[before:], 20, "a change")
    time.sleep(1.5)
    changes = service.changes()[before:]
    assert len(changes) == 1, changes
    return changes[0]


def test_a_deploy_and_its_rollback_are_one_change_each(service):
    project = service.project
    first = project.head
    second = project.release("two")
    service.reload()
    change = the_one(service)
    if project.has_git:
        assert change["name"] == f"deploy {first} → {second}, 1 file"
    assert (change["kind"], change["from"], change["to"]) == ("deploy", first, second)
    assert change["files"] == ["shop/views.py"]
    assert change["details"][-1] == "came with a reload"
    project.go_back("one")
    service.reload()
    change = the_one(service, 1)
    assert (change["kind"], change["from"], change["to"]) == ("rollback", second, first)
    service.reload()
    assert the_one(service, 2)["kind"] == "restart"
    lines = ctl("changes", "--state-dir", service.state).stdout.splitlines()
    assert lines[0].split() == ["AT", "KIND", "SERVER", "CHANGE"]
    assert [line.split()[3] for line in lines[1:]] == ["restart", "rollback", "deploy"]


def test_an_upgrade_and_an_edit_are_named(service):
    service.project.upgrade("requests", "2.31.0", "2.32.1")
    service.reload()
    change = the_one(service)
    assert (change["kind"], change["name"]) == ("dependency", "requests 2.31.0 → 2.32.1")
    assert change["distributions"] == ["requests"]
    (service.project.folder / "gunicorn.conf.py").write_text("graceful_timeout = 21\n")
    # Another configuration is another file of the checkout, too, and nobody's code.
    service.reload()
    change = the_one(service, 1)
    assert change["kind"] == "config", change
    assert change["name"].startswith("config gunicorn.conf.py changed")
    if service.kind == "ferricorn":
        assert change["settings"] == ["graceful_timeout"]


def test_mixed_versions_and_what_a_reload_would_bring_are_told(service):
    project = service.project
    first = project.head
    second = project.release("two")
    pending = wait_until(lambda: service.standing().get("pending"), 30, "the disk was looked at")
    begin = f"HUP would deploy code that is not running: deploy {first} → {second}, 1 file"
    assert pending["text"].startswith(begin)
    assert pending["files"] == ["shop/views.py"]
    victim = service.workers()[0]
    os.kill(victim, signal.SIGKILL)
    mixed = wait_until(lambda: service.standing().get("mixed"), 30, "a worker was replaced")
    assert sorted(version for version, _ in mixed["groups"]) == sorted([first, second])
    assert "mixed versions" in service.log().lower()
    change = the_one(service)
    assert (change["kind"], change["to"]) == ("deploy", second)
    assert change["details"][-1].startswith("came with a worker that was replaced")
    table = ctl("workers", "--pid", service.pid, "--state-dir", service.state)
    assert "mixed versions" in table.stdout, table.stdout + table.stderr
    service.reload()
    assert service.standing().get("mixed") is None
    assert {version for version in service.standing()["versions"].values()} == {second}


def test_what_happened_while_nobody_looked_is_noticed(service):
    """A server that is started anew with other code, as most deploys are done: here with all of its processes killed at once, as
    when a container ends."""
    for process in service.processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(8)
    service.processes.clear()
    first, second = service.project.head, service.project.release("two")
    service.env["DATABASE_URL"] = "postgres://me:s3cret@db/x"
    service.start()
    change = the_one(service)
    assert (change["kind"], change["from"], change["to"]) == ("deploy", first, second)
    assert change["environment"] == ["DATABASE_URL"]
    assert "s3cret" not in json.dumps(service.changes())
    assert change["details"][-1] == "came with a start of the server"


def test_a_mark_is_set_by_hand_and_refused_where_it_makes_no_sense(service):
    link = "https://ci.example.org/7"
    where = ["--pid", service.pid, "--state-dir", service.state]
    done = ctl("deploy", "flag new-checkout on", "--at", "2m", "--link", link, *where)
    assert done.returncode == 0, done.stderr
    change = the_one(service)
    assert (change["kind"], change["name"], change["link"]) == ("mark", "flag new-checkout on", link)
    assert 100 < time.time() - change["at"] < 200
    assert ctl("deploy", "v2", "--state-dir", service.state).returncode == 0
    wait_until(lambda: [each["name"] for each in service.changes()] == ["flag new-checkout on", "v2"], what="two marks")
    socket = service.state / f"{service.pid}.sock"
    for body, status, word in [
        ('{"name": ""}', 400, "name"),
        ("no JSON", 400, "JSON"),
        ('{"name": "x", "at": 5}', 400, "at"),
        ('{"name": "x", "color": "red"}', 400, "color"),
        ('{"name": "' + "x" * 5000 + '"}', 413, "4096"),
    ]:
        problem, code = post(socket, body)
        assert (code, problem["status"]) == (status, status) and word in problem["detail"], (body, problem)
    told = service.asked("/changes")
    assert [each["name"] for each in told["changes"]] == ["v2", "flag new-checkout on"] and told["schema"] == 1


def post(socket, body):
    command = ["curl", "-s", "-w", "\n%{http_code}", "--unix-socket", socket, "-d", body, "http://localhost/deploys"]
    text, _, code = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
    return json.loads(text), int(code)
